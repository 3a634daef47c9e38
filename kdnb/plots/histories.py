"""What the pictures of training share: histories in long form, means with bands, and where the rate falls."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from kdnb.methods.recipe import ratio_of, shortened
from kdnb.study.record import Record

COLUMNS = ["row", "seed", "epoch", "column", "value"]


def long(row: str, record: Record) -> pd.DataFrame:
    """A record's history, one line a number: row, seed, epoch, column, value."""
    frame = pd.DataFrame({k: v for k, v in record.history.items() if "." not in k})
    return frame.melt("epoch", var_name="column").assign(row=row, seed=record.seed)[COLUMNS]


def gathered(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Histories below each other; a frame with the right columns where there are none."""
    found = list(parts)
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=COLUMNS)


def band(axes: Axes, lines: pd.DataFrame, label: str, hue: object, dash: str = "-") -> None:
    """The mean over seeds by epoch, in a band from the lowest to the highest."""
    by_epoch = lines.groupby("epoch")["value"]
    mean, low, high = by_epoch.mean(), by_epoch.min(), by_epoch.max()
    axes.plot(mean.index, mean, dash, color=hue, label=label)
    axes.fill_between(mean.index, low, high, color=hue, alpha=0.15, linewidth=0)


def thin(axes: Axes, lines: pd.DataFrame, label: str, hue: object) -> None:
    """The mean over seeds by epoch alone, for what stands behind the lines that matter."""
    mean = lines.groupby("epoch")["value"].mean()
    axes.plot(mean.index, mean, color=hue, label=label, linewidth=0.8)


def percent(lines: pd.DataFrame) -> pd.DataFrame:
    """Shares in 0..1 as percent."""
    return lines.assign(value=100 * lines["value"])


def logarithmic(axes: Axes) -> None:
    """A logarithmic scale for what is drawn, in plain numbers: also 2 and 5 where few powers of ten are in sight."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_minor_formatter("{x:g}" if high < 40 * low else NullFormatter())


def epochs_axis(axes: Axes) -> None:
    """Epochs are whole."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def milestones(record: Record) -> list[int]:
    """After how many of its epochs the run's learning rate fell: the recipe's milestones, shortened as its epochs."""
    recipe, profile = record.experiment["recipe"], record.experiment["profile"]
    ratio = ratio_of(recipe["epochs"], Fraction(profile["factor"]), profile["at_most"])
    return [shortened(milestone, ratio) for milestone in recipe["milestones"]]


def draw_milestones(axes: Axes, epochs: Iterable[int]) -> None:
    """A thin upright between the last epoch at one rate and the first at the next."""
    for epoch in epochs:
        axes.axvline(epoch + 0.5, color="#8a8a8a", linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
