"""How sure a network is, and how rightly: NLL, Brier score, ECE; and how far it says what its teacher says.

Everything in float64, from float32 logits; probabilities are softmax at temperature 1.
"""

from __future__ import annotations

import numpy as np

#: Bins of the expected calibration error, of equal width (Guo et al., 2017).
ECE_BINS = 15


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Logits [N, K] -> the logarithms of their softmax, [N, K] in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def nll(log_p: np.ndarray, labels: np.ndarray) -> float:
    """The mean negative log-likelihood of the labels [N], in nats."""
    return float(-log_p[np.arange(len(labels)), labels].mean())


def brier(log_p: np.ndarray, labels: np.ndarray) -> float:
    """The mean squared distance, over all classes, of the probabilities from the label's one-hot vector: in 0..2."""
    p = np.exp(log_p)
    # sum_k (p_k - y_k)^2 = sum_k p_k^2 - 2 p_y + 1
    return float((np.square(p).sum(axis=1) - 2.0 * p[np.arange(len(labels)), labels] + 1.0).mean())


def ece(log_p: np.ndarray, labels: np.ndarray, bins: int = ECE_BINS) -> float:
    """Expected calibration error of the first choice (Guo et al., 2017, eq. 3), in 0..1.

    |accuracy - mean confidence| in each of `bins` bins of equal width, ((k-1)/bins, k/bins], weighted by its images.
    """
    confidence = np.exp(log_p.max(axis=1))
    right = log_p.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    # weight * |accuracy - confidence| = |sum of (right - confidence)| / N
    return float(np.abs(np.bincount(place, right - confidence, bins)).sum() / len(labels))


def agreement(student_log_p: np.ndarray, teacher_log_p: np.ndarray) -> float:
    """The share of images for which student and teacher choose the same class."""
    return float((student_log_p.argmax(axis=1) == teacher_log_p.argmax(axis=1)).mean())


def teacher_kl(student_log_p: np.ndarray, teacher_log_p: np.ndarray) -> float:
    """The mean over images of KL(teacher || student) at temperature 1, in nats."""
    return float((np.exp(teacher_log_p) * (teacher_log_p - student_log_p)).sum(axis=1).mean())
