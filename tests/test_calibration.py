"""How sure a network is: NLL, Brier score, ECE; agreement with its teacher and KL to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdnb.evaluation.calibration import agreement, brier, ece, log_probabilities, nll, teacher_kl


def of(*rows: list[float]) -> np.ndarray:
    """Log-probabilities of these probabilities, by way of logits with an offset of their own."""
    logits = np.log(np.array(rows)) + 3.0 * np.arange(len(rows))[:, None]
    return log_probabilities(logits.astype(np.float32))


CALLED = of([0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.25, 0.15, 0.6], [0.3, 0.65, 0.05])
LABELS = np.array([0, 2, 2, 1])


def test_the_scores_by_hand():
    assert nll(CALLED, LABELS) == pytest.approx(-np.log([0.7, 0.4, 0.6, 0.65]).mean(), rel=1e-6)
    squares = [0.09 + 0.04 + 0.01, 0.01 + 0.25 + 0.36, 0.0625 + 0.0225 + 0.16, 0.09 + 0.1225 + 0.0025]
    assert brier(CALLED, LABELS) == pytest.approx(np.mean(squares), rel=1e-6)


def test_the_calibration_error_by_hand():
    """Two bins: (0, 1/2] holds the second image alone, wrong; (1/2, 1] the others, all right."""
    lower, upper = 0.4999, [0.7, 0.6, 0.65]
    called = of([0.7, 0.2, 0.1], [0.1001, lower, 0.4], [0.25, 0.15, 0.6], [0.3, 0.65, 0.05])
    assert ece(called, LABELS, bins=2) == pytest.approx(lower / 4 + (3 - sum(upper)) / 4, rel=1e-5)
    # of fifteen bins 0.6 ends the ninth and 0.65 lies in the tenth, 0.7 in the eleventh: each image has its own
    assert ece(called, LABELS) == pytest.approx((lower + (3 - sum(upper))) / 4, rel=1e-5)


def test_a_network_that_is_sure_and_right_is_calibrated_and_one_that_is_wrong_is_not():
    sure = log_probabilities(np.eye(4, dtype=np.float32) * 1e4)
    right, wrong = np.arange(4), (np.arange(4) + 1) % 4
    assert (nll(sure, right), brier(sure, right), ece(sure, right)) == (0.0, 0.0, 0.0)
    assert (nll(sure, wrong), brier(sure, wrong), ece(sure, wrong)) == (1e4, 2.0, 1.0)


def test_against_other_peoples_functions():
    stream = np.random.default_rng(4)
    student, teacher = (stream.normal(0, 3, (500, 7)).astype(np.float32) for _ in range(2))
    labels = stream.integers(0, 7, 500)
    s, t = (torch.log_softmax(torch.from_numpy(x).double(), 1) for x in (student, teacher))
    log_s, log_t = log_probabilities(student), log_probabilities(teacher)
    assert nll(log_s, labels) == pytest.approx(float(torch.nn.functional.nll_loss(s, torch.from_numpy(labels))))
    kl = torch.nn.functional.kl_div(s, t, reduction="batchmean", log_target=True)
    assert teacher_kl(log_s, log_t) == pytest.approx(float(kl), rel=1e-12)
    assert agreement(log_s, log_t) == np.mean(student.argmax(1) == teacher.argmax(1))
    assert (teacher_kl(log_t, log_t), agreement(log_t, log_t)) == (0.0, 1.0)


def test_scores_stay_finite_where_float32_would_not():
    far = log_probabilities(np.array([[3e4, 0.0], [0.0, 3e4]], np.float32))
    assert np.isfinite([nll(far, np.array([1, 1])), brier(far, np.array([1, 1])), teacher_kl(far, far[::-1])]).all()
