"""The small convolutional networks of information flow modelling (Passalis et al. 2020): CNN-1 and its kin.

Three times a 3x3 convolution without padding, batch norm, ReLU and 2x2 max pooling, then a hidden linear layer
with ReLU and the classifier; PyTorch's own initial weights.  The paper's layers 1 to 4 are the three stages and
the embedding; the stem is the first convolution's map before it is pooled.

CNN-1 (8, 16, 32 | 64) and CNN-1-A (16, 32, 64 | 128) are those of the authors' code.  The widths of CNN-1-L and
CNN-1-H are published nowhere.  L halves CNN-1's filters and keeps its 64 features, the one simple choice near
the 6 thousand parameters the paper states; H doubles all of CNN-1-A.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdnb.errors import KdnbError
from kdnb.models.network import Activations, ConvNorm, Depth, Network

#: Side of the last map, which fixes the inputs of the hidden layer.
LAST_SIDE = 2


class CNN(Network):
    """`widths` are those of the convolutions, `hidden` that of the embedding.

    At 32x32 the maps have sides 30 (stem), 15, 6 and 2.  Images of 16x16 are too small for three convolutions
    without padding: there, and only there, each map is padded by one pixel, so that the sides are 16, 8, 4 and
    2 and every layer has the weights it has at 32x32.
    """

    def __init__(self, widths: tuple[int, int, int], hidden: int, num_classes: int) -> None:
        super().__init__()
        first, second, third = widths
        self.stem_width, self.stage_widths = first, widths
        self.embedding_width = hidden
        self.num_classes = num_classes
        self.stem = _layer(3, first)
        # The first stage is the pooled stem: it has nothing to learn.
        self.stages = nn.ModuleList([nn.Identity(), _layer(first, second), _layer(second, third)])
        self.hidden = nn.Linear(third * LAST_SIDE**2, hidden)
        self.classifier = nn.Linear(hidden, num_classes)

    def activations(self, images: Tensor, depth: Depth = "logits") -> Activations:
        padding = _padding(images.shape[-2], images.shape[-1])
        preactivation = self.stem(F.pad(images, padding))
        acts = Activations(stem=F.relu(preactivation))
        features = acts.stem
        for index in range(depth if isinstance(depth, int) else len(self.stages)):
            if index > 0:
                preactivation = self.stages[index](F.pad(features, padding))
            # Pooling and ReLU commute, so that the pooled map has a preactivation too.
            preactivation = F.max_pool2d(preactivation, 2)
            features = F.relu(preactivation)
            acts.stages.append(features)
            acts.preactivations.append(preactivation)
        if not isinstance(depth, int):
            self.finish(acts, features, depth)
        return acts

    def embed(self, features: Tensor) -> Tensor:
        return F.relu(self.hidden(features.flatten(1)))

    def embedding_modules(self) -> list[nn.Module]:
        return [self.hidden]


def _layer(inputs: int, outputs: int) -> ConvNorm:
    return ConvNorm(nn.Conv2d(inputs, outputs, 3), nn.BatchNorm2d(outputs))


def _padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels to put around every map (left, right, top, bottom) so that the last one is 2x2."""
    for pixels in (0, 1):
        side = height
        for _ in range(3):
            side = (side - 2 + 2 * pixels) // 2
        if height == width and side == LAST_SIDE:
            return (pixels,) * 4
    raise KdnbError(f"CNN-1 and its kin take images of 32x32 or 16x16, not {height}x{width}; take another network.")
