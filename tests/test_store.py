"""The store: what is read, what is not and why, and what a crash or a full disk leaves behind."""

from __future__ import annotations

import dataclasses
import errno
import io
import itertools
import json
import os
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from study_samples import TINY, experiment, keep, keep_teacher, record, some_arrays

from kdnb import analysis, exhibits
from kdnb.errors import DataError, KdnbError, StoreError
from kdnb.evaluation.correct import pack, unpack
from kdnb.exhibits import measure, status
from kdnb.study import arrays as array_files
from kdnb.study import plan
from kdnb.study.archives import export_store
from kdnb.study.environment import environment
from kdnb.study.experiment import Run
from kdnb.study.profile import PROFILES
from kdnb.study.record import LARGEST_RECORD, LONGEST_HISTORY, Record, read, thinned
from kdnb.study.runner import Outcome, Runner
from kdnb.study.store import Store, record_path
from kdnb.training import checkpoint
from kdnb.training.checkpoint import load_checkpoint, remove_checkpoint, save_checkpoint
from kdnb.training.numerics import detect

RUN = Run(experiment("plain"), 1)
pytestmark = pytest.mark.usefixtures("empty_project")


def changed(text: str, **fields: object) -> str:
    return json.dumps({**json.loads(text), **fields})


def inside(text: str, part: str, **fields: object) -> str:
    return changed(text, **{part: {**json.loads(text)[part], **fields}})


def nested(depth: int) -> object:
    return [nested(depth - 1)] if depth else 1


BROKEN = {
    "cut in the middle": (lambda text: text[: len(text) // 2], "is not a whole record"),
    "empty": (lambda text: "", "is not a whole record"),
    "no JSON": (lambda text: "\x00\xff" * 40, "is not a whole record"),
    "a list": (lambda text: "[]", "is not a whole record"),
    "NaN": (lambda text: text.replace('"headline": 0.5', '"headline": NaN'), "it holds NaN"),
    "infinite": (lambda text: text.replace('"headline": 0.5', '"headline": 1e999'), "not finite"),
    "NaN in the history": (lambda text: text.replace("[0.2, 0.5]", "[0.2, NaN]"), "it holds NaN"),
    "another experiment's": (lambda text: changed(text, fingerprint="0" * 16), "another experiment's fingerprint"),
    "stale": (lambda text: text.replace('"engine": 1', '"engine": 0'), "another experiment's fingerprint"),
    "a field too many": (lambda text: changed(text, extra=1), "'extra' is no field of a record"),
    "a field too few": (lambda text: json.dumps({"seed": 1}), "it has no fingerprint"),
    "metrics of another kind": (lambda text: changed(text, metrics=[1]), "metrics is not an object"),
    "history of another kind": (lambda text: changed(text, history=3), "history is not an object"),
    "a history of words": (lambda text: changed(text, history={"epoch": ["a"]}), "an entry of history.epoch is not"),
    "a ragged history": (lambda text: inside(text, "history", lr=[0.1]), "columns of several lengths"),
    "a history without epochs": (lambda text: changed(text, history={"lr": [0.1]}), "goes on after its epochs"),
    "a seed of another kind": (lambda text: changed(text, seed="1"), "seed is not a whole number"),
    "a seed that is a truth": (lambda text: changed(text, seed=True), "seed is not a whole number"),
    "a negative seed": (lambda text: changed(text, seed=-1), "its seed is negative"),
    "arrays of another kind": (lambda text: changed(text, arrays=["plane"]), "arrays is not a text"),
    "no bits": (lambda text: changed(text, correct=None), "correct is not a text"),
    "bits of no base64": (lambda text: changed(text, correct="ä!"), "correct is no base64"),
    "no metrics": (lambda text: changed(text, metrics={}), "its metrics lack epochs, headline"),
    "a metric of another kind": (
        lambda text: inside(text, "metrics", headline="1"),
        "metrics.headline is not a number",
    ),
    "no profile": (lambda text: inside(text, "experiment", profile=None), "experiment.profile is not an object"),
    "a teacher of another kind": (lambda text: inside(text, "experiment", teacher=[1]), "teacher is not an object"),
    "no seconds": (lambda text: changed(text, cost={}), "it has no cost.wall_seconds"),
    "seconds of another kind": (
        lambda text: inside(text, "cost", wall_seconds="1"),
        "cost.wall_seconds is not a number",
    ),
    "numerics of another kind": (lambda text: changed(text, environment={"numerics": 3}), "numerics is not an object"),
    "too large": (lambda text: text.replace('"headline": 0.5', f'"headline": 1{"0" * 400}'), "a number too large"),
    "larger still": (lambda text: text.replace('"headline": 0.5', f'"headline": 1{"0" * 5000}'), "is not a whole"),
    "deep": (lambda text: changed(text, cost=nested(20)), "nested too deep"),
    "deeper": (lambda text: text.replace('"cost": ', '"cost": ' + "[" * 100_000), "nested too deep"),
    "half a character": (lambda text: inside(text, "cost", device="\ud800"), "is not a whole record"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_is_ignored_listed_and_run_again(name):
    damage, what = BROKEN[name]
    path, other = keep(RUN), keep(Run(RUN.experiment, 2))
    path.write_text(damage(path.read_text()), encoding="latin-1")
    store = Store.open()
    assert store.get(*RUN.key) is None and RUN in plan.missing([RUN], store)
    (problem,) = store.problems
    assert problem.path == path and what in problem.what and "\n" not in problem.what
    assert str(path) not in problem.what and problem.what.endswith("; remove it, or import it again.")
    (listed,) = status.broken(store)
    assert listed["path"] == str(path)
    assert store.records(RUN.experiment.fingerprint).keys() == {2} and other.exists()
    keep(RUN)  # run again on demand: the broken file is replaced
    assert Store.open().get(*RUN.key) is not None and not Store.open().problems


def test_records_are_found_by_fingerprint_wherever_they_lie(tmp_path):
    path = keep(RUN)
    place = tmp_path / "store" / "results" / "elsewhere" / "seed9.json"
    place.parent.mkdir()
    path.rename(place)
    found = Store.open().get(*RUN.key)
    assert found is not None and found.path == place and found.seed == 1


def test_own_records_lie_on_top_of_the_published_ones(tmp_path, monkeypatch):
    demo, paper = (Run(experiment("plain", PROFILES[p]), 1) for p in ("demo", "paper"))
    custom = Run(experiment("plain", TINY.limited(1)), 1)
    with monkeypatch.context() as patch:
        patch.delenv("KDNB_STORE")
        places = [keep(run, 0.25) for run in (paper, demo, custom)]
        assert [p.relative_to(tmp_path).parts[0] for p in places] == ["published", "demo", "custom"]
    assert Store.open().get(*paper.key).metrics["headline"] == 0.25
    own = keep(paper, 0.75)
    assert own.is_relative_to(tmp_path / "store")
    assert Store.open().get(*paper.key).metrics["headline"] == 0.75
    own.write_text("torn")
    store = Store.open()
    assert store.get(*paper.key).metrics["headline"] == 0.25 and [p.path for p in store.problems] == [own]


def test_a_record_that_stood_still_is_read_once_and_a_new_one_always(monkeypatch):
    """Pages and runners open the store again and again; what another process has written meanwhile is seen."""
    read_now: list[Path] = []

    def counted(path: Path) -> Record:
        read_now.append(path)
        return read(path)

    path = keep(RUN, 0.5)
    monkeypatch.setattr("kdnb.study.store.read", counted)
    monkeypatch.setattr("kdnb.study.store.STILL_SECONDS", 600.0)
    assert Store.open() and Store.open() and read_now == [path, path]  # written just now: its times tell nothing yet
    monkeypatch.setattr("kdnb.study.store.STILL_SECONDS", -1.0)
    assert Store.open() and Store.open() and read_now == [path] * 3
    keep(RUN, 0.7, Store.open())
    headlines = [store.get(*RUN.key).metrics["headline"] for store in (Store.open(), Store.open())]
    assert headlines == [0.7, 0.7]
    path.write_text(path.read_text()[:40])
    assert Store.open().get(*RUN.key) is None


def test_no_record_replaces_another_experiments():
    """Two experiments that people would call the same: both are kept."""
    other = Run(experiment("plain", recipe=dataclasses.replace(RUN.experiment.recipe, lr=0.2)), 1)
    first, second = keep(RUN, 0.1), keep(other, 0.2)
    assert first != second
    assert keep(RUN, 0.3) == first and keep(other, 0.4) == second  # each its own
    store = Store.open()
    assert store.get(*RUN.key).metrics["headline"] == 0.3 and store.get(*other.key).metrics["headline"] == 0.4


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_folder_where_a_record_belongs_is_left_and_listed_and_the_record_lies_beside_it(suffix):
    kept = Run(RUN.experiment, 1, ("plane",))
    path = keep(kept)
    for file in (path, path.with_suffix(".npz")):
        file.unlink()
    path.with_suffix(suffix).mkdir()
    assert keep(kept) == path.parent.with_name(f"plain~{RUN.experiment.fingerprint[:8]}") / "seed1.json"
    store = Store.open()
    assert store.has(kept) and path.with_suffix(suffix).is_dir()
    assert [problem.path for problem in store.problems] == ([path] if suffix == ".json" else [])
    assert not any(str(path) in problem.what for problem in store.problems)


def test_every_run_of_every_exhibit_has_a_path_of_its_own():
    places: dict[str, str] = {}
    for exhibit in [*exhibits.all_exhibits(), *exhibits.ablations()]:
        for profile in PROFILES:
            for dataset in exhibit.datasets_of(profile):
                for cell in exhibit.cells(profile, dataset):
                    for run in plan.with_needs(cell.runs(1)):
                        path = str(record_path(run, exhibit.paper))
                        assert places.setdefault(path, run.experiment.fingerprint) == run.experiment.fingerprint, path
                        assert max(len(part) for part in path.split("/")) <= 150
    assert len(places) > 300


# -- what a full disk or a crash leaves ------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_said_and_leaves_earlier_records_untouched(call, monkeypatch):
    path = keep(RUN, 0.25)
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StoreError, match=r"seed1\.json could not be written \(No space left on device\)"):
            keep(RUN, 0.75)
        with pytest.raises(StoreError, match="could not be written"):
            keep_teacher(experiment("kd"))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing half-written is left
    assert Store.open().get(*RUN.key).metrics["headline"] == 0.25


def test_a_store_that_cannot_be_a_folder_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDNB_STORE", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="could not be written"):
        keep(RUN)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_store_that_is_a_file_is_among_what_is_broken(place, tmp_path, monkeypatch, empty_project):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDNB_STORE", str(tmp_path / place))
    (told,) = status.broken(Store.open())
    assert told["path"] == str(tmp_path / "file") and told["what"].startswith("is no folder")
    assert "point it to a folder" in told["what"]
    monkeypatch.setenv("KDNB_STORE", str(tmp_path / "to come"))
    assert not Store.open().problems


def test_a_store_that_cannot_be_written_is_told_before_anything_is_trained(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDNB_STORE", str(tmp_path / "file"))
    monkeypatch.setattr("kdnb.study.runner.run_side_by_side", lambda *arguments: pytest.fail("it has begun to train"))
    with pytest.raises(StoreError, match=r"cannot be written .*point \$KDNB_STORE elsewhere"):
        train([RUN])


def test_a_disk_that_is_full_for_a_while_ends_no_training(monkeypatch):
    """One checkpoint cannot be written: it is said once, others are, and the record is the undisturbed one."""
    runs, lines = two_side_by_side(), list[str]()
    train(runs)
    whole = [Store.open().get(*run.key) for run in runs]
    for kept in whole:
        kept.path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("kdnb.study.runner.CHECKPOINT_SECONDS", 0.0)
        full_disk_under(runs[0], patch)
        train(runs, lines)
    assert sum("no checkpoint for now" in line and "No space left" in line for line in lines) == 1
    again = [Store.open().get(*run.key) for run in runs]
    assert [(r.metrics, r.history, r.correct) for r in again] == [(r.metrics, r.history, r.correct) for r in whole]


def test_a_full_disk_at_a_stop_costs_only_whom_it_concerns(monkeypatch):
    """It ends as a stop does; of a run whose checkpoint could not be replaced the old one is still there."""
    runs, lines = two_side_by_side(), list[str]()
    train(runs, stop_after=2)
    with monkeypatch.context() as patch:
        full_disk_under(runs[0], patch)
        outcome = train(runs, lines, stop_after=1)
    assert outcome.stopped == signal.SIGTERM and outcome.left == 2
    assert lines[-1] == (
        "stopped; checkpoints are written, but for 1 that could not be, and the same command goes on from them"
    )
    assert [load_checkpoint(Store.open().running_folder(run))[1]["step"] for run in runs] == [2, 0]
    assert train(runs).recorded == runs


def two_side_by_side() -> list[Run]:
    keep_teacher(experiment("kd"))
    return [Run(experiment("kd"), 1), Run(experiment("kd", arguments={"temperature": 2.0}), 1)]


def full_disk_under(run: Run, patch: pytest.MonkeyPatch) -> None:
    """No file of this run's checkpoint can be written."""
    real, place = os.replace, str(Store.open().running_folder(run))

    def replaced(source: str, target: str) -> None:
        if str(target).startswith(place):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    patch.setattr(os, "replace", replaced)


def train(runs: list[Run], lines: list[str] | None = None, stop_after: int = 0) -> Outcome:
    steps = itertools.count(1)

    def stop(cohort: object) -> None:
        if next(steps) == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    say = (lines if lines is not None else []).append
    return Runner(Store.open(), detect("cpu"), "comparison", say=say, on_step=stop).run(runs)


TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3), "c": torch.ones(2, dtype=torch.bfloat16)}


def test_a_checkpoint_comes_back_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "LARGEST_FILE", 100)
    tensors = {**TENSORS, "large": torch.randn(7, 9), "wide": torch.randn(3, 2, 40)}
    tensors["last"] = tensors["large"].t()
    save_checkpoint(tmp_path, tensors, {"epoch": 3, "history": {"ce": [0.1]}})
    found, meta = load_checkpoint(tmp_path)
    assert found.keys() == tensors.keys() and meta == {"epoch": 3, "history": {"ce": [0.1]}}
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    remove_checkpoint(tmp_path)
    assert not tmp_path.exists()


def test_no_file_of_a_checkpoint_is_larger_than_may_travel(tmp_path):
    save_checkpoint(tmp_path, {"bank": torch.zeros(50_000, 128), "best.bank": torch.zeros(50_000, 128)}, {})
    assert max(p.stat().st_size for p in tmp_path.iterdir()) < 16 * 2**20
    assert load_checkpoint(tmp_path)[0]["bank"].shape == (50_000, 128)


@pytest.mark.parametrize("crash_at", [1, 2, 3])
def test_a_crash_while_writing_leaves_the_old_checkpoint_or_the_new_one(crash_at, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "LARGEST_FILE", 20)
    save_checkpoint(tmp_path, {"w": torch.zeros(4), "v": torch.zeros(4)}, {"generation": 0})
    real, calls = os.replace, []

    def crash(source: str, target: str) -> None:
        calls.append(target)
        if len(calls) == crash_at:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, {"w": torch.ones(4), "v": torch.ones(4)}, {"generation": 1})
    tensors, meta = load_checkpoint(tmp_path)
    assert {float(t.mean()) for t in tensors.values()} == {float(meta["generation"])} == {0.0}
    save_checkpoint(tmp_path, {"w": torch.ones(4), "v": torch.ones(4)}, {"generation": 2})
    assert load_checkpoint(tmp_path)[1] == {"generation": 2}
    names = json.loads((tmp_path / "checkpoint.json").read_text())["files"]
    assert {p.name for p in tmp_path.glob("*.safetensors")} == set(names)


DAMAGES = {
    "cut": lambda folder: shorten(next(folder.glob("*.safetensors"))),
    "gone": lambda folder: next(folder.glob("*.safetensors")).unlink(),
    "header": lambda folder: next(folder.glob("*.safetensors")).write_bytes(b"\xff" * 200),
    "description": lambda folder: shorten(folder / "checkpoint.json"),
}


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_teacher_is_trained_again_not_used(name):
    taught = experiment("kd")
    teacher = keep_teacher(taught)
    run = Run(taught, 1)
    assert plan.missing([run], Store.open()) == [run]
    DAMAGES[name](Store.open().weights_folder(teacher))
    store = Store.open()
    assert store.weights_folder(teacher) is None and store.load_weights(teacher) is None
    assert plan.missing([run], store) == [teacher, run]


def test_a_teacher_is_kept_in_half_precision_and_nothing_is_pickled():
    teacher = keep_teacher(experiment("kd"))
    store = Store.open()
    kept, meta = load_checkpoint(store.weights_folder(teacher))
    assert {k: v.dtype for k, v in kept.items() if "weight" in k}.popitem()[1] == torch.float16
    assert kept["student.stem.norm.running_var"].dtype == torch.float32
    assert all(v.dtype in (torch.float32, torch.int64) for v in store.load_weights(teacher).values())
    assert meta == {"fingerprint": teacher.experiment.fingerprint, "seed": 0}
    assert {p.suffix for p in store.weights_folder(teacher).iterdir()} == {".safetensors", ".json"}


# -- arrays beside records -------------------------------------------------------------------------------------

DRAWN = Run(experiment("kd"), 1, keeps=("logits_by_class", "plane"))


def beside(path: Path) -> Path:
    return path.with_suffix(".npz")


def test_arrays_come_back_as_they_were():
    arrays = {
        "plane": np.random.default_rng(0).random((7, 2)).astype(np.float16),
        "labels": np.arange(7, dtype=np.uint8),
    }
    path = Store.open().write(DRAWN, record(DRAWN), "comparison", arrays)
    assert [p.name for p in sorted(path.parent.iterdir())] == ["seed1.json", "seed1.npz"]
    store = Store.open()
    found = store.arrays(store.get(*DRAWN.key))
    assert found.keys() == arrays.keys() and not store.problems
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)
    assert store.kept(DRAWN) == ["plane"] and store.lacking(DRAWN) == ["logits_by_class"]
    assert store.has(Run(DRAWN.experiment, 1, ("plane",))) and not store.has(DRAWN)
    before = beside(path).read_bytes()
    store.write(DRAWN, record(DRAWN), "comparison", dict(reversed(arrays.items())))
    assert beside(path).read_bytes() == before  # the same arrays are the same file


def test_a_record_without_arrays_says_nothing_of_them():
    """Records from before there were any stay what they are, byte for byte."""
    path = keep(RUN)
    assert "arrays" not in json.loads(path.read_text()) and not beside(path).exists()
    store = Store.open()
    assert store.has(RUN) and store.arrays(store.get(*RUN.key)) == {} and store.kept(RUN) == []


def rewritten(path: Path, content: bytes) -> None:
    """Arrays of which the record speaks, whatever they are."""
    beside(path).write_bytes(content)
    path.write_text(changed(path.read_text(), arrays=array_files.digest(content)))


def pickled() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, plane=np.array([{"a": 1}], dtype=object), labels=np.zeros(1), allow_pickle=True)
    return stream.getvalue()


def swollen() -> bytes:
    """A few kilobytes that unpack to many megabytes."""
    stream = io.BytesIO()
    np.savez_compressed(stream, plane=np.zeros(2**23), labels=np.zeros(1))
    return stream.getvalue()


DAMAGED_ARRAYS = {
    "cut": lambda path: shorten(beside(path)),
    "empty": lambda path: beside(path).write_bytes(b""),
    "gone": lambda path: beside(path).unlink(),
    "flipped": lambda path: beside(path).write_bytes(bytes(b ^ 1 for b in beside(path).read_bytes())),
    "huge": lambda path: beside(path).write_bytes(bytes(3 * 2**20)),
    "another run's": lambda path: beside(path).write_bytes(
        beside(keep(Run(DRAWN.experiment, 2, ("plane",)))).read_bytes()
    ),
    "no file of arrays": lambda path: rewritten(path, b"something else" * 30),
}


@pytest.mark.parametrize("name", DAMAGED_ARRAYS)
def test_damaged_arrays_are_listed_and_computed_again(name):
    path = keep(DRAWN, 0.25)
    DAMAGED_ARRAYS[name](path)
    store = Store.open()
    (problem,) = store.problems
    assert problem.path == beside(path) and str(beside(path)) not in problem.what and "\n" not in problem.what
    assert problem.what.endswith("; remove it, or import it again.")
    assert any(line["path"] == str(beside(path)) for line in status.broken(store))
    assert store.get(*DRAWN.key).metrics["headline"] == 0.25 and store.has(Run(DRAWN.experiment, 1))  # tables show it
    assert not store.has(DRAWN) and store.arrays(store.get(*DRAWN.key)) == {} and len(store.problems) == 1
    keep_teacher(DRAWN.experiment)
    assert plan.missing([DRAWN], Store.open()) == [DRAWN]
    keep(DRAWN)
    assert Store.open().has(DRAWN) and beside(path) not in {p.path for p in Store.open().problems}


@pytest.mark.parametrize("content", [pickled, swollen])
def test_arrays_that_should_not_be_opened_are_not(content):
    """Someone made them, digest and all."""
    path = keep(Run(DRAWN.experiment, 1, ("plane",)))
    rewritten(path, content())
    store = Store.open()
    assert store.arrays(store.get(*DRAWN.key)) == {}
    (problem,) = store.problems
    assert problem.path == beside(path) and "is not a file of arrays" in problem.what


def exported_names(store: Store) -> list[str]:
    """What an export of all packs."""
    names = []
    for path in export_store(store, store.own.results.parent / "out.tar.gz", everything=True).archives:
        with tarfile.open(path) as packed:
            names += packed.getnames()
    return names


@pytest.mark.parametrize("before", ["nothing", "a record without arrays", "other arrays"])
@pytest.mark.parametrize("crash_at", [1, 2, 3])
def test_a_crash_while_writing_arrays_leaves_nothing_half(before, crash_at, monkeypatch):
    if before != "nothing":
        keep(Run(DRAWN.experiment, 1, ("plane",) if before == "other arrays" else ()), 0.25)
    real, calls = os.replace, []

    def crash(source: str, target: str) -> None:
        calls.append(Path(target).suffix)
        if len(calls) == crash_at:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            keep(DRAWN, 0.75)
    assert calls == [".npz", ".json", ".npz"][:crash_at]  # the arrays first, which wait for their record
    store = Store.open()
    found, written = store.get(*DRAWN.key), crash_at == 3
    assert not store.problems and store.has(DRAWN) == written
    assert (found is None) == (before == "nothing" and not written)
    assert found is None or found.metrics["headline"] == (0.75 if written else 0.25)
    kept = store.kept(DRAWN)
    assert kept == (["logits_by_class", "plane"] if written else ["plane"] if before == "other arrays" else [])
    arrays = [name for name in exported_names(store) if name.endswith(".npz")]
    assert arrays == ([f"results/{beside(record_path(DRAWN, 'comparison')).as_posix()}"] if kept else [])
    path = keep(DRAWN, 0.75)
    assert Store.open().has(DRAWN) and not Store.open().problems
    assert sorted(p.name for p in path.parent.glob("seed*")) == ["seed1.json", "seed1.npz"]


def test_a_full_disk_leaves_record_and_arrays_untouched(monkeypatch):
    path = keep(DRAWN, 0.25)
    before = path.read_bytes(), beside(path).read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"seed1\.next\.npz could not be written \(No space left on device\)"):
            Store.open().write(DRAWN, record(DRAWN, 0.75), "comparison", some_arrays(DRAWN, 2.0))
    assert (path.read_bytes(), beside(path).read_bytes()) == before and Store.open().has(DRAWN)


def test_a_record_that_cannot_be_written_leaves_no_arrays():
    with pytest.raises(StoreError, match="NaN"):
        Store.open().write(DRAWN, record(DRAWN, float("nan")), "comparison", some_arrays(DRAWN))
    with pytest.raises(StoreError, match="Arrays of objects are not kept: plane"):
        Store.open().write(DRAWN, record(DRAWN), "comparison", {"plane": np.array([None])})
    with pytest.raises(StoreError, match="are not kept beside a record"):
        Store.open().write(DRAWN, record(DRAWN), "comparison", {"plane": np.zeros(2**20)})
    assert Store.open().all() == [] and not list(Store.open().own.results.rglob("*.npz"))


def test_the_largest_arrays_can_be_read_again():
    noise = np.random.default_rng(0).integers(0, 256, array_files.LARGEST_ARRAYS, np.uint8)  # nothing to compress
    Store.open().write(DRAWN, record(DRAWN), "comparison", {"plane": noise})
    store = Store.open()
    assert np.array_equal(store.arrays(store.get(*DRAWN.key))["plane"], noise) and not store.problems


def test_a_record_replaces_the_old_one_where_another_paper_filed_it():
    """Else the old one, without the arrays, might be found first, and the run be trained for ever."""
    for first, second in (("comparison", "slkd"), ("slkd", "comparison")):
        run = Run(DRAWN.experiment, {"comparison": 1, "slkd": 2}[first], DRAWN.keeps)
        path = Store.open().write(run, record(run, 0.25), first)
        assert Store.open().write(run, record(run, 0.75), second, some_arrays(run)) == path
        assert Store.open().has(run) and Store.open().get(*run.key).metrics["headline"] == 0.75
    assert len(list(Store.open().own.results.rglob("*.json"))) == 2


def test_a_record_that_keeps_no_arrays_takes_the_old_ones_away():
    path = keep(DRAWN)
    keep(Run(DRAWN.experiment, 1))
    assert not beside(path).exists() and not Store.open().problems and not Store.open().has(DRAWN)


# -- records ---------------------------------------------------------------------------------------------------


NUMBERS = ("epochs", "selected", "selected_epoch", "headline", "last", "all_images")


def measured_of_one_run() -> set[str]:
    """The metrics of the run that keeps the most of all, over every exhibit that asks for it."""
    asked: dict[str, set[str]] = {}
    for exhibit in [*exhibits.all_exhibits(), *exhibits.ablations()]:
        for cell in exhibit.cells("paper"):
            if cell.experiment is not None:
                asked.setdefault(cell.experiment.fingerprint, set(analysis.ALWAYS)).update(cell.keeps)
    entries = ([analysis.get(name) for name in names] for names in asked.values())
    return max(({m for entry in kept if not entry.at for m in entry.metrics} for kept in entries), key=len)


def test_a_full_record_of_the_longest_run_is_small():
    """240 epochs of a run with many columns, 10,000 images, and as much measured of it as of any."""
    row = exhibits.get("comparison/table1").row("crd+kd")
    full = exhibits.get("comparison/table1").build(row, exhibits.Column("cifar100"), PROFILES["paper"])
    stream = np.random.default_rng(0)
    names = ["lr", "ce", "kd", "crd", "train_accuracy", "validation_accuracy", "validation_ce"]
    right = stream.random(10_000) < 0.7
    numerics = dataclasses.asdict(detect("cpu"))
    found = record(
        Run(full, 3),
        history=thinned({name: stream.random(240).tolist() for name in names}),
        correct=pack(right),
        environment=environment(numerics, {"train": "0" * 64, "test": "0" * 64}) | {"teacher": "0" * 16},
        metrics={name: 0.123456 for name in (*NUMBERS, *sorted(measured_of_one_run()))},
        arrays="0" * 16,
    )
    assert len(found.to_json().encode()) <= LARGEST_RECORD
    assert len(found.history["epoch"]) == LONGEST_HISTORY
    assert (found.history["epoch"][0], found.history["epoch"][-1]) == (1, 240)
    assert np.array_equal(unpack(found.correct, 10_000), right)


def test_a_history_is_thinned_evenly_and_rounded():
    long = thinned({"a": [i + 0.123456 for i in range(100)], "hint.a": [1.0, 2.0]})
    assert long["a"][0] == 0.1235 and long["a"][-1] == 99.12
    steps = np.diff(long["epoch"])
    assert len(steps) == LONGEST_HISTORY - 1 and set(steps) <= {1, 2}
    assert long["hint.a"] == [1.0, 2.0][: sum(epoch <= 2 for epoch in long["epoch"])]  # it ends with its stage
    assert thinned({"a": [1 / 3] * 64})["a"] == [0.3333] * 64
    assert thinned({}) == {"epoch": []}


def test_a_record_with_a_nan_is_not_written():
    with pytest.raises(StoreError, match="NaN"):
        Store.open().write(RUN, record(RUN, float("nan")), "comparison")
    assert Store.open().all() == []


def test_what_a_table_shows_is_what_the_record_says():
    demo = PROFILES["demo"]
    run = Run(experiment("kd", demo), 2)
    store = Store.open()
    store.write(
        run, record(run, metrics={"epochs": 2, "headline": 0.875, "last": 0.75, "all_images": 0.5}), "comparison"
    )
    frame = measure(exhibits.get("comparison/table1"), "demo", "digits")
    (line,) = frame.to_dict("records")
    assert (line["value"], line["last"], line["all_images"], line["seed"]) == (87.5, 75.0, 50.0, 2)
    assert (line["teacher"], line["student"], line["device"]) == ("resnet14", "resnet8", "test")
    assert line["fingerprint"] == run.experiment.fingerprint


# -- teachers --------------------------------------------------------------------------------------------------


def taught(seed, weights, **changes):
    run = Run(experiment("kd", **changes), seed)
    told = {"numerics": {}, "commit": "0123456789ab", "teacher": weights}
    return Store.open().write(run, record(run, environment=told), "comparison"), run


def test_students_of_other_weights_are_set_aside_and_listed():
    """Three of one teacher's students, and one of another's with its name: that one is compared with nobody."""
    runs = [taught(seed, "aaaa" if seed < 4 else "bbbb") for seed in (1, 2, 3, 4)]
    store = Store.open()
    assert list(store.records(runs[0][1].experiment.fingerprint)) == [1, 2, 3]
    (problem,) = store.problems
    assert problem.path == runs[3][0] and "weights bbbb" in problem.what and "aaaa" in problem.what
    assert str(problem.path) not in problem.what and "remove it" in problem.what
    assert store.teacher_digest(runs[0][1].experiment.teacher.fingerprint) == "aaaa"


def test_teachers_of_each_seed_have_weights_of_their_own():
    runs = [taught(seed, f"{seed}" * 4, teachers="of each seed") for seed in (1, 2, 3)]
    store = Store.open()
    assert list(store.records(runs[0][1].experiment.fingerprint)) == [1, 2, 3] and not store.problems


def test_a_student_is_not_taught_by_other_weights_than_its_companions():
    from kdnb.study.workbench import Workbench
    from kdnb.training.numerics import detect

    run = Run(experiment("kd"), 2)
    keep_teacher(run.experiment)
    taught(1, "aaaa")
    bench = Workbench(Store.open(), detect("cpu", "float32", "eager"))
    with pytest.raises(
        KdnbError, match=r"kd .*seed 2: the weights of its teacher here .* taught the stored runs \(aaaa\)"
    ):
        bench.stages(run)


def test_a_split_that_scores_nothing_is_told_before_training(monkeypatch):
    """Half of one test image is none."""
    from kdnb import datasets
    from kdnb.study.workbench import Workbench
    from kdnb.training.numerics import detect

    digits, whole = datasets.load("digits"), RUN.experiment.images
    one = dataclasses.replace(digits.test, images=digits.test.images[:1], labels=digits.test.labels[:1])
    monkeypatch.setattr(datasets, "load", lambda name: dataclasses.replace(digits, test=one))
    bench = Workbench(Store.open(), detect("cpu", "float32", "eager"))
    with pytest.raises(DataError, match="The 1 test images of digits are too few for the split 'halves'"):
        bench.stages(RUN)
    _, evidence = bench.material(dataclasses.replace(whole, split="test"))
    assert len(evidence.score) == 1


def test_who_trains_on_a_part_of_a_data_set_is_told_once(tmp_path):
    import dataset_samples as samples

    from kdnb.study.workbench import Workbench
    from kdnb.training.numerics import detect

    lines: list[str] = []
    bench = Workbench(Store.open(), detect("cpu", "float32", "eager"), lines.append)
    bench.material(RUN.experiment.images)
    assert not lines  # the digits are whole
    samples.write_layout(tmp_path / "data", "cifar100", samples.splits("cifar100"))
    for students in (None, 200):
        bench.material(dataclasses.replace(RUN.experiment.images, dataset="cifar100", student_images=students))
    (line,) = lines
    assert line.startswith("cifar100: not the published set, but the 300 training and 200 test images")


def test_weights_that_are_replaced_while_they_are_read_are_read_again(monkeypatch):
    teacher = keep_teacher(experiment("kd"))
    folder, real = Store.open().weights_folder(teacher), checkpoint.load
    calls: list[bytes] = []

    def replaced_meanwhile(content: bytes) -> dict[str, torch.Tensor]:
        calls.append(content)
        if len(calls) == 1:
            tensors, meta = load_checkpoint(folder)
            save_checkpoint(folder, tensors, {**meta, "again": True})
            raise FileNotFoundError("its file is gone")
        return real(content)

    monkeypatch.setattr(checkpoint, "load", replaced_meanwhile)
    assert load_checkpoint(folder)[1]["again"]
    gone = next(folder.glob("*.safetensors"))
    gone.unlink()
    with pytest.raises(StoreError, match="its checkpoint is damaged"):
        load_checkpoint(folder)
