"""How training went: accuracy, the terms of the loss, and a method's first step."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdnb import page
from kdnb.exhibits import Cell
from kdnb.exhibits.runs import first_steps
from kdnb.exhibits.show import Shown
from kdnb.plots.histories import band, epochs_axis, gathered, logarithmic, long, percent
from kdnb.plots.panels import Panel, columns_for, entitle, legend_below, unmeasured
from kdnb.plots.style import Plot, colour, combined, for_phones_too, side_by_side, style, width
from kdnb.study.store import Store
from kdnb.tables.method import scale_told
from kdnb.tables.words import slug

ACCURACY = "validation_accuracy"
#: A stage's columns that are not terms of its training loss; accuracies of whomever are none either.
OTHER = ("epoch", "lr", "validation_loss", "validation_ce")
#: How names of columns begin or end that a method observes and does not minimise: divergences between answers, and
#: lengths of gradients.
OBSERVED, GRADIENT = "kl_", "_gradient"
DASHES = ("-", "--", ":", "-.")
#: How a legend calls the terms whose names in a history say too little.  Legends are short: a panel is narrow.
TERMS = {
    "ce": "cross-entropy",
    "crd": "CRD",
    "dkd": "DKD",
    "even": "label smoothing",
    "inner": "inner layers",
    "kd": "KD",
    "last": "last layer",
    "learning": "self-learning loss",
    "mmd": "MMD",
    "pairs": "pairs of images",
    "self": "KD, self-learning",
    "soft": "teacher's answers",
}
#: How the names of a peer's own terms begin, where two networks teach each other.
PEER = "peer_"


@for_phones_too
def curves(runs: Shown, of: str, name: str = "") -> Plot:
    """Validation accuracy of every row, the loss terms of row `of`, and its first step where it has one.

    Lines are means over seeds, bands go from the lowest to the highest.  Where rows of several pairs of networks are
    shown, every pair has a column of panels, and `of` may be the line that they have in common.
    """
    runs = runs.once()
    own = [cell for cell in runs.cells if of in (cell.key, cell.row.key)]
    label = own[0].row.label if own else of
    histories, first = _histories(runs), _first_steps(own)
    terms = _terms(histories[histories["row"].isin([cell.key for cell in own])])
    shown, name = _panels(runs, set(histories["row"])), name or f"curves-{slug(of)}"
    if not shown:
        return unmeasured(f"Training of {label}, {scale_told(runs)}", name, histories)
    with style():
        figure = _drawn(runs, shown, histories, terms, first, _step_number(own))
    pairs = ", ".join(panel.sentence for panel in shown if panel.pair)
    caption = f"Training, {pairs}" if pairs else f"Training, {scale_told(runs)}"
    one = terms["column"].nunique() == 1
    terms_told = f"the loss of {label}" if one else f"each term of the loss of {label}, times its weight"
    caption += f": {_scored(runs).lower()} accuracy; {terms_told}"
    step = _step_number(own)
    caption += f"; its {'first step' if step == 1 else f'step {step}'}. " if not first.empty else ". "
    caption += _seeds_told(runs) + _without_a_curve(runs, histories)
    caption += " A demo says nothing about the paper." if runs.profile == "demo" and not page.in_book() else ""
    demo = runs.profile == "demo"
    return Plot(figure, name, caption, gathered([histories, first]), _seen(runs, histories, terms), demo)


def _seen(runs: Shown, histories: pd.DataFrame, terms: pd.DataFrame) -> str:
    """Where the curves end, for who cannot see them: of accuracy, the best first; of rows without one, their terms."""
    accurate = set(histories[histories["column"] == ACCURACY]["row"])
    told = [_accuracies_told(runs, histories), _terms_told(runs, terms, accurate)]
    return " ".join([f"Curves of training, {scale_told(runs)}.", *(part for part in told if part)])


def _accuracies_told(runs: Shown, histories: pd.DataFrame) -> str:
    drawn = histories[histories["column"] == ACCURACY]
    labels = {cell.key: cell.title for cell in runs.cells}
    means = percent(_last(drawn)).groupby("row")["value"].mean().sort_values(ascending=False)
    ends = ", ".join(f"{labels[str(row)]} {mean:.2f} %" for row, mean in means.items())
    return f"{_scored(runs)} accuracy after the last epoch: {ends}." if ends else ""


def _terms_told(runs: Shown, terms: pd.DataFrame, accurate: set[str]) -> str:
    """The terms of the loss after the last epoch, of rows that have no curve of accuracy."""
    labels, told = {cell.key: cell.title for cell in runs.cells}, []
    for row, lines in _last(terms[~terms["row"].isin(accurate)]).groupby("row", sort=False):
        means = lines.groupby("column", sort=False)["value"].mean()
        ends = ", ".join(f"{term_label(str(term))} {mean:.3g}" for term, mean in means.items())
        told.append(f"{labels[str(row)]}, loss in the last epoch: {ends}.")
    return " ".join(told)


def _last(lines: pd.DataFrame) -> pd.DataFrame:
    """What histories have of their last epochs."""
    return lines[lines["epoch"] == lines.groupby(["row", "seed"])["epoch"].transform("max")]


def _without_a_curve(runs: Shown, histories: pd.DataFrame) -> str:
    """Why rows have no curve of accuracy, and which have one; begins with a blank, or is empty."""
    measured, drawn = set(histories["row"]), set(histories[histories["column"] == ACCURACY]["row"])
    if measured == drawn:
        return ""
    names = list(dict.fromkeys(cell.row.label for cell in runs.cells if cell.key in drawn))
    only = f"only {' and '.join(names)} {'have' if len(names) > 1 else 'has'} a curve" if names else "none has a curve"
    return f" The classifier of methods without labels learns nothing, so {only} of accuracy."


def _seeds_told(runs: Shown) -> str:
    """Of how many seeds the lines are."""
    counts = sorted(set(runs.frame.groupby("row")["seed"].nunique()))
    if counts in ([], [1]):
        return "Lines are of one seed."
    many = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"Lines are means over {many} seeds, bands go from the lowest to the highest."


def _scored(runs: Shown) -> str:
    """What the protocol calls the images on which accuracy is told after every epoch."""
    splits = {cell.experiment.images.split for cell in runs.cells if cell.experiment is not None}
    return "Test" if splits == {"test"} else "Validation"


def _panels(runs: Shown, measured: set[str]) -> list[Panel]:
    """One for every pair of networks that has runs; one for all where an exhibit has no pairs."""
    by_pair = {cell.column.pair: cell for cell in runs.cells if cell.key in measured}
    return [Panel(cell.profile.name, cell.column) for cell in by_pair.values()]


def _drawn(
    runs: Shown, shown: Sequence[Panel], histories: pd.DataFrame, terms: pd.DataFrame, first: pd.DataFrame, step: int
) -> Figure:
    labels = {cell.key: cell.row.label for cell in runs.cells}
    kinds = 1 + (not terms.empty) + (not first.empty)
    figure, places = _places(kinds, len(shown))
    for panel, column in zip(shown, places, strict=True):
        rest = iter(column)
        _accuracy(next(rest), _of(histories, panel), labels, _scored(runs))
        if not terms.empty:
            _losses(next(rest), _of(terms, panel))
        if not first.empty:
            _first_step(next(rest), _of(first, panel), step)
        if len(shown) > 1:
            entitle(column[0], panel, len(shown))
            column[0].set_ylabel(f"{_scored(runs).lower()} accuracy, %")
    legend_below(figure, [column[0] for column in places], columns=4)
    return figure


def _places(kinds: int, pairs: int) -> tuple[Figure, list[list[Axes]]]:
    """For every pair of networks its panels, one of each kind: side by side for one pair, else below each other."""
    if pairs == 1:
        figure, of_each_kind = side_by_side(kinds, 3.1)
        return figure, [of_each_kind]
    columns = columns_for(pairs)
    blocks = -(-pairs // columns)
    figure = Figure(figsize=(width(), 2.3 * kinds * blocks + 0.7))
    grid = figure.subplots(kinds * blocks, columns, squeeze=False).reshape(blocks, kinds, columns)
    places = [list(grid[block, :, column]) for block in range(blocks) for column in range(columns)]
    for unused in places[pairs:]:
        for axes in unused:
            axes.set_axis_off()
    return figure, places[:pairs]


def _of(lines: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    return lines[[str(row).rpartition("/")[0] == panel.key for row in lines["row"]]]


# -- numbers -----------------------------------------------------------------------------------------------


def _histories(runs: Shown) -> pd.DataFrame:
    return gathered(long(row, record) for row, record in zip(runs.frame["row"], runs.records, strict=True))


def _terms(lines: pd.DataFrame) -> pd.DataFrame:
    """The columns whose sum is minimised."""
    return lines[[_is_term(str(column)) for column in lines["column"]]]


def _is_term(column: str) -> bool:
    observed = column.startswith(OBSERVED) or column.endswith(("_accuracy", GRADIENT))
    return column not in OTHER and not observed


def _first_steps(cells: Sequence[Cell]) -> pd.DataFrame:
    """Histories of the stages that come before the usual training and have records of their own.

    The row of such a line is the stage's name, behind its pair of networks where there is one.
    """
    store = Store.open()
    parts = []
    for cell in cells:
        pair = f"{cell.column.pair.key}/" if cell.column.pair else ""
        for stage, records in first_steps(cell, store).items():
            parts += [long(f"{pair}{stage}@{cell.row.key}", record) for record in records]
    return gathered(parts)


def _step_number(cells: Sequence[Cell]) -> int:
    """Which of its method's steps the stage before the usual training is: those of the teacher alone come first."""
    return 1 + max((len(cell.experiment.steps()) for cell in cells if cell.experiment), default=0)


def term_label(term: str) -> str:
    """How a legend calls a term: `cross-entropy`, `peer: cross-entropy`, and of each of several layers `hint 1`."""
    if term.startswith(PEER):
        return f"peer: {term_label(term.removeprefix(PEER))}"
    name = re.sub(r"(?<=[a-z])(?=\d+$)", " ", term)
    return TERMS.get(term, re.sub("[-_]", " ", name))


# -- panels ------------------------------------------------------------------------------------------------


def _accuracy(axes: Axes, histories: pd.DataFrame, labels: dict[str, str], scored: str) -> None:
    part = histories[histories["column"] == ACCURACY]
    for row, lines in part.groupby("row", sort=False):
        key = str(row)
        band(axes, percent(lines), labels[key], colour(key), "--" if combined(key) else "-")
    axes.set(title=f"{scored} accuracy", ylabel="percent")
    epochs_axis(axes)


def _losses(axes: Axes, terms: pd.DataFrame) -> None:
    _dashed(axes, terms)
    axes.set(title="Terms of the loss", ylabel="training mean")
    epochs_axis(axes)
    axes.legend()


def _dashed(axes: Axes, terms: pd.DataFrame) -> None:
    for dash, (term, lines) in zip(DASHES * 9, terms.groupby("column", sort=False), strict=False):
        band(axes, lines, term_label(str(term)), colour(str(lines["row"].iloc[0])), dash)


def _first_step(axes: Axes, first: pd.DataFrame, step: int) -> None:
    """The loss on validation images where the stage selects by it, else the terms that it minimises."""
    stage, _, line = str(first["row"].iloc[0]).rpartition("/")[2].partition("@")
    part = first[first["column"] == "validation_loss"]
    if part.empty:
        part = _terms(first)
        _dashed(axes, part.assign(row=line))
        axes.legend()
    else:
        band(axes, part, "validation", colour(line))
    axes.set(title=f"Step {step}: {stage}", ylabel="loss")
    epochs_axis(axes)
    if (part["value"] > 0).all():
        logarithmic(axes)
