"""What is there: of every exhibit the cells that are printed, that can run, that are measured; and every record."""

from __future__ import annotations

from typing import Any

import pandas as pd

from kdnb import exhibits
from kdnb.exhibits.runs import device_told, precision_told
from kdnb.exhibits.status import left_told, report
from kdnb.study.environment import commit_told
from kdnb.study.record import Record
from kdnb.study.store import Store
from kdnb.tables.sheet import Line, Table, line

#: The form of `register.csv`: raised when a column changes its meaning or goes.
REGISTER = 1
#: Its columns of metrics; `diverged` is the epoch in which a run's numbers ceased to be finite, of those that did.
SCORES = ("headline", "last", "all_images", "epochs", "diverged", "agreement", "ece", "nll")
SCALES = ("pilot", "short", "paper")


def coverage(store: Store | None = None) -> list[Table]:
    """A table a paper, an exhibit a line: its cells, and the runs measured of those wanted, but for the demo's."""
    found = report(store)
    by_paper: dict[str, list[dict[str, Any]]] = {}
    for entry in [*found["exhibits"], *found["ablations"]]:
        by_paper.setdefault(entry["paper"], []).append(entry)
    return [_of_paper(key, entries) for key, entries in by_paper.items()]


def _of_paper(key: str, entries: list[dict[str, Any]]) -> Table:
    body: list[Line] = []
    for entry in entries:
        exhibit = exhibits.get(f"{key}/{entry['exhibit']}")
        printed = sum(cell.printed is not None for cell in exhibit.cells("paper"))
        scales = [_measured(entry["profiles"][scale]) for scale in SCALES]
        body.append(line(exhibit.title, printed or "–", entry["cells"], entry["runnable"], *scales, entry["why_not"]))
    return Table(
        name=f"coverage-{key}",
        caption=f"{exhibits.paper(key).heading}: runs that are measured, of those that the study wants. "
        "Hours left are of one process, at the speed of the runs that there are, on the machines that made them.",
        head=[line("Exhibit", "Printed", "Cells", "Can run", *(scale.capitalize() for scale in SCALES), "Why not all")],
        body=body,
        css="kdnb-claims kdnb-coverage",
    )


def _measured(counts: dict[str, Any]) -> str:
    """`51 of 98, 3.1 h left`."""
    if not counts["wanted"]:
        return "–"
    return f"{counts['runs']} of {counts['wanted']}{left_told(counts)}"


def register(store: Store | None = None) -> Table:
    """How many records of how many kinds there are; its CSV has every one of them, a line each."""
    store = store or Store.open()
    frame = pd.DataFrame([_line(record) for record in store.all() if record.experiment["profile"]["name"] != "demo"])
    counts = frame.groupby(["dataset", "scale"]).size() if len(frame) else pd.Series(dtype=int)
    return Table(
        name="register",
        caption=f"Records of the published study; the CSV has them all, in form {REGISTER}.",
        head=[line("Images", "Scale", "Records")],
        body=[line(dataset, scale, count) for (dataset, scale), count in counts.items()] or [line("none yet", "–", 0)],
        frame=frame,
    )


def _line(record: Record) -> dict[str, Any]:
    e, metrics = record.experiment, record.metrics
    return {
        "form": REGISTER,
        "fingerprint": record.fingerprint,
        "seed": record.seed,
        "scale": e["profile"]["name"],
        "dataset": e["images"]["dataset"],
        "teacher": (e["teacher"] or {}).get("name", ""),
        "student": (e["network"] or {}).get("name", ""),
        "method": e["method"]["name"],
        "arguments": " ".join(f"{name}={value}" for name, value in e["method"]["arguments"].items()),
        "stage": e["stage"] or "",
        **{name: metrics.get(name) for name in SCORES},
        "wall_seconds": record.cost.get("wall_seconds"),
        "device": device_told(record.cost.get("device", "")),
        "precision": precision_told(record),
        "commit": commit_told(record.environment),
        "sources": record.environment.get("sources", ""),
    }
