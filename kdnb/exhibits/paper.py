"""A paper: its tables and figures, its claims, and how its runs are evidence for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kdnb.errors import unknown
from kdnb.exhibits.claims.predicates import Claim
from kdnb.exhibits.exhibit import Cell, Exhibit
from kdnb.study.record import Record

#: A place, where rows can be compared, and a row of it.
Where = tuple[str, str]


def where(cell: Cell) -> Where | None:
    """The place of a cell is its column."""
    return cell.column.key, cell.row.key


@dataclass(frozen=True)
class Paper:
    """Everything that the study knows of a paper, as data.

    where        the place and row at which a cell's number counts, None where it does not; default: its column
    shown        what a run shows in a figure: place and row -> number, NaN where its record does not tell; None where
                 the cell's own number counts
    place_title  how a place is called that is no column of an exhibit
    row_of       the row of an exhibit behind a row of a place, and what its label adds
    rows         the rows whose runs are pooled into one layout; empty: all that the exhibits of the claims have
    explained    claim -> claims that say why it is so: where it falls there is nothing to explain
    named        how a page that has several papers calls it; its key, where nothing is said
    own          rows of its first exhibit that are methods of its own
    beware       scale -> what a reader of its gains there has to know
    """

    key: str
    exhibits: tuple[Exhibit, ...]
    ablations: tuple[Exhibit, ...] = ()
    claims: tuple[Claim, ...] = ()
    where: Callable[[Cell], Where | None] = where
    shown: Callable[[Cell, Record], dict[Where, float] | None] = lambda cell, record: None
    place_title: Callable[[str], str] | None = None
    row_of: Callable[[str], tuple[str, str]] = lambda row: (row, "")
    rows: tuple[str, ...] = ()
    named: str = ""
    explained: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    own: tuple[str, ...] = ()
    beware: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def heading(self) -> str:
        return self.named or self.key

    @property
    def judged(self) -> list[Exhibit]:
        """The exhibits that claims rest on."""
        keys = {key for claim in self.claims for key in claim.exhibits}
        return [exhibit for exhibit in (*self.exhibits, *self.ablations) if exhibit.key in keys]

    def read(self, cell: Cell, record: Record) -> dict[Where, float]:
        """What a run of a cell is evidence for."""
        shown, here = self.shown(cell, record), self.where(cell)
        if shown is not None:
            return shown
        return {here: cell.score.of(record)} if here else {}

    def title(self, place: str) -> str:
        """How a place is called: `CIFAR-100, ResNet56 → ResNet8`."""
        if self.place_title is not None:
            return self.place_title(place)
        titles = {column.key: column.title for exhibit in self.exhibits for column in exhibit.columns}
        if place not in titles:
            raise unknown(f"column of {self.key}", place, titles)
        return titles[place]

    def label(self, row: str) -> str:
        """How a row of a place is called: `CRD + KD`, `KD under ResNet56`; one of no exhibit by its own name."""
        key, more = self.row_of(row)
        every = (known for exhibit in (*self.exhibits, *self.ablations) for known in exhibit.rows)
        return next((known.label + more for known in every if known.key == key), row)

    def claim(self, key: str) -> Claim:
        """The claim of an id; an unknown one is an error that names the nearest."""
        known = {claim.id: claim for claim in self.claims}
        if key not in known:
            raise unknown("claim", key, known)
        return known[key]
