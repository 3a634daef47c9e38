"""OFD, overhaul of feature distillation (Heo et al. 2019): the maps before their ReLU, place by place.

Connectors (1x1 convolution and batch norm) bring the student's maps to the teacher's widths; they are trained
with the student and thrown away afterwards.  Where the teacher is silent the student need only stay below the
margin of that channel, which the teacher's last batch norm of the stage tells.

Stages are paired from the last; what the deeper network has before is left out.  The teacher is in train mode,
so that its batch norms use the batch's statistics: its authors found it better than eval mode in their Table 8
(clovaai/overhaul-distillation, issue 37).  That its running statistics drift in the released code changes
nothing, since nothing uses them; here they stay.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage
from kdnb.models.initialisation import convolutions_fan_out
from kdnb.models.network import conv_norm


@method("ofd", revision=2)
def ofd(setup: Setup, weight: float = 1e-3, *, teacher_mode: Literal["train", "eval"] = "train") -> list[Stage]:
    """L = CE + w sum_i 2^(i-n) l_i over stages i = 1..n, l the partial L2 of `kdnb.losses.overhaul`."""
    student, teacher = setup.student, setup.teacher_network()
    common = setup.common_stages
    statistics = teacher.preactivation_statistics()[-common:]
    margins = [losses.negative_mean(mean, deviation) for mean, deviation in statistics]
    connectors = setup.build("connectors", lambda: Connectors(student.stage_widths[-common:], margins))

    def objective(batch: Batch) -> Losses:
        overhaul = connectors(batch.student.preactivations[-common:], batch.teacher.preactivations[-common:])
        return {**setup.supervision(batch), "overhaul": weight * overhaul}

    return [
        setup.training(
            objective,
            modules={"connectors": connectors},
            teacher_depth=len(teacher.stages),
            teacher_mode=teacher_mode,
        )
    ]


class Connectors(nn.Module):
    """A connector a stage, and the teacher's margins [C] of each, as buffers."""

    def __init__(self, student_widths: tuple[int, ...], margins: list[Tensor]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv_norm(w, len(m), 1) for w, m in zip(student_widths, margins, strict=True))
        convolutions_fan_out(self)
        for index, margin in enumerate(margins):
            self.register_buffer(f"margin{index}", margin.clone())

    def forward(self, student_maps: list[Tensor], teacher_maps: list[Tensor]) -> Tensor:
        """The stages' partial L2, each half as heavy as the next deeper one's, the last one whole."""
        count = len(self.layers)
        terms = [
            losses.overhaul(layer(s), t, self.get_buffer(f"margin{i}")) / 2 ** (count - 1 - i)
            for i, (layer, s, t) in enumerate(zip(self.layers, student_maps, teacher_maps, strict=True))
        ]
        return torch.stack(terms).sum()
