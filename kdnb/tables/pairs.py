"""Tables with a column for every pair of networks: what the paper prints, and what was measured at which scale."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from kdnb import exhibits, page
from kdnb.exhibits import Cell, Exhibit, Pair, Row
from kdnb.exhibits.names import pair_title
from kdnb.study.store import Store
from kdnb.tables.results import NOT_YET, OF_A_DEMO, TITLES, measured, runs_label, slug, spread, summary_line, title
from kdnb.tables.sheet import Entry, Line, Table

#: A line below the others: what one line gains over another, run by run of the same seed.
Gain = tuple[str, str]

#: So many pairs without relatives are named below a table; more are counted.
MOST_NAMED = 5


@dataclass(frozen=True)
class _Block:
    """One scale of an exhibit: its cells by line and pair, and every run behind them."""

    exhibit: Exhibit
    profile: str
    dataset: str
    pairs: tuple[Pair, ...]
    cells: dict[tuple[str, str], Cell]
    frame: pd.DataFrame

    def values(self, line: str, pair: Pair) -> pd.Series:
        """The runs of a cell by seed, in percent."""
        runs = self.frame[self.frame["row"] == f"{pair.key}/{line}"]
        return runs.set_index("seed")["value"]

    def cell(self, line: str, pair: Pair) -> Cell | None:
        return self.cells.get((line, pair.key))


def pairs(
    exhibit: Exhibit | str,
    profile: str = "demo",
    *,
    lines: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    gain: Gain | None = ("slkd", "kd"),
    name: str = "",
    store: Store | None = None,
) -> list[Table]:
    """The exhibit as the paper prints it, then as it was measured: a table for every scale that has runs.

    At paper scale the printed number stands beside the measured one.  Under smaller profiles relatives stand for the
    paper's networks, and a pair without some has no column.  `lines` and `only` (keys of pairs) choose a part; `gain`
    adds the difference of two lines, paired by seed, where both are shown.
    """
    exhibit = exhibits.get(exhibit) if isinstance(exhibit, str) else exhibit
    rows = [r for r in exhibit.rows if lines is None or r.line in lines]
    rows = [r for r in rows if only is None or (r.pair is not None and r.pair.key in only)]
    frame = measured(exhibit, rows, store or Store.open(), profile)
    name = name or slug(exhibit.key)
    keys = list(dict.fromkeys(r.line for r in rows))
    gain = gain if gain and {*gain} <= {*keys} else None
    tables = []
    if _prints_scores(exhibit, rows) or (frame["profile"] == "paper").any():
        tables.append(_at_paper_scale(exhibit, rows, keys, gain, frame, name))
    for scale in (s for s in TITLES if s != "paper"):
        if scale == profile or (scale != "demo" and (frame["profile"] == scale).any()):
            blocks = [_block(exhibit, rows, scale, dataset, frame) for dataset in exhibit.datasets_of(scale)]
            tables += [_of_relatives(block, keys, gain, name) for block in blocks if block.pairs]
    return tables


def _prints_scores(exhibit: Exhibit, rows: Sequence[Row]) -> bool:
    """Whether a table of the paper stands behind the rows: not behind a figure, or an ablation of our own.

    A table on images that are not among the prepared ones counts, though its numbers may not be at hand.
    """
    cells = (cell for dataset in exhibit.datasets_of("paper") for cell in exhibit.cells("paper", dataset, list(rows)))
    return any(cell.reported is not None or cell.experiment is None for cell in cells)


def _block(exhibit: Exhibit, rows: Sequence[Row], profile: str, dataset: str, frame: pd.DataFrame) -> _Block:
    cells = {(c.row.line, c.row.pair.key): c for c in exhibit.cells(profile, dataset, list(rows)) if c.row.pair}
    able = {key for (_, key), cell in cells.items() if cell.experiment is not None}
    shown = tuple(p for p in dict.fromkeys(r.pair for r in rows if r.pair) if profile == "paper" or p.key in able)
    part = frame[(frame["profile"] == profile) & (frame["dataset"] == dataset)]
    return _Block(exhibit, profile, dataset, shown, cells, part)


# -- the paper's own networks ------------------------------------------------------------------------------


def _at_paper_scale(
    exhibit: Exhibit, rows: Sequence[Row], keys: Sequence[str], gain: Gain | None, frame: pd.DataFrame, name: str
) -> Table:
    """Printed numbers, and beside them measured ones for the pairs that have any."""
    (dataset,) = exhibit.datasets_of("paper")
    block = _block(exhibit, rows, "paper", dataset, frame)
    there = {p.key for p in block.pairs if any(len(block.values(k, p)) for k in keys)}
    deep = 1 + bool(there)
    head: list[Line] = [[Entry("Method", rows=deep), *(_column(pair, deep, pair.key in there) for pair in block.pairs)]]
    if there:
        head.append([Entry(text) for pair in block.pairs if pair.key in there for text in ("paper", "measured")])
    body: list[Line] = []
    for key in keys:
        entries = [_label(exhibit, rows, key)]
        for pair in block.pairs:
            entries.append(Entry(_printed(block.cell(key, pair))))
            if pair.key in there:
                entries.append(_measured(block, key, pair))
        body.append(entries)
    if gain:
        body.append(_gain_line(block, gain, rows, printed=True, beside=there))
    note = "" if there else f"{TITLES['paper']}: {NOT_YET}."
    if all(cell.experiment is None for cell in block.cells.values()):
        note = f"{TITLES['paper']}: {NOT_YET}; {next(iter(block.cells.values())).why_not}."
    where = "" if title(dataset) in exhibit.title else f", {title(dataset)}"
    caption = f"{exhibit.title}{where}; percent" + (", mean ± standard deviation (runs)." if there else ".")
    return Table(name, caption, head, body, _summary(block, keys), note, "kdnb-results kdnb-pairs")


def _heading(pair: str) -> str:
    """A pair as a heading, which breaks after its arrow and nowhere else."""
    return pair.replace(" →", "\N{NO-BREAK SPACE}→")


def _column(pair: Pair, deep: int, measured_too: bool) -> Entry:
    return Entry(_heading(pair.title), columns=2) if measured_too else Entry(_heading(pair.title), rows=deep)


# -- relatives ---------------------------------------------------------------------------------------------


def _of_relatives(block: _Block, keys: Sequence[str], gain: Gain | None, name: str) -> Table:
    """What was measured under one of the smaller profiles, by the paper's pair and who stands for it."""
    rows = [cell.row for cell in block.cells.values()]
    caption = f"{TITLES[block.profile]}, {title(block.dataset)}; percent, mean ± standard deviation (runs)."
    name = slug(f"{name} {block.profile}")
    head: list[Line] = [[Entry("The paper's pair"), *(Entry(_heading(pair.title)) for pair in block.pairs)]]
    if block.profile != "short":
        head.append([Entry("stood for here by"), *(Entry(_heading(_relatives(block, pair))) for pair in block.pairs)])
    body: list[Line] = [
        [_label(block.exhibit, rows, key), *(_measured(block, key, pair) for pair in block.pairs)] for key in keys
    ]
    if gain:
        body.append(_gain_line(block, gain, rows))
    return Table(name, caption, head, body, _summary(block, keys), _note(block, rows), "kdnb-results kdnb-pairs")


def _relatives(block: _Block, pair: Pair) -> str:
    from kdnb.study.profile import get_profile

    networks = pair.networks(get_profile(block.profile))
    return pair_title(*networks) if networks else "–"


def _note(block: _Block, rows: Sequence[Row]) -> str:
    every = list(dict.fromkeys(row.pair for row in rows if row.pair))
    without = [pair.title for pair in every if pair not in block.pairs]
    said = []
    if without:
        names = f": {', '.join(without)}" if len(without) <= MOST_NAMED else ""
        said.append(f"{len(without)} of {len(every)} pairs have no relatives at this scale{names}.")
    if block.profile == "demo":
        said.append(OF_A_DEMO)
    return " ".join(said)


# -- entries -----------------------------------------------------------------------------------------------


def _label(exhibit: Exhibit, rows: Sequence[Row], key: str) -> Entry:
    label = next(row.label for row in rows if row.line == key)
    return Entry(label, page=page.of_row(exhibit.paper, key))


def _printed(cell: Cell | None) -> str:
    return "–" if cell is None or cell.reported is None else f"{cell.reported:.2f}"


def _measured(block: _Block, key: str, pair: Pair) -> Entry:
    values, cell = block.values(key, pair), block.cell(key, pair)
    if cell is None or cell.experiment is None:
        return Entry("–")
    if values.empty:
        return Entry("not yet")
    linked = page.exists(block.exhibit.paper, "runs")
    target = runs_label(block.exhibit, block.profile, block.dataset, cell.row.key) if linked else ""
    return Entry(spread(values), target=target)


def _gain_line(
    block: _Block,
    gain: Gain,
    rows: Sequence[Row],
    printed: bool = False,
    beside: Collection[str] = (),
) -> list[Entry]:
    """`SLKD − KD`: the printed difference, and the measured one between runs of the same seed."""
    better, base = gain
    labels = [next(row.label for row in rows if row.line == key) for key in gain]
    entries = [Entry(f"{labels[0]} − {labels[1]}")]
    for pair in block.pairs:
        if printed:
            cells = [block.cell(key, pair) for key in gain]
            numbers = [c.reported for c in cells if c is not None and c.reported is not None]
            entries.append(Entry(f"{numbers[0] - numbers[1]:+.2f}" if len(numbers) == 2 else "–"))
        if not printed or pair.key in beside:
            difference = (block.values(better, pair) - block.values(base, pair)).dropna()
            entries.append(Entry(_signed(difference) if len(difference) else "–"))
    return entries


def _signed(values: pd.Series) -> str:
    text = spread(values)
    return text if text.startswith("-") else f"+{text}"


def _summary(block: _Block, keys: Sequence[str]) -> pd.DataFrame:
    """The table in long form: one line a cell, with the paper's pair and the networks that were trained."""
    lines = []
    for pair in block.pairs:
        for key in keys:
            cell = block.cell(key, pair)
            if cell is not None:
                networks = _relatives(block, pair)
                lines.append({"pair": pair.title, "trained": networks, **summary_line(cell, block.frame)})
    return pd.DataFrame(lines)
