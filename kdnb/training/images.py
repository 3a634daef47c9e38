"""Images on the device: batches are gathered, cropped and flipped there, a whole batch in one kernel."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kdnb.randomness import keyed_seed


@dataclass(frozen=True)
class Augmentation:
    """Padding and random crop back to the size, by up to `padding` each way; mirror with p = 1/2."""

    padding: int
    flip: bool


@dataclass(frozen=True)
class Normalisation:
    """Per channel (x / 255 - mean) / std; padding of zeros is black, since it is laid before."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass
class EpochDraws:
    """What one epoch's batches are made of: image order [N], crop offsets [N] and mirrors [N]."""

    order: Tensor
    top: Tensor
    left: Tensor
    mirrored: Tensor

    def to(self, device: torch.device) -> EpochDraws:
        return EpochDraws(*(t.to(device, non_blocking=True) for t in self.fields()))

    def fields(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.order, self.top, self.left, self.mirrored

    def at(self, start: int, stop: int) -> EpochDraws:
        """The draws of the images at positions start .. stop-1 of the epoch."""
        return EpochDraws(*(t[start:stop] for t in self.fields()))


def draw_epoch(count: int, seed: int, batch_size: int, epoch: int, augmentation: Augmentation) -> EpochDraws:
    """Draw a whole epoch at once: a function of (seed, batch size, epoch) alone, the same on every device."""
    stream = torch.Generator().manual_seed(keyed_seed(seed, "epoch", batch_size, epoch))
    order = torch.randperm(count, generator=stream)
    shifts = torch.randint(0, 2 * augmentation.padding + 1, (2, count), generator=stream)
    mirrored = torch.rand(count, generator=stream) < 0.5
    if not augmentation.flip:
        mirrored = torch.zeros_like(mirrored)
    return EpochDraws(order, shifts[0], shifts[1], mirrored)


class DeviceImages:
    """A set of uint8 images and labels that lives on the device, padded once.

    `images` is uint8 [N, H, W, 3] in host memory (it may be memory-mapped), `labels` integers [N].  The padding is
    of zeros, or mirrors the image at its edge.  Augmented batches have `dtype`; plain ones are float32, since what
    is validated, selected and scored is.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        normalisation: Normalisation,
        device: torch.device,
        dtype: torch.dtype,
        padding: int = 0,
        padding_mode: Literal["zeros", "reflect"] = "zeros",
    ) -> None:
        self.side = images.shape[1]
        self.padding = padding
        self.dtype = dtype
        edges = (0, 0), (padding, padding), (padding, padding), (0, 0)
        padded = np.pad(np.asarray(images), edges, mode="constant" if padding_mode == "zeros" else padding_mode)
        self.padded = torch.from_numpy(padded).to(device)
        self.labels = torch.from_numpy(np.array(labels, dtype=np.int64)).to(device)
        self.mean = 255.0 * torch.tensor(normalisation.mean, device=device)
        self.scale = 1.0 / (255.0 * torch.tensor(normalisation.std, device=device))
        self._grid = torch.arange(self.side, device=device)

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> DeviceImages:
        """The first of the images, in the same memory."""
        part = copy.copy(self)
        part.padded, part.labels = self.padded[:count], self.labels[:count]
        return part

    def batch(self, draws: EpochDraws) -> tuple[Tensor, Tensor]:
        """Augmented, normalised images [B, 3, H, W] (channels last in memory) and their labels [B]."""
        columns = torch.where(draws.mirrored[:, None], self._grid.flip(0), self._grid)
        rows = draws.top[:, None] + self._grid
        columns = draws.left[:, None] + columns
        pixels = self.padded[draws.order[:, None, None], rows[:, :, None], columns[:, None, :]]
        return self._normalised(pixels).to(self.dtype), self.labels[draws.order]

    def pixels(self, chosen: Sequence[int]) -> Tensor:
        """Some images as they were given, uint8 [B, H, W, 3]."""
        edge = self.padding
        return self.padded[list(chosen), edge : edge + self.side, edge : edge + self.side]

    def plain(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Images start .. stop-1 as they are, normalised: what evaluation sees."""
        edge = self.padding
        pixels = self.padded[start:stop, edge : edge + self.side, edge : edge + self.side]
        return self._normalised(pixels), self.labels[start:stop]

    def plain_batches(self, batch_size: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """All images in order: (first index, images, labels); the last batch may be smaller."""
        for start in range(0, len(self), batch_size):
            yield start, *self.plain(start, min(start + batch_size, len(self)))

    def _normalised(self, pixels: Tensor) -> Tensor:
        return ((pixels.float() - self.mean) * self.scale).permute(0, 3, 1, 2)
