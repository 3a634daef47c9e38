"""Losses on how the images of a batch lie to each other.  Student and teacher may differ in width.

Embeddings are [B, D]; maps [B, C, H, W] are flattened.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.errors import unknown
from kdnb.losses.common import full, layers, loss, need_same_shape, squared_distances


@loss
def similarity(student_features: list[Tensor], teacher_features: list[Tensor]) -> Tensor:
    """Sum over layers of ||G_T - G_S||_F^2 / B^2 (Tung and Mori 2019).

    G = Q Q' [B, B] of the flattened maps Q [B, CHW], each row L2-normalised.
    """
    pairs = layers(student_features, teacher_features)
    return torch.stack([F.mse_loss(_gram(s), _gram(t)) for s, t in pairs]).sum()  # each a mean over B^2 entries


def _gram(feature: Tensor) -> Tensor:
    flat = feature.flatten(1)
    return F.normalize(flat @ flat.mT, dim=1)


def linear_cka(x: Tensor, y: Tensor, unbiased: bool = False) -> Tensor:
    """Linear centred kernel alignment of two representations of the same N things (Kornblith et al. 2019).

        HSIC(K, L) / (HSIC(K, K) HSIC(L, L))^(1/2),   K = x x', L = y y',   x [N, D1], y [N, D2] -> a scalar

    With `unbiased`, HSIC_1 of Song et al. 2012 stands in numerator and denominators (N > 3): the biased value of
    independent features grows with D / N.  0 where one side does not vary.  Blocked: nothing of size N x N is kept.
    """
    x, y = (full(t).flatten(1) for t in (x, y))
    x, y = x - x.mean(0), y - y.mean(0)
    hsic = _hsic_unbiased if unbiased else _product_of_grams
    scale = (hsic(x, x) * hsic(y, y)).clamp_min(0)
    varies = scale > 0
    return torch.where(varies, hsic(x, y), 0.0) / torch.where(varies, scale, 1.0).sqrt()


def _hsic_unbiased(x: Tensor, y: Tensor) -> Tensor:
    """HSIC_1 but for a factor that depends on N alone:

    tr(K L) + (1'K1)(1'L1) / ((N - 1)(N - 2)) - 2/(N - 2) 1'KL1, K and L with zero diagonals.
    """
    n = len(x)
    diagonal_x, diagonal_y = x.square().sum(1), y.square().sum(1)
    rows_x, rows_y = x @ x.sum(0) - diagonal_x, y @ y.sum(0) - diagonal_y
    trace = _product_of_grams(x, y) - (diagonal_x * diagonal_y).sum()
    return trace + rows_x.sum() * rows_y.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (rows_x * rows_y).sum()


def _product_of_grams(x: Tensor, y: Tensor, block: int = 1024) -> Tensor:
    """sum_ij (x x')_ij (y y')_ij = ||x'y||_F^2, by whichever of the two is smaller."""
    if x.shape[1] * y.shape[1] <= len(x) ** 2:
        return (x.mT @ y).square().sum()
    parts = zip(x.split(block), y.split(block), strict=True)
    return torch.stack([((part_x @ x.mT) * (part_y @ y.mT)).sum() for part_x, part_y in parts]).sum()


@loss
def pkt(
    student_embedding: Tensor, teacher_embedding: Tensor, *, divergence: Literal["kl", "jeffreys"] = "kl"
) -> Tensor:
    """Probabilistic knowledge transfer (Passalis and Tefas 2018): a KL divergence of the batch's geometry.

    1/B^2 sum_ij p_ij log((p_ij + e)/(q_ij + e)), where s_ij = (cos(u_i, u_j) + 1)/2 and rows divided by their
    sums are q (student) and p (teacher).  The diagonal counts; e = 1e-7, which also keeps the direction of a
    zero vector finite.  divergence = "jeffreys": 1/B^2 sum_ij (p_ij - q_ij)(log p_ij - log q_ij), as in the code of
    information flow modelling, whose "PKT" may be this one.
    """
    if divergence not in ("kl", "jeffreys"):
        raise unknown("divergence of pkt", divergence, ["kl", "jeffreys"])
    if divergence == "jeffreys":
        return _jeffreys(_cosine_kernel(student_embedding), _cosine_kernel(teacher_embedding), diagonal=True)
    epsilon = 1e-7
    q = _rows(_cosine_kernel(student_embedding, epsilon))
    p = _rows(_cosine_kernel(teacher_embedding, epsilon))
    return (p * ((p + epsilon) / (q + epsilon)).log()).mean()


@loss
def relative_distances(
    student_embedding: Tensor, teacher_embedding: Tensor, norm: Literal["l2", "l1"] = "l2", normalised: bool = False
) -> Tensor:
    """Metric learning's relative teacher (MKT; Yu et al. 2019): 1/B^2 sum_ij (d^S_ij - d^T_ij)^2, or |...| for "l1".

    d_ij are Euclidean distances within the batch, of embeddings as they are or, `normalised`, of length 1.
    """
    if norm not in ("l2", "l1"):
        raise unknown("norm of relative_distances", norm, ["l2", "l1"])
    gap = _distances(student_embedding, normalised) - _distances(teacher_embedding, normalised)
    return gap.square().mean() if norm == "l2" else gap.abs().mean()


def _distances(embedding: Tensor, normalised: bool) -> Tensor:
    """||e_i - e_j|| [B, B]; of equal vectors the distance is a constant, since a root has no slope at 0."""
    flat = embedding.flatten(1)
    flat = F.normalize(flat, dim=1) if normalised else flat
    return squared_distances(flat, flat).clamp_min(1e-12).sqrt()


@loss
def pairs_of_classes(student_embedding: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """Contrastive supervision (Hadsell, Chopra and LeCun 2006), a mean over the pairs i != j of the batch.

    1/2 d_ij^2 where the labels are equal, 1/2 max(0, m - d_ij)^2 where they are not; d_ij are Euclidean distances.
    """
    distance = _distances(student_embedding, normalised=False)
    size = len(labels)
    apart = (margin - distance).clamp_min(0).square()
    cost = torch.where(labels[:, None] == labels, distance.square(), apart) / 2
    return (cost * (1 - torch.eye(size, dtype=cost.dtype, device=cost.device))).sum() / max(1, size * (size - 1))


@loss
def correlation(student_embedding: Tensor, mapped_teacher: Tensor) -> Tensor:
    """Correlation congruence (Peng et al. 2019) as the standard benchmark has it: mean_b <d_b, d_{b+1}>.

    d_b = |u_b - v_b|, place by place, of image b in the batch; both sides were mapped to one space by maps that learn.
    """
    need_same_shape("correlation", student_embedding, mapped_teacher)
    apart = (student_embedding - mapped_teacher).abs()
    return (apart[:-1] * apart[1:]).sum() / max(1, len(apart) - 1)


@loss
def rkd(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    distance_weight: float = 25,
    angle_weight: float = 50,
) -> Tensor:
    """Relational distillation (Park et al. 2019): w_d l_d + w_a l_a, both by the Huber loss, delta = 1.

    l_d: mean over B^2 pairs on the distances d_ij, each network's divided by their mean over i != j;
    l_a: mean over B^3 triples on <v_ij, v_ik>, v_ij = (e_j - e_i)/d_ij.
    """
    student_distance, student_angle = _pairs_and_triples(student_embedding.flatten(1))
    teacher_distance, teacher_angle = _pairs_and_triples(teacher_embedding.flatten(1))
    distance = F.smooth_l1_loss(student_distance, teacher_distance)
    angle = F.smooth_l1_loss(student_angle, teacher_angle)
    return distance_weight * distance + angle_weight * angle


def _pairs_and_triples(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Mean-normalised distances [B, B] and cosines [B, B, B] of the differences."""
    size = len(embedding)
    difference = embedding[None, :, :] - embedding[:, None, :]
    length = difference.square().sum(2).clamp_min(1e-12).sqrt()
    direction = difference / length[:, :, None]
    distance = length * (1 - torch.eye(size, dtype=length.dtype, device=length.device))
    mean = distance.sum() / max(1, size * (size - 1))
    return distance / mean.clamp_min(1e-12), direction @ direction.mT


@loss
def information_flow(
    student_embedding: Tensor, teacher_embedding: Tensor, reading: Literal["code", "paper"] = "code"
) -> Tensor:
    """Hybrid-kernel divergence (Passalis, Tzelepi and Tefas 2020): D_cosine + D_T-student.

    Kernels over the batch are turned into conditional probabilities P (rows divided by their sums), and
    compared by Jeffreys' divergence sum (P_t - P_s)(log P_t - log P_s).

    reading = "code": T kernel 1/(1 + ||a - b||), diagonal kept, mean over B^2 (the published code, and by all
    signs the published numbers); "paper": T kernel 1/(1 + ||a - b||^2), i != j alone, plain sums.
    """
    if reading not in ("code", "paper"):
        raise unknown("reading of information_flow", reading, ["code", "paper"])
    t_kernel = _t_kernel if reading == "code" else _squared_t_kernel
    terms = [
        _jeffreys(kernel(student_embedding.flatten(1)), kernel(teacher_embedding.flatten(1)), reading == "code")
        for kernel in (_cosine_kernel, t_kernel)
    ]
    return torch.stack(terms).sum()


def _jeffreys(student: Tensor, teacher: Tensor, diagonal: bool) -> Tensor:
    """Jeffreys' divergence of two kernel matrices [B, B]: mean with the diagonal, sum without."""
    left_out = torch.eye(len(student), dtype=torch.bool, device=student.device) & (not diagonal)
    floor = 1e-30  # opposite vectors have kernel 0 up to rounding: a logarithm needs more
    p_s, p_t = (_rows(k.clamp_min(floor).masked_fill(left_out, floor)) for k in (student, teacher))
    divergence = ((p_t - p_s) * (p_t.log() - p_s.log())).masked_fill(left_out, 0)
    return divergence.mean() if diagonal else divergence.sum()


def _rows(kernel: Tensor) -> Tensor:
    return kernel / kernel.sum(1, keepdim=True)


def _cosine_kernel(embedding: Tensor, epsilon: float = 1e-6) -> Tensor:
    """(cos + 1)/2 in [0, 1]; the length is made `epsilon` longer, so that zero vectors are no exception."""
    flat = embedding.flatten(1)
    unit = flat / (torch.linalg.vector_norm(flat, dim=1, keepdim=True) + epsilon)
    return (unit @ unit.mT + 1) / 2


def _t_kernel(embedding: Tensor) -> Tensor:
    return 1 / (1 + (squared_distances(embedding, embedding) + 1e-6).sqrt())


def _squared_t_kernel(embedding: Tensor) -> Tensor:
    return 1 / (1 + squared_distances(embedding, embedding))
