"""How classes are laid out: mean logits by class, their gap, the plane, separability; and the register of analyses."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from kdnb import analysis, models
from kdnb.analysis.registry import Observed, Subject
from kdnb.analysis.representation import class_means, logit_gap, plane, separability, small
from kdnb.errors import KdnbError
from kdnb.evaluation.correct import correct
from kdnb.evaluation.outputs import outputs
from kdnb.training import cohort
from kdnb.training.images import DeviceImages, Normalisation


def clusters(classes: int, each: int, width: int = 5, spread: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around one centre a class, classes in turn, and their labels."""
    stream = np.random.default_rng(7)
    labels = np.arange(classes * each) % classes
    centres = 4.0 * stream.normal(size=(classes, width))
    noise = spread * stream.normal(size=(len(labels), width))
    return (centres[labels] + noise).astype(np.float32), labels


# -- mean logits by class --------------------------------------------------------------------------------------


def test_the_mean_logits_of_a_class_are_those_of_its_images():
    logits = np.array([[1, 2, 3], [10, 20, 30], [3, 4, 5], [-1, 0, 1], [20, 0, -10]], np.float32)
    found = class_means(logits, np.array([0, 2, 0, 1, 2]), 3)
    assert np.array_equal(found, [[2, 3, 4], [-1, 0, 1], [15, 10, 10]])


def test_large_sums_lose_nothing():
    """10,000 logits of one class in float32: their sum is not taken in it."""
    logits = np.full((10_000, 1), 16_777_217 / 2**20, np.float32) + np.float32(1 / 3)
    assert class_means(logits, np.zeros(10_000, int), 1)[0, 0] == pytest.approx(float(logits[0, 0]), rel=1e-12)


def test_a_class_without_images_is_named():
    with pytest.raises(KdnbError, match=r"No image is of class 1, 3"):
        class_means(np.zeros((2, 4)), np.array([0, 2]), 4)


def test_the_gap_leaves_the_diagonal_out_and_keeps_its_zeros_in_the_mean():
    student = np.array([[9.0, 1.0, 0.0], [2.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
    teacher = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, -6.0], [0.0, 0.0, 0.0]])
    assert logit_gap(student, teacher) == (pytest.approx((1 + 2 + 6) / 9), 6.0)
    assert logit_gap(teacher, student) == logit_gap(student, teacher)
    assert logit_gap(student, student) == (0.0, 0.0)
    assert student[0, 0] == 9.0  # what was given is not written to


def test_the_gap_is_in_raw_logits():
    """The figure's division by 3 is not done here."""
    student, teacher = np.array([[0.0, 3.0], [0.0, 0.0]]), np.zeros((2, 2))
    assert logit_gap(student, teacher) == (0.75, 3.0)
    assert logit_gap(student.astype(np.float16), teacher.astype(np.float16)) == (0.75, 3.0)


# -- the plane ---------------------------------------------------------------------------------------------------


def test_the_plane_keeps_neighbours_together_and_repeats_bit_for_bit():
    embeddings, labels = clusters(4, 40)
    first, again, other = plane(embeddings, 1), plane(embeddings.astype(np.float64), 1), plane(embeddings, 2)
    assert first.shape == (160, 2) and np.array_equal(first, again)
    for drawn in (first, other):
        distances = np.linalg.norm(drawn[:, None] - drawn[None], axis=-1)
        np.fill_diagonal(distances, np.inf)
        assert (labels[distances.argmin(axis=1)] == labels).all()


def test_the_plane_is_scikit_learns_with_its_defaults():
    from sklearn.manifold import TSNE

    from kdnb.randomness import keyed_seed

    embeddings, _ = clusters(3, 40)
    defaults = TSNE()
    assert (defaults.perplexity, defaults.n_components) == (30.0, 2)
    drawn = TSNE(random_state=keyed_seed(5, "plane") % 2**32).fit_transform(embeddings)
    assert np.allclose(plane(embeddings, 5), drawn)


@pytest.mark.parametrize("count", [2, 3, 10, 31])
def test_few_images_have_a_plane_too(count):
    """Perplexity 30 is more than they have neighbours."""
    embeddings, _ = clusters(1, count)
    drawn = plane(embeddings, 1)
    assert drawn.shape == (count, 2) and np.isfinite(drawn).all()


WITHOUT_NEIGHBOURS = {
    "one image": np.ones((1, 8)),
    "one number": np.arange(40.0)[:, None],
    "no image": np.ones((0, 8)),
    "a collapsed network": np.ones((50, 4)),
    "collapsed but for rounding": 1000.0 + np.random.default_rng(0).random((50, 4)) * 1e-4,
    "all zeros": np.zeros((50, 4)),
    "a NaN": np.where(np.arange(200).reshape(50, 4) == 7, np.nan, 1.0 * np.arange(200).reshape(50, 4)),
    "an infinity": np.where(np.arange(200).reshape(50, 4) == 7, np.inf, 1.0 * np.arange(200).reshape(50, 4)),
}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("name", WITHOUT_NEIGHBOURS)
def test_what_has_no_neighbourhoods_is_refused(name):
    """scikit-learn crashes the whole process where all vectors are alike."""
    with pytest.raises(KdnbError, match="t-SNE"):
        plane(WITHOUT_NEIGHBOURS[name], 1)


# -- separability ------------------------------------------------------------------------------------------------


def test_the_silhouette_by_hand():
    """Two pairs on a line: a = 1 within; b = 10.5, 9.5 to the other pair."""
    line = np.array([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0], [11.0, 0.0]])
    outer, inner = (10.5 - 1) / 10.5, (9.5 - 1) / 9.5
    assert separability(line, np.array([4, 4, 9, 9])) == pytest.approx((outer + inner) / 2)
    assert separability(line, np.array([0, 1, 0, 1])) < 0
    assert separability(7.0 * line, np.array([4, 4, 9, 9])) == pytest.approx((outer + inner) / 2)  # of no scale


def test_separability_is_euclidean():
    """On one ray from the origin, angles tell nothing, and distances all."""
    ray = np.array([[1.0, 1.0], [1.1, 1.1], [9.0, 9.0], [9.1, 9.1]])
    assert separability(ray, np.array([0, 0, 1, 1])) > 0.95


@pytest.mark.parametrize("labels", [[3, 3, 3], [0, 1, 2]])
def test_one_class_or_as_many_as_images_have_no_silhouette(labels):
    with pytest.raises(KdnbError, match="have no silhouette"):
        separability(np.arange(6.0).reshape(3, 2), np.array(labels))


# -- a network's outputs -----------------------------------------------------------------------------------------


def observed(name: str, seed: int, images: DeviceImages) -> Observed:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = models.create(name, 10)
    return Observed(network, images)


@pytest.fixture(scope="module")
def images() -> DeviceImages:
    stream = np.random.default_rng(3)
    pixels, labels = stream.integers(0, 256, (60, 16, 16, 3), np.uint8), np.arange(60) % 10
    normalisation = Normalisation((0.5,) * 3, (0.25,) * 3)
    return DeviceImages(pixels, labels, normalisation, torch.device("cpu"), torch.float32)


def test_outputs_are_of_all_images_in_order_whatever_the_batch(images, monkeypatch):
    student = observed("resnet8", 1, images)
    whole = outputs(student.network, images)
    assert whole.logits.shape == (60, 10) and whole.embeddings.shape == (60, 64)
    assert whole.logits.dtype == whole.embeddings.dtype == np.float32
    right = correct(whole.logits, images.labels.numpy())
    assert np.array_equal(np.flatnonzero(right), [i for i in range(60) if whole.logits[i].argmax() == i % 10])
    monkeypatch.setattr("kdnb.evaluation.outputs.evaluation_batch", lambda device: 7)
    parts = outputs(student.network.train(), images)  # it is put into eval mode
    assert np.allclose(parts.logits, whole.logits, atol=1e-5)
    assert np.allclose(parts.embeddings, whole.embeddings, atol=1e-5)
    assert not student.network.training and cohort.evaluation_batch(torch.device("cpu")) > 60


def test_logits_follow_from_embeddings(images):
    student = observed("resnet8", 1, images)
    classifier = student.network.classifier
    expected = student.outputs.embeddings @ classifier.weight.detach().numpy().T + classifier.bias.detach().numpy()
    assert np.allclose(student.outputs.logits, expected, atol=1e-5)
    assert student.outputs is student.outputs  # the images are run through it once


# -- the register ------------------------------------------------------------------------------------------------


def subject(images: DeviceImages) -> Subject:
    student, teacher = observed("resnet8", 1, images), observed("resnet14", 2, images)
    return Subject(student, teacher, images.labels.numpy(), np.arange(60), 10, seed=1)


def test_logits_by_class_keeps_what_the_figure_draws(images):
    found = subject(images)
    arrays, metrics = analysis.get("logits_by_class").of(found)
    assert {k: v.shape for k, v in arrays.items()} == {"student_means": (10, 10), "teacher_means": (10, 10)}
    sixth = found.teacher.outputs.logits[np.arange(6, 60, 10)].mean(axis=0)
    assert np.allclose(arrays["teacher_means"][6], sixth, rtol=1e-3, atol=1e-3)
    mean, largest = logit_gap(arrays["student_means"], arrays["teacher_means"])
    assert (metrics["logit_gap"], metrics["logit_gap_max"]) == (
        pytest.approx(mean, abs=2e-3),
        pytest.approx(largest, abs=1e-2),
    )
    assert largest > mean > 0


def test_the_plane_keeps_what_the_figure_draws(images):
    found = subject(images)
    arrays, metrics = analysis.get("plane").of(found)
    embeddings = found.student.outputs.embeddings
    assert np.allclose(arrays["plane"], plane(embeddings, 1), rtol=1e-3)
    assert arrays["labels"].dtype == np.uint8 and np.array_equal(arrays["labels"], images.labels.numpy())
    assert metrics == {"separability": separability(embeddings, images.labels.numpy())}


def test_arrays_are_small_unless_that_would_spoil_them():
    assert small(np.array([1.0, -20.5])).dtype == np.float16
    assert np.array_equal(small(np.array([1.0, -70_000.0])), np.array([1.0, -70_000.0], np.float32))


def test_an_unknown_measurement_is_answered_by_the_nearest():
    with pytest.raises(KdnbError, match="did you mean logits_by_class"):
        analysis.get("logits_by_clas")
    assert {"logits_by_class", "plane"} <= set(analysis.names())


def test_the_plane_gives_the_threads_back():
    before = torch.get_num_threads()
    plane(clusters(2, 5)[0], 1)
    assert torch.get_num_threads() == before


def test_asking_what_is_kept_imports_neither_torch_nor_scikit_learn():
    ask = "import sys; from kdnb import analysis; analysis.get('plane')\n"
    ask += "print(sorted({'torch', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_measurements_on_tensors_are_found_beside_the_analyses():
    """Whichever file they live in; a name that is nowhere is no attribute."""
    assert set(analysis._ON_TENSORS) <= set(analysis.__all__)
    for name, file in analysis._ON_TENSORS.items():
        found = getattr(analysis, name)
        assert (found.__module__, found.__name__) == (file, name)
    x = torch.arange(12.0).reshape(6, 2)
    assert float(analysis.linear_cka(x, 2 * x)) == pytest.approx(1)
    assert analysis.active_neurons(torch.eye(3)) == 3
    with pytest.raises(AttributeError, match="no attribute 'linear_kca'"):
        _ = analysis.linear_kca
