"""Losses on factors: what an encoder makes of a layer.  Student and teacher need the same shape.

A factor [B, m, H, W] (or any [B, ...]) is flattened and L2-normalised per image to F [B, D].  The reductions are
those of the published code: means over the batch and over the D elements.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.errors import unknown
from kdnb.losses.common import loss, need_same_shape
from kdnb.losses.relations import linear_cka

#: How near two factors are: names that `inheritance` and `exploration` know.
METRICS = ("l1", "l2", "cosine", "partial-l2", "l1+cka", "raw-l2")


@loss
def factor(student_factor: Tensor, teacher_factor: Tensor) -> Tensor:
    """Factor transfer (Kim et al. 2018): mean_{b,d} |F_S - F_T|."""
    student, teacher = _normalised(student_factor, teacher_factor)
    return (student - teacher).abs().mean()


@loss
def factor_reconstruction(told: Tensor, maps: Tensor) -> Tensor:
    """mean |g - f| over everything: how far an auto-encoder's maps g are from those f that it was to tell."""
    need_same_shape("factor_reconstruction", told, maps)
    return (told - maps).abs().mean()


@loss
def inheritance(student_factor: Tensor, teacher_factor: Tensor, metric: str = "l1") -> Tensor:
    """How far a part of the student is from the teacher (Huang et al. 2021, section 3.2); never negative.

    l1           mean_{b,d} |F_S - F_T|
    l2           (mean_{b,d} (F_S - F_T)^2)^(1/2), the root over the whole batch
    cosine       mean_b (1 - <F_S, F_T>)
    partial-l2   as l2, without the elements in which F_S <= F_T <= 0
    l1+cka       as l1
    raw-l2       as l2, of the factors as they are, of whatever length
    """
    if metric == "raw-l2":
        need_same_shape("factors", student_factor, teacher_factor)
        return _root((student_factor - teacher_factor).square().mean())
    student, teacher = _normalised(student_factor, teacher_factor)
    if metric in ("l1", "l1+cka"):
        return (student - teacher).abs().mean()
    if metric == "l2":
        return _root((student - teacher).square().mean())
    if metric == "cosine":
        return (1 - (student * teacher).sum(1)).mean()
    if metric == "partial-l2":
        silent = (student <= teacher) & (teacher <= 0)
        return _root(((student - teacher).square() * ~silent).mean())
    raise unknown("metric of factors", metric, METRICS)


@loss
def exploration(student_factor: Tensor, teacher_factor: Tensor, metric: str = "l1") -> Tensor:
    """How like the teacher the other part still is: what the student minimises to find something of its own.

    l1, l2, partial-l2   the negative of `inheritance`; bounded below, since factors have length 1
    cosine               mean_b |<F_S, F_T>|: orthogonal, not opposite
    l1+cka               linear CKA over the batch of the factors as they are: it knows no length of its own
    raw-l2               the negative too, and bounded by nothing
    """
    if metric == "cosine":
        student, teacher = _normalised(student_factor, teacher_factor)
        return (student * teacher).sum(1).abs().mean()
    if metric == "l1+cka":
        need_same_shape("factors", student_factor, teacher_factor)
        return linear_cka(student_factor, teacher_factor)
    return -inheritance(student_factor, teacher_factor, metric)


def _normalised(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    need_same_shape("factors", student, teacher)
    return F.normalize(student.flatten(1), dim=1), F.normalize(teacher.flatten(1), dim=1)


def _root(square: Tensor) -> Tensor:
    """The square root, with a finite slope where the square is zero."""
    return torch.where(square > 0, square, 1.0).sqrt() * (square > 0)
