"""How much a layer knows of the labels: quadratic mutual information, and the accuracy of the nearest centroid."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from kdnb.errors import KdnbError, unknown
from kdnb.losses.common import squared_distances


def qmi(features: Tensor, labels: Tensor, kernel: Literal["cosine"] = "cosine") -> float:
    """Quadratic mutual information of features [N, ...] and labels [N] (Torkkola 2003), by classes p of J_p images.

        I = V_IN + V_ALL - 2 V_BTW,   K(x, y) = (cos(x, y) + 1) / 2
        V_IN  = 1/N^2 sum_p sum_{k, l in p} K(x_k, x_l)
        V_ALL = 1/N^2 (sum_p (J_p/N)^2) sum_{k, l} K(x_k, x_l)
        V_BTW = 1/N^2 sum_p J_p/N sum_{j in p} sum_k K(x_j, x_k)

    The kernel does not know the features' scale, so layers of different width can be compared.  It is a product, so all
    sums are those of classes: nothing of size N x N is made.  In float64; a vector of zeros is orthogonal to all.
    """
    if kernel != "cosine":
        raise unknown("kernel of qmi", kernel, ["cosine"])
    _check(features, labels)
    members = _members(labels)
    of_class = members @ F.normalize(features.flatten(1).double(), dim=1)  # the sum of each class's directions
    sizes = members.sum(1)
    between = (of_class @ of_class.mT + sizes[:, None] * sizes) / 2  # sum of K over each pair of classes
    share = sizes / len(labels)
    inside, everything = between.trace(), share.square().sum() * between.sum()
    return float((inside + everything - 2 * (share * between.sum(1)).sum()) / len(labels) ** 2)


def nearest_centroid(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """The share of test features [M, ...] whose nearest class mean of the training features [N, ...] is their own's.

    Euclidean, in float64; of equal distances the lowest label's.
    """
    _check(train, train_labels)
    _check(test, test_labels)
    members = _members(train_labels)
    centroids = members @ train.flatten(1).double() / members.sum(1, keepdim=True)
    nearest = squared_distances(test.flatten(1).double() - centroids.mean(0), centroids - centroids.mean(0)).argmin(1)
    return float((train_labels.unique()[nearest] == test_labels).double().mean())


def _members(labels: Tensor) -> Tensor:
    """Which image belongs to which class that there is: float64 [classes, N]."""
    return (labels.unique()[:, None] == labels).double()


def _check(features: Tensor, labels: Tensor) -> None:
    if features.dim() < 2 or len(features) == 0 or labels.shape != features.shape[:1]:
        raise KdnbError(
            f"Features need a label each; these have {tuple(features.shape)}, and their labels {tuple(labels.shape)}."
        )
