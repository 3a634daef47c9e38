"""Exhibits: the tables and figures of the papers, as cells that know their experiments."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from kdnb import paths
from kdnb.errors import unknown
from kdnb.study.experiment import TEACHER_SEED, Experiment, Run
from kdnb.study.profile import Profile, get_profile
from kdnb.study.record import Record
from kdnb.study.store import Store

Build = Callable[["Row", Profile, str], Experiment]


@dataclass(frozen=True)
class Row:
    """One row of a table: a method with its arguments, or a network alone.

    `schedule` names another training recipe of the paper than the row's own, for controls.
    """

    key: str
    label: str
    method: str
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    role: str = "student"
    schedule: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell: its experiment under a profile and a data set, and what the paper printed there.

    `experiment` is None where the profile has no relatives for it, and `why_not` says so.
    """

    row: Row
    dataset: str
    profile: str
    experiment: Experiment | None
    reported: float | None
    why_not: str = ""

    def runs(self, seeds: int) -> list[Run]:
        """The runs that fill the cell: seeds 1, 2, ...; a teacher's first seed is the one that teaches."""
        if self.experiment is None:
            return []
        first = TEACHER_SEED if self.row.role == "teacher" else 1
        return [Run(self.experiment, first + i) for i in range(seeds)]


@dataclass(frozen=True)
class Exhibit:
    """A table or figure: its rows, its data sets, and how a cell becomes an experiment.

    An `ablation` is a table of ours, which the paper does not print: it asks what one choice is worth.
    """

    paper: str
    name: str
    title: str
    rows: tuple[Row, ...]
    datasets: tuple[str, ...]
    build: Build
    ablation: bool = False

    @property
    def key(self) -> str:
        return f"{self.paper}/{self.name}"

    def datasets_of(self, profile: str | Profile) -> tuple[str, ...]:
        """The data sets under a profile: the paper's, or the embedded digits that stand for them."""
        profile = get_profile(profile) if isinstance(profile, str) else profile
        return ("digits",) if profile.embedded_data else self.datasets

    def row(self, key: str) -> Row:
        for row in self.rows:
            if row.key == key:
                return row
        raise unknown(f"row of {self.key}", key, [row.key for row in self.rows])

    def cells(self, profile: str | Profile, dataset: str, rows: list[Row] | None = None) -> list[Cell]:
        """The cells of one data set, in the table's order."""
        profile = get_profile(profile) if isinstance(profile, str) else profile
        if dataset not in self.datasets_of(profile):
            raise unknown(f"data set of {self.key} under profile '{profile.name}'", dataset, self.datasets_of(profile))
        printed = reported(self.paper)
        return [
            Cell(
                row,
                dataset,
                profile.name,
                self.build(row, profile, dataset),
                printed.get((self.name, dataset, row.key)),
            )
            for row in (rows or self.rows)
        ]


@functools.cache
def reported(paper: str) -> dict[tuple[str, str, str], float]:
    """The headline numbers that a paper prints: (exhibit, data set, row key) -> value as printed."""
    found: dict[tuple[str, str, str], float] = {}
    path = paths.reported() / f"{paper}.csv"
    with open(path, newline="") as stream:
        for line in csv.DictReader(stream):
            if line["metric"] == "top1_accuracy" and line["value"]:
                key = "plain" if line["method"] == "baseline" else line["method"].lower()
                found[line["exhibit"], line["dataset"], key] = float(line["value"])
    return found


def measure(exhibit: Exhibit, profile: str | Profile, dataset: str, store: Store | None = None) -> pd.DataFrame:
    """Every stored run of an exhibit, one line a run, accuracies in percent."""
    store = store or Store.open()
    lines = []
    for cell in exhibit.cells(profile, dataset):
        if cell.experiment is not None:
            for seed, record in store.records(cell.experiment.fingerprint).items():
                lines.append(line_of(cell, seed, record))
    return pd.DataFrame(lines, columns=COLUMNS)


COLUMNS = [
    "row", "label", "dataset", "profile", "seed", "value", "last", "all_images", "fingerprint", "path",
    "teacher", "student", "device", "wall_seconds", "commit",
]  # fmt: skip


def line_of(cell: Cell, seed: int, record: Record) -> dict[str, Any]:
    """One run as a line of a table."""
    assert cell.experiment is not None
    teacher = cell.experiment.teacher
    values = {n: 100 * record.metrics.get(m, float("nan")) for n, m in _METRICS.items()}
    return {
        "row": cell.row.key,
        "label": cell.row.label,
        "dataset": cell.dataset,
        "profile": cell.profile,
        "seed": seed,
        **values,
        "fingerprint": record.fingerprint,
        "path": str(record.path),
        "teacher": teacher.network if teacher else "",
        "student": cell.experiment.network,
        "device": record.cost.get("device", ""),
        "wall_seconds": record.cost.get("wall_seconds"),
        "commit": record.environment.get("commit", ""),
    }


_METRICS = {"value": "headline", "last": "last", "all_images": "all_images"}
