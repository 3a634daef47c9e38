"""Preparing a data set: every source gives the same bytes, and nothing that goes wrong leaves a mixture."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path

import dataset_samples as samples
import numpy as np
import pytest
from PIL import Image

from kdnb import datasets, paths
from kdnb.datasets import archives, catalogue, writing
from kdnb.errors import DataError

NAMES = ["cifar10", "cifar100"]


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Lays small published archives out: `source(name)` -> (splits, unpacked folder, packed archive)."""

    def lay_out(name):
        parts = samples.splits(name)
        unpacked = samples.write_unpacked(tmp_path / f"{name}-source", name, parts)
        packed, md5 = samples.pack(unpacked)
        samples.publish(monkeypatch, name, parts, md5=md5)
        return parts, unpacked, packed

    return lay_out


@pytest.fixture
def web(tmp_path):
    """A web server on this machine: (its address, the folder that it serves)."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", folder
    server.shutdown()
    thread.join()
    server.server_close()


# ------------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("name", NAMES)
def test_a_record_becomes_the_image_it_describes(name):
    info = catalogue.info(name)
    label_bytes = info.archive.label_bytes
    planes = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    raw = b"".join(bytes([3, 7][-label_bytes:]) + row.tobytes() for row in planes)
    images, labels = archives.parse(raw, "somewhere", label_bytes, info)
    assert labels.tolist() == [7, 7] and images.shape == (2, 32, 32, 3)
    for channel, y, x in ((0, 0, 0), (0, 0, 31), (1, 4, 9), (2, 31, 30)):
        assert images[1, y, x, channel] == planes[1, channel * 1024 + y * 32 + x]


@pytest.mark.parametrize("name", NAMES)
def test_every_source_gives_the_same_bytes(tmp_path, source, name):
    parts, unpacked, packed = source(name)
    tree = samples.write_tree(tmp_path / "tree", name, parts)
    sources = [packed, packed.parent, unpacked, tree]
    only_unpacked = tmp_path / "only-unpacked"
    shutil.copytree(unpacked, only_unpacked / unpacked.name)
    sources.append(only_unpacked)
    found = []
    for i, place in enumerate(sources):
        folder = datasets.prepare(name, place, root=tmp_path / f"root{i}")
        assert folder == tmp_path / f"root{i}" / name
        assert [path.name for path in folder.parent.iterdir()] == [name]  # no work folder is left behind
        found.append(samples.contents(folder))
    assert all(files == found[0] for files in found)
    assert sorted(found[0]) == [
        "meta.json",
        "test_images.npy",
        "test_labels.npy",
        "train_images.npy",
        "train_labels.npy",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_what_was_prepared_is_what_was_there(tmp_path, source, name):
    parts, unpacked, _ = source(name)
    datasets.prepare(name, unpacked, root=tmp_path)
    assert len(datasets.check(name, tmp_path)) == 2
    data = datasets.load(name, tmp_path)
    assert data.published and isinstance(data.train.images, np.memmap)
    for split, image_set in (("train", data.train), ("test", data.test)):
        given = sorted((x.tobytes(), int(y)) for x, y in zip(*parts[split], strict=True))
        pairs = zip(image_set.images, image_set.labels, strict=True)
        assert sorted((x.tobytes(), int(y)) for x, y in pairs) == given


def test_a_download_is_prepared(tmp_path, source, web, monkeypatch):
    parts, _, packed = source("cifar100")
    address, served = web
    shutil.copy(packed, served)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    md5 = catalogue.info("cifar100").archive.md5
    samples.publish(monkeypatch, "cifar100", parts, url=address + packed.name, md5=md5)
    told = []
    folder = datasets.prepare("cifar100", root=tmp_path / "root", progress=told.append)
    assert told[0] == f"Downloading {address}{packed.name}" and told[-1] == f"CIFAR-100 is ready in {folder}."
    assert datasets.load("cifar100", tmp_path / "root").published
    assert [path.name for path in folder.parent.iterdir()] == ["cifar100"]


@pytest.mark.parametrize("fault", ["torn", "absent"])
def test_a_download_that_fails_says_what_else_to_do(tmp_path, source, web, monkeypatch, fault):
    parts, _, packed = source("cifar100")
    address, served = web
    if fault == "torn":
        (served / packed.name).write_bytes(packed.read_bytes()[:-50])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    md5 = catalogue.info("cifar100").archive.md5
    samples.publish(monkeypatch, "cifar100", parts, url=address + packed.name, md5=md5)
    with pytest.raises(DataError, match=r"could not be downloaded.*kdnb data prepare cifar100 --from DIR"):
        datasets.prepare("cifar100", root=tmp_path / "root")
    assert not list((tmp_path / "root").iterdir())


def test_a_set_that_is_there_is_left_alone(tmp_path, source, monkeypatch):
    _, unpacked, _ = source("cifar10")
    datasets.prepare("cifar10", unpacked, root=tmp_path)
    monkeypatch.setattr(writing, "write", None)  # calling it would raise TypeError
    told = []
    datasets.prepare("cifar10", root=tmp_path, progress=told.append)
    assert told == [f"CIFAR-10 is in {tmp_path}/cifar10 already."]


def test_a_broken_set_is_made_anew(tmp_path, source):
    _, unpacked, _ = source("cifar10")
    folder = datasets.prepare("cifar10", unpacked, root=tmp_path)
    (folder / "train_images.npy").write_bytes(b"")
    datasets.prepare("cifar10", unpacked, root=tmp_path)
    datasets.check("cifar10", tmp_path)


def test_digits_need_no_preparation(tmp_path):
    told = []
    assert datasets.prepare("digits", root=tmp_path, progress=told.append) is None
    assert "nothing has to be prepared" in told[0] and not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------ sources that do not fit


def _cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def _change_pixel(path):
    raw = bytearray(path.read_bytes())
    raw[1000] ^= 1
    path.write_bytes(bytes(raw))


def _change_label(path):
    raw = bytearray(path.read_bytes())
    raw[3074 + 1] = 100  # the fine label of the second record
    path.write_bytes(bytes(raw))


BAD_BINARY = {
    "file missing": (lambda f: (f / "test.bin").unlink(), "test.bin: is missing"),
    "file torn": (lambda f: _cut(f / "train.bin"), "train.bin: 922193 bytes are no whole number of records"),
    "file empty": (lambda f: (f / "train.bin").write_bytes(b""), "train.bin: 0 bytes are no whole number"),
    "label too large": (
        lambda f: _change_label(f / "test.bin"),
        "record 1 has label 100, not 0..99",
    ),
    "another pixel": (
        lambda f: _change_pixel(f / "train.bin"),
        "The train split is not that of the published",
    ),
    "a record less": (
        lambda f: (f / "test.bin").write_bytes((f / "test.bin").read_bytes()[:-3074]),
        "The test split is not that of the published CIFAR-100: 199 images",
    ),
}


@pytest.mark.parametrize("case", BAD_BINARY)
@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "packed"])
def test_bad_binaries_are_refused(tmp_path, source, monkeypatch, case, packed):
    spoil, message = BAD_BINARY[case]
    parts, unpacked, archive = source("cifar100")
    spoil(unpacked)
    archive.unlink()
    if packed:  # the archive is whole, its content is not
        _, md5 = samples.pack(unpacked)
        samples.publish(monkeypatch, "cifar100", parts, md5=md5)
        message = {"file missing": "cifar-100-binary/test.bin"}.get(case, message)
    with pytest.raises(DataError) as caught:
        datasets.prepare("cifar100", unpacked.parent, root=tmp_path / "root")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not list((tmp_path / "root").iterdir())


@pytest.mark.parametrize("spoil", [_cut, _change_pixel, lambda path: path.write_bytes(b"")])
def test_a_torn_archive_is_refused(tmp_path, source, spoil):
    _, _, packed = source("cifar100")
    spoil(packed)
    with pytest.raises(DataError, match=r"cifar-100-binary.tar.gz: has the md5 .*, not "):
        datasets.prepare("cifar100", packed.parent, root=tmp_path / "root")


def test_an_archive_of_the_right_md5_that_is_none_is_refused(tmp_path, source, monkeypatch):
    import hashlib

    parts, _, packed = source("cifar100")
    packed.write_bytes(b"no archive")
    samples.publish(monkeypatch, "cifar100", parts, md5=hashlib.md5(b"no archive").hexdigest())
    with pytest.raises(DataError, match=r"cifar-100-binary.tar.gz: cannot be read"):
        datasets.prepare("cifar100", packed.parent, root=tmp_path / "root")


def _swap_in(path, content):
    path.write_bytes(content)


def _shrink(path):
    with Image.open(path) as image:
        small = image.resize((16, 31))
    small.save(path)


def _exchange(tree):
    one, other = (next((tree / "train" / name).iterdir()) for name in ("dog", "cat"))
    pixels = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(pixels)


def _bomb(path, side):
    """A small file whose header promises an image of side x side pixels."""
    raw = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", side, side) + raw[24:29]
    path.write_bytes(raw[:12] + header + struct.pack(">I", zlib.crc32(header)) + raw[33:])


def _convert(path, mode):
    with Image.open(path) as image:
        changed = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    changed.save(path)


BAD_TREE = {
    "no test folder": (
        lambda t: shutil.rmtree(t / "test"),
        "test/airplane: the folder of this class is",
    ),
    "a class missing": (lambda t: shutil.rmtree(t / "test" / "cat"), "test/cat: the folder of this class is"),
    "a class too many": (lambda t: (t / "train" / "frogs").mkdir(), "called 'frogs'; did you mean frog"),
    "an empty class": (
        lambda t: [path.unlink() for path in (t / "train" / "dog").iterdir()],
        "train/dog: holds no .png file",
    ),
    "no image": (
        lambda t: _swap_in(next((t / "train" / "dog").iterdir()), b"x"),
        "cannot be read as an image",
    ),
    "an image torn": (
        lambda t: _cut_half(next((t / "train" / "dog").iterdir())),
        "cannot be read as an image",
    ),
    "another size": (lambda t: _shrink(next((t / "test" / "ship").iterdir())), "is 16x31 pixels, not 32x32"),
    "an image less": (
        lambda t: next((t / "train" / "dog").iterdir()).unlink(),
        "train/dog: holds 4 images, where 5 of each class of the train split of CIFAR-10 were published",
    ),
    "another class": (
        lambda t: next((t / "train" / "dog").iterdir()).rename(t / "train" / "cat" / "dog.png"),
        "train/cat: holds 6 images, where 5 of each class",
    ),
    "images exchanged": (_exchange, "The train split is not that of the published CIFAR-10: 50 images"),
    "another suffix": (
        lambda t: next((t / "train" / "dog").iterdir()).rename(t / "train" / "dog" / "x.jpg"),
        "train/dog/x.jpg: is no .png file",
    ),
    "a folder within": (lambda t: (t / "train" / "dog" / "more.png").mkdir(), "train/dog/more.png: is no .png file"),
    "a large image": (lambda t: _bomb(next((t / "train" / "dog").iterdir()), 100_000), "cannot be read as an image"),
    "an image too large": (lambda t: _bomb(next((t / "test" / "dog").iterdir()), 10_000), "is 10000x10000 pixels"),
    "transparent": (lambda t: _convert(next((t / "test" / "dog").iterdir()), "RGBA"), "has the mode RGBA; modes"),
    "16 bits": (lambda t: _convert(next((t / "test" / "dog").iterdir()), "I;16"), "has the mode I;16; modes"),
}


def _cut_half(path):
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


@pytest.mark.parametrize("case", BAD_TREE)
def test_bad_trees_are_refused(tmp_path, source, case):
    spoil, message = BAD_TREE[case]
    parts, _, _ = source("cifar10")
    tree = samples.write_tree(tmp_path / "tree", "cifar10", parts)
    spoil(tree)
    with pytest.raises(DataError) as caught:
        datasets.prepare("cifar10", tree, root=tmp_path / "root")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not list((tmp_path / "root").iterdir())


@pytest.mark.parametrize("change", ["suffix", "hidden"])
def test_what_changes_no_pixel_is_read(tmp_path, source, change):
    parts, _, _ = source("cifar10")
    tree = samples.write_tree(tmp_path / "tree", "cifar10", parts)
    path = next((tree / "train" / "dog").iterdir())
    if change == "hidden":
        for name in (".DS_Store", "._0.png", "Thumbs.db"):
            (path.parent / name).write_bytes(b"x")
    else:
        path.rename(path.with_suffix(".PNG"))
    datasets.prepare("cifar10", tree, root=tmp_path / "root")
    assert datasets.load("cifar10", tmp_path / "root").published


def test_a_file_that_may_not_be_read_is_named_as_such(tmp_path, source, monkeypatch):
    parts, unpacked, _ = source("cifar10")
    tree = samples.write_tree(tmp_path / "tree", "cifar10", parts)

    def forbidden(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", forbidden)
    with pytest.raises(DataError, match=r"train/airplane/\d+.png: may not be read by this user"):
        datasets.prepare("cifar10", tree, root=tmp_path / "root")
    monkeypatch.setattr(archives, "_file", forbidden)
    with pytest.raises(DataError, match=r"data_batch_1.bin: cannot be read .*Permission denied"):
        datasets.prepare("cifar10", unpacked, root=tmp_path / "root")


def test_a_machine_without_enough_memory_says_so(tmp_path, source, monkeypatch):
    _, unpacked, _ = source("cifar10")
    monkeypatch.setattr(archives, "parse", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(DataError, match=r"CIFAR-10 does not fit into the memory of this machine"):
        datasets.prepare("cifar10", unpacked, root=tmp_path / "root")


def test_a_folder_with_nothing_known_says_what_was_looked_for(tmp_path):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"neither cifar-100-binary.tar.gz, nor .*train.bin, nor folders"):
            datasets.prepare("cifar100", place, root=tmp_path / "root")


# ------------------------------------------------------------------------------------- crashes and company


def _earlier(root):
    """Another version of the set, whole and consistent: what must not be harmed. Returns its files."""
    return samples.contents(samples.write_layout(root, "cifar10", samples.splits("cifar10", seed=5)))


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_full_disk_leaves_the_earlier_set(tmp_path, source, monkeypatch, at):
    _, unpacked, _ = source("cifar10")
    before = _earlier(tmp_path / "root")
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == at:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(DataError, match=r"CIFAR-10 could not be written to .*No space left on device"):
        datasets.prepare("cifar10", unpacked, root=tmp_path / "root")
    assert samples.contents(tmp_path / "root" / "cifar10") == before
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["cifar10"]


def test_a_set_that_is_a_link_to_another_disk_is_prepared_there(tmp_path, source):
    _, unpacked, _ = source("cifar10")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as far:
        _earlier(Path(far))
        (tmp_path / "root").mkdir()
        (tmp_path / "root" / "cifar10").symlink_to(Path(far) / "cifar10")
        datasets.prepare("cifar10", unpacked, root=tmp_path / "root")
        assert datasets.load("cifar10", tmp_path / "root").published
        assert (tmp_path / "root" / "cifar10").is_symlink() and len(
            os.listdir(Path(far) / "cifar10")
        ) == 7  # and orders
    with pytest.raises(DataError, match=r"cifar10 is a link to .*, which is not there"):
        datasets.prepare("cifar10", unpacked, root=tmp_path / "root")


@pytest.mark.parametrize("at", [1, 3, 5])
def test_files_that_cannot_be_put_in_place_leave_the_earlier_set(tmp_path, source, monkeypatch, at):
    _, unpacked, _ = source("cifar10")
    before = _earlier(tmp_path / "root")
    real, calls = os.replace, []

    def refused(*names):
        calls.append(names)
        if len(calls) == at:
            raise OSError(18, "Invalid cross-device link")
        real(*names)

    monkeypatch.setattr(writing.os, "replace", refused)
    with pytest.raises(DataError, match=r"CIFAR-10 could not be written to"):
        datasets.prepare("cifar10", unpacked, root=tmp_path / "root")
    assert samples.contents(tmp_path / "root" / "cifar10") == before


def prepare_and_die(root: str, unpacked: str, function: str, at: int) -> None:
    """Prepare the small set, and be killed at the n-th call of a function of `os`."""
    samples.publish(pytest.MonkeyPatch(), "cifar10", samples.splits("cifar10"))
    real, calls = getattr(os, function), []

    def deadly(*args, **kwargs):
        calls.append(args)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(writing.os, function, deadly)
    datasets.prepare("cifar10", unpacked, root=root)


@pytest.mark.parametrize(
    ("function", "at", "left"),
    [
        ("fsync", 2, "earlier"),
        ("fsync", 5, "earlier"),
        ("replace", 1, "unfinished"),
        ("replace", 3, "unfinished"),
        ("replace", 5, "unfinished"),
        ("replace", 6, "new"),  # there is no sixth: meta.json is the fifth and last
    ],
)
def test_a_killed_preparation_leaves_no_mixture(tmp_path, source, function, at, left):
    _, unpacked, _ = source("cifar10")
    root = tmp_path / "root"
    before = _earlier(root)
    arguments = f"{str(root)!r}, {str(unpacked)!r}, {function!r}, {at}"
    code = f"import test_datasets_prepare as t; t.prepare_and_die({arguments})"
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{paths.ROOT}"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path)
    assert ended.returncode == (0 if left == "new" else -signal.SIGKILL)
    if left == "earlier":
        assert samples.contents(root / "cifar10") == before
    elif left == "unfinished":
        with pytest.raises(DataError, match=r"is unfinished, meta.json is missing; run `kdnb data"):
            datasets.load("cifar10", root)
    datasets.prepare("cifar10", unpacked, root=root)
    assert datasets.load("cifar10", root).published


def test_work_folders_of_the_long_dead_are_swept_and_others_kept(tmp_path, source):
    _, unpacked, _ = source("cifar10")
    root = tmp_path / "root"
    for name, age in (("old", 3 * 24 * 3600), ("young", 60)):
        place = root / f".cifar10-preparing-{name}"
        place.mkdir(parents=True)
        (place / "train_images.npy").write_bytes(b"x")
        os.utime(place, (time.time() - age, time.time() - age))
    datasets.prepare("cifar10", unpacked, root=root)
    assert {path.name for path in root.iterdir()} == {"cifar10", ".cifar10-preparing-young"}


def test_several_at_once(tmp_path, source):
    _, unpacked, _ = source("cifar100")
    start, errors = threading.Barrier(4), []

    def one():
        start.wait()
        try:
            datasets.prepare("cifar100", unpacked, root=tmp_path / "root")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    datasets.check("cifar100", tmp_path / "root")
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["cifar100"]


# ---------------------------------------------------------------------------------------------- real images


@pytest.mark.data
@pytest.mark.parametrize("name", NAMES)
def test_real_cifar_written_as_binary_records_is_prepared_to_the_published_set(tmp_path, name):
    if not (paths.data_root() / name / "meta.json").exists():
        pytest.skip(f"{name} is not prepared")
    info, data = catalogue.info(name), datasets.load(name)
    folder = tmp_path / info.archive.folder
    folder.mkdir()
    for files, part in ((info.archive.train, data.train), (info.archive.test, data.test)):
        for file, share in zip(files, np.array_split(np.arange(len(part)), len(files)), strict=True):
            (folder / file).write_bytes(samples.records(part.images[share], part.labels[share], name))
    datasets.prepare(name, tmp_path, root=tmp_path / "root")
    prepared = datasets.load(name, tmp_path / "root")
    assert prepared.published
    assert np.array_equal(prepared.test.images, data.test.images)
