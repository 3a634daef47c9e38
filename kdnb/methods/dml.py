"""DML, deep mutual learning (Zhang et al. 2018): two networks begin untrained and teach each other.

In every step the student learns from the labels and the peer; then the peer does, from the student that has just
learned.  Each sees the batch anew for each turn, in train mode: so their batch norms count it twice.
"""

from __future__ import annotations

import torch

from kdnb import losses, models
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage, Turn, present
from kdnb.models.network import Network


@method("dml", revision=1, needs_teacher=False)
def dml(setup: Setup, peer: str = "", weight: float = 1.0) -> list[Stage]:
    """L_i = CE(z_i, y) + w KL(p_j || p_i) for i = 1, 2 in turn; p_j is a constant in the turn of i.

    `peer` is the other network's name; without one it is the student's architecture.
    """
    other = peer_of(setup, peer)

    def learns(batch: Batch) -> Losses:
        with torch.no_grad():
            theirs = present(other.activations(batch.images).logits)
        return _mutual(present(batch.student.logits), theirs, batch.labels, weight, "")

    def peer_learns(batch: Batch) -> Losses:
        mine = present(other.activations(batch.images).logits)
        return _mutual(mine, present(batch.student.logits), batch.labels, weight, "peer_")

    def observe(batch: Batch) -> Losses:
        return {"peer_accuracy": peer_accuracy(other, batch)}

    return [
        setup.training(
            learns,
            modules={"peer": other},
            trainable=[setup.student],
            further=(Turn(peer_learns, [other], setup.optimiser()),),
            observe=observe,
        )
    ]


def peer_of(setup: Setup, name: str) -> Network:
    """An untrained network beside the student; of the same architecture it begins with other weights."""
    return setup.build("peer", lambda: models.create(name or setup.student.name, setup.student.num_classes))


def peer_accuracy(peer: Network, batch: Batch) -> torch.Tensor:
    """Share of the batch that the peer gets right."""
    return (present(peer.activations(batch.images).logits).argmax(dim=1) == batch.labels).float().mean()


def _mutual(
    mine: torch.Tensor, theirs: torch.Tensor, labels: torch.Tensor, weight: float, whose: str
) -> dict[str, torch.Tensor]:
    """The terms of one network: labels, and the divergence from what the other one says."""
    return {
        f"{whose}ce": losses.cross_entropy(mine, labels),
        f"{whose}mutual": weight * losses.kd(mine, theirs, 1.0),
    }
