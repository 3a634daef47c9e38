"""What a figure of training shows, as data: columns of the runs' histories, each with its label and colour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A column of the histories of a row, the mean over seeds; no dash: a thin line without its band."""

    row: str
    column: str
    label: str
    colour: str
    dash: str = "-"


@dataclass(frozen=True)
class Panel:
    """Lines on one axis; `factor` is 100 for shares told in percent."""

    label: str
    lines: tuple[Line, ...]
    factor: float = 1.0
    logarithmic: bool = False


@dataclass(frozen=True)
class Courses:
    """Panels below each other, and what a caption says of them; `of` names the row that they are about."""

    name: str
    caption: str
    panels: tuple[Panel, ...]
    of: str = ""

    @property
    def wanted(self) -> dict[str, set[str]]:
        """Row -> the columns of its histories that are drawn."""
        found: dict[str, set[str]] = {}
        for panel in self.panels:
            for line in panel.lines:
                found.setdefault(line.row, set()).add(line.column)
        return found
