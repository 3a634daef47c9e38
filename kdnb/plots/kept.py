"""Runs with the arrays beside their records, chosen for a figure: one pair of networks, one scale, one seed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdnb import exhibits
from kdnb.exhibits import Cell, Column, Exhibit
from kdnb.exhibits.runs import runs_of
from kdnb.plots import panels
from kdnb.plots.panels import COMPARED_ROLES, Panel, clause, labels, lacking, strongest, unmeasured
from kdnb.plots.style import Plot, style
from kdnb.study.record import Record
from kdnb.study.store import Store
from kdnb.tables.words import TITLES, slug


@dataclass(frozen=True)
class Kept:
    """One run with the arrays that lie beside its record."""

    cell: Cell
    record: Record
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class Found:
    """What is drawn for the first pair of networks that has the arrays: by line a run of the lowest common seed.

    `demo` are the rows of which the pair's demo has them.
    """

    exhibit: Exhibit
    rows: Sequence[str]
    panel: Panel | None
    kept: Mapping[str, Kept]
    demo: Collection[str] = ()


def find(exhibit: Exhibit | str, profile: str, rows: Sequence[str] | None, names: Sequence[str]) -> Found:
    """The runs that have these arrays, of all rows or those named: the first such pair, at its strongest scale.

    A demo stands only where no pair has more.
    """
    exhibit, store = exhibits.get(exhibit), Store.open()
    rows = list(rows or [row.key for row in exhibit.rows])
    found = []
    for pair in exhibit.pairs or (None,):
        columns = {scale: next(c for c in exhibit.columns_of(scale) if c.pair == pair) for scale in TITLES}
        by_scale = {
            scale: _with_arrays(exhibit, scale, column, rows, names, store) for scale, column in columns.items()
        }
        scale = strongest(profile, lambda scale, here=by_scale: len(here[scale]))  # type: ignore[misc]
        if scale:
            found.append((Panel(scale, columns[scale]), by_scale))
    if not found:
        return Found(exhibit, rows, None, {})
    panel, by_scale = next((one for one in found if one[0].profile != "demo"), found[0])
    return Found(exhibit, rows, panel, _of_one_seed(by_scale[panel.profile], store), set(by_scale["demo"]))


def plot(
    found: Found,
    named: tuple[str, str],
    caption: str,
    draw: Callable[[], Figure],
    parts: Iterable[pd.DataFrame],
    columns: list[str],
    seen: Callable[[Kept], str],
) -> Plot:
    """What is drawn of the runs, or a figure that says that there are none.

    The caption also says whose they are, and which rows have none.

    `named` is what the figure is called, or, where that is empty, what stands before the exhibit in its name.  Its
    numbers are the columns of all parts; `seen` tells what is to be seen of a run, for who cannot see it.
    """
    runs, several = found.kept.values(), list(parts)
    name = named[0] or slug(f"{named[1]} {found.exhibit.key}")
    if found.panel is None:
        return unmeasured(found.exhibit.title, name, pd.DataFrame(columns=columns), clause(caption))
    with style():
        figure = draw()
    frame = pd.concat(several, ignore_index=True)[columns]
    students = {row: label for row, label in labels(found.exhibit, COMPARED_ROLES).items() if row in found.rows}
    caption += f" {found.panel.sentence}, seed {' and '.join(map(str, sorted({k.record.seed for k in runs})))}."
    caption += lacking([found.panel], students, found.kept, found.demo)
    told = f"{found.panel.sentence}. " + " ".join(f"{kept.cell.row.label}: {seen(kept)}." for kept in runs)
    return panels.plot(found.exhibit, [found.panel], figure, name, caption, frame, told)


def _with_arrays(
    exhibit: Exhibit, scale: str, column: Column, rows: Sequence[str], names: Sequence[str], store: Store
) -> dict[str, tuple[Cell, dict[int, Record]]]:
    """By row its cell, and by seed the records beside which all these arrays lie; no row without one."""
    found: dict[str, tuple[Cell, dict[int, Record]]] = {}
    here = (cell for cell in exhibit.cells(scale, column.dataset, rows) if cell.column == column)
    for cell, record in runs_of(here, store):
        if {*names} <= store.array_names(record.fingerprint, record.seed):
            found.setdefault(cell.row.key, (cell, {}))[1][record.seed] = record
    return found


def _of_one_seed(by_line: Mapping[str, tuple[Cell, dict[int, Record]]], store: Store) -> dict[str, Kept]:
    """Of each line the lowest seed that all have; where there is none, its own lowest."""
    common = set.intersection(*({*records} for _, records in by_line.values()))
    chosen = {line: (cell, records[min(common or records)]) for line, (cell, records) in by_line.items()}
    return {line: Kept(cell, record, store.arrays(record)) for line, (cell, record) in chosen.items()}
