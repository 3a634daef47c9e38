"""Longer training: do gains last, and is a method that costs more worth more than KD trained for as long?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from kdnb import exhibits
from kdnb.exhibits import Exhibit
from kdnb.exhibits.runs import SCALES
from kdnb.study.statistics import Difference, Layout
from kdnb.study.store import Store
from kdnb.tables.ranking import DEAR, KD, PLAIN, Ranked, frame_of, gain_told, measured_rows
from kdnb.tables.sheet import Said, Table, line
from kdnb.tables.words import NOT_YET, measured_at, spread, title

#: Row -> its gain over another row.
Gains = Mapping[str, Difference]


def lasting(exhibit: Exhibit | str, profile: str = "demo", *, name: str = "lasting") -> Table | Said:
    """What every row of longer trainings scores, and gains over the plain student and KD that trained for as long.

    At the largest scale that has such gains; intervals hold together over a column.
    """
    exhibit, store = exhibits.get(exhibit), Store.open()
    for scale in dict.fromkeys([*SCALES, profile]):
        dataset = exhibit.datasets_of(scale)[0]
        rows = [row for row in measured_rows(exhibit.cells(scale, dataset), store) if row.records]
        over = {reference: gains_at_equal_length(rows, reference) for reference in (PLAIN, KD)}
        if over[PLAIN]:
            return _lasting(exhibit, rows, over, f"{measured_at(scale)}, {title(dataset)}", name)
    return Said(f"**{exhibit.title}** {NOT_YET[:1].upper()}{NOT_YET[1:]}.")


def gains_at_equal_length(rows: Sequence[Ranked], method: str) -> Gains:
    """Each row's gain over the row of a method that trained for as many epochs, all together."""
    of_length = {row.cell.row.schedule: row.key for row in rows if row.cell.row.method == method}
    pairs = [
        (row.key, of_length[row.cell.row.schedule])
        for row in rows
        if row.cell.row.method not in (PLAIN, method) and row.cell.row.schedule in of_length
    ]
    return {d.a: d for d in Layout(frame_of(rows)).differences(pairs) if d.n} if pairs else {}


def _lasting(exhibit: Exhibit, rows: Sequence[Ranked], over: Mapping[str, Gains], where: str, name: str) -> Table:
    body, numbers = [], []
    for row in rows:
        gains = [over[reference].get(row.key) for reference in (PLAIN, KD)]
        epochs = f"{row.mean('epochs'):.0f}"
        body.append(line(row.label, epochs, spread(row.values, row.cell.score), *map(gain_told, gains)))
        numbers += [_numbers(row, gain) for gain in gains if gain is not None]
    return Table(
        name=name,
        caption=f"{exhibit.title} {where[:1].upper()}{where[1:]}. Percent, mean ± standard deviation (runs); gains in "
        "points over rows that trained for as many epochs, with 95 % intervals that hold together over a column.",
        head=[line("Method", "Epochs", "Accuracy", "Over plain", "Over KD")],
        body=body,
        frame=pd.DataFrame(numbers),
    )


def beside_longer(
    board: Exhibit | str, longer: Exhibit | str, profile: str = "demo", *, name: str = "dear"
) -> Table | Said:
    """The rows of a table of methods that cost more than KD, beside KD that trained for at least as long.

    At the largest scale that has runs of both.
    """
    board, longer, store = exhibits.get(board), exhibits.get(longer), Store.open()
    for scale in dict.fromkeys([*SCALES, profile]):
        dataset = board.datasets_of(scale)[0]
        rows = [row for row in measured_rows(board.cells(scale, dataset), store) if row.records]
        trained = [row for row in measured_rows(longer.cells(scale, dataset), store) if row.records]
        of_kd = sorted((row for row in trained if row.cell.row.method == KD), key=_cost)
        beside = {row.key: other for row in rows if row.dear and (other := _as_long(row, of_kd)) is not None}
        if beside:
            dear = sorted((row for row in rows if row.key in beside), key=_cost)
            return _beside(dear, beside, of_kd, f"{measured_at(scale)}, {title(dataset)}", name)
    return Said(f"**What costs more than KD, beside KD that trained longer:** {NOT_YET}.")


def _cost(row: Ranked) -> float:
    return row.cost or 0.0


def _as_long(row: Ranked, of_kd: Sequence[Ranked]) -> Ranked | None:
    """The first KD that cost at least as much as a row, of those by their cost; None where none trained so long."""
    return next((other for other in of_kd if _cost(other) >= _cost(row)), None)


def _beside(
    dear: Sequence[Ranked], beside: Mapping[str, Ranked], of_kd: Sequence[Ranked], where: str, name: str
) -> Table:
    pairs = [(row.key, other.key) for row in dear for other in (of_kd[0], beside[row.key])]
    found = Layout(frame_of([*dear, *of_kd])).differences(pairs)
    body, numbers = [], []
    for row, over, less in zip(dear, found[::2], found[1::2], strict=True):
        longer = beside[row.key]
        texts = (f"{_cost(row):.2f}", gain_told(over), f"{_cost(longer):.0f}", gain_told(less), _says(over, less))
        body.append(line(row.label, *texts))
        numbers += [_numbers(row, over), _numbers(row, less)]
    return Table(
        name=name,
        caption=f"What costs more than {DEAR} times KD, beside KD that trained longer, {where}. Gains in points, with "
        "95 % intervals that hold together over the table.",
        head=[line("Method", "Cost, × KD", "Over KD", "Longer KD, ×", "Over longer KD", "So far")],
        body=body,
        frame=pd.DataFrame(numbers),
        note="The longer KD is the first that cost at least as much. The gain at equal cost lies between the two.",
    )


def _says(over: Difference, less: Difference) -> str:
    """What two gains say of a method at the cost between them."""
    if less.known and less.low > 0:
        return "worth its cost"
    if over.known and over.high < 0:
        return "worse than KD at a lower cost"
    if less.known and less.high < 0:
        return "KD trained longer is better"
    return "cannot tell"


def _numbers(row: Ranked, gain: Difference) -> dict[str, object]:
    told = {"row": row.key, "label": row.label, "epochs": row.mean("epochs"), "cost_in_kd": row.cost}
    return told | {"than": gain.b, "gain": gain.value, "low": gain.low, "high": gain.high, "seeds": gain.n}
