"""What claims are made of: comparisons of rows at the leaves, `AllOf`, `AnyOf`, `AtLeast` above.

The same tree is asked of the measured runs (with intervals) and of the numbers the paper prints (without).  A leaf
finds itself, and asks its score which side is the better one.  Free of SciPy, so that listing a study is fast.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from kdnb.exhibits.claims.words import FAILS, HOLDS, JUDGEMENT, MIXED, OPEN, TEACHER, Truth
from kdnb.exhibits.exhibit import Column
from kdnb.exhibits.score import ACCURACY, Score

if TYPE_CHECKING:
    from kdnb.exhibits.claims.evidence import Evidence
    from kdnb.study.statistics import Correlation, Difference

#: (place, row) -> the number that the paper prints, in the unit of its score.
Printed = Mapping[tuple[str, str], float]
#: A claim that so many rows lose by is about them too; one that nearly all lose by is about the winner.
FEW_LOSERS = 6


@dataclass(frozen=True)
class Finding:
    """One leaf of a predicate as it was found: the comparison, its numbers, and what they say.

    `printed` is the paper's difference in the unit of the score, `seeds_needed` the seeds that one of its size needs to
    be told from the claimed margin: infinite where none that was searched is enough, None where nothing is known.
    """

    leaf: Leaf
    truth: Truth
    difference: Difference | None = None
    correlation: Correlation | None = None
    printed: float | None = None
    seeds_needed: float | None = None

    @property
    def place(self) -> str:
        """Where it was found."""
        return self.leaf.place

    @property
    def text(self) -> str:
        """The comparison in symbols."""
        return self.leaf.text()

    @property
    def tied(self) -> bool:
        """Whether the printed difference is the claimed margin itself: no number of seeds tells them apart."""
        return self.printed is not None and self.leaf.beyond(self.printed) == 0


class Predicate(ABC):
    """A statement about rows of a table, at one or several places."""

    @abstractmethod
    def leaves(self) -> Iterator[Leaf]:
        """All comparisons, left to right."""

    @abstractmethod
    def truth(self, of: Mapping[Leaf, Truth]) -> Truth:
        """The truth of the whole, from that of its leaves."""

    def weighed(self, of: Mapping[Leaf, Truth], in_print: Mapping[Leaf, Truth]) -> Iterator[Leaf]:
        """The comparisons that tell why: all, but of alternatives those of the one that comes nearest to the truth.

        Of several that are as near, that of the paper's own numbers.
        """
        return self.leaves()

    def word(self, of: Mapping[Leaf, Truth]) -> str:
        """Of printed numbers: `holds`, `fails`, `mixed` where some parts hold, `open` where numbers are missing."""
        return {True: HOLDS, False: FAILS, None: OPEN}[self.truth(of)]

    def needs(self) -> set[Leaf]:
        """Comparisons that have to hold for the whole to hold."""
        return set()

    def praised(self) -> set[str]:
        """Rows that have to be better than others; of alternatives, those that have to in each."""
        return set()


@dataclass(frozen=True)
class Leaf(Predicate):
    """A comparison at one place, of numbers of one score."""

    place: str
    score: Score = field(default=ACCURACY, kw_only=True)

    def leaves(self) -> Iterator[Leaf]:
        yield self

    def truth(self, of: Mapping[Leaf, Truth]) -> Truth:
        return of[self]

    def needs(self) -> set[Leaf]:
        return {self}

    def implies(self, other: Leaf) -> bool:
        """Whether the other holds wherever this one does."""
        return self == other

    @abstractmethod
    def rows(self) -> set[str]:
        """The rows it compares."""

    @abstractmethod
    def text(self) -> str:
        """The comparison in symbols."""

    @abstractmethod
    def in_print(self, values: Mapping[str, float]) -> bool:
        """Whether it holds of printed numbers: row -> number, at its place."""

    @classmethod
    @abstractmethod
    def find(
        cls, leaves: Sequence[Self], evidence: Evidence, printed: Mapping[str, float], level: float
    ) -> list[Finding]:
        """What the runs of one place say of leaves of this kind, whose intervals are simultaneous at `level`."""

    def sides(self) -> tuple[str, str]:
        """The row that has to be better and the one that it beats; empty where it is no comparison of two."""
        return "", ""

    def texts(self, label: Callable[[str], str]) -> tuple[str, str]:
        """Both sides for people, where rows are called by their labels."""
        return self.text(), ""

    def claimed(self) -> str:
        """By how much the first side has to be ahead, where that is not simply by anything: `more than +1`."""
        return ""

    def claimed_told(self) -> str:
        """The same in words: `more than +1`, or of a side that may be the worse one `at most 1 behind`."""
        return self.claimed()

    def beyond(self, difference: float) -> float:
        """How far a printed difference lies on the claimed side of the margin; NaN where none is claimed."""
        return math.nan


@dataclass(frozen=True)
class Better(Leaf):
    """Row `a` is better than row `b` by more than `by`; with `or_equal` a tie in print is enough.

    Better is higher, or lower where the score says so.  A negative margin says how far `a` may at most fall behind.
    """

    a: str
    b: str
    or_equal: bool = False
    by: float = 0.0

    def rows(self) -> set[str]:
        return {self.a, self.b}

    def sides(self) -> tuple[str, str]:
        return self.a, self.b

    def praised(self) -> set[str]:
        return {self.a}

    def implies(self, other: Leaf) -> bool:
        """A margin implies every smaller one."""
        # Most pairs differ in place or rows, which is asked first: a copy of a claim costs more than all of it.
        if not isinstance(other, Better) or (self.place, self.sides()) != (other.place, other.sides()):
            return False
        weaker = self.by > other.by or (self.by == other.by and (other.or_equal or not self.or_equal))
        return weaker and replace(self, by=other.by, or_equal=other.or_equal) == other

    def text(self) -> str:
        than = (">" if self.score.higher_is_better else "<") + ("=" if self.or_equal else "")
        margin = self.score.direction * self.by
        return f"{self.a} {than} {self.b}" + (f" {'+' if margin > 0 else '-'} {abs(margin):g}" if margin else "")

    def texts(self, label: Callable[[str], str]) -> tuple[str, str]:
        return label(self.a), label(self.b)

    def claimed(self) -> str:
        """As the difference of both has to be: `more than +1`; of an error that may be larger, `less than +0.1`."""
        margin = self.score.direction * self.by
        return f"{'more' if self.score.higher_is_better else 'less'} than {margin:+g}" if margin else ""

    def claimed_told(self) -> str:
        return f"at most {-self.by:g} behind" if self.by < 0 else self.claimed()

    def beyond(self, difference: float) -> float:
        return self.score.direction * difference - self.by

    def gap(self, values: Mapping[str, float]) -> float:
        """a less b; printed numbers are decimal, so is it."""
        return round(values[self.a] - values[self.b], 4)

    def in_print(self, values: Mapping[str, float]) -> bool:
        gain = self.score.direction * self.gap(values)
        return gain >= self.by if self.or_equal else gain > self.by

    def holds_for(self, difference: Difference) -> Truth:
        """True when the whole interval lies on the claimed side of the margin, False when on the other."""
        if not difference.known:
            return None
        low, high = sorted(self.score.direction * end for end in (difference.low, difference.high))
        if low > self.by:
            return True
        return False if high < self.by else None

    @classmethod
    def find(
        cls, leaves: Sequence[Self], evidence: Evidence, printed: Mapping[str, float], level: float
    ) -> list[Finding]:
        gaps = [leaf.gap(printed) if leaf.rows() <= printed.keys() else None for leaf in leaves]
        beyond = [math.nan if gap is None else leaf.beyond(gap) for leaf, gap in zip(leaves, gaps, strict=True)]
        differences = evidence.compare([leaf.sides() for leaf in leaves], level)
        needed = evidence.seeds_needed([leaf.sides() for leaf in leaves], beyond, level)
        return [
            Finding(leaf, leaf.holds_for(difference), difference, None, gap, seeds)
            for leaf, difference, gap, seeds in zip(leaves, differences, gaps, needed, strict=True)
        ]


@dataclass(frozen=True)
class Parts(Predicate):
    """A statement made of others."""

    parts: tuple[Predicate, ...]

    @property
    @abstractmethod
    def lead(self) -> str:
        """How many of what is `told` has to hold, in words: `all of`, `at least 4 of 7`."""

    @property
    def told(self) -> tuple[Predicate, ...]:
        """What it says: its parts, where fewer words do not say the same."""
        return self.parts

    def leaves(self) -> Iterator[Leaf]:
        for part in self.parts:
            yield from part.leaves()

    def weighed(self, of: Mapping[Leaf, Truth], in_print: Mapping[Leaf, Truth]) -> Iterator[Leaf]:
        for part in self.parts:
            yield from part.weighed(of, in_print)

    def truths(self, of: Mapping[Leaf, Truth]) -> list[Truth]:
        return [part.truth(of) for part in self.parts]

    def praised(self) -> set[str]:
        return set().union(*(part.praised() for part in self.parts))


@dataclass(frozen=True)
class AllOf(Parts):
    """Confirmed when every part is, contradicted when any part is."""

    lead = "all of"

    def truth(self, of: Mapping[Leaf, Truth]) -> Truth:
        truths = self.truths(of)
        if any(t is False for t in truths):
            return False
        return True if all(truths) else None

    def needs(self) -> set[Leaf]:
        return set().union(*(part.needs() for part in self.parts))

    def word(self, of: Mapping[Leaf, Truth]) -> str:
        some = any(part.word(of) in (HOLDS, MIXED) for part in self.parts)
        return MIXED if some and self.truth(of) is False else super().word(of)


@dataclass(frozen=True)
class AnyOf(Parts):
    """Confirmed when any part is, contradicted when every part is."""

    lead = "one of"

    def truth(self, of: Mapping[Leaf, Truth]) -> Truth:
        truths = self.truths(of)
        if any(t is True for t in truths):
            return True
        return False if all(t is False for t in truths) else None

    def needs(self) -> set[Leaf]:
        return set.intersection(*(part.needs() for part in self.parts))

    def praised(self) -> set[str]:
        return set.intersection(*(part.praised() for part in self.parts))

    def weighed(self, of: Mapping[Leaf, Truth], in_print: Mapping[Leaf, Truth]) -> Iterator[Leaf]:
        def distance(part: Predicate) -> tuple[int, int, int]:
            leaves = list(part.weighed(of, in_print))
            truths = [of[leaf] for leaf in leaves]
            return truths.count(False), truths.count(None), [in_print[leaf] for leaf in leaves].count(False)

        return min(self.parts, key=distance).weighed(of, in_print)


@dataclass(frozen=True)
class SecondOf(AnyOf):
    """A row is second: an alternative for each of the others that may be the first; that one beats it, it the rest."""

    lead = "exactly one of"

    @property
    def told(self) -> tuple[Predicate, ...]:
        """Who may be the first: of each alternative the comparison that the row loses."""
        return tuple(next(part.leaves()) for part in self.parts)


@dataclass(frozen=True)
class AtLeast(Parts):
    """Confirmed when `count` parts are, contradicted when so many are that the others are fewer than `count`."""

    count: int

    @property
    def lead(self) -> str:
        return f"at least {self.count} of {len(self.parts)}"

    def praised(self) -> set[str]:
        """None: each may lose."""
        return set()

    def truth(self, of: Mapping[Leaf, Truth]) -> Truth:
        truths = self.truths(of)
        if sum(t is True for t in truths) >= self.count:
            return True
        return False if sum(t is not False for t in truths) < self.count else None


@dataclass(frozen=True)
class Mostly(AtLeast):
    """A tendency: more than half of the parts.  In print its exceptions make it mixed."""

    @property
    def lead(self) -> str:
        return f"more than half of {len(self.parts)}"

    def praised(self) -> set[str]:
        return Parts.praised(self)

    def word(self, of: Mapping[Leaf, Truth]) -> str:
        truths = self.truths(of)
        return MIXED if self.truth(of) and False in truths else super().word(of)


def better(column: Column, a: str, b: str, or_equal: bool = False, by: float = 0.0) -> Better:
    """Row `a` is better than row `b` in a column, by its score."""
    return Better(column.key, a, b, or_equal, by, score=column.score)


def all_of(*parts: Predicate) -> AllOf:
    return AllOf(parts)


def at_least(count: int, *parts: Predicate) -> AtLeast:
    return AtLeast(parts, count)


def mostly(*parts: Predicate) -> Mostly:
    return Mostly(parts, len(parts) // 2 + 1)


def best_of(place: str, row: str, among: Sequence[str]) -> AllOf:
    """Row `row` beats each of the others."""
    return AllOf(tuple(Better(place, row, other) for other in among if other != row))


def second_of(place: str, row: str, among: Sequence[str]) -> SecondOf:
    """Exactly one of the others beats the row: some one does, and the row beats all the rest."""
    others = tuple(other for other in among if other != row)

    def behind(first: str) -> AllOf:
        return all_of(Better(place, first, row), best_of(place, row, [o for o in others if o != first]))

    return SecondOf(tuple(behind(first) for first in others))


def read_as(predicate: Predicate, rows: Mapping[str, str]) -> Predicate:
    """The same statement where other rows stand for some of its own."""
    if isinstance(predicate, Parts):
        return replace(predicate, parts=tuple(read_as(part, rows) for part in predicate.parts))
    if isinstance(predicate, Better):
        return replace(predicate, a=rows.get(predicate.a, predicate.a), b=rows.get(predicate.b, predicate.b))
    return predicate


@dataclass(frozen=True)
class Claim:
    """A checkable statement of a paper, the section that makes it (of several, the one beside its numbers),
    and the exhibits it rests on.

    `predicate` is None for a judgement that no statistic decides; `why_not` then says so, and `evidence` names
    comparisons that a reader may want beside it.  `about` names rows that it is about though no comparison has them.
    `readings` is for a claim on rows that the paper does not define to the end: the same statement of other readings,
    named before anything was measured.  It is contradicted only where all of them are too; None: nothing is open.
    """

    id: str
    paper: str
    sentence: str
    exhibits: tuple[str, ...]
    predicate: Predicate | None
    why_not: str = ""
    remark: str = ""
    evidence: tuple[Leaf, ...] = ()
    about: tuple[str, ...] = ()
    readings: tuple[Predicate, ...] | None = None
    section: str = ""

    @property
    def full_id(self) -> str:
        """The id that tells it from the claims of other papers too, in files: `slkd-S1`."""
        return f"{self.paper}-{self.id}"

    def word_in_print(self, printed: Printed) -> str:
        """What the numbers that the paper prints say to it: `holds`, `fails`, `mixed`, `open`, or `a judgement`."""
        return JUDGEMENT if self.predicate is None else self.predicate.word(in_print(self.predicate, printed))

    def is_about(self, rows: set[str], row_of: Callable[[str], str] = str) -> bool:
        """Whether it says something of one of these rows of the exhibits, and not of nearly all of them at once.

        `row_of` gives the row of an exhibit that stands behind a row of a place.
        """
        if self.predicate is None:
            return False
        beaten = {row_of(leaf.sides()[1]) for leaf in self.predicate.leaves()} - {"", "plain", TEACHER}
        named = {row_of(row) for row in self.predicate.praised()} | (beaten if len(beaten) <= FEW_LOSERS else set())
        return bool((named | {*self.about}) & rows)

    def in_print(self, printed: Printed) -> Truth:
        """Whether the printed numbers bear the claim out without exception; None where they cannot tell."""
        return {HOLDS: True, MIXED: False, FAILS: False}.get(self.word_in_print(printed))


def numbered(paper: str, letter: str) -> Callable[..., Claim]:
    """How a paper's claims are written down: `claim(1, "4.2", sentence, "table1", predicate, remark)`, and fields."""

    def claim(
        number: int,
        section: str,
        sentence: str,
        rests_on: str,
        predicate: Predicate | None,
        remark: str = "",
        **further: Any,
    ) -> Claim:
        exhibits = tuple(f"{paper}/{name}" for name in rests_on.split())
        return Claim(
            f"{letter}{number}", paper, sentence, exhibits, predicate, remark=remark, section=section, **further
        )

    return claim


def in_print(predicate: Predicate, printed: Printed) -> dict[Leaf, Truth]:
    """What the printed numbers say to every leaf; None where one is not printed."""
    found: dict[Leaf, Truth] = {}
    for leaf in predicate.leaves():
        values = {row: value for (place, row), value in printed.items() if place == leaf.place}
        found[leaf] = leaf.in_print(values) if leaf.rows() <= values.keys() else None
    return found
