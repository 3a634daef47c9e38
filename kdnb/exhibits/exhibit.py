"""Exhibits: the tables and figures of the papers, as cells that know their experiments."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from kdnb import paths
from kdnb.errors import KdnbError, unknown
from kdnb.exhibits.names import pair_title
from kdnb.study.environment import commit_told
from kdnb.study.experiment import TEACHER_SEED, Experiment, Run
from kdnb.study.profile import Profile, get_profile
from kdnb.study.record import Record
from kdnb.study.store import Store

Networks = tuple[str, str]

#: Mean and std of the embedded digits, per channel: whatever a protocol says of its own images.
DIGITS = ((0.3053, 0.3053, 0.3053), (0.3760, 0.3760, 0.3760))
#: How many seeds a run of the whole study trains, where the command does not say.
SEEDS = 3


@dataclass(frozen=True)
class Pair:
    """A teacher and a student as a paper pairs them, and who stands for them where less is run.

    `relatives`: scale (`demo`, `pilot`) -> teacher and student; a pair without some has no cells there.
    """

    teacher: str
    student: str
    relatives: Mapping[str, Networks] = field(default_factory=dict, hash=False)

    @property
    def key(self) -> str:
        return f"{self.teacher}-{self.student}"

    @property
    def title(self) -> str:
        return pair_title(self.teacher, self.student)

    def networks(self, profile: Profile) -> Networks | None:
        """Teacher and student under a profile: the paper's own where its networks are run."""
        own = profile.scale in ("short", "paper")
        return (self.teacher, self.student) if own else self.relatives.get(profile.scale)


@dataclass(frozen=True)
class Row:
    """One row of a table: a method with its arguments, or a network alone.

    Where a table has a column for every pair of networks, a row is one line of it for one `pair`, and its key is
    `<pair>/<line>`.  `schedule` names another training recipe of the paper than the row's own, for controls;
    `keeps` the arrays that figures need beside the record (`kdnb.analysis`).
    """

    key: str
    label: str
    method: str
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    role: str = "student"
    schedule: str = ""
    pair: Pair | None = None
    keeps: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The key less its pair: what the rows of one line of a table have in common."""
        return self.key.rpartition("/")[2]

    @property
    def title(self) -> str:
        """The label, and for which pair of networks."""
        return f"{self.label}, {self.pair.title}" if self.pair else self.label

    @property
    def printed_key(self) -> str:
        """The key under which papers print the row: a network alone has no partner there."""
        alone = {"teacher": self.pair.teacher, "baseline": self.pair.student} if self.pair else {}
        return f"{alone[self.role]}/{self.line}" if self.role in alone else self.key


@dataclass(frozen=True)
class Absent:
    """In place of an experiment: why a cell has none."""

    why: str


Build = Callable[[Row, Profile, str], Experiment | Absent]
#: The `printed_key` of the row that a line of a paper's CSV belongs to.
KeyOf = Callable[[Mapping[str, str]], str]


def key_of_method(line: Mapping[str, str]) -> str:
    """The key where a table has one pair of networks: the method's name."""
    return "plain" if line["method"] == "baseline" else line["method"].lower()


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
        return [Run(self.experiment, first + i, keeps=self.row.keeps) for i in range(seeds)]


@dataclass(frozen=True)
class Exhibit:
    """A table or figure: its rows, its data sets, and how a cell becomes an experiment.

    An `ablation` is a table of ours, which the paper does not print: it asks what one choice is worth.
    `demo_seeds` is how many seeds the demo has time for.
    """

    paper: str
    name: str
    title: str
    rows: tuple[Row, ...]
    datasets: tuple[str, ...]
    build: Build
    ablation: bool = False
    key_of: KeyOf = key_of_method
    demo_seeds: int = SEEDS

    @property
    def key(self) -> str:
        return f"{self.paper}/{self.name}"

    def datasets_of(self, profile: str | Profile) -> tuple[str, ...]:
        """The data sets under a profile: the paper's, or the embedded digits that stand for them."""
        profile = get_profile(profile) if isinstance(profile, str) else profile
        return ("digits",) if profile.embedded_data else self.datasets

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs of networks in the order of the table; none where all rows have the same."""
        return tuple(dict.fromkeys(row.pair for row in self.rows if row.pair is not None))

    def seeds(self, profile: str | Profile) -> int:
        """How many seeds a profile trains where nothing else is asked for."""
        profile = get_profile(profile) if isinstance(profile, str) else profile
        return self.demo_seeds if profile.embedded_data else SEEDS

    def row(self, key: str) -> Row:
        for row in self.rows:
            if row.key == key:
                return row
        of_pairs = [row.key for row in self.rows if row.line == key]
        if of_pairs:
            raise KdnbError(f"{self.key} has a row '{key}' for every pair: {', '.join(of_pairs)}; name one.")
        raise unknown(f"row of {self.key}", key, [row.key for row in self.rows])

    def cells(self, profile: str | Profile, dataset: str, rows: list[Row] | None = None) -> list[Cell]:
        """The cells of one data set, in the table's order."""
        profile = get_profile(profile) if isinstance(profile, str) else profile
        if dataset not in self.datasets_of(profile):
            raise unknown(f"data set of {self.key} under profile '{profile.name}'", dataset, self.datasets_of(profile))
        return [self._cell(row, profile, dataset) for row in (rows or self.rows)]

    def _cell(self, row: Row, profile: Profile, dataset: str) -> Cell:
        built = self.build(row, profile, dataset)
        printed = reported(self.paper, self.key_of).get((self.name, dataset, row.printed_key))
        if isinstance(built, Absent):
            return Cell(row, dataset, profile.name, None, printed, built.why)
        return Cell(row, dataset, profile.name, built, printed)


@functools.cache
def reported(paper: str, key_of: KeyOf = key_of_method) -> dict[tuple[str, str, str], float]:
    """The accuracies that a paper prints: (exhibit, data set, row key) -> percent as printed."""
    with open(paths.reported() / f"{paper}.csv", newline="", encoding="utf-8") as stream:
        lines = [line for line in csv.DictReader(stream) if line["metric"] == "top1_accuracy" and line["value"]]
    return {(line["exhibit"], line["dataset"], key_of(line)): float(line["value"]) for line in lines}


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
        "commit": commit_told(record.environment),
    }


_METRICS = {"value": "headline", "last": "last", "all_images": "all_images"}
