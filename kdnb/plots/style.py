"""How figures look: one style for all, one colour per method, vector graphics with their numbers beside them."""

from __future__ import annotations

import hashlib
import io
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from kdnb import page

#: A colour stands for a method everywhere; its combination with KD has the same, dashed or hollow.  All are of
#: middle lightness, since a dark page turns lightness round.
COLOURS = {
    "teacher": "#222222",
    "plain": "#7a7a7a",
    "kd": "#0f72b5",
    "fitnet": "#c98400",
    "fsp": "#0d9a6c",
    "pkt": "#cc5fa0",
    "mmd-linear": "#3a9ad1",
    "mmd-polynomial": "#8c63b8",
    "mmd-gaussian": "#5546a8",
    "crd": "#d5581a",
}
#: Width of the text in inches: figures are drawn for it and shrink on narrow screens.
WIDTH = 7.2


def colour(method: str) -> Any:
    """The colour of a method or row; one that is not in the list gets a fixed one from its name."""
    base = method.partition("+")[0]
    if base in COLOURS:
        return COLOURS[base]
    wheel = sns.color_palette("husl", 24)
    return wheel[int(hashlib.sha256(base.encode()).hexdigest(), 16) % len(wheel)]


def combined(method: str) -> bool:
    """Whether a row is a method together with KD."""
    return method.endswith("+kd")


def style() -> AbstractContextManager[None]:
    """The style of all figures, as a context."""
    sns_style = sns.axes_style("ticks")
    own: Any = {
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.labelsize": 10,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#d8d8d8",
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.8,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "svg.fonttype": "path",
        "figure.constrained_layout.use": True,
    }
    return mpl.rc_context({**sns_style, **own})


@dataclass
class Plot:
    """A figure with its caption, its name, and the numbers that it shows."""

    figure: Figure
    name: str
    caption: str
    frame: pd.DataFrame

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        text = {"text/plain": self.caption}
        if page.in_book():
            return text | {"text/markdown": self.to_myst()}
        return text | {"image/svg+xml": self.to_svg()}, {"image/svg+xml": {"needs_background": "light"}}

    def to_myst(self) -> str:
        """The figure for the book; writes the picture and the CSV beside the page."""
        folder = page.folder()
        (folder / f"{self.name}.svg").write_text(self.to_svg())
        self.frame.to_csv(folder / f"{self.name}.csv", index=False)
        return "\n".join(
            [
                f":::{{figure}} {self.name}.svg",
                f":name: fig-{self.name}",
                f":alt: {self.caption}",
                ":class: dark-light kdnb-plot",
                "",
                f"{self.caption} {{download}}`CSV <{self.name}.csv>`",
                ":::",
            ]
        )

    def to_svg(self) -> str:
        """The picture; the same numbers give the same bytes."""
        stream = io.StringIO()
        with mpl.rc_context({"svg.hashsalt": self.name, "svg.fonttype": "path"}):
            self.figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
        return stream.getvalue()
