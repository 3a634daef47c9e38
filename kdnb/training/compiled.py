"""Forwards compiled for a CPU: one piece of machine code per network shape, depth and batch size.

Members of the same shape share the code, whatever their weights; it is kept on disk by torch, so the next
process starts with it.  Batches of another size than the stage's (the last of an epoch, validation) run
eagerly, always, so that a number never depends on what happened to be compiled.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from kdnb.models.network import Activations, Depth, Network

Forward = Callable[[Network, Tensor, Depth], Activations]


def plain(network: Network, images: Tensor, depth: Depth) -> Activations:
    """The network's activations, as written."""
    return network.activations(images, depth)


def forward_for(mode: str, batch_size: int) -> Forward:
    """The forward of a stage: compiled for batches of `batch_size` where the mode says so."""
    if mode != "compiled":
        return plain

    def forward(network: Network, images: Tensor, depth: Depth) -> Activations:
        if len(images) != batch_size or not images.is_contiguous(memory_format=torch.channels_last):
            return plain(network, images, depth)
        return _compiled()(network, images, depth)

    return forward


@functools.cache
def _compiled() -> Forward:
    import torch._dynamo

    torch._dynamo.config.recompile_limit = 128  # one entry per network, depth, precision and batch size
    forward: Forward = torch.compile(plain, dynamic=False)
    return forward
