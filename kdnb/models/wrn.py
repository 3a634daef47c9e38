"""Wide residual networks for small images (Zagoruyko and Komodakis 2016): pre-activation, no dropout.

Depth 6n + 4 and width k: a stem of 16 channels, three groups of n blocks of 16k, 32k and 64k channels, strides
1, 2, 2.  What leaves a group is raw (neither norm nor ReLU); its preactivation is the norm that follows, which
is the first norm of the next group, or the last one of the network.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdnb.models.initialisation import convolutions_fan_out
from kdnb.models.network import Activations, ConvNorm, Depth, Network


def conv3x3(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class Block(nn.Module):
    """norm, ReLU, convolution, norm, ReLU, convolution, and a shortcut.

    The first norm lies before the block: `forward` takes the raw input and the same after norm and ReLU.
    Where widths differ the shortcut is a 1x1 convolution of the activated input, else the raw input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = ConvNorm(conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs))
        self.second = conv3x3(outputs, outputs, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, raw: Tensor, activated: Tensor) -> Tensor:
        beside = raw if self.shortcut is None else self.shortcut(activated)
        return self.second(F.relu(self.first(activated))) + beside


class Group(nn.Module):
    """Blocks of one width; `norms` lie between them, and the last one after the group."""

    def __init__(self, blocks: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(inputs if i == 0 else outputs, outputs, stride if i == 0 else 1) for i in range(blocks)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(blocks))

    def forward(self, raw: Tensor, activated: Tensor) -> tuple[Tensor, Tensor]:
        """The raw output, and the norm that follows it."""
        preactivation = activated
        for block, norm in zip(self.blocks, self.norms, strict=True):
            raw = block(raw, activated)
            preactivation = norm(raw)
            activated = F.relu(preactivation)
        return raw, preactivation


class FirstGroup(Group):
    """The first group, with the norm that stands between the stem and its first block."""

    def __init__(self, blocks: int, inputs: int, outputs: int) -> None:
        super().__init__(blocks, inputs, outputs, 1)
        self.before = nn.BatchNorm2d(inputs)


class WideResNet(Network):
    """A wide residual network of `depth` layers, `width` times as wide as the narrowest."""

    def __init__(self, depth: int, width: int, num_classes: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.stem_width = 16
        self.stage_widths = (16 * width, 32 * width, 64 * width)
        self.embedding_width = 64 * width
        self.num_classes = num_classes
        first, second, third = self.stage_widths
        self.stem = conv3x3(3, 16, 1)
        groups = [FirstGroup(blocks, 16, first), Group(blocks, first, second, 2), Group(blocks, second, third, 2)]
        self.stages = nn.ModuleList(groups)
        self.classifier = nn.Linear(third, num_classes)
        convolutions_fan_out(self)
        nn.init.zeros_(self.classifier.bias)

    # A stage begins with the norm that the stage before it has run, which `run_stage` could not know.
    def activations(self, images: Tensor, depth: Depth = "logits") -> Activations:
        raw = self.stem(images)
        acts = Activations(stem=raw)
        last = depth if isinstance(depth, int) else len(self.stages)
        preactivation = raw
        for index in range(last):
            group = self.stages[index]
            if isinstance(group, FirstGroup):
                preactivation = group.before(raw)
            # The norm after a group is run once: the next group begins with what it gave.
            raw, preactivation = group(raw, F.relu(preactivation))
            acts.stages.append(raw)
            acts.preactivations.append(preactivation)
        if not isinstance(depth, int):
            self.finish(acts, F.relu(preactivation), depth)
        return acts

    def margin_norm(self, stage: nn.Module) -> nn.BatchNorm2d:
        assert isinstance(stage, Group)
        norm = stage.norms[-1]
        assert isinstance(norm, nn.BatchNorm2d)
        return norm
