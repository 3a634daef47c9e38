"""Verdicts that this book has published and taken back.  A line stays here for good."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Withdrawn:
    """A verdict that stood in a published book and was wrong: what it said, since when not, and why."""

    paper: str
    claim: str
    profile: str
    was: str
    withdrawn: str
    why: str


WITHDRAWN: tuple[Withdrawn, ...] = ()
