"""Several processes for one study: what one would have made, stopped together, and nothing lost with one of them."""

from __future__ import annotations

import dataclasses
import io
import multiprocessing
import os
import signal
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from study_samples import TINY, experiment, keep_teacher, record

from kdnb.errors import KdnbError
from kdnb.study import plan
from kdnb.study.choice import Choice
from kdnb.study.experiment import Run
from kdnb.study.plan import LARGEST_COHORT
from kdnb.study.profile import PROFILES
from kdnb.study.progress import Place, Progress
from kdnb.study.runner import Outcome, Runner
from kdnb.study.store import Store
from kdnb.study.workers import Task, _work, fitting, train
from kdnb.training.checkpoint import load_checkpoint
from kdnb.training.numerics import detect

pytestmark = pytest.mark.usefixtures("empty_project")


class Watched(Progress):
    """A log that does something when a worker has begun."""

    def __init__(self, begun=lambda number: None) -> None:
        super().__init__(io.StringIO())
        self.begun = begun
        self.lines: list[str] = []
        self.seen: set[int] = set()

    def say(self, line: str) -> None:
        self.lines.append(line)

    def worker(self, number: int, place: Place, after_an_epoch: bool) -> None:
        super().worker(number, place, after_an_epoch)
        self.seen.add(number)
        self.begun(number)


def study(runs: list[Run], watched: Progress, workers: int = 2) -> Outcome:
    asked = {"device": "cpu", "dtype": "auto", "mode": "auto", "deterministic": None}
    return train(Task(tuple(runs), "comparison", asked), workers, watched)


def two_cohorts(rows: tuple[str, ...] = ("plain", "kd"), epochs: int = 2) -> list[Run]:
    profile = dataclasses.replace(TINY, at_most=epochs)
    keep_teacher(experiment("kd", profile))
    return [Run(experiment(row, profile), seed) for seed in (1, 2) for row in rows]


def test_two_workers_make_what_one_makes_a_cohort_each_and_try_nothing_twice(tmp_path, monkeypatch):
    runs, watched = two_cohorts(), Watched()
    profile, recipe = runs[0].experiment.profile, runs[0].experiment.recipe
    hot = [Run(experiment("kd", profile, arguments={"labels_weight": 1e39}), seed) for seed in (1, 2)]
    of_nobody = dataclasses.replace(recipe, optimiser="lbfgs")
    broken = [Run(experiment("plain", profile, recipe=of_nobody), seed) for seed in (1, 2)]
    outcome = study([*runs, *hot, *broken], watched)
    assert Counter(run.key for run in outcome.recorded) == Counter(run.key for run in [*runs, *hot]), watched.lines
    assert outcome.failed.keys() == {run.key for run in broken} and (outcome.left, outcome.lost) == (2, 0)
    assert len([line for line in watched.lines if "not finite" in line]) == 2
    assert len([line for line in watched.lines if "cannot be trained" in line]) == 2
    assert watched.lines[0] == "2 workers with 1 thread each"
    assert watched.seen == {1, 2}
    assert all(f"[{number}] epoch " in watched.stream.getvalue() for number in (1, 2))
    together = {run.key: Store.open().get(*run.key) for run in runs}
    assert all(found.cost["cohort_size"] == 3 for found in together.values())
    monkeypatch.setenv("KDNB_STORE", str(tmp_path / "alone"))
    keep_teacher(runs[1].experiment)
    Runner(Store.open(), detect("cpu"), "comparison", say=lambda line: None).run(runs)
    for key, found in together.items():
        alone = Store.open().get(*key)
        assert (alone.metrics, alone.history, alone.correct) == (found.metrics, found.history, found.correct)


def test_a_signal_reaches_all_and_each_has_saved():
    runs = two_cohorts(("plain",), epochs=2000)
    watched = Watched()
    watched.begun = lambda number: os.kill(os.getpid(), signal.SIGTERM) if watched.seen == {1, 2} else None
    before = signal.getsignal(signal.SIGTERM)
    outcome = study(runs, watched)
    assert (outcome.stopped, outcome.left, outcome.recorded) == (signal.SIGTERM, 2, [])
    assert all(load_checkpoint(Store.open().running_folder(run)) is not None for run in runs)
    assert not multiprocessing.active_children() and signal.getsignal(signal.SIGTERM) is before


def test_what_a_killed_worker_had_is_done_by_the_other():
    runs = two_cohorts()

    def kill(number: int) -> None:
        for process in multiprocessing.active_children():
            if process.name == "worker 1" and number == 1 and process.pid is not None:
                os.kill(process.pid, signal.SIGKILL)

    watched = Watched(kill)
    outcome = study(runs, watched)
    assert (outcome.lost, outcome.left, outcome.failed) == (1, 0, {})
    assert "[1] ended by signal 9; what it saved is taken up by others, or next time" in watched.lines


def test_a_worker_that_cannot_open_the_store_says_why(monkeypatch):
    def shut() -> Store:
        raise KdnbError("The store cannot be read.")

    sent: list[object] = []
    monkeypatch.setattr(Store, "open", shut)
    monkeypatch.setattr(os, "setpgid", lambda *_: None)
    with pytest.raises(SystemExit):
        _work(Task((), "comparison", {}), torch.get_num_threads(), SimpleNamespace(send=sent.append))
    assert sent == [("error", "The store cannot be read.")]


def test_a_gpu_has_one_process(monkeypatch):
    monkeypatch.setattr("kdnb.training.numerics._device", lambda asked: "cuda")
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (9, 0))
    with pytest.raises(KdnbError, match="leave --workers out"):
        study(two_cohorts(), Watched())


# -- how many ---------------------------------------------------------------------------------------------------


def pilots(*seeds: int) -> list[Run]:
    from kdnb.exhibits import Column, comparison

    built = comparison.build(comparison.TABLE_1.row("kd"), Column("cifar100"), PROFILES["pilot"])
    return [Run(built, seed) for seed in seeds]


def cpu(cores: int) -> Choice:
    torch.set_num_threads(cores)
    return Choice(Store.open(), device="cpu")


def test_a_core_has_a_worker_where_it_has_a_cohort():
    assert fitting(pilots(1, 2), cpu(2)) == 2
    assert fitting(pilots(1, 2, 3), cpu(2)) == 2
    assert fitting(pilots(1, 2), cpu(8)) == 2
    assert fitting(pilots(1), cpu(2)) == 1
    assert fitting([], cpu(2)) == 1
    assert fitting(pilots(1, 2), cpu(1)) == 1


def test_the_demo_and_a_gpu_have_one_process():
    demo = [Run(experiment("kd"), seed) for seed in (1, 2)]
    assert fitting(demo, cpu(2)) == 1
    gpu = SimpleNamespace(machine=SimpleNamespace(device="cuda", threads=8))
    assert fitting(pilots(1, 2), gpu) == 1


@pytest.mark.parametrize(("threads", "workers"), [(1, 2), (2, 1)])
def test_a_table_goes_on_with_the_threads_that_it_was_begun_with(threads, workers):
    torch.set_num_threads(2)
    run = pilots(5)[0]
    numerics = {**detect("cpu").as_dict(), "threads": threads}
    Store.open().write(run, record(run, environment={"numerics": numerics}), "comparison")
    assert fitting(pilots(1, 2), cpu(2)) == workers
    asked = Choice(Store.open(), device="cpu", threads=1)
    assert asked(pilots(1)[0]).threads == 1


def test_cohorts_side_by_side_share_nothing_that_is_not_there_yet():
    runs = pilots(1, 2)
    both = plan.with_needs(runs)
    assert plan.side_by_side(both) == 2 and plan.side_by_side(both[:1]) == 1  # the teacher before all others
    assert plan.side_by_side([]) == 0
    rows = [Run(experiment(row), 1) for row in ("plain", "kd", "mmd-linear", "crd")]
    assert plan.side_by_side(rows) == 1 and plan.side_by_side(rows, together=2) == 2
    assert len(rows) <= LARGEST_COHORT
