"""Losses on distributions of activations: maximum mean discrepancy between the channels of two maps."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.errors import unknown
from kdnb.losses.common import loss, squared_distances, to_smaller


@loss
def mmd(
    student_feature: Tensor, teacher_feature: Tensor, kernel: Literal["linear", "polynomial", "gaussian"]
) -> Tensor:
    """MMD^2 between the channels of two maps, mean over images (Huang and Wang 2017).

    Per image the samples are the channels: t_1..t_n of the teacher, s_1..s_m of the student, each flattened
    over its positions and L2-normalised (the larger map is average-pooled first).  Biased estimator:

        MMD^2 = 1/n^2 sum k(t, t') + 1/m^2 sum k(s, s') - 2/(nm) sum k(t, s)

    linear       k(a, b) = a'b, so that MMD^2 = ||mean t - mean s||^2
    polynomial   k(a, b) = (a'b)^2
    gaussian     k(a, b) = sum_l exp(-||a - b||^2 / h_l), h_l = d 2^(l-2), l = 0..4, where d is
                 the mean squared distance between different samples of both sets together, per image, and a
                 constant in the gradient
    """
    if kernel not in ("linear", "polynomial", "gaussian"):
        raise unknown("kernel of mmd", kernel, ["linear", "polynomial", "gaussian"])
    student, teacher = to_smaller(student_feature, teacher_feature)
    s, t = (
        F.normalize(student.flatten(2), dim=2),
        F.normalize(teacher.flatten(2), dim=2),
    )  # [B, m, HW], [B, n, HW]
    if kernel == "linear":
        return (t.mean(1) - s.mean(1)).square().sum(1).mean()
    if kernel == "polynomial":
        within = (t @ t.mT).square().mean((1, 2)) + (s @ s.mT).square().mean((1, 2))
        return (within - 2 * (t @ s.mT).square().mean((1, 2))).mean()
    within_t, within_s, between = squared_distances(t, t), squared_distances(s, s), squared_distances(t, s)
    count = t.shape[1] + s.shape[1]
    pairs = within_t.sum((1, 2)) + within_s.sum((1, 2)) + 2 * between.sum((1, 2))
    # Distances of unit vectors are rounded at some 1e-7: a floor keeps equal channels from being told apart.
    spread = (pairs / (count**2 - count)).detach().clamp_min(1e-4)
    return (_gaussians(within_t, spread) + _gaussians(within_s, spread) - 2 * _gaussians(between, spread)).mean()


def _gaussians(squared: Tensor, spread: Tensor) -> Tensor:
    """Mean over pairs of the sum of five Gaussians: squared distances [B, n, m], spread [B] -> [B]."""
    scaled = squared / spread[:, None, None]
    return torch.stack([torch.exp(-scaled / 2.0**shift) for shift in range(-2, 3)]).sum(0).mean((1, 2))
