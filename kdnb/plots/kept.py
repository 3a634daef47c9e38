"""Runs with the arrays beside their records, chosen for a figure: one pair of networks, one scale, one seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdnb.exhibits import Cell, Column, Exhibit
from kdnb.exhibits.runs import runs_of
from kdnb.plots.panels import Panel, of_demo, scales_told, strongest
from kdnb.plots.style import Plot
from kdnb.study.record import Record
from kdnb.study.store import Store
from kdnb.tables.words import TITLES


@dataclass(frozen=True)
class Kept:
    """One run with the arrays that lie beside its record."""

    cell: Cell
    record: Record
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class Found:
    """What is drawn for the first pair of networks that has the arrays: by line a run of the lowest common seed."""

    exhibit: Exhibit
    rows: Sequence[str]
    panel: Panel | None
    kept: Mapping[str, Kept]


def find(exhibit: Exhibit, profile: str, rows: Sequence[str] | None, names: Sequence[str]) -> Found:
    """The runs that have these arrays, of all rows or those named: the first such pair, at its strongest scale."""
    store, rows = Store.open(), list(rows or [row.key for row in exhibit.rows])
    for pair in exhibit.pairs or (None,):
        columns = {scale: next(c for c in exhibit.columns_of(scale) if c.pair == pair) for scale in TITLES}
        by_scale = {
            scale: _with_arrays(exhibit, scale, column, rows, names, store) for scale, column in columns.items()
        }
        scale = strongest(profile, lambda scale, found=by_scale: len(found[scale]))  # type: ignore[misc]
        if scale:
            return Found(exhibit, rows, Panel(scale, columns[scale]), _of_one_seed(by_scale[scale], store))
    return Found(exhibit, rows, None, {})


def plot(
    figure: Figure, name: str, caption: str, found: Found, frame: pd.DataFrame, seen: Callable[[Kept], str]
) -> Plot:
    """The figure, with a caption that also says whose runs these are; `seen` tells what is to be seen of a run."""
    if found.panel is None:
        return Plot(figure, name, caption, frame)
    seeds = sorted({kept.record.seed for kept in found.kept.values()})
    caption += f" {found.panel.sentence}, seed {' and '.join(str(seed) for seed in seeds)}."
    told = f"{found.panel.sentence}. " + " ".join(f"{k.cell.row.label}: {seen(k)}." for k in found.kept.values())
    caption += scales_told(found.exhibit, [found.panel])
    return Plot(figure, name, caption, frame, told, of_demo([found.panel]))


def table(parts: Iterable[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """The numbers of a figure, line by line of it; an empty table of these columns where nothing was drawn."""
    several = list(parts)
    return pd.concat(several, ignore_index=True)[columns] if several else pd.DataFrame(columns=columns)


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
