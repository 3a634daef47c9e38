"""Comparisons of methods, paired by seed.

With few seeds the variance is pooled over all rows: value = row + seed + noise, and the noise of the whole
table gives one standard deviation with many degrees of freedom (17 rows x 3 seeds: 32).  The comparisons that
one claim rests on share one level: their intervals are simultaneous, of Dunnett's kind, that is by the
distribution of the largest |t| of them all.  A row whose variance is too large for pooling is set aside: it is
compared by its own pairs alone, and its intervals say so.  Where too many rows are like that, nothing is pooled.

Values are percent, differences points.  A tidy frame has one line a run, with the columns row, seed, value.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import optimize, stats

from kdnb.errors import KdnbError, unknown

LEVEL = 0.95
POWER = 0.8
#: Noise below this share of the largest value is that of arithmetic.
ROUNDING = 1e-9
#: Below this p-value the variances are too unequal to pool.
UNEQUAL = 0.01
#: Of so many rows one may be set aside for its variance; where more would have to be, variances differ altogether.
ROWS_FOR_AN_ODD_ONE = 5
#: Tables drawn without any effect, for the test of equal variances.
NULL_TABLES = 2_000
#: Fewer seeds say too little of what seeds have in common for an interval of a single row's mean.
SEEDS_FOR_A_MEAN = 3
#: No more seeds than this are searched.
MOST_SEEDS = 10_000

POOLED, PAIRS_ALONE, ONE_SEED = "pooled", "pairs alone", "one seed"


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

    `n` counts the seeds that both have.  `method` says how the interval was made: `pooled`, `pairs alone`, or
    `one seed`, where `low` and `high` are NaN.  `sd` is the standard deviation that it rests on, of one run where it
    is pooled and else of one difference, with `df` degrees of freedom; half the interval is `critical` standard errors.
    """

    a: str
    b: str
    value: float
    low: float
    high: float
    n: int
    method: str
    sd: float = math.nan
    df: float = math.nan
    critical: float = math.nan

    @property
    def known(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    def turned(self) -> Difference:
        """The same comparison seen from the other side: `b` less `a`."""
        return replace(self, a=self.b, b=self.a, value=-self.value, low=-self.high, high=-self.low)


def summaries(frame: pd.DataFrame) -> list[Summary]:
    """A summary of each row of a tidy frame, in its order."""
    rows = frame.dropna(subset=["value"]).groupby("row", sort=False)["value"]
    return [_summary(str(row), values.to_numpy(float)) for row, values in rows]


def _summary(row: str, values: np.ndarray) -> Summary:
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Summary(row, n, mean, math.nan, math.nan, math.nan)
    std = float(values.std(ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * std / math.sqrt(n)
    return Summary(row, n, mean, std, mean - half, mean + half)


def paired(frame: pd.DataFrame, reference: str = "plain", level: float = LEVEL) -> list[Difference]:
    """Every row of a tidy frame less the reference row: Dunnett's many-to-one comparisons."""
    layout = Layout(frame)
    return layout.differences([(row, reference) for row in layout.rows if row != reference], level)


class Layout:
    """The additive model of one table: value = row + seed + noise, by least squares; cells may be missing.

    `sd` is the noise's standard deviation in points with `df` degrees of freedom; `equal` the p-value of the
    test that all rows have the same, and `pooled` whether that is believed.  `odd` are the rows whose noise is too
    large for the others, and those that are set `apart` beforehand: the model is fitted without them, and they are
    compared by their pairs alone.  Where too many others would have to join them, variances differ altogether: only
    those set apart are odd, and nothing is pooled.
    """

    def __init__(self, frame: pd.DataFrame, apart: Collection[str] = ()) -> None:
        self.table = _seeds_by_rows(frame)
        self.rows = [str(row) for row in self.table.columns]
        set_apart = [row for row in self.rows if row in apart]
        self._fit, self.odd = self._without_odd_ones(set_apart)
        self.sd, self.df, self.equal = self._fit.sd, self._fit.df, self._fit.equal
        self.pooled = not self.equal < UNEQUAL

    def _without_odd_ones(self, set_apart: list[str]) -> tuple[_Fit, list[str]]:
        """The model of the rows that are not odd, and those that are; without those `set_apart`, in any case."""
        whole = fit = self._fitted(set_apart)
        odd = list(set_apart)
        while fit.equal < UNEQUAL:
            if len(odd) - len(set_apart) == len(self.rows) // ROWS_FOR_AN_ODD_ONE:
                return whole, set_apart
            odd.append(fit.noisiest)
            fit = self._fitted(odd)
        return fit, odd

    def _fitted(self, odd: list[str]) -> _Fit:
        """The model of all rows but these."""
        return _fit(self.table.drop(columns=odd).dropna(how="all"))

    def differences(self, pairs: Sequence[tuple[str, str]], level: float = LEVEL) -> list[Difference]:
        """Simultaneous intervals for all `pairs` (a, b) of rows; an error names a row that was not measured."""
        self._known(row for pair in pairs for row in pair)
        found = {pair: self._by_pair(*pair, len(pairs), level) for pair in pairs if self._alone(*pair)}
        together = [pair for pair in pairs if pair not in found]
        if together:
            found |= dict(zip(together, self._together(together, _left(level, len(together), len(pairs))), strict=True))
        return [found[pair] for pair in pairs]

    def _together(self, pairs: Sequence[tuple[str, str]], level: float) -> list[Difference]:
        """Pairs of rows that share their noise, by the largest |t| of them all."""
        contrasts = self._contrasts(pairs)
        covariance = contrasts @ self._fit.inverse @ contrasts.T
        critical = LargestT(covariance).critical(self.df, level)
        half = critical * self.sd * np.sqrt(np.diag(covariance).clip(0))
        values = contrasts @ self._fit.effects
        return [self._pooled(a, b, v, h, critical) for (a, b), v, h in zip(pairs, values, half, strict=True)]

    def against(self, constant: float, name: str, rows: Sequence[str], level: float = LEVEL) -> list[Difference]:
        """The means of rows less a constant (a teacher's score, called `name`), simultaneous over `rows`.

        Here what a seed does to all rows does not cancel.  A mean varies by (seeds + noise) / n; both are pooled
        over the table and carry the degrees of freedom of Satterthwaite's approximation.
        """
        self._known(rows)
        sd, df = self._single()
        critical = LargestT(np.eye(len(rows))).critical(df, level)  # as if independent: Sidak's bound
        found = []
        for row in rows:
            values = self.table[row].dropna().to_numpy(float) - constant
            alone = one_sample(row, name, values, len(rows), level)
            half = critical * sd / math.sqrt(max(len(values), 1))
            pooled = replace(alone, low=alone.value - half, high=alone.value + half, method=POOLED)
            pooled = replace(pooled, sd=sd, df=df, critical=critical)
            believed = math.isfinite(half) and len(values) > 1 and row not in self.odd
            found.append(pooled if believed else alone)
        return found

    def ranks(self, rows: Sequence[str] | None = None, level: float = LEVEL) -> dict[str, tuple[int, int]]:
        """Row -> the best and the worst place it may have among `rows`, or all: behind those that are better, before
        those that are worse.

        Over all pairs together: Tukey's intervals, and by Bonferroni those of pairs that do not share their noise.
        Rows that share fewer than two seeds are not ranked against each other.
        """
        rows = self.rows if rows is None else rows
        self._known(rows)
        pairs = list(itertools.combinations(rows, 2))
        alone = [pair for pair in pairs if self._alone(*pair)]
        together = len(pairs) - len(alone)
        level_together = _left(level, together, len(pairs))
        sharing = len([row for row in rows if row not in self.odd])
        critical = _range_of(sharing, self.df, level_together) / math.sqrt(2) if together else math.nan
        better, worse = dict.fromkeys(rows, 0), dict.fromkeys(rows, 0)
        for a, b in pairs:
            if self._shared(a, b) < 2:
                continue
            if self._alone(a, b):
                found = self._by_pair(a, b, len(pairs), level)
                value, half = found.value, found.high - found.value
            else:
                value, spread = self._contrast(a, b)
                half = critical * self.sd * spread
            if abs(value) > half:
                above, below = (a, b) if value > 0 else (b, a)
                better[below] += 1
                worse[above] += 1
        return {row: (1 + better[row], len(rows) - worse[row]) for row in rows}

    def probability(self, a: str, b: str) -> float:
        """How likely row a's mean is above b's, by the pooled noise, or that of the pair alone, and nothing known
        before; NaN if unknown, or from fewer than two seeds that both have.
        """
        self._known((a, b))
        if self._shared(a, b) < 2:
            return math.nan
        if self._alone(a, b):
            alone = self._by_pair(a, b, 1, LEVEL)
            value, error, df = alone.value, alone.sd / math.sqrt(alone.n), alone.df
        else:
            value, spread = self._contrast(a, b)
            error, df = self.sd * spread, self.df
        return float(stats.t.cdf(value / error, df)) if df > 0 and error > 0 else math.nan

    def seeds_needed(
        self, pairs: Sequence[tuple[str, str]], sizes: Sequence[float], level: float = LEVEL
    ) -> list[int | None]:
        """Paired seeds that true differences of these sizes need, each within the family of all `pairs`."""
        self._known(row for pair in pairs for row in pair)
        together = [pair for pair in pairs if not self._alone(*pair)]
        contrasts = self._contrasts(together)
        largest, sd = LargestT(contrasts @ contrasts.T) if together else None, math.sqrt(2) * self.sd
        level_together, level_alone = _left(level, len(together), len(pairs)), _left(level, 1, len(pairs))
        found = []
        for (a, b), size in zip(pairs, sizes, strict=True):
            if self._alone(a, b):
                spread = float((self.table[a] - self.table[b]).std())
                found.append(seeds_needed(size, spread, level=level_alone))
            else:
                found.append(seeds_needed(size, sd, len(self._fit.rows) - 1, largest, level_together))
        return found

    def seeds_needed_against(
        self, rows: Sequence[str], sizes: Sequence[float], level: float = LEVEL
    ) -> list[int | None]:
        """The like for means less a constant."""
        self._known(rows)
        sd, df = self._single()
        largest, by_seed = LargestT(np.eye(len(rows))), df / max(len(self._complete()) - 1, 1)
        found = []
        for row, size in zip(rows, sizes, strict=True):
            if math.isfinite(df) and row not in self.odd:
                found.append(seeds_needed(size, sd, by_seed, largest, level))
            else:
                spread = float(self.table[row].std())
                found.append(seeds_needed(size, spread, level=_left(level, 1, len(rows))))
        return found

    def _alone(self, a: str, b: str) -> bool:
        """Whether two rows are compared by their pairs alone."""
        return not self.pooled or a in self.odd or b in self.odd

    def _shared(self, a: str, b: str) -> int:
        """The seeds that both rows have."""
        return int((self.table[a].notna() & self.table[b].notna()).sum())

    def _contrast(self, a: str, b: str) -> tuple[float, float]:
        """Row a less row b by the model, and its standard error in standard deviations of one run."""
        (contrast,) = self._contrasts([(a, b)])
        variance = float(contrast @ self._fit.inverse @ contrast)
        return float(contrast @ self._fit.effects), math.sqrt(max(variance, 0.0))

    def _pooled(self, a: str, b: str, value: float, half: float, critical: float) -> Difference:
        n = self._shared(a, b)
        if n < 2 or not math.isfinite(half):
            return Difference(a, b, float(value) if n else math.nan, math.nan, math.nan, n, ONE_SEED)
        low, high = float(value - half), float(value + half)
        return Difference(a, b, float(value), low, high, n, POOLED, self.sd, self.df, critical)

    def _by_pair(self, a: str, b: str, family: int, level: float) -> Difference:
        return one_sample(a, b, (self.table[a] - self.table[b]).dropna().to_numpy(float), family, level)

    def _contrasts(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """One line a pair: +1 at the first row, -1 at the second."""
        unit = dict(zip(self._fit.rows, np.eye(len(self._fit.rows)), strict=True))
        return np.array([unit[a] - unit[b] for a, b in pairs])

    def _complete(self) -> np.ndarray:
        """The seeds that all rows have, but odd ones: [seeds, rows]."""
        return self.table.drop(columns=self.odd).dropna().to_numpy(float)

    def _single(self) -> tuple[float, float]:
        """Standard deviation of one run, seeds' common part included, and its degrees of freedom; NaN if unknown."""
        values = self._complete()
        n, rows = values.shape
        if not self.pooled or n < SEEDS_FOR_A_MEAN or rows < 2:
            return math.nan, math.nan
        noise = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
        seeds_part = float(values.mean(axis=1).var(ddof=1))
        noise_part = float((noise**2).sum()) / ((rows - 1) * (n - 1)) * (rows - 1) / rows
        variance = seeds_part + noise_part
        if variance == 0:
            return 0.0, math.inf
        df = variance**2 / (seeds_part**2 / (n - 1) + noise_part**2 / ((n - 1) * (rows - 1)))
        return math.sqrt(variance), df

    def _known(self, rows: Iterable[str]) -> None:
        for row in rows:
            if row not in self.rows:
                raise unknown("measured row", row, self.rows)


@dataclass(frozen=True)
class _Fit:
    """The additive model of some rows: their effects, `inverse` [rows, rows] for the variances of contrasts of these.

    `noisiest` is the row whose share in the sum of squares is the largest beside what is due to it.
    """

    rows: list[str]
    effects: np.ndarray
    inverse: np.ndarray
    sd: float
    df: int
    equal: float
    noisiest: str


def _fit(table: pd.DataFrame) -> _Fit:
    """value = row + seed + noise, by least squares; NaN where a run is missing."""
    rows, there = [str(row) for row in table.columns], table.notna().to_numpy(bool)
    seed, row = np.nonzero(there)
    design = np.hstack([np.eye(there.shape[1])[row], np.eye(there.shape[0])[seed]])
    solve = np.linalg.pinv(design)
    rest = np.eye(len(row)) - design @ solve  # takes a table to its residuals
    values = table.to_numpy(float)[there]
    residual, df = rest @ values, round(float(np.trace(rest)))
    squares, due = np.bincount(row, residual**2, len(rows)), np.bincount(row, np.diag(rest), len(rows))
    return _Fit(
        rows,
        effects=(solve @ values)[: len(rows)],
        inverse=(solve @ solve.T)[: len(rows), : len(rows)],
        sd=_noise(math.sqrt(float(residual @ residual) / df), values) if df > 0 else math.nan,
        df=df,
        equal=equal_variances(residual, rest, row),
        noisiest=rows[int(np.argmax(np.where(due > 1e-9, squares / np.maximum(due, 1e-9), 0)))] if rows else "",
    )


def _noise(sd: float, values: np.ndarray) -> float:
    """The standard deviation, or, where runs of few test images repeat each other to the last, that of rounding.

    Scores of N images are multiples of 1/N, and rounding to steps of a width varies by width / sqrt(12); the width is
    the least distance of two values.  Where all runs have one value there is no width to be seen.
    """
    if sd > ROUNDING * max(1.0, float(np.abs(values).max())):
        return sd
    steps = np.diff(np.unique(np.round(values, 9)))
    return float(steps.min()) / math.sqrt(12) if len(steps) else sd


def _left(level: float, part: int, family: int) -> float:
    """The level of so many comparisons of a family, the others having their share of what may go wrong."""
    return level if part == family else 1 - (1 - level) * part / family


def _seeds_by_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The table [seeds, rows], NaN where a run is missing; a run that stands there twice is an error."""
    frame = frame.dropna(subset=["value"])
    twice = frame[frame.duplicated(["row", "seed"])]
    if len(twice):
        row, seed = twice.iloc[0][["row", "seed"]]
        raise KdnbError(f"Row '{row}' has seed {seed} twice; keep one run of each row and seed.")
    return frame.pivot_table(index="seed", columns="row", values="value", sort=False)


def equal_variances(residual: np.ndarray, rest: np.ndarray, row: np.ndarray) -> float:
    """P-value that no row's noise is larger than the others' (Cochran's test, on the residuals of a layout).

    The statistic is the largest share of a row in the sum of squares, over the share it would have by its degrees
    of freedom.  Residuals of a layout are neither independent nor equally large, so the null distribution is drawn
    with the layout's own `rest` [cells, cells].  Levene's test, applied to such residuals of 3 seeds, rejects one
    table in seven at a nominal 1 %.
    """
    member = np.eye(row.max() + 1)[:, row] if len(row) else np.zeros((0, 0))
    due = member @ np.diag(rest)
    counted = due > 1e-9
    total = float(residual @ residual)
    if counted.sum() < 2 or total <= 1e-18:
        return math.nan

    def largest(residuals: np.ndarray) -> np.ndarray:
        squares = residuals**2
        shares = (member[counted] @ squares) / squares.sum(axis=0) / due[counted, None]
        return np.asarray(shares.max(axis=0))

    null = largest(rest @ np.random.default_rng(20211101).standard_normal((len(residual), NULL_TABLES)))
    beyond = null >= largest(residual[:, None]) * (1 - 1e-9)
    return float(1 + beyond.sum()) / (1 + NULL_TABLES)


def one_sample(a: str, b: str, differences: np.ndarray, family: int = 1, level: float = LEVEL) -> Difference:
    """The interval of a mean of differences by Student's t, Bonferroni over `family` comparisons."""
    n, value = len(differences), float(differences.mean()) if len(differences) else math.nan
    if n < 2:
        return Difference(a, b, value, math.nan, math.nan, n, ONE_SEED)
    critical, sd = float(stats.t.ppf(1 - (1 - level) / (2 * family), n - 1)), float(differences.std(ddof=1))
    half = critical * sd / math.sqrt(n)
    return Difference(a, b, value, value - half, value + half, n, PAIRS_ALONE, sd, n - 1, critical)


class LargestT:
    """The distribution of max |t_i|: normal contrasts of this covariance over one pooled standard deviation.

    Any correlation will do, singular ones too: max |z| comes from quasi-random draws with a fixed seed, and its
    quotient by the standard deviation from integration.  Quantiles are good to about 0.005.
    """

    def __init__(self, covariance: np.ndarray) -> None:
        scale = np.sqrt(np.clip(np.diag(covariance), 1e-300, None))
        correlation = np.round(covariance / np.outer(scale, scale), 9)
        self.draws = _largest_z(correlation.tobytes(), len(scale))
        self._quantiles: dict[tuple[float, float], float] = {}

    def below(self, value: float, df: float) -> float:
        """P(max |t| <= value), a mean over what the pooled standard deviation may come out as."""
        return float((np.searchsorted(self.draws, value * _spread(df)) / len(self.draws)).mean())

    def critical(self, df: float, level: float = LEVEL) -> float:
        """The level-quantile; NaN without degrees of freedom."""
        if not df > 0:
            return math.nan
        if self.draws.size == 0:  # one comparison: Student's t itself
            return float(stats.t.ppf((1 + level) / 2, df))
        if (df, level) not in self._quantiles:
            self._quantiles[df, level] = self._quantile(df, level)
        return self._quantiles[df, level]

    def _quantile(self, df: float, level: float) -> float:
        top = 2.0
        while self.below(top, df) < level:
            top *= 2
        return float(optimize.brentq(lambda c: self.below(c, df) - level, 0, top, xtol=1e-4))


@functools.lru_cache(maxsize=32)
def _range_of(rows: int, df: float, level: float) -> float:
    """The level-quantile of the studentised range of so many means; NaN without degrees of freedom."""
    return float(stats.studentized_range.ppf(level, rows, df)) if df > 0 and rows > 1 else math.nan


@functools.lru_cache(maxsize=512)
def _spread(df: float) -> np.ndarray:
    """A sample standard deviation of `df` over the true one: the middles of slices of equal probability."""
    slices = (np.arange(1_000) + 0.5) / 1_000
    return np.sqrt(stats.chi2.ppf(slices, df) / df) if math.isfinite(df) else np.ones(1)


@functools.lru_cache(maxsize=32)
def _largest_z(correlation: bytes, size: int) -> np.ndarray:
    """Sorted draws of max |z_i| for a correlation matrix [size, size]; none for a single comparison."""
    root = _root(np.frombuffer(correlation).reshape(size, size))
    if root.shape[1] <= 1:
        return np.empty(0)
    points = stats.qmc.Sobol(root.shape[1], seed=20211101).random_base2(16).clip(1e-12, 1 - 1e-12)
    return np.sort(np.abs(stats.norm.ppf(points) @ root.T).max(axis=1))


def _root(correlation: np.ndarray) -> np.ndarray:
    """Cholesky's factor [size, rank] of a correlation matrix, singular or not: root @ root.T is the matrix.

    It is the only one of its shape, so that the draws are the same on every processor.  Eigenvectors are not: where
    rows are alike eigenvalues coincide, and each library takes other vectors for them.
    """
    rest, columns = correlation.copy(), []
    for place in range(len(rest)):
        if rest[place, place] > 1e-6:  # else this contrast follows from those before it
            columns.append(rest[:, place] / math.sqrt(rest[place, place]))
            rest -= np.outer(columns[-1], columns[-1])
    return np.stack(columns, axis=1)


def seeds_needed(
    difference: float,
    sd: float,
    df_per_seed: float = 1,
    largest: LargestT | None = None,
    level: float = LEVEL,
) -> int | None:
    """The least number of paired seeds at which a true difference is found with POWER.

    `sd` is the standard deviation of one seed's difference in points (of two runs: sqrt(2) times their noise); every
    seed after the first adds `df_per_seed` to the degrees of freedom (pooled: rows - 1); `largest` is the family.
    None where no number up to 10,000 does, or nothing is known.
    """
    if not (math.isfinite(sd) and sd > 0 and math.isfinite(difference) and difference != 0):
        return None
    largest = largest or LargestT(np.eye(1))
    low, high = 2, 2
    while not _found(high, abs(difference) / sd, df_per_seed, largest, level):
        if high > MOST_SEEDS:
            return None
        low, high = high + 1, 2 * high
    while low < high:
        middle = (low + high) // 2
        if _found(middle, abs(difference) / sd, df_per_seed, largest, level):
            high = middle
        else:
            low = middle + 1
    return low if low <= MOST_SEEDS else None


def _found(n: int, effect: float, df_per_seed: float, largest: LargestT, level: float) -> bool:
    """Whether n seeds find a difference of `effect` standard deviations with POWER."""
    df = (n - 1) * df_per_seed
    expected, critical = effect * math.sqrt(n), largest.critical(df, level)
    if expected > 2 * critical + 10:
        return True
    return bool(stats.nct.sf(critical, df, expected) >= POWER)


@dataclass(frozen=True)
class Correlation:
    """Pearson's r of n points with Fisher's interval, and Spearman's rank correlation beside it."""

    n: int
    pearson: float
    low: float
    high: float
    spearman: float


def correlation(x: Sequence[float], y: Sequence[float], level: float = LEVEL) -> Correlation:
    """How two columns go together.

    The interval is Fisher's, which takes the points as a sample of all there might be (methods, of all methods):
    what a sentence about methods in general needs.  More seeds sharpen the points but add none.  It needs four.
    """
    n = len(x)
    if n < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(n, math.nan, math.nan, math.nan, math.nan)
    pearson = float(stats.pearsonr(x, y).statistic)
    spearman = float(stats.spearmanr(x, y).statistic)
    if n < 4:
        return Correlation(n, pearson, math.nan, math.nan, spearman)
    half = float(stats.norm.ppf((1 + level) / 2)) / math.sqrt(n - 3)
    centre = math.atanh(float(np.clip(pearson, -1 + 1e-12, 1 - 1e-12)))
    return Correlation(n, pearson, math.tanh(centre - half), math.tanh(centre + half), spearman)
