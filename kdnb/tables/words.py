"""The vocabulary of the book's tables and figures: scales, data sets, numbers with their spread, labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from kdnb import datasets, page
from kdnb.exhibits import ACCURACY, Cell, Column, Score
from kdnb.study.environment import source_digest

if TYPE_CHECKING:
    from kdnb.study.statistics import Difference

#: Groups of columns by profile, in their order; `paper` always stands there, the others once measured.
TITLES = {
    "paper": "Measured at paper scale",
    "short": "Measured at short scale",
    "pilot": "Measured at pilot scale",
    "demo": "Demo of this build",
}
NOT_YET = "not yet measured"
OF_A_DEMO = "A demo shows that every step runs, and says nothing about the paper."


def measured_at(scale: str) -> str:
    """`measured at pilot scale`, in a sentence."""
    return TITLES.get(scale, scale).lower()


def methods_told(rows: Iterable[str]) -> str:
    """What rows are that gains are counted of: `methods`, or `rows (methods alone and with KD)`."""
    return "rows (methods alone and with KD)" if any(row.endswith("+kd") for row in rows) else "methods"


def scale_title(profile: str, runs: pd.DataFrame) -> str:
    """How a scale is called above its runs; a demo is of this build only where these sources made it."""
    if profile != "demo" or not of_other_sources(runs):
        return TITLES.get(profile, f"Profile {profile}")
    return "Demo of another build" if of_other_sources(runs) == len(runs) else "Demo, in part of another build"


def demo_mark(runs: pd.DataFrame) -> str:
    """What may not be read into these runs of a demo, and whether these sources made them.

    In the book the fold that has all of a page's demo says the first, once.
    """
    return " ".join(part for part in ("" if page.in_book() else OF_A_DEMO, other_sources_told(runs)) if part)


def other_sources_told(runs: pd.DataFrame) -> str:
    """That these sources did not make all of the runs, and how they do; empty where they did."""
    count = of_other_sources(runs)
    if not count:
        return ""
    return f"Other sources than today's made {count} of its {len(runs)} runs; `make clean` and `make book` repeat them."


def of_other_sources(runs: pd.DataFrame) -> int:
    """How many of the runs other sources than today's have made."""
    return int((runs["sources"] != source_digest()).sum())


def nothing_at(profile: str) -> str:
    """`Nothing is measured at paper scale yet.`"""
    if profile == "demo":
        return "The demo has not run yet."
    scale = TITLES.get(profile, f"at the scale {profile}").removeprefix("Measured ")
    return f"Nothing is measured {scale} yet."


def title(dataset: str) -> str:
    """How a data set is called in a table."""
    return datasets.title(dataset)


def slug(key: str) -> str:
    """A key as it can stand in labels and file names."""
    return re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")


def spread(values: pd.Series, score: Score = ACCURACY, signed: bool = False) -> str:
    """`69.78 ± 0.31 (3)`, or `69.78 (1)`: no spread from one run."""
    mean = score.text(values.mean(), signed)
    return f"{mean} (1)" if len(values) == 1 else f"{mean} ± {score.text(values.std(ddof=1))} ({len(values)})"


def printed(cell: Cell) -> str:
    """The paper's number, with its ± where it prints one."""
    if cell.printed is None:
        return "–"
    value = cell.score.text(cell.printed.value)
    return value if cell.printed.std is None else f"{value} ± {cell.score.text(cell.printed.std)}"


def widths_told(gains: Iterable[Difference], score: Score = ACCURACY) -> str:
    """`± 1.87`, or `± 1.87 to 2.12` where intervals are not of one width: what a gain has to exceed."""
    halves = [score.text((gain.high - gain.low) / 2) for gain in gains]
    low, high = min(halves, key=float), max(halves, key=float)
    return f"± {low}" if low == high else f"± {low} to {high}"


def columns(found: Difference, called: str = "difference") -> dict[str, Any]:
    """A difference in a CSV: its value, under the name that it has there, its interval, and the seeds behind it."""
    return {called: found.value, "low": found.low, "high": found.high, "seeds": found.n, "interval": found.method}


def headings(columns: Sequence[Column], pairs: bool = False) -> list[str]:
    """What tells the columns of a table apart: data set, pair of networks, score; a lone one is its data set.

    A unit that all share is the caption's.

    With `pairs` the networks are named though all have the same.
    """
    shared = unit(columns)
    scores = [c.score.heading.replace(f", {c.score.unit}", "", 1) if shared else c.score.heading for c in columns]
    keys = [(column.dataset, column.pair, score) for column, score in zip(columns, scores, strict=True)]
    differ = [len(set(of)) > 1 for of in zip(*keys, strict=True)] or [False] * 3
    differ[1] |= pairs
    differ[0] |= not any(differ)
    told = [(title(dataset), unbroken(pair.title) if pair else "", score) for dataset, pair, score in keys]
    return [", ".join(part for part, shown in zip(parts, differ, strict=True) if shown and part) for parts in told]


def unbroken(pair: str) -> str:
    """A pair as a heading, which breaks after its arrow and nowhere else."""
    return pair.replace(" →", "\N{NO-BREAK SPACE}→")


def unit(columns: Iterable[Column]) -> str:
    """What all columns share of their scores, as a caption begins with it: `percent, `; empty where headings tell all.

    Where they have one score, and it is not the protocol's accuracy, no heading says which it is: `error, percent, `.
    """
    columns = list(columns)
    units, scores = {column.score.unit for column in columns}, {column.score for column in columns}
    told = f"{units.pop()}, " if len(units) == 1 and units != {""} else ""
    return told if len(scores) > 1 or ACCURACY in scores else f"{_named(scores.pop())}, {told}"


def _named(score: Score) -> str:
    """A score within a sentence: `error`, `mAP (e)`."""
    first = score.title if score.title[1:2].isupper() else score.title[:1].lower() + score.title[1:]
    return first if score.higher_is_better else f"{first} (less is better)"


def runs_label(cell: Cell) -> str:
    """The label on the page of runs where a cell's runs begin, whatever its score."""
    return slug(f"runs {cell.exhibit} {cell.profile.name} {cell.dataset} {cell.key}")


def runs_target(cell: Cell) -> str:
    """The same where that page is in the book, else nothing."""
    return runs_label(cell) if page.exists(cell.exhibit.partition("/")[0], "runs") else ""
