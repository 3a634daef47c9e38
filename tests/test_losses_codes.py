"""Sparse codes of maps and their predictions: what they say by brute force, in parts and whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kdnb import losses
from kdnb.errors import KdnbError
from kdnb.losses import codes
from kdnb.methods.srm import sizes

IMAGES, CHANNELS, SIDE, ATOMS, KEEP = 6, 5, 3, 7, 2


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MAPS, ATOM, OFFSET = noise(IMAGES, CHANNELS, SIDE, SIDE), noise(CHANNELS, ATOMS, seed=1), noise(1, seed=2)
#: Codes of one image, of two, and of all at a time.
CHUNKS = [1, 2 * SIDE * SIDE * ATOMS, 10**9]


def coded() -> np.ndarray:
    """Sparse codes [B, H, W, M], entry by entry."""
    found = np.zeros((IMAGES, SIDE, SIDE, ATOMS))
    for b, i, j in np.ndindex(IMAGES, SIDE, SIDE):
        pixel = MAPS[b, :, i, j].numpy()
        dense = [1 / (1 + math.exp(-(pixel @ ATOM[:, m].numpy() + OFFSET.item()))) for m in range(ATOMS)]
        for m in sorted(range(ATOMS), key=lambda m: -dense[m])[:KEEP]:
            found[b, i, j, m] = dense[m]
    return found


def test_labels_are_those_of_codes_computed_entry_by_entry() -> None:
    pixels, images = losses.labels_of(MAPS, ATOM, OFFSET, KEEP)
    code = coded()
    assert ((code > 0).sum(-1) == KEEP).all()
    assert pixels.tolist() == code.argmax(-1).ravel().tolist()
    assert images.numpy() == pytest.approx(code.mean((1, 2)), rel=1e-12)
    assert images.min() >= 0 and images.max() <= 1 and (images.sum(1) <= KEEP).all()


def test_reconstruction_and_predictions_by_hand() -> None:
    code = coded()
    rebuilt = np.einsum("cm,bijm->bcij", ATOM.numpy(), code)
    assert losses.reconstruction(MAPS, ATOM, OFFSET, KEEP).item() == pytest.approx(
        float(((MAPS.numpy() - rebuilt) ** 2).mean())
    )
    targets, shares = losses.labels_of(MAPS, ATOM, OFFSET, KEEP)
    maps, atoms, offset = noise(IMAGES, 4, SIDE, SIDE, seed=3), noise(4, ATOMS, seed=4), noise(1, seed=5)
    k = 1 / (1 + np.exp(-(np.einsum("bcij,cm->bijm", maps.numpy(), atoms.numpy()) + offset.item())))
    flat = k.reshape(-1, ATOMS)
    log_p = flat - np.log(np.exp(flat).sum(1, keepdims=True))
    by_pixel = -log_p[np.arange(len(flat)), targets.numpy()].mean()
    assert losses.pixel_prediction(maps, atoms, offset, targets).item() == pytest.approx(by_pixel)
    p, g = k.mean((1, 2)), shares.numpy()
    by_image = -(g * np.log(p) + (1 - g) * np.log(1 - p)).mean()
    assert losses.image_prediction(maps, atoms, offset, shares).item() == pytest.approx(by_image)


def test_a_prediction_of_pixels_has_the_floor_that_its_docstring_names() -> None:
    sure = 1e3 * torch.eye(ATOMS, dtype=torch.float64)[:, :, None, None]  # one pixel an image, one atom alight
    floor = math.log(1 + (ATOMS - 1) / math.e)
    atoms = 2 * torch.eye(ATOMS, dtype=torch.float64) - 1
    found = losses.pixel_prediction(sure, atoms, torch.zeros(1, dtype=torch.float64), torch.arange(ATOMS))
    assert found.item() == pytest.approx(floor)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_in_parts_it_is_the_same_as_whole(chunk: int) -> None:
    """Values and gradients, in float64."""
    maps, atoms, offset = (t.clone().requires_grad_() for t in (MAPS, ATOM, OFFSET))
    targets, shares = losses.labels_of(MAPS, ATOM, OFFSET, KEEP, chunk)
    whole = losses.labels_of(MAPS, ATOM, OFFSET, KEEP)
    assert torch.equal(targets, whole[0]) and torch.equal(shares, whole[1])

    def found(chunk: int) -> list[Tensor]:
        every = (
            losses.reconstruction(noise(IMAGES, CHANNELS, SIDE, SIDE, seed=6), atoms, offset, KEEP, chunk),
            losses.pixel_prediction(maps, atoms, offset, targets, chunk),
            losses.image_prediction(maps, atoms, offset, shares, chunk),
        )
        slopes = [torch.autograd.grad(v, [atoms, offset, maps][: 2 + (n > 0)]) for n, v in enumerate(every)]
        return [*every, *(slope for of in slopes for slope in of)]

    for one, other in zip(found(chunk), found(10**9), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)


def test_only_a_part_of_the_codes_is_held() -> None:
    """What is kept for the gradient grows neither with the images nor with the atoms' number."""
    held = []

    def pack(tensor: Tensor) -> Tensor:
        held.append(tensor.numel())
        return tensor

    atoms = noise(CHANNELS, 64, seed=1).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses.reconstruction(noise(64, CHANNELS, SIDE, SIDE), atoms, OFFSET, KEEP, chunk=4 * SIDE * SIDE * 64)
    assert max(held) <= 64 * CHANNELS * SIDE * SIDE < 64 * SIDE * SIDE * 64  # maps, never their codes


def test_a_part_at_srms_sizes_is_some_megabytes() -> None:
    """Batches of 512 and 384 of DenseNet-121's maps: the codes of a part are 16 MiB, or those of one image."""
    for width, side in ((128, 16), (256, 8), (1024, 4)):
        for size in (1.5, 2.0, 3.0):
            atoms, _ = sizes(width, 0.02, size)
            parts = codes._parts(torch.empty(512, 1, side, side), torch.empty(1, atoms), codes.CHUNK)
            assert max(len(part) for part in parts) * side * side * atoms * 4 <= 16 * 2**20


def test_maps_of_unequal_size_are_refused() -> None:
    with pytest.raises(KdnbError, match="54 labels for maps of 96 pixels"):
        losses.pixel_prediction(noise(6, 4, 4, 4), noise(4, ATOMS), OFFSET, torch.zeros(54, dtype=torch.int64))
