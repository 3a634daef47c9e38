"""Figures of the book, drawn by one call each."""

from kdnb.plots.comparisons import accuracy_and_cost, alone_and_combined, gains, rows
from kdnb.plots.curves import curves
from kdnb.plots.style import COLOURS, Plot, colour, style

__all__ = ["COLOURS", "Plot", "accuracy_and_cost", "alone_and_combined", "colour", "curves", "gains", "rows", "style"]
