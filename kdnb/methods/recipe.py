"""How a protocol trains a network.  Free of torch: pages that only show stored runs read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """SGD with steps, from labels or from a teacher, in the paper's own epochs.

    The rate is multiplied by `factor` once each of `milestones` epochs have been trained.  `selection` is
    `last` (the weights of the last epoch) or `best` (the epoch of the highest validation accuracy).
    A new field is a `growth.later` one, so that stored records stay the records of their cells.
    """

    epochs: int
    batch_size: int
    lr: float
    milestones: tuple[int, ...]
    momentum: float = 0.9
    weight_decay: float = 5e-4
    factor: float = 0.1
    selection: str = "last"
