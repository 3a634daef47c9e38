"""Active neurons: how many directions of a layer the loss still listens to (Cui et al. 2019)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.analysis.registry import Found, Subject, measure
from kdnb.errors import KdnbError, unknown
from kdnb.models.network import Network
from kdnb.training.cohort import evaluation_batch
from kdnb.training.images import DeviceImages

#: Training images whose gradients a run is asked for.
FOR_NEURONS = 5_000


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


def loss_gradients(
    network: Network,
    images: DeviceImages,
    count: int | None = None,
    at: Literal["preactivation", "embedding"] = "preactivation",
) -> Tensor:
    """The gradient of each image's own cross-entropy by a layer, in eval mode: [N, D], of the first `count` images.

    The layer is the last stage's map before its ReLU, [N, C, H, W] (with `flatten(1)`, what `active_neurons` takes), or
    the embedding.  Of K classes the embedding has K - 1 active neurons at most: behind it all is linear but for the
    loss, whose gradients by the logits add up to 0.  The map behind the ReLU has no more, since every position's
    gradient is the same; before the ReLU each position listens or does not.
    """
    if at not in ("preactivation", "embedding"):
        raise unknown("layer of active neurons", at, ["preactivation", "embedding"])
    network.eval()
    found = []
    wanted = len(images) if count is None else min(count, len(images))
    size = evaluation_batch(images.labels.device)
    for start in range(0, wanted, size):
        batch, labels = images.plain(start, min(start + size, wanted))
        with torch.enable_grad():
            acts = network.activations(batch.requires_grad_())
            layer = acts.preactivations[-1] if at == "preactivation" else acts.embedding
            assert layer is not None and acts.logits is not None
            loss = F.cross_entropy(acts.logits, labels, reduction="sum")
        found.append(torch.autograd.grad(loss, layer)[0])
    return torch.cat(found)


@measure("teacher_neurons", metrics=("active_neurons_teacher",), needs=("teacher", "training"))
def teacher_neurons(subject: Subject) -> Found:
    """Active neurons of the teacher's last map before its ReLU, on the same training images."""
    assert subject.teacher is not None and subject.training is not None
    gradients = loss_gradients(subject.teacher.network, subject.training, FOR_NEURONS)
    return {}, {"active_neurons_teacher": float(active_neurons(gradients.flatten(1)))}
