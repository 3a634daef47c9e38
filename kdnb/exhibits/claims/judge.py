"""The verdict on a claim: what the runs of one profile say, with every number used.

All comparisons of one claim share one level, at all its places: in at most 5 % of studies does any of its intervals
miss the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kdnb.exhibits.claims.evidence import Evidence
from kdnb.exhibits.claims.places import Frames, printed, printed_at
from kdnb.exhibits.claims.predicates import Claim, Finding, Leaf, Predicate, Printed, in_print
from kdnb.exhibits.claims.words import JUDGEMENT, NO_VERDICT, NOT_MEASURED, OUR_READING, TEACHER, WORDS, Truth
from kdnb.exhibits.paper import Paper
from kdnb.study.statistics import LEVEL

Measured = Mapping[str, Evidence]


@dataclass(frozen=True)
class Verdict:
    """What the evidence of one profile says of a claim, with every number it used.

    `findings` are the comparisons that decide, `missing` those not measured yet, `repeated` those that have no runs of
    their own, since one pair of relatives stands for several of the paper's.  Of alternatives these are of the one that
    comes nearest to the truth, whatever is measured.  `evidence` are comparisons that stand beside a judgement and
    decide nothing.
    `seeds_needed` would settle a claim that is open, were the paper's differences the true ones: infinite where none
    that was searched would, None where nothing is known, or nothing but a tie in print is open.
    """

    claim: Claim
    profile: str
    status: str
    findings: tuple[Finding, ...] = field(default=())
    missing: tuple[Leaf, ...] = field(default=())
    repeated: tuple[Leaf, ...] = field(default=())
    evidence: tuple[Finding, ...] = field(default=())
    seeds_needed: float | None = None


def words_in_print(paper: Paper) -> dict[str, str]:
    """Claim id -> what the paper's own numbers say to it: `holds`, `fails`, `mixed`, `open`, or `a judgement`."""
    numbers = printed(paper)
    return {claim.id: claim.word_in_print(numbers) for claim in paper.claims}


def verdicts(paper: Paper, frames: Frames, profile: str) -> list[Verdict]:
    """The verdict on every claim of a paper from the runs of one profile: place -> frame (row, seed, value)."""
    measured = {place: Evidence(frame, paper.rows or None) for place, frame in frames.items() if len(frame)}
    numbers = printed(paper)
    return [judge(claim, profile, measured, numbers) for claim in paper.claims]


def judge(claim: Claim, profile: str, measured: Measured, printed: Printed) -> Verdict:
    """The verdict on a claim under a profile.

    Where rows are missing the parts that are measured are told, and the whole is undetermined unless a part
    contradicts it; where nothing is measured, that is said.  So it is where a part has the same runs as another: they
    are evidence once.  What speaks against it in our reading of the paper alone is told as that.  One seed, or a scale
    that says nothing, leaves the numbers and no verdict, neither of the whole nor of a part.
    """
    if claim.predicate is None:
        beside = _findings(list(claim.evidence), measured, printed)
        return Verdict(claim, profile, JUDGEMENT, evidence=tuple(replace(f, truth=None) for f in beside.values()))
    leaves = list(dict.fromkeys(claim.predicate.leaves()))
    found = _findings(leaves, measured, printed)
    again = _same_runs([*found], measured)
    findings = {leaf: finding for leaf, finding in found.items() if leaf not in again}
    decides = _decides(findings, profile, measured)
    if not decides:
        findings = {leaf: replace(finding, truth=None) for leaf, finding in findings.items()}
    truths = {leaf: findings[leaf].truth if leaf in findings else None for leaf in leaves}
    weighed = list(dict.fromkeys(claim.predicate.weighed(truths, in_print(claim.predicate, printed))))
    status, seeds = NO_VERDICT if findings else NOT_MEASURED, None
    if decides:
        status = _status(claim, WORDS[profile], truths, measured, printed)
        if status == WORDS[profile][None]:
            seeds = _seeds_to_settle(claim.predicate, findings, weighed, printed)
    return Verdict(
        claim,
        profile,
        status,
        findings=tuple(findings[leaf] for leaf in weighed if leaf in findings),
        missing=tuple(leaf for leaf in weighed if leaf not in found),
        repeated=tuple(leaf for leaf in weighed if leaf in again),
        seeds_needed=seeds,
    )


def _decides(findings: Mapping[Leaf, Finding], profile: str, measured: Measured) -> bool:
    """Whether a verdict may follow: from several seeds of some rows, at a scale that says something."""
    return profile in WORDS and any(measured[leaf.place].several_seeds(leaf.rows()) for leaf in findings)


def _status(
    claim: Claim, words: Mapping[Truth, str], truths: Mapping[Leaf, Truth], measured: Measured, printed: Printed
) -> str:
    assert claim.predicate is not None, "a judgement has no status of this kind"
    truth = claim.predicate.truth(truths)
    if truth is False and not _however_read(claim, measured, printed):
        return OUR_READING
    return words[truth]


def _however_read(claim: Claim, measured: Measured, printed: Printed) -> bool:
    """Whether what contradicts a claim does so in every reading: nothing was open, or all that were named agree."""
    if claim.readings is None:
        return True
    truths = []
    for reading in claim.readings:
        leaves = list(dict.fromkeys(reading.leaves()))
        found = _findings(leaves, measured, printed)
        truths.append(reading.truth({leaf: found[leaf].truth if leaf in found else None for leaf in leaves}))
    return bool(truths) and all(truth is False for truth in truths)


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
    predicate: Predicate, findings: Mapping[Leaf, Finding], weighed: Sequence[Leaf], printed: Printed
) -> float | None:
    """The least number of seeds at which the open comparisons that are found by then make the predicate true or false.

    While parts are missing, or a tie in print is in the way, no number does; it is then that of all the other open
    comparisons that are weighed.
    """
    needed = {leaf: f.seeds_needed for leaf, f in findings.items() if f.truth is None and not f.tied}
    if findings.keys() >= {*predicate.leaves()}:
        truths, known = in_print(predicate, printed), {leaf: finding.truth for leaf, finding in findings.items()}
        for seeds in sorted({number for number in needed.values() if number is not None}):
            found = {leaf: truths[leaf] for leaf, number in needed.items() if number is not None and number <= seeds}
            if predicate.truth(known | found) is not None:  # what is decided stays so, whatever is printed
                return seeds
    numbers = [needed[leaf] for leaf in weighed if leaf in needed]
    known_numbers = [number for number in numbers if number is not None]
    return max(known_numbers, default=None) if len(known_numbers) == len(numbers) else None


def _findings(leaves: list[Leaf], measured: Measured, printed: Printed) -> dict[Leaf, Finding]:
    """What was found of the leaves whose rows are measured, in their order."""
    found: dict[Leaf, Finding] = {}
    for group in _groups(leaves):
        place = group[0].place
        here = [leaf for leaf in group if place in measured and leaf.rows() <= measured[place].rows]
        if here:
            level = 1 - (1 - LEVEL) * _comparisons(group) / _comparisons(leaves)
            findings = type(here[0]).find(here, measured[place], printed_at(printed, place), level)
            found |= {finding.leaf: finding for finding in findings}
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
