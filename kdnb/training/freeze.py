"""The teacher: frozen, its batch norms folded where that is exact, in the precision that is asked for."""

from __future__ import annotations

import contextlib
import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdnb.errors import KdnbError
from kdnb.models.network import ConvNorm, Network


def frozen(network: Network, device: torch.device, dtype: torch.dtype) -> Network:
    """A copy of the network for inference alone: eval mode, folded, no gradients, channels last.

    The classifier stays in float32, like every student's; `exact` and `in_training` give the network's other forms.
    """
    source = as_it_was(network)
    teacher = copy.deepcopy(source)
    with contextlib.suppress(KdnbError):  # a family without such norms: whoever asks for them is told
        teacher.keep_statistics()
    fold_batch_norms(teacher)
    for child in teacher.children():
        child.to(dtype=torch.float32 if child is teacher.classifier else dtype)
    teacher.unfolded = (source,)
    return _still(teacher, device)


def exact(teacher: Network) -> Network:
    """A frozen teacher in float32: for what validates, selects and scores."""
    parameters = list(teacher.parameters())
    if all(p.dtype == torch.float32 for p in parameters):
        return teacher
    return frozen(teacher, parameters[0].device, torch.float32)


def in_training(teacher: Network) -> Network:
    """A frozen teacher as it is in train mode: un-folded, its batch norms on the statistics of the batch.

    Their running statistics are neither used nor moved.  In float32: it runs under autocast, as students do.
    """
    network = copy.deepcopy(as_it_was(teacher))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = module.running_var = None  # it has none: it takes the batch's in eval mode too
    return _still(network, next(teacher.parameters()).device)


def as_it_was(network: Network) -> Network:
    """What a frozen network was made from, in eval mode and float32; a copy of any other network."""
    return network.unfolded[0] if network.unfolded else copy.deepcopy(network).float().eval()


def _still(network: Network, device: torch.device) -> Network:
    return network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)


def fold_batch_norms(network: nn.Module) -> None:
    """Put every batch norm that follows a convolution at once into that convolution's weights (eval only)."""
    for module in network.modules():
        if isinstance(module, ConvNorm):
            conv, norm = module[0], module[1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[0], module[1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
