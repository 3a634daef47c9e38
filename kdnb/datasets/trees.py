"""A tree of image files: `train/<class>/*.png` and `test/<class>/*.png`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kdnb import errors
from kdnb.datasets.catalogue import DatasetInfo
from kdnb.datasets.imageset import Splits
from kdnb.errors import DataError

_REPORT_EVERY = 10  # classes


def read_tree(folder: Path, info: DatasetInfo, say: Callable[[str], None]) -> Splits:
    """Both splits of a tree: images uint8 [N, side, side, 3] and labels uint8 [N], by class and file name.

    The folders' names must be those of the data set's classes. Raises DataError naming the file or folder.
    """
    return {split: _read_split(folder / split, info, say) for split in ("train", "test")}


def _read_split(folder: Path, info: DatasetInfo, say: Callable[[str], None]) -> tuple[np.ndarray, np.ndarray]:
    _check_classes(folder, info)
    images: list[np.ndarray] = []
    labels: list[int] = []
    for label, name in enumerate(info.class_names):
        files = sorted((folder / name).glob("*.png"))
        if not files:
            raise DataError(f"{folder / name}: holds no .png file.")
        images += [_read_image(path, info) for path in files]
        labels += [label] * len(files)
        if (label + 1) % _REPORT_EVERY == 0:
            say(f"{folder}: {label + 1} of {info.num_classes} classes read")
    return np.stack(images), np.array(labels, dtype=np.uint8)


def _check_classes(folder: Path, info: DatasetInfo) -> None:
    """The folders are the classes, no more and no fewer."""
    found = {p.name for p in folder.glob("[!.]*") if p.is_dir()} if folder.is_dir() else set()
    for name in sorted(found - set(info.class_names)):
        raise DataError(f"{folder / name}: {errors.unknown(f'class of {info.title}', name, info.class_names)}")
    for name in sorted(set(info.class_names) - found):
        raise DataError(f"{folder / name}: the folder of this class is missing.")


def _read_image(path: Path, info: DatasetInfo) -> np.ndarray:
    """Pixels uint8 [side, side, 3] of one file."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error}).") from None
    if pixels.shape != (info.side, info.side, info.channels):
        height, width = pixels.shape[:2]
        raise DataError(f"{path}: is {width}x{height} pixels, not {info.side}x{info.side}.")
    return pixels
