"""Two processes on one store: nothing is trained twice, nothing is torn, and a crash blocks nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from study_samples import experiment, keep, keep_teacher

from kdnb.lock import acquire
from kdnb.study import runner as runner_module
from kdnb.study.experiment import Run
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.training.numerics import detect

pytestmark = pytest.mark.usefixtures("empty_project")

TRAINING = """
import sys, time; sys.path[:0] = ['tests']
import kdnb.study.runner as r; r.WAIT_SECONDS = 0.1
from study_samples import experiment; from kdnb.study.experiment import Run
from kdnb.study.store import Store; from kdnb.training.numerics import detect
runs = [Run(experiment(k), s) for s in (1, 2) for k in ('plain', 'kd', 'fitnet')]
store = Store.open()
print('ready', flush=True); sys.stdin.readline()
done = r.Runner(store, detect('cpu'), 'comparison', say=lambda line: None).run(runs)
assert not done.failed and not done.left, done
print(*[f'{run.experiment.fingerprint}-{run.seed}' for run in done.recorded], flush=True)
"""

HOLDING = """
import sys; from pathlib import Path; from kdnb.lock import acquire
lock = acquire(Path(sys.argv[1])); print(lock is not None, flush=True); sys.stdin.readline()
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], env=os.environ, **pipes)
    process.first_line = process.stdout.readline().strip()
    return process


def test_two_studies_share_the_work():
    keep_teacher(experiment("kd"))
    both = [start(TRAINING), start(TRAINING)]
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate(timeout=120)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    recorded = told[0] + told[1]
    assert len(recorded) == len(set(recorded)) == 2 * 4  # each run, and each first stage, by one of them
    store = Store.open()
    assert not store.problems and len(store.all()) == 1 + 2 * 4
    left = [p for p in store.own.checkpoints.rglob("*") if p.suffix == ".tmp" or "running" in p.parent.name]
    assert [p.name for p in left] == ["locks"]


def test_a_lock_is_one_processs_until_it_ends(tmp_path):
    path = tmp_path / "a" / "run.lock"
    holder = start(HOLDING, str(path))
    assert holder.first_line == "True"
    assert acquire(path) is None
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    ours = acquire(path)
    assert ours is not None and acquire(path) is None  # within one process too
    ours.release()
    ours.release()
    again = acquire(path)
    assert again is not None
    again.release()


def test_where_a_folder_knows_no_locks_this_machine_does(tmp_path, monkeypatch):
    """Within the machine runs are still trained once; and where nothing can be locked, nobody is stopped."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "run.lock"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    holder = start(f"import sys, tempfile; tempfile.tempdir = sys.argv[2]\n{HOLDING}", str(path), str(tmp_path))
    assert holder.first_line == "True" and acquire(path) is None
    holder.kill()
    holder.wait()
    ours = acquire(path)
    assert ours is not None
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    assert acquire(path) is not None
    ours.release()


def test_a_file_system_without_locks_leaves_no_mark_behind(tmp_path, monkeypatch):
    """What such a mark says would be believed long after its process has gone."""
    import errno
    import fcntl

    def without(file: object, kind: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(fcntl, "flock", without)
    path = tmp_path / "a" / "run.lock"
    assert acquire(path) is not None and acquire(path) is not None


@pytest.mark.parametrize("ending", ["record", "crash"])
def test_a_run_that_another_process_trains_is_waited_for(ending, monkeypatch):
    run, other = Run(experiment("plain"), 1), Run(experiment("plain"), 2)
    store = Store.open()
    monkeypatch.setattr("kdnb.study.runner.WAIT_SECONDS", 0.01)
    folder = store.running_folder(run)
    holder = start(HOLDING, str(folder.parent / "locks" / f"{folder.name}.lock"))
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("waiting for"):  # by now all else is done
            assert store.has(other)
            if ending == "record":
                keep(run, 0.125, Store.open())
            holder.kill()
            holder.wait()

    outcome = Runner(store, detect("cpu"), "comparison", say=say).run([run, other])
    assert outcome.left == 0
    assert [r.seed for r in outcome.recorded] == ([2] if ending == "record" else [2, 1])
    assert sum(line.startswith("waiting for another process") for line in lines) == 1
    assert (Store.open().get(*run.key).metrics["headline"] == 0.125) == (ending == "record")


def test_waiting_ends_with_the_budget(monkeypatch):
    """By a clock on which nothing but waiting takes time."""
    clock = [0.0]

    def wait(seconds: float) -> None:
        clock[0] += seconds
        assert clock[0] < 600, "it waits without end"

    monkeypatch.setattr(runner_module, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=wait))
    run = Run(experiment("plain"), 1)
    store = Store.open()
    lock = store.lock(run)
    outcome = Runner(store, detect("cpu"), "comparison", budget=60, say=lambda line: None).run([run])
    over = 60 - runner_module.RESERVE_SECONDS
    assert outcome.left == 1 and over < clock[0] <= over + runner_module.WAIT_SECONDS
    lock.release()


def test_what_trains_later_is_left_to_others():
    """A first stage and a plain student have other batches: who trains the one does not keep the other waiting."""
    keep_teacher(experiment("kd"))
    first = Run(experiment("fitnet").shared_stages()[0], 1)
    runner = Runner(Store.open(), detect("cpu"), "comparison", say=lambda line: None)
    runner._wanted = [first, Run(experiment("plain"), 1), Run(experiment("kd"), 1)]
    (company,) = runner._companies(runner._wanted)
    assert [work.run for work in company] == [first]
    assert [*runner._locks] == [*runner._works] == [first.key]
