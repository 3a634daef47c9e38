"""The teacher: frozen, its batch norms folded where that is exact, in the precision of the run."""

from __future__ import annotations

import contextlib
import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdnb.errors import KdnbError
from kdnb.models.network import ConvNorm, Network


def frozen(network: Network, device: torch.device, dtype: torch.dtype) -> Network:
    """A copy of the network for inference alone: eval mode, folded, no gradients, channels last."""
    teacher = copy.deepcopy(network).float().eval()
    with contextlib.suppress(KdnbError):  # a family without such norms: whoever asks for them is told
        teacher.keep_statistics()
    fold_batch_norms(teacher)
    teacher = teacher.eval().requires_grad_(False)
    return teacher.to(device=device, dtype=dtype).to(memory_format=torch.channels_last)


def fold_batch_norms(network: nn.Module) -> None:
    """Put every batch norm that follows a convolution at once into that convolution's weights (eval only)."""
    for module in network.modules():
        if isinstance(module, ConvNorm):
            conv, norm = module[0], module[1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[0], module[1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
