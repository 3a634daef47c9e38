"""The claims of the information flow paper."""

from __future__ import annotations

from kdnb.exhibits import infoflow
from kdnb.exhibits.paper import Paper

PAPER = Paper(infoflow.PAPER, infoflow.EXHIBITS, infoflow.ABLATIONS)
