"""Initial weights that several families share."""

from __future__ import annotations

import math

from torch import nn


def normal_fan_out(network: nn.Module) -> None:
    """Convolutions N(0, 2 / (k^2 c_out)) with zero bias, linear layers N(0, 0.01^2) with zero bias."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)
