"""A reader's folder of classes: `train/<class>/` and `test/<class>/`, or one level of `<class>/` alone.

Every image is brought to a square of `side` pixels: its shorter side becomes `side` (bicubic), and the middle of the
longer is cut out.  A photograph is turned as its camera says, and what is transparent becomes white.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdnb.datasets import canonical
from kdnb.datasets.imageset import Splits
from kdnb.datasets.layout import SPLITS
from kdnb.datasets.own import MOST_CLASSES
from kdnb.datasets.trees import LEFT_BEHIND
from kdnb.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg")
_KINDS = f"the kinds {', '.join(SUFFIXES[:-1])} and {SUFFIXES[-1]}"
#: Modes that RGB can show: colours by name, grey, black and white, with or without transparency, and print's.
_MODES = ("RGB", "RGBA", "P", "PA", "L", "LA", "1", "CMYK", "YCbCr")
#: One in so many images of a class is kept apart for tests, where the folder does not say which.
APART = 5
_REPORT_EVERY = 10  # classes
#: So many files that are left out are named, the rest counted.
_MOST_NAMED = 20


@dataclass(frozen=True)
class Found:
    """What a folder holds: both splits, the classes by label, and what has to be said of them."""

    splits: Splits
    classes: tuple[str, ...]
    remarks: tuple[str, ...]


def read_folder(folder: Path, side: int, say: Callable[[str], None]) -> Found:
    """All images of a folder of classes; `say` is told of every file that is left out.

    Raises DataError where there are no two classes, or one without images to learn from or to test on.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder; --from names one that holds a folder of images for every class.")
    reading = _Reading(side, say)
    if any(_is_split(folder / split) for split in SPLITS):
        splits, classes, apart = _of_two_levels(folder, reading)
    else:
        splits, classes, apart = _of_one_level(folder, reading)
    rule = f"The shorter side of every image was brought to {side} pixels, and the middle of the longer cut out."
    more = reading.left_out.total() - _MOST_NAMED
    if more > 0:
        say(f"And {_counted(more, 'file')} more {_were(more)} left out.")
    told = [f"{_counted(n, 'file')} {_were(n)} left out: {why}." for why, n in sorted(reading.left_out.items())]
    return Found(splits, classes, (rule, *apart, *_ambiguous(splits), *told))


class _LeftOut(DataError):
    """Why a file is left out: `what` is wrong with it alone, and `kind`, by which such files are counted."""

    def __init__(self, path: Path, what: str, kind: str) -> None:
        super().__init__(f"{path}: {what}.")
        self.kind = kind


class _Reading:
    """Reads the classes of a folder, and keeps what it had to leave out."""

    def __init__(self, side: int, say: Callable[[str], None]) -> None:
        self.side, self.say = side, say
        #: Why files were left out, and how many for that reason.
        self.left_out: Counter[str] = Counter()

    def classes(self, folder: Path, names: tuple[str, ...]) -> list[np.ndarray]:
        """The images of each class, uint8 [N, side, side, 3]; DataError for a class that has none."""
        found = []
        for label, name in enumerate(names):
            found.append(self._class(folder / name))
            if (label + 1) % _REPORT_EVERY == 0:
                self.say(f"{folder}: {label + 1} of {len(names)} classes read")
        return found

    def _class(self, folder: Path) -> np.ndarray:
        images = []
        for path in sorted(folder.iterdir()):
            if path.name[0] == "." or path.name in LEFT_BEHIND:
                continue
            try:
                images.append(_read_image(path, self.side))
            except _LeftOut as error:
                self._leave_out(error)
        if not images:
            raise DataError(f"{folder}: holds no image that can be read, of {_KINDS}; every class needs some.")
        return np.stack(images)

    def _leave_out(self, error: _LeftOut) -> None:
        self.left_out[error.kind] += 1
        if self.left_out.total() <= _MOST_NAMED:
            self.say(f"Left out: {error}")


def _of_two_levels(folder: Path, reading: _Reading) -> tuple[Splits, tuple[str, ...], list[str]]:
    """Both splits as the folder has them; and how many test images are training images too."""
    for split in SPLITS:
        if not _is_split(folder / split):
            raise DataError(
                f"{folder / split}: holds no folders of classes, though its neighbour does. Give both, or, to have a "
                "fifth of one level of classes kept apart for tests, that level's folder itself."
            )
    others = sorted(path.name for path in _folders(folder) if path.name not in SPLITS)
    if others:
        reading.say(f"{folder}: beside train and test there is {', '.join(others)}, which is not read.")
    names = _class_names(folder / "train")
    in_test = {path.name for path in _folders(folder / "test")}
    for name in sorted(set(names) - in_test):
        raise DataError(f"{folder / 'test' / name}: is missing; every class needs test images.")
    for name in sorted(in_test - set(names)):
        raise DataError(f"{folder / 'train' / name}: is missing; every class needs images to learn from.")
    splits = {split: _joined(reading.classes(folder / split, names)) for split in SPLITS}
    return splits, names, _shared(splits)


def _shared(splits: Splits) -> list[str]:
    """A remark on test images that are training images too, whatever their class, where there are some."""
    seen = set(_pixels(splits["train"][0]))
    both = sum(item in seen for item in _pixels(splits["test"][0]))
    have = "has" if both == 1 else "have"
    return [f"{both} of the test images {have} the pixels of a training image."] if both else []


def _ambiguous(splits: Splits) -> list[str]:
    """A remark on the images of each split that stand in several classes, copies not counted, where there are some."""
    told = []
    for split, (images, labels) in splits.items():
        classes: dict[bytes, set[int]] = defaultdict(set)
        for item, label in zip(_pixels(images), labels.tolist(), strict=True):
            classes[item].add(label)
        several = sum(len(found) > 1 for found in classes.values())
        name, stand = {"train": "training"}.get(split, split), "stands" if several == 1 else "stand"
        told += [f"{several} of the {name} images {stand} in more than one class."] if several else []
    return told


def _of_one_level(folder: Path, reading: _Reading) -> tuple[Splits, tuple[str, ...], list[str]]:
    """A fifth of every class for tests, those whose pixels have the smallest digests: whatever the files are called.

    Copies count once, so none of a training image can be in the tests of its class.
    """
    names, copies = _class_names(folder), 0
    parts: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for name, images in zip(names, reading.classes(folder, names), strict=True):
        each = dict(zip(_pixels(images), range(len(images)), strict=True))
        copies += len(images) - len(each)
        if len(each) < 2:
            raise DataError(
                f"{folder / name}: holds one image, copies not counted; a class needs one to learn from and one for "
                "tests."
            )
        order = [each[item] for item in sorted(each)]
        tests = max(1, round(len(order) / APART))
        parts["test"].append(images[order[:tests]])
        parts["train"].append(images[order[tests:]])
    told = ["A fifth of every class was kept apart for tests: the images with the smallest digests."]
    if copies:
        told += [f"{_counted(copies, 'copy', 'copies')} of images of the same class {_were(copies)} left out."]
    splits = {split: _joined(of_classes) for split, of_classes in parts.items()}
    return splits, names, [*told, *_shared(splits)]


def _is_split(folder: Path) -> bool:
    """A split holds folders of classes; a class that is called `train` holds images."""
    return folder.is_dir() and bool(_folders(folder))


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in _folders(folder))
    if not 2 <= len(names) <= MOST_CLASSES:
        count = _counted(len(names), "folder of a class", "folders of classes")
        raise DataError(f"{folder}: holds {count}; there have to be 2 to {MOST_CLASSES}.")
    return names


def _joined(of_classes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Images of all classes one after the other, and their labels."""
    counts = [len(images) for images in of_classes]
    return np.concatenate(of_classes), np.repeat(np.arange(len(counts), dtype=np.uint8), counts)


def _pixels(images: np.ndarray) -> list[bytes]:
    """The digest of each image's pixels, whatever its class."""
    return canonical.item_digests(images, np.zeros(0, np.uint8))


def _counted(number: int, one: str, more: str = "") -> str:
    return f"{number} {one if number == 1 else more or one + 's'}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _read_image(path: Path, side: int) -> np.ndarray:
    """Pixels uint8 [side, side, 3] of one file; _LeftOut says why there are none."""
    from PIL import Image

    if path.is_dir():
        raise _LeftOut(path, "is a folder in the folder of a class", "a folder in the folder of a class")
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise _LeftOut(path, f"is no file of {_KINDS}", f"not of {_KINDS}, which alone are read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large photographs are welcome
            with Image.open(path) as image:
                if image.mode not in _MODES:
                    what = f"has the mode {image.mode}; read are {', '.join(_MODES)}"
                    raise _LeftOut(path, what, f"not of a mode that is read ({', '.join(_MODES)})")
                return _brought(image, side)
    except PermissionError:
        raise _LeftOut(path, "may not be read by this user", "not to be read by this user") from None
    except (OSError, ValueError, SyntaxError, zlib.error, struct.error, Image.DecompressionBombError) as error:
        raise _LeftOut(path, f"cannot be read as an image ({error})", "not to be read as an image") from None


def _brought(image: Image.Image, side: int) -> np.ndarray:
    """An image as the rule above has it."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    short = min(image.size)
    left, top = ((length - short) / 2 for length in image.size)
    middle = (left, top, left + short, top + short)
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=middle))
