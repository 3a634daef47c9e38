"""MobileNets for small images.

MobileNetV1 (Howard et al. 2017) as IE-KD's authors have it: a stem of stride 1 and two strides in all, so that
32x32 ends at 8x8.

MobileNetV2 at half width (Sandler et al. 2018) as the distillation benchmarks have it: a stem of stride 2, so
that 32x32 ends at 2x2; plain halving of widths; ReLU, not ReLU6; the first block keeps its expansion; 1,280
channels before pooling, whatever the width.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from kdnb.models.initialisation import normal_fan_out
from kdnb.models.network import LastLayer, LinearStages, Network, conv_norm

#: MobileNetV1's blocks by stage: width, stride.
SEPARABLE = (
    ((64, 1), (128, 1), (128, 1)),
    ((256, 2), (256, 1)),
    ((512, 2), *((512, 1),) * 5, (1024, 1), (1024, 1)),
)

#: Of each group of MobileNetV2: expansion, full width, blocks, stride of the first block.
GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
#: Groups (counted from 0) that make up each stage.
STAGES = ((0, 1), (2,), (3, 4), (5, 6))
LAST = 1280


class Separable(nn.Module):
    """Filter each channel by 3x3, norm, ReLU, mix by 1x1, norm; returned before the last ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.filter = conv_norm(inputs, inputs, 3, stride, groups=inputs)
        self.mix = conv_norm(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.mix(F.relu(self.filter(features)))


class MobileNetV1(Network):
    """Three stages, one a side: 128 channels at 32x32, 256 at 16x16, 1,024 at 8x8."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem_width = inputs = 32
        self.stage_widths = tuple(blocks[-1][0] for blocks in SEPARABLE)
        self.embedding_width = self.stage_widths[-1]
        self.num_classes = num_classes
        self.stem = conv_norm(3, inputs, 3)
        self.stages = nn.ModuleList()
        for blocks in SEPARABLE:
            stage = nn.ModuleList()
            for width, stride in blocks:
                stage.append(Separable(inputs, width, stride))
                inputs = width
            self.stages.append(stage)
        self.classifier = nn.Linear(inputs, num_classes)
        normal_fan_out(self)
        for module in self.modules():
            if isinstance(module, Separable):  # a filter of one channel, and its fan-out is that channel's
                nn.init.normal_(module.filter.conv.weight, 0.0, math.sqrt(2.0 / 9))

    def margin_norm(self, stage: nn.Module) -> nn.BatchNorm2d:
        assert isinstance(stage, nn.ModuleList)
        block = stage[-1]
        assert isinstance(block, Separable)
        return block.mix.norm


class Bottleneck(nn.Module):
    """Expand by 1x1, filter each channel by 3x3, project by 1x1 without ReLU; residual where shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = conv_norm(inputs, hidden, 1)
        self.filter = conv_norm(hidden, hidden, 3, stride, groups=hidden)
        self.project = conv_norm(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        projected = self.project(F.relu(self.filter(F.relu(self.expand(features)))))
        return features + projected if self.residual else projected


class MobileNetV2(LinearStages, LastLayer):
    """Widths are `share` of the full network's; stages are linear, and are their own preactivations."""

    def __init__(self, num_classes: int, share: float = 0.5) -> None:
        super().__init__()
        widths = [int(width * share) for _, width, _, _ in GROUPS]
        self.stem_width = int(32 * share)
        self.stage_widths = tuple(widths[groups[-1]] for groups in STAGES)
        self.embedding_width = LAST
        self.num_classes = num_classes
        self.stem = conv_norm(3, self.stem_width, 3, 2)
        self.stages = nn.ModuleList()
        inputs = self.stem_width
        for groups in STAGES:
            blocks: list[nn.Module] = []
            for group in groups:
                expansion, _, count, stride = GROUPS[group]
                for i in range(count):
                    blocks.append(Bottleneck(inputs, widths[group], expansion, stride if i == 0 else 1))
                    inputs = widths[group]
            self.stages.append(nn.Sequential(*blocks))
        self.last = conv_norm(inputs, LAST, 1)
        self.classifier = nn.Linear(LAST, num_classes)
        normal_fan_out(self)
