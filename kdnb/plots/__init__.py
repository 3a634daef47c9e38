"""Figures of the book, drawn by one call each."""

from kdnb.plots.comparisons import accuracy_and_cost, alone_and_combined, gains, rows
from kdnb.plots.courses import courses
from kdnb.plots.curves import curves
from kdnb.plots.dictionaries import atoms, pixel_labels
from kdnb.plots.flows import flows
from kdnb.plots.frontier import frontier
from kdnb.plots.networks import noise, relevances, stages
from kdnb.plots.patience import patience
from kdnb.plots.recalls import recalls
from kdnb.plots.representations import logit_gaps, planes
from kdnb.plots.style import COLOURS, Plot, colour, style
from kdnb.plots.training import training

__all__ = [
    "COLOURS",
    "Plot",
    "accuracy_and_cost",
    "alone_and_combined",
    "atoms",
    "colour",
    "courses",
    "curves",
    "flows",
    "frontier",
    "gains",
    "logit_gaps",
    "noise",
    "patience",
    "pixel_labels",
    "planes",
    "recalls",
    "relevances",
    "rows",
    "stages",
    "style",
    "training",
]
