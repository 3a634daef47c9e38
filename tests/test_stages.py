"""What a stage can say: turns, restarts, epochs to select from, no student, a teacher in train mode, its own end."""

from __future__ import annotations

import copy
import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdnb import losses, models
from kdnb.errors import KdnbError
from kdnb.methods.recipe import Recipe
from kdnb.methods.stage import (
    Batch,
    Losses,
    Optimiser,
    Schedule,
    Selection,
    Setup,
    Stage,
    Supervision,
    TrainingSet,
    Turn,
    accuracy,
    present,
)
from kdnb.models.network import Network
from kdnb.study.workbench import _network
from kdnb.training import optimisers
from kdnb.training.cohort import Cohort, Material, run_side_by_side
from kdnb.training.freeze import frozen
from kdnb.training.images import Augmentation, DeviceImages, Normalisation, draw_epoch
from kdnb.training.member import Member
from kdnb.training.numerics import detect

CPU = torch.device("cpu")
EXACT = detect("cpu", "float32", "eager")
PLAIN = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
SGD = Optimiser("sgd", 0.05, momentum=0.9, weight_decay=1e-3)


def material(count: int = 40, dtype: torch.dtype = torch.float32) -> Material:
    """Random pictures of 16 x 16 in four classes, and as many to validate on."""
    stream = np.random.default_rng(0)

    def some() -> DeviceImages:
        pixels = stream.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        return DeviceImages(pixels, stream.integers(0, 4, count), PLAIN, CPU, dtype)

    return Material(some(), some(), Augmentation(0, flip=False))


def network(seed: int) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return models.create("resnet8", 4)


def stage(student: Network, objective=None, **changes: object) -> Stage:
    fields: dict[str, object] = {
        "name": "train",
        "modules": {"student": student},
        "trainable": [student],
        "objective": objective or cross_entropy,
        "optimiser": SGD,
        "epochs": 2,
        "batch_size": 16,
    }
    return Stage(**{**fields, **changes})  # type: ignore[arg-type]


def cross_entropy(batch: Batch) -> Losses:
    return {"ce": losses.cross_entropy(present(batch.student.logits), batch.labels)}


def run(*stages: Stage, teacher: Network | None = None, on: Material | None = None) -> list[Member]:
    members = [Member(s, f"member {i}", 1, EXACT) for i, s in enumerate(stages)]
    run_side_by_side([Cohort(members, teacher, on or material(), EXACT, notice=lambda line: None)])
    return members


# -- turns --------------------------------------------------------------------------------------------------


def mutual(a: Network, b: Network, **changes: object) -> Stage:
    """DML: A learns from labels and B, then B from labels and the A that has just learned."""

    def learns(me: Network, other: Network, name: str):
        def objective(batch: Batch) -> Losses:
            mine, theirs = present(me.activations(batch.images).logits), present(other.activations(batch.images).logits)
            return {f"ce_{name}": losses.cross_entropy(mine, batch.labels), f"kl_{name}": losses.kd(mine, theirs, 1.0)}

        return objective

    return stage(
        a,
        learns(a, b, "a"),
        modules={"student": a, "peer": b},
        further=(Turn(learns(b, a, "b"), [b], dataclasses.replace(SGD, lr=0.02)),),
        **changes,
    )


@pytest.mark.arithmetic
def test_two_networks_that_teach_each_other_are_twenty_lines_of_plain_pytorch():
    """Four steps in float64: two optimisers, a new forward for each, every forward in train mode."""
    data = material(dtype=torch.float64)
    a, b = network(1).double(), network(2).double()
    plain_a, plain_b = copy.deepcopy(a), copy.deepcopy(b)
    member, steps = Member(mutual(a, b, batch_size=8), "mutual", 1, EXACT), iter(range(3))
    run_side_by_side([Cohort([member], None, data, EXACT)], lambda: next(steps, None) is None)
    assert member.step == 4

    turns = [(plain_a, plain_b, 0.05), (plain_b, plain_a, 0.02)]
    sgd = [torch.optim.SGD(me.parameters(), lr=lr, momentum=0.9, weight_decay=1e-3) for me, _, lr in turns]
    for places in draw_epoch(40, 1, 8, 0, data.augmentation).order[:32].split(8):
        images, labels = data.training.plain(0, 40)
        images, labels = images.double()[places], labels[places]
        for (me, other, _), optimiser in zip(turns, sgd, strict=True):
            mine, theirs = me(images), other(images).detach()
            kl = F.kl_div(mine.log_softmax(1), theirs.softmax(1), reduction="batchmean")
            optimiser.zero_grad()
            (F.cross_entropy(mine, labels) + kl).backward()
            optimiser.step()
    for mine, plain in ((a, plain_a), (b, plain_b)):
        for name, value in plain.named_parameters():
            assert (dict(mine.named_parameters())[name] - value).abs().max() < 1e-6, name


def test_a_peer_that_does_not_move_is_a_teacher():
    """DML with one peer that nothing trains, in eval mode, is KD from that peer."""
    peer = network(2).eval()

    def objective(batch: Batch) -> Losses:
        logits = present(batch.student.logits)
        return {**cross_entropy(batch), "kd": losses.kd(logits, present(peer.activations(batch.images).logits), 1.0)}

    def taught(batch: Batch) -> Losses:
        logits = present(batch.student.logits)
        return {**cross_entropy(batch), "kd": losses.kd(logits, present(batch.teacher.logits), 1.0)}

    alone = stage(network(1), objective, modules={"student": (one := network(1)), "peer": peer}, trainable=[one])
    alone = dataclasses.replace(alone, frozen=("peer",))
    by_teacher = stage(network(1), taught, teacher_depth="logits")
    a, b = run(alone, by_teacher, teacher=peer)
    for name, value in a.student.state_dict().items():
        assert torch.allclose(value, b.student.state_dict()[name], atol=1e-6), name


# -- restarts -----------------------------------------------------------------------------------------------


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_a_restarted_optimiser_is_one_made_anew(name: str):
    spec = Optimiser(name, 0.01, momentum=0.9 if name == "sgd" else 0.0, weight_decay=1e-3)
    kept, fresh = (nn.Linear(5, 3).double() for _ in range(2))
    fresh.load_state_dict(kept.state_dict())
    one, other = optimisers.make(spec, [kept], CPU), optimisers.make(spec, [fresh], CPU)
    x = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    slots = []
    for step in range(6):
        if step == 3:
            slots = [t for state in one.state.values() for t in state.values() if isinstance(t, Tensor)]
            optimisers.restart(one)
            other = optimisers.make(spec, [fresh], CPU)
        for module, optimiser in ((kept, one), (fresh, other)):
            optimiser.zero_grad()
            module(x).square().sum().backward()
            optimiser.step()
    assert torch.equal(kept.weight, fresh.weight)
    now = [t for state in one.state.values() for t in state.values() if isinstance(t, Tensor)]
    assert slots and all(a is b for a, b in zip(slots, now, strict=True))  # in place: a captured step holds these


@pytest.mark.parametrize("restart, begins", [("never", [0]), ("drop", [0, 2]), ("epoch", [0, 1, 2, 3])])
def test_an_optimiser_begins_afresh_when_its_stage_says_so(restart: str, begins: list[int]):
    counts: list[float] = []

    class Watched(Member):
        def begin_epoch(self) -> None:
            super().begin_epoch()
            states = list(self.optimisers[0].state.values())
            counts.append(float(states[0]["step"]) if states else 0.0)

    adam = Optimiser("adam", 1e-3, restart=restart)
    member = Watched(stage(network(1), optimiser=adam, epochs=4, schedule=Schedule((2,))), "adam", 1, EXACT)
    run_side_by_side([Cohort([member], None, material(), EXACT)])
    assert [epoch for epoch, count in enumerate(counts) if count == 0] == begins


# -- selection ----------------------------------------------------------------------------------------------


def test_only_given_epochs_are_candidates():
    """The loss falls in every epoch of five; the best of the second and the fourth is the fourth."""
    value = iter([5.0, 4.0, 3.0, 2.0, 1.0])
    now = {"value": 0.0}

    def validate(batch: Batch) -> Tensor:
        return torch.tensor(now["value"])

    class Falling(Member):
        def begin_epoch(self) -> None:
            super().begin_epoch()
            now["value"] = next(value)

    selection = Selection(validate, highest=False, at=(2, 4), modules=("student", "head"))
    head = nn.Linear(2, 2)
    member = Falling(
        stage(one := network(1), modules={"student": one, "head": head}, epochs=5, selection=selection), "m", 1, EXACT
    )
    run_side_by_side([Cohort([member], None, material(), EXACT)])
    assert (member.best_value, member.best_epoch + 1) == (2.0, 4)
    assert {name.partition(".")[0] for name in member.best} == {"student", "head"}
    shorter = stage(network(1), epochs=40, selection=Selection(accuracy, highest=True, at=(30, 40)))
    assert shorter.shortened(Fraction(1, 8)).selection.at == (4, 5)
    with pytest.raises(KdnbError, match="no patience"):
        Selection(accuracy, highest=True, at=(2,), patience=3)


def test_many_images_validate_few_only_where_something_hangs_on_it():
    """Twenty images learn and forty validate: after the first epoch, the candidates and the last; the rest repeats."""
    whole = material()
    few = Material(material(20).training, whole.validation, whole.augmentation)

    def trained(images: Material, at: tuple[int, ...] | None) -> tuple[Member, list[int]]:
        seen: list[int] = []

        class Watched(Member):
            def validate(self, inputs, sums):
                seen.append(self.epoch + 1)
                super().validate(inputs, sums)

        selection = Selection(accuracy, highest=True, needs_teacher=False, at=at)
        member = Watched(stage(network(1), epochs=6, selection=selection), "m", 1, EXACT)
        run_side_by_side([Cohort([member], None, images, EXACT)])
        return member, seen

    member, seen = trained(few, (3, 5))
    assert seen == [1, 3, 5, 6]
    column = member.history["validation_accuracy"]
    assert (column[1], column[3]) == (column[0], column[2]) and member.best_epoch + 1 in (3, 5)
    everywhere, all_epochs = trained(few, None)
    assert all_epochs == [1, 2, 3, 4, 5, 6] == trained(whole, (3, 5))[1]
    assert [everywhere.history["validation_accuracy"][e - 1] for e in seen] == [column[e - 1] for e in seen]


# -- no student, and a teacher in train mode ----------------------------------------------------------------


def test_a_stage_without_a_student_learns_from_the_teacher_alone():
    teacher = frozen(network(3), CPU, torch.float32)
    decoder = nn.Conv2d(64, 64, 1)

    def objective(batch: Batch) -> Losses:
        assert not batch.student.stages and batch.student.logits is None
        return {"reconstruction": (decoder(batch.teacher.stages[-1]) - batch.teacher.stages[-1]).square().mean()}

    (member,) = run(
        stage(network(1), objective, modules={"decoder": decoder}, trainable=[decoder], student_depth=None,
              teacher_depth=3, epochs=4),
        teacher=teacher,
    )  # fmt: skip
    told = member.history["reconstruction"]
    assert told[-1] < told[0] and "train_accuracy" not in member.history
    with pytest.raises(KdnbError, match="no student"):
        _ = member.student
    with pytest.raises(KdnbError, match="a student among its modules and a depth for it, or neither"):
        stage(network(1), student_depth=None)


def test_a_teacher_in_train_mode_uses_the_statistics_of_the_batch():
    teacher = network(3)
    with torch.no_grad():
        for _ in range(4):
            teacher(torch.randn(16, 3, 16, 16))
    seen: list[Tensor] = []

    def objective(batch: Batch) -> Losses:
        seen.append(present(batch.teacher.logits))
        return cross_entropy(batch)

    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    for mode in ("train", "eval"):
        run(stage(network(1), objective, teacher_depth="logits", teacher_mode=mode, epochs=1),
            teacher=frozen(teacher, CPU, torch.float32))  # fmt: skip
    order = draw_epoch(40, 1, 16, 0, Augmentation(0, False)).order[:16]
    images = material().training.plain(0, 40)[0][order]
    in_training, in_eval = (copy.deepcopy(teacher).train(mode)(images) for mode in (True, False))
    assert torch.allclose(seen[0], in_training, atol=1e-4)
    assert torch.allclose(seen[3], in_eval, atol=1e-4)
    assert not torch.allclose(in_training, in_eval, atol=1e-2)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


# -- an end of one's own ------------------------------------------------------------------------------------


class OneByOne(nn.Module):
    """A batch norm on 1 x 1 maps: it cannot be trained on a batch of one image."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(64)

    def forward(self, batch: Batch) -> Tensor:
        return self.norm(batch.student.stages[-1].mean((2, 3), keepdim=True)).square().mean()


def test_a_member_that_fails_ends_alone():
    """41 images in batches of 8: the last batch has one, and batch norm on it is an error of that member."""
    narrow = OneByOne()
    student = network(1)

    def objective(batch: Batch) -> Losses:
        return {**cross_entropy(batch), "narrow": narrow(batch)}

    bad = stage(student, objective, modules={"student": student, "narrow": narrow}, batch_size=8)
    alone = run(stage(network(2), batch_size=8), on=material(41))[0]
    failed, whole = run(bad, stage(network(2), batch_size=8), on=material(41))
    assert failed.failed is not None and "member 0" in failed.failed and "epoch 1 of 2" in failed.failed
    assert whole.failed is None and whole.finished and whole.history == alone.history
    assert all(torch.equal(v, alone.weights()[k]) for k, v in whole.weights().items())


@pytest.mark.parametrize("where", ["prepare", "validate", "after_step"])
def test_an_error_anywhere_in_a_member_is_its_own(where: str):
    def trouble(*_: object) -> None:
        raise KdnbError("the moon is in the wrong house.")

    changes: dict[str, object] = {where: trouble}
    if where == "validate":
        changes = {"selection": Selection(trouble, highest=True, needs_teacher=False)}  # type: ignore[arg-type]
    failed, whole = run(stage(network(1), **changes), stage(network(2)))
    assert "member 0" in str(failed.failed) and "the moon is in the wrong house" in str(failed.failed)
    assert whole.finished and whole.failed is None


def short_of_memory(hidden: bool) -> None:
    """As PyTorch says it of a CPU; hidden by what failed because of it, as at the end of a capture."""
    try:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB.")
    except RuntimeError:
        if hidden:
            raise RuntimeError("capture failed")  # noqa: B904
        raise


@pytest.mark.parametrize("hidden", [False, True])
def test_a_member_that_memory_does_not_hold_says_what_to_do(hidden: bool):
    failed, whole = run(stage(network(1), lambda batch: short_of_memory(hidden)), stage(network(2)))
    assert "memory does not hold it; train fewer runs at once (--together)" in str(failed.failed) and failed.by_error
    assert whole.finished and whole.failed is None


@pytest.mark.parametrize("company", ["alone", "beside one that asks for more"])
def test_what_a_stage_has_not_declared_it_does_not_see_in_any_company(company: str):
    def objective(batch: Batch) -> Losses:
        return {"soft": present(batch.teacher.logits).square().mean()}

    def of_logits(batch: Batch) -> Losses:
        return {**cross_entropy(batch), "seen": 0 * present(batch.teacher.logits).mean()}

    others = [stage(network(2), of_logits, teacher_depth="logits")] * (company != "alone")
    failed, *whole = run(
        stage(network(1), objective, teacher_depth="embedding"), *others, teacher=frozen(network(7), CPU, torch.float32)
    )
    assert 'teacher_depth="logits"' in str(failed.failed) and "stage 'train'" in str(failed.failed)
    assert all(member.finished and member.failed is None for member in whole)


@pytest.mark.parametrize("company", ["alone", "beside one that asks for more"])
@pytest.mark.parametrize(("depth", "declared"), [(None, "teacher_depth=None"), (1, "teacher_depth=1")])
def test_who_reads_on_without_asking_is_told_what_it_declared(company: str, depth: int | None, declared: str):
    """Also where an objective takes an activation as it is: None, or a list that is too short."""
    sizes: list[int] = []

    def of_logits(batch: Batch) -> Losses:
        sizes.append(len(batch.teacher.stem))
        return {"kd": losses.kd(present(batch.student.logits), batch.teacher.logits, 4.0)}  # type: ignore[arg-type]

    def of_a_stage(batch: Batch) -> Losses:
        return {"third": batch.student.stages[2].mean() * batch.teacher.stages[2].mean()}

    def of_all(batch: Batch) -> Losses:
        return {**cross_entropy(batch), "seen": 0 * present(batch.teacher.logits).mean()}

    bad = [stage(network(k), objective, teacher_depth=depth) for k, objective in enumerate((of_logits, of_a_stage))]
    others = [stage(network(2), of_all, teacher_depth="logits")] * (company != "alone")
    *failed, last = run(*bad, *others, stage(network(3)), teacher=frozen(network(7), CPU, torch.float32))
    assert all(declared in str(member.failed) and "stage 'train'" in str(member.failed) for member in failed[:2])
    assert last.finished and last.failed is None
    assert sizes == ([0] if depth is None else [16])


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        (lambda loss: None, "its objective returned None: return the terms by name"),
        (lambda loss: {}, "its objective returned an empty dict"),
        (
            lambda loss: {"ce": loss, "more": loss.expand(3)},
            "the term 'more' of its objective is a tensor of shape [3]",
        ),
        (lambda loss: {"ce": loss, "more": 0.5}, "the term 'more' of its objective is a float: return {name: scalar}"),
    ],
)
def test_a_term_is_a_scalar(terms, told: str):
    failed, whole = run(stage(network(1), lambda batch: terms(present(batch.student.logits).mean())), stage(network(2)))
    assert told in str(failed.failed) and "stage 'train'" in str(failed.failed) and whole.finished


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ({"observe": lambda batch: None}, "its `observe` returned None: return the terms by name"),
        ({"observe": lambda batch: {"seen": batch.student.logits}}, "the term 'seen' of its `observe` is a tensor of"),
        (
            {"selection": Selection(lambda batch: 0.5, highest=True)},
            "the term 'validation_loss' of its validation is a float",
        ),
    ],
)
def test_what_is_seen_in_a_validation_is_scalars_too(looks, told: str):
    failed, whole = run(stage(network(1), **looks), stage(network(2)))
    assert told in str(failed.failed) and "stage 'train'" in str(failed.failed) and whole.finished


def test_an_objective_returns_its_terms_by_name():
    failed, whole = run(stage(network(1), lambda batch: present(batch.student.logits).mean()), stage(network(2)))
    assert "returned a Tensor: return the terms by name" in str(failed.failed) and whole.finished


# -- state --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["turns", "restart", "no student"])
def test_what_a_stage_can_say_survives_a_stop(kind: str):
    """Stopped in the middle of the second epoch and taken up by another process: bit for bit the same."""
    teacher = frozen(network(3), CPU, torch.float32)

    def make() -> Stage:
        if kind == "turns":
            return mutual(network(1), network(2), epochs=3)
        if kind == "restart":
            return stage(network(1), optimiser=Optimiser("adam", 1e-3, restart="epoch"), epochs=3)
        decoder = nn.Conv2d(64, 64, 1)
        nn.init.constant_(decoder.weight, 0.01)
        nn.init.zeros_(decoder.bias)
        objective = lambda batch: {"r": decoder(batch.teacher.stages[-1]).square().mean()}  # noqa: E731
        modules = {"decoder": decoder}
        return stage(
            network(1), objective, modules=modules, trainable=[decoder], epochs=3, student_depth=None, teacher_depth=3
        )

    whole = Member(make(), "whole", 1, EXACT)
    run_side_by_side([Cohort([whole], teacher, material(), EXACT)])
    first = Member(make(), "first", 1, EXACT)
    steps = iter(range(3))
    run_side_by_side([Cohort([first], teacher, material(), EXACT)], lambda: next(steps, None) is None)
    assert not first.finished and first.step
    second = Member(make(), "second", 1, EXACT)
    second.restore(*first.state())
    run_side_by_side([Cohort([second], teacher, material(), EXACT)])
    assert second.history == whole.history
    assert all(torch.equal(value, whole.weights()[name]) for name, value in second.weights().items())


# -- recipes ------------------------------------------------------------------------------------------------


def test_a_recipe_reaches_the_stage():
    recipe = Recipe(80, 128, 1e-3, (50,), weight_decay=0.0, optimiser="adam", restart="drop")
    setup = Setup(network(1), None, recipe, Supervision(), TrainingSet(torch.zeros(4), 4), 1, CPU)
    assert setup.training(cross_entropy).optimiser == Optimiser("adam", 1e-3, restart="drop")
    nesterov = dataclasses.replace(setup, recipe=Recipe(160, 128, 0.1, (80, 120), nesterov=True))
    assert nesterov.training(cross_entropy).optimiser == Optimiser("sgd", 0.1, 0.9, 5e-4, nesterov=True)


def test_scales_of_norms_begin_where_the_recipe_says():
    from study_samples import experiment

    at_one = experiment("plain")
    uniform = dataclasses.replace(at_one, recipe=dataclasses.replace(at_one.recipe, norm_scale="uniform"))
    scales = [m.weight for m in _network(uniform, 1).modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(s.min() >= 0 and s.max() <= 1 and s.std() > 0.1 for s in scales)
    ones, others = _network(at_one, 1), _network(uniform, 1)
    assert torch.equal(ones.classifier.weight, others.classifier.weight)
    assert all(bool((m.weight == 1).all()) for m in ones.modules() if isinstance(m, nn.BatchNorm2d))
