"""Flows of information: how much each layer of a network knows of the labels, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdnb.exhibits import Exhibit
from kdnb.exhibits.names import network_title
from kdnb.exhibits.runs import runs_of
from kdnb.plots.histories import epochs_axis
from kdnb.plots.kept import Found, Kept, find, plot
from kdnb.plots.panels import legend_below
from kdnb.plots.style import Plot, for_phones_too, in_columns, on_a_phone
from kdnb.study.record import Record
from kdnb.study.store import Store

LAYERS = (1, 2, 3, 4)
#: A layer's colour, from the first to the last; all are of middle lightness.
COLOURS = ("#d9a441", "#d1654c", "#9c4a8a", "#4b5aa8")
#: What is drawn of a flow: the measurement's name, its axis, and what it is multiplied by.
KINDS = {"ncc": ("nearest centroid, %", 100.0), "qmi": ("mutual information (QMI)", 1.0)}
#: A stretch of a paper's epochs with a name of its own.
Period = tuple[str, int, int]


@for_phones_too
def flows(exhibit: Exhibit | str, profile: str = "demo", name: str = "", periods: Sequence[Period] = ()) -> Plot:
    """A column of panels for every row that was followed, a line a layer; dots are the teacher's layers at its end.

    `periods` are marked in the last column, as the method of its row has them.
    """
    names = tuple(f"course_{kind}_{layer}" for kind in KINDS for layer in LAYERS)
    found = find(exhibit, profile, None, ("flow_course_epochs", *names))
    taught = _teacher(found)
    caption = "How much each layer knows of the labels: accuracy of the nearest class mean, and quadratic mutual "
    caption += "information by the cosine kernel, on the test images. Layers 1 to 3 are the stages, 4 is the embedding."
    if taught is not None:
        caption += f" Dotted: the layers of {_network(taught)} at its end."
    if periods:
        caption += f" Bands: {', '.join(f'{number} {name}' for number, (name, *_) in enumerate(periods, 1))}."
    parts, columns = map(_long, found.kept.values()), ["line", "epoch", *(n.removeprefix("course_") for n in names)]
    return plot(found, (name, "flows"), caption, lambda: _figure(found, taught, periods), parts, columns, _ends_told)


def _teacher(found: Found) -> Record | None:
    """The teacher's run at the scale that is drawn, if its flow is known."""
    if found.panel is None:
        return None
    rows = [row for row in found.exhibit.rows if row.role == "teacher"]
    cells = found.exhibit.cells(found.panel.profile, None, rows)
    here = [r for _, r in runs_of(cells, Store.open()) if all(f"ncc_{layer}" in r.metrics for layer in LAYERS)]
    return here[0] if here else None


def _figure(found: Found, taught: Record | None, periods: Sequence[Period]) -> Figure:
    figure, places = in_columns(len(found.kept), len(KINDS), 5.0, share=True)
    for place, (column, kept) in enumerate(zip(places.T, found.kept.values(), strict=True)):
        for axes, (kind, (what, factor)) in zip(column, KINDS.items(), strict=True):
            epochs = kept.arrays["flow_course_epochs"]
            for layer, hue in zip(LAYERS, COLOURS, strict=True):
                values = factor * kept.arrays[f"course_{kind}_{layer}"]
                axes.plot(epochs, values, color=hue, marker=".", label=f"layer {layer}")
                if taught is not None:
                    axes.axhline(factor * taught.metrics[f"{kind}_{layer}"], color=hue, linestyle=":", linewidth=1)
            if place == 0 or on_a_phone():
                axes.set_ylabel(what)
        column[0].set_title(kept.cell.row.label)
        epochs_axis(column[-1])
    last = list(found.kept.values())[-1]
    for axes, numbered in zip(places[:, -1], (False, True), strict=True):
        _mark(axes, last, periods, numbered)
    legend_below(figure, places.ravel(), 4)
    return figure


def _mark(axes: Axes, kept: Kept, periods: Sequence[Period], numbered: bool) -> None:
    """Periods of the paper's epochs as bands, each as far as the run went; the caption names them by their numbers."""
    whole = kept.record.experiment["recipe"]["epochs"]
    ratio = kept.record.metrics["epochs"] / whole
    for number, (_, begin, end) in enumerate(periods):
        axes.axvspan(begin * ratio, end * ratio, color="#888888", alpha=0.08 + 0.08 * (number % 2), linewidth=0)
        if numbered:
            middle, across = (begin + end) / 2 * ratio, axes.get_xaxis_transform()
            axes.text(middle, 1.01, str(number + 1), fontsize=8, ha="center", va="bottom", transform=across)


def _ends_told(kept: Kept) -> str:
    """Where the lines end: `in the end, layers 1 to 4, nearest centroid, % 31, 42, 55, 60`."""
    told = []
    for kind, (what, factor) in KINDS.items():
        ends = ", ".join(f"{factor * kept.arrays[f'course_{kind}_{layer}'][-1]:.3g}" for layer in LAYERS)
        told.append(f"{what}: {ends}")
    return f"in the end, layers {LAYERS[0]} to {LAYERS[-1]}, {'; '.join(told)}"


def _long(kept: Kept) -> pd.DataFrame:
    columns = {"epoch": kept.arrays["flow_course_epochs"].astype(int)}
    columns |= {
        name.removeprefix("course_"): np.round(values, 5)
        for name, values in kept.arrays.items()
        if name.startswith("course_")
    }
    return pd.DataFrame(columns).assign(line=kept.cell.row.key)


def _network(record: Record) -> str:
    return network_title(str(record.experiment["network"]["name"]))
