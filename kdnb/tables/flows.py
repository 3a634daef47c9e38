"""Flows of information side by side: which layer of its teacher each layer of a student is nearest to, and how far."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

import pandas as pd

from kdnb import exhibits
from kdnb.analysis.flows import flow_divergence, matched_layers
from kdnb.exhibits import Exhibit
from kdnb.exhibits.runs import runs_of
from kdnb.study.record import Record
from kdnb.study.store import Store
from kdnb.tables.sheet import Table, line
from kdnb.tables.words import NOT_YET, TITLES, measured_at, slug

LAYERS = (1, 2, 3, 4)
#: How information is measured: the name in records, the head of its columns, and decimals.
KINDS = (("ncc", "nearest centroid", 3), ("qmi", "mutual information", 4))
HEAD = ("Network", "Beside", *(f"{what}: {told}" for _, what, _ in KINDS for told in ("flow", "matched", "D")))

Flow = list[float]


def flows(exhibit: Exhibit | str, beside: Sequence[tuple[str, str]], profile: str = "demo", *, name: str = "") -> Table:
    """Of each row the flow at its end, beside that of another: kappa and D_F, at the strongest scale with runs of both.

    Means over seeds; a row's runs stand beside those of the same seed, or beside a teacher's one run.
    """
    exhibit, store = exhibits.get(exhibit), Store.open()
    for scale in dict.fromkeys([*TITLES, profile]):
        found = {row.key: _of_row(exhibit, row.key, scale, store) for row in exhibit.rows}
        pairs = [(a, b) for a, b in beside if found[a] and found[b]]
        if pairs:
            break
    labels = {row.key: row.label for row in exhibit.rows}
    lines: list[dict[str, Any]] = [{"row": a, "beside": b} | _beside(found[a], found[b]) for a, b in pairs]
    body = [line(labels[of["row"]], labels[of["beside"]], *_told(of)) for of in lines]
    return Table(
        name=name or slug(f"flows {exhibit.key}"),
        caption=f"Flows of information at the end of training, {measured_at(scale)}; means over seeds. "
        "Matched: whom each layer is nearest to, the last by the last; D: the sum of squared differences to them.",
        head=[line(*HEAD)],
        body=body or [line(NOT_YET, *["–"] * (len(HEAD) - 1))],
        frame=pd.DataFrame(lines) if lines else None,
        of_demo=scale == "demo",
    )


def _of_row(exhibit: Exhibit, row: str, scale: str, store: Store) -> dict[int, dict[str, Flow]]:
    """Seed -> kind -> the flow at its end, of the runs whose flow is known."""
    flows = {record.seed: _at_end(record, store) for _, record in runs_of(exhibit.cells(scale, None, [row]), store)}
    return {seed: flow for seed, flow in flows.items() if flow}


def _at_end(record: Record, store: Store) -> dict[str, Flow]:
    """From its metrics, or from the last epoch at which it was followed; empty where neither is there."""
    if all(f"{kind}_{LAYERS[-1]}" in record.metrics for kind, _, _ in KINDS):
        return {kind: [record.metrics[f"{kind}_{layer}"] for layer in LAYERS] for kind, _, _ in KINDS}
    if "flow_course_epochs" not in store.array_names(record.fingerprint, record.seed):
        return {}
    arrays = store.arrays(record)
    return {kind: [float(arrays[f"course_{kind}_{layer}"][-1]) for layer in LAYERS] for kind, _, _ in KINDS}


def _beside(student: dict[int, dict[str, Flow]], other: dict[int, dict[str, Flow]]) -> dict[str, Any]:
    """Means over the seeds of the student, each beside its own seed's other flow, or the one that there is."""
    found: dict[str, Any] = {"seeds": len(student)}
    for kind, _, _ in KINDS:
        pairs = [(flow[kind], other.get(seed, next(iter(other.values())))[kind]) for seed, flow in student.items()]
        own, its = ([mean(layer) for layer in zip(*side, strict=True)] for side in zip(*pairs, strict=True))
        found |= {f"{kind}_{layer}": value for layer, value in zip(LAYERS, own, strict=True)}
        found[f"{kind}_matched"] = " ".join(str(1 + match) for match in matched_layers(own, its))
        found[f"{kind}_divergence"] = mean(flow_divergence(*pair) for pair in pairs)
    return found


def _told(of: dict[str, Any]) -> list[str]:
    texts = []
    for kind, _, decimals in KINDS:
        flow = ", ".join(f"{of[f'{kind}_{layer}']:.{decimals}f}" for layer in LAYERS)
        texts += [flow, str(of[f"{kind}_matched"]), f"{of[f'{kind}_divergence']:.2g}"]
    return texts
