"""The runs behind a table's cells: one line each, with the record to download."""

from __future__ import annotations

import shutil
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from kdnb import exhibits, page
from kdnb.exhibits import ACCURACY, Cell, Exhibit
from kdnb.exhibits.names import sentence
from kdnb.exhibits.runs import first_steps as steps_of
from kdnb.exhibits.runs import framed, runs_of
from kdnb.exhibits.score import Score
from kdnb.study.environment import UNKNOWN
from kdnb.study.record import Record
from kdnb.study.store import Store
from kdnb.tables.sheet import Entry, Line, Said, Table, line
from kdnb.tables.words import TITLES, measured_at, runs_label, slug, title

#: A run's scores under the protocol, at its last epoch, on all images: the column of a frame, and what it is called.
READINGS = {"value": "", "last": "last epoch", "all_images": "all images"}
#: A score in one of these readings, where some run has it.
Reading = tuple[Score, str]
Runs = Sequence[tuple[Cell, Record]]


def runs(exhibit: Exhibit | str, store: Store | None = None) -> list[Table]:
    """A table for every profile and data set that has runs, in the order of the exhibit's columns."""
    exhibit, store = exhibits.get(exhibit), store or Store.open()
    return [_table(exhibit, found) for found in _by_images(exhibit, store)]


def runs_contents(paper: str, store: Store | None = None) -> Table | Said:
    """What the page of a paper's runs has, a line a table that leads to it; a sentence where there are none."""
    store = store or Store.open()
    parts = [(exhibit, found) for exhibit in exhibits.select(paper) for found in _by_images(exhibit, store)]
    body: list[Line] = [
        [
            Entry(exhibit.title, target=f"tab-{_name(exhibit, found[0][0])}"),
            *line(exhibit.key, found[0][0].profile.name, title(found[0][0].dataset), len(_by_run(found))),
        ]
        for exhibit, found in parts
        if found[0][0].profile.name != "demo"
    ]
    if not body:
        return Said("No run of this part is stored but a demo's.")
    head = ("Table or figure", "Called", "Scale", "Images", "Runs")
    return Table(slug(f"runs of {paper}"), "What is on this page.", [line(*head)], body, css="kdnb-results")


def _by_images(exhibit: Exhibit, store: Store) -> Iterator[Runs]:
    """The runs of an exhibit by profile and data set."""
    for profile in TITLES:
        parts: dict[str, list[tuple[Cell, Record]]] = {}
        for cell, record in runs_of(exhibit.cells(profile), store):
            parts.setdefault(cell.dataset, []).append((cell, record))
        yield from parts.values()


def _by_run(found: Runs) -> dict[tuple[str, str, int], list[int]]:
    """Row, experiment and seed -> where its scores stand among what was found, seeds of a row together."""
    of: dict[tuple[str, str, int], list[int]] = {}
    for position, (cell, record) in enumerate(found):
        of.setdefault((cell.key, record.fingerprint, record.seed), []).append(position)
    return of


def _name(exhibit: Exhibit, first: Cell) -> str:
    return slug(f"runs {exhibit.key} {first.profile.name} {first.dataset}")


def _table(exhibit: Exhibit, found: Runs) -> Table:
    """A line a run, with all scores that the exhibit takes from it."""
    first, frame = found[0][0], framed(found)
    scores = list({cell.score.key: cell.score for cell, _ in found}.values())  # two networks may have one score each
    readings = [(score, name) for score in scores for name in READINGS if _has(frame, score, name)]
    body: list[Line] = []
    before = ""
    for (key, *_), positions in _by_run(found).items():
        cell = found[positions[0]][0]
        told = [frame.iloc[position].to_dict() for position in positions]
        label = runs_label(cell) if key != before else ""
        body.append(_line(exhibit, cell, told, label, readings))
        before = key
    return Table(
        name=_name(exhibit, first),
        caption=f"Runs of {exhibit.key}, {measured_at(first.profile.name)}, {title(first.dataset)}: "
        f"{sentence(exhibit.title)}",
        head=[line("Row", "Seed", "Record", *(_heading(score, name) for score, name in readings), *MADE)],
        body=body,
        frame=frame.drop(columns=["path"]),
        note="Time is a run's share of its cohort's, first steps not counted; a commit with + had uncommitted changes, "
        "and the record has the digest of the sources as they were. The last epoch, and all images, have a column "
        "where they tell something else.",
        css="kdnb-runs",
        of_demo=first.profile.name == "demo",
    )


#: How a run was made.
MADE = ("Device", "Time", "Commit")


def _has(frame: pd.DataFrame, score: Score, name: str) -> bool:
    """Whether a reading tells something of some run that the score itself does not; that always stands there."""
    of_score = frame[frame["score"] == score.key].dropna(subset=[name])
    return name == "value" or bool((of_score[name] != of_score["value"]).any())


def _heading(score: Score, name: str) -> str:
    told = "Score, %" if score == ACCURACY else score.heading
    return ", ".join(filter(None, [told, READINGS[name]]))


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


def _line(
    exhibit: Exhibit, cell: Cell, told: list[dict[Hashable, object]], label: str, readings: list[Reading]
) -> Line:
    run, by_score = told[0], {one["score"]: one for one in told}
    made_on = ", ".join(filter(None, [str(run["device"]), str(run["precision"])]))
    return [
        Entry(cell.title, label=label),
        *line(run["seed"]),
        Entry("JSON", file=_copy(exhibit, run)),
        *line(*(_number(score, by_score.get(score.key, {}).get(name)) for score, name in readings)),
        *line(made_on, duration(run["wall_seconds"]), _short(str(run["commit"]))),
    ]


def _number(score: Score, value: object) -> str:
    return "–" if value is None or pd.isna(value) else score.text(float(str(value)))


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
