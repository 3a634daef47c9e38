"""The papers' tables, figures and claims: one module per paper."""

from __future__ import annotations

from kdnb.errors import unknown
from kdnb.exhibits import comparison, slkd
from kdnb.exhibits.exhibit import Cell, Exhibit, Pair, Row, measure

_PAPERS = (comparison, slkd)
_ALL = {exhibit.key: exhibit for paper in _PAPERS for exhibit in (*paper.EXHIBITS, *paper.ABLATIONS)}


def get(key: str) -> Exhibit:
    """The exhibit of `<paper>/<name>`; an unknown one is an error that names the nearest."""
    if key not in _ALL:
        raise unknown("exhibit", key, _ALL)
    return _ALL[key]


def select(key: str) -> list[Exhibit]:
    """`<paper>/<name>` is one exhibit; `<paper>` is all of a paper's, ablations included; `all` is everything."""
    papers = sorted({exhibit.paper for exhibit in _ALL.values()})
    if key in papers or key == "all":
        return [exhibit for exhibit in _ALL.values() if key in (exhibit.paper, "all")]
    if key not in _ALL:
        raise unknown("exhibit", key, [*_ALL, *papers, "all"])
    return [_ALL[key]]


def all_exhibits() -> list[Exhibit]:
    """Every table and figure that the papers print, in the order of the book."""
    return [exhibit for exhibit in _ALL.values() if not exhibit.ablation]


def ablations() -> list[Exhibit]:
    """Every table of our own: what one choice of a method is worth."""
    return [exhibit for exhibit in _ALL.values() if exhibit.ablation]


__all__ = ["Cell", "Exhibit", "Pair", "Row", "ablations", "all_exhibits", "get", "measure", "select"]
