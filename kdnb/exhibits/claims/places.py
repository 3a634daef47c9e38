"""What stands at each place of a paper: its measured runs, and the numbers that are printed there.

A place is where rows can be compared: a column, or what a paper's own reading makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from kdnb.errors import KdnbError
from kdnb.exhibits.claims.predicates import Printed
from kdnb.exhibits.paper import Paper
from kdnb.exhibits.runs import diverged, runs_of
from kdnb.study.profile import Profile
from kdnb.study.store import Store

Frames = Mapping[str, pd.DataFrame]


def frames(paper: Paper, profile: str | Profile, store: Store) -> dict[str, pd.DataFrame]:
    """The evidence of a profile: place -> runs (row, seed, value); one that stands in several tables counts once.

    A cell of which a run diverged is no evidence: the seeds that are left would speak for it too well.
    """
    every = (cell for exhibit in paper.judged for cell in exhibit.cells(profile))
    cells = (cell for cell in every if not diverged(cell, store))
    lines = [
        (place, row, record.seed, value, record.fingerprint)
        for cell, record in runs_of(cells, store)
        for (place, row), value in paper.read(cell, record).items()
    ]
    frame = pd.DataFrame(lines, columns=["place", "row", "seed", "value", "fingerprint"])
    frame = frame.dropna(subset=["value"]).drop_duplicates(["place", "row", "seed"])
    return {str(place): part for place, part in frame.groupby("place", sort=False)}


def printed(paper: Paper) -> dict[tuple[str, str], float]:
    """The printed numbers that claims are about; KdnbError where tables print two for one place and row."""
    found: dict[tuple[str, str], float] = {}
    for exhibit in paper.judged:
        for cell in exhibit.cells("paper"):
            where = paper.where(cell)
            if where and cell.reported is not None and found.setdefault(where, cell.reported) != cell.reported:
                raise KdnbError(
                    f"{cell.exhibit} prints {cell.reported:g} for {where[1]} at {where[0]}, and another table "
                    f"{found[where]:g}; the paper's `where` has to tell them apart."
                )
    return found


def printed_at(printed: Printed, place: str) -> dict[str, float]:
    """Row -> number, at one place."""
    return {row: value for (where, row), value in printed.items() if where == place}
