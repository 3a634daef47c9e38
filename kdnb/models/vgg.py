"""VGG networks with batch norm for small images (Simonyan and Zisserman 2015), as the distillation benchmarks
have them: five blocks, pooling before blocks 2 to 4 alone, one linear layer.  `pool4` pools before the last block too,
as the original does: 32x32 ends at 2x2.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdnb.models.initialisation import normal_fan_out
from kdnb.models.network import ConvNorm, Network

WIDTHS = (64, 128, 256, 512, 512)


class ConvBlock(nn.Module):
    """3x3 convolutions with bias, batch norm and ReLU; returned before the last ReLU."""

    def __init__(self, layers: int, inputs: int, outputs: int, pool: bool) -> None:
        super().__init__()
        self.pool = pool
        self.layers = nn.ModuleList(
            ConvNorm(nn.Conv2d(inputs if i == 0 else outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs))
            for i in range(layers)
        )

    def forward(self, features: Tensor) -> Tensor:
        if self.pool:
            features = F.max_pool2d(features, 2)
        for layer in self.layers[:-1]:
            features = F.relu(layer(features))
        return self.layers[-1](features)


class VGG(Network):
    """`layers` convolutions in each of the five blocks; the first is the stem, and `pools` of the others are pooled."""

    def __init__(self, layers: tuple[int, int, int, int, int], num_classes: int, pools: int = 3) -> None:
        super().__init__()
        self.stem_width, self.stage_widths = WIDTHS[0], WIDTHS[1:]
        self.embedding_width = WIDTHS[-1]
        self.num_classes = num_classes
        self.stem = ConvBlock(layers[0], 3, WIDTHS[0], pool=False)
        self.stages = nn.ModuleList(
            # At 32x32 the sides are 32, 16, 8, 4, 4: with three pools the last block is not pooled before.
            ConvBlock(layers[i], WIDTHS[i - 1], WIDTHS[i], pool=i <= pools)
            for i in range(1, 5)
        )
        self.classifier = nn.Linear(WIDTHS[-1], num_classes)
        normal_fan_out(self)

    def run_stage(self, index: int, features: Tensor) -> tuple[Tensor, Tensor]:
        preactivation = self.stages[index](features)
        return F.relu(preactivation), preactivation

    def margin_norm(self, stage: nn.Module) -> nn.BatchNorm2d:
        assert isinstance(stage, ConvBlock)
        last = stage.layers[-1]
        assert isinstance(last, ConvNorm) and isinstance(last[1], nn.BatchNorm2d)
        return last[1]
