"""Killed and resumed, alone or in company: the same numbers, bit for bit."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest
from study_samples import TINY, experiment, keep, keep_teacher

from kdnb.study.experiment import TEACHER_SEED, Run
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.training.numerics import detect


def train(runs, stop_after: int | None = None):
    """Train into the current store; with `stop_after`, stop cleanly after so many asked-for steps."""
    store = Store.open()
    runner = Runner(store, detect("cpu"), "comparison", say=lambda line: None)
    if stop_after is not None:
        steps = iter(range(stop_after))
        runner._stopping = lambda: next(steps, None) is None  # type: ignore[method-assign]
    outcome = runner.run(runs)
    return Store.open(), outcome


def told(store, run):
    record = store.get(*run.key)
    assert record is not None
    return record.metrics, record.history, record.correct


@pytest.fixture(scope="module")
def runs():
    return [Run(experiment(key), 1) for key in ("plain", "kd", "fitnet", "crd+kd")]


@pytest.fixture(scope="module")
def reference(runs, tmp_path_factory):
    """What an undisturbed study of these runs gives, in company."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDNB_STORE", str(tmp_path_factory.mktemp("reference")))
        store, outcome = train(runs)
        assert not outcome.failed and outcome.left == 0
        teacher = Run(runs[1].experiment.teacher, TEACHER_SEED)
        return {run.key: told(store, run) for run in [*runs, teacher]}


@pytest.mark.parametrize("stop_after", [1, 13])  # after every step there is, and with some done in between
def test_stopped_at_any_step_a_study_goes_on_to_the_same_numbers(runs, reference, stop_after):
    for _ in range(200):
        store, outcome = train(runs, stop_after=stop_after)
        if not outcome.left:
            break
    assert {run.key: told(store, run) for run in runs} == {run.key: reference[run.key] for run in runs}


def test_a_run_alone_gives_what_it_gives_in_company(runs, reference):
    for run in runs[1:]:
        store, _ = train([run])
        assert told(store, run) == reference[run.key]


def test_killed_without_warning_nothing_is_lost(runs, reference, tmp_path):
    code = (
        "import sys; sys.path[:0] = ['tests']\n"
        "import kdnb.study.runner as r; r.CHECKPOINT_SECONDS = 0\n"
        "from study_samples import experiment; from kdnb.study.experiment import Run\n"
        "from kdnb.study.store import Store; from kdnb.training.numerics import detect\n"
        "runs = [Run(experiment(k), 1) for k in ('plain', 'kd', 'fitnet', 'crd+kd')]\n"
        "r.Runner(Store.open(), detect('cpu'), 'comparison').run(runs)\n"
    )
    folder = tmp_path / "store" / "checkpoints" / "running"
    for _ in range(2):  # in the teacher's training, and in its students'
        process = subprocess.Popen([sys.executable, "-c", code], env=os.environ, stdout=subprocess.DEVNULL)
        before = set(folder.rglob("checkpoint.json")) if folder.exists() else set()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if folder.exists() and set(folder.rglob("checkpoint.json")) - before:
                time.sleep(0.3)
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    store, _ = train(runs)
    assert {run.key: told(store, run) for run in runs} == {run.key: reference[run.key] for run in runs}


def test_two_seeds_differ_and_one_repeats(runs, reference):
    other = Run(runs[0].experiment, 2)
    store, _ = train([runs[0], other])
    assert told(store, runs[0]) == reference[runs[0].key]
    assert told(store, other) != reference[runs[0].key]


def test_a_loss_that_is_not_finite_ends_its_run_alone(runs):
    broken = Run(experiment("kd", TINY, arguments={"labels_weight": 1e39}), 1)
    store, outcome = train([broken, runs[0]])
    assert store.records(runs[0].experiment.fingerprint) and not store.records(broken.experiment.fingerprint)
    lost = store.get(*broken.key)
    assert lost is not None and lost.metrics == {"epochs": 0, "diverged": 1} and outcome.recorded[-1] == runs[0]
    assert "not finite at step 0 of stage 'train'" in lost.environment["diverged"]
    _, again = train([broken, runs[0]])
    assert not outcome.failed and not again.recorded and not again.left, "it is not trained again"


def test_a_record_stays_when_its_run_diverges_on_another_try(runs):
    broken = Run(experiment("kd", TINY, arguments={"labels_weight": 1e39}), 1)
    keep_teacher(broken.experiment)
    keep(broken, 0.4)
    needs_arrays = broken.keeping(["plane"])
    store, outcome = train([needs_arrays])
    assert store.get(*broken.key).metrics["headline"] == 0.4 and broken.key in outcome.failed


def test_a_teacher_that_diverges_has_failed_and_its_students_wait(runs):
    student = experiment("kd", TINY)
    hot = dataclasses.replace(student.teacher, recipe=dataclasses.replace(student.teacher.recipe, lr=1e30))
    run = Run(dataclasses.replace(student, teacher=hot), 1)
    store, outcome = train([run])
    assert store.get(*run.teacher.key) is None and [*outcome.failed] == [run.teacher.key] and outcome.left == 2
