"""Every experiment of every table and figure, at the scales of real images: its networks, maps and losses fit.

Maps are random ones of each network's shapes at 32x32: whether a method can take its first step needs no more.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from kdnb import datasets, exhibits, methods, models
from kdnb.exhibits.exhibit import Cell
from kdnb.methods.stage import Batch, Setup, Stage, TrainingSet, Turn, present
from kdnb.models.network import Activations, Depth, Network
from kdnb.study import plan
from kdnb.study.experiment import Experiment
from kdnb.study.workbench import supervision
from kdnb.training.freeze import frozen

CPU = torch.device("cpu")
#: Images of a batch, and images that are known of in all.
SIZE, COUNT = 2, 300


def cells(paper: str, scale: str) -> list[Cell]:
    """All cells that have runs; where other runs choose settings, with those that a shortened trial has."""
    tables = [dataclasses.replace(exhibit, choose=None) for exhibit in exhibits.select(paper)]
    return [cell for table in tables for cell in table.cells(scale) if cell.experiment is not None]


def experiments(paper: str, scale: str) -> list[Experiment]:
    """What a paper's cells need at a scale, each kind once: each method between its networks.

    At `pilot`, where a step is quick, each setting of a method too.  Fewer images, epochs or seeds make no other kind.
    """
    found: list[Experiment] = []
    seen: set[object] = set()
    for run in plan.with_needs(run for cell in cells(paper, scale) for run in cell.runs(1)):
        e = run.experiment
        between = e.method, e.stage, e.network, e.teacher and e.teacher.network, e.arguments.get("peer")
        kinds: set[object] = {between}
        if scale == "pilot":
            kinds.add((e.method, e.stage, repr(sorted(e.arguments.items()))))
        if not kinds <= seen:
            found.append(e)
        seen |= kinds
    return found


@functools.cache
def network(name: str, classes: int) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.create(name, classes)


@functools.cache
def teacher(name: str, classes: int) -> Network:
    return frozen(network(name, classes), CPU, torch.float32)


@functools.cache
def shapes(name: str, classes: int) -> Activations:
    """What one image makes of a network."""
    with torch.no_grad():
        return network(name, classes).eval().activations(torch.zeros(1, 3, 32, 32))


def activations(of: Network | None, depth: Depth | None, stream: torch.Generator, learns: bool = False) -> Activations:
    """Random maps as they would leave the network, as deep as a stage declares and no deeper."""

    def made(like: Tensor | None) -> Tensor:
        return torch.randn(SIZE, *present(like).shape[1:], generator=stream).requires_grad_(learns)

    if of is None or depth is None:
        return Activations(stem=torch.zeros(0, 1, 1, 1))
    like = shapes(of.name, of.num_classes)
    last = depth if isinstance(depth, int) else len(like.stages)
    return Activations(
        made(like.stem),
        [made(maps) for maps in like.stages[:last]],
        [made(maps) for maps in like.preactivations[:last]],
        None if isinstance(depth, int) else made(like.embedding),
        made(like.logits) if depth == "logits" else None,
    )


def maps_of(acts: Activations) -> Iterable[Tensor]:
    yield from (acts.stem, *acts.stages, *acts.preactivations)
    yield from (tensor for tensor in (acts.embedding, acts.logits) if tensor is not None)


def setup_of(e: Experiment) -> Setup:
    classes = datasets.info(e.images.dataset).num_classes
    return Setup(
        student=network(e.network, classes) if e.network else None,  # type: ignore[arg-type]
        teacher=teacher(str(e.teacher.network), classes) if e.teacher else None,
        recipe=e.recipe,  # type: ignore[arg-type]
        supervision=supervision(e),
        training_set=TrainingSet(torch.arange(COUNT) % classes, classes, e.images.learned == "train"),
        seed=1,
        device=CPU,
        steps={step.method: left_by(step) for step in e.steps()},
    )


_LEFT: dict[str, dict[str, nn.Module]] = {}


def left_by(step: Experiment) -> dict[str, nn.Module]:
    """The modules of a step of the teacher alone."""
    if step.fingerprint not in _LEFT:
        _LEFT[step.fingerprint] = stages_of(step, setup_of(step))[-1].modules
    return _LEFT[step.fingerprint]


def stages_of(e: Experiment, setup: Setup) -> list[Stage]:
    """The stages that are an experiment's own."""
    method = methods.get(e.method)
    stages = method.stages(setup, method.arguments(e.arguments))
    if e.stage is not None:
        return [stage for stage in stages if stage.name == e.stage]
    return [stage for stage in stages if not stage.shared]


def batch_of(stage: Stage, setup: Setup) -> Batch:
    stream = torch.Generator().manual_seed(1)
    indices = torch.randperm(COUNT, generator=stream)[:SIZE]
    draws = {} if stage.draws is None else stage.draws(stream, SIZE)
    student = activations(setup.student, stage.student_depth, stream, learns=True)
    taught = activations(setup.teacher, stage.teacher_depth, stream)
    images = torch.randn(SIZE, 3, 32, 32, generator=stream)
    return Batch(images, setup.training_set.labels[indices], indices, student, taught, torch.zeros(()), draws)


def steps_through(e: Experiment) -> None:
    """A forward and a backward of each turn of each stage: finite, and nothing that shall learn goes without."""
    setup = setup_of(e)
    for stage in stages_of(e, setup):
        for name, module in stage.modules.items():
            module.train(name not in stage.frozen)
        if stage.prepare is not None:
            with torch.no_grad():
                stage.prepare([batch_of(stage, setup)] * stage.prepare_batches)
        for number, turn in enumerate(stage.turns):
            batch = batch_of(stage, setup)
            total = scalar(turn.objective(batch))
            maps = [m for m in maps_of(batch.student) if m.requires_grad and number == 0]
            parameters = learning(turn, setup.student)
            slopes = torch.autograd.grad(total, [*parameters, *maps], allow_unused=True)
            assert all(slope is not None and slope.isfinite().all() for slope in slopes[: len(parameters)])
            reached = [slope for slope in slopes[len(parameters) :] if slope is not None]
            assert all(slope.isfinite().all() for slope in reached)
            assert reached or number or stage.student_depth is None
        if stage.observe is not None:
            scalar(stage.observe(batch_of(stage, setup)))
        if stage.selection is not None:
            scalar({"selection": stage.selection.validate(batch_of(stage, setup))})


def scalar(terms: dict[str, Tensor]) -> Tensor:
    """The sum of named scalars, each of which has to be finite."""
    assert terms and all(term.shape == () and term.isfinite() for term in terms.values())
    return torch.stack([term.float() for term in terms.values()]).sum()


def learning(turn: Turn, student: Network | None) -> list[nn.Parameter]:
    """What learns beside the student, whose maps stand for it."""
    own = set(student.modules()) if student is not None else set()
    return [p for module in turn.trainable if module not in own for p in module.parameters()]


@pytest.mark.parametrize("scale", ["pilot", "paper"])
@pytest.mark.parametrize("paper", exhibits.PAPERS)
def test_it_can_take_a_step(paper: str, scale: str) -> None:
    found = experiments(paper, scale)
    assert found
    for e in found:
        try:
            steps_through(e)
        except Exception as error:
            error.add_note(f"{e.told} ({e.stage or 'all stages'}): {e.teacher and e.teacher.network} -> {e.network}")
            raise


@pytest.mark.parametrize("paper", exhibits.PAPERS)
def test_the_short_scale_has_the_papers_networks_and_methods(paper: str) -> None:
    """So that what can take a step at `paper` can at `short`."""

    def kinds(scale: str) -> set[tuple[object, ...]]:
        found = [run.experiment for cell in cells(paper, scale) for run in cell.runs(1)]
        return {
            (e.method, e.network, e.teacher and e.teacher.network, repr(sorted(e.arguments.items()))) for e in found
        }

    assert kinds("short") == kinds("paper")
