"""Sparse codes of pixels over a dictionary of atoms, and the labels that they give (Tran et al. 2020, SRM).

A pixel is the vector of all channels at one position of a map: a map [B, C, H, W] has P = B H W of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdnb.errors import KdnbError
from kdnb.losses.common import exactly, full


def sparse_code(features: Tensor, dictionary: Tensor, offset: Tensor, keep: int) -> Tensor:
    """Codes [P, M] of pixels [P, C]: k = sigmoid(features @ dictionary + offset), all but the `keep` largest put to 0.

    `dictionary` [C, M] holds the atoms, `offset` is one number for all of them; entries that tie with the `keep`-th
    largest of their row stay.  Gradients flow through the entries that stay, none through which these are.  In
    float32 (or float64): in less, sigmoids tie where they differ.
    """
    if dictionary.dim() != 2 or features.dim() != 2 or features.shape[1] != dictionary.shape[0]:
        raise KdnbError(
            f"A code needs pixels [P, C] and atoms [C, M]; it was given {tuple(features.shape)} and "
            f"{tuple(dictionary.shape)}."
        )
    if not 1 <= keep <= dictionary.shape[1]:
        raise KdnbError(f"A code of {dictionary.shape[1]} atoms keeps at least 1 and at most all of them, not {keep}.")
    with exactly(features):
        code = torch.sigmoid(full(features) @ full(dictionary) + full(offset))
        threshold = code.detach().topk(keep, dim=1).values[:, -1:]
        return code * (code >= threshold)


def pixel_labels(code: Tensor) -> Tensor:
    """The atom that describes each pixel best: codes [P, M] -> int64 [P], the first of equally large entries."""
    return code.argmax(dim=1)
