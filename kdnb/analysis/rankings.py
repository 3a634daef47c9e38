"""Retrieval as a measurement: the training images as database, the test images as queries, by the embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from kdnb.analysis.registry import Found, Subject, measure

if TYPE_CHECKING:
    from torch import Tensor

DISTANCES: tuple[Literal["euclidean", "cosine"], ...] = ("euclidean", "cosine")


@measure(
    "retrieval",
    metrics=(
        "map_11pt_euclidean",
        "top_k_published_euclidean",
        "map_euclidean",
        "precision_at_k_euclidean",
        "map_11pt_cosine",
        "top_k_published_cosine",
        "map_cosine",
        "precision_at_k_cosine",
    ),
    needs=("training",),
)
def retrieval_by_embeddings(subject: Subject) -> Found:
    """Both distances, as published and by the textbook (`kdnb.evaluation.retrieval`); none of the images augmented.

    Precision is among the first 100, or as many as a small database has.
    """
    from kdnb.evaluation.retrieval import retrieval

    queries, query_labels, database, labels = _embedded(subject)
    found = {
        f"{name}_{distance}": value
        for distance in DISTANCES
        for name, value in retrieval(
            queries, query_labels, database, labels, distance, at=min(100, len(labels))
        ).items()
    }
    return {}, found


@measure("recall_levels", arrays=("recall_levels_euclidean", "recall_levels_cosine"), needs=("training",))
def precision_by_recall(subject: Subject) -> Found:
    """How precision falls with recall: the eleven levels behind the published mAP, by both distances."""
    from kdnb.evaluation.retrieval import recall_levels

    embedded = _embedded(subject)
    return {f"recall_levels_{distance}": np.array(recall_levels(*embedded, distance)) for distance in DISTANCES}, {}


def _embedded(subject: Subject) -> tuple[np.ndarray, np.ndarray, Tensor, Tensor]:
    """Queries and their labels, the database and its: where it lies, the ranking is done."""
    import torch

    assert subject.training is not None
    labels = subject.training.labels
    known = subject.student.over(subject.training).outputs.embeddings
    return subject.student.outputs.embeddings, subject.labels, torch.from_numpy(known).to(labels.device), labels
