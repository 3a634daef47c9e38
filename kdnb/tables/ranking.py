"""One table of all methods on equal terms: how good, how sure, how like the teacher, how costly; and who chose what.

A place is an interval: the best and the worst that the runs leave open.  Rows that move nothing but chance show how
often a table like this one decides where there is nothing to decide.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from kdnb import datasets, exhibits, methods, page
from kdnb.errors import StoreError
from kdnb.exhibits import ACCURACY, Cell, Exhibit, choosing
from kdnb.exhibits.costs import Cost, epochs_of_kd, networks_of, steps_for
from kdnb.exhibits.names import pair_title
from kdnb.exhibits.runs import SCALES, diverged, framed, precision_told, records_of, runs_of
from kdnb.exhibits.status import progress
from kdnb.methods.registry import KD
from kdnb.study.predictions import predictions
from kdnb.study.record import Record
from kdnb.study.statistics import LEVEL, Difference, Layout
from kdnb.study.store import Store
from kdnb.tables.rerun import rerun
from kdnb.tables.sheet import Entry, Line, Said, Table, line
from kdnb.tables.words import NOT_YET, OF_A_DEMO, measured_at, runs_target, slug, spread, title, widths_told

#: Arguments of a method that weigh a term of its loss, by the last word of their names.
WEIGHTS = ("weight", "alpha", "beta")
#: A row that costs more than so many times the reference is read against the reference's own curve at that cost.
DEAR = 1.25
HEAD = (
    "Method", "Accuracy", "Over plain", "Over KD", "Above KD, %", "Place", "Like the teacher, %", "ECE, %", "NLL",
    "Cost, × KD", "GiB", "Extra weights, k",
)  # fmt: skip


#: Memory and extra parameters, and the ends of a cost, of what nobody measured.
UNKNOWN: tuple[None, None] = (None, None)
#: What every row's gains are over, beside KD, which all want to beat: the plain student.
PLAIN = "plain"
#: What has not half of the plain student's score did not learn.
LEARNED = 0.5


@dataclass(frozen=True)
class Ranked:
    """A row with what its runs say: by themselves, and beside the others of its table.

    `cost` is in trainings of KD, and lies between what the fastest and the slowest rounds of the bench come to, where
    it tells them; `needs` are memory and extra parameters of its method; `over` has the gain over each
    reference that it shares a seed with; `above` is how likely it is to have the better mean than KD, `place` the best
    and the worst rank among the methods that the runs leave open.  `likeness` is the share of test images on which it
    chooses the same class as the table's teacher.  `same` names the row whose runs these are, where it has no own;
    `lost` counts the runs that diverged.  `level` is the plain student's mean and its gain
    over that: where seeds are missing, means mislead.
    """

    cell: Cell
    records: list[Record]
    cost: float | None
    needs: tuple[float | None, int | None] = UNKNOWN
    cost_between: tuple[float | None, float | None] = UNKNOWN
    over: Mapping[str, Difference] = field(default_factory=dict)
    above: float = math.nan
    place: tuple[int, int] | None = None
    likeness: float = math.nan
    same: str = ""
    lost: int = 0
    level: float = math.nan

    @property
    def key(self) -> str:
        return self.cell.row.key

    @property
    def label(self) -> str:
        return self.cell.row.label

    @property
    def values(self) -> pd.Series:
        return pd.Series([self.cell.score.of(record) for record in self.records], dtype=float)

    @property
    def competing(self) -> bool:
        """Whether it has a place: the methods and the plain student, but not what only keeps the table honest."""
        return self.cell.row.role in ("baseline", "student")

    @property
    def dear(self) -> bool:
        return self.cost is not None and self.cost > DEAR

    @property
    def dear_by_some(self) -> bool:
        """Whether by some rounds of the bench it costs too much to be compared with KD, and by others not."""
        low, high = self.cost_between
        return low is not None and high is not None and low <= DEAR < high

    @property
    def place_told(self) -> str:
        """`2 to 5`, or `1` where the runs leave one place open; empty where there is none."""
        if self.place is None:
            return ""
        best, worst = self.place
        return str(best) if best == worst else f"{best} to {worst}"

    def mean(self, metric: str) -> float:
        """The mean of a metric over seeds; NaN where a record does not tell."""
        told = [record.metrics.get(metric, math.nan) for record in self.records]
        return sum(told) / len(told) if told else math.nan


def ranking(
    exhibit: Exhibit | str,
    profile: str = "demo",
    *,
    settings: Mapping[str, str] | None = None,
    name: str = "",
) -> list[Table | Said]:
    """The table at every scale and data set that has runs, the best mean first; a demo where the notebook shows one.

    `settings` says of a row who chose its settings, or what a control asks, for the CSV.
    """
    exhibit, store = exhibits.get(exhibit), Store.open()
    found: list[Table | Said] = []
    for scale in dict.fromkeys([*SCALES, profile]):
        for dataset in exhibit.datasets_of(scale):
            cells = exhibit.cells(scale, dataset)
            if any(True for cell, _ in runs_of(cells, store) if cell.row.role != "teacher"):
                label = slug(f"{name or exhibit.key} {scale} {dataset}")
                found.append(_table(exhibit, scale, dataset, settings or {}, label, store))
            elif scale == profile and any(cell.experiment for cell in cells):
                found.append(Said(f"**{exhibit.title}, {measured_at(scale)}:** {NOT_YET}."))
    return found or [Said(f"**{exhibit.title}:** {NOT_YET}; {_why_not(exhibit)}.")]


def standing(exhibit: Exhibit | str) -> Said:
    """Whether the table answers yet: how many of its runs are made at which scale."""
    exhibit, store = exhibits.get(exhibit), Store.open()
    counts = {scale: progress(exhibit, scale, store) for scale in SCALES}
    made = [
        f"{runs_told(counted)} {measured_at(scale).removeprefix('measured ')}"
        for scale, counted in counts.items()
        if counted["runs"]
    ]
    if made:
        return Said(f"**So far:** {', '.join(made)}.")
    return Said(
        f"**Not measured yet:** none of its {counts['pilot']['wanted']} runs is made, at pilot scale or at a larger "
        "one. So this page cannot say yet which method to use."
    )


def runs_told(counts: Mapping[str, object]) -> str:
    """`12 of 199 runs`, of the counts that a dashboard has."""
    return f"{counts['runs']} of {counts['wanted']} runs"


def _why_not(exhibit: Exhibit) -> str:
    reasons = dict.fromkeys(cell.why_not for cell in exhibit.cells("pilot") if cell.why_not)
    return "; ".join(reasons) or "its runs are still to be made"


def measured_rows(cells: Sequence[Cell], store: Store) -> list[Ranked]:
    """The rows that can run, with their records and what they cost beside KD."""
    steps, found = steps_for(cells), []
    for cell in cells:
        if cell.experiment is not None:
            records = records_of(cell, store)
            needs = steps.needs(cell.experiment.method) if cell.row.role != "teacher" else UNKNOWN
            cost = epochs_of_kd(cell, records, store, steps) if records else None
            found.append((Ranked(cell, records, None, needs, lost=len(diverged(cell, store))), cost))
    of_kd = next((cost for row, cost in found if row.key == KD), None)
    first: dict[str, Ranked] = {}
    rows = []
    for row, cost in found:
        known = first.setdefault(_fingerprint(row), row)
        rows.append(replace(_in_kd(row, cost, of_kd), same="" if known is row else known.label))
    return rows


def _in_kd(row: Ranked, cost: Cost | None, of_kd: Cost | None) -> Ranked:
    """A row with its cost in trainings of KD, where both are known."""
    if cost is None or of_kd is None:
        return row
    low, high = (None if end is None else end / of_kd.epochs for end in (cost.low, cost.high))
    return replace(row, cost=cost.epochs / of_kd.epochs, cost_between=(low, high))


def _beside_each_other(rows: Iterable[Ranked], layout: Layout, places: Mapping[str, tuple[int, int]]) -> list[Ranked]:
    """The rows with their gains and chances, the largest gain first."""
    gains = {reference: _gains(layout, reference) for reference in (PLAIN, KD)}
    found = []
    for row in rows:
        over = {reference: of[row.key] for reference, of in gains.items() if row.key in of}
        above = layout.probability(row.key, KD) if {row.key, KD} <= {*layout.rows} else math.nan
        found.append(replace(row, over=over, above=above, place=places.get(row.key)))
    plain = next((float(row.values.mean()) for row in found if row.key == PLAIN and row.records), 0.0)
    found = [replace(row, level=_level(row, plain)) for row in found]
    return sorted(found, key=lambda row: (-round(row.level, 3), row.same))


def _level(row: Ranked, plain: float) -> float:
    """The plain student's mean and what a row has over it; without that gain, its own mean."""
    if not row.records:
        return -math.inf
    return plain + row.over[PLAIN].value if PLAIN in row.over else float(row.values.mean())


def standings(exhibit: Exhibit, scale: str, dataset: str, store: Store) -> tuple[list[Ranked], Layout]:
    """The rows of a table with all that their runs say beside each other, the largest gain first, and the layout."""
    rows = measured_rows(exhibit.cells(scale, dataset), store)
    students = compared(rows)
    layout = layout_of(students)
    ranked = [row.key for row in students if row.competing and len(row.records) > 1]
    places = layout.ranks(ranked) if layout.df > 0 and len(ranked) > 1 else {}
    return _beside_each_other(_with_likeness(rows, dataset, store), layout, places), layout


def compared(rows: Sequence[Ranked]) -> list[Ranked]:
    """The rows whose runs stand beside each other: students, each training once."""
    return [row for row in rows if row.records and row.cell.row.role != "teacher" and not row.same]


def _table(exhibit: Exhibit, scale: str, dataset: str, settings: Mapping[str, str], name: str, store: Store) -> Table:
    rows, layout = standings(exhibit, scale, dataset, store)
    alike = _trained_alike(exhibit, scale, dataset)
    return Table(
        name=name,
        caption=f"{exhibit.title}, {measured_at(scale)}, "
        f"{title(dataset)}; percent, mean ± standard deviation (runs), gains in points.",
        head=[line(*HEAD)],
        body=[_line(row, exhibit.paper, alike) for row in rows if row.records],
        frame=pd.DataFrame([_numbers(row, settings.get(row.key, "")) for row in rows]),
        note=_note(layout, rows, scale),
        css="kdnb-sortable",
        rerun=_rerun(exhibit, rows),
        of_demo=scale == "demo",
    )


def choices(
    exhibit: Exhibit | str,
    settings: Mapping[str, str],
    left_out: Mapping[str, str] | None = None,
    *,
    name: str = "choices",
) -> Table:
    """Who chose the settings of every row, or what a control asks, and what the terms of its loss weigh; of the largest
    scale that has runs, or as they will be at pilot scale.  `left_out` says why methods have no row.
    """
    exhibit, store = exhibits.get(exhibit), Store.open()
    scale = next((scale for scale in SCALES if any(True for _ in runs_of(exhibit.cells(scale), store))), "pilot")
    cells = [cell for cell in exhibit.cells(scale) if cell.experiment is not None or cell.waits]
    without = "; ".join(f"{method} ({why})" for method, why in (left_out or {}).items())
    told = {cell.row: (settings.get(cell.row.key, "") or "–", _weights(cell) or "–") for cell in cells}
    return Table(
        name=name,
        caption=f"Who chose the settings, and what the terms of a loss weigh at {scale} scale.",
        head=[line("Method", "Settings, or what a control asks", "Weights of its terms")],
        body=[line(row.label, *texts) for row, texts in told.items()],
        frame=pd.DataFrame(
            [{"row": row.key, "settings": whose, "weights": weights} for row, (whose, weights) in told.items()]
        ),
        note=f"Methods of the package without a row: {without}." if without else "",
        css="kdnb-claims",
    )


def _trained_alike(exhibit: Exhibit, scale: str, dataset: str) -> dict[str, set[str]]:
    """Method, without KD -> the papers whose tables train a row of it just as this one does."""
    here = {c.experiment.fingerprint: _alone(c) for c in exhibit.cells(scale, dataset) if c.experiment is not None}
    found: dict[str, set[str]] = {}
    for other in exhibits.all_exhibits():
        if other.paper != exhibit.paper and dataset in other.datasets_of(scale):
            for cell in other.cells(scale, dataset):
                if cell.experiment is not None and cell.experiment.fingerprint in here:
                    found.setdefault(here[cell.experiment.fingerprint], set()).add(other.paper)
    return found


def _alone(cell: Cell) -> str:
    return cell.row.method.partition("+")[0]


def _page(row: Ranked, paper: str, alike: Mapping[str, set[str]]) -> str:
    """The page of a row's method; of one that stands beside the labels here, the page of the method without."""
    without = _alone(row.cell).removesuffix("-joint")
    near = [other.key for exhibit in exhibits.all_exhibits() for other in exhibit.rows if other.method == without]
    return page.of_row(paper, row.key, row.cell.row.method, alike.get(_alone(row.cell), ()), dict.fromkeys(near))


def _line(row: Ranked, paper: str, alike: Mapping[str, set[str]]) -> Line:
    memory, parameters = row.needs
    label = row.label + (f" (= {row.same})" if row.same else "")
    return line(
        Entry(label, page=_page(row, paper, alike)),
        _score(row),
        *(gain_told(row.over.get(reference)) for reference in (PLAIN, KD)),
        _chance(row.above) if row.key != KD else "–",
        row.place_told or "–",
        _share(row.likeness),
        _share(row.mean("ece")),
        _number(row.mean("nll"), 3),
        f"{row.cost:.2f}{' ⚑' * row.dear}" if row.cost is not None else "–",
        _number(memory, 2),
        "–" if parameters is None else f"{parameters / 1000:,.0f}",
    )


def _rerun(exhibit: Exhibit, rows: Sequence[Ranked]) -> str:
    """How the numbers of these rows are made once more."""
    runs = framed((row.cell, record) for row in rows for record in row.records)
    return rerun(exhibit, [([row.cell for row in rows if row.records], runs)])


def _fingerprint(row: Ranked) -> str:
    assert row.cell.experiment is not None
    return row.cell.experiment.fingerprint


def _with_likeness(rows: Sequence[Ranked], dataset: str, store: Store) -> list[Ranked]:
    """How often each row's student chooses as the table's teacher does, as far as both keep what they chose."""
    count = datasets.info(dataset).test_count
    teacher = next((_choices(record, count, store) for row in rows if _teaches(row) for record in row.records), None)
    found = []
    for row in rows:
        chosen = [_choices(record, count, store) for record in row.records] if not _teaches(row) else []
        alike = [float((own == teacher).mean()) for own in chosen if own is not None and teacher is not None]
        found.append(replace(row, likeness=sum(alike) / len(alike) if alike else math.nan))
    return found


def _teaches(row: Ranked) -> bool:
    return row.cell.row.role == "teacher"


def _choices(record: Record, count: int, store: Store) -> np.ndarray | None:
    """The class that a run chose for each of so many test images, -1 where it is right; None where it was not kept.

    Two runs choose alike where these are equal: labels are not needed, nor the images.
    """
    try:
        return predictions(store, record, np.full(count, -1)).predicted
    except StoreError:
        return None


def _score(row: Ranked) -> Entry:
    return Entry(spread(row.values, row.cell.score), target=runs_target(row.cell))


def frame_of(rows: Sequence[Ranked]) -> pd.DataFrame:
    lines = [(row.key, record.seed, row.cell.score.of(record)) for row in rows for record in row.records]
    return pd.DataFrame(lines, columns=["row", "seed", "value"])


def layout_of(rows: Sequence[Ranked]) -> Layout:
    """The model of these rows; what did not learn stands apart, since near the floor runs are alike."""
    frame = frame_of(rows)
    means = frame.groupby("row")["value"].mean()
    return Layout(frame, [str(row) for row in means.index[means < LEARNED * means.get(PLAIN, math.nan)]])


def _gains(layout: Layout, reference: str) -> dict[str, Difference]:
    """Every row less a reference, simultaneous over all of them; only rows that share a seed with it."""
    if reference not in layout.rows:
        return {}
    return {d.a: d for d in layout.differences([(row, reference) for row in layout.rows if row != reference]) if d.n}


def gain_told(gain: Difference | None) -> str:
    return ACCURACY.difference(gain) if gain else "–"


def _share(value: float) -> str:
    """A share in 0..1 as percent."""
    return _number(100 * value, 1)


def _chance(value: float) -> str:
    """The like of a probability, which is never quite 0 or 1."""
    return "> 99.9" if value > 0.9995 else "< 0.1" if value < 0.0005 else _share(value)


def _weights(cell: Cell) -> str:
    """What the terms of a row's loss weigh: `weight 30000`, `labels weight 0.1, soft weight 0.9`; what is calibrated
    before training has no number here.
    """
    if cell.experiment is None:
        return ""
    known = methods.get(cell.experiment.method).arguments(cell.experiment.arguments)
    found = {name: value for name, value in known.items() if name.rpartition("_")[2] in WEIGHTS}
    return ", ".join(f"{n.replace('_', ' ')} {value:g}" for n, value in found.items() if value is not None)


def _number(value: float | None, decimals: int) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{decimals}f}"


def _numbers(row: Ranked, settings: str) -> dict[str, object]:
    """A row of the CSV."""
    told: dict[str, object] = {"row": row.key, "label": row.label, "runs": len(row.records), "diverged": row.lost}
    told |= {"mean": row.values.mean() if row.records else None, "std": row.values.std(ddof=1)}
    told |= {"seeds": " ".join(str(record.seed) for record in row.records)}
    for reference in (PLAIN, KD):
        gain = row.over.get(reference)
        told |= {f"over_{reference}": gain and gain.value}
        told |= {f"over_{reference}_low": gain and gain.low, f"over_{reference}_high": gain and gain.high}
    best, worst = row.place or (None, None)
    told |= {f"above_{KD}": row.above, "best_place": best, "worst_place": worst}
    told |= {"agreement": row.likeness, **{metric: row.mean(metric) for metric in ("ece", "nll")}}
    told |= {"cost_in_kd": row.cost, **dict(zip(("cost_low", "cost_high"), row.cost_between, strict=True))}
    told |= {"over_budget": row.dear}
    told |= dict(zip(("peak_gib", "extra_parameters"), row.needs, strict=True))
    told |= {"settings": settings, "weights": _weights(row.cell)}
    return told | {"fingerprint": row.cell.experiment and row.cell.experiment.fingerprint}


def _note(layout: Layout, rows: Sequence[Ranked], scale: str) -> str:
    """What is missing, how wide intervals are, what a flag means, and what may not be read into a demo."""
    if scale == "demo":
        return OF_A_DEMO
    missing = [row.label for row in rows if not row.records and not row.lost]
    are = "row is" if len(missing) == 1 else "rows are"
    said = [f"{len(missing)} {are} not measured yet: {'; '.join(missing)}."] if missing else []
    lost = [f"{row.label} ({row.lost} of {row.lost + len(row.records)})" for row in rows if row.lost]
    said += [f"Runs that diverged and have no score: {', '.join(lost)}."] if lost else []
    known = [row.over[KD] for row in rows if KD in row.over and row.over[KD].known]
    if known:
        halves = widths_told([gain for gain in known if gain.a not in layout.odd] or known, ACCURACY)
        places = sum(row.place is not None for row in rows)
        said.append(
            f"A place is one of {places}: the methods with several seeds, and the plain student. Intervals hold "
            f"together for the {len(known)} rows of a column that have several seeds, controls too (95 %): {halves} "
            f"points over KD, and a smaller gain cannot be told from none. One run varies by {layout.sd:.2f} points "
            f"({layout.df} degrees of freedom{'' if layout.pooled else '; not pooled, variances differ'})."
        )
    if layout.odd:
        odd = "; ".join(row.label for row in rows if row.key in layout.odd)
        said.append(f"Compared by their own runs alone, since they did not learn or vary more than the others: {odd}.")
    ways = sorted({precision_told(record) for row in rows for record in row.records} - {""})
    said += [f"Trained in {' and '.join(ways)}, scored in float32."] if ways else []
    return " ".join([*said, *_costs_told([row for row in rows if row.records])])


def _costs_told(rows: Sequence[Ranked]) -> Iterator[str]:
    """What a flag means and how sure it is, with what steps were timed, and what is in no cost; sentences."""
    cells = [row.cell for row in rows]
    steps, own = steps_for(cells), networks_of(cells)
    if not steps.found:
        return
    yield f"⚑ costs more than {DEAR} times KD: compare it with KD trained longer, not with KD."
    close = [row.label for row in rows if row.dear_by_some]
    if close:
        yield f"Above that in some rounds of timing, below it in others (`cost_low`, `cost_high`): {', '.join(close)}."
    other = f"; this table's networks are {pair_title(*own)}" if own not in (None, steps.networks) else ""
    yield f"Cost, memory and extra parameters were measured step by step, with {steps.told}{other}."
    unknown = [row.label for row in rows if row.cost is None and row.cell.row.role != "teacher" and not row.same]
    if unknown:
        yield f"Not all steps were timed of: {', '.join(unknown)}."
    alone = [row.label for row in rows if methods.get(row.cell.row.method).teacher_alike and not row.same]
    if alone:
        yield f"No teacher's training is counted, nor the first training of what teaches itself: {', '.join(alone)}."


def again(exhibit: Exhibit | str, rows: Sequence[str], profile: str = "demo", *, name: str = "again") -> Table | Said:
    """Rows that are one method again, pair by pair: how often 95 % intervals decide where there is nothing to decide.

    Each interval stands alone, so that about one in twenty should; at the largest scale that is measured.
    """
    exhibit, store = exhibits.get(exhibit), Store.open()
    for scale in dict.fromkeys([*SCALES, profile]):
        cells = exhibit.cells(scale, exhibit.datasets_of(scale)[0])
        found = compared(measured_rows(cells, store))
        there = [row.key for row in found if row.key in rows]
        layout = layout_of(found) if len(there) > 1 else None
        if layout is not None and layout.df > 0:
            return _again(exhibit, layout, there, scale, name)
    return Said(f"**The same method again:** {NOT_YET} with several seeds.")


def _again(exhibit: Exhibit, layout: Layout, rows: Sequence[str], scale: str, name: str) -> Table:
    pairs = [layout.differences([pair])[0] for pair in itertools.combinations(rows, 2)]
    decided = [pair.known and not pair.low <= 0 <= pair.high for pair in pairs]
    body = [
        line(f"{exhibit.row(d.a).label} − {exhibit.row(d.b).label}", gain_told(d), "yes" if says else "no")
        for d, says in zip(pairs, decided, strict=True)
    ]
    return Table(
        name=name,
        caption=f"The same method again, {measured_at(scale)}: does an interval decide? Points.",
        head=[line("Pair", "Difference", "Decides")],
        body=body,
        frame=pd.DataFrame([{"a": d.a, "b": d.b, "value": d.value, "low": d.low, "high": d.high} for d in pairs]),
        note=f"{sum(decided)} of {len(pairs)} decide; {100 * (1 - LEVEL):.0f} % of many such pairs should, "
        f"{(1 - LEVEL) * len(pairs):.1f} of these. {_own_spread(layout, rows)}",
    )


def _own_spread(layout: Layout, rows: Sequence[str]) -> str:
    """Whether rows that are one method vary as the table's rows do: few pairs decide too seldom to tell."""
    own = Layout(layout.table[list(rows)].melt(ignore_index=False, var_name="row").reset_index())
    if not own.df > 0:
        return ""
    return (
        f"One run of these rows varies by {own.sd:.2f} points beside the others of its seed ({own.df} degrees of "
        f"freedom), one of the whole table by {layout.sd:.2f}."
    )


def search(exhibit: Exhibit | str, profile: str = "pilot", *, name: str = "search") -> Table | Said:
    """A search for settings: what the images that choose say of each candidate, best first, and which was taken.

    It is the search's own score, or, where that is the accuracy on the test images, the accuracy after the last epoch
    on those held out.  A method's best is taken once all of its candidates are measured; of equals the first.
    """
    exhibit, store = exhibits.get(exhibit), Store.open()
    cells = exhibit.cells(profile)
    of_method = {cell.row.method: [c for c in cells if c.row.method == cell.row.method] for cell in cells}
    found = {method: choosing.search(those, _on_held_out, store) for method, those in of_method.items()}
    lines = [
        (cell.row.label, cell.row.method, found[cell.row.method].scores[cell.row.key], cell.row.key)
        for cell in cells
        if cell.row.key in found[cell.row.method].scores
    ]
    lost = [cell.row.label for cell in cells if cell.row.key in found[cell.row.method].lost]
    if not lines and not lost:
        return Said(f"**{exhibit.title}, {measured_at(profile)}:** {NOT_YET}.")
    frame = pd.DataFrame(lines, columns=["candidate", "method", "accuracy", "row"])
    taken = {one.best.key for one in found.values() if one.best}
    frame = frame.sort_values("accuracy", ascending=False, kind="stable").reset_index(drop=True)
    body = [
        line(candidate, f"{accuracy:.2f}", "taken" if row in taken else "")
        for candidate, _, accuracy, row in frame.itertuples(index=False, name=None)
    ]
    body += [line(label, "diverged", "") for label in lost]
    return Table(
        name=name,
        caption=f"{exhibit.title}, {measured_at(profile)}: accuracy on held-out training images, %.",
        head=[line("Candidate", "Accuracy", "Choice")],
        body=body,
        frame=frame,
        note=f"{len(body)} of {len(cells)} candidates are measured, one seed each.{_edges_told(of_method, found)}",
    )


def _edges_told(of_method: Mapping[str, Sequence[Cell]], found: Mapping[str, choosing.Search]) -> str:
    """Which methods' best candidate lies at the edge of what was tried; begins with a blank, or is empty."""
    told = ""
    for method, one in found.items():
        edges = choosing.at_the_edge(of_method[method], one.best) if one.best else ()
        if edges and one.best:
            *more, last = (f"the {edge}" for edge in edges)
            named = f"{', '.join(more)} and {last}" if more else last
            told += f" “{one.best.label}” has {named} that {'were' if more else 'was'} tried."
    return told + " Beyond the edge of a search may lie better settings." * bool(told)


def _on_held_out(cell: Cell, record: Record) -> float:
    return 100 * record.history["validation_accuracy"][-1] if cell.score == ACCURACY else cell.score.of(record)
