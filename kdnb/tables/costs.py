"""What the runs of a page took, in epochs of KD."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import mean

import pandas as pd

from kdnb.exhibits import Cell, Pair
from kdnb.exhibits.costs import Steps, epochs_before, epochs_of_kd, steps_for
from kdnb.exhibits.runs import device_told
from kdnb.exhibits.show import Shown
from kdnb.study.store import Store
from kdnb.tables.method import at_scales, scale_told
from kdnb.tables.sheet import Line, Table, line, without_empty
from kdnb.tables.words import NOT_YET, slug

BEFORE = "Epochs of steps before"
HEAD = ("Row", "Epochs", BEFORE, "Cost in epochs of KD", "Trained together", "Device")


def costs(runs: Shown, *, name: str = "") -> Table:
    """What the runs of these rows took, at the largest scale at which the last of them, the page's own, is measured."""
    scales, store = at_scales(runs.once()), Store.open()
    runs = next((shown for shown in scales if _has_own(shown)), scales[0]).once()
    steps = {pair: steps_for(of) for pair, of in _table_by_pair(runs).items()}
    body: list[Line] = []
    lines = []
    for cell in runs.cells:
        found = [r for r in runs.records if cell.experiment and r.fingerprint == cell.experiment.fingerprint]
        if not found:
            body.append(line(cell.title, NOT_YET, *["–"] * (len(HEAD) - 2)))
            continue
        epochs, before = mean(r.metrics["epochs"] for r in found), epochs_before(cell, store)
        cost = epochs_of_kd(cell, found, store, steps[cell.column.pair])
        rate = mean(r.cost["images_per_s"] for r in found)
        company = sorted({int(r.cost["cohort_size"]) for r in found})
        together = str(company[0]) if len(company) == 1 else f"{company[0]} to {company[-1]}"
        devices = ", ".join(sorted({device_told(r.cost["device"]) for r in found}))
        told = "–" if math.isnan(before) else f"{before:.0f}", "–" if cost is None else f"{cost.epochs:.0f}"
        body.append(line(cell.title, f"{epochs:.0f}", *told, together, devices))
        lines.append(
            {
                "row": cell.key, "epochs": epochs, "first_step_epochs": 0 if math.isnan(before) else before,
                "epochs_of_kd": cost and cost.epochs, "images_per_s": rate, "runs": len(found),
                "trained_together": together, "devices": devices,
            }
        )  # fmt: skip
    head, body = without_empty(line(*HEAD), body, BEFORE)
    return Table(
        name=name or slug(f"costs {runs.cells[-1].key}"),
        caption=f"What a run took, {scale_told(runs)}; mean over seeds.",
        head=[head],
        body=body,
        frame=pd.DataFrame(lines),
        note=_note(steps.values()),
        of_demo=runs.profile == "demo",
    )


def _has_own(runs: Shown) -> bool:
    """Whether the last row has runs."""
    own = runs.cells[-1].experiment
    return own is not None and any(record.fingerprint == own.fingerprint for record in runs.records)


def _table_by_pair(runs: Shown) -> dict[Pair | None, list[Cell]]:
    """All cells of the table by their networks: what one measurement of steps serves.

    So a row costs the same on every page that shows it, whatever stands beside it there.
    """
    found: dict[Pair | None, list[Cell]] = {}
    for of in runs.exhibit.cells(runs.profile, runs.cells[0].dataset):
        found.setdefault(of.column.pair, []).append(of)
    return found


def _note(steps: Iterable[Steps]) -> str:
    """What an epoch of KD is, with which networks steps were measured, and that a teacher is not counted."""
    said = ["Cost in epochs of KD: the epochs of all stages, each weighted by how long its step takes beside KD's."]
    timed = "; ".join(dict.fromkeys(of.told for of in steps if of.told))
    if timed:
        said.append(f"Steps were timed one method at a time, with {timed}, even where other networks were trained.")
    said.append("The teacher's training is in none of these numbers.")
    return " ".join(said)
