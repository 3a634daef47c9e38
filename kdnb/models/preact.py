"""ResNet-18 with pre-activation blocks for small images, as information flow's authors have it as their teacher.

It differs from He et al. (2016): the shortcut takes the activated input even where it is the identity, and
neither norm nor ReLU follows the last block, so that the embedding is a pooled sum of either sign.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdnb.models.network import LinearStages, conv_norm


class Block(nn.Module):
    """norm and ReLU, then 3x3, norm, ReLU, 3x3, and beside them a shortcut, a bare 1x1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.first = conv_norm(inputs, outputs, 3, stride)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same_shape = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same_shape else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        activated = F.relu(self.norm(features))
        return self.second(F.relu(self.first(activated))) + self.shortcut(activated)


class PreActResNet(LinearStages):
    """Four stages of two blocks; what leaves them is raw, and is its own preactivation.

    PyTorch's own initial weights.
    """

    def __init__(self, num_classes: int, widths: tuple[int, int, int, int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        self.stem_width, self.stage_widths = widths[0], widths
        self.embedding_width = widths[-1]
        self.num_classes = num_classes
        self.stem = conv_norm(3, widths[0], 3)
        inputs = (widths[0], *widths[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(Block(i, o, stride), Block(o, o, 1))
            for i, o, stride in zip(inputs, widths, (1, 2, 2, 2), strict=True)
        )
        self.classifier = nn.Linear(widths[-1], num_classes)
