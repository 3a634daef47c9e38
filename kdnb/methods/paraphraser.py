"""The factor auto-encoder of Factor Transfer (Kim et al. 2018): a teacher's last map in fewer channels.

It depends on the teacher alone: all methods that speak in the teacher's factors share it.  Encoder and decoder have
three layers each, with batch norm and leaky ReLU (0.1) after every one, as Huang et al. 2021 describe them; their
code says how weights begin.  The authors of Factor Transfer had no batch norms.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Optimiser, Setup, Stage
from kdnb.models.network import Activations

SLOPE = 0.1


@method("paraphraser", revision=3, of="teacher")
def paraphraser(
    setup: Setup, share: float = 0.5, epochs: int = 30, batch_size: int = 128, lr: float = 0.1
) -> list[Stage]:
    """L = mean |F_T - D(E(F_T))| over everything, F_T the teacher's last map; E has `share` of its channels.

    The reduction is the published code's (the paper prints a squared L2 norm).
    """
    teacher = setup.teacher_network()
    width = teacher.stage_widths[-1]
    autoencoder = setup.build("paraphraser", lambda: Paraphraser(width, max(1, round(share * width))))

    def objective(batch: Batch) -> Losses:
        features = tapped(batch.teacher)
        return {"reconstruction": losses.factor_reconstruction(autoencoder(features), features)}

    return [
        Stage(
            name="train",
            modules={"paraphraser": autoencoder},
            trainable=[autoencoder],
            objective=objective,
            optimiser=Optimiser("sgd", lr, momentum=0.9, weight_decay=5e-4, nesterov=True),
            epochs=epochs,
            batch_size=batch_size,
            student_depth=None,
            teacher_depth=len(teacher.stages),
        )
    ]


def tapped(activations: Activations) -> Tensor:
    """The last map after its ReLU, as it enters the pooling: in a WRN too, whose stages end before norm and ReLU."""
    return F.relu(activations.preactivations[-1])


class Paraphraser(nn.Module):
    """Maps [B, C, H, W] -> factors [B, m, H, W] -> maps."""

    def __init__(self, width: int, factors: int) -> None:
        super().__init__()
        self.encoder = encoder(width, factors)
        back = [(factors, factors), (factors, width), (width, width)]
        self.decoder = nn.Sequential(*(_activated(nn.ConvTranspose2d(i, o, 3, padding=1, bias=False)) for i, o in back))

    def forward(self, maps: Tensor) -> Tensor:
        reconstructed: Tensor = self.decoder(self.encoder(maps))
        return reconstructed


def encoder(width: int, factors: int) -> nn.Sequential:
    """[B, width, H, W] -> [B, factors, H, W], at constant size: the paraphraser's first half, and a translator."""
    through = [(width, width), (width, factors), (factors, factors)]
    return nn.Sequential(*(_activated(nn.Conv2d(i, o, 3, padding=1, bias=False)) for i, o in through))


def _activated(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """A 3x3 layer, its weights from N(0, 2 / (9 c_out)), batch norm and leaky ReLU."""
    nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / (9 * layer.out_channels)))
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.LeakyReLU(SLOPE))
