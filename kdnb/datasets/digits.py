"""The embedded data set: scikit-learn's digits, 1,797 real scans of 8x8 pixels, made RGB and enlarged.

E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits (UCI, 1998); the copy in scikit-learn.
All arithmetic is in whole numbers, so the pixels are the same on every machine.
"""

from __future__ import annotations

import functools

import numpy as np

from kdnb.datasets import canonical
from kdnb.datasets.catalogue import DIGITS
from kdnb.datasets.imageset import Dataset, ImageSet
from kdnb.datasets.subsets import class_balanced
from kdnb.errors import DataError


@functools.cache
def load() -> Dataset:
    """The digits in canonical order: 60 of each in the test split, the other 1,197 in the training split."""
    images, labels = _scans()
    order = canonical.canonical_order(canonical.item_digests(images, labels))
    images, labels = images[order], labels[order]
    test = class_balanced(labels, DIGITS.test_count, "digits/test")
    train = np.setdiff1d(np.arange(len(labels)), test)
    found = {split: _split(images, labels, part) for split, part in (("train", train), ("test", test))}
    for split, image_set in found.items():
        if image_set.digest != DIGITS.published[split]:
            raise DataError(f"The digits of the installed scikit-learn are not the known ones ({split}).")
    return Dataset(DIGITS, DIGITS.class_names, found["train"], found["test"])


def enlarge(scans: np.ndarray) -> np.ndarray:
    """Scans [N, 8, 8] with values 0..16 -> uint8 [N, 16, 16, 3]: bilinear, edges repeated, 16 becomes 255."""
    weighted = _double(_double(scans.astype(np.int64), axis=1), axis=2)  # 16 times the interpolated value
    grey = (weighted * 255 + 128) // 256
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)


def _double(values: np.ndarray, axis: int) -> np.ndarray:
    """Twice as many samples along an axis, each 3 parts of the nearest old one and 1 of the next (sum 4)."""
    last = values.shape[axis] - 1
    before = values.take([0, *range(last)], axis)
    after = values.take([*range(1, last + 1), last], axis)
    pairs = np.stack((3 * values + before, 3 * values + after), axis + 1)
    return pairs.reshape(*values.shape[:axis], -1, *values.shape[axis + 1 :])


def _scans() -> tuple[np.ndarray, np.ndarray]:
    """All enlarged scans and their labels, in scikit-learn's order."""
    from sklearn.datasets import load_digits  # lazily: its import takes a second

    raw = load_digits()
    return enlarge(raw.images), raw.target.astype(np.int64)


def _split(images: np.ndarray, labels: np.ndarray, part: np.ndarray) -> ImageSet:
    """The images of the given indices as a split, read-only since it is shared by all who load it."""
    images, labels = images[part], labels[part]
    images.setflags(write=False)
    labels.setflags(write=False)
    return ImageSet(images, labels, canonical.order_free_sha256(canonical.item_digests(images, labels)))
