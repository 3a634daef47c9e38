"""Whether two ways of computing give the same: a mean difference whose interval lies within a margin.

That there is no difference is not shown by a test that finds none.  Two one-sided tests at 5 % each (TOST) say that the
90 % interval of the mean difference lies within the margin on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

#: Points of accuracy within which two ways are called the same; fixed before any run.
MARGIN = 1.0
LEVEL = 0.90
#: What is trained every way, and by how many seeds; fixed before any run.
LINES, SEEDS = ("plain", "kd"), 10
#: The spread of one paired difference that a first look found, in points; the power was computed from it beforehand.
SPREAD = 0.9


@dataclass(frozen=True)
class Equivalence:
    """A mean difference in points, its 90 % interval, and of how many differences, or of how many in each group."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def same(self) -> bool | None:
        """True: within the margin; False: beyond it; None: it cannot be told yet."""
        if self.low > -MARGIN and self.high < MARGIN:
            return True
        return False if self.low > MARGIN or self.high < -MARGIN else None


def paired(differences: Sequence[float]) -> Equivalence | None:
    """From differences within pairs, in points; None from fewer than two."""
    found = np.asarray(differences, dtype=float)
    if len(found) < 2:
        return None
    return _interval(float(found.mean()), float(found.std(ddof=1)) / math.sqrt(len(found)), len(found) - 1, len(found))


def unpaired(first: Sequence[float], second: Sequence[float]) -> Equivalence | None:
    """From two groups, first minus second, in points, by Welch's interval; None from fewer than two in either."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if min(len(a), len(b)) < 2:
        return None
    parts = np.array([of.var(ddof=1) / len(of) for of in (a, b)])
    total = float(parts.sum())
    weights = float((parts**2 / [len(a) - 1, len(b) - 1]).sum())
    df = total**2 / weights if weights else float(len(a) + len(b) - 2)
    return _interval(float(a.mean() - b.mean()), math.sqrt(total), df, min(len(a), len(b)))


def power(sd: float, count: int, difference: float = 0.0) -> float:
    """The chance that `count` differences of this spread show a true difference to be within the margin."""
    error, df = sd / math.sqrt(count), count - 1
    t = stats.t.ppf(0.5 + LEVEL / 2, df)
    below = stats.nct.cdf(-t, df, (difference - MARGIN) / error)
    above = stats.nct.cdf(t, df, (difference + MARGIN) / error)
    return max(0.0, float(below - above))


def _interval(mean: float, error: float, df: float, count: int) -> Equivalence:
    half = float(stats.t.ppf(0.5 + LEVEL / 2, df)) * error
    return Equivalence(mean, mean - half, mean + half, count)
