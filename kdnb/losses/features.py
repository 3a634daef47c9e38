"""Losses on maps [B, C, H, W]: the student's are brought to resemble the teacher's, place by place or as
products of layers.  Losses over layers take lists and sum.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.losses.common import layers, loss, need_same_shape, pooled, to_smaller


@loss
def hint(student_feature: Tensor, teacher_feature: Tensor) -> Tensor:
    """mean (F_S - F_T)^2 over everything; equal shapes (Romero et al. 2015, FitNets)."""
    need_same_shape("hint", student_feature, teacher_feature)
    return F.mse_loss(student_feature, teacher_feature)


@loss
def attention(student_features: list[Tensor], teacher_features: list[Tensor]) -> Tensor:
    """Sum over layers of mean_{b,u} (a_S - a_T)^2 (Zagoruyko and Komodakis 2017).

    a is the map of 1/C sum_c F_c^2 over the positions u, L2-normalised per image.  The larger of two maps
    is average-pooled to the smaller before it is squared; numbers of channels may differ.
    """
    pairs = [to_smaller(student, teacher) for student, teacher in layers(student_features, teacher_features)]
    return torch.stack([F.mse_loss(_attention_map(s), _attention_map(t)) for s, t in pairs]).sum()


def _attention_map(feature: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H W], of length 1 per image."""
    return F.normalize(feature.square().mean(1).flatten(1), dim=1)


@loss
def fsp(student_features: list[Tensor], teacher_features: list[Tensor]) -> Tensor:
    """Flow of the solution procedure (Yim et al. 2017): sum over sections of mean_{b,i,j} (G_T - G_S)^2.

    A section lies between consecutive layers A [B, m, ., .] and E [B, n, ., .] of the list;
    G_ij = 1/(hw) sum_{s,t} A_{i,s,t} E_{j,s,t}, the larger map average-pooled to the smaller.  Student and
    teacher need equal numbers of channels, not equal sizes.
    """
    pairs = layers(student_features, teacher_features, at_least=2)
    terms = []
    for (entry_s, entry_t), (exit_s, exit_t) in pairwise(pairs):
        flow_s, flow_t = _flow(entry_s, exit_s), _flow(entry_t, exit_t)
        need_same_shape("fsp", flow_s, flow_t)
        terms.append(F.mse_loss(flow_s, flow_t))
    return torch.stack(terms).sum()


def _flow(entry: Tensor, exit: Tensor) -> Tensor:
    """G [B, m, n] of maps [B, m, ., .] and [B, n, ., .]: one batched product, nothing of size m n h w."""
    entry, exit = to_smaller(entry, exit)
    entry, exit = entry.flatten(2), exit.flatten(2)
    return torch.bmm(entry, exit.mT) / entry.shape[2]


@loss
def overhaul(student_feature: Tensor, teacher_feature: Tensor, margin: Tensor) -> Tensor:
    """OFD's partial L2 (Heo et al. 2019): 1/B sum (s - t')^2 [s > t' or t' > 0], t' = max(t, margin).

    s and t are maps before their ReLU, t average-pooled to the size of s; `margin` [C] holds a negative
    number per channel: where the teacher is silent, the student need only stay below it.
    """
    teacher_feature = pooled(teacher_feature, student_feature.shape[2], student_feature.shape[3])
    need_same_shape("overhaul", student_feature, teacher_feature)
    target = torch.maximum(teacher_feature, margin.detach().view(1, -1, 1, 1))
    counts = (student_feature > target) | (target > 0)
    return ((student_feature - target).square() * counts).sum() / len(student_feature)


@loss
def variational(student_mean: Tensor, variance: Tensor, teacher_feature: Tensor) -> Tensor:
    """VID's negative log-likelihood (Ahn et al. 2019), less a constant: 1/2 mean [(t - m)^2 / v_c + log v_c].

    m is what is expected of the teacher's map t, v [C] the variance of each channel.
    """
    need_same_shape("variational", student_mean, teacher_feature)
    spread = variance.view(1, -1, 1, 1)
    return ((teacher_feature - student_mean).square() / spread + spread.log()).mean() / 2


@loss
def boundary(student_feature: Tensor, teacher_feature: Tensor, margin: float = 1.0) -> Tensor:
    """Activation boundaries (Heo et al. 2019): 1/B sum of squared ways to the teacher's side of zero and a margin in.

    (s + m)^2 where t <= 0 and s > -m; (s - m)^2 where t > 0 and s <= m; maps before their ReLU.
    """
    need_same_shape("boundary", student_feature, teacher_feature)
    fires = teacher_feature > 0
    wrong = torch.where(fires, (margin - student_feature).clamp_min(0), (margin + student_feature).clamp_min(0))
    return wrong.square().sum() / len(student_feature)


def negative_mean(mean: Tensor, deviation: Tensor) -> Tensor:
    """OFD's margins [C]: E[X | X < 0] for X ~ N(mean, deviation^2), from a batch norm's shift and scale [C].

        m - s phi(m/s) / Phi(-m/s)

    and -3 s where X is hardly ever negative, Phi(-m/s) <= 0.001.  No loss: a constant that `overhaul` takes.
    """
    m, s = mean.detach().double(), deviation.detach().double()
    standard = m / s
    share = torch.special.ndtr(-standard)
    density = torch.exp(-standard.square() / 2) / math.sqrt(2 * math.pi)
    return torch.where(share > 1e-3, m - s * density / share, -3 * s).to(mean.dtype)


@loss
def hierarchical_context(student_features: list[Tensor], teacher_features: list[Tensor]) -> Tensor:
    """ReviewKD's HCL (Chen et al. 2021): sum over layers of a weighted mean of squared differences.

    Per layer of height h: the whole map with weight 1, then pooled to l x l for those l of 4, 2, 1 below
    h, with weights 1/2, 1/4, 1/8 in the order used; divided by the sum of the weights.  Equal shapes.
    """
    return torch.stack([_context(s, t) for s, t in layers(student_features, teacher_features)]).sum()


def _context(student: Tensor, teacher: Tensor) -> Tensor:
    need_same_shape("hierarchical_context", student, teacher)
    sides = [side for side in (4, 2, 1) if side < student.shape[2]]
    weights = [0.5**k for k in range(len(sides) + 1)]
    terms = [F.mse_loss(student, teacher)]
    terms += [F.mse_loss(pooled(student, l, l), pooled(teacher, l, l)) for l in sides]
    return torch.stack([w * term for w, term in zip(weights, terms, strict=True)]).sum() / sum(weights)
