"""Is it the published data set, to the last pixel? And what is there at all?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kdnb.datasets import canonical, digits, known, layout, own
from kdnb.datasets.catalogue import DatasetInfo
from kdnb.datasets.layout import Arrays, Meta
from kdnb.datasets.loading import folder_of
from kdnb.errors import DataError


def check(name: str, root: str | Path | None = None) -> list[str]:
    """Read every image and compare with what was published; returns a sentence for each split.

    Raises KdnbError for an unknown name, DataError naming the first file that is missing, does not fit or has
    a wrong digest; a whole and consistent part of the published set is an error too.
    """
    info = known.info(name, root)
    if info.embedded:
        data = digits.load()  # raises if the digests are not the known ones
        parts = {"train": data.train, "test": data.test}
        return [_finding(split, len(part), part.digest, info) for split, part in parts.items()]
    folder = folder_of(name, root)
    meta = layout.read_meta(folder, info)
    for k, (given, right) in enumerate(zip(meta.classes, info.class_names, strict=True)):
        if given != right:
            raise DataError(f"{folder / layout.META}: class {k} is called '{given}', not '{right}'.")
    arrays = {split: layout.open_split(folder, split, info, meta) for split in info.counts}
    found = [_check_split(split, arrays[split], meta, info) for split in info.counts]
    if info.own and (measured := own.measure(arrays["train"].images)) != info.measured:
        raise DataError(
            f"{folder / layout.META}: gives another mean and std than the training images have, which is {measured}; "
            f"run {layout.remedy(info)} to make it anew."
        )
    return [*found, *info.remarks]


@dataclass(frozen=True)
class Description:
    """A data set in a list: `state` is `embedded`, `prepared`, `missing` or `broken`; `detail` a sentence."""

    name: str
    title: str
    state: str
    detail: str
    folder: Path | None

    def __str__(self) -> str:
        return f"{self.name:<10} {self.state:<10} {self.detail}"


def describe(root: str | Path | None = None) -> list[Description]:
    """All known data sets, a reader's own among them, and whether each is there; quick, since no image is read."""
    return [_describe(name, root) for name in known.names(root)]


def need_published(split: str, count: int, digest: str, info: DatasetInfo, where: str = "") -> None:
    """Raise DataError for a split whose images are not the published ones; without digests their number tells."""
    published, expected = info.published.get(split, ""), info.counts[split]
    if digest == published or (not published and count == expected):
        return
    found, were = (f" with the digest {digest[:12]}", f" with {published[:12]}") if published else ("", "")
    raise DataError(
        f"{where}The {split} split is not that of the published {info.title}: {count} images{found}, where "
        f"{expected}{were} were published."
    )


def _check_split(split: str, arrays: Arrays, meta: Meta, info: DatasetInfo) -> str:
    digest = canonical.order_free_sha256(canonical.item_digests(arrays.images, arrays.labels))
    if digest != meta.digests[split]:
        raise layout.wrong_digest(arrays, info)
    need_published(split, len(arrays.images), digest, info, where=f"{arrays.images_path.parent}: ")
    return _finding(split, len(arrays.images), digest, info)


def _finding(split: str, count: int, digest: str, info: DatasetInfo) -> str:
    classes = f"in {info.num_classes} classes" if split in layout.SPLITS else "without labels"
    vouched = "as published" if info.published else "as it was made of the published archive"
    vouched = "as it was prepared" if info.own else vouched
    return f"{split}: {count} images of {info.side}x{info.side} pixels {classes}, digest {digest[:12]} {vouched}"


def _describe(name: str, root: str | Path | None) -> Description:
    try:
        info = known.info(name, root)
    except DataError as error:
        return Description(name, name, "broken", str(error), None)
    counts = f"{info.train_count} training and {info.test_count} test images"
    counts += f", {info.unlabelled_count} without labels" if info.unlabelled_count else ""
    counts += f" in {info.num_classes} classes of your own" if info.own else ""
    if info.embedded:
        return Description(info.name, info.title, "embedded", f"{counts}, from scikit-learn.", None)
    folder = folder_of(name, root)
    try:
        if not folder.is_dir() or not any(folder.iterdir()):
            return Description(info.name, info.title, "missing", f"Run {layout.remedy(info)}.", folder)
        meta = layout.read_meta(folder, info)
        for split in info.counts:
            layout.open_split(folder, split, info, meta)
    except (DataError, PermissionError) as error:
        return Description(info.name, info.title, "broken", str(error), folder)
    return Description(info.name, info.title, "prepared", _extent(info, meta, counts), folder)


def _extent(info: DatasetInfo, meta: Meta, counts: str) -> str:
    """How much of the published set is there, as meta.json has it."""
    if info.is_whole(meta.counts, meta.digests):
        return f"{counts}."
    return f"{meta.counts['train']} + {meta.counts['test']} images, not the published set ({counts})."
