"""How wide intervals are: by how many comparisons share them, and by how many seeds there are."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from kdnb import exhibits
from kdnb.exhibits import Exhibit, measure
from kdnb.exhibits.runs import students
from kdnb.study.statistics import LEVEL, POWER, LargestT, Layout, seeds_needed
from kdnb.study.store import Store
from kdnb.tables.sheet import Table, line
from kdnb.tables.words import measured_at, title

FAMILIES = (1, 7, 15, 30)
SEEDS = (3, 5, 10)
SIZES = (0.5, 1.0, 2.0)


def layout(exhibit: Exhibit | str, profile: str, dataset: str, store: Store | None = None) -> Layout:
    """The students of an exhibit by seed, as all intervals have them."""
    return Layout(students(measure(exhibits.get(exhibit), profile, dataset, store)))


def certainty(
    exhibit: Exhibit | str, profile: str, dataset: str, store: Store | None = None, *, name: str = "certainty"
) -> Table:
    """Half-widths in points, and seeds for differences of some sizes, by how many rows are compared with one."""
    found = layout(exhibit, profile, dataset, store)
    rows = len(found.rows)
    body, lines = [], []
    for family in FAMILIES:
        largest = LargestT(np.eye(family) + 1)  # many compared with one: correlated by a half
        halves = {n: largest.critical((n - 1) * (rows - 1), LEVEL) * found.sd * math.sqrt(2 / n) for n in SEEDS}
        needed = {size: seeds_needed(size, math.sqrt(2) * found.sd, rows - 1, largest) for size in SIZES}
        critical = largest.critical(found.df, LEVEL)
        told = [f"± {half:.2f}" for half in halves.values()], [str(count) for count in needed.values()]
        body.append(line(family, f"{critical:.2f}", *told[0], *told[1]))
        widths = {f"half_width_{n}_seeds": half for n, half in halves.items()}
        counts = {f"seeds_for_{size:g}": count for size, count in needed.items()}
        lines.append({"comparisons": family, "critical": critical, **widths, **counts})
    head = ["Comparisons", "Critical value", *(f"{n} seeds" for n in SEEDS), *(f"To find {size:g}" for size in SIZES)]
    return Table(
        name=name,
        caption=f"Half-width of an interval in points, and seeds needed to find a difference with {100 * POWER:.0f} % "
        f"power; {measured_at(profile)}, {title(dataset)}.",
        head=[line(*head)],
        body=body,
        frame=pd.DataFrame(lines),
        note=f"{rows} rows; standard deviation of one run {found.sd:.2f} points, {found.df} degrees of freedom; "
        f"p-value of the test that all rows vary equally: {found.equal:.2f}.",
    )
