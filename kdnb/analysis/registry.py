"""The register of analyses whose arrays a run can keep: `@analysis(name, ...)` on a function of a `Subject`.

Free of torch: plans and stores ask what an analysis keeps; only a runner, which has the weights, computes it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kdnb.errors import KdnbError, unknown

if TYPE_CHECKING:
    from kdnb.evaluation.outputs import Outputs
    from kdnb.models.network import Network
    from kdnb.training.images import DeviceImages

#: Arrays that a figure plots, and numbers that go into the record's metrics, both by name.
Found = tuple[dict[str, np.ndarray], dict[str, float]]


@dataclass
class Observed:
    """A trained network, the test images, and what it makes of them: computed once, and only if asked for."""

    network: Network
    images: DeviceImages

    @functools.cached_property
    def outputs(self) -> Outputs:
        """Logits and embeddings of all test images, in canonical order."""
        from kdnb.evaluation.outputs import outputs

        return outputs(self.network, self.images)

    @functools.cached_property
    def log_probabilities(self) -> np.ndarray:
        """Of all classes for all test images, [N, K] in float64."""
        from kdnb.evaluation.calibration import log_probabilities

        return log_probabilities(self.outputs.logits)


@dataclass(frozen=True)
class Subject:
    """What an analysis looks at: a run's student with the headline's weights, and its teacher where it has one.

    `labels` [N] are those of the test images, out of `num_classes`; `score` [M] are the positions of those that score;
    `seed` is the run's.
    """

    student: Observed
    teacher: Observed | None
    labels: np.ndarray
    score: np.ndarray
    num_classes: int
    seed: int


@dataclass(frozen=True)
class Analysis:
    """An analysis's entry: which arrays it keeps, which metrics it adds, and whether it compares with a teacher."""

    name: str
    arrays: tuple[str, ...]
    metrics: tuple[str, ...]
    needs_teacher: bool
    compute: Callable[[Subject], Found]

    def of(self, subject: Subject) -> Found:
        """The arrays and metrics of a subject; KdnbError where some are missing, or hold what is not finite."""
        arrays, metrics = self.compute(subject)
        if (set(arrays), set(metrics)) != (set(self.arrays), set(self.metrics)):
            raise KdnbError(f"Analysis '{self.name}' gave {[*arrays, *metrics]}, not {[*self.arrays, *self.metrics]}.")
        bad = [name for name, array in arrays.items() if not np.isfinite(array).all()]
        bad += [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            raise KdnbError(f"{', '.join(bad)} of analysis '{self.name}' would not be finite.")
        return arrays, {name: float(value) for name, value in metrics.items()}


_KNOWN: dict[str, Analysis] = {}


def analysis(
    name: str, *, arrays: tuple[str, ...], metrics: tuple[str, ...] = (), needs_teacher: bool = False
) -> Callable[[Callable[[Subject], Found]], Callable[[Subject], Found]]:
    """Register a function as an analysis; arrays and metrics are named beforehand, so that a store can look for them.

    All analyses of a run share one file and one record: KdnbError where a name is taken, and where no array is named,
    since a store could not tell whether the analysis is there.
    """
    if not arrays:
        raise KdnbError(f"Analysis '{name}' names no array; what needs no weights is no analysis to keep.")

    def register(compute: Callable[[Subject], Found]) -> Callable[[Subject], Found]:
        taken = {n for other in _KNOWN.values() for n in (other.name, *other.arrays, *other.metrics)}
        again = sorted(taken & {name, *arrays, *metrics})
        if again:
            raise KdnbError(f"Analysis '{name}': {', '.join(again)} is a name of another analysis; take another one.")
        _KNOWN[name] = Analysis(name, arrays, metrics, needs_teacher, compute)
        return compute

    return register


def get(name: str) -> Analysis:
    """The analysis of a name; an unknown one is an error that names the nearest."""
    if name not in _KNOWN:
        raise unknown("analysis", name, _KNOWN)
    return _KNOWN[name]


def names() -> tuple[str, ...]:
    """Every registered analysis, in order."""
    return tuple(sorted(_KNOWN))
