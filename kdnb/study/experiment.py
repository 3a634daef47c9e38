"""An experiment: what is to be computed, less the seed, and its fingerprint.

*How* it is computed (device, precision, threads) is not part of it; that stands in the record.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from kdnb import analysis, datasets, growth, methods, models
from kdnb.datasets.identity import identity
from kdnb.errors import KdnbError
from kdnb.methods.recipe import Recipe
from kdnb.study.profile import Profile

#: Raised when the engine computes something else than before from the same experiment.
ENGINE_REVISION = 1
#: Teachers are trained once, with this seed, as the papers do.
TEACHER_SEED = 0


@dataclass(frozen=True)
class Images:
    """Which images, how they are prepared, and which of them decide.

    `student_images` of the training part, class-balanced and fixed; None means all.  `split` is `halves`
    (the test images in a validation half and a test half) or `test` (all test images, nothing selected).
    `mean` and `std` are the protocol's, per channel.  A new field is a `growth.later` one.
    """

    dataset: str
    split: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    student_images: int | None = None

    def canonical(self) -> dict[str, Any]:
        info = datasets.info(self.dataset)
        fields = growth.told(self)
        fields |= {"padding": info.crop_padding, "flip": info.flip, "revision": info.revision}
        return fields | {"digests": identity(self.dataset)}


@dataclass(frozen=True)
class Experiment:
    """Protocol, profile, images, networks, method and arguments; a `stage` makes it that shared stage alone."""

    profile: Profile
    images: Images
    network: str
    recipe: Recipe
    method: str
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    teacher: Experiment | None = None
    stage: str | None = None
    #: What tells the experiment from its neighbours where its arguments do not; for people, no part of it.
    note: str = field(default="", compare=False)

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for the canonical form."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def canonical(self) -> dict[str, Any]:
        """The experiment in plain values, revisions included; every default written out but of what came later."""
        method = methods.get(self.method)
        return {
            "engine": ENGINE_REVISION,
            "profile": {
                "name": self.profile.name,
                "factor": str(self.profile.factor),
                "at_most": self.profile.at_most,
            },
            "images": _plain(self.images.canonical()),
            "network": {"name": self.network, "revision": models.revision(self.network)},
            "teacher": self.teacher and {"name": self.teacher.network, "fingerprint": self.teacher.fingerprint},
            "recipe": _plain(growth.told(self.recipe)),
            "method": {
                "name": self.method,
                "revision": method.revision,
                "arguments": _plain(method.told(self.arguments)),
            },
            "stage": self.stage,
        }

    def shared_stages(self) -> list[Experiment]:
        """The experiments of the stages that this one shares with others, in order."""
        if self.stage is not None:
            return []
        method = methods.get(self.method)
        base = self.method.partition("+")[0]
        found = []
        for stage in method.shared:
            own = method.arguments_of(stage, self.arguments)
            found.append(dataclasses.replace(self, method=base, arguments=own, stage=stage))
        return found

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
        defaults = methods.get(self.method).defaults
        changed = sorted((name, value) for name, value in self.arguments.items() if value != defaults.get(name))
        return [f"{name}{between}{value}" for name, value in changed] + ([self.note] if self.note else [])


@dataclass(frozen=True)
class Run:
    """An experiment with a seed: what is computed once and leaves one record.

    `keeps` names the arrays that figures need beside the record (`kdnb.analysis`); with or without, it is one run.
    Raises KdnbError where there is no such analysis, or where this run cannot have it.
    """

    experiment: Experiment
    seed: int
    keeps: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for name in self.keeps:
            if analysis.get(name).needs_teacher and self.experiment.teacher is None:
                raise KdnbError(f"'{name}' compares a student with its teacher; {self.label} has none.")
        if self.keeps and self.experiment.stage is not None:
            raise KdnbError(f"{self.label} is a stage that others start from; only whole runs keep arrays.")

    @property
    def key(self) -> tuple[str, int]:
        return self.experiment.fingerprint, self.seed

    @property
    def label(self) -> str:
        """How messages name the run."""
        e = self.experiment
        stage = f" ({e.stage})" if e.stage else ""
        teacher = f"{e.teacher.network} -> " if e.teacher else ""
        return f"{e.told}{stage} {teacher}{e.network} on {e.images.dataset}, seed {self.seed}"

    def keeping(self, names: Iterable[str]) -> Run:
        """The same run with the arrays of these analyses kept beside those it keeps anyway."""
        added = [name for name in dict.fromkeys(names) if name not in self.keeps]
        return dataclasses.replace(self, keeps=(*self.keeps, *added)) if added else self

    def needs(self) -> list[Run]:
        """The runs whose weights this one starts from or learns from."""
        found = [Run(shared, self.seed) for shared in self.experiment.shared_stages()]
        if self.experiment.teacher is not None:
            found.insert(0, Run(self.experiment.teacher, TEACHER_SEED))
        return found


def _plain(value: Any) -> Any:
    """Tuples as lists, fractions as text: the same whether read from Python or from JSON."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Fraction):
        return str(value)
    return value
