"""The course of training by epoch, as a paper's module says what to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdnb import exhibits
from kdnb.exhibits import Cell, Exhibit
from kdnb.exhibits.courses import Courses, Line
from kdnb.exhibits.courses import Panel as Drawn
from kdnb.exhibits.runs import framed, runs_of
from kdnb.plots.histories import (
    COLUMNS,
    band,
    draw_milestones,
    epochs_axis,
    gathered,
    logarithmic,
    long,
    milestones,
    thin,
)
from kdnb.plots.panels import Panel, clause, labels, lacking, legend_below, of_their_own, panels, plot, unmeasured
from kdnb.plots.style import Plot, across, colour, for_phones_too, in_columns, on_a_phone, style
from kdnb.study.record import Record
from kdnb.study.store import Store
from kdnb.tables.words import TITLES, slug

MEANS = "Means over seeds, bands from the lowest to the highest; vertical lines where the learning rate falls."
TOLD = ["profile", "dataset", "pair", "line", *COLUMNS]


@dataclass(frozen=True)
class _Course:
    """One panel's runs: their histories in long form, and the epochs after which the learning rate fell."""

    panel: Panel
    frame: pd.DataFrame
    falls: list[int]


@for_phones_too
def courses(exhibit: Exhibit | str, drawn: Courses, profile: str = "demo", name: str = "") -> Plot:
    """What `drawn` names of the histories, by epoch: a column of panels for every pair of networks that has runs."""
    exhibit = exhibits.get(exhibit)
    runs = _runs(exhibit, profile, drawn)
    found = _courses(exhibit, profile, drawn, runs)
    name = name or slug(f"{drawn.name} {exhibit.key}")
    of = f"{drawn.of}: " if drawn.of else ""
    if not found:
        return unmeasured(exhibit.title, name, pd.DataFrame(columns=TOLD), of + clause(drawn.caption))
    with style():
        figure = _figure(found, drawn)
    shown = [course.panel for course in found]
    told = pd.concat([course.frame for course in found], ignore_index=True)
    caption = f"{of}{drawn.caption} {MEANS}"
    wanted = {line: label for line, label in labels(exhibit).items() if line in drawn.wanted}
    caption += lacking(shown, wanted, set(told["line"]), {c.row.key for c, _ in runs if c.profile.name == "demo"})
    seen = " ".join(_seen(course, drawn) for course in found)
    return plot(exhibit, shown, figure, name, caption, told, seen)


def _runs(exhibit: Exhibit, profile: str, drawn: Courses) -> list[tuple[Cell, Record]]:
    """The wanted rows' runs at every scale."""
    asked = [row for row in exhibit.rows if row.key in drawn.wanted]
    scales = dict.fromkeys([*TITLES, profile])
    return list(runs_of((cell for scale in scales for cell in exhibit.cells(scale, None, asked)), Store.open()))


def _seen(course: _Course, drawn: Courses) -> str:
    """Where the lines of a panel begin and end, for who cannot see them; those that stand behind are left out."""
    told = []
    for panel in drawn.panels:
        parts = ((line, _lines(course, panel, line)) for line in panel.lines if line.dash)
        means = [(line.label, part.groupby("epoch")["value"].mean()) for line, part in parts if len(part)]
        ends = ", ".join(f"{label} from {mean.iloc[0]:.3g} to {mean.iloc[-1]:.3g}" for label, mean in means)
        told.append(f"{panel.label}: {ends}")
    return f"{course.panel.sentence}, from the first epoch to the last: {'; '.join(told)}."


def _courses(exhibit: Exhibit, profile: str, drawn: Courses, runs: Sequence[tuple[Cell, Record]]) -> list[_Course]:
    """The wanted columns of the runs' histories, for every pair that has runs, at its strongest scale."""
    wanted, found = drawn.wanted, []
    every = framed(runs)
    for panel in of_their_own(panels(exhibit, every, profile), every):
        here = [(c, r) for c, r in runs if (c.profile.name, c.column) == (panel.profile, panel.column)]
        parts = [long(cell.key, record).assign(line=cell.row.key) for cell, record in here]
        frame = pd.concat(parts) if parts else gathered([]).assign(line="")
        frame = frame[[column in wanted[row] for row, column in zip(frame["line"], frame["column"], strict=True)]]
        frame = frame.assign(profile=panel.profile, dataset=panel.dataset, pair=panel.key)
        if here:
            found.append(_Course(panel, frame, sorted({fall for _, record in here for fall in milestones(record)})))
    return found


def _figure(found: Sequence[_Course], drawn: Courses) -> Figure:
    """The legend of the last line of panels stands below, that of one above it on top."""
    figure, places = in_columns(len(found), len(drawn.panels), 2.4 + 1.5 * len(drawn.panels))
    for course, column in zip(found, places.T, strict=True):
        for axes, panel in zip(column, drawn.panels, strict=True):
            _draw(axes, course, panel)
        column[0].set_title(f"{drawn.of}\n{course.panel.title}" if drawn.of else course.panel.title)
        epochs_axis(column[-1])
    for row, panel in zip(places, drawn.panels, strict=True):
        for axes in row if on_a_phone() else row[:1]:
            axes.set_ylabel(panel.label)
    for row in places[:-1]:
        figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=across(3))
    legend_below(figure, places[-1], columns=3)
    return figure


def _draw(axes: Axes, course: _Course, panel: Drawn) -> None:
    draw_milestones(axes, course.falls)
    shown = []
    for line in panel.lines:
        part = _lines(course, panel, line)
        shown.append(part["value"])
        if len(part) and line.dash:
            band(axes, part, line.label, colour(line.colour), line.dash)
        elif len(part):
            thin(axes, part, line.label, colour(line.colour))
    if panel.logarithmic and (pd.concat(shown) > 0).all():
        logarithmic(axes)


def _lines(course: _Course, panel: Drawn, line: Line) -> pd.DataFrame:
    """The numbers of one line, as the panel tells them."""
    here = (course.frame["line"] == line.row) & (course.frame["column"] == line.column)
    return course.frame[here].assign(value=lambda frame: panel.factor * frame["value"])
