"""Retrieval as a measurement: the training images as database, the test images as queries, by the embeddings."""

from __future__ import annotations

from kdnb.analysis.registry import Found, Subject, measure


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
    import torch

    from kdnb.evaluation.retrieval import retrieval

    assert subject.training is not None
    queries, labels = subject.student.outputs.embeddings, subject.training.labels
    known = subject.student.over(subject.training).outputs.embeddings
    database = torch.from_numpy(known).to(labels.device)  # where it is, the ranking is done
    found = {
        f"{name}_{distance}": value
        for distance in ("euclidean", "cosine")
        for name, value in retrieval(
            queries,
            subject.labels,
            database,
            labels,
            distance,  # type: ignore[arg-type]
            at=min(100, len(labels)),
        ).items()
    }
    return {}, found
