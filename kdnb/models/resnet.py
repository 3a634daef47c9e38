"""Residual networks for small images (He et al. 2016), as the distillation benchmarks have them.

Depth 6n + 2: a stem of 16 channels, three stages of n basic blocks of 16, 32 and 64 channels, strides 1, 2, 2,
projection shortcuts (1x1 convolution and batch norm; their option B), global average pooling, one linear layer.
`x4` has a stem of 32 and stages of 64, 128, 256; `a` has shortcuts without weights (option A).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdnb.models.network import ConvNorm, Network, conv_norm


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the sum is returned before its ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, padded: bool = False) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, 3, stride)
        self.second = conv_norm(outputs, outputs, 3, 1)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = Padded(outputs - inputs, stride) if padded else conv_norm(inputs, outputs, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        return self.second(F.relu(self.first(features))) + self.shortcut(features)


class Padded(nn.Module):
    """A shortcut without weights: every `stride`-th place, and zeros on both sides of the channels for new ones."""

    def __init__(self, new: int, stride: int) -> None:
        super().__init__()
        self.before, self.after, self.stride = new // 2, new - new // 2, stride

    def forward(self, features: Tensor) -> Tensor:
        kept = features[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, self.before, self.after))


class ResNet(Network):
    """A residual network of `depth` layers; `widths` are those of the stem and the three stages.

    `padded` shortcuts are the option A of its authors.
    """

    def __init__(self, depth: int, widths: tuple[int, int, int, int], num_classes: int, padded: bool = False) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.stem_width, self.stage_widths = widths[0], widths[1:]
        self.embedding_width = widths[-1]
        self.num_classes = num_classes
        self.stem = conv_norm(3, widths[0], 3, 1)
        self.stages = nn.ModuleList(
            _stage(blocks, inputs, outputs, stride, padded)
            for inputs, outputs, stride in zip(widths[:-1], widths[1:], (1, 2, 2), strict=True)
        )
        self.classifier = nn.Linear(widths[-1], num_classes)
        _kaiming_fan_out(self)

    def margin_norm(self, stage: nn.Module) -> nn.BatchNorm2d:
        """The norm of the last block's branch; the shortcut that is added to it is left aside."""
        assert isinstance(stage, nn.Sequential)
        block = stage[-1]
        branch = block.third if isinstance(block, Bottleneck) else block.second
        assert isinstance(branch, ConvNorm)
        norm = branch[1]
        assert isinstance(norm, nn.BatchNorm2d)
        return norm


class Bottleneck(nn.Module):
    """1x1 to a quarter of the width, 3x3, 1x1 back, and a shortcut; the sum is returned before its ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = outputs // 4
        self.first = conv_norm(inputs, hidden, 1, 1)
        self.second = conv_norm(hidden, hidden, 3, stride)
        self.third = conv_norm(hidden, outputs, 1, 1)
        same_shape = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same_shape else conv_norm(inputs, outputs, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.relu(self.second(F.relu(self.first(features))))
        return self.third(hidden) + self.shortcut(features)


class BottleneckResNet(ResNet):
    """ResNet-50 for small images: a 3x3 stem of 64 without pooling, four stages of bottleneck blocks."""

    def __init__(self, num_classes: int, blocks: tuple[int, int, int, int] = (3, 4, 6, 3)) -> None:
        Network.__init__(self)
        self.stem_width, self.stage_widths = 64, (256, 512, 1024, 2048)
        self.embedding_width = 2048
        self.num_classes = num_classes
        self.stem = conv_norm(3, 64, 3, 1)
        inputs = (64, *self.stage_widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(Bottleneck(i, o, stride), *(Bottleneck(o, o, 1) for _ in range(count - 1)))
            for i, o, stride, count in zip(inputs, self.stage_widths, (1, 2, 2, 2), blocks, strict=True)
        )
        self.classifier = nn.Linear(2048, num_classes)
        _kaiming_fan_out(self)


def _kaiming_fan_out(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _stage(blocks: int, inputs: int, outputs: int, stride: int, padded: bool) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride, padded)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))
