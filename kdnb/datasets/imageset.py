"""What loading gives: two splits of images, each in canonical order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdnb.datasets.catalogue import DatasetInfo

#: Split -> (images uint8 [N, H, W, 3], labels uint8 [N]), as a source gives them or as they are written.
Splits = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class ImageSet:
    """One split: `images` uint8 [N, H, W, 3], `labels` int64 [N], in canonical order; both read-only.

    `digest` is the split's `order_free_sha256` (see kdnb.datasets.canonical).
    """

    images: np.ndarray
    labels: np.ndarray
    digest: str

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A data set ready for training. `classes[k]` is the name of label k."""

    info: DatasetInfo
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet

    @property
    def published(self) -> bool:
        """True where both splits are, to the last pixel, the published ones (not a part of them)."""
        return {"train": self.train.digest, "test": self.test.digest} == self.info.published
