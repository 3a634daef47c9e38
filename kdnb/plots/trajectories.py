"""Self-learning teachers on their way: how far they are from student and teacher, and how well they answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from kdnb import exhibits
from kdnb.exhibits import Exhibit
from kdnb.plots.histories import (
    COLUMNS,
    band,
    draw_milestones,
    epochs_axis,
    logarithmic,
    long,
    milestones,
    percent,
    thin,
)
from kdnb.plots.panels import Panel, legend_below, nothing_yet, panels, scales_told
from kdnb.plots.style import WIDTH, Plot, colour, style
from kdnb.study.store import Store
from kdnb.tables.results import measured, slug, with_lines

#: Column of the history -> what a legend calls it, its colour's key, its dash.
DISTANCES = {
    "kl_teacher_student": ("KL(teacher‖student)", "kd", "-"),
    "kl_self_student": ("KL(self-learning‖student)", "slkd", "-"),
    "kl_teacher_self": ("KL(teacher‖self-learning)", "slkd-self", "--"),
}
ACCURACIES = {
    "teacher_accuracy": ("teacher", "teacher", "-"),
    "self_accuracy": ("self-learning teachers, mixed", "slkd-self", "--"),
    "validation_accuracy": ("student", "slkd", "-"),
}
#: (line, column of the history) -> the same where one self-learning teacher stands beside two; no dash: a thin line.
GUIDES = {
    ("slkd-one", "self_accuracy"): ("one self-learning teacher", "slkd-one", "-"),
    ("slkd", "self_accuracy"): ("two, mixed", "slkd", "-"),
    ("slkd", "self1_accuracy"): ("each of the two", "slkd-self", ""),
    ("slkd", "self2_accuracy"): ("each of the two", "slkd-self", ""),
    ("slkd-one", "validation_accuracy"): ("student of one", "slkd-one", "--"),
    ("slkd", "validation_accuracy"): ("student of two", "slkd", "--"),
}
MEANS = "Means over seeds, bands from the lowest to the highest; uprights where the learning rate falls."


@dataclass(frozen=True)
class _Course:
    """One panel's runs: their histories in long form, and the epochs after which the learning rate fell."""

    panel: Panel
    frame: pd.DataFrame
    falls: list[int]


def trajectories(
    exhibit: Exhibit | str = "slkd/fig2", profile: str = "demo", name: str = "", line: str = "slkd"
) -> Plot:
    """Distances between teacher, self-learning teachers and student by epoch, and below them their accuracies.

    `line` is the row of each pair whose runs are followed.  A column of panels for every pair that has runs, at its
    strongest scale.
    """
    exhibit = exhibits.get(exhibit) if isinstance(exhibit, str) else exhibit
    courses = _courses(exhibit, profile, {line: [*DISTANCES, *ACCURACIES]})
    with style():
        figure = _distances_and_accuracies(courses) if courses else nothing_yet(exhibit.title)
    caption = "How far teacher, self-learning teachers and student are from each other: KL divergence in nats at"
    caption += f" temperature 4, and accuracy, on the test images after every epoch. {MEANS}"
    return _plot(figure, name or slug(f"trajectories {exhibit.key}"), caption, exhibit, courses)


def guides(exhibit: Exhibit | str = "slkd/fig4", profile: str = "demo", name: str = "") -> Plot:
    """Accuracy by epoch of one self-learning teacher, of two and their mixture, and of the students they supervise."""
    exhibit = exhibits.get(exhibit) if isinstance(exhibit, str) else exhibit
    wanted = {line: [column for of, column in GUIDES if of == line] for line, _ in GUIDES}
    courses = _courses(exhibit, profile, wanted)
    with style():
        figure = _guides(courses) if courses else nothing_yet(exhibit.title)
    caption = "Accuracy on the test images after every epoch: one self-learning teacher, two whose logits are mixed,"
    caption += " each of the two by itself (thin, the mean alone), and the students that they supervise (dashed)."
    caption += f" {MEANS}"
    return _plot(figure, name or slug(f"guides {exhibit.key}"), caption, exhibit, courses)


def _plot(figure: Figure, name: str, caption: str, exhibit: Exhibit, courses: Sequence[_Course]) -> Plot:
    frames = [course.frame for course in courses]
    told = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["profile", "dataset", *COLUMNS])
    return Plot(figure, name, caption + scales_told(exhibit, [course.panel for course in courses]), told)


# -- numbers -----------------------------------------------------------------------------------------------


def _courses(exhibit: Exhibit, profile: str, wanted: Mapping[str, Iterable[str]]) -> list[_Course]:
    """The wanted columns of the histories of some lines, for every pair that has runs."""
    store = Store.open()
    rows = [row for row in exhibit.rows if row.line in wanted]
    runs = with_lines(measured(exhibit, rows, store, profile))
    found = []
    for panel in panels(exhibit, runs, profile):
        parts, falls = [], set()
        for run in panel.of(runs).itertuples():
            record = store.records(str(run.fingerprint))[int(run.seed)]
            history = long(str(run.row), record)
            parts.append(history[history["column"].isin(wanted[str(run.line)])])
            falls |= {*milestones(record)}
        frame = with_lines(pd.concat(parts)).assign(profile=panel.profile, dataset=panel.dataset)
        found.append(_Course(panel, frame, sorted(falls)))
    return found


# -- panels ------------------------------------------------------------------------------------------------


def _distances_and_accuracies(courses: Sequence[_Course]) -> Figure:
    figure = Figure(figsize=(WIDTH, 5.4))
    places = figure.subplots(2, len(courses), squeeze=False, sharex="col")
    for course, (above, below) in zip(courses, places.T, strict=True):
        for axes, columns in ((above, DISTANCES), (below, ACCURACIES)):
            draw_milestones(axes, course.falls)
            for column, (label, key, dash) in columns.items():
                lines = course.frame[course.frame["column"] == column]
                band(axes, lines if columns is DISTANCES else percent(lines), label, colour(key), dash)
        distances = course.frame[course.frame["column"].isin([*DISTANCES])]
        if (distances["value"] > 0).all():
            logarithmic(above)
        above.set_title(course.panel.title)
        epochs_axis(below)
    places[0][0].set_ylabel("KL divergence in nats")
    places[1][0].set_ylabel("test accuracy, %")
    figure.legend(*places[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    legend_below(figure, places[1], columns=3)
    return figure


def _guides(courses: Sequence[_Course]) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.9))
    places = figure.subplots(1, len(courses), squeeze=False)[0]
    for course, axes in zip(courses, places, strict=True):
        draw_milestones(axes, course.falls)
        for (line, column), (label, key, dash) in GUIDES.items():
            lines = percent(course.frame[(course.frame["line"] == line) & (course.frame["column"] == column)])
            if len(lines) and dash:
                band(axes, lines, label, colour(key), dash)
            elif len(lines):
                thin(axes, lines, label, colour(key))
        axes.set_title(course.panel.title)
        epochs_axis(axes)
    places[0].set_ylabel("test accuracy, %")
    legend_below(figure, places, columns=3)
    return figure
