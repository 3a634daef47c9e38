"""How a network lays out the classes: mean logits by class, and embeddings drawn in the plane."""

from __future__ import annotations

import numpy as np

from kdnb.analysis.registry import Found, Subject, measure
from kdnb.errors import KdnbError
from kdnb.randomness import keyed_seed

#: scikit-learn's default, which the figures of the papers take.
PERPLEXITY = 30.0
#: Sums of several threads' parts may depend on who comes first, and t-SNE amplifies the last bit; and where others want
#: the cores, threads that wait for each other at every step take many times as long as one.
THREADS = 1
#: Mebibytes of pairwise distances at a time.
WORKING_MEMORY = 128


def class_means(logits: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Row c of the [num_classes, K] result is the mean raw logit vector of the images of class c (SLKD, Fig. 6: M).

    `logits` [N, K], `labels` [N].  Raises KdnbError where a class has no image, since it has no mean then.
    """
    counts = np.bincount(labels, minlength=num_classes)
    if (counts == 0).any():
        empty = ", ".join(str(c) for c in np.flatnonzero(counts == 0))
        raise KdnbError(f"No image is of class {empty}; its mean logits are not defined.")
    sums = np.zeros((num_classes, logits.shape[1]))
    np.add.at(sums, labels, logits)
    return sums / counts[:, None]


def gaps_by_class(student_means: np.ndarray, teacher_means: np.ndarray) -> np.ndarray:
    """|M_S - M_T| in raw logits, [K, K], the diagonal set to 0 (SLKD, Fig. 6)."""
    gaps = np.abs(student_means.astype(np.float64) - teacher_means.astype(np.float64))
    np.fill_diagonal(gaps, 0.0)
    return gaps


def logit_gap(student_means: np.ndarray, teacher_means: np.ndarray) -> tuple[float, float]:
    """Mean and maximum of `gaps_by_class`.

    The mean is over all K * K entries, the zeros of the diagonal included: so does the notebook of mdistiller whose
    numbers are the figure's reference.  It divides by 3 for the colours; that is the plot's affair, not done here.
    """
    gaps = gaps_by_class(student_means, teacher_means)
    return float(gaps.mean()), float(gaps.max())


def plane(embeddings: np.ndarray, seed: int) -> np.ndarray:
    """Embeddings [N, D] in the plane, [N, 2]: scikit-learn's t-SNE with its defaults (SLKD, Fig. 5).

    Perplexity 30, or a third of the neighbours that each of a few images has.  The same seed gives the same plane, bit
    for bit, on one machine.  Raises KdnbError for vectors that have no neighbourhoods: fewer than two, of fewer than
    two numbers, not finite, or all alike (a network that has collapsed).
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    vectors = np.ascontiguousarray(embeddings, np.float32)
    if min(vectors.shape) < 2:
        raise KdnbError(
            f"t-SNE needs two vectors of two numbers at least, not {vectors.shape[0]} x {vectors.shape[1]}."
        )
    spread, size = vectors.std(axis=0, dtype=np.float64).max(), np.abs(vectors).max()
    if not np.isfinite(spread) or spread <= 1e-6 * size:
        raise KdnbError("t-SNE finds no neighbourhoods: the embeddings are all alike, or not finite.")
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    with threadpool_limits(THREADS):
        drawn = TSNE(perplexity=perplexity, random_state=keyed_seed(seed, "plane") % 2**32).fit_transform(vectors)
    return np.asarray(drawn)


def separability(embeddings: np.ndarray, labels: np.ndarray) -> float:
    """How well the embeddings [N, D] keep the classes apart: the mean silhouette, in -1..1.

    In the embedding space itself, not in the plane that t-SNE makes of it, and by Euclidean distance, the one that
    t-SNE sees.  Raises KdnbError unless there are two classes at least, and fewer than images.
    """
    from sklearn import config_context
    from sklearn.metrics import silhouette_score
    from threadpoolctl import threadpool_limits

    classes = len(np.unique(labels))
    if not 2 <= classes < len(labels):
        raise KdnbError(f"{len(labels)} images of {classes} classes have no silhouette.")
    with threadpool_limits(THREADS), config_context(working_memory=WORKING_MEMORY):
        return float(silhouette_score(embeddings, labels, metric="euclidean"))


@measure(
    "logits_by_class",
    arrays=("student_means", "teacher_means"),
    metrics=("logit_gap", "logit_gap_max"),
    needs=("teacher",),
)
def logits_by_class(subject: Subject) -> Found:
    """The mean logits of student and teacher by class, both [K, K], and how far they are apart (SLKD, Fig. 6)."""
    assert subject.teacher is not None
    student, teacher = (
        class_means(network.outputs.logits, subject.labels, subject.num_classes)
        for network in (subject.student, subject.teacher)
    )
    mean, largest = logit_gap(student, teacher)
    means = {"student_means": small(student), "teacher_means": small(teacher)}
    return means, {"logit_gap": mean, "logit_gap_max": largest}


@measure("plane", arrays=("plane", "labels"), metrics=("separability",))
def embeddings_in_the_plane(subject: Subject) -> Found:
    """The student's embeddings of all test images in the plane [N, 2], with their labels [N] (SLKD, Fig. 5)."""
    embeddings = subject.student.outputs.embeddings
    labels = subject.labels.astype(np.min_scalar_type(subject.num_classes - 1))
    arrays = {"plane": small(plane(embeddings, subject.seed)), "labels": labels}
    return arrays, {"separability": separability(embeddings, subject.labels)}


def small(array: np.ndarray) -> np.ndarray:
    """The array in half precision, finer than a plot shows; in float32 where it is too large for that."""
    limit = np.finfo(np.float16).max
    return array.astype(np.float16 if np.abs(array).max() < limit else np.float32)
