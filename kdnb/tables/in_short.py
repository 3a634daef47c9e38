"""The study in a few lines: what is measured, which methods gain, and what the claims came to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from kdnb import exhibits, page
from kdnb.exhibits import Cell, Exhibit, Pair, Paper, Score, measure
from kdnb.exhibits.controls import DAGGER
from kdnb.exhibits.names import pair_title
from kdnb.exhibits.runs import SCALES, diverged, records_of, runs_of, students
from kdnb.study.profile import get_profile
from kdnb.study.record import Record
from kdnb.study.statistics import Difference, Layout, paired
from kdnb.study.store import Store
from kdnb.tables.claims import told_of_claims
from kdnb.tables.evidence import set_aside_told
from kdnb.tables.schedules import equal_schedule_told
from kdnb.tables.words import TITLES, methods_told, title

#: So many places (a data set, a pair of networks) have a sentence each; more are counted.
FEW_PLACES = 2
#: So many methods are named; more are counted.
MOST_NAMED = 3


@dataclass(frozen=True)
class Sentences:
    """Sentences with numbers from the store, as a list; in the book also a file beside the page, to be included.

    A sentence may have a list of its own, in Markdown.
    """

    name: str
    lines: tuple[str, ...]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        text = "\n".join(f"- {line}" for line in self.lines)
        if page.in_book():
            (page.folder() / f"{self.name}.md").write_text(text + "\n", encoding="utf-8")
        return {"text/plain": text, "text/markdown": text}


def in_short(paper: str, profile: str = "demo", store: Store | None = None) -> Sentences:
    """Which methods gain, which claims got which verdict, and how many cells are measured at which scale."""
    store = store or Store.open()
    in_print, *verdicts = told_of_claims(paper, store)
    measured = [told_of_measured(paper, name, store) for name in dict.fromkeys([*SCALES, profile])]
    found = [*told_of_gains(exhibits.paper(paper), store), *verdicts, in_print, *measured]
    return Sentences("in-short", tuple(line for line in found if line))


class Students(NamedTuple):
    """The runs of one place: a data set, networks and a score.

    score     what they scored by
    runs      row, seed, value: more is better
    dataset   the images that they learned
    pairs     the pairs of networks of the paper that these ones stand for; "" where the paper has one pair
    where     data set, measured networks and score, in words
    """

    score: Score
    runs: pd.DataFrame
    dataset: str
    pairs: tuple[str, ...]
    where: str


def told_of_gains(paper: Paper, store: Store | None = None) -> list[str]:
    """What the methods of a paper's first table gain on the plain student, at the strongest scale that has runs of
    both; a demo is none.

    One sentence for a data set or pair of networks, one for all of them where they are many; what the paper's own
    methods gain is always among it.
    """
    store, exhibit = store or Store.open(), paper.exhibits[0]
    found = strongest_gains(exhibit, store)
    if found is None:
        return []
    scale, places, gains = found
    labels = {row.key: row.label for row in exhibit.rows}
    beware = f" {paper.beware[scale]}" if scale in paper.beware else ""
    if len(gains) > FEW_PLACES:
        counted = f"{_over_places(gains, labels)}{_own_over_places(gains, paper.own)}"
        return [f"{TITLES[scale]}, {_counted(exhibit, len(gains))}: {counted}{beware}"]
    told = [
        f"{TITLES[scale]}, {place}: {_sentence(of, places[place].score, places[place].runs, labels)}"
        f"{_own(of, places[place].score, labels, paper.own)}{beware}"
        for place, of in gains.items()
    ]
    return told + ([_of_controls(exhibit, scale, store)] if exhibit.controls else [])


def strongest_gains(
    exhibit: Exhibit, store: Store
) -> tuple[str, dict[str, Students], dict[str, list[Difference]]] | None:
    """The largest scale whose gains over the plain student have intervals, or, where none has, that has gains at all.

    Scale, its places, and the gains at each of those that have some: of rows that share a seed with the plain student.
    """
    first = None
    for scale in SCALES:
        places = students_of(exhibit, scale, store)
        of_places = {place: paired(of.runs) for place, of in places.items() if _has_gains(of.runs)}
        gains = {place: [gain for gain in of if gain.n] for place, of in of_places.items()}
        if any(gain.known for of in gains.values() for gain in of):
            return scale, places, gains
        first = first or ((scale, places, gains) if gains else None)
    return first


def _counted(exhibit: Exhibit, places: int) -> str:
    """What so many places of an exhibit are: pairs of networks, scores of one pair, or both."""
    scores = len({column.score.key for column in exhibit.columns})
    pairs = places // scores
    told = [f"on {pairs} pairs of networks"] * (pairs > 1) + [f"by {scores} scores of the same runs"] * (scores > 1)
    return ", ".join(told)


def _of_controls(exhibit: Exhibit, scale: str, store: Store) -> str:
    """Which rows have a schedule of their own, and what they gain over the plain student on that one."""
    names = " and ".join(exhibit.row(key).label for key in exhibit.controls)
    told = equal_schedule_told(exhibit, [(scale, dataset) for dataset in exhibit.datasets_of(scale)], store)
    are, their = ("are", "their") if len(exhibit.controls) > 1 else ("is", "its")
    return f"{names} {are}{told.removeprefix(DAGGER).replace('of their own', f'of {their} own', 1)}"


def students_of(exhibit: Exhibit, scale: str, store: Store) -> dict[str, Students]:
    """Data set, measured networks and score, in words, and what the scale changes -> the students there.

    A row of another network than the plain student's, an auxiliary say, is no method for that student.  Two of the
    paper's pairs may have the same relatives at a scale: these count once, as the first of the two.  A pair all of
    whose runs stand in one before it, among others, does not count.
    """
    scores = {column.score.key: column.score for column in exhibit.columns}
    found: dict[str, Students] = {}
    seen: dict[str, list[set[str]]] = defaultdict(list)
    for (dataset, pair, key), runs in measure(exhibit, scale, None, store).groupby(
        ["dataset", "pair", "score"], sort=False
    ):
        plain = runs[runs["line"] == "plain"]["student"]
        own = runs[runs["student"] == plain.iloc[0]] if len(plain) else runs
        taught, score = own[own["teacher"] != ""], scores[key]
        if len(taught):
            networks = f"{title(dataset)}, {pair_title(taught['teacher'].iloc[0], taught['student'].iloc[0])}"
            scored = f", {score.title}" if len(scores) > 1 else ""
            told = f"{networks}{less_images(scale)}{scored}"
            if told not in found and any(set(own["path"]) < before for before in seen[key]):
                continue
            seen[key].append(set(own["path"]))
            gained = students(own)
            gained["value"] *= score.direction
            known = found.setdefault(told, Students(score, gained, dataset, (), f"{networks}{scored}"))
            found[told] = known._replace(pairs=(*known.pairs, pair))
    return found


def less_images(scale: str) -> str:
    """That students see fewer images than their teacher, where a scale has it so."""
    count = get_profile(scale).student_images
    return f" (its teacher saw all images, the student {count:,})" if count else ""


def fewer_images(scale: str) -> str:
    """The same of several students."""
    count = get_profile(scale).student_images
    return f"; teachers saw all images, students {count:,} of them" if count else ""


def _has_gains(frame: pd.DataFrame) -> bool:
    seeds = frame.groupby("row")["seed"].agg(set)
    return "plain" in seeds.index and any(seeds["plain"] & of for row, of in seeds.items() if row != "plain")


def _sentence(found: Sequence[Difference], score: Score, frame: pd.DataFrame, labels: dict[str, str]) -> str:
    """`the plain student has 27.70 %; CRD + KD gains the most on it, 17.5 points [16.0, 19.0]. ...`"""
    best = max(found, key=lambda gain: gain.value)
    plain = score.told(score.direction * frame[frame["row"] == "plain"]["value"].mean())
    told = plain if score.higher_is_better else f"{plain} ({score.title.lower()})"
    most = (
        f"{labels[best.a]} gains the most on it" if best.value > 0 else f"none gains on it, {labels[best.a]} is nearest"
    )
    text = f"the plain student has {told}; {most}, {score.gain(best.value)}"
    if not best.known:
        return f"{text}, from one seed."
    gained, lost = _beyond_chance(found)
    if len(found) == 1:
        return f"{text} {score.interval(best.low, best.high)} (95 %)."
    rows = methods_told(gain.a for gain in found)
    text += f" {score.interval(best.low, best.high)}. {gained} of {len(found)} {rows} beat the plain student by more "
    text += "than seeds explain" + (f"; {lost} lose{'s' * (lost == 1)} to it" if lost else "")
    open_ = [labels[gain.a] for gain in found if not (gain.low > 0 or gain.high < 0)]
    told = f"; for {_listed(open_)} we cannot say" if open_ else ""
    apart = set_aside_told({"": [labels[row] for row in Layout(frame).odd]}, name_places=False)
    return f"{text}{told} (95 % for these {len(found)} gains together).{f' {apart}' if apart else ''}"


def _own(found: Sequence[Difference], score: Score, labels: Mapping[str, str], own: Sequence[str]) -> str:
    """` The paper's own: SLKD +11.14 [9.40, 12.88].`, without the one that gains the most and is told."""
    best = max(found, key=lambda gain: gain.value)
    told = [f"{labels[gain.a]} {score.difference(gain)}" for gain in found if gain.a in own and gain is not best]
    return f" The paper's own: {', '.join(told)}." if told else ""


def _own_over_places(gains: Mapping[str, Sequence[Difference]], own: Sequence[str]) -> str:
    """` The paper's own, 16 of them: 3 gains, 4 losses.`"""
    found = [gain for of in gains.values() for gain in of if gain.a in own and gain.known]
    gained, lost = _beyond_chance(found)
    if not found:
        return ""
    return f" The paper's own, {len(found)} of them: {gained} gains, {lost} losses."


def _listed(names: Sequence[str]) -> str:
    """`FSP`, `FSP and PKT`, `5 of them`."""
    return " and ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} of them"


def _over_places(gains: dict[str, list[Difference]], labels: dict[str, str]) -> str:
    """`the most is gained by DKD on 4, by SLKD on 2; ...`"""
    best = Counter(max(found, key=lambda gain: gain.value).a for found in gains.values())
    told = ", ".join(f"by {labels[row]} on {count}" for row, count in best.most_common())
    every = [gain for found in gains.values() for gain in found]
    if not any(gain.known for gain in every):
        return f"the most is gained {told}, from one seed each."
    gained, lost = _beyond_chance(every)
    return (
        f"the most is gained {told}. Of {len(every)} comparisons with the plain student {gained} are gains beyond "
        f"chance, {lost} losses."
    )


def _beyond_chance(gains: Sequence[Difference]) -> tuple[int, int]:
    """How many are gains, and how many losses, by their intervals."""
    gained = sum(gain.known and gain.low > 0 for gain in gains)
    return gained, sum(gain.known and gain.high < 0 for gain in gains)


def told_of_measured(paper: str, profile: str, store: Store) -> str:
    """How many cells of a paper are measured at a scale, with how many runs; empty where a smaller scale has none."""
    every = [cell for exhibit in exhibits.paper(paper).exhibits for cell in exhibit.cells(profile)]
    cells = [cell for cell in every if cell.experiment is not None]
    runs = [records_of(cell, store) for cell in cells]
    done, total = sum(len(found) > 0 for found in runs), len(cells)
    count = len({record.path for found in runs for record in found})  # one may stand in several tables
    most = max((len(found) for cell, found in zip(cells, runs, strict=True) if cell.row.role != "teacher"), default=0)
    where = {"paper": "At paper scale", "demo": "In this build's demo"}.get(profile, f"At {profile} scale")
    if not count:
        return _nothing_told(paper, store) if profile == "paper" else ""
    seeds = "; one seed each, which says nothing of chance" if most == 1 else ""
    able = "" if profile == "paper" or len(cells) == len(every) else " that have relatives"
    shared = _shared(cells, runs)
    lost = len({(cell.experiment, seed) for cell in cells for seed in diverged(cell, store)})
    told = f"; {lost} more diverged, and no claim is judged by what they leave" if lost else ""
    runs_told = f"{count} run{'s' * (count > 1)}"
    return f"{where} {done} of {total} cells{able} are measured, with {runs_told}{shared}{seeds}{told}."


def _nothing_told(paper: str, store: Store) -> str:
    """What is said at a paper's own scale where it has no runs."""
    smaller = (cell for e in exhibits.paper(paper).exhibits for scale in SCALES for cell in e.cells(scale))
    if any(True for _ in runs_of(smaller, store)):
        return "At paper scale nothing is measured yet."
    return "None of this paper's runs is made yet, at any scale; what a build has is a demo."


def _shared(cells: Sequence[Cell], runs: Sequence[Sequence[Record]]) -> str:
    """Why a run counts for more than one of the cells that are measured."""
    pairs: dict[str, set[Pair | None]] = defaultdict(set)
    scores: dict[str, set[str]] = defaultdict(set)
    places: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for cell, records in zip(cells, runs, strict=True):
        for record in records:
            pairs[record.fingerprint].add(cell.column.pair)
            scores[record.fingerprint].add(cell.score.key)
            places[record.fingerprint].add((cell.exhibit, cell.row.key))
    reasons: dict[str, Mapping[str, Sized]] = {
        "the same networks stand for several pairs": pairs,
        "a run tells several scores": scores,
        "a run stands in several tables, or rows": places,
    }
    return "".join(f"; {why}" for why, of in reasons.items() if any(len(found) > 1 for found in of.values()))
