"""What `kdnb bench` measured, as the committed study holds it."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from kdnb import exhibits, paths
from kdnb.errors import KdnbError
from kdnb.tables.results import slug
from kdnb.tables.sheet import Entry, Table, line


def bench_files() -> list[tuple[str, dict[str, Any]]]:
    """Name and content of every committed measurement; a file that is not one is an error that names it."""
    found = []
    for path in sorted((paths.committed_results() / "bench").glob("*.json")):
        try:
            content = json.loads(path.read_text())
        except ValueError as error:
            raise KdnbError(f"{path} is not a measurement of `kdnb bench --json` ({error}).") from error
        found.append((path.stem, content))
    return found


def speed() -> list[Table]:
    """One table a measurement of the engine against the usual loop; one that says so where there is none."""
    tables = [_speed(name, content) for name, content in bench_files() if "cohorts" in content]
    if tables:
        return tables
    nothing = [line(Entry("not yet measured", columns=4))]
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
                f"{cohort['images_per_s']:,.0f}",
                f"{cohort['ratio']:.2f}",
                "–" if share is None else f"{100 * share:.0f} %",
                f"{cohort['peak_gib']:.2f}",
            )
        )
    return Table(
        name=slug(f"speed {name}"),
        caption=f"Training images per second on {content['device']}: {content['networks']}, KD; "
        f"images: {content['images']}; median of {content['rounds']} rounds.",
        head=[line("Students side by side", "Images/s in all", "× usual loop", "Of the roofline", "Peak GiB")],
        body=body,
        frame=pd.DataFrame(content["cohorts"]),
        note="The roofline is the time that the machine's measured matmul or copy rate allows at best.",
    )


def method_costs() -> list[Table]:
    """One table a measurement of all methods, each alone, as a ratio to KD's step."""
    return [_methods(name, content["methods"]) for name, content in bench_files() if "methods" in content]


def _methods(name: str, lines: list[dict[str, Any]]) -> Table:
    labels = {
        row.method: row.label for exhibit in exhibits.all_exhibits() for row in exhibit.rows if row.role == "student"
    }
    body = [
        line(
            labels.get(m["method"], m["method"]),
            m["stage"],
            f"{m['ratio_to_kd']:.2f}",
            f"{m['microseconds_per_image']:,.0f}",
            f"{m['peak_gib']:.2f}",
            f"{m['extra_parameters']:,}",
        )
        for m in lines
    ]
    return Table(
        name=slug(f"method costs {name}"),
        caption=f"What a step of each method costs, each alone ({name}): time as a ratio to KD.",
        head=[line("Method", "Stage", "× KD", "µs an image", "Peak GiB", "Extra parameters")],
        body=body,
        frame=pd.DataFrame(lines),
    )
