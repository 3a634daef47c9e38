"""The words a method is written in: a recipe, a batch, an optimiser, a schedule, a stage.

A method is a function from a `Setup` to a short list of `Stage`s.  A stage says what is optimised and how;
the engine (kdnb.training) decides when and where.  Everything is declared in the papers' own epochs: a
profile that runs less of a protocol shortens the stages afterwards (`Stage.shortened`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from kdnb import losses
from kdnb.errors import KdnbError, unknown
from kdnb.methods.recipe import Recipe, ratio_of, shortened
from kdnb.models.network import Activations, Depth, Network
from kdnb.randomness import keyed_seed

Losses = dict[str, Tensor]
M = TypeVar("M", bound=nn.Module)


@dataclass
class Batch:
    """What an objective sees of one step.

    images   [B, 3, H, W] float, augmented and normalised
    labels   [B] int64
    indices  [B] int64, positions in the training set of this run (0 .. N-1)
    student, teacher   activations, as deep as the stage declared; only a stem without images where it has no depth
    epoch    float scalar on the device, counted from 0 in the *paper's* epochs, whatever the profile
    draws    the stage's own random numbers of this step (see `Stage.draws`)
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    student: Activations
    teacher: Activations
    epoch: Tensor
    draws: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Optimiser:
    """One of `sgd`, `adam`, `rmsprop`, at the library's defaults where nothing is said.

    `nesterov` is SGD's.  `restart` says when moments and step counts begin afresh, as if the optimiser had been
    made anew: `never`, with each `drop` of the learning rate, or with each `epoch`.
    """

    name: str
    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    restart: str = "never"

    def __post_init__(self) -> None:
        if self.restart not in ("never", "drop", "epoch"):
            raise unknown("restart of an optimiser", self.restart, ["never", "drop", "epoch"])


@dataclass(frozen=True)
class Schedule:
    """The learning rate is multiplied by `factor` once each of `milestones` epochs have been trained."""

    milestones: tuple[int, ...] = ()
    factor: float = 0.1

    def rate(self, base: float, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return base * self.factor ** sum(epoch >= m for m in self.milestones)

    def drops(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, is the first one after a milestone."""
        return epoch in self.milestones

    def ends(self, epochs: int) -> tuple[int, ...]:
        """After how many epochs of so many each rate has been trained with."""
        return (*(milestone for milestone in self.milestones if milestone < epochs), epochs)


@dataclass(frozen=True)
class Selection:
    """Which epoch's weights leave a stage: the best by `validate` on the validation part.

    `validate(batch)` is a scalar, the mean over a batch; batches are weighted by their size.  The first of
    equally good epochs wins.  With `patience`, the stage ends after so many epochs without improvement.
    Without `needs_teacher` the teacher is spared (accuracy does not ask it).  With `at`, only the weights after
    so many epochs are candidates; `modules` are those whose weights are the chosen epoch's, all else leaves
    the stage as it ended.

    Raises KdnbError for patience with `at`: what may not be chosen says nothing about when to stop.
    """

    validate: Callable[[Batch], Tensor]
    highest: bool
    patience: int | None = None
    needs_teacher: bool = True
    at: tuple[int, ...] | None = None
    modules: tuple[str, ...] = ("student",)

    def __post_init__(self) -> None:
        if self.at is not None and (self.patience is not None or not self.at):
            raise KdnbError("A selection at given epochs needs at least one of them, and knows no patience.")

    def among(self, epoch: int) -> bool:
        """Whether the weights after so many epochs are a candidate."""
        return self.at is None or epoch in self.at


@dataclass(frozen=True)
class Turn:
    """A forward, a backward and an optimiser's step on a batch: what is minimised, and what learns by it.

    Parameters that the objective reaches but `trainable` does not hold are left alone.
    """

    objective: Callable[[Batch], Losses]
    trainable: Sequence[nn.Module]
    optimiser: Optimiser


@dataclass
class Stage:
    """One optimisation, with its own modules, objective, optimiser and schedule.

    A step is one turn, or several one after the other: each sees the batch anew, with a forward through what the
    turns before it have learned, as networks that teach each other do.

    name            unique within the method
    modules         every module with state: `student`, regressors, memory banks, calibrated weights, ...
    trainable       the modules whose parameters are optimised
    objective       Batch -> named losses; their sum is minimised
    further         the turns of a step after the first one, which is `objective`, `trainable`, `optimiser`; the
                    schedule is that of all, and their terms have names of their own
    student_depth   how deep the student's forward goes; the engine goes no deeper.  None for a stage without
                    a student: it learns from the teacher alone, or has networks of its own
    teacher_depth   likewise for the teacher; None if the stage needs no teacher
    teacher_mode    `eval`; or `train`, where its batch norms use the statistics of the batch in a step (the
                    running ones stay as they are, and serve after each epoch, when every module is in eval mode)
    frozen          names of modules that stay in eval mode
    draws           (generator, B) -> named random tensors of a step; keyed by seed, name and step
    prepare         called once with the first `prepare_batches` batches, without gradients; what it
                    finds must be kept in buffers of `modules`, so that a resumed stage does not repeat it
    after_step      called after the optimiser's step, without gradients
    selection       which epoch's weights leave the stage; None means the last one's
    observe         Batch -> further columns of the history: means over the validation part after each epoch,
                    every module in eval mode
    labelled        whether the images that it learns from have labels; -1 stands where they have none
    shared          the stage depends only on what came before it and on arguments that carry its name
                    (`hint_epochs` for the stage `hint`): it has a record and stored weights of its own
    ratio           share of the paper's epochs that is run (set by `shortened`)
    """

    name: str
    modules: dict[str, nn.Module]
    trainable: Sequence[nn.Module]
    objective: Callable[[Batch], Losses]
    optimiser: Optimiser
    epochs: int
    batch_size: int
    schedule: Schedule = Schedule()
    further: tuple[Turn, ...] = ()
    student_depth: Depth | None = "logits"
    teacher_depth: Depth | None = None
    teacher_mode: Literal["eval", "train"] = "eval"
    frozen: tuple[str, ...] = ()
    draws: Callable[[torch.Generator, int], dict[str, Tensor]] | None = None
    prepare: Callable[[list[Batch]], None] | None = None
    prepare_batches: int = 10
    after_step: Callable[[Batch], None] | None = None
    selection: Selection | None = None
    observe: Callable[[Batch], Losses] | None = None
    shared: bool = False
    labelled: bool = True
    ratio: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        if (self.student_depth is None) == ("student" in self.modules):
            raise KdnbError(f"Stage '{self.name}' needs a student among its modules and a depth for it, or neither.")
        if self.epochs < 1 or self.batch_size < 1:
            raise KdnbError(
                f"Stage '{self.name}' has {self.epochs} epochs of batches of {self.batch_size}; both are at least 1. "
                "A step that is not wanted is left out of its method's list."
            )
        for name in self.selection.modules if self.selection is not None else ():
            if name not in self.modules:
                raise unknown(f"module of stage '{self.name}' to select", name, self.modules)

    def epochs_of(self, paper: tuple[int, ...]) -> list[int]:
        """How many epochs of this stage stand for so many of the paper's, in order: none beyond its end, 0 stays 0."""
        scaled = {math.ceil(epoch * self.ratio) for epoch in paper}
        return sorted(epoch for epoch in scaled if epoch <= self.epochs)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns of a step, in order."""
        return Turn(self.objective, self.trainable, self.optimiser), *self.further

    def shortened(self, factor: Fraction, at_most: int | None = None) -> Stage:
        """The same stage with `factor` of its epochs, and at most `at_most`.

        Milestones, patience and the epochs to select from shrink with the epochs; all are rounded up and at least 1.
        """
        ratio = ratio_of(self.epochs, factor, at_most)
        if ratio == 1:
            return self
        selection = self.selection
        if selection is not None and selection.patience is not None:
            selection = dataclasses.replace(selection, patience=shortened(selection.patience, ratio))
        if selection is not None and selection.at is not None:
            selection = dataclasses.replace(selection, at=tuple(shortened(epoch, ratio) for epoch in selection.at))
        milestones = tuple(shortened(m, ratio) for m in self.schedule.milestones)
        return dataclasses.replace(
            self,
            epochs=shortened(self.epochs, ratio),
            schedule=dataclasses.replace(self.schedule, milestones=milestones),
            selection=selection,
            ratio=ratio,
        )


@dataclass(frozen=True)
class Supervision:
    """What stands where a method needs labels: cross-entropy, or, for `<method>+kd`, KD's objective."""

    labels_weight: float = 1.0
    soft_weight: float = 0.0
    temperature: float = 1.0

    @property
    def teacher_depth(self) -> Depth | None:
        return "logits" if self.soft_weight else None

    def __call__(self, batch: Batch) -> Losses:
        """{"ce": w_l CE(z_S, y)} and, with a soft weight, {"kd": w_s KD(z_S, z_T)}."""
        logits = present(batch.student.logits)
        terms = {"ce": self.labels_weight * losses.cross_entropy(logits, batch.labels)}
        if self.soft_weight:
            soft = losses.kd(logits, present(batch.teacher.logits), self.temperature)
            terms["kd"] = self.soft_weight * soft
        return terms


@dataclass(frozen=True)
class TrainingSet:
    """What a method may know of the images a run learns from: their labels [N], and how many classes.

    Images without labels have -1 there, and are not `labelled`.
    """

    labels: Tensor
    num_classes: int
    labelled: bool = True

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Setup:
    """What a method is given: networks, recipe, supervision, and facts about the training set.

    `teacher` is there for its shapes and its weights (batch-norm margins, say); its activations come with
    every batch, computed once for the whole cohort.  A method of the teacher alone is given no student and no recipe,
    and asks for none.  `steps` has, for each such method that this one goes on from, its modules by name, as its run
    left them.
    """

    student: Network
    teacher: Network | None
    recipe: Recipe
    supervision: Supervision
    training_set: TrainingSet
    seed: int
    device: torch.device
    steps: dict[str, dict[str, nn.Module]] = field(default_factory=dict)

    def build(self, name: str, make: Callable[[], M]) -> M:
        """A module of the method's own, initialised from the stream (seed, name), on the run's device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(keyed_seed(self.seed, "module", name))
            return make().to(self.device)

    def teacher_network(self) -> Network:
        """The teacher, for methods that cannot do without one."""
        assert self.teacher is not None, "the study gives a teacher to every method that needs one"
        return self.teacher

    @property
    def common_stages(self) -> int:
        """How many stages of maps student and teacher both have."""
        return min(len(self.student.stages), len(self.teacher_network().stages))

    def training(self, objective: Callable[[Batch], Losses], **changes: Any) -> Stage:
        """The stage in which the whole student learns by the protocol's recipe.

        `changes` are fields of `Stage`.  Modules given there join the student, and are trained with it unless
        `trainable` says otherwise; the teacher goes as deep as is asked there, and as the supervision needs.
        """
        recipe = self.recipe
        waits = changes.get("student_depth", "logits") is None
        modules: dict[str, nn.Module] = {} if waits else {"student": self.student}
        modules |= changes.pop("modules", {})
        fields: dict[str, Any] = {
            "name": "train",
            "modules": modules,
            "trainable": list(modules.values()),
            "objective": objective,
            "optimiser": self.optimiser(),
            "schedule": Schedule(recipe.milestones, recipe.factor),
            "epochs": recipe.epochs,
            "batch_size": recipe.batch_size,
            "selection": self.selection(),
            "labelled": self.training_set.labelled,
        }
        depth = deepest(changes.pop("teacher_depth", None), self.supervision.teacher_depth)
        return Stage(**(fields | changes), teacher_depth=depth)

    def optimiser(self) -> Optimiser:
        """The recipe's."""
        r = self.recipe
        momentum = r.momentum if r.optimiser == "sgd" else 0.0
        return Optimiser(r.optimiser, r.lr, momentum, r.weight_decay, r.nesterov, r.restart)

    def selection(self) -> Selection | None:
        """The recipe's: by accuracy, among all epochs or where the steps of the rate end; or the last epoch."""
        r = self.recipe
        if r.selection not in ("last", "best", "steps"):
            raise unknown("selection of a recipe", r.selection, ["last", "best", "steps"])
        if r.selection == "last":
            return None
        at = Schedule(r.milestones).ends(r.epochs) if r.selection == "steps" else None
        return Selection(accuracy, highest=True, needs_teacher=False, at=at)


def accuracy(batch: Batch) -> Tensor:
    """Share of the batch that the student gets right, top-1."""
    return (present(batch.student.logits).argmax(dim=1) == batch.labels).float().mean()


def surprise(batch: Batch) -> Tensor:
    """The cross-entropy of the student's answers, mean over the batch, whatever else a method minimises."""
    return losses.cross_entropy(present(batch.student.logits), batch.labels)


def total(objective: Callable[[Batch], Losses]) -> Callable[[Batch], Tensor]:
    """The sum of an objective's terms: what is minimised, and what a transfer stage selects by."""
    return lambda batch: torch.stack(list(objective(batch).values())).sum()


def warm_up(batch: Batch, epochs: float) -> Tensor:
    """min(epoch / epochs, 1) as a device scalar, the paper's epochs counted from 1: what a term is multiplied by."""
    return ((batch.epoch + 1) / epochs).clamp(max=1)


def deepest(*depths: Depth | None) -> Depth | None:
    """The deepest of several depths; None counts as no forward at all."""

    def rank(depth: Depth | None) -> float:
        if depth is None:
            return -1
        return depth if isinstance(depth, int) else {"embedding": 1e6, "logits": 1e6 + 1}[depth]

    return max(depths, key=rank)


class TooShallow(KdnbError):
    """A method reads an activation that lies deeper than its stage declares."""


def present(tensor: Tensor | None) -> Tensor:
    """An activation that the stage's declared depth promises to be there; TooShallow where it is not."""
    if tensor is None:
        raise TooShallow(
            "its objective asks for an activation that lies deeper than the stage declares: give "
            'setup.training(..., teacher_depth="logits"), or student_depth'
        )
    return tensor
