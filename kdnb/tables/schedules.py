"""Rows on a schedule of their own, and differences of rows that a reader asks for: in sentences and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import pandas as pd

from kdnb import exhibits, page
from kdnb.exhibits import Exhibit, Paper, measure
from kdnb.exhibits.claims.predicates import Claim
from kdnb.exhibits.controls import DAGGER, gains_at_equal_schedule
from kdnb.exhibits.runs import students
from kdnb.study.statistics import POOLED, Layout
from kdnb.study.store import Store
from kdnb.tables.sheet import Table, line
from kdnb.tables.words import NOT_YET, TITLES, columns, slug, title


def equal_schedule_told(exhibit: Exhibit, places: Iterable[tuple[str, str]], store: Store) -> str:
    """What the dagger says, and the gain at equal schedule at the first of the places (profile, data set) with runs."""
    told = f"{DAGGER} trained on a schedule of their own."
    for profile, dataset in places:
        if over_plain := _gains_told(exhibit, profile, dataset, store, "plain"):
            where = f"{TITLES[profile]}, {title(dataset)}".replace("Measured at", "at")
            told += f" Over the plain student on that schedule, {where}: {over_plain}."
            over_kd = _gains_told(exhibit, profile, dataset, store, "kd")
            told += f" Over KD on it: {over_kd}." if over_kd else ""
            break
    return told + _where_controls_stand(exhibit)


def _gains_told(exhibit: Exhibit, profile: str, dataset: str, store: Store, over: Literal["plain", "kd"]) -> str:
    """`CRD +3.83 [1.57, 6.08], CRD + KD +10.37 [8.12, 12.63]`: at equal schedule; empty where nothing is measured."""
    found = gains_at_equal_schedule(exhibit, profile, dataset, store, over)
    told = ", ".join(f"{exhibit.row(d.a).label} {d.value:+.2f} {interval(d.low, d.high)}" for d in found.values())
    if not any(d.known for d in found.values()):
        return told
    seeds = " or ".join(dict.fromkeys(str(d.n) for d in found.values()))
    return f"{told} ({seeds} seeds; 95 % for {'these together' if len(found) > 1 else 'this one alone'})"


def marked(paper: Paper, row: str) -> str:
    """What a row of a paper's claims is called where rows are ranked: one on a schedule of its own has a dagger."""
    return f"{paper.label(row)} {DAGGER}" if _apart(paper, row) else paper.label(row)


def about_own_schedules(paper: Paper, claims: Iterable[Claim]) -> list[Claim]:
    """Those of a paper's claims that say something of a row on a schedule of its own."""
    rows = {row for exhibit in paper.judged for row in exhibit.controls}
    return [claim for claim in claims if claim.is_about(rows, lambda row: paper.row_of(row)[0])]


def own_schedules_told(paper: Paper, rows: Iterable[str], scales: Iterable[str], store: Store, first: str = "") -> str:
    """What the dagger says beside any of these rows, and the gain at equal schedule; "" where none has a dagger.

    That gain is of the first of the scales at which it is measured, on the data set `first` if it is there.
    """
    apart = next((exhibit for row in rows if (exhibit := _apart(paper, row))), None)
    if apart is None:
        return ""
    places = [(scale, d) for scale in scales for d in sorted(apart.datasets_of(scale), key=lambda d: d != first)]
    return equal_schedule_told(apart, places, store)


def _apart(paper: Paper, row: str) -> Exhibit | None:
    """The exhibit that gives a row of the paper's claims another schedule than the rest, if there is one."""
    return next((exhibit for exhibit in paper.judged if paper.row_of(row)[0] in exhibit.controls), None)


def _where_controls_stand(exhibit: Exhibit) -> str:
    """Begins with a blank, or is empty where the book has no page of them."""
    key = next(iter(exhibit.controls.values())).table
    there = page.exists(*key.split("/"))
    return f" {{ref}}`More on the schedule <tab-{slug(key)}>`." if there else ""


def interval(low: float, high: float) -> str:
    """`[1.20, 3.40]`, or nothing from one seed."""
    return f"[{low:.2f}, {high:.2f}]" if low == low and high == high else "(one seed)"


def _critical(layout: Layout, pairs: Sequence[tuple[str, str]]) -> str:
    """`, critical value 2.75`, of the pairs that share their noise; or nothing."""
    known = next((d for d in layout.differences(pairs) if d.known and d.method == POOLED), None)
    return f", critical value {known.critical:.2f}" if known else ""


def _spread_told(exhibit: Exhibit, layout: Layout, pairs: Sequence[tuple[str, str]]) -> str:
    """What the intervals of these pairs are made of, and which rows of the exhibit are set aside."""
    odd = ", ".join(row.label for row in exhibit.rows if row.key in layout.odd)
    together = f"{len(pairs)} difference{'s' * (len(pairs) > 1)} together{_critical(layout, pairs)}"
    alone = f"; by their own runs alone, since they vary more: {odd}" if odd else ""
    return f"standard deviation of one run {layout.sd:.2f} points, {layout.df} degrees of freedom, {together}{alone}."


#: The columns of a frame that tell one column of a table from another.
PLACE = ["dataset", "pair", "score"]


def _less_is_better(exhibit: Exhibit) -> str:
    """`of error, where less is better`: of an exhibit whose score is none to gain in."""
    score = exhibit.columns[0].score
    return "" if score.higher_is_better else f" of {score.title.lower()}, where less is better"


def _with_those_beside(
    runs: pd.DataFrame, beside: Exhibit | str, scale: str, place: tuple[str, str, str], store: Store
) -> pd.DataFrame:
    """Runs with those of another table's other rows at the same place: data set, pair of networks, score."""
    if not beside:
        return runs
    every = measure(exhibits.get(beside), scale, place[0], store)
    others = students(every[(every["pair"] == place[1]) & (every["score"] == place[2])])
    return pd.concat([runs, others[~others["row"].isin(runs["row"])]], ignore_index=True)


def differences(
    exhibit: Exhibit | str,
    pairs: Sequence[tuple[str, str]],
    profile: str = "demo",
    *,
    beside: Exhibit | str = "",
    name: str = "",
) -> Table:
    """Chosen pairs of rows, a less b: by how much they differ at every scale that has runs of several seeds.

    A line a pair and place, a column a score.  Intervals are simultaneous over the pairs of one score, data set and
    scale, by the noise of all rows of the exhibit there,
    and of the table `beside` which it stands: few rows cannot tell which of them is noisier than the others.
    """
    exhibit, store = exhibits.get(exhibit), Store.open()
    lines: dict[tuple[str, str], dict[str, str]] = {}
    seeds: dict[tuple[str, str], dict[int, None]] = {}
    frames, notes = [], []
    several = len({column.pair for column in exhibit.columns}) > 1
    scores = {column.score.key: column.score for column in exhibit.columns}
    for scale in dict.fromkeys(scale for scale in [*TITLES, profile] if scale != "demo"):
        for (dataset, pair, key), found in measure(exhibit, scale, None, store).groupby(PLACE, sort=False):
            runs = students(found)
            there = [pair for pair in pairs if {*pair} <= {*runs["row"]}]
            if not there:
                continue
            layout = Layout(_with_those_beside(runs, beside, scale, (dataset, pair, key), store))
            networks = next((c.pair.title for c in exhibit.columns if c.pair and c.pair.key == pair), "")
            where = ", ".join(filter(None, [title(dataset), networks if several else "", scale]))
            for d in layout.differences(there):
                compared = f"{exhibit.row(d.a).label} − {exhibit.row(d.b).label}"
                lines.setdefault((compared, where), {})[key] = f"{d.value:+.2f} {interval(d.low, d.high)}"
                seeds.setdefault((compared, where), {})[d.n] = None
                place = {"scale": scale, "dataset": dataset, "pair": pair, "score": key}
                frames.append({**place, "a": d.a, "b": d.b, **columns(d, "value")})
            of_score = f", {scores[key].title}" if len(scores) > 1 else ""
            notes.append(f"{where}{of_score}: {_spread_told(exhibit, layout, there)}")
    shown = [key for key in scores if any(key in told for told in lines.values())]
    body = [
        line(*at, *(told.get(key, "–") for key in shown), " or ".join(map(str, seeds[at])))
        for at, told in lines.items()
    ]
    heads = [scores[key].title for key in shown] if len(shown) > 1 else ["Points"]
    return Table(
        name=name or slug(f"differences {exhibit.key}"),
        caption=f"Differences in points{_less_is_better(exhibit)}, same seeds, with 95 % intervals that hold together "
        f"for one scale{', score' * (len(scores) > 1)} and data set.",
        head=[line("Difference", "Where", *heads, "Seeds")],
        body=body or [line("all of them", NOT_YET, "–", "–")],
        frame=pd.DataFrame(frames) if frames else None,
        note=" ".join(notes),
    )
