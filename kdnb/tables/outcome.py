"""What a page of a method begins with: what it scored, what it gains and how sure that is, and what claims came to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from kdnb import exhibits
from kdnb.exhibits import Cell, Exhibit, Score
from kdnb.exhibits.controls import DAGGER, gains_at_equal_schedule
from kdnb.exhibits.costs import epochs_of_kd, steps_for
from kdnb.exhibits.names import pair_title
from kdnb.exhibits.runs import SCALES, records_of
from kdnb.methods.registry import KD
from kdnb.study.experiment import Experiment
from kdnb.study.profile import get_profile
from kdnb.study.statistics import Difference, Layout
from kdnb.study.store import Store
from kdnb.tables.evidence import difference_told, set_aside_told
from kdnb.tables.in_short import Students, fewer_images, students_of
from kdnb.tables.ledger import verdicts_of
from kdnb.tables.schedules import equal_schedule_told
from kdnb.tables.sheet import Line, Said, Table, line
from kdnb.tables.words import NOT_YET, measured_at, slug, spread, title

#: So many places (a data set, a pair of networks) have a line each; the tables further down have all.
MOST_PLACES = 6


@dataclass(frozen=True)
class _Place:
    """The runs of one place, a method's and those it is compared with, and gains by row.

    `equal` has the gains over a plain student that had the row's schedule too, `equal_kd` those over such a KD.  The
    rows `set_aside` vary too much for the spread of the others.
    """

    title: str
    of: Students
    over_plain: dict[str, Difference]
    over_kd: dict[str, Difference]
    equal: dict[str, Difference]
    equal_kd: dict[str, Difference]
    set_aside: Sequence[str] = ()

    @property
    def score(self) -> Score:
        return self.of.score

    def told(self, row: str) -> str:
        """Mean and spread of a row, as its score is told."""
        values = self.of.runs[self.of.runs["row"] == row].set_index("seed")["value"]
        return spread(self.score.direction * values, self.score)

    def has(self, row: str) -> bool:
        return bool((self.of.runs["row"] == row).any())

    def is_of(self, cell: Cell) -> bool:
        """Whether a cell, of whatever scale, is of the images, the networks and the score of this place."""
        pair = cell.column.pair.key if cell.column.pair else ""
        return (cell.dataset, cell.score) == (self.of.dataset, self.score) and pair in self.of.pairs


def outcome(
    exhibit: Exhibit | str,
    rows: Sequence[str],
    *,
    claims: Sequence[str] | None = None,
    name: str = "",
    store: Store | None = None,
) -> Table | Said:
    """Score, gains with their intervals, cost and claims of a method's rows, at the largest scale that has runs.

    Intervals hold together over all rows of the exhibit.  `claims` are those that rest on the rows, or the named ones.
    Where nothing is measured a sentence says so, and what the paper prints.
    """
    exhibit, store = exhibits.get(exhibit), store or Store.open()
    about = _claims(exhibit, rows, claims, store)
    for scale in SCALES:
        places = [place for place in _places(exhibit, scale, store) if any(map(place.has, rows))]
        if places:
            return _table(exhibit, rows, scale, places, about, name, store)
    printed = {exhibit.row(row).label: told for row in rows if (told := _in_print(exhibit, row))}
    baseline, unit = exhibit.row(_baseline(exhibit)).label.lower(), exhibit.columns[0].score.points
    gains = "; ".join(f"{label} {told}" for label, told in printed.items())
    in_print = f"Gain over the {baseline} in print, {unit}: {gains}." if gains else ""
    return Said(" ".join(filter(None, [f"**{NOT_YET[:1].upper()}{NOT_YET[1:]}.**", in_print, about])))


def _table(
    exhibit: Exhibit, rows: Sequence[str], scale: str, places: Sequence[_Place], about: str, name: str, store: Store
) -> Table:
    baseline = exhibit.row(_baseline(exhibit)).label.lower()
    with_kd, several = any(row in place.over_kd for place in places for row in rows), len(places) > 1
    equal = any(row in place.equal for place in places for row in rows)
    equal_kd = any(row in place.equal_kd for place in places for row in rows)
    body: list[Line] = []
    numbers = []
    for place in places[:MOST_PLACES]:
        for row in filter(place.has, rows):
            gain, beside = place.over_plain.get(row), place.over_kd.get(row)
            label = exhibit.row(row).label + (f" {DAGGER}" if row in exhibit.controls else "")
            texts = [label, *([place.of.where] * several), place.told(row), _gain(gain, place.score)]
            texts += [_gain(place.equal.get(row), place.score)] if equal else []
            texts += [_gain(beside, place.score)] if with_kd else []
            texts += [_gain(place.equal_kd.get(row), place.score)] if equal_kd else []
            printed = _in_print(exhibit, row, place) or "–"
            texts += [printed, _cost(exhibit, scale, row, place, store), _says(gain, baseline)]
            body.append(line(*texts))
            numbers += [
                {"row": row, "scale": scale, "place": place.title, "than": d.b, "gain": d.value, "low": d.low,
                 "high": d.high, "seeds": d.n}
                for d in (gain, beside, place.equal.get(row), place.equal_kd.get(row)) if d is not None
            ]  # fmt: skip
    heads = ["Method", *(["Where"] * several), places[0].score.heading, f"Gain over the {baseline}"]
    same = f"The same, both on {DAGGER}'s schedule"
    heads += [same] * equal + ["Gain over KD"] * with_kd + [same] * equal_kd
    more = f"{len(places) - MOST_PLACES} more places stand below." if len(places) > MOST_PLACES else ""
    apart = _set_aside(exhibit, [*rows, _baseline(exhibit), KD], places)
    daggers = equal_schedule_told(exhibit, [], store) if {*rows} & {*exhibit.controls} else ""
    return Table(
        name=name or slug(f"outcome {exhibit.paper} {rows[0]}"),
        caption=f"The result, {measured_at(scale)}{_trained(exhibit, rows, scale, places)}. "
        "Mean ± standard deviation (runs); gains with 95 % intervals that hold together over the table's rows.",
        head=[line(*heads, "Gain in print", "Cost in epochs of KD", "So far")],
        body=body,
        frame=pd.DataFrame(numbers),
        note=" ".join(filter(None, [apart, daggers, more, about])),
        css="kdnb-outcome",
    )


def _set_aside(exhibit: Exhibit, rows: Iterable[str], places: Sequence[_Place]) -> str:
    """Which of the rows, those they are compared with included, have wide intervals for their own spread."""
    shown, rows = places[:MOST_PLACES], list(dict.fromkeys(rows))
    apart = {place.of.where: [exhibit.row(row).label for row in rows if row in place.set_aside] for place in shown}
    return set_aside_told(apart, name_places=len(places) > 1)


def _trained(exhibit: Exhibit, rows: Sequence[str], scale: str, places: Sequence[_Place]) -> str:
    """Where the rows were trained, and who saw which images: `, CIFAR-100, ResNet20 → ResNet8 (...)`.

    A row may have another teacher than its table, such as a network that learned what the student learns from.
    """
    cells = [cell for cell in exhibit.cells(scale, asked=rows) if any(place.is_of(cell) for place in places)]
    taught = {(str(e.teacher.network), str(e.network)) for e in _experiments(cells) if e.teacher}
    alike = {e.teacher.images.student_images == e.images.student_images for e in _experiments(cells) if e.teacher}
    count = get_profile(scale).student_images
    if alike != {True} or not count:
        return fewer_images(scale) if len(places) > 1 else f", {places[0].title}"
    if len(places) > 1 or len(taught) > 1:
        return f"; teachers and students saw the same {count:,} images"
    scored = f", {places[0].score.title}" if len({column.score for column in exhibit.columns}) > 1 else ""
    networks = f"{title(places[0].of.dataset)}, {pair_title(*next(iter(taught)))}"
    firsts = [e.teacher.teacher for e in _experiments(cells) if e.teacher and e.teacher.teacher]
    saw = f"teacher and student saw the same {count:,} images"
    if firsts and all(first.images.student_images is None for first in firsts):
        saw = f"the auxiliary saw the same {count:,} images; its own teacher saw all"
    return f", {networks} ({saw}){scored}"


def _experiments(cells: Iterable[Cell]) -> list[Experiment]:
    return [cell.experiment for cell in cells if cell.experiment is not None]


def _baseline(exhibit: Exhibit) -> str:
    """The row that gains are gains over: the student by itself, which a table without such a role has first."""
    return next((row.key for row in exhibit.rows if row.role == "baseline"), exhibit.rows[0].key)


def _places(exhibit: Exhibit, scale: str, store: Store) -> list[_Place]:
    """By the exhibit's first score: further scores of the same runs stand in its tables."""
    score, baseline = exhibit.columns[0].score, _baseline(exhibit)
    found = []
    for place, of in students_of(exhibit, scale, store).items():
        if of.score == score and baseline in {*of.runs["row"]} and of.runs["row"].nunique() > 1:
            layout = Layout(of.runs)
            over_kd = _gains(layout, KD) if KD in layout.rows else {}
            equal, equal_kd = (
                gains_at_equal_schedule(exhibit, scale, of.dataset, store, over) for over in ("plain", "kd")
            )
            found.append(_Place(place, of, _gains(layout, baseline), over_kd, equal, equal_kd, layout.odd))
    return found


def _gains(layout: Layout, over: str) -> dict[str, Difference]:
    """Row -> what it gains over one of them, by intervals that hold together."""
    return {gain.a: gain for gain in layout.differences([(row, over) for row in layout.rows if row != over])}


def _gain(gain: Difference | None, score: Score) -> str:
    """`+8.53 [6.71, 10.35]`, which may break before the interval; no interval from one seed."""
    return "–" if gain is None else difference_told(score, gain).replace(", ", ",\N{NO-BREAK SPACE}")


def _says(gain: Difference | None, baseline: str) -> str:
    """What follows from a gain and its interval, in words."""
    if gain is None:
        return "–"
    if not gain.known:
        return "one seed says nothing of chance"
    if gain.low > 0:
        return f"better than the {baseline}"
    return f"worse than the {baseline}" if gain.high < 0 else f"may be no better than the {baseline}"


def _cost(exhibit: Exhibit, scale: str, row: str, place: _Place, store: Store) -> str:
    """What a run cost at a place, first steps included."""
    cells = [cell for cell in exhibit.cells(scale, place.of.dataset) if place.is_of(cell)]
    for cell in cells:
        records = records_of(cell, store)
        if cell.row.key == row and records:
            cost = epochs_of_kd(cell, records, store, steps_for(cells))
            return "–" if cost is None else f"{cost.epochs:.0f}"
    return "–"


def _in_print(exhibit: Exhibit, row: str, place: _Place | None = None) -> str:
    """`+0.92 to +1.48`: what the paper prints the row gains, at all places or at one; empty where it prints none."""
    score, baseline = exhibit.columns[0].score, _baseline(exhibit)
    cells = (c for c in exhibit.cells("paper") if c.score == score and (place is None or place.is_of(c)))
    of = {(c.row.key, c.column): c.reported for c in cells if c.printed is None or not c.printed.misprinted}
    both = [(of[key, column], of.get((baseline, column))) for key, column in of if key == row]
    gains = [score.direction * (own - plain) for own, plain in both if own is not None and plain is not None]
    if not gains:
        return ""
    low, high = score.text(min(gains), signed=True), score.text(max(gains), signed=True)
    return low if low == high else f"{low} to {high}"


def _claims(exhibit: Exhibit, rows: Sequence[str], asked: Sequence[str] | None, store: Store) -> str:
    """`Claims: ◐ open: C1, C3; ● agrees: C10.`; empty where none is about the rows."""
    told = verdicts_of(exhibits.paper(exhibit.paper), asked, rows, store)
    by_verdict = (f"{chip}: {', '.join(ids)}" for chip, ids in told.items())
    return f"Claims: {'; '.join(by_verdict)}." if told else ""
