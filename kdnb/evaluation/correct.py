"""Top-1: which images a network gets right."""

from __future__ import annotations

import base64

import numpy as np
import torch

from kdnb.models.network import Network
from kdnb.training.cohort import evaluation_batch
from kdnb.training.images import DeviceImages
from kdnb.training.numerics import Numerics


@torch.no_grad()
def correct(network: Network, images: DeviceImages, numerics: Numerics) -> np.ndarray:
    """For every image, in order, whether the network's first choice is its label: bool [N]."""
    network.eval()
    found = []
    for _, batch, labels in images.plain_batches(evaluation_batch(numerics.torch_device)):
        with numerics.autocast():
            found.append(network(batch).argmax(dim=1) == labels)
    return torch.cat(found).cpu().numpy()


def pack(right: np.ndarray) -> str:
    """A bool vector as base64 of its packed bits: 10,000 images in 1,668 characters."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def unpack(text: str, count: int) -> np.ndarray:
    """The first `count` bits of what `pack` made."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))[:count].astype(bool)
