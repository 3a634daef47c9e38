"""Initial weights that several families share."""

from __future__ import annotations

import math

from torch import nn


def convolutions_fan_out(network: nn.Module) -> None:
    """Convolutions N(0, 2 / (k^2 c_out)) with zero bias; a convolution per channel counts all its channels."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def normal_fan_out(network: nn.Module) -> None:
    """Convolutions as `convolutions_fan_out`, linear layers N(0, 0.01^2) with zero bias."""
    convolutions_fan_out(network)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)


def kaiming_fan_in(network: nn.Module) -> None:
    """Convolutions and linear layers N(0, 2 / fan-in), and all their biases N(0, 1), as SRM's authors have it."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, 0.0, 1.0)


def uniform_norms(network: nn.Module) -> None:
    """Scales of batch norms from U(0, 1), as PyTorch drew them before version 1.2."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight)
