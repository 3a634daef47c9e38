"""Claims: checkable statements, predicates on statistics, and verdicts that carry their scale.

A predicate is a small tree: comparisons of rows at the leaves, `AllOf`, `AnyOf`, `AtLeast` above.  The same tree is
asked of the measured runs (with intervals) and of the numbers the paper prints (without).  All comparisons of one
claim share one level, at all its places: in at most 5 % of studies does any of its intervals miss the truth.

A place is where rows can be compared: a data set, or a pair of networks on it.  Each has its own runs, its own
teacher and its own layout of seeds and rows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from kdnb.study.statistics import LEVEL, Correlation, Difference, Layout, correlation

#: Three-valued: True, False, or None where the evidence cannot tell.
Truth = bool | None

TEACHER = "teacher"
HOLDS, FAILS, MIXED, OPEN = "holds", "fails", "mixed", "open"


class Evidence:
    """The measured runs of one place under one profile: a tidy frame (row, seed, value in percent or its own unit).

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


def _student(pair: tuple[str, str]) -> str:
    return pair[1] if pair[0] == TEACHER else pair[0]


@dataclass(frozen=True)
class Finding:
    """One leaf of a predicate as it was found: the comparison, its numbers, and what they say.

    `printed` is the paper's difference in points, `seeds_needed` the seeds that one of its size needs to be told from
    the claimed margin.
    """

    leaf: Leaf
    truth: Truth
    difference: Difference | None = None
    correlation: Correlation | None = None
    printed: float | None = None
    seeds_needed: int | None = None

    @property
    def place(self) -> str:
        """Where it was found."""
        return self.leaf.place

    @property
    def text(self) -> str:
        """The comparison in symbols."""
        return self.leaf.text()


Measured = Mapping[str, Evidence]
#: (place, row) -> percent, as the paper prints it.
Printed = Mapping[tuple[str, str], float]


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


@dataclass(frozen=True)
class Leaf(Predicate):
    """A comparison at one place."""

    place: str

    def leaves(self) -> Iterator[Leaf]:
        yield self

    def truth(self, of: Mapping[Leaf, Truth]) -> Truth:
        return of[self]

    @abstractmethod
    def rows(self) -> set[str]:
        """The rows it compares."""

    @abstractmethod
    def text(self) -> str:
        """The comparison in symbols."""

    @abstractmethod
    def in_print(self, values: Mapping[str, float]) -> bool:
        """Whether it holds of printed numbers: row -> percent, at its place."""


@dataclass(frozen=True)
class Better(Leaf):
    """Row `a` has a higher value than row `b` by more than `by` points; with `or_equal` a tie in print is enough.

    A negative margin says how far `a` may at most fall behind.
    """

    a: str
    b: str
    or_equal: bool = False
    by: float = 0.0

    def rows(self) -> set[str]:
        return {self.a, self.b}

    def text(self) -> str:
        margin = f" {'+' if self.by > 0 else '-'} {abs(self.by):g}" if self.by else ""
        return f"{self.a} {'>=' if self.or_equal else '>'} {self.b}{margin}"

    def gap(self, values: Mapping[str, float]) -> float:
        """The difference in points; printed numbers are decimal, so is it."""
        return round(values[self.a] - values[self.b], 4)

    def in_print(self, values: Mapping[str, float]) -> bool:
        gap = self.gap(values)
        return gap >= self.by if self.or_equal else gap > self.by

    def holds_for(self, difference: Difference) -> Truth:
        """True when the whole interval lies on the claimed side of the margin, False when on the other."""
        if not difference.known:
            return None
        if difference.low > self.by:
            return True
        return False if difference.high < self.by else None


@dataclass(frozen=True)
class LittleCorrelation(Leaf):
    """Over `methods`, results alone and combined with KD go together with |r| < `bound` at most."""

    methods: tuple[str, ...]
    bound: float = 0.5

    def rows(self) -> set[str]:
        return {*self.methods, *(f"{method}+kd" for method in self.methods)}

    def text(self) -> str:
        return f"|r| < {self.bound} between results alone and with KD"

    def of(self, values: Mapping[str, float], level: float = LEVEL) -> Correlation:
        """The correlation of results, which is that of gains over any one row."""
        return correlation([values[m] for m in self.methods], [values[f"{m}+kd"] for m in self.methods], level)

    def in_print(self, values: Mapping[str, float]) -> bool:
        return abs(self.of(values).pearson) < self.bound

    def holds_for(self, found: Correlation) -> Truth:
        """True when the whole interval lies within the bound, False when it lies beyond."""
        if not (math.isfinite(found.low) and math.isfinite(found.high)):
            return None
        if -self.bound < found.low and found.high < self.bound:
            return True
        return False if found.low > self.bound or found.high < -self.bound else None


@dataclass(frozen=True)
class Parts(Predicate):
    """A statement made of others."""

    parts: tuple[Predicate, ...]

    def leaves(self) -> Iterator[Leaf]:
        for part in self.parts:
            yield from part.leaves()

    def weighed(self, of: Mapping[Leaf, Truth], in_print: Mapping[Leaf, Truth]) -> Iterator[Leaf]:
        for part in self.parts:
            yield from part.weighed(of, in_print)

    def truths(self, of: Mapping[Leaf, Truth]) -> list[Truth]:
        return [part.truth(of) for part in self.parts]


@dataclass(frozen=True)
class AllOf(Parts):
    """Confirmed when every part is, contradicted when any part is."""

    def truth(self, of: Mapping[Leaf, Truth]) -> Truth:
        truths = self.truths(of)
        if any(t is False for t in truths):
            return False
        return True if all(truths) else None

    def word(self, of: Mapping[Leaf, Truth]) -> str:
        some = any(part.word(of) in (HOLDS, MIXED) for part in self.parts)
        return MIXED if some and self.truth(of) is False else super().word(of)


@dataclass(frozen=True)
class AnyOf(Parts):
    """Confirmed when any part is, contradicted when every part is."""

    def truth(self, of: Mapping[Leaf, Truth]) -> Truth:
        truths = self.truths(of)
        if any(t is True for t in truths):
            return True
        return False if all(t is False for t in truths) else None

    def weighed(self, of: Mapping[Leaf, Truth], in_print: Mapping[Leaf, Truth]) -> Iterator[Leaf]:
        def distance(part: Predicate) -> tuple[int, int, int]:
            leaves = list(part.weighed(of, in_print))
            truths = [of[leaf] for leaf in leaves]
            return truths.count(False), truths.count(None), [in_print[leaf] for leaf in leaves].count(False)

        return min(self.parts, key=distance).weighed(of, in_print)


@dataclass(frozen=True)
class AtLeast(Parts):
    """Confirmed when `count` parts are, contradicted when so many are that the others are fewer than `count`."""

    count: int

    def truth(self, of: Mapping[Leaf, Truth]) -> Truth:
        truths = self.truths(of)
        if sum(t is True for t in truths) >= self.count:
            return True
        return False if sum(t is not False for t in truths) < self.count else None


@dataclass(frozen=True)
class Mostly(AtLeast):
    """A tendency: more than half of the parts.  In print its exceptions make it mixed."""

    def word(self, of: Mapping[Leaf, Truth]) -> str:
        truths = self.truths(of)
        return MIXED if self.truth(of) and False in truths else super().word(of)


def all_of(*parts: Predicate) -> AllOf:
    return AllOf(parts)


def any_of(*parts: Predicate) -> AnyOf:
    return AnyOf(parts)


def at_least(count: int, *parts: Predicate) -> AtLeast:
    return AtLeast(parts, count)


def mostly(*parts: Predicate) -> Mostly:
    return Mostly(parts, len(parts) // 2 + 1)


def best_of(place: str, row: str, among: Sequence[str]) -> AllOf:
    """Row `row` beats each of the others."""
    return AllOf(tuple(Better(place, row, other) for other in among if other != row))


def second_of(place: str, row: str, among: Sequence[str]) -> AnyOf:
    """Exactly one of the others beats the row: some one does, and the row beats all the rest."""
    others = tuple(other for other in among if other != row)

    def behind(first: str) -> AllOf:
        return all_of(Better(place, first, row), best_of(place, row, [o for o in others if o != first]))

    return AnyOf(tuple(behind(first) for first in others))


@dataclass(frozen=True)
class Claim:
    """A checkable statement of a paper, with the exhibits it rests on.

    `predicate` is None for a judgement that no statistic decides; `why_not` then says so, and `evidence` names
    comparisons that a reader may want beside it.  `about` names rows that it is about though no comparison has them.
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

    def word_in_print(self, printed: Printed) -> str:
        """What the numbers that the paper prints say to it: `holds`, `fails`, `mixed`, `open`, or `a judgement`."""
        return JUDGEMENT if self.predicate is None else self.predicate.word(_in_print(self.predicate, printed))

    def in_print(self, printed: Printed) -> Truth:
        """Whether the printed numbers bear the claim out without exception; None where they cannot tell."""
        return {HOLDS: True, MIXED: False, FAILS: False}.get(self.word_in_print(printed))


def _in_print(predicate: Predicate, printed: Printed) -> dict[Leaf, Truth]:
    return {leaf: _leaf_in_print(leaf, printed) for leaf in predicate.leaves()}


def _leaf_in_print(leaf: Leaf, printed: Printed) -> Truth:
    values = _values(printed, leaf.place)
    return leaf.in_print(values) if leaf.rows() <= values.keys() else None


def _values(printed: Printed, place: str) -> dict[str, float]:
    return {row: value for (where, row), value in printed.items() if where == place}


#: How a truth is worded under each profile; a demo says nothing, whatever it shows.
WORDS: dict[str, dict[Truth, str]] = {
    "paper": {True: "confirmed", False: "contradicted", None: "undetermined"},
    "short": {True: "agrees at that scale", False: "disagrees at that scale", None: "undetermined"},
    "pilot": {True: "agrees at that scale", False: "disagrees at that scale", None: "undetermined"},
}
NOT_MEASURED = "not measured"
JUDGEMENT = "a judgement"
NO_VERDICT = "no verdict"


@dataclass(frozen=True)
class Verdict:
    """What the evidence of one profile says of a claim, with every number it used.

    `findings` are the comparisons that decide, `missing` those not measured yet, `repeated` those that have no runs of
    their own, since one pair of relatives stands for several of the paper's; of alternatives it has those of the one
    that comes nearest to the truth.  `evidence` are comparisons that stand beside a judgement and decide nothing.
    `seeds_needed` would settle the claim, were the paper's differences the true ones; None where no number would (a tie
    in print) or nothing is known.
    """

    claim: Claim
    profile: str
    status: str
    findings: tuple[Finding, ...] = field(default=())
    missing: tuple[Leaf, ...] = field(default=())
    repeated: tuple[Leaf, ...] = field(default=())
    evidence: tuple[Finding, ...] = field(default=())
    seeds_needed: int | None = None


def judge(claim: Claim, profile: str, measured: Measured, printed: Printed) -> Verdict:
    """The verdict on a claim under a profile.

    Where rows are missing the parts that are measured are told, and the whole is undetermined unless a part
    contradicts it; where nothing is measured, that is said.  So it is where a part has the same runs as another: they
    are evidence once.  One seed, or a scale that says nothing, leaves the numbers and no verdict, neither of the whole
    nor of a part.
    """
    if claim.predicate is None:
        beside = _findings(list(claim.evidence), measured, printed)
        return Verdict(claim, profile, JUDGEMENT, evidence=tuple(replace(f, truth=None) for f in beside.values()))
    leaves = list(dict.fromkeys(claim.predicate.leaves()))
    found = _findings(leaves, measured, printed)
    again = _same_runs([*found], measured)
    findings = {leaf: finding for leaf, finding in found.items() if leaf not in again}
    missing = tuple(leaf for leaf in leaves if leaf not in found)
    if not findings:
        return Verdict(claim, profile, NOT_MEASURED, missing=missing)
    if profile not in WORDS or not any(_several_seeds(leaf, measured[leaf.place]) for leaf in findings):
        numbers = tuple(replace(finding, truth=None) for finding in findings.values())
        return Verdict(claim, profile, NO_VERDICT, numbers, missing, tuple(again))
    truths = {leaf: findings[leaf].truth if leaf in findings else None for leaf in leaves}
    status = WORDS[profile][claim.predicate.truth(truths)]
    seeds = _seeds_to_settle(claim.predicate, findings, printed, whole=len(findings) == len(leaves))
    weighed = list(dict.fromkeys(claim.predicate.weighed(truths, _in_print(claim.predicate, printed))))
    return Verdict(
        claim,
        profile,
        status,
        findings=tuple(findings[leaf] for leaf in weighed if leaf in findings),
        missing=tuple(leaf for leaf in weighed if leaf in missing),
        repeated=tuple(leaf for leaf in weighed if leaf in again),
        seeds_needed=seeds,
    )


def _same_runs(leaves: list[Leaf], measured: Measured) -> list[Leaf]:
    """Measured leaves that compare the very runs that one before them compares, at another place."""
    seen, again = set(), []
    for leaf in leaves:
        runs = measured[leaf.place].runs(leaf.rows())
        comparison = replace(leaf, place=""), runs
        if runs and comparison in seen:
            again.append(leaf)
        seen.add(comparison)
    return again


def _seeds_to_settle(
    predicate: Predicate, findings: Mapping[Leaf, Finding], printed: Printed, whole: bool
) -> int | None:
    """The least number of seeds at which the differences that are found by then make the predicate true or false.

    While parts are missing it cannot be settled; the number is then that of all measured parts.
    """
    needed = {leaf: f.seeds_needed for leaf, f in findings.items() if f.seeds_needed is not None}
    if not whole:
        return max(needed.values(), default=None)
    truths = _in_print(predicate, printed)
    for seeds in sorted(set(needed.values())):
        by_then = {leaf: truth if needed.get(leaf, math.inf) <= seeds else None for leaf, truth in truths.items()}
        if predicate.truth(by_then) is not None:
            return seeds
    return None


def _several_seeds(leaf: Leaf, evidence: Evidence) -> bool:
    """Whether each of its students has been trained more than once."""
    return all(evidence.seeds[row] > 1 for row in leaf.rows() - {TEACHER})


def _findings(leaves: list[Leaf], measured: Measured, printed: Printed) -> dict[Leaf, Finding]:
    """What was found of the leaves whose rows are measured, in their order."""
    found: dict[Leaf, Finding] = {}
    for group in _groups(leaves):
        place = group[0].place
        here = [leaf for leaf in group if place in measured and leaf.rows() <= measured[place].rows]
        if here:
            level = 1 - (1 - LEVEL) * _comparisons(group) / _comparisons(leaves)
            found |= _group_findings(here, measured[place], _values(printed, place), level)
    return {leaf: found[leaf] for leaf in leaves if leaf in found}


def _groups(leaves: list[Leaf]) -> list[list[Leaf]]:
    """Leaves whose intervals are made together: by place and kind, those with the teacher apart."""
    groups: dict[tuple[str, type, bool], list[Leaf]] = {}
    for leaf in leaves:
        groups.setdefault((leaf.place, type(leaf), TEACHER in leaf.rows()), []).append(leaf)
    return list(groups.values())


def _comparisons(leaves: list[Leaf]) -> int:
    """How many different comparisons: a better than b, and b better than a, are one."""
    return len({(leaf.place, frozenset(leaf.rows())) for leaf in leaves})


def _group_findings(
    leaves: list[Leaf], evidence: Evidence, values: Mapping[str, float], level: float
) -> dict[Leaf, Finding]:
    better = [leaf for leaf in leaves if isinstance(leaf, Better)]
    little = [leaf for leaf in leaves if isinstance(leaf, LittleCorrelation)]
    found: dict[Leaf, Finding] = {leaf: _correlated(leaf, evidence, level) for leaf in little}
    if better:
        pairs = [(leaf.a, leaf.b) for leaf in better]
        gaps = [leaf.gap(values) if leaf.rows() <= values.keys() else math.nan for leaf in better]
        beyond = [gap - leaf.by for leaf, gap in zip(better, gaps, strict=True)]
        needed = evidence.seeds_needed(pairs, beyond, level)
        for leaf, difference, gap, seeds in zip(better, evidence.compare(pairs, level), gaps, needed, strict=True):
            printed = None if math.isnan(gap) else gap
            truth = leaf.holds_for(difference)
            found[leaf] = Finding(leaf, truth, difference, None, printed, seeds)
    return found


def _correlated(leaf: LittleCorrelation, evidence: Evidence, level: float) -> Finding:
    found = leaf.of(evidence.means, level)
    truth = leaf.holds_for(found) if _several_seeds(leaf, evidence) else None
    return Finding(leaf, truth, correlation=found)
