"""How the numbers of a table are made once more: the command, how long it took, and what equal digits need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from kdnb.datasets import is_own
from kdnb.exhibits import Cell, Exhibit
from kdnb.exhibits.runs import device_told
from kdnb.exhibits.wanted import of_cell
from kdnb.study.experiment import TEACHER_SEED, Run
from kdnb.study.plan import with_needs
from kdnb.study.profile import PROFILES
from kdnb.study.store import Store
from kdnb.tables.runs import duration

EQUAL_DIGITS = (
    "They train what is missing; what is stored already is shown and not trained again. To train a stored one again, "
    "download its record from the pages of runs: `kdnb run --like RECORD.json` repeats that run under what the record "
    "says of its machine, compares, and writes nothing. Digits are equal where these are: device, threads, precision, "
    "way of execution (eager, or captured as a CUDA graph), versions of the packages, the processor's instructions."
)
TOOK = "In one process, these runs and the teachers and first steps that they go on from took"
#: One scale of a table: its cells, and every run behind them.
Scale = tuple[Sequence[Cell], pd.DataFrame]


def rerun(exhibit: Exhibit, scales: Iterable[Scale]) -> str:
    """A command for every scale with runs, then how long they took and what equal digits need; empty where no command
    can be given.
    """
    told = {line: shown for shown in scales if (line := command(exhibit, *shown))}
    if not told:
        return ""
    console = "\n".join(f"$ {line}" for line in told)
    seconds = seconds_by_device([run for shown in told.values() for run in _trained(*shown)], Store.open())
    took = "; ".join(f"{duration(of)} on {device}" for device, of in seconds.items())
    below = [f"{TOOK} {took}."] if took else []
    below += [_left_told(told.values())]
    return f"```console\n{console}\n```\n\n{' '.join(filter(None, [*below, EQUAL_DIGITS]))}"


def _left_told(scales: Iterable[Scale]) -> str:
    """How many runs more the commands ask for than anybody has measured; empty where they ask for no more."""
    store = Store.open()
    asked = {
        run.key: run for cells, runs in scales for cell in cells for run in of_cell(cell, _seeds(cells, runs))
    }  # fmt: skip
    left = sum(not store.settled(run) for run in asked.values())
    if not left:
        return ""
    if left == 1:
        return "1 more run that they ask for is not measured yet; its time comes on top."
    return f"{left} more runs that they ask for are not measured yet; their time comes on top."


def _trained(cells: Sequence[Cell], runs: pd.DataFrame) -> list[Run]:
    """The runs of a frame, as far as they are of these cells."""
    known = {cell.experiment.fingerprint: cell.experiment for cell in cells if cell.experiment is not None}
    keys = runs[["fingerprint", "seed"]].drop_duplicates().itertuples(index=False, name=None)
    return [Run(known[fingerprint], int(seed)) for fingerprint, seed in keys if fingerprint in known]


def seconds_by_device(runs: Iterable[Run], store: Store) -> dict[str, float]:
    """Device -> how long these runs took there, with all that they go on from, each once, as far as records tell.

    A record has its share of the time in which runs trained side by side, so the sum is that of one process.
    """
    found: dict[str, float] = {}
    for run in with_needs(runs):
        record = store.get(*run.key)
        if record is not None and (seconds := record.cost.get("wall_seconds")):
            device = device_told(record.cost.get("device", "")) or "a machine that they do not name"
            found[device] = found.get(device, 0.0) + seconds
    return found


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
