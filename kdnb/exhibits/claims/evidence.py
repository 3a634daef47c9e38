"""Evidence: the measured runs of one place, with a teacher and a layout of seeds and rows of its own."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import pandas as pd

from kdnb.exhibits.claims.words import TEACHER
from kdnb.study.statistics import LEVEL, Difference, Layout

#: A difference so large that it is found wherever anything is known of the noise.
PLAIN_TO_SEE = 1e9


class Evidence:
    """The measured runs of one place under one profile: a tidy frame (row, seed, value in the unit of its score).

    The teacher that taught is its first seed; it is a constant here, and intervals are conditional on it.
    Where the frame has a column `fingerprint` too, runs are known again at another place, and rows that are one
    training under two names count once.
    """

    def __init__(self, frame: pd.DataFrame, rows: Sequence[str] | None = None) -> None:
        frame = frame.dropna(subset=["value"])
        frame = frame if rows is None else frame[frame["row"].isin([*rows, TEACHER])]
        students = frame[frame["row"] != TEACHER]
        teachers = frame[frame["row"] == TEACHER].sort_values("seed")
        self.teacher = float(teachers["value"].iloc[0]) if len(teachers) else math.nan
        self._same = _twins(students)
        self.layout = Layout(students[~students["row"].isin(self._same)]) if len(students) else None
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

    def set_aside(self, rows: Collection[str]) -> list[str]:
        """Which of these rows vary too much for the spread of the others, and are compared by their pairs alone."""
        odd = self.layout.odd if self.layout is not None else []
        return [row for row in rows if self._same.get(row, row) in odd]

    def levels(self, rows: Sequence[str]) -> dict[str, float]:
        """What rows would have on the same seeds: the first one's mean, and for others what they are apart from it."""
        first, *others = rows
        apart = self.compare([(row, first) for row in others], LEVEL)
        return {first: self.means[first]} | {d.a: self.means[first] + d.value for d in apart}

    def _differences(self, pairs: Sequence[tuple[str, str]], level: float) -> list[Difference]:
        if self.layout is None:
            return []
        known = self._by_layout(pairs)
        if TEACHER not in pairs[0]:
            found = self.layout.differences(known, level)
        else:
            found = self.layout.against(self.teacher, TEACHER, [_student(pair) for pair in known], level)
            found = [d.turned() if pair[0] == TEACHER else d for d, pair in zip(found, known, strict=True)]
        return [replace(d, a=a, b=b) for d, (a, b) in zip(found, pairs, strict=True)]

    def _by_layout(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """The pairs by the names that the layout has for their rows."""
        return [(self._same.get(a, a), self._same.get(b, b)) for a, b in pairs]

    def seeds_needed(
        self, pairs: Sequence[tuple[str, str]], sizes: Sequence[float], level: float
    ) -> list[float | None]:
        """Seeds that differences of these sizes need within the family of these pairs.

        Infinite where none that is searched is enough; None of no difference, and where size or noise are unknown.
        """
        needed = self._seeds_needed(pairs, sizes, level)
        noise_known = [seeds is not None for seeds in self._seeds_needed(pairs, [PLAIN_TO_SEE] * len(pairs), level)]
        return [
            math.inf if seeds is None and known and math.isfinite(size) and size else seeds
            for seeds, known, size in zip(needed, noise_known, sizes, strict=True)
        ]

    def _seeds_needed(
        self, pairs: Sequence[tuple[str, str]], sizes: Sequence[float], level: float
    ) -> Sequence[int | None]:
        if self.layout is None:
            return []
        known = self._by_layout(pairs)
        if TEACHER not in known[0]:
            return self.layout.seeds_needed(known, sizes, level)
        return self.layout.seeds_needed_against([_student(pair) for pair in known], sizes, level)

    def several_seeds(self, rows: set[str]) -> bool:
        """Whether each of these students has been trained more than once."""
        return all(self.seeds[row] > 1 for row in rows - {TEACHER})


def _twins(students: pd.DataFrame) -> dict[str, str]:
    """Row -> the row before it whose very runs it has."""
    if "fingerprint" not in students:
        return {}
    first: dict[frozenset[tuple[object, ...]], str] = {}
    found = {}
    for row, part in students.groupby("row", sort=False):
        runs = frozenset(part[["fingerprint", "seed", "value"]].itertuples(index=False, name=None))
        if first.setdefault(runs, str(row)) != str(row):
            found[str(row)] = first[runs]
    return found


def _student(pair: tuple[str, str]) -> str:
    return pair[1] if pair[0] == TEACHER else pair[0]
