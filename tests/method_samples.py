"""Methods on networks and batches that are small: what all tests of methods begin with."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kdnb import models
from kdnb.methods import get
from kdnb.methods.recipe import Recipe
from kdnb.methods.stage import Batch, Losses, Setup, Stage, Supervision, TrainingSet
from kdnb.models.network import Activations, Network
from kdnb.training.freeze import frozen, in_training
from kdnb.training.member import Inputs, Member
from kdnb.training.numerics import detect

CPU = torch.device("cpu")
EXACT = detect("cpu", "float32", "eager")
CLASSES, COUNT, SIZE = 5, 30, 6
LABELS = torch.arange(COUNT) % CLASSES
RECIPE = Recipe(epochs=200, batch_size=SIZE, lr=0.1, milestones=(80, 120), selection="best")
#: What stands for the labels in `<method>+kd` here: no weight of it is a default.
KD = {"labels_weight": 0.2, "soft_weight": 0.8, "temperature": 8.0}


def lively(network: Network) -> Network:
    """Batch norms as training leaves them: shifts, scales of both signs and running statistics that are not trivial."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.normal_(1, 0.3).mul_(torch.where(torch.rand_like(module.weight) < 0.1, -1, 1))
                module.bias.normal_(0, 0.3)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
    return network


@functools.cache
def _networks(student: str, teacher: str) -> tuple[Network, Network]:
    torch.manual_seed(0)
    pupil = models.create(student, CLASSES)
    return pupil, frozen(lively(models.create(teacher, CLASSES)), CPU, torch.float32)


def make_setup(
    name: str = "", teacher: str = "resnet14", student: str = "resnet8", *, seed: int = 1, recipe: Recipe = RECIPE
) -> Setup:
    """What a method is given, `name` saying whether KD stands for the labels; networks are the same for every seed."""
    pupil, master = _networks(student, teacher)
    supervision = Supervision(**KD) if name.endswith("+kd") else Supervision()
    return Setup(copy.deepcopy(pupil), master, recipe, supervision, TrainingSet(LABELS, CLASSES), seed, CPU)


def stages(name: str, setup: Setup | None = None, **given: Any) -> list[Stage]:
    """A method's stages, after the steps of the teacher alone that it goes on from; what is frozen is in eval mode."""
    entry, setup = get(name), setup or make_setup(name)
    for step in entry.after:
        if step not in setup.steps:
            made = get(step).stages(setup, get(step).arguments(entry.passed_on(step, given)))
            setup.steps[step] = made[-1].modules
    found = entry.stages(setup, entry.arguments({**(KD if entry.with_kd else {}), **given}))
    for stage in found:
        for module in stage.frozen:
            stage.modules[module].eval()
    return found


def make_inputs(stage: Stage, setup: Setup, seed: int = 0, *, epoch: float = 0, size: int = SIZE) -> Inputs:
    """What the engine gives a student: images of 16 x 16, and what the teacher makes of them as deep as is declared."""
    stream = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, 16, 16, generator=stream)
    indices = torch.randperm(COUNT, generator=stream)[:size]
    teachers = [setup.teacher_network()]
    if stage.teacher_mode == "train":
        teachers.append(in_training(teachers[0]))
    with torch.no_grad():
        said = [teacher.activations(images, stage.teacher_depth or 0) for teacher in teachers]
    return Inputs(images, LABELS[indices], indices, torch.tensor(float(epoch)), *said)


def make_batch(stage: Stage, setup: Setup, seed: int = 0, *, epoch: float = 0, size: int = SIZE) -> Batch:
    """What an objective sees: activations as deep as declared and no deeper."""
    given = make_inputs(stage, setup, seed, epoch=epoch, size=size)
    depth, student = stage.student_depth, Activations(stem=given.images[:0])
    if depth is not None:
        student = setup.student.activations(given.images, depth)
    draws = {} if stage.draws is None else stage.draws(torch.Generator().manual_seed(seed), size)
    return Batch(given.images, given.labels, given.indices, student, given.teacher, given.epoch, draws)


def ready(
    name: str, position: int = -1, *, setup: Setup | None = None, epoch: float = 0, **given: Any
) -> tuple[Stage, Setup, Batch]:
    """A stage that can take its first step, and the batch of that step."""
    setup = setup or make_setup(name)
    stage = stages(name, setup, **given)[position]
    if stage.prepare is not None:
        with torch.no_grad():
            stage.prepare([make_batch(stage, setup, seed) for seed in range(stage.prepare_batches)])
    return stage, setup, make_batch(stage, setup, epoch=epoch)


def member(stage: Stage, seed: int = 1) -> Member:
    """The stage as the engine runs it, in train mode."""
    found = Member(stage, stage.name, seed, EXACT)
    found.begin_epoch()
    return found


def parameters(modules: Iterable[nn.Module]) -> set[nn.Parameter]:
    return {parameter for module in modules for parameter in module.parameters()}


def backward(terms: Losses) -> None:
    """Send gradients from the sum of an objective's terms, as the engine does."""
    torch.stack(list(terms.values())).sum().backward()


def numbers(terms: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: term.item() for name, term in terms.items()}


def logits(acts: Activations) -> Tensor:
    assert acts.logits is not None
    return acts.logits
