"""Rows on a schedule of their own, and differences of rows that a reader asks for: in sentences and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from kdnb import exhibits, page
from kdnb.exhibits import Exhibit, Paper, measure
from kdnb.exhibits.claims.predicates import Claim
from kdnb.exhibits.controls import DAGGER, gains_at_equal_schedule
from kdnb.exhibits.runs import students
from kdnb.study.statistics import POOLED, Layout
from kdnb.study.store import Store
from kdnb.tables.sheet import Line, Table, line
from kdnb.tables.words import NOT_YET, TITLES, columns, slug, title


def equal_schedule_told(exhibit: Exhibit, places: Iterable[tuple[str, str]], store: Store) -> str:
    """What the dagger says, and the gain at equal schedule at the first of the places (profile, data set) with runs."""
    told = f"{DAGGER} trained on a schedule of their own."
    for profile, dataset in places:
        found = gains_at_equal_schedule(exhibit, profile, dataset, store)
        if found:
            gains = ", ".join(
                f"{exhibit.row(d.a).label} {d.value:+.2f} {interval(d.low, d.high)}" for d in found.values()
            )
            where = f"{TITLES[profile]}, {title(dataset)}".replace("Measured at", "at")
            told += f" Over the plain student on that schedule, {where}: {gains}."
            break
    return told + _where_controls_stand(exhibit)


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
    key = next(iter(exhibit.controls.values()))[0]
    there = page.exists(*key.split("/"))
    return f" {{ref}}`More on the schedule <tab-{slug(key)}>`." if there else ""


def interval(low: float, high: float) -> str:
    """`[1.20, 3.40]`, or nothing from one seed."""
    return f"[{low:.2f}, {high:.2f}]" if low == low and high == high else "(one seed)"


def _critical(layout: Layout, pairs: Sequence[tuple[str, str]]) -> str:
    """`, critical value 2.75`, of the pairs that share their noise; or nothing."""
    known = next((d for d in layout.differences(pairs) if d.known and d.method == POOLED), None)
    return f", critical value {known.critical:.2f}" if known else ""


#: The columns of a frame that tell one column of a table from another.
PLACE = ["dataset", "pair", "score"]


def _less_is_better(exhibit: Exhibit) -> str:
    """`of error, where less is better`: of an exhibit whose score is none to gain in."""
    score = exhibit.columns[0].score
    return "" if score.higher_is_better else f" of {score.title.lower()}, where less is better"


def differences(
    exhibit: Exhibit | str, pairs: Sequence[tuple[str, str]], profile: str = "demo", *, name: str = ""
) -> Table:
    """Chosen pairs of rows, a less b: by how much they differ at every scale that has runs of several seeds.

    Intervals are simultaneous over the pairs of one data set and scale, by the noise of all rows of the exhibit there.
    """
    exhibit, store = exhibits.get(exhibit), Store.open()
    body: list[Line] = []
    frames, notes = [], []
    several = len({column.pair for column in exhibit.columns}) > 1
    scores = {column.score.key: column.score for column in exhibit.columns}
    for scale in dict.fromkeys(scale for scale in [*TITLES, profile] if scale != "demo"):
        for (dataset, pair, key), found in measure(exhibit, scale, None, store).groupby(PLACE, sort=False):
            runs = students(found)
            there = [pair for pair in pairs if {*pair} <= {*runs["row"]}]
            if not there:
                continue
            layout = Layout(runs)
            networks = next((c.pair.title for c in exhibit.columns if c.pair and c.pair.key == pair), "")
            told = [title(dataset), networks if several else "", scores[key].title if len(scores) > 1 else "", scale]
            where = ", ".join(filter(None, told))
            for d in layout.differences(there):
                labels = exhibit.row(d.a).label, exhibit.row(d.b).label
                body.append(line(f"{labels[0]} − {labels[1]}", where, f"{d.value:+.2f} {interval(d.low, d.high)}", d.n))
                place = {"scale": scale, "dataset": dataset, "pair": pair, "score": key}
                frames.append({**place, "a": d.a, "b": d.b, **columns(d, "value")})
            notes.append(
                f"{where}: standard deviation of one run {layout.sd:.2f} points, {layout.df} degrees of freedom, "
                f"{len(there)} difference{'s' * (len(there) > 1)} together{_critical(layout, there)}."
            )
    return Table(
        name=name or slug(f"differences {exhibit.key}"),
        caption=f"Differences in points{_less_is_better(exhibit)}, same seeds, with 95 % intervals that hold together "
        "for one scale and data set.",
        head=[line("Difference", "Where", "Points", "Seeds")],
        body=body or [line("all of them", NOT_YET, "–", "–")],
        frame=pd.DataFrame(frames) if frames else None,
        note=" ".join(notes),
    )
