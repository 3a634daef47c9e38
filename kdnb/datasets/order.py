"""The canonical order of a prepared split, computed once and kept beside the data.

Computing it reads every image, and so checks the digest that meta.json gives. The file's name is a hash of
that digest and of size and time of the two arrays' files, and a sample of the images is hashed before a kept
order is believed; so the order of other data, or of the same data laid out otherwise, is never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np

from kdnb.datasets import canonical, layout
from kdnb.datasets.catalogue import DatasetInfo
from kdnb.datasets.layout import Arrays

_SAMPLE = 64


def of_split(arrays: Arrays, split: str, digest: str, info: DatasetInfo) -> np.ndarray:
    """Indices int64 [N] of the split's canonical order.

    Raises DataError if the images and labels do not have the digest.
    """
    path = _path(arrays, split, digest)
    kept = _read(path, arrays)
    if kept is not None:
        return kept
    digests = canonical.item_digests(arrays.images, arrays.labels)
    if canonical.order_free_sha256(digests) != digest:
        raise layout.wrong_digest(arrays, info)
    order = canonical.canonical_order(digests)
    with contextlib.suppress(OSError):  # a folder that cannot be written, or is full: computed anew next time
        _write(path, order, split)
    return order


def _path(arrays: Arrays, split: str, digest: str) -> Path:
    """Where the order of exactly these files is kept."""
    parts = [digest]
    for path in arrays.files:
        status = path.stat()
        parts += [str(status.st_size), str(status.st_mtime_ns)]
    key = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
    return arrays.images_path.parent / f".{split}_order-{key}.npy"


def _read(path: Path, arrays: Arrays) -> np.ndarray | None:
    """The kept order, or None if there is none that fits."""
    try:
        order = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(order, np.ndarray) or order.dtype != np.int32 or order.shape != arrays.images.shape[:1]:
        return None
    if not np.array_equal(np.sort(order), np.arange(len(order))):
        return None
    sample = order[np.linspace(0, len(order) - 1, _SAMPLE).astype(np.int64)]
    digests = canonical.item_digests(
        arrays.images[sample], arrays.labels[sample] if len(arrays.labels) else arrays.labels
    )
    return order.astype(np.int64) if digests == sorted(digests) else None


def _write(path: Path, order: np.ndarray, split: str) -> None:
    """Keep an order, in one step, and drop those of earlier versions of the data."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.save(file, order.astype(np.int32), allow_pickle=False)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    for other in path.parent.glob(f".{split}_order-*.npy"):
        if other != path:
            other.unlink(missing_ok=True)
