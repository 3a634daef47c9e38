"""What a name stands for: a set of the catalogue, or a reader's own that is prepared here."""

from __future__ import annotations

from pathlib import Path

from kdnb import errors
from kdnb.datasets import catalogue, own
from kdnb.datasets.catalogue import DatasetInfo


def names(root: str | Path | None = None) -> list[str]:
    """Names of all data sets: the catalogue's, prepared or not, and a reader's own."""
    return [*catalogue.names(), *own.names(root)]


def own_names(root: str | Path | None = None) -> list[str]:
    """Names of a reader's own sets that are prepared here; broken ones, which `kdnb data list` tells of, are none."""
    return [name for name in own.names(root) if _readable(name, root)]


def is_own(name: str, root: str | Path | None = None) -> bool:
    """Whether the name is that of a reader's own set, prepared here; DataError where it is broken."""
    return own.info(name, root) is not None


def info(name: str, root: str | Path | None = None) -> DatasetInfo:
    """What the data set is; no image is read. Raises KdnbError naming the nearest known data sets."""
    if name in catalogue.names():
        return catalogue.info(name)
    found = own.info(name, root)
    if found is None:
        raise errors.unknown("data set", name, names(root))
    return found


def title(name: str) -> str:
    """How a data set is called in a table: one prepared here, or one that papers use and nobody can prepare yet."""
    return catalogue.PLANNED[name] if name in catalogue.PLANNED else info(name).title


def _readable(name: str, root: str | Path | None) -> bool:
    try:
        return is_own(name, root)
    except errors.DataError:
        return False
