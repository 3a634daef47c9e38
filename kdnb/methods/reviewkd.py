"""ReviewKD, distillation via knowledge review (Chen et al. 2021): deep knowledge of the student against all levels.

Levels are the stages' maps and, deepest, the embedding as a map of 1x1.  From the deepest to the shallowest, a
fusion module mixes the student's map with what came from the level below, and brings it to the teacher's
width and size, to be compared with the teacher's map before its ReLU.  Fusion modules are trained with the
student and thrown away afterwards.  Levels are paired from the deepest; what the deeper network has before
is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage, present, warm_up
from kdnb.models.network import Network, conv_norm

#: Channels in which levels are fused, at most; narrower students fuse in the width of their embedding.
WIDEST = 512


@method("reviewkd", revision=1)
def reviewkd(setup: Setup, weight: float = 5.0, warm_up_epochs: int = 20) -> list[Stage]:
    """L = CE + w min(epoch/W, 1) sum_levels HCL, see `kdnb.losses.hierarchical_context`."""
    student, teacher = setup.student, setup.teacher_network()
    common = setup.common_stages
    narrow, wide = _widths(student, common), _widths(teacher, common)
    review = setup.build("review", lambda: Review(narrow, wide, min(WIDEST, student.embedding_width)))

    def objective(batch: Batch) -> Losses:
        targets = _levels(batch.teacher.preactivations[-common:], batch.teacher.embedding)
        reviewed = review(_levels(batch.student.stages[-common:], batch.student.embedding), targets)
        context = losses.hierarchical_context(reviewed, targets)
        return {**setup.supervision(batch), "review": weight * warm_up(batch, warm_up_epochs) * context}

    return [setup.training(objective, modules={"review": review}, teacher_depth="embedding")]


def _widths(network: Network, count: int) -> list[int]:
    """Channels of the levels, deepest first."""
    return [network.embedding_width, *reversed(network.stage_widths[-count:])]


def _levels(maps: list[Tensor], embedding: Tensor | None) -> list[Tensor]:
    """The maps to compare, deepest first: the embedding as a map [B, D, 1, 1], then the stages'."""
    return [present(embedding)[:, :, None, None], *reversed(maps)]


class Review(nn.Module):
    """The fusion modules of all levels, deepest first; the deepest has nothing to fuse with."""

    def __init__(self, student_widths: list[int], teacher_widths: list[int], middle: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            Fusion(narrow, middle, wide, fuses=level > 0)
            for level, (narrow, wide) in enumerate(zip(student_widths, teacher_widths, strict=True))
        )

    def forward(self, student_maps: list[Tensor], teacher_maps: list[Tensor]) -> list[Tensor]:
        """The student's maps in the teacher's shapes, deepest first."""
        reviewed, residual = [], None
        for level, student, teacher in zip(self.levels, student_maps, teacher_maps, strict=True):
            wide, residual = level(student, residual, teacher)
            reviewed.append(wide)
        return reviewed


class Fusion(nn.Module):
    """Attention-based fusion: the level's map and the residual from below it, each weighted place by place."""

    def __init__(self, inputs: int, middle: int, outputs: int, fuses: bool) -> None:
        super().__init__()
        self.narrow = conv_norm(inputs, middle, 1)
        self.attention = nn.Conv2d(2 * middle, 2, 1) if fuses else None
        self.widen = conv_norm(middle, outputs, 3)
        for convolution in (self.narrow.conv, self.widen.conv):
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(self, features: Tensor, residual: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """The map [B, outputs, ., .] in the size of `like`, and the next residual [B, middle, h, w].

        `features` are [B, inputs, h, w]; `residual`, from the level below, is [B, middle, ., .].
        """
        mixed = self.narrow(features)
        if self.attention is not None and residual is not None:
            below = _resized(residual, mixed)
            weights = self.attention(torch.cat([mixed, below], dim=1)).sigmoid()
            mixed = mixed * weights[:, :1] + below * weights[:, 1:]
        return self.widen(_resized(mixed, like)), mixed


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    """The maps in the height and width of others, each place the nearest one."""
    return maps if maps.shape[2:] == like.shape[2:] else F.interpolate(maps, like.shape[2:], mode="nearest")
