"""What training costs, in epochs of KD: a stage's step as `kdnb bench --methods` measured it, times the epochs it took.

The seconds in a record do not tell it: runs of a cohort step side by side, and each is told an equal share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import pandas as pd

from kdnb import methods, paths
from kdnb.errors import KdnbError
from kdnb.exhibits.exhibit import Cell, Exhibit
from kdnb.exhibits.runs import first_steps, records_of, steps_before
from kdnb.kinds import parsed
from kdnb.study.record import Record
from kdnb.study.store import Store

#: What the only stage of a step of the teacher alone is called.
STEP = "train"


def bench_files() -> list[tuple[str, dict[str, Any]]]:
    """Name and content of every committed measurement; a file that is not one is an error that names it."""
    found = []
    for path in sorted((paths.committed_results() / "bench").glob("*.json")):
        try:
            content = parsed(path.read_bytes())
        except ValueError as error:
            raise KdnbError(f"{path} is not a measurement of `kdnb bench --out` ({error}).") from error
        found.append((path.stem, content))
    return found


def step_costs() -> dict[tuple[str, str], float]:
    """(method, stage) -> what a step costs beside KD's, from the first measurement that there is."""
    return {(step["method"], step["stage"]): step["ratio_to_kd"] for step in _steps()}


def step_needs() -> dict[str, tuple[float | None, int]]:
    """Method -> the memory of its heaviest stage in GiB, None where it was not measured, and its extra parameters.

    A method with KD has the first steps of the method by itself.
    """
    stages: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in _steps():
        stages.setdefault(entry["method"], {})[entry["stage"]] = entry
    found = {}
    for method, own in stages.items():
        of_all = {**stages.get(method.partition("+")[0], {}), **own}.values()
        peaks = [entry["peak_gib"] for entry in of_all if entry["peak_gib"] is not None]
        found[method] = max(peaks, default=None), max(0, *(entry["extra_parameters"] for entry in of_all))
    return found


def _steps() -> list[dict[str, Any]]:
    """Every step of the first measurement; a method whose step is another's has that one's, measured itself or not:
    two numbers for one step would be noise told as a difference.
    """
    lines: list[dict[str, Any]] = next((content["methods"] for _, content in bench_files() if "methods" in content), [])
    same = {name: entry.step_of for name, entry in methods.catalogue().items() if entry.step_of}
    own = [step for step in lines if step["method"] not in same]
    return own + [{**step, "method": name} for name, of in same.items() for step in own if step["method"] == of]


def step_networks() -> str:
    """The networks with which the steps were measured: `resnet56 -> resnet20`; empty where they were not."""
    return next((str(content.get("networks", "")) for _, content in bench_files() if "methods" in content), "")


def epochs_of_kd(
    cell: Cell, found: Sequence[Record], store: Store, steps: Mapping[tuple[str, str], float]
) -> float | None:
    """What a student's training costs, in epochs of KD, its first steps and its teacher's steps alone (a paraphraser's,
    dictionaries') included; None where one of them was not measured.

    A teacher's training is another thing: it is larger, sees other images, and is no student's cost.
    """
    assert cell.experiment is not None
    if cell.row.role == "teacher":
        return None
    method, first = cell.experiment.method, first_step_epochs(cell, store)
    own = [ratio for (name, stage), ratio in steps.items() if name == method and stage not in first]
    before = [(steps.get((method.partition("+")[0], stage)), epochs) for stage, epochs in first.items()]
    before += [(steps.get((name, STEP)), epochs) for name, epochs in _epochs(steps_before(cell, store)).items()]
    if not own or any(ratio is None or math.isnan(epochs) for ratio, epochs in before):
        return None
    return sum(ratio * epochs for ratio, epochs in before if ratio is not None) + own[-1] * _mean_epochs(found)


def first_step_epochs(cell: Cell, store: Store) -> dict[str, float]:
    """Mean epochs of the first steps that a run starts from, by stage; NaN where a step has no record.

    Every run that names them counts them.
    """
    return _epochs(first_steps(cell, store))


def _epochs(before: Mapping[str, Sequence[Record]]) -> dict[str, float]:
    return {name: _mean_epochs(records) if records else math.nan for name, records in before.items()}


def _mean_epochs(records: Sequence[Record]) -> float:
    return mean(record.metrics["epochs"] for record in records)


def scores_and_costs(exhibit: Exhibit, frame: pd.DataFrame, store: Store) -> pd.DataFrame:
    """Mean score of every cell with runs in a frame, and what its training costs; NaN where no step was measured."""
    steps, keys = step_costs(), ["profile", "dataset", "score", "pair", "line", "row"]
    means = frame.groupby(keys, sort=False)["value"].mean().reset_index()
    costs = []
    for profile, dataset, score, row in means[["profile", "dataset", "score", "row"]].itertuples(index=False):
        (cell,) = (cell for cell in exhibit.cells(profile, dataset, [row]) if cell.score.key == score)
        costs.append(epochs_of_kd(cell, records_of(cell, store), store, steps))
    return means.assign(epochs_of_kd=pd.Series(costs, dtype=float))
