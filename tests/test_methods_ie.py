"""Inheritance and exploration, mutual learning, self-training: one step of each by formula, edges, what is kept."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from capturable import capturable
from torch import Tensor, nn
from torch.nn import functional as F

from kdnb import losses, models
from kdnb.errors import KdnbError
from kdnb.methods import get
from kdnb.methods.paraphraser import Paraphraser, tapped
from kdnb.methods.recipe import Recipe
from kdnb.methods.stage import Batch, Setup, Stage, Supervision, TrainingSet
from kdnb.training.freeze import frozen
from kdnb.training.member import Member
from kdnb.training.numerics import detect

CPU = torch.device("cpu")
CLASSES, SIZE = 5, 6
LABELS = torch.arange(SIZE) % CLASSES
RECIPE = Recipe(epochs=160, batch_size=SIZE, lr=0.1, milestones=(80, 120), nesterov=True)
IE = ["ie-at", "ie-ft", "ie-od"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_setup(teacher: str = "resnet14", student: str = "resnet8", seed: int = 1) -> Setup:
    torch.manual_seed(0)
    pupil, master = models.create(student, CLASSES), frozen(models.create(teacher, CLASSES), CPU, torch.float32)
    setup = Setup(pupil, master, RECIPE, Supervision(), TrainingSet(LABELS, CLASSES), seed, CPU)
    width = master.stage_widths[-1]
    setup.steps["paraphraser"] = {"paraphraser": setup.build("paraphraser", lambda: Paraphraser(width, width // 2))}
    return setup


def make_stage(name: str, setup: Setup | None = None, **given: Any) -> Stage:
    (stage,) = get(name).stages(setup or make_setup(), get(name).arguments(given))
    for module in stage.frozen:
        stage.modules[module].eval()
    return stage


def make_batch(setup: Setup) -> Batch:
    images = torch.randn(SIZE, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        teacher = setup.teacher_network().activations(images)
    return Batch(images, LABELS, torch.arange(SIZE), setup.student.activations(images), teacher, torch.zeros(()))


def ready(name: str, **given: Any) -> tuple[Stage, Setup, Batch]:
    setup = make_setup()
    return make_stage(name, setup, **given), setup, make_batch(setup)


def parameters(modules: Any) -> set[nn.Parameter]:
    return {p for module in modules for p in module.parameters()}


# -- inheritance and exploration ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", IE)
def test_a_step_trains_student_and_encoders_and_can_be_captured(name: str) -> None:
    stage, setup, batch = ready(name)
    with capturable():
        terms = stage.objective(batch)
        torch.stack(list(terms.values())).sum().backward()
        assert stage.observe is not None
        seen = stage.observe(batch)
    assert set(terms) == {"ce", "inheritance", "exploration"} and terms["exploration"] < 0 < terms["inheritance"]
    assert set(seen) == {"inheritance_gradient", "exploration_gradient"} and all(v > 0 for v in seen.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters(stage.trainable))
    assert all(p.grad is None for p in parameters([stage.modules["paraphraser"], setup.teacher_network()]))


def test_one_step_by_the_formulas() -> None:
    """Factors of length 1 an image, means over images and elements; of places for AT, of positive parts for OD."""

    def unit(factor: Tensor) -> Tensor:
        flat = factor.flatten(1)
        return flat / flat.square().sum(1, keepdim=True).sqrt()

    for name, seen, root in (
        ("ie-ft", lambda f: f, False),
        ("ie-at", lambda f: f.square().mean(1), False),
        ("ie-od", lambda f: f.clamp_min(0), True),
    ):
        stage, _, batch = ready(name, inheritance_weight=3.0, exploration_weight=7.0)
        parts = stage.modules["parts"]
        maps = F.relu(batch.student.preactivations[-1])
        taught = unit(seen(stage.modules["paraphraser"].encoder(F.relu(batch.teacher.preactivations[-1]))))
        found = stage.objective(batch)
        for term, sign, channels in (("inheritance", 3, parts.inheriting), ("exploration", -7, parts.exploring)):
            gap = unit(seen(parts.get_submodule(term)(maps[:, channels]))) - taught
            mean = gap.square().mean().sqrt() if root else gap.abs().mean()
            assert found[term].item() == pytest.approx(sign * mean.item(), rel=1e-4), (name, term)


def test_with_all_channels_inherited_it_is_ft_up_to_its_encoder() -> None:
    setup = make_setup()
    ft, ie = make_stage("ft", setup), make_stage("ie-ft", setup, inherited=1.0, inheritance_weight=500.0)
    ie.modules["parts"].inheritance.load_state_dict(ft.modules["translator"].state_dict())
    batch = make_batch(setup)
    assert ie.objective(batch)["inheritance"].item() == ft.objective(batch)["factor"].item()
    assert "exploration" not in ie.objective(batch) and ie.modules["parts"].exploration is None


def test_exploration_of_weight_zero_is_inheritance_alone() -> None:
    stage, setup, batch = ready("ie-ft", exploration_weight=0.0)
    other = copy.deepcopy(setup.student)
    torch.stack(list(stage.objective(batch).values())).sum().backward()
    parts = stage.modules["parts"]
    acts = other.activations(batch.images)
    factor = parts.inheritance(tapped(acts)[:, parts.inheriting])
    taught = stage.modules["paraphraser"].encoder(tapped(batch.teacher))
    (F.cross_entropy(acts.logits, LABELS) + 50 * losses.factor(factor, taught)).backward()
    for mine, plain in zip(setup.student.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine.grad, plain.grad, atol=1e-6)


@pytest.mark.parametrize("name", IE)
def test_bounded_losses_stay_bounded(name: str) -> None:
    """However large an encoder grows, exploration ends at the bound; OD's equation to the letter has none."""
    stage, _, batch = ready(name)
    width = 16 if name == "ie-at" else 32 * 16
    (scale,) = [norm.weight for norm in stage.modules["parts"].exploration[-1] if isinstance(norm, nn.BatchNorm2d)]
    with torch.no_grad():
        scale.mul_(1e4)
    assert 0 > stage.objective(batch)["exploration"].item() >= -50 * 2 / math.sqrt(width)
    if name == "ie-od":
        stage, _, batch = ready(name, metric="raw-l2")
        with torch.no_grad():
            stage.modules["parts"].exploration[-1][1].weight.mul_(1e4)
        assert stage.objective(batch)["exploration"].item() < -1e4


@pytest.mark.parametrize(("inherited", "channels"), [(0.0, 0), (0.3, 19), (0.5, 32), (0.7, 45), (1.0, 64)])
def test_the_split_is_of_all_channels_and_by_the_seed_alone(inherited: float, channels: int) -> None:
    def split(seed: int, how: str = "random") -> list[list[int]]:
        parts = make_stage("ie-ft", make_setup(seed=seed), inherited=inherited, split=how).modules["parts"]
        assert set(parts.state_dict()) >= {"inheriting", "exploring"}  # what a checkpoint keeps
        return [parts.inheriting.tolist(), parts.exploring.tolist()]

    one = split(1)
    assert len(one[0]) == channels and sorted(one[0] + one[1]) == list(range(64)) and split(1) == one
    assert split(1, "halves") == [list(range(channels)), list(range(channels, 64))]
    if 0 < channels < 64:
        assert split(2) != one


def test_the_split_survives_a_resume() -> None:
    """A checkpoint carries it: whatever split a fresh stage has drawn, a resumed one has that of the run."""
    numerics = detect("cpu", "float32", "eager")
    member, fresh = (Member(make_stage("ie-ft", make_setup(seed=seed)), "run", seed, numerics) for seed in (1, 2))
    before = member.stage.modules["parts"].inheriting.tolist()
    assert fresh.stage.modules["parts"].inheriting.tolist() != before
    fresh.restore(*member.state())
    assert fresh.stage.modules["parts"].inheriting.tolist() == before


def test_controls_and_other_readings() -> None:
    stage, setup, batch = ready("ie-ft", backbone="spared", inheritance_weight=0.0)
    stage.objective(batch)["exploration"].backward()
    assert all(p.grad is None for p in setup.student.parameters())  # the encoder alone has to absorb it
    assert stage.observe(batch)["exploration_gradient"].item() == 0

    stage, _, batch = ready("ie-ft", away_from="inheritance")
    parts, maps = stage.modules["parts"], tapped(batch.student)
    inheriting, exploring = parts(maps)
    expected = -50 * losses.factor(exploring, inheriting)
    assert stage.objective(batch)["exploration"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_maps_of_other_sizes_and_widths_are_compared_as_factors() -> None:
    """A WRN's last map, after its norm and ReLU, has 4 places a side where VGG's has one; its factors are 64."""
    setup = make_setup("wrn_16_2", "vgg13_pool4")
    stage = make_stage("ie-ft", setup)
    batch = make_batch(setup)
    assert batch.teacher.stages[-1].min() < 0 and tapped(batch.teacher).min() == 0
    assert stage.objective(batch)["inheritance"].item() <= 50 * 2 / math.sqrt(64)


def test_encoders_begin_as_the_released_code_has_them() -> None:
    """Weights of each 3x3 layer, forward and back, from N(0, 2 / (9 c_out)); norms at 1 and 0."""
    torch.manual_seed(0)
    layers = [m for m in Paraphraser(64, 32).modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels) for m in layers] == [
        (64, 64),
        (64, 32),
        (32, 32),
        (32, 32),
        (32, 64),
        (64, 64),
    ]
    for layer in layers:
        assert layer.bias is None
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * layer.out_channels)), rel=0.03)


# -- networks that teach each other ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dml", "ie-dml"])
def test_peers_take_turns(name: str) -> None:
    """Each turn reaches what it trains and is finite; terms have names of their own; equal networks begin apart."""
    stage, setup, batch = ready(name)
    peer = stage.modules["peer"]
    assert peer.name == "resnet8" and not torch.equal(peer.classifier.weight, setup.student.classifier.weight)
    names: list[str] = []
    for turn in stage.turns:
        everything = parameters(stage.modules.values())
        for parameter in everything:
            parameter.grad = None
        with capturable():
            terms = turn.objective(make_batch(setup))
            torch.stack(list(terms.values())).sum().backward()
        names += terms
        assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters(turn.trainable))
        assert all(p.grad is None for p in everything - parameters(turn.trainable))
    assert len(set(names)) == len(names) and {n.removeprefix("peer_") for n in names[len(names) // 2 :]} == {
        *names[: len(names) // 2]
    }
    assert stage.turns[1].optimiser == stage.optimiser and 0 <= stage.observe(batch)["peer_accuracy"] <= 1


def test_dml_with_a_frozen_peer_is_kd_from_it() -> None:
    setup = make_setup()
    stage = make_stage("dml", setup, peer="resnet14")
    peer = stage.modules["peer"].eval()
    taught = dataclasses.replace(setup, teacher=peer)
    batch = make_batch(taught)
    mutual = stage.objective(batch)
    kd = make_stage("kd", taught, labels_weight=1.0, soft_weight=1.0, temperature=1.0).objective(batch)
    assert mutual["ce"].item() == kd["ce"].item()
    assert mutual["mutual"].item() == pytest.approx(kd["kd"].item(), rel=1e-6)


def test_ie_dml_by_the_formulas() -> None:
    """Networks of other widths meet in factors of one width; the reconstruction leaves the network alone."""
    setup = make_setup(student="wrn_16_2")
    stage = make_stage("ie-dml", setup, peer="resnet8")
    batch, own = make_batch(setup), stage.modules
    terms = stage.objective(batch)
    maps = tapped(batch.student)
    with torch.no_grad():
        heard = own["peer_factors"].encoder(tapped(own["peer"].activations(batch.images)))
    gap = (maps - own["student_factors"](maps)).abs().mean()
    assert heard.shape[1] == 32 and terms["reconstruction"].item() == pytest.approx(0.8 * gap.item(), rel=1e-5)
    kept, _ = own["student_parts"](maps)
    assert terms["inheritance"].item() == pytest.approx(50 * losses.factor(kept, heard).item(), rel=1e-5)
    terms["reconstruction"].backward()
    assert all(p.grad is None for p in setup.student.parameters())


# -- methods that the supplementary adds --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fitnet-joint", "pkt-joint", "information-flow-joint", "nst", "cc", "vid", "ab"])
@pytest.mark.parametrize(("teacher", "student"), [("resnet14", "resnet8"), ("wrn_16_2", "vgg13_pool4")])
def test_added_methods_train_what_they_say(name: str, teacher: str, student: str) -> None:
    """Also from three stages to four of other sizes; everything trainable gets a gradient, the teacher none."""
    setup = make_setup(teacher, student)
    for stage in get(name).stages(setup, get(name).arguments({})):
        setup.student.zero_grad(set_to_none=True)
        with capturable():
            terms = stage.objective(make_batch(setup))
            torch.stack(list(terms.values())).sum().backward()
        assert all(term.shape == () and term.isfinite() for term in terms.values())
        trained = parameters(stage.trainable)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
        known = parameters([setup.student, *stage.modules.values()])
        reached = {p for p in known - trained if p.grad is not None}
        assert not reached and all(p.grad is None for p in setup.teacher_network().parameters())


def test_settings_of_added_methods_are_the_benchmarks() -> None:
    weights = {"fitnet-joint": 100, "sp": 3000, "cc": 0.02, "vid": 1, "pkt-joint": 30_000, "nst": 50}
    assert {name: get(name).defaults["weight"] for name in weights} == weights
    first, second = get("ab").stages(make_setup(), get("ab").arguments({}))
    assert first.shared and first.epochs == 30 and second.epochs == 160 and first.student_depth == 3
    assert not parameters(first.modules["connectors"])  # maps of one width are compared as they are
    setup, batch = (setup := make_setup()), make_batch(setup)
    (guided,) = get("fitnet-joint").stages(setup, {"weight": 1.0})
    regressed = guided.modules["regressor"](batch.student.stages[1])
    expected = (regressed - batch.teacher.stages[1]).square().mean()
    assert guided.objective(batch)["hint"].item() == pytest.approx(expected.item(), rel=1e-5)


# -- self-training ----------------------------------------------------------------------------------------------


def test_tf_kd_learns_from_its_own_kind() -> None:
    setup = make_setup(teacher="resnet8")
    batch = make_batch(setup)
    usual = make_stage("tf-kd", setup).objective(batch)
    kd = make_stage("kd", setup, labels_weight=0.1, soft_weight=0.9, temperature=4.0).objective(batch)
    assert {name: term.item() for name, term in usual.items()} == pytest.approx(
        {name: term.item() for name, term in kd.items()}
    )
    code = make_stage("tf-kd", setup, multiplier_weight=50.0, mean="entries").objective(batch)
    assert code["kd"].item() == pytest.approx(50 / CLASSES * usual["kd"].item(), rel=1e-5)
    with pytest.raises(KdnbError, match=r"a trained resnet8, as its student is; not a resnet14"):
        make_stage("tf-kd", make_setup())
