"""Retrieval by embeddings: how well the images of a class stand before all others, as published and by the textbook.

A query ranks the whole database by distance; what has its label is relevant.  P(k) is the precision among the first k,
r_m the rank of the m-th relevant image, R their number.

The published metric is that of the code of information flow modelling (Passalis, Tzelepi and Tefas 2020).  It means to
interpolate, P~(k) = max_{k' >= k} P(k'), but looks only so far as there are queries in the evaluation's chunk: from
k to b, where b = `chunk`, and what is left in the last one.  Its "top-100 precision" is the best from rank 100 to 128.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.errors import KdnbError, unknown
from kdnb.losses.common import full, squared_distances

Vectors = Tensor | np.ndarray

#: Levels of recall as the published code has them: in float64, steps of 0.1.
LEVELS = np.arange(11) * 0.1
#: What `retrieval` tells, in the order in which it is summed.
VALUES = ("map_11pt", "top_k_published", "map", "precision_at_k")
#: Queries that are ranked at once; no number depends on it.
BLOCK = 128


def retrieval(
    queries: Vectors,
    query_labels: Vectors,
    database: Vectors,
    labels: Vectors,
    distance: Literal["euclidean", "cosine"] = "euclidean",
    at: int = 100,
    chunk: int = 128,
) -> dict[str, float]:
    """Ranks the database [N, D] for every query [Q, D] and averages over the queries; all values in 0..1.

    - `map_11pt`: 1/11 [P~(1) + sum over recalls 0.1 to 1.0 of P~ at the first rank of the nearest recall];
    - `top_k_published`: P~(`at`);
    - `map`: 1/R sum_m P(r_m), the textbook's average precision;
    - `precision_at_k`: P(`at`).

    `chunk` is the published metric's window and nothing else.  Of equal distances the database's order decides.
    Raises KdnbError where a query's label is not in the database, or the database has fewer than `at` images.
    """
    return averages(queries, query_labels, database, labels, distance, at, chunk).values


def recall_levels(
    queries: Vectors,
    query_labels: Vectors,
    database: Vectors,
    labels: Vectors,
    distance: Literal["euclidean", "cosine"] = "euclidean",
    chunk: int = 128,
) -> list[float]:
    """The eleven precisions whose mean is `map_11pt`: P~ at the first rank of recalls 0, 0.1, ..., 1.0."""
    return averages(queries, query_labels, database, labels, distance, 1, chunk).levels


@dataclass(frozen=True)
class Ranked:
    """What one ranking tells: the `values` of `retrieval`, the `levels` of `recall_levels`, and behind `map` the
    textbook's average precision of every query, [Q] in 0..1.
    """

    values: dict[str, float]
    levels: list[float]
    average_precision: Tensor


@torch.no_grad()
def averages(
    queries: Vectors,
    query_labels: Vectors,
    database: Vectors,
    labels: Vectors,
    distance: Literal["euclidean", "cosine"] = "euclidean",
    at: int = 100,
    chunk: int = 128,
) -> Ranked:
    """What one ranking tells; arguments and errors are those of `retrieval`."""
    if distance not in ("euclidean", "cosine"):
        raise unknown("distance", distance, ["euclidean", "cosine"])
    queries, query_labels, database, labels = map(torch.as_tensor, (queries, query_labels, database, labels))
    _check(queries, query_labels, database, labels, at, chunk)
    query_labels, labels = query_labels.to(database.device).long(), labels.to(database.device).long()
    queries, database = _prepared(queries.to(database.device), database, distance)
    counts = torch.bincount(labels, minlength=int(query_labels.max()) + 1)
    if (counts[query_labels] == 0).any():
        missing = sorted(set(query_labels[counts[query_labels] == 0].tolist()))
        raise KdnbError(f"Retrieval: no image in the database has the label {', '.join(map(str, missing))} of a query.")
    wanted = _relevant_at_levels(counts)
    numbers = torch.arange(len(queries), device=database.device)
    windows = torch.clamp(len(queries) - numbers // chunk * chunk, max=chunk)
    sums = torch.zeros(len(VALUES) + len(LEVELS), dtype=torch.float64, device=database.device)
    of_queries = []
    for part in numbers.split(BLOCK):
        order = squared_distances(queries[part], database).sort(dim=1, stable=True).indices
        relevant = labels[order] == query_labels[part, None]
        summed, average = _of_rankings(relevant, windows[part], wanted[query_labels[part]], at)
        sums += summed
        of_queries.append(average)
    found: list[float] = (sums / len(queries)).tolist()
    return Ranked(dict(zip(VALUES, found, strict=False)), found[len(VALUES) :], torch.cat(of_queries).cpu())


def _of_rankings(relevant: Tensor, windows: Tensor, wanted: Tensor, at: int) -> tuple[Tensor, Tensor]:
    """The values of rankings [B, N], summed, [4 + 11], and each one's average precision [B].

    `wanted` [B, 2, 11] is as `_relevant_at_levels` has it.
    """
    hits = relevant.cumsum(1, dtype=torch.int32)
    ranks = torch.arange(1, relevant.shape[1] + 1, device=relevant.device)
    precision = hits / ranks.double()
    best = _best_within(precision, windows)
    first = relevant[:, 0].long()
    wanted = wanted.gather(1, first[:, None, None].expand(-1, 1, wanted.shape[2])).squeeze(1)
    places = torch.searchsorted(hits, wanted.to(hits.dtype))  # of none the first rank
    average = (precision * relevant).sum(1) / hits[:, -1]
    levels, top = best.gather(1, places), best[:, at - 1]
    single = [levels.mean(1).sum(), top.sum(), average.sum(), precision[:, at - 1].sum()]
    return torch.cat([torch.stack(single), levels.sum(0)]), average


def _best_within(precision: Tensor, windows: Tensor) -> Tensor:
    """P~ [B, N]: the best precision from a rank to the window's end; behind it the precision itself."""
    longest = min(int(windows.max()), precision.shape[1])
    near = precision[:, :longest]
    inside = torch.arange(longest, device=precision.device) < windows[:, None]
    running = near.masked_fill(~inside, -1).flip(1).cummax(1).values.flip(1)
    return torch.cat([torch.where(inside, running, near), precision[:, longest:]], dim=1)


def _relevant_at_levels(counts: Tensor) -> Tensor:
    """How many relevant images must be found at each level of recall: [classes, 2, 11], for R relevant ones.

    The recall m / R that is nearest to the level, in float64, the lower one of equals.  Attainable are m = 0 to R, and
    where the first image is relevant (the second of the two lines) 1 to R.
    """
    table = np.zeros((len(counts), 2, len(LEVELS)), dtype=np.int64)
    for label, count in enumerate(counts.tolist()):
        for first in (0, 1) if count else ():
            attainable = np.arange(first, count + 1)
            table[label, first] = attainable[np.abs(attainable[:, None] / count - LEVELS).argmin(0)]
    return torch.as_tensor(table, device=counts.device)


def _prepared(queries: Tensor, database: Tensor, distance: str) -> tuple[Tensor, Tensor]:
    """Vectors whose Euclidean distances rank as the distance does, in float32 at least."""
    queries, database = full(queries).flatten(1), full(database).flatten(1)
    if distance == "cosine":
        return F.normalize(queries, dim=1), F.normalize(database, dim=1)
    centre = database.mean(0)  # distances stay, and less is lost in their squares
    return queries - centre, database - centre


def _check(queries: Tensor, query_labels: Tensor, database: Tensor, labels: Tensor, at: int, chunk: int) -> None:
    for name, vectors, of in (("queries", queries, query_labels), ("database", database, labels)):
        if vectors.dim() < 2 or len(vectors) == 0 or of.shape != vectors.shape[:1]:
            raise KdnbError(
                f"Retrieval needs vectors with a label each; {name} have {tuple(vectors.shape)}, "
                f"their labels {tuple(of.shape)}."
            )
    if queries.flatten(1).shape[1] != database.flatten(1).shape[1]:
        raise KdnbError(
            f"Retrieval: queries {tuple(queries.shape)} and database {tuple(database.shape)} differ in width."
        )
    if not 1 <= at <= len(database) or chunk < 1:
        raise KdnbError(f"Retrieval: rank {at} in a database of {len(database)}, by chunks of {chunk}, is none.")
