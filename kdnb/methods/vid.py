"""VID, variational information distillation (Ahn et al. 2019): how likely the teacher's maps are, given the student's.

A regressor says of every stage's map what mean it expects, and with what variance by channel; it is trained with the
student and thrown away afterwards.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdnb import losses
from kdnb.losses.common import to_smaller
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage

#: The variance that regressors begin with, and the least one.
INITIAL, LEAST = 5.0, 1e-5


@method("vid", revision=1)
def vid(setup: Setup, weight: float = 1.0) -> list[Stage]:
    """L = CE + w sum_j 1/2 mean [(F_T - m_j(F_S))^2 / v_j + log v_j] over stages j, paired from the first."""
    student, teacher = setup.student, setup.teacher_network()
    common = setup.common_stages
    widths = list(zip(student.stage_widths[:common], teacher.stage_widths[:common], strict=True))
    regressors = setup.build("regressors", lambda: nn.ModuleList(Expected(narrow, wide) for narrow, wide in widths))

    def objective(batch: Batch) -> Losses:
        stages = zip(regressors, batch.student.stages[:common], batch.teacher.stages[:common], strict=True)
        terms = [expected(*to_smaller(ours, theirs)) for expected, ours, theirs in stages]
        return {**setup.supervision(batch), "variational": weight * torch.stack(terms).sum()}

    return [setup.training(objective, modules={"regressors": regressors}, teacher_depth=common)]


class Expected(nn.Module):
    """The teacher's map as it is expected: three 1x1 convolutions, and a variance [C] that is learned."""

    def __init__(self, narrow: int, wide: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(i, wide, 1, bias=False) for i in (narrow, wide, wide)]
        self.mean = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.scale = nn.Parameter(torch.full((wide,), math.log(math.exp(INITIAL - LEAST) - 1)))

    def forward(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """The loss of two maps of one size."""
        variance = F.softplus(self.scale.float()) + LEAST
        return losses.variational(self.mean(ours), variance, theirs)
