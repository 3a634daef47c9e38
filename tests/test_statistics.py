"""Statistics against scipy, printed tables, worked cases and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdnb.errors import KdnbError
from kdnb.study.statistics import (
    LargestT,
    Layout,
    _root,
    correlation,
    one_sample,
    paired,
    seeds_needed,
    summaries,
)


def frame(table: dict[str, list[float | None]]) -> pd.DataFrame:
    lines = [(row, seed, v) for row, values in table.items() for seed, v in enumerate(values, 1) if v is not None]
    return pd.DataFrame(lines, columns=["row", "seed", "value"])


def noise(rows: int, seeds: int, sd: float = 0.5, start: int = 0, common: float = 3.0) -> pd.DataFrame:
    """Row i has the mean 70 + i; what seeds have in common must cancel."""
    draw = np.random.default_rng(start)
    shift = draw.normal(0, common, seeds)
    return frame({f"r{i}": list(70 + i + shift + draw.normal(0, sd, seeds)) for i in range(rows)})


def many_to_one(comparisons: int) -> np.ndarray:
    """Correlations of k rows against one: one half each."""
    return np.full((comparisons, comparisons), 0.5) + 0.5 * np.eye(comparisons)


def test_a_summary_is_students_interval():
    (found,) = summaries(frame({"kd": [69.1, 70.2, 69.9]}))
    low, high = stats.t.interval(0.95, 2, loc=found.mean, scale=stats.sem([69.1, 70.2, 69.9]))
    assert (found.n, found.mean) == (3, pytest.approx(69.7333, abs=1e-4))
    assert found.std == pytest.approx(np.std([69.1, 70.2, 69.9], ddof=1))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_one_seed_has_a_mean_and_nothing_else():
    (found,) = summaries(frame({"kd": [69.1]}))
    assert (found.n, found.mean) == (1, 69.1)
    assert math.isnan(found.std) and math.isnan(found.low) and math.isnan(found.high)


def test_two_rows_are_the_paired_t_test():
    a, b = [71.0, 70.4, 72.1, 70.9], [70.0, 70.1, 70.8, 70.6]
    (found,) = paired(frame({"a": a, "b": b}), reference="b")
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (found.a, found.b, found.n, found.method) == ("a", "b", 4, "pooled")
    assert found.value == pytest.approx(0.725)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.turned().value, found.turned().low) == (-found.value, -found.high)


def test_seventeen_rows_and_three_seeds_leave_32_degrees_of_freedom():
    layout = Layout(noise(17, 3))
    assert layout.df == 32
    residual = layout.table - layout.table.mean(axis=0) - layout.table.mean(axis=1).to_numpy()[:, None]
    residual += layout.table.to_numpy().mean()
    assert layout.sd == pytest.approx(math.sqrt((residual.to_numpy() ** 2).sum() / 32))


def test_a_worked_layout():
    # Row means 3, 5, 10 and seed effects -1, 1; the residuals are -1 1 | 1 -1 | 0 0: squares 4, df 2.
    layout = Layout(frame({"a": [1.0, 5.0], "b": [5.0, 5.0], "c": [9.0, 11.0]}))
    assert layout.df == 2 and layout.sd == pytest.approx(math.sqrt(2))
    (found,) = layout.differences([("c", "a")])
    half = stats.t.ppf(0.975, 2) * math.sqrt(2) * math.sqrt(2 / 2)
    assert (found.value, found.low, found.high) == pytest.approx((7, 7 - half, 7 + half))


# Dunnett 1964, two-sided 5 %: comparisons, degrees of freedom, quantile.
@pytest.mark.parametrize(
    ("comparisons", "df", "printed"),
    [(1, 10, 2.23), (2, 10, 2.57), (4, 20, 2.65), (5, 5, 3.62), (9, 20, 2.95), (9, 60, 2.77)],
)
def test_the_largest_t_is_dunnetts_two_sided_table(comparisons, df, printed):
    assert LargestT(many_to_one(comparisons)).critical(df) == pytest.approx(printed, abs=0.008)


@pytest.mark.parametrize(("rows", "df"), [(3, 4), (4, 12), (6, 40)])
def test_all_pairs_are_tukeys(rows, df):
    unit = np.eye(rows)
    contrasts = np.array([unit[i] - unit[j] for i in range(rows) for j in range(i)])
    tukey = stats.studentized_range.ppf(0.95, rows, df) / math.sqrt(2)
    assert LargestT(contrasts @ contrasts.T).critical(df) == pytest.approx(tukey, abs=0.01)


def test_a_comparison_told_twice_and_turned_is_one():
    turned = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert LargestT(turned).critical(7) == pytest.approx(stats.t.ppf(0.975, 7))
    assert math.isnan(LargestT(turned).critical(0))


def test_alike_rows_have_the_same_quantile_whatever_eigenvectors_a_library_takes(monkeypatch):
    """Equal correlations have equal eigenvalues: any basis of their space is right, and processors differ in theirs."""
    everybody_against_everybody = np.array([np.eye(4)[i] - np.eye(4)[j] for i in range(4) for j in range(i)])
    monkeypatch.setattr("numpy.linalg.eigh", None)
    for contrasts in (np.eye(5), everybody_against_everybody):
        root = _root(contrasts @ contrasts.T)
        assert root.shape[1] == np.linalg.matrix_rank(contrasts)
        assert np.allclose(root @ root.T, contrasts @ contrasts.T) and np.allclose(root, np.tril(root))


def test_intervals_agree_with_scipys_dunnett():
    draw = np.random.default_rng(5)
    groups = [draw.normal(mean, 1, 30) for mean in (0, 0.2, 0.8, -0.4)]
    theirs = stats.dunnett(*groups[1:], control=groups[0], random_state=np.random.default_rng(1))
    interval = theirs.confidence_interval()
    sd = math.sqrt(np.mean([group.var(ddof=1) for group in groups]))
    critical = (interval.high - interval.low) / 2 / (sd * math.sqrt(2 / 30))
    assert LargestT(many_to_one(3)).critical(4 * 29) == pytest.approx(float(critical.mean()), abs=0.02)


def test_simultaneous_intervals_cover_as_often_as_they_say():
    pairs = [(f"r{i}", "r0") for i in range(1, 6)]
    studies = 400
    covered = 0
    for start in range(studies):
        found = Layout(noise(6, 3, start=start)).differences(pairs)
        covered += all(d.low <= i <= d.high for i, d in enumerate(found, 1))
    assert 0.917 <= covered / studies <= 0.983  # 95 % and three standard errors


@pytest.mark.parametrize("common", [0.0, 0.5])
def test_intervals_against_a_constant_cover_although_seeds_are_shared(common):
    studies = 150
    covered, halves = 0, []
    for start in range(studies):
        found = Layout(noise(8, 3, start=start, common=common)).against(80.0, "teacher", [f"r{i}" for i in range(8)])
        covered += all(d.low <= i - 10 <= d.high for i, d in enumerate(found))
        halves.append((found[0].high - found[0].low) / 2)
    assert 0.9 <= covered / studies <= 0.995
    assert np.median(halves) < 0.5 / math.sqrt(3) * stats.t.ppf(1 - 0.025 / 8, 2)  # narrower than each row alone


def test_missing_cells_are_least_squares():
    table = noise(5, 4)
    layout = Layout(table.drop(table.index[[1, 7, 18]]))
    left = table.drop(table.index[[1, 7, 18]])
    design = pd.get_dummies(left[["row", "seed"]].astype(str)).to_numpy(float)
    solution, _, rank, _ = np.linalg.lstsq(design, left["value"].to_numpy(), rcond=None)
    residual = left["value"].to_numpy() - design @ solution
    assert layout.df == len(left) - rank == 17 - 8
    assert layout.sd == pytest.approx(math.sqrt(residual @ residual / (len(left) - rank)))
    (found,) = layout.differences([("r3", "r1")])
    assert found.value == pytest.approx(solution[3] - solution[1])
    assert found.n == 3  # r1 lacks a seed


def test_seeds_in_common_cancel_where_cells_are_missing():
    table = noise(5, 4, sd=1e-9)
    (found,) = Layout(table.drop(table.index[[1, 7]])).differences([("r3", "r1")])
    assert found.value == pytest.approx(2, abs=1e-6)


def unequal(wild: int) -> dict[str, list[float | None]]:
    """Eight quiet rows, and so many wild ones."""
    draw = np.random.default_rng(3)
    quiet = {f"r{i}": list(70 + draw.normal(0, 0.05, 6)) for i in range(8)}
    return quiet | {f"wild{i}": list(70 + draw.normal(0, 30, 6)) for i in range(wild)}


def test_unequal_variances_fall_back_to_the_pairs_alone():
    """Where more than one row in five is wild."""
    table = unequal(wild=3)
    layout = Layout(frame(table))
    assert not layout.pooled and not layout.odd
    found, wild = layout.differences([("r1", "r0"), ("wild0", "r0")])
    assert {found.method, wild.method} == {"pairs alone"}
    differences = np.array(table["r1"]) - np.array(table["r0"])
    half = stats.t.ppf(1 - 0.05 / 4, 5) * stats.sem(differences)
    assert (found.low, found.high) == pytest.approx((differences.mean() - half, differences.mean() + half))
    near, far = layout.seeds_needed([("r1", "r0"), ("wild0", "r0")], [0.2, 0.2])
    assert near is not None and near < 10
    assert far is None or far > 1000
    assert layout.against(70.0, "teacher", ["r1"])[0].method == "pairs alone"


def test_a_wild_row_is_set_aside_and_the_others_stay_pooled():
    """It costs them nothing but their share of the level; it is compared by its own pairs."""
    table = frame(unequal(wild=1))
    layout, quiet = Layout(table), Layout(table[table["row"] != "wild0"])
    assert layout.odd == ["wild0"] and layout.pooled and (layout.sd, layout.df) == (quiet.sd, quiet.df)
    pairs = [("r1", "r0"), ("r2", "r0"), ("wild0", "r0")]
    *found, wild = layout.differences(pairs)
    assert [d.method for d in (*found, wild)] == ["pooled", "pooled", "pairs alone"]
    assert found == quiet.differences(pairs[:2], 1 - 0.05 * 2 / 3)
    assert wild == one_sample("wild0", "r0", wild_differences(table), 3)
    assert layout.against(70.0, "teacher", ["r1", "wild0"])[1].method == "pairs alone"
    near, far = layout.seeds_needed([("r1", "r0"), ("wild0", "r0")], [0.2, 0.2])
    assert near is not None and near < 10 and (far is None or far > 1000)
    places, known = layout.ranks(), quiet.ranks()
    assert places["wild0"] == (1, 9)
    assert all(places[row][0] == known[row][0] and places[row][1] == known[row][1] + 1 for row in known)
    t = wild_differences(table).mean() / stats.sem(wild_differences(table))
    assert layout.probability("wild0", "r0") == pytest.approx(stats.t.cdf(t, 5))


def test_a_row_that_is_set_apart_beforehand_lends_the_others_none_of_its_quiet():
    """Near the floor runs are alike, which says nothing of those that learned."""
    table = noise(6, 6, common=0.0)
    still = pd.DataFrame([("still", seed, 1.0 + seed / 1000) for seed in range(1, 7)], columns=["row", "seed", "value"])
    apart = Layout(pd.concat([table, still]), ["still", "not there"])
    alone, together = Layout(table), Layout(pd.concat([table, still]))
    assert apart.odd == ["still"] and (apart.sd, apart.df) == (alone.sd, alone.df) and together.sd < alone.sd
    near, far = apart.differences([("r1", "r0"), ("still", "r0")])
    assert (near.method, far.method) == ("pooled", "pairs alone")


def test_rows_that_are_set_apart_stay_so_where_the_others_vary_too_differently_to_pool():
    """The noise of what did not learn lies between the others', so that with it the whole table might look even."""
    pooled = 0
    for start in range(60):
        draw = np.random.default_rng(start)
        usual = {f"r{i}": list(60 + draw.normal(0, 6.0 if i < 3 else 1.0, 6)) for i in range(8)}
        layout = Layout(frame(usual | {"fallen": list(5 + draw.normal(0, 4.0, 6))}), ["fallen"])
        alone = Layout(frame(usual))
        assert "fallen" in layout.odd and layout.pooled == alone.pooled
        assert layout.differences([("fallen", "r4")])[0].method == "pairs alone"
        if not layout.pooled:
            assert layout.odd == ["fallen"] and (layout.sd, layout.df) == (alone.sd, alone.df)
            assert layout.differences([("r5", "r4")])[0].method == "pairs alone"
            assert layout.against(60.0, "teacher", ["r4"])[0].method == "pairs alone"
        pooled += layout.pooled
    assert 0 < pooled < 60


def wild_differences(table: pd.DataFrame) -> np.ndarray:
    wide = table.pivot(index="seed", columns="row", values="value")
    return (wide["wild0"] - wide["r0"]).to_numpy()


def test_setting_rows_aside_keeps_the_level():
    """No difference is there: a table of one wild row and eleven others decides one falsely in some twenty tables."""
    false, tables = 0, 400
    for start in range(tables):
        table = noise(11, 4, start=start).assign(value=lambda t: t["value"] - t["row"].str[1:].astype(int))
        draw = np.random.default_rng(10_000 + start)
        seeds = table[table["row"] == "r0"].assign(row="wild")
        table = pd.concat([table, seeds.assign(value=seeds["value"] + draw.normal(0, 20, 4))])
        found = Layout(table).differences([(row, "r0") for row in table["row"].unique() if row != "r0"])
        false += any(d.low > 0 or d.high < 0 for d in found)
    assert false / tables < 0.09


def test_rows_that_share_no_two_seeds_are_not_ranked():
    """A row of another seed, however good, is beaten by nobody and beats nobody."""
    table = frame({"a": [70, 71, 72, None], "b": [60, 61.1, 62, None], "c": [None, None, None, 90]})
    layout = Layout(table)
    assert layout.ranks() == {"a": (1, 2), "b": (2, 3), "c": (1, 3)}
    assert math.isnan(layout.probability("c", "a")) and layout.probability("a", "b") > 0.99


def test_equal_variances_are_rarely_called_unequal():
    p = np.array([Layout(noise(17, 3, start=start)).equal for start in range(200)])
    assert (p < 0.01).mean() <= 0.03
    assert 0.02 <= (p < 0.05).mean() <= 0.09


def test_one_seed_gives_a_difference_and_no_interval():
    layout = Layout(frame({"a": [71.0], "b": [70.0]}))
    (found,) = layout.differences([("a", "b")])
    assert (found.value, found.n, found.method) == (pytest.approx(1.0), 1, "one seed")
    assert not found.known
    assert not layout.against(80.0, "teacher", ["a"])[0].known
    assert layout.seeds_needed([("a", "b")], [1.0]) == [None]
    assert not one_sample("a", "b", np.array([1.0])).known


def test_a_row_of_one_seed_gets_no_interval_from_the_others():
    table = noise(6, 3)
    table = table[(table["row"] != "r5") | (table["seed"] == 2)]
    first, second = Layout(table).differences([("r5", "r0"), ("r4", "r0")])
    assert first.n == 1 and not first.known and first.value == pytest.approx(5, abs=2)
    assert second.n == 3 and second.known
    assert not Layout(table).against(80.0, "teacher", ["r5"])[0].known


def test_rows_without_a_common_seed_are_not_compared():
    (found,) = Layout(frame({"a": [71.0, 71.2, None, None], "b": [None, None, 70.0, 70.1]})).differences([("a", "b")])
    assert found.n == 0 and math.isnan(found.value) and not found.known


def test_a_row_that_was_not_measured_is_named():
    with pytest.raises(KdnbError, match="no measured row called 'crd'"):
        Layout(noise(3, 3)).differences([("crd", "r1")])


def test_a_run_that_stands_twice_is_named():
    table = noise(3, 3)
    with pytest.raises(KdnbError, match="'r1' has seed 2 twice"):
        Layout(pd.concat([table, table.iloc[[4]]]))


def test_seeds_needed_are_enough_and_no_more():
    family, draw = LargestT(many_to_one(3)), np.random.default_rng(0)
    n = seeds_needed(0.5, math.sqrt(2) * 0.3, df_per_seed=16, largest=family)
    assert n is not None

    def power(seeds: int, studies: int = 4000) -> float:
        difference = draw.normal(0.5, 0.3 * math.sqrt(2 / seeds), studies)
        df = (seeds - 1) * 16
        sd = 0.3 * np.sqrt(draw.chisquare(df, studies) / df)
        return float((difference / (sd * math.sqrt(2 / seeds)) > family.critical(df)).mean())

    assert power(n) > 0.78 and power(n - 1) < 0.82


def test_seeds_needed_of_one_comparison_are_the_textbooks():
    # Paired t-test, effect 0.5 standard deviations, 80 %: 34 pairs (and 33 give 79 %).
    assert seeds_needed(0.5, 1.0) == 34
    assert seeds_needed(-0.5, 1.0) == 34
    assert seeds_needed(0.5, 1.0, df_per_seed=16) == 32
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(0.1, math.nan) is None
    assert seeds_needed(0.001, 1.0) is None


def test_a_layout_knows_the_seeds_its_family_needs():
    layout = Layout(noise(17, 3))
    alone = layout.seeds_needed([("r1", "r0")], [0.5])[0]
    pairs = [(f"r{i}", "r0") for i in range(1, 17)]
    in_family = layout.seeds_needed(pairs, [0.5] * 16)[0]
    assert alone is not None and in_family is not None
    assert 10 < alone < in_family < 3 * alone


def test_correlation_is_scipys_with_fishers_interval():
    x, y = [1.0, 2.0, 3.0, 4.0, 5.5], [1.1, 1.9, 3.5, 3.0, 6.0]
    found = correlation(x, y)
    theirs = stats.pearsonr(x, y)
    assert found.pearson == pytest.approx(theirs.statistic)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert found.spearman == pytest.approx(0.9)
    assert math.isnan(correlation([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]).low)
    assert math.isnan(correlation([1.0, 1.0, 1.0, 1.0], y[:4]).pearson)


def test_runs_that_repeat_each_other_to_the_last_have_the_noise_of_rounding():
    """Twenty test images: two seeds with one score each are no certainty."""
    (found,) = paired(frame({"plain": [50.0, 50.0], "kd": [55.0, 55.0]}))
    assert found.known and found.low < 0 < found.high
    assert Layout(frame({"a": [50.0, 50.0], "b": [50.0, 50.0]})).sd == pytest.approx(0, abs=1e-9)
