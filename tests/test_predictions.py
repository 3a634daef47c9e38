"""What a run's student said of every test image: kept in few bits, and given back."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from study_samples import experiment, keep_teacher, record

from kdnb import datasets
from kdnb.errors import StoreError
from kdnb.evaluation.correct import pack, unpack
from kdnb.study import arrays as array_files
from kdnb.study import predictions as predictions_module
from kdnb.study.experiment import Run
from kdnb.study.predictions import LARGEST_PER_10000, beside, packed, predictions, share
from kdnb.study.record import LARGEST_RECORD, LONGEST_HISTORY
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.training.numerics import detect

pytestmark = pytest.mark.usefixtures("empty_project")

RUN = Run(experiment("kd"), 1)


def answers(images: int, classes: int, sharpness: float = 3.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a network that is right on some images, and the labels."""
    stream = np.random.default_rng(seed)
    labels = stream.integers(0, classes, images)
    logits = stream.normal(0, 1.0, (images, classes))
    logits[np.arange(images), labels] += stream.normal(2.5, 1.5, images)
    return (sharpness * logits).astype(np.float32), labels


def kept(logits: np.ndarray, labels: np.ndarray, **columns: np.ndarray) -> tuple[Store, object]:
    """A store with a record that keeps these answers, and the record."""
    store = Store.open()
    arrays = packed(logits, labels, dict(share(name, values) for name, values in columns.items()))
    bits = "" if "image.right.1" in arrays else pack(logits.argmax(1) == labels)
    store.write(RUN, record(RUN, correct=bits), "comparison", arrays)
    return store, store.get(*RUN.key)


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("images", "classes"), [(600, 10), (1001, 100), (13_001, 1000), (7, 2)])
def test_predictions_are_given_back(images, classes):
    logits, labels = answers(images, classes)
    found = predictions(*kept(logits, labels), labels)
    p = softmax(logits)
    assert np.array_equal(found.predicted, logits.argmax(1)) and np.array_equal(found.labels, labels)
    assert np.array_equal(found.correct, logits.argmax(1) == labels)
    assert np.abs(found.probability - p.max(1)).max() <= 1 / 30
    assert np.abs(found.true_probability - p[np.arange(images), labels]).max() <= 1 / 30
    assert np.array_equal(found.probability[found.correct], found.true_probability[found.correct])
    assert not found.columns


@pytest.mark.parametrize("right", [True, False])
def test_a_network_that_is_always_right_or_never_has_predictions_too(right):
    labels = np.arange(40) % 10
    logits = np.eye(10, dtype=np.float32)[labels if right else (labels + 3) % 10] * 50
    found = predictions(*kept(logits, labels), labels)
    assert np.array_equal(found.predicted, logits.argmax(1)) and (found.correct == right).all()
    assert (found.probability == 1.0).all() and (found.true_probability == float(right)).all()


#: Images, classes, how sure: students of CIFAR-100 and CIFAR-10, ImageNet, and networks that know next to nothing.
NETWORKS = [(10_000, 100, 1.0), (10_000, 100, 3.0), (10_000, 10, 1.0), (50_000, 1000, 1.0), (10_000, 100, 0.05)]


@pytest.mark.parametrize(("images", "classes", "sharpness"), NETWORKS)
def test_they_are_small(images, classes, sharpness):
    """16 KB for 10,000 images at most, with a query's average precision beside; the record itself stays small."""
    logits, labels = answers(images, classes, sharpness)
    precision = np.random.default_rng(1).beta(2, 2, images)
    store, found = kept(logits, labels, average_precision=precision)
    beside = array_files.file_beside(found.path)
    assert beside.stat().st_size <= LARGEST_PER_10000 * images / 10_000
    assert found.path.stat().st_size <= LARGEST_RECORD
    told = predictions(store, found, labels)
    assert np.array_equal(told.predicted, logits.argmax(1))
    assert np.abs(told.columns["average_precision"] - precision).max() <= 1 / 30


def test_what_would_be_larger_is_refused_by_a_sentence():
    logits, labels = answers(10_000, 100)
    noise = np.random.default_rng(2).random(10_000)
    with pytest.raises(StoreError, match=r"bytes for 10,000 test images are more than the 16,384 that a run keeps"):
        packed(logits, labels, dict([share("noise", noise, 16)]))


@pytest.mark.parametrize(("count", "bits"), [(1, 4), (2, 2), (3, 1), (9, 0)])
def test_further_columns_have_as_many_bits_as_there_is_room_for(count, bits):
    """Beside predictions that leave little: shares that cannot be compressed."""
    stream = np.random.default_rng(0)
    labels = stream.integers(0, 10, 10_000)
    known = packed(stream.normal(size=(10_000, 10)), labels)
    columns = {f"c{number}": stream.random(10_000) for number in range(count)}
    if bits:
        assert list(beside(known, columns, 10_000)) == [f"image.{name}.{bits}" for name in columns]
    else:
        with pytest.raises(StoreError, match="are more than the 16,384 that a run keeps"):
            beside(known, columns, 10_000)


def test_a_column_has_the_bits_that_it_states():
    values = np.random.default_rng(3).random(999)
    name, array = share("average_precision", values, 8)
    assert name == "image.average_precision.8" and array.nbytes == 999
    logits, labels = answers(999, 10)
    store = Store.open()
    store.write(RUN, record(RUN, correct=pack(logits.argmax(1) == labels)), "p", packed(logits, labels, {name: array}))
    found = predictions(store, store.get(*RUN.key), labels)
    assert np.abs(found.columns["average_precision"] - values).max() <= 0.5 / 255


# -- old records, and files that do not fit ----------------------------------------------------------------------


def test_a_record_without_predictions_says_so():
    store = Store.open()
    store.write(RUN, record(RUN), "comparison")
    with pytest.raises(StoreError, match="keeps no predictions: it was recorded before they were kept"):
        predictions(store, store.get(*RUN.key))


DAMAGE = {
    "a column missing": lambda arrays: arrays.pop("image.probability.4"),
    "a column too short": lambda arrays: arrays.update({"image.probability.4": arrays["image.probability.4"][:-1]}),
    "another kind": lambda arrays: arrays.update({"image.probability.4": np.zeros(300)}),
    "no bits": lambda arrays: arrays.update({"image.extra.many": np.zeros(300, np.uint8)}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_does_not_fit_is_said(name):
    logits, labels = answers(600, 10)
    arrays = packed(logits, labels)
    DAMAGE[name](arrays)
    store = Store.open()
    store.write(RUN, record(RUN, correct=pack(logits.argmax(1) == labels)), "comparison", arrays)
    with pytest.raises(StoreError, match="do not fit 600 images"):
        predictions(store, store.get(*RUN.key), labels)


def test_labels_are_those_of_the_test_images_that_were_scored():
    logits, labels = answers(600, 10)
    store, found = kept(logits, labels)
    assert np.array_equal(predictions(store, found).labels, datasets.load("digits").test.labels)
    images = found.experiment["images"] | {"digests": {"train": "0" * 64, "test": "0" * 64}}
    other = dataclasses.replace(found, experiment=found.experiment | {"images": images})
    with pytest.raises(StoreError, match="scored on other test images of digits"):
        predictions(store, other)


# -- a real run ------------------------------------------------------------------------------------------------


def train(*runs: Run) -> list[str]:
    lines: list[str] = []
    Runner(Store.open(), detect("cpu"), "comparison", say=lines.append).run(runs)
    return lines


def test_a_run_keeps_what_its_student_said(monkeypatch):
    seen: list[np.ndarray] = []
    real = predictions_module.packed

    def watched(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(logits)
        return real(logits, labels)

    monkeypatch.setattr(predictions_module, "packed", watched)
    keep_teacher(RUN.experiment)
    train(RUN)
    store = Store.open()
    found = store.get(*RUN.key)
    told = predictions(store, found)
    test = datasets.load("digits").test
    assert np.array_equal(told.predicted, seen[0].argmax(1)) and np.array_equal(told.labels, test.labels)
    assert np.array_equal(told.correct, unpack(found.correct, 600))
    assert found.metrics["all_images"] == pytest.approx(told.correct.mean(), rel=1e-5)
    # the exact scores are those of the half that scores
    _, score = datasets.halves(test.labels, "comparison/digits")
    p = softmax(seen[0])[score]
    assert found.metrics["headline"] == pytest.approx(told.correct[score].mean(), rel=1e-5)
    assert found.metrics["nll"] == pytest.approx(-np.log(p[np.arange(300), test.labels[score]]).mean(), rel=1e-5)
    assert 0 <= found.metrics["ece"] <= 1 and 0 <= found.metrics["brier"] <= 2
    assert 0 <= found.metrics["agreement"] <= 1 and found.metrics["teacher_kl"] > 0
    assert "best_seen" not in found.metrics and len(found.arrays) == 16


def test_a_plain_run_has_no_teacher_to_agree_with():
    run = Run(experiment("plain"), 1)
    train(run)
    found = Store.open().get(*run.key).metrics
    assert {"nll", "brier", "ece"} <= found.keys() and found.keys().isdisjoint({"agreement", "teacher_kl"})


def test_where_the_test_images_are_watched_the_best_epoch_is_named():
    """All test images validate and score: nothing is selected, and what the best epoch would have given is told."""
    plain = experiment("plain")
    run = Run(dataclasses.replace(plain, images=dataclasses.replace(plain.images, split="test")), 1)
    run = dataclasses.replace(
        run, experiment=dataclasses.replace(run.experiment, recipe=dataclasses.replace(plain.recipe, selection="last"))
    )
    train(run)
    found = Store.open().get(*run.key)
    seen = found.history["validation_accuracy"]
    assert found.metrics["best_seen"] == pytest.approx(max(seen), abs=1e-4)
    assert found.metrics["best_seen_epoch"] == 1 + seen.index(max(seen))
    assert found.metrics["headline"] == found.metrics["last"] <= found.metrics["best_seen"]


def test_a_measure_that_is_not_finite_costs_the_run_nothing(monkeypatch):
    monkeypatch.setattr("kdnb.evaluation.calibration.nll", lambda log_p, labels: 1 / 0)
    run = Run(experiment("plain"), 1)
    lines = train(run)
    assert any("'calibration' could not be computed" in line for line in lines)
    found = Store.open().get(*run.key).metrics
    assert "headline" in found and "nll" not in found


# -- a record has a limit ----------------------------------------------------------------------------------------


def test_a_record_that_is_too_large_is_not_written():
    store = Store.open()
    with pytest.raises(StoreError, match=r"would have 9,\d{3} bytes, and may have 8,192"):
        store.write(RUN, record(RUN, correct=pack(np.zeros(50_000, bool))), "comparison")
    assert store.all() == [] and not list(store.homes()[-1].results.rglob("seed*.json"))


def test_a_history_gives_way_before_a_run_is_lost():
    history = {name: np.random.default_rng(0).random(240).tolist() for name in "abcdef"}
    roomy, full = record(RUN), record(RUN, correct=pack(np.zeros(34_000, bool)))
    assert len(roomy.with_history(history).history["epoch"]) == LONGEST_HISTORY
    fitted = full.with_history(history)
    assert len(fitted.to_json()) <= LARGEST_RECORD
    assert 2 <= len(fitted.history["epoch"]) < LONGEST_HISTORY and fitted.history["epoch"][-1] == 240
    assert json.loads(fitted.to_json())["history"] == fitted.history
