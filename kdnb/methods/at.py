"""AT, attention transfer (Zagoruyko and Komodakis 2017): look where the teacher looks.

A map's attention is the mean square of its channels, place by place.  Stages are paired from the first; what
the deeper network has beyond the other is left out.
"""

from __future__ import annotations

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage


@method("at", revision=1)
def at(setup: Setup, weight: float = 1000.0, *, first_stage: int = 1) -> list[Stage]:
    """L = CE + w sum_j mean_{b,u} (a_S^j - a_T^j)^2, a = n(mean_c F_c^2), n the L2 normalisation per image.

    j counts stages from 1, and begins with `first_stage`.
    """
    common = setup.common_stages

    def objective(batch: Batch) -> Losses:
        guided, taught = (acts.stages[first_stage - 1 : common] for acts in (batch.student, batch.teacher))
        attention = losses.attention(guided, taught)
        return {**setup.supervision(batch), "attention": weight * attention}

    return [setup.training(objective, teacher_depth=common)]
