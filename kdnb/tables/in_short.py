"""The study in a few lines: what is measured, and what the claims came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kdnb import exhibits, page
from kdnb.study.store import Store
from kdnb.tables.claims import told_of_claims


@dataclass(frozen=True)
class Sentences:
    """Lines of prose with numbers from the store; in the book also a file beside the page, to be included."""

    name: str
    lines: tuple[str, ...]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        text = "\n".join(self.lines)
        if page.in_book():
            (page.folder() / f"{self.name}.md").write_text(text + "\n")
        return {"text/plain": text, "text/markdown": text}


def in_short(paper: str, profile: str = "demo", store: Store | None = None) -> Sentences:
    """How many cells are measured at which scale, and how many claims got which verdict."""
    store = store or Store.open()
    lines = [_measured(paper, name, store) for name in dict.fromkeys(["paper", "short", "pilot", profile])]
    return Sentences("in-short", (*(line for line in lines if line), *told_of_claims(paper, store)))


def _measured(paper: str, profile: str, store: Store) -> str:
    cells = [
        cell
        for exhibit in exhibits.all_exhibits()
        if exhibit.paper == paper
        for dataset in exhibit.datasets_of(profile)
        for cell in exhibit.cells(profile, dataset)
        if cell.experiment is not None
    ]
    runs = [store.records(cell.experiment.fingerprint) for cell in cells if cell.experiment]
    done, total = sum(len(found) > 0 for found in runs), len(cells)
    count = len({record.path for found in runs for record in found.values()})  # one may stand in several tables
    most = max((len(found) for cell, found in zip(cells, runs, strict=True) if cell.row.role != "teacher"), default=0)
    where = {"paper": "At paper scale", "demo": "In this build's demo"}.get(profile, f"At the scale `{profile}`")
    if not count:
        return f"{where} nothing is measured yet." if profile == "paper" else ""
    seeds = "; one seed each, which says nothing of chance" if most == 1 else ""
    return f"{where} {done} of {total} cells are measured, with {count} run{'s' * (count > 1)}{seeds}."
