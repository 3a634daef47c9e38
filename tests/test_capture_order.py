"""The order of captured steps, on a CPU: what is recorded is done at replay alone, from tensors that stay.

Graphs themselves need CUDA (see test_capture.py); here recording is a function that is kept for later, so all
that surrounds it is tested bit for bit against eager steps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import weakref

import pytest
from study_samples import TINY, experiment

from kdnb.study.experiment import Run
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.training import capture
from kdnb.training.numerics import detect

ROWS = ("plain", "kd", "fitnet", "mmd-gaussian", "crd+kd")
FOUR = dataclasses.replace(TINY, at_most=5, student_images=150)


class KeptForLater:
    """Streams that have a number, the shared one 0, and recordings that are functions."""

    refused = ""

    def __init__(self):
        self.handed_out = itertools.count()
        self.current = "main"

    def new(self):
        return next(self.handed_out)

    def main(self):
        return self.current

    @contextlib.contextmanager
    def on(self, stream):
        before, self.current = self.current, stream
        ran_on.add((id(self), stream))
        yield
        self.current = before

    def wait(self, waiting, awaited):
        assert waiting != awaited

    def synchronize(self):
        pass

    def record(self, work, stream):
        if stream != 0 and KeptForLater.refused:
            raise RuntimeError(KeptForLater.refused)
        assert (id(self), stream) in ran_on, "recorded on a stream that was not warmed up"
        replays.append(work)
        return work


ran_on: set[tuple[int, int]] = set()


replays: list = []


def train(mode: str, rows=ROWS, say=lambda line: None):
    """What these rows, and their teacher's, come to; a row's numbers do not depend on its company."""
    runs = [Run(experiment(key, FOUR), 1) for key in rows]
    numerics = dataclasses.replace(detect("cpu", mode="eager"), mode=mode)
    outcome = Runner(Store.open(), numerics, "comparison", say=say).run(runs)
    assert not outcome.failed
    store = Store.open()
    return {run.experiment.method: (r.metrics, r.history, r.correct) for run in runs if (r := store.get(*run.key))}


@pytest.fixture(scope="module")
def eager(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDNB_STORE", str(tmp_path_factory.mktemp("eager")))
        return train("eager")


@pytest.fixture
def recorded(monkeypatch):
    """Steps are recorded by the stand-in."""
    monkeypatch.setattr(capture, "Streams", KeptForLater)
    replays.clear()


@pytest.mark.usefixtures("recorded")
def test_replayed_steps_give_what_eager_ones_give(eager):
    captured = train("captured")
    assert len(captured) == len(ROWS)
    assert captured == eager
    # Teacher, step 1 and step 2, for the whole batch and the last one: something was recorded in each.
    assert len(replays) > 2 * len(ROWS)


@pytest.mark.usefixtures("recorded")
def test_what_cannot_be_captured_runs_eagerly_with_one_notice(eager, monkeypatch):
    monkeypatch.setattr(KeptForLater, "refused", "operation not permitted\nand more")
    lines: list[str] = []
    rows = ("plain", "fitnet", "crd+kd")
    assert train("captured", rows, lines.append) == {row: eager[row] for row in rows}
    notices = [line for line in lines if "cannot be captured" in line]
    assert all("(operation not permitted)" in line for line in notices)
    assert len(notices) == len(set(notices)) > len(rows)


def test_cohorts_together_have_no_more_streams_than_the_pool(monkeypatch):
    """Each its own and one for what is shared; who comes too late goes on the shared one."""
    monkeypatch.setattr(capture, "Streams", KeptForLater)
    monkeypatch.setattr(capture, "_ALIVE", weakref.WeakSet())
    monkeypatch.setattr(capture, "POOL", 6)
    members = [object() for _ in range(4)]
    first, second = capture.CapturedSteps(None), capture.CapturedSteps(None)
    assert [first.shared_stream(), *map(first.stream, members)] == [0, 1, 2, 3, 4]
    assert [second.shared_stream(), *map(second.stream, members)] == [0, 0, 0, 0, 0]  # numbers of its own
    assert [first.stream(member) for member in members] == [1, 2, 3, 4]
    first = None
    third = capture.CapturedSteps(None)
    assert [third.shared_stream(), third.stream(members[0])] == [0, 1]
