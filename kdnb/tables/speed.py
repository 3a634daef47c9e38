"""What `kdnb bench` measured, as the committed study holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kdnb import exhibits, paths
from kdnb.errors import KdnbError
from kdnb.tables.results import NOT_YET, slug
from kdnb.tables.sheet import Table, line


def bench_files() -> list[tuple[str, dict[str, Any]]]:
    """Name and content of every committed measurement; a file that is not one is an error that names it."""
    found = []
    for path in sorted((paths.committed_results() / "bench").glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise KdnbError(f"{path} is not a measurement of `kdnb bench --json` ({error}).") from error
        found.append((path.stem, content))
    return found


def speed() -> list[Table]:
    """One table a measurement of the engine against the usual loop; one that says so where there is none."""
    tables = [_speed(name, content) for name, content in bench_files() if "cohorts" in content]
    if tables:
        return tables
    nothing = [line(NOT_YET, "", "", "")]
    head = [line("Students", "Images/s", "× usual loop", "Share of the roofline")]
    return [Table("speed", "The engine against the usual loop.", head, nothing)]


def _speed(name: str, content: dict[str, Any]) -> Table:
    reached = content.get("roofline", {}).get("reached", {})
    body = [line("the usual loop, 1", f"{content['reference_images_per_s']:,.0f}", "1", "–", "–")]
    for cohort in content["cohorts"]:
        share = reached.get(str(cohort["size"]))
        body.append(
            line(
                cohort["size"],
                f"{cohort['images_per_s']:,.0f}" + _between(cohort, ",.0f"),
                f"{cohort['ratio']:.2f}",
                "–" if share is None else f"{100 * share:.0f} %",
                "–" if cohort["peak_gib"] is None else f"{cohort['peak_gib']:.2f}",
            )
        )
    return Table(
        name=slug(f"speed {name}"),
        caption=f"Training images per second on {content['device']}: {content['networks']}, KD; "
        f"images: {content['images']}; median of {content['rounds']} rounds.",
        head=[line("Students side by side", "Images/s in all", "× usual loop", "Of the roofline", "Peak GiB")],
        body=body,
        frame=pd.DataFrame(content["cohorts"]),
        note="In brackets the slowest and the fastest round. The roofline is the time that the machine's measured "
        "matmul or copy rate allows at best.",
    )


def step_costs() -> dict[tuple[str, str], float]:
    """(method, stage) -> what a step costs beside KD's, from the first measurement that there is."""
    lines: list[dict[str, Any]] = next((content["methods"] for _, content in bench_files() if "methods" in content), [])
    return {(m["method"], m["stage"]): m["ratio_to_kd"] for m in lines}


def method_costs(rows: Sequence[str] | None = None, *, name: str = "method-costs") -> list[Table]:
    """What a training step takes, each method alone, as a ratio to KD's: one table a measurement.

    `rows` limits it to those rows' methods, and KD.
    """
    wanted = None if rows is None else {"kd", *rows}
    found = [(stem, content) for stem, content in bench_files() if "methods" in content]
    return [_methods(name, stem, content, wanted) for stem, content in found] or [_methods(name, "", {}, wanted)]


def _methods(name: str, stem: str, content: dict[str, Any], wanted: set[str] | None) -> Table:
    lines: list[dict[str, Any]] = content.get("methods", [])
    students = [row for exhibit in exhibits.all_exhibits() for row in exhibit.rows if row.role != "teacher"]
    labels = {row.method: row.label for row in students}
    chosen = [m for m in lines if wanted is None or m["method"] in wanted]
    body = [
        line(
            _label(m["method"], labels),
            m["stage"],
            f"{m['ratio_to_kd']:.2f}" + _between(m, ".2f"),
            f"{m['microseconds_per_image']:,.0f}",
            "–" if m["peak_gib"] is None else f"{m['peak_gib']:.2f}",
            f"{m['extra_parameters']:,}",
        )
        for m in chosen
    ]
    where = f", on {content['device']}: {content['networks']}" if content else ""
    return Table(
        name=slug(f"{name} {stem}"),
        caption=f"What a training step takes, each method alone{where}; time as a ratio to KD's, memory, parameters.",
        head=[line("Method", "Stage", "× KD", "µs an image", "Peak GiB", "Extra parameters")],
        body=body or [line(NOT_YET, *[""] * 5)],
        frame=pd.DataFrame(chosen) if chosen else None,
        note="Time beside KD's is the median over rounds, in brackets the lowest and the highest." if chosen else "",
    )


def _between(measured: Mapping[str, Any], form: str) -> str:
    """The lowest and the highest round, ` (0.91–1.08)`; "" where a measurement does not tell them."""
    if "lowest" not in measured:
        return ""
    return f" ({measured['lowest']:{form}}–{measured['highest']:{form}})"


def _label(method: str, labels: Mapping[str, str]) -> str:
    """How tables call a method; a combination that no table has, after its parts: `AT + KD`."""
    alone = method.removesuffix("+kd")
    combined = f"{labels[alone]} + KD" if method != alone and alone in labels else method
    return labels.get(method, combined)
