"""Keyed randomness: every draw is a function of what it is for, never of what was drawn before it.

So no number depends on company, order or interruption: the images of an epoch on (seed, batch size, epoch),
a network's initialisation on (seed, network), everything else on (seed, name, step).
"""

from __future__ import annotations

import hashlib


def keyed_seed(*key: int | str) -> int:
    """A 63-bit seed that is a hash of the key, the same on every machine and in every version."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
