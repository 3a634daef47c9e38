"""Steps as CUDA graphs: what can be captured is known on any machine, that it computes the same needs a GPU.

pytest -m gpu tests/test_capture.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from capturable import capturable
from study_samples import TINY, experiment, keep_teacher
from torch import Tensor

from kdnb.methods.recipe import Recipe
from kdnb.methods.stage import Batch, Stage
from kdnb.study.experiment import Experiment, Run
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.study.workbench import Workbench
from kdnb.training.capture import CapturedSteps, ForkedSteps
from kdnb.training.cohort import Cohort, Material, run_side_by_side
from kdnb.training.images import Augmentation, DeviceImages, Normalisation
from kdnb.training.member import Member
from kdnb.training.numerics import Numerics, apply, detect

gpu = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
METHODS = ["plain", "kd", "fitnet+kd", "fsp", "pkt", "mmd-linear", "mmd-gaussian+kd", "crd", "crd+kd"]
#: Methods of SLKD's tables, with their defaults.
BENCHMARK = ["at", "sp", "rkd", "ofd", "reviewkd", "dkd", "slkd", "slkd-sequential"]
#: 150 images in batches of 64: two full batches and a part of 22 in every epoch, 20 epochs.
RECIPE = Recipe(epochs=20, batch_size=64, lr=0.02, milestones=(12,), selection="best")
SCALE = dataclasses.replace(TINY, at_most=None)


def numerics(mode: str, dtype: str = "float32") -> Numerics:
    """Deterministic kernels and no TF32, so that what is left is the order of sums."""
    found = detect("cuda", dtype=dtype, mode=mode, deterministic=True)
    apply(found)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return found


def company(keys: list[str], how: Numerics, watch: Callable[[str, Stage], Stage] = lambda key, stage: stage) -> Cohort:
    """The last stages of these rows on the digits, in one cohort, with an untrained teacher."""
    store = Store.open()
    runs = [Run(_experiment(key), 1) for key in keys]
    bench = Workbench(store, how)
    teacher = bench.teacher(keep_teacher(experiment("kd", SCALE, recipe=RECIPE), store))
    members = []
    for key, run in zip(keys, runs, strict=True):
        setup = bench._setup(run)
        stages = _built(setup, run)
        members.append(Member(watch(key, stages[-1]), key, 1, how))
    material, _ = bench.material(runs[0].experiment.images)
    return Cohort(members, teacher, material, how, notice=NOTICES.append)


def _experiment(key: str) -> Experiment:
    if key in BENCHMARK:
        return experiment("kd", SCALE, recipe=RECIPE, method=key, arguments={})
    return experiment(key, SCALE, recipe=RECIPE)


def _built(setup: Any, run: Run) -> list[Stage]:
    from kdnb.study.workbench import _all_stages

    return _all_stages(setup, run.experiment)


NOTICES: list[str] = []


@pytest.fixture(autouse=True)
def _no_notices():
    NOTICES.clear()


# -- on any machine ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [*METHODS, *BENCHMARK])
def test_nothing_in_a_whole_step_waits_for_the_device(key):
    """Gather, crop, teacher, loss, backward, optimiser, sums: all of it, after the first steps."""
    cohort = company([key], detect("cpu", dtype="float32", mode="eager"))
    steps = cohort.steps()
    next(steps)
    (member,) = cohort.members
    part = cohort._slice(cohort._draw_epoch(0), 1)
    own = member.draw(len(part.order))
    with capturable():
        inputs = cohort.inputs(part)
        member.compute(inputs, own)
    assert int(member.first_bad) == -1 and int(member.device_step) == 2


# -- where a GPU is ----------------------------------------------------------------------------------------


class Watched:
    """A cohort, and what its steps held at the end of each epoch: when it has ended they hold nothing."""

    def __init__(self, cohort: Cohort) -> None:
        self.members = cohort.members
        self.sizes: set[int] = set()
        self.streams: set[int] = set()
        self.validations = 0
        cohort.on_epoch = self._look

    def _look(self, cohort: Cohort) -> None:
        steps = cohort._stepper
        if isinstance(steps, CapturedSteps):
            self.sizes |= steps.graphs.keys()
            self.streams |= {stream.cuda_stream for stream in steps.own_streams.values()}
        if isinstance(steps, ForkedSteps):
            assert steps.one_graph
            self.validations = max(self.validations, len(steps.validations))


def run_watched(keys: list[str], how: Numerics, epochs: int) -> tuple[dict[str, list[float]], Watched]:
    """Train and keep the loss of every epoch, every weight and every column."""
    cohort = company(keys, how, lambda key, stage: dataclasses.replace(stage, epochs=epochs))
    watched = Watched(cohort)
    run_side_by_side([cohort])
    torch.cuda.synchronize()
    return {m.label: m.history["ce"] for m in cohort.members}, watched


@gpu
@needs_cuda
@pytest.mark.parametrize("key", [*METHODS, *BENCHMARK])
def test_a_captured_run_is_the_eager_one(key):
    """17 epochs of three steps, over 50 in all: both batch sizes are captured, sums start anew each epoch."""
    eager, a = run_watched([key], numerics("eager"), 17)
    captured, b = run_watched([key], numerics("captured"), 17)
    assert not NOTICES and b.sizes == {64, 22}
    x, y = (next(iter(found.values())) for found in (eager, captured))
    assert np.isfinite(y).all() and len(y) == 17
    assert np.abs(np.array(y[:5]) / np.array(x[:5]) - 1).max() < 1e-3
    assert np.abs(np.array(y) / np.array(x) - 1).max() < 0.05
    for m in (a.members[0], b.members[0]):
        assert m.history["lr"] == pytest.approx([0.02] * 12 + [0.002] * 5)
    start, end = np.array(x[:3]).mean(), np.array(x[-3:]).mean()
    assert end < start  # and the comparison was of something that moves


@gpu
@needs_cuda
def test_captured_bfloat16_follows_float32():
    eager, _ = run_watched(["kd"], numerics("eager"), 17)
    captured, _ = run_watched(["kd"], numerics("captured", "bfloat16"), 17)
    x, y = np.array(eager["kd"]), np.array(captured["kd"])
    assert np.abs(y[:5] / x[:5] - 1).max() < 0.03
    assert abs(y.mean() / x.mean() - 1) < 0.05


@gpu
@needs_cuda
def test_in_company_a_captured_run_gives_what_it_gives_alone():
    together, watched = run_watched(METHODS, numerics("captured"), 6)
    assert not NOTICES
    for key in METHODS:
        alone, _ = run_watched([key], numerics("captured"), 6)
        assert together[key] == pytest.approx(alone[key], rel=1e-2), key
    assert len(watched.streams) == len(METHODS)


@gpu
@needs_cuda
def test_a_cohort_in_one_graph_computes_what_its_graphs_apart_compute():
    """... and so does a validation in graphs: three losses beside each other, one of them validated by its own."""
    keys = ["plain", "kd", "crd+kd"]
    apart, _ = run_watched(keys, numerics("captured"), 12)
    forked, watched = run_watched(keys, numerics("forked"), 12)
    assert not NOTICES and watched.sizes and watched.validations >= 1
    for key in keys:
        assert forked[key] == pytest.approx(apart[key], rel=1e-2), key


@gpu
@needs_cuda
def test_a_cohort_goes_on_when_another_that_was_captured_beside_it_is_gone():
    """Their graphs share no workspace: one is dropped, memory is used for something else, the other is replayed."""
    eager, _ = run_watched(["kd"], numerics("eager"), 12)
    how, lasting = numerics("captured"), lambda key, stage: dataclasses.replace(stage, epochs=12)
    kept, dropped = (company([key], how, lasting) for key in ("kd", "mmd-gaussian+kd"))
    pair = [kept.steps(), dropped.steps()]
    for _ in range(15):  # both batch sizes are captured by then, or will be from graphs of one cohort alone
        for steps in pair:
            next(steps)
    assert kept._stepper.graphs and dropped._stepper.graphs
    steps, gone = pair.pop(0), dropped._stepper
    del pair, dropped
    assert not gone.graphs  # at once, no collector has run
    torch.cuda.empty_cache()
    spoiler = torch.full((64, 2**20), float("nan"), device="cuda")
    spoiler @ spoiler.T
    for _ in steps:
        pass
    assert kept.members[0].failed is None
    assert kept.members[0].history["ce"] == pytest.approx(eager["kd"], rel=5e-2)


@gpu
@needs_cuda
def test_the_same_captured_run_twice_is_the_same():
    first, _ = run_watched(["kd"], numerics("captured"), 6)
    second, _ = run_watched(["kd"], numerics("captured"), 6)
    assert first["kd"] == pytest.approx(second["kd"], rel=1e-5)


@gpu
@needs_cuda
def test_a_member_that_fails_or_ends_leaves_a_captured_cohort():
    """The loss of one becomes infinite in mid-epoch, another has ended: the third goes on as if alone."""

    def watch(key: str, stage: Stage) -> Stage:
        if key == "kd":
            inner = stage.objective

            def failing(batch: Batch) -> dict[str, Tensor]:
                terms = inner(batch)
                return {**terms, "late": torch.where(batch.epoch >= 4, torch.inf, 0.0) * terms["ce"]}

            # 0 * finite is 0, inf * finite is inf: the fifth epoch's first step fails, inside the graph
            return dataclasses.replace(stage, objective=failing, epochs=10)
        return dataclasses.replace(stage, epochs=5 if key == "plain" else 10)

    cohort = company(["kd", "plain", "mmd-linear"], numerics("captured"), watch)
    run_side_by_side([cohort])
    failed, ended, whole = cohort.members
    assert "not finite at step 12" in (failed.failed or "") and failed.epoch == 4
    assert ended.finished and ended.epoch == 5 and whole.finished and whole.epoch == 10
    alone, _ = run_watched(["mmd-linear"], numerics("captured"), 10)
    assert whole.history["ce"] == pytest.approx(alone["mmd-linear"], rel=2e-2)


@gpu
@needs_cuda
def test_what_cannot_be_captured_runs_eagerly_with_one_notice():
    def watch(key: str, stage: Stage) -> Stage:
        inner = stage.objective

        def reading(batch: Batch) -> dict[str, Tensor]:
            terms = inner(batch)
            return {"ce": terms["ce"] * (1.0 if terms["ce"].item() > -1 else 0.0)}  # asks the device

        return dataclasses.replace(stage, objective=reading, epochs=8) if key == "plain" else stage

    cohort = company(["plain"], numerics("captured"), watch)
    run_side_by_side([cohort])
    eager, _ = run_watched(["plain"], numerics("eager"), 8)
    assert cohort.members[0].history["ce"] == pytest.approx(eager["plain"], rel=1e-2)
    (notice,) = NOTICES  # one, though there are two batch sizes
    assert "plain: its step cannot be captured" in notice and "it runs eagerly" in notice


@gpu
@needs_cuda
def test_a_captured_run_goes_on_from_its_checkpoint():
    run = Run(experiment("crd+kd", dataclasses.replace(TINY, at_most=8)), 1)
    whole: dict[str, Any] = {}
    for stop_after in (None, 11):
        keep_teacher(run.experiment)
        lines: list[str] = []
        how = detect("cuda", deterministic=True)
        while not Store.open().has(run):
            runner = Runner(Store.open(), how, "comparison", say=lines.append)
            if stop_after is not None:
                steps = iter(range(stop_after))
                runner._stopping = lambda steps=steps: next(steps, None) is None  # type: ignore[method-assign]
            runner.run([run])
        record = Store.open().get(*run.key)
        whole[str(stop_after)] = record
        record.path.unlink()
    assert any("goes on at epoch" in line for line in lines)
    assert whole["None"].history["ce"] == pytest.approx(whole["11"].history["ce"], rel=5e-2)
    assert whole["None"].metrics["headline"] == pytest.approx(whole["11"].metrics["headline"], abs=0.1)


@gpu
@needs_cuda
def test_sixteen_students_of_a_resnet56_fit_in_twenty_gigabytes():
    """ResNet-56 -> 16 x ResNet-20, batch 64, images of CIFAR's size, captured; the first epochs of it."""
    from kdnb import models
    from kdnb.methods import get
    from kdnb.methods.stage import Setup, Supervision, TrainingSet
    from kdnb.training.freeze import frozen

    how = detect("cuda")
    apply(how)
    device = how.torch_device
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    stream = np.random.default_rng(0)
    pixels, labels = stream.integers(0, 256, (1000, 32, 32, 3), dtype=np.uint8), stream.integers(0, 100, 1000)
    normalisation = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    images = [DeviceImages(pixels, labels, normalisation, device, how.torch_dtype, p) for p in (4, 0)]
    teacher = frozen(models.create("resnet56", 100), device, how.torch_dtype)
    recipe = Recipe(epochs=5, batch_size=64, lr=0.05, milestones=(), selection="last")
    members = []
    for number in range(16):
        torch.manual_seed(number)
        student = models.create("resnet20", 100).to(device)
        training_set = TrainingSet(images[0].labels, 100)
        setup = Setup(student, teacher, recipe, Supervision(), training_set, 1, device)
        (stage,) = get("kd").stages(setup, get("kd").arguments({}))
        members.append(Member(stage, f"student {number}", 1, how))
    run_side_by_side([Cohort(members, teacher, Material(*images, Augmentation(4, True)), how)])
    assert all(m.failed is None and m.epoch == 5 for m in members)
    assert torch.cuda.max_memory_reserved() < 20 * 2**30
