"""The study's dashboard: per exhibit what is printed, what can run, what is measured, what is broken."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kdnb import datasets
from kdnb.datasets.identity import identity
from kdnb.exhibits import ablations, all_exhibits, on_own_images, papers
from kdnb.exhibits.exhibit import Cell, Exhibit
from kdnb.exhibits.faults import faults
from kdnb.exhibits.runs import SCALES, runs_of
from kdnb.exhibits.wanted import every_experiment, of_cell, select
from kdnb.study.environment import source_digest
from kdnb.study.profile import PROFILES
from kdnb.study.record import Record
from kdnb.study.store import Store

#: Less than these hours are called minutes.
A_FEW_MINUTES = 0.1
#: So many rows that cannot run are named.
FEW_ROWS = 3


def report(store: Store | None = None, keys: str = "all") -> dict[str, Any]:
    """The dashboard in plain values; `measured` counts cells with a record, `runs` the records in them.

    Of all exhibits, or of those of some `keys`, by commas, with a line for each of their rows.
    """
    store, chosen = store or Store.open(), {exhibit.key for exhibit in select(keys)}
    exhibits, of_ours, own = (
        [_exhibit(exhibit, store, with_rows=keys != "all") for exhibit in kind if exhibit.key in chosen]
        for kind in (all_exhibits(), ablations(), on_own_images())
    )
    known = {experiment.fingerprint for experiment in every_experiment()}
    stale = [
        {"path": str(r.path), "what": _why_stale(r)}
        for r in store.all()
        if r.fingerprint not in known and not str(r.experiment["profile"]["name"]).startswith("custom-")
        and r.experiment.get("stage") is None
    ]  # fmt: skip
    whole = {"exhibits": exhibits, "ablations": of_ours, "own": own, "broken": broken(store), "stale": stale}
    wrong = [fault for paper in papers() for fault in faults(paper)]
    return whole | {"faults": wrong, "sources": _sources(store)}


def _why_stale(record: Record) -> str:
    """Why a record belongs to no cell of an exhibit: it was made with other images, or of another definition."""
    images = record.experiment["images"]
    name = str(images["dataset"])
    if name not in datasets.names():
        return f"was made with images called '{name}', which are not prepared here"
    if images.get("digests", {}) != identity(name):
        return f"was made with other images than those that '{name}' stands for now"
    return "belongs to no cell of an exhibit as it is defined now"


def broken(store: Store) -> list[dict[str, str]]:
    """The files of records, weights and arrays that cannot be used, and why."""
    return [{"path": str(problem.path), "what": problem.what} for problem in store.problems]


def _sources(store: Store) -> list[dict[str, Any]]:
    """How many records the sources of today made, and how many those of other times."""
    counts = Counter(str(record.environment.get("sources", "")) for record in store.all())
    counts.setdefault(source_digest(), 0)
    return [{"sources": s, "records": n, "today": s == source_digest()} for s, n in counts.most_common()]


def told(found: dict[str, Any]) -> str:
    """The dashboard as text."""
    lines = []
    for e in [*found["exhibits"], *found["ablations"], *found["own"]]:
        why = f" ({e['why_not']})" if e["why_not"] else ""
        on = f" on {', '.join(e['datasets'])}" if e in found["own"] else ""
        lines.append(f"{e['paper']}/{e['exhibit']}{on}: {e['cells']} cells, {e['runnable']} can run{why}")
        for profile, counts in e["profiles"].items():
            if not counts["cells"]:
                continue
            lines.append(
                f"  {profile:<6} {counts['measured']:>3} of {counts['cells']} cells measured, "
                f"{counts['runs']} of {counts['wanted']} runs{left_told(counts)}"
            )
        lines += [f"    {row}: {_runs_told(runs)}" for row, runs in e.get("rows", {}).items()]
    lines += [f"fault: {fault}" for fault in found["faults"]]
    for kind in ("broken", "stale"):
        lines += [f"{kind}: {problem['path']}: {problem['what']}" for problem in found[kind]]
    others = [of for of in found["sources"] if not of["today"]]
    if others:
        made = sum(of["records"] for of in others)
        now = sum(of["records"] for of in found["sources"]) - made
        lines.append(
            f"sources: {now} records by today's ({source_digest()[:7]}), {made} by {len(others)} others, which count "
            "as well (--json names them)"
        )
    return "\n".join(lines)


def left_told(counts: dict[str, Any]) -> str:
    """`, about 3.1 h left`, of the counts of a profile; empty where nothing is left, or nobody knows."""
    hours = counts["hours_left"]
    if not hours:
        return ""
    return ", minutes left" if hours < A_FEW_MINUTES else f", about {hours:.1f} h left"


def _runs_told(runs: dict[str, int]) -> str:
    """`demo 1, pilot 3`: the runs of a row by profile."""
    return ", ".join(f"{profile} {count}" for profile, count in runs.items() if count) or "no run"


def _exhibit(exhibit: Exhibit, store: Store, with_rows: bool) -> dict[str, Any]:
    cells = max((exhibit.cells(scale) for scale in SCALES), key=_able)  # the paper's, where no other has more
    profiles = {name: progress(exhibit, name, store) for name in PROFILES}
    return {
        "paper": exhibit.paper,
        "exhibit": exhibit.name,
        "cells": len(cells),
        "runnable": _able(cells),
        "why_not": _why_not(cells),
        "measured": {name: counts["measured"] for name, counts in profiles.items()},
        "profiles": profiles,
        "datasets": exhibit.datasets,
    } | ({"rows": _rows(exhibit, store)} if with_rows else {})


def _why_not(cells: Sequence[Cell]) -> str:
    """Why some cells cannot run; of a few rows among others these are named."""
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        if cell.why_not:
            found.setdefault(cell.why_not, {})[cell.row.label] = None
    rows = len({cell.row.label for cell in cells})
    few = {why: labels for why, labels in found.items() if len(labels) <= FEW_ROWS < rows}
    quoted = {why: ", ".join(f"“{label}”" for label in labels) for why, labels in few.items()}
    return "; ".join(f"{quoted[why]}: {why}" if why in few else why for why in found)


def _able(cells: Sequence[Cell]) -> int:
    """How many of the cells can run, now or when what they wait for is settled."""
    return sum(cell.experiment is not None or cell.waits for cell in cells)


def _rows(exhibit: Exhibit, store: Store) -> dict[str, dict[str, int]]:
    """How many runs of each row are measured under each profile; what several cells show is one."""
    found: dict[str, dict[str, int]] = {row.key: dict.fromkeys(PROFILES, 0) for row in exhibit.rows}
    for profile in PROFILES:
        runs = runs_of((cell for cell in exhibit.cells(profile) if cell.experiment is not None), store)
        seen = {(cell.row.key, record.fingerprint, record.seed) for cell, record in runs}
        for row, *_ in seen:
            found[row][profile] += 1
    return found


def progress(exhibit: Exhibit, profile: str, store: Store) -> dict[str, Any]:
    """Cells that have a run, and runs: one that fills several cells, as of several scores, is one."""
    cells = [cell for cell in exhibit.cells(profile) if cell.experiment is not None]
    done = [{run.key: store.settled(run) for run in of_cell(cell, exhibit.seeds(profile))} for cell in cells]
    every = {key: True for runs in done for key in runs}
    every |= {key: False for runs in done for key, there in runs.items() if not there}
    missing = [fingerprint for (fingerprint, _), there in every.items() if not there]
    return {
        "cells": len(cells),
        "measured": sum(any(runs.values()) for runs in done),
        "runs": sum(every.values()),
        "wanted": len(every),
        "hours_left": _hours(missing, cells, store),
    }


def _hours(missing: Sequence[str], cells: Sequence[Cell], store: Store) -> float | None:
    """How long runs of these fingerprints take: in the mean as those of the same one, or else as the table's students.

    A teacher says nothing of them.  None where nothing is missing, or nothing is known of what is.
    """
    of_its_own: dict[str, list[float]] = {}
    of_students: list[float] = []
    for cell, record in runs_of(cells, store):
        seconds = record.cost["wall_seconds"]
        of_its_own.setdefault(record.fingerprint, []).append(seconds)
        of_students += [seconds] if cell.row.role != "teacher" else []
    known = [of_its_own.get(fingerprint, of_students) for fingerprint in missing]
    return round(sum(map(statistics.mean, known)) / 3600, 3) if known and all(known) else None
