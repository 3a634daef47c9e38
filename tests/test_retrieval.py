"""Retrieval as published and by the textbook; what a layer knows of the labels, by known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestCentroid

from kdnb.analysis import nearest_centroid, qmi
from kdnb.errors import KdnbError
from kdnb.evaluation import retrieval as module
from kdnb.evaluation.retrieval import recall_levels, retrieval


def embedded(count, classes=4, width=6, seed=0):
    """Vectors that lie about their class's centre, and their labels."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = 1.2 * np.random.default_rng(99).normal(size=(classes, width))
    return torch.tensor(centres[labels] + draw.normal(size=(count, width))), torch.tensor(labels)


def distances(queries, database, distance):
    if distance == "euclidean":
        return torch.cdist(queries, database).numpy()
    cosine = torch.nn.functional.cosine_similarity(queries[:, None], database[None], dim=2)
    return (1 - cosine).numpy()


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_the_textbooks_values_are_those_of_scikit_learn(distance):
    (queries, asked), (database, labels) = embedded(150, seed=1), embedded(331, seed=2)
    found = retrieval(queries, asked, database, labels, distance, at=20)
    far = distances(queries, database, distance)
    relevant = (labels[None] == asked[:, None]).numpy()
    expected = np.mean([average_precision_score(r, -d) for r, d in zip(relevant, far, strict=True)])
    assert found["map"] == pytest.approx(expected, rel=1e-9)
    first = np.take_along_axis(relevant, far.argsort(1), 1)[:, :20]
    assert found["precision_at_k"] == pytest.approx(first.mean(), rel=1e-9)


def published(queries, asked, database, labels, at, chunk):
    """The published code's way, loop by loop: its window is the number of queries in the chunk."""
    levels, tops, averages = [0.0], [], []
    while len(levels) < 11:
        levels.append(len(levels) * 0.1)
    for begin in range(0, len(queries), chunk):
        window = len(queries[begin : begin + chunk])
        for query, label in zip(queries[begin : begin + chunk], asked[begin : begin + chunk], strict=True):
            order = np.argsort(distances(query[None], database, "euclidean")[0], kind="stable")
            relevant = (labels.numpy() == int(label))[order]
            hits = np.cumsum(relevant)
            precision, recall = hits / np.arange(1, len(order) + 1), hits / hits[-1]
            for place in range(min(window, len(order)) - 1, 0, -1):
                precision[place - 1] = max(precision[place - 1], precision[place])
            averages.append([precision[np.abs(recall - level).argmin()] for level in levels])
            tops.append(precision[at - 1])
    return np.mean(averages, axis=0), np.mean(tops)


@pytest.mark.parametrize("count", [331, 60, 12])  # 12: three relevant images, so that most levels lie between recalls
@pytest.mark.parametrize("chunk", [128, 32])
def test_the_published_values_are_those_of_its_loops(count, chunk, monkeypatch):
    (queries, asked), (database, labels) = embedded(150, seed=1), embedded(count, seed=2)
    found = retrieval(queries, asked, database, labels, at=10, chunk=chunk)
    by_level, top = published(queries, asked, database, labels, 10, chunk)
    assert found["map_11pt"] == pytest.approx(by_level.mean(), rel=1e-9)
    assert recall_levels(queries, asked, database, labels, chunk=chunk) == pytest.approx(by_level.tolist(), rel=1e-9)
    assert found["top_k_published"] == pytest.approx(top, rel=1e-9)
    monkeypatch.setattr(module, "BLOCK", 7)
    assert retrieval(queries, asked, database, labels, at=10, chunk=chunk) == pytest.approx(found, rel=1e-12)


def test_a_ranking_worked_by_hand():
    """Ranks 1 to 5: relevant, not, relevant, relevant, not; R = 3; one query, so that the window is the first rank."""
    found = retrieval([[0.0]], [1], np.array([[1.0], [2.0], [3.0], [4.0], [5.0]]), np.array([1, 0, 1, 1, 0]), at=2)
    assert found["map"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert found["precision_at_k"] == found["top_k_published"] == 0.5
    # recall 1/3 for the levels 0 to 0.4, 2/3 for 0.5 (in float64 it is the nearer one) to 0.8, and 1 for 0.9 and 1
    assert found["map_11pt"] == pytest.approx((5 * 1 + 4 * 2 / 3 + 2 * 3 / 4) / 11)
    levels = recall_levels([[0.0]], [1], np.array([[1.0], [2.0], [3.0], [4.0], [5.0]]), np.array([1, 0, 1, 1, 0]))
    assert levels == pytest.approx([1.0] * 5 + [2 / 3] * 4 + [3 / 4] * 2)


def test_top_k_as_published_is_the_best_to_the_windows_end():
    """128 queries and a database whose first 100 are half relevant and whose next 28 all are."""
    labels = np.array([0, 1] * 50 + [1] * 28 + [0] * 72)
    database, queries = np.arange(1.0, 201)[:, None], np.zeros((144, 1))
    found = retrieval(queries, np.ones(144, int), database, labels)
    assert found["precision_at_k"] == 0.5
    assert found["top_k_published"] == pytest.approx((128 * 78 / 128 + 16 * 0.5) / 144)  # the last 16 see no further


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"distance": "cosin"}, "did you mean cosine"),
        ({"query_labels": np.array([0, 9])}, "has the label 9 of a query"),
        ({"query_labels": np.array([0])}, "queries have .*their labels"),
        ({"queries": np.zeros((2, 3))}, "differ in width"),
        ({"at": 9}, "rank 9 in a database of 8"),
    ],
)
def test_what_cannot_be_ranked_is_said(change, said):
    given = {"queries": np.zeros((2, 2)), "query_labels": np.array([0, 1]), "database": np.zeros((8, 2))}
    with pytest.raises(KdnbError, match=said):
        retrieval(**{**given, "labels": np.arange(8) % 2, "at": 4, **change})


# -- information of a layer ------------------------------------------------------------------------------


def test_qmi_is_its_definition():
    features, labels = embedded(40, classes=3)
    labels[:5] = 2  # classes of unequal size
    unit = torch.nn.functional.normalize(features, dim=1)
    kernel = ((unit @ unit.T + 1) / 2).numpy()
    n, of = len(labels), labels.numpy()
    inside = sum(kernel[k, j] for k in range(n) for j in range(n) if of[k] == of[j]) / n**2
    shares = np.bincount(of) / n
    everything = (shares**2).sum() * kernel.sum() / n**2
    between = sum(shares[of[j]] * kernel[j].sum() for j in range(n)) / n**2
    assert qmi(features, labels) == pytest.approx(inside + everything - 2 * between, rel=1e-9)
    assert qmi(7 * features.float(), labels) == pytest.approx(qmi(features, labels), rel=1e-5)


def test_qmi_of_known_answers():
    same = torch.ones(6, 3)
    assert qmi(same, torch.tensor([0, 1, 2, 0, 1, 2])) == pytest.approx(0, abs=1e-12)
    opposite = torch.tensor([[1.0], [-1.0]] * 4)
    assert qmi(opposite, torch.tensor([0, 1] * 4)) == pytest.approx(1 / 2 + 1 / 4 - 2 / 4)
    with pytest.raises(KdnbError, match="kernel of qmi"):
        qmi(same, torch.zeros(6), kernel="gauss")  # type: ignore[arg-type]


def test_nearest_centroid_is_that_of_scikit_learn():
    (train, labels), (test, wanted) = embedded(80), embedded(60, seed=3)
    oracle = NearestCentroid().fit(train.numpy(), labels.numpy()).score(test.numpy(), wanted.numpy())
    assert nearest_centroid(train, labels, test, wanted) == oracle < 1
    kept = labels != 1  # a class that was never seen
    oracle = NearestCentroid().fit(train[kept].numpy(), labels[kept].numpy()).score(test.numpy(), wanted.numpy())
    assert nearest_centroid(train[kept].view(-1, 2, 3), labels[kept], test.view(-1, 2, 3), wanted) == oracle
    with pytest.raises(KdnbError, match="need a label each"):
        nearest_centroid(train, labels[1:], test, wanted)
