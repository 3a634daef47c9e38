"""STL-10's binary files: images of 96x96 pixels, made 32x32; labels apart; images without labels.

An image is three planes, red, green and blue, each column by column; a label is a byte, from 1.
Source of the format: https://cs.stanford.edu/~acoates/stl10/.

Each pixel of the smaller image is the mean of the nine that it covers, rounded half up, in whole numbers: the same on
every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO

import numpy as np

from kdnb.datasets.catalogue import Archive, DatasetInfo
from kdnb.datasets.imageset import Splits
from kdnb.errors import DataError

SIDE = 96
#: Images that are read and made smaller at once: 28 MB.
BLOCK = 1000

Opener = Callable[[str], AbstractContextManager[IO[bytes]]]


def read(opened: Opener, home: str, archive: Archive, info: DatasetInfo) -> Splits:
    """All splits of the files that `opened` opens by name; DataError where one is torn or does not fit."""
    splits = {}
    for split in info.counts:
        names = {"train": archive.train, "test": archive.test, "unlabelled": archive.unlabelled}[split]
        with opened(names[0]) as file:
            images = _images(file, f"{home}: {names[0]}", info)
        labels = np.zeros(0, np.uint8)
        if len(names) > 1:
            with opened(names[1]) as file:
                labels = _labels(file, f"{home}: {names[1]}", len(images), info)
        splits[split] = images, labels
    return splits


def smaller(images: np.ndarray, side: int) -> np.ndarray:
    """uint8 [N, H, H, 3] -> [N, side, side, 3]: means of squares of pixels, rounded half up."""
    count, covered = len(images), images.shape[1] // side
    squares = images.reshape(count, side, covered, side, covered, images.shape[3])
    return ((2 * squares.sum((2, 4), dtype=np.int64) + covered**2) // (2 * covered**2)).astype(np.uint8)


def _images(file: IO[bytes], source: str, info: DatasetInfo) -> np.ndarray:
    """All images of a file, block by block: uint8 [N, side, side, 3]."""
    length, found = info.channels * SIDE**2, []
    while raw := file.read(BLOCK * length):
        if len(raw) % length:
            raise DataError(f"{source}: ends within an image of {length} bytes; it is torn.")
        planes = np.frombuffer(raw, np.uint8).reshape(-1, info.channels, SIDE, SIDE)
        found.append(smaller(planes.transpose(0, 3, 2, 1), info.side))
    if not found:
        raise DataError(f"{source}: is empty.")
    return np.concatenate(found)


def _labels(file: IO[bytes], source: str, count: int, info: DatasetInfo) -> np.ndarray:
    """A label for each image, uint8 [N], from 0."""
    labels = np.frombuffer(file.read(), np.uint8)
    if len(labels) != count:
        raise DataError(f"{source}: holds {len(labels)} labels for {count} images.")
    if labels.min() < 1 or labels.max() > info.num_classes:
        where = int(np.argmax((labels < 1) | (labels > info.num_classes)))
        raise DataError(f"{source}: label {labels[where]} at index {where} is not in 1..{info.num_classes}.")
    return labels - np.uint8(1)
