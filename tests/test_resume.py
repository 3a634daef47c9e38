"""Killed and resumed, alone or in company: the same numbers, bit for bit."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from study_samples import TINY, experiment, keep, keep_teacher

from kdnb.study.experiment import TEACHER_SEED, Run
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.training.numerics import detect


def train(runs, stop_after: int | None = None, say=lambda line: None):
    """Train into the current store; with `stop_after`, stop cleanly after so many asked-for steps."""
    store = Store.open()
    runner = Runner(store, detect("cpu"), "comparison", say=say)
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


#: A study that saves after every step, and is killed at the seventh of those that have a teacher, or have none.
KILLED = """
import itertools, os, signal, sys; sys.path[:0] = [sys.argv[1]]
import kdnb.study.runner as r; r.CHECKPOINT_SECONDS = -1
from study_samples import experiment; from kdnb.study.experiment import Run
from kdnb.study.store import Store; from kdnb.training.numerics import detect

steps = itertools.count(1)

def kill(cohort):
    if (cohort.teacher is not None) == (sys.argv[2] == "taught") and next(steps) == 7:
        os.kill(os.getpid(), signal.SIGKILL)

def say(line):
    print(line, flush=True)

runs = [Run(experiment(k), 1) for k in ('plain', 'kd', 'fitnet', 'crd+kd')]
r.Runner(Store.open(), detect('cpu'), 'comparison', say=say, on_step=kill).run(runs)
"""


def test_killed_without_warning_nothing_is_lost(runs, reference):
    """In the teacher's training, and in its students': what was saved is gone on with, not made once more."""
    tests = str(Path(__file__).parent)
    for place, begun in (("teacher", False), ("taught", True)):
        command = [sys.executable, "-c", KILLED, tests, place]
        killed = subprocess.run(command, env=os.environ, capture_output=True, encoding="utf-8")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert ("goes on at epoch" in killed.stdout) == begun
    lines: list[str] = []
    store, _ = train(runs, say=lines.append)
    assert sum("goes on at epoch" in line for line in lines) == len(runs), lines
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
