"""Claims: checkable statements, predicates on statistics, and verdicts that carry their scale.

A predicate is a small tree: comparisons of rows at the leaves, `AllOf` and `AnyOf` above.  The same tree is
asked of the measured runs (with intervals) and of the numbers the paper prints (without).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from kdnb.study.statistics import Correlation, Difference, Layout, correlation, one_sample

#: Three-valued: True, False, or None where the evidence cannot tell.
Truth = bool | None


class Evidence:
    """The measured runs of one data set under one profile.

    A teacher has one run, which is a constant here: intervals are conditional on it.
    """

    def __init__(self, frame: pd.DataFrame, teacher: str = "teacher") -> None:
        students = frame[frame["row"] != teacher]
        self.rows = set(students["row"]) | set(frame["row"])
        self.frame = students
        self.teacher = float(frame.loc[frame["row"] == teacher, "value"].iloc[0]) if teacher in self.rows else math.nan
        self.layout = Layout(students) if len(students) else None

    def differences(self, pairs: list[tuple[str, str]]) -> list[Difference]:
        """Simultaneous differences of rows; pairs with the teacher are of a mean and a constant."""
        against = [pair for pair in pairs if "teacher" in pair]
        among = [pair for pair in pairs if "teacher" not in pair]
        found = {(d.a, d.b): d for d in (self.layout.differences(among) if self.layout and among else [])}
        found |= {pair: self._against_teacher(*pair, family=len(pairs)) for pair in against}
        return [found[pair] for pair in pairs]

    def _against_teacher(self, a: str, b: str, family: int) -> Difference:
        student = b if a == "teacher" else a
        values = self.frame.loc[self.frame["row"] == student, "value"].to_numpy(float)
        return one_sample(a, b, (values - self.teacher) * (-1 if a == "teacher" else 1), family)

    def means(self) -> dict[str, float]:
        return {str(row): float(v) for row, v in self.frame.groupby("row", sort=False)["value"].mean().items()}


@dataclass(frozen=True)
class Finding:
    """One leaf of a predicate as it was found: the comparison, its numbers, and what they say."""

    dataset: str
    text: str
    truth: Truth
    difference: Difference | None = None
    correlation: Correlation | None = None
    printed: float | None = None
    seeds_needed: int | None = None


Measured = Mapping[str, Evidence]
Printed = Mapping[tuple[str, str], float]


class Predicate(ABC):
    """A statement about rows of a table, on one or several data sets."""

    @abstractmethod
    def leaves(self) -> Iterator[Leaf]:
        """All comparisons, left to right."""

    @abstractmethod
    def truth(self, of: Mapping[Leaf, Truth]) -> Truth:
        """The truth of the whole, from that of its leaves."""


@dataclass(frozen=True)
class Leaf(Predicate):
    """A comparison on one data set."""

    dataset: str

    def leaves(self) -> Iterator[Leaf]:
        yield self

    def truth(self, of: Mapping[Leaf, Truth]) -> Truth:
        return of[self]


@dataclass(frozen=True)
class Better(Leaf):
    """Row `a` has a higher accuracy than row `b`; with `or_equal` a tie of printed numbers is enough."""

    a: str
    b: str
    or_equal: bool = False

    def text(self) -> str:
        return f"{self.a} {'>=' if self.or_equal else '>'} {self.b}"

    def holds_for(self, difference: Difference) -> Truth:
        """True when the whole interval lies on the claimed side, False when on the other."""
        if not difference.known:
            return None
        if difference.low > 0:
            return True
        return False if difference.high < 0 else None


@dataclass(frozen=True)
class LittleCorrelation(Leaf):
    """Gains of methods alone and combined with KD go together at most with |r| < `bound`."""

    methods: tuple[str, ...]
    bound: float = 0.5

    def text(self) -> str:
        return f"|r| < {self.bound} between gains alone and with KD"

    def of(self, means: Mapping[str, float]) -> Correlation:
        alone = [means[m] - means["plain"] for m in self.methods]
        combined = [means[f"{m}+kd"] - means["plain"] for m in self.methods]
        return correlation(alone, combined)

    def holds_for(self, found: Correlation) -> Truth:
        if not (math.isfinite(found.low) and math.isfinite(found.high)):
            return None
        if -self.bound < found.low and found.high < self.bound:
            return True
        return False if found.low > self.bound or found.high < -self.bound else None


@dataclass(frozen=True)
class AllOf(Predicate):
    """Confirmed when every part is, contradicted when any part is."""

    parts: tuple[Predicate, ...]

    def leaves(self) -> Iterator[Leaf]:
        for part in self.parts:
            yield from part.leaves()

    def truth(self, of: Mapping[Leaf, Truth]) -> Truth:
        truths = [part.truth(of) for part in self.parts]
        if any(t is False for t in truths):
            return False
        return True if all(truths) else None


@dataclass(frozen=True)
class AnyOf(Predicate):
    """Confirmed when any part is, contradicted when every part is."""

    parts: tuple[Predicate, ...]

    def leaves(self) -> Iterator[Leaf]:
        for part in self.parts:
            yield from part.leaves()

    def truth(self, of: Mapping[Leaf, Truth]) -> Truth:
        truths = [part.truth(of) for part in self.parts]
        if any(t is True for t in truths):
            return True
        return False if all(t is False for t in truths) else None


@dataclass(frozen=True)
class Not(Predicate):
    """Confirmed when the part is contradicted, and the other way round."""

    part: Predicate

    def leaves(self) -> Iterator[Leaf]:
        yield from self.part.leaves()

    def truth(self, of: Mapping[Leaf, Truth]) -> Truth:
        found = self.part.truth(of)
        return None if found is None else not found


def all_of(*parts: Predicate) -> AllOf:
    return AllOf(parts)


def any_of(*parts: Predicate) -> AnyOf:
    return AnyOf(parts)


def best_of(dataset: str, row: str, others: tuple[str, ...]) -> AllOf:
    """Row `row` beats each of the others."""
    return AllOf(tuple(Better(dataset, row, other) for other in others if other != row))


@dataclass(frozen=True)
class Claim:
    """A checkable statement of a paper, with the exhibits it rests on.

    `predicate` is None for a judgement that no statistic decides; `why_not` then says so.
    """

    id: str
    paper: str
    sentence: str
    exhibits: tuple[str, ...]
    predicate: Predicate | None
    why_not: str = ""
    remark: str = ""

    def in_print(self, printed: Printed) -> Truth:
        """Whether the claim holds of the numbers that the paper prints."""
        if self.predicate is None:
            return None
        return self.predicate.truth({leaf: _printed_truth(leaf, printed) for leaf in self.predicate.leaves()})


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
    """What the evidence of one profile says of a claim, with every number it used."""

    claim: Claim
    profile: str
    status: str
    findings: tuple[Finding, ...] = field(default=())
    missing: tuple[str, ...] = field(default=())

    @property
    def seeds_needed(self) -> int | None:
        """Seeds that the smallest of the paper's differences would need; None where not known."""
        known = [f.seeds_needed for f in self.findings if f.seeds_needed is not None]
        return max(known) if known else None


def judge(claim: Claim, profile: str, measured: Measured, printed: Printed) -> Verdict:
    """The verdict on a claim under a profile.

    Where rows are missing the parts that are measured are told, and the whole is undetermined unless a part
    contradicts it; where nothing is measured, that is said.
    """
    if claim.predicate is None:
        return Verdict(claim, profile, JUDGEMENT)
    leaves = list(dict.fromkeys(claim.predicate.leaves()))
    findings = _findings(leaves, measured, printed)
    missing = tuple(f"{leaf.dataset}: {_text(leaf)}" for leaf in leaves if leaf not in findings)
    if not findings:
        return Verdict(claim, profile, NOT_MEASURED, missing=missing)
    truths = {leaf: findings[leaf].truth if leaf in findings else None for leaf in leaves}
    status = WORDS[profile][claim.predicate.truth(truths)] if profile in WORDS else NO_VERDICT
    if all(f.difference is not None and not f.difference.known for f in findings.values()):
        status = NO_VERDICT  # one seed
    return Verdict(claim, profile, status, tuple(findings.values()), missing)


def _findings(leaves: list[Leaf], measured: Measured, printed: Printed) -> dict[Leaf, Finding]:
    found: dict[Leaf, Finding] = {}
    for dataset, evidence in measured.items():
        here = [leaf for leaf in leaves if leaf.dataset == dataset]
        comparisons = [leaf for leaf in here if isinstance(leaf, Better) and {leaf.a, leaf.b} <= evidence.rows]
        pairs = list(dict.fromkeys((leaf.a, leaf.b) for leaf in comparisons))
        differences = dict(zip(pairs, evidence.differences(pairs), strict=True)) if pairs else {}
        for leaf in comparisons:
            found[leaf] = _compared(leaf, differences[leaf.a, leaf.b], evidence, printed, len(pairs))
        for other in here:
            if isinstance(other, LittleCorrelation) and _needed(other) <= evidence.rows:
                r = other.of(evidence.means())
                enough = evidence.frame["seed"].nunique() > 1
                found[other] = Finding(dataset, other.text(), other.holds_for(r) if enough else None, correlation=r)
    return found


def _compared(leaf: Better, difference: Difference, evidence: Evidence, printed: Printed, family: int) -> Finding:
    gap = _gap(leaf, printed)
    needed = None
    if gap and "teacher" not in (leaf.a, leaf.b) and evidence.layout is not None:
        needed = evidence.layout.seeds_needed(gap, family)
    return Finding(leaf.dataset, leaf.text(), leaf.holds_for(difference), difference, None, gap, needed)


def _gap(leaf: Better, printed: Printed) -> float | None:
    a, b = printed.get((leaf.dataset, leaf.a)), printed.get((leaf.dataset, leaf.b))
    return None if a is None or b is None else round(a - b, 4)


def _printed_truth(leaf: Leaf, printed: Printed) -> Truth:
    if isinstance(leaf, Better):
        gap = _gap(leaf, printed)
        return None if gap is None else (gap >= 0 if leaf.or_equal else gap > 0)
    if isinstance(leaf, LittleCorrelation):
        means = {row: value for (dataset, row), value in printed.items() if dataset == leaf.dataset}
        return bool(np.abs(leaf.of(means).pearson) < leaf.bound) if _needed(leaf) <= means.keys() else None
    return None


def _needed(leaf: LittleCorrelation) -> set[str]:
    return {"plain", *leaf.methods, *(f"{m}+kd" for m in leaf.methods)}


def _text(leaf: Leaf) -> str:
    return leaf.text() if isinstance(leaf, Better | LittleCorrelation) else str(leaf)
