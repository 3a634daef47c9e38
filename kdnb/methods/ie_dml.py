"""IE-DML (Huang et al. 2021): two networks begin untrained, and each inherits from the other and explores beside it.

Each has, trained with it, an auto-encoder of its own last map, whose factors are what the other one hears, and its own
inheriting and exploring parts.  Turns are those of `dml.py`; no divergence of answers is added.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from kdnb import losses
from kdnb.methods.dml import peer_accuracy, peer_of
from kdnb.methods.inheritance import Choice, Parts, compared
from kdnb.methods.paraphraser import Paraphraser, tapped
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage, Turn, present
from kdnb.models.network import Activations, Network


@method("ie-dml", revision=2, needs_teacher=False)
def ie_dml(
    setup: Setup,
    peer: str = "",
    inherited: float = 0.5,
    inheritance_weight: float = 50.0,
    exploration_weight: float = 50.0,
    reconstruction_weight: float = 0.8,
    metric: Literal["l1", "l2", "cosine", "partial-l2", "l1+cka"] = "l1",
    split: Literal["random", "halves"] = "random",
    factors_width: int = 32,
    reconstruction: Literal["detached", "joint"] = "detached",
) -> list[Stage]:
    """L_i = CE + w_r mean |f_i - D_i(E_i(f_i))| + w_i inheritance(F_i, E_j(f_j)) + w_e exploration(F_i', E_j(f_j)).

    In turn for i = 1, 2, with E_j(f_j) a constant in the turn of i.  `factors_width` is that of all factors, since the
    two networks may differ in width.  `reconstruction` "joint": its gradient reaches the network, too.
    """
    other = peer_of(setup, peer)
    choice = Choice(inherited, inheritance_weight, exploration_weight, metric, split, "teacher", "explores")
    mine, theirs = (_Party(setup, whose, network, choice, factors_width) for whose, network in _named(setup, other))

    def learns(batch: Batch) -> Losses:
        with torch.no_grad():
            heard = theirs.says(other.activations(batch.images))
        return mine.terms(batch.student, heard, batch.labels, reconstruction_weight, reconstruction == "joint")

    def peer_learns(batch: Batch) -> Losses:
        with torch.no_grad():
            heard = mine.says(batch.student)
        own = other.activations(batch.images)
        terms = theirs.terms(own, heard, batch.labels, reconstruction_weight, reconstruction == "joint")
        return {f"peer_{name}": term for name, term in terms.items()}

    def observe(batch: Batch) -> Losses:
        return {"peer_accuracy": peer_accuracy(other, batch)}

    return [
        setup.training(
            learns,
            modules={"peer": other, **mine.modules, **theirs.modules},
            trainable=[setup.student, *mine.modules.values()],
            further=(Turn(peer_learns, [other, *theirs.modules.values()], setup.optimiser()),),
            observe=observe,
        )
    ]


def _named(setup: Setup, peer: Network) -> list[tuple[str, Network]]:
    return [("student", setup.student), ("peer", peer)]


class _Party:
    """What belongs to one of the two networks: its auto-encoder and its parts."""

    def __init__(self, setup: Setup, whose: str, network: Network, choice: Choice, factors: int) -> None:
        width = network.stage_widths[-1]
        self.choice = choice
        self.autoencoder = setup.build(f"{whose}_factors", lambda: Paraphraser(width, factors))
        self.parts = setup.build(f"{whose}_parts", lambda: Parts(width, factors, choice.inherited, choice.split))
        self.modules: dict[str, nn.Module] = {f"{whose}_factors": self.autoencoder, f"{whose}_parts": self.parts}

    def says(self, activations: Activations) -> Tensor:
        """The factors that the other network hears."""
        factors: Tensor = self.autoencoder.encoder(tapped(activations))
        return factors

    def terms(self, activations: Activations, heard: Tensor, labels: Tensor, weight: float, joint: bool) -> Losses:
        """What the network and its own modules minimise."""
        maps = tapped(activations)
        kept = maps if joint else maps.detach()
        return {
            "ce": losses.cross_entropy(present(activations.logits), labels),
            "reconstruction": weight * losses.factor_reconstruction(self.autoencoder(kept), kept),
            **compared(self.parts(maps), heard, self.choice),
        }
