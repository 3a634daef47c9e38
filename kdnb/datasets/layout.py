"""The prepared layout: `<root>/<name>/{train,test}_{images,labels}.npy` and `meta.json`.

Images are uint8 [N, side, side, 3], labels uint8 [N]; a split without labels is `unlabelled_images.npy`. Nothing is
ever unpickled. Whatever does not fit is a DataError that names the file and the fault; for that only headers and
labels are read, no image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdnb.datasets.catalogue import DatasetInfo
from kdnb.errors import DataError
from kdnb.kinds import parsed

#: The splits that have labels.
SPLITS = ("train", "test")
META = "meta.json"


@dataclass(frozen=True)
class Meta:
    """What meta.json says: the classes' names, and each split's number of images and `order_free_sha256`."""

    classes: tuple[str, ...]
    counts: dict[str, int]
    digests: dict[str, str]


@dataclass(frozen=True)
class Arrays:
    """One split as it lies on disk: images memory-mapped, labels in memory, both uint8; [0] and no file for none."""

    images: np.ndarray
    labels: np.ndarray
    images_path: Path
    labels_path: Path | None

    @property
    def files(self) -> list[Path]:
        """The split's files."""
        return [self.images_path] if self.labels_path is None else [self.images_path, self.labels_path]


def remedy(info: DatasetInfo) -> str:
    """The command that makes the data set."""
    return f"`kdnb data prepare {info.name}{' --from FOLDER' if info.own else ''}`"


def read_meta(folder: Path, info: DatasetInfo) -> Meta:
    """Read and check `meta.json`. Raises DataError if the set is missing, or the file does not fit."""
    path = folder / META
    try:
        content = parsed(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(folder, info) from None
    except PermissionError:
        raise _forbidden(path) from None
    except (OSError, ValueError) as error:
        raise _bad(path, f"cannot be read as JSON ({error})", info) from None
    try:
        return _meta(content, info)
    except DataError as error:
        raise _bad(path, str(error), info) from None


def open_split(folder: Path, split: str, info: DatasetInfo, meta: Meta) -> Arrays:
    """Open one split and check it against its description. Raises DataError."""
    images_path, labels_path = (folder / f"{split}_{part}.npy" for part in ("images", "labels"))
    count = meta.counts[split]
    images = _open(images_path, (count, info.side, info.side, info.channels), info)
    if split not in SPLITS:
        return Arrays(images, np.zeros(0, np.uint8), images_path, None)
    labels = np.array(_open(labels_path, (count,), info))
    if labels.max() >= info.num_classes:
        where = int(np.argmax(labels >= info.num_classes))
        raise _bad(labels_path, f"label {labels[where]} at index {where} is not in 0..{info.num_classes - 1}", info)
    return Arrays(images, labels, images_path, labels_path)


def wrong_digest(arrays: Arrays, info: DatasetInfo) -> DataError:
    """The error for a split whose images and labels are not those that meta.json describes."""
    names = " and ".join(path.name for path in arrays.files)
    return DataError(
        f"{arrays.images_path.parent}: {names} do not have the digest that {META} gives, so a pixel or a "
        f"label was changed; run {remedy(info)} to make it anew."
    )


def _meta(content: Any, info: DatasetInfo) -> Meta:
    """The checked content of meta.json; a DataError's text says what is wrong with it."""
    if not isinstance(content, dict):
        raise DataError("is not a JSON object")
    for key in ("name", "classes", "splits"):
        if key not in content:
            raise DataError(f"has no '{key}'")
    if content["name"] != info.name:
        raise DataError(f"describes '{content['name']}', not '{info.name}'")
    splits = content["splits"]
    if not isinstance(splits, dict) or not all(isinstance(splits.get(split), dict) for split in info.counts):
        raise DataError(f"'splits' does not describe {' and '.join(map(repr, info.counts))}")
    return Meta(
        classes=_classes(content["classes"], info),
        counts={split: _count(split, splits[split]) for split in info.counts},
        digests={split: _digest(split, splits[split]) for split in info.counts},
    )


def _classes(classes: Any, info: DatasetInfo) -> tuple[str, ...]:
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError("'classes' is not a list of names")
    if len(classes) != info.num_classes or len(set(classes)) != info.num_classes:
        raise DataError(f"'classes' names {len(set(classes))} classes, but {info.title} has {info.num_classes}")
    return tuple(classes)


def _count(split: str, described: dict[str, Any]) -> int:
    count = described.get("count")
    if type(count) is not int or count < 1:
        raise DataError(f"the count of '{split}' is {count!r}, not a number of images")
    return count


def _digest(split: str, described: dict[str, Any]) -> str:
    digest = described.get("order_free_sha256")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise DataError(f"the order_free_sha256 of '{split}' is {digest!r}, not 64 hexadecimal digits")
    return digest


def _open(path: Path, shape: tuple[int, ...], info: DatasetInfo) -> np.ndarray:
    """Memory-map an array of bytes that must have this shape."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise _bad(path, "is missing", info) from None
    except PermissionError:
        raise _forbidden(path) from None
    except Exception as error:  # NumPy has many ways to trip over a header
        raise _bad(path, f"cannot be read, it may be truncated or no plain array ({error})", info) from None
    if not isinstance(array, np.ndarray):
        raise _bad(path, "is an archive of arrays, not one array", info)
    if array.dtype != np.uint8:
        raise _bad(path, f"holds {array.dtype}, not uint8", info)
    if array.shape != shape:
        raise _bad(path, f"has the shape {array.shape}, but {META} and the data set ask for {shape}", info)
    return array


def _missing(folder: Path, info: DatasetInfo) -> DataError:
    if folder.is_dir() and any(folder.rglob("*.npy")):
        return DataError(f"{info.title} in {folder} is unfinished, {META} is missing; run {remedy(info)}.")
    return DataError(f"{info.title} is missing, there is no {folder / META}; run {remedy(info)}.")


def _forbidden(path: Path) -> DataError:
    return DataError(f"{path}: may not be read by this user; making it anew would not help, permission would.")


def _bad(path: Path, what: str, info: DatasetInfo) -> DataError:
    """One line, whatever the cause had to say."""
    return DataError(" ".join(f"{path}: {what}; run {remedy(info)} to make it anew.".split()))
