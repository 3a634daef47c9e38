"""Which methods are worth their cost: accuracy against cost, and the names of those that no cheaper one beats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from kdnb import exhibits
from kdnb.exhibits import Exhibit
from kdnb.exhibits.costs import steps_for, timed_with
from kdnb.exhibits.runs import SCALES
from kdnb.plots.panels import unmeasured
from kdnb.plots.style import Plot, colour, combined, for_phones_too, style, width
from kdnb.study.store import Store
from kdnb.tables.ranking import DEAR, KD, PLAIN, Ranked, standings
from kdnb.tables.words import OF_A_DEMO, measured_at, title

COLUMNS = ["row", "label", "profile", "dataset", "seeds", "cost_in_kd", "value", "named"]
#: Controls so many points below all methods are not drawn: they would press the others together.
ROOM = 2.0
#: Where a name may stand beside its mark, in points, the best first.
PLACES: tuple[tuple[Literal["left", "center", "right"], tuple[float, float]], ...] = (
    ("right", (-5, 4)),
    ("right", (-5, -11)),
    ("left", (6, 3)),
    ("left", (6, -10)),
    ("center", (0, 8)),
    ("center", (0, -16)),
)
#: Ticks of the cost, in trainings of KD.
TICKS = (0.5, 1, 2, 4, 8)


@for_phones_too
def frontier(board: Exhibit | str, longer: Exhibit | str, profile: str = "demo", name: str = "frontier") -> Plot:
    """Accuracy of every row, by its gain, against its cost in trainings of KD, at the largest scale that has runs.

    Named are the rows that no cheaper one reaches, and dear ones; controls are crosses; a line joins KD trained longer,
    of `longer`.
    """
    board, longer, store = exhibits.get(board), exhibits.get(longer), Store.open()
    for scale in dict.fromkeys([*SCALES, profile]):
        dataset = board.datasets_of(scale)[0]
        rows = _placed(standings(board, scale, dataset, store)[0])
        if len(rows) > 1:
            trained = _placed(standings(longer, scale, dataset, store)[0])
            of_kd = sorted((row for row in trained if row.cell.row.method == KD), key=_cost)
            return _drawn(rows, of_kd, scale, dataset, name)
    return unmeasured(board.title, name, pd.DataFrame(columns=COLUMNS))


def _placed(rows: Sequence[Ranked]) -> list[Ranked]:
    """Those that have a mean and a cost: students, each once."""
    return [row for row in rows if row.records and row.cost is not None and not row.same]


def _cost(row: Ranked) -> float:
    return row.cost or 0.0


def unbeaten(rows: Sequence[Ranked]) -> list[Ranked]:
    """The methods with a mean that no method has at its cost or a lower one, from the cheapest on."""
    found: list[Ranked] = []
    for row in sorted((row for row in rows if row.competing), key=lambda row: (_cost(row), -row.level)):
        if not found or row.level > found[-1].level:
            found.append(row)
    return found


def _drawn(rows: Sequence[Ranked], of_kd: Sequence[Ranked], scale: str, dataset: str, name: str) -> Plot:
    best = unbeaten(rows)
    lowest = min(row.level for row in rows if row.competing)
    shown = [row for row in rows if row.competing or row.level >= lowest - ROOM]
    named = {row.key for row in best} | {row.key for row in rows if row.competing and row.dear} | {PLAIN, KD}
    with style():
        figure = Figure(figsize=(width(), 4.2))
        axes = figure.subplots()
        if len(of_kd) > 1:
            axes.plot(*zip(*((_cost(row), row.level) for row in of_kd), strict=True), "-", color=colour(KD), zorder=1)
        for row in shown:
            _mark(axes, row)
        axes.set_xscale("log", base=2)
        ticks = [tick for tick in TICKS if tick < 1.5 * max(map(_cost, rows))]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set(xlabel="cost of training, × KD", ylabel="accuracy, %")
        axes.margins(0.24, 0.08)
        _name(figure, axes, sorted((row for row in shown if row.key in named), key=_cost), shown)
    seeds = sorted({len(row.records) for row in rows})
    numbers = pd.DataFrame(
        [(row.key, row.label, scale, dataset, len(row.records), row.cost, row.level, row.key in named) for row in rows],
        columns=COLUMNS,
    )
    caption = (
        f"Accuracy against the cost of training, {measured_at(scale)}, {title(dataset)}; means of "
        f"{' to '.join(str(count) for count in dict.fromkeys((seeds[0], seeds[-1])))} seed{'s' * (seeds[-1] > 1)}. "
        "Dots are methods, hollow with KD; crosses are controls. Named are KD, the plain student, what costs more than "
        f"{DEAR} times KD, and the methods whose mean no method of the same or a lower cost reaches; by chance another "
        "may be as good."
        + timed_with({(scale, dataset, ""): steps_for(row.cell for row in rows)})
        + (" Controls far below all methods are left out." if len(shown) < len(rows) else "")
        + (" The line is KD that trains longer." if len(of_kd) > 1 else "")
        + (f" {OF_A_DEMO}" if scale == "demo" else "")
    )
    told = ", ".join(f"{row.label} {row.level:.1f} % at {_cost(row):.2f}" for row in best)
    seen = f"From the cheapest on, each is the best at its cost: {told}."
    return Plot(figure, name, caption, numbers, seen, of_demo=scale == "demo")


def _name(figure: Figure, axes: Axes, rows: Sequence[Ranked], shown: Sequence[Ranked]) -> None:
    """Write the names of rows beside their marks, each where it stands over the fewest marks and other names."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    marks = axes.transData.transform([(_cost(row), row.level) for row in shown])
    inside, taken = axes.get_window_extent(renderer), list[Bbox]()
    for row in rows:
        tried = []
        for side, place in PLACES:
            text = axes.annotate(row.label, (_cost(row), row.level), place, textcoords="offset points", ha=side)
            box = text.get_window_extent(renderer)
            over = sum(box.overlaps(other) for other in taken) + box.count_contains(marks)
            outside = not (inside.fully_contains(*box.min) and inside.fully_contains(*box.max))
            tried.append((over + outside, text))
        _, kept = min(tried, key=lambda one: one[0])
        taken.append(kept.get_window_extent(renderer))
        for _, text in tried:
            if text is not kept:
                text.remove()


def _mark(axes: Axes, row: Ranked) -> None:
    hue = colour(row.key)
    if row.competing:
        face = "none" if combined(row.key) else hue
        axes.scatter(_cost(row), row.level, s=42, facecolors=[face], edgecolors=[hue], linewidths=1.6)
    else:
        axes.scatter(_cost(row), row.level, s=36, marker="x", color="#8a8a8a", linewidths=1.4)
