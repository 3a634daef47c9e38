"""AllCNN for small images (Springenberg et al. 2015), as SRM's authors have it as their student.

Twelve convolutions with bias, each followed by batch norm and LeakyReLU(0.1), the strided ones and the last 1x1
too; global average pooling; one linear layer; no dropout.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdnb.models.initialisation import kaiming_fan_in
from kdnb.models.network import ConvNorm, Network

SLOPE = 0.1


class AllCNN(Network):
    """Widths are `share` of 96, 192, 256 and 384, truncated.

    The stem is the first convolution; the stages end where SRM taps them: after the reductions to 16x16 and to
    8x8, and after the last convolution, at 4x4.  A stage is its preactivation after LeakyReLU(0.1).
    """

    def __init__(self, num_classes: int, share: float = 0.66) -> None:
        super().__init__()
        a, b, c, d = (int(width * share) for width in (96, 192, 256, 384))
        self.stem_width, self.stage_widths = a, (a, b, d)
        self.embedding_width = d
        self.num_classes = num_classes
        self.stem = _layer(3, a)
        self.stages = nn.ModuleList(
            [
                nn.ModuleList([_layer(a, a), _layer(a, a, stride=2)]),
                nn.ModuleList([_layer(a, b), _layer(b, b), _layer(b, b, stride=2)]),
                nn.ModuleList(
                    [
                        *(_layer(b, c), _layer(c, c), _layer(c, c, stride=2)),
                        *(_layer(c, d), _layer(d, d), _layer(d, d, kernel=1)),
                    ]
                ),
            ]
        )
        self.classifier = nn.Linear(d, num_classes)
        kaiming_fan_in(self)

    def activate(self, preactivation: Tensor) -> Tensor:
        return F.leaky_relu(preactivation, SLOPE)


def _layer(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> ConvNorm:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
    return ConvNorm(conv, nn.BatchNorm2d(outputs))
