"""Curves of training at every scale that is measured, one figure each, the notebook's own profile last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kdnb import page
from kdnb.exhibits.show import Shown, published
from kdnb.plots.curves import curves
from kdnb.plots.style import Plot


@dataclass(frozen=True)
class Plots:
    """Several figures, one below the other."""

    plots: tuple[Plot, ...]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        text = {"text/plain": "\n".join(plot.caption for plot in self.plots)}
        if page.in_book():
            return text | {"text/markdown": "\n\n".join(plot.to_myst() for plot in self.plots)}
        return text | {"text/html": "\n".join(f"<figure>{plot.to_svg()}</figure>" for plot in self.plots)}


def training(runs: Shown, of: str, name: str = "") -> Plots:
    """`curves` of these rows at every scale where row `of` is measured, then of what the notebook shows.

    A notebook's own profile keeps the name; a figure of another scale adds it, and the data set.  Where another scale
    is measured and the notebook's own is not, nothing needs to be said of that.
    """
    name = name or f"curves-{of.replace('+', '-').replace('/', '-')}"
    parts = [(part, f"{name}-{part.profile}-{part.cells[0].dataset}") for part in published(runs) if _has(part, of)]
    own = [(runs, name)] if _has(runs, of) or not parts else []
    return Plots(tuple(curves(part, of, named) for part, named in [*parts, *own]))


def _has(runs: Shown, of: str) -> bool:
    """Whether a row, named by its key or by the line that it is of several pairs, has runs here."""
    return any(of in (cell.key, cell.row.key) and (runs.frame["row"] == cell.key).any() for cell in runs.cells)
