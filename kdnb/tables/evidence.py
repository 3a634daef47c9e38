"""The comparisons behind the verdicts, one by one, each with the runs that it compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from kdnb import exhibits, page
from kdnb.exhibits import Paper
from kdnb.exhibits.claims.evidence import Evidence
from kdnb.exhibits.claims.judge import Verdict
from kdnb.exhibits.claims.places import trained_here
from kdnb.exhibits.claims.predicates import Claim, Finding
from kdnb.exhibits.claims.told import told
from kdnb.exhibits.claims.words import TEACHER
from kdnb.exhibits.runs import runs_of
from kdnb.exhibits.score import Score
from kdnb.study.statistics import PAIRS_ALONE, POOLED, Difference
from kdnb.study.store import Store
from kdnb.tables.claims import evidence_name, judge_all, measured_frames, told_of
from kdnb.tables.schedules import marked, own_schedules_told
from kdnb.tables.sheet import Entry, Line, Said, Table, line, myst, without_empty
from kdnb.tables.words import measured_at, runs_label

IN_PRINT = "Difference in print"
HEAD = (IN_PRINT, "Measured", "Seeds", "Says")
NOTHING = "**Not yet measured:** no comparison of these claims has runs at any scale but the demo's."
#: The head above the second side of comparisons that have none: its column is left out.
ONE_SIDED = ""
JUDGED = " No number decides it: the comparisons stand here for who judges."
#: No two scores in percent lie further apart: of an interval that is wider the width is not printed.
WIDER_THAN_ALL = 100.0
#: So many decimals an interval may be told with, where its score has fewer.
MOST_DECIMALS = 4
#: What has to be ahead by anything at all, beside others of a table that need a margin.
ANY = {True: "more than 0", False: "less than 0"}
SAYS = {True: "for the claim", False: "against it", None: "cannot tell"}


def evidence(paper: str, store: Store | None = None) -> list[Table | Said]:
    """A table for every claim and scale that has runs: the comparisons that its verdict rests on; else a sentence.

    A comparison says which row the claim has higher, by how much it was in print and is here, paired by seed and with
    its simultaneous interval, and whether that speaks for the claim.
    """
    store, of = store or Store.open(), exhibits.paper(paper)
    by_claim: dict[str, list[Table]] = {claim.id: [] for claim in of.claims}
    for scale, frames in measured_frames(of, store).items():
        targets = _targets(of, scale, store)
        for key, verdict in judge_all(of, frames, scale).items():
            if verdict.findings or verdict.evidence:
                by_claim[key].append(_table(of, verdict, frames, targets, store))
    found = [table for tables in by_claim.values() for table in tables]
    return list(found) or [Said(NOTHING)]


def _table(
    paper: Paper, verdict: Verdict, frames: Mapping[str, pd.DataFrame], targets: Mapping[str, str], store: Store
) -> Table:
    found = [*verdict.findings, *verdict.evidence]
    several = len({finding.place for finding in found}) > 1
    margins = any(finding.leaf.claimed() for finding in found)
    body: list[Line] = []
    for finding in found:
        leaf = finding.leaf
        rows = [
            Entry(text, target=_target(frames[finding.place], row, targets))
            for text, row in zip(leaf.texts(lambda row: marked(paper, row)), leaf.sides(), strict=True)
        ]
        where = [Entry(trained_here(paper, finding.place, frames[finding.place], leaf.rows()))] if several else []
        says = SAYS[finding.truth] if verdict.findings else "decides nothing"
        claimed = [Entry(leaf.claimed() or ANY[leaf.score.higher_is_better])] if margins else []
        body.append([*where, *rows, *claimed, *line(*_numbers(finding), says)])
    judged = "" if verdict.findings else JUDGED
    compared = [row for finding in found for row in finding.leaf.sides() if row]
    schedules = own_schedules_told(paper, compared, [verdict.profile], store, found[0].place)
    every = {row for finding in found for row in finding.leaf.rows()}
    place = "" if several else f", {trained_here(paper, found[0].place, frames[found[0].place], every)}"
    head, body = without_empty(line(*["Place"] * several, *_claimed(found), *["by"] * margins, *HEAD), body, IN_PRINT)
    head, body = without_empty(head, body, ONE_SIDED)
    return Table(
        name=evidence_name(verdict),
        caption=f"{verdict.claim.id}, {measured_at(verdict.profile)}{place}. {verdict.claim.sentence}",
        head=[head],
        body=body,
        note=f"{told_of(verdict, paper)}.{judged}{_as_taken(verdict.claim, paper)}{_made_of(found, paper)}"
        f"{_set_aside(found, frames, paper)}{_of_a_teacher(found)} {schedules}".strip(),
        css="kdnb-evidence",
    )


def _as_taken(claim: Claim, paper: Paper) -> str:
    """What a claim was taken to mean; begins with a blank, or is empty where no comparison decides it."""
    return f" In symbols: {myst(told(claim.predicate, paper))}." if claim.predicate else ""


def _made_of(found: list[Finding], paper: Paper) -> str:
    """What the intervals are made of, for who redoes them, by place where it differs; begins with a blank, or is empty.

    `Intervals: sd 0.74, df 30, critical value 3.02, pooled.`  Of two ways at one place `_set_aside` says who has which.
    """
    places: dict[str, list[str]] = {}
    for finding in found:
        d = finding.difference
        if d is not None and d.known:
            spread = f"sd {_sd_told(finding.leaf.score, d.sd)}" if d.method == POOLED else "sd of each pair its own"
            told = f"{spread}, df {d.df:.3g}, critical value {d.critical:.2f}, {d.method}"
            places.setdefault(told, []).append(paper.title(finding.place))
    if not places:
        return ""
    if len({place for at in places.values() for place in at}) == 1 or len(places) == 1:
        return f" Intervals: {'; '.join(places)}."
    each = [f"{told} ({', '.join(dict.fromkeys(at))})" for told, at in places.items()]
    return f" Intervals: {'; '.join(each)}."


def _set_aside(found: list[Finding], frames: Mapping[str, pd.DataFrame], paper: Paper) -> str:
    """Which of the compared rows have wide intervals for their own spread; begins with a blank, or is empty."""
    by_place: dict[str, list[str]] = {}
    for place in dict.fromkeys(f.place for f in found if f.difference and f.difference.method == PAIRS_ALONE):
        compared = dict.fromkeys(row for f in found if f.place == place for row in f.leaf.sides() if row)
        apart = Evidence(frames[place], paper.rows or None).set_aside(compared)
        by_place[paper.title(place)] = [paper.label(row) for row in apart]
    told = set_aside_told(by_place, name_places=len({finding.place for finding in found}) > 1)
    return f" {told}" if told else ""


def set_aside_told(by_place: Mapping[str, Sequence[str]], name_places: bool) -> str:
    """Why some intervals are wide: place -> labels of the rows whose noise is not pooled; "" where there are none.

    `Set aside, and compared by their own pairs alone, since they vary too much for the others' spread: KD, AT.`
    """
    told = []
    for place, labels in by_place.items():
        rows = ", ".join(f"“{label}”" if "," in label else label for label in labels)
        told += [f"{rows} ({place})" if name_places else rows] if rows else []
    why = "Set aside, and compared by their own pairs alone, since they vary too much for the others' spread"
    return f"{why}: {'; '.join(told)}." if told else ""


def _of_a_teacher(found: list[Finding]) -> str:
    """That a teacher is one run, where students are compared with it; begins with a blank, or is empty."""
    taught = [finding.difference for finding in found if TEACHER in finding.leaf.rows()]
    if not taught:
        return ""
    told = " The teacher has one run, of seed 0, and is taken as a constant: its own chance is not in the intervals."
    if any(d is not None and d.known and d.df < 2 for d in taught):
        told += " Beside a constant two seeds of a student have one degree of freedom: such an interval says little."
    return told


def _claimed(found: list[Finding]) -> tuple[str, str]:
    """The heads above the two sides of comparisons; a correlation has one."""
    if all(finding.correlation is not None for finding in found):
        return "Claim", ONE_SIDED
    return f"Claimed {_direction(found)}", "than"


def _direction(found: list[Finding]) -> str:
    """Where better is, by the scores of the comparisons."""
    higher = {finding.leaf.score.higher_is_better for finding in found}
    return "better" if len(higher) > 1 else "higher" if higher == {True} else "lower"


def _numbers(finding: Finding) -> tuple[str, str, str]:
    """In print, measured with its interval, and the seeds (of a correlation, the points) behind it."""
    score, d, r = finding.leaf.score, finding.difference, finding.correlation
    printed = "–" if finding.printed is None else score.text(finding.printed, signed=True)
    if r is not None:
        return printed, f"r = {r.pearson:.2f} [{r.low:.2f}, {r.high:.2f}]", f"{r.n} points"
    assert d is not None, "a finding is a difference or a correlation"
    if d.known and score.unit == "percent" and d.high - d.low > WIDER_THAN_ALL:
        return printed, f"{score.text(d.value, signed=True)}, interval wider than the scale", str(d.n)
    return printed, difference_told(score, d), str(d.n)


def difference_told(score: Score, found: Difference) -> str:
    """As the score tells it, `+1.89 [-0.11, 3.89]`, with more decimals where an interval needs them.

    It does where its ends would be the same number, or one of them a zero that it is not: `+0.451 [0.447, 0.455]`.
    """
    fine = _finer(score, lambda fine: _tells_apart(fine, found.low, found.high)) if found.known else score
    return fine.difference(found)


def _sd_told(score: Score, sd: float) -> str:
    """A standard deviation, with more decimals where it would be a zero that it is not."""
    return _finer(score, lambda fine: float(fine.text(sd)) > 0).text(sd)


def _finer(score: Score, enough: Callable[[Score], bool]) -> Score:
    """The score with as many decimals as are enough, if `MOST_DECIMALS` are: what is smaller may be rounding."""
    decimals = range(score.decimals, max(score.decimals, MOST_DECIMALS) + 1)
    return next(filter(enough, (replace(score, decimals=count) for count in decimals)), score)


def _tells_apart(score: Score, low: float, high: float) -> bool:
    """Whether the ends of an interval, as they are told, are two numbers and none is zero."""
    return score.text(low) != score.text(high) and 0 not in (float(score.text(low)), float(score.text(high)))


def _targets(paper: Paper, scale: str, store: Store) -> dict[str, str]:
    """Fingerprint -> where its runs stand on the page of runs; of several tables, in the first."""
    found: dict[str, str] = {}
    if page.exists(paper.key, "runs"):
        for exhibit in exhibits.select(paper.key):
            for cell, record in runs_of(exhibit.cells(scale), store):
                found.setdefault(record.fingerprint, runs_label(cell))
    return found


def _target(frame: pd.DataFrame, row: str, targets: Mapping[str, str]) -> str:
    """Where the runs of a row stand that were compared at a place; "" where it is none."""
    return next((targets.get(key, "") for key in frame[frame["row"] == row]["fingerprint"]), "")
