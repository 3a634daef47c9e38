"""How alike two networks' stages are, or two parts of one stage: linear CKA over a set of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kdnb.analysis.registry import Found, Subject, measure
from kdnb.losses.relations import linear_cka
from kdnb.methods.paraphraser import tapped
from kdnb.models.network import Network
from kdnb.training.cohort import evaluation_batch
from kdnb.training.images import DeviceImages


def stage_cka(
    one: Network, other: Network, images: DeviceImages, *, unbiased: bool = True, pooled: bool = True
) -> np.ndarray:
    """Linear CKA of every stage of one network with every stage of another, on the same images: [stages, stages].

    `pooled` compares channels' means over positions; without, whole maps, which need their memory.
    """
    ours, theirs = (stage_maps(network, images, pooled=pooled) for network in (one, other))
    return np.array([[alike(x, y, unbiased=unbiased) for y in theirs] for x in ours])


def channel_cka(
    network: Network,
    images: DeviceImages,
    some: Sequence[int],
    others: Sequence[int],
    *,
    unbiased: bool = True,
    pooled: bool = True,
) -> float:
    """Linear CKA of two sets of channels of a network's last stage."""
    features = stage_maps(network, images, pooled=pooled, last=True)[0]
    return alike(features[:, list(some)], features[:, list(others)], unbiased=unbiased)


def alike(x: Tensor, y: Tensor, *, unbiased: bool) -> float:
    """Linear CKA of two representations of the same images, each brought to a mean square of 1 first.

    CKA does not see it, and its products of Gram matrices would leave float32 where whole maps are wide or large.
    """
    return float(linear_cka(_to_unit_size(x), _to_unit_size(y), unbiased))


def _to_unit_size(features: Tensor) -> Tensor:
    size = torch.linalg.vector_norm(features, dtype=torch.float64) / features.numel() ** 0.5
    return features / (size if size > 0 else 1.0)


@torch.no_grad()
def stage_maps(network: Network, images: DeviceImages, *, pooled: bool = True, last: bool = False) -> list[Tensor]:
    """The maps of all images that leave the stages: [N, C] of their means over positions, or [N, C, H, W].

    With `last`, the last map alone, behind its ReLU whatever the family: where methods tap a network.
    """
    network.eval()
    batches: list[list[Tensor]] = []
    for _, batch, _ in images.plain_batches(evaluation_batch(images.labels.device)):
        found = network.activations(batch, depth=len(network.stage_widths))
        maps = [tapped(found)] if last else found.stages
        batches.append([m.double().mean((2, 3)) if pooled else m for m in maps])
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


@measure("stages_alike", arrays=("stage_cka",), needs=("teacher",))
def stages_alike(subject: Subject) -> Found:
    """Linear CKA, unbiased, of each of the student's stages with each of the teacher's: [student's, teacher's]."""
    assert subject.teacher is not None
    table = stage_cka(subject.student.network, subject.teacher.network, subject.student.images)
    return {"stage_cka": table.astype(np.float32)}, {}
