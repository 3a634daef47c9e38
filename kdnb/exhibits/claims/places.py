"""What stands at each place of a paper: its measured runs, and the numbers that are printed there.

A place is where rows can be compared: a column, or what a paper's own reading makes of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from kdnb.errors import KdnbError
from kdnb.exhibits.claims.predicates import Printed
from kdnb.exhibits.exhibit import Cell
from kdnb.exhibits.names import network_title
from kdnb.exhibits.paper import Paper
from kdnb.exhibits.runs import diverged, runs_of
from kdnb.study.profile import Profile
from kdnb.study.store import Store

Frames = Mapping[str, pd.DataFrame]


def frames(paper: Paper, profile: str | Profile, store: Store) -> dict[str, pd.DataFrame]:
    """The evidence of a profile: place -> runs (row, seed, value, networks, which of these stand for the paper's,
    fingerprint of the experiment); one that stands in several tables counts once.

    A cell of which a run diverged is no evidence: the seeds that are left would speak for it too well.
    """
    lines = []
    for exhibit in paper.judged:
        papers = {(cell.column.key, cell.row.key): _networks(cell) for cell in exhibit.cells("paper")}
        for cell, record in runs_of((c for c in exhibit.cells(profile) if not diverged(c, store)), store):
            here = _networks(cell)
            relatives = here if here != papers.get((cell.column.key, cell.row.key)) else ""
            for (place, row), value in paper.read(cell, record).items():
                lines.append((place, row, record.seed, value, here, relatives, record.fingerprint))
    columns = ["place", "row", "seed", "value", "networks", "relatives", "fingerprint"]
    frame = pd.DataFrame(lines, columns=columns)
    frame = frame.dropna(subset=["value"]).drop_duplicates(["place", "row", "seed"])
    return {str(place): part for place, part in frame.groupby("place", sort=False)}


def _networks(cell: Cell) -> str:
    """`ResNet20 → ResNet8`, teacher and student of a cell as it is run; "" where nobody teaches.

    Where the teacher was taught itself, by whom too: `ResNet20 → CNN-1-A → CNN-1`.  A probe has those of its student.
    """
    experiment = cell.experiment
    while experiment is not None and experiment.teacher is None:
        experiment = experiment.start
    if experiment is None or cell.row.role != "student":
        return ""
    chain = [experiment]
    while chain[0].teacher is not None:
        chain.insert(0, chain[0].teacher)
    return " → ".join(network_title(str(each.network)) for each in chain)


def trained_here(paper: Paper, place: str, frame: pd.DataFrame, rows: Collection[str]) -> str:
    """A place with the networks that were trained there, where relatives stand for the paper's: `CIFAR-100, ResNet32x4
    → ResNet8x4, here ResNet20 → ResNet8`.

    Those of these rows, each of which may have a teacher of its own; where nobody taught any of them, of all rows.
    """
    title, compared = paper.title(place), frame[frame["row"].isin(list(rows))]
    taught = [networks for networks in dict.fromkeys(compared["networks"]) if networks]
    if taught and not compared["relatives"].any():
        return title
    here = taught or [networks for networks in dict.fromkeys(frame["relatives"]) if networks]
    return f"{title}, here {', '.join(here)}" if here else title


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
