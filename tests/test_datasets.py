"""Data sets: digits, fixed parts, canonical order, what does not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import dataset_samples as samples
import numpy as np
import pytest
from sklearn.datasets import load_digits

from kdnb import datasets, paths
from kdnb.datasets import canonical, catalogue, digits, order, splits
from kdnb.datasets.identity import identity
from kdnb.errors import DataError, KdnbError

# ------------------------------------------------------------------------------------------------ digits


def test_digits_are_those_of_scikit_learn_each_once():
    raw = load_digits()
    wanted = sorted((x.tobytes(), y) for x, y in zip(digits.enlarge(raw.images), raw.target, strict=True))
    data = datasets.load("digits")
    found = [(x.tobytes(), y) for s in (data.train, data.test) for x, y in zip(s.images, s.labels, strict=True)]
    assert sorted(found) == wanted


def test_digits_are_enlarged_bilinearly():
    import torch

    raw = load_digits().images
    exact = torch.nn.functional.interpolate(
        torch.tensor(raw)[:, None], scale_factor=2, mode="bilinear", align_corners=False
    )
    grey = exact[:, 0].numpy() * 255 / 16
    found = digits.enlarge(raw)
    assert found.shape == (1797, 16, 16, 3)
    for channel in range(3):
        assert np.abs(found[..., channel] - grey).max() <= 0.5 + 1e-9


def test_digits_have_a_balanced_test_split():
    data = datasets.load("digits")
    assert (len(data.train), len(data.test)) == (data.info.train_count, data.info.test_count) == (1197, 600)
    assert np.bincount(data.test.labels).tolist() == [60] * 10
    assert data.classes == tuple("0123456789")
    assert data.published
    assert not data.info.flip and data.info.crop_padding == 2
    assert data.train.labels.dtype == np.int64 and data.train.images.dtype == np.uint8


def test_changed_digits_are_refused(monkeypatch):
    raw = load_digits()
    raw.images[5, 3, 3] = 16 - raw.images[5, 3, 3]
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: raw)
    with pytest.raises(DataError, match="not the known ones"):
        digits.load.__wrapped__()


def test_no_torch_is_imported():
    code = "import sys; from kdnb import datasets; datasets.load('digits'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=paths.ROOT)


# ------------------------------------------------------------------------------------------- fixed parts

#: Digest of the 500 digits that a student of the demo could learn from.
PINNED_SUBSET = "91aad23905ffe18be2aad3b6afd2231b622460a99433caf93ee9149821f0fccc"


@pytest.mark.parametrize("count", [10, 500, 503, 1000, 1197])
def test_class_balanced(count):
    labels = datasets.load("digits").train.labels
    chosen = datasets.class_balanced(labels, count, "some key")
    assert len(np.unique(chosen)) == count and (np.diff(chosen) > 0).all()
    per_class, there = np.bincount(labels[chosen], minlength=10), np.bincount(labels)
    short = per_class < per_class.max() - 1
    assert (per_class[short] == there[short]).all()  # only a class that has given all may have fewer


def test_class_balanced_is_fixed_by_key_and_labels():
    labels = datasets.load("digits").train.labels
    chosen = datasets.class_balanced(labels, 500, "student/digits")
    assert datasets.digest_of_indices(chosen) == PINNED_SUBSET
    assert datasets.digest_of_indices(datasets.class_balanced(labels, 500, "other")) != PINNED_SUBSET
    assert set(datasets.class_balanced(labels, 100, "student/digits")) < set(chosen)


def test_class_balanced_fills_up_from_the_others():
    labels = np.array([0] * 2 + [1] * 20 + [2] * 20)
    assert np.bincount(labels[datasets.class_balanced(labels, 12, "k")]).tolist() == [2, 5, 5]


@pytest.mark.parametrize("count", [0, -1, 43])
def test_class_balanced_refuses_what_there_is_not(count):
    with pytest.raises(DataError, match=f"{count} images"):
        datasets.class_balanced(np.zeros(42, int), count, "k")


@pytest.mark.parametrize("sizes", [[60] * 10, [7, 3, 5, 1, 2], [1]])
def test_halves_are_stratified_and_whole(sizes):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    validation, test = datasets.halves(labels, "some key")
    assert np.array_equal(np.sort(np.concatenate((validation, test))), np.arange(len(labels)))
    assert (np.diff(validation) > 0).all() and (np.diff(test) > 0).all()
    assert len(validation) - len(test) in (0, 1)
    difference = np.bincount(labels[validation], minlength=len(sizes)) - np.bincount(labels[test], minlength=len(sizes))
    assert np.abs(difference).max() <= 1


def test_halves_depend_on_the_key_and_are_not_the_order_itself():
    labels = np.zeros(1000, int)
    one, other = datasets.halves(labels, "a")[0], datasets.halves(labels, "b")[0]
    assert 150 < len(np.intersect1d(one, other)) < 350  # 250 expected, standard deviation 8
    assert 150 < (one < 500).sum() < 350


def test_pinned_halves_hold_for_the_digits_and_a_drift_is_refused(monkeypatch):
    labels = datasets.load("digits").test.labels
    pin = splits.PINNED["comparison/digits"]
    assert datasets.digest_of_indices(labels) == pin.labels
    validation, test = datasets.halves(labels, "comparison/digits")
    assert (datasets.digest_of_indices(validation), datasets.digest_of_indices(test)) == (
        pin.validation,
        pin.test,
    )
    monkeypatch.setattr("kdnb.datasets.subsets.keyed_seed", lambda *key: 1)
    with pytest.raises(DataError, match="comparison/digits"):
        datasets.halves(labels, "comparison/digits")
    datasets.halves(labels[:-1], "comparison/digits")  # other labels, so the pin does not speak of them


def test_digest_of_indices():
    import hashlib

    numbers = b"".join(n.to_bytes(8, "little") for n in (3, 1, 2))
    assert datasets.digest_of_indices(np.array([3, 1, 2], np.int32)) == hashlib.sha256(numbers).hexdigest()


# --------------------------------------------------------------------------------------- canonical order


def test_unknown_name_names_the_nearest():
    for use in (datasets.info, datasets.load, datasets.check, datasets.prepare):
        with pytest.raises(KdnbError, match=r"no data set called 'cifar1OO'.*cifar100"):
            use("cifar1OO")


def test_loading_is_the_same_whatever_the_order_on_disk(tmp_path):
    parts = samples.splits("cifar100")
    samples.write_layout(tmp_path / "a", "cifar100", parts)
    backwards = {split: (images[::-1], labels[::-1]) for split, (images, labels) in parts.items()}
    samples.write_layout(tmp_path / "b", "cifar100", backwards)
    one, other = (datasets.load("cifar100", tmp_path / root) for root in "ab")
    for a, b in ((one.train, other.train), (one.test, other.test)):
        assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
        assert a.digest == b.digest == samples.digest(a.images, a.labels)
        keys = canonical.item_digests(a.images, a.labels)
        assert keys == sorted(keys)
    assert one.info.train_count == 300 and not one.published
    pairs = {(x.tobytes(), int(y)) for x, y in zip(*parts["train"], strict=True)}
    assert {(x.tobytes(), int(y)) for x, y in zip(one.train.images, one.train.labels, strict=True)} == pairs


def test_the_root_is_an_environment_variable(tmp_path, monkeypatch):
    samples.write_layout(tmp_path, "cifar10", samples.splits("cifar10"))
    monkeypatch.setenv("KDNB_DATA", str(tmp_path))
    assert len(datasets.load("cifar10").test) == 20


def test_images_that_lie_in_order_stay_on_disk(tmp_path):
    samples.write_layout(tmp_path / "a", "cifar10", samples.splits("cifar10"))
    data = datasets.load("cifar10", tmp_path / "a")
    in_order = {s: (p.images, p.labels.astype(np.uint8)) for s, p in (("train", data.train), ("test", data.test))}
    samples.write_layout(tmp_path / "b", "cifar10", in_order)
    assert isinstance(datasets.load("cifar10", tmp_path / "b").train.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        data.train.images[0] = 0


def test_the_order_is_computed_once(tmp_path, monkeypatch):
    samples.write_layout(tmp_path, "cifar100", samples.splits("cifar100"))
    before = datasets.load("cifar100", tmp_path)
    monkeypatch.setattr(canonical, "order_free_sha256", None)  # calling it would raise TypeError
    after = datasets.load("cifar100", tmp_path)
    assert np.array_equal(before.train.images, after.train.images)


def _with_times_of(folder, change):
    """Do something to a set's files and give them the times they had."""
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.npy")}
    change()
    for path, time in times.items():
        os.utime(path, ns=(time, time))


def test_an_order_of_the_same_data_laid_out_otherwise_is_not_used(tmp_path):
    parts = samples.splits("cifar100")
    folder = samples.write_layout(tmp_path, "cifar100", parts)
    before = datasets.load("cifar100", tmp_path)
    backwards = {split: (images[::-1], labels[::-1]) for split, (images, labels) in parts.items()}
    _with_times_of(folder, lambda: samples.write_layout(tmp_path, "cifar100", backwards))
    after = datasets.load("cifar100", tmp_path)
    assert np.array_equal(before.train.images, after.train.images)
    assert np.array_equal(before.train.labels, after.train.labels)


def test_an_order_of_other_data_is_neither_used_nor_kept(tmp_path):
    folder = samples.write_layout(tmp_path, "cifar100", samples.splits("cifar100"))
    datasets.load("cifar100", tmp_path)
    first = set(folder.glob(".*_order-*.npy"))
    samples.write_layout(tmp_path, "cifar100", samples.splits("cifar100", seed=1))
    data = datasets.load("cifar100", tmp_path)
    keys = canonical.item_digests(data.train.images, data.train.labels)
    assert keys == sorted(keys)
    second = set(folder.glob(".*_order-*.npy"))
    assert len(first) == len(second) == 2 and not first & second


def test_an_image_changed_after_its_order_was_kept_is_noticed(tmp_path):
    parts = samples.splits("cifar100")
    folder = samples.write_layout(tmp_path, "cifar100", parts)
    datasets.load("cifar100", tmp_path)
    second = canonical.canonical_order(canonical.item_digests(*parts["train"]))[1]  # not in the sample of 64
    images = parts["train"][0].copy()
    images[second, 0, 0, 0] ^= 1
    np.save(folder / "train_images.npy", images)
    with pytest.raises(DataError, match=r"train_images.npy and train_labels.npy do not have the digest"):
        datasets.load("cifar100", tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"no array"),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: np.save(path, np.zeros(300, np.int32)),
        lambda path: np.save(path, np.arange(299, dtype=np.int32)),
        lambda path: np.save(path, np.arange(300, dtype=np.int32)[::-1]),
        lambda path: np.save(path, np.arange(300, dtype=np.float32)),
    ],
    ids=["garbage", "torn", "no permutation", "too short", "another permutation", "floats"],
)
def test_a_spoilt_order_is_computed_anew(tmp_path, spoil):
    folder = samples.write_layout(tmp_path, "cifar100", samples.splits("cifar100"))
    before = datasets.load("cifar100", tmp_path)
    (path,) = folder.glob(".train_order-*.npy")
    spoil(path)
    after = datasets.load("cifar100", tmp_path)
    assert np.array_equal(before.train.images, after.train.images)


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    folder = samples.write_layout(tmp_path, "cifar100", samples.splits("cifar100"))
    real = order.np.save

    def full(file, *args, **kwargs):
        real(file, *args, **kwargs)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(order.np, "save", full)
    data = datasets.load("cifar100", tmp_path)
    assert len(data.train) == 300
    assert not list(folder.glob(".*"))


# --------------------------------------------------------------------------------------- what does not fit


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def _meta(change):
    def spoil(folder):
        meta = json.loads((folder / "meta.json").read_text())
        change(meta)
        (folder / "meta.json").write_text(json.dumps(meta))

    return spoil


def _label(value):
    def spoil(folder):
        labels = np.load(folder / "test_labels.npy")
        labels[7] = value
        np.save(folder / "test_labels.npy", labels)

    return spoil


def _pixel(folder):
    images = np.load(folder / "train_images.npy")
    images[3, 5, 6, 1] ^= 1
    np.save(folder / "train_images.npy", images)


def _archive_of_arrays(folder):
    with (folder / "train_images.npy").open("wb") as file:
        np.savez(file, a=np.zeros(3, np.uint8))


def _as(file, change):
    return lambda folder: np.save(folder / file, change(np.load(folder / file)))


def _as_objects(folder):
    np.save(folder / "test_labels.npy", np.array([object()] * 20), allow_pickle=True)


BAD = {
    "images missing": (lambda f: (f / "train_images.npy").unlink(), "train_images.npy: is missing"),
    "labels missing": (lambda f: (f / "test_labels.npy").unlink(), "test_labels.npy: is missing"),
    "images torn": (lambda f: _truncate(f / "train_images.npy"), "train_images.npy: cannot be read"),
    "labels torn": (lambda f: _truncate(f / "test_labels.npy"), "test_labels.npy: cannot be read"),
    "images empty": (lambda f: (f / "train_images.npy").write_bytes(b""), "train_images.npy: cannot be read"),
    "images no array": (
        lambda f: (f / "train_images.npy").write_text("hello"),
        "images.npy: cannot be read",
    ),
    "images a folder": (
        lambda f: ((f / "train_images.npy").unlink(), (f / "train_images.npy").mkdir()),
        "train_images.npy: cannot be read",
    ),
    "a header that never ends": (
        lambda f: (f / "train_images.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00" + 16 * b"("),
        "train_images.npy: cannot be read",
    ),
    "several arrays": (_archive_of_arrays, "train_images.npy: is an archive of arrays"),
    "objects": (_as_objects, "test_labels.npy: cannot be read"),
    "float images": (_as("test_images.npy", lambda x: x / 255), "images.npy: holds float64, not uint8"),
    "int labels": (
        _as("test_labels.npy", lambda x: x.astype(int)),
        "labels.npy: holds int64, not uint8",
    ),
    "channels first": (
        _as("test_images.npy", lambda x: x.transpose(0, 3, 1, 2)),
        "the shape (20, 3, 32, 32)",
    ),
    "small images": (_as("test_images.npy", lambda x: x[:, ::2, ::2]), "the shape (20, 16, 16, 3)"),
    "an image less": (_as("test_images.npy", lambda x: x[1:]), "the shape (19, 32, 32, 3)"),
    "a label less": (_as("test_labels.npy", lambda x: x[1:]), "the shape (19,)"),
    "labels in columns": (_as("test_labels.npy", lambda x: x[:, None]), "the shape (20, 1)"),
    "label too large": (_label(10), "test_labels.npy: label 10 at index 7 is not in 0..9"),
    "another label": (_label(0), "test_images.npy and test_labels.npy do not have the digest"),
    "another pixel": (_pixel, "train_images.npy and train_labels.npy do not have the digest"),
    "no meta": (lambda f: (f / "meta.json").unlink(), "is unfinished, meta.json is missing"),
    "meta no JSON": (lambda f: _truncate(f / "meta.json"), "meta.json: cannot be read as JSON"),
    "meta nested deep": (lambda f: (f / "meta.json").write_text("[" * 100_000), "meta.json: cannot be read as JSON"),
    "meta no text": (
        lambda f: (f / "meta.json").write_bytes(b"\xff\xfe\x00"),
        "cannot be read as JSON",
    ),
    "meta a list": (lambda f: (f / "meta.json").write_text("[]"), "meta.json: is not a JSON object"),
    "no name": (_meta(lambda m: m.pop("name")), "meta.json: has no 'name'"),
    "no classes": (_meta(lambda m: m.pop("classes")), "meta.json: has no 'classes'"),
    "no splits": (_meta(lambda m: m.pop("splits")), "meta.json: has no 'splits'"),
    "no test split": (
        _meta(lambda m: m["splits"].pop("test")),
        "meta.json: 'splits' does not describe 'train' and 'test'",
    ),
    "another name": (_meta(lambda m: m.update(name="cifar100")), "describes 'cifar100', not 'cifar10'"),
    "a class less": (_meta(lambda m: m["classes"].pop()), "'classes' names 9 classes, but CIFAR-10 has 10"),
    "a class twice": (_meta(lambda m: m["classes"].__setitem__(0, "cat")), "'classes' names 9 classes"),
    "classes by number": (
        _meta(lambda m: m.update(classes=list(range(10)))),
        "'classes' is not a list of names",
    ),
    "no count": (_meta(lambda m: m["splits"]["train"].pop("count")), "the count of 'train' is None"),
    "count zero": (_meta(lambda m: m["splits"]["train"].update(count=0)), "the count of 'train' is 0"),
    "another count": (_meta(lambda m: m["splits"]["train"].update(count=49)), "ask for (49, 32, 32, 3)"),
    "no digest": (
        _meta(lambda m: m["splits"]["test"].pop("order_free_sha256")),
        "order_free_sha256 of 'test' is None",
    ),
    "another digest": (
        _meta(lambda m: m["splits"]["test"].update(order_free_sha256="0" * 64)),
        "test_images.npy and test_labels.npy do not have the digest",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_in_one_line(tmp_path, monkeypatch, case):
    spoil, message = BAD[case]
    parts = samples.splits("cifar10")
    samples.publish(monkeypatch, "cifar10", parts)
    folder = samples.write_layout(tmp_path, "cifar10", parts)
    datasets.load("cifar10", tmp_path)  # so that an order is kept, which must not hide the fault
    datasets.check("cifar10", tmp_path)
    spoil(folder)
    for use in (datasets.load, datasets.check):
        with pytest.raises(DataError) as caught:
            use("cifar10", tmp_path)
        text = str(caught.value)
        assert message in text and str(folder) in text
        assert "`kdnb data prepare cifar10`" in text and "\n" not in text


def test_a_missing_set_says_what_makes_it(tmp_path):
    for use in (datasets.load, datasets.check):
        with pytest.raises(DataError) as caught:
            use("cifar100", tmp_path)
        place = tmp_path / "cifar100" / "meta.json"
        message = f"CIFAR-100 is missing, there is no {place}; run `kdnb data prepare cifar100`."
        assert str(caught.value) == message


# ------------------------------------------------------------------------------------------ check and list


def test_check_reports_each_split(tmp_path, monkeypatch):
    parts = samples.splits("cifar10")
    samples.publish(monkeypatch, "cifar10", parts)
    samples.write_layout(tmp_path, "cifar10", parts)
    train, test = datasets.check("cifar10", tmp_path)
    assert "train: 50 images" in train and samples.digest(*parts["train"])[:12] in train
    assert "test: 20 images" in test
    assert datasets.load("cifar10", tmp_path).published
    assert len(datasets.check("digits")) == 2


def test_check_refuses_a_part_and_wrong_names(tmp_path, monkeypatch):
    parts = samples.splits("cifar10")
    samples.write_layout(tmp_path, "cifar10", parts)
    with pytest.raises(DataError, match=r"train split is not that of the published CIFAR-10: 50 .* 50000"):
        datasets.check("cifar10", tmp_path)
    samples.publish(monkeypatch, "cifar10", parts)
    names = list(catalogue.info("cifar10").class_names)
    samples.write_layout(tmp_path, "cifar10", parts, classes=[names[1], names[0], *names[2:]])
    with pytest.raises(DataError, match=r"meta.json: class 0 is called 'automobile', not 'airplane'"):
        datasets.check("cifar10", tmp_path)


def test_describe_lists_what_is_there(tmp_path, monkeypatch):
    def states():
        return {d.name: (d.state, d.detail) for d in datasets.describe(tmp_path)}

    assert states()["digits"][0] == "embedded"
    assert states()["cifar100"] == ("missing", "Run `kdnb data prepare cifar100`.")
    assert " ".join(str(datasets.describe(tmp_path)[2]).split()) == (
        "cifar100 missing Run `kdnb data prepare cifar100`."
    )
    parts = samples.splits("cifar100")
    folder = samples.write_layout(tmp_path, "cifar100", parts)
    assert states()["cifar100"][0] == "prepared" and "not the published set" in states()["cifar100"][1]
    samples.publish(monkeypatch, "cifar100", parts)
    assert states()["cifar100"] == ("prepared", "300 training and 200 test images.")
    _truncate(folder / "test_images.npy")
    assert states()["cifar100"][0] == "broken" and "test_images.npy" in states()["cifar100"][1]


def test_identity_is_that_of_what_is_here(tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_DATA", str(tmp_path))
    published = catalogue.info("cifar10").published
    assert identity("cifar10") == published
    parts = samples.splits("cifar10")
    folder = samples.write_layout(tmp_path, "cifar10", parts)
    assert identity("cifar10") == {split: samples.digest(*part) for split, part in parts.items()}
    data = datasets.load("cifar10")
    assert identity("cifar10") == {"train": data.train.digest, "test": data.test.digest}
    _truncate(folder / "meta.json")
    assert identity("cifar10") == published


# ---------------------------------------------------------------------------------------------- real images


@pytest.mark.data
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_real_cifar(name):
    if not (paths.data_root() / name / "meta.json").exists():
        pytest.skip(f"{name} is not prepared")
    assert all("as published" in line for line in datasets.check(name))
    data = datasets.load(name)
    assert data.published and (len(data.train), len(data.test)) == (50_000, 10_000)
    pin = splits.PINNED[f"comparison/{name}"]
    assert datasets.digest_of_indices(data.test.labels) == pin.labels
    validation, test = datasets.halves(data.test.labels, f"comparison/{name}")  # raises if not as pinned
    classes = data.info.num_classes
    for half in (validation, test):
        assert np.bincount(data.test.labels[half]).tolist() == [5000 // classes] * classes
    chosen = datasets.class_balanced(data.train.labels, 10_000, f"pilot/{name}")
    assert np.bincount(data.train.labels[chosen]).tolist() == [10_000 // classes] * classes


def test_held_out_images_are_a_tenth_of_each_class() -> None:
    labels = np.repeat(np.arange(10), 50)
    rest, tenth = datasets.held_out(labels, "key")
    assert np.bincount(labels[tenth]).tolist() == [5] * 10
    assert sorted([*rest, *tenth]) == list(range(500))
