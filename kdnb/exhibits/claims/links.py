"""How the claims of a paper hang together: which fall with a claim, which say why it is so, which share its numbers."""

from __future__ import annotations

from dataclasses import dataclass

from kdnb.exhibits.claims.predicates import Claim
from kdnb.exhibits.paper import Paper

#: A comparison whichever side is claimed to be better: its place and its rows.
Compared = tuple[str, frozenset[str]]


@dataclass(frozen=True)
class Links:
    """Other claims by id: those that can hold only where this one does, those that say why it is so, those that compare
    the same.
    """

    needed_by: tuple[str, ...] = ()
    explained_by: tuple[str, ...] = ()
    shared_with: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """`S2; to be explained by S7, S9; shares with S4`, or a dash."""
        parts = [", ".join(self.needed_by)] if self.needed_by else []
        parts += [f"to be explained by {', '.join(self.explained_by)}"] if self.explained_by else []
        parts += [f"shares with {', '.join(self.shared_with)}"] if self.shared_with else []
        return "; ".join(parts) or "–"


def links(paper: Paper) -> dict[str, Links]:
    """Claim id -> the other claims of the paper that hang on it."""
    return {claim.id: _links(claim, paper) for claim in paper.claims}


def _links(claim: Claim, paper: Paper) -> Links:
    others = [other for other in paper.claims if other is not claim]
    needing = tuple(other.id for other in others if needs(other, claim))
    why = tuple(id for id in paper.explained.get(claim.id, ()) if id not in needing)
    shared = [other.id for other in others if compared(other) & compared(claim)]
    return Links(needing, why, tuple(id for id in shared if id not in (*needing, *why)))


def needs(claim: Claim, other: Claim) -> bool:
    """Whether a claim can hold only where the other does: whatever has to be true of the one makes the other true."""
    if claim.predicate is None or other.predicate is None:
        return False
    given = claim.predicate.needs()
    known = {leaf: any(one.implies(leaf) for one in given) or None for leaf in other.predicate.leaves()}
    return other.predicate.truth(known) is True


def compared(claim: Claim) -> set[Compared]:
    """What a claim compares."""
    return {(leaf.place, frozenset(leaf.rows())) for leaf in claim.predicate.leaves()} if claim.predicate else set()
