"""The canonical order of a set of images, and the digest that does not depend on any order.

An image's own digest is sha256(pixels || label byte), pixels in the order [H, W, RGB]; without a label it is that of
the pixels alone. The canonical order is
the order of these digests, so it is the same wherever the images came from and however they lay on disk.
Images with the same digest are the same image with the same label, so their order among themselves is no
matter.
"""

from __future__ import annotations

import hashlib

import numpy as np


def item_digests(images: np.ndarray, labels: np.ndarray) -> list[bytes]:
    """The digest of each image: uint8 [N, H, W, 3] and labels [N] in 0..255, or [0] for none -> N times 32 bytes."""
    flat = np.ascontiguousarray(images).reshape(len(images), -1)
    ends = [bytes((label,)) for label in labels.astype(np.uint8).tolist()] if len(labels) else [b""] * len(images)
    return [hashlib.sha256(pixels.tobytes() + end).digest() for pixels, end in zip(flat, ends, strict=True)]


def canonical_order(digests: list[bytes]) -> np.ndarray:
    """Indices int64 [N] that put the images of these digests into canonical order."""
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), dtype=np.int64)


def order_free_sha256(digests: list[bytes]) -> str:
    """sha256 of the sorted concatenation of the digests: the same for any order of the same images."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
