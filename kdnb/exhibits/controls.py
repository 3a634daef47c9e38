"""What a row gains that the paper trains on another schedule than the rest: over the plain student on that schedule.

Part of such a row's lead is the schedule's.  What is left beside a plain student that had it too is the method's.
"""

from __future__ import annotations

from typing import Literal

import pandas as pd

from kdnb import exhibits
from kdnb.exhibits.exhibit import Exhibit
from kdnb.exhibits.runs import framed, runs_of, students
from kdnb.study.statistics import Difference, Layout
from kdnb.study.store import Store

#: Beside the label of such a row, wherever it stands among others.
DAGGER = "†"


def gains_at_equal_schedule(
    exhibit: Exhibit, profile: str, dataset: str, store: Store, over: Literal["plain", "kd"] = "plain"
) -> dict[str, Difference]:
    """Row -> its gain over the plain student, or KD, on its own schedule, where both are measured.

    The noise is that of all rows of the table of controls; the intervals are simultaneous over these gains.
    """
    if not exhibit.controls or dataset not in exhibit.datasets_of(profile):
        return {}
    tables = {control.table for control in exhibit.controls.values()}
    cells = [cell for key in sorted(tables) for cell in exhibits.get(key).cells(profile, dataset)]
    runs = students(framed(runs_of(cells, store))).drop_duplicates(["row", "seed"])
    pairs = [(row, control.kd if over == "kd" else control.plain) for row, control in exhibit.controls.items()]
    both = [(row, other) for row, other in pairs if _share_a_seed(runs, row, other)]
    return {found.a: found for found in Layout(runs).differences(both)} if both else {}


def _share_a_seed(runs: pd.DataFrame, a: str, b: str) -> bool:
    seeds = runs.groupby("row")["seed"].agg(set)
    return a in seeds.index and b in seeds.index and bool(seeds[a] & seeds[b])
