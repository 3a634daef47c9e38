"""FitNet and PKT as the standard benchmark of distillation has them: their first step's loss beside the labels.

Their authors' two steps are `fitnet.py` and `pkt.py`.
"""

from __future__ import annotations

from torch import nn

from kdnb import losses
from kdnb.losses.common import to_smaller
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage, present
from kdnb.models.network import conv_norm

GUIDED = 2  # the stage whose map is imitated, counted from 1


@method("fitnet-joint", revision=1)
def fitnet_joint(setup: Setup, weight: float = 100.0) -> list[Stage]:
    """L = CE + w mean (r(F_S) - F_T)^2 of the guided maps, r = ReLU(BN(conv 1x1)); the larger map is average-pooled."""
    narrow, wide = setup.student.stage_widths[GUIDED - 1], setup.teacher_network().stage_widths[GUIDED - 1]
    regressor = setup.build("regressor", lambda: nn.Sequential(conv_norm(narrow, wide, 1), nn.ReLU()))

    def objective(batch: Batch) -> Losses:
        maps = to_smaller(regressor(batch.student.stages[GUIDED - 1]), batch.teacher.stages[GUIDED - 1])
        return {**setup.supervision(batch), "hint": weight * losses.hint(*maps)}

    return [setup.training(objective, modules={"regressor": regressor}, teacher_depth=GUIDED)]


@method("pkt-joint", revision=1)
def pkt_joint(setup: Setup, weight: float = 30_000.0) -> list[Stage]:
    """L = CE + w mean_ij p_ij log(p_ij / q_ij) on the embeddings, see `kdnb.losses.pkt`."""

    def objective(batch: Batch) -> Losses:
        kernel = losses.pkt(present(batch.student.embedding), present(batch.teacher.embedding))
        return {**setup.supervision(batch), "kernel": weight * kernel}

    return [setup.training(objective, teacher_depth="embedding")]
