"""A reader's own image sets: no catalogue describes them, their meta.json does.

Beside what every meta.json says, it holds the mean and std of the training images, whether a mirrored image still shows
the same thing, and remarks: how the images were brought here.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from kdnb import paths
from kdnb.datasets import catalogue, layout
from kdnb.datasets.catalogue import DatasetInfo, Normalisation
from kdnb.errors import DataError, KdnbError
from kdnb.kinds import parsed

#: Pixels of a side: that of the images that the networks here were made for.
SIDE = 32
PADDING = 4
#: Raised when the same files would be brought to other pixels.
REVISION = 1
#: Labels are bytes.
MOST_CLASSES = 256
NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
#: Folders beside the data sets: names that none can have.
TAKEN = ("checkpoints", "custom", "demo", "reported", "results", "unfinished")
#: The part of meta.json that other sets do not have.
KEY = "own"


def names(root: str | Path | None = None) -> list[str]:
    """Names of the sets with a description here that are not of the catalogue, by name."""
    found = Path(root or paths.data_root()).glob(f"*/{layout.META}")
    return sorted(path.parent.name for path in found if _may_be_own(path.parent.name))


def info(name: str, root: str | Path | None = None) -> DatasetInfo | None:
    """What the set's meta.json says of it, None where there is none; DataError where it says nothing that serves."""
    if not _may_be_own(name):
        return None
    path = Path(root or paths.data_root()) / name / layout.META
    if not os.path.lexists(path):
        return None
    try:
        return _read(name, parsed(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: does not describe images of your own ({type(error).__name__}: {error}); "
            f"run `kdnb data prepare {name} --from FOLDER` to make it anew."
        ) from None


def need_free(name: str, root: str | Path | None = None) -> None:
    """KdnbError for a name that own images cannot have: it is taken, or no name for a folder."""
    if name in catalogue.PLANNED or name in catalogue.names():
        raise KdnbError(f"'{name}' stands for {_title(name)}; give your own images another name.")
    if name in TAKEN:
        raise KdnbError(f"'{name}' is a folder of the project; give your own images another name.")
    if not NAME.fullmatch(name):
        raise KdnbError(
            f"'{name}' cannot name your own images: a name begins with a small letter and has small letters, digits, "
            "- and _, at most 40 of them."
        )
    folder = Path(root or paths.data_root()) / name
    with contextlib.suppress(OSError):  # what may not be looked at is said where it shall be written
        if folder.is_dir() and any(folder.iterdir()) and not any(folder.glob("*_images.npy")):
            raise KdnbError(f"{folder} holds something else than a data set; give your own images another name.")


def described(
    name: str, classes: tuple[str, ...], measured: Normalisation, flip: bool, remarks: tuple[str, ...] = ()
) -> DatasetInfo:
    """A set that is being prepared; how many images it has, and their digests, come with its splits."""
    return DatasetInfo(
        name=name,
        title=name,
        num_classes=len(classes),
        side=SIDE,
        train_count=0,
        test_count=0,
        crop_padding=PADDING,
        flip=flip,
        revision=REVISION,
        class_names=classes,
        published={},
        measured=measured,
        remarks=remarks,
    )


def told(info: DatasetInfo) -> dict[str, Any]:
    """The part of meta.json that `info` reads."""
    assert info.measured is not None
    mean, std = info.measured
    return {
        "mean": list(mean),
        "std": list(std),
        "flip": info.flip,
        "side": info.side,
        "revision": info.revision,
        "remarks": list(info.remarks),
    }


def measure(images: np.ndarray) -> Normalisation:
    """Mean and std of each channel of uint8 [N, H, W, 3], of values in 0..1 with four digits.

    They are sums of whole numbers, so the order of the images does not matter.  A channel without contrast has no std
    to divide by; it gets 1.
    """
    values = np.arange(256) / 255
    means, stds = [], []
    for channel in range(images.shape[3]):
        share = np.bincount(images[..., channel].ravel(), minlength=256) / images[..., channel].size
        mean = float(share @ values)
        std = float(np.sqrt(share @ (values - mean) ** 2))
        means.append(round(mean, 4))
        stds.append(round(std, 4) if std > 1 / 255 else 1.0)
    return (means[0], means[1], means[2]), (stds[0], stds[1], stds[2])


def _may_be_own(name: str) -> bool:
    return isinstance(name, str) and bool(NAME.fullmatch(name)) and name not in catalogue.names()


def _title(name: str) -> str:
    return catalogue.PLANNED.get(name) or catalogue.info(name).title


def _read(name: str, content: dict[str, Any]) -> DatasetInfo:
    splits, own = content["splits"], content[KEY]
    mean, std = (tuple(float(value) for value in own[key]) for key in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError("mean and std are not three numbers each, the latter above 0")
    return DatasetInfo(
        name=name,
        title=name,
        num_classes=len(content["classes"]),
        side=int(own["side"]),
        train_count=splits["train"]["count"],
        test_count=splits["test"]["count"],
        crop_padding=PADDING,
        flip=bool(own["flip"]),
        revision=int(own["revision"]),
        class_names=tuple(content["classes"]),
        published={split: splits[split]["order_free_sha256"] for split in layout.SPLITS},
        measured=(mean, std),
        remarks=tuple(map(str, own["remarks"])),
    )
