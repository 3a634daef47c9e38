"""Active neurons: how many directions of a layer the loss still listens to (Cui et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from kdnb.errors import KdnbError


def active_neurons(gradients: Tensor, epsilon: float = 0.05) -> int:
    """The dimension of a layer's active subspace, a count.

        min r such that (sum_{i <= r} l_i)^(1/2) >= (1 - epsilon) (sum_i l_i)^(1/2)

    `gradients` [N, D] holds the gradient of each image's loss by the layer; l_1 >= l_2 >= ... are the eigenvalues of
    1/N sum g g'.  Exact, in float64, by the smaller of the two Gram matrices; 0 where all gradients vanish.
    """
    if gradients.dim() != 2 or not 0 <= epsilon < 1:
        raise KdnbError(
            f"Active neurons need gradients [N, D] and a share in [0, 1); not {tuple(gradients.shape)} and {epsilon}."
        )
    g = gradients.double()
    gram = g @ g.mT if len(g) <= g.shape[1] else g.mT @ g
    energy = torch.linalg.eigvalsh(gram).flip(0).clamp_min(0).cumsum(0)
    if energy[-1] == 0:
        return 0
    return int((energy.sqrt() < (1 - epsilon) * energy[-1].sqrt()).sum()) + 1
