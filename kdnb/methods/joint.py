"""Losses that know no labels, beside the labels: one stage in place of two, L = CE + w l.

FitNet and PKT are as the standard benchmark of distillation has them; their authors' two steps are `fitnet.py` and
`pkt.py`.  Information flow, which trains features alone (`matching.py`), is joined here as nobody has published it.
"""

from __future__ import annotations

import torch
from torch import nn

from kdnb import losses
from kdnb.losses.common import to_smaller
from kdnb.methods.matching import Matched, layers_of
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


@method("information-flow-joint", revision=1)
def information_flow_joint(
    setup: Setup, weight: float = 30_000.0, first_weight: float = 100.0, decay: float = 0.7
) -> list[Stage]:
    """L = CE + w sum_l v_l D_l / sum_l v_l over the layers of `information-flow`, with its D.

    v is its weight of a layer in an epoch: 1 for the last, first_weight decay^k for the inner ones.  Divided by their
    sum, so that the whole weighs the same in all epochs beside the labels; w is PKT's.
    """
    student, teacher = setup.student, setup.teacher_network()
    how = Matched("all", first_weight, decay, balanced=True)

    def objective(batch: Batch) -> Losses:
        ours, theirs = layers_of(student, batch.student), layers_of(teacher, batch.teacher)
        last, *inner = [losses.information_flow(ours[s], theirs[t]) for s, t in how.pairs()]
        of_last, of_inner = how.weights(batch.epoch)
        mean = (of_last * last + of_inner * torch.stack(inner).sum()) / len(how.pairs())
        return {**setup.supervision(batch), "flow": weight * mean}

    return [setup.training(objective, teacher_depth="embedding")]
