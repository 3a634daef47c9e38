"""What claims were taken to mean, in symbols; where they stand in print; and the printed numbers they are about."""

from __future__ import annotations

from collections.abc import Iterable

from kdnb import exhibits
from kdnb.exhibits import Paper
from kdnb.exhibits.claims.predicates import Claim, Leaf, Printed
from kdnb.exhibits.claims.told import place_told, row_told, told
from kdnb.tables.sheet import Fold, myst

TITLE = "What each claim was taken to mean, and its numbers in print"
HOW_TO_READ = (
    "`A, B > C, D (here)`: A and B are each better than C and than D, at the place in brackets. The sign is `<` where "
    "less is better."
)
#: Of a claim on more printed numbers these are counted.
MANY_NUMBERS = 40


def as_taken(paper: Paper, claims: Iterable[Claim], in_print: Printed) -> Fold:
    """A line a claim: where it stands, what it was taken to mean, and its printed numbers by row and column."""
    return Fold(TITLE, "\n".join([HOW_TO_READ, "", *(_line(paper, claim, in_print) for claim in claims)]))


def _line(paper: Paper, claim: Claim, in_print: Printed) -> str:
    """`- **C10**, §2.2, Table 1. CRD > KD, ... (CIFAR-100). *In print:* CIFAR-100: CRD 70.66, KD 69.78.`"""
    meaning = told(claim.predicate, paper) if claim.predicate else "A judgement, which no comparison decides"
    sentence = myst(meaning[:1].upper() + meaning[1:])
    return f"- **{claim.id}**, {where(claim)}. {sentence}. *In print:* {_numbers(paper, claim, in_print)}."


def _numbers(paper: Paper, claim: Claim, in_print: Printed) -> str:
    found = printed_of(claim, in_print)
    if len(found) > MANY_NUMBERS:
        return f"{len(found)} numbers, in claims.csv"
    by_place: dict[str, list[str]] = {}
    for (place, row), leaf in found.items():
        number = leaf.score.text(in_print[place, row])
        by_place.setdefault(place_told(leaf, paper), []).append(f"{row_told(row, paper)} {number}")
    return myst("; ".join(f"{place}: {', '.join(rows)}" for place, rows in by_place.items())) or "no number"


def printed_of(claim: Claim, in_print: Printed) -> dict[tuple[str, str], Leaf]:
    """The places and rows of the printed numbers that a claim is about, each with a comparison that has it."""
    leaves = list(claim.predicate.leaves()) if claim.predicate else list(claim.evidence)
    keys = {(leaf.place, row): leaf for leaf in leaves for row in sorted(leaf.rows())}
    return {key: leaf for key, leaf in keys.items() if key in in_print}


def where(claim: Claim) -> str:
    """The section that makes a claim and the exhibits it rests on, the paper's first: `§4, Table 6; our tables:
    5 images a class for the student`.
    """
    stands_in = [exhibits.get(key) for key in claim.exhibits]
    ours = [exhibit.called for exhibit in stands_in if exhibit.ablation]
    theirs = [exhibit.called for exhibit in stands_in if not exhibit.ablation]
    told_ours = [f"our tables: {', '.join(ours)}"] if ours else []
    printed = ", ".join([*([f"§{claim.section}"] if claim.section else []), *theirs])
    return "; ".join([*([printed] if printed else []), *told_ours])
