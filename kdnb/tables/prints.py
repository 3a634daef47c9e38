"""Cells that several papers print: the same networks, images and method, and how far their numbers are apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from kdnb import exhibits
from kdnb.exhibits import ACCURACY, ERROR, Cell
from kdnb.exhibits.claims.places import printed
from kdnb.exhibits.claims.predicates import Better
from kdnb.exhibits.names import network_title, pair_title
from kdnb.tables.sheet import Line, Table, line
from kdnb.tables.words import title

#: The roles of a network that learned without a teacher.
ALONE = ("teacher", "baseline")


@dataclass(frozen=True)
class _What:
    """What a number is of, whoever prints it: a network alone has no teacher, and its row is `plain`."""

    dataset: str
    teacher: str
    student: str
    row: str


@dataclass(frozen=True)
class _Number:
    """An accuracy in percent as a paper prints it, or what its error leaves of 100."""

    paper: str
    exhibit: str
    label: str
    value: float


def printed_twice(*, name: str = "printed-twice") -> Table:
    """What two or more papers print, each paper's numbers, and how far the lowest and the highest are apart."""
    found: dict[_What, list[_Number]] = {}
    for what, number in _numbers():
        found.setdefault(what, []).append(number)
    shared = {what: numbers for what, numbers in found.items() if len({n.paper for n in numbers}) > 1}
    papers = [p for p in exhibits.papers() if any(n.paper == p.key for numbers in shared.values() for n in numbers)]
    body: list[Line] = []
    lines = []
    for what, numbers in shared.items():
        values = [number.value for number in numbers]
        apart = max(values) - min(values)
        of = [", ".join(dict.fromkeys(f"{n.value:.2f}" for n in numbers if n.paper == p.key)) or "–" for p in papers]
        networks = pair_title(what.teacher, what.student) if what.teacher else f"{network_title(what.student)} alone"
        label = min((number.label for number in numbers), key=len) if what.teacher else "–"
        body.append(line(f"{title(what.dataset)}, {networks}", label, *of, f"{apart:.2f}"))
        for n in numbers:
            place = {"dataset": what.dataset, "teacher": what.teacher, "student": what.student, "row": what.row}
            lines.append({**place, "paper": n.paper, "exhibit": n.exhibit, "reported": n.value, "apart": apart})
    frame = pd.DataFrame(lines)
    once = frame.drop_duplicates(["dataset", "teacher", "student", "row"])["apart"]
    return Table(
        name=name,
        caption="What several papers print: accuracy in percent, of the same networks on the same images.",
        head=[line("Where", "Method", *(paper.heading for paper in papers), "Apart")],
        body=body,
        frame=frame,
        note=_note(once),
        css="kdnb-results",
    )


def _note(apart: pd.Series) -> str:
    """Of cells whose numbers differ: equal ones are likely to be one number, taken over."""
    own = apart[apart > 0]
    median, largest, gaps = own.median(), own.max(), _gaps()
    copies = len(apart) - len(own)
    equal = f" Equal numbers, which may be copies, are not counted: {copies}." if copies else ""
    below = [sum(gap < apart for gap in gaps) for apart in (median, largest)]
    return (
        f"An error is shown as what it leaves of 100. Half are {median:.2f} points apart or more, the widest "
        f"{largest:.2f}.{equal} The claims of the papers rest on {len(gaps)} printed differences of accuracy or "
        f"error: {below[0]} are smaller than {median:.2f}, and {below[1]} smaller than {largest:.2f}."
    )


def _numbers() -> Iterator[tuple[_What, _Number]]:
    """Every accuracy and error that the papers print of known networks; one that stands in two tables is one."""
    seen = set()
    for paper in exhibits.papers():
        for exhibit in paper.exhibits:
            for cell in exhibit.cells("paper"):
                networks = _networks(cell)
                if cell.reported is None or networks is None or cell.score.key not in (ACCURACY.key, ERROR.key):
                    continue
                value = cell.reported if cell.score.higher_is_better else round(100 - cell.reported, 2)
                row = "plain" if cell.row.role in ALONE else cell.row.key
                what = _What(cell.dataset, *networks, row)
                if (paper.key, what, value) not in seen:
                    seen.add((paper.key, what, value))
                    yield what, _Number(paper.key, exhibit.name, cell.row.label, value)


def _networks(cell: Cell) -> tuple[str, str] | None:
    """Teacher and student of a cell, without a teacher where a network learned alone; None where neither is known."""
    pair, experiment = cell.column.pair, cell.experiment
    if pair is not None:
        alone = {"teacher": pair.teacher, "baseline": pair.student}
        return ("", alone[cell.row.role]) if cell.row.role in alone else (pair.teacher, pair.student)
    if experiment is None or experiment.network is None:
        return None
    return experiment.teacher.network or "" if experiment.teacher else "", experiment.network


def _gaps() -> list[float]:
    """The printed differences of accuracy or error that claims rest on, each once."""
    found: dict[tuple[str, str, frozenset[str]], float] = {}
    for paper in exhibits.papers():
        known = printed(paper) if paper.claims else {}
        for claim in paper.claims:
            for leaf in claim.predicate.leaves() if claim.predicate else ():
                both = [known.get((leaf.place, row)) for row in leaf.sides()]
                if isinstance(leaf, Better) and leaf.score in (ACCURACY, ERROR) and None not in both:
                    a, b = (value for value in both if value is not None)
                    found[paper.key, leaf.place, frozenset(leaf.rows())] = abs(round(a - b, 4))
    return list(found.values())
