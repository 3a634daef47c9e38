"""Published archives of binary files: download, check, read; no pickles.

Of CIFAR's "binary version" a record is `label_bytes` labels (the last is the class), then side x side bytes each of
red, green and blue, row by row. Source of the format: https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import IO

import numpy as np

from kdnb.datasets import stl10
from kdnb.datasets.catalogue import Archive, DatasetInfo
from kdnb.datasets.imageset import Splits
from kdnb.errors import DataError


def download(archive: Archive, info: DatasetInfo, folder: Path) -> Path:
    """Fetch the archive into the folder and check its md5; returns its path. Raises DataError."""
    from torchvision.datasets.utils import download_url  # lazily: it imports torch

    try:
        download_url(archive.url, str(folder), archive.filename, archive.md5)
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataError(
            f"{info.title} could not be downloaded from {archive.url} ({error}); fetch it by other means and "
            f"run `kdnb data prepare {info.name} --from DIR` with the folder that holds {archive.filename}."
        ) from None
    return folder / archive.filename


def read_packed(path: Path, archive: Archive, info: DatasetInfo) -> Splits:
    """The splits from the packed archive (.tar.gz), nothing unpacked to disk.

    Raises DataError if its md5 is not the published one or a file in it is missing or torn.
    """
    with _readable(path):
        md5 = _md5(path)
        if md5 != archive.md5:
            raise DataError(f"{path}: has the md5 {md5}, not {archive.md5}; it is torn or another file.")
        with tarfile.open(path, "r:gz") as packed:
            return _read(lambda name: _member(packed, f"{archive.folder}/{name}"), path, archive, info)


def read_unpacked(folder: Path, archive: Archive, info: DatasetInfo) -> Splits:
    """The splits from the folder of an unpacked archive.

    Raises DataError naming a file that is missing or torn, or is not the published one where its md5 is known.
    """
    for name, known in archive.md5s.items():
        with _readable(folder / name):
            found = _md5(folder / name)
        if found != known:
            raise DataError(f"{folder / name}: has the md5 {found}, not {known}; it is torn or another file.")
    return _read(lambda name: _file(folder / name), folder, archive, info)


def parse(raw: bytes, source: str, label_bytes: int, info: DatasetInfo) -> tuple[np.ndarray, np.ndarray]:
    """Records -> images uint8 [N, side, side, 3], labels uint8 [N]. Raises DataError naming the source."""
    length = label_bytes + info.channels * info.side**2
    if not raw or len(raw) % length:
        raise DataError(f"{source}: {len(raw)} bytes are no whole number of records of {length}; it is torn.")
    records = np.frombuffer(raw, dtype=np.uint8).reshape(-1, length)
    labels = records[:, label_bytes - 1].copy()
    if labels.max() >= info.num_classes:
        where = int(np.argmax(labels >= info.num_classes))
        raise DataError(f"{source}: record {where} has label {labels[where]}, not 0..{info.num_classes - 1}.")
    planes = records[:, label_bytes:].reshape(-1, info.channels, info.side, info.side)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _read(opened: stl10.Opener, home: Path, archive: Archive, info: DatasetInfo) -> Splits:
    """The splits, each from one or several files."""
    if not archive.label_bytes:
        return stl10.read(opened, str(home), archive, info)
    splits = {}
    for split, names in (("train", archive.train), ("test", archive.test)):
        parts = []
        for name in names:
            with opened(name) as file:
                parts.append(parse(file.read(), f"{home}: {name}", archive.label_bytes, info))
        images, labels = zip(*parts, strict=True)
        splits[split] = np.concatenate(images), np.concatenate(labels)
    return splits


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@contextlib.contextmanager
def _file(path: Path) -> Iterator[IO[bytes]]:
    with _readable(path), path.open("rb") as file:
        yield file


def _member(packed: tarfile.TarFile, name: str) -> IO[bytes]:
    """One regular file of the archive."""
    file = packed.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what reading a file can raise into a DataError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: is missing.") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from None
