"""Arrays beside a record: a small `.npz` of numbers, tied by its digest to the record that speaks of it.

Free of torch, and nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kdnb.errors import StoreError

#: The arrays of a record hold no more bytes: several times what a figure plots.
LARGEST_ARRAYS = 2**20
#: ... and their file no more than they and their headers.
LARGEST_FILE = LARGEST_ARRAYS + 2**16


def file_beside(record: Path) -> Path:
    """Where the arrays of the record at this path lie."""
    return record.with_suffix(".npz")


def waiting_beside(arrays: Path) -> Path:
    """Where new arrays lie until their record is written; `arrays` is where they come to rest."""
    return arrays.with_suffix(".next.npz")


def waits(arrays: Path, expected: str) -> bool:
    """Whether arrays of this digest still wait beside where they come to rest."""
    return _waiting(arrays, expected) is not None


def _waiting(arrays: Path, expected: str) -> bytes | None:
    """The arrays of this digest that wait beside where they come to rest; None where there are none."""
    with contextlib.suppress(OSError):
        if digest(content := _content(waiting_beside(arrays))) == expected:
            return content
    return None


def at_rest(path: Path) -> Path:
    """Where a file comes to rest: elsewhere only where it is one of arrays that wait."""
    return path.with_name(path.name.removesuffix(".next.npz") + ".npz") if path.name.endswith(".next.npz") else path


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The file of some arrays, the same bytes for the same arrays.

    Raises StoreError for what could not be read again: arrays of objects, or too large.
    """
    objects = [name for name, array in arrays.items() if array.dtype.hasobject]
    if objects:
        raise StoreError(f"Arrays of objects are not kept: {', '.join(objects)}.")
    size = sum(array.nbytes for array in arrays.values())
    if size > LARGEST_ARRAYS:
        raise StoreError(f"Arrays of {size:,} bytes are not kept beside a record, only of up to {LARGEST_ARRAYS:,}.")
    stream = io.BytesIO()
    np.savez_compressed(stream, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]
    return stream.getvalue()


def digest(content: bytes) -> str:
    """16 hexadecimal digits that stand for a file."""
    return hashlib.sha256(content).hexdigest()[:16]


def read(path: Path, expected: str) -> bytes:
    """The arrays of a record that speaks of this digest; raises StoreError where they are others, or damaged.

    They may still be waiting: whoever wrote the record was killed before they came to rest at `path`.
    """
    with contextlib.suppress(OSError):
        if digest(content := _content(path)) == expected:
            return content
    if (waiting := _waiting(path, expected)) is not None:  # read once: they may come to rest in between
        return waiting
    try:
        _content(path)
    except OSError as error:
        raise StoreError(f"{path}, of which its record speaks, cannot be read ({error.strerror}).") from error
    raise StoreError(f"{path} is not the file of arrays that its record speaks of.")


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.stat().st_size <= LARGEST_FILE else b""


def names(content: bytes, path: Path) -> frozenset[str]:
    """The names of the arrays in a file, from its table of contents; StoreError where there is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            return frozenset(name.removesuffix(".npy") for name in packed.namelist())
    except (zipfile.BadZipFile, ValueError) as error:
        raise StoreError(f"{path} is not a file of arrays ({error}).") from error


def unpacked(content: bytes, path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file at `path`; raises StoreError for one that is damaged, too large or holds pickled objects."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
            if size > LARGEST_FILE:  # said before anything is unpacked
                raise ValueError(f"{size:,} bytes are more than a record keeps")
            return {entry.removesuffix(".npy"): _array(packed, entry) for entry in packed.namelist()}
    except Exception as error:  # a file from elsewhere can be broken in any way
        raise StoreError(f"{path} is not a file of arrays ({error}).") from error


def _array(packed: zipfile.ZipFile, entry: str) -> np.ndarray:
    stream = io.BytesIO(packed.read(entry))
    array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    return array
