"""Losses: pure functions on tensors, by family.

Every loss gives a scalar and takes the batch first; it is differentiable in the student's arguments and
constant in the teacher's; it computes in float32 (or float64, if that is what it is given), whatever
autocast says; and it holds no step that waits for the device, so that it can be captured in a CUDA graph.
"""

from kdnb.losses.codes import image_prediction, labels_of, pixel_labels, pixel_prediction, reconstruction, sparse_code
from kdnb.losses.contrastive import Contrastive, InBatchContrastive
from kdnb.losses.distributions import mmd
from kdnb.losses.factors import exploration, factor, factor_reconstruction, inheritance
from kdnb.losses.features import (
    attention,
    boundary,
    fsp,
    hierarchical_context,
    hint,
    negative_mean,
    overhaul,
    variational,
)
from kdnb.losses.logits import coupled_kd, cross_entropy, dkd, kd, soft_cross_entropy
from kdnb.losses.relations import (
    correlation,
    information_flow,
    linear_cka,
    pairs_of_classes,
    pkt,
    relative_distances,
    rkd,
    similarity,
)

__all__ = [
    "Contrastive",
    "InBatchContrastive",
    "attention",
    "boundary",
    "correlation",
    "coupled_kd",
    "cross_entropy",
    "dkd",
    "exploration",
    "factor",
    "factor_reconstruction",
    "fsp",
    "hierarchical_context",
    "hint",
    "image_prediction",
    "information_flow",
    "inheritance",
    "kd",
    "labels_of",
    "linear_cka",
    "mmd",
    "negative_mean",
    "overhaul",
    "pairs_of_classes",
    "pixel_labels",
    "pixel_prediction",
    "pkt",
    "reconstruction",
    "relative_distances",
    "rkd",
    "similarity",
    "soft_cross_entropy",
    "sparse_code",
    "variational",
]
