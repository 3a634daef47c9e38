"""What a network makes of every image: the vectors that scores and comparisons of networks start from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kdnb.models.network import Network
from kdnb.training.cohort import evaluation_batch
from kdnb.training.images import DeviceImages


@dataclass(frozen=True)
class Outputs:
    """A network's answers to N images, in their order, in float32.

    `logits` [N, K] are raw, before any softmax or temperature; `embeddings` [N, D] are what enters the classifier.
    """

    logits: np.ndarray
    embeddings: np.ndarray


@torch.no_grad()
def outputs(network: Network, images: DeviceImages) -> Outputs:
    """Run a network in eval mode over all images as they are, in float32 whatever it was trained in."""
    network.eval()
    logits, embeddings = [], []
    for _, batch, _ in images.plain_batches(evaluation_batch(images.labels.device)):
        found = network.activations(batch)
        assert found.logits is not None and found.embedding is not None
        logits.append(found.logits)
        embeddings.append(found.embedding)
    return Outputs(torch.cat(logits).cpu().numpy(), torch.cat(embeddings).cpu().numpy())
