"""How precision falls with recall: measured networks, and beside them those that a paper's authors published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdnb.exhibits import Exhibit
from kdnb.plots.kept import Found, Kept, find, plot
from kdnb.plots.panels import legend_below
from kdnb.plots.style import Plot, colour, for_phones_too, side_by_side

LEVELS = np.arange(11) / 10
#: Distance -> the panel's title.
DISTANCES = {"euclidean": "Euclidean distance", "cosine": "cosine distance"}
WHOSE = ("measured", "published")
#: (Row, distance) -> precision in percent at each level.
Published = Mapping[tuple[str, str], Sequence[float]]


@for_phones_too
def recalls(exhibit: Exhibit | str, published: Published, profile: str = "demo", name: str = "") -> Plot:
    """A panel a distance: lines are measured, dashes are the published networks of the same rows."""
    found = find(exhibit, profile, None, tuple(f"recall_levels_{distance}" for distance in DISTANCES))
    caption = "Precision at eleven levels of recall, the training images as database; the mean of the eleven is the "
    caption += "published mAP. Lines are measured; dashes are the networks that the authors published."
    parts, columns = (_long(kept, published) for kept in found.kept.values()), ["line", "distance", "recall", *WHOSE]
    return plot(found, (name, "recalls"), caption, lambda: _figure(found, published), parts, columns, _fall_told)


def _figure(found: Found, published: Published) -> Figure:
    figure, places = side_by_side(len(DISTANCES), 3.6, share=True)
    for axes, (distance, title) in zip(places, DISTANCES.items(), strict=True):
        for row, kept in found.kept.items():
            hue, values = colour(row), 100 * kept.arrays[f"recall_levels_{distance}"]
            axes.plot(LEVELS, values, color=hue, marker=".", label=kept.cell.row.label)
            if (row, distance) in published:
                axes.plot(LEVELS, published[row, distance], "--", color=hue, linewidth=1.2)
        axes.set(title=title, xlabel="recall", ylim=(0, 100))
    places[0].set_ylabel("precision, %")
    legend_below(figure, places, 3)
    return figure


def _fall_told(kept: Kept) -> str:
    """How far each line falls: from no recall to all of it."""
    told = []
    for distance, title in DISTANCES.items():
        values = 100 * kept.arrays[f"recall_levels_{distance}"]
        told.append(
            f"by {title} precision falls from {values[0]:.0f} to {values[-1]:.0f} %, mean {values.mean():.0f} %"
        )
    return "; ".join(told)


def _long(kept: Kept, published: Published) -> pd.DataFrame:
    row, unknown = kept.cell.row.key, [np.nan] * len(LEVELS)
    parts = [
        pd.DataFrame(
            {
                "distance": distance,
                "recall": LEVELS,
                "measured": (100 * kept.arrays[f"recall_levels_{distance}"]).round(3),
                "published": published.get((row, distance), unknown),
            }
        )
        for distance in DISTANCES
    ]
    return pd.concat(parts).assign(line=row)
