"""What a notebook calls: stored runs at once, missing ones trained when a person runs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from kdnb import exhibits, kinds
from kdnb.exhibits.exhibit import Asked, Cell, Exhibit
from kdnb.exhibits.runs import SCALES, framed, runs_of
from kdnb.exhibits.wanted import of_cell
from kdnb.study.experiment import Run
from kdnb.study.record import Record
from kdnb.study.store import Store


@dataclass
class Shown:
    """Stored runs of some cells: `frame` one line a run, `records` beside it, and what is `missing`."""

    exhibit: Exhibit
    cells: list[Cell]
    frame: pd.DataFrame
    records: list[Record] = field(default_factory=list)
    missing: list[Run] = field(default_factory=list)

    @property
    def profile(self) -> str:
        return self.cells[0].profile.name

    def once(self) -> Shown:
        """Every run once, where columns differ in nothing but the score: what it took, how it went."""
        score = self.cells[0].score
        chosen = self.frame["score"] == score.key
        records = [record for record, taken in zip(self.records, chosen, strict=True) if taken]
        cells = [cell for cell in self.cells if cell.score == score]
        return replace(self, cells=cells, frame=self.frame[chosen].reset_index(drop=True), records=records)


def show(
    exhibit: Exhibit | str,
    rows: Sequence[Asked] | None = None,
    profile: str = "demo",
    dataset: str | None = None,
    seeds: int = 3,
    device: str = "auto",
) -> Shown:
    """Stored runs of an exhibit's rows; run by hand, the missing ones are trained first.

    `rows` are keys of the exhibit, or rows of one's own (`comparison.variation`); before rows that wait for their
    settings come the runs that choose these.  In a batch
    (`KDNB_BATCH` is set) nothing is trained, and showing imports no torch.  A count of seeds says how many
    to train; all that are stored are shown.  Raises KdnbError for a name, count or device that there is not, whether or
    not anything is missing.
    """
    seeds = kinds.limited("seeds", kinds.brought("seeds", "int", seeds), 1, kinds.MOST_SEEDS)
    device = kinds.brought("device", "Literal['auto', 'cpu', 'cuda']", device)
    exhibit = exhibits.get(exhibit)
    dataset = dataset or exhibit.datasets_of(profile)[0]
    cells, store = exhibit.cells(profile, dataset, rows), Store.open()
    awaited = [run for cell in cells for run in cell.awaits]
    if awaited and not os.environ.get("KDNB_BATCH"):
        _train(store, awaited, exhibit.paper, device)
        cells = exhibit.cells(profile, dataset, rows)  # what they were waiting for is settled
    wanted = [run for cell in cells for run in of_cell(cell, seeds)]
    if not os.environ.get("KDNB_BATCH") and any(not store.settled(run) for run in wanted):
        _train(store, wanted, exhibit.paper, device)
    return _collect(exhibit, cells, wanted, store)


def published(shown: Shown) -> list[Shown]:
    """The same rows as the study has measured them: for every other scale and data set with stored runs, paper first.

    Rows with a reader's own arguments are shown as they are asked for; nothing is trained.
    """
    store, exhibit = Store.open(), shown.exhibit
    parts = list(dict.fromkeys(cell.part for cell in shown.cells))
    found = []
    for scale in SCALES:
        for dataset in exhibit.datasets_of(scale):
            if (scale, dataset) != (shown.profile, shown.cells[0].dataset):
                found.append(_collect(exhibit, exhibit.cells(scale, dataset, parts), [], store))
    return [part for part in found if part.records]


def _collect(exhibit: Exhibit, cells: list[Cell], wanted: list[Run], store: Store) -> Shown:
    runs = list(runs_of(cells, store))
    missing = [run for run in wanted if not store.settled(run)]
    return Shown(exhibit, cells, framed(runs), [record for _, record in runs], missing)


def _train(store: Store, wanted: list[Run], paper: str, device: str) -> None:
    from kdnb.study.choice import Choice
    from kdnb.study.progress import Progress
    from kdnb.study.runner import Runner

    with Progress(sys.stdout) as progress:
        choice = Choice(store, device, say=progress.say)
        runner = Runner(store, choice, paper, None, progress.say, progress.epoch, progress.step)
        outcome = runner.run(wanted)
    if outcome.stopped:
        raise KeyboardInterrupt("The training stopped, its checkpoint is written: run this cell again to go on.")
    outcome.check()
