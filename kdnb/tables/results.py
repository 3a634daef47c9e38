"""The papers' tables, regenerated: what the paper prints beside what was measured at which scale.

A table of few columns has its scales side by side (`results`); one of many, such as pairs of networks, is a table for
every scale (`pairs`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from kdnb import exhibits, page
from kdnb.exhibits import Cell, Column, Exhibit, Row
from kdnb.exhibits.controls import DAGGER
from kdnb.exhibits.exhibit import Asked, Part
from kdnb.exhibits.names import pair_title, sentence
from kdnb.exhibits.runs import diverged, framed, runs_of
from kdnb.study.statistics import Difference, paired
from kdnb.study.store import Store
from kdnb.tables.rerun import rerun
from kdnb.tables.schedules import equal_schedule_told
from kdnb.tables.sheet import Entry, Line, Said, Table, line
from kdnb.tables.words import (
    NOT_YET,
    TITLES,
    demo_mark,
    headings,
    measured_at,
    nothing_at,
    printed,
    runs_target,
    scale_title,
    slug,
    spread,
    title,
    unbroken,
    unit,
    widths_told,
)

#: A line below the others: what one row gains over another, run by run of the same seed.
Gain = tuple[str, str]

#: So many pairs without relatives are named below a table; more are counted.
MOST_NAMED = 5
#: Wider tables have a table for each scale that has runs.
MOST_COLUMNS = 8
#: Of so many gains with intervals at least, and so many columns at most, a note says how large one has to be.
ROWS_TO_TELL_APART, MOST_TOLD_APART = 4, 4
MEASURED = "mean ± standard deviation (runs)"


@dataclass(frozen=True)
class _Block:
    """One scale of an exhibit: its cells, row by column, and every run behind them."""

    exhibit: Exhibit
    profile: str
    columns: tuple[Column, ...]
    cells: dict[tuple[str, Column], Cell]
    frame: pd.DataFrame
    #: How many runs of a cell diverged, where any did.
    lost: Mapping[tuple[str, Column], int]

    def runs(self, row: str, column: Column) -> pd.DataFrame:
        """The runs of a cell."""
        cell, frame = self.cells.get((row, column)), self.frame
        if cell is None:
            return frame[:0]
        here = (frame["dataset"] == column.dataset) & (frame["score"] == column.score.key)
        return frame[here & (frame["row"] == cell.key)]

    def values(self, row: str, column: Column) -> pd.Series:
        """The scores of a cell by seed."""
        return self.runs(row, column).set_index("seed")["value"]

    def relatives(self, column: Column) -> str:
        """Who stands for a column's pair of networks here."""
        networks = column.pair.networks(self.profile) if column.pair else None
        return pair_title(*networks) if networks else "–"

    def narrowed(self, columns: Iterable[Column]) -> _Block:
        return replace(self, columns=tuple(columns))


@dataclass(frozen=True)
class _Place:
    """A column of the table that is drawn: a scale's column, `in_print` or as it was measured."""

    block: _Block
    column: Column
    in_print: bool = False

    def entry(self, row: str) -> Entry:
        """What stands there for a row; mean and spread lead to the runs."""
        cell = self.block.cells.get((row, self.column))
        if self.in_print:
            return Entry(printed(cell) if cell else "–")
        if cell is None or cell.experiment is None:
            return Entry("–")
        values, lost = self.block.values(row, self.column), self.block.lost.get((row, self.column), 0)
        told = [spread(values, self.column.score)] if len(values) else []
        told += [f"{lost} diverged"] if lost else []
        return Entry(", ".join(told), target=runs_target(cell) if len(values) else "") if told else Entry("not yet")

    def gain(self, gain: Gain) -> Entry:
        """One row less another: the printed numbers, or runs of the same seed."""
        if self.in_print:
            cells = [self.block.cells.get((key, self.column)) for key in gain]
            known = [cell.reported for cell in cells if cell is not None and cell.reported is not None]
            return Entry(self.column.score.text(known[0] - known[1], signed=True) if len(known) == 2 else "–")
        a, b = (self.block.values(key, self.column) for key in gain)
        difference = (a - b).dropna()
        return Entry(spread(difference, self.column.score, signed=True) if len(difference) else "–")


def results(
    exhibit: Exhibit | str,
    rows: Sequence[Asked] | None = None,
    profile: str = "demo",
    *,
    name: str = "",
    caption: str = "",
    store: Store | None = None,
) -> Table:
    """The exhibit, or some of its rows: the paper's number, measured mean ± std (n), and this profile's.

    `profile` is the one that the notebook shows beside the published study; a demo is marked as such.
    """
    exhibit = exhibits.get(exhibit)
    parts, store = exhibit.parts(rows), store or Store.open()
    frame = measured(exhibit, parts, store, profile)
    blocks = _side_by_side(exhibit, parts, frame, profile, store)
    paper = [] if exhibit.ablation else [_block(exhibit, parts, "paper", frame, store)]
    published = [block for block in blocks if block.profile != "demo"]
    demo = [block for block in blocks if block.profile == "demo"]
    name, frame = name or slug(exhibit.key), _frame(blocks, _rows(parts))
    caption = caption or f"{exhibit.title}; {unit(exhibit.columns)}{MEASURED}."
    if exhibit.ablation and demo and all(block.frame.empty for block in published):
        return _scales(exhibit, parts, [], demo, name, caption, frame)
    apart, beside = _apart(paper, published)
    above = tuple(_of_scale(exhibit, parts, paper, block, name, caption) for block in apart)
    told = caption if not apart else next(_at_scale(caption, block) for block in beside if len(block.frame))
    table = replace(_scales(exhibit, parts, paper, beside, name, told, frame), above=above)
    there = [block for block in demo if len(block.frame)]
    return replace(table, demo=_scales(exhibit, parts, [], there, f"{name}-demo", caption)) if there else table


def _apart(paper: Sequence[_Block], blocks: Sequence[_Block]) -> tuple[list[_Block], list[_Block]]:
    """The scales that have a table of their own, since all side by side would be too wide, and the others: of those
    with runs the fullest alone.
    """
    there = [block for block in blocks if len(block.frame)]
    if len(there) < 2 or sum(len(block.columns) for block in [*paper, *there]) <= MOST_COLUMNS:
        return [], list(blocks)
    fullest = max(there, key=lambda block: block.frame["row"].nunique())
    apart = [block for block in there if block is not fullest]
    return apart, [block for block in blocks if block is fullest or block.frame.empty]


def _of_scale(
    exhibit: Exhibit, parts: Sequence[Part], paper: Sequence[_Block], block: _Block, name: str, caption: str
) -> Table:
    """The table of one scale, with the rows that it has."""
    own = [part for part in parts if (block.frame["line"] == part.row.key).any()]
    table = _scales(exhibit, own, paper, [block], slug(f"{name} {block.profile}"), _at_scale(caption, block))
    left = len(_rows(parts)) - len(_rows(own))
    more = f"{left} more row{'s are' if left > 1 else ' is'} {NOT_YET} at this scale. " if left else ""
    return replace(table, note=more + table.note)


def _at_scale(caption: str, block: _Block) -> str:
    return f"{caption.removesuffix('.')}, {measured_at(block.profile)}."


def _frame(blocks: Iterable[_Block], rows: Iterable[str]) -> pd.DataFrame:
    """The numbers of all scales, for the CSV."""
    return pd.concat([_summary(block, rows) for block in blocks], ignore_index=True)


def _scales(
    exhibit: Exhibit,
    parts: Sequence[Part],
    paper: Sequence[_Block],
    blocks: Sequence[_Block],
    name: str,
    caption: str,
    frame: pd.DataFrame | None = None,
) -> Table:
    """Scales side by side, after what the paper prints; a scale that has no runs is told in a sentence below."""
    there = [block for block in blocks if len(block.frame)]
    every = [*paper, *there]
    titles = ["The paper"] * len(paper) + [scale_title(b.profile, b.frame) for b in there]
    head = [
        [Entry("Method", rows=2), *(Entry(t, columns=len(b.columns)) for t, b in zip(titles, every, strict=True))],
        line(*(heading for block in every for heading in headings(block.columns))),
    ]
    places = [_Place(block, column, in_print=True) for block in paper for column in block.columns]
    places += [_Place(block, column) for block in there for column in block.columns]
    equal = _at_equal_schedule(exhibit, _rows(parts), there)
    nothing = [nothing_at(block.profile) for block in blocks if block.frame.empty]
    return Table(
        name=name,
        caption=caption,
        head=head if every else [line("Method")],
        body=_body(exhibit, _rows(parts), places),
        frame=frame,
        note=" ".join([*equal, *nothing, *_told_apart(exhibit, there), _note_of_blocks(there)]).strip(),
        css="kdnb-results",
        rerun=_rerun(blocks) if blocks else "",
        of_demo=any(block.profile == "demo" for block in there),
    )


def _told_apart(exhibit: Exhibit, blocks: Iterable[_Block]) -> list[str]:
    """How large a difference from the plain student has to be, for all rows of a column together, at each scale."""
    plain, found = next((row.key for row in exhibit.rows if row.role == "baseline"), ""), []
    for block in blocks if plain else ():
        halves = {}
        for column, heading in zip(block.columns, headings(block.columns), strict=True):
            known = [d for d in _from_plain(block, column, plain) if d.known]
            if len(known) >= ROWS_TO_TELL_APART and block.profile != "demo":
                halves[column] = widths_told(known, column.score) + f" ({heading})" * (len(block.columns) > 1)
        if 0 < len(halves) <= MOST_TOLD_APART:
            told = f"beyond {', '.join(halves.values())}, {measured_at(block.profile)}"
            found.append(f"A difference from the plain student is more than chance {told}.")
    return found


def _from_plain(block: _Block, column: Column, plain: str) -> list[Difference]:
    """What every student of the plain one's network has over it; an auxiliary is none."""
    every = pd.concat([block.runs(row.key, column) for row in block.exhibit.rows if row.role != "teacher"])
    own = every[every["student"].isin(every[every["line"] == plain]["student"])]
    return paired(own.assign(row=own["line"])[["row", "seed", "value"]], plain) if len(own) else []


def pairs(
    exhibit: Exhibit | str,
    profile: str = "demo",
    *,
    lines: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
    gain: Gain | None = None,
    name: str = "",
    store: Store | None = None,
) -> list[Table | Said]:
    """The exhibit as the paper prints it, then as it was measured: a table for every scale that has runs.

    At paper scale the printed number stands beside the measured one.  Under smaller profiles relatives stand for the
    paper's networks, and a pair without some has no column.  `lines` and `only` (keys of rows, of pairs) choose a part;
    `gain` adds the difference of two rows, paired by seed, where both are shown: another one than the exhibit's own.
    A sentence stands for a table that has neither printed numbers nor experiments.
    """
    exhibit = exhibits.get(exhibit)
    rows = [row for row in exhibit.rows if lines is None or row.key in lines]
    pairs = [pair for pair in exhibit.pairs if only is None or pair.key in only]
    parts = [Part(row) for row in rows] if only is None else [Part(row, pair) for pair in pairs for row in rows]
    store = store or Store.open()
    frame = measured(exhibit, parts, store, profile)
    name, gain = name or slug(exhibit.key), gain or exhibit.gain
    gain = gain if gain and {*gain} <= {row.key for row in rows} else None
    tables: list[Table | Said] = []
    paper = _block(exhibit, parts, "paper", frame, store)
    reasons = {cell.why_not for cell in paper.cells.values() if cell.experiment is None}
    known = len(paper.frame) or any(cell.printed is not None for cell in paper.cells.values())
    if not known and len(reasons) == 1 and all(cell.experiment is None for cell in paper.cells.values()):
        return [Said(f"**{exhibit.title}:** {NOT_YET}; {reasons.pop()}. The printed numbers are not at hand.")]
    if known:
        tables.append(_at_paper_scale(paper, _rows(parts), gain, name))
    elif reasons:
        tables.append(
            Said(f"**{exhibit.title}:** {NOT_YET} at the paper's size, and the paper prints no such numbers.")
        )
    for scale in (scale for scale in TITLES if scale != "paper"):
        if scale == profile or (scale != "demo" and (frame["profile"] == scale).any()):
            for dataset in exhibit.datasets_of(scale):
                every = _block(exhibit, parts, scale, frame, store, dataset)
                if any(cell.experiment for cell in every.cells.values()):
                    named = f"{name} {dataset}" if len(exhibit.datasets_of(scale)) > 1 else name
                    tables.append(_of_relatives(every, _rows(parts), gain, named))
    return tables


def measured(exhibit: Exhibit, asked: Iterable[Asked] | None, store: Store, profile: str) -> pd.DataFrame:
    """Every stored run of these rows that tells their score, under every profile and the one that is asked for."""
    parts = exhibit.parts(asked)
    scales = dict.fromkeys([*TITLES, profile])
    frame = framed(runs_of((cell for scale in scales for cell in exhibit.cells(scale, None, parts)), store))
    return frame.dropna(subset=["value"])


def _rows(parts: Iterable[Part]) -> dict[str, Row]:
    return {part.row.key: part.row for part in parts}


def _body(exhibit: Exhibit, rows: dict[str, Row], places: Sequence[_Place], gain: Gain | None = None) -> list[Line]:
    """A line a row, place by place, and below them what one row gains over another."""
    body: list[Line] = []
    for key, row in rows.items():
        label = f"{row.label} {DAGGER}" if key in exhibit.controls else row.label
        body.append([Entry(label, page=page.of_row(exhibit.paper, key)), *(place.entry(key) for place in places)])
    if gain:
        a, b = (rows[key].label for key in gain)
        body.append([Entry(f"{a} − {b}"), *(place.gain(gain) for place in places)])
    return body


def _block(
    exhibit: Exhibit, parts: Sequence[Part], profile: str, frame: pd.DataFrame, store: Store, dataset: str | None = None
) -> _Block:
    cells = {(cell.row.key, cell.column): cell for cell in exhibit.cells(profile, dataset, parts)}
    here = frame[frame["profile"] == profile]
    lost = {at: len(seeds) for at, cell in cells.items() if (seeds := diverged(cell, store))}
    return _Block(exhibit, profile, tuple(dict.fromkeys(column for _, column in cells)), cells, here, lost)


def _summary(block: _Block, rows: Iterable[str], networks: bool = False) -> pd.DataFrame:
    """The table in long form, one line a cell; with `networks` also the paper's pair and who was trained."""
    lines = []
    for column in block.columns:
        trained = {"pair": column.pair.title, "trained": block.relatives(column)} if networks and column.pair else {}
        for row in rows:
            if (row, column) in block.cells:
                cell, lost = block.cells[row, column], block.lost.get((row, column), 0)
                lines.append({**trained, **_summary_line(cell, block.runs(row, column)), "diverged": lost})
    return pd.DataFrame(lines)


def _summary_line(cell: Cell, runs: pd.DataFrame) -> dict[str, object]:
    """One cell and profile as a line of the CSV: printed, mean, spread, seeds."""
    values = runs["value"]
    return {
        "row": cell.key,
        "label": cell.row.label,
        "dataset": cell.dataset,
        "score": cell.score.key,
        "profile": cell.profile.name,
        "reported": cell.reported,
        "reported_std": cell.printed.std if cell.printed else None,
        "mean": round(values.mean(), 4) if len(values) else None,
        "std": round(values.std(ddof=1), 4) if len(values) > 1 else None,
        "runs": len(values),
        "seeds": " ".join(str(s) for s in runs["seed"]),
        "last_epoch_mean": round(runs["last"].mean(), 4) if len(values) else None,
        "all_images_mean": round(runs["all_images"].mean(), 4) if len(values) else None,
        "fingerprint": cell.experiment.fingerprint if cell.experiment else "",
    }


def _rerun(blocks: Iterable[_Block]) -> str:
    """How the numbers of these scales are made once more."""
    blocks = list(blocks)
    shown = [([b.cells[at] for at in b.cells if at[1] in b.columns], b.frame) for b in blocks]
    return rerun(blocks[0].exhibit, shown)


# -- scales side by side -----------------------------------------------------------------------------------


def _side_by_side(
    exhibit: Exhibit, parts: Sequence[Part], frame: pd.DataFrame, profile: str, store: Store
) -> list[_Block]:
    """What was measured: paper scale and the notebook's own profile always, others where columns of them have runs."""
    found = []
    for name in dict.fromkeys([*TITLES, profile]):
        block = _block(exhibit, parts, name, frame, store)
        if name in ("paper", profile):
            found.append(block)
        elif name != "demo" and len(block.frame):
            rows = _rows(parts)
            found.append(block.narrowed(c for c in block.columns if any(len(block.runs(row, c)) for row in rows)))
    return found


def _at_equal_schedule(exhibit: Exhibit, rows: Iterable[str], blocks: Sequence[_Block]) -> list[str]:
    """What rows on a schedule of their own gain over the plain student on that one, at the strongest scale."""
    if not {*rows} & {*exhibit.controls}:
        return []
    places = [(b.profile, d) for b in blocks if b.profile != "demo" for d in exhibit.datasets_of(b.profile)]
    return [equal_schedule_told(exhibit, places, Store.open())]


def _note_of_blocks(blocks: Sequence[_Block]) -> str:
    """Which networks stand behind each scale, and what may not be read into a demo."""
    said = []
    for block in blocks:
        runs = block.frame[block.frame["teacher"] != ""]
        pairs = sorted({pair_title(*networks) for networks in zip(runs["teacher"], runs["student"], strict=True)})
        if pairs:
            said.append(f"{scale_title(block.profile, block.frame)}: {', '.join(pairs)}.")
    said += [demo_mark(block.frame) for block in blocks if block.profile == "demo"]
    if page.in_book() and len(blocks):
        said.append("Measured numbers lead to their runs.")
    return " ".join(said)


# -- a table for every scale -------------------------------------------------------------------------------


def _at_paper_scale(block: _Block, rows: dict[str, Row], gain: Gain | None, name: str) -> Table:
    """Printed numbers, and beside them measured ones for the columns that have any."""
    exhibit = block.exhibit
    there = {column for column in block.columns if any(len(block.runs(key, column)) for key in rows)}
    deep = 1 + bool(there)
    heads = zip(headings(block.columns, pairs=True), block.columns, strict=True)
    head: list[Line] = [
        [Entry("Method", rows=deep), *(Entry(h, columns=2) if c in there else Entry(h, rows=deep) for h, c in heads)]
    ]
    if there:
        head.append([Entry(text) for column in block.columns if column in there for text in ("paper", "measured")])
    places = [
        _Place(block, column, in_print)
        for column in block.columns
        for in_print in (True, False)
        if in_print or column in there
    ]
    body = _body(exhibit, rows, places, gain)
    note = "" if there else nothing_at("paper")
    if all(cell.experiment is None for cell in block.cells.values()):
        note = f"{note.removesuffix('.')}: {next(iter(block.cells.values())).why_not}."
    images = [title(dataset) for dataset in exhibit.datasets]
    where = f", {images[0]}" if len(images) == 1 and images[0] not in exhibit.title else ""
    told = ", ".join(part for part in (unit(block.columns).removesuffix(", "), MEASURED if there else "") if part)
    caption = f"{exhibit.title}{where}" + (f"; {told}." if told else ".")
    return Table(
        name, caption, head, body, _summary(block, rows, True), note, "kdnb-results kdnb-pairs", rerun=_rerun([block])
    )


def _of_relatives(every: _Block, rows: dict[str, Row], gain: Gain | None, name: str) -> Table:
    """What was measured under one of the smaller profiles, by the paper's pair and who stands for it.

    Pairs that the same runs stand for share a column; one without runs is named below, if any has some.
    """
    able = [c for c in every.columns if any(every.cells[key, c].experiment for key in rows)]
    there = [c for c in able if any(len(every.runs(key, c)) or (key, c) in every.lost for key in rows)] or able
    alike: dict[object, list[Column]] = {}
    for column in there:
        alike.setdefault(_runs_of_a_column(every, column, rows), []).append(column)
    block, shown = every.narrowed(able), [same[0] for same in alike.values()]
    named = dict(zip(every.columns, headings(every.columns, pairs=True), strict=True))
    head: list[Line] = [line("The paper's pair", *("; ".join(named[c] for c in same) for same in alike.values()))]
    if block.profile != "short":
        head.append(line("trained here", *(unbroken(block.relatives(column)) for column in shown)))
    said = [
        _left_out("no relatives at this scale", [c for c in every.columns if c not in able], every.columns),
        _left_out("no runs at this scale yet", [c for c in able if c not in there], every.columns),
        demo_mark(block.frame) if block.profile == "demo" else "",
    ]
    return Table(
        name=slug(f"{name} {block.profile}"),
        caption=f"{sentence(block.exhibit.title)} {scale_title(block.profile, block.frame)}, {title(able[0].dataset)}; "
        f"{unit(able)}{MEASURED}.",
        head=head,
        body=_body(block.exhibit, rows, [_Place(block, column) for column in shown], gain),
        frame=_summary(block, rows, True),
        note=" ".join(filter(None, said)),
        css="kdnb-results kdnb-pairs",
        rerun=_rerun([block]),
        of_demo=block.profile == "demo",
    )


def _runs_of_a_column(block: _Block, column: Column, rows: Iterable[str]) -> object:
    """What tells a column apart from others: its networks, its score, and which experiments its rows are."""
    cells = [block.cells.get((key, column)) for key in rows]
    made = tuple(cell.experiment.fingerprint if cell and cell.experiment else "" for cell in cells)
    return block.relatives(column), column.dataset, column.score, made


def _left_out(why: str, columns: Sequence[Column], every: Sequence[Column]) -> str:
    """`2 of 6 pairs have no relatives at this scale: VGG13 → VGG11, VGG13 → VGG8.`"""
    without = [column.pair.title for column in columns if column.pair]
    names = f": {', '.join(without)}" if len(without) <= MOST_NAMED else ""
    have = "has" if len(without) == 1 else "have"
    return f"{len(without)} of {len(every)} pairs {have} {why}{names}." if without else ""
