"""The engine against a plain PyTorch loop, and each of its promises by itself."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from study_samples import TINY, experiment, keep_teacher
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import MultiStepLR
from torchvision.transforms import functional as pictures

from kdnb import datasets, models
from kdnb.exhibits import comparison
from kdnb.methods.recipe import Recipe
from kdnb.methods.stage import Batch, Optimiser, Schedule, Selection, Stage, accuracy, total
from kdnb.models.network import Activations, ConvNorm, Network
from kdnb.randomness import keyed_seed
from kdnb.study.experiment import Experiment, Images, Run
from kdnb.study.profile import PROFILES
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.study.workbench import Workbench
from kdnb.training import numerics as numerics_module
from kdnb.training.cohort import Cohort, Material, asked_depth, run_side_by_side
from kdnb.training.freeze import frozen
from kdnb.training.images import Augmentation, DeviceImages, Normalisation, draw_epoch
from kdnb.training.member import CHECK_EVERY, Member
from kdnb.training.numerics import Numerics, detect

CPU = torch.device("cpu")
EXACT = detect("cpu", dtype="float32", mode="eager")


# -- the whole step ----------------------------------------------------------------------------------------


@pytest.mark.arithmetic
def test_the_engine_trains_as_a_plain_loop_does():
    """KD for three epochs; the engine is as near to exact arithmetic as the plain loop itself is in float32."""
    recipe = Recipe(3, 64, 0.02, (1, 2), momentum=0.9, weight_decay=5e-2, selection="last")
    taught = experiment("kd", recipe=recipe, profile=dataclasses.replace(TINY, at_most=3))
    store = Store.open()
    teacher_run = keep_teacher(taught, store)
    bench = Workbench(store, EXACT)
    material, _ = bench.material(taught.images)
    member = Member(bench.stages(Run(taught, 1))[0], "engine", 1, EXACT)
    run_side_by_side([Cohort([member], bench.teacher(teacher_run), material, EXACT)])
    told = [ce + kd for ce, kd in zip(member.history["ce"], member.history["kd"], strict=True)]

    weights = store.load_weights(teacher_run)
    exact, exact_losses = plain_loop(taught, weights, torch.float64)
    single, _ = plain_loop(taught, weights, torch.float32)
    for name, value in member.student.state_dict().items():
        allowed = 4 * (single[name] - exact[name]).abs().max() + 1e-5
        assert (value - exact[name]).abs().max() <= allowed, name
        assert allowed < 0.01 * (1 + exact[name].abs().max()), name  # no wide gate
    assert told == pytest.approx(exact_losses, rel=1e-4)
    assert member.history["lr"] == pytest.approx([0.02, 0.002, 0.0002])


def plain_loop(taught: Experiment, weights: dict[str, Tensor], dtype: torch.dtype) -> tuple[Any, list[float]]:
    """KD by hand: torch's optimiser, schedule and losses, torchvision's crops, a teacher that is not folded."""
    data = datasets.load("digits")
    chosen = datasets.class_balanced(data.train.labels, 150, "student/digits")
    images = torch.from_numpy(np.array(data.train.images[chosen])).permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.array(data.train.labels[chosen], dtype=np.int64))
    torch.manual_seed(keyed_seed(1, "network", taught.network))
    student, teacher = models.create(taught.network, 10).to(dtype), models.create(taught.teacher.network, 10).to(dtype)
    teacher.load_state_dict({k.removeprefix("student."): v for k, v in weights.items()})
    teacher.eval()
    student, teacher = (n.to(memory_format=torch.channels_last) for n in (student, teacher))
    optimiser = torch.optim.SGD(student.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-2)
    schedule = MultiStepLR(optimiser, milestones=[1, 2])
    means = []
    for epoch in range(3):
        draws, total_loss = draw_epoch(150, 1, 64, epoch, Augmentation(2, False)), 0.0
        for places in torch.arange(150).split(64):
            batch = torch.stack([_augmented(images, draws, int(p), taught.images, dtype) for p in places])
            with torch.no_grad():
                soft = (teacher(batch) / 8).softmax(1)
            logits = student(batch)
            kd = 64 * F.kl_div((logits / 8).log_softmax(1), soft, reduction="batchmean")
            loss = 0.2 * F.cross_entropy(logits, labels[draws.order[places]]) + 0.8 * kd
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total_loss += loss.item() * len(places)
        schedule.step()
        means.append(total_loss / 150)
    return student.state_dict(), means


def _augmented(images: Tensor, draws: Any, place: int, how: Images, dtype: torch.dtype) -> Tensor:
    padded = pictures.pad(images[draws.order[place]], 2)
    cropped = pictures.crop(padded, int(draws.top[place]), int(draws.left[place]), 16, 16)
    return pictures.normalize(cropped.to(dtype) / 255, how.mean, how.std)


# -- schedules, profiles, selection ------------------------------------------------------------------------


@pytest.mark.parametrize("milestones", [(), (3,), (2, 4, 4), (1, 5, 9)])
def test_rates_are_those_of_torchs_multistep(milestones):
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = MultiStepLR(optimiser, milestones=list(milestones), gamma=0.2)
    for epoch in range(12):
        assert Schedule(milestones, 0.2).rate(0.1, epoch) == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()


LONG, BRIEF = comparison.LONG, comparison.BRIEF
SHORTENED = [
    # profile, epochs, milestones, patience -> epochs, milestones, patience
    ("paper", LONG.epochs, LONG.milestones, 100, 200, (80, 120), 100),
    ("short", LONG.epochs, LONG.milestones, 100, 50, (20, 30), 25),
    ("pilot", LONG.epochs, LONG.milestones, 100, 25, (10, 15), 13),
    ("demo", LONG.epochs, LONG.milestones, 100, 10, (4, 6), 5),
    ("pilot", BRIEF.epochs, BRIEF.milestones, 3, 13, (5, 8), 1),
    ("pilot", 180, (112, 135, 157), 1, 23, (14, 17, 20), 1),
    ("demo", 240, (150, 180, 210), 24, 10, (7, 8, 9), 1),
    ("pilot", 500, (), 100, 63, (), 13),
    ("demo", 500, (), 100, 10, (), 2),
    ("demo", 1, (1,), 1, 1, (1,), 1),
    ("demo", 10, (5,), 2, 10, (5,), 2),
    ("pilot", 1, (1,), 1, 1, (1,), 1),
]


@pytest.mark.parametrize(("profile", "epochs", "milestones", "patience", "run", "at", "waits"), SHORTENED)
def test_a_profile_shortens_every_count_and_rounds_up(profile, epochs, milestones, patience, run, at, waits):
    stage = tiny_stage(epochs=epochs, schedule=Schedule(milestones), selection=select(patience=patience))
    scale = PROFILES[profile]
    short = stage.shortened(scale.factor, scale.at_most)
    assert (short.epochs, short.schedule.milestones, short.selection.patience) == (run, at, waits)
    assert stage.epochs == epochs


def test_an_objective_counts_the_papers_epochs():
    """A warm-up of 10 epochs of 20 lasts half of a stage that is run for 5."""
    seen: dict[float, int] = {}

    def objective(batch: Batch) -> dict[str, Tensor]:
        seen[float(batch.epoch)] = seen.get(float(batch.epoch), 0) + 1
        return cross_entropy(batch)

    run_side_by_side([cohort([tiny_stage(objective, epochs=20).shortened(Fraction(1, 4))])])
    assert seen == {0.0: 4, 4.0: 4, 8.0: 4, 12.0: 4, 16.0: 4}


SELECTED = [
    # highest?, patience, validated -> best epoch, epochs run
    (True, None, [0.1, 0.3, 0.3, 0.2], 1, 4),
    (False, None, [2.0, 1.0, 1.0, 3.0], 1, 4),
    (True, 2, [0.5, 0.4, 0.5, 0.9], 0, 3),
    (True, 2, [0.5, 0.4, 0.6, 0.1], 2, 4),
    (False, 1, [1.0, 1.0, 0.5, 0.5], 0, 2),
]


@pytest.mark.parametrize(("highest", "patience", "values", "best", "run"), SELECTED)
def test_the_first_best_epoch_is_kept_and_patience_ends_the_stage(highest, patience, values, best, run):
    rule = select(highest, patience) if highest else select(highest, patience, validate=total(cross_entropy))
    member = member_of(tiny_stage(epochs=4, selection=rule))
    column = "validation_accuracy" if highest else "validation_loss"
    for epoch, value in enumerate(values):
        if not member.finished:
            with torch.no_grad():
                member.student.classifier.bias.fill_(epoch)  # a mark of the epoch in the weights
            member.sums = {"images": torch.ones(())}
            member.end_epoch({column: value})
    assert (member.best_epoch, member.epoch, member.finished) == (best, run, True)
    assert member.selected_weights()["student.classifier.bias"].tolist() == [float(best)] * 4
    assert member.weights()["student.classifier.bias"].tolist() == [float(run - 1)] * 4


# -- the teacher -------------------------------------------------------------------------------------------


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", ["resnet8", "resnet20", "resnet8x4"])
def test_folding_batch_norms_changes_nothing(name):
    torch.manual_seed(0)
    network = models.create(name, 10)
    images = torch.randn(12, 3, 16, 16)
    for _ in range(3):
        network(torch.randn(12, 3, 16, 16) * 2 + 1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.normal_(module.bias)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    teacher = frozen(network, CPU, torch.float32)
    with torch.no_grad():
        plain, folded = network.eval().activations(images), teacher.activations(images)
    for a, b in zip(flat(plain), flat(folded), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4 * float(a.abs().max()))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in teacher.modules())
    assert not any(m.training for m in teacher.modules()) and not any(p.requires_grad for p in teacher.parameters())
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)


def flat(found: Activations) -> list[Tensor]:
    return [found.stem, *found.stages, *found.preactivations, found.embedding, found.logits]


def test_the_teacher_learns_nothing_and_stays_in_eval_mode():
    torch.manual_seed(0)
    teacher = Tiny()  # neither frozen nor folded: the engine itself must leave it alone
    teacher.eval()
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    seen: list[Activations] = []

    def imitate(batch: Batch) -> dict[str, Tensor]:
        seen.append(batch.teacher)
        return {"hint": (batch.student.logits - batch.teacher.logits).square().mean()}

    run_side_by_side([cohort([tiny_stage(imitate, teacher_depth="logits", epochs=2)], teacher)])
    assert seen and not any(t.requires_grad for found in seen for t in [found.stem, *found.stages, found.logits])
    assert all(p.grad is None for p in teacher.parameters())
    assert not any(m.training for m in teacher.modules())
    torch.testing.assert_close(dict(teacher.state_dict()), before, rtol=0, atol=0)


# -- modes, preparation, cohorts ---------------------------------------------------------------------------


def test_frozen_modules_stay_in_eval_mode_and_all_others_train():
    modes: list[tuple[bool, bool]] = []
    extra = nn.BatchNorm1d(4)

    def objective(batch: Batch) -> dict[str, Tensor]:
        modes.append((extra.training, stage.modules["student"].training))
        return {"ce": F.cross_entropy(extra(batch.student.logits), batch.labels)}

    stage = tiny_stage(objective, frozen=("extra",), extra=extra)
    run_side_by_side([cohort([stage])])
    assert set(modes) == {(False, True)}
    assert extra.running_mean.tolist() == [0.0] * 4 and int(extra.num_batches_tracked) == 0
    assert int(stage.modules["student"].stem[1].num_batches_tracked) == len(modes)


def test_preparation_moves_no_running_statistic_and_is_done_once():
    calls: list[tuple[int, bool, bool]] = []

    def build() -> Stage:
        beta = nn.Module()
        beta.register_buffer("value", torch.zeros(()))

        def prepare(batches: list[Batch]) -> None:
            assert not torch.is_grad_enabled()
            before = stage.modules["student"].stem[1].running_mean
            calls.append((len(batches), stage.modules["student"].training, bool(before.any())))
            beta.value.fill_(torch.stack([b.student.logits.std() for b in batches]).mean())

        def objective(batch: Batch) -> dict[str, Tensor]:
            return {"ce": beta.value * F.cross_entropy(batch.student.logits, batch.labels)}

        stage = tiny_stage(objective, prepare=prepare, prepare_batches=3, epochs=2, beta=beta)
        return stage

    first = member_of(build())
    before = {k: v.clone() for k, v in first.student.state_dict().items()}
    whole = cohort([first])
    whole._prepare()
    assert calls == [(3, True, True)]  # in train mode: it moved, and was put back
    torch.testing.assert_close(dict(first.student.state_dict()), before, rtol=0, atol=0)
    steps = whole.steps()
    for _ in range(4):
        next(steps)
    tensors, meta = first.state()
    second = member_of(build())
    second.restore({k: v.clone() for k, v in tensors.items()}, dict(meta))
    run_side_by_side([cohort([second])])
    for _ in steps:
        pass
    assert len(calls) == 1
    torch.testing.assert_close(first.weights(), second.weights(), rtol=0, atol=0)


def test_members_of_different_lengths_give_what_they_give_alone():
    def stages() -> list[Stage]:
        lengths = [(1, None), (3, "logits"), (2, 1)]
        return [tiny_stage(imitating(depth), teacher_depth=depth, epochs=n) for n, depth in lengths]

    torch.manual_seed(0)
    teacher = frozen(Tiny(), CPU, torch.float32)
    together = cohort(stages(), teacher)
    depths = []
    together.on_epoch = lambda c: depths.append((len(c.active), asked_depth(c.active)))
    run_side_by_side([together])
    assert [m.epoch for m in together.members] == [1, 3, 2]
    assert depths == [(3, "logits"), (2, "logits"), (1, "logits")]
    for index, alone in enumerate(stages()):
        member = cohort([alone], teacher)
        run_side_by_side([member])
        torch.testing.assert_close(member.members[0].weights(), together.members[index].weights(), rtol=0, atol=0)
        assert member.members[0].history == together.members[index].history


def test_an_epoch_is_every_image_once_the_last_partial_batch_too():
    seen: list[list[int]] = []

    def objective(batch: Batch) -> dict[str, Tensor]:
        if batch.student.logits.requires_grad:
            seen.append(batch.indices.tolist())
        return cross_entropy(batch)

    run_side_by_side([cohort([tiny_stage(objective, batch_size=64, epochs=2)], count=150)])
    assert [len(batch) for batch in seen] == [64, 64, 22] * 2
    for epoch in (seen[:3], seen[3:]):
        assert sorted(index for batch in epoch for index in batch) == list(range(150))
    assert seen[0] != seen[3]


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_loss_that_is_not_finite_ends_its_member_alone(optimiser):
    """Noticed within 64 steps; from the bad step on nothing is learned; the others are not disturbed."""
    bad, states = 70, {}

    def failing(batch: Batch) -> dict[str, Tensor]:
        step = int(member.device_step)
        states[step] = broken.modules["student"].classifier.weight.detach().clone()
        return {"ce": cross_entropy(batch)["ce"] * (math.nan if step == bad else 1.0)}

    def others() -> list[Stage]:
        return [tiny_stage(batch_size=2, optimiser=spec), tiny_stage(batch_size=2, epochs=2, optimiser=spec)]

    spec = Optimiser(optimiser, 0.01, momentum=0.9 if optimiser == "sgd" else 0.0, weight_decay=1e-3)
    broken = tiny_stage(failing, batch_size=2, epochs=2, optimiser=spec)
    notices: list[str] = []
    company = cohort([others()[0], broken, others()[1]], count=200, notice=notices.append)
    member = company.members[1]
    run_side_by_side([company])
    assert bad < max(states) < bad + CHECK_EVERY
    for step in range(bad + 1, max(states) + 1):
        assert torch.equal(states[step], states[bad])
    assert not torch.equal(states[bad], states[bad - 1])
    assert "not finite at step 70 of stage 'train'" in notices[0] and len(notices) == 1
    for index, stage in zip((0, 2), others(), strict=True):
        alone = cohort([stage], count=200)
        run_side_by_side([alone])
        torch.testing.assert_close(alone.members[0].weights(), company.members[index].weights(), rtol=0, atol=0)


def test_what_is_not_finite_after_the_last_step_is_no_result():
    """Neither an infinite column of the history nor weights that a last step broke leave a stage."""
    watching = tiny_stage(observe=lambda batch: {"distance": batch.student.logits.sum() * math.inf})
    ruined = tiny_stage(after_step=lambda batch: ruined.modules["student"].classifier.weight.fill_(math.nan))
    ruined.batch_size = watching.batch_size = 150
    company = cohort([watching, ruined, tiny_stage(batch_size=150)], count=150)
    run_side_by_side([company])
    reasons = [member.failed or "" for member in company.members]
    assert "distance not finite after epoch 1" in reasons[0]
    assert "the student's weights not finite after epoch 1" in reasons[1]
    assert not reasons[2]


def test_sums_stay_where_they_are_from_epoch_to_epoch():
    """A captured step adds to the tensors it was captured with."""
    company = cohort([tiny_stage(epochs=3)])
    places: list[dict[str, int]] = []
    company.on_epoch = lambda c: places.append({k: v.data_ptr() for k, v in company.members[0].sums.items()})
    run_side_by_side([company])
    assert places[0] == places[1] == places[2] and set(places[0]) == {"images", "ce", "train_accuracy"}
    assert company.members[0].history["ce"][0] < 5  # a mean, not a sum


# -- other numerics ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_how_large_a_state_is_is_counted_without_a_copy(optimiser, monkeypatch):
    company = cohort([tiny_stage(epochs=2, selection=select(), optimiser=Optimiser(optimiser, 0.05, momentum=0.0))])
    run_side_by_side([company])
    (member,) = company.members
    expected = sum(tensor.numel() * tensor.element_size() for tensor in member.state()[0].values())
    assert member.best
    monkeypatch.setattr(Tensor, "clone", lambda self: pytest.fail("a tensor was copied"))
    assert member.state_bytes() == expected


def losses_of(numerics: Numerics, steps: int = 50) -> list[float]:
    """The loss of every step of KD on the digits under these numerics."""
    taught = experiment("kd", recipe=dataclasses.replace(comparison.LONG, lr=0.02, batch_size=32, epochs=20))
    taught = dataclasses.replace(taught, profile=dataclasses.replace(TINY, at_most=None))
    store = Store.open()
    bench = Workbench(store, numerics)
    teacher = bench.teacher(keep_teacher(taught, store))
    stage = bench.stages(Run(taught, 1))[0]
    found: list[Tensor] = []
    inner = stage.objective

    def objective(batch: Batch) -> dict[str, Tensor]:
        terms = inner(batch)
        if torch.is_grad_enabled():
            found.append(torch.stack([t.detach().float() for t in terms.values()]).sum())
        return terms

    material, _ = bench.material(taught.images)
    member = Member(dataclasses.replace(stage, objective=objective), "losses", 1, numerics)
    running = Cohort([member], teacher, material, numerics).steps()
    while len(found) < steps:
        next(running)
    return [float(loss) for loss in found[:steps]]


@pytest.mark.arithmetic
@pytest.mark.parametrize("lacking", [False, True], ids=["as it is", "without the arithmetic"])
def test_bfloat16_follows_float32_over_fifty_steps(lacking, monkeypatch):
    if lacking:
        monkeypatch.setattr(numerics_module, "has_bfloat16", lambda: False)
    single = np.array(losses_of(EXACT))
    half = np.array(losses_of(dataclasses.replace(EXACT, dtype="bfloat16")))
    assert not np.array_equal(single, half)
    assert np.abs(half[:10] / single[:10] - 1).max() < 0.02
    assert np.abs(half / single - 1).max() < 0.15
    assert abs(half.mean() / single.mean() - 1) < 0.02
    assert single[-10:].mean() < single[:10].mean()


def test_bfloat16_ends_where_float32_ends():
    """Accuracy on the digits over seeds: the difference is within the noise between seeds."""
    profile = dataclasses.replace(TINY, at_most=6, student_images=400)
    recipe = Recipe(epochs=6, batch_size=32, lr=0.05, milestones=(5,), selection="last")
    runs = [Run(experiment("plain", profile, recipe=recipe), seed) for seed in (1, 2, 3)]
    found = {}
    for dtype in ("float32", "bfloat16"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KDNB_STORE", f"{Store.open().own.results.parent}-{dtype}")
            Runner(Store.open(), dataclasses.replace(EXACT, dtype=dtype), "comparison", say=lambda line: None).run(runs)
            store = Store.open()
            found[dtype] = np.array([store.get(*run.key).metrics["all_images"] for run in runs])
    differences = found["bfloat16"] - found["float32"]
    assert found["float32"].min() > 0.5  # something was learned
    noise = found["float32"].std(ddof=1) + found["bfloat16"].std(ddof=1)
    assert abs(differences.mean()) < 2 * max(noise, 0.02) / math.sqrt(len(runs))


# -- what the tests train ----------------------------------------------------------------------------------


class Tiny(Network):
    """The smallest network with all parts: a stem with a batch norm, one stage, a classifier."""

    stem_width, stage_widths, embedding_width, num_classes = 4, (6,), 6, 4

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4))
        self.stages = nn.ModuleList([nn.Conv2d(4, 6, 3, 2, 1)])
        self.classifier = nn.Linear(6, 4)

    def run_stem(self, images: Tensor) -> Tensor:
        return F.relu(self.stem(images))

    def run_stage(self, index: int, features: Tensor) -> tuple[Tensor, Tensor]:
        preactivation = self.stages[index](features)
        return F.relu(preactivation), preactivation

    def embed(self, features: Tensor) -> Tensor:
        return features.mean(dim=(2, 3))


def cross_entropy(batch: Batch) -> dict[str, Tensor]:
    return {"ce": F.cross_entropy(batch.student.logits, batch.labels)}


def imitating(depth: Any) -> Any:
    """Labels and the teacher's activation at a depth."""

    def objective(batch: Batch) -> dict[str, Tensor]:
        terms = cross_entropy(batch)
        if depth == "logits":
            terms["hint"] = (batch.student.logits - batch.teacher.logits).square().mean()
        elif depth is not None:
            terms["hint"] = (batch.student.stages[0] - batch.teacher.stages[0]).square().mean()
        return terms

    return objective


def select(highest: bool = True, patience: int | None = None, validate: Any = accuracy) -> Selection:
    return Selection(validate, highest, patience, needs_teacher=False)


def tiny_stage(objective: Any = cross_entropy, **options: Any) -> Stage:
    """A stage of a tiny student, always the same one, with what else is named."""
    extra = {name: options.pop(name) for name in ("extra", "beta") if name in options}
    torch.manual_seed(7)
    student = Tiny()
    fields = {"optimiser": Optimiser("sgd", 0.05, 0.9), "epochs": 1, "batch_size": 16, **options}
    return Stage("train", {"student": student, **extra}, [student], objective, **fields)


def member_of(stage: Stage) -> Member:
    return Member(stage, "tiny", 1, EXACT)


def cohort(stages: list[Any], teacher: Network | None = None, count: int = 60, notice: Any = print) -> Cohort:
    """Stages or members on random images."""
    stream = np.random.default_rng(1)
    pixels = stream.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    labels = stream.integers(0, 4, count)
    normalisation = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    training, validation = (DeviceImages(pixels, labels, normalisation, CPU, torch.float32, p) for p in (2, 0))
    members = [s if isinstance(s, Member) else member_of(s) for s in stages]
    material = Material(training, validation, Augmentation(2, True))
    return Cohort(members, teacher, material, EXACT, notice=notice)
