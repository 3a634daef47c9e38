"""Inheritance and exploration (Huang et al. 2021): one part of the student says what its teacher says, the other not.

The channels of the student's last map are split in two, once a run.  Each part has an encoder of its own, trained with
the student and thrown away afterwards.  What the first makes of its part is drawn to the teacher's factors (the
encoder of a paraphraser, see `paraphraser.py`); what the second makes of the other is driven from them.  How near
factors are is AT's, FT's or OFD's idea of it: places, factors, or rectified factors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdnb import losses
from kdnb.losses.common import to_smaller
from kdnb.methods.paraphraser import encoder, tapped
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage


@method("ie-ft", revision=2, after=("paraphraser",))
def ie_ft(
    setup: Setup,
    inherited: float = 0.5,
    inheritance_weight: float = 50.0,
    exploration_weight: float = 50.0,
    metric: Literal["l1", "l2", "cosine", "partial-l2", "l1+cka"] = "l1",
    split: Literal["random", "halves"] = "random",
    away_from: Literal["teacher", "inheritance"] = "teacher",
    backbone: Literal["explores", "spared"] = "explores",
    paraphraser_share: float = 0.5,
    paraphraser_epochs: int = 30,
) -> list[Stage]:
    """L = CE + w_i inheritance(F_i, F_T) + w_e exploration(F_e, F_T), factors of length 1 an image.

    `inherited` is the share of channels that inherit; at 1 or 0 there is no other part.  `split`: channels drawn at
    `random`, or the first and the last in `halves`.  `away_from`: the printed equation can be read as driving from the
    student's own `inheritance` factor.  `backbone` "spared": exploration trains its encoder alone, a control.
    """
    choice = Choice(inherited, inheritance_weight, exploration_weight, metric, split, away_from, backbone)
    return _stages(setup, choice, lambda factor: factor)


@method("ie-at", revision=2, after=("paraphraser",))
def ie_at(
    setup: Setup,
    inherited: float = 0.5,
    inheritance_weight: float = 50.0,
    exploration_weight: float = 50.0,
    metric: Literal["l1", "l2", "cosine", "partial-l2", "l1+cka"] = "l1",
    split: Literal["random", "halves"] = "random",
    away_from: Literal["teacher", "inheritance"] = "teacher",
    backbone: Literal["explores", "spared"] = "explores",
    paraphraser_share: float = 0.5,
    paraphraser_epochs: int = 30,
) -> list[Stage]:
    """As `ie-ft`, on the attention of the factors: A = mean_c F_c^2, place by place."""
    choice = Choice(inherited, inheritance_weight, exploration_weight, metric, split, away_from, backbone)
    return _stages(setup, choice, _attention)


@method("ie-od", revision=2, after=("paraphraser",))
def ie_od(
    setup: Setup,
    inherited: float = 0.5,
    inheritance_weight: float = 50.0,
    exploration_weight: float = 50.0,
    metric: Literal["l2", "raw-l2"] = "l2",
    split: Literal["random", "halves"] = "random",
    away_from: Literal["teacher", "inheritance"] = "teacher",
    backbone: Literal["explores", "spared"] = "explores",
    paraphraser_share: float = 0.5,
    paraphraser_epochs: int = 30,
) -> list[Stage]:
    """As `ie-ft`, on rectified factors max(F, 0) and by the root of their mean squared difference.

    `metric` "raw-l2" is the equation to the letter, without normalisation: exploration then is bounded by nothing.
    """
    choice = Choice(inherited, inheritance_weight, exploration_weight, metric, split, away_from, backbone)
    return _stages(setup, choice, F.relu)


@dataclass(frozen=True)
class Choice:
    """The arguments that all of these methods have."""

    inherited: float
    inheritance_weight: float
    exploration_weight: float
    metric: str
    split: str
    away_from: str
    backbone: str


class Parts(nn.Module):
    """Which channels inherit and which explore, in buffers, and an encoder of each part that has any.

    Maps [B, C, H, W] -> the factors [B, m, H, W] of both parts, None for one without channels.
    """

    inheriting: Tensor
    exploring: Tensor

    def __init__(self, width: int, factors: int, inherited: float, split: str) -> None:
        super().__init__()
        order = torch.randperm(width) if split == "random" else torch.arange(width)
        count = round(inherited * width)
        self.register_buffer("inheriting", order[:count].sort().values)
        self.register_buffer("exploring", order[count:].sort().values)
        self.inheritance = encoder(count, factors) if count else None
        self.exploration = encoder(width - count, factors) if count < width else None

    def forward(self, maps: Tensor, spared: bool = False) -> tuple[Tensor | None, Tensor | None]:
        """With `spared`, nothing of the exploring part's gradient reaches the maps."""
        explored = maps.detach() if spared else maps
        return (
            self.inheritance(maps.index_select(1, self.inheriting)) if self.inheritance is not None else None,
            self.exploration(explored.index_select(1, self.exploring)) if self.exploration is not None else None,
        )


def compared(
    parts: tuple[Tensor | None, Tensor | None],
    taught: Tensor,
    choice: Choice,
    seen: Callable[[Tensor], Tensor] = lambda factor: factor,
) -> Losses:
    """The weighted terms of the parts that there are, `inheritance` and `exploration`.

    `taught` are the teacher's factors; where sizes differ, the larger factor is average-pooled.  `seen` is what of a
    factor counts.
    """
    inheriting, exploring = parts
    terms: Losses = {}
    if inheriting is not None:
        pair = [seen(factor) for factor in to_smaller(inheriting, taught)]
        terms["inheritance"] = choice.inheritance_weight * losses.inheritance(pair[0], pair[1], choice.metric)
    if exploring is not None:
        source = inheriting if choice.away_from == "inheritance" and inheriting is not None else taught
        pair = [seen(factor) for factor in to_smaller(exploring, source)]
        terms["exploration"] = choice.exploration_weight * losses.exploration(pair[0], pair[1], choice.metric)
    return terms


def _stages(setup: Setup, choice: Choice, seen: Callable[[Tensor], Tensor]) -> list[Stage]:
    student, teacher = setup.student, setup.teacher_network()
    paraphraser = setup.steps["paraphraser"]["paraphraser"]
    encode = paraphraser.get_submodule("encoder")
    factors = _channels(encode)
    parts = setup.build("parts", lambda: Parts(student.stage_widths[-1], factors, choice.inherited, choice.split))

    def of_factors(batch: Batch, maps: Tensor) -> Losses:
        with torch.no_grad():
            taught = encode(tapped(batch.teacher))
        return compared(parts(maps, spared=choice.backbone == "spared"), taught, choice, seen)

    def objective(batch: Batch) -> Losses:
        return {**setup.supervision(batch), **of_factors(batch, tapped(batch.student))}

    def observe(batch: Batch) -> Losses:
        return pressure(lambda maps: of_factors(batch, maps), tapped(batch.student))

    return [
        setup.training(
            objective,
            modules={"parts": parts, "paraphraser": paraphraser},
            trainable=[student, parts],
            frozen=("paraphraser",),
            teacher_depth=len(teacher.stages),
            observe=observe,
        )
    ]


def pressure(terms_of: Callable[[Tensor], Losses], maps: Tensor) -> Losses:
    """How hard each term pushes the student's maps: the mean over images of the length of its gradient there.

    A term is a mean over the batch; its gradient is told as if the image were alone.
    """
    with torch.enable_grad():
        maps = maps.detach().requires_grad_()
        terms = terms_of(maps)
        reached = {
            name: torch.autograd.grad(t, maps, retain_graph=True, allow_unused=True)[0] for name, t in terms.items()
        }
    zero = maps.new_zeros(())
    return {
        f"{name}_gradient": zero if slope is None else len(maps) * slope.flatten(1).norm(dim=1).mean()
        for name, slope in reached.items()
    }


def _attention(factor: Tensor) -> Tensor:
    return factor.square().mean(1)


def _channels(encode: nn.Module) -> int:
    """How many factors an encoder makes."""
    return [module.out_channels for module in encode.modules() if isinstance(module, nn.Conv2d)][-1]
