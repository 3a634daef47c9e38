"""The papers' tables, figures and claims: a paper is a module of data, and stands in one line here."""

from __future__ import annotations

from kdnb import datasets
from kdnb.errors import unknown
from kdnb.exhibits import (
    comparison_claims,
    iekd_claims,
    infoflow_claims,
    leaderboard,
    slkd_claims,
    srm_claims,
)
from kdnb.exhibits.exhibit import Cell, Column, Exhibit, Pair, Part, Row
from kdnb.exhibits.paper import Paper
from kdnb.exhibits.runs import measure
from kdnb.exhibits.score import ACCURACY, ERROR, Score

PAPERS = {
    paper.key: paper
    for paper in (
        comparison_claims.PAPER,
        slkd_claims.PAPER,
        srm_claims.PAPER,
        iekd_claims.PAPER,
        infoflow_claims.PAPER,
        leaderboard.LEADERBOARD,
    )
}


def papers() -> list[Paper]:
    """All papers, in the order of the book."""
    return list(PAPERS.values())


def paper(key: str | Paper) -> Paper:
    """The paper of a key, or the paper itself; an unknown one is an error that names the nearest."""
    if isinstance(key, Paper):
        return key
    if key not in PAPERS:
        raise unknown("paper", key, PAPERS)
    return PAPERS[key]


def get(key: str | Exhibit) -> Exhibit:
    """The exhibit of `<paper>/<name>`, or the exhibit itself; an unknown one is an error that names the nearest."""
    if isinstance(key, Exhibit):
        return key
    known = {exhibit.key: exhibit for exhibit in select("all")}
    if key not in known:
        raise unknown("exhibit", key, known)
    return known[key]


def select(key: str) -> list[Exhibit]:
    """`<paper>/<name>` is one exhibit; `<paper>` is all of a paper's, ablations included; `all` is everything."""
    every = {e.key: e for paper in papers() for e in (*paper.exhibits, *paper.ablations)}
    if key == "all":
        return list(every.values())
    if key in PAPERS:
        return [exhibit for exhibit in every.values() if exhibit.paper == key]
    if key not in every:
        raise unknown("exhibit", key, [*every, *sorted(PAPERS), "all"])
    return [every[key]]


def all_exhibits() -> list[Exhibit]:
    """Every table and figure that the papers print, in the order of the book."""
    return [exhibit for exhibit in select("all") if not exhibit.ablation]


def ablations() -> list[Exhibit]:
    """Every table of our own: what one choice of a method is worth."""
    return [exhibit for exhibit in select("all") if exhibit.ablation]


def on_own_images() -> list[Exhibit]:
    """Every table that can be made on the reader's own images, on each set of them that is prepared here."""
    return [e.on(name) for name in datasets.own_names() for e in select("all") if e.for_own_images]


__all__ = [
    "ACCURACY",
    "ERROR",
    "Cell",
    "Column",
    "Exhibit",
    "Pair",
    "Paper",
    "Part",
    "Row",
    "Score",
    "ablations",
    "all_exhibits",
    "get",
    "measure",
    "on_own_images",
    "paper",
    "papers",
    "select",
]
