"""The runner: who fails, what it cost, where a record says it comes from, what a checkpoint is good for."""

from __future__ import annotations

import dataclasses
import json

import pytest
from study_samples import TINY, experiment, keep_teacher

from kdnb.study import runner as runner_module
from kdnb.study.experiment import Run
from kdnb.study.runner import Outcome, Runner
from kdnb.study.store import Store
from kdnb.training.checkpoint import load_checkpoint, save_checkpoint
from kdnb.training.numerics import detect

pytestmark = pytest.mark.usefixtures("empty_project")


def train(runs: list[Run], stop_after: int | None = None, **changes: object) -> tuple[Outcome, list[str]]:
    lines: list[str] = []
    how = dataclasses.replace(detect("cpu"), **changes)
    runner = Runner(Store.open(), how, "comparison", say=lines.append)
    if stop_after is not None:
        steps = iter(range(stop_after))
        runner._stopping = lambda: next(steps, None) is None  # type: ignore[method-assign]
    return runner.run(runs), lines


def variant(**arguments: object) -> Run:
    return Run(experiment("kd", arguments=arguments), 1)


def test_of_two_variants_of_a_method_the_broken_one_fails_alone():
    broken, whole = variant(labels_weight=float("inf")), variant(temperature=2.0)
    assert broken.label == whole.label  # people read the same, the study does not
    keep_teacher(whole.experiment)
    outcome, _ = train([broken, whole])
    assert list(outcome.failed) == [broken.key] and outcome.recorded == [whole] and outcome.left == 1


def test_what_a_run_cost_is_its_own_share(monkeypatch):
    """Three variants in one cohort: their seconds together are what went by."""
    runs = [variant(temperature=float(t)) for t in (1, 2, 4)]
    keep_teacher(runs[0].experiment)
    clock = iter(range(100_000))
    monkeypatch.setattr("kdnb.training.cohort.time.perf_counter", lambda: float(next(clock)))
    train(runs)
    costs = [Store.open().get(*run.key).cost for run in runs]
    # 2 epochs of 3 steps and an evaluation, a second each by this clock, shared by three
    assert [cost["wall_seconds"] for cost in costs] == [pytest.approx(8 / 3, abs=0.1)] * 3
    assert {cost["cohort_size"] for cost in costs} == {3}


def test_a_record_says_which_weights_taught():
    runs = [Run(experiment("kd"), 1), Run(experiment("kd"), 2), Run(experiment("plain"), 1)]
    teacher = keep_teacher(runs[0].experiment)
    train(runs)
    store = Store.open()
    told = [store.get(*run.key).environment.get("teacher") for run in runs]
    assert told[0] == told[1] and len(told[0]) == 16 and told[2] is None
    kept, meta = load_checkpoint(store.weights_folder(teacher))
    kept["student.classifier.bias"] += 1
    save_checkpoint(store.weights_folder(teacher), kept, meta)
    again = Run(experiment("kd"), 3)
    train([again])
    assert Store.open().get(*again.key).environment["teacher"] not in told


def test_a_record_says_that_its_sources_changed_on_the_way(monkeypatch):
    run = Run(experiment("plain"), 1)
    train([run], stop_after=3)
    monkeypatch.setattr(runner_module, "source_digest", lambda: "f" * 16)
    monkeypatch.setattr("kdnb.study.environment.source_digest", lambda: "f" * 16)
    _, lines = train([run])
    assert any("goes on" in line for line in lines)
    told = Store.open().get(*run.key).environment
    assert told["sources"] == "f" * 16 and len(told["earlier_sources"]) == 1
    undisturbed = Run(experiment("plain"), 2)
    train([undisturbed])
    assert "earlier_sources" not in Store.open().get(*undisturbed.key).environment


DAMAGE = {
    "another stage": lambda meta: meta.update(index=7),
    "a field missing": lambda meta: meta.pop("best_epoch"),
    "no numerics": lambda meta: meta.pop("numerics"),
}


@pytest.mark.parametrize("name", [*DAMAGE, "other weights"])
def test_a_checkpoint_of_another_version_is_said_and_starts_again(name):
    run = Run(experiment("plain"), 1)
    train([run])
    whole = Store.open().get(*run.key)
    whole.path.unlink()
    train([run], stop_after=4)
    folder = Store.open().running_folder(run)
    tensors, meta = load_checkpoint(folder)
    if name == "other weights":
        tensors.pop("module.student.classifier.bias")
    else:
        DAMAGE[name](meta)
    save_checkpoint(folder, tensors, meta)
    outcome, lines = train([run])
    assert any("its checkpoint was made by another version; it starts again" in line for line in lines)
    assert outcome.left == 0 and Store.open().get(*run.key).history == whole.history


def test_other_numerics_are_named():
    run = Run(experiment("plain"), 1)
    train([run], stop_after=3)
    _, lines = train([run], dtype="bfloat16")
    assert any("made under other numerics (dtype float32); it starts again" in line for line in lines)


def test_members_that_ended_early_wait_for_nobody_when_resumed():
    """Two lengths in one cohort, stopped after the short one has ended: it is recorded, not trained again."""
    short = experiment("plain", dataclasses.replace(TINY, at_most=1))
    runs = [Run(short, 1), Run(experiment("plain", dataclasses.replace(TINY, at_most=3)), 1)]
    train(runs, stop_after=6)
    meta = json.loads((Store.open().running_folder(runs[1]) / "checkpoint.json").read_text())["meta"]
    assert 1 <= meta["epoch"] < 3 and not meta["finished"]
    assert Store.open().has(runs[0])
    outcome, _ = train(runs)
    assert outcome.recorded == [runs[1]] and outcome.left == 0
