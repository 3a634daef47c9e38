"""Settings that a search chooses: which candidate is best, once all of them are measured.  Free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from kdnb.exhibits.exhibit import Cell, Row
from kdnb.exhibits.runs import diverged, runs_of
from kdnb.study.record import Record
from kdnb.study.store import Store

#: A setting that was tried with fewer values has nothing between its ends.
GRADED = 3


@dataclass(frozen=True)
class Search:
    """A search so far: the score of every measured candidate, who diverged, and how many are not measured yet.

    `best` is the candidate with the largest score, of equals the first; None before all are measured, and where all
    diverged.
    """

    scores: dict[str, float]
    lost: tuple[str, ...]
    left: int
    best: Row | None


def search(cells: Sequence[Cell], score: Callable[[Cell, Record], float], store: Store) -> Search:
    """The search among cells of one seed, by a score of their records where more is better."""
    told = {cell.row.key: score(cell, record) for cell, record in runs_of(cells, store)}
    scores = {key: value for key, value in told.items() if math.isfinite(value)}
    lost = tuple(cell.row.key for cell in cells if cell.row.key not in scores and diverged(cell, store))
    left = len(cells) - len(scores) - len(lost)
    able = [cell.row for cell in cells if cell.row.key in scores]
    best = max(able, key=lambda row: scores[row.key]) if able and not left else None
    return Search(scores, lost, left, best)


def at_the_edge(cells: Sequence[Cell], best: Row) -> tuple[str, ...]:
    """`smallest lr`, `largest temperature`: the settings of the best candidate beyond which nothing was tried."""
    tried = {cell.row.key: _settings(cell) for cell in cells}
    taken, found = tried[best.key], []
    for name, value in taken.items():
        values = {settings[name] for settings in tried.values() if name in settings}
        if len(values) >= GRADED and value in (min(values), max(values)):
            found.append(f"{'smallest' if value == min(values) else 'largest'} {name.replace('_', ' ')}")
    return tuple(found)


def _settings(cell: Cell) -> dict[str, float]:
    """The numbers that a candidate is trained with: of its method and of its recipe."""
    assert cell.experiment is not None, "a candidate can be trained"
    recipe = asdict(cell.experiment.recipe) if cell.experiment.recipe else {}
    known = {**recipe, **cell.experiment.arguments}
    return {name: value for name, value in known.items() if isinstance(value, int | float)}
