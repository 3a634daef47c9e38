"""The papers' claims with what the runs say to each."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from kdnb import exhibits
from kdnb.errors import unknown
from kdnb.exhibits import Row, measure
from kdnb.exhibits.claims import (
    JUDGEMENT,
    NOT_MEASURED,
    AllOf,
    AnyOf,
    Better,
    Claim,
    Finding,
    Mostly,
    Predicate,
    Verdict,
)
from kdnb.study.store import Store
from kdnb.tables.results import NOT_YET, TITLES, title
from kdnb.tables.sheet import Line, Table, line

#: Profiles that can say something of a claim, the strongest first.
SCALES = ("paper", "short", "pilot")
#: A claim that so many rows lose by is about them too; one that nearly all lose by is about the winner.
FEW = 6
IN_PRINT = {True: "yes", False: "no", None: "–"}


def claims(
    paper: str, rows: Sequence[str | Row] | None = None, *, ids: Sequence[str] | None = None, name: str = "claims"
) -> Table:
    """Claims of a paper, all or about some rows or by id: do they hold of the printed numbers, and of the measured?

    The CSV has one line a comparison, with difference, interval, seeds, and the seeds that a difference of the
    printed size would need.
    """
    module = _module(paper)
    in_print = module.in_print()
    chosen = [claim for claim in module.CLAIMS if rows is None or _about(claim, [_key(row) for row in rows])]
    if ids is not None:
        chosen = [_by_id(module.CLAIMS, key) for key in ids]
    found = verdicts(paper)
    body: list[Line] = []
    for claim in chosen:
        told = [_told(judged[claim.id]) for judged in found.values()]
        body.append(line(claim.id, f"{claim.sentence} {claim.remark}".strip(), IN_PRINT[in_print[claim.id]], *told))
    scales = [TITLES[scale] for scale in found] or ["Verdict"]
    if not found:
        body = [
            [*entries, *line(NOT_YET if c.predicate else JUDGEMENT)] for entries, c in zip(body, chosen, strict=True)
        ]
    return Table(
        name=name,
        caption="Claims of the paper: whether the printed numbers bear them out, and what the runs say.",
        head=[line("", "Claim", "In print", *scales)],
        body=body,
        frame=_evidence([judged[claim.id] for judged in found.values() for claim in chosen]),
        note="A demo says nothing to a claim." if not found else "",
        css="kdnb-claims",
    )


def verdicts(paper: str, store: Store | None = None) -> dict[str, dict[str, Verdict]]:
    """Scale -> claim id -> verdict, for every scale at which the paper has runs."""
    store = store or Store.open()
    found = {}
    for scale in SCALES:
        frames = _frames(paper, scale, store)
        if frames:
            found[scale] = {verdict.claim.id: verdict for verdict in _module(paper).verdicts(frames, scale)}
    return found


def told_of_claims(paper: str, store: Store | None = None) -> list[str]:
    """How many claims the paper's own numbers bear out, and how many got which verdict at which scale."""
    in_print = Counter(_module(paper).in_print().values())
    checkable = in_print[True] + in_print[False]
    lines = [f"Of {checkable} claims that can be checked, the paper's own table bears out {in_print[True]}."]
    for scale, judged in verdicts(paper, store).items():
        counts = Counter(verdict.status for verdict in judged.values())
        told = ", ".join(f"{count} {status}" for status, count in counts.most_common())
        lines.append(f"{TITLES[scale]}: {told}.")
    return lines


def _frames(paper: str, scale: str, store: Store) -> dict[str, pd.DataFrame]:
    """Data set -> the runs of the paper's exhibits at a scale; a row that stands in two exhibits counts once."""
    found: dict[str, list[pd.DataFrame]] = {}
    for exhibit in exhibits.all_exhibits():
        if exhibit.paper == paper:
            for dataset in exhibit.datasets_of(scale):
                found.setdefault(dataset, []).append(measure(exhibit, scale, dataset, store))
    frames = {dataset: pd.concat(parts).drop_duplicates(["row", "seed"]) for dataset, parts in found.items()}
    return {dataset: frame for dataset, frame in frames.items() if len(frame)}


def _told(verdict: Verdict) -> str:
    """`confirmed: 34 of 34 comparisons`, `undetermined: 3 of 34 for it, 1 against; 12 seeds needed`."""
    if not verdict.findings:
        return NOT_YET if verdict.status == NOT_MEASURED else verdict.status
    truths = Counter(finding.truth for finding in verdict.findings)
    total = len(verdict.findings) + len(verdict.missing)
    text = f"{verdict.status}: {truths[True]} of {total} for it"
    text += f", {truths[False]} against" if truths[False] else ""
    text += f", {len(verdict.missing)} not measured" if verdict.missing else ""
    return text + (f"; {verdict.seeds_needed} seeds needed" if verdict.seeds_needed else "")


def _evidence(found: list[Verdict]) -> pd.DataFrame:
    lines = [
        _evidence_line(verdict, finding) for verdict in found for finding in (*verdict.findings, *verdict.evidence)
    ]
    return pd.DataFrame(lines) if lines else pd.DataFrame(columns=["claim", "scale", "dataset", "comparison"])


def _evidence_line(verdict: Verdict, finding: Finding) -> dict[str, Any]:
    known: dict[str, Any] = {
        "claim": verdict.claim.id,
        "scale": verdict.profile,
        "dataset": title(finding.dataset),
        "comparison": finding.text,
        "for_it": finding.truth,
        "printed_difference": finding.printed,
        "seeds_needed": finding.seeds_needed,
    }
    if finding.difference is not None:
        d = finding.difference
        known |= {"difference": d.value, "low": d.low, "high": d.high, "seeds": d.n, "interval": d.method}
    if finding.correlation is not None:
        r = finding.correlation
        known |= {"pearson": r.pearson, "low": r.low, "high": r.high, "spearman": r.spearman}
    return known


def _about(claim: Claim, keys: Sequence[str]) -> bool:
    """Whether the claim says something of one of the rows, and not of nearly all of them at once."""
    if claim.predicate is None:
        return False
    worse = {leaf.b for leaf in claim.predicate.leaves() if isinstance(leaf, Better)} - {"plain", "teacher"}
    named = _praised(claim.predicate) | (worse if len(worse) <= FEW else set())
    return bool(named & set(keys))


def _praised(predicate: Predicate) -> set[str]:
    """Rows that have to beat others; of alternatives, those that have to in each."""
    if isinstance(predicate, Better):
        return {predicate.a}
    if isinstance(predicate, AnyOf):
        return set.intersection(*(_praised(part) for part in predicate.parts))
    if isinstance(predicate, AllOf | Mostly):
        return set().union(*(_praised(part) for part in predicate.parts))
    return set()


def _by_id(known: Sequence[Claim], key: str) -> Claim:
    for claim in known:
        if claim.id == key:
            return claim
    raise unknown("claim", key, [claim.id for claim in known])


def _key(row: str | Row) -> str:
    return row if isinstance(row, str) else row.key


def _module(paper: str) -> Any:
    known = sorted({exhibit.paper for exhibit in exhibits.all_exhibits()})
    if paper not in known:
        raise unknown("paper", paper, known)
    return importlib.import_module(f"kdnb.exhibits.{paper}_claims")
