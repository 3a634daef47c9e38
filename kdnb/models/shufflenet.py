"""ShuffleNets for small images, as the distillation benchmarks have them: a 1x1 stem without pooling.

ShuffleNetV1 (Zhang et al. 2018) with 3 groups and ShuffleNetV2 (Ma et al. 2018) at width 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdnb.models.network import LastLayer, Network, conv_norm


def shuffle(features: Tensor, groups: int) -> Tensor:
    """Interleave the channels of `groups` groups."""
    b, c, h, w = features.shape
    # Channels are moved as the last dimension, where training lays them: the copy keeps that layout.
    pixels = features.permute(0, 2, 3, 1).reshape(b, h, w, groups, c // groups)
    return pixels.transpose(3, 4).reshape(b, h, w, c).permute(0, 3, 1, 2)


class UnitV1(nn.Module):
    """Grouped 1x1, shuffle, 3x3 per channel, grouped 1x1; returned before the last ReLU.

    With stride 2 the pooled input is put beside the branch, else added to it.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        self.stride = stride
        branch = outputs - inputs if stride == 2 else outputs
        hidden = branch // 4
        self.groups = 1 if inputs == 24 else groups  # the first unit's few channels are not grouped
        self.reduce = conv_norm(inputs, hidden, 1, groups=self.groups)
        self.filter = conv_norm(hidden, hidden, 3, stride, groups=hidden)
        self.restore = conv_norm(hidden, branch, 1, groups=groups)

    def forward(self, features: Tensor) -> Tensor:
        hidden = shuffle(F.relu(self.reduce(features)), self.groups)
        branch = self.restore(F.relu(self.filter(hidden)))
        if self.stride == 2:
            return torch.cat([branch, F.avg_pool2d(features, 3, 2, padding=1)], dim=1)
        return branch + features


class ShuffleNetV1(Network):
    """Stages of 4, 8 and 4 units."""

    def __init__(self, num_classes: int, widths: tuple[int, int, int] = (240, 480, 960), groups: int = 3) -> None:
        super().__init__()
        self.stem_width, self.stage_widths = 24, widths
        self.embedding_width = widths[-1]
        self.num_classes = num_classes
        self.stem = conv_norm(3, 24, 1)
        self.stages = nn.ModuleList()
        inputs = 24
        for width, count in zip(widths, (4, 8, 4), strict=True):
            units = [UnitV1(inputs, width, 2, groups), *(UnitV1(width, width, 1, groups) for _ in range(count - 1))]
            self.stages.append(nn.ModuleList(units))
            inputs = width
        self.classifier = nn.Linear(inputs, num_classes)


class DownUnitV2(nn.Module):
    """Both branches halve the size; their outputs are put side by side and shuffled."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.left_filter = conv_norm(inputs, inputs, 3, 2, groups=inputs)
        self.left_mix = conv_norm(inputs, half, 1)
        self.right_reduce = conv_norm(inputs, half, 1)
        self.right_filter = conv_norm(half, half, 3, 2, groups=half)
        self.right_mix = conv_norm(half, half, 1)

    def forward(self, features: Tensor) -> Tensor:
        """The unit's output before its last ReLU."""
        left = self.left_mix(self.left_filter(features))
        right = self.right_mix(self.right_filter(F.relu(self.right_reduce(features))))
        return shuffle(torch.cat([left, right], dim=1), 2)


class UnitV2(nn.Module):
    """Half of the channels pass, the other half is filtered; side by side and shuffled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.reduce = conv_norm(half, half, 1)
        self.filter = conv_norm(half, half, 3, groups=half)
        self.mix = conv_norm(half, half, 1)

    def forward(self, features: Tensor) -> Tensor:
        """The unit's output before its last ReLU; the half that passes is not negative."""
        left, right = features.chunk(2, dim=1)
        right = self.mix(self.filter(F.relu(self.reduce(right))))
        return shuffle(torch.cat([left, right], dim=1), 2)


class ShuffleNetV2(LastLayer):
    """Stages of one halving unit and 3, 7 and 3 others; a 1x1 convolution to 1,024 channels at the end."""

    def __init__(self, num_classes: int, widths: tuple[int, int, int] = (116, 232, 464), last: int = 1024) -> None:
        super().__init__()
        self.stem_width, self.stage_widths = 24, widths
        self.embedding_width = last
        self.num_classes = num_classes
        self.stem = conv_norm(3, 24, 1)
        self.stages = nn.ModuleList()
        inputs = 24
        for width, count in zip(widths, (3, 7, 3), strict=True):
            self.stages.append(nn.ModuleList([DownUnitV2(inputs, width), *(UnitV2(width) for _ in range(count))]))
            inputs = width
        self.last = conv_norm(inputs, last, 1)
        self.classifier = nn.Linear(last, num_classes)
