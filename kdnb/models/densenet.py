"""DenseNet-121 for small images (Huang et al. 2017), as SRM's authors have it as their teacher.

A bare 3x3 stem without pooling, blocks of 6, 12, 24 and 16 layers that grow by 32 channels, halving transitions
between them; every convolution has a bias.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdnb.models.initialisation import kaiming_fan_in
from kdnb.models.network import ConvNorm, LastLayer, LinearStages


class DenseLayer(nn.Module):
    """norm, ReLU, 1x1 to four times the growth, norm, ReLU, 3x3; put in front of its own input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.reduce = ConvNorm(nn.Conv2d(inputs, 4 * growth, 1), nn.BatchNorm2d(4 * growth))
        self.grow = nn.Conv2d(4 * growth, growth, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        new = self.grow(F.relu(self.reduce(F.relu(self.norm(features)))))
        return torch.cat([new, features], dim=1)


class Transition(nn.Module):
    """norm, ReLU, 1x1 to half of the channels, 2x2 average pooling."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, inputs // 2, 1)

    def forward(self, features: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.norm(features))), 2)


class DenseNet(LinearStages, LastLayer):
    """The stages end where SRM taps them: after the first and the second transition, and after the last block.

    All three maps are raw sums of linear convolutions (no ReLU), and are their own preactivations; the last
    norm and ReLU belong to the embedding.
    """

    def __init__(self, num_classes: int, blocks: tuple[int, int, int, int] = (6, 12, 24, 16), growth: int = 32) -> None:
        super().__init__()
        width = 2 * growth
        self.stem_width = width
        self.num_classes = num_classes
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        pieces: list[list[nn.Module]] = []
        ends: list[int] = []
        for number, count in enumerate(blocks):
            piece: list[nn.Module] = [DenseLayer(width + i * growth, growth) for i in range(count)]
            width += count * growth
            if number < 3:
                piece.append(Transition(width))
                width //= 2
            pieces.append(piece)
            ends.append(width)
        self.stages = nn.ModuleList(nn.Sequential(*piece) for piece in (pieces[0], pieces[1], pieces[2] + pieces[3]))
        self.stage_widths = (ends[0], ends[1], ends[3])
        self.embedding_width = width
        self.last = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width, num_classes)
        kaiming_fan_in(self)

    def run_stem(self, images: Tensor) -> Tensor:
        return self.stem(images)
