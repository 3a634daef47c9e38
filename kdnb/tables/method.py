"""What a method's page says beside its results: its parameters and what a run costs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

import pandas as pd

from kdnb import exhibits, methods
from kdnb.exhibits import Cell, Exhibit, Row
from kdnb.exhibits.show import Shown
from kdnb.study.experiment import Experiment
from kdnb.study.store import Store
from kdnb.tables.results import NOT_YET, slug, spread, title
from kdnb.tables.runs import duration
from kdnb.tables.sheet import Table, line


def parameters(exhibit: Exhibit | str, rows: Sequence[str | Row], *, name: str = "") -> Table:
    """The settings of rows as the paper has them, one column a row, where data sets differ both values."""
    exhibit = exhibits.get(exhibit) if isinstance(exhibit, str) else exhibit
    chosen = [exhibit.row(r) if isinstance(r, str) else r for r in rows]
    columns = [_settings_of_row(exhibit, row) for row in chosen]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    body = [line(key.replace("_", " "), *(column.get(key, "–") for column in columns)) for key in keys]
    frame = pd.DataFrame(
        {"setting": keys} | {r.key: [c.get(k) for k in keys] for r, c in zip(chosen, columns, strict=True)}
    )
    several = " / ".join(title(d) for d in exhibit.datasets)
    return Table(
        name=name or slug(f"parameters {chosen[-1].key}"),
        caption=f"Parameters at paper scale; where the data sets differ: {several}.",
        head=[line("Setting", *(row.title for row in chosen))],
        body=body,
        frame=frame,
    )


def _settings_of_row(exhibit: Exhibit, row: Row) -> dict[str, str]:
    by_dataset = [
        _settings(cell.experiment)
        for d in exhibit.datasets
        for cell in exhibit.cells("paper", d, [row])
        if cell.experiment
    ]
    found = {}
    for key in by_dataset[0]:
        values = list(dict.fromkeys(settings[key] for settings in by_dataset))
        found[key] = " / ".join(values)
    return found


def _settings(experiment: Experiment) -> dict[str, str]:
    recipe = experiment.recipe
    milestones = ", ".join(str(m) for m in recipe.milestones)
    chosen = "best validation accuracy" if recipe.selection == "best" else "last epoch"
    networks = f"{experiment.teacher.network} → {experiment.network}" if experiment.teacher else experiment.network
    settings: dict[str, Any] = {
        "networks": networks,
        "epochs": recipe.epochs,
        "learning rate": recipe.lr,
        f"× {recipe.factor:g} after epochs": milestones,
        "batch size": recipe.batch_size,
        "momentum": recipe.momentum,
        "weight decay": recipe.weight_decay,
        "selected epoch": chosen,
    }
    arguments = methods.get(experiment.method).arguments(experiment.arguments)
    return {k: _told(v) for k, v in (settings | arguments).items()}


def _told(value: Any) -> str:
    if value is None:
        return "calibrated"
    if isinstance(value, tuple | list):
        return ", ".join(str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def costs(runs: Shown, *, name: str = "") -> Table:
    """What the stored runs took: an estimate, since runs of a cohort share a machine and a teacher."""
    store = Store.open()
    body, lines = [], []
    for cell in runs.cells:
        found = [
            record for record in runs.records if cell.experiment and record.fingerprint == cell.experiment.fingerprint
        ]
        if not found:
            body.append(line(cell.row.title, NOT_YET, *["–"] * 5))
            continue
        first = seconds_of_shared_stages(cell, store)
        told = {
            "epochs": mean(r.metrics["epochs"] for r in found),
            "wall_seconds": mean(r.cost["wall_seconds"] for r in found),
            "first_step_seconds": first,
            "images_per_s": mean(r.cost["images_per_s"] for r in found),
        }
        company = sorted({int(r.cost["cohort_size"]) for r in found})
        together = str(company[0]) if len(company) == 1 else f"{company[0]} to {company[-1]}"
        devices = ", ".join(sorted({r.cost["device"] for r in found}))
        body.append(
            line(
                cell.row.title,
                f"{told['epochs']:.0f}",
                duration(told["wall_seconds"]),
                duration(first) if first else "–",
                f"{told['images_per_s']:,.0f}",
                together,
                devices,
            )
        )
        lines.append({"row": cell.row.key, **told, "runs": len(found), "side_by_side": together, "devices": devices})
    return Table(
        name=name or slug(f"costs {runs.cells[-1].row.key}"),
        caption=f"What a run took under profile {runs.profile}, mean over seeds.",
        head=[line("Row", "Epochs", "Time", "Its step 1", "Images/s", "Side by side", "Device")],
        body=body,
        frame=pd.DataFrame(lines),
        note="Runs that train side by side share the machine and the teacher: an estimate, not a measurement.",
    )


def seconds_of_shared_stages(cell: Cell, store: Store) -> float:
    """Mean wall time of the first steps that a run starts from; every run that names them counts them."""
    assert cell.experiment is not None
    total = 0.0
    for stage in cell.experiment.shared_stages():
        records = store.records(stage.fingerprint).values()
        total += mean(r.cost["wall_seconds"] for r in records) if records else 0.0
    return total


def selection(runs: Shown, *, name: str = "selection") -> Table:
    """The protocol's score beside the last epoch's, by row: the same runs, read in two ways."""
    body, lines = [], []
    for cell in runs.cells:
        part = runs.frame[runs.frame["row"] == cell.row.key]
        if part.empty:
            body.append(line(cell.row.label, NOT_YET, "–", "–", "–"))
            continue
        difference = part["value"] - part["last"]
        body.append(
            line(
                cell.row.title,
                spread(part["value"]),
                spread(part["last"]),
                f"{difference.mean():+.2f}",
                spread(part["all_images"]),
            )
        )
        means = part[["value", "last", "all_images"]].mean()
        lines.append({"row": cell.row.key, **means, "difference": difference.mean(), "runs": len(part)})
    return Table(
        name=name,
        caption=f"The selected epoch and the last, profile {runs.profile}; percent, mean ± standard deviation (runs).",
        head=[line("Row", "Selected epoch", "Last epoch", "Difference", "Selected, all test images")],
        body=body,
        frame=pd.DataFrame(lines).round(4),
    )
