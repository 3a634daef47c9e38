"""The methods of SLKD's tables: settings, one step of each by an independent formula, and where gradients go."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from capturable import capturable
from scipy import integrate, stats
from study_samples import TINY, experiment, keep_teacher, record
from torch import Tensor, nn
from torch.nn import functional as F

from kdnb import losses, models
from kdnb.errors import KdnbError
from kdnb.evaluation.correct import pack
from kdnb.methods import catalogue, get
from kdnb.methods.recipe import Recipe
from kdnb.methods.reviewkd import Review
from kdnb.methods.stage import Batch, Optimiser, Setup, Stage, Supervision, TrainingSet, warm_up
from kdnb.models.network import Network
from kdnb.study.environment import environment
from kdnb.study.experiment import Run
from kdnb.study.record import LARGEST_RECORD, thinned
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.study.workbench import Workbench, _all_stages
from kdnb.training import optimisers
from kdnb.training.cohort import Cohort, run_side_by_side
from kdnb.training.freeze import frozen
from kdnb.training.member import Inputs, Member
from kdnb.training.numerics import Numerics, detect

CPU = torch.device("cpu")
CLASSES, SIZE = 5, 6
LABELS = torch.arange(30) % CLASSES
RECIPE = Recipe(epochs=240, batch_size=SIZE, lr=0.05, milestones=(150, 180, 210))
KD = {"labels_weight": 0.1, "soft_weight": 0.9, "temperature": 4.0}

#: Method -> its arguments as the fact sheet has them for CIFAR-100 (beta and the review's weight: the commonest).
SETTINGS: dict[str, dict[str, Any]] = {
    "at": {"weight": 1000.0, "first_stage": 1},
    "sp": {"weight": 3000.0},
    "rkd": {"distance_weight": 25.0, "angle_weight": 50.0},
    "ofd": {"weight": 1e-3, "teacher_mode": "train"},
    "reviewkd": {"weight": 5.0, "warm_up_epochs": 20},
    "dkd": {"alpha": 1.0, "beta": 8.0, "temperature": 4.0, "warm_up_epochs": 20},
    "slkd-sequential": {
        "teachers": 2,
        **KD,
        "self_labels_weight": 1.0,
        "self_soft_weight": 1.0,
        "process_weight": 1.0,
        "mix": 0.5,
    },
}
SETTINGS["slkd"] = {**SETTINGS["slkd-sequential"], "coupled": True, "supervision": "both"}
FEATURES = ["at", "sp", "rkd", "ofd", "reviewkd"]
NAMES = [*SETTINGS, *(f"{name}+kd" for name in FEATURES)]

#: Tables 1 and 2: teacher, student.
PAIRS = [
    ("resnet32x4", "resnet8x4"), ("resnet56", "resnet8"), ("wrn_40_2", "wrn_40_1"), ("wrn_40_2", "wrn_16_2"),
    ("vgg13", "vgg11"), ("vgg13", "vgg8"), ("resnet32x4", "shufflenet_v2"), ("resnet32x4", "shufflenet_v1"),
    ("resnet50", "mobilenet_v2"), ("vgg13", "mobilenet_v2"), ("wrn_40_2", "shufflenet_v1"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def lively(network: Network) -> Network:
    """Batch norms as training leaves them: shifts, scales of both signs and running statistics that are not trivial."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.normal_(1, 0.3).mul_(torch.where(torch.rand_like(module.weight) < 0.1, -1, 1))
                module.bias.normal_(0, 0.3)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
    return network


def make_setup(name: str, teacher: str = "resnet14", student: str = "resnet8", seed: int = 1) -> Setup:
    torch.manual_seed(0)
    pupil = models.create(student, CLASSES)
    master = frozen(lively(models.create(teacher, CLASSES)), CPU, torch.float32)
    supervision = Supervision(**KD) if name.endswith("+kd") else Supervision()
    return Setup(pupil, master, RECIPE, supervision, TrainingSet(LABELS, CLASSES), seed, CPU)


def make_batch(stage: Stage, setup: Setup, seed: int = 0, epoch: float = 0, side: int = 16) -> Batch:
    """What the engine gives: activations as deep as declared and no deeper."""
    stream = torch.Generator().manual_seed(seed)
    images = torch.randn(SIZE, 3, side, side, generator=stream)
    indices = torch.randperm(len(LABELS), generator=stream)[:SIZE]
    with torch.no_grad():
        teacher = setup.teacher_network().activations(images, stage.teacher_depth or 0)
    student = setup.student.activations(images, stage.student_depth)
    return Batch(images, LABELS[indices], indices, student, teacher, torch.tensor(float(epoch)))


def built(name: str, setup: Setup | None = None, **given: Any) -> list[Stage]:
    entry = get(name)
    given = {**(KD if name.endswith("+kd") else {}), **given}
    return entry.stages(setup or make_setup(name), entry.arguments(given))


def ready(name: str, position: int = -1, epoch: float = 0, **given: Any) -> tuple[Stage, Setup, Batch]:
    setup = make_setup(name)
    stage = built(name, setup, **given)[position]
    return stage, setup, make_batch(stage, setup, epoch=epoch)


def parameters(modules: Any) -> set[nn.Parameter]:
    return {p for module in modules for p in module.parameters()}


def logits(acts: Any) -> Tensor:
    assert acts.logits is not None
    return acts.logits


def ce(z: Tensor, y: Tensor) -> Tensor:
    return -z.log_softmax(1)[torch.arange(len(y)), y].mean()


def divergence(target: Tensor, z: Tensor, temperature: float = 4.0) -> Tensor:
    """K(target || z) of the fact sheet, by probabilities."""
    p, q = (target / temperature).softmax(1), (z / temperature).softmax(1)
    return temperature**2 * (p * (p / q).log()).sum() / len(z)


# -- what all of them have in common ------------------------------------------------------------------------


def test_settings_are_the_fact_sheets() -> None:
    for name, settings in SETTINGS.items():
        assert get(name).defaults == settings and get(name).needs_teacher


def test_which_methods_can_be_combined_with_kd() -> None:
    combined = {name for name, entry in catalogue().items() if entry.takes_kd}
    assert set(FEATURES) <= combined and not combined & {"plain", "kd", "dkd", "slkd", "slkd-sequential"}
    assert get("ofd+kd").defaults == {"weight": 1e-3, "teacher_mode": "train", **KD} and not get("ofd+kd").takes_kd
    for name in ("dkd+kd", "slkd+kd", "plain+kd", "kd+kd", "at+at"):
        with pytest.raises(KdnbError):
            get(name)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_go_where_they_belong(name: str) -> None:
    """Every trainable parameter gets one and no other; the teacher none; a step can be captured; the recipe's SGD."""
    assert [s.name for s in built(name) if s.shared] == list(get(name).shared)
    for position in range(len(built(name))):
        stage, setup, batch = ready(name, position)
        with capturable():
            terms = stage.objective(batch)
            torch.stack(list(terms.values())).sum().backward()
            if stage.observe is not None:
                with torch.no_grad():
                    stage.observe(batch)
        assert all(term.shape == () and term.isfinite() for term in terms.values())
        trained = parameters(stage.trainable)
        known = parameters(stage.modules.values()) | parameters([setup.student])
        assert trained and trained <= known
        assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
        assert all(p.grad is None for p in known - trained)
        assert all(p.grad is None for p in setup.teacher_network().parameters())
        assert stage.optimiser == Optimiser("sgd", 0.05, 0.9, 5e-4) and stage.epochs == 240
        assert (stage.schedule.milestones, stage.batch_size, stage.selection) == ((150, 180, 210), SIZE, None)


@pytest.mark.parametrize("name", [*FEATURES, *(f"{name}+kd" for name in FEATURES), "dkd"])
def test_what_stands_where_labels_are_needed(name: str) -> None:
    stage, _, batch = ready(name)
    terms = stage.objective(batch)
    labels = ce(logits(batch.student), batch.labels).item()
    if name.endswith("+kd"):
        assert stage.teacher_depth == "logits"
        assert terms["ce"].item() == pytest.approx(0.1 * labels, rel=1e-5)
        soft = divergence(logits(batch.teacher), logits(batch.student)).item()
        assert terms["kd"].item() == pytest.approx(0.9 * soft, rel=1e-4)
    else:
        assert terms["ce"].item() == pytest.approx(labels, rel=1e-5) and "kd" not in terms
    assert len(set(terms) - {"ce", "kd"}) == 1


# -- one step of each, by another formula --------------------------------------------------------------------


def test_at_by_hand() -> None:
    stage, _, batch = ready("at")
    assert stage.teacher_depth == 3
    expected = 0.0
    for s, t in zip(batch.student.stages, batch.teacher.stages, strict=True):
        a, b = (m.pow(2).mean(1).flatten(1) for m in (s, t))
        a, b = (m / m.norm(dim=1, keepdim=True) for m in (a, b))
        expected += 1000 * (a - b).pow(2).sum().item() / a.numel()
    assert stage.objective(batch)["attention"].item() == pytest.approx(expected, rel=1e-4)


def test_sp_by_hand() -> None:
    stage, _, batch = ready("sp")
    grams = []
    for maps in (batch.student.stages[2], batch.teacher.stages[2]):
        q = maps.flatten(1)
        gram = torch.einsum("ik,jk->ij", q, q)
        grams.append(torch.stack([row / row.norm() for row in gram]))
    expected = 3000 * (grams[0] - grams[1]).pow(2).sum().item() / SIZE**2
    assert stage.objective(batch)["similarity"].item() == pytest.approx(expected, rel=1e-4)


def test_rkd_by_hand() -> None:
    stage, _, batch = ready("rkd")
    assert stage.teacher_depth == "embedding"

    def relations(e: Tensor) -> tuple[Tensor, Tensor]:
        d = torch.cdist(e, e, compute_mode="donot_use_mm_for_euclid_dist")
        v = F.normalize(e[None] - e[:, None], dim=2)
        return d / d[d > 0].mean(), torch.einsum("ijk,ilk->ijl", v, v)

    embeddings = (batch.student.embedding, batch.teacher.embedding)
    (d_s, a_s), (d_t, a_t) = (relations(e) for e in embeddings if e is not None)
    expected = 25 * F.huber_loss(d_s, d_t) + 50 * F.huber_loss(a_s, a_t)
    assert stage.objective(batch)["relations"].item() == pytest.approx(expected.item(), rel=1e-3)


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
    stage = built("ofd", make_setup("ofd", teacher="wrn_16_2", student="wrn_16_1"))[0]
    convolutions = [m for m in stage.modules["connectors"].modules() if isinstance(m, nn.Conv2d)]
    assert [tuple(c.weight.shape) for c in convolutions] == [(32, 16, 1, 1), (64, 32, 1, 1), (128, 64, 1, 1)]
    assert all(c.bias is None for c in convolutions)
    for c in convolutions:
        assert c.weight.std().item() == pytest.approx(math.sqrt(2 / c.out_channels), rel=0.1)


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


def test_dkd_by_hand() -> None:
    stage, _, batch = ready("dkd", epoch=4, beta=6.0)
    p_s, p_t = ((logits(a) / 4).softmax(1).double() for a in (batch.student, batch.teacher))
    expected = 0.0
    for s, t, y in zip(p_s, p_t, batch.labels, strict=True):
        expected += (t[y] * (t[y] / s[y]).log() + (1 - t[y]) * ((1 - t[y]) / (1 - s[y])).log()).item()
        rest = torch.arange(CLASSES) != y
        q_s, q_t = s[rest] / s[rest].sum(), t[rest] / t[rest].sum()
        expected += 6 * (q_t * (q_t / q_s).log()).sum().item()
    assert stage.objective(batch)["dkd"].item() == pytest.approx(5 / 20 * 16 * expected / SIZE, rel=1e-4)


@pytest.mark.parametrize("name", ["dkd", "reviewkd"])
def test_the_warm_up_counts_the_papers_epochs_from_one(name: str) -> None:
    values = {epoch: ready(name, epoch=epoch) for epoch in (0, 9, 19, 20, 239)}
    terms = {e: s.objective(b)[{"dkd": "dkd", "reviewkd": "review"}[name]].item() for e, (s, _, b) in values.items()}
    whole = terms[239]
    assert {e: term / whole for e, term in terms.items()} == pytest.approx({0: 0.05, 9: 0.5, 19: 1, 20: 1, 239: 1})
    _, _, batch = ready("dkd", epoch=3)
    assert warm_up(batch, 0).item() == 1


def test_the_warm_up_of_a_shortened_run_is_as_far_as_the_papers() -> None:
    """A quarter of the epochs: the run's epoch k stands for the paper's 4 k."""
    setup = make_setup("dkd")
    stage = built("dkd", setup)[0].shortened(TINY.factor / 4)
    seen: list[float] = []
    kept = stage.objective

    def objective(batch: Batch) -> dict[str, Tensor]:
        seen.append(warm_up(batch, 20).item())
        return kept(batch)

    member = Member(dataclasses.replace(stage, objective=objective), "dkd", 1, detect("cpu", "float32", "eager"))
    batch = make_batch(stage, setup)
    for epoch in range(6):
        given = Inputs(batch.images, batch.labels, batch.indices, torch.tensor(float(epoch)), batch.teacher)
        member.compute(given, {})
    assert stage.epochs == 60 and seen == pytest.approx([0.05, 0.25, 0.45, 0.65, 0.85, 1.0])


# -- OFD's margins -------------------------------------------------------------------------------------------


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
        built("ofd", make_setup("ofd", teacher="mobilenet_v2"))


# -- networks that differ ------------------------------------------------------------------------------------


def test_stages_of_unequal_number() -> None:
    """Three stages against four: attention is paired from the first, OFD and ReviewKD from the last."""
    setup = make_setup("at", "resnet14", "mobilenet_v2")
    attention, overhaul, review = (built(name, setup)[0] for name in ("at", "ofd", "reviewkd"))
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
    assert built("at", other_way)[0].teacher_depth == 3
    for name in FEATURES:
        stage = built(name, other_way)[0]
        assert all(term.isfinite() for term in stage.objective(make_batch(stage, other_way)).values())


def test_what_is_deeper_than_asked_changes_nothing() -> None:
    """In a cohort the teacher goes as deep as the deepest asks."""
    for name in FEATURES:
        setup = make_setup("at", "vgg8", "resnet8")
        stage = built(name, setup)[0]
        asked = make_batch(stage, setup)
        deeper = make_batch(dataclasses.replace(stage, teacher_depth="logits"), setup)
        assert deeper.teacher.logits is not None
        terms = stage.objective(asked)
        assert {k: v.item() for k, v in stage.objective(deeper).items()} == {k: v.item() for k, v in terms.items()}


@pytest.fixture(scope="module")
def networks() -> dict[str, Network]:
    torch.manual_seed(0)
    return {name: models.create(name, 100) for name in sorted({n for pair in PAIRS for n in pair})}


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
        stages = {name: built(name, setup)[0] for name in FEATURES}
        for name, stage in stages.items():
            assert all(term.isfinite() for term in stage.objective(batch).values()), name
        review = stages["reviewkd"].modules["review"]
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
    connectors = [m for m in stages["ofd"].modules["connectors"].modules() if isinstance(m, nn.Conv2d)]
    expected = list(zip(WIDTHS[student][:-1], WIDTHS[teacher][:-1], strict=True))
    assert [(c.in_channels, c.out_channels) for c in connectors] == expected


def test_reviewkds_initial_weights() -> None:
    setup = make_setup("reviewkd", "vgg8", "vgg8")
    for level in built("reviewkd", setup)[0].modules["review"].levels:  # type: ignore[union-attr]
        for conv in (level.narrow.conv, level.widen.conv):
            assert conv.bias is None
            bound = math.sqrt(3 / conv.weight[0].numel())
            assert bound * 0.99 < conv.weight.abs().max().item() <= bound
        assert level.attention is None or level.attention.bias is not None


# -- SLKD: its step ------------------------------------------------------------------------------------------


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

    setup = make_setup("slkd", "wrn_16_2", "resnet8")
    stage = built("slkd", setup)[0]
    fresh = models.create("wrn_16_2", CLASSES)
    for name in ("self1", "self2"):
        module = stage.modules[name]
        assert module.state_dict().keys() == fresh.state_dict().keys() and module in stage.trainable
        assert all(bool((m.weight == 1).all()) for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    first = state(stage, "self1")
    assert not same(first, state(stage, "self2"))
    torch.rand(5)
    assert same(first, state(built("slkd", setup, teachers=1)[0], "self1"))
    assert same(first, state(built("slkd-sequential", setup)[0], "self1"))
    assert not same(first, state(built("slkd", make_setup("slkd", "wrn_16_2", seed=2))[0], "self1"))
    assert [n for n in built("slkd", setup, teachers=1)[0].modules if n.startswith("self")] == ["self1"]


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(KdnbError, match="one self-learning teacher or two, not 3"):
        built("slkd", teachers=3)
    with pytest.raises(KdnbError, match="did you mean teacher"):
        built("slkd", supervision="teachers")


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
    stage = built("slkd", setup)[0]
    twin_setup = dataclasses.replace(setup, student=copy.deepcopy(setup.student))
    twin = built("slkd", twin_setup)[0]
    one = [optimisers.make(stage.optimiser, stage.trainable, CPU)]
    three = [
        torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        for module in twin.modules.values()
    ]
    assert len(three) == 3
    for step in range(3):
        for which, its_setup, steppers in ((stage, setup, one), (twin, twin_setup, three)):
            for optimiser in steppers:
                optimiser.zero_grad()
            torch.stack(list(which.objective(make_batch(which, its_setup, step)).values())).sum().backward()
            for optimiser in steppers:
                optimiser.step()
    for a, b in zip(stage.modules.values(), twin.modules.values(), strict=True):
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
            assert torch.allclose(x.float(), y.float(), rtol=1e-4, atol=1e-6)


# -- SLKD in the engine --------------------------------------------------------------------------------------

EXACT = detect("cpu", dtype="float32", mode="eager")
BRIEF = Recipe(epochs=2, batch_size=64, lr=0.02, milestones=(1,))
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


@pytest.mark.usefixtures("empty_project")
def test_a_run_taken_up_again_gives_the_same_numbers() -> None:
    """All that trains beside the student is in its state."""
    run = on_digits("slkd")
    store = Store.open()
    keep_teacher(run.experiment, store)
    bench = Workbench(store, EXACT)
    material, _ = bench.material(run.experiment.images)
    teacher = bench.teacher(run.needs()[0])

    def member() -> Member:
        return Member(bench.stages(run)[0], "slkd", 1, EXACT)

    whole, part, rest = member(), member(), member()
    run_side_by_side([Cohort([whole], teacher, material, EXACT)])
    steps = Cohort([part], teacher, material, EXACT).steps()
    for _ in range(4):
        next(steps)
    rest.restore(*part.state())
    run_side_by_side([Cohort([rest], teacher, material, EXACT)])
    assert rest.history == whole.history
    assert all(torch.equal(value, rest.weights()[name]) for name, value in whole.weights().items())


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
