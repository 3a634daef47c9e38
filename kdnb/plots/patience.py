"""Longer training: what each method reaches with more epochs, and whether its gain stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from kdnb import exhibits
from kdnb.exhibits import Exhibit
from kdnb.exhibits.runs import SCALES
from kdnb.plots.panels import unmeasured
from kdnb.plots.style import Plot, across, colour, combined, for_phones_too, side_by_side, style
from kdnb.study.store import Store
from kdnb.tables.patience import Gains, gains_at_equal_length
from kdnb.tables.ranking import PLAIN, Ranked, measured_rows
from kdnb.tables.words import measured_at, title

COLUMNS = ["method", "row", "profile", "dataset", "seed", "epochs", "value"]


@for_phones_too
def patience(exhibit: Exhibit | str, profile: str = "demo", name: str = "patience") -> Plot:
    """By epochs of the last stage, a line a method: accuracy, and the gain over a plain student that had as many.

    At the largest scale that has runs of several lengths.
    """
    exhibit, store = exhibits.get(exhibit), Store.open()
    for scale in dict.fromkeys([*SCALES, profile]):
        rows = measured_rows(exhibit.cells(scale, exhibit.datasets_of(scale)[0]), store)
        frame = _frame(rows, scale)
        if frame["epochs"].nunique() > 1:
            return _drawn(exhibit, frame, gains_at_equal_length([r for r in rows if r.records], PLAIN), scale, name)
    what = "How gains change with the epochs, of rows that have several lengths of training"
    return unmeasured(exhibit.title, name, pd.DataFrame(columns=COLUMNS), what)


def _frame(rows: Sequence[Ranked], scale: str) -> pd.DataFrame:
    found = [
        (row.cell.row.method, row.key, scale, row.cell.dataset, r.seed, r.metrics["epochs"], row.cell.score.of(r))
        for row in rows
        for r in row.records
    ]
    return pd.DataFrame(found, columns=COLUMNS)


def _drawn(exhibit: Exhibit, frame: pd.DataFrame, gains: Gains, scale: str, name: str) -> Plot:
    labels = {row.method: row.label for row in reversed(exhibit.rows)}
    epochs = frame.groupby("row")["epochs"].mean()
    with style():
        figure, (first, second) = side_by_side(2, 3.4)
        for method, runs in frame.groupby("method", sort=False):
            hue, label = colour(str(method)), labels[str(method)]
            look, shade = {"color": hue, "label": label, "markersize": 4}, {"color": hue, "alpha": 0.15, "linewidth": 0}
            dash = "--o" if combined(str(method)) else "-o"
            by_epochs = runs.groupby("epochs")["value"]
            mean = by_epochs.mean()
            first.plot(mean.index, mean, dash, **look)
            first.fill_between(
                mean.index, by_epochs.min(), by_epochs.max(), color=look["color"], alpha=0.15, linewidth=0
            )
            own = sorted((epochs[row], gains[row]) for row in runs["row"].unique() if row in gains)
            if own:
                at, found = zip(*own, strict=True)
                second.plot(at, [gain.value for gain in found], dash, **look)
                second.fill_between(at, [gain.low for gain in found], [gain.high for gain in found], **shade)
        ticks = sorted(epochs.unique())
        for axes, says in ((first, "accuracy, %"), (second, "gain over the plain student, points")):
            axes.set_xscale("log", base=2)
            axes.set_xticks(ticks, [f"{n:.0f}" for n in ticks])
            axes.set(xlabel="epochs of the last stage", ylabel=says)
        second.axhline(0, color=colour(PLAIN), linewidth=0.8)
        figure.legend(*first.get_legend_handles_labels(), loc="outside upper center", ncols=across(4))
    where = f"{measured_at(scale)}, {title(str(frame['dataset'].iloc[0]))}"
    caption = (
        f"{exhibit.title} {where[:1].upper()}{where[1:]}, means over {_told(frame.groupby('row')['seed'].nunique())}. "
        "First accuracy, bands from the lowest to the highest; then the gain over the plain student that trained for "
        "as many epochs, with 95 % intervals that hold together."
    )
    return Plot(figure, name, caption, frame, f"Accuracy and gain by epochs. {_seen(frame, gains, labels, epochs)}.")


def _seen(frame: pd.DataFrame, gains: Gains, labels: Mapping[str, str], epochs: pd.Series) -> str:
    """The picture in words: each method's accuracy and gain at each number of epochs."""
    told = []
    for method, runs in frame.groupby("method", sort=False):
        at = []
        for row, of in runs.groupby("row", sort=False):
            gain = f" (gain {gains[str(row)].value:+.1f})" if row in gains else ""
            at.append(f"{of['value'].mean():.1f}{gain} at {epochs[row]:.0f}")
        told.append(f"{labels[str(method)]}: {', '.join(at)}")
    return "; ".join(told)


def _told(counts: pd.Series) -> str:
    low, high = counts.min(), counts.max()
    return "one seed" if high == 1 else f"{high} seeds" if low == high else f"{low} to {high} seeds"
