"""The front page in numbers: a reader's questions, what the store answers, and how sure that is; a line a paper."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from kdnb import exhibits, page
from kdnb.exhibits import ACCURACY, Exhibit, Paper, measure
from kdnb.exhibits.controls import gains_at_equal_schedule
from kdnb.exhibits.exhibit import Cell
from kdnb.exhibits.names import pair_title
from kdnb.exhibits.runs import SCALES, measured, records_of, students
from kdnb.exhibits.status import progress
from kdnb.study.statistics import Difference, Layout
from kdnb.study.store import Store
from kdnb.tables.claims import CHIPS
from kdnb.tables.in_short import less_images, strongest_gains
from kdnb.tables.ledger import by_chip
from kdnb.tables.ranking import DEAR, KD, PLAIN, Ranked, runs_told, standing, standings
from kdnb.tables.sheet import Included, Said
from kdnb.tables.words import NOT_YET, measured_at, methods_told, title

#: What agrees at a smaller scale than the paper's; so many such claims are named.
AGREES = CHIPS["agrees at that scale"]
FEW_CLAIMS = 3


def front(first: Exhibit | str, board: Exhibit | str, final: Exhibit | str, store: Store | None = None) -> Included:
    """What a reader asks first, answered from the exhibit that has most runs and from the table of all methods.

    `final` has the best of that table on fresh seeds, and is asked before it: the seeds that choose them flatter them.
    Two tables, with links as the front page has them, which includes them.
    """
    store, first, boards = store or Store.open(), exhibits.get(first), [exhibits.get(final), exhibits.get(board)]
    answers = [
        ("Does distilling help?", *_helps(first, store)),
        ("Which method should I use?", *_which(first, boards, store)),
        ("How much is the schedule's?", *_schedule(first, store)),
        ("Do the papers' claims hold?", *_claims(store)),
    ]
    lines = ["| Question | Answer so far | How sure |", "| --- | --- | --- |"]
    lines += [f"| **{question}** | {answer} | {sure} |" for question, answer, sure in answers]
    lines += ["", "| Paper | Claims | Printed numbers | Measured at the paper's size | At smaller scales |"]
    lines += ["| --- | --- | --- | --- | --- |", *(_paper(paper, store) for paper in exhibits.papers() if paper.claims)]
    lines += ["", "Cells are those of a paper's tables and figures at that scale, with a printed number or without."]
    return Included({"in-one-minute": "\n".join(lines) + "\n"})


def answer(board: Exhibit | str, store: Store | None = None) -> Said:
    """What a table of all methods says first: which gains most, and how sure that is; then how much of it is measured.

    The same sentence as the front page has, where there is one.
    """
    board, store = exhibits.get(board), store or Store.open()
    standing_told, found = standing(board).text, _ranked(board, store)
    return Said(f"{found.told} ({found.sure})\n\n{standing_told}" if found else standing_told)


# -- the questions -----------------------------------------------------------------------------------------


def _helps(exhibit: Exhibit, store: Store) -> tuple[str, str]:
    found = _gains(exhibit, store)
    if found is None:
        return NOT_YET, "–"
    scale, place, gains, seeds = found
    better = sum(gain.known and gain.low > 0 for gain in gains)
    median = statistics.median(gain.value for gain in gains)
    word = "Yes, here" if 2 * better > len(gains) else "Some methods here" if better else "Not that we can tell here"
    rows = methods_told(gain.a for gain in gains)
    answer = f"{word}: {better} of {len(gains)} {rows} beat the plain student by more than chance explains. "
    answer += f"The median gain is {median:.1f} points.{_elsewhere(exhibit, place, store)}"
    sure = f"{seeds} seed{'s' * (seeds > 1)}, one teacher, {measured_at(scale)}: {place}"
    table = _link("one paper's table", exhibit.paper, exhibit.name)
    return answer, f"{sure}; {table}. Ranks may change at full size."


def _elsewhere(exhibit: Exhibit, place: str, store: Store) -> str:
    """` On CIFAR-10: 9 of 15, the other 6 with one seed.`: of the other places at the strongest scale; often empty."""
    _, places, gains = strongest_gains(exhibit, store) or ("", {}, {})
    told = []
    for other, found in gains.items():
        if other != place and found:
            better = sum(gain.known and gain.low > 0 for gain in found)
            alone = sum(not gain.known for gain in found)
            rest = f"; {alone} have one seed, which decides nothing" if alone else ""
            told.append(f"{title(places[other].dataset)}: {better} of {len(found)}{rest}")
    return f" On {', '.join(told)}." if told else ""


def _which(exhibit: Exhibit, boards: Sequence[Exhibit], store: Store) -> tuple[str, str]:
    """From the first of the tables of all methods that answers, else from one paper's."""
    for board in boards:
        if (found := _ranked(board, store)) is not None:
            return found.told, f"{found.sure}: {_link('the leaderboard', board.paper, board.paper)}"
    gained = _gains(exhibit, store)
    if gained is None:
        return NOT_YET, "–"
    scale, _, gains, _ = gained
    by_row = {gain.a: gain for gain in gains}
    best = max(gains, key=lambda gain: gain.value)
    equal = gains_at_equal_schedule(exhibit, scale, exhibit.datasets_of(scale)[0], store)
    answer = f"{exhibit.row(best.a).label} gains most: {best.value:+.1f} points over the plain student"
    answer += f", {equal[best.a].value:+.1f} over one on its own schedule." if best.a in equal else "."
    kd = by_row.get("kd")
    answer += f" KD alone gains {kd.value:+.1f}." if kd else ""
    sure = f"{best.value:+.1f} [{best.low:.1f}, {best.high:.1f}], {best.n} seeds" if best.known else "one seed"
    sure += f", {measured_at(scale)}"
    board = boards[-1]
    terms = f"all methods on equal terms: {_link('the leaderboard', board.paper, board.paper)}"
    return answer, f"{sure}; {terms}, {runs_told(progress(board, 'pilot', store))} so far"


@dataclass(frozen=True)
class _Answer:
    """A sentence, and how sure it is."""

    told: str
    sure: str


def _ranked(board: Exhibit, store: Store) -> _Answer | None:
    """The best of a table of all methods, where it and KD are measured with several seeds."""
    for scale in SCALES:
        for dataset in board.datasets_of(scale):
            rows, _ = standings(board, scale, dataset, store)
            there = [row for row in rows if row.competing and row.records]
            sure = [row for row in there if row.place and row.over and all(gain.known for gain in row.over.values())]
            if sure:
                told = _leads(sure) + _by_one_seed(there[: there.index(sure[0])]) + _first_of_all(rows)
                return _Answer(told, _how_sure(board, sure[0], rows, scale, dataset, store))
    return None


def _by_one_seed(above: Sequence[Ranked]) -> str:
    """` By one seed each, which decides nothing, stand above it: ReviewKD, ReviewKD + KD.`; empty where none does."""
    labels = [f"“{row.label}”" if "," in row.label else row.label for row in above]
    if not labels:
        return ""
    return f" By one seed{' each' * (len(labels) > 1)}, which decides nothing, still higher: {', '.join(labels)}."


def _leads(rows: Sequence[Ranked]) -> str:
    """`CRD + KD gains most: 45.4 %, +8.4 [6.5, 10.2] over KD; its place is 1 to 3 of 14.`

    What costs more than KD says so, and comes after the one that gains most of the others.
    """
    best, count = rows[0], sum(row.place is not None for row in rows)
    if not best.dear:
        return f"{_gains_most(best)} of {count}."
    dear = f" With these networks it costs {best.cost:.1f} times as much as KD: KD that trains longer may do as well."
    cheaper = next((row for row in rows if not row.dear and row.place and row.key not in (KD, PLAIN)), None)
    if cheaper is None:
        return f"{_gains_most(best)} of {count}.{dear}"
    first = f"Of what costs at most {DEAR} times as much as KD, {_gains_most(cheaper)} of {count}."
    return f"{first} At any cost {_gains_most(best)}.{dear}"


def _first_of_all(rows: Sequence[Ranked]) -> str:
    """What KD itself gains by other settings at no cost: the control of it that gains most beyond doubt.

    Begins with a blank; empty where no control does.
    """
    of_kd = [row for row in rows if not row.competing and row.cell.row.method == KD and KD in row.over and not row.dear]
    ahead = [row for row in of_kd if row.over[KD].known and row.over[KD].low > 0]
    if not ahead:
        return ""
    best = max(ahead, key=lambda row: row.over[KD].value)
    told = f" KD itself in another setting, “{best.label}”, gains {ACCURACY.difference(best.over[KD])} over KD, at KD's"
    return f"{told} cost: part of their lead may be that."


def _gains_most(row: Ranked) -> str:
    gain = f", {ACCURACY.difference(row.over[KD])} over KD" if KD in row.over else ""
    return f"{row.label} gains most: {row.values.mean():.1f} %{gain}; its place is {row.place_told}"


def _how_sure(board: Exhibit, best: Ranked, rows: list[Ranked], scale: str, dataset: str, store: Store) -> str:
    able = [row for row in rows if row.competing]
    missing = sum(not row.records for row in able)
    told = f"{min(gain.n for gain in best.over.values())} seeds, {measured_at(scale)}, {title(dataset)}"
    e = next((row.cell.experiment for row in rows if row.key == KD), None)
    if e is not None and e.teacher is not None:
        told += f", {pair_title(str(e.teacher.network), str(e.network))}{less_images(scale)}"
    are = "is" if missing == 1 else "are"
    told += f"; {missing} of {len(able)} rows {are} not measured yet, controls not counted" if missing else ""
    counts = runs_told(progress(board, scale, store)) + " with theirs"
    larger = "" if scale == "paper" else "; ranks may change at full size"
    return f"{told} ({counts}){larger}"


def _schedule(exhibit: Exhibit, store: Store) -> tuple[str, str]:
    """What the schedule of some rows gives to the plain student, beside what methods give."""
    found = _gains(exhibit, store)
    if found is None or not exhibit.controls:
        return NOT_YET, "–"
    scale, _, gains, _ = found
    key, row, _ = next(iter(exhibit.controls.values()))
    control = exhibits.get(key)
    runs = students(measure(control, scale, control.datasets_of(scale)[0], store))
    if not {row, "plain"} <= {*runs["row"]}:
        return NOT_YET, "–"
    (alone,) = Layout(runs).differences([(row, "plain")])
    less = sum(gain.value < alone.value for gain in gains)
    answer = (
        f"Another schedule alone, that of {exhibit.row(next(iter(exhibit.controls))).label}, gives the plain student "
    )
    answer += (
        f"{alone.value:+.1f} points: more than {less} of the {len(gains)} rows gain in the mean. Compare methods on "
    )
    answer += "one schedule."
    sure = f"[{alone.low:.1f}, {alone.high:.1f}] by itself, {alone.n} seeds" if alone.known else "one seed"
    return answer, f"{sure}; {_link('the controls', control.paper, control.name)}"


def _claims(store: Store) -> tuple[str, str]:
    judged = by_chip(store)
    cells = [c for e in exhibits.all_exhibits() for c in e.cells("paper") if c.reported is not None]
    each = (f"{chip} {len(claims)}".replace(" ", "\N{NO-BREAK SPACE}", 1) for chip, claims in judged.items())
    answer = f"Of {sum(map(len, judged.values()))}, each at its largest measured scale: {', '.join(each)}."
    agree = judged.get(AGREES, [])
    if 0 < len(agree) <= FEW_CLAIMS:
        answer += f" What agrees is {' and '.join(claim.full_id for claim in agree)}: read what stands beside it."
    ledger = _link("the ledger", "evidence", "ledger")
    done = measured(cells, store)
    of_all = f"{len(done)} of {len(cells)} printed numbers are measured at the papers' own size"
    taught = any(cell.experiment is not None and cell.experiment.teacher is not None for cell in done)
    alone = ", none of them of a student with a teacher" if done and not taught else ""
    return answer, f"{of_all}{alone}{_apart(done, store)}; {ledger}"


def _apart(cells: list[Cell], store: Store) -> str:
    """How far means lie from the printed numbers, of scores whose differences are points; empty where none is known."""
    apart = []
    for cell in cells:
        if cell.score.points == "points" and cell.reported is not None:
            apart.append(abs(statistics.fmean(cell.score.of(r) for r in records_of(cell, store)) - cell.reported))
    apart = [found for found in apart if math.isfinite(found)]
    if not apart:
        return ""
    return f" (they differ from print by {statistics.median(apart):.1f} points in the median, {max(apart):.1f} at most)"


def _gains(exhibit: Exhibit, store: Store) -> tuple[str, str, list[Difference], int] | None:
    """Scale, place, gains over the plain student of several rows, and how many seeds each rests on at least."""
    found = strongest_gains(exhibit, store)
    if found is None:
        return None
    scale, _, places = found
    some = ((place, gains) for place, gains in places.items() if len(gains) > 1)
    return next(((scale, place, gains, min(gain.n for gain in gains)) for place, gains in some), None)


def _link(text: str, paper: str, name: str) -> str:
    """A link from the front page where the book has that page, else the words."""
    return f"[{text}](executed/{paper}/{name}.ipynb)" if page.exists(paper, name) else text


# -- the papers --------------------------------------------------------------------------------------------


def _paper(paper: Paper, store: Store) -> str:
    cells = [cell for exhibit in paper.exhibits for cell in exhibit.cells("paper") if cell.reported is not None]
    smaller = [_smaller(paper, scale, store) for scale in SCALES if scale != "paper"]
    name = f"[{paper.heading}](papers/{paper.key}.md)" if page.of_paper(paper.key) else paper.heading
    told = "; ".join(text for text in smaller if text) or NOT_YET
    return f"| {name} | {len(paper.claims)} | {len(cells)} | {len(measured(cells, store))} | {told} |"


def _smaller(paper: Paper, scale: str, store: Store) -> str:
    """`pilot: 19 of 34 cells`, or nothing."""
    cells = [c for e in paper.exhibits for c in e.cells(scale) if c.experiment is not None]
    done = len(measured(cells, store))
    return f"{scale}: {done} of {len(cells)} cells" if done else ""
