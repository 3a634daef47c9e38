"""What `kdnb bench` measured, as the committed study holds it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kdnb import exhibits, methods
from kdnb.exhibits.costs import bench_files
from kdnb.exhibits.names import pair_title
from kdnb.study import equivalence
from kdnb.study.equivalence import LEVEL, LINES, MARGIN, SEEDS, SPREAD, Equivalence
from kdnb.tables.sheet import Table, line
from kdnb.tables.words import NOT_YET, slug


def speed() -> list[Table]:
    """One table a measurement of the engine against the usual loop; one that says so where there is none."""
    tables = [_speed(name, content) for name, content in bench_files() if "cohorts" in content]
    if tables:
        return tables
    return [Table("speed", "The engine against the usual loop.", [_HEAD], [line(NOT_YET, *[""] * 5)])]


_HEAD = line(
    "Students side by side", "Images/s in all", "× usual loop", "Images per CPU-second", "Of the roofline", "Peak GiB"
)


def _speed(name: str, content: dict[str, Any]) -> Table:
    reached = content.get("roofline", {}).get("reached", {})
    alone = content.get("reference_images_per_cpu_s")
    body = [line("the usual loop, 1", f"{content['reference_images_per_s']:,.0f}", "1", _whole(alone), "–", "–")]
    for cohort in content["cohorts"]:
        share = reached.get(str(cohort["size"]))
        body.append(
            line(
                cohort["size"],
                f"{cohort['images_per_s']:,.0f}" + _between(cohort, ",.0f"),
                f"{cohort['ratio']:.2f}",
                _whole(cohort.get("images_per_cpu_s")),
                "–" if share is None else f"{100 * share:.0f} %",
                "–" if cohort["peak_gib"] is None else f"{cohort['peak_gib']:.2f}",
            )
        )
    return Table(
        name=slug(f"speed {name}"),
        caption=f"Training images per second on {content['device']}: {_networks(content)}, KD"
        f"{_computed(content)}; images: {content['images']}; median of {content['rounds']} rounds.",
        head=[_HEAD],
        body=body,
        frame=pd.DataFrame(content["cohorts"]),
        note=f"In brackets the slowest and the fastest round. {_roofline(content)}{_others(content)}",
    )


def conformity() -> list[Table]:
    """Whether other ways of computing end where the engine in float32 ends: one table a machine."""
    found = [(name, content) for name, content in bench_files() if "conformity" in content]
    return [_conformity(name, content) for name, content in found] or [_conformity("", {})]


def _conformity(name: str, content: dict[str, Any]) -> Table:
    runs: list[dict[str, Any]] = content.get("runs", [])
    scores = {(r["way"], r["line"], r["seed"]): 100 * float(r["score"]) for r in runs}
    lines = list(dict.fromkeys(r["line"] for r in runs)) or list(LINES)
    pairs = {
        of: [
            scores["bfloat16", of, seed] - value
            for (way, one, seed), value in scores.items()
            if way == "float32" and one == of and ("bfloat16", of, seed) in scores
        ]
        for of in lines
    }
    every = [difference for of in lines for difference in pairs[of]]
    body = [_equal("bfloat16 minus float32, same seeds, all", equivalence.paired(every))]
    body += [_equal(f"– {of}", equivalence.paired(pairs[of])) for of in lines]
    for of in lines:
        engine, usual = ([v for (w, one, _), v in scores.items() if (w, one) == (way, of)] for way in _FLOAT32)
        body.append(_equal(f"engine minus usual loop, both in float32: {of}", equivalence.unpaired(engine, usual)))
    planned = SEEDS * len(LINES)
    chance = 100 * equivalence.power(SPREAD, planned)
    where = f" on {content['device']}: {content['conformity']}, top-1 on all test images" if content else ""
    return Table(
        name=slug(f"conformity {name}"),
        caption=f"Do bfloat16 and the usual loop end at the accuracy of the engine in float32{where}?",
        head=[
            line(
                "Compared",
                "Runs",
                "Mean difference, points",
                f"{100 * LEVEL:.0f} % interval",
                f"Within {MARGIN:g} point",
            )
        ],
        body=body,
        frame=pd.DataFrame([{k: r[k] for k in ("way", "line", "seed", "score")} for r in runs]) if runs else None,
        note=f"The margin of {MARGIN:g} point either way and {SEEDS} seeds a line were fixed before any run; if one "
        f"paired difference has a spread of {SPREAD:g} points, {planned} of them show with a chance of {chance:.1f} % "
        "that there is none beyond it. The engine's steps are compared with a plain loop's in float64 by a test.",
    )


_FLOAT32 = ("float32", "usual loop")


def _equal(what: str, found: Equivalence | None) -> list[Any]:
    if found is None:
        return line(what, "–", NOT_YET, "", "")
    said = {True: "yes", False: "no", None: "cannot tell yet"}[found.same]
    return line(what, found.count, f"{found.mean:+.2f}", f"{found.low:+.2f} to {found.high:+.2f}", said)


def method_costs(rows: Sequence[str] | None = None, *, name: str = "method-costs") -> list[Table]:
    """What a training step takes, each method alone, as a ratio to KD's: one table a measurement.

    `rows` limits it to those rows' methods, and KD; a measurement that has none of them is left out.
    """
    wanted = None if rows is None else {"kd", *rows}
    known = set(rows or ())
    found = [(stem, content) for stem, content in bench_files() if "methods" in content]
    found = [(stem, of) for stem, of in found if not known or known & {line["method"] for line in of["methods"]}]
    return [_methods(name, stem, content, wanted) for stem, content in found] or [_methods(name, "", {}, wanted)]


def _methods(name: str, stem: str, content: dict[str, Any], wanted: set[str] | None) -> Table:
    lines: list[dict[str, Any]] = content.get("methods", [])
    labels = _labels()
    shared = {key for key, method in methods.catalogue().items() if method.step_of}  # another's step, under its name
    chosen = [m for m in lines if (wanted is None or m["method"] in wanted) and m["method"] not in shared]
    chosen.sort(key=lambda m: (m["method"] != "kd", _label(m["method"], labels).casefold()))
    body = [
        line(
            _label(m["method"], labels),
            m["stage"],
            f"{m['ratio_to_kd']:.2f}" + _between(m, ".2f"),
            f"{m['microseconds_per_image']:,.0f}",
            "–" if m["peak_gib"] is None else f"{m['peak_gib']:.2f}",
            f"{m['extra_parameters']:,}" if m["extra_parameters"] >= 0 else "–",
        )
        for m in chosen
    ]
    where = f", on {content['device']}: {_networks(content)}{_settings(content)}" if content else ""
    return Table(
        name=slug(f"{name} {stem}"),
        caption=f"What a training step takes, each method alone{where}; time as a ratio to KD's, memory, parameters.",
        head=[line("Method", "Stage", "× KD", "µs an image", "Peak GiB", "Extra parameters")],
        body=body or [line(NOT_YET, *[""] * 5)],
        frame=pd.DataFrame([_numbers(m) for m in chosen]) if chosen else None,
        note=_note_of_costs(chosen) + _others(content) if chosen else "",
    )


def _numbers(measured: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the CSV; arguments that are not the method's defaults as text."""
    given = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in measured.get("arguments", {}).items())
    return {**measured, **({"arguments": given} if given else {})}


def _settings(content: Mapping[str, Any]) -> str:
    """Whose settings methods had, where they had not their defaults."""
    return f", settings of {content['table']}" if "table" in content else ""


def _computed(content: Mapping[str, Any]) -> str:
    """How the engine computed: `; float32, eager, 2 threads`."""
    how = content.get("numerics") or {}
    threads = f", {how['threads']} thread{'s' * (how['threads'] != 1)}" if how.get("device") == "cpu" else ""
    return f"; {how['dtype']}, {how['mode']}{threads}" if how else ""


def _roofline(content: Mapping[str, Any]) -> str:
    """What the roofline of a measurement is: older ones took matrix products for the best of arithmetic."""
    if "best_tflops" in content.get("roofline", {}):
        best = (
            "the best rate of convolutions, matrix products, copies and the steps themselves that was seen in this run"
        )
    else:
        best = "the machine's measured matmul or copy rate"
    return f"The roofline is the time that {best} allows at best."


def _others(content: Mapping[str, Any]) -> str:
    """A sentence where the machine was not the bench's alone."""
    share = content.get("others") or 0
    busy = f" Other processes had {100 * share:.0f} % of the machine meanwhile; what is fair then is per CPU-second."
    return busy if share > 0.1 else ""


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _between(measured: Mapping[str, Any], form: str) -> str:
    """The lowest and the highest round, ` (0.91–1.08)`; "" where a measurement does not tell them."""
    if "lowest" not in measured:
        return ""
    return f" ({measured['lowest']:{form}}–{measured['highest']:{form}})"


def _note_of_costs(chosen: Sequence[Mapping[str, Any]]) -> str:
    """What the numbers are, and which steps are no student's or serve more than one row."""
    told = "Time beside KD's is the median over rounds, in brackets the lowest and the highest."
    if len({m["stage"] for m in chosen}) > 1:
        told += " A first step stands above `train`; a method with KD begins with the same one."
    if any(m["extra_parameters"] < 0 for m in chosen):
        told += " A dash: the step looks at the teacher alone and trains no student."
    return told


def _labels() -> dict[str, str]:
    """Method -> what the table with most rows calls it; what has no row there, as its own paper does, which is named.

    So no two have one name.
    """
    every = exhibits.select("all")
    largest = max(every, key=lambda exhibit: len(exhibit.rows))
    found: dict[str, str] = {}
    for row in largest.rows:
        found.setdefault(row.method, row.label)
    for exhibit in every:
        for row in sorted((row for row in exhibit.rows if row.role != "teacher"), key=lambda row: len(row.label)):
            found.setdefault(row.method, f"{row.label} ({exhibits.paper(exhibit.paper).heading})")
    return found


def _label(method: str, labels: Mapping[str, str]) -> str:
    """How tables call a method; a combination that no table has, after its parts: `AT + KD`."""
    alone = method.removesuffix("+kd")
    combined = f"{labels[alone]} + KD" if method != alone and alone in labels else method
    return labels.get(method, combined)


def _networks(content: Mapping[str, Any]) -> str:
    """`resnet56 -> resnet20` of a measurement, as networks are called in the book."""
    return re.sub(r"(\w+) -> (\w+)", lambda pair: pair_title(pair[1], pair[2]), str(content["networks"]))
