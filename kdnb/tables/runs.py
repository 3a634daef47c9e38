"""The runs behind a table's cells: one line each, with the record to download."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from kdnb import exhibits, page
from kdnb.exhibits import Exhibit, Row
from kdnb.study.environment import UNKNOWN
from kdnb.study.store import Store
from kdnb.tables.results import TITLES, measured, runs_label, slug, title
from kdnb.tables.sheet import Entry, Line, Table, line

HEAD = ("Row", "Seed", "Record", "Score", "Last epoch", "All images", "Device", "Time", "Commit")


def runs(exhibit: Exhibit | str, store: Store | None = None) -> list[Table]:
    """A table for every profile and data set that has runs, in the order of the exhibit's columns."""
    exhibit = exhibits.get(exhibit) if isinstance(exhibit, str) else exhibit
    frame = measured(exhibit, exhibit.rows, store or Store.open(), "demo")
    tables = []
    for profile in TITLES:
        for dataset in exhibit.datasets_of(profile):
            part = frame[(frame["profile"] == profile) & (frame["dataset"] == dataset)]
            if len(part):
                tables.append(_table(exhibit, profile, dataset, part))
    return tables


def _table(exhibit: Exhibit, profile: str, dataset: str, frame: pd.DataFrame) -> Table:
    body: list[Line] = []
    for row in exhibit.rows:
        label = runs_label(exhibit, profile, dataset, row.key)
        for run in frame[frame["row"] == row.key].to_dict("records"):
            body.append(_line(row, run, label, exhibit))
            label = ""
    return Table(
        name=slug(f"runs {exhibit.key} {profile} {dataset}"),
        caption=f"Runs of {exhibit.key}, {TITLES[profile].lower()}, {title(dataset)}; percent of the protocol's score.",
        head=[line(*HEAD)],
        body=body,
        frame=frame.drop(columns=["path"]),
        note="Time is a run's share of its cohort's, first steps not counted; a commit with + had uncommitted changes, "
        "and the record has the digest of the sources as they were.",
        css="kdnb-runs",
    )


def _line(row: Row, run: dict[str, object], label: str, exhibit: Exhibit) -> Line:
    numbers = [f"{run[column]:.2f}" for column in ("value", "last", "all_images")]
    return [
        Entry(row.title, label=label),
        *line(run["seed"]),
        Entry("JSON", file=_copy(exhibit, run)),
        *line(*numbers, device_told(run["device"]), duration(run["wall_seconds"]), _short(str(run["commit"]))),
    ]


def _copy(exhibit: Exhibit, run: dict[str, object]) -> str:
    """Copy a run's record beside the page; its place there."""
    if not page.in_book():
        return ""
    name = slug(f"{exhibit.name} {run['profile']} {run['dataset']} {run['row']} seed{run['seed']}")
    place = Path("records") / f"{name}.json"
    (page.folder() / "records").mkdir(exist_ok=True)
    shutil.copyfile(str(run["path"]), page.folder() / place)
    return place.as_posix()


def device_told(device: object) -> str:
    """Where a run was trained; early records say `1 threads`."""
    return str(device).replace(" 1 threads", " 1 thread")


def duration(seconds: object) -> str:
    """`48 s`, `12 min`, `3.2 h`."""
    if not isinstance(seconds, int | float) or pd.isna(seconds):
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _short(commit: str) -> str:
    """The first seven digits of a commit, and the mark of files that differed from it; an unknown one as it is."""
    if commit.startswith(UNKNOWN):
        return commit
    return commit[:7] + ("+" if commit.endswith("+") else "") or "–"
