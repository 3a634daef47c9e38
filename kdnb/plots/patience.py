"""Longer training: what each method reaches with more epochs, and whether its lead stays."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from kdnb import exhibits
from kdnb.exhibits import Exhibit
from kdnb.exhibits.runs import SCALES, runs_of
from kdnb.plots.panels import nothing_yet
from kdnb.plots.style import WIDTH, Plot, colour, combined, style
from kdnb.study.store import Store
from kdnb.tables.words import measured_at, title

COLUMNS = ["method", "row", "profile", "dataset", "seed", "epochs", "value"]


def patience(exhibit: Exhibit | str, profile: str = "demo", name: str = "patience") -> Plot:
    """Accuracy by epochs of the last stage, a line a method, at the largest scale that has runs of several lengths."""
    exhibit, store = exhibits.get(exhibit), Store.open()
    for scale in dict.fromkeys([*SCALES, profile]):
        frame = _frame(exhibit, scale, store)
        if frame["epochs"].nunique() > 1:
            return _drawn(exhibit, frame, scale, name)
    with style():
        figure = nothing_yet(exhibit.title)
    return Plot(figure, name, exhibit.title, pd.DataFrame(columns=COLUMNS))


def _frame(exhibit: Exhibit, scale: str, store: Store) -> pd.DataFrame:
    found = [
        (cell.experiment.method, cell.row.key, scale, cell.dataset, r.seed, r.metrics["epochs"], cell.score.of(r))
        for cell, r in runs_of(exhibit.cells(scale, exhibit.datasets_of(scale)[0]), store)
        if cell.experiment is not None
    ]
    return pd.DataFrame(found, columns=COLUMNS)


def _drawn(exhibit: Exhibit, frame: pd.DataFrame, scale: str, name: str) -> Plot:
    labels = {row.method: row.label for row in reversed(exhibit.rows)}
    with style():
        figure = Figure(figsize=(WIDTH, 3.2))
        axes = figure.subplots()
        for method, runs in frame.groupby("method", sort=False):
            by_epochs = runs.groupby("epochs")["value"]
            mean, hue = by_epochs.mean(), colour(str(method))
            dash = "--o" if combined(str(method)) else "-o"
            axes.plot(mean.index, mean, dash, color=hue, label=labels[str(method)], markersize=4)
            axes.fill_between(mean.index, by_epochs.min(), by_epochs.max(), color=hue, alpha=0.15, linewidth=0)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(frame["epochs"].unique()), [f"{n:.0f}" for n in sorted(frame["epochs"].unique())])
        axes.set(xlabel="epochs of the last stage", ylabel="accuracy, %")
        axes.legend()
    where = f"{measured_at(scale)}, {title(str(frame['dataset'].iloc[0]))}"
    counts = frame.groupby(["row"])["seed"].nunique()
    caption = f"{exhibit.title} Accuracy by the epochs of the last stage, {where}: means over {_told(counts)}, "
    ends = frame.groupby(["method", "epochs"])["value"].mean().unstack()
    seen = "; ".join(
        f"{labels[str(m)]}: {', '.join(f'{v:.1f} at {n:.0f}' for n, v in of.dropna().items())}"
        for m, of in ends.iterrows()
    )
    return Plot(figure, name, caption + "bands from the lowest to the highest.", frame, f"Accuracy by epochs. {seen}.")


def _told(counts: pd.Series) -> str:
    low, high = counts.min(), counts.max()
    return "one seed" if high == 1 else f"{high} seeds" if low == high else f"{low} to {high} seeds"
