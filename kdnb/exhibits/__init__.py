"""The papers' tables, figures and claims: one module per paper."""

from __future__ import annotations

from kdnb.errors import unknown
from kdnb.exhibits import comparison
from kdnb.exhibits.exhibit import Cell, Exhibit, Row, measure

_ALL = {exhibit.key: exhibit for exhibit in comparison.EXHIBITS}


def get(key: str) -> Exhibit:
    """The exhibit of `<paper>/<name>`; an unknown one is an error that names the nearest."""
    if key not in _ALL:
        raise unknown("exhibit", key, _ALL)
    return _ALL[key]


def all_exhibits() -> list[Exhibit]:
    """Every exhibit of the study, in the order of the book."""
    return list(_ALL.values())


__all__ = ["Cell", "Exhibit", "Row", "all_exhibits", "get", "measure"]
