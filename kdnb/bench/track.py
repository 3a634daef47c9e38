"""Untrained students that step on images, alone or side by side: how fast they are, and how much memory they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from kdnb import methods, models
from kdnb.bench.load import Pace, Stopwatch
from kdnb.bench.memory import Peak, allocated
from kdnb.methods.recipe import Recipe
from kdnb.methods.stage import Setup, Stage, Supervision, TrainingSet
from kdnb.models.network import Network
from kdnb.training import numerics as numerics_module
from kdnb.training.cohort import Cohort, Material
from kdnb.training.freeze import frozen
from kdnb.training.member import Member
from kdnb.training.numerics import Numerics, processor

#: What stands for labels in a method with KD; what its terms weigh costs nothing.
SOFT = Supervision(labels_weight=0.2, soft_weight=0.8, temperature=8.0)
#: From this share of the machine in other hands on it is said.
BUSY = 0.1


@dataclass(frozen=True)
class Entrant:
    """Who is timed: a method with its arguments, the networks that it has, and the recipe of its last stage."""

    method: str
    teacher: str
    student: str
    recipe: Recipe
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)


class Track:
    """Images, and cohorts that step on them.  Networks are untrained, which costs the same."""

    def __init__(
        self, numerics: Numerics, material: Material, classes: int, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.numerics = numerics
        self.material = material
        self.classes = classes
        self.say = say
        labels = material.training.labels
        self._training_set = TrainingSet(labels, classes, labelled=bool((labels >= 0).all()))
        self._teachers: dict[str, Network] = {}
        self._running: dict[Cohort, Iterator[None]] = {}
        self._memory: dict[Cohort, float | None] = {}

    def teacher(self, name: str) -> Network:
        """A network as it teaches: frozen, and folded where that is exact."""
        if name not in self._teachers:
            made = models.create(name, self.classes)
            self._teachers[name] = frozen(made, self.numerics.torch_device, self.numerics.torch_dtype)
        return self._teachers[name]

    def stages(self, entrant: Entrant, seed: int = 0) -> list[Stage]:
        """A method's stages; steps of the teacher alone that it goes on from are as they are made, untrained."""
        method = methods.get(entrant.method)
        arguments = dict(entrant.arguments)
        setup = Setup(
            student=models.create(entrant.student, self.classes).to(self.numerics.torch_device),
            teacher=self.teacher(entrant.teacher),
            recipe=entrant.recipe,
            supervision=SOFT if method.with_kd else Supervision(),
            training_set=self._training_set,
            seed=seed,
            device=self.numerics.torch_device,
        )
        for step in method.after:
            own = methods.get(step)
            made = own.stages(setup, own.arguments(method.passed_on(step, arguments)))
            setup.steps[step] = made[-1].modules
        return method.stages(setup, method.arguments(arguments))

    def cohort(self, stages: list[Stage], teacher: str) -> Cohort:
        """Stages side by side, with one teacher."""
        members = [Member(stage, f"student {i}", 1, self.numerics) for i, stage in enumerate(stages)]
        return Cohort(members, self.teacher(teacher), self.material, self.numerics, notice=self.say)

    def time(self, cohort: Cohort, steps: int) -> tuple[float | None, Pace]:
        """Peak memory in GiB where it can be told, and the pace of `steps` steps, all students together.

        On a CPU the peak is that of these very steps; on CUDA it is the same in every round (`_taken_eagerly`).
        """
        running = self._running.setdefault(cohort, cohort.steps())
        if self.numerics.device == "cuda":
            if cohort not in self._memory:
                self._memory[cohort] = self._taken_eagerly(running)
            return self._memory[cohort], self._pace(cohort, 8, steps)
        with Peak(on_cuda=False) as peak:
            pace = self._pace(cohort, 1, steps)
        return peak.gib, pace

    def _taken_eagerly(self, running: Iterator[None]) -> float | None:
        """The memory on CUDA of a cohort's second step, above what was allocated before its first one.

        That is activations, gradients and the optimisers' state.  Both steps are eager in every mode; in the first one
        the cohort prepares itself and the library tries its kernels, which takes memory that no later step does.
        Students step one after the other, so the activations of one count; graphs would hold those of each.
        """
        held = allocated()
        next(running)
        with Peak(on_cuda=True, held=held) as peak:
            next(running)
        return peak.gib

    def _pace(self, cohort: Cohort, warm_up: int, steps: int) -> Pace:
        """The pace of `steps` steps, all students together, after some that do not count."""
        running = self._running[cohort]
        for _ in range(warm_up):
            next(running)
        self.wait()
        watch = Stopwatch()
        for _ in range(steps):
            next(running)
        self.wait()
        return watch.pace(steps * cohort.batch_size * len(cohort.members))

    def tell(self, turn: int, what: str, pace: Pace) -> None:
        """One line, and a second one where the machine was not ours alone."""
        self.say(f"round {turn}: {what} {pace.rate:,.0f} images/s, {pace.per_cpu_second:,.0f} per CPU-second")
        if pace.others is not None and pace.others > BUSY:
            self.say(f"round {turn}: others had {100 * pace.others:.0f} % of this machine's processors meanwhile")

    def wait(self) -> None:
        """Until the device has done what it was given."""
        numerics_module.wait(self.numerics)


def rounded(gib: float | None) -> float | None:
    """Memory as a file of a bench has it."""
    return None if gib is None else round(gib, 2)


def device_name(numerics: Numerics) -> str:
    """The GPU's name, or the processor's with its threads."""
    if numerics.device == "cuda":
        return str(torch.cuda.get_device_name())
    return f"{processor()}, {numerics.threads} thread{'s' * (numerics.threads != 1)}"
