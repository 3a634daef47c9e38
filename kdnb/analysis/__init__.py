"""What figures need of a trained network beyond its numbers, and what of it is kept beside a record."""

from kdnb.analysis import representation  # its analyses are registered
from kdnb.analysis.registry import Analysis, Observed, Subject, analysis, get, names

__all__ = ["Analysis", "Observed", "Subject", "analysis", "get", "names", "representation"]
