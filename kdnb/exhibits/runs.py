"""The stored runs of cells: the one way from an exhibit to its records, and their frame of one line a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from kdnb.exhibits.exhibit import Cell, Exhibit
from kdnb.study.environment import commit_told, sources_told
from kdnb.study.experiment import Run
from kdnb.study.profile import Profile
from kdnb.study.record import Record
from kdnb.study.store import Store

COLUMNS = [
    "row", "label", "dataset", "profile", "seed", "value", "last", "all_images", "fingerprint", "path",
    "teacher", "student", "device", "precision", "wall_seconds", "commit", "pair", "line", "score", "sources",
]  # fmt: skip


#: The scales at which something can be said of a paper, the strongest first.
SCALES = ("paper", "short", "pilot")


def runs_of(cells: Iterable[Cell], store: Store) -> Iterator[tuple[Cell, Record]]:
    """Every stored run of the cells, cell by cell, by seed."""
    for cell in cells:
        if cell.experiment is not None:
            found = store.records(cell.experiment.fingerprint).values()
            yield from ((cell, record) for record in found if cell.takes(record.seed))


def measured(cells: Iterable[Cell], store: Store) -> list[Cell]:
    """Those of the cells that have a stored run."""
    return [cell for cell in cells if any(True for _ in runs_of([cell], store))]


def records_of(cell: Cell, store: Store) -> list[Record]:
    """Every stored run of one cell, by seed."""
    return [record for _, record in runs_of([cell], store)]


def diverged(cell: Cell, store: Store) -> list[int]:
    """The seeds at which a cell's run diverged, or what it goes on from: no score, and none to come."""
    if cell.experiment is None:
        return []
    seeds = sorted(seed for seed in store.diverged_seeds() if cell.takes(seed))
    return [seed for seed in seeds if store.diverged(Run(cell.experiment, seed))]


def first_steps(cell: Cell, store: Store) -> dict[str, list[Record]]:
    """The records of the first steps that a cell's runs go on from, by stage; of a stage that nobody trained none."""
    shared = cell.experiment.shared_stages() if cell.experiment else []
    return {str(stage.stage): list(store.records(stage.fingerprint).values()) for stage in shared}


def steps_before(cell: Cell, store: Store) -> dict[str, list[Record]]:
    """The records of the steps of the teacher alone that a cell's runs go on from, by the name of their method."""
    steps = cell.experiment.steps() if cell.experiment else []
    return {step.method: list(store.records(step.fingerprint).values()) for step in steps}


def framed(runs: Iterable[tuple[Cell, Record]]) -> pd.DataFrame:
    """Runs as a frame: one line a run, the value in the unit of the cell's score.

    `row` is `<pair>/<line>` where the exhibit has several pairs of networks.
    """
    return pd.DataFrame([_line(cell, record) for cell, record in runs], columns=COLUMNS)


def measure(
    exhibit: Exhibit, profile: str | Profile, dataset: str | None = None, store: Store | None = None
) -> pd.DataFrame:
    """Every stored run of an exhibit under a profile, as a frame."""
    return framed(runs_of(exhibit.cells(profile, dataset), store or Store.open()))


def students(frame: pd.DataFrame) -> pd.DataFrame:
    """The scores of all but the teacher, as statistics takes them: row, seed, value."""
    scored = frame[frame["line"] != "teacher"].dropna(subset=["value"])
    return scored.assign(row=scored["line"])[["row", "seed", "value"]]


def _line(cell: Cell, record: Record) -> dict[str, Any]:
    assert cell.experiment is not None
    teacher, score, pair = cell.experiment.teacher, cell.score, cell.column.pair
    return {
        "row": cell.key,
        "label": cell.row.label,
        "dataset": cell.dataset,
        "profile": cell.profile.name,
        "seed": record.seed,
        "value": score.of(record),
        "last": score.of(record, "last"),
        "all_images": score.of(record, "all_images"),
        "fingerprint": record.fingerprint,
        "path": str(record.path),
        "teacher": teacher.network if teacher else "",
        "student": cell.experiment.network,
        "device": device_told(record.cost.get("device", "")),
        "precision": precision_told(record),
        "wall_seconds": record.cost.get("wall_seconds"),
        "commit": commit_told(record.environment),
        "pair": pair.key if pair else "",
        "line": cell.row.key,
        "score": score.key,
        "sources": sources_told(record.environment),
    }


def precision_told(record: Record) -> str:
    """In which precision a run was trained: `float32` or `bfloat16`; empty where its record does not tell."""
    return str((record.environment.get("numerics") or {}).get("dtype", ""))


def device_told(device: object) -> str:
    """Where a run was trained; early records say `1 threads`."""
    return re.sub(r" 1 threads$", " 1 thread", str(device))
