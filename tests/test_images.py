"""Crops, mirrors and normalisation against torchvision's; draws that depend on their key and nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision import transforms
from torchvision.transforms import functional

from kdnb.training.images import Augmentation, DeviceImages, EpochDraws, Normalisation, draw_epoch

CPU = torch.device("cpu")
NORMALISATION = Normalisation((0.5071, 0.4865, 0.4409), (0.2009, 0.1984, 0.2023))
RAW = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
CIFAR, DIGITS = Augmentation(padding=4, flip=True), Augmentation(padding=2, flip=False)


def sample(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    stream = np.random.default_rng(0)
    return stream.integers(0, 256, (count, side, side, 3), dtype=np.uint8), stream.integers(0, 10, count)


def on_device(side: int, count: int = 50, normalisation: Normalisation = NORMALISATION, **options) -> DeviceImages:
    return DeviceImages(*sample(count, side), normalisation, CPU, options.pop("dtype", torch.float32), **options)


@pytest.mark.parametrize(("side", "augmentation"), [(32, CIFAR), (16, DIGITS), (16, CIFAR)])
@pytest.mark.parametrize("kind", ["pil", "tensor"])
def test_a_batch_is_what_torchvision_makes_of_the_same_draws(side, augmentation, kind):
    images, labels = sample(50, side)
    draws = draw_epoch(50, 3, 8, 1, augmentation)
    device = on_device(side, padding=augmentation.padding)
    exact = on_device(side, normalisation=RAW, padding=augmentation.padding)
    got, got_labels = device.batch(draws)
    pixels, _ = exact.batch(draws)
    normalise = transforms.Normalize(NORMALISATION.mean, NORMALISATION.std)
    for place, index in enumerate(draws.order.tolist()):
        image = Image.fromarray(images[index]) if kind == "pil" else torch.from_numpy(images[index]).permute(2, 0, 1)
        image = functional.pad(image, augmentation.padding)
        image = functional.crop(image, int(draws.top[place]), int(draws.left[place]), side, side)
        image = functional.hflip(image) if draws.mirrored[place] else image
        scaled = functional.to_tensor(image) if kind == "pil" else image.float() / 255
        assert torch.equal((pixels[place] * 255).round(), (scaled * 255).round())
        torch.testing.assert_close(got[place], normalise(scaled), rtol=0, atol=2e-6)
    assert got_labels.tolist() == labels[draws.order.numpy()].tolist()
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_draws_have_the_distribution_of_torchvisions():
    """Offsets and mirrors are uniform and independent, over exactly the values that RandomCrop gives."""
    count = 60_000
    draws = draw_epoch(count, 1, 64, 0, CIFAR)
    table = np.zeros((9, 9, 2))
    np.add.at(table, (draws.top.numpy(), draws.left.numpy(), draws.mirrored.numpy().astype(int)), 1)
    assert stats.chisquare(table.ravel()).pvalue > 1e-3
    padded = torch.zeros(3, 40, 40)
    theirs = {transforms.RandomCrop.get_params(padded, (32, 32))[:2] for _ in range(3000)}
    assert theirs == {(t, l) for t in range(9) for l in range(9)}
    assert not draw_epoch(1000, 1, 64, 0, DIGITS).mirrored.any()
    # From one epoch to the next nothing is carried on.
    again = draw_epoch(count, 1, 64, 1, CIFAR)
    both = np.zeros((9, 9))
    np.add.at(both, (draws.top.numpy(), again.top.numpy()), 1)
    assert stats.chi2_contingency(both).pvalue > 1e-3


def test_padding_is_black_before_it_is_normalised():
    white = np.full((1, 8, 8, 3), 255, np.uint8)
    images = DeviceImages(white, np.zeros(1), NORMALISATION, CPU, torch.float32, padding=4)
    zero, place = torch.zeros(1, dtype=torch.int64), torch.tensor([0])
    batch, _ = images.batch(EpochDraws(zero, place, place, torch.tensor([False])))
    black, bright = ([(v - m) / s for m, s in zip(*vars(NORMALISATION).values(), strict=True)] for v in (0, 1))
    assert batch[0, :, 0, 0].tolist() == pytest.approx(black)
    assert batch[0, :, 7, 7].tolist() == pytest.approx(bright)
    assert int((batch[0, 0] < 0).sum()) == 64 - 16


@pytest.mark.parametrize("change", [{"seed": 2}, {"batch_size": 128}, {"epoch": 1}])
def test_draws_are_a_function_of_seed_batch_size_and_epoch(change):
    key = {"count": 300, "seed": 1, "batch_size": 64, "epoch": 0, "augmentation": CIFAR}
    torch.manual_seed(1)
    first = draw_epoch(**key)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    torch.rand(7)
    again, other = draw_epoch(**key), draw_epoch(**{**key, **change})
    assert all(torch.equal(a, b) for a, b in zip(first.fields(), again.fields(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first.fields(), other.fields(), strict=True))
    assert sorted(first.order.tolist()) == list(range(300))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)  # the process's own stream was left alone


def test_draws_are_those_of_the_published_runs():
    """Another stream would make every stored record another experiment's."""
    draws = draw_epoch(1000, 1, 64, 3, CIFAR)
    digest = hashlib.sha256(b"".join(t.numpy().astype(np.int64).tobytes() for t in draws.fields()))
    assert digest.hexdigest()[:16] == "fe7beb8e61676f69"


@pytest.mark.parametrize(("count", "size", "sizes"), [(50, 20, [20, 20, 10]), (40, 20, [20, 20]), (5, 20, [5])])
def test_evaluation_sees_every_image_once_in_order_as_it_is(count, size, sizes):
    images, labels = sample(count, 16)
    found = list(on_device(16, count, padding=4).plain_batches(size))
    assert [len(batch) for _, batch, _ in found] == sizes
    assert [start for start, _, _ in found] == [size * i for i in range(len(sizes))]
    normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize(NORMALISATION.mean, NORMALISATION.std)])
    expected = torch.stack([normalise(Image.fromarray(image)) for image in images])
    torch.testing.assert_close(torch.cat([batch for _, batch, _ in found]), expected, rtol=0, atol=2e-6)
    assert torch.cat([batch for _, _, batch in found]).tolist() == labels.tolist()


def test_bfloat16_images_are_the_float32_ones_rounded():
    draws = draw_epoch(50, 1, 8, 0, CIFAR)
    single, half = (on_device(16, padding=4, dtype=d).batch(draws)[0] for d in (torch.float32, torch.bfloat16))
    assert torch.equal(half, single.to(torch.bfloat16))
