"""Writing the prepared layout so that a crash leaves the old set, or none, but never a mixture."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from kdnb.datasets import layout, own
from kdnb.datasets.catalogue import DatasetInfo
from kdnb.datasets.imageset import Splits
from kdnb.datasets.layout import Meta


def write(folder: Path, work: Path, splits: Splits, meta: Meta, info: DatasetInfo) -> None:
    """Write the splits and meta.json to `work` (on the same file system), then put them into `folder`.

    Until the new files are complete and on disk nothing in `folder` changes.
    """
    arrays = []
    for split, (images, labels) in splits.items():
        arrays += [(f"{split}_images.npy", images), (f"{split}_labels.npy", labels)][: 2 if len(labels) else 1]
    for name, array in arrays:
        with (work / name).open("wb") as file:
            np.save(file, array, allow_pickle=False)
            _to_disk(file)
    with (work / layout.META).open("w", encoding="utf-8") as file:
        file.write(json.dumps(_described(meta, info), indent=1) + "\n")
        _to_disk(file)
    _put_in_place(folder, work, [name for name, _ in arrays])


def _put_in_place(folder: Path, work: Path, names: list[str]) -> None:
    """Without meta.json a set counts as unfinished: it goes first and comes last.

    What was there is put aside, and put back where the new cannot be put in its place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    aside = work / "aside"
    aside.mkdir()
    try:
        for name in [layout.META, *names]:
            if (folder / name).exists():
                os.rename(folder / name, aside / name)
        for name in [*names, layout.META]:
            os.replace(work / name, folder / name)
    except OSError:
        for path in aside.iterdir():
            os.rename(path, folder / path.name)
        raise


def _described(meta: Meta, info: DatasetInfo) -> dict[str, object]:
    """The content of meta.json."""
    splits = {split: {"count": meta.counts[split], "order_free_sha256": meta.digests[split]} for split in info.counts}
    content: dict[str, object] = {"name": info.name, "classes": list(meta.classes), "splits": splits}
    return content | ({own.KEY: own.told(info)} if info.own else {})


def _to_disk(file: BinaryIO | TextIO) -> None:
    file.flush()
    os.fsync(file.fileno())
