"""STL-10: a small archive in the true format becomes a prepared set with a split without labels."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import tarfile

import numpy as np
import pytest

from kdnb import datasets
from kdnb.datasets import archives, catalogue, stl10
from kdnb.datasets.identity import identity
from kdnb.errors import DataError

COUNTS = {"train": 20, "test": 30, "unlabelled": 25}
FILES = {"train": "train", "test": "test", "unlabelled": "unlabeled"}


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """The folder of the unpacked archive, taken for the published one; images that are the same are none."""
    folder, draw = tmp_path / "source" / "stl10_binary", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for split, count in COUNTS.items():
        draw.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8).tofile(folder / f"{FILES[split]}_X.bin")
        if split != "unlabelled":
            (1 + np.arange(count) % 10).astype(np.uint8).tofile(folder / f"{split}_y.bin")
    publish(monkeypatch, folder)
    return folder


def publish(monkeypatch, folder, **changes):
    info = catalogue.info("stl10")
    assert info.archive is not None
    md5s = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.glob("*.bin")}
    archive = dataclasses.replace(info.archive, md5s=md5s, **changes)
    counts = {f"{split}_count": count for split, count in COUNTS.items()}
    monkeypatch.setitem(catalogue._CATALOGUE, "stl10", dataclasses.replace(info, archive=archive, **counts))


def pack(folder, monkeypatch):
    packed = folder.parent / "stl10_binary.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(folder, arcname=folder.name)
    publish(monkeypatch, folder, md5=hashlib.md5(packed.read_bytes()).hexdigest())
    return packed


def test_an_image_lies_column_by_column_and_nine_pixels_become_their_mean(unpacked):
    info = catalogue.info("stl10")
    raw = np.fromfile(unpacked / "train_X.bin", np.uint8).reshape(-1, 3 * 96 * 96)
    images, labels = archives.read_unpacked(unpacked, info.archive, info)["train"]
    assert images.shape == (20, 32, 32, 3) and labels.tolist() == 2 * list(range(10))
    for image, channel, row, column in ((0, 0, 0, 0), (7, 1, 3, 30), (19, 2, 31, 5)):
        covered = [
            int(raw[image, channel * 96 * 96 + x * 96 + y])
            for x in range(3 * column, 3 * column + 3)
            for y in range(3 * row, 3 * row + 3)
        ]
        assert images[image, row, column, channel] == int(sum(covered) / 9 + 0.5)


def test_means_are_rounded_half_up():
    squares = np.zeros((1, 4, 4, 3), np.uint8)
    squares[0, 0, :2, 0] = 1  # a mean of one half
    squares[0, 2:, 2:, 1] = 255
    assert stl10.smaller(squares, 2)[0, :, :, 0].tolist() == [[1, 0], [0, 0]]
    assert stl10.smaller(squares, 2)[0, :, :, 1].tolist() == [[0, 0], [0, 255]]


def test_every_source_gives_the_same_set(tmp_path, unpacked, monkeypatch):
    monkeypatch.setattr(stl10, "BLOCK", 7)
    packed = pack(unpacked, monkeypatch)
    found = []
    for number, source in enumerate((packed, packed.parent, unpacked)):
        folder = datasets.prepare("stl10", source, root=tmp_path / str(number))
        assert folder is not None
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert found[0] == found[1] == found[2]
    assert sorted(found[0]) == [
        *("meta.json", "test_images.npy", "test_labels.npy", "train_images.npy", "train_labels.npy"),
        "unlabelled_images.npy",
    ]


def test_what_was_prepared_is_loaded_whole_and_in_order(tmp_path, unpacked, monkeypatch):
    monkeypatch.setenv("KDNB_DATA", str(tmp_path))
    before = identity("stl10")
    assert datasets.describe()[-1].state == "missing"
    datasets.prepare("stl10", unpacked)
    data = datasets.load("stl10")
    assert data.published and data.unlabelled is not None
    assert (len(data.train), len(data.test), len(data.unlabelled)) == (20, 30, 25)
    assert data.unlabelled.labels.shape == (0,) and isinstance(data.unlabelled.images, np.memmap)
    digests = [hashlib.sha256(image.tobytes()).digest() for image in data.unlabelled.images]
    assert digests == sorted(digests) and len(set(digests)) == 25
    assert datasets.check("stl10")[2].startswith("unlabelled: 25 images of 32x32 pixels without labels")
    assert datasets.describe()[-1].detail == "20 training and 30 test images, 25 without labels."
    assert identity("stl10") == before  # the archive's md5 stands for digests that nobody has published


def test_a_part_of_it_is_another_set(tmp_path, unpacked, monkeypatch):
    monkeypatch.setenv("KDNB_DATA", str(tmp_path))
    datasets.prepare("stl10", unpacked)
    whole = identity("stl10")
    monkeypatch.setitem(
        catalogue._CATALOGUE, "stl10", dataclasses.replace(catalogue.info("stl10"), unlabelled_count=100_000)
    )
    with pytest.raises(
        DataError, match=r"unlabelled split is not that of the published STL-10: 25 images, where 100000"
    ):
        datasets.check("stl10")
    assert not datasets.load("stl10").published and identity("stl10") != whole
    assert "not the published set" in datasets.describe()[-1].detail


BAD = {
    "missing": (lambda f: (f / "test_y.bin").unlink(), "test_y.bin: is missing"),
    "another": (lambda f: (f / "test_y.bin").write_bytes(b"\1" * 30), "test_y.bin: has the md5 "),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_are_not_the_published_ones_are_refused(tmp_path, unpacked, case):
    BAD[case][0](unpacked)
    with pytest.raises(DataError, match=BAD[case][1]):
        datasets.prepare("stl10", unpacked, root=tmp_path / "root")
    assert not list((tmp_path / "root").iterdir())


BAD_CONTENT = {
    "torn": (lambda f: (f / "train_X.bin").write_bytes((f / "train_X.bin").read_bytes()[:-9]), "ends within an image"),
    "empty": (lambda f: (f / "unlabeled_X.bin").write_bytes(b""), "unlabeled_X.bin: is empty"),
    "a label less": (lambda f: (f / "train_y.bin").write_bytes(b"\1" * 19), "holds 19 labels for 20 images"),
    "label 0": (lambda f: (f / "train_y.bin").write_bytes(b"\1\0" * 10), r"label 0 at index 1 is not in 1\.\.10"),
    "label 11": (lambda f: (f / "test_y.bin").write_bytes(b"\x0b" * 30), r"label 11 at index 0 is not in 1\.\.10"),
    "fewer": (lambda f: (f / "unlabeled_X.bin").write_bytes(bytes(27648)), "unlabelled split is not that .* 1 images"),
}


@pytest.mark.parametrize("case", BAD_CONTENT)
def test_content_that_does_not_fit_is_refused(tmp_path, unpacked, monkeypatch, case):
    BAD_CONTENT[case][0](unpacked)
    packed = pack(unpacked, monkeypatch)
    with pytest.raises(DataError, match=BAD_CONTENT[case][1]):
        datasets.prepare("stl10", packed, root=tmp_path / "root")


def test_a_tree_of_images_could_be_anything(tmp_path, unpacked):
    (tmp_path / "tree" / "train").mkdir(parents=True)
    shutil.copytree(unpacked, tmp_path / "tree" / "test")
    with pytest.raises(DataError, match=r"holds neither stl10_binary.tar.gz, nor stl10_binary/train_X.bin\.$"):
        datasets.prepare("stl10", tmp_path / "tree", root=tmp_path / "root")
