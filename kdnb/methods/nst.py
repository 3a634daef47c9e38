"""NST, neuron selectivity transfer (Huang and Wang 2017), as the standard benchmark has it: at every stage.

The comparison of kernels at the last map alone is `mmd.py`.
"""

from __future__ import annotations

import torch

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage


@method("nst", revision=1)
def nst(setup: Setup, weight: float = 50.0) -> list[Stage]:
    """L = CE + w sum_j MMD^2 of the channels of stage j, k(a, b) = (a'b)^2; stages are paired from the first."""
    common = setup.common_stages

    def objective(batch: Batch) -> Losses:
        pairs = zip(batch.student.stages[:common], batch.teacher.stages[:common], strict=True)
        selectivity = torch.stack([losses.mmd(s, t, "polynomial") for s, t in pairs]).sum()
        return {**setup.supervision(batch), "mmd": weight * selectivity}

    return [setup.training(objective, teacher_depth=common)]
