"""The runner: who fails, what it cost, where a record says it comes from, what a checkpoint is good for."""

from __future__ import annotations

import dataclasses
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from study_samples import TINY, experiment, keep_teacher

from kdnb import analysis
from kdnb.analysis import registry
from kdnb.analysis.registry import Found, Subject
from kdnb.analysis.representation import logit_gap
from kdnb.errors import KdnbError, is_memory
from kdnb.evaluation import outputs as outputs_module
from kdnb.evaluation.correct import unpack
from kdnb.study import runner as runner_module
from kdnb.study.experiment import Run
from kdnb.study.record import LARGEST_RECORD
from kdnb.study.runner import Outcome, Runner
from kdnb.study.store import Store
from kdnb.training.checkpoint import load_checkpoint, remove_checkpoint, save_checkpoint
from kdnb.training.cohort import Meter, run_side_by_side
from kdnb.training.member import Member
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


def test_of_two_variants_of_a_method_the_broken_one_diverges_alone():
    broken, whole = variant(labels_weight=1e39), variant(temperature=2.0)
    assert whole.label == "kd (temperature 2.0) resnet14 -> resnet8 on digits, seed 1"
    keep_teacher(whole.experiment)
    outcome, _ = train([broken, whole])
    assert {*outcome.recorded} == {broken, whole} and not outcome.failed and not outcome.left
    store = Store.open()
    assert store.get(*broken.key).diverged and not store.get(*whole.key).diverged


def test_what_a_run_cost_is_its_own_share(monkeypatch):
    """Three variants in one cohort: their seconds together are what went by."""
    runs = [variant(temperature=float(t)) for t in (1, 2, 4)]
    keep_teacher(runs[0].experiment)
    clock = iter(range(100_000))
    monkeypatch.setattr("kdnb.training.cohort.time.perf_counter", lambda: float(next(clock)))
    train(runs)
    costs = [Store.open().get(*run.key).cost for run in runs]
    # 2 epochs of 3 turns, the last of them with an evaluation, a second each by this clock, shared by three
    assert [cost["wall_seconds"] for cost in costs] == [pytest.approx(6 / 3, abs=0.1)] * 3
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
    outcome, _ = train([again])
    assert Store.open().get(*again.key) is None
    assert f"not those that taught the stored runs ({told[0]})" in outcome.failed[again.key]


def test_a_record_says_that_its_sources_changed_on_the_way(monkeypatch):
    run = Run(experiment("plain"), 1)
    train([run], stop_after=3)
    monkeypatch.setattr("kdnb.study.work.source_digest", lambda: "f" * 16)
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
    "numerics of another kind": lambda meta: meta["numerics"].update(threads="x"),
    "a position of another kind": lambda meta: meta.update(step="1"),
    "a history of another kind": lambda meta: meta.update(history={"lr": 0.1}),
    "a history of words": lambda meta: meta["history"].update(lr=["0.1"]),
    "seconds of another kind": lambda meta: meta.update(seconds={}),
    "earlier stages of another kind": lambda meta: meta.update(earlier=""),
    "preparation of another kind": lambda meta: meta.update(prepared=""),
    "segments of another kind": lambda meta: meta.update(segments=[1]),
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
    aside = folder.with_name(f"{folder.name}~1")
    says = "its checkpoint was made by another version"
    aside_told = f"; it is kept aside as {aside}, and the run starts again"
    assert any(line.startswith(f"{run.label}: {says}") and line.endswith(aside_told) for line in lines)
    assert load_checkpoint(aside) is not None
    assert outcome.left == 0 and Store.open().get(*run.key).history == whole.history


def test_a_damaged_checkpoint_is_said_and_kept_aside():
    run = Run(experiment("plain"), 1)
    train([run], stop_after=3)
    folder = Store.open().running_folder(run)
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:1000])
    outcome, lines = train([run])
    assert any(
        "its checkpoint is damaged" in line and f"kept aside as {folder}~1, and the run" in line for line in lines
    )
    assert outcome.recorded == [run] and (folder.with_name(f"{folder.name}~1") / file.name).stat().st_size == 1000


OTHERS = [{"threads": 2}, {"dtype": "bfloat16"}]


@pytest.mark.parametrize("others", OTHERS, ids=str)
def test_a_checkpoint_is_taken_up_under_its_own_numerics(others):
    """Whatever the command would take: the record is the one of an undisturbed run."""
    run, beside = Run(experiment("plain"), 1), Run(experiment("plain"), 2)
    train([run])
    whole = Store.open().get(*run.key)
    whole.path.unlink()
    train([run], stop_after=4)
    outcome, lines = train([run, beside], **others)
    assert any("goes on at epoch" in line for line in lines) and outcome.left == 0
    record = Store.open().get(*run.key)
    assert (record.metrics, record.history, record.correct) == (whole.metrics, whole.history, whole.correct)
    assert record.environment["numerics"] == whole.environment["numerics"]
    assert "segments" not in record.environment
    assert others.items() <= Store.open().get(*beside.key).environment["numerics"].items()


ELSEWHERE = {
    "versions": ({"torch_version": "1.0"}, "torch version 1.0, here "),
    "instructions": ({"instructions": "of another processor"}, "instructions of another processor, here "),
    "threads": ({"threads": 10**6}, "Threads are 1 to 1024"),
    "modes": ({"mode": "captured"}, "Only a CUDA device captures steps"),
}


def made_elsewhere(run: Run, **changes: object) -> dict[str, object]:
    """A checkpoint of this run's first steps, made under other numerics as it says; its description."""
    train([run], stop_after=3)
    folder = Store.open().running_folder(run)
    tensors, meta = load_checkpoint(folder)
    meta["numerics"] |= changes
    save_checkpoint(folder, tensors, meta | {"segments": []})
    return meta


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_cannot_be_gone_on_with_here_is_kept_aside_until_it_can(name, monkeypatch):
    run = Run(experiment("plain"), 1)
    changes, says = ELSEWHERE[name]
    made = made_elsewhere(run, **changes)
    folder = Store.open().running_folder(run)
    _, lines = train([run], stop_after=1)
    aside = folder.with_name(f"{folder.name}~1")
    assert any(says in line and f"kept aside as {aside}" in line for line in lines)
    kept = load_checkpoint(aside)[1]
    assert (kept["epoch"], kept["step"], kept["numerics"]) == (made["epoch"], made["step"], made["numerics"])
    # where it can be computed, it goes on
    remove_checkpoint(folder)
    monkeypatch.setattr(runner_module.numerics_module, "restored", lambda told: detect("cpu"))
    outcome, lines = train([run])
    assert f"{run.label}: goes on at epoch {made['epoch'] + 1} of 2" in lines
    assert outcome.recorded == [run] and not aside.exists()


def test_checkpoints_of_old_do_not_tell_their_instructions_and_go_on():
    run = Run(experiment("plain"), 1)
    train([run], stop_after=3)
    folder = Store.open().running_folder(run)
    tensors, meta = load_checkpoint(folder)
    del meta["numerics"]["instructions"], meta["segments"]
    save_checkpoint(folder, tensors, meta)
    _, lines = train([run])
    assert any("goes on" in line for line in lines)
    environment = Store.open().get(*run.key).environment
    assert "segments" not in environment and environment["numerics"] == detect("cpu").as_dict()


def test_on_demand_a_run_goes_on_under_others_and_its_record_lists_the_segments():
    """First steps under one version, then two stages under another, which is this one."""
    run = Run(experiment("plain"), 1)
    made_elsewhere(run, torch_version="1.0")
    lines: list[str] = []
    runner = Runner(Store.open(), detect("cpu"), "comparison", say=lines.append, any_numerics=True)
    assert runner.run([run]).recorded == [run] and any("goes on" in line for line in lines)
    told = Store.open().get(*run.key).environment
    here = runner.outcome.recorded and told["numerics"]
    assert told["segments"] == [
        {"stage": "train", "epochs": [1, 1], "numerics": {**here, "torch_version": "1.0"}},
        {"stage": "train", "epochs": [2, 2], "numerics": here},
    ]


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


# -- arrays that figures need ----------------------------------------------------------------------------------

BOTH = ("logits_by_class", "plane")


@pytest.fixture
def quick(monkeypatch):
    """`plane` without t-SNE, which takes seconds; returns how often it was asked, and what may be set to go wrong."""

    class Quick:
        asked = 0
        trouble: BaseException | None = None
        clock = 0.0

    def compute(subject: Subject) -> Found:
        Quick.asked += 1
        Quick.clock += 1000.0
        if Quick.trouble is not None:
            raise Quick.trouble
        arrays = {"plane": subject.student.outputs.embeddings[:, :2], "labels": subject.labels}
        return arrays, {"separability": 0.5}

    entry = dataclasses.replace(analysis.get("plane"), given=compute)
    monkeypatch.setitem(registry.catalogue(), "plane", entry)
    return Quick


def drawn(*keeps: str, key: str = "kd", seed: int = 1) -> Run:
    return Run(experiment(key), seed, keeps)


def told(run: Run) -> tuple[object, ...]:
    found = Store.open().get(*run.key)
    return found.metrics, found.history, found.correct, found.arrays


def test_a_run_keeps_what_its_figures_need():
    """A real one: trained, looked at, recorded; and again, bit for bit."""
    run, bare = drawn(*BOTH, seed=3), drawn(seed=3)
    keep_teacher(run.experiment)
    train([bare])
    before = Store.open().get(*run.key)
    _, lines = train([run])
    assert any(
        "trained again, its figure needs arrays (logits_by_class, plane) that the stored" in line for line in lines
    )
    store = Store.open()
    record = store.get(*run.key)
    arrays = store.arrays(record)
    images = len(arrays["labels"])
    assert arrays["student_means"].shape == arrays["teacher_means"].shape == (10, 10)
    assert arrays["plane"].shape == (images, 2) and images > 100
    # what training gave is what it gave without
    added = {"logit_gap", "logit_gap_max", "separability"}
    assert record.metrics == before.metrics | {name: record.metrics[name] for name in added}
    assert (record.history, record.correct) == (before.history, before.correct) and added.isdisjoint(before.metrics)
    # the arrays are of the weights that the headline is of, and of the teacher that taught
    mean, largest = logit_gap(arrays["student_means"], arrays["teacher_means"])
    assert record.metrics["logit_gap"] == pytest.approx(mean, abs=0.01)
    assert record.metrics["logit_gap_max"] == pytest.approx(largest, abs=0.05) and mean > 0
    assert -1 <= record.metrics["separability"] <= 1
    assert len(record.path.read_bytes()) <= LARGEST_RECORD and not store.problems
    assert not store.running_folder(run).exists()
    once = told(run)
    record.path.unlink()
    train([run])
    assert told(run) == once  # the digest of the arrays among them


def test_arrays_are_those_of_the_headlines_weights(quick, monkeypatch):
    """Where an epoch is selected, its weights are scored and looked at, not the last ones."""
    run = drawn("plane", key="plain")
    seen: dict[str, object] = {}

    def compute(subject: Subject) -> Found:
        seen["right"] = subject.student.outputs.logits.argmax(axis=1) == subject.labels
        return {"plane": np.ones((2, 2)), "labels": subject.labels}, {"separability": 0.0}

    monkeypatch.setitem(registry.catalogue(), "plane", dataclasses.replace(analysis.get("plane"), given=compute))
    choose = Member._select

    def first_epoch(member: Member, validated: dict[str, float]) -> None:
        choose(member, {**validated, "validation_accuracy": 1.0 / (1 + member.epoch)})

    monkeypatch.setattr(Member, "_select", first_epoch)
    train([run])
    record = Store.open().get(*run.key)
    assert record.metrics["selected_epoch"] == 1 and record.metrics["last"] != record.metrics["headline"]
    assert np.array_equal(seen["right"], unpack(record.correct, len(seen["right"])))


def test_a_tiny_loss_keeps_its_digits(quick, monkeypatch):
    """PKT's loss is a hundred-thousandth: six places after the point would leave two digits of it."""
    choose = Member._select

    def tiny(member: Member, validated: dict[str, float]) -> None:
        choose(member, {**validated, "validation_accuracy": 1.23456789e-5})

    monkeypatch.setattr(Member, "_select", tiny)
    run = drawn("plane", key="plain")
    train([run])
    metrics = json.loads(Store.open().get(*run.key).path.read_text())["metrics"]
    assert metrics["selected"] == 1.23457e-5 and type(metrics["epochs"]) is int


def test_only_whole_runs_keep_arrays_and_each_once(quick):
    """A first stage that is trained on the way keeps none; two figures of one run ask for it once."""
    one, two, other = drawn("plane", key="fitnet"), drawn("logits_by_class", key="fitnet"), drawn("plane", key="plain")
    keep_teacher(one.experiment)
    outcome, _ = train([one, two, other])
    store = Store.open()
    assert store.has(one) and store.has(two) and store.has(other) and quick.asked == 2
    assert len(list(store.own.results.rglob("*.npz"))) == 2 and len(outcome.recorded) == 3
    assert store.get(*other.key).metrics["separability"] == 0.5


def test_a_figure_that_has_its_arrays_does_not_lose_them(quick):
    """Whoever asks last for other arrays of a run, or for its weights: else two figures took turns for ever."""
    first, second = drawn("plane"), drawn("logits_by_class")
    keep_teacher(first.experiment)
    train([first])
    train([second])
    store = Store.open()
    assert store.has(first) and store.has(second)
    assert {"separability", "logit_gap"} <= store.get(*first.key).metrics.keys()
    assert train([first, second])[0].recorded == []


def test_the_teacher_looks_at_the_images_once_for_all_students(monkeypatch):
    calls: list[str] = []
    real = outputs_module.outputs

    def counted(network: object, *arguments: object) -> object:
        calls.append(type(network).__name__ + str(len(network.stages[0])))  # resnet14 has two blocks a stage
        return real(network, *arguments)

    monkeypatch.setattr(outputs_module, "outputs", counted)
    runs = [drawn("logits_by_class", seed=s) for s in (1, 2)]
    keep_teacher(runs[0].experiment)
    train(runs)
    assert calls.count("ResNet2") == 1 and calls.count("ResNet1") >= 2


def test_what_an_analysis_takes_is_no_time_of_training(quick, monkeypatch):
    run = drawn("plane", key="plain")
    clock = iter(range(100_000))
    monkeypatch.setattr("kdnb.training.cohort.time.perf_counter", lambda: float(next(clock)) + quick.clock)
    train([run])
    # 2 epochs of 3 turns, a second each by this clock; the analysis takes a thousand
    assert quick.clock == 1000.0 and Store.open().get(*run.key).cost["wall_seconds"] == pytest.approx(6, abs=0.1)


def test_a_killed_run_has_paid_for_what_its_last_checkpoint_holds(monkeypatch):
    run, steps = Run(experiment("plain"), 1), itertools.count()
    monkeypatch.setattr("kdnb.study.runner.CHECKPOINT_SECONDS", 0.0)
    clock = itertools.count()
    monkeypatch.setattr("kdnb.training.cohort.time.perf_counter", lambda: float(next(clock)))

    def kill(cohort: object) -> None:
        if next(steps) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Runner(Store.open(), detect("cpu"), "comparison", say=lambda line: None, on_step=kill).run([run])
    _, told = load_checkpoint(Store.open().running_folder(run))
    assert told["seconds"] == 4.0 and told["images"] == 150 + 64  # 4 turns: an epoch, and a batch
    train([run])
    assert Store.open().get(*run.key).cost["wall_seconds"] == 6.0


def test_cohorts_side_by_side_share_the_time_of_a_turn(monkeypatch):
    """As on a GPU, where the first that waits waits for all."""
    clock = [0.0]

    class Queued:
        def __init__(self, seconds: float, members: int) -> None:
            self.seconds, self.active, self.meter = seconds, [object() for _ in range(members)], Meter()

        def steps(self):
            for _ in range(4):
                clock[0] += self.seconds
                yield

    monkeypatch.setattr("kdnb.training.cohort.time.perf_counter", lambda: clock[0])
    first, second = Queued(8.0, 3), Queued(0.0, 1)
    assert run_side_by_side([first, second])
    seconds = [cohort.meter.take(member)[0] for cohort in (first, second) for member in cohort.active]
    assert seconds == [8.0] * 4 and first.meter.seconds == second.meter.seconds == 32.0


@pytest.mark.parametrize("trouble", [KdnbError("all alike"), ValueError("a bad shape"), MemoryError("no room")])
def test_an_analysis_that_fails_costs_the_run_nothing(trouble, quick):
    run, other = drawn(*BOTH), drawn("plane", seed=2)
    keep_teacher(run.experiment)
    quick.trouble = trouble
    outcome, lines = train([run, other])
    says = f"{run.label}: the measurement 'plane' could not be computed ({trouble}); it is recorded without."
    assert outcome.failed[run.key] == says and says in lines and outcome.left == 2
    store = Store.open()
    record = store.get(*run.key)
    kept = {name for name in store.arrays(record) if not name.startswith("image.")}
    assert kept == {"student_means", "teacher_means"}  # what did not fail is kept
    assert "logit_gap" in record.metrics and "separability" not in record.metrics and record.correct
    assert store.has(drawn()) and not store.has(run) and not store.problems
    # another try needs no training
    quick.trouble = None
    steps: list[object] = []
    lines = []
    Runner(store, detect("cpu"), "comparison", say=lines.append, on_step=steps.append).run([run, other])
    assert f"{run.label}: is trained, and only to be recorded" in lines
    again = Store.open().get(*run.key)
    assert again.metrics == record.metrics | {"separability": 0.5} and Store.open().has(other)
    assert (again.history, again.correct) == (record.history, record.correct) and not steps
    assert not store.running_folder(run).exists() and not store.running_folder(other).exists()


@pytest.mark.parametrize("found", [np.array([1.0, np.nan]), np.zeros(2**20), np.array([None, 1], dtype=object)])
def test_arrays_that_cannot_be_kept_cost_the_run_nothing(found, monkeypatch):
    run = drawn("plane", key="plain")
    given = {"plane": found, "labels": np.zeros(2)}, {"separability": 0.5}
    monkeypatch.setitem(
        registry.catalogue(), "plane", dataclasses.replace(analysis.get("plane"), given=lambda subject: given)
    )
    outcome, _ = train([run])
    assert "'plane' could not be computed" in outcome.failed[run.key] and outcome.recorded == [run]
    assert Store.open().has(drawn(key="plain")) and not Store.open().has(run)


def test_a_run_killed_while_it_is_looked_at_leaves_nothing_half(quick):
    run = drawn(*BOTH)
    keep_teacher(run.experiment)
    train([run])
    whole, path = told(run), Store.open().get(*run.key).path
    path.unlink()
    path.with_suffix(".npz").unlink()
    quick.trouble = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        train([run])
    store = Store.open()
    assert store.get(*run.key) is None and not path.with_suffix(".npz").exists() and not store.problems
    quick.trouble = None
    steps: list[object] = []
    Runner(store, detect("cpu"), "comparison", say=lambda line: None, on_step=steps.append).run([run])
    assert told(run) == whole and not steps


def test_a_budget_that_ends_with_the_training_leaves_the_arrays_for_next_time(quick):
    run, other = drawn("plane", key="plain"), drawn(key="plain", seed=2)
    runner = Runner(Store.open(), detect("cpu"), "comparison", say=(lines := []).append)
    runner.on_epoch = lambda cohort: setattr(runner.outcome, "stopped", int(cohort.members[0].finished))
    outcome = runner.run([run, other])
    assert outcome.recorded == [] and outcome.left == 2 and quick.asked == 0
    assert f"{run.label}: trained; the arrays that it keeps are computed next time" in lines
    outcome, lines = train([run, other])
    assert outcome.recorded == [run, other] and quick.asked == 1
    assert f"{run.label}: is trained, and only to be recorded" in lines


def test_a_teacher_is_not_trained_again_for_a_figure(quick):
    """Others have learned from its weights; what a figure needs is computed from them."""
    run = drawn()
    teacher = keep_teacher(run.experiment).keeping(["plane"])
    store = Store.open()
    before, kept = store.get(*teacher.key), load_checkpoint(store.weights_folder(teacher))[0]
    quick.trouble = ValueError("not now")
    outcome, lines = train([teacher])
    assert "not now" in outcome.failed[teacher.key] and Store.open().get(*teacher.key) == before
    quick.trouble = None
    steps: list[object] = []
    lines = []
    runner = Runner(Store.open(), detect("cpu"), "comparison", say=lines.append, on_step=steps.append)
    outcome = runner.run([teacher])
    store = Store.open()
    assert outcome.recorded == [teacher] and outcome.left == 0 and not steps and store.has(teacher)
    assert any("from the weights that the stored run left" in line for line in lines)
    after = store.get(*teacher.key)
    assert after.metrics == before.metrics | {"separability": 0.5} and after.cost == before.cost
    assert all(torch.equal(kept[k], v) for k, v in load_checkpoint(store.weights_folder(teacher))[0].items())
    assert store.lock(teacher) is not None  # nobody holds it any more


@pytest.mark.parametrize("kind", ["any", "last"])
@pytest.mark.parametrize("slow", ["start", "every step"])
def test_what_is_too_large_to_travel_is_put_off_at_the_last_call_alone(slow, kind, monkeypatch):
    """The time that the first steps take, to compile or capture, is no measure of the others."""
    run = Run(experiment("plain"), 1)
    clock = [0.0]
    monkeypatch.setattr(runner_module, "LARGEST_CHECKPOINT", 0)
    monkeypatch.setattr(runner_module, "STEPS_TO_START", 2)
    monkeypatch.setattr(runner_module, "STEPS_TO_ESTIMATE", 4)
    monkeypatch.setattr(runner_module.time, "monotonic", lambda: clock[0])
    steps: list[object] = []

    def step(cohort: object) -> None:
        steps.append(cohort)
        clock[0] += 20.0 if slow == "every step" else 60.0 if len(steps) == 1 else 0.1

    lines: list[str] = []
    runner = Runner(
        Store.open(), detect("cpu"), "comparison", 100.0, lines.append, on_step=step, last_call=kind == "last"
    )
    outcome = runner.run([run])
    put_off = any("put off" in line for line in lines)
    assert put_off == (slow == "every step" and kind == "last") and outcome.left == (slow == "every step")
    kept = load_checkpoint(Store.open().running_folder(run)) is not None
    assert kept == (slow == "every step" and kind == "any")  # it is saved where it is, and goes on


@pytest.mark.parametrize(("deadline", "hopeless"), [(60.0, False), (40.0, True)])
def test_several_cohorts_take_a_step_each_in_the_time_that_is_estimated(deadline, hopeless, monkeypatch):
    """A round of both takes 2 seconds; the large run has 20 steps to go after 4 rounds: 48 seconds in all."""
    clock = [0.0]
    monkeypatch.setattr(runner_module, "LARGEST_CHECKPOINT", 10)
    monkeypatch.setattr(runner_module, "STEPS_TO_START", 2)
    monkeypatch.setattr(runner_module, "STEPS_TO_ESTIMATE", 4)
    monkeypatch.setattr(runner_module.time, "monotonic", lambda: clock[0])

    def work(size: int, epochs: int) -> SimpleNamespace:
        member = SimpleNamespace(state_bytes=lambda: size, epoch=1, stage=SimpleNamespace(epochs=epochs))
        return SimpleNamespace(member=member)

    def take_step(cohort: object) -> None:
        clock[0] += 1.0

    large, small = work(11, 3), work(10, 99)  # what can travel is not asked for
    put_off: list[object] = []
    runner = SimpleNamespace(
        deadline=deadline, last_call=True, on_step=take_step, put_off=put_off.append, _stopping=lambda: False
    )
    cohorts = [SimpleNamespace(steps_per_epoch=10, numerics=detect("cpu"))] * 2
    watch = runner_module._Watch(runner, [large, small], cohorts)
    assert [watch() for _ in range(4)] == [False, False, False, hopeless]
    assert put_off == [large] * hopeless


def test_no_more_runs_train_side_by_side_than_asked_for():
    runs = [variant(temperature=float(t)) for t in (1, 2, 4)]
    keep_teacher(runs[0].experiment)
    runner = Runner(Store.open(), detect("cpu"), "comparison", say=lambda line: None, together=2)
    assert len(runner.run(runs).recorded) == 3
    sizes = [runner.store.get(*run.key).cost["cohort_size"] for run in runs]
    assert sorted(sizes) == [1, 2, 2]


def out_of_memory() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory")


def broken_capture() -> Exception:
    """What ends a capture that memory does not hold: an error of its own, which hides the first."""
    error = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    error.__context__ = out_of_memory()
    return error


def test_what_lies_behind_an_error_is_seen_and_a_circle_has_an_end():
    first, second = ValueError("one"), KeyError("two")
    first.__context__, second.__cause__ = second, first
    assert not is_memory(first) and is_memory(broken_capture())
    second.__cause__ = broken_capture()
    assert is_memory(first)
    first.__suppress_context__ = True  # raised `from None`
    assert not is_memory(first)


@pytest.mark.parametrize("error", [out_of_memory, broken_capture])
@pytest.mark.parametrize("at", ["run_side_by_side", "Cohort"])  # while they train, and while a teacher is loaded
def test_too_little_memory_is_answered_with_how_many_to_train(at, error, monkeypatch):
    runs = [variant(temperature=float(t)) for t in (1, 2, 4)]
    keep_teacher(runs[0].experiment)

    def full(*given, **named):
        raise error()

    monkeypatch.setattr(runner_module, at, full)
    with pytest.raises(KdnbError, match=r"not hold 3 runs side by side; .* --together 1"):
        train(runs)
    assert Store.open().lock(runs[0]) is not None  # others may train it


@pytest.mark.parametrize("beside", [True, False])
def test_a_checkpoint_that_memory_does_not_hold_is_as_good_as_it_was(beside, monkeypatch):
    """Beside others there are too many; by itself it fails, and others go on."""
    first, _ = runs = [variant(temperature=float(t)) for t in (1, 2)]
    keep_teacher(first.experiment)
    train(runs, stop_after=4)
    folders = [Store.open().running_folder(run) for run in runs]
    before = [load_checkpoint(folder) for folder in folders]
    restore, left = Member.restore, [beside]  # whether this one is held

    def held(self, *given):
        if not (left and left.pop()):
            raise out_of_memory()
        restore(self, *given)

    monkeypatch.setattr(Member, "restore", held)
    if beside:
        with pytest.raises(KdnbError, match=r"not hold 2 runs side by side; .* --together 1"):
            train(runs)
    else:
        outcome, _ = train(runs[:1])
        assert outcome.failed[first.key] == f"{first.label}: it cannot be trained (the memory does not hold it)."
    for folder, (tensors, meta) in zip(folders, before, strict=True):
        kept, told = load_checkpoint(folder)
        assert told == meta and all(torch.equal(value, tensors[name]) for name, value in kept.items())
        assert not [*folder.parent.glob(f"{folder.name}~*")]
    monkeypatch.setattr(Member, "restore", restore)
    outcome, lines = train(runs)
    assert outcome.left == 0 and sum("goes on at epoch" in line for line in lines) == 2
