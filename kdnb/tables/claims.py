"""The papers' claims with what the runs say to each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from kdnb import exhibits, page
from kdnb.exhibits import Paper
from kdnb.exhibits.claims import judge
from kdnb.exhibits.claims.judge import Verdict
from kdnb.exhibits.claims.places import frames as frames_of
from kdnb.exhibits.claims.predicates import Claim, Finding
from kdnb.exhibits.claims.words import (
    FAILS,
    HOLDS,
    JUDGEMENT,
    MIXED,
    NO_VERDICT,
    NOT_MEASURED,
    OPEN,
    OUR_READING,
    WORDS,
)
from kdnb.exhibits.controls import DAGGER
from kdnb.exhibits.exhibit import Asked, Part
from kdnb.exhibits.runs import SCALES
from kdnb.study.store import Store
from kdnb.tables.schedules import about_own_schedules, own_schedules_told
from kdnb.tables.sheet import Entry, Line, Said, Table, line
from kdnb.tables.words import NOT_YET, TITLES, columns, slug

#: A verdict as a shape and a word, shape and colour are never alone; in the order in which they are counted.
CHIPS = {
    "confirmed": "● confirmed",
    "agrees at that scale": "● agrees",
    "contradicted": "✕ contradicted",
    "disagrees at that scale": "✕ disagrees",
    OUR_READING: "✕ disagrees under our reading",
    "undetermined": "◐ open",
    NO_VERDICT: "○ one seed",
    NOT_MEASURED: f"○ {NOT_YET}",
    JUDGEMENT: "◇ a judgement",
}
#: So many places where nothing is measured are named; more are counted.
FEW_PLACES = 2
#: Nobody trains more seeds than these: what needs more is told as that.
MANY_SEEDS = 100
IN_PRINT = {HOLDS: "yes", FAILS: "no", MIXED: "partly", OPEN: "–", JUDGEMENT: "–"}


def claims(
    paper: str, rows: Sequence[Asked] | None = None, *, ids: Sequence[str] | None = None, name: str = "claims"
) -> Table | Said:
    """Claims of a paper, all or about some rows or by id: do they hold of the printed numbers, and of the measured?

    The CSV has one line a comparison, with difference, interval, seeds, and the seeds that a difference of the
    printed size would need.
    """
    of = exhibits.paper(paper)
    in_print = judge.words_in_print(of)
    asked = {_key(row) for row in rows or ()}
    chosen = [claim for claim in of.claims if rows is None or claim.is_about(asked, lambda row: of.row_of(row)[0])]
    if ids is not None:
        chosen = [of.claim(key) for key in ids]
    if not chosen:
        return Said("The paper makes no claim about what is shown here.")
    found, apart = verdicts(of), about_own_schedules(of, chosen)
    body: list[Line] = []
    for claim in chosen:
        verdicts_here = [judged[claim.id] for judged in found.values()]
        told = [Entry(told_of(verdict, of), target=evidence_target(verdict)) for verdict in verdicts_here]
        says = " ".join(filter(None, [claim.sentence, claim.remark]))
        id = f"{claim.id} {DAGGER}" if claim in apart else claim.id
        body.append(line(id, says, IN_PRINT[in_print[claim.id]], *told))
    scales = [TITLES[scale] for scale in found] or ["Verdict"]
    some = f"Claim{'s' * (len(chosen) > 1)} {', '.join(claim.id for claim in chosen)} of the paper"
    which = some if len(chosen) < len(of.claims) else "The claims of the paper"
    them = "them" if len(chosen) > 1 else "it"
    if not found:
        body = [
            [*entries, *line(CHIPS[NOT_MEASURED if c.predicate else JUDGEMENT])]
            for entries, c in zip(body, chosen, strict=True)
        ]
    return Table(
        name=name,
        caption=f"{which}: whether the printed numbers bear {them} out, and what the runs say.",
        head=[line("Id", "Claim", "Holds in print", *scales)],
        body=body,
        frame=_evidence([judged[claim.id] for judged in found.values() for claim in chosen], of),
        note=" ".join([*["A demo says nothing about a claim."] * (not found), *_schedules_told(of, apart, found)]),
        css="kdnb-claims",
    )


def _schedules_told(paper: Paper, apart: Sequence[Claim], scales: Iterable[str]) -> list[str]:
    """What the dagger beside claims says, where any has one."""
    rows = [row for claim in apart if claim.predicate for leaf in claim.predicate.leaves() for row in leaf.sides()]
    return [own_schedules_told(paper, filter(None, rows), scales, Store.open())] if apart else []


def _key(row: Asked) -> str:
    """The key of a row, of whatever pair of networks."""
    if isinstance(row, str):
        return row.rpartition("/")[2]
    return row.row.key if isinstance(row, Part) else row.key


def verdicts(paper: str | Paper, store: Store | None = None) -> dict[str, dict[str, Verdict]]:
    """Scale -> claim id -> verdict, for every scale at which the paper has runs."""
    return {scale: judge_all(paper, frames, scale) for scale, frames in measured_frames(paper, store).items()}


def measured_frames(paper: str | Paper, store: Store | None = None) -> dict[str, dict[str, pd.DataFrame]]:
    """Scale -> place -> runs (row, seed, value, fingerprint), for every scale at which the paper has runs."""
    store, paper = store or Store.open(), exhibits.paper(paper)
    found = {scale: frames_of(paper, scale, store) for scale in SCALES}
    return {scale: frames for scale, frames in found.items() if frames}


def judge_all(paper: str | Paper, frames: Mapping[str, pd.DataFrame], scale: str) -> dict[str, Verdict]:
    """Claim id -> verdict, from the runs of one scale."""
    return {verdict.claim.id: verdict for verdict in judge.verdicts(exhibits.paper(paper), frames, scale)}


def told_of_claims(paper: str, store: Store | None = None) -> list[str]:
    """How many claims the paper's own numbers bear out, and which claims got which verdict at which scale."""
    in_print = Counter(judge.words_in_print(exhibits.paper(paper)).values())
    checkable = in_print[HOLDS] + in_print[MIXED] + in_print[FAILS]
    lines = [
        f"The paper's own tables support {in_print[HOLDS]} of its {in_print.total()} claims, {in_print[MIXED]} partly, "
        f"{in_print[FAILS]} not; {in_print.total() - checkable} cannot be checked from them."
    ]
    for scale, judged in verdicts(paper, store).items():
        if all(verdict.status in (NOT_MEASURED, JUDGEMENT) for verdict in judged.values()):
            continue
        told = "".join(f"\n  - {line}" for line in _by_verdict(judged, scale))
        lines.append(f"{TITLES[scale]}, the {len(judged)} claims by verdict:{told}")
    return lines


def _by_verdict(judged: Mapping[str, Verdict], scale: str) -> list[str]:
    """`● agrees (1): CRD is the best ... (C10)`, `◐ open (3)`, and so on.

    Claims that the runs decide are told, and those that are open for nothing but what is not measured yet.
    """
    decided = {word for truth, word in WORDS[scale].items() if truth is not None} | {OUR_READING}
    lines = []
    for status, chip in CHIPS.items():
        found = [verdict for verdict in judged.values() if verdict.status == status]
        likely = [v for v in found if v.missing and v.findings and all(f.truth for f in v.findings)]
        text = f"{chip} ({len(found)})"
        if status in decided:
            text += f": {_sentences(found)}"
        elif status == WORDS[scale][None] and likely:
            text += f", though all that is measured speaks for {len(likely)}: {_sentences(likely)}"
        lines += [text] if found else []
    return lines


def _sentences(found: Sequence[Verdict]) -> str:
    """`No student reaches the teacher (C2); FitNet and KD both beat PKT (C6)`."""
    return "; ".join(f"{v.claim.sentence.rstrip('.')} ({linked(v.claim.id, v)})" for v in found)


def linked(id: str, verdict: Verdict | None) -> str:
    """The claim's id in a sentence; in the book it leads to the comparisons behind the verdict."""
    target = evidence_target(verdict)
    return f"{{ref}}`{id} <{target}>`" if target else id


def evidence_name(verdict: Verdict) -> str:
    """The name of the table that has a verdict's comparisons one by one."""
    return slug(f"evidence {verdict.claim.paper} {verdict.claim.id} {verdict.profile}")


def evidence_target(verdict: Verdict | None) -> str:
    """The label of that table in the book, if it stands there."""
    if verdict is None or not (verdict.findings or verdict.evidence):
        return ""
    return f"tab-{evidence_name(verdict)}" if page.exists(verdict.claim.paper, "evidence") else ""


def told_of(verdict: Verdict, paper: Paper) -> str:
    """`● confirmed: all 34 comparisons for it`; `◐ open: 3 of 34 comparisons for it, 2 cannot tell`, and what it lacks.

    What is open for chance alone is told how many seeds would settle it, were the differences those in print.
    """
    chip = CHIPS[verdict.status]
    if not verdict.findings:
        return chip
    if verdict.status == NO_VERDICT:
        return f"{chip}, which gives no verdict"
    truths = Counter(finding.truth for finding in verdict.findings)
    nowhere = _unmeasured(verdict)
    missing = [leaf for leaf in verdict.missing if leaf.place not in nowhere]
    total = len(verdict.findings) + len(missing) + len(verdict.repeated)
    counts = {
        "against it": truths[False],
        "cannot tell": truths[None],
        NOT_YET: len(missing),
        "without runs of its own": len(verdict.repeated),
    }
    told = [f"{count} {what}" for what, count in counts.items() if count]
    if total == 1:
        one = "the one that is measured" if nowhere else "its one comparison"
        text = f"{chip}: {one} {'for it' if truths[True] else told[0].removeprefix('1 ')}"
    else:
        share = f"all {total}" if truths[True] == total else f"{truths[True] or 'none'} of {total}"
        text = ", ".join([f"{chip}: {share} comparisons for it", *told])
    if nowhere:
        where = " and ".join(map(paper.title, nowhere)) if len(nowhere) <= FEW_PLACES else f"{len(nowhere)} places"
        text += f"; {where} {NOT_YET}"
    settles = seeds_to_settle(verdict)
    about = f"More than {MANY_SEEDS}" if settles and settles > MANY_SEEDS else f"About {settles}"
    return text + (f". {about} seeds would settle what is measured, if the printed differences hold" if settles else "")


def seeds_to_settle(verdict: Verdict) -> float | None:
    """With how many seeds the comparisons that cannot tell yet would; None where none is in that state, or no number
    is known; infinite where none that was searched would do.
    """
    open_by_chance = any(finding.truth is None for finding in verdict.findings)
    return verdict.seeds_needed if open_by_chance and verdict.status == WORDS[verdict.profile][None] else None


def seeds_told(verdict: Verdict | None) -> str:
    """How many seeds would settle it, by number as far as anybody would train them; a dash where none would."""
    settles = seeds_to_settle(verdict) if verdict else None
    if not settles:
        return "–"
    return str(settles) if settles <= MANY_SEEDS else f"more than {MANY_SEEDS}"


def _unmeasured(verdict: Verdict) -> list[str]:
    """The places (data sets, pairs of networks) of a claim where nothing of it is measured."""
    measured = {finding.place for finding in verdict.findings} | {leaf.place for leaf in verdict.repeated}
    return list(dict.fromkeys(leaf.place for leaf in verdict.missing if leaf.place not in measured))


def _evidence(found: list[Verdict], paper: Paper) -> pd.DataFrame:
    lines = [
        {"claim": of.claim.full_id, "scale": of.profile, "place": paper.title(finding.place), **_numbers(finding)}
        for of in found
        for finding in (*of.findings, *of.evidence)
    ]
    return pd.DataFrame(lines) if lines else pd.DataFrame(columns=["claim", "scale", "place", "comparison"])


def _numbers(finding: Finding) -> dict[str, Any]:
    known: dict[str, Any] = {
        "comparison": finding.text,
        "for_it": finding.truth,
        "printed_difference": finding.printed,
        "seeds_needed": finding.seeds_needed,
    }
    if finding.difference is not None:
        known |= columns(finding.difference)
    if finding.correlation is not None:
        r = finding.correlation
        known |= {"pearson": r.pearson, "low": r.low, "high": r.high, "spearman": r.spearman}
    return known
