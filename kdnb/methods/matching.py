"""Matching of layers: a student learns from another network's features, and from nothing else.

    L = l(last layer) + a_k sum_{inner layers} l(layer) + c L_pairs,   a_k = first_weight decay^k in epoch k = 0, 1, ...

The methods differ in l, what it means that two layers are alike.  A network's layers are its first three stages and its
embedding; the classifier learns nothing.  Without c no label is seen.  Passalis, Tzelepi and Tefas (2020) compare
these: their own, information flow, begins with inner layers that weigh far more than the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from kdnb import losses
from kdnb.errors import KdnbError
from kdnb.losses.common import pooled
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage, present
from kdnb.models.network import Activations, Network

#: Layers of a network but for the last, and the sides that a residual network's maps are pooled to there.
INNER = 3
SIDES = (4, 4, 2)

#: How much two layers differ: number of the pair, the student's, the teacher's -> a scalar.
Unlike = Callable[[int, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Matched:
    """Which layers are matched and how much each weighs.

    `layers`: the `last` one alone, `all` of them each with its like, or beside the last one the student's `third` with
    layer number `guide` of the teacher.  `balanced`: the weights of an epoch are divided by their mean.
    """

    layers: str
    first_weight: float
    decay: float
    guide: int = INNER
    balanced: bool = False
    contrastive_weight: float = 0.0
    margin: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.guide <= INNER + 1:
            raise KdnbError(f"guide is the number of one of the teacher's layers, 1 to {INNER + 1}, not {self.guide}.")

    def pairs(self) -> list[tuple[int, int]]:
        """Layers of student and teacher, from 0, the last pair first."""
        inner = {"last": [], "all": [(k, k) for k in range(INNER)], "third": [(INNER - 1, self.guide - 1)]}
        return [(INNER, INNER), *inner[self.layers]]

    def weights(self, epoch: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Of the last layer, and of each inner one, in an epoch."""
        inner = self.first_weight * self.decay**epoch
        count = len(self.pairs())
        mean = (1 + (count - 1) * inner) / count if self.balanced else 1.0
        return 1 / mean, inner / mean


@method("information-flow", revision=1, label_free=True)
def information_flow(
    setup: Setup,
    reading: Literal["code", "paper"] = "code",
    layers: Literal["last", "all", "third"] = "all",
    guide: int = 3,
    first_weight: float = 100.0,
    decay: float = 0.7,
    balanced: bool = False,
    contrastive_weight: float = 0.0,
    margin: float = 1.0,
) -> list[Stage]:
    """l = D_cosine + D_T, Jeffreys' divergences of how alike the images of a batch are; the loss has the `reading`s."""

    def unlike(pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.information_flow(student, teacher, reading)

    how = Matched(layers, first_weight, decay, guide, balanced, contrastive_weight, margin)
    return [_matching(setup, how, unlike)]


@method("match-pkt", revision=1, label_free=True)
def match_pkt(
    setup: Setup,
    divergence: Literal["kl", "jeffreys"] = "kl",
    layers: Literal["last", "all"] = "last",
    first_weight: float = 1.0,
    decay: float = 0.7,
    contrastive_weight: float = 0.0,
    margin: float = 1.0,
) -> list[Stage]:
    """l = PKT's divergence, by the cosine kernel alone."""

    def unlike(pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.pkt(student, teacher, divergence=divergence)

    how = Matched(layers, first_weight, decay, contrastive_weight=contrastive_weight, margin=margin)
    return [_matching(setup, how, unlike)]


@method("match-hint", revision=1, label_free=True)
def match_hint(
    setup: Setup,
    layers: Literal["last", "all"] = "last",
    first_weight: float = 1.0,
    decay: float = 0.7,
    contrastive_weight: float = 0.0,
    margin: float = 1.0,
) -> list[Stage]:
    """l = 1/B sum_b ||W s_b - t_b||^2, W a linear map of the student's layer, without bias, trained with the student.

    Of maps it is a 1x1 convolution.
    """
    how = Matched(layers, first_weight, decay, contrastive_weight=contrastive_weight, margin=margin)
    student, teacher = _widths(setup.student), _widths(setup.teacher_network())
    sizes = [(s == INNER, student[s], teacher[t]) for s, t in how.pairs()]
    maps = setup.build("maps", lambda: nn.ModuleList(_linear(*size) for size in sizes))

    def unlike(pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.hint(maps[pair](student), teacher) * teacher[0].numel()

    return [_matching(setup, how, unlike, maps)]


@method("match-mkt", revision=1, label_free=True)
def match_mkt(
    setup: Setup,
    norm: Literal["l2", "l1"] = "l2",
    normalised: bool = True,
    layers: Literal["last", "all"] = "last",
    first_weight: float = 1.0,
    decay: float = 0.7,
    contrastive_weight: float = 0.0,
    margin: float = 1.0,
) -> list[Stage]:
    """l = the difference of the images' distances within the batch (MKT, Yu et al. 2019)."""

    def unlike(pair: int, student: Tensor, teacher: Tensor) -> Tensor:
        return losses.relative_distances(student, teacher, norm, normalised)

    how = Matched(layers, first_weight, decay, contrastive_weight=contrastive_weight, margin=margin)
    return [_matching(setup, how, unlike)]


@method("contrastive", revision=1, needs_teacher=False)
def contrastive(setup: Setup, margin: float = 1.0) -> list[Stage]:
    """L = L_pairs: images of one class near each other in the embedding, those of others a margin apart."""

    def objective(batch: Batch) -> Losses:
        return {"pairs": losses.pairs_of_classes(present(batch.student.embedding), batch.labels, margin)}

    return [_of_features(setup, objective)]


@method("distill", revision=1, label_free=True)
def distill(setup: Setup, temperature: float = 2.0) -> list[Stage]:
    """L = -1/B sum_b sum_c p_T^T log p_S^T: the teacher's softened answers alone, neither labels nor T^2."""

    def objective(batch: Batch) -> Losses:
        answers = present(batch.student.logits), present(batch.teacher.logits)
        return {"soft": losses.soft_cross_entropy(*answers, temperature)}

    return [setup.training(objective, teacher_depth="logits")]


# -- layers ------------------------------------------------------------------------------------------------


def layers_of(network: Network, acts: Activations) -> list[Tensor]:
    """The first three stages of a forward, a residual network's pooled, and the embedding."""
    maps = acts.stages[:INNER]
    if not network.embedding_modules():  # nothing but pooling stands between its last map and the embedding
        maps = [pooled(m, min(side, m.shape[2]), min(side, m.shape[3])) for m, side in zip(maps, SIDES, strict=True)]
    return [*maps, present(acts.embedding)]


def _widths(network: Network) -> list[int]:
    return [*network.stage_widths[:INNER], network.embedding_width]


def _linear(flat: bool, inputs: int, outputs: int) -> nn.Module:
    return nn.Linear(inputs, outputs, bias=False) if flat else nn.Conv2d(inputs, outputs, 1, bias=False)


def _matching(setup: Setup, how: Matched, unlike: Unlike, maps: nn.ModuleList | None = None) -> Stage:
    """The stage in which layers are matched; its history has the last layer's term, of weight 1 unless `balanced`."""
    student, teacher = setup.student, setup.teacher_network()

    def objective(batch: Batch) -> Losses:
        ours, theirs = layers_of(student, batch.student), layers_of(teacher, batch.teacher)
        (last, *inner) = [unlike(n, ours[s], theirs[t]) for n, (s, t) in enumerate(how.pairs())]
        of_last, of_inner = how.weights(batch.epoch)
        terms: Losses = {"last": of_last * last}
        if inner:
            terms["inner"] = of_inner * sum(inner, start=torch.zeros_like(last))
        if how.contrastive_weight:
            pairs = losses.pairs_of_classes(present(batch.student.embedding), batch.labels, how.margin)
            terms["pairs"] = how.contrastive_weight * pairs
        return terms

    return _of_features(setup, objective, maps, teacher_depth="embedding")


def _of_features(
    setup: Setup,
    objective: Callable[[Batch], Losses],
    maps: nn.ModuleList | None = None,
    teacher_depth: Literal["embedding"] | None = None,
) -> Stage:
    """A stage by the recipe in which all but the classifier learns, and maps with it."""
    modules: dict[str, nn.Module] = {} if maps is None else {"maps": maps}
    return setup.training(
        objective,
        modules=modules,
        trainable=[*setup.student.trunk("embedding"), *modules.values()],
        student_depth="embedding",
        teacher_depth=teacher_depth,
    )
