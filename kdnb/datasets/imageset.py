"""What loading gives: two splits of images, each in canonical order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdnb.datasets import catalogue
from kdnb.datasets.catalogue import DatasetInfo

#: Split -> (images uint8 [N, H, W, 3], labels uint8 [N] or, in a split without labels, [0]), as a source gives them or
#: as they are written.
Splits = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class ImageSet:
    """One split: `images` uint8 [N, H, W, 3], `labels` int64 [N], in canonical order; both read-only.

    In a split without labels these are [0].

    `digest` is the split's `order_free_sha256` (see kdnb.datasets.canonical).
    """

    images: np.ndarray
    labels: np.ndarray
    digest: str

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """A data set ready for training. `classes[k]` is the name of label k; few sets have images without labels."""

    info: DatasetInfo
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    unlabelled: ImageSet | None = None

    @property
    def published(self) -> bool:
        """True where the splits are, to the last pixel, the published ones (not a part of them).

        Where their digests are not known, all images of an archive whose md5 was the published one.
        """
        found = {"train": self.train, "test": self.test} | ({"unlabelled": self.unlabelled} if self.unlabelled else {})
        known = self.info if self.info.own else catalogue.info(self.info.name)
        counts = {split: len(images) for split, images in found.items()}
        return known.is_whole(counts, {split: images.digest for split, images in found.items()})
