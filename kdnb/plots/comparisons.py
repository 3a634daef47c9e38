"""Methods beside each other: gains, alone against combined, accuracy against cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdnb import exhibits
from kdnb.exhibits import Exhibit
from kdnb.plots.style import WIDTH, Plot, colour, combined, style
from kdnb.study.statistics import Layout, correlation
from kdnb.study.store import Store
from kdnb.tables.method import seconds_of_shared_stages
from kdnb.tables.results import TITLES, measured, title

PAPER_MARK: dict[str, Any] = {"marker": "D", "facecolors": "none", "edgecolors": "#555555", "linewidths": 1.1, "s": 26}


def gains(exhibit: Exhibit | str, profile: str = "demo", name: str = "gains") -> Plot:
    """Every row's gain over the plain student, in points: one dot a seed, their mean, the paper's as diamond.

    One panel for every data set that has measured students at paper scale, and for those of `profile`.
    """
    exhibit = exhibits.get(exhibit) if isinstance(exhibit, str) else exhibit
    frame = paired(exhibit, profile)
    panels = _panels(exhibit, frame, profile)
    rows = [row for row in exhibit.rows if row.role == "student"]
    printed = pd.DataFrame(
        {"row": row.key, "dataset": dataset, "reported": gain}
        for dataset in exhibit.datasets
        for row, gain in zip(rows, _printed(exhibit, dataset), strict=True)
    )
    with style():
        figure = Figure(figsize=(WIDTH, 0.27 * len(rows) + 1.0))
        places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (scale, dataset) in zip(places, panels, strict=True):
            part = frame[(frame["profile"] == scale) & (frame["dataset"] == dataset)]
            _gain_panel(axes, [row.key for row in rows], part, printed[printed["dataset"] == dataset])
            axes.set(title=f"{title(dataset)}: {_short(scale)}", xlabel="gain in points")
            axes.set_yticks(range(len(rows)), [row.label for row in rows])
            axes.set_ylim(len(rows) - 0.4, -0.6)
    caption = "Gain over the plain student of the same seed: dots are seeds, bars their means, bands simultaneous"
    caption += " 95 % intervals, diamonds the printed gains."
    return Plot(figure, name, caption, frame.merge(printed, how="left", on=["row", "dataset"]))


def rows(exhibit: Exhibit | str, profile: str = "demo", name: str = "") -> Plot:
    """Every row's score: one dot a seed, their mean as a bar; one panel a data set of every scale that has runs."""
    exhibit = exhibits.get(exhibit) if isinstance(exhibit, str) else exhibit
    frame = measured(exhibit, exhibit.rows, Store.open(), profile)
    panels = _panels(exhibit, frame, profile)
    with style():
        figure = Figure(figsize=(WIDTH, 0.3 * len(exhibit.rows) + 1.1))
        places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (scale, dataset) in zip(places, panels, strict=True):
            part = frame[(frame["profile"] == scale) & (frame["dataset"] == dataset)]
            for place, row in enumerate(exhibit.rows):
                _seeds(axes, place, part[part["row"] == row.key]["value"], row.method)
            axes.set(title=f"{title(dataset)}: {_short(scale)}", xlabel="percent")
            axes.set_yticks(range(len(exhibit.rows)), [row.label for row in exhibit.rows])
            axes.set_ylim(len(exhibit.rows) - 0.4, -0.6)
    caption = f"{exhibit.title}: dots are seeds, bars their means."
    return Plot(figure, name or exhibit.name, caption, frame.drop(columns=["path"]))


def paired(exhibit: Exhibit, profile: str, baseline: str = "plain") -> pd.DataFrame:
    """One line a run: its value less the baseline's of the same profile, data set and seed."""
    frame = measured(exhibit, exhibit.rows, Store.open(), profile)
    key = ["profile", "dataset", "seed"]
    base = frame[frame["row"] == baseline][[*key, "value"]].rename(columns={"value": "baseline"})
    joined = frame.merge(base, how="inner", on=key)
    joined = joined[~joined["row"].isin([baseline, "teacher"])]
    return joined.assign(gain=joined["value"] - joined["baseline"])


def alone_and_combined(exhibit: Exhibit | str, profile: str = "demo", name: str = "alone-and-combined") -> Plot:
    """Gain alone against gain with KD: the paper's points, and what was measured, with their correlations."""
    exhibit = exhibits.get(exhibit) if isinstance(exhibit, str) else exhibit
    measured_points = _measured_points(exhibit, profile)
    points = pd.concat([_printed_points(exhibit), *([measured_points] if len(measured_points) else [])])
    panels = list(points[["scale", "dataset"]].drop_duplicates().itertuples(index=False, name=None))
    with style():
        figure, places = _side_by_side(len(panels))
        for axes, (scale, dataset) in zip(places, panels, strict=True):
            part = points[(points["scale"] == scale) & (points["dataset"] == dataset)]
            _scatter(axes, part)
            axes.set(title=f"{title(dataset)}: {scale}", xlabel="gain alone", ylabel="gain with KD")
        _legend(figure, exhibit, points["row"].unique())
    told = "; ".join(_correlation(scale, dataset, points) for scale, dataset in panels)
    caption = f"Gain over the plain student, alone and with KD, in points. Correlation: {told}."
    return Plot(figure, name, caption, points)


def accuracy_and_cost(exhibit: Exhibit | str, profile: str = "demo", name: str = "accuracy-and-cost") -> Plot:
    """Mean score against mean training time: filled alone, hollow with KD."""
    exhibit = exhibits.get(exhibit) if isinstance(exhibit, str) else exhibit
    frame = measured(exhibit, exhibit.rows, Store.open(), profile)
    frame = frame[frame["row"] != "teacher"]
    panels = _panels(exhibit, frame, profile)
    means = frame.groupby(["profile", "dataset", "row"], sort=False)[["value", "wall_seconds"]].mean().reset_index()
    means["wall_seconds"] += [
        _first_step_seconds(exhibit, *place) for place in means[["profile", "dataset", "row"]].values
    ]
    with style():
        figure, places = _side_by_side(len(panels))
        for axes, (scale, dataset) in zip(places, panels, strict=True):
            for point in means[(means["profile"] == scale) & (means["dataset"] == dataset)].itertuples():
                _dot(axes, point.wall_seconds, point.value, point.row)
            axes.set(title=f"{title(dataset)}: {_short(scale)}", xlabel="seconds a run", ylabel="percent")
        _legend(figure, exhibit, means["row"].unique())
    caption = "Score against the time of a run in its cohort, first steps included: filled alone, hollow with KD."
    return Plot(figure, name, caption, means)


def _first_step_seconds(exhibit: Exhibit, profile: str, dataset: str, key: str) -> float:
    """What the stages take that come before the run's own and have records of their own."""
    (cell,) = exhibit.cells(profile, dataset, [exhibit.row(key)])
    return seconds_of_shared_stages(cell, Store.open())


def _panels(exhibit: Exhibit, frame: pd.DataFrame, profile: str) -> list[tuple[str, str]]:
    """(profile, data set) that have runs: paper scale and others first, the shown profile last."""
    there = set(frame[["profile", "dataset"]].itertuples(index=False, name=None))
    scales = [scale for scale in TITLES if scale not in (profile, "demo")] + [profile]
    found = [(s, d) for s in scales for d in exhibit.datasets_of(s) if (s, d) in there]
    return found or [(profile, exhibit.datasets_of(profile)[0])]


def _short(scale: str) -> str:
    return "paper scale" if scale == "paper" else scale


def _printed(exhibit: Exhibit, dataset: str) -> list[float]:
    """The paper's gains over its plain student, of every student row; NaN where it prints none."""
    cells = {cell.row.key: cell for cell in exhibit.cells("paper", dataset)}
    base = cells["plain"].reported
    students = [cell for cell in cells.values() if cell.row.role == "student"]
    return [float("nan") if base is None or c.reported is None else c.reported - base for c in students]


def _gain_panel(axes: Axes, keys: Sequence[str], part: pd.DataFrame, printed: pd.DataFrame) -> None:
    axes.axvline(0, color="#7a7a7a", linewidth=1)
    intervals = _intervals(part)
    for place, key in enumerate(keys):
        if key in intervals:
            axes.plot(intervals[key], [place, place], color=colour(key), linewidth=5, alpha=0.22, solid_capstyle="butt")
        _seeds(axes, place, part[part["row"] == key]["gain"], key)
        axes.scatter(printed[printed["row"] == key]["reported"], [place] * (printed["row"] == key).sum(), **PAPER_MARK)


def _intervals(part: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Simultaneous intervals of all rows against the baseline; none from one seed."""
    if part["seed"].nunique() < 2:
        return {}
    base = part.drop_duplicates("seed").assign(row="plain", value=part.drop_duplicates("seed")["baseline"])
    layout = Layout(pd.concat([base, part])[["row", "seed", "value"]])
    found = layout.differences([(row, "plain") for row in part["row"].unique()])
    return {difference.a: (difference.low, difference.high) for difference in found if difference.known}


def _seeds(axes: Axes, place: int, values: pd.Series, method: str) -> None:
    """One line of a panel: a dot a seed, hollow with KD, and a bar at their mean."""
    face = "none" if combined(method) else colour(method)
    axes.scatter(values, [place] * len(values), s=16, facecolors=[face], edgecolors=[colour(method)], alpha=0.8)
    if len(values):
        axes.plot([values.mean()] * 2, [place - 0.32, place + 0.32], color=colour(method), linewidth=2.6)


def _printed_points(exhibit: Exhibit) -> pd.DataFrame:
    keys = [row.key for row in exhibit.rows if row.role == "student"]
    parts = []
    for dataset in exhibit.datasets:
        parts.append(_pairs(pd.Series(_printed(exhibit, dataset), index=keys), "the paper", dataset))
    return pd.concat(parts)


def _measured_points(exhibit: Exhibit, profile: str) -> pd.DataFrame:
    frame = paired(exhibit, profile)
    parts = []
    for scale, dataset in _panels(exhibit, frame, profile):
        part = frame[(frame["profile"] == scale) & (frame["dataset"] == dataset)]
        parts.append(_pairs(part.groupby("row", sort=False)["gain"].mean(), _short(scale), dataset))
    return pd.concat(parts)


def _pairs(gain: pd.Series, scale: str, dataset: str) -> pd.DataFrame:
    both = [key for key in gain.index if f"{key}+kd" in gain.index]
    return pd.DataFrame(
        {"row": both, "alone": [gain[k] for k in both], "with_kd": [gain[f"{k}+kd"] for k in both]}
    ).assign(scale=scale, dataset=dataset)


def _scatter(axes: Axes, part: pd.DataFrame) -> None:
    axes.axline((0, 0), slope=1, color="#b8b8b8", linewidth=1, linestyle=":")
    for point in part.itertuples():
        axes.scatter(point.alone, point.with_kd, s=42, color=colour(point.row))


def _dot(axes: Axes, x: float, y: float, key: str) -> None:
    face = "none" if combined(key) else colour(key)
    axes.scatter(x, y, s=42, facecolors=[face], edgecolors=[colour(key)], linewidths=1.6)


def _side_by_side(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, at most three in a line."""
    columns = min(count, 3)
    lines = -(-count // columns)
    figure = Figure(figsize=(WIDTH, 2.6 * lines + 0.5))
    places = list(figure.subplots(lines, columns, squeeze=False).flat)
    for unused in places[count:]:
        unused.set_axis_off()
    return figure, places[:count]


def _legend(figure: Figure, exhibit: Exhibit, keys: Sequence[str]) -> None:
    bases = list(dict.fromkeys(key.partition("+")[0] for key in keys))
    dots = [figure.axes[0].scatter([], [], s=36, color=colour(b), label=exhibit.row(b).label) for b in bases]
    if dots:
        figure.legend(handles=dots, loc="outside lower center", ncols=min(5, len(dots)))


def _correlation(scale: str, dataset: str, points: pd.DataFrame) -> str:
    part = points[(points["scale"] == scale) & (points["dataset"] == dataset)].dropna()
    found = correlation(part["alone"].tolist(), part["with_kd"].tolist())
    where = f"{title(dataset)}, {scale}"
    return f"{where}: {found.pearson:.2f} [{found.low:.2f}, {found.high:.2f}]" if found.n > 3 else f"{where}: too few"
