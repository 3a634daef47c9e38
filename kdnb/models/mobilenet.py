"""MobileNetV2 for small images at half width (Sandler et al. 2018), as the distillation benchmarks have it.

A stem of stride 2, so that 32x32 ends at 2x2; plain halving of widths; ReLU, not ReLU6; the first block keeps
its expansion; 1,280 channels before pooling, whatever the width.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdnb.models.initialisation import normal_fan_out
from kdnb.models.network import Network, conv_norm

#: Of each group: expansion, full width, blocks, stride of the first block.
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


class MobileNetV2(Network):
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

    def run_stem(self, images: Tensor) -> Tensor:
        return F.relu(self.stem(images))

    def run_stage(self, index: int, features: Tensor) -> tuple[Tensor, Tensor]:
        features = self.stages[index](features)
        return features, features

    def embed(self, features: Tensor) -> Tensor:
        return F.relu(self.last(features)).float().mean(dim=(2, 3))

    def embedding_modules(self) -> list[nn.Module]:
        return [self.last]
