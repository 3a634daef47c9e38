"""A probe: a classifier on features as they are, from labels alone.  What another run's student has learned, read off.

It is meant to begin with that student (`Experiment.start`); its features stay, and its classifier is trained.
"""

from __future__ import annotations

from typing import Literal

from kdnb.methods.registry import method
from kdnb.methods.stage import Setup, Stage


@method("probe", revision=1, needs_teacher=False)
def probe(setup: Setup, norms: Literal["eval", "train"] = "eval") -> list[Stage]:
    """L = CE, the classifier alone trained.

    `norms`: the batch norms of what stays are in `eval` mode, or in `train` mode, where they use the statistics of the
    batch and their running ones go on moving though no weight does.
    """
    frozen = ("student",) if norms == "eval" else ()
    return [setup.training(setup.supervision, trainable=[setup.student.classifier], frozen=frozen)]
