"""What a claim was taken to mean: its predicate in one line of symbols, with rows and places as people call them.

`CRD > KD, FitNet (CIFAR-100)` says that CRD is better than each of the two there; of an error, less is better: `<`.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdnb.exhibits.claims.predicates import AllOf, Better, Leaf, Parts, Predicate
from kdnb.exhibits.paper import Paper

#: So many places are named; more are counted.
FEW_PLACES = 2
#: A comparison wherever it is made: the better side, how it is ahead (` > `, and a margin), the other side.
Compared = tuple[str, tuple[str, str], str]


def told(predicate: Predicate, paper: Paper) -> str:
    """`CRD > KD, FitNet (CIFAR-100)`; `at least 4 of 7: KD, PKT ≥ CRD (CIFAR-10)`; parts with parts are in brackets."""
    parts = _parts(predicate)
    said = _comparisons([part for part in parts if isinstance(part, Leaf)], paper)
    said += [f"[{told(part, paper)}]" for part in parts if not isinstance(part, Leaf)]
    if isinstance(predicate, Leaf) or (isinstance(predicate, AllOf) and len(said) == 1):
        return said[0]  # nobody asks how much of one thing has to hold
    assert isinstance(predicate, Parts), "what is no comparison is made of parts"
    return f"{predicate.lead}: {'; '.join(said)}"


def _parts(predicate: Predicate) -> list[Predicate]:
    """What it is made of: where all of what is itself all of something has to hold, one list."""
    if not isinstance(predicate, Parts):
        return [predicate]
    whole = isinstance(predicate, AllOf)
    return [p for part in predicate.told for p in (_parts(part) if whole and isinstance(part, AllOf) else [part])]


def _comparisons(leaves: Sequence[Leaf], paper: Paper) -> list[str]:
    """Comparisons with their places: those of the same rows together, and in one where all have the same places."""
    places: dict[Compared, dict[str, None]] = {}
    for leaf in leaves:
        places.setdefault(_compared(leaf, paper), {})[place_told(leaf, paper)] = None
    together: dict[tuple[str, ...], list[Compared]] = {}
    for compared, at in places.items():
        together.setdefault(tuple(at), []).append(compared)
    by_place = [(_rows(alike), _places(where)) for where, alike in together.items()]
    if len(by_place) == 1:
        rows, told_where = by_place[0]
        return [f"{'; '.join(rows)} ({told_where})"]
    return [f"{row} ({where})" for rows, where in by_place for row in rows]


def _compared(leaf: Leaf, paper: Paper) -> Compared:
    if not isinstance(leaf, Better):
        return leaf.text(), ("", ""), ""
    sign = {(True, False): ">", (True, True): "≥", (False, False): "<", (False, True): "≤"}
    margin = leaf.score.direction * leaf.by
    ahead = f" {'+' if margin > 0 else '−'} {abs(margin):g}" if margin else ""
    return row_told(leaf.a, paper), (sign[leaf.score.higher_is_better, leaf.or_equal], ahead), row_told(leaf.b, paper)


def row_told(row: str, paper: Paper) -> str:
    """A row's label among others: one with a comma of its own is quoted."""
    label = paper.label(row)
    return f"“{label}”" if "," in label else label


def _rows(compared: Sequence[Compared]) -> list[str]:
    """`CRD > KD, FitNet` for one that beats several, `KD, FitNet > Plain student` for several that beat the same."""
    beaten: dict[tuple[str, tuple[str, str]], list[str]] = {}
    for a, how, b in compared:
        beaten.setdefault((a, how), []).append(b)
    winners: dict[tuple[tuple[str, str], tuple[str, ...]], list[str]] = {}
    for (a, how), others in beaten.items():
        winners.setdefault((how, tuple(others)), []).append(a)
    said = []
    for ((sign, ahead), losers), first in winners.items():
        of = f"({', '.join(losers)})" if ahead and len(losers) > 1 else ", ".join(losers)
        said.append(f"{', '.join(first)} {sign} {of}{ahead}".strip())
    return said


def _places(where: Sequence[str]) -> str:
    return " and ".join(where) if len(where) <= FEW_PLACES else f"{len(where)} places"


def place_told(leaf: Leaf, paper: Paper) -> str:
    """Where a comparison is made, its score by title alone: the sign says which way it goes."""
    return paper.title(leaf.place).replace(leaf.score.heading, leaf.score.title)
