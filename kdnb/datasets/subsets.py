"""Fixed parts of a split: functions of a key and of the labels alone.

Indices refer to the canonical order of the split. Only the raw stream of PCG64 is used, which NumPy keeps the
same from version to version, unlike its shuffles.
"""

from __future__ import annotations

import hashlib

import numpy as np

from kdnb.datasets import splits
from kdnb.errors import DataError
from kdnb.randomness import keyed_seed


def class_balanced(labels: np.ndarray, count: int, key: str) -> np.ndarray:
    """Sorted indices int64 [count] of a class-balanced subset, a function of (key, labels) alone.

    Every class gives the same number, or one more or less; a class that has too few gives all it has and
    the others fill up. A smaller subset with the same key is part of a larger. Raises DataError if there are
    fewer than `count` images.
    """
    labels = np.asarray(labels, dtype=np.int64)
    if not 0 < count <= len(labels):
        raise DataError(f"A subset of {count} images was asked for, but there are {len(labels)}.")
    draw = _draw("class_balanced", key, len(labels))
    order = np.lexsort((draw, labels))
    rank = np.empty_like(order)
    rank[order] = _position_in_class(labels[order])
    return np.sort(np.lexsort((draw, rank))[:count])


def halves(labels: np.ndarray, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Two halves (validation, test) of a split, as sorted indices int64; disjoint, together everything.

    Each class is halved, and so is the whole, to within one image. The halves of the published sets are
    pinned: raises DataError if they come out otherwise than they were for the published results.
    """
    labels = np.asarray(labels, dtype=np.int64)
    order = np.lexsort((_draw("halves", key, len(labels)), labels))
    validation, test = np.sort(order[0::2]), np.sort(order[1::2])
    pin = splits.PINNED.get(key)
    if pin and pin.labels == digest_of_indices(labels):
        found = digest_of_indices(validation), digest_of_indices(test)
        if found != (pin.validation, pin.test):
            raise DataError(f"The halves '{key}' are not the pinned ones; NumPy {np.__version__} draws otherwise.")
    return validation, test


def held_out(labels: np.ndarray, key: str) -> tuple[np.ndarray, np.ndarray]:
    """A class-balanced tenth of a split and all the rest of it, as (rest, tenth): sorted indices int64."""
    tenth = class_balanced(labels, max(1, len(labels) // 10), key)
    return np.setdiff1d(np.arange(len(labels)), tenth), tenth


def digest_of_indices(indices: np.ndarray) -> str:
    """sha256 (hex) of a list of integers, as little-endian 64-bit numbers."""
    return hashlib.sha256(np.asarray(indices).astype("<i8").tobytes()).hexdigest()


def _draw(purpose: str, key: str, count: int) -> np.ndarray:
    """`count` random 64-bit numbers of the stream that belongs to (purpose, key)."""
    return np.random.PCG64(keyed_seed(purpose, key)).random_raw(count)


def _position_in_class(ordered_labels: np.ndarray) -> np.ndarray:
    """For labels in ascending order: the place of each within its class, from 0."""
    return np.arange(len(ordered_labels)) - np.searchsorted(ordered_labels, ordered_labels, side="left")
