"""The register of measurements: what is measured on a trained network, `@measure(name, ...)` on a function.

The catalogue is read from the sources of the files in this folder without importing them: plans, stores and pages ask
what a measurement keeps; only a runner, which has the weights, computes it.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdnb.catalogue import registered
from kdnb.errors import KdnbError, unknown

if TYPE_CHECKING:
    from torch import nn

    from kdnb.evaluation.outputs import Outputs
    from kdnb.models.network import Network
    from kdnb.training.images import DeviceImages

#: Arrays that a figure plots, and numbers that go into the record's metrics, both by name.
Found = tuple[dict[str, np.ndarray], dict[str, float]]
Compute = Callable[["Subject"], Found]

#: What a measurement may need beside the student on the test images.
NEEDS = ("teacher", "training", "modules")
#: Measured on every run that is scored, asked for or not; what compares with a teacher where there is one.
ALWAYS = ("accuracy", "calibration", "fidelity")


@dataclass
class Observed:
    """A network, some images, and what it makes of them: computed once, and only if asked for."""

    network: Network
    images: DeviceImages
    _elsewhere: dict[int, Observed] = field(default_factory=dict, repr=False)

    @functools.cached_property
    def outputs(self) -> Outputs:
        """Logits and embeddings of all images, in canonical order."""
        from kdnb.evaluation.outputs import outputs

        return outputs(self.network, self.images)

    @functools.cached_property
    def log_probabilities(self) -> np.ndarray:
        """Of all classes for all images, [N, K] in float64."""
        from kdnb.evaluation.calibration import log_probabilities

        return log_probabilities(self.outputs.logits)

    def over(self, images: DeviceImages) -> Observed:
        """The same network over other images."""
        return self._elsewhere.setdefault(id(images), Observed(self.network, images))


@dataclass(frozen=True)
class Subject:
    """What a measurement looks at: a run's student with the headline's weights, and its teacher where it has one.

    `labels` [N] are those of the test images, out of `num_classes`; `score` [M] are the positions of those that score;
    `training` are the images that the student learned from, or, where those have no labels, the labelled ones beside
    them; `modules` are those of the run's last stage, by name (regressors, dictionaries, peers), as it ended; `seed` is
    the run's.  `earlier` gives the modules of what the run went on from, by the name of the step or of the shared
    stage, as that left them.  In `shared` measurements of one subject leave what the next one would compute again.
    """

    student: Observed
    teacher: Observed | None
    labels: np.ndarray
    score: np.ndarray
    num_classes: int
    seed: int
    training: DeviceImages | None = None
    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    earlier: Callable[[str], Mapping[str, nn.Module]] = lambda name: {}
    shared: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Measurement:
    """A measurement's entry: which arrays it keeps, which metrics it adds, and what it needs (`NEEDS`).

    `columns` are shares in 0..1 of every test image, [N], which stand among the run's predictions in few bits; a run
    that was measured before there was such a column is whole without it.
    With `at`, it is followed: taken after so many epochs of the last stage, in the paper's own count (0: before the
    first).  Then its metrics are kept as arrays, a value for each of these epochs, and `<name>_epochs` says which.
    """

    name: str
    metrics: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    at: tuple[int, ...] = ()
    file: str = ""
    function: str = ""
    given: Compute | None = None

    @property
    def compute(self) -> Compute:
        """The function: imports its file, and with it whatever that needs."""
        if self.given is not None:
            return self.given
        module = importlib.import_module(f"kdnb.analysis.{Path(self.file).stem}")
        compute: Compute = getattr(module, self.function)
        return compute

    @property
    def kept_arrays(self) -> tuple[str, ...]:
        """The arrays that stand beside a record of which it was taken."""
        return (f"{self.name}_epochs", *self.metrics) if self.at else self.arrays

    def of(self, subject: Subject) -> Found:
        """The arrays, columns among them, and metrics of a subject.

        Raises KdnbError where some are missing, or hold what is not finite.
        """
        arrays, metrics = self.compute(subject)
        promised = [*self.arrays, *self.columns, *self.metrics]
        if set(arrays) != {*self.arrays, *self.columns} or set(metrics) != {*self.metrics}:
            raise KdnbError(f"Measurement '{self.name}' gave {[*arrays, *metrics]}, not {promised}.")
        bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        bad += [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise KdnbError(f"{', '.join(bad)} of measurement '{self.name}' would not be finite.")
        return arrays, {name: float(value) for name, value in metrics.items()}

    def fault(self) -> str:
        """What is wrong with the entry, in words; empty where nothing is."""
        if not self.arrays and not self.metrics:
            return "names neither arrays nor metrics; a store could not tell whether it was taken"
        if self.at and (self.arrays or self.columns or not self.metrics):
            return "is followed over epochs, and only numbers are: it has metrics and no arrays"
        strange = [need for need in self.needs if need not in NEEDS]
        return f"needs '{strange[0]}', which no measurement is given; there are {', '.join(NEEDS)}" if strange else ""


def measure(
    name: str,
    *,
    metrics: tuple[str, ...] = (),
    arrays: tuple[str, ...] = (),
    columns: tuple[str, ...] = (),
    needs: tuple[str, ...] = (),
    at: tuple[int, ...] = (),
) -> Callable[[Compute], Compute]:
    """Register a function as a measurement; every argument must be a literal, since the source is read.

    The arguments are the fields of `Measurement` of the same names.  All measurements of a run share one file and one
    record: no two have a name of their own, of an array, a column or a metric in common.
    """
    return lambda compute: compute


@functools.cache
def catalogue() -> dict[str, Measurement]:
    """Every registered measurement by name; KdnbError for an entry that breaks the contract."""
    found: dict[str, Measurement] = {}
    for entry in registered(Path(__file__).parent, "measure"):
        add(found, Measurement(entry.name, file=entry.file, function=entry.function.name, **entry.fields))
    return found


def add(known: dict[str, Measurement], entry: Measurement) -> None:
    """Add an entry to those that are known; KdnbError where it breaks the contract, or takes a name of theirs."""
    taken = {n for other in known.values() for n in _names_of(other)}
    again = sorted(taken & _names_of(entry))
    if again:
        raise KdnbError(
            f"Measurement '{entry.name}': {', '.join(again)} is a name of another measurement; take another one."
        )
    if entry.fault():
        raise KdnbError(f"Measurement '{entry.name}' {entry.fault()}.")
    known[entry.name] = entry


def _names_of(entry: Measurement) -> set[str]:
    return {entry.name, *entry.kept_arrays, *entry.columns, *entry.metrics}


def get(name: str) -> Measurement:
    """The measurement of a name; an unknown one is an error that names the nearest."""
    if name not in catalogue():
        raise unknown("measurement", name, catalogue())
    return catalogue()[name]


def names() -> tuple[str, ...]:
    """Every registered measurement, in order."""
    return tuple(sorted(catalogue()))
