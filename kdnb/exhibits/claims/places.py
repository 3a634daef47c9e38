"""What stands at each place of a paper: its measured runs, and the numbers that are printed there.

A place is where rows can be compared: a column, or what a paper's own reading makes of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from kdnb.errors import KdnbError
from kdnb.exhibits.claims.predicates import Printed
from kdnb.exhibits.exhibit import Cell
from kdnb.exhibits.names import pair_title
from kdnb.exhibits.paper import Paper
from kdnb.exhibits.runs import diverged, runs_of
from kdnb.study.profile import Profile
from kdnb.study.store import Store

Frames = Mapping[str, pd.DataFrame]


def frames(paper: Paper, profile: str | Profile, store: Store) -> dict[str, pd.DataFrame]:
    """The evidence of a profile: place -> runs (row, seed, value, who stands for the paper's networks, fingerprint of
    the experiment); one that stands in several tables counts once.

    A cell of which a run diverged is no evidence: the seeds that are left would speak for it too well.
    """
    lines = []
    for exhibit in paper.judged:
        papers = {(cell.column.key, cell.row.key): _networks(cell) for cell in exhibit.cells("paper")}
        for cell, record in runs_of((c for c in exhibit.cells(profile) if not diverged(c, store)), store):
            here = _networks(cell)
            relatives = here if here != papers.get((cell.column.key, cell.row.key)) else ""
            for (place, row), value in paper.read(cell, record).items():
                lines.append((place, row, record.seed, value, relatives, record.fingerprint))
    frame = pd.DataFrame(lines, columns=["place", "row", "seed", "value", "relatives", "fingerprint"])
    frame = frame.dropna(subset=["value"]).drop_duplicates(["place", "row", "seed"])
    return {str(place): part for place, part in frame.groupby("place", sort=False)}


def _networks(cell: Cell) -> str:
    """`ResNet20 → ResNet8`, teacher and student of a cell as it is run; "" where nobody teaches."""
    experiment = cell.experiment
    if experiment is None or experiment.teacher is None or cell.row.role != "student":
        return ""
    return pair_title(str(experiment.teacher.network), str(experiment.network))


def trained_here(paper: Paper, place: str, frame: pd.DataFrame, rows: Collection[str]) -> str:
    """A place with the networks that were trained there, where relatives stand for the paper's: `CIFAR-100, ResNet32x4
    → ResNet8x4, here ResNet20 → ResNet8`.

    Of these rows; where they have the paper's own, but a relative taught their teacher, of all rows.
    """
    title = paper.title(place)
    own = frame[frame["row"].isin(list(rows))]["relatives"]
    pairs = [pair for pair in dict.fromkeys(own if own.any() else frame["relatives"]) if pair]
    return f"{title}, here {', '.join(pairs)}" if pairs else title


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
