"""Records and checkpoints between machines: everything arrives, nothing leaves the store's folders."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from study_samples import TINY, experiment, keep, keep_teacher, record, some_arrays

from kdnb.errors import StoreError
from kdnb.study import archives as archives_module
from kdnb.study import arrays as array_files
from kdnb.study.archives import export_store, import_archives
from kdnb.study.experiment import Run
from kdnb.study.profile import PROFILES
from kdnb.study.runner import Runner
from kdnb.study.store import Store, is_whole
from kdnb.training.checkpoint import load_checkpoint, save_checkpoint
from kdnb.training.numerics import detect

pytestmark = pytest.mark.usefixtures("empty_project")
RUN = Run(experiment("plain"), 1)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Another machine: from now on the store is a fresh one."""

    def move() -> Store:
        monkeypatch.setenv("KDNB_STORE", str(tmp_path / "elsewhere"))
        return Store.open()

    return move


def archive(path: Path, **files: bytes) -> Path:
    """An archive with these files; `name` is whatever it says."""
    with tarfile.open(path, "w:gz") as packed:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """What a store holds, but for its locks."""
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}
    return {name: path.read_bytes() for name, path in files.items()}


def test_what_is_exported_arrives(tmp_path, elsewhere, monkeypatch):
    monkeypatch.setattr(archives_module, "LARGEST_ARCHIVE", 100_000)
    monkeypatch.setattr(archives_module, "MOST_ARCHIVES", 100)
    keep(RUN, 0.25)
    keep(Run(experiment("kd", PROFILES["paper"]), 3), 0.75)
    teacher = keep_teacher(experiment("kd"))
    store = Store.open()
    save_checkpoint(store.running_folder(Run(RUN.experiment, 2)), {"w": torch.ones(3)}, {"epoch": 1})
    (store.own.results / "notes.json").write_text("{}")  # not a record, not exported
    archives = export_store(store, tmp_path / "out.tar.gz").archives
    assert [a.name for a in archives][:2] == ["out.tar.gz", "out-checkpoints-0.tar.gz"] and len(archives) > 2
    before = contents(store.own.results.parent)
    other = elsewhere()
    lines = list(import_archives(other, archives))
    assert [line.split()[0] for line in lines] == ["record"] * 3 + ["checkpoint"] * 2
    after = contents(other.own.results.parent)
    assert after == {k: v for k, v in before.items() if not k.endswith(("notes.json", "exported.json"))}
    assert other.get(*RUN.key).metrics["headline"] == 0.25 and other.load_weights(teacher) is not None
    assert list(import_archives(other, archives)) == [] and contents(other.own.results.parent) == after


def test_the_order_of_archives_does_not_matter(tmp_path, elsewhere, monkeypatch):
    monkeypatch.setattr(archives_module, "LARGEST_ARCHIVE", 50_000)
    monkeypatch.setattr(archives_module, "MOST_ARCHIVES", 100)
    monkeypatch.setattr("kdnb.training.checkpoint.LARGEST_FILE", 40_000)
    teacher = keep_teacher(experiment("kd"))
    archives = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    assert len(archives) > 4
    other = elsewhere()
    (line,) = import_archives(other, archives[1:][::-1])
    assert line.startswith("checkpoint resnet14-")
    assert other.load_weights(teacher) is not None


HOSTILE = [
    "results/../../escaped.json",
    "/tmp/kdnb-escaped.json",
    "results/a/../../../escaped.json",
    "checkpoints/../../escaped.safetensors",
    "elsewhere/a/b.json",
    "results/x/program.py",
    "checkpoints/x/y.pt",
    "results/seed1.pkl",
    "../results/a/seed1.json",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_leaves_the_stores_folders(name, tmp_path, elsewhere):
    store = elsewhere()
    before = contents(tmp_path)
    (line,) = import_archives(store, [archive(tmp_path / "in.tar.gz", **{name: b"{}"})])
    assert f"{name} does not belong in a store; left out" in line
    after = contents(tmp_path)
    after.pop("in.tar.gz")
    assert after == before and not Path("/tmp/kdnb-escaped.json").exists()


def test_links_in_an_archive_are_not_followed(tmp_path, elsewhere):
    path = tmp_path / "in.tar.gz"
    with tarfile.open(path, "w:gz") as packed:
        for kind, name in ((tarfile.SYMTYPE, "results/comparison"), (tarfile.LNKTYPE, "results/a/seed1.json")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, str(tmp_path)
            packed.addfile(entry)
    store = elsewhere()
    assert list(import_archives(store, [path])) == [] and not store.own.results.exists()


def test_a_description_that_names_files_elsewhere_is_refused(tmp_path, elsewhere):
    (tmp_path / "secret.safetensors").write_bytes(save({"w": torch.ones(1)}))
    description = json.dumps({"files": ["../../../../secret.safetensors"], "meta": {"epoch": 1}}).encode()
    store = elsewhere()
    name = "checkpoints/running/0000-seed1/checkpoint.json"
    (line,) = import_archives(store, [archive(tmp_path / "in.tar.gz", **{name: description})])
    assert "does not describe a checkpoint" in line
    assert load_checkpoint(store.own.checkpoints / "running" / "0000-seed1") is None


BROKEN_DESCRIPTIONS = {
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "an index that is no number": b'{"files": [], "meta": {"index": "1"}}',
    "an endless index": b'{"files": [], "meta": {"epoch": 1e999}}',
    "a large index": b'{"files": [], "meta": {"step": 1%s}}' % (b"0" * 400),
    "a negative index": b'{"files": [], "meta": {"index": -1}}',
    "files that are no names": b'{"files": [3], "meta": {}}',
    "a description that is a list": b'{"files": [], "meta": [1]}',
}


@pytest.mark.parametrize("name", BROKEN_DESCRIPTIONS)
def test_a_broken_description_is_left_out_in_a_sentence(name, tmp_path, elsewhere):
    store, place = elsewhere(), "checkpoints/running/0000-seed1/checkpoint.json"
    (line,) = import_archives(store, [archive(tmp_path / "in.tar.gz", **{place: BROKEN_DESCRIPTIONS[name]})])
    assert "does not describe a checkpoint" in line and not store.own.checkpoints.exists()


@pytest.mark.parametrize("header", [b"[]", b'{"w": 3}', b'{"w": {"data_offsets": [0]}}', b'{"w": {"data_offsets": 1}}'])
def test_weights_with_a_broken_header_are_not_whole(header, tmp_path):
    """Nor do they end what looks for weights."""
    (tmp_path / "checkpoint.json").write_text('{"files": ["w.safetensors"], "meta": {}}')
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert not is_whole(tmp_path)


TEARS = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "no archive": lambda data: b"something else" * 100,
    "flipped": lambda data: data[:200] + bytes(b ^ 0xFF for b in data[200:260]) + data[260:],
    "cut inside": lambda data: gzip.compress(gzip.decompress(data)[:700]),
}


@pytest.mark.parametrize("name", TEARS)
def test_a_torn_archive_is_said_and_leaves_nothing_half_done(name, tmp_path, elsewhere):
    keep(RUN)
    (packed, *_) = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    packed.write_bytes(TEARS[name](packed.read_bytes()))
    store = elsewhere()
    with pytest.raises(StoreError, match=r"out\.tar\.gz is not a whole archive"):
        list(import_archives(store, [packed]))
    assert not store.own.results.exists()


def without(text: str, part: str, name: str) -> str:
    """A record of another version, that has no such thing, under its own fingerprint."""
    content = json.loads(text)
    del content[part][name]
    form = json.dumps(content["experiment"], sort_keys=True, separators=(",", ":"))
    return json.dumps({**content, "fingerprint": hashlib.sha256(form.encode()).hexdigest()[:16]})


def test_broken_records_are_refused_and_the_others_taken(tmp_path, elsewhere):
    path = keep(RUN)
    text, name = path.read_text(), "results/comparison/p/d/n/{}/seed1.json"
    bad = {"cut": text[:300], "nan": text.replace('"headline": 0.5', '"headline": NaN'), "bits": "\x00\x01"}
    bad["foreign"] = text.replace('"engine": 1', '"engine": 7')
    bad["large"] = text.replace('"headline": 0.5', '"headline": 1' + "0" * 400)
    bad["older"] = without(text, "experiment", "profile")
    bad["unpriced"] = without(text, "cost", "wall_seconds")
    files = {name.format(key): value.encode() for key, value in bad.items()} | {name.format("good"): text.encode()}
    store = elsewhere()
    lines = list(import_archives(store, [archive(tmp_path / "in.tar.gz", **files)]))
    assert sum(line.startswith("refused: ") for line in lines) == 7 and len(lines) == 8
    assert [p.parent.name for p in store.own.results.rglob("*.json")] == ["good"] and not store.problems
    assert store.get(*RUN.key) is not None


def test_what_is_here_is_kept(tmp_path, elsewhere):
    first = keep(RUN, 0.25)
    teacher = keep_teacher(experiment("kd"))
    archives = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    store = elsewhere()
    mine = store.own.results / first.relative_to(tmp_path / "store" / "results")
    keep(RUN, 0.75, store)
    folder = store.own.checkpoints / "teachers" / f"resnet14-{teacher.experiment.fingerprint}-seed0"
    save_checkpoint(folder, {"student.w": torch.ones(1)}, {"mine": True})
    list(import_archives(store, archives))
    assert store.get(*RUN.key).metrics["headline"] == 0.75 and store.get(*RUN.key).path == mine
    assert load_checkpoint(folder)[1] == {"mine": True} and len(list(folder.iterdir())) == 2
    assert store.get(*teacher.key) is not None


PROGRESS = [
    # here, there -> which goes on, if numerics agree
    ((0, 3, 5), (0, 4, 0), "there"),
    ((0, 4, 0), (0, 3, 9), "here"),
    ((1, 0, 0), (0, 9, 9), "here"),
    ((0, 9, 9), (1, 0, 0), "there"),
    ((0, 3, 5), (0, 3, 5), "here"),
    (None, (0, 0, 1), "there"),
]


@pytest.mark.parametrize("same_numerics", [True, False])
@pytest.mark.parametrize(("here", "there", "winner"), PROGRESS)
def test_of_two_checkpoints_the_further_one_goes_on(here, there, winner, same_numerics, tmp_path, elsewhere):
    def place(name: str, position: tuple[int, int, int], numerics: str) -> None:
        meta = dict(zip(("index", "epoch", "step"), position, strict=True)) | {"name": name, "numerics": numerics}
        save_checkpoint(Store.open().running_folder(RUN), {name: torch.ones(2)}, meta)

    place("there", there, "a")
    archives = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    store = elsewhere()
    if here is not None:
        place("here", here, "a" if same_numerics else "b")
        winner = winner if same_numerics else "here"  # what this machine cannot take up is no progress here
    list(import_archives(store, archives))
    tensors, meta = load_checkpoint(store.running_folder(RUN))
    assert meta["name"] == winner and list(tensors) == [winner]
    assert len(list(store.running_folder(RUN).iterdir())) == 2


def test_a_checkpoint_of_a_finished_run_is_not_taken(tmp_path, elsewhere):
    save_checkpoint(Store.open().running_folder(RUN), {"w": torch.ones(2)}, {"epoch": 1})
    archives = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    store = elsewhere()
    keep(RUN, store=store)
    list(import_archives(store, archives))
    assert not store.running_folder(RUN).exists()


def test_a_checkpoint_that_is_being_written_is_left_alone(tmp_path, elsewhere):
    """Of a trainer that has laid its files down, and its description not yet."""
    save_checkpoint(Store.open().running_folder(RUN), {"theirs": torch.ones(2)}, {"epoch": 9})
    archives = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    store = elsewhere()
    save_checkpoint(store.running_folder(RUN), {"ours": torch.ones(2)}, {"epoch": 1})
    (description,) = store.running_folder(RUN).glob("checkpoint.json")
    ours, told = description.read_bytes(), f"checkpoint {store.running_folder(RUN).name}: the run is being trained here"
    description.unlink()
    lock = store.lock(RUN)
    assert any(line.startswith(told) for line in import_archives(store, archives))
    description.write_bytes(ours)
    assert list(load_checkpoint(store.running_folder(RUN))[0]) == ["ours"]
    lock.release()
    assert not any("being trained" in line for line in import_archives(store, archives))
    assert list(load_checkpoint(store.running_folder(RUN))[0]) == ["theirs"]


def test_without_a_store_of_ones_own_trials_stay_out_of_the_published_study(tmp_path, monkeypatch):
    runs = [Run(experiment("plain", p), 1) for p in (PROFILES["demo"], PROFILES["paper"], TINY.limited(1))]
    for run in runs:
        keep(run)
    archives = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    monkeypatch.delenv("KDNB_STORE")
    store = Store.open()
    list(import_archives(store, archives))
    homes = [store.get(*run.key).path.relative_to(tmp_path).parts[0] for run in runs]
    assert homes == ["demo", "published", "custom"]


def test_a_run_goes_on_where_another_machine_left_it(tmp_path, elsewhere):
    """Stopped here, packed, taken in there, finished there: the numbers of an undisturbed run."""

    def train(stop_after: int | None = None) -> list[str]:
        lines: list[str] = []
        runner = Runner(Store.open(), detect("cpu"), "comparison", say=lines.append)
        if stop_after is not None:
            steps = iter(range(stop_after))
            runner._stopping = lambda: next(steps, None) is None  # type: ignore[method-assign]
        runner.run([RUN])
        return lines

    train(stop_after=4)
    archives = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    train()
    whole = Store.open().get(*RUN.key)
    list(import_archives(elsewhere(), archives))
    assert any("goes on at epoch" in line for line in train())
    moved = Store.open().get(*RUN.key)
    assert (moved.metrics, moved.history, moved.correct) == (whole.metrics, whole.history, whole.correct)


def test_a_checkpoint_of_other_numerics_is_said_and_kept_aside(tmp_path, elsewhere):
    def place(numerics: str) -> None:
        save_checkpoint(Store.open().running_folder(RUN), {numerics: torch.ones(2)}, {"numerics": {"device": numerics}})

    place("cuda")
    archives = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    store = elsewhere()
    place("cpu")
    folder = store.running_folder(RUN)
    aside = folder.with_name(f"{folder.name}~1")
    says = f"{folder.name}: a checkpoint of other numerics than the one here; it is kept aside as {aside}"
    assert list(import_archives(store, archives)) == [says]
    assert list(load_checkpoint(folder)[0]) == ["cpu"] and list(load_checkpoint(aside)[0]) == ["cuda"]
    assert list(import_archives(store, archives)) == []  # it is here


def names(archives: list[Path]) -> set[str]:
    found = set()
    for path in archives:
        with tarfile.open(path) as packed:
            found |= {name.rpartition("/")[2] for name in packed.getnames()}
    return found


def test_an_export_packs_what_is_new(tmp_path):
    """Call after call on a machine whose files are fetched after each; in one place, what lies there is kept."""
    store = Store.open()
    keep(RUN)
    assert names(export_store(store, tmp_path / "1.tar.gz").archives) == {"seed1.json"}
    keep(Run(RUN.experiment, 2))
    assert names(export_store(store, tmp_path / "2.tar.gz").archives) == {"seed2.json"}
    assert names(export_store(store, tmp_path / "3.tar.gz").archives) == set()
    keep(Run(RUN.experiment, 3))
    assert names(export_store(store, tmp_path / "2.tar.gz").archives) == {"seed2.json", "seed3.json"}
    keep(RUN, 0.75)  # it has changed
    assert names(export_store(store, tmp_path / "4.tar.gz").archives) == {"seed1.json"}
    everything = export_store(store, tmp_path / "5.tar.gz", everything=True).archives
    assert names(everything) == {"seed1.json", "seed2.json", "seed3.json"}


@pytest.mark.parametrize("name", ["mine.txt", "out-records-1.tar.gz", "out-checkpoints-0.tar.gz"])
@pytest.mark.parametrize("kind", ["words", "packed words", "an archive of something else", "a link"])
def test_an_export_replaces_nothing_but_archives_of_exports(name, kind, tmp_path):
    keep(RUN)
    target = tmp_path / (name if name == "mine.txt" else "out.tar.gz")
    place = tmp_path / name
    if kind == "an archive of something else":
        archive(place, **{"letters/1.json": b"{}"})
    elif kind == "a link":
        place.symlink_to(tmp_path / "nowhere")
    else:
        place.write_bytes(b"my words" if kind == "words" else gzip.compress(b"my words"))
    before = place.is_symlink() or place.read_bytes()
    with pytest.raises(StoreError, match=f"{name} is no archive of an export, .*; name another file"):
        export_store(Store.open(), target)
    assert (place.is_symlink() or place.read_bytes()) == before
    assert names(export_store(Store.open(), tmp_path / "other.tar.gz").archives) == {"seed1.json"}, "nothing is lost"


def test_an_archive_of_an_export_is_replaced_and_an_empty_one_too(tmp_path):
    target = tmp_path / "out.tar.gz"
    assert names(export_store(Store.open(), target).archives) == set()
    keep(RUN)
    for _ in range(2):
        assert names(export_store(Store.open(), target).archives) == {"seed1.json"}


def test_folders_are_told_from_archives(tmp_path):
    with pytest.raises(StoreError, match=r"is a folder; name a file for the archive"):
        export_store(Store.open(), tmp_path)
    with pytest.raises(StoreError, match=r"is a folder; name the archives in it .*\*\.tar\.gz"):
        list(import_archives(Store.open(), [tmp_path]))


def test_records_go_first_and_whole_checkpoints_as_far_as_they_fit(tmp_path, monkeypatch, elsewhere):
    monkeypatch.setattr(archives_module, "LARGEST_EXPORT", 60_000)
    monkeypatch.setattr(archives_module, "LARGEST_ARCHIVE", 20_000)
    monkeypatch.setattr("kdnb.training.checkpoint.LARGEST_FILE", 10_000)
    store = Store.open()
    keep(RUN)
    running = [store.running_folder(Run(RUN.experiment, seed)) for seed in (2, 3, 4)]
    for folder, floats in zip(running, (8_000, 8_000, 20_000), strict=True):
        save_checkpoint(folder, {"w": torch.ones(floats, 1)}, {"epoch": 1})
    first = export_store(store, tmp_path / "1.tar.gz")
    assert all(path.stat().st_size < 21_000 for path in first.archives) and first.archives[0].name == "1.tar.gz"
    assert "seed1.json" in names(first.archives[:1])
    assert [line.partition("/checkpoint.json ")[2] for line in first.left] == [
        "goes with the next export",
        "is too large to travel (0 MiB)",
    ]
    second = export_store(store, tmp_path / "2.tar.gz")
    assert len(second.left) == 1
    other = elsewhere()
    list(import_archives(other, [*first.archives, *second.archives]))
    assert [load_checkpoint(other.running_folder(Run(RUN.experiment, s))) is not None for s in (2, 3, 4)] == [
        True,
        True,
        False,
    ]


def test_an_export_has_no_more_files_than_may_travel(tmp_path, monkeypatch):
    monkeypatch.setattr(archives_module, "LARGEST_ARCHIVE", 5_000)
    monkeypatch.setattr(archives_module, "MOST_ARCHIVES", 3)
    store = Store.open()
    for seed in range(1, 6):
        save_checkpoint(store.running_folder(Run(RUN.experiment, seed)), {"w": torch.ones(1_000)}, {"epoch": 1})
    exported = export_store(store, tmp_path / "out.tar.gz")
    assert len(exported.archives) <= 3 and exported.left


# -- arrays beside records -------------------------------------------------------------------------------------

DRAWN = Run(experiment("kd"), 1, keeps=("logits_by_class", "plane"))


def beside(path: Path) -> Path:
    return path.with_suffix(".npz")


def test_arrays_travel_with_their_record(tmp_path, elsewhere):
    keep(DRAWN, 0.25)
    keep(RUN)
    sent = Store.open()
    before = contents(sent.own.results.parent)
    archives = export_store(sent, tmp_path / "out.tar.gz").archives
    store = elsewhere()
    lines = list(import_archives(store, archives))
    assert sorted(line.endswith(", with its arrays") for line in lines) == [False, True]
    assert (
        contents(store.own.results.parent) == {k: v for k, v in before.items() if "exported" not in k}
        and store.has(DRAWN)
        and not store.problems
    )
    there, here = sent.arrays(sent.get(*DRAWN.key)), store.arrays(store.get(*DRAWN.key))
    assert there.keys() == here.keys() and all((there[name] == here[name]).all() for name in there)
    assert list(import_archives(store, archives)) == []


def test_many_records_go_in_several_archives_each_beside_its_arrays(tmp_path, elsewhere, monkeypatch):
    runs = [Run(DRAWN.experiment, seed, ("plane",)) for seed in (1, 2, 3)]
    for run in runs:
        noise = np.random.default_rng(run.seed).integers(0, 256, 30_000, np.uint8)
        Store.open().write(run, record(run), "comparison", {"plane": noise, "labels": noise})
    monkeypatch.setattr(archives_module, "LARGEST_ARCHIVE", 150_000)
    archives = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    assert [a.name for a in archives] == ["out.tar.gz", "out-records-1.tar.gz"]
    assert all(path.stat().st_size < 150_000 for path in archives)
    store = elsewhere()
    for path in reversed(archives):  # one by one, in any order
        assert all(line.endswith("with its arrays") for line in import_archives(store, [path]))
    assert all(store.has(run) for run in runs)


def repacked(path: Path, changes: dict[str, bytes]) -> Path:
    """An archive of the files of this one, some of them changed, by the end of their names."""
    with tarfile.open(path) as packed:
        files = {m.name: packed.extractfile(m).read() for m in packed.getmembers()}
    for end, content in changes.items():
        files |= {name: content for name in files if name.endswith(end)}
    return archive(path, **files)


def spoken_of(path: Path, content: bytes) -> dict[str, bytes]:
    """A record that speaks of these arrays, digest and all, and the arrays."""
    told = json.loads(path.read_text()) | {"arrays": array_files.digest(content)}
    return {"seed1.json": json.dumps(told).encode(), "seed1.npz": content}


def saved(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


REFUSED_ARRAYS = {
    "pickled": lambda path: spoken_of(path, saved(plane=np.array([{"a": 1}], dtype=object), labels=np.ones(1))),
    "too large once unpacked": lambda path: spoken_of(path, saved(plane=np.zeros(2**23), labels=np.ones(1))),
    "too large": lambda path: spoken_of(path, saved(plane=np.random.default_rng(0).random(2**18))),
    "no arrays": lambda path: spoken_of(path, b"import os" * 20),
    "a program among them": lambda path: spoken_of(path, zipped({"plane.py": b"import os"})),
    "a header that lies": lambda path: spoken_of(path, zipped({"plane.npy": lying_header()})),
    "empty": lambda path: {"seed1.npz": b""},
    "cut": lambda path: {"seed1.npz": beside(path).read_bytes()[:-9]},
    "another record's": lambda path: {"seed1.npz": saved(plane=np.ones(2), labels=np.ones(2))},
}


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return stream.getvalue()


def lying_header() -> bytes:
    """A header that promises more numbers than any machine holds."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**55,)})
    return stream.getvalue()


@pytest.mark.parametrize("name", REFUSED_ARRAYS)
def test_arrays_that_are_not_the_records_own_are_refused_in_a_sentence(name, tmp_path, elsewhere):
    path = keep(Run(DRAWN.experiment, 1, ("plane",)), 0.25)
    changes = REFUSED_ARRAYS[name](path)
    (packed,) = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    store = elsewhere()
    refused, taken = import_archives(store, [repacked(packed, changes)])
    assert refused.startswith("refused: ") and "seed1.npz is not " in refused and "\n" not in refused
    assert taken.startswith("record ") and not taken.endswith("arrays")
    assert store.get(*DRAWN.key).metrics["headline"] == 0.25 and store.kept(DRAWN) == []  # the record came
    assert not list(store.own.results.rglob("*.npz"))


def test_arrays_without_a_record_are_left_out(tmp_path, elsewhere):
    name = "results/comparison/demo/digits/a-b/kd/seed1.npz"
    store = elsewhere()
    (line,) = import_archives(store, [archive(tmp_path / "in.tar.gz", **{name: saved(plane=np.ones(2))})])
    assert f"{name} has no record beside it; left out" in line and not store.own.results.exists()


@pytest.mark.parametrize("paper", ["comparison", "slkd"])
def test_a_record_with_arrays_takes_the_place_of_one_without(paper, tmp_path, elsewhere):
    """Else what another machine computed for a figure could not come home."""
    Store.open().write(DRAWN, record(DRAWN, 0.25), paper, some_arrays(DRAWN))
    archives = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    store = elsewhere()
    place = keep(Run(DRAWN.experiment, 1), 0.75, store)
    (line,) = import_archives(store, archives)
    assert line.endswith(f"{place}, with its arrays")
    assert store.has(DRAWN) and store.get(*DRAWN.key).metrics["headline"] == 0.25
    assert len(list(store.own.results.rglob("*.json"))) == 1 and not store.problems


@pytest.mark.parametrize(
    ("here", "there", "taken"),
    [
        ((), ("plane",), True),
        (("plane",), ("plane", "logits_by_class"), True),
        (("plane",), ("plane",), False),
        (("plane", "logits_by_class"), ("plane",), False),
        (("plane",), ("logits_by_class",), False),  # it would cost us ours
        (("plane",), (), False),
    ],
)
def test_a_record_here_gives_way_only_to_one_with_more_arrays(here, there, taken, tmp_path, elsewhere):
    keep(Run(DRAWN.experiment, 1, there), 0.25)
    archives = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    store = elsewhere()
    keep(Run(DRAWN.experiment, 1, here), 0.75, store)
    assert len(list(import_archives(store, archives))) == taken
    assert store.get(*DRAWN.key).metrics["headline"] == (0.25 if taken else 0.75)
    assert store.has(Run(DRAWN.experiment, 1, there if taken else here)) and not store.problems


def test_broken_arrays_are_healed_by_an_import(tmp_path, elsewhere):
    keep(DRAWN)
    archives = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    store = elsewhere()
    beside(keep(DRAWN, store=store)).unlink()
    assert not Store.open().has(DRAWN)
    store = Store.open()
    list(import_archives(store, archives))
    assert store.has(DRAWN) and not store.problems


@pytest.mark.parametrize("same", [True, False])
def test_a_teachers_record_stays_that_of_its_weights(same, tmp_path, elsewhere):
    """Arrays of the same training come in; those of another one would tell of weights that are not here."""
    taught = experiment("kd")
    teacher = keep_teacher(taught).keeping(["plane"])
    keep(teacher, 0.5 if same else 0.25)
    (packed, *_) = export_store(Store.open(), tmp_path / "out.tar.gz").archives
    store = elsewhere()
    keep_teacher(taught, store)
    assert len(list(import_archives(store, [packed]))) == same
    assert store.has(teacher) == same and store.get(*teacher.key).metrics["headline"] == 0.5


def test_what_was_kept_aside_of_a_run_that_has_ended_does_not_travel(tmp_path):
    keep(RUN)
    folder = Store.open().running_folder(RUN)
    aside = folder.with_name(f"{folder.name}~1")
    save_checkpoint(aside, {"a": torch.zeros(1)}, {"fingerprint": RUN.experiment.fingerprint, "seed": 1})
    exported = export_store(Store.open(), tmp_path / "out.tar.gz")
    assert [path.name for path in exported.archives] == ["out.tar.gz"] and aside.exists()
