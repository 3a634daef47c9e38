"""Top-1: which images a network gets right."""

from __future__ import annotations

import base64

import numpy as np


def correct(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For every image whether the network's first choice is its label: [N, K], [N] -> bool [N].

    Of equal logits the first class is chosen.
    """
    return np.asarray(logits.argmax(axis=1) == labels)


def pack(right: np.ndarray) -> str:
    """A bool vector as base64 of its packed bits: 10,000 images in 1,668 characters."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def unpack(text: str, count: int) -> np.ndarray:
    """The first `count` bits of what `pack` made."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))[:count].astype(bool)
