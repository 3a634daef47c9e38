"""Sparse codes of pixels over a dictionary of atoms, and the labels that they give (Tran et al. 2020, SRM).

A pixel is the vector of all channels at one position of a map: a map [B, C, H, W] has P = B H W of them.  Codes of a
whole map are large (half a gigabyte and more at SRM's batches), so what is computed over a map goes through it some
images at a time, and computes the codes again for the gradient instead of keeping them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kdnb.errors import KdnbError
from kdnb.losses.common import exactly, full, loss

#: Entries of codes that are held at a time: 16 MiB each for the code and for each of the few tensors of its size.
CHUNK = 2**22


def kernel(features: Tensor, dictionary: Tensor, offset: Tensor) -> Tensor:
    """k = sigmoid(features @ dictionary + offset): pixels [P, C] and atoms [C, M] -> [P, M], in float32 or float64."""
    if dictionary.dim() != 2 or features.dim() != 2 or features.shape[1] != dictionary.shape[0]:
        raise KdnbError(
            f"A code needs pixels [P, C] and atoms [C, M]; it was given {tuple(features.shape)} and "
            f"{tuple(dictionary.shape)}."
        )
    with exactly(features):
        return torch.sigmoid(full(features) @ full(dictionary) + full(offset))


def sparse_code(features: Tensor, dictionary: Tensor, offset: Tensor, keep: int) -> Tensor:
    """Codes [P, M] of pixels [P, C]: k = sigmoid(features @ dictionary + offset), all but the `keep` largest put to 0.

    `dictionary` [C, M] holds the atoms, `offset` is one number for all of them; entries that tie with the `keep`-th
    largest of their row stay.  Gradients flow through the entries that stay, none through which these are.  In
    float32 (or float64): in less, sigmoids tie where they differ.
    """
    code = kernel(features, dictionary, offset)
    if not 1 <= keep <= dictionary.shape[1]:
        raise KdnbError(f"A code of {dictionary.shape[1]} atoms keeps at least 1 and at most all of them, not {keep}.")
    threshold = code.detach().topk(keep, dim=1).values[:, -1:]
    return code * (code >= threshold)


def pixel_labels(code: Tensor) -> Tensor:
    """The atom that describes each pixel best: codes [P, M] -> int64 [P], the first of equally large entries."""
    return code.argmax(dim=1)


def pixels_of(maps: Tensor) -> Tensor:
    """Maps [B, C, H, W] -> pixels [P, C], image by image and row by row."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def labels_of(maps: Tensor, dictionary: Tensor, offset: Tensor, keep: int, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """What sparse codes say of maps [B, C, H, W]: pixel labels int64 [P], and image labels [B, M] within [0, 1].

    An image's label is the mean code of its pixels.  No gradient.
    """
    pixels, images = [], []
    with torch.no_grad():
        for part in _parts(maps, dictionary, chunk):
            code = sparse_code(pixels_of(part), dictionary, offset, keep)
            pixels.append(pixel_labels(code))
            images.append(_by_image(code, len(part)))
    return torch.cat(pixels), torch.cat(images)


@loss
def reconstruction(teacher_maps: Tensor, dictionary: Tensor, offset: Tensor, keep: int, chunk: int = CHUNK) -> Tensor:
    """mean (F - D k)^2 over all pixels and channels: maps [B, C, H, W], k their sparse codes over the same D."""

    def part_of(part: Tensor) -> Tensor:
        pixels = pixels_of(part)
        code = sparse_code(pixels, dictionary, offset, keep)
        return (pixels - code @ dictionary.mT).square().sum()

    return _summed(part_of, teacher_maps, dictionary, chunk) / teacher_maps.numel()


@loss
def pixel_prediction(
    student_maps: Tensor, dictionary: Tensor, offset: Tensor, targets: Tensor, chunk: int = CHUNK
) -> Tensor:
    """mean_p -log softmax(k_p)[c_p]: the kernel values k of pixels stand where logits would, c [P] are the targets.

    Kernel values lie within (0, 1): of M atoms the loss is log M where all are equal, and never below
    log(1 + (M - 1) / e).
    """
    _need_a_label_each(student_maps, targets)
    each = student_maps[0, 0].numel()

    def part_of(part: Tensor, first: int) -> Tensor:
        k = kernel(pixels_of(part), dictionary, offset)
        return F.cross_entropy(k, targets[first * each :][: len(k)], reduction="sum")

    return _summed(part_of, student_maps, dictionary, chunk, numbered=True) / len(targets)


@loss
def image_prediction(
    student_maps: Tensor, dictionary: Tensor, offset: Tensor, teacher_images: Tensor, chunk: int = CHUNK
) -> Tensor:
    """mean_{b,m} BCE(g, mean_hw k): an image's mean kernel values against its label g [B, M]."""

    def part_of(part: Tensor, first: int) -> Tensor:
        k = _by_image(kernel(pixels_of(part), dictionary, offset), len(part))
        return F.binary_cross_entropy(k, teacher_images[first : first + len(part)], reduction="sum")

    return _summed(part_of, student_maps, dictionary, chunk, numbered=True) / teacher_images.numel()


def _by_image(code: Tensor, images: int) -> Tensor:
    """The mean over an image's pixels: [P, M] -> [B, M]."""
    return code.unflatten(0, (images, -1)).mean(dim=1)


def _parts(maps: Tensor, dictionary: Tensor, chunk: int) -> tuple[Tensor, ...]:
    """Maps [B, C, H, W] in parts of as many images as have no more than `chunk` entries of codes, one at least."""
    return maps.split(max(1, chunk // (maps[0, 0].numel() * dictionary.shape[1])))


def _summed(
    part_of: Callable[..., Tensor], maps: Tensor, dictionary: Tensor, chunk: int, numbered: bool = False
) -> Tensor:
    """The sum of `part_of` over the parts of maps, told which image is their first where `numbered`.

    Where there are several, each computes its codes again for its gradient: only one part's are ever held.
    """
    parts, first, sums = _parts(maps, dictionary, chunk), 0, []
    for part in parts:
        given = (part, first) if numbered else (part,)
        if len(parts) == 1:
            return part_of(*given)
        sums.append(checkpoint(part_of, *given, use_reentrant=False, preserve_rng_state=False))
        first += len(part)
    return torch.stack(sums).sum()


def _need_a_label_each(maps: Tensor, labels: Tensor) -> None:
    if len(labels) != maps[:, 0].numel():
        raise KdnbError(
            f"{len(labels)} labels for maps of {maps[:, 0].numel()} pixels, {tuple(maps.shape)}: teacher and student "
            "are compared pixel by pixel, where their maps have one size; take other networks."
        )
