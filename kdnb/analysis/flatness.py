"""The loss of the training images, and how sharp its minimum is: how it rises under noise on what was learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from kdnb.analysis.registry import Found, Subject, measure
from kdnb.errors import KdnbError
from kdnb.models.network import Network
from kdnb.randomness import keyed_seed
from kdnb.training.cohort import evaluation_batch
from kdnb.training.images import DeviceImages

Parameters = Mapping[str, Tensor]

#: Training images on which a run's loss is watched under noise, and no more than this share of those there are.
FOR_NOISE, SHARE_FOR_NOISE = 2_000, 0.25
DRAWS = 10
#: Standard deviations of the noise, and lengths of noise relative to each filter's; the last but one is a number told.
NOISE, RELATIVE_NOISE = (0.005, 0.01, 0.015, 0.02, 0.04), (0.1, 0.2, 0.3)


def sharpness(
    network: Network,
    images: DeviceImages,
    scales: Sequence[float],
    draws: int = 10,
    seed: int = 0,
    *,
    relative: bool = False,
    count: int | None = None,
) -> tuple[float, np.ndarray]:
    """The mean cross-entropy of the first `count` images, and its rise under noise: [draws, scales].

    Of images as they are, in eval mode.  Noise N(0, scale^2) on all learned parameters, or `relative` to each filter's
    length.  Networks of one architecture get the same noise, draw by draw, so that their difference can be taken
    within a draw.
    """
    network.eval()
    size = evaluation_batch(images.labels.device)
    wanted = len(images) if count is None else min(count, len(images))

    @torch.no_grad()
    def loss(parameters: Parameters) -> float:
        total = 0.0
        for start in range(0, wanted, size):
            batch, labels = images.plain(start, min(start + size, wanted))
            logits = functional_call(network, dict(parameters), (batch,))
            total += float(F.cross_entropy(logits, labels, reduction="sum"))
        return total / wanted

    parameters = dict(network.named_parameters())
    return loss(parameters), rise_under_noise(loss, parameters, scales, draws, seed, relative=relative)


@torch.no_grad()
def rise_under_noise(
    loss: Callable[[Parameters], float],
    parameters: Parameters,
    scales: Sequence[float],
    draws: int,
    seed: int,
    *,
    relative: bool = False,
) -> np.ndarray:
    """loss(parameters + scale * noise) - loss(parameters), [draws, scales]: one direction a draw, all scales along it.

    A draw is a function of (seed, draw, parameter) alone.  `relative` scales the noise of each filter to the filter's
    length and leaves vectors (norms, biases) alone (Li et al. 2018): how large the weights are, which batch norms
    undo, is then no matter.
    """
    if draws < 1 or not len(scales) or min(scales) < 0:
        raise KdnbError(f"Sharpness needs a draw and a scale, none negative; not {draws} draws at {list(scales)}.")
    before = loss(parameters)
    rises = np.empty((draws, len(scales)))
    for draw in range(draws):
        noise = {name: _noise(value, name, seed, draw, relative) for name, value in parameters.items()}
        for place, scale in enumerate(scales):
            rises[draw, place] = loss({name: v + scale * noise[name] for name, v in parameters.items()}) - before
    return rises


def _noise(value: Tensor, name: str, seed: int, draw: int, relative: bool) -> Tensor:
    stream = torch.Generator().manual_seed(keyed_seed(seed, "noise", draw, name))
    noise = torch.randn(value.shape, generator=stream).to(value)
    if not relative:
        return noise
    if value.dim() < 2:
        return torch.zeros_like(value)
    length = value.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    return noise * length.reshape(-1, *[1] * (value.dim() - 1))


@measure(
    "flatness",
    arrays=("noise", "noise_rise", "relative_noise", "relative_noise_rise"),
    metrics=("sharpness", "relative_sharpness"),
    needs=("training",),
)
def flatness(subject: Subject) -> Found:
    """How the loss of training images rises under noise, [draws, scales]; as numbers the mean rises at one scale."""
    assert subject.training is not None
    network, images = subject.student.network, subject.training
    count = min(FOR_NOISE, max(1, int(SHARE_FOR_NOISE * len(images))))
    _, rise = sharpness(network, images, NOISE, DRAWS, count=count)
    _, relative = sharpness(network, images, RELATIVE_NOISE, DRAWS, count=count, relative=True)
    arrays = {
        "noise": np.array(NOISE),
        "noise_rise": rise,
        "relative_noise": np.array(RELATIVE_NOISE),
        "relative_noise_rise": relative,
    }
    return arrays, {"sharpness": float(rise[:, -2].mean()), "relative_sharpness": float(relative[:, -2].mean())}


@measure("fit", metrics=("training_loss",), needs=("training",))
def fit(subject: Subject) -> Found:
    """The cross-entropy of all training images as they are, in eval mode."""
    assert subject.training is not None
    told = subject.student.over(subject.training).log_probabilities
    labels = subject.training.labels.cpu().numpy()
    return {}, {"training_loss": -float(told[np.arange(len(labels)), labels].mean())}
