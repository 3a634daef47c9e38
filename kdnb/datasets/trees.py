"""A tree of image files: `train/<class>/*.png` and `test/<class>/*.png`."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kdnb import errors
from kdnb.datasets.catalogue import DatasetInfo
from kdnb.datasets.imageset import Splits
from kdnb.errors import DataError

_REPORT_EVERY = 10  # classes
#: Files that systems leave in folders.
LEFT_BEHIND = {"Thumbs.db", "desktop.ini"}
#: Modes whose conversion to RGB changes no pixel.
_MODES = ("RGB", "P", "L", "1")


def read_tree(folder: Path, info: DatasetInfo, say: Callable[[str], None]) -> Splits:
    """Both splits of a tree: images uint8 [N, side, side, 3] and labels uint8 [N], by class and file name.

    The folders' names must be those of the data set's classes. Raises DataError naming the file or folder.
    """
    return {split: _read_split(folder / split, info, say) for split in ("train", "test")}


def _read_split(folder: Path, info: DatasetInfo, say: Callable[[str], None]) -> tuple[np.ndarray, np.ndarray]:
    _check_classes(folder, info)
    files = [_files(folder / name, info) for name in info.class_names]
    _check_counts(folder, files, info)
    images: list[np.ndarray] = []
    for label, of_class in enumerate(files):
        images += [_read_image(path, info) for path in of_class]
        if (label + 1) % _REPORT_EVERY == 0:
            say(f"{folder}: {label + 1} of {info.num_classes} classes read")
    return np.stack(images), np.repeat(np.arange(info.num_classes, dtype=np.uint8), [len(f) for f in files])


def _files(folder: Path, info: DatasetInfo) -> list[Path]:
    """The image files of a class, by name; hidden files, and those that systems leave behind, are none."""
    files = [path for path in sorted(folder.iterdir()) if path.name[0] != "." and path.name not in LEFT_BEHIND]
    for path in files:
        if path.suffix.lower() != ".png" or not path.is_file():
            raise DataError(f"{path}: is no .png file; {info.title} is read from files without loss and nothing else.")
    if not files:
        raise DataError(f"{folder}: holds no .png file.")
    return files


def _check_counts(folder: Path, files: list[list[Path]], info: DatasetInfo) -> None:
    """Each class has the number of images that was published, the same for all of them."""
    expected = {"train": info.train_count, "test": info.test_count}[folder.name] // info.num_classes
    for name, of_class in zip(info.class_names, files, strict=True):
        if len(of_class) != expected:
            raise DataError(
                f"{folder / name}: holds {len(of_class)} images, where {expected} of each class of the {folder.name} "
                f"split of {info.title} were published."
            )


def _check_classes(folder: Path, info: DatasetInfo) -> None:
    """The folders are the classes, no more and no fewer."""
    found = {p.name for p in folder.glob("[!.]*") if p.is_dir()} if folder.is_dir() else set()
    for name in sorted(found - set(info.class_names)):
        raise DataError(f"{folder / name}: {errors.unknown(f'class of {info.title}', name, info.class_names)}")
    for name in sorted(set(info.class_names) - found):
        raise DataError(f"{folder / name}: the folder of this class is missing.")


def _read_image(path: Path, info: DatasetInfo) -> np.ndarray:
    """Pixels uint8 [side, side, 3] of one file; its size and mode are looked at before it is decoded."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked here
            with Image.open(path) as image:
                if image.size != (info.side, info.side):
                    width, height = image.size
                    raise DataError(f"{path}: is {width}x{height} pixels, not {info.side}x{info.side}.")
                if image.mode not in _MODES or "transparency" in image.info:
                    kind = f"{image.mode} with transparency" if image.mode in _MODES else image.mode
                    raise DataError(
                        f"{path}: has the mode {kind}; modes that are read as they are: {', '.join(_MODES)}."
                    )
                return np.asarray(image.convert("RGB"))
    except PermissionError:
        raise DataError(f"{path}: may not be read by this user.") from None
    except (OSError, ValueError, SyntaxError, zlib.error, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error}).") from None
