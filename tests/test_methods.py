"""Methods: what each declares, checked against the protocol, and one step of each, checked against its formula."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from capturable import capturable
from torch import Tensor, nn

from kdnb import losses, models
from kdnb.errors import KdnbError
from kdnb.methods import catalogue, get, registry
from kdnb.methods.recipe import Recipe
from kdnb.methods.stage import Batch, Optimiser, Setup, Stage, Supervision, TrainingSet, accuracy

CLASSES, COUNT, SIZE = 4, 30, 8
LABELS = torch.arange(COUNT) % CLASSES
RECIPE = Recipe(epochs=200, batch_size=SIZE, lr=0.1, milestones=(80, 120), selection="best")
KD = {"labels_weight": 0.2, "soft_weight": 0.8, "temperature": 8.0}
SINGLE = ["plain", "kd", "fitnet", "fsp", "pkt", "mmd-linear", "mmd-polynomial", "mmd-gaussian", "crd"]
NAMES = [*SINGLE, *(f"{name}+kd" for name in SINGLE if name not in ("plain", "kd"))]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_setup(name: str, seed: int = 1) -> Setup:
    torch.manual_seed(0)
    student, teacher = models.create("resnet8", CLASSES), models.create("resnet14", CLASSES)
    supervision = Supervision(**KD) if name.endswith("+kd") else Supervision()
    training_set = TrainingSet(LABELS, CLASSES)
    teacher = teacher.eval().requires_grad_(False)
    return Setup(student, teacher, RECIPE, supervision, training_set, seed, torch.device("cpu"))


def make_stages(name: str, setup: Setup | None = None, **given: Any) -> list[Stage]:
    entry = get(name)
    given = {**(KD if name.endswith("kd") else {}), **given}
    return entry.stages(setup or make_setup(name), entry.arguments(given))


def make_batch(stage: Stage, setup: Setup, seed: int = 0, size: int = SIZE) -> Batch:
    """What the engine gives: activations as deep as declared and no deeper."""
    stream = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, 16, 16, generator=stream)
    indices = torch.randperm(COUNT, generator=stream)[:size]
    assert setup.teacher is not None
    depth = stage.teacher_depth
    with torch.no_grad():
        nothing = setup.teacher.activations(images, 0)
        teacher = nothing if depth is None else setup.teacher.activations(images, depth)
    student = setup.student.activations(images, stage.student_depth)
    draws = {} if stage.draws is None else stage.draws(stream, size)
    return Batch(images, LABELS[indices], indices, student, teacher, torch.zeros(()), draws)


def prepared(name: str, position: int = -1, **given: Any) -> tuple[Stage, Setup, Batch]:
    """A stage ready for its first step, and the batch of that step."""
    setup = make_setup(name)
    stage = make_stages(name, setup, **given)[position]
    if stage.prepare is not None:
        with torch.no_grad():
            stage.prepare([make_batch(stage, setup, seed) for seed in range(stage.prepare_batches)])
    return stage, setup, make_batch(stage, setup)


def parameters(modules: Any) -> set[nn.Parameter]:
    return {p for module in modules for p in module.parameters()}


# -- what all methods have in common ----------------------------------------------------------------------


def test_the_catalogue_has_the_comparisons_methods() -> None:
    assert set(SINGLE) <= set(catalogue())
    with pytest.raises(KdnbError, match="did you mean fitnet"):
        get("fitnett")
    with pytest.raises(KdnbError, match="hint_epochs"):
        get("fitnet").arguments({"hint_epoch": 3})


@pytest.mark.parametrize("name", SINGLE)
def test_a_methods_file_is_what_the_catalogue_says(name: str) -> None:
    """Defaults are read from the source; the function itself has the same."""
    entry = get(name)
    source = (registry.Path(registry.__file__).parent / entry.file).read_text()
    assert ast.get_docstring(ast.parse(source))
    module = __import__(f"kdnb.methods.{entry.file[:-3]}", fromlist=["_"])
    signature = inspect.signature(getattr(module, entry.function))
    assert {k: p.default for k, p in list(signature.parameters.items())[1:]} == entry.defaults
    assert not set(entry.defaults) & set(registry.KD_DEFAULTS) or name == "kd"


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_trains_what_it_says_and_nothing_else(name: str) -> None:
    """At the declared depths the objective is there, finite, reaches every trainable parameter and no other."""
    entry = get(name)
    stages = make_stages(name)
    assert [s.name for s in stages if s.shared] == list(entry.shared)
    assert stages[-1].name == "train" and len({s.name for s in stages}) == len(stages)
    for position, stage in enumerate(stages):
        stage, setup, batch = prepared(name, position)
        terms = stage.objective(batch)
        for term in terms.values():
            assert term.shape == () and term.dtype == torch.float32 and term.isfinite()
        torch.stack(list(terms.values())).sum().backward()
        trained = parameters(stage.trainable)
        known = parameters(stage.modules.values()) | parameters([setup.student])
        assert trained and trained <= known
        assert all(p.grad is not None for p in trained)
        assert all(p.grad is None for p in known - trained)
        if stage.shared:
            own = {a for a in entry.defaults if a.startswith(f"{stage.name}_")}
            assert own, f"the shared stage {stage.name} has no arguments of its own"


@pytest.mark.parametrize("name", NAMES)
def test_a_step_can_be_captured(name: str) -> None:
    for position in range(len(make_stages(name))):
        stage, _, batch = prepared(name, position)
        with capturable():
            torch.stack(list(stage.objective(batch).values())).sum().backward()
            if stage.after_step is not None:
                stage.after_step(batch)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("plain", "kd")])
def test_what_stands_where_labels_are_needed(name: str) -> None:
    """Cross-entropy alone, or KD's two terms with its weights; beside them at most the method's own term."""
    stage, _, batch = prepared(name)
    terms = stage.objective(batch)
    logits = batch.student.logits
    assert logits is not None
    labels = losses.cross_entropy(logits, batch.labels)
    if name.endswith("+kd"):
        assert batch.teacher.logits is not None
        assert terms["ce"].item() == pytest.approx(0.2 * labels.item())
        assert terms["kd"].item() == pytest.approx(0.8 * losses.kd(logits, batch.teacher.logits, 8.0).item())
    else:
        assert terms["ce"].item() == pytest.approx(labels.item()) and "kd" not in terms
    own = set(terms) - {"ce", "kd"}
    joint = name.startswith(("mmd", "crd"))
    assert len(own) == (1 if joint else 0)


@pytest.mark.parametrize("name", SINGLE)
def test_the_last_stage_follows_the_protocol(name: str) -> None:
    train = make_stages(name)[-1]
    assert train.optimiser == Optimiser("sgd", 0.1, 0.9, 5e-4)
    assert (train.epochs, train.batch_size, train.schedule.milestones) == (200, SIZE, (80, 120))
    assert train.selection is not None and train.selection.validate is accuracy and train.selection.highest
    assert train.modules["student"] in train.trainable and train.student_depth == "logits"


@pytest.mark.parametrize(("name", "module"), [("fitnet", "regressor"), ("crd", "contrast")])
def test_own_modules_depend_on_the_seed_alone(name: str, module: str) -> None:
    """Whatever was drawn before, a method's own modules begin the same; another seed gives others."""

    def state(seed: int, drawn_before: int) -> list[Tensor]:
        setup = make_setup(name, seed)
        torch.rand(drawn_before)
        own = make_stages(name, setup)[0].modules[module]
        return [*own.parameters(), *own.buffers()]

    first, again, other = state(1, 0), state(1, 7), state(2, 0)
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(first, other, strict=True))


# -- two-step methods -------------------------------------------------------------------------------------


def test_kd_alone() -> None:
    stage, _, batch = prepared("kd", **KD)
    assert stage.teacher_depth == "logits"
    s, t = batch.student.logits, batch.teacher.logits
    assert s is not None and t is not None
    expected = 0.2 * losses.cross_entropy(s, batch.labels) + 0.8 * losses.kd(s, t, 8.0)
    assert sum(stage.objective(batch).values()).item() == pytest.approx(expected.item())


def test_plain_asks_no_teacher() -> None:
    assert not get("plain").needs_teacher
    stage, _, batch = prepared("plain")
    assert stage.teacher_depth is None and set(stage.objective(batch)) == {"ce"}


def test_fitnets_hint() -> None:
    stage, setup, batch = prepared("fitnet", 0)
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


def test_fsps_flow() -> None:
    stage, setup, batch = prepared("fsp", 0)
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


def test_pkts_kernel() -> None:
    stage, setup, batch = prepared("pkt", 0)
    assert stage.optimiser == Optimiser("adam", 1e-4)
    assert (stage.epochs, stage.batch_size, stage.schedule.milestones) == (500, 128, ())
    assert stage.selection is not None and not stage.selection.highest and stage.selection.patience == 100
    assert batch.student.embedding is not None and batch.teacher.embedding is not None
    expected = losses.pkt(batch.student.embedding, batch.teacher.embedding)
    assert stage.objective(batch)["kernel"].item() == expected.item()
    left = parameters([setup.student]) - parameters(stage.trainable)
    assert left == parameters([setup.student.classifier])


# -- joint methods ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["linear", "polynomial", "gaussian"])
@pytest.mark.parametrize("suffix", ["", "+kd"])
def test_mmds_weight_is_calibrated_once(kernel: Any, suffix: str) -> None:
    """beta = mean CE / mean MMD^2 over the first ten batches, the same for labels and for KD."""
    name = f"mmd-{kernel}{suffix}"
    stage, setup, batch = prepared(name)
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
    stage, _, batch = prepared("mmd-linear", weight=50.0)
    assert stage.prepare is None
    gap = losses.mmd(batch.student.stages[-1], batch.teacher.stages[-1], "linear").item()
    assert stage.objective(batch)["mmd"].item() == pytest.approx(50 * gap, rel=1e-5)


def test_an_uncalibrated_weight_is_noticed() -> None:
    setup = make_setup("mmd-linear")
    stage = make_stages("mmd-linear", setup)[0]
    assert stage.objective(make_batch(stage, setup))["mmd"].isnan()


def test_crds_step() -> None:
    stage, setup, batch = prepared("crd")
    contrast = stage.modules["contrast"]
    assert isinstance(contrast, losses.Contrastive)
    assert contrast.negatives == COUNT - 8  # 4,096 asked for; a class of 8 meets 22 others
    assert (contrast.temperature, contrast.momentum) == (0.07, 0.5)
    assert contrast.student_bank.shape == (COUNT, 128)
    assert sum(p.numel() for p in contrast.parameters()) == 2 * 8320
    assert contrast in stage.trainable and stage.teacher_depth == "embedding"
    term = stage.objective(batch)["crd"]
    s, t = batch.student.embedding, batch.teacher.embedding
    expected = 0.8 * contrast(s, t, batch.labels, batch.indices, batch.draws)
    assert term.item() == pytest.approx(expected.item(), rel=1e-6)
    assert stage.after_step is not None
    before = contrast.student_bank.clone()
    stage.after_step(batch)
    moved = (contrast.student_bank != before).any(1).nonzero().flatten()
    assert sorted(moved.tolist()) == sorted(batch.indices.tolist())
    part = make_batch(stage, setup, seed=5, size=3)  # the last batch of an epoch
    assert stage.objective(part)["crd"].isfinite()
    stage.after_step(part)


def test_crds_first_value_is_near_the_formula() -> None:
    """2 (ln K + s^2/2 + 1), before the weight, on random banks; with as few images it scatters."""
    values = []
    for seed in range(8):
        setup = make_setup("crd", seed)
        stage = make_stages("crd", setup)[0]
        batch = make_batch(stage, setup, seed)
        assert stage.prepare is not None
        with torch.no_grad():
            stage.prepare([batch])
            values.append(stage.objective(batch)["crd"].item() / 0.8)
    sigma = 1 / (0.07 * math.sqrt(128))
    assert sum(values) / 8 == pytest.approx(2 * (math.log(22) + sigma**2 / 2 + 1), rel=0.25)


def test_crd_without_banks() -> None:
    stage, _, batch = prepared("crd", in_batch=True)
    contrast = stage.modules["contrast"]
    assert isinstance(contrast, losses.InBatchContrastive)
    assert stage.draws is None and stage.after_step is None
    expected = 0.8 * contrast(batch.student.embedding, batch.teacher.embedding, batch.labels)
    assert stage.objective(batch)["crd"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_whole_number_is_the_same_setting_with_and_without_its_point():
    kd = get("kd")
    assert kd.arguments({"temperature": 8}) == kd.arguments({"temperature": 8.0})
    assert isinstance(kd.arguments({"temperature": 8})["temperature"], float)
    assert get("crd").arguments({"negatives": 16})["negatives"] == 16
    assert get("slkd").arguments({"coupled": False})["coupled"] is False
