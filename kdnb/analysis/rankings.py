"""Retrieval as a measurement: the training images as database, the test images as queries, by the embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from kdnb.analysis.registry import Found, Subject, measure

if TYPE_CHECKING:
    from kdnb.evaluation.retrieval import Ranked

Distance = Literal["euclidean", "cosine"]
DISTANCES: tuple[Distance, ...] = ("euclidean", "cosine")


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
    columns=("average_precision_euclidean", "average_precision_cosine"),
    needs=("training",),
)
def retrieval_by_embeddings(subject: Subject) -> Found:
    """Both distances, as published and by the textbook (`kdnb.evaluation.retrieval`); none of the images augmented.

    Precision is among the first 100, or as many as a small database has.  Each query's average precision is the
    textbook's.
    """
    found = {distance: _ranked(subject, distance) for distance in DISTANCES}
    columns = {f"average_precision_{distance}": ranked.average_precision.numpy() for distance, ranked in found.items()}
    return columns, {f"{n}_{distance}": v for distance, ranked in found.items() for n, v in ranked.values.items()}


@measure("recall_levels", arrays=("recall_levels_euclidean", "recall_levels_cosine"), needs=("training",))
def precision_by_recall(subject: Subject) -> Found:
    """How precision falls with recall: the eleven levels behind the published mAP, by both distances."""
    return {f"recall_levels_{distance}": np.array(_ranked(subject, distance).levels) for distance in DISTANCES}, {}


def _ranked(subject: Subject, distance: Distance) -> Ranked:
    """What the ranking by a distance tells, made once: where the training images lie, the ranking is done."""
    import torch

    from kdnb.evaluation.retrieval import averages

    made = f"ranked {distance}"
    if made not in subject.shared:
        assert subject.training is not None
        labels = subject.training.labels
        database = torch.from_numpy(subject.student.over(subject.training).outputs.embeddings).to(labels.device)
        queries = subject.student.outputs.embeddings
        at = min(100, len(labels))
        subject.shared[made] = averages(queries, subject.labels, database, labels, distance, at)
    ranked: Ranked = subject.shared[made]
    return ranked
