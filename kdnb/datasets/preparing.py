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
from itertools import zip_longest
from pathlib import Path

from kdnb import paths
from kdnb.datasets import archives, canonical, catalogue, checking, folders, known, layout, own, trees, writing
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
    replace: bool = False,
) -> Path | None:
    """Put the data set into the prepared layout and return its folder; None if it is embedded.

    `source_dir` is a folder with the published archive, packed or unpacked, or with the tree
    `train/<class>/*.png`, `test/<class>/*.png`, or the packed archive itself; without it the archive is
    downloaded. `progress` is told, in sentences, what goes on. A set that is there and passes `check` is left
    as it is. Raises KdnbError for an unknown name, DataError if a source does not fit, is not the published
    set, or cannot be had; then nothing that was there before has changed.

    Under any other name `source_dir` holds images of one's own (kdnb.datasets.folders), read anew whenever it is given;
    `flip` says whether a mirrored one still shows the same thing.  Where other images of one's own, or another
    description, have that name, they stay, and it is a DataError, unless `replace` says otherwise.
    """
    say = progress or _silent
    if name not in catalogue.names():
        return _own(name, Path(source_dir) if source_dir else None, root, flip, replace, say)
    info = catalogue.info(name)
    if not flip:
        raise KdnbError(f"Whether images of {info.title} may be mirrored is settled; only for your own it is asked.")
    if replace:
        raise KdnbError(f"The images of {info.title} are settled; only your own can be replaced by others.")
    if info.archive is None:
        if source_dir:
            own.need_free(name, root)
        say(f"{info.title} comes with scikit-learn; nothing has to be prepared.")
        return None
    folder = folder_of(name, root)
    if _is_ready(info, root):
        say(f"{info.title} is in {folder} already.")
        return folder
    with _work_folder(folder, info.title, root) as work:
        _prepare(folder, work, info, info.archive, Path(source_dir) if source_dir else None, say)
    say(f"{info.title} is ready in {folder}.")
    return folder


def _own(name: str, source: Path | None, root: str | Path | None, flip: bool, replace: bool, say: Say) -> Path:
    """Images of a reader's own: from their folder, or as they were prepared before, checked."""
    folder = folder_of(name, root)
    if source is None:
        _need_prepared(name, root, flip, replace)
        say(f"{name} is in {folder} already.")
        return folder
    own.need_free(name, root)
    with _work_folder(folder, name, root) as work:
        say(f"Reading {source}")
        with _told_by_file(source):
            found = folders.read_folder(source, own.SIDE, say)
        info = own.described(name, found.classes, own.measure(found.splits["train"][0]), flip, found.remarks)
        splits, meta = _canonical(found.splits, info)
        there = _described_here(name, root)
        if there is not None and not replace:
            _need_same(there, info, meta, folder, source)
        for remark in found.remarks:
            say(remark)
        if (
            there is not None
            and there.remarks == info.remarks
            and _is_same(there, info, meta)
            and _is_ready(info, root)
        ):
            say(f"{name} is in {folder} already.")
            return folder
        say(f"Writing {folder}")
        writing.write(folder, work, splits, meta, info)
    say(f"{name} is ready in {folder}.")
    return folder


def _need_prepared(name: str, root: str | Path | None, flip: bool, replace: bool) -> None:
    """Raises KdnbError where own images are not prepared, or not as described, or are asked for in another way."""
    try:
        info = known.info(name, root)
    except DataError:
        raise
    except KdnbError as error:
        if not own.NAME.fullmatch(name):
            raise  # no folder helps
        raise KdnbError(
            f"{error} Images of your own need their folder: `kdnb data prepare {name} --from FOLDER`."
        ) from None
    if replace or (info.flip and not flip):
        raise KdnbError(
            f"{name} is prepared already, and to prepare it in another way its images are needed: give their folder "
            "with --from FOLDER."
        )
    checking.check(name, root)


def _described_here(name: str, root: str | Path | None) -> DatasetInfo | None:
    """Own images of that name as they are described here; None where there are none, or no description that serves."""
    try:
        return own.info(name, root)
    except DataError:
        return None


def _is_same(there: DatasetInfo, info: DatasetInfo, meta: Meta) -> bool:
    """Whether two sets of own images have the same images and classes, and train and test alike."""
    return (there.published, _way(there)) == (meta.digests, _way(info))


def _way(info: DatasetInfo) -> tuple[object, ...]:
    return info.class_names, info.flip, info.side, info.revision


def _need_same(there: DatasetInfo, info: DatasetInfo, meta: Meta, folder: Path, source: Path) -> None:
    """Raises DataError, which tells both, where own images would be replaced by others, or by another description."""
    if _is_same(there, info, meta):
        return
    if there.published != meta.digests:
        here = f"{_told_of(there.counts, there.published)} in {there.num_classes} classes"
        new = f"{_told_of(meta.counts, meta.digests)} in {info.num_classes}"
        what = f"holds other images, {here}, than {source}, {new}"
    elif there.class_names != info.class_names:
        old, now = next(pair for pair in zip_longest(there.class_names, info.class_names) if pair[0] != pair[1])
        what = f"holds these images with a class '{old}', which {source} calls '{now}'"
    elif there.flip != info.flip:
        ways = ("not to be mirrored (--no-flip)", "to be mirrored")
        what = f"holds these images, which were {ways[there.flip]} and now are {ways[info.flip]}"
    else:
        what = f"holds these images as another version of kdnb prepared them from {source}"
    raise DataError(
        f"{folder} {what}; give the new ones another name, or replace the old with --replace, after which records made "
        "with them belong to no table."
    )


def _told_of(counts: dict[str, int], digests: dict[str, str]) -> str:
    return " and ".join(f"{counts[split]} for {split} (digest {digests[split][:12]})" for split in layout.SPLITS)


@contextlib.contextmanager
def _work_folder(folder: Path, title: str, root: str | Path | None) -> Iterator[Path]:
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
        file = paths.file_above(folder)
        why = f"{file} is no folder" if file else error.strerror or error
        remedy = "point $KDNB_DATA to" if root is None else "name"
        raise DataError(
            f"{title} could not be written to {folder} ({why}); {remedy} a folder that can be written and has room."
        ) from None
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
