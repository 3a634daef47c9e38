"""Self-learning teachers: their step by an independent formula, where gradients go, and what they are in the engine."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from method_samples import (
    CLASSES,
    CPU,
    EXACT,
    SIZE,
    backward,
    logits,
    make_batch,
    make_setup,
    parameters,
    ready,
    stages,
)
from scipy import stats
from study_samples import experiment, keep_teacher, record
from torch import Tensor, nn

from kdnb import losses, models
from kdnb.errors import KdnbError
from kdnb.evaluation.correct import pack
from kdnb.methods import get
from kdnb.methods.recipe import Recipe
from kdnb.methods.stage import Batch, Stage
from kdnb.study.environment import environment
from kdnb.study.experiment import Run
from kdnb.study.record import LARGEST_RECORD, thinned
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.study.workbench import Workbench, _all_stages
from kdnb.training import optimisers
from kdnb.training.cohort import Cohort, run_side_by_side
from kdnb.training.member import Member
from kdnb.training.numerics import Numerics

# -- a step ------------------------------------------------------------------------------------------------


def ce(z: Tensor, y: Tensor) -> Tensor:
    return -z.log_softmax(1)[torch.arange(len(y)), y].mean()


def divergence(target: Tensor, z: Tensor, temperature: float = 4.0) -> Tensor:
    """K(target || z) of the fact sheet, by probabilities."""
    p, q = (target / temperature).softmax(1), (z / temperature).softmax(1)
    return temperature**2 * (p * (p / q).log()).sum() / len(z)


def answers(stage: Stage, batch: Batch) -> list[Tensor]:
    """What the self-learning teachers say in train mode, their state left alone."""
    return [copy.deepcopy(m)(batch.images) for name, m in stage.modules.items() if name.startswith("self")]


@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize("teachers", [1, 2])
def test_slkd_by_hand(teachers: int, coupled: bool) -> None:
    """1.1 CE + 0.9 K(T||S) + 1.0 K(L||S), and for each L 0.1 CE + 0.9 K(T||L); K at T = 4 with its 16."""
    stage, _, batch = ready("slkd", teachers=teachers, coupled=coupled)
    said = answers(stage, batch)
    s, t, y = logits(batch.student), logits(batch.teacher), batch.labels
    mixed = said[0] if teachers == 1 else (said[0] + said[1]) / 2
    expected = {
        "ce": 1.1 * ce(s, y),
        "kd": 0.9 * divergence(t, s),
        "self": divergence(mixed, s),
        "learning": torch.stack([0.1 * ce(z, y) + 0.9 * divergence(t, z) for z in said]).sum(),
    }
    terms = stage.objective(batch)
    assert terms.keys() == expected.keys() and len(said) == teachers
    for name, term in expected.items():
        assert terms[name].item() == pytest.approx(term.item(), rel=1e-4), name


def test_slkds_weights_by_hand() -> None:
    """Every weight in its place; the mixture is of raw logits."""
    given = {
        "labels_weight": 0.3, "soft_weight": 0.6, "temperature": 2.0, "self_labels_weight": 0.7,
        "self_soft_weight": 1.3, "process_weight": 2.5, "mix": 0.2,
    }  # fmt: skip
    expected: dict[str, dict[str, Tensor]] = {}
    for supervision in ("both", "teacher", "self"):
        stage, _, batch = ready("slkd", supervision=supervision, **given)
        said = answers(stage, batch)
        s, t, y = logits(batch.student), logits(batch.teacher), batch.labels
        by_teacher = {"ce": 0.3 * ce(s, y), "kd": 0.6 * divergence(t, s, 2)}
        if supervision == "teacher":
            assert not said
            expected[supervision] = by_teacher
        else:
            labels = 2.5 * 0.7 + (0.3 if supervision == "both" else 0)
            expected[supervision] = {
                **(by_teacher if supervision == "both" else {}),
                "ce": labels * ce(s, y),
                "self": 2.5 * 1.3 * divergence(0.2 * said[0] + 0.8 * said[1], s, 2),
                "learning": torch.stack([0.3 * ce(z, y) + 0.6 * divergence(t, z, 2) for z in said]).sum(),
            }
        terms = stage.objective(batch)
        assert terms.keys() == expected[supervision].keys()
        for name, term in expected[supervision].items():
            assert terms[name].item() == pytest.approx(term.item(), rel=1e-4), (supervision, name)


def test_coupled_sends_a_gradient_into_the_self_learning_teachers() -> None:
    """Half of tau/B p_L (log p_L/p_S - KL(p_L||p_S)) each; detached none; the student's is the same."""
    gradients = {}
    for coupled in (True, False):
        stage, _, batch = ready("slkd", coupled=coupled)
        said: dict[str, Tensor] = {}
        hooks = [
            stage.modules[n].classifier.register_forward_hook(  # type: ignore[union-attr]
                lambda module, given, out, n=n, said=said: said.update({n: out})
            )
            for n in ("self1", "self2")
        ]
        term = stage.objective(batch)["self"]
        for hook in hooks:
            hook.remove()
        wanted = [logits(batch.student), said["self1"], said["self2"]]
        gradients[coupled] = torch.autograd.grad(term, wanted, allow_unused=True)
    assert gradients[False][1] is None and gradients[False][2] is None
    assert torch.equal(gradients[True][0], gradients[False][0])
    p_l, p_s = ((z.detach() / 4).softmax(1) for z in ((said["self1"] + said["self2"]) / 2, wanted[0]))
    ratio = (p_l / p_s).log()
    closed = 4 / SIZE * p_l * (ratio - (p_l * ratio).sum(1, keepdim=True))
    for gradient in gradients[True][1:]:
        assert torch.allclose(gradient, closed / 2, rtol=1e-3, atol=1e-6)
    # and so into their weights, or not: what they learn by themselves apart
    for coupled in (True, False):
        stage, _, batch = ready("slkd", coupled=coupled)
        own = list(parameters([stage.modules["self1"], stage.modules["self2"]]))
        found = torch.autograd.grad(stage.objective(batch)["self"], own, allow_unused=True)
        assert all((g is not None) == coupled for g in found)


def test_coupled_kd() -> None:
    torch.manual_seed(0)
    s, g = (3 * torch.randn(4, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert losses.coupled_kd(s, g, 3.0).item() == losses.kd(s, g, 3.0).item()
    assert torch.autograd.gradcheck(
        lambda a, b: losses.coupled_kd(a, b, 3.0), (s.detach().requires_grad_(), g.detach().requires_grad_())
    )


def test_self_learning_teachers_are_fresh_networks_of_the_teachers_architecture() -> None:
    def state(stage: Stage, name: str) -> list[Tensor]:
        return list(stage.modules[name].state_dict().values())

    def same(a: list[Tensor], b: list[Tensor]) -> bool:
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

    setup = make_setup(teacher="wrn_16_2")
    stage = stages("slkd", setup)[0]
    fresh = models.create("wrn_16_2", CLASSES)
    for name in ("self1", "self2"):
        module = stage.modules[name]
        assert module.state_dict().keys() == fresh.state_dict().keys() and module in stage.trainable
        assert all(bool((m.weight == 1).all()) for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    first = state(stage, "self1")
    assert not same(first, state(stage, "self2"))
    torch.rand(5)
    assert same(first, state(stages("slkd", setup, teachers=1)[0], "self1"))
    assert same(first, state(stages("slkd-sequential", setup)[0], "self1"))
    assert not same(first, state(stages("slkd", make_setup(teacher="wrn_16_2", seed=2))[0], "self1"))
    assert [n for n in stages("slkd", setup, teachers=1)[0].modules if n.startswith("self")] == ["self1"]


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(KdnbError, match="one self-learning teacher or two, not 3"):
        stages("slkd", teachers=3)
    with pytest.raises(KdnbError, match="did you mean teacher"):
        stages("slkd", supervision="teachers")


@torch.no_grad()
def test_the_trajectory() -> None:
    """KL divergences at T = 4 by scipy, without T^2, and accuracies of all who teach."""
    stage, _, batch = ready("slkd", temperature=2.0, mix=0.3)
    for module in stage.modules.values():
        module.eval()
    assert stage.observe is not None
    columns = {name: value.item() for name, value in stage.observe(batch).items()}
    one, two = answers(stage, batch)
    said = {"teacher": logits(batch.teacher), "student": logits(batch.student), "self": 0.3 * one + 0.7 * two}
    p = {name: (z.double() / 4).softmax(1).numpy() for name, z in said.items()}

    def kl(a: str, b: str) -> float:
        return float(np.mean(stats.entropy(p[a], p[b], axis=1)))

    def right(z: Tensor) -> float:
        return float((z.argmax(1) == batch.labels).float().mean())

    assert columns == pytest.approx(
        {
            "teacher_accuracy": right(said["teacher"]),
            "kl_teacher_student": kl("teacher", "student"),
            "kl_self_student": kl("self", "student"),
            "kl_teacher_self": kl("teacher", "self"),
            "self_accuracy": right(said["self"]),
            "self1_accuracy": right(one),
            "self2_accuracy": right(two),
        },
        rel=1e-4,
    )
    single = ready("slkd", teachers=1)
    assert single[0].observe is not None
    assert set(single[0].observe(single[2])) == set(columns) - {"self1_accuracy", "self2_accuracy"}
    alone = ready("slkd", supervision="teacher")
    assert alone[0].observe is not None
    assert set(alone[0].observe(alone[2])) == {"teacher_accuracy", "kl_teacher_student"}


def test_one_optimiser_is_three_with_equal_settings() -> None:
    setup = make_setup("slkd")
    stage = stages("slkd", setup)[0]
    twin_setup = dataclasses.replace(setup, student=copy.deepcopy(setup.student))
    twin = stages("slkd", twin_setup)[0]
    one = [optimisers.make(stage.optimiser, stage.trainable, CPU)]
    three = [
        torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        for module in twin.modules.values()
    ]
    assert len(three) == 3
    for step in range(3):
        for which, its_setup, steppers in ((stage, setup, one), (twin, twin_setup, three)):
            for optimiser in steppers:
                optimiser.zero_grad()
            backward(which.objective(make_batch(which, its_setup, step)))
            for optimiser in steppers:
                optimiser.step()
    for a, b in zip(stage.modules.values(), twin.modules.values(), strict=True):
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
            assert torch.allclose(x.float(), y.float(), rtol=1e-4, atol=1e-6)


# -- in the engine -----------------------------------------------------------------------------------------


BRIEF = Recipe(epochs=2, batch_size=64, lr=0.02, milestones=(1,))
KD = get("kd").defaults
CONTROL = {"labels_weight": 1.1, "soft_weight": 1.9, "temperature": 4.0}


def on_digits(method: str, **arguments: Any) -> Run:
    """A run on 150 digits, two epochs; the table's teacher, ResNet-14, and its student, ResNet-8."""
    kd = experiment("kd", recipe=BRIEF)
    return Run(dataclasses.replace(kd, method=method, arguments=arguments), 1)


def trained(*stages: Any, how: Numerics = EXACT) -> list[Member]:
    """Runs, or (run, change) where the change makes another stage of the last one, side by side in one cohort."""
    store = Store.open()
    pairs = [s if isinstance(s, tuple) else (s, lambda stage, teacher: stage) for s in stages]
    teacher_run = keep_teacher(pairs[0][0].experiment, store)
    bench = Workbench(store, how)
    teacher = bench.teacher(teacher_run)
    members = []
    for run, change in pairs:
        stage = _all_stages(bench._setup(run), run.experiment)[-1]
        weights = bench.store.load_weights(teacher_run)
        assert weights is not None
        stage = change(stage, {k.removeprefix("student."): v for k, v in weights.items()})
        members.append(Member(stage, run.experiment.method, 1, how))
    material, _ = bench.material(pairs[0][0].experiment.images)
    run_side_by_side([Cohort(members, teacher, material, how)])
    assert all(member.finished and member.epoch == 2 for member in members)
    return members


@pytest.mark.usefixtures("empty_project")
def test_without_weight_or_without_self_learning_teachers_slkd_is_kd() -> None:
    """Bit for bit; and the self-learning teachers learn all the same."""
    kd, silent, without, slkd = trained(
        on_digits("kd", **KD),
        on_digits("slkd", process_weight=0.0),
        on_digits("slkd", supervision="teacher"),
        on_digits("slkd"),
    )
    reference = kd.student.state_dict()
    for member in (silent, without):
        assert all(torch.equal(value, reference[name]) for name, value in member.student.state_dict().items())
    assert not torch.equal(slkd.student.classifier.weight, reference["classifier.weight"])
    assert silent.history["learning"][-1] < 0.9 * silent.history["learning"][0]
    assert silent.history["kl_teacher_student"] == without.history["kl_teacher_student"]
    assert len(set(slkd.history["teacher_accuracy"])) == 1
    assert len(slkd.history["kl_self_student"]) == 2


@pytest.mark.arithmetic
@pytest.mark.usefixtures("empty_project")
def test_self_learning_teachers_that_are_the_teacher_are_the_control(double_precision) -> None:
    """Frozen at its weights, in eval mode: 1.1 CE + 1.9 K(T||S), in parallel and in sequence.

    In float64, since the two ways add up in different orders, and training enlarges what rounding makes of that.
    """

    def frozen_at_the_teacher(stage: Stage, weights: dict[str, Tensor]) -> Stage:
        selves = [name for name in stage.modules if name.startswith("self")]
        for name in selves:
            stage.modules[name].load_state_dict(weights)
        return dataclasses.replace(stage, frozen=tuple(selves), trainable=[stage.modules["student"]])

    control, one, both, sequential, kd = trained(
        on_digits("kd", **CONTROL),
        (on_digits("slkd", teachers=1), frozen_at_the_teacher),
        (on_digits("slkd", coupled=False), frozen_at_the_teacher),
        (on_digits("slkd-sequential", teachers=1), frozen_at_the_teacher),
        on_digits("kd", **KD),
        how=dataclasses.replace(EXACT, dtype="float64"),
    )
    expected = control.student.state_dict()
    for member in (one, both, sequential):
        assert member.history["kl_teacher_self"] == pytest.approx([0, 0], abs=1e-6)
        told = [sum(v) for v in zip(member.history["kd"], member.history["self"], strict=True)]
        assert told == pytest.approx(control.history["kd"], rel=1e-4)  # added up in float32
        for name, value in member.student.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-5, msg=name)
    gap = (kd.student.classifier.weight - control.student.classifier.weight).abs().max()
    assert gap > 1e-3  # and KD's usual weights are something else, by far more than was allowed


@pytest.mark.usefixtures("empty_project")
def test_in_sequence_the_first_stage_is_shared_and_the_student_waits() -> None:
    """SLKD*: a record and weights of its own; the student comes after, the selves end as they began."""
    run = on_digits("slkd-sequential", teachers=1)
    store = Store.open()
    keep_teacher(run.experiment, store)
    runner = Runner(store, EXACT, "slkd", say=lambda line: None)
    finals: dict[str, dict[str, Tensor]] = {}

    def keep(cohort: Cohort) -> None:
        for member in cohort.members:
            finals[member.stage.name] = member.weights()

    runner.on_epoch = keep
    outcome = runner.run([run])
    assert not outcome.failed and outcome.left == 0
    (shared,) = run.experiment.shared_stages()
    assert (shared.method, shared.stage, shared.arguments) == ("slkd-sequential", "selves", {"teachers": 1})
    kept = store.load_weights(Run(shared, 1))
    assert kept is not None
    assert {name.partition(".")[0] for name in kept} == {"self1"}  # no student was there to be trained
    fresh = Workbench(store, EXACT)._setup(run).student.state_dict()
    assert not torch.equal(fresh["stem.conv.weight"], finals["train"]["student.stem.conv.weight"])
    for name, value in kept.items():
        if name.startswith("self1."):
            assert torch.equal(finals["train"][name].to(value.dtype), value), name
    stage, final = store.get(*Run(shared, 1).key), store.get(*run.key)
    assert stage is not None and final is not None and "headline" in final.metrics
    assert set(stage.history) == {"epoch", "lr", "learning", "teacher_accuracy", "kl_teacher_self", "self_accuracy"}
    assert final.history["self_accuracy"] == [stage.history["self_accuracy"][-1]] * 2


def test_what_the_shared_stage_depends_on() -> None:
    def fingerprint(**arguments: Any) -> str:
        (shared,) = on_digits("slkd-sequential", **arguments).experiment.shared_stages()
        return shared.fingerprint

    usual = fingerprint()
    for same in ({"mix": 0.3}, {"process_weight": 2.0}, {"self_soft_weight": 0.5}, {"self_labels_weight": 0.5}):
        assert fingerprint(**same) == usual
    others = [{"teachers": 1}, {"labels_weight": 0.2}, {"soft_weight": 0.8}, {"temperature": 2.0}]
    assert len({fingerprint(**other) for other in others} | {usual}) == 5
    entry = get("slkd-sequential")
    assert set(entry.stage_arguments) == set(entry.shared)
    assert all(set(names) <= set(entry.defaults) for names in entry.stage_arguments.values())


def test_a_record_of_the_longest_run_is_small() -> None:
    """240 epochs of SLKD's fourteen columns, 10,000 images; those of seven columns keep their 64 epochs."""
    stage, _, batch = ready("slkd")
    assert stage.observe is not None
    watched = ["train_accuracy", "validation_accuracy", "validation_ce"]
    names = ["lr", *stage.objective(batch), *watched, *stage.observe(batch)]
    assert len(names) == 15
    stream = np.random.default_rng(0)
    run = on_digits("slkd", coupled=False, supervision="self", mix=0.25)
    found = record(
        run,
        history=thinned({name: (stream.random(240) / 9).tolist() for name in names}),
        correct=pack(stream.random(10_000) < 0.7),
        environment=environment(EXACT.as_dict(), {"train": "0" * 64, "test": "0" * 64}) | {"teacher": "0" * 16},
    )
    assert len(found.to_json().encode()) <= LARGEST_RECORD
    assert (found.history["epoch"][0], found.history["epoch"][-1]) == (1, 240)
    assert len(found.history["epoch"]) == 29
    assert len(thinned({str(k): [0.0] * 240 for k in range(7)})["epoch"]) == 64
    assert thinned({str(k): [0.5] * 30 for k in range(14)})["epoch"] == list(range(1, 31))
