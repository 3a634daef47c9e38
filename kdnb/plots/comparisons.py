"""Methods beside each other: gains, alone against combined, accuracy against cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdnb import exhibits
from kdnb.errors import unknown
from kdnb.exhibits import Exhibit, Row, Score
from kdnb.exhibits.controls import DAGGER, gains_at_equal_schedule
from kdnb.exhibits.costs import scores_and_costs, timed_with
from kdnb.exhibits.names import sentence
from kdnb.exhibits.runs import SCALES
from kdnb.plots.panels import (
    COMPARED_ROLES,
    MOST_LINES,
    Panel,
    entitle,
    grid,
    labels,
    lacking,
    of_their_own,
    panels,
    plot,
    short,
    unmeasured,
)
from kdnb.plots.style import COLOURS, Plot, across, base, broken, colour, combined, for_phones_too, side_by_side, style
from kdnb.study.statistics import Layout, correlation
from kdnb.study.store import Store
from kdnb.tables.results import measured
from kdnb.tables.schedules import equal_schedule_told
from kdnb.tables.words import slug, title

EQUAL_MARK: dict[str, Any] = {"marker": "^", "facecolors": "none", "edgecolors": "#111111", "linewidths": 1.3, "s": 40}
#: A panel with fewer lines compares nothing.
COMPARED = 2
PAPER_MARK: dict[str, Any] = {"marker": "D", "facecolors": "none", "edgecolors": "#555555", "linewidths": 1.1, "s": 26}


@for_phones_too
def gains(exhibit: Exhibit | str, profile: str = "demo", name: str = "", over: str = "plain") -> Plot:
    """Every row's gain over the plain student: one dot a seed, their mean, the paper's as diamond.

    One panel for every data set that has measured students at paper scale, and for those of `profile`; where an
    exhibit has several pairs of networks, one for each at its strongest scale.  `over` is another line to compare
    with, such as `kd`; KdnbError where the exhibit has no such line.
    """
    exhibit = exhibits.get(exhibit)
    frame = paired(exhibit, profile, over)
    students, reference = _compared(exhibit, over), _reference(exhibit, over)
    every, fewest = panels(exhibit, frame, profile), min(COMPARED, len(students))  # a table of one method is whole
    shown = every if _have(every, frame, fewest) else panels(exhibit, frame, profile, fewest)
    shown, name = of_their_own(shown, frame), name or _named("gains", exhibit)
    if not shown:
        return _without_a_picture(exhibit, name, f"Gain over {reference}", frame, every, "gain", students)
    printed = _printed(exhibit, over)

    store = Store.open()
    equal = {
        panel: gains_at_equal_schedule(exhibit, panel.profile, panel.dataset, store)
        for panel in shown
        if over == "plain" and exhibit.controls
    }

    def draw(axes: Axes, panel: Panel) -> None:
        _gain_panel(axes, list(students), panel.of(frame), _printed_in(panel, printed), panel.score)
        for row, gain in equal.get(panel, {}).items():
            axes.scatter(gain.value, list(students).index(row), **EQUAL_MARK)

    with style():
        named = [f"{label} {DAGGER}" if line in exhibit.controls else label for line, label in students.items()]
        figure = _strips(shown, named, draw, _gain_axis)
    caption = f"Gain over {reference}, same seed: {_marks(shown, frame, printed)}."
    if any(_is_off_its_bar(panel.of(frame), panel.score) for panel in shown):
        caption += " Where a row lacks a seed, its band is estimated from all runs, and need not be centred on the bar."
    if any(equal.values()):
        caption += (
            f" {DAGGER} trained on a schedule of their own: triangles are gains over the plain student on that one."
        )
    caption += _nowhere(shown, frame, students)
    told = frame.drop(columns="path", errors="ignore")
    told = told.merge(printed[["row", "dataset", "score", "reported"]], how="left", on=["row", "dataset", "score"])
    seen = f"Gain over {reference}. {_seen(shown, frame, 'gain', students)}"
    return plot(exhibit, shown, figure, name, caption, told, seen)


@for_phones_too
def rows(exhibit: Exhibit | str, profile: str = "demo", name: str = "") -> Plot:
    """Every row's score: one dot a seed, their mean as a bar.

    One panel for a data set of every scale that has runs, or for every pair of networks at its strongest scale.  No
    picture of a single row: it compares nothing.
    """
    exhibit = exhibits.get(exhibit)
    frame = measured(exhibit, None, Store.open(), profile)
    shown = of_their_own(panels(exhibit, frame, profile, COMPARED), frame)
    name = name or (_named("rows", exhibit) if exhibit.pairs else exhibit.name)
    named = labels(exhibit)
    if not shown:
        alone = panels(exhibit, frame, profile)
        return _without_a_picture(exhibit, name, exhibit.title, frame, alone, "value", named)
    hues = {row.key: _hue(row) for row in exhibit.rows}

    def draw(axes: Axes, panel: Panel) -> None:
        part = panel.of(frame)
        for place, (line, hue) in enumerate(hues.items()):
            _seeds(axes, place, part[part["line"] == line]["value"], hue)

    with style():
        figure = _strips(shown, list(named.values()), draw, _score_axis)
    caption = f"{sentence(exhibit.title)} {_compared_by(shown, frame, named)} Dots are seeds, bars their means."
    caption += _nowhere(shown, frame, named)
    seen = f"{sentence(exhibit.title)} {_compared_by(shown, frame, named)} {_seen(shown, frame, 'value', named)}"
    return plot(exhibit, shown, figure, name, caption, frame.drop(columns=["path"]), seen)


def paired(exhibit: Exhibit, profile: str, baseline: str = "plain") -> pd.DataFrame:
    """One line a run: what its score gains on the baseline's of the same profile, column and seed.

    A gain is positive where the run is better, whichever way its score goes.
    """
    if baseline not in labels(exhibit):
        raise unknown(f"line of {exhibit.key}", baseline, labels(exhibit))
    frame = measured(exhibit, None, Store.open(), profile)
    key = ["profile", "dataset", "pair", "score", "seed"]
    compared = frame[frame["line"] == baseline][[*key, "value"]].rename(columns={"value": "baseline"})
    joined = frame.merge(compared, how="inner", on=key)
    joined = joined[joined["line"].isin(_compared(exhibit, baseline))]
    directions = {column.score.key: column.score.direction for column in exhibit.columns}
    return joined.assign(gain=(joined["value"] - joined["baseline"]) * joined["score"].map(directions).astype(float))


@for_phones_too
def alone_and_combined(exhibit: Exhibit | str, profile: str = "demo", name: str = "alone-and-combined") -> Plot:
    """Gain alone against gain with KD: the paper's points, and what was measured, with their correlations."""
    exhibit = exhibits.get(exhibit)
    measured_points = _measured_points(exhibit, profile)
    points = pd.concat([_printed_points(exhibit), *([measured_points] if len(measured_points) else [])])
    places_of = list(points[["scale", "dataset"]].drop_duplicates().itertuples(index=False, name=None))
    with style():
        figure, places = grid(len(places_of), 2.6)
        for axes, (scale, dataset) in zip(places, places_of, strict=True):
            part = points[(points["scale"] == scale) & (points["dataset"] == dataset)]
            _scatter(axes, part)
            axes.set(title=f"{title(dataset)}: {scale}", xlabel="gain alone", ylabel="gain with KD")
        _legend(figure, exhibit, points["row"].unique())
    told = "; ".join(_correlation(scale, dataset, points) for scale, dataset in places_of)
    caption = (
        f"Gain over the plain student, alone and with KD, in points. Correlation: {told}.{_schedules_told(exhibit)}"
    )
    seen = f"Correlation of the gain alone with the gain with KD. {told}. "
    seen += " ".join(_best_told(scale, dataset, points, labels(exhibit)) for scale, dataset in places_of)
    return Plot(figure, name, caption, points, seen)


@for_phones_too
def accuracy_and_cost(exhibit: Exhibit | str, profile: str = "demo", name: str = "") -> Plot:
    """Mean score against what training costs, in epochs of KD: filled alone, hollow with KD.  Panels as in `rows`."""
    exhibit = exhibits.get(exhibit)
    frame = measured(exhibit, None, Store.open(), profile)
    means, steps = scores_and_costs(exhibit, frame[frame["line"] != "teacher"], Store.open())
    means = means.dropna()
    shown = panels(exhibit, means, profile, COMPARED) if len(means) else []
    name = name or _named("accuracy-and-cost", exhibit)
    if not shown:
        return unmeasured(exhibit.title, name, means, "Score against the cost of training")
    with style():
        figure, places = grid(len(shown), 2.6)
        for axes, panel in zip(places, shown, strict=True):
            for point in panel.of(means).itertuples():
                _dot(axes, point.epochs_of_kd, point.value, point.row)
            entitle(axes, panel, len(shown))
            axes.set(xlabel="cost of training, in epochs of KD", ylabel=_score_axis(panel))
            axes.margins(0.12)
        drawn = _drawn_lines(shown, means)
        _legend(figure, exhibit, means[means["line"].isin(drawn)]["row"].unique())
    caption = "Score against the cost of training: epochs of every stage, first steps included, each counted by what "
    caption += "its step costs beside KD's when it runs alone"
    caption += ": filled alone, hollow with KD." if any(combined(row.key) for row in exhibit.rows) else "."
    places_of = {(panel.profile, panel.dataset, panel.key) for panel in shown}
    caption += timed_with({place: of for place, of in steps.items() if place in places_of}) + _schedules_told(exhibit)
    caption += _nowhere(shown, frame, labels(exhibit, COMPARED_ROLES))
    seen = f"Score against the cost of training. {_seen(shown, means, 'value', labels(exhibit))}"
    return plot(exhibit, shown, figure, name, caption, means, seen)


# -- what a picture shows, for who cannot see it -----------------------------------------------------------


def _seen(shown: Sequence[Panel], frame: pd.DataFrame, column: str, named: Mapping[str, str]) -> str:
    """Of every panel the best two lines and the last, with their means: `CIFAR-100, pilot: best is CRD (16.9 %) ...`.

    A panel of two lines tells both, and one of a single line that.
    """
    told = []
    for panel in shown:
        means = panel.of(frame).groupby("line")[column].mean()
        less_is_better = column == "value" and not panel.score.higher_is_better
        means = means[[line in named for line in means.index]].sort_values(ascending=less_is_better)
        number = panel.score.gain if column == "gain" else panel.score.told
        lines = [f"{named[line]} ({number(mean)})" for line, mean in means.items()]
        if lines:
            told.append(f"{_place(panel)}: {_ranked(lines)}.")
    return " ".join(told)


def _place(panel: Panel) -> str:
    """`CIFAR-100, pilot`: a panel's title in a line, before what stands there."""
    return panel.sentence.replace("\n", ", ").replace(": ", ", ") if panel.pair is None else panel.sentence


def _ranked(lines: Sequence[str]) -> str:
    """Lines from the best to the last, in words."""
    if len(lines) == 1:
        return f"only {lines[0]}"
    return f"best is {lines[0]}, then {lines[1]}" + (f"; last {lines[-1]}" if len(lines) > 2 else "")


# -- names and what a caption says -------------------------------------------------------------------------


def _named(what: str, exhibit: Exhibit) -> str:
    """The figure's name: a paper of many pairs has many such figures."""
    return slug(f"{what} {exhibit.key}") if exhibit.pairs else what


def _reference(exhibit: Exhibit, over: str) -> str:
    reference = "the plain student" if over == "plain" else labels(exhibit)[over]
    return f"{reference} of the same networks" if exhibit.pairs else reference


def _compared(exhibit: Exhibit, over: str) -> dict[str, str]:
    """The lines of a figure of gains: all students, and the plain ones where gains are over another row."""
    roles = ["student"] if over == "plain" else ["baseline", "student"]
    return {line: label for line, label in labels(exhibit, roles).items() if line != over}


def _compared_by(shown: Sequence[Panel], frame: pd.DataFrame, named: Mapping[str, str]) -> str:
    """Which scores a figure of rows has; and of which rows, where it lacks some and has few."""
    scores = [_lower(score.title) for score in dict.fromkeys(panel.score for panel in shown)]
    there = _drawn_lines(shown, frame)
    drawn = [label for line, label in named.items() if line in there]
    few = len(drawn) < len(named) and len(drawn) <= MOST_LINES
    scored = " and ".join([", ".join(scores[:-1]), scores[-1]] if len(scores) > 1 else scores)
    return f"Compared by {scored}{': ' + '; '.join(drawn) if few else ''}."


def _lower(title: str) -> str:
    """The title of a score within a sentence: `Accuracy` loses its capital, `CKA` none of them."""
    return title[:1].lower() + title[1:] if title[1:2].islower() else title


def _have(shown: Sequence[Panel], frame: pd.DataFrame, rows: int) -> bool:
    """Whether one of these panels has so many rows."""
    return any(panel.of(frame)["line"].nunique() >= rows for panel in shown)


def _without_a_picture(
    exhibit: Exhibit,
    name: str,
    what: str,
    frame: pd.DataFrame,
    alone: Sequence[Panel],
    column: str,
    named: Mapping[str, str],
) -> Plot:
    """Where nothing can be compared: which single rows there are, and their numbers; a demo's say nothing."""
    said = [panel for panel in alone if panel.profile != "demo"]
    told = _seen(said, frame, column, named)
    count = "one row" if len(_drawn_lines(said, frame) & set(named)) == 1 else "one row at each place"
    if not told:
        return unmeasured(exhibit.title, name, frame, what)
    so_far = f"{sentence(what)} So far there is {count}. {told}"
    return unmeasured(f"{exhibit.title}, more than one row", name, frame, so_far)


def _schedules_told(exhibit: Exhibit) -> str:
    """What the dagger of a legend says, and the gains at equal schedule; begins with a blank, or is empty."""
    if not exhibit.controls:
        return ""
    places = [(scale, dataset) for scale in SCALES for dataset in exhibit.datasets_of(scale)]
    return f" {equal_schedule_told(exhibit, places, Store.open())}"


def _nowhere(shown: Sequence[Panel], frame: pd.DataFrame, lines: Mapping[str, str]) -> str:
    """Which lines no panel has a run of; begins with a blank, or is empty."""
    return lacking(shown, lines, _drawn_lines(shown, frame), set(frame[frame["profile"] == "demo"]["line"]))


def _drawn_lines(shown: Sequence[Panel], frame: pd.DataFrame) -> set[str]:
    return {line for panel in shown for line in panel.of(frame)["line"]}


def _marks(shown: Sequence[Panel], frame: pd.DataFrame, printed: pd.DataFrame) -> str:
    """What stands in the panels of gains; where relatives were trained, the diamonds are not of their networks."""
    marks = ["dots are seeds, bars their means"]
    if any(panel.of(frame)["seed"].nunique() > 1 for panel in shown):
        cut = any(_leaves_bands_out(panel.of(frame), _printed_in(panel, printed), panel.score) for panel in shown)
        marks.append("bands simultaneous 95 % intervals" + (" (cut where they are very wide)" if cut else ""))
        if any((panel.of(frame).groupby("line")["seed"].nunique() == 1).any() for panel in shown):
            marks.append("rows without a band have one seed")
    beside = [panel for panel in shown if panel.dataset in set(printed.dropna()["dataset"])]
    if beside:
        marks.append("diamonds the printed gains")
    of_relatives = [panel for panel in beside if panel.of_relatives]
    if of_relatives:
        marks.append("which are of the paper's networks on all of its images")
        where = dict.fromkeys(short(panel.profile) for panel in of_relatives)
        own = len(of_relatives) < len(beside) and not any(panel.pair for panel in shown)
        marks.append(
            f"not of what was trained at {' and '.join(where)} scale" if own else "not of what was trained here"
        )
    return ", ".join(marks)


# -- lines of dots -----------------------------------------------------------------------------------------


def _strips(
    shown: Sequence[Panel], names: Sequence[str], draw: Callable[[Axes, Panel], None], xlabel: Callable[[Panel], str]
) -> Figure:
    """Panels whose lines are named rows, from top to bottom: one or two side by side, pairs and more in a grid."""
    names = [broken(name) for name in names]
    lines = max(name.count("\n") for name in names) + 1
    if len(shown) > 2 or any(panel.pair for panel in shown):
        figure, places = grid(len(shown), (0.08 + 0.15 * lines) * len(names) + 1.1, below=0.0, share=True)
    else:
        figure, places = side_by_side(len(shown), (0.13 + 0.15 * lines) * len(names) + 1.05, share=True)
    for axes, panel in zip(places, shown, strict=True):
        draw(axes, panel)
        entitle(axes, panel, len(shown))
        axes.set_xlabel(xlabel(panel))
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
    return figure


def _gain_axis(panel: Panel) -> str:
    return f"gain in {panel.score.points or panel.score.unit or panel.score.title}"


def _score_axis(panel: Panel) -> str:
    unit = panel.score.unit or panel.score.title
    return unit if panel.score.higher_is_better else f"{unit}, less is better"


def _hue(row: Row) -> str:
    """The key that gives a row its colour: its own, or its method's where a table varies one method."""
    return row.key if base(row.key) in COLOURS else row.method


def _printed(exhibit: Exhibit, over: str = "plain") -> pd.DataFrame:
    """The paper's gains over one of its rows, of every student's; NaN where it does not print both."""
    cells = {(cell.column, cell.row.key): cell for cell in exhibit.cells("paper")}
    found = []
    for (column, key), cell in cells.items():
        if cell.row.role == "student":
            reference = cells.get((column, over))
            both = [c.reported if c and c.reported is not None else float("nan") for c in (cell, reference)]
            pair = column.pair.key if column.pair else ""
            gain = column.score.direction * (both[0] - both[1])
            found.append((cell.key, column.dataset, pair, column.score.key, key, gain))
    return pd.DataFrame(found, columns=["row", "dataset", "pair", "score", "line", "reported"])


def _printed_in(panel: Panel, printed: pd.DataFrame) -> pd.DataFrame:
    """The printed gains that stand in a panel, whatever its scale."""
    return panel.of(printed.assign(profile=panel.profile))


def _gain_panel(axes: Axes, lines: Sequence[str], part: pd.DataFrame, printed: pd.DataFrame, score: Score) -> None:
    axes.axvline(0, color="#7a7a7a", linewidth=1)
    bands = _intervals(part, score)
    axes.set_xlim(_room_for(part, printed, bands))
    for place, line in enumerate(lines):
        if line in bands:
            axes.plot(bands[line], [place, place], color=colour(line), linewidth=5, alpha=0.22, solid_capstyle="butt")
        _seeds(axes, place, part[part["line"] == line]["gain"], line)
        known = printed[printed["line"] == line]["reported"].dropna()
        axes.scatter(known, [place] * len(known), **PAPER_MARK)


def _is_off_its_bar(part: pd.DataFrame, score: Score) -> bool:
    """Whether a band is not centred on the mean over shared seeds: it is where its row has every seed."""
    means = part.groupby("line")["gain"].mean()
    bands = _intervals(part, score)
    return any(not math.isclose((low + high) / 2, means[line], abs_tol=1e-6) for line, (low, high) in bands.items())


def _leaves_bands_out(part: pd.DataFrame, printed: pd.DataFrame, score: Score) -> bool:
    bands = _intervals(part, score)
    left, right = _room_for(part, printed, bands)
    return any(low < left or high > right for low, high in bands.values())


def _room_for(
    part: pd.DataFrame, printed: pd.DataFrame, bands: Mapping[str, tuple[float, float]]
) -> tuple[float, float]:
    """Left and right end of a panel: what bands need, but at most three times what the points and zero need.

    A band that is wider than that says that nothing is known, and would press all the others to a line.
    """
    points = pd.concat([part["gain"], printed["reported"]])
    left, right = min(0.0, points.min()), max(0.0, points.max())
    width = (right - left) or 1.0
    ends = [end for band in bands.values() for end in band]
    margin = 0.05 * width
    return max(left - width, min([left, *ends]) - margin), min(right + width, max([right, *ends]) + margin)


def _intervals(part: pd.DataFrame, score: Score) -> dict[str, tuple[float, float]]:
    """Simultaneous intervals of all lines' gains on the baseline; none from one seed."""
    if part["seed"].nunique() < 2:
        return {}
    once = part.drop_duplicates("seed")
    runs = pd.concat([once.assign(line="baseline", value=once["baseline"]), part])
    runs["value"] *= score.direction
    layout = Layout(runs[["line", "seed", "value"]].rename(columns={"line": "row"}))
    found = layout.differences([(line, "baseline") for line in part["line"].unique()])
    return {difference.a: (difference.low, difference.high) for difference in found if difference.known}


def _seeds(axes: Axes, place: int, values: pd.Series, method: str) -> None:
    """One line of a panel: a dot a seed, hollow with KD, and a bar at their mean."""
    face = "none" if combined(method) else [colour(method)]  # "none" in a list would become black under an alpha
    axes.scatter(values, [place] * len(values), s=16, facecolors=face, edgecolors=[colour(method)], alpha=0.8)
    if len(values):
        axes.plot([values.mean()] * 2, [place - 0.32, place + 0.32], color=colour(method), linewidth=2.6)


# -- points of two numbers ---------------------------------------------------------------------------------


def _printed_points(exhibit: Exhibit) -> pd.DataFrame:
    printed = _printed(exhibit)
    by_dataset = printed.groupby("dataset", sort=False)
    return pd.concat([_pairs(part.set_index("row")["reported"], "the paper", str(d)) for d, part in by_dataset])


def _measured_points(exhibit: Exhibit, profile: str) -> pd.DataFrame:
    frame = paired(exhibit, profile)
    parts = []
    for panel in panels(exhibit, frame, profile, COMPARED):
        if panel.profile == "demo":
            continue  # the printed gains stand beside it, and a demo never beside what says something
        gain = panel.of(frame).groupby("row", sort=False)["gain"].mean()
        parts.append(_pairs(gain, short(panel.profile), panel.dataset))
    return pd.concat(parts) if parts else pd.DataFrame()


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


def _legend(figure: Figure, exhibit: Exhibit, keys: Iterable[str]) -> None:
    bases = list(dict.fromkeys(base(key) for key in keys))
    named = labels(exhibit)
    marks = {b: f" {DAGGER}" if b in exhibit.controls else "" for b in bases}
    dots = [figure.axes[0].scatter([], [], s=36, color=colour(b), label=named[b] + marks[b]) for b in bases]
    if dots:
        figure.legend(handles=dots, loc="outside lower center", ncols=min(across(5), len(dots)))


def _best_told(scale: str, dataset: str, points: pd.DataFrame, named: Mapping[str, str]) -> str:
    """The rightmost dot and the highest."""
    part = points[(points["scale"] == scale) & (points["dataset"] == dataset)].dropna()
    if part.empty:
        return ""
    alone, combined = (part.loc[part[column].idxmax()] for column in ("alone", "with_kd"))
    told = f"alone {named[alone['row']]} gains most, {alone['alone']:.1f}"
    return f"{title(dataset)}, {scale}: {told}; with KD {named[combined['row']]}, {combined['with_kd']:.1f}."


def _correlation(scale: str, dataset: str, points: pd.DataFrame) -> str:
    part = points[(points["scale"] == scale) & (points["dataset"] == dataset)].dropna()
    found = correlation(part["alone"].tolist(), part["with_kd"].tolist())
    where = f"{title(dataset)}, {scale}"
    return f"{where}: {found.pearson:.2f} [{found.low:.2f}, {found.high:.2f}]" if found.n > 3 else f"{where}: too few"
