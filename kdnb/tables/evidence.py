"""The comparisons behind the verdicts, one by one, each with the runs that it compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from kdnb import exhibits, page
from kdnb.exhibits.claims import Better, Finding, Leaf, Verdict
from kdnb.exhibits.names import network_title
from kdnb.study.store import Store
from kdnb.tables.claims import evidence_name, judge_all, measured_frames, module_of, told_of
from kdnb.tables.results import TITLES, runs_label
from kdnb.tables.sheet import Entry, Line, Table, line

HEAD = ("Claimed higher", "than", "In print", "Measured", "Seeds", "Says")
SAYS = {True: "for the claim", False: "against it", None: "cannot tell"}


def evidence(paper: str, store: Store | None = None) -> list[Table]:
    """A table for every claim and scale that has runs: the comparisons that its verdict rests on.

    A comparison says which row the claim has higher, by how much it was in print and is here, paired by seed and with
    its simultaneous interval, and whether that speaks for the claim.
    """
    store = store or Store.open()
    by_claim: dict[str, list[Table]] = {claim.id: [] for claim in module_of(paper).CLAIMS}
    for scale, frames in measured_frames(paper, store).items():
        targets = _targets(paper, scale, store)
        for key, verdict in judge_all(paper, frames, scale).items():
            if verdict.findings or verdict.evidence:
                by_claim[key].append(_table(verdict, frames, targets))
    return [table for tables in by_claim.values() for table in tables]


def _table(verdict: Verdict, frames: Mapping[str, pd.DataFrame], targets: Mapping[str, str]) -> Table:
    claim, paper = verdict.claim, verdict.claim.paper
    title, label = module_of(paper).title, _labels(paper)
    found = [*verdict.findings, *verdict.evidence]
    several = len({finding.place for finding in found}) > 1
    body: list[Line] = []
    for finding in found:
        rows = [Entry(label(row), target=_target(finding.place, row, frames, targets)) for row in _rows(finding.leaf)]
        where = [Entry(title(finding.place))] if several else []
        says = SAYS[finding.truth] if verdict.findings else "decides nothing"
        body.append([*where, *_with_margin(rows, finding.leaf), *line(*_numbers(finding), says)])
    told = told_of(verdict, title)
    place = "" if several else f", {title(found[0].place)}"
    return Table(
        name=evidence_name(verdict),
        caption=f"{claim.id}, {TITLES[verdict.profile].lower()}{place}. {claim.sentence}",
        head=[line(*(["Place"] if several else []), *HEAD)],
        body=body,
        note=f"{told[:1].upper()}{told[1:]}.",
        css="kdnb-evidence",
    )


def _rows(leaf: Leaf) -> list[str]:
    """The rows that a comparison names, the one that the claim has higher first."""
    return [leaf.a, leaf.b] if isinstance(leaf, Better) else [leaf.text(), ""]


def _with_margin(rows: list[Entry], leaf: Leaf) -> list[Entry]:
    """A margin in points stands behind the row that it is added to: `KD plus 1`, `AT less 1`."""
    by = leaf.by if isinstance(leaf, Better) else 0.0
    if not by:
        return rows
    margin = f"{'plus' if by > 0 else 'less'} {abs(by):g}"
    return [rows[0], Entry(f"{rows[1].text} {margin}", target=rows[1].target)]


def _numbers(finding: Finding) -> tuple[str, str, str]:
    """In print, measured with its interval, and the seeds (of a correlation, the points) behind it."""
    printed = "–" if finding.printed is None else f"{finding.printed:+.2f}"
    if finding.correlation is not None:
        r = finding.correlation
        return printed, f"r = {r.pearson:.2f} [{r.low:.2f}, {r.high:.2f}]", f"{r.n} points"
    assert finding.difference is not None, "a finding is a difference or a correlation"
    d = finding.difference
    return printed, f"{d.value:+.2f}" + (f" [{d.low:.2f}, {d.high:.2f}]" if d.known else ""), str(d.n)


def _labels(paper: str) -> Callable[[str], str]:
    """How a row of a comparison is called: `CRD + KD`, `KD under ResNet56`."""
    known: dict[str, str] = {}
    for exhibit in exhibits.select(paper):
        for row in exhibit.rows:
            known.setdefault(row.line, row.label)

    def label(key: str) -> str:
        teacher, _, row = key.rpartition("/")
        return f"{known[row]} under {network_title(teacher)}" if teacher else known.get(row, row)

    return label


def _targets(paper: str, scale: str, store: Store) -> dict[str, str]:
    """Fingerprint -> where its runs stand on the page of runs; of several tables, in the first."""
    found: dict[str, str] = {}
    if page.exists(paper, "runs"):
        for exhibit in exhibits.select(paper):
            for dataset in exhibit.datasets_of(scale):
                for cell in exhibit.cells(scale, dataset):
                    if cell.experiment is not None and store.records(cell.experiment.fingerprint):
                        where = runs_label(exhibit, scale, dataset, cell.row.key)
                        found.setdefault(cell.experiment.fingerprint, where)
    return found


def _target(place: str, row: str, frames: Mapping[str, pd.DataFrame], targets: Mapping[str, str]) -> str:
    """Where the runs of a row stand that were compared at a place; "" where it is none."""
    frame = frames[place]
    return next((targets.get(key, "") for key in frame[frame["row"] == row]["fingerprint"]), "")
