"""The runs behind a table's cells: one line each, with the record to download."""

from __future__ import annotations

import shutil
from collections.abc import Hashable
from pathlib import Path

import pandas as pd

from kdnb import exhibits, page
from kdnb.exhibits import ACCURACY, Cell, Exhibit
from kdnb.exhibits.runs import first_steps as steps_of
from kdnb.exhibits.runs import framed, runs_of
from kdnb.study.environment import UNKNOWN
from kdnb.study.record import Record
from kdnb.study.store import Store
from kdnb.tables.sheet import Entry, Line, Said, Table, line
from kdnb.tables.words import TITLES, measured_at, runs_label, slug, title

HEAD = ("Row", "Seed", "Record", "Score", "Last epoch", "All images", "Device", "Time", "Commit")


def runs(exhibit: Exhibit | str, store: Store | None = None) -> list[Table]:
    """A table for every profile, data set and score that has runs, in the order of the exhibit's columns."""
    exhibit, store = exhibits.get(exhibit), store or Store.open()
    tables = []
    for profile in TITLES:
        parts: dict[tuple[str, str], list[tuple[Cell, Record]]] = {}
        for cell, record in runs_of(exhibit.cells(profile), store):
            parts.setdefault((cell.dataset, cell.score.key), []).append((cell, record))
        tables += [_table(exhibit, found) for found in parts.values()]
    return tables


def _table(exhibit: Exhibit, found: list[tuple[Cell, Record]]) -> Table:
    first, frame = found[0][0], framed(found)
    body: list[Line] = []
    before = None
    for (cell, _), run in zip(found, frame.to_dict("records"), strict=True):
        body.append(_line(cell, run, runs_label(cell) if cell != before else "", exhibit))
        before = cell
    score = "the protocol's score" if first.score == ACCURACY else first.score.title
    of = f"{first.score.unit} of {score}" if first.score.unit else score
    other = "" if first.score == ACCURACY else f" {first.score.key}"
    return Table(
        name=slug(f"runs {exhibit.key} {first.profile.name} {first.dataset}{other}"),
        caption=f"Runs of {exhibit.key}, {measured_at(first.profile.name)}, {title(first.dataset)}; {of}.",
        head=[line(*HEAD)],
        body=body,
        frame=frame.drop(columns=["path"]),
        note="Time is a run's share of its cohort's, first steps not counted; a commit with + had uncommitted changes, "
        "and the record has the digest of the sources as they were.",
        css="kdnb-runs",
        of_demo=first.profile.name == "demo",
    )


def first_steps(paper: str, store: Store | None = None) -> Table | Said:
    """The records of first steps that runs of a paper go on from; a sentence where there are none."""
    store = store or Store.open()
    lines: dict[Path | None, tuple[Cell, str, Record]] = {}
    for exhibit in exhibits.select(paper):
        for profile in TITLES:
            for cell in exhibit.cells(profile):
                for stage, records in steps_of(cell, store).items():
                    for record in records:
                        lines.setdefault(record.path, (cell, stage, record))
    if not lines:
        return Said("No stored run of this part has a first step of its own.")
    body = [
        [
            *line(
                f"{cell.experiment.method.partition('+')[0]}, {stage}", TITLES[cell.profile.name], title(cell.dataset)
            ),
            *line(record.seed, Entry("JSON", file=_copy_of(f"{cell.profile.name} {cell.key} {stage}", record))),
            *line(f"{record.metrics['epochs']:.0f}", duration(record.cost["wall_seconds"])),
        ]
        for cell, stage, record in lines.values()
        if cell.experiment is not None
    ]
    head = ("First step", "Scale", "Images", "Seed", "Record", "Epochs", "Time")
    return Table(
        slug(f"first steps {paper}"), "First steps that runs go on from.", [line(*head)], body, css="kdnb-runs"
    )


def _copy_of(what: str, record: Record) -> str:
    """Copy the record of a first step beside the page; its place there."""
    return _copied(slug(f"{what} {record.fingerprint} seed{record.seed}"), str(record.path))


def _line(cell: Cell, run: dict[Hashable, object], label: str, exhibit: Exhibit) -> Line:
    numbers = ["–" if pd.isna(run[c]) else cell.score.text(float(str(run[c]))) for c in ("value", "last", "all_images")]
    made_on = ", ".join(filter(None, [str(run["device"]), str(run["precision"])]))
    return [
        Entry(cell.title, label=label),
        *line(run["seed"]),
        Entry("JSON", file=_copy(exhibit, run)),
        *line(
            *numbers,
            made_on,
            duration(run["wall_seconds"]),
            _short(str(run["commit"])),
        ),
    ]


def _copy(exhibit: Exhibit, run: dict[Hashable, object]) -> str:
    """Copy a run's record beside the page; its place there."""
    name = slug(f"{exhibit.name} {run['profile']} {run['dataset']} {run['row']} seed{run['seed']}")
    return _copied(name, str(run["path"]))


def _copied(name: str, path: str) -> str:
    """A copy of a file beside the page, if there is a book to have it; its place there."""
    if not page.in_book():
        return ""
    place = Path("records") / f"{name}.json"
    (page.folder() / "records").mkdir(exist_ok=True)
    shutil.copyfile(path, page.folder() / place)
    return place.as_posix()


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
