"""The order of captured steps, on a CPU: what is recorded is done at replay alone, from tensors that stay.

Graphs themselves need CUDA (see test_capture.py); here recording is a function that is kept for later, so all
that surrounds it is tested bit for bit against eager steps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from study_samples import TINY, experiment, keep_teacher
from test_stages import EXACT, cross_entropy, material, network, stage

from kdnb import losses
from kdnb.methods.stage import Batch, Losses, Optimiser, Selection, Stage, accuracy, present
from kdnb.study.experiment import Run
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.training import capture
from kdnb.training.cohort import Cohort, run_side_by_side
from kdnb.training.freeze import frozen
from kdnb.training.member import Member
from kdnb.training.numerics import Numerics, detect

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

        def replay():
            with self.on(stream):
                work()

        replays.append(replay)
        return replay


ran_on: set[tuple[int, int]] = set()


replays: list = []


def train(mode: str, rows=ROWS, say=lambda line: None):
    """What these rows come to under a teacher that is given; a row's numbers do not depend on its company."""
    runs = [Run(experiment(key, FOUR), 1) for key in rows]
    keep_teacher(experiment("kd", FOUR))
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


# -- one graph for a cohort ----------------------------------------------------------------------------------


def taught(batch: Batch) -> Losses:
    assert batch.teacher.logits is not None
    return {"kd": losses.kd(present(batch.student.logits), batch.teacher.logits, 4.0)}


def noisy(batch: Batch) -> Losses:
    return {"ce": (cross_entropy(batch)["ce"] * batch.draws["weights"]).mean()}


def three(mode: str, say=lambda line: None) -> Cohort:
    """Three that have trained."""
    cohort = company_of_three(mode, say)
    run_side_by_side([cohort])
    return cohort


def company_of_three(mode: str, say=lambda line: None) -> Cohort:
    """One whose optimiser begins afresh, one that is validated beside its teacher, one with draws of its own."""
    how = dataclasses.replace(EXACT, mode=mode)
    afresh = Optimiser("adam", 1e-3, restart="epoch")
    beside = Selection(lambda batch: taught(batch)["kd"], highest=False, needs_teacher=True)
    stages = [
        stage(network(1), optimiser=afresh, selection=Selection(accuracy, highest=True, needs_teacher=False)),
        stage(network(2), taught, teacher_depth="logits", selection=beside),
        stage(network(3), noisy, draws=lambda stream, size: {"weights": torch.rand(size, generator=stream)}),
    ]
    return beside_a_teacher([dataclasses.replace(s, epochs=5) for s in stages], how, say)


def beside_a_teacher(stages: list[Stage], how: Numerics, say=lambda line: None) -> Cohort:
    members = [Member(s, f"member {i}", 1, how) for i, s in enumerate(stages)]
    return Cohort(members, frozen(network(9), how.torch_device, torch.float32), material(), how, notice=say)


def assert_equal(one: Cohort, other: Cohort) -> None:
    for a, b in zip(one.members, other.members, strict=True):
        assert a.failed is None and a.history == b.history and a.best_epoch == b.best_epoch
        assert all(torch.equal(value, b.weights()[name]) for name, value in a.weights().items())


@pytest.mark.usefixtures("recorded")
def test_in_one_graph_a_cohort_and_its_validation_give_what_eager_ones_give():
    eager, forked = three("eager"), three("forked")
    assert_equal(eager, forked)
    # Two batch sizes of steps; of the validation all images at once, and beside the teacher, two sizes again.
    assert len(replays) == 2 + 3


def refusing(why, *works):
    """Streams that record nothing whose name begins with one of these."""

    class Picky(KeptForLater):
        def record(self, work, stream):
            if work.__qualname__.startswith(works):
                raise RuntimeError(f"{why}\nand more")
            return super().record(work, stream)

    return Picky


def test_what_one_graph_cannot_hold_has_graphs_apart_and_its_validation_runs_eagerly(monkeypatch):
    monkeypatch.setattr(capture, "Streams", refusing("not all at once", "_Step", "_Validation"))
    replays.clear()
    lines: list[str] = []
    assert_equal(three("eager"), three("forked", lines.append))
    assert len(replays) == 2 * 4  # two batch sizes: what is shared, and each member's
    assert sum("every run has a graph of its own" in line for line in lines) == 1
    assert all("cannot be captured (not all at once)" in line for line in lines) and len(lines) == 1 + 3


# -- the shared part cannot be captured ----------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "notices"), [("captured", 1), ("forked", 2)])
def test_where_the_shared_part_cannot_be_captured_the_cohort_runs_eagerly(mode, notices, monkeypatch):
    """Said once; in one graph, or in graphs apart, are two things that cannot be."""
    monkeypatch.setattr(capture, "Streams", refusing("not this", "_Step", "_Graphs._share"))
    lines: list[str] = []
    assert_equal(three("eager"), three(mode, lines.append))
    lines = [line for line in lines if "validation" not in line]
    assert lines[-1] == "what the runs of a cohort share cannot be captured (not this); they run eagerly."
    assert len(lines) == notices


@pytest.mark.parametrize("mode", ["captured", "forked"])
def test_a_teacher_in_train_mode_that_cannot_be_captured_ends_no_run(mode, monkeypatch):
    class Recording(KeptForLater):
        now = False

        def record(self, work, stream):
            if not work.__qualname__.startswith(("_Step", "_Graphs._share")):
                return super().record(work, stream)
            monkeypatch.setattr(Recording, "now", True)
            try:
                work()
            finally:
                monkeypatch.setattr(Recording, "now", False)

    teach = Cohort._teach

    def teach_but_not_in_a_graph(self, teacher, images, depth):
        if Recording.now and depth is not None:
            raise RuntimeError("operation not permitted when stream is capturing")
        return teach(self, teacher, images, depth)

    def trained(mode: str) -> Cohort:
        one = stage(network(1), taught, teacher_depth="logits", teacher_mode="train", epochs=5)
        cohort = beside_a_teacher([one], dataclasses.replace(EXACT, mode=mode), lines.append)
        run_side_by_side([cohort])
        return cohort

    monkeypatch.setattr(capture, "Streams", Recording)
    monkeypatch.setattr(Cohort, "_teach", teach_but_not_in_a_graph)
    lines: list[str] = []
    assert_equal(trained("eager"), trained(mode))
    assert "what the runs of a cohort share cannot be captured (operation not permitted" in lines[-1]


# -- the end -------------------------------------------------------------------------------------------------


class Graph:
    """Something to replay that does nothing, and whose end can be seen."""

    def __call__(self) -> None:
        pass


@pytest.fixture
def graphs(monkeypatch) -> Iterator[list[weakref.ref]]:
    """All that are made, while no collector runs."""
    made: list[weakref.ref] = []

    class Seen(KeptForLater):
        def record(self, work, stream):
            graph = Graph()
            made.append(weakref.ref(graph))
            return graph

    monkeypatch.setattr(capture, "Streams", Seen)
    monkeypatch.setattr(capture, "_ALIVE", weakref.WeakSet())
    gc.disable()
    yield made
    gc.enable()


def finished(cohort: Cohort) -> None:
    assert run_side_by_side([cohort])


def stopped(cohort: Cohort) -> None:
    steps = iter(range(10))
    assert not run_side_by_side([cohort], lambda: next(steps, None) is None)


def left(cohort: Cohort) -> None:
    steps = cohort.steps()
    for _ in range(10):
        next(steps)


def failed(cohort: Cohort) -> None:
    steps = cohort.steps()
    for _ in range(10):
        next(steps)
    cohort.step = "nowhere"
    with pytest.raises(TypeError):
        next(steps)


@pytest.mark.parametrize("mode", ["captured", "forked"])
@pytest.mark.parametrize("end", [finished, stopped, left, failed])
def test_an_ended_cohort_holds_no_graph_and_no_stream_and_goes_when_it_is_dropped(
    end: Callable[[Cohort], None], mode: str, graphs: list[weakref.ref]
):
    """At once: what lies on a device cannot wait for a collector, which only counts objects."""
    cohort = company_of_three(mode)
    end(cohort)
    assert graphs and not any(graph() for graph in graphs)
    assert not capture._ALIVE and not cohort._stepper.own_streams
    seen = weakref.ref(cohort)
    del cohort
    assert seen() is None


def test_who_trains_beside_a_cohort_that_fails_holds_no_graph_either(graphs):
    """... though the error's traceback still knows it."""
    cohorts, steps = [company_of_three("captured"), company_of_three("captured")], iter(range(10))

    def stop() -> bool:
        if next(steps, None) is None:
            raise RuntimeError("the disk is gone")
        return False

    with pytest.raises(RuntimeError) as error:
        run_side_by_side(cohorts, stop)
    assert error.traceback and graphs and not any(graph() for graph in graphs) and not capture._ALIVE


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("mode", ["captured", "forked"])
def test_a_cohort_that_rests_goes_on_to_the_same_numbers(mode, monkeypatch):
    monkeypatch.setattr(capture, "_ALIVE", weakref.WeakSet())
    cohort = company_of_three(mode)
    for number, _ in enumerate(cohort.steps()):
        if number == 7:
            cohort.rest()
            assert not capture._ALIVE
    assert_equal(three("eager"), cohort)
