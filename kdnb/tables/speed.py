"""What `kdnb bench` measured, as the committed study holds it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kdnb import exhibits, methods
from kdnb.exhibits import Exhibit, Row
from kdnb.exhibits.costs import STEP, bench_files, table_told, with_steps
from kdnb.exhibits.names import pair_title
from kdnb.study import equivalence
from kdnb.study.equivalence import LEVEL, LINES, MARGIN, SEEDS, SPREAD, Equivalence
from kdnb.tables.sheet import Line, Table, line
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


_STEPS = line("Method", "Stage", "× KD", "µs an image", "Peak GiB", "Extra parameters")
_EACH_ALONE = "What a training step takes, each method alone"


def method_costs() -> list[Table]:
    """What a training step takes, each method alone, as a ratio to KD's: one table a measurement."""
    found = [(stem, content) for stem, content in bench_files() if "methods" in content]
    return [_methods(stem, content) for stem, content in found] or [_methods("", {})]


def _methods(stem: str, content: dict[str, Any]) -> Table:
    labels, chosen = _labels(), _steps(content)
    chosen.sort(key=lambda m: (m["method"] != "kd", _label(m["method"], labels).casefold()))
    where = f", on {content['device']}: {_networks(content)}{_settings(content)}" if content else ""
    return Table(
        name=slug(f"method-costs {stem}"),
        caption=f"{_EACH_ALONE}{where}; time as a ratio to KD's, memory, parameters.",
        head=[_STEPS],
        body=[_step(m, labels) for m in chosen] or [line(NOT_YET, *[""] * 5)],
        frame=pd.DataFrame([_numbers(m) for m in chosen]) if chosen else None,
        note=_note_of_costs(chosen) + _others(content) if chosen else "",
    )


def step_costs(rows: Sequence[str], *, name: str) -> Table:
    """What the steps of these rows' methods take beside KD's, wherever they were timed, a measurement below the other;
    with the steps that they begin with.

    On another machine and with other networks a ratio is another one: each line says with which.
    """
    labels = _labels()
    found = [(content, m) for _, content in bench_files() for m in _steps(content) if _serves(m, rows)]
    body = [[*_step(m, labels), *line(_timed(content))] for content, m in found]
    return Table(
        name=name,
        caption=f"{_EACH_ALONE}; time as a ratio to KD's on the same machine, memory, parameters.",
        head=[[*_STEPS, *line("Timed with")]],
        body=body or [line(NOT_YET, *[""] * 6)],
        frame=pd.DataFrame([{**_numbers(m), "timed_with": _timed(content)} for content, m in found]) if found else None,
        note=_note_of_costs([m for _, m in found]) if found else "",
        css="kdnb-steps",
    )


def _serves(measured: Mapping[str, Any], rows: Sequence[str]) -> bool:
    """Whether a step is one of these rows' methods: their own, one of the teacher alone that they go on from, or a
    first step that a method with KD shares with the method by itself.
    """
    name = measured["method"]
    shared = {step for row in rows for step in with_steps(row) if step != row.partition("+")[0]}
    first = {row.partition("+")[0] for row in rows if measured["stage"] != STEP}
    return name in rows or name in shared or name in first


def _steps(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps of a measurement, without those that are another's under its name."""
    shared = {key for key, method in methods.catalogue().items() if method.step_of}
    return [m for m in content.get("methods", []) if m["method"] not in shared]


def _step(measured: Mapping[str, Any], labels: Mapping[str, str]) -> Line:
    return line(
        _label(measured["method"], labels),
        measured["stage"],
        f"{measured['ratio_to_kd']:.2f}" + _between(measured, ".2f"),
        f"{measured['microseconds_per_image']:,.0f}",
        "–" if measured["peak_gib"] is None else f"{measured['peak_gib']:.2f}",
        _whole(measured.get("extra_parameters")),
    )


def _timed(content: Mapping[str, Any]) -> str:
    """`ResNet20 → ResNet8, settings of SLKD, Table 1, at pilot scale; AMD EPYC, 1 thread; float32`; others at work."""
    how = (content.get("numerics") or {}).get("dtype")
    told = [f"{_networks(content)}{_settings(content)}", content["device"], how, _busy(content)]
    return "; ".join(filter(None, told))


def _numbers(measured: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the CSV; arguments that are not the method's defaults as text."""
    given = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in measured.get("arguments", {}).items())
    return {**measured, **({"arguments": given} if given else {})}


def _settings(content: Mapping[str, Any]) -> str:
    """Whose settings methods had, where they had not their defaults."""
    return f", settings of {table_told(content['table'])}" if "table" in content else ""


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
    busy = _busy(content)
    return f" {busy.capitalize()} meanwhile; what is fair then is per CPU-second." if busy else ""


def _busy(content: Mapping[str, Any]) -> str:
    """`other processes had 70 % of the machine`; empty where it was the bench's alone, or nearly."""
    share = content.get("others") or 0
    return f"other processes had {100 * share:.0f} % of the machine" if share > 0.1 else ""


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
    return told + " Extra parameters are those that a step trains beside a student's."


def _labels() -> dict[str, str]:
    """Method -> what the table with most rows calls it; what has no row there, as its own paper does, which is named.

    So no two have one name.  A teacher's row is named for what it is in its table, a plain student everywhere else.
    """
    every = exhibits.select("all")
    largest = max(every, key=lambda exhibit: len(exhibit.rows))
    found: dict[str, str] = {}
    for row in _students(largest):
        found.setdefault(row.method, row.label)
    for exhibit in every:
        for row in sorted(_students(exhibit), key=lambda row: len(row.label)):
            found.setdefault(row.method, f"{row.label} ({exhibits.paper(exhibit.paper).heading})")
    return {**_of_the_teacher_alone(found), **found}


def _of_the_teacher_alone(labels: Mapping[str, str]) -> dict[str, str]:
    """A step of the teacher alone -> `FT, IE-FT: the teacher alone`, after the methods that go on from it."""
    every = methods.catalogue()
    found = {}
    for name in dict.fromkeys(step for entry in every.values() for step in entry.after):
        those = [entry for entry in every.values() if name in entry.after]
        label = ", ".join(labels.get(entry.name, entry.name) for entry in those)
        found[name] = f"{label}: the teacher alone"
    return found


def _students(exhibit: Exhibit) -> list[Row]:
    return [row for row in exhibit.rows if row.role != "teacher"]


def _label(method: str, labels: Mapping[str, str]) -> str:
    """How tables call a method; a combination that no table has, after its parts: `AT + KD`."""
    alone = method.removesuffix("+kd")
    combined = f"{labels[alone]} + KD" if method != alone and alone in labels else method
    return labels.get(method, combined)


def _networks(content: Mapping[str, Any]) -> str:
    """`resnet56 -> resnet20` of a measurement, as networks are called in the book."""
    return re.sub(r"(\w+) -> (\w+)", lambda pair: pair_title(pair[1], pair[2]), str(content["networks"]))
