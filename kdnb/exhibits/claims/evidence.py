"""Evidence: the measured runs of one place, with a teacher and a layout of seeds and rows of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from kdnb.exhibits.claims.words import TEACHER
from kdnb.study.statistics import Difference, Layout


class Evidence:
    """The measured runs of one place under one profile: a tidy frame (row, seed, value in the unit of its score).

    The teacher that taught is its first seed; it is a constant here, and intervals are conditional on it.
    Where the frame has a column `fingerprint` too, runs are known again at another place.
    """

    def __init__(self, frame: pd.DataFrame, rows: Sequence[str] | None = None) -> None:
        frame = frame.dropna(subset=["value"])
        frame = frame if rows is None else frame[frame["row"].isin([*rows, TEACHER])]
        students = frame[frame["row"] != TEACHER]
        teachers = frame[frame["row"] == TEACHER].sort_values("seed")
        self.teacher = float(teachers["value"].iloc[0]) if len(teachers) else math.nan
        self.layout = Layout(students) if len(students) else None
        self.seeds = {str(row): int(count) for row, count in students.groupby("row")["seed"].nunique().items()}
        self.means = {str(row): float(mean) for row, mean in students.groupby("row")["value"].mean().items()}
        self.rows = set(self.seeds) | ({TEACHER} if len(teachers) else set())
        self.frame = frame

    def runs(self, rows: set[str]) -> frozenset[tuple[object, ...]]:
        """What tells the runs of these rows from others: fingerprint, seed, and the number taken; none if unknown."""
        if "fingerprint" not in self.frame:
            return frozenset()
        lines = self.frame[self.frame["row"].isin(rows)]
        return frozenset(lines[["row", "fingerprint", "seed", "value"]].itertuples(index=False, name=None))

    def compare(self, pairs: Sequence[tuple[str, str]], level: float) -> list[Difference]:
        """Simultaneous differences of pairs (a, b), all of which have the teacher or none has.

        A pair that is named twice, or from both sides, is one comparison.
        """
        once = {frozenset(pair): pair for pair in reversed(pairs)}
        found = dict(zip(once, self._differences(list(once.values()), level), strict=True))
        return [d if (d.a, d.b) == pair else d.turned() for pair in pairs for d in [found[frozenset(pair)]]]

    def _differences(self, pairs: Sequence[tuple[str, str]], level: float) -> list[Difference]:
        if self.layout is None:
            return []
        if TEACHER not in pairs[0]:
            return self.layout.differences(pairs, level)
        found = self.layout.against(self.teacher, TEACHER, [_student(pair) for pair in pairs], level)
        return [d.turned() if pair[0] == TEACHER else d for d, pair in zip(found, pairs, strict=True)]

    def seeds_needed(
        self, pairs: Sequence[tuple[str, str]], sizes: Sequence[float], level: float
    ) -> Sequence[int | None]:
        """Seeds that differences of these sizes need within the family of these pairs."""
        if self.layout is None:
            return []
        if TEACHER not in pairs[0]:
            return self.layout.seeds_needed(pairs, sizes, level)
        return self.layout.seeds_needed_against([_student(pair) for pair in pairs], sizes, level)

    def several_seeds(self, rows: set[str]) -> bool:
        """Whether each of these students has been trained more than once."""
        return all(self.seeds[row] > 1 for row in rows - {TEACHER})


def _student(pair: tuple[str, str]) -> str:
    return pair[1] if pair[0] == TEACHER else pair[0]
