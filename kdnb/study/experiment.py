"""An experiment: what is to be computed, less the seed, and its fingerprint.

*How* it is computed (device, precision, threads) is not part of it; that stands in the record.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from kdnb import analysis, datasets, growth, methods, models
from kdnb.datasets.identity import identity
from kdnb.errors import KdnbError, unknown
from kdnb.methods.recipe import Recipe
from kdnb.study.profile import Profile

#: Raised when the engine computes something else than before from the same experiment.
ENGINE_REVISION = 1
#: Teachers are trained once, with this seed, as the papers do.
TEACHER_SEED = 0
#: Which run of an experiment teaches: the one of `TEACHER_SEED`, or that of the student's own seed.
TEACHERS = ("fixed", "of each seed")


@dataclass(frozen=True)
class Images:
    """Which images, how they are prepared, and which of them decide.

    `student_images` of the training part, class-balanced and fixed; None means all.  `per_class` are few of each class
    instead, other ones for every seed, of which fewer are among more.  `split` is `halves` (the test images in a
    validation half and a test half), `test` (all test images, nothing selected), or `held-out` (all test images score;
    a fixed, class-balanced tenth of the training images selects, and nobody learns from it).
    `mean` and `std` are the protocol's, per channel, and so is the `padding_mode` of random crops: `zeros`, or
    `reflect`.  `learned` is the part that a student learns from: `train`, or `unlabelled`, the images without labels
    of a data set that has such; the labelled ones are then only measured by.  A new field is a `growth.later` one.
    """

    dataset: str
    split: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    student_images: int | None = None
    padding_mode: Literal["zeros", "reflect"] = growth.later("zeros")
    per_class: int | None = growth.later(None)
    learned: Literal["train", "unlabelled"] = growth.later("train")

    def canonical(self) -> dict[str, Any]:
        info = datasets.info(self.dataset)
        fields = growth.told(self)
        fields |= {"padding": info.crop_padding, "flip": info.flip, "revision": info.revision}
        return fields | {"digests": identity(self.dataset)}


@dataclass(frozen=True)
class Experiment:
    """Protocol, profile, images, networks, method and arguments, and the experiments that this one goes on from.

    `teacher`       whose run teaches: the one of `TEACHER_SEED`, or, with `teachers` "of each seed", the run of the
                    student's own seed (an auxiliary that was itself taught)
    `start`         whose student, of the same seed, this one begins with: probes, fine-tuning, another data set.  Its
                    classifier begins afresh where there are other classes to tell.
    `stage`         makes it that shared stage of its method alone
    A method `of="teacher"` has no student: `network` and `recipe` are None.  A network that the argument `peer` names
    is part of it by its revision too.

    Raises KdnbError where these do not go together.
    """

    profile: Profile
    images: Images
    network: str | None
    recipe: Recipe | None
    method: str
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    teacher: Experiment | None = None
    stage: str | None = None
    #: What tells the experiment from its neighbours where its arguments do not; for people, no part of it.
    note: str = field(default="", compare=False)
    teachers: str = growth.later("fixed")
    start: Experiment | None = growth.later(None)

    def __post_init__(self) -> None:
        if self.start is not None and self.start.network != self.network:
            raise KdnbError(
                f"{self.method} on {self.images.dataset} cannot begin with a {self.start.network}: "
                f"its student is a {self.network}."
            )
        if self.teachers not in TEACHERS:
            raise unknown("choice of teachers", self.teachers, TEACHERS)
        given = methods.get(self.method).arguments(self.arguments)  # refused before anything is trained for it
        if self.images.learned == "unlabelled":
            self._need_no_labels(given)

    def _need_no_labels(self, given: Mapping[str, Any]) -> None:
        if not datasets.info(self.images.dataset).unlabelled_count:
            raise KdnbError(f"{datasets.title(self.images.dataset)} has no images without labels to learn from.")
        if not methods.get(self.method).label_free or given.get("contrastive_weight"):
            raise KdnbError(
                f"{self.told} learns from labels, and the images without labels of "
                f"{datasets.title(self.images.dataset)} have none; take a method that is free of them."
            )

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for the canonical form."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def canonical(self) -> dict[str, Any]:
        """The experiment in plain values, revisions included; every default written out but of what came later."""
        method = methods.get(self.method)
        content = {
            "engine": ENGINE_REVISION,
            "profile": {
                "name": self.profile.name,
                "factor": str(self.profile.factor),
                "at_most": self.profile.at_most,
            },
            "images": _plain(self.images.canonical()),
            "network": self.network and {"name": self.network, "revision": models.revision(self.network)},
            "teacher": _named(self.teacher),
            "recipe": self.recipe and _plain(growth.told(self.recipe)),
            "method": {
                "name": self.method,
                "revision": method.revision,
                "arguments": _plain(method.told(self.arguments)),
            },
            "stage": self.stage,
        }
        if self.teachers != "fixed":
            content["teachers"] = self.teachers
        if self.start is not None:
            content["start"] = _named(self.start)
        if peer := method.arguments(self.arguments).get("peer"):
            content["peer"] = {"name": peer, "revision": models.revision(peer)}
        if steps := self.steps():
            content["steps"] = [_named(step) for step in steps]
        return content

    @property
    def scored(self) -> bool:
        """Whether its runs are judged on test images: not those of a step that others go on from."""
        return self.stage is None and self.network is not None

    def shared_stages(self) -> list[Experiment]:
        """The experiments of the stages that this one shares with others, in order; of a stage, those before it."""
        method = methods.get(self.method)
        base = self.method.partition("+")[0]
        shared = method.shared if self.stage is None else method.shared[: method.shared.index(self.stage)]
        found = []
        for number, stage in enumerate(shared):
            own = method.arguments_of(method.shared[: number + 1], self.arguments)
            found.append(dataclasses.replace(self, method=base, arguments=own, stage=stage))
        return found

    def steps(self) -> list[Experiment]:
        """The experiments of the teacher alone that the method goes on from, whatever the student and its recipe."""
        method = methods.get(self.method)
        return [
            dataclasses.replace(
                self,
                network=None,
                recipe=None,
                method=name,
                arguments=method.passed_on(name, self.arguments),
                stage=None,
                start=None,
                note="",
            )
            for name in method.after
        ]

    @property
    def variant(self) -> str:
        """Arguments that differ from the method's defaults, and the note, for people: `temperature-8`."""
        return "_".join(self._apart("-"))

    @property
    def told(self) -> str:
        """The method for messages, with what tells it from its neighbours: `kd (temperature 8)`."""
        what = ", ".join(self._apart(" "))
        return f"{self.method} ({what})" if what else self.method

    def _apart(self, between: str) -> list[str]:
        """What tells the experiment from others of its method: arguments that are no defaults, and the note."""
        method = methods.get(self.method)
        arguments = method.arguments(self.arguments)
        changed = sorted((name, arguments[name]) for name in self.arguments if arguments[name] != method.defaults[name])
        found = [f"{name}{between}{value}" for name, value in changed] + ([self.note] if self.note else [])
        found += [between.join([str(self.images.per_class), "a", "class"])] if self.images.per_class else []
        if self.start is not None:
            found.append(between.join(["from", self.start.method, *self.start._apart(between)]))
        return found


@dataclass(frozen=True)
class Run:
    """An experiment with a seed: what is computed once and leaves one record.

    `keeps` names what is measured on it beyond what every run has (`kdnb.analysis`); with or without, it is one run.
    Raises KdnbError where there is no such measurement, or where this run cannot have it.
    """

    experiment: Experiment
    seed: int
    keeps: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for name in self.keeps:
            if "teacher" in analysis.get(name).needs and self.experiment.teacher is None:
                raise KdnbError(f"'{name}' compares a student with its teacher; {self.label} has none.")
        if self.keeps and not self.experiment.scored:
            raise KdnbError(f"{self.label} is a stage that others start from; only whole runs keep measurements.")

    @property
    def key(self) -> tuple[str, int]:
        return self.experiment.fingerprint, self.seed

    @property
    def label(self) -> str:
        """How messages name the run."""
        e = self.experiment
        stage = f" ({e.stage})" if e.stage else ""
        networks = " -> ".join(name for name in (e.teacher and e.teacher.network, e.network) if name)
        return f"{e.told}{stage} {networks} on {e.images.dataset}, seed {self.seed}"

    def keeping(self, names: Iterable[str]) -> Run:
        """The same run with these measurements kept beside those it keeps anyway."""
        added = [name for name in dict.fromkeys(names) if name not in self.keeps]
        return dataclasses.replace(self, keeps=(*self.keeps, *added)) if added else self

    @property
    def teacher(self) -> Run | None:
        """The run that teaches this one."""
        teacher = self.experiment.teacher
        if teacher is None:
            return None
        return Run(teacher, TEACHER_SEED if self.experiment.teachers == "fixed" else self.seed)

    @property
    def start(self) -> Run | None:
        """The run whose student this one begins with."""
        start = self.experiment.start
        return None if start is None else Run(start, self.seed)

    def steps(self) -> dict[str, Run]:
        """The runs of the teacher alone that this one goes on from, by the name of their method."""
        return {step.method: Run(step, self.seed) for step in self.experiment.steps()}

    def shared_stages(self) -> list[Run]:
        """The runs of the stages that this one shares with others, in order."""
        return [Run(stage, self.seed) for stage in self.experiment.shared_stages()]

    def needs(self) -> list[Run]:
        """The runs whose weights this one goes on from or learns from."""
        found = (self.teacher, self.start, *self.steps().values(), *self.shared_stages())
        return [run for run in found if run is not None]


def _named(experiment: Experiment | None) -> dict[str, Any] | None:
    """Another experiment, as a canonical form has it."""
    if experiment is None:
        return None
    return {"name": experiment.network or experiment.method, "fingerprint": experiment.fingerprint}


_ALREADY_PLAIN = frozenset({str, int, float, bool, type(None)})


def _plain(value: Any) -> Any:
    """Tuples as lists, fractions as text: the same whether read from Python or from JSON."""
    if type(value) in _ALREADY_PLAIN:  # nearly all of them, and to ask what is a fraction takes long
        return value
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Fraction):
        return str(value)
    return value
