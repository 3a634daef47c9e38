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
    from kdnb.evaluation.retrieval import retrieval

    assert subject.training is not None
    queries, database = subject.student.outputs.embeddings, subject.student.over(subject.training).outputs.embeddings
    labels = subject.training.labels.cpu().numpy()
    found = {
        f"{name}_{distance}": value
        for distance in ("euclidean", "cosine")
        for name, value in retrieval(
            queries,
            subject.labels,
            database,
            labels,
            distance,
            at=min(100, len(labels)),  # type: ignore[arg-type]
        ).items()
    }
    return {}, found
