"""What a run's student said of every test image, in few bits, among the arrays beside its record.

Every column is an array `image.<column>.<bits>`: values of that many bits, the highest first, in one packed stream over
all test images in canonical order, whichever of them score.  Shares in 0..1 are whole steps of 1 / (2^bits - 1).

    image.wrong_class.<b>      the first choice, of the images that are wrong alone: the label tells the others'
    image.probability.4        the probability of the first choice, in fifteenths
    image.true_probability.4   the probability of the label, of the images that are wrong alone
    image.right.1              whether the first choice is the label; in the record (`correct`) while it has room
    image.<name>.<bits>        what a measure tells of every image, a query's average precision say

Free of torch; labels come from the data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kdnb import datasets
from kdnb.errors import StoreError
from kdnb.evaluation.calibration import log_probabilities
from kdnb.evaluation.correct import correct, unpack
from kdnb.study import arrays as array_files
from kdnb.study.record import Record
from kdnb.study.store import Store

#: All columns of 10,000 test images hold no more bytes, packed and compressed; fewer images have as much room.
LARGEST_PER_10000 = 16 * 1024
#: Bits of a probability, and of any other share unless a measure says otherwise.
SHARE_BITS = 4
#: Of more test images than these the bits of `correct` lie here: a record has no room for them.
MOST_BITS_IN_A_RECORD = 12_000

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Predictions:
    """What a run's student said of N test images, with the headline's weights; all arrays [N], in canonical order.

    predicted          the first choice, a class
    probability        of the first choice, to the nearest fifteenth
    true_probability   of the label, likewise
    labels             the labels
    columns            what measures told of every image, by name, in 0..1
    """

    predicted: np.ndarray
    probability: np.ndarray
    true_probability: np.ndarray
    labels: np.ndarray
    columns: Arrays

    @property
    def correct(self) -> np.ndarray:
        """Whether the first choice is the label: bool [N]."""
        return np.asarray(self.predicted == self.labels)


def packed(logits: np.ndarray, labels: np.ndarray, columns: Arrays | None = None) -> dict[str, np.ndarray]:
    """The arrays that keep what logits [N, K] say of images with labels [N], and columns of a `share` each.

    Raises StoreError where they would be larger than `LARGEST_PER_10000` allows.
    """
    log_p = log_probabilities(logits)
    right = correct(log_p, labels)
    wrong = ~right
    true = np.exp(log_p[np.arange(len(labels)), labels])
    arrays = dict(
        [
            _column("wrong_class", log_p.argmax(axis=1)[wrong], class_bits(logits.shape[1])),
            share("probability", np.exp(log_p.max(axis=1))),
            share("true_probability", true[wrong]),
        ]
    )
    if len(labels) > MOST_BITS_IN_A_RECORD:
        arrays |= dict([_column("right", right, 1)])
    return within_limit({**arrays, **(columns or {})}, len(labels))


def share(name: str, values: np.ndarray, bits: int = SHARE_BITS) -> tuple[str, np.ndarray]:
    """A column of shares in 0..1, each to the nearest whole step: its name among the arrays, and its array."""
    return _column(name, np.rint(values * (2**bits - 1)).astype(np.int64), bits)


def predictions(store: Store, record: Record, labels: np.ndarray | None = None) -> Predictions:
    """What the student of a record said of every test image.

    `labels` [N] of the test images are taken from the data set where they are not given: DataError where it is not
    there.  Raises StoreError where the record keeps no predictions, or they do not fit the labels.
    """
    if labels is None:
        labels = _labels(record)
    found = among(store.arrays(record))
    if not found:
        raise StoreError(
            f"{_name(record)} keeps no predictions: it was recorded before they were kept, or its arrays are lost. "
            "Its accuracy stands; train it again where more is to be asked of its test images."
        )
    try:
        return _unpacked(found, record, labels)
    except (ValueError, KeyError, IndexError) as error:
        raise StoreError(f"The predictions of {_name(record)} do not fit {len(labels):,} images ({error}).") from error


def among(arrays: Arrays) -> dict[str, np.ndarray]:
    """Those of the arrays beside a record that tell of every image."""
    return {name: array for name, array in arrays.items() if name.startswith("image.")}


def _unpacked(found: Arrays, record: Record, labels: np.ndarray) -> Predictions:
    streams = {}
    for name, array in found.items():
        column, _, bits = name.removeprefix("image.").rpartition(".")
        streams[column] = array, int(bits)
    if "right" in streams:
        right = _values(*streams.pop("right"), len(labels)).astype(bool)
    else:
        right = unpack(record.correct, len(labels))
    wrong = np.flatnonzero(~right)
    predicted = labels.copy()
    predicted[wrong] = _values(*streams.pop("wrong_class"), len(wrong))
    probability = _shares(*streams.pop("probability"), len(labels))
    true_probability = probability.copy()
    true_probability[wrong] = _shares(*streams.pop("true_probability"), len(wrong))
    columns = {name: _shares(*stream, len(labels)) for name, stream in streams.items()}
    return Predictions(predicted, probability, true_probability, labels, columns)


def class_bits(num_classes: int) -> int:
    """Bits that tell one class from the others: 4 for 10, 7 for 100, 10 for 1,000."""
    return max(1, (num_classes - 1).bit_length())


def _column(name: str, values: np.ndarray, bits: int) -> tuple[str, np.ndarray]:
    shifts = np.arange(bits)[::-1]
    return f"image.{name}.{bits}", np.packbits((values.astype(np.int64)[:, None] >> shifts & 1).astype(np.uint8))


def _values(stream: np.ndarray, bits: int, count: int) -> np.ndarray:
    """`count` values of a packed stream; ValueError where it holds another number of them."""
    if stream.dtype != np.uint8 or stream.shape != (-(-count * bits // 8),):
        raise ValueError(f"{count:,} values of {bits} bits are not {stream.size:,} bytes")
    digits = np.unpackbits(stream, count=count * bits).reshape(count, bits)
    return digits.astype(np.int64) @ (1 << np.arange(bits)[::-1])


def _shares(stream: np.ndarray, bits: int, count: int) -> np.ndarray:
    return _values(stream, bits, count) / (2**bits - 1)


def beside(arrays: Arrays, columns: Arrays, images: int) -> dict[str, np.ndarray]:
    """Further columns of shares for the arrays of a run: in as many bits as there is room for, `SHARE_BITS` at most.

    Raises StoreError where there is none for a bit each.
    """
    known = among(arrays)
    for bits in range(SHARE_BITS, 0, -1):
        found = dict(share(name, values, bits) for name, values in columns.items())
        try:
            within_limit({**known, **found}, images)
        except StoreError:
            if bits == 1:
                raise
        else:
            break
    return found


def within_limit(arrays: dict[str, np.ndarray], images: int) -> dict[str, np.ndarray]:
    """The columns of so many images; StoreError where they are larger than a run may keep."""
    size, most = len(array_files.packed(arrays)), LARGEST_PER_10000 * max(images, 10_000) // 10_000
    if size > most:
        raise StoreError(f"{size:,} bytes for {images:,} test images are more than the {most:,} that a run keeps.")
    return arrays


def _labels(record: Record) -> np.ndarray:
    images = record.experiment["images"]
    test = datasets.load(images["dataset"]).test
    if test.digest != images["digests"]["test"]:
        raise StoreError(f"{_name(record)} was scored on other test images of {images['dataset']} than those here.")
    return test.labels


def _name(record: Record) -> str:
    return str(record.path or f"The record of {record.fingerprint}, seed {record.seed},")
