"""How figures look: one style for all, one colour per method, vector graphics with their numbers beside them."""

from __future__ import annotations

import functools
import hashlib
import io
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdnb import page
from kdnb.tables.words import NOT_YET

P = ParamSpec("P")

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
    "at": "#968f22",
    "sp": "#0b8f96",
    "rkd": "#8d6748",
    "ofd": "#4b9a2c",
    "reviewkd": "#b03fc0",
    "dkd": "#5a72e0",
    # A method's variants are of its hue.
    "slkd": "#c01d3f",
    "slkd-one": "#f0894f",
    "slkd-self": "#7f2f8c",
    "slkd-self-one": "#c08ac4",
    "slkd-sequential": "#8c3b33",
    "slkd-detached": "#e27f92",
    "kd-control": "#40608c",
    "srm": "#ac78f3",
    "srm-pixel": "#064dc6",
    "srm-image": "#fa5855",
    "srm-shuffled": "#006742",
    # A method and what inherits and explores after it are of one hue.
    "ft": "#2d835b",
    "ie-ft": "#087487",
    "ie-at": "#a97e41",
    "ie-od": "#7da461",
    "ie-ft-spared": "#9878ac",
    "ft-50": "#73b693",
    "tf-kd": "#7b82d3",
    "dml": "#f06912",
    "dml-brief": "#b19a68",
    "ie-dml": "#a1264f",
    "independent": "#949087",
    "aux": "#53555c",
    "distill": "#5683ad",
    "hint": "#b8a015",
    "hint-h": "#846f00",
    "mkt": "#7da90c",
    "mkt-h": "#507718",
    "pkt-h": "#983f77",
    "flow": "#c23901",
    "flow-last": "#be8378",
    "flow-even": "#9c4d13",
    "contrastive": "#649782",
}
#: Width of the text in inches: of a page, and of a page on a phone.
WIDTH, PHONE = 7.2, 4.0
_width = ContextVar("width", default=WIDTH)
#: So many letters of a name stand in a line beside a phone's panel.
NAME = 20
#: Dots per inch of what is drawn as an image within a picture: clouds of points, heat maps.
IMAGE_DPI = 160


def colour(method: str) -> Any:
    """The colour of a method or row, whatever its pair of networks; one that is not listed has a fixed one by name."""
    name = base(method)
    if name in COLOURS:
        return COLOURS[name]
    wheel = sns.color_palette("husl", 24)
    return wheel[int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(wheel)]


def base(method: str) -> str:
    """A row's key less its pair of networks and less its combination with KD: what a colour stands for."""
    return method.rpartition("/")[2].partition("+")[0]


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


# -- places on the page ------------------------------------------------------------------------------------


def width() -> float:
    """How wide a figure is drawn, in inches."""
    return _width.get()


def on_a_phone() -> bool:
    """Whether the figure that is being drawn is a phone's: its panels stand below each other."""
    return width() < WIDTH


@contextmanager
def drawn_for_a_phone() -> Iterator[None]:
    """Figures that are drawn in here are a phone's."""
    token = _width.set(PHONE)
    try:
        yield
    finally:
        _width.reset(token)


def side_by_side(count: int, height: float, share: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels of a height in inches, on a phone below each other.

    With `share` they have one scale of values.
    """
    lines, columns = (count, 1) if on_a_phone() else (1, count)
    figure = Figure(figsize=(width(), height * lines))
    return figure, list(figure.subplots(lines, columns, squeeze=False, sharey=share).flat)


def in_columns(columns: int, panels: int, height: float, share: bool = False) -> tuple[Figure, np.ndarray]:
    """Axes [panels, columns]: the panels of a column below each other; columns side by side, on a phone in turn.

    `height` is a column's, in inches.  With `share` the same panel of every column has one scale of values.
    """
    if not on_a_phone():
        figure = Figure(figsize=(width(), height))
        return figure, figure.subplots(panels, columns, squeeze=False, sharex="col", sharey="row" if share else False)
    figure = Figure(figsize=(width(), height * columns))
    places = figure.subplots(columns * panels, 1, squeeze=False).reshape(columns, panels).T
    for first, *others in places if share else ():
        for axes in others:
            axes.sharey(first)
    return figure, places


def across(columns: int) -> int:
    """How many entries of a legend stand side by side: half of them on a phone."""
    return max(1, columns // 2) if on_a_phone() else columns


def broken(name: str) -> str:
    """The name of a line beside its panel, on a phone in several lines of its own."""
    return "\n".join(textwrap.wrap(name, NAME)) if on_a_phone() else name


# -- the figure itself -------------------------------------------------------------------------------------


@dataclass
class Plot:
    """A figure with its caption, its name, and the numbers that it shows.

    `seen` says what the picture shows, for who cannot see it; without it the caption stands for it.  What is `of_demo`
    goes to the book's fold for it.  `phones` is the same figure, drawn for a narrow screen.
    """

    figure: Figure
    name: str
    caption: str
    frame: pd.DataFrame
    seen: str = ""
    of_demo: bool = False
    phones: Figure | None = None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        text = {"text/plain": self.caption}
        if page.in_book():
            return text | {"text/markdown": self.to_myst()}
        return text | {"image/svg+xml": self.to_svg()}, {"image/svg+xml": {"needs_background": "light"}}

    def to_myst(self) -> str:
        """The figure for the book, a sentence where it would show nothing; writes picture and CSV beside the page."""
        folder = page.folder()
        (folder / f"{self.name}.svg").write_text(self.to_svg(), encoding="utf-8")
        if self.phones is not None:
            (folder / f"{self.name}{page.FOR_PHONES}.svg").write_text(self._svg_of(self.phones), encoding="utf-8")
        self.frame.to_csv(folder / f"{self.name}.csv", index=False, float_format=page.NUMBERS)
        if self.frame.empty:
            return f"**{NOT_YET[:1].upper()}{NOT_YET[1:]}:** {self.caption}\n"
        told = "\n".join(
            [
                f":::{{figure}} {self.name}.svg",
                f":name: fig-{self.name}",
                f":alt: {' '.join((self.seen or self.caption).split())}",
                ":class: dark-light kdnb-plot",
                ":width: 100%",  # so that Sphinx leads to the picture alone, for who wants it larger
                "",
                f"{self.caption} {{download}}`{self.name}.csv <{self.name}.csv>`",
                ":::",
            ]
        )
        return page.of_demo(told) if self.of_demo else told

    def to_svg(self) -> str:
        """The picture; the same numbers give the same bytes."""
        return self._svg_of(self.figure)

    def _svg_of(self, figure: Figure) -> str:
        stream = io.StringIO()
        with mpl.rc_context({"svg.hashsalt": self.name, "svg.fonttype": "path"}):
            figure.savefig(stream, format="svg", dpi=IMAGE_DPI, metadata={"Date": None}, transparent=True)
        return stream.getvalue()


def for_phones_too(draw: Callable[P, Plot]) -> Callable[P, Plot]:
    """A figure that has letters to be read on any screen: in the book it is drawn once more, for a phone."""

    @functools.wraps(draw)
    def twice(*args: P.args, **kwargs: P.kwargs) -> Plot:
        plot = draw(*args, **kwargs)
        if page.in_book() and not plot.frame.empty:
            with drawn_for_a_phone():
                plot.phones = draw(*args, **kwargs).figure
        return plot

    return twice
