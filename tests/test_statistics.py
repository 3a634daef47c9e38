"""Statistics against scipy, worked cases and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdnb.study.statistics import Layout, correlation, largest_t, one_sample, same_images, seeds_needed, summaries


def frame(table: dict[str, list[float | None]]) -> pd.DataFrame:
    lines = [(row, seed, v) for row, values in table.items() for seed, v in enumerate(values, 1) if v is not None]
    return pd.DataFrame(lines, columns=["row", "seed", "value"])


def noise(rows: int, seeds: int, sd: float = 0.5, start: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(start)
    shift = draw.normal(0, 3, seeds)  # what seeds have in common must cancel
    return frame({f"r{i}": list(70 + i + shift + draw.normal(0, sd, seeds)) for i in range(rows)})


def test_a_summary_is_students_interval():
    (found,) = summaries(frame({"kd": [69.1, 70.2, 69.9]}))
    low, high = stats.t.interval(0.95, 2, loc=found.mean, scale=stats.sem([69.1, 70.2, 69.9]))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert math.isnan(summaries(frame({"kd": [69.1]}))[0].low)


def test_two_rows_are_the_paired_t_test():
    table = frame({"a": [71.0, 70.4, 72.1, 70.9], "b": [70.0, 70.1, 70.8, 70.6]})
    (found,) = Layout(table).differences([("a", "b")])
    low, high = stats.ttest_rel([71.0, 70.4, 72.1, 70.9], [70.0, 70.1, 70.8, 70.6]).confidence_interval(0.95)
    assert found.value == pytest.approx(0.725)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)


def test_seventeen_rows_and_three_seeds_leave_32_degrees_of_freedom():
    layout = Layout(noise(17, 3))
    assert layout.df == 32
    residual = layout.table - layout.table.mean(axis=0) - layout.table.mean(axis=1).to_numpy()[:, None]
    residual += layout.table.to_numpy().mean()
    assert layout.sd == pytest.approx(math.sqrt((residual.to_numpy() ** 2).sum() / 32))


@pytest.mark.parametrize(("comparisons", "df", "printed"), [(1, 10, 2.23), (2, 10, 2.57), (4, 20, 2.65), (9, 60, 2.75)])
def test_the_largest_t_is_dunnetts_two_sided_table(comparisons, df, printed):
    covariance = np.full((comparisons, comparisons), 0.5) + 0.5 * np.eye(comparisons)
    assert largest_t(covariance, df) == pytest.approx(printed, abs=0.03)


def test_intervals_agree_with_scipys_dunnett_where_seeds_do_not_matter():
    draw = np.random.default_rng(5)
    control, *others = (draw.normal(m, 1, 40) for m in (0, 0.2, 0.8, -0.4))
    theirs = stats.dunnett(*others, control=control, random_state=np.random.default_rng(1)).confidence_interval()
    table = frame({"control": list(control), **{f"r{i}": list(v) for i, v in enumerate(others)}})
    ours = Layout(table).differences([(f"r{i}", "control") for i in range(3)])
    assert [d.high - d.low for d in ours] == pytest.approx(list(theirs.high - theirs.low), rel=0.06)


def test_simultaneous_intervals_cover_as_often_as_they_say():
    pairs = [(f"r{i}", "r0") for i in range(1, 6)]
    covered = 0
    for start in range(150):
        found = Layout(noise(6, 3, start=start)).differences(pairs)
        covered += all(d.low <= i <= d.high for i, d in enumerate(found, 1))
    assert 0.88 <= covered / 150 <= 1.0


def test_missing_cells_leave_the_others_comparable():
    table = noise(5, 4, sd=1e-9)
    (found,) = Layout(table.drop(table.index[[1, 7]])).differences([("r3", "r1")])
    assert found.value == pytest.approx(2, abs=1e-6)


def test_unequal_variances_fall_back_to_the_pairs_alone():
    draw = np.random.default_rng(3)
    table = {f"r{i}": list(70 + draw.normal(0, 0.05, 6)) for i in range(8)} | {"wild": list(70 + draw.normal(0, 30, 6))}
    layout = Layout(frame(table))
    assert not layout.pooled
    assert {d.method for d in layout.differences([("r1", "r0"), ("wild", "r0")])} == {"pairs alone"}


def test_one_seed_gives_a_difference_and_no_interval():
    (found,) = Layout(frame({"a": [71.0], "b": [70.0]})).differences([("a", "b")])
    assert found.value == pytest.approx(1.0) and not found.known
    assert not one_sample("a", "b", np.array([1.0])).known


def test_a_row_that_was_not_measured_is_named():
    with pytest.raises(KeyError, match="crd"):
        Layout(noise(3, 3)).differences([("crd", "r1")])


def test_seeds_needed_are_enough_and_no_more():
    n = seeds_needed(0.5, 0.3, rows=17, family=3)
    assert n is not None
    draw = np.random.default_rng(0)

    def found(seeds: int) -> float:
        hits = 0
        for _ in range(400):
            a, b = (draw.normal(m, 0.3, seeds) for m in (0.5, 0.0))
            critical = stats.t.ppf(1 - 0.05 / 6, (seeds - 1) * 16)
            hits += (a - b).mean() / (0.3 * math.sqrt(2 / seeds)) > critical
        return hits / 400

    assert found(n) > 0.74 and found(n - 1) < 0.84
    assert seeds_needed(0.0, 0.3, 17) is None
    assert seeds_needed(0.1, math.nan, 17) is None


def test_correlation_is_scipys_with_fishers_interval():
    x, y = [1.0, 2.0, 3.0, 4.0, 5.5], [1.1, 1.9, 3.5, 3.0, 6.0]
    found = correlation(x, y)
    theirs = stats.pearsonr(x, y)
    assert found.pearson == pytest.approx(theirs.statistic)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert found.spearman == pytest.approx(0.9)


def test_mcnemar_counts_only_where_they_differ():
    a = np.array([True] * 90 + [True] * 8 + [False] * 2)
    b = np.array([True] * 90 + [False] * 8 + [True] * 2)
    assert same_images(a, b) == pytest.approx(stats.binomtest(8, 10).pvalue)
    assert same_images(a, a) == 1.0
