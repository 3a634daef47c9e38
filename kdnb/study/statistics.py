"""Comparisons of methods, paired by seed.

With few seeds the variance is pooled over all rows: value = row + seed + noise, and the noise of the whole
table gives one standard deviation with many degrees of freedom (17 rows x 3 seeds: 32).  The comparisons that
one claim rests on share one level: their intervals are simultaneous, of Dunnett's kind, that is by the
distribution of the largest |t| of them all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95
POWER = 0.8
#: Below this p-value of Levene's test the variances are too unequal to pool.
UNEQUAL = 0.01
#: Draws for the distribution of the largest |t|; the quantile is then good to about 0.01.
DRAWS = 200_000


@dataclass(frozen=True)
class Summary:
    """One row: mean, standard deviation (n - 1) and the interval of the mean by Student's t; percent."""

    row: str
    n: int
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Row `a` less row `b`, in points, paired by seed, with its simultaneous interval.

    `low` and `high` are NaN where one seed gives no interval.  `method` says how the interval was made.
    """

    a: str
    b: str
    value: float
    low: float
    high: float
    n: int
    method: str

    @property
    def known(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)


def summaries(frame: pd.DataFrame) -> list[Summary]:
    """A summary of each row of a tidy frame (columns row, seed, value), in its order."""
    return [_summary(str(row), values["value"].to_numpy(float)) for row, values in frame.groupby("row", sort=False)]


def _summary(row: str, values: np.ndarray) -> Summary:
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Summary(row, n, mean, math.nan, math.nan, math.nan)
    std = float(values.std(ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * std / math.sqrt(n)
    return Summary(row, n, mean, std, mean - half, mean + half)


class Layout:
    """The additive model of one table: value = row + seed + noise, by least squares; cells may be missing.

    `sd` is the noise's standard deviation in points with `df` degrees of freedom; `levene` the p-value of
    the test that all rows have the same, and `pooled` whether that is believed.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self.table = frame.pivot_table(index="seed", columns="row", values="value", sort=False)
        self.rows = [str(row) for row in self.table.columns]
        cells = self.table.stack().dropna()
        seeds = list(self.table.index)
        design = np.zeros((len(cells), len(self.rows) + len(seeds)))
        for line, (seed, row) in enumerate(cells.index):
            design[line, self.rows.index(str(row))] = 1
            design[line, len(self.rows) + seeds.index(seed)] = 1
        values = cells.to_numpy(float)
        solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
        self.effects = solution[: len(self.rows)]
        self.inverse = np.linalg.pinv(design.T @ design)[: len(self.rows), : len(self.rows)]
        residual = values - design @ solution
        self.df = int(len(values) - rank)
        self.sd = float(np.sqrt(residual @ residual / self.df)) if self.df > 0 else math.nan
        self.levene = self._levene(cells.index.get_level_values(1), residual)
        self.pooled = not self.levene < UNEQUAL

    def _levene(self, rows: pd.Index, residual: np.ndarray) -> float:
        groups = [residual[rows == row] for row in self.rows]
        groups = [group for group in groups if len(group) >= 3]
        if len(groups) < 2 or self.df <= 0:
            return math.nan
        return float(stats.levene(*groups, center="mean").pvalue)

    def differences(self, pairs: Sequence[tuple[str, str]]) -> list[Difference]:
        """Simultaneous intervals for all `pairs` (a, b) of rows; KeyError names a row that was not measured."""
        for row in (row for pair in pairs for row in pair):
            if row not in self.rows:
                raise KeyError(row)
        if not self.pooled:
            return [self._by_pairs(a, b, len(pairs)) for a, b in pairs]
        contrasts = np.zeros((len(pairs), len(self.rows)))
        for line, (a, b) in enumerate(pairs):
            contrasts[line, self.rows.index(a)] += 1
            contrasts[line, self.rows.index(b)] -= 1
        covariance = contrasts @ self.inverse @ contrasts.T
        critical = largest_t(covariance, self.df)
        found = []
        for (a, b), contrast, variance in zip(pairs, contrasts, np.diag(covariance), strict=True):
            value = float(contrast @ self.effects)
            half = critical * self.sd * math.sqrt(max(variance, 0.0))
            found.append(Difference(a, b, value, value - half, value + half, self._shared(a, b), "pooled"))
        return found

    def _by_pairs(self, a: str, b: str, family: int) -> Difference:
        """The pair alone, Bonferroni for the family: what is left where variances differ too much."""
        differences = (self.table[a] - self.table[b]).dropna().to_numpy(float)
        return one_sample(a, b, differences, family)

    def _shared(self, a: str, b: str) -> int:
        return int((self.table[a].notna() & self.table[b].notna()).sum())

    def seeds_needed(self, difference: float, family: int = 1) -> int | None:
        """Paired seeds that a difference of this size (points) needs, see `seeds_needed`."""
        return seeds_needed(difference, self.sd, len(self.rows), family)


def one_sample(a: str, b: str, differences: np.ndarray, family: int = 1) -> Difference:
    """The interval of a mean of differences by Student's t, Bonferroni over `family` comparisons."""
    n, value = len(differences), float(differences.mean()) if len(differences) else math.nan
    if n < 2:
        return Difference(a, b, value, math.nan, math.nan, n, "pairs alone")
    critical = float(stats.t.ppf(1 - (1 - LEVEL) / (2 * family), n - 1))
    half = critical * float(differences.std(ddof=1)) / math.sqrt(n)
    return Difference(a, b, value, value - half, value + half, n, "pairs alone")


def largest_t(covariance: np.ndarray, df: int, level: float = LEVEL) -> float:
    """The level-quantile of max |t_i| for contrasts of this covariance and a pooled variance of `df`.

    By simulation with a fixed seed, which takes any correlation, singular ones too; NaN without degrees of
    freedom.
    """
    if df <= 0:
        return math.nan
    scale = np.sqrt(np.clip(np.diag(covariance), 1e-300, None))
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    root = vectors * np.sqrt(np.clip(values, 0, None))
    draw = np.random.default_rng(20211101)
    normal = draw.standard_normal((DRAWS, len(scale))) @ root.T
    spread = np.sqrt(draw.chisquare(df, DRAWS) / df)
    return float(np.quantile(np.abs(normal).max(axis=1) / spread, level))


def seeds_needed(difference: float, sd: float, rows: int, family: int = 1) -> int | None:
    """The least number of paired seeds at which a true difference is found with POWER.

    `sd` is the noise of one run in points; the variance is pooled over `rows`, the level shared by `family`
    comparisons (Bonferroni).  None where no number up to 10,000 does, or nothing is known.
    """
    if not (math.isfinite(sd) and sd > 0 and difference != 0):
        return None
    low, high = 2, 10_000
    if not _enough(high, abs(difference), sd, rows, family):
        return None
    while low < high:
        middle = (low + high) // 2
        if _enough(middle, abs(difference), sd, rows, family):
            high = middle
        else:
            low = middle + 1
    return low


def _enough(n: int, difference: float, sd: float, rows: int, family: int) -> bool:
    df = (n - 1) * (rows - 1)
    critical = stats.t.ppf(1 - (1 - LEVEL) / (2 * family), df)
    return bool(difference / (sd * math.sqrt(2 / n)) >= critical + stats.t.ppf(POWER, df))


@dataclass(frozen=True)
class Correlation:
    """Pearson's r of n points with Fisher's interval, and Spearman's rank correlation beside it."""

    n: int
    pearson: float
    low: float
    high: float
    spearman: float


def correlation(x: Sequence[float], y: Sequence[float]) -> Correlation:
    """How two columns go together; the interval needs four points and takes them as independent."""
    n = len(x)
    if n < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(n, math.nan, math.nan, math.nan, math.nan)
    pearson = float(stats.pearsonr(x, y).statistic)
    spearman = float(stats.spearmanr(x, y).statistic)
    if n < 4:
        return Correlation(n, pearson, math.nan, math.nan, spearman)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) / math.sqrt(n - 3)
    centre = math.atanh(float(np.clip(pearson, -1 + 1e-12, 1 - 1e-12)))
    return Correlation(n, pearson, math.tanh(centre - half), math.tanh(centre + half), spearman)


def same_images(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """McNemar's exact test of two runs on the same images: p-value that neither is better (bool arrays [N])."""
    only_a, only_b = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b).pvalue)
