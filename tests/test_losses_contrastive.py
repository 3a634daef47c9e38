"""CRD: the criterion by loops, its first value, the negatives, the banks, the variant without banks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from capturable import capturable
from torch import Tensor

from kdnb.errors import KdnbError
from kdnb.losses import Contrastive, InBatchContrastive
from kdnb.losses.contrastive import EPSILON

#: Classes of unequal size, not in order: 7, 5, 4, 3 and 1 images.
LABELS = torch.tensor([3, 0, 1, 0, 2, 1, 0, 4, 2, 0, 3, 1, 0, 2, 1, 0, 3, 1, 0, 2])
COUNT = len(LABELS)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(negatives: int = 6, batch_size: int = 8, seed: int = 0, **more: float) -> Contrastive:
    torch.manual_seed(seed)
    return Contrastive(5, 7, LABELS, negatives=negatives, width=16, batch_size=batch_size, **more)  # type: ignore[arg-type]


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def embeddings(batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 5, generator=stream(seed)), torch.randn(batch, 7, generator=stream(seed + 1000))


def arguments(
    module: Contrastive, batch: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Tensor]]:
    indices = torch.randperm(COUNT, generator=stream(seed))[:batch]
    return (*embeddings(batch, seed), LABELS[indices], indices, module.draw(stream(seed), batch))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def projected(module: Contrastive | InBatchContrastive, student: Tensor, teacher: Tensor) -> list[np.ndarray]:
    maps = ((module.student_map, student), (module.teacher_map, teacher))
    return [
        unit(x.detach().double().numpy() @ m.weight.detach().double().numpy().T + m.bias.detach().double().numpy())
        for m, x in maps
    ]


# -- the criterion ----------------------------------------------------------------------------------------


def _side(
    e: np.ndarray, bank: np.ndarray, indices: list[int], negatives: list[list[int]], z: float, tau: float
) -> float:
    """L of one side, as the formula stands, image by image."""
    noise = len(negatives[0]) / len(bank)
    total = 0.0
    for row, i, others in zip(e, indices, negatives, strict=True):
        g = math.exp(row @ bank[i] / tau) / z
        total -= math.log(g / (g + noise + EPSILON))
        for j in others:
            g = math.exp(row @ bank[j] / tau) / z
            total -= math.log(noise / (g + noise + EPSILON))
    return total / len(e)


def test_criterion_by_loops() -> None:
    module = build()
    student, teacher, labels, indices, draws = arguments(module, 5)
    module.calibrate(student, teacher, labels, indices, draws)
    negatives = module.negative_indices(labels, draws).tolist()
    e_s, e_t = projected(module, student, teacher)
    expected = 0.0
    for e, bank in ((e_s, module.teacher_bank), (e_t, module.student_bank)):
        rows = bank.double().numpy()
        scores = [math.exp(e[b] @ rows[j] / 0.07) for b, i in enumerate(indices.tolist()) for j in [i, *negatives[b]]]
        expected += _side(e, rows, indices.tolist(), negatives, COUNT * float(np.mean(scores)), 0.07)
    value = module(student, teacher, labels, indices, draws)
    assert value.shape == () and value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_normalisers_are_set_once_and_missed_when_forgotten() -> None:
    module = build()
    first = arguments(module, 5)
    assert module(*first).isnan()
    module.calibrate(*first)
    kept = module.log_normaliser.clone()
    module(*arguments(module, 5, seed=1))
    assert torch.equal(module.log_normaliser, kept) and kept.isfinite().all()
    assert kept[0] != kept[1]
    assert "log_normaliser" in module.state_dict()


def test_first_value() -> None:
    """Banks and anchors at random: L = 2 (ln K + s^2/2 + 1), s = 1/(tau sqrt(128)), 20.2 for K = 4,096."""
    labels = torch.arange(8192) % 100
    values = []
    for seed in range(6):
        torch.manual_seed(seed)
        module = Contrastive(64, 64, labels, negatives=4096, width=128, batch_size=64)
        indices = torch.randperm(len(labels))[:64]
        given = (torch.randn(64, 64), torch.randn(64, 64), labels[indices], indices, module.draw(stream(seed), 64))
        module.calibrate(*given)
        values.append(module(*given).item())
    sigma = 1 / (0.07 * math.sqrt(128))
    expected = 2 * (math.log(4096) + sigma**2 / 2 + 1)
    assert expected == pytest.approx(20.2, abs=0.05)
    # The mean of 64 positive scores of deviation 1.26 varies by 0.16 a side and seed.
    assert np.mean(values) == pytest.approx(expected, abs=0.3)


def test_gradients_by_finite_differences() -> None:
    """Into the student and both maps; none into the teacher or the banks."""
    module = build(seed=3).double()
    student, teacher, labels, indices, draws = arguments(module, 3)
    student, teacher = student.double().requires_grad_(), teacher.double().requires_grad_()
    module.calibrate(student, teacher, labels, indices, draws)
    parameters = list(module.parameters())
    assert len(parameters) == 4

    def value(s: Tensor, *_: Tensor) -> Tensor:
        return module(s, teacher, labels, indices, draws)

    assert torch.autograd.gradcheck(value, (student, *parameters))
    value(student).backward()
    assert teacher.grad is None
    assert not module.student_bank.requires_grad and not module.teacher_bank.requires_grad


def test_each_side_trains_its_own_map() -> None:
    """The student is anchor of one side alone: the student's map has no part in the teacher's side."""
    module = build()
    given = arguments(module, 4)
    module.calibrate(*given)
    student = given[0].clone().requires_grad_()
    before = module(student, *given[1:]).item()
    with torch.no_grad():
        module.teacher_map.weight += 1
    grad_before = torch.autograd.grad(module(student, *given[1:]), student)[0]
    with torch.no_grad():
        module.teacher_map.weight -= 0.5
    grad_after = torch.autograd.grad(module(student, *given[1:]), student)[0]
    assert module(student, *given[1:]).item() != before
    assert torch.equal(grad_before, grad_after)


def test_precision() -> None:
    module = build()
    student, teacher, labels, indices, draws = arguments(module, 5)
    low = (student.bfloat16(), teacher.bfloat16(), labels, indices, draws)
    high = (student.bfloat16().float(), teacher.bfloat16().float(), labels, indices, draws)
    module.calibrate(*high)
    expected = module(*high).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(*low).item() == expected and module(*high).item() == expected
        module.calibrate(*low)
        assert module(*low).item() == expected
    assert module(*low).dtype == torch.float32


@pytest.mark.parametrize("batch", [1, 3])
def test_zero_embeddings_are_finite(batch: int) -> None:
    module = build()
    with torch.no_grad():
        module.student_map.bias.zero_()
        module.teacher_map.bias.zero_()
    _, _, labels, indices, draws = arguments(module, batch)
    student, teacher = torch.zeros(batch, 5, requires_grad=True), torch.zeros(batch, 7)
    module.calibrate(student, teacher, labels, indices, draws)
    value = module(student, teacher, labels, indices, draws)
    value.backward()
    module.remember(indices)
    assert value.isfinite() and student.grad is not None and student.grad.isfinite().all()
    assert module.student_bank.isfinite().all()


def test_large_scores_do_not_overflow() -> None:
    """Scores of +-1/tau = 1000 leave float32 when exponentiated; the criterion stays finite."""
    module = build(temperature=1e-3)
    given = arguments(module, 5)
    module.calibrate(*given)
    assert module(*given).isfinite()


# -- negatives --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("negatives", [1, 2, 6, 12, 13])
def test_negatives_are_distinct_and_of_other_classes(negatives: int) -> None:
    module = build(negatives=negatives)
    assert module.negatives == negatives
    for seed in range(200):
        chosen = module.negative_indices(LABELS, module.draw(stream(seed), COUNT))
        assert chosen.shape == (COUNT, negatives)
        assert all(len(set(row)) == negatives for row in chosen.tolist())
        assert (LABELS[chosen] != LABELS[:, None]).all()
        assert chosen.min() >= 0 and chosen.max() < COUNT


def test_every_other_image_is_drawn_equally_often() -> None:
    """Chances K/M by counting: 20,000 draws of 5 of M for an anchor of each class; none of its own class."""
    module = build(negatives=5)
    times = 20_000
    for label, size in enumerate(LABELS.bincount().tolist()):
        chosen = module.negative_indices(torch.full((times,), label), module.draw(stream(label), times))
        seen = chosen.flatten().bincount(minlength=COUNT).double()
        others = label != LABELS
        chance = 5 / (COUNT - size)
        assert seen[~others].sum() == 0
        five_sigma = 5 * math.sqrt(times * chance * (1 - chance))
        assert (seen[others] - times * chance).abs().max() < five_sigma


def test_places_and_shift_at_their_ends() -> None:
    """The largest uniform number below 1 stays inside its stratum, whatever the strata's widths."""
    for count, negatives in ((50_000, 4096), (1000, 7), (65_537, 3)):
        module = Contrastive(2, 2, torch.arange(count) % 10, negatives=negatives, width=1, batch_size=2)
        labels = torch.tensor([0, 9])
        for place in (0.0, 1 - 2**-24):
            places = torch.full((2, negatives), place)
            for shift in (0, 2**62 - 1):
                draws = {"places": places, "shift": torch.full((2,), shift)}
                chosen = module.negative_indices(labels, draws)
                assert all(len(row.unique()) == negatives for row in chosen)
                assert ((chosen % 10) != labels[:, None]).all()


def test_negatives_are_capped_by_what_there_is() -> None:
    module = build(negatives=4096)
    assert module.negatives == COUNT - 7
    chosen = module.negative_indices(torch.tensor([0]), module.draw(stream(0), 1))
    assert sorted(chosen[0].tolist()) == [i for i in range(COUNT) if LABELS[i] != 0]
    with pytest.raises(KdnbError, match="two classes"):
        Contrastive(5, 7, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(KdnbError, match="at least 1"):
        build(negatives=0)


def test_draws_are_a_function_of_the_stream() -> None:
    module = build()
    first, again, other = (module.draw(stream(seed), 4) for seed in (1, 1, 2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not any(torch.equal(first[k], other[k]) for k in first)


# -- banks ------------------------------------------------------------------------------------------------


def test_banks_begin_uniform() -> None:
    module = Contrastive(5, 7, torch.arange(4000) % 10, width=48, batch_size=2)
    bound = math.sqrt(3 / 48)
    for bank in (module.student_bank, module.teacher_bank):
        assert bank.abs().max() <= bound and bank.abs().max() > 0.999 * bound
        assert bank.square().sum(1).mean().item() == pytest.approx(1, abs=0.01)
    assert not torch.equal(module.student_bank, module.teacher_bank)


def test_banks_are_moved_after_the_step() -> None:
    """M_i <- n(m M_i + (1 - m) e_i) with the e of the last forward, at the batch's rows and nowhere else."""
    module = build(momentum=0.7)
    given = arguments(module, 5)
    indices = given[3]
    before = [module.student_bank.clone(), module.teacher_bank.clone()]
    module.calibrate(*given)
    module(*given)
    assert torch.equal(module.student_bank, before[0]) and torch.equal(module.teacher_bank, before[1])
    anchors = projected(module, *given[:2])
    with torch.no_grad():
        module.student_map.weight.add_(1)  # the optimiser's step comes before: it must not matter
    module.remember(indices)
    for bank, old, e in zip((module.student_bank, module.teacher_bank), before, anchors, strict=True):
        expected = unit(0.7 * old[indices].double().numpy() + 0.3 * e)
        np.testing.assert_allclose(bank[indices].numpy(), expected, atol=1e-6)
        others = [i for i in range(COUNT) if i not in indices.tolist()]
        assert torch.equal(bank[others], old[others])


def test_partial_batch_and_too_large_a_batch() -> None:
    module = build(batch_size=8)
    whole, part = arguments(module, 8, seed=1), arguments(module, 3, seed=2)
    module.calibrate(*whole)
    module(*whole)
    module.remember(whole[3])
    module(*part)
    old = module.student_bank.clone()
    module.remember(part[3])
    expected = unit(0.5 * old[part[3]].double().numpy() + 0.5 * projected(module, *part[:2])[0])
    np.testing.assert_allclose(module.student_bank[part[3]].numpy(), expected, atol=1e-6)
    with pytest.raises(KdnbError, match="batch of 9"):
        module(*arguments(module, 9))


def test_state_goes_on_where_it_was() -> None:
    """Banks and normalisers travel in the state; what follows from the labels does not."""
    module, other = build(), build(seed=5)
    given = arguments(module, 5)
    module.calibrate(*given)
    module(*given)
    module.remember(given[3])
    assert set(module.state_dict()) == {
        *(f"{side}_map.{part}" for side in ("student", "teacher") for part in ("weight", "bias")),
        "student_bank",
        "teacher_bank",
        "log_normaliser",
    }
    other.load_state_dict(module.state_dict())
    given = arguments(module, 5, seed=9)
    assert other(*given).item() == module(*given).item()


def test_nothing_waits_for_the_device() -> None:
    module = build()
    given = arguments(module, 5)
    module.calibrate(*given)
    student = given[0].clone().requires_grad_()
    with capturable():
        module(student, *given[1:]).backward()
        module.remember(given[3])


def test_the_watch_for_waiting_sees_it() -> None:
    for wait in (lambda x: x[0].item(), lambda x: x[x > 0], lambda x: torch.tensor(0.5) * x):
        with pytest.raises(AssertionError, match="cannot be captured"), capturable():
            wait(torch.ones(3))


# -- without banks ----------------------------------------------------------------------------------------


def _in_batch_side(anchors: np.ndarray, bank: np.ndarray, labels: list[int], z: float | None = None) -> float:
    """L of one side with the batch for a bank, temperature 1/2; without a Z, Z is that of this very batch."""
    size = len(labels)
    scores = np.exp(anchors @ bank.T / 0.5)
    negatives = [[j for j in range(size) if labels[j] != labels[i]] for i in range(size)]
    if z is None:
        z = size * np.mean([scores[i, j] for i in range(size) for j in [i, *negatives[i]]])
    total = 0.0
    for i in range(size):
        noise, g = len(negatives[i]) / size, scores[i] / z
        total -= math.log(g[i] / (g[i] + noise + EPSILON))
        total -= sum(math.log(noise / (g[j] + noise + EPSILON)) for j in negatives[i])
    return total / size


def test_in_batch_by_loops() -> None:
    torch.manual_seed(0)
    module = InBatchContrastive(5, 7, 16, 0.5)
    labels = torch.tensor([0, 1, 0, 2, 2, 0])
    student, teacher = embeddings(6)
    module.calibrate(student, teacher, labels)
    e_s, e_t = projected(module, student, teacher)
    expected = _in_batch_side(e_s, e_t, labels.tolist()) + _in_batch_side(e_t, e_s, labels.tolist())
    assert module(student, teacher, labels).item() == pytest.approx(expected, rel=1e-5)


def test_in_batch_gradient_is_that_of_the_students_side() -> None:
    """Vectors one compares with are constants, like rows of a bank: by finite differences of L_S alone."""
    torch.manual_seed(0)
    module = InBatchContrastive(5, 7, 16, 0.5).double()
    student, teacher = (x.double() for x in embeddings(6))
    labels = torch.tensor([0, 1, 0, 2, 2, 0])
    module.calibrate(student, teacher, labels)
    z = module.log_normaliser[0].exp().item()
    student.requires_grad_()
    module(student, teacher, labels).backward()
    for place in [(0, 0), (3, 4), (5, 2)]:
        sides = []
        for step in (1e-5, -1e-5):
            moved = student.detach().clone()
            moved[place] += step
            e_s, e_t = projected(module, moved, teacher)
            sides.append(_in_batch_side(e_s, e_t, labels.tolist(), z))
        assert student.grad[place].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-5)
    assert all(p.grad.abs().max() > 0 for p in module.parameters())


def test_in_batch_edges() -> None:
    torch.manual_seed(0)
    module = InBatchContrastive(5, 7, 16, 0.5)
    student, teacher = embeddings(4)
    student, labels = student.requires_grad_(), torch.tensor([0, 1, 1, 2])
    assert module(student, teacher, labels).isnan()
    module.calibrate(student, teacher, labels)
    for alone in (torch.tensor([1]), torch.tensor([1, 1])):  # no negatives: nothing to tell apart
        value = module(student[: len(alone)], teacher[: len(alone)], alone)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-5) and student.grad.isfinite().all()
    with capturable():
        module(student, teacher, labels).backward()
    expected = module(student.bfloat16().float(), teacher.bfloat16().float(), labels).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module(student.bfloat16(), teacher.bfloat16(), labels).item() == expected
