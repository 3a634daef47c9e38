"""How training went: accuracy, the terms of the loss, and a method's first step."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from kdnb.exhibits import Cell
from kdnb.exhibits.show import Shown
from kdnb.plots.style import WIDTH, Plot, colour, combined, style
from kdnb.study.record import Record
from kdnb.study.store import Store

ACCURACY = "validation_accuracy"
#: Columns of a history that are not terms of the training loss.
OTHER = ("epoch", "lr", "train_accuracy", "validation_accuracy", "validation_loss")
COLUMNS = ["row", "seed", "epoch", "column", "value"]
DASHES = ("-", "--", ":", "-.")


def curves(runs: Shown, of: str, name: str = "") -> Plot:
    """Validation accuracy of every row, the loss terms of row `of`, and its first step where it has one.

    Lines are means over seeds, bands go from the lowest to the highest.
    """
    histories = _histories(runs)
    terms = _terms(histories[histories["row"] == of])
    first = _first_step(runs, of)
    panels = 1 + (not terms.empty) + (not first.empty)
    with style():
        figure = Figure(figsize=(WIDTH, 3.1))
        axes = figure.subplots(1, panels, squeeze=False)[0]
        _accuracy(axes[0], histories, {cell.row.key: cell.row.label for cell in runs.cells})
        rest = list(axes[1:])
        if not terms.empty:
            _losses(rest.pop(0), terms, of)
        if not first.empty:
            _step_one(rest.pop(0), first, of)
    label = next((c.row.label for c in runs.cells if c.row.key == of), of)
    caption = f"Training under profile {runs.profile}: validation accuracy; the terms of the loss of {label}"
    caption += "; its first step." if not first.empty else "."
    return Plot(figure, name or f"curves-{of.replace('+', '-')}", caption, pd.concat([histories, first]))


def _histories(runs: Shown) -> pd.DataFrame:
    """Long form: row, seed, epoch, column, value."""
    rows = runs.frame["row"].tolist()
    parts = [_long(row, record) for row, record in zip(rows, runs.records, strict=True)]
    return pd.concat(parts) if parts else pd.DataFrame(columns=COLUMNS)


def _long(row: str, record: Record) -> pd.DataFrame:
    frame = pd.DataFrame({k: v for k, v in record.history.items() if "." not in k})
    return frame.melt("epoch", var_name="column").assign(row=row, seed=record.seed)


def _terms(histories: pd.DataFrame) -> pd.DataFrame:
    return histories[~histories["column"].isin(OTHER)]


def _first_step(runs: Shown, of: str) -> pd.DataFrame:
    """The history of the stage that comes before the usual training, which has a record of its own."""
    store, parts = Store.open(), []
    for cell in runs.cells:
        if cell.row.key == of:
            parts += [_long(stage, record) for stage, record in _stage_records(cell, store)]
    return pd.concat(parts) if parts else pd.DataFrame(columns=COLUMNS)


def _stage_records(cell: Cell, store: Store) -> list[tuple[str, Record]]:
    found = []
    for stage in cell.experiment.shared_stages() if cell.experiment else []:
        found += [(str(stage.stage), r) for r in store.records(stage.fingerprint).values()]
    return found


def _accuracy(axes: Axes, histories: pd.DataFrame, labels: dict[str, str]) -> None:
    part = histories[histories["column"] == ACCURACY]
    for row, lines in part.groupby("row", sort=False):
        key = str(row)
        _band(axes, lines.assign(value=100 * lines["value"]), labels[key], colour(key), "--" if combined(key) else "-")
    axes.set(title="Validation accuracy", xlabel="epoch", ylabel="percent")
    handles, names = axes.get_legend_handles_labels()
    axes.figure.legend(handles, names, loc="outside lower center", ncols=min(4, max(1, len(names))))


def _losses(axes: Axes, terms: pd.DataFrame, of: str) -> None:
    for dash, (term, lines) in zip(DASHES * 9, terms.groupby("column", sort=False), strict=False):
        _band(axes, lines, str(term), colour(of), dash)
    axes.set(title="Terms of the loss", xlabel="epoch", ylabel="training mean")
    axes.legend()


def _step_one(axes: Axes, first: pd.DataFrame, of: str) -> None:
    stage = first["row"].iloc[0]
    part = first[first["column"] == "validation_loss"]
    _band(axes, part, "validation", colour(of), "-")
    axes.set(title=f"Step 1: {stage}", xlabel="epoch", ylabel="loss")
    if (part["value"] > 0).all():
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())


def _band(axes: Axes, lines: pd.DataFrame, label: str, hue: object, dash: str) -> None:
    by_epoch = lines.groupby("epoch")["value"]
    mean, low, high = by_epoch.mean(), by_epoch.min(), by_epoch.max()
    axes.plot(mean.index, mean, dash, color=hue, label=label)
    axes.fill_between(mean.index, low, high, color=hue, alpha=0.15, linewidth=0)
