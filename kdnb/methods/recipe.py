"""How a protocol trains a network.  Free of torch: pages that only show stored runs read it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from kdnb import growth


@dataclass(frozen=True)
class Recipe:
    """An optimiser with steps, from labels or from a teacher, in the paper's own epochs.

    The rate is multiplied by `factor` once each of `milestones` epochs have been trained.  `selection` is
    `last` (the weights of the last epoch), `best` (the epoch of the highest validation accuracy) or `steps` (the best
    of the epochs before the rate drops and the last one).
    `optimiser` is `sgd` (with `momentum`, `nesterov`) or `adam` (which has neither); `restart` says when it begins
    afresh: `never`, with each `drop` of the rate, or with each `epoch`.  The scales of batch norms begin at `one`, or
    at `norm_scale` `uniform`, U(0, 1), as PyTorch had it before 1.2.  A new field is a `growth.later` one, so that
    stored records stay the records of their cells.
    """

    epochs: int
    batch_size: int
    lr: float
    milestones: tuple[int, ...]
    momentum: float = 0.9
    weight_decay: float = 5e-4
    factor: float = 0.1
    selection: str = "last"
    optimiser: Literal["sgd", "adam"] = growth.later("sgd")
    nesterov: bool = growth.later(False)
    restart: Literal["never", "drop", "epoch"] = growth.later("never")
    norm_scale: Literal["one", "uniform"] = growth.later("one")


def ratio_of(epochs: int, factor: Fraction, at_most: int | None = None) -> Fraction:
    """Which share of so many epochs is run: `factor`, and at most `at_most` of them."""
    return factor if at_most is None else min(factor, Fraction(at_most, epochs))


def shortened(count: int, ratio: Fraction) -> int:
    """So many epochs, or a milestone after so many, where that share of all is run: rounded up, and at least 1."""
    return max(1, math.ceil(count * ratio))
