"""Preparing a data set: from its published archive, downloaded or at hand, or from a tree of images.

Whatever the source, the result is the same bytes: canonical order, and the published digest or nothing.  A reader's own
images are whatever their folder holds.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kdnb.datasets import archives, canonical, catalogue, checking, folders, known, own, trees, writing
from kdnb.datasets.catalogue import Archive, DatasetInfo
from kdnb.datasets.imageset import Splits
from kdnb.datasets.layout import Meta
from kdnb.datasets.loading import folder_of
from kdnb.errors import DataError, KdnbError

Say = Callable[[str], None]

_ABANDONED_AFTER = 24 * 3600  # seconds


def prepare(
    name: str,
    source_dir: str | Path | None = None,
    root: str | Path | None = None,
    progress: Say | None = None,
    *,
    flip: bool = True,
) -> Path | None:
    """Put the data set into the prepared layout and return its folder; None if it is embedded.

    `source_dir` is a folder with the published archive, packed or unpacked, or with the tree
    `train/<class>/*.png`, `test/<class>/*.png`, or the packed archive itself; without it the archive is
    downloaded. `progress` is told, in sentences, what goes on. A set that is there and passes `check` is left
    as it is. Raises KdnbError for an unknown name, DataError if a source does not fit, is not the published
    set, or cannot be had; then nothing that was there before has changed.

    Under any other name `source_dir` holds images of one's own (kdnb.datasets.folders), read anew whenever it is given;
    `flip` says whether a mirrored one still shows the same thing.
    """
    say = progress or _silent
    if name not in catalogue.names():
        return _own(name, Path(source_dir) if source_dir else None, root, flip, say)
    info = catalogue.info(name)
    if not flip:
        raise KdnbError(f"Whether images of {info.title} may be mirrored is settled; only for your own it is asked.")
    if info.archive is None:
        if source_dir:
            own.need_free(name, root)
        say(f"{info.title} comes with scikit-learn; nothing has to be prepared.")
        return None
    folder = folder_of(name, root)
    if _is_ready(info, root):
        say(f"{info.title} is in {folder} already.")
        return folder
    with _work_folder(folder, info.title) as work:
        _prepare(folder, work, info, info.archive, Path(source_dir) if source_dir else None, say)
    say(f"{info.title} is ready in {folder}.")
    return folder


def _own(name: str, source: Path | None, root: str | Path | None, flip: bool, say: Say) -> Path:
    """Images of a reader's own: from their folder, or as they were prepared before, checked."""
    folder = folder_of(name, root)
    if source is None:
        try:
            known.info(name, root)
        except DataError:
            raise
        except KdnbError as error:
            raise KdnbError(
                f"{error} Images of your own need their folder: `kdnb data prepare {name} --from FOLDER`."
            ) from None
        checking.check(name, root)
        say(f"{name} is in {folder} already.")
        return folder
    own.need_free(name, root)
    with _work_folder(folder, name) as work:
        say(f"Reading {source}")
        with _told_by_file(source):
            found = folders.read_folder(source, own.SIDE, say)
        info = own.described(name, found.classes, own.measure(found.splits["train"][0]), flip, found.remarks)
        say(f"Writing {folder}")
        writing.write(folder, work, *_canonical(found.splits, info), info)
    for remark in found.remarks:
        say(remark)
    say(f"{name} is ready in {folder}.")
    return folder


@contextlib.contextmanager
def _work_folder(folder: Path, title: str) -> Iterator[Path]:
    """A work folder on the target's disk, so that renaming into place is one step a file.

    That is beside the target, or, where the target is there, in it: it may be a link, or a disk of its own.  So a
    place that cannot be written is found out before anything is downloaded or read.  What goes wrong with it, or with
    memory, is a DataError that names the set.
    """
    try:
        home = folder if folder.is_dir() else folder.parent
        if folder.is_symlink() and not folder.exists():
            raise DataError(f"{folder} is a link to {folder.readlink()}, which is not there.")
        home.mkdir(parents=True, exist_ok=True)
        prefix = f".{folder.name}-preparing-"
        for where in {home, folder.parent}:
            _sweep(where, prefix)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=home, ignore_cleanup_errors=True) as place:
            yield Path(place)
    except OSError as error:
        raise DataError(f"{title} could not be written to {folder} ({error}).") from None
    except MemoryError:
        raise DataError(f"{title} does not fit into the memory of this machine while it is prepared.") from None


def _prepare(folder: Path, work: Path, info: DatasetInfo, archive: Archive, source: Path | None, say: Say) -> None:
    if source is None:
        say(f"Downloading {archive.url}")
        source = archives.download(archive, info, work)
    say(f"Reading {source}")
    with _told_by_file(source):
        splits, meta = _canonical(_read(source, archive, info, say), info)
    say(f"Writing {folder}")
    writing.write(folder, work, splits, meta, info)


@contextlib.contextmanager
def _told_by_file(source: Path) -> Iterator[None]:
    """What cannot be read of a source is a DataError that names the file."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or source}: cannot be read ({error.strerror or error}).") from None


def _read(source: Path, archive: Archive, info: DatasetInfo, say: Say) -> Splits:
    """Find out what the source is, and read it."""
    if source.is_file():
        return archives.read_packed(source, archive, info)
    if (source / archive.filename).is_file():
        return archives.read_packed(source / archive.filename, archive, info)
    for folder in (source, source / archive.folder):
        if (folder / archive.train[0]).is_file():
            return archives.read_unpacked(folder, archive, info)
    if (source / "train").is_dir() and info.published:  # without digests nobody could say whether it is the set
        return trees.read_tree(source, info, say)
    raise DataError(
        f"{source}: holds neither {archive.filename}, nor {archive.folder}/{archive.train[0]}"
        + (", nor folders train/<class> and test/<class> with .png files." if info.published else ".")
    )


def _canonical(splits: Splits, info: DatasetInfo) -> tuple[Splits, Meta]:
    """The splits in canonical order, and their description; DataError if they are not the published, if there are."""
    ordered, digests = {}, {}
    for split, (images, labels) in splits.items():
        items = canonical.item_digests(images, labels)
        digests[split] = canonical.order_free_sha256(items)
        if not info.own:
            checking.need_published(split, len(images), digests[split], info)
        order = canonical.canonical_order(items)
        ordered[split] = images[order], labels[order] if len(labels) else labels
    counts = {split: len(images) for split, (images, _) in ordered.items()}
    return ordered, Meta(info.class_names, counts, digests)


def _is_ready(info: DatasetInfo, root: str | Path | None) -> bool:
    try:
        checking.check(info.name, root)
    except DataError:
        return False
    return True


def _sweep(root: Path, prefix: str) -> None:
    """Remove the work folders of preparations that were killed long ago."""
    for place in root.glob(prefix + "*"):
        if time.time() - place.stat().st_mtime > _ABANDONED_AFTER:
            shutil.rmtree(place, ignore_errors=True)


def _silent(_: str) -> None:
    """Progress that nobody wants to hear of."""
