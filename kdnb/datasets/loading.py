"""Loading a data set in canonical order, wherever and however it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdnb import paths
from kdnb.datasets import digits, known, layout, order
from kdnb.datasets.catalogue import DatasetInfo
from kdnb.datasets.imageset import Dataset, ImageSet
from kdnb.datasets.layout import Meta
from kdnb.errors import DataError


def load(name: str, root: str | Path | None = None) -> Dataset:
    """Load the embedded digits, or a data set prepared in `root` (default: `kdnb.paths.data_root()`).

    Counts in the result's `info` are those of what was found. Raises KdnbError for an unknown name, and
    DataError, before any image is used, if the set is missing or does not fit its description.
    """
    info = known.info(name, root)
    if info.embedded:
        return digits.load()
    folder = folder_of(name, root)
    meta = layout.read_meta(folder, info)
    found = {split: _load_split(folder, split, info, meta) for split in info.counts}
    return Dataset(info.with_counts(len(found["train"]), len(found["test"])), meta.classes, **found)


def folder_of(name: str, root: str | Path | None) -> Path:
    """Where the prepared data set lies, or would."""
    return Path(root or paths.data_root()) / name


def _load_split(folder: Path, split: str, info: DatasetInfo, meta: Meta) -> ImageSet:
    """One split in canonical order: memory-mapped if it lies in that order, else in memory."""
    arrays = layout.open_split(folder, split, info, meta)
    indices = order.of_split(arrays, split, meta.digests[split], info)
    in_order = np.array_equal(indices, np.arange(len(indices)))
    try:
        images = arrays.images if in_order else arrays.images[indices]
    except MemoryError:
        raise DataError(
            f"{arrays.images_path} does not fit into the memory of this machine; `kdnb data prepare` writes it in "
            "the order in which it can stay on the disk."
        ) from None
    labels = (arrays.labels[indices] if len(arrays.labels) else arrays.labels).astype(np.int64)
    images.setflags(write=False)
    labels.setflags(write=False)
    return ImageSet(images, labels, meta.digests[split])
