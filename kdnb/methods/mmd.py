"""MMD, neuron selectivity transfer (Huang and Wang 2017): channels of the last map as two samples to compare.

The weight of the term is not a constant of the method: it is set before training, and then stays.  Its authors
ask for "an appropriate magnitude relevant to" the cross-entropy; that it is the same magnitude is our inference.
The same for labels and for KD.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage, present


@method("mmd-linear", revision=1)
def mmd_linear(setup: Setup, weight: float | None = None) -> list[Stage]:
    """L = CE + beta MMD^2, k(a, b) = a'b; without a `weight`, beta is calibrated."""
    return _mmd(setup, "linear", weight)


@method("mmd-polynomial", revision=1)
def mmd_polynomial(setup: Setup, weight: float | None = None) -> list[Stage]:
    """L = CE + beta MMD^2, k(a, b) = (a'b)^2; without a `weight`, beta is calibrated."""
    return _mmd(setup, "polynomial", weight)


@method("mmd-gaussian", revision=1)
def mmd_gaussian(setup: Setup, weight: float | None = None) -> list[Stage]:
    """L = CE + beta MMD^2, k a sum of five Gaussians; without a `weight`, beta is calibrated."""
    return _mmd(setup, "gaussian", weight)


class Weight(nn.Module):
    """The constant beta, in a buffer: kept with the stage's state, never found twice."""

    value: Tensor

    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(float(value)))


def _mmd(setup: Setup, kernel: Literal["linear", "polynomial", "gaussian"], weight: float | None) -> list[Stage]:
    beta = setup.build("beta", lambda: Weight(float("nan") if weight is None else weight))

    def discrepancy(batch: Batch) -> Tensor:
        return losses.mmd(batch.student.stages[-1], batch.teacher.stages[-1], kernel)

    def calibrate(batches: list[Batch]) -> None:
        """beta = mean CE / mean MMD^2 over the first batches of the untrained student."""
        labels = [losses.cross_entropy(present(b.student.logits), b.labels) for b in batches]
        beta.value.copy_(torch.stack(labels).mean() / torch.stack([discrepancy(b) for b in batches]).mean())

    def objective(batch: Batch) -> Losses:
        return {**setup.supervision(batch), "mmd": beta.value * discrepancy(batch)}

    return [
        setup.training(
            objective,
            modules={"beta": beta},
            teacher_depth=len(setup.teacher_network().stages),
            prepare=calibrate if weight is None else None,
        )
    ]
