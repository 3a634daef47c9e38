"""Inheritance and exploration, and networks that teach each other: one step of each by formula, edges, what is kept."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from capturable import capturable
from method_samples import backward, make_batch, make_setup, numbers, parameters, ready, stages
from torch import Tensor, nn
from torch.nn import functional as F

from kdnb import losses
from kdnb.methods.paraphraser import tapped

IE = ["ie-at", "ie-ft", "ie-od"]

# -- inheritance and exploration ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", IE)
def test_terms_and_the_gradients_that_are_observed(name: str) -> None:
    stage, _, batch = ready(name)
    terms = stage.objective(batch)
    assert stage.observe is not None
    with capturable():
        seen = stage.observe(batch)
    assert set(terms) == {"ce", "inheritance", "exploration"} and terms["exploration"] < 0 < terms["inheritance"]
    assert set(seen) == {"inheritance_gradient", "exploration_gradient"} and all(v > 0 for v in seen.values())


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
    (ft,), (ie,) = stages("ft", setup), stages("ie-ft", setup, inherited=1.0, inheritance_weight=500.0)
    ie.modules["parts"].inheritance.load_state_dict(ft.modules["translator"].state_dict())
    batch = make_batch(ie, setup)
    assert ie.objective(batch)["inheritance"].item() == ft.objective(batch)["factor"].item()
    assert "exploration" not in ie.objective(batch) and ie.modules["parts"].exploration is None


def test_exploration_of_weight_zero_is_inheritance_alone() -> None:
    stage, setup, batch = ready("ie-ft", exploration_weight=0.0)
    other = copy.deepcopy(setup.student)
    backward(stage.objective(batch))
    parts = stage.modules["parts"]
    acts = other.activations(batch.images)
    factor = parts.inheritance(tapped(acts)[:, parts.inheriting])
    taught = stage.modules["paraphraser"].encoder(tapped(batch.teacher))
    (F.cross_entropy(acts.logits, batch.labels) + 50 * losses.factor(factor, taught)).backward()
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
        parts = stages("ie-ft", make_setup(seed=seed), inherited=inherited, split=how)[0].modules["parts"]
        assert set(parts.state_dict()) >= {"inheriting", "exploring"}  # what a checkpoint keeps
        return [parts.inheriting.tolist(), parts.exploring.tolist()]

    one = split(1)
    assert len(one[0]) == channels and sorted(one[0] + one[1]) == list(range(64)) and split(1) == one
    assert split(1, "halves") == [list(range(channels)), list(range(channels, 64))]
    if 0 < channels < 64:
        assert split(2) != one


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
    setup = make_setup(teacher="wrn_16_2", student="vgg13_pool4")
    stage, _, batch = ready("ie-ft", setup=setup)
    assert batch.teacher.stages[-1].min() < 0 and tapped(batch.teacher).min() == 0
    assert stage.objective(batch)["inheritance"].item() <= 50 * 2 / math.sqrt(64)


# -- networks that teach each other ------------------------------------------------------------------------


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
        terms = turn.objective(make_batch(stage, setup))
        backward(terms)
        names += terms
        assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters(turn.trainable))
        assert all(p.grad is None for p in everything - parameters(turn.trainable))
    assert len(set(names)) == len(names) and {n.removeprefix("peer_") for n in names[len(names) // 2 :]} == {
        *names[: len(names) // 2]
    }
    assert stage.turns[1].optimiser == stage.optimiser and 0 <= stage.observe(batch)["peer_accuracy"] <= 1


def test_dml_with_a_frozen_peer_is_kd_from_it() -> None:
    setup = make_setup()
    (stage,) = stages("dml", setup, peer="resnet14")
    peer = stage.modules["peer"].eval()
    taught = dataclasses.replace(setup, teacher=peer)
    kd, _, batch = ready("kd", setup=taught, labels_weight=1.0, soft_weight=1.0, temperature=1.0)
    mutual, kd = numbers(stage.objective(batch)), numbers(kd.objective(batch))
    assert mutual["ce"] == kd["ce"] and mutual["mutual"] == pytest.approx(kd["kd"], rel=1e-6)


def test_ie_dml_by_the_formulas() -> None:
    """Networks of other widths meet in factors of one width; the reconstruction leaves the network alone."""
    stage, setup, batch = ready("ie-dml", setup=make_setup(student="wrn_16_2"), peer="resnet8")
    own = stage.modules
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
