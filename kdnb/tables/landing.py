"""What a paper's own page says of it: what is measured so far, and every claim with its verdict and how sure it is."""

from __future__ import annotations

from kdnb import exhibits, page
from kdnb.exhibits import Paper
from kdnb.exhibits.claims.words import NO_VERDICT, OUR_READING, WORDS
from kdnb.exhibits.runs import SCALES
from kdnb.study.store import Store
from kdnb.tables.claims import told_of_claims
from kdnb.tables.in_short import told_of_gains, told_of_measured
from kdnb.tables.ledger import Judged, hangs_on, judged, rows_of_calls
from kdnb.tables.schedules import own_schedules_told
from kdnb.tables.sheet import Included, Line, Table, line

HEAD = ("Claim", "What it says", "What we found", "How sure")


def landings(store: Store | None = None) -> Included:
    """What is found of every paper that has claims, for its page where the book has one; a demo says nothing here."""
    store = store or Store.open()
    shown = [paper for paper in exhibits.papers() if paper.claims and (page.of_paper(paper.key) or not page.in_book())]
    return Included({f"found-{paper.key}": _text(paper, store) for paper in shown})


def _text(paper: Paper, store: Store) -> str:
    of_print = told_of_claims(paper.key, store)[0]
    measured = [told_of_measured(paper.key, scale, store) for scale in SCALES]
    lines = [*told_of_gains(paper, store), of_print, *measured]
    return "\n".join(f"- {told}" for told in lines if told) + "\n\n" + found(paper, store).to_myst()


def found(paper: Paper, store: Store | None = None) -> Table:
    """Every claim of a paper with its verdict, at the largest scale at which anything of it is measured."""
    store = store or Store.open()
    claims = judged(paper, store)
    body: list[Line] = [line(one.claim.id, one.claim.sentence, one.found, _sure(paper, one)) for one in claims]
    schedules = own_schedules_told(paper, rows_of_calls(claims), SCALES, store)
    return Table(
        name=f"found-{paper.key}",
        caption="The paper's claims and what the runs of this book say of them, each at the largest scale measured.",
        head=[line(*HEAD)],
        body=body,
        note="How sure: of the comparisons that a claim comes to, how many speak for it, or against it; then the one "
        "that the verdict hangs on: of a claim that agrees the least clear one, of one that disagrees the clearest "
        f"against it, of an open one the open one that is nearest to being decided. {schedules}".strip(),
        css="kdnb-claims kdnb-stacked",
    )


def _sure(paper: Paper, one: Judged) -> str:
    """`3 of 4 for it; FitNet − PKT: +1.81 [0.14, 3.49] (CIFAR-10; 3 seeds)`, or a dash where nothing is measured.

    Of a claim that the runs are against: `1 of 4 against it, 3 for it`.
    """
    if one.verdict is None or not one.verdict.findings:
        return "–"
    if one.verdict.status == NO_VERDICT:
        return "one seed, which decides nothing"
    in_favour, _, against, _ = one.counts
    told = f"{in_favour} of {one.weighed} for it"
    if one.verdict.status in (WORDS[one.verdict.profile][False], OUR_READING):
        told = f"{against} of {one.weighed} against it, {in_favour} for it"
    hangs = hangs_on(paper, one)
    return told if hangs == "–" else f"{told}; {hangs}"
