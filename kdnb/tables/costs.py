"""What the runs of a page took, in epochs of KD."""

from __future__ import annotations

import math
from statistics import mean

import pandas as pd

from kdnb.exhibits.costs import epochs_of_kd, first_step_epochs, step_costs, step_networks
from kdnb.exhibits.names import pair_title
from kdnb.exhibits.runs import device_told
from kdnb.exhibits.show import Shown
from kdnb.study.store import Store
from kdnb.tables.method import at_scales, scale_told
from kdnb.tables.sheet import Table, line
from kdnb.tables.words import NOT_YET, slug

HEAD = ("Row", "Epochs", "Epochs of the first step", "Cost in epochs of KD", "Trained together", "Device")


def costs(runs: Shown, *, name: str = "") -> Table:
    """What the runs of these rows took, at the largest scale that is measured."""
    runs, store, steps = at_scales(runs.once())[0].once(), Store.open(), step_costs()
    body, lines = [], []
    for cell in runs.cells:
        found = [r for r in runs.records if cell.experiment and r.fingerprint == cell.experiment.fingerprint]
        if not found:
            body.append(line(cell.title, NOT_YET, *["–"] * (len(HEAD) - 2)))
            continue
        epochs, first = mean(r.metrics["epochs"] for r in found), first_step_epochs(cell, store)
        cost, rate = epochs_of_kd(cell, found, store, steps), mean(r.cost["images_per_s"] for r in found)
        company = sorted({int(r.cost["cohort_size"]) for r in found})
        together = str(company[0]) if len(company) == 1 else f"{company[0]} to {company[-1]}"
        devices = ", ".join(sorted({device_told(r.cost["device"]) for r in found}))
        before = sum(first.values()) if first else math.nan
        told = "–" if math.isnan(before) else f"{before:.0f}", "–" if cost is None else f"{cost:.0f}"
        body.append(line(cell.title, f"{epochs:.0f}", *told, together, devices))
        lines.append(
            {
                "row": cell.key, "epochs": epochs, "first_step_epochs": sum(first.values()), "epochs_of_kd": cost,
                "images_per_s": rate, "runs": len(found), "trained_together": together, "devices": devices,
            }
        )  # fmt: skip
    return Table(
        name=name or slug(f"costs {runs.cells[-1].key}"),
        caption=f"What a run took, {scale_told(runs)}; mean over seeds.",
        head=[line(*HEAD)],
        body=body,
        frame=pd.DataFrame(lines),
        note=_note(),
        of_demo=runs.profile == "demo",
    )


def _note() -> str:
    """What an epoch of KD is, on which networks steps were measured, and that a teacher is not counted."""
    said = ["Cost in epochs of KD: the epochs of all stages, each weighted by how long its step takes beside KD's."]
    if step_networks():
        big, _, small = step_networks().partition(" -> ")
        said.append(
            f"Steps were timed one method at a time, with {pair_title(big, small)}, whatever networks ran here."
        )
    said.append("The teacher's training is in none of these numbers.")
    return " ".join(said)
