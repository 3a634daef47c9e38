"""How the numbers of a table are made once more: the command, and what has to be equal for equal digits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from kdnb.datasets import is_own
from kdnb.exhibits import Cell, Exhibit
from kdnb.study.experiment import TEACHER_SEED
from kdnb.study.profile import PROFILES

EQUAL_DIGITS = (
    "What is stored already is shown and not trained again. Digits are equal where these are: device, threads, "
    "precision, way of execution (eager, or captured as a CUDA graph), versions of the packages, the processor's "
    "instructions. `kdnb run --like RECORD.json` repeats one run under what its record says of them, compares, and "
    "writes nothing; records can be downloaded from the pages of runs."
)
#: One scale of a table: its cells, and every run behind them.
Scale = tuple[Sequence[Cell], pd.DataFrame]


def rerun(exhibit: Exhibit, scales: Iterable[Scale]) -> str:
    """A command for every scale with runs, then what equal digits need; empty where none can be given."""
    told = [(command(exhibit, cells, runs), runs) for cells, runs in scales]
    commands = [line for line, _ in told if line]
    if not commands:
        return ""
    console = "\n".join(f"$ {line}" for line in commands)
    devices = dict.fromkeys(device for line, runs in told if line for device in runs["device"] if device)
    trained = f" Trained on: {'; '.join(devices)}." if devices else ""
    return f"```console\n{console}\n```\n\n{EQUAL_DIGITS}{trained}"


def command(exhibit: Exhibit, cells: Sequence[Cell], runs: pd.DataFrame) -> str:
    """What fills these cells of one scale, and no others, from an empty store.

    Empty where nothing of them is measured, or where a row is a reader's own: no command has its arguments.
    """
    cells = [cell for cell in cells if cell.experiment is not None]
    runs = runs[runs["row"].isin([cell.key for cell in cells])]
    if runs.empty or cells[0].profile.name not in PROFILES:
        return ""
    profile, datasets = cells[0].profile.name, list(dict.fromkeys(cell.dataset for cell in cells))
    every = [c for c in exhibit.cells(profile) if c.experiment is not None and c.dataset in datasets]
    if not {*map(_what, cells)} <= {*map(_what, every)}:
        return ""
    line = ["kdnb study --exhibit", exhibit.key, "--profile", profile]
    if len(datasets) == 1 and (len(exhibit.datasets_of(profile)) > 1 or is_own(datasets[0])):
        line += ["--dataset", datasets[0]]
    rows = _rows(cells, every)
    line += ["--rows", ",".join(rows)] if rows else []
    return " ".join([*line, "--seeds", str(_seeds(cells, runs))])


def _what(cell: Cell) -> tuple[str, str]:
    """What a cell is called and what it computes: a reader's own row has the name of the table's, and other runs."""
    return cell.key, cell.experiment.fingerprint if cell.experiment else ""


def _rows(cells: Sequence[Cell], every: Sequence[Cell]) -> list[str]:
    """The fewest names that ask for these cells and for no other of the exhibit; none where they are all."""
    asked = {cell.key for cell in cells}
    if asked == {cell.key for cell in every}:
        return []
    lines = dict.fromkeys(cell.row.key for cell in cells)
    pairs = dict.fromkeys(cell.column.pair.key for cell in cells if cell.column.pair)
    for names in (lines, pairs):
        if asked == {cell.key for cell in every if cell.names & names.keys()}:
            return list(names)
    return list(dict.fromkeys(cell.key for cell in cells))


def _seeds(cells: Sequence[Cell], runs: pd.DataFrame) -> int:
    """How many seeds there are, from the first that counts: a teacher has its own first."""
    students = [cell for cell in cells if cell.row.role != "teacher"]
    seeds = runs[runs["row"].isin([cell.key for cell in students])]["seed"]
    if seeds.empty:
        return int(runs["seed"].max()) - TEACHER_SEED + 1
    return int(seeds.max()) - (students[0].seeds_between or (1, 0))[0] + 1
