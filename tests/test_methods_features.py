"""What is learned from maps: hints, attention, flow between layers, margins, reviews, distributions, boundaries."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from method_samples import (
    CLASSES,
    CPU,
    LABELS,
    RECIPE,
    backward,
    lively,
    make_batch,
    make_setup,
    parameters,
    ready,
    stages,
)
from scipy import integrate, stats
from torch import Tensor, nn
from torch.nn import functional as F

from kdnb import losses, models
from kdnb.errors import KdnbError
from kdnb.methods import get
from kdnb.methods.reviewkd import Review
from kdnb.methods.stage import Batch, Optimiser, Setup, Supervision, TrainingSet
from kdnb.models.network import Network
from kdnb.training.freeze import frozen

#: Methods that have to cope with maps of any pair of networks.
ANY_PAIR = ["at", "sp", "rkd", "ofd", "reviewkd"]

# -- hints -------------------------------------------------------------------------------------------------


def test_fitnets_hint() -> None:
    stage, setup, batch = ready("fitnet", 0)
    assert stage.optimiser == Optimiser("rmsprop", 0.005)
    assert (stage.epochs, stage.batch_size, stage.schedule.milestones) == (500, 128, ())
    assert stage.selection is not None and not stage.selection.highest and stage.selection.patience == 100
    assert stage.student_depth == stage.teacher_depth == 1 and len(batch.student.stages) == 1
    regressor = stage.modules["regressor"]
    assert sum(p.numel() for p in regressor.parameters()) == 304  # 16 x 16 + 16 and a batch norm of 16
    guided = regressor(batch.student.stages[0])
    assert guided.min() == 0
    expected = (guided - batch.teacher.stages[0]).square().mean()
    assert stage.objective(batch)["hint"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert stage.selection.validate(batch).item() == pytest.approx(expected.item(), rel=1e-5)
    assert parameters(stage.trainable) == parameters([setup.student.stem, setup.student.stages[0], regressor])


def test_fitnet_on_all_maps() -> None:
    stage, setup, batch = ready("fitnet-maps", 0)
    regressors = stage.modules["regressors"]
    terms = stage.objective(batch)
    for j, regressor in enumerate(regressors):
        expected = (regressor(batch.student.stages[j]) - batch.teacher.stages[j]).square().mean()
        assert terms[f"hint{j + 1}"].item() == pytest.approx(expected.item())
        assert regressor.bias is not None and regressor.kernel_size == (1, 1)
    assert (stage.epochs, stage.batch_size, stage.selection) == (160, 512, None)
    assert setup.student.classifier not in stage.trainable


# -- attention, flow between layers ------------------------------------------------------------------------


def test_at_by_hand() -> None:
    stage, _, batch = ready("at")
    assert stage.teacher_depth == 3
    expected = 0.0
    for s, t in zip(batch.student.stages, batch.teacher.stages, strict=True):
        a, b = (m.pow(2).mean(1).flatten(1) for m in (s, t))
        a, b = (m / m.norm(dim=1, keepdim=True) for m in (a, b))
        expected += 1000 * (a - b).pow(2).sum().item() / a.numel()
    assert stage.objective(batch)["attention"].item() == pytest.approx(expected, rel=1e-4)


def test_attention_may_begin_deeper() -> None:
    stage, _, batch = ready("at", first_stage=2)
    expected = losses.attention(batch.student.stages[1:], batch.teacher.stages[1:])
    assert stage.objective(batch)["attention"].item() == pytest.approx(1000 * expected.item())
    assert get("at").told({"first_stage": 1}) == {"weight": 1000.0}  # as before the argument came
    with pytest.raises(KdnbError, match="first_stage"):
        get("at").arguments({"first_stage": 0})


def test_fsps_flow() -> None:
    stage, setup, batch = ready("fsp", 0)
    assert stage.optimiser == Optimiser("sgd", 0.01, 0.9, 1e-4)
    assert (stage.epochs, stage.batch_size, stage.schedule.milestones) == (164, 256, (82, 123))
    assert stage.selection is not None and not stage.selection.highest and stage.selection.patience is None
    s, t = ([a.stem, *a.stages] for a in (batch.student, batch.teacher))
    assert [m.shape[1] for m in s] == [16, 16, 32, 64]
    expected = losses.fsp(s, t).item()
    assert stage.objective(batch)["flow"].item() == pytest.approx(expected)
    three = sum(losses.fsp(s[k : k + 2], t[k : k + 2]).item() for k in range(3))
    assert expected == pytest.approx(three, rel=1e-5)
    left = parameters([setup.student]) - parameters(stage.trainable)
    assert left == parameters([setup.student.classifier])


# -- distributions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["linear", "polynomial", "gaussian"])
@pytest.mark.parametrize("suffix", ["", "+kd"])
def test_mmds_weight_is_calibrated_once(kernel: Any, suffix: str) -> None:
    """beta = mean CE / mean MMD^2 over the first ten batches, the same for labels and for KD."""
    name = f"mmd-{kernel}{suffix}"
    stage, setup, batch = ready(name)
    assert stage.prepare_batches == 10
    batches = [make_batch(stage, setup, seed) for seed in range(10)]
    ce = [losses.cross_entropy(b.student.logits, b.labels).item() for b in batches]  # type: ignore[arg-type]
    gaps = [losses.mmd(b.student.stages[-1], b.teacher.stages[-1], kernel).item() for b in batches]
    beta = stage.modules["beta"].state_dict()["value"].item()
    assert beta == pytest.approx(sum(ce) / sum(gaps), rel=1e-3)
    gap = losses.mmd(batch.student.stages[-1], batch.teacher.stages[-1], kernel).item()
    assert stage.objective(batch)["mmd"].item() == pytest.approx(beta * gap, rel=1e-4)
    assert stage.teacher_depth == ("logits" if suffix else 3)
    assert not parameters([stage.modules["beta"]])


def test_mmds_weight_may_be_given() -> None:
    stage, _, batch = ready("mmd-linear", weight=50.0)
    assert stage.prepare is None
    gap = losses.mmd(batch.student.stages[-1], batch.teacher.stages[-1], "linear").item()
    assert stage.objective(batch)["mmd"].item() == pytest.approx(50 * gap, rel=1e-5)


def test_an_uncalibrated_weight_is_noticed() -> None:
    setup = make_setup("mmd-linear")
    stage = stages("mmd-linear", setup)[0]
    assert stage.objective(make_batch(stage, setup))["mmd"].isnan()


# -- margins -----------------------------------------------------------------------------------------------


def test_ofd_by_hand() -> None:
    """The three cases of the released code, margins by scipy, stages weighted 1/4, 1/2, 1."""
    stage, _, batch = ready("ofd")
    assert stage.teacher_depth == 3 and stage.modules["connectors"] in stage.trainable
    whole = make_setup("ofd").teacher_network()
    term = stage.objective(batch)["overhaul"].item()
    expected = 0.0
    for i, (mean, deviation) in enumerate(whole.preactivation_statistics()):
        connector = copy.deepcopy(stage.modules["connectors"].layers[i])  # type: ignore[index]
        source = connector(batch.student.preactivations[i])
        target = batch.teacher.preactivations[i]
        m = torch.tensor([stats.truncnorm.mean(-np.inf, -b / s, b, s) for b, s in zip(mean, deviation, strict=True)])
        margin = m.float().view(1, -1, 1, 1).expand_as(target)
        cases = (source - margin) ** 2 * ((source > margin) & (target <= margin))
        cases += (source - target) ** 2 * ((source > target) & (target > margin) & (target <= 0))
        cases += (source - target) ** 2 * (target > 0)
        expected += 1e-3 * cases.mean(0).sum().item() / 2 ** (2 - i)
    assert term == pytest.approx(expected, rel=1e-4)
    assert not any(name.startswith("margin") for name, _ in stage.modules["connectors"].named_parameters())


def test_ofds_connectors() -> None:
    stage = stages("ofd", make_setup(teacher="wrn_16_2", student="wrn_16_1"))[0]
    convolutions = [m for m in stage.modules["connectors"].modules() if isinstance(m, nn.Conv2d)]
    assert [tuple(c.weight.shape) for c in convolutions] == [(32, 16, 1, 1), (64, 32, 1, 1), (128, 64, 1, 1)]
    assert all(c.bias is None for c in convolutions)
    for c in convolutions:
        assert c.weight.std().item() == pytest.approx(math.sqrt(2 / c.out_channels), rel=0.1)


def test_margins_in_closed_form() -> None:
    mean = torch.tensor([0.0, 0.7, -1.3, 2.0, 0.01, -8.0])
    deviation = torch.tensor([1.0, 0.9, 0.4, 1.1, 3.0, 0.5])
    found = losses.negative_mean(mean, deviation)
    assert found[0].item() == pytest.approx(-math.sqrt(2 / math.pi))
    for m, s, margin in zip(mean.tolist(), deviation.tolist(), found.tolist(), strict=True):
        density = stats.norm(m, s).pdf
        top = integrate.quad(lambda x, d=density: x * d(x), m - 12 * s, min(0.0, m + 12 * s))[0]
        assert margin == pytest.approx(top / stats.norm(m, s).cdf(0), rel=1e-4)
    # Hardly ever negative, P(X < 0) <= 0.001 at 3.0902 deviations: three deviations below zero.
    edge = losses.negative_mean(
        torch.tensor([3.0902 * 0.5, 3.0903 * 0.5, 20.0, 0.0]), torch.tensor([0.5, 0.5, 0.5, 0.0])
    )
    assert edge[0] > -0.5 and edge[1:].tolist() == [-1.5, -1.5, 0.0]


@pytest.mark.parametrize("name", ["resnet8", "resnet50", "wrn_16_2", "vgg8", "mobilenet_v1"])
def test_margins_survive_folding_and_low_precision(name: str) -> None:
    torch.manual_seed(3)
    network = lively(models.create(name, CLASSES))
    folded = frozen(network, CPU, torch.bfloat16)
    assert folded.name == name
    expected = [(norm.bias, norm.weight.abs()) for norm in network.margin_norms()]
    again = frozen(folded, CPU, torch.float32)
    for a, b, c in zip(folded.preactivation_statistics(), expected, again.preactivation_statistics(), strict=True):
        for x, y, z in zip(a, b, c, strict=True):
            assert x.dtype == torch.float32 and torch.equal(x, y) and torch.equal(x, z) and not x.requires_grad


def test_margins_of_a_teacher_without_are_refused() -> None:
    with pytest.raises(KdnbError, match="MobileNetV2 has no batch norms"):
        stages("ofd", make_setup(teacher="mobilenet_v2"))


# -- reviews -----------------------------------------------------------------------------------------------


def test_reviewkd_by_the_released_code() -> None:
    """Forward and HCL as they are published, on the modules' own weights."""
    stage, _, batch = ready("reviewkd", epoch=9)
    review = copy.deepcopy(stage.modules["review"])
    assert isinstance(review, Review)
    x = [*batch.student.stages, batch.student.embedding[:, :, None, None]][::-1]  # type: ignore[index]
    targets = [*batch.teacher.preactivations, batch.teacher.embedding[:, :, None, None]]  # type: ignore[index]
    results: list[Tensor] = []
    residual = x[0]
    for i, (features, level) in enumerate(zip(x, review.levels, strict=True)):
        mixed = level.narrow(features)
        if i:
            n, _, h, w = features.shape
            residual = F.interpolate(residual, (h, w), mode="nearest")
            z = torch.sigmoid(level.attention(torch.cat([mixed, residual], dim=1)))
            mixed = mixed * z[:, 0].view(n, 1, h, w) + residual * z[:, 1].view(n, 1, h, w)
        residual = mixed
        results.insert(0, level.widen(mixed))
    expected = 0.0
    for s, t in zip(results, targets, strict=True):
        loss, count, total = F.mse_loss(s, t), 1.0, 1.0
        for side in (4, 2, 1):
            if side < s.shape[2]:
                count /= 2
                loss = loss + count * F.mse_loss(F.adaptive_avg_pool2d(s, side), F.adaptive_avg_pool2d(t, side))
                total += count
        expected += loss.item() / total
    assert stage.teacher_depth == "embedding"
    assert stage.objective(batch)["review"].item() == pytest.approx(5 * 10 / 20 * expected, rel=1e-4)


def test_reviewkds_initial_weights() -> None:
    setup = make_setup("reviewkd", "vgg8", "vgg8")
    for level in stages("reviewkd", setup)[0].modules["review"].levels:  # type: ignore[union-attr]
        for conv in (level.narrow.conv, level.widen.conv):
            assert conv.bias is None
            bound = math.sqrt(3 / conv.weight[0].numel())
            assert bound * 0.99 < conv.weight.abs().max().item() <= bound
        assert level.attention is None or level.attention.bias is not None


# -- networks that differ ----------------------------------------------------------------------------------

#: The benchmark's pairs: teacher, student.
PAIRS = [
    ("resnet32x4", "resnet8x4"), ("resnet56", "resnet8"), ("wrn_40_2", "wrn_40_1"), ("wrn_40_2", "wrn_16_2"),
    ("vgg13", "vgg11"), ("vgg13", "vgg8"), ("resnet32x4", "shufflenet_v2"), ("resnet32x4", "shufflenet_v1"),
    ("resnet50", "mobilenet_v2"), ("vgg13", "mobilenet_v2"), ("wrn_40_2", "shufflenet_v1"),
]  # fmt: skip
#: The fact sheet's table: student -> widths f1.. and pooled, sides deep to shallow; teacher likewise.
SIDES = {
    "resnet": (1, 8, 16, 32), "wrn": (1, 8, 16, 32), "vgg": (1, 4, 4, 8, 16), "mobilenet": (1, 2, 4, 8, 16),
    "shufflenet": (1, 4, 8, 16), "resnet50": (1, 4, 8, 16, 32),
}  # fmt: skip
WIDTHS = {
    "resnet8": (16, 32, 64, 64), "resnet56": (16, 32, 64, 64), "resnet8x4": (64, 128, 256, 256),
    "resnet32x4": (64, 128, 256, 256), "wrn_40_1": (16, 32, 64, 64), "wrn_16_2": (32, 64, 128, 128),
    "wrn_40_2": (32, 64, 128, 128), "vgg8": (128, 256, 512, 512, 512), "vgg11": (128, 256, 512, 512, 512),
    "vgg13": (128, 256, 512, 512, 512), "mobilenet_v2": (12, 16, 48, 160, 1280),
    "shufflenet_v1": (240, 480, 960, 960), "shufflenet_v2": (116, 232, 464, 1024),
    "resnet50": (256, 512, 1024, 2048, 2048),
}  # fmt: skip


def test_stages_of_unequal_number() -> None:
    """Three stages against four: attention is paired from the first, OFD and ReviewKD from the last."""
    setup = make_setup(student="mobilenet_v2")
    attention, overhaul, review = (stages(name, setup)[0] for name in ("at", "ofd", "reviewkd"))
    assert (attention.teacher_depth, overhaul.teacher_depth) == (3, 3)
    connectors = [m for m in overhaul.modules["connectors"].modules() if isinstance(m, nn.Conv2d)]
    assert [c.in_channels for c in connectors] == [16, 48, 160] and [c.out_channels for c in connectors] == [16, 32, 64]
    levels = review.modules["review"].levels
    assert [level.narrow.conv.in_channels for level in levels] == [1280, 160, 48, 16]  # type: ignore[union-attr]
    assert [level.widen.conv.out_channels for level in levels] == [64, 64, 32, 16]  # type: ignore[union-attr]
    batch = make_batch(attention, setup)
    expected = 1000 * losses.attention(batch.student.stages[:3], batch.teacher.stages).item()
    assert attention.objective(batch)["attention"].item() == pytest.approx(expected, rel=1e-5)
    other_way = make_setup("at", "vgg8", "resnet8")
    assert stages("at", other_way)[0].teacher_depth == 3
    for name in ANY_PAIR:
        stage = stages(name, other_way)[0]
        assert all(term.isfinite() for term in stage.objective(make_batch(stage, other_way)).values())


@pytest.fixture(scope="module")
def networks() -> dict[str, Network]:
    torch.manual_seed(0)
    return {name: models.create(name, 100) for name in sorted({n for pair in PAIRS for n in pair})}


def sides(name: str) -> tuple[int, ...]:
    return SIDES["resnet50" if name == "resnet50" else name.rstrip("0123456789x").partition("_")[0]]


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_every_pair_of_the_tables(teacher: str, student: str, networks: dict[str, Network]) -> None:
    """At 32x32: each method's term is there; ReviewKD's and OFD's shapes are the fact sheet's."""
    master, pupil = networks[teacher], networks[student]
    setup = Setup(pupil, master, RECIPE, Supervision(), TrainingSet(LABELS, 100), 1, CPU)
    images, labels = torch.randn(2, 3, 32, 32), torch.tensor([3, 98])
    with torch.no_grad():
        acts = pupil.activations(images), master.activations(images)
        batch = Batch(images, labels, labels, *acts, torch.zeros(()))
        made = {name: stages(name, setup)[0] for name in ANY_PAIR}
        for name, stage in made.items():
            assert all(term.isfinite() for term in stage.objective(batch).values()), name
        review = made["reviewkd"].modules["review"]
        assert isinstance(review, Review)
        s = [acts[0].embedding[:, :, None, None], *acts[0].stages[::-1]]  # type: ignore[index]
        t = [acts[1].embedding[:, :, None, None], *acts[1].preactivations[::-1]]  # type: ignore[index]
        reviewed = review(s, t)
    assert [(m.shape[1], m.shape[2]) for m in s] == list(zip(WIDTHS[student][::-1], sides(student), strict=True))
    assert [(m.shape[1], m.shape[2]) for m in t] == list(zip(WIDTHS[teacher][::-1], sides(teacher), strict=True))
    assert [m.shape for m in reviewed] == [m.shape for m in t]
    middle = min(512, WIDTHS[student][-1])
    assert all(level.narrow.conv.out_channels == middle for level in review.levels)  # type: ignore[union-attr]
    assert [level.attention is None for level in review.levels] == [True] + [False] * (len(t) - 1)
    connectors = [m for m in made["ofd"].modules["connectors"].modules() if isinstance(m, nn.Conv2d)]
    expected = list(zip(WIDTHS[student][:-1], WIDTHS[teacher][:-1], strict=True))
    assert [(c.in_channels, c.out_channels) for c in connectors] == expected


# -- as the field's benchmark has them ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fitnet-joint", "pkt-joint", "information-flow-joint", "nst", "cc", "vid", "ab"])
def test_from_three_stages_to_four_of_other_sizes(name: str) -> None:
    setup = make_setup(teacher="wrn_16_2", student="vgg13_pool4")
    for stage in stages(name, setup):
        terms = stage.objective(make_batch(stage, setup))
        backward(terms)
        assert all(term.isfinite() for term in terms.values())
        assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters(stage.trainable))


def test_settings_of_added_methods_are_the_benchmarks() -> None:
    weights = {"fitnet-joint": 100, "sp": 3000, "cc": 0.02, "vid": 1, "pkt-joint": 30_000, "nst": 50}
    assert {name: get(name).defaults["weight"] for name in weights} == weights
    first, second = stages("ab")
    assert first.shared and (first.epochs, second.epochs) == (30, RECIPE.epochs) and first.student_depth == 3
    assert not parameters(first.modules["connectors"])  # maps of one width are compared as they are
    guided, _, batch = ready("fitnet-joint", weight=1.0)
    regressed = guided.modules["regressor"](batch.student.stages[1])
    expected = (regressed - batch.teacher.stages[1]).square().mean()
    assert guided.objective(batch)["hint"].item() == pytest.approx(expected.item(), rel=1e-5)
