"""What a paper's data get wrong about themselves: printed numbers that no cell shows, claims about rows and tables that
there are not.  Nothing of this stops a run; it would be missed in the book without a word.
"""

from __future__ import annotations

from collections.abc import Iterator

from kdnb.errors import KdnbError, unknown
from kdnb.exhibits.claims.predicates import Claim
from kdnb.exhibits.paper import Paper
from kdnb.exhibits.reported import file_of, lines_of


def faults(paper: Paper) -> list[str]:
    """A sentence a fault, in the order of the paper's file, then of its claims."""
    claimed = (
        f"Claim {claim.id} of {paper.key}: {error}" for claim in paper.claims for error in _of_claim(paper, claim)
    )
    return [*_of_numbers(paper), *claimed]


def _of_numbers(paper: Paper) -> Iterator[str]:
    """Lines of the paper's file that belong to no cell of a table or figure."""
    known = {exhibit.name: exhibit for exhibit in paper.exhibits}
    shown = {
        name: {(cell.dataset, cell.score.key, cell.part.printed_key) for cell in exhibit.cells("paper")}
        for name, exhibit in known.items()
    }
    if not file_of(paper.key).exists():
        return
    for number, line in lines_of(paper.key):
        at = f"{file_of(paper.key)}, line {number}"
        if line["exhibit"].startswith("text") or "gain" in line["metric"]:  # no table's, or what two numbers differ by
            continue
        exhibit = known.get(line["exhibit"])
        if exhibit is None:
            yield f"{at}: {unknown(f'exhibit of {paper.key}', line['exhibit'], known)}"
            continue
        place = line["dataset"], exhibit.metric_of(line)
        rows = {row for dataset, metric, row in shown[exhibit.name] if (dataset, metric) == place}
        if not rows:
            columns = {f"{dataset}, {metric}" for dataset, metric, _ in shown[exhibit.name]}
            yield f"{at}: {unknown(f'column of {exhibit.key}', ', '.join(place), columns)}"
        elif exhibit.key_of(line) not in rows:
            yield f"{at}: {unknown(f'row of {exhibit.key}', exhibit.key_of(line), rows)}"


def _of_claim(paper: Paper, claim: Claim) -> Iterator[KdnbError]:
    """Tables, rows and columns that a claim names and the paper has not.

    What a figure `shows` has rows and places of its own, which its records tell.
    """
    every = {exhibit.key: exhibit for exhibit in (*paper.exhibits, *paper.ablations)}
    yield from (unknown("exhibit", key, every) for key in claim.exhibits if key not in every)
    rows = {row.key for exhibit in every.values() for row in exhibit.rows}
    columns = {column.key for exhibit in every.values() for column in exhibit.columns}
    for leaf in claim.predicate.leaves() if claim.predicate else ():
        if leaf.place in columns:
            compared = {row: paper.row_of(row)[0] for row in sorted(leaf.rows())}
            yield from (unknown("row", row, rows) for row, key in compared.items() if key not in rows)
        elif paper.place_title is None:
            yield unknown("column", leaf.place, columns)
