"""What training costs, in epochs of KD: a stage's step as `kdnb bench --methods` measured it, times the epochs it took.

The seconds in a record do not tell it: runs of a cohort step side by side, and each is told an equal share.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import pandas as pd

from kdnb import exhibits, methods, paths
from kdnb.errors import KdnbError
from kdnb.exhibits.exhibit import Cell, Exhibit, Networks
from kdnb.exhibits.names import pair_title
from kdnb.exhibits.runs import first_steps, records_of, steps_before
from kdnb.kinds import parsed
from kdnb.methods.registry import Method
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


@dataclass(frozen=True)
class Step:
    """A stage's step: how long it takes beside KD's, in the median of the rounds of a bench, in its fastest and in its
    slowest; the memory that it takes in GiB, and what it trains beside a student.  None where it is not told.
    """

    ratio: float
    low: float | None = None
    high: float | None = None
    peak_gib: float | None = None
    extra_parameters: int | None = None


@dataclass(frozen=True)
class Steps:
    """The steps of one measurement by method and stage, the networks that it was made with, teacher and student, and
    the table whose settings methods had: `leaderboard/first at pilot scale`; their defaults where that is empty.
    """

    found: Mapping[tuple[str, str], Step] = field(default_factory=dict)
    networks: Networks = ("", "")
    table: str = ""

    @property
    def methods(self) -> set[str]:
        return {method for method, _ in self.found}

    @property
    def told(self) -> str:
        """`ResNet56 → ResNet20, each method with its defaults`, for a sentence; empty where nothing was measured."""
        if not self.found:
            return ""
        where = table_told(self.table)
        settings = f"each method with its settings in {where}" if where else "each method with its defaults"
        return f"{pair_title(*self.networks)}, {settings}" if all(self.networks) else settings

    def needs(self, method: str) -> tuple[float | None, int | None]:
        """The memory of a method's heaviest stage in GiB, and the most parameters that a stage of it trains beside a
        student; None where they were not measured.

        A method with KD has the first steps of the method by itself, and any has its steps of the teacher alone.
        """
        own = {stage: step for (name, stage), step in self.found.items() if name == method}
        if not own:
            return None, None
        alone = _of(method)
        stages = [*own.values(), *(self.found[name, STEP] for name in alone.after if (name, STEP) in self.found)]
        stages += [step for (name, stage), step in self.found.items() if name == alone.name and stage not in own]
        peaks = [step.peak_gib for step in stages if step.peak_gib is not None]
        extra = [step.extra_parameters for step in stages if step.extra_parameters is not None]
        return max(peaks, default=None), max(extra, default=None)


def table_told(table: str) -> str:
    """What a bench calls `srm/table1 at pilot scale`, as a page has it: `SRM, Table 1, at pilot scale`."""
    key, _, scale = table.partition(" at ")
    if not table:
        return ""
    exhibit = exhibits.get(key)
    return f"{exhibits.paper(exhibit.paper).heading}, {exhibit.called}, at {scale}"


@dataclass(frozen=True)
class Cost:
    """What a training costs in epochs of KD: by the median of the rounds in which steps were timed, and by the fastest
    and the slowest round of each, None where they are not told.
    """

    epochs: float
    low: float | None = None
    high: float | None = None


def steps_for(cells: Iterable[Cell]) -> Steps:
    """The steps by which the costs of these cells, which one table compares, are counted; none where none were timed.

    One measurement serves them all: numbers of two are not compared.  It is the one that knows most of their methods;
    of several that know as many one with their networks, and of those the table's own before one of no table.
    """
    cells = [cell for cell in cells if cell.experiment is not None]
    wanted = {name for cell in cells if cell.experiment for name in with_steps(cell.experiment.method)}
    tables = {f"{cell.exhibit} at {cell.profile.name} scale" for cell in cells}

    def worth(steps: Steps) -> tuple[int, int, bool, bool]:
        known = len(wanted & steps.methods)
        return known, _alike(steps.networks, cells), steps.table in tables, not steps.table

    return max(_measurements(), key=worth, default=Steps())


def networks_of(cells: Iterable[Cell]) -> Networks | None:
    """Teacher and student in most of these cells; None where nobody is taught, but by a network of its own kind."""
    of = [cell.experiment for cell in cells if cell.experiment is not None]
    taught = [(e.teacher.network, e.network) for e in of if e.teacher and not _of(e.method).teacher_alike]
    found = Counter((teacher, student) for teacher, student in taught if teacher and student)
    return found.most_common(1)[0][0] if found else None


def _alike(networks: Networks, cells: Sequence[Cell]) -> int:
    """How far networks are those of cells: 2, and 1 where the cells do not tell who teaches and have that student."""
    own = networks_of(cells)
    if own is not None:
        return 2 * (networks == own)
    return int(networks[1] in {cell.experiment.network for cell in cells if cell.experiment})


def _measurements() -> Iterator[Steps]:
    """The steps of every measurement; a method whose step is another's has that one's, measured itself or not: two
    numbers for one step would be noise told as a difference.
    """
    same = {name: entry.step_of for name, entry in methods.catalogue().items() if entry.step_of}
    for _, content in bench_files():
        if "methods" in content:
            found = {(line["method"], line["stage"]): _step(line) for line in content["methods"]}
            own = {key: step for key, step in found.items() if key[0] not in same}
            again = {(name, stage): s for name, of in same.items() for (known, stage), s in own.items() if known == of}
            teacher, _, student = str(content.get("networks", "")).partition(" -> ")
            yield Steps({**own, **again}, (teacher, student), str(content.get("table", "")))


def _step(line: Mapping[str, Any]) -> Step:
    numbers = (line.get(name) for name in ("lowest", "highest", "peak_gib", "extra_parameters"))
    return Step(line["ratio_to_kd"], *numbers)


def _of(method: str) -> Method:
    """The method itself, with KD or without; an unknown one, of an old measurement, is one without steps."""
    base = method.partition("+")[0]
    return methods.catalogue().get(base) or Method(base, revision=0)


def with_steps(method: str) -> list[str]:
    """The methods whose steps a method has: those of the teacher alone, those of the method without KD, its own."""
    entry = _of(method)
    return [*entry.after, *([entry.name] if entry.shared else []), method]


def epochs_of_kd(cell: Cell, found: Sequence[Record], store: Store, steps: Steps) -> Cost | None:
    """What a student's training costs, in epochs of KD, its first steps and its teacher's steps alone (a paraphraser's,
    dictionaries') included; None where one of them was not measured.

    A teacher's training is another thing: it is larger, sees other images, and is no student's cost.
    """
    assert cell.experiment is not None
    if cell.row.role == "teacher":
        return None
    method, first = cell.experiment.method, first_step_epochs(cell, store)
    own = [step for (name, stage), step in steps.found.items() if name == method and stage not in first]
    parts = [(steps.found.get((_of(method).name, stage)), epochs) for stage, epochs in first.items()]
    parts += [(steps.found.get((name, STEP)), epochs) for name, epochs in _epochs(steps_before(cell, store)).items()]
    parts.append((own[-1] if own else None, _mean_epochs(found)))
    return _sum([(step, epochs) for step, epochs in parts if step is not None and not math.isnan(epochs)], len(parts))


def _sum(parts: Sequence[tuple[Step, float]], count: int) -> Cost | None:
    """Steps times epochs, all of so many; half a cost is none."""
    if len(parts) < count:
        return None
    low = [step.low * epochs for step, epochs in parts if step.low is not None]
    high = [step.high * epochs for step, epochs in parts if step.high is not None]
    return Cost(
        sum(step.ratio * epochs for step, epochs in parts),
        sum(low) if len(low) == count else None,
        sum(high) if len(high) == count else None,
    )


def first_step_epochs(cell: Cell, store: Store) -> dict[str, float]:
    """Mean epochs of the first steps that a run starts from, by stage; NaN where a step has no record.

    Every run that names them counts them.
    """
    return _epochs(first_steps(cell, store))


def epochs_before(cell: Cell, store: Store) -> float:
    """Mean epochs of all that a student's last stage starts from: first steps, and steps of the teacher alone; NaN
    where there is none, or one has no record.
    """
    found = [*first_step_epochs(cell, store).values(), *_epochs(steps_before(cell, store)).values()]
    return sum(found) if found else math.nan


def _epochs(before: Mapping[str, Sequence[Record]]) -> dict[str, float]:
    return {name: _mean_epochs(records) if records else math.nan for name, records in before.items()}


def _mean_epochs(records: Sequence[Record]) -> float:
    return mean(record.metrics["epochs"] for record in records)


def scores_and_costs(
    exhibit: Exhibit, frame: pd.DataFrame, store: Store
) -> tuple[pd.DataFrame, dict[tuple[str, str, str], Steps]]:
    """Mean score of every cell with runs in a frame, and what its training costs, NaN where no step was measured; and
    by which steps: profile, data set and pair -> steps.
    """
    keys = ["profile", "dataset", "score", "pair", "line", "row"]
    means = frame.groupby(keys, sort=False)["value"].mean().reset_index()
    cells: dict[tuple[str, str, str], list[Cell]] = {}
    for profile, dataset, score, pair, _, row in means[keys].itertuples(index=False):
        (cell,) = (cell for cell in exhibit.cells(profile, dataset, [row]) if cell.score.key == score)
        cells.setdefault((profile, dataset, pair), []).append(cell)
    steps = {place: steps_for(of) for place, of in cells.items()}
    costs = {}
    for place, of in cells.items():
        for cell in of:
            cost = epochs_of_kd(cell, records_of(cell, store), store, steps[place])
            costs[*place[:2], cell.score.key, cell.key] = math.nan if cost is None else cost.epochs
    told = [costs[key] for key in means[["profile", "dataset", "score", "row"]].itertuples(index=False, name=None)]
    return means.assign(epochs_of_kd=pd.Series(told, dtype=float)), steps


def timed_with(steps: Mapping[tuple[str, str, str], Steps]) -> str:
    """With which networks and settings the steps of these places (profile, data set, pair) were timed, a sentence;
    begins with a blank, or is empty.
    """
    scales: dict[str, list[str]] = {}
    for (profile, _, _), of in steps.items():
        scales.setdefault(of.told, []).append(profile)
    scales.pop("", None)
    if len(scales) < 2:
        return "".join(f" Steps were timed with {told}." for told in scales)
    each = (f"{told} ({', '.join(dict.fromkeys(at))})" for told, at in scales.items())
    return f" Steps were timed with {'; '.join(each)}."
