"""The ledger: every claim of every paper in one place, what it rests on, its verdict, and what that hangs on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from kdnb import exhibits, page
from kdnb.exhibits import Paper
from kdnb.exhibits.claims import judge
from kdnb.exhibits.claims.judge import Verdict
from kdnb.exhibits.claims.links import Links, links
from kdnb.exhibits.claims.places import Frames, printed, trained_here
from kdnb.exhibits.claims.predicates import Claim, Finding, Printed
from kdnb.exhibits.claims.told import told
from kdnb.exhibits.claims.withdrawn import WITHDRAWN
from kdnb.exhibits.claims.words import JUDGEMENT, NO_VERDICT, NOT_MEASURED, OUR_READING, WORDS
from kdnb.exhibits.runs import SCALES
from kdnb.study.store import Store
from kdnb.tables.claims import CHIPS, IN_PRINT, evidence_target, judge_all, linked, measured_frames, seeds_told
from kdnb.tables.evidence import difference_told
from kdnb.tables.schedules import marked, own_schedules_told
from kdnb.tables.sheet import Entry, Line, Said, Table, line
from kdnb.tables.taken import as_taken, printed_of, where
from kdnb.tables.words import NOT_YET, columns, slug

HEAD = (
    "Claim", "Where it stands, and what it says", "Holds in print", "Verdict", "For · open · against · unmeasured",
    "It hangs on", "Seeds to settle it", "Related claims",
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict at the strongest scale at which anything of it is measured; None where nothing is.

    `weighed` is how many comparisons it comes to; of alternatives those of one.  `frames` are the runs of that scale.
    """

    claim: Claim
    in_print: str
    verdict: Verdict | None
    links: Links
    weighed: int
    frames: Frames = field(default_factory=dict)

    @property
    def chip(self) -> str:
        if self.claim.predicate is None:
            return CHIPS[JUDGEMENT]
        return CHIPS[self.verdict.status] if self.verdict else CHIPS[NOT_MEASURED]

    @property
    def found(self) -> Entry:
        """The chip and its scale; in the book it leads to the comparisons behind the verdict."""
        scale = f", {self.verdict.profile}" if self.verdict and self.claim.predicate is not None else ""
        return Entry(self.chip + scale, target=evidence_target(self.verdict))

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """For it, open, against it, and not measured."""
        if self.verdict is None or self.claim.predicate is None:
            return 0, 0, 0, self.weighed
        truths = Counter(finding.truth for finding in self.verdict.findings)
        return truths[True], truths[None], truths[False], len(self.verdict.missing)

    @property
    def repeated(self) -> int:
        """Comparisons that have the very runs of another one, and count once, with that."""
        return len(self.verdict.repeated) if self.verdict else 0

    @property
    def counts_told(self) -> str:
        """`3 · 0 · 0 · 8`, and how many are repeated, if any are."""
        if self.claim.predicate is None:
            return "–"
        return " · ".join(map(str, self.counts)) + (f", {self.repeated} repeated" if self.repeated else "")


def ledger(store: Store | None = None) -> list[Table]:
    """How many claims of each paper got which verdict, then a table a paper; the first one's CSV has every claim."""
    store = store or Store.open()
    papers = [paper for paper in exhibits.papers() if paper.claims]
    by_paper = {paper.key: judged(paper, store) for paper in papers}
    in_print = {paper.key: printed(paper) for paper in papers}
    lines = [_numbers(paper, one, in_print[paper.key]) for paper in papers for one in by_paper[paper.key]]
    counts = {key: Counter(one.chip for one in of) for key, of in by_paper.items()}
    chips = [chip for chip in CHIPS.values() if any(count[chip] for count in counts.values())]
    summary = Table(
        name="ledger",
        caption="Claims by verdict, each at the largest scale at which anything of it is measured.",
        head=[line("Paper", "Claims", *chips)],
        body=[
            [
                Entry(paper.heading, page=page.of_paper(paper.key)),
                Entry(str(len(paper.claims)), target=f"tab-{_name(paper)}"),
                *line(*(counts[paper.key][chip] or "–" for chip in chips)),
            ]
            for paper in papers
        ],
        frame=pd.DataFrame(lines),
        note="The CSV has every claim of every paper.",
        css="kdnb-results",
        file="claims",
    )
    return [summary, *(_of_paper(paper, by_paper[paper.key], in_print[paper.key], store) for paper in papers)]


def judged(paper: Paper, store: Store) -> list[Judged]:
    """The claims of a paper; scales are asked from the strongest down, and one seed gives way to a verdict below."""
    measured = measured_frames(paper, store)
    by_scale = {scale: judge_all(paper, frames, scale) for scale, frames in measured.items()}
    nothing = judge_all(paper, {}, SCALES[0])
    in_print, linked = judge.words_in_print(paper), links(paper)

    def strongest(claim: Claim) -> Verdict | None:
        told = [verdicts[claim.id] for verdicts in by_scale.values()]
        there = [verdict for verdict in told if verdict.findings or verdict.evidence]
        return next(filter(_of_several_seeds, there), next(iter(there), None))

    found = [(claim, strongest(claim)) for claim in paper.claims]
    return [
        Judged(
            claim=claim,
            in_print=in_print[claim.id],
            verdict=verdict,
            links=linked[claim.id],
            weighed=len(nothing[claim.id].missing),
            frames=measured[verdict.profile] if verdict else {},
        )
        for claim, verdict in found
    ]


def _of_several_seeds(verdict: Verdict) -> bool:
    """Whether a verdict, or what stands beside a judgement, rests on more than one seed."""
    if verdict.findings:
        return verdict.status != NO_VERDICT
    return any(finding.difference is not None and finding.difference.known for finding in verdict.evidence)


def _name(paper: Paper) -> str:
    """What the table of a paper's claims is called, on the ledger's page."""
    return slug(f"ledger {paper.key}")


def _of_paper(paper: Paper, claims: Sequence[Judged], in_print: Printed, store: Store) -> Table:
    body: list[Line] = []
    for one in claims:
        body.append(
            [
                Entry(one.claim.id),
                Entry(_sentence(one.claim)),
                Entry(IN_PRINT[one.in_print]),
                one.found,
                Entry(one.counts_told),
                Entry(hangs_on(paper, one)),
                Entry(seeds_told(one.verdict)),
                Entry(one.links.told),
            ]
        )
    return Table(
        name=_name(paper),
        caption=f"{paper.heading}: its {len(paper.claims)} claims.",
        head=[line(*HEAD)],
        body=body,
        note=own_schedules_told(paper, rows_of_calls(claims), SCALES, store),
        css="kdnb-claims kdnb-stacked kdnb-ledger",
        fold=as_taken(paper, [one.claim for one in claims], in_print),
    )


def rows_of_calls(claims: Iterable[Judged]) -> list[str]:
    """The rows of the comparisons that verdicts hang on."""
    calls = [closest(one.verdict) for one in claims if one.verdict]
    return [row for call in calls if call for row in call.leaf.sides() if row]


def _sentence(claim: Claim) -> str:
    """Where the claim stands, and what it says: `§2.2, Table 1: KD is the best ...`."""
    return f"{where(claim)}: {claim.sentence} {claim.remark or claim.why_not}".strip()


def closest(verdict: Verdict) -> Finding | None:
    """The comparison that a verdict hangs on.

    Of one that is decided for the claim the least clear; of one against it the clearest, before others one whose rows
    had the schedule of all, and of a claim with readings one that stands in each of them, if there is one; of an open
    one the open comparison that comes nearest to being decided.  None where no such comparison has an interval.
    """
    truths = {word: truth for truth, word in WORDS.get(verdict.profile, {}).items()} | {OUR_READING: False}
    decided = truths.get(verdict.status)
    known = (f for f in verdict.findings if f.difference is not None and f.difference.known)
    among = [f for f in known if f.truth is decided]
    if decided is True:
        return min(among, key=_slack, default=None)
    if verdict.status == WORDS.get(verdict.profile, {}).get(False):
        among = [f for f in among if _in_every_reading(verdict.claim, f)] or among
    paper = exhibits.paper(verdict.claim.paper)
    return max(
        among, key=lambda f: (not _on_own_schedule(paper, f) if decided is False else True, _slack(f)), default=None
    )


def _in_every_reading(claim: Claim, finding: Finding) -> bool:
    """Whether a comparison stands in every reading of its claim, so that it speaks against more than ours."""
    return all(finding.leaf in {*reading.leaves()} for reading in claim.readings or ())


def _on_own_schedule(paper: Paper, finding: Finding) -> bool:
    return any(marked(paper, row) != paper.label(row) for row in finding.leaf.sides() if row)


def _slack(finding: Finding) -> float:
    """How far an interval lies from what it would have to reach to say less; negative where it says nothing."""
    assert finding.difference is not None
    direction, margin = finding.leaf.score.direction, getattr(finding.leaf, "by", 0.0)
    low, high = sorted(direction * end for end in (finding.difference.low, finding.difference.high))
    return max(low - margin, margin - high)


#: Of an interval with fewer degrees of freedom one is left, and its critical value is in the hundreds.
TWO_DEGREES = 2


def hangs_on(paper: Paper, one: Judged) -> str:
    """The comparison that a verdict hangs on, or what keeps a claim open where none has an interval; else a dash.

    `CRD − KD: +1.81 [0.14, 3.49] (CIFAR-100, here ResNet20 → ResNet8; 3 seeds)`
    """
    if one.verdict is None:
        return "–"
    call = closest(one.verdict)
    if call is not None and call.difference is not None:
        seeds = call.difference.n
        where = f"{_trained(paper, one, call)}; {seeds} seed{'s' * (seeds != 1)}"
        where += ", one degree of freedom: it says little" if call.difference.df < TWO_DEGREES else ""
        return f"{call_told(paper, call)} ({where})"
    if one.verdict.status != WORDS[one.verdict.profile][None]:
        return "–"
    waiting = [f for f in one.verdict.findings if f.truth is None and f.difference is not None]
    if waiting:
        more = f", and {len(waiting) - 1} more" if len(waiting) > 1 else ""
        where = _trained(paper, one, waiting[0])
        return f"{call_told(paper, waiting[0])} ({where}; one seed, which decides nothing){more}"
    return f"{one.counts[3]} of {one.weighed} comparisons are {NOT_YET}" if one.counts[3] else "–"


def _trained(paper: Paper, one: Judged, call: Finding) -> str:
    """Where a comparison was made, with the networks that were trained for it."""
    return trained_here(paper, call.place, one.frames[call.place], call.leaf.rows())


def call_told(paper: Paper, finding: Finding) -> str:
    """`CRD − KD: +1.81 [0.14, 3.49]`; a margin that is claimed too: `..., more than +1 is claimed`."""
    leaf = finding.leaf
    assert finding.difference is not None, "a verdict hangs on differences"
    compared = " − ".join(marked(paper, row) for row in leaf.sides() if row) or leaf.text()
    claimed = f", {leaf.claimed_told()} is claimed" if leaf.claimed() else ""
    return f"{compared}: {difference_told(leaf.score, finding.difference)}{claimed}"


def _numbers(paper: Paper, one: Judged, in_print: Printed) -> dict[str, Any]:
    """A claim as a line of `claims.csv`."""
    claim, verdict = one.claim, one.verdict
    call = closest(verdict) if verdict else None
    place = _trained(paper, one, call) if call else ""
    numbers: dict[str, Any] = {
        "id": claim.full_id,
        "paper": paper.key,
        "section": claim.section,
        "sentence": claim.sentence,
        "exhibits": " ".join(claim.exhibits),
        "printed_numbers": "; ".join(f"{' '.join(key)} {in_print[key]:g}" for key in printed_of(claim, in_print)),
        "remark": claim.remark or claim.why_not,
        "predicate": told(claim.predicate, paper) if claim.predicate else "",
        "comparisons": one.weighed,
        "readings": len(claim.readings) if claim.readings is not None else 0,
        "in_print": one.in_print,
        "verdict": verdict.status
        if verdict and claim.predicate
        else (JUDGEMENT if not claim.predicate else NOT_MEASURED),
        "scale": verdict.profile if verdict else "",
    }
    numbers |= dict(zip(("for", "open", "against", "unmeasured"), one.counts, strict=True))
    numbers |= {"repeated": one.repeated, "seeds_needed": verdict.seeds_needed if verdict else None}
    numbers |= {"hangs_on": call.text if call else "", "place": place}
    for name in ("needed_by", "explained_by", "shared_with"):
        numbers[name] = " ".join(paper.claim(id).full_id for id in getattr(one.links, name))
    if call is not None and call.difference is not None:
        numbers |= columns(call.difference)
    return numbers


def withdrawn() -> Table | Said:
    """The verdicts that were published and taken back."""
    if not WITHDRAWN:
        return Said("No verdict of this book has been withdrawn so far.")
    body = [line(f"{w.paper}-{w.claim}", w.profile, w.was, w.withdrawn, w.why) for w in WITHDRAWN]
    return Table(
        "withdrawn", "Verdicts that were withdrawn.", [line("Claim", "Scale", "Was", "Withdrawn", "Why")], body
    )


def verdicts_of(paper: Paper, ids: Sequence[str] | None, rows: Iterable[str], store: Store) -> dict[str, list[str]]:
    """Chip -> claims of these ids, or about these rows; in the book they lead to the comparisons behind them."""
    found: dict[str, list[str]] = {}
    for one in judged(paper, store):
        about = one.claim.is_about({*rows}, lambda row: paper.row_of(row)[0]) if ids is None else one.claim.id in ids
        if about:
            found.setdefault(one.chip, []).append(linked(one.claim.id, one.verdict))
    return {chip: found[chip] for chip in CHIPS.values() if chip in found}


def by_chip(store: Store | None = None) -> dict[str, list[Claim]]:
    """Chip -> the claims of all papers that have it, in the order of `CHIPS`."""
    store, found = store or Store.open(), dict[str, list[Claim]]()
    for one in (one for paper in exhibits.papers() if paper.claims for one in judged(paper, store)):
        found.setdefault(one.chip, []).append(one.claim)
    return {chip: found[chip] for chip in CHIPS.values() if chip in found}
