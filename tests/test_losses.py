"""Losses: closed forms, independent implementations, gradients, and what all of them have in common.

The independent implementations use scipy and scikit-learn where these have the piece, and plain loops
elsewhere.  Sizes are unequal throughout (batch 5, channels 3 or 4, maps 4 x 6), so that a wrong transpose
is a wrong number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from capturable import capturable
from scipy.spatial.distance import cdist
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.metrics.pairwise import cosine_similarity, linear_kernel, polynomial_kernel, rbf_kernel
from sklearn.preprocessing import normalize
from torch import Tensor

from kdnb import losses
from kdnb.errors import KdnbError
from kdnb.losses.factors import METRICS

BATCH = 5
LABELS = torch.tensor([2, 0, 1, 2, 3])
MARGIN = torch.tensor([-0.5, -0.1, -1.0])


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def logits(batch: int, seed: int) -> Tensor:
    return noise(batch, 4, seed=seed) * 2


def maps(batch: int, seed: int) -> Tensor:
    return noise(batch, 3, 4, 6, seed=seed)


def vectors(batch: int, seed: int) -> Tensor:
    return noise(batch, 7, seed=seed)


def pyramid(batch: int, seed: int) -> list[Tensor]:
    shapes = [(3, 4, 6), (4, 2, 3), (2, 1, 3)]
    return [noise(batch, *shape, seed=seed + 100 * k) for k, shape in enumerate(shapes)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """These tensors are small: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


Make = Callable[[int, int], Any]
#: Every loss as a function of (student, teacher), and what makes such arguments of a batch size and a seed.
CASES: dict[str, tuple[Callable[[Any, Any], Tensor], Make]] = {
    "kd": (lambda s, t: losses.kd(s, t, 4.0), logits),
    "dkd": (lambda s, t: losses.dkd(s, t, LABELS[: len(s)], 1.0, 8.0, 4.0), logits),
    "hint": (losses.hint, maps),
    "attention": (losses.attention, pyramid),
    "similarity": (losses.similarity, pyramid),
    "fsp": (losses.fsp, pyramid),
    "pkt": (losses.pkt, vectors),
    "pkt-jeffreys": (lambda s, t: losses.pkt(s, t, divergence="jeffreys"), vectors),
    "rkd": (losses.rkd, vectors),
    "relative_distances": (losses.relative_distances, vectors),
    "relative_distances-l1": (lambda s, t: losses.relative_distances(s, t, "l1", normalised=True), vectors),
    "mmd-linear": (lambda s, t: losses.mmd(s, t, "linear"), maps),
    "mmd-polynomial": (lambda s, t: losses.mmd(s, t, "polynomial"), maps),
    "mmd-gaussian": (lambda s, t: losses.mmd(s, t, "gaussian"), maps),
    "overhaul": (lambda s, t: losses.overhaul(s, t, MARGIN), maps),
    "hierarchical_context": (losses.hierarchical_context, pyramid),
    "factor": (losses.factor, maps),
    **{f"inheritance-{m}": (lambda s, t, m=m: losses.inheritance(s, t, m), maps) for m in METRICS if m != "cosine"},
    "information_flow": (losses.information_flow, vectors),
    "information_flow-paper": (lambda s, t: losses.information_flow(s, t, reading="paper"), vectors),
}
every_loss = pytest.mark.parametrize("name", CASES)


def apply(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    return [function(v) for v in value] if isinstance(value, list) else function(value)


def flat(value: Any) -> list[Tensor]:
    return value if isinstance(value, list) else [value]


# -- what all losses have in common -----------------------------------------------------------------------


@every_loss
def test_equal_inputs_give_zero_and_others_do_not(name: str) -> None:
    loss, make = CASES[name]
    assert loss(make(BATCH, 1), make(BATCH, 1)).item() == pytest.approx(0, abs=1e-12)
    assert loss(make(BATCH, 1), make(BATCH, 2)).item() > 1e-4
    single = apply(Tensor.float, make(BATCH, 1))
    assert loss(single, single).item() == pytest.approx(0, abs=2e-6)


@pytest.mark.parametrize("name", [name for name in CASES if name != "mmd-gaussian"])
def test_gradient_is_that_of_the_value(name: str) -> None:
    """By finite differences; the Gaussian MMD, whose bandwidth is a constant, has a test of its own."""
    loss, make = CASES[name]
    student = [t.requires_grad_() for t in flat(make(3, 1))]
    teacher = make(3, 2)
    one = not isinstance(teacher, list)
    assert torch.autograd.gradcheck(lambda *s: loss(s[0] if one else list(s), teacher), student)


@every_loss
def test_teacher_is_a_constant(name: str) -> None:
    loss, make = CASES[name]
    student = apply(Tensor.requires_grad_, make(BATCH, 1))
    teacher = apply(Tensor.requires_grad_, make(BATCH, 2))
    loss(student, teacher).backward()
    assert all(t.grad is None for t in flat(teacher))
    assert any(t.grad.abs().max() > 0 for t in flat(student))


@every_loss
def test_precision(name: str) -> None:
    """bf16 comes out as its float32 self would, autocast changes nothing, float64 stays float64."""
    loss, make = CASES[name]
    student, teacher = make(BATCH, 1), make(BATCH, 2)
    low = [apply(Tensor.bfloat16, v) for v in (student, teacher)]
    expected = loss(*[apply(Tensor.float, v) for v in low])
    assert loss(student, teacher).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for given in (low, [apply(Tensor.float, v) for v in low]):
            value = loss(*given)
            assert value.dtype == torch.float32 and value.shape == ()
            assert value.item() == expected.item()
    assert expected.item() == pytest.approx(loss(student, teacher).item(), rel=0.15, abs=1e-3)


@every_loss
@pytest.mark.parametrize("what", ["one image", "zero student", "zero teacher", "both zero"])
def test_edges_are_finite(name: str, what: str) -> None:
    loss, make = CASES[name]
    batch = 1 if what == "one image" else 3
    student, teacher = (apply(Tensor.float, make(batch, seed)) for seed in (1, 2))
    if what in ("zero student", "both zero"):
        student = apply(torch.zeros_like, student)
    if what in ("zero teacher", "both zero"):
        teacher = apply(torch.zeros_like, teacher)
    student = apply(Tensor.requires_grad_, student)
    value = loss(student, teacher)
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(t.grad).all() for t in flat(student))
    if what == "both zero":
        assert value.item() == pytest.approx(0, abs=1e-7)


@every_loss
def test_nothing_waits_for_the_device(name: str) -> None:
    loss, make = CASES[name]
    student, teacher = apply(Tensor.requires_grad_, make(BATCH, 1)), make(BATCH, 2)
    with capturable():
        loss(student, teacher).backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every_loss
def test_capture_in_a_cuda_graph(name: str) -> None:
    loss, make = CASES[name]
    if name == "dkd":
        loss = lambda s, t: losses.dkd(s, t, LABELS.cuda(), 1.0, 8.0, 4.0)  # noqa: E731
    if name == "overhaul":
        loss = lambda s, t: losses.overhaul(s, t, MARGIN.cuda())  # noqa: E731
    student, teacher = (apply(lambda v: v.float().cuda(), make(BATCH, seed)) for seed in (1, 2))
    student = apply(Tensor.requires_grad_, student)

    def step() -> Tensor:
        value = loss(student, teacher)
        value.backward()
        return value.detach()

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = step()
    for old, new in zip(flat(student), flat(apply(lambda v: v.float().cuda(), make(BATCH, 3))), strict=True):
        old.data.copy_(new)
    graph.replay()
    on_cpu, _ = CASES[name]
    assert value.item() == pytest.approx(on_cpu(make(BATCH, 3), make(BATCH, 2)).item(), rel=1e-3, abs=1e-5)


def test_teacher_by_name_and_too_many_arguments() -> None:
    student, teacher = vectors(3, 1).requires_grad_(), vectors(3, 2).requires_grad_()
    losses.pkt(teacher_embedding=teacher, student_embedding=student).backward()
    assert teacher.grad is None and student.grad is not None
    with pytest.raises(TypeError):
        losses.pkt(student, teacher, 3)  # type: ignore[call-arg]


@every_loss
def test_batches_that_do_not_belong_together_are_refused(name: str) -> None:
    """One image of the teacher's would be broadcast over all of the student's, in silence."""
    loss, make = CASES[name]
    with pytest.raises(KdnbError, match="different batches"):
        loss(make(BATCH, 1), make(1, 2))


def test_labels_and_classes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(KdnbError, match="labels 5"):
        losses.cross_entropy(logits(3, 1), LABELS)
    with pytest.raises(KdnbError, match=r"kd.*\(5, 4\).*\(5, 1\)"):
        losses.kd(logits(BATCH, 1), logits(BATCH, 2)[:, :1], 4.0)
    with pytest.raises(KdnbError, match="dkd"):
        losses.dkd(logits(BATCH, 1), logits(BATCH, 2)[:, :3], LABELS, 1.0, 1.0, 4.0)


@pytest.mark.parametrize("target", [1, 2])
def test_a_class_that_the_teacher_rules_out_is_none(target: int) -> None:
    """-inf in the teacher's logits is probability 0: the limit of a very negative logit, in value and gradient."""
    labels = torch.full((BATCH,), target)
    for loss in (
        lambda s, t: losses.kd(s, t, 4.0),
        lambda s, t: losses.coupled_kd(s, t, 4.0),
        lambda s, t: losses.dkd(s, t, labels, 1.0, 8.0, 4.0),
    ):
        found = []
        for ruled_out in (-torch.inf, -1e6):
            student, teacher = logits(BATCH, 1).requires_grad_(), logits(BATCH, 2)
            teacher[:, 1] = ruled_out
            value = loss(student, teacher)
            value.backward()
            found.append((value.item(), student.grad))
        assert math.isfinite(found[0][0])
        if target != 1:  # a teacher that rules the label out is infinitely far from any student that does not
            assert found[0][0] == pytest.approx(found[1][0], rel=1e-9)
        assert torch.allclose(found[0][1], found[1][1], atol=1e-9)


# -- logits -----------------------------------------------------------------------------------------------


def test_cross_entropy() -> None:
    z = logits(BATCH, 1)
    expected = log_loss(LABELS.numpy(), softmax(z.numpy(), axis=1), labels=[0, 1, 2, 3])
    assert losses.cross_entropy(z, LABELS).item() == pytest.approx(expected, rel=1e-9)
    low = losses.cross_entropy(z.bfloat16(), LABELS)
    assert low.dtype == torch.float32
    assert low.item() == losses.cross_entropy(z.bfloat16().float(), LABELS).item()
    assert losses.cross_entropy(torch.zeros(2, 100), torch.tensor([0, 99])).item() == pytest.approx(math.log(100))


def test_kd_is_scipys_divergence() -> None:
    s, t, temperature = logits(BATCH, 1).numpy(), logits(BATCH, 2).numpy(), 3.0
    divergences = entropy(softmax(t / temperature, axis=1), softmax(s / temperature, axis=1), axis=1)
    value = losses.kd(torch.tensor(s), torch.tensor(t), temperature)
    assert value.item() == pytest.approx(temperature**2 * divergences.mean(), rel=1e-9)


def test_kd_by_hand() -> None:
    """Student (1/2, 1/2), teacher (3/4, 1/4): KL = log 2 - H(1/4); direction matters, batch is averaged."""
    student, teacher = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert losses.kd(student, teacher, 1.0).item() == pytest.approx(expected, rel=1e-6)
    twice = losses.kd(student.repeat(2, 1), teacher.repeat(2, 1), 1.0)
    assert twice.item() == pytest.approx(expected, rel=1e-6)
    hot = losses.kd(student, 2 * teacher, 2.0)  # the temperature divides the logits and multiplies by its square
    assert hot.item() == pytest.approx(4 * expected, rel=1e-6)


def _dkd(s: np.ndarray, t: np.ndarray, labels: list[int], alpha: float, beta: float, tau: float) -> float:
    total = 0.0
    for row_s, row_t, y in zip(s, t, labels, strict=True):
        p_s, p_t = softmax(row_s / tau), softmax(row_t / tau)
        rest = [c for c in range(len(row_s)) if c != y]
        target = entropy([p_t[y], 1 - p_t[y]], [p_s[y], 1 - p_s[y]])
        others = entropy(p_t[rest] / p_t[rest].sum(), p_s[rest] / p_s[rest].sum())
        total += alpha * target + beta * others
    return tau**2 * total / len(labels)


def test_dkd_by_probabilities() -> None:
    s, t = logits(BATCH, 1), logits(BATCH, 2)
    for alpha, beta, tau in [(1, 8, 4), (1, 0, 1), (0, 1, 2.5)]:
        expected = _dkd(s.numpy(), t.numpy(), LABELS.tolist(), alpha, beta, tau)
        assert losses.dkd(s, t, LABELS, alpha, beta, tau).item() == pytest.approx(expected, rel=1e-9)


def test_dkd_is_kd_where_beta_is_the_teachers_doubt() -> None:
    """KD = TCKD + (1 - p_y) NCKD: on one image, alpha = 1 and beta = 1 - p_T(y) give KD itself."""
    s, t, labels = logits(1, 1), logits(1, 2), torch.tensor([2])
    doubt = 1 - torch.softmax(t / 4, 1)[0, 2].item()
    assert losses.dkd(s, t, labels, 1.0, doubt, 4.0).item() == pytest.approx(losses.kd(s, t, 4.0).item(), rel=1e-9)


def test_dkd_with_two_classes_and_with_certainty() -> None:
    s, t = noise(3, 2, seed=1).requires_grad_(), noise(3, 2, seed=2)
    labels = torch.tensor([0, 1, 1])
    value = losses.dkd(s, t, labels, 1.0, 8.0, 4.0)
    assert value.item() == pytest.approx(losses.kd(s, t, 4.0).item(), rel=1e-9)
    sure = torch.tensor([[300.0, 0.0, -5.0], [-200.0, 0.0, 200.0]])
    student = torch.tensor([[0.0, 250.0, 1.0], [400.0, 0.0, -400.0]], requires_grad=True)
    value = losses.dkd(student, sure, torch.tensor([0, 2]), 1.0, 8.0, 1.0)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()


# -- maps -------------------------------------------------------------------------------------------------


def test_hint() -> None:
    s, t = maps(BATCH, 1), maps(BATCH, 2)
    assert losses.hint(s, t).item() == pytest.approx(mean_squared_error(s.flatten(), t.flatten()), rel=1e-9)
    with pytest.raises(KdnbError, match=r"hint.*\(5, 3, 4, 6\).*\(5, 1, 4, 6\)"):
        losses.hint(s, t[:, :1])


def _blocks(feature: np.ndarray, height: int, width: int) -> np.ndarray:
    """Average pooling by loops, [B, C, H, W] -> [B, C, height, width], for sizes that divide."""
    b, c, h, w = feature.shape
    result = np.zeros((b, c, height, width))
    down, across = h // height, w // width
    for i, j in itertools.product(range(height), range(width)):
        result[:, :, i, j] = feature[:, :, i * down : (i + 1) * down, j * across : (j + 1) * across].mean((2, 3))
    return result


def test_attention_with_other_widths_and_sizes() -> None:
    """The larger map is pooled before it is squared, on whichever side it stands."""
    big, small = noise(BATCH, 3, 8, 12, seed=1), noise(BATCH, 2, 4, 6, seed=2)

    def attend(feature: np.ndarray) -> np.ndarray:
        return normalize((feature**2).mean(1).reshape(BATCH, -1))

    a, b = attend(_blocks(big.numpy(), 4, 6)), attend(small.numpy())
    expected = ((a - b) ** 2).mean()
    assert losses.attention([big], [small]).item() == pytest.approx(expected, rel=1e-9)
    assert losses.attention([small], [big]).item() == pytest.approx(expected, rel=1e-9)
    assert losses.attention([big] * 3, [small] * 3).item() == pytest.approx(3 * expected, rel=1e-9)


def test_attention_by_hand() -> None:
    """One image, two places: (1, 0) against (0, 1) differ by 1 at each place, whatever their scale."""
    student = torch.tensor([3.0, 0.0]).view(1, 1, 1, 2).repeat(1, 4, 1, 1)
    teacher = torch.tensor([0.0, 0.2]).view(1, 1, 1, 2)
    assert losses.attention([student], [teacher]).item() == pytest.approx(1.0)


def _fsp(features: list[np.ndarray]) -> list[np.ndarray]:
    flows = []
    for entry, exit in itertools.pairwise(features):
        h, w = (min(entry.shape[k], exit.shape[k]) for k in (2, 3))
        entry, exit = _blocks(entry, h, w), _blocks(exit, h, w)
        flow = np.zeros((len(entry), entry.shape[1], exit.shape[1]))
        for b, i, j in itertools.product(*(range(n) for n in flow.shape)):
            flow[b, i, j] = sum(entry[b, i, s, t] * exit[b, j, s, t] for s in range(h) for t in range(w)) / (h * w)
        flows.append(flow)
    return flows


def test_fsp_by_loops() -> None:
    s, t = pyramid(2, 1), pyramid(2, 2)
    pairs = zip(_fsp([x.numpy() for x in s]), _fsp([x.numpy() for x in t]), strict=True)
    expected = sum(((a - b) ** 2).mean() for a, b in pairs)
    assert losses.fsp(s, t).item() == pytest.approx(expected, rel=1e-9)


def test_fsp_by_hand() -> None:
    """Constant maps 2 and 3 flow by 6 through any size; against a flow of 5, (6 - 5)^2 = 1."""
    student = [torch.full((1, 2, 8, 8), 2.0), torch.full((1, 3, 4, 4), 3.0)]
    teacher = [torch.full((1, 2, 4, 4), 1.0), torch.full((1, 3, 4, 4), 5.0)]
    assert losses.fsp(student, teacher).item() == pytest.approx(1.0)
    narrow = [torch.ones(1, 2, 4, 4), torch.ones(1, 1, 4, 4)]
    with pytest.raises(KdnbError, match="fsp"):
        losses.fsp(student, narrow)
    with pytest.raises(KdnbError, match="at least 2"):
        losses.fsp(student[:1], teacher[:1])


def test_lists_of_unequal_length_are_an_error() -> None:
    for loss in (losses.attention, losses.similarity, losses.hierarchical_context):
        with pytest.raises(KdnbError, match="3 and 2"):
            loss(pyramid(2, 1), pyramid(2, 2)[:2])
        with pytest.raises(KdnbError, match="at least 1"):
            loss([], [])


def test_overhaul_by_loops() -> None:
    s, t = maps(BATCH, 1), maps(BATCH, 2)
    expected = 0.0
    for b, c, i, j in itertools.product(*(range(n) for n in s.shape)):
        target = max(t[b, c, i, j].item(), MARGIN[c].item())
        value = s[b, c, i, j].item()
        if value > target or target > 0:
            expected += (value - target) ** 2 / BATCH
    assert losses.overhaul(s, t, MARGIN.double()).item() == pytest.approx(expected, rel=1e-9)


def test_overhaul_pools_the_teacher_and_leaves_silence_alone() -> None:
    silent = torch.full((2, 3, 4, 4), -0.7)
    quiet_student = torch.tensor([-0.6, -0.2, -1.1]).view(1, 3, 1, 1).expand(2, 3, 2, 2)
    assert losses.overhaul(quiet_student, silent, MARGIN).item() == 0
    loud = torch.zeros(2, 3, 2, 2)  # above the margins -0.5, -0.1 and the teacher's -0.7: 4 places each
    assert losses.overhaul(loud, silent, MARGIN).item() == pytest.approx(4 * (0.25 + 0.01 + 0.49))


def test_hierarchical_context_by_loops() -> None:
    s, t = noise(2, 3, 8, 8, seed=1), noise(2, 3, 8, 8, seed=2)
    mse = [((s - t) ** 2).mean().item()]
    for side in (4, 2, 1):
        mse.append(((_blocks(s.numpy(), side, side) - _blocks(t.numpy(), side, side)) ** 2).mean())
    expected = (mse[0] + mse[1] / 2 + mse[2] / 4 + mse[3] / 8) / (1 + 1 / 2 + 1 / 4 + 1 / 8)
    assert losses.hierarchical_context([s], [t]).item() == pytest.approx(expected, rel=1e-9)


def test_hierarchical_context_uses_only_smaller_sides() -> None:
    """Height 4: sides 2 and 1 count, with weights 1/2 and 1/4; height 1: the plain mean square."""
    s, t = noise(2, 3, 4, 4, seed=1), noise(2, 3, 4, 4, seed=2)
    mse = [((s - t) ** 2).mean().item()]
    for side in (2, 1):
        mse.append(((_blocks(s.numpy(), side, side) - _blocks(t.numpy(), side, side)) ** 2).mean())
    expected = (mse[0] + mse[1] / 2 + mse[2] / 4) / 1.75
    point_s, point_t = s[:, :, :1, :1], t[:, :, :1, :1]
    expected += ((point_s - point_t) ** 2).mean().item()
    assert losses.hierarchical_context([s, point_s], [t, point_t]).item() == pytest.approx(expected, rel=1e-9)


def test_sizes_that_do_not_divide() -> None:
    """7 x 5 against 3 x 2: adaptive windows overlap; the result is that of pooling one's own."""
    odd, small = noise(2, 3, 7, 5, seed=1), noise(2, 3, 3, 2, seed=2)
    own = torch.zeros(2, 3, 3, 2, dtype=torch.float64)
    for i, j in itertools.product(range(3), range(2)):
        rows = slice(i * 7 // 3, -(-(i + 1) * 7 // 3))
        columns = slice(j * 5 // 2, -(-(j + 1) * 5 // 2))
        own[:, :, i, j] = odd[:, :, rows, columns].mean((2, 3))
    assert losses.attention([odd], [small]).item() == pytest.approx(losses.attention([own], [small]).item(), rel=1e-9)


def test_the_variational_likelihood_by_hand() -> None:
    """Two channels of one place, t - m = 2 and 1, variances 4 and 1/2: (4/4 + log 4 + 1/(1/2) + log 1/2) / 4."""
    mean, variance = torch.zeros(1, 2, 1, 1), torch.tensor([4.0, 0.5])
    value = losses.variational(mean, variance, torch.tensor([2.0, 1.0]).view(1, 2, 1, 1))
    assert value.item() == pytest.approx((1 + math.log(4) + 2 + math.log(0.5)) / 4)
    normal = torch.distributions.Normal(mean, variance.sqrt().view(1, 2, 1, 1))
    constant = math.log(2 * math.pi) / 2
    drawn = noise(1, 2, 1, 1, seed=1).float()
    assert losses.variational(mean, variance, drawn).item() == pytest.approx(
        -normal.log_prob(drawn).mean().item() - constant, rel=1e-5
    )


def test_boundaries_by_hand() -> None:
    """A firing teacher pulls beyond +1 and a silent one below -1; who is there already is left alone."""
    student, teacher = torch.tensor([[0.5, 2.0, -3.0], [0.5, -0.5, 0.0]]), torch.tensor([[1.0, 3, -1], [-1, 0, 2]])
    value = losses.boundary(student[..., None, None], teacher[..., None, None])
    assert value.item() == pytest.approx((0.5**2 + 1.5**2 + 0.5**2 + 1) / 2)


# -- relations --------------------------------------------------------------------------------------------


def test_correlation_by_loops() -> None:
    """Errors of neighbours in the batch: the first image with the second, and so on; one image has no neighbour."""
    s, t = vectors(BATCH, 1), vectors(BATCH, 2)
    gaps = (s - t).abs()
    expected = sum(float(gaps[b] @ gaps[b + 1]) for b in range(BATCH - 1)) / (BATCH - 1)
    assert losses.correlation(s, t).item() == pytest.approx(expected)
    assert losses.correlation(s[:1], t[:1]).item() == 0


def test_similarity_with_other_widths() -> None:
    s, t = maps(BATCH, 1), noise(BATCH, 2, 2, 2, seed=2)

    def gram(feature: Tensor) -> np.ndarray:
        rows = feature.reshape(BATCH, -1).numpy()
        return normalize(linear_kernel(rows))

    expected = ((gram(s) - gram(t)) ** 2).sum() / BATCH**2
    assert losses.similarity([s], [t]).item() == pytest.approx(expected, rel=1e-9)


def _conditional(kernel: np.ndarray) -> np.ndarray:
    return kernel / kernel.sum(1, keepdims=True)


def test_pkt_with_other_widths() -> None:
    s, t = vectors(BATCH, 1), noise(BATCH, 3, seed=2)
    q, p = (_conditional((cosine_similarity(x.numpy()) + 1) / 2) for x in (s, t))
    assert losses.pkt(s, t).item() == pytest.approx((p * np.log(p / q)).mean(), rel=1e-4)
    exact = (p * np.log((p + 1e-7) / (q + 1e-7))).mean()
    assert losses.pkt(s, t).item() == pytest.approx(exact, rel=1e-6)  # the length + 1e-7 is what is left


def test_pkt_by_hand() -> None:
    """Two images, opposite in the teacher: p = (1, 0); orthogonal in the student: q = (2/3, 1/3)."""
    teacher = torch.tensor([[1.0, 0.0], [-2.0, 0.0]], dtype=torch.float64)
    student = torch.tensor([[1.0, 0.0], [0.0, 5.0]], dtype=torch.float64)
    assert losses.pkt(student, teacher).item() == pytest.approx(2 * math.log(1.5) / 4, rel=1e-5)


def test_pkts_other_divergence_is_half_of_the_hybrid_one() -> None:
    s, t = vectors(BATCH, 1), noise(BATCH, 3, seed=2)
    q, p = (_conditional((cosine_similarity(x.numpy()) + 1) / 2) for x in (s, t))
    expected = ((p - q) * (np.log(p) - np.log(q))).mean()
    assert losses.pkt(s, t, divergence="jeffreys").item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(KdnbError, match="did you mean jeffreys"):
        losses.pkt(s, t, divergence="jefreys")  # type: ignore[arg-type]


@pytest.mark.parametrize("normalised", [False, True])
def test_relative_distances_with_other_widths(normalised: bool) -> None:
    s, t = vectors(BATCH, 1), noise(BATCH, 3, seed=2)
    gap = np.subtract(*(cdist(e, e) for e in (normalize(x.numpy()) if normalised else x.numpy() for x in (s, t))))
    assert losses.relative_distances(s, t, "l2", normalised).item() == pytest.approx((gap**2).mean(), rel=1e-6)
    assert losses.relative_distances(s, t, "l1", normalised).item() == pytest.approx(np.abs(gap).mean(), rel=1e-6)
    with pytest.raises(KdnbError, match="norm of relative_distances"):
        losses.relative_distances(s, t, "l3")  # type: ignore[arg-type]


def test_pairs_of_classes_by_loops() -> None:
    embedding, margin = vectors(BATCH, 1) / 2, 2.5
    far = cdist(embedding.numpy(), embedding.numpy())
    costs = [
        (far[i, j] ** 2 if LABELS[i] == LABELS[j] else max(0.0, margin - far[i, j]) ** 2) / 2
        for i, j in itertools.permutations(range(BATCH), 2)
    ]
    assert losses.pairs_of_classes(embedding, LABELS, margin).item() == pytest.approx(np.mean(costs), rel=1e-6)
    given = embedding.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda e: losses.pairs_of_classes(e, LABELS, margin), given)
    equal = torch.zeros(3, 2, requires_grad=True)
    losses.pairs_of_classes(equal, torch.tensor([0, 0, 1])).backward()
    assert equal.grad is not None and torch.isfinite(equal.grad).all()


def test_soft_cross_entropy_is_kd_with_the_teachers_entropy() -> None:
    s, t, temperature = logits(BATCH, 1), logits(BATCH, 2).requires_grad_(), 2.0
    answers = softmax(t.detach().numpy() / temperature, axis=1)
    expected = losses.kd(s, t, temperature).item() / temperature**2 + entropy(answers, axis=1).mean()
    value = losses.soft_cross_entropy(s.requires_grad_(), t, temperature)
    assert value.item() == pytest.approx(expected, rel=1e-9)
    value.backward()
    assert t.grad is None and torch.autograd.gradcheck(lambda x: losses.soft_cross_entropy(x, t, temperature), s)


def test_rkd_by_loops() -> None:
    s, t = vectors(4, 1), noise(4, 3, seed=2)

    def huber(a: np.ndarray, b: np.ndarray) -> float:
        gap = np.abs(a - b)
        return float(np.where(gap < 1, gap**2 / 2, gap - 0.5).mean())

    def relations(e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distances = cdist(e, e)
        angles = np.zeros((4, 4, 4))
        for i, j, k in itertools.product(range(4), repeat=3):
            if i not in (j, k):
                angles[i, j, k] = (e[j] - e[i]) @ (e[k] - e[i]) / distances[i, j] / distances[i, k]
        return distances / distances[distances > 0].mean(), angles

    (d_s, a_s), (d_t, a_t) = relations(s.numpy()), relations(t.numpy())
    assert losses.rkd(s, t, 1, 0).item() == pytest.approx(huber(d_s, d_t), rel=1e-9)
    assert losses.rkd(s, t, 0, 1).item() == pytest.approx(huber(a_s, a_t), rel=1e-9)
    assert losses.rkd(s, t).item() == pytest.approx(25 * huber(d_s, d_t) + 50 * huber(a_s, a_t), rel=1e-9)


def test_rkd_does_not_see_scale_shift_or_rotation() -> None:
    s = vectors(BATCH, 1)
    turn, _ = torch.linalg.qr(noise(7, 7, seed=3))
    assert losses.rkd(s, 3 * s @ turn + 5).item() == pytest.approx(0, abs=1e-9)


def test_information_flow_by_the_published_code() -> None:
    s, t = vectors(BATCH, 1), noise(BATCH, 3, seed=2)

    def kernels(x: np.ndarray) -> list[np.ndarray]:
        return [(cosine_similarity(x) + 1) / 2, 1 / (1 + np.sqrt(cdist(x, x, "sqeuclidean") + 1e-6))]

    expected = 0.0
    for k_s, k_t in zip(kernels(s.numpy()), kernels(t.numpy()), strict=True):
        p_s, p_t = _conditional(k_s), _conditional(k_t)
        expected += ((p_t - p_s) * (np.log(p_t) - np.log(p_s))).mean()
    assert losses.information_flow(s, t).item() == pytest.approx(expected, rel=1e-5)


def test_information_flow_as_printed() -> None:
    """Squared distances, i != j alone, Jeffreys' divergence as the sum of both Kullback-Leibler ones."""
    s, t = vectors(BATCH, 1), noise(BATCH, 3, seed=2)

    def kernels(x: np.ndarray) -> list[np.ndarray]:
        return [(cosine_similarity(x) + 1) / 2, 1 / (1 + cdist(x, x, "sqeuclidean"))]

    expected = 0.0
    for k_s, k_t in zip(kernels(s.numpy()), kernels(t.numpy()), strict=True):
        for i in range(BATCH):
            others = [j for j in range(BATCH) if j != i]
            p_s, p_t = k_s[i, others] / k_s[i, others].sum(), k_t[i, others] / k_t[i, others].sum()
            expected += entropy(p_t, p_s) + entropy(p_s, p_t)
    assert losses.information_flow(s, t, reading="paper").item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(KdnbError, match="paper"):
        losses.information_flow(s, t, reading="papr")  # type: ignore[arg-type]


def test_information_flow_of_opposite_vectors_is_finite() -> None:
    student = torch.tensor([[1.0, 2.0], [-1.0, -2.0]], requires_grad=True)
    value = losses.information_flow(student, torch.tensor([[1.0, 0.0], [1.0, 0.1]]))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()


# -- distributions ----------------------------------------------------------------------------------------


def _mmd(s: np.ndarray, t: np.ndarray, kernel: str) -> float:
    """Image by image, with scikit-learn's kernels on the L2-normalised channels."""
    values = []
    for image_s, image_t in zip(s, t, strict=True):
        a, b = normalize(image_t.reshape(len(image_t), -1)), normalize(image_s.reshape(len(image_s), -1))
        if kernel == "linear":
            parts = [linear_kernel(x, y) for x, y in ((a, a), (b, b), (a, b))]
        elif kernel == "polynomial":
            parts = [polynomial_kernel(x, y, degree=2, gamma=1, coef0=0) for x, y in ((a, a), (b, b), (a, b))]
        else:
            both = np.concatenate([a, b])
            count = len(both)
            spread = cdist(both, both, "sqeuclidean").sum() / (count**2 - count)
            widths = [spread * factor for factor in (0.25, 0.5, 1, 2, 4)]
            parts = [sum(rbf_kernel(x, y, gamma=1 / h) for h in widths) for x, y in ((a, a), (b, b), (a, b))]
        values.append(parts[0].mean() + parts[1].mean() - 2 * parts[2].mean())
    return float(np.mean(values))


@pytest.mark.parametrize("kernel", ["linear", "polynomial", "gaussian"])
def test_mmd_with_other_widths(kernel: Any) -> None:
    s, t = maps(BATCH, 1), noise(BATCH, 8, 4, 6, seed=2)
    expected = _mmd(s.numpy(), t.numpy(), kernel)
    assert losses.mmd(s, t, kernel).item() == pytest.approx(expected, rel=1e-9)
    assert losses.mmd(s.float(), t.float(), kernel).item() == pytest.approx(expected, rel=1e-4)
    large = noise(BATCH, 8, 8, 12, seed=3)
    expected = _mmd(s.numpy(), _blocks(large.numpy(), 4, 6), kernel)
    assert losses.mmd(s, large, kernel).item() == pytest.approx(expected, rel=1e-9)


def test_mmd_by_hand() -> None:
    """One channel each, orthogonal unit vectors: linear and polynomial give 1 + 1 - 0; the Gaussian has
    d = |a - b|^2 = 2 and gives 2 (5 - sum_l exp(-2^(2-l)))."""
    student = torch.tensor([7.0, 0.0], dtype=torch.float64).view(1, 1, 1, 2)
    teacher = torch.tensor([0.0, 0.1], dtype=torch.float64).view(1, 1, 1, 2)
    assert losses.mmd(student, teacher, "linear").item() == pytest.approx(2)
    assert losses.mmd(student, teacher, "polynomial").item() == pytest.approx(2)
    expected = 2 * (5 - sum(math.exp(-1 / f) for f in (0.25, 0.5, 1, 2, 4)))
    assert losses.mmd(student, teacher, "gaussian").item() == pytest.approx(expected)
    with pytest.raises(KdnbError, match="did you mean gaussian"):
        losses.mmd(student, teacher, "gausian")  # type: ignore[arg-type]


def test_gaussian_bandwidth_is_a_constant() -> None:
    """The gradient is that of the value with the bandwidth held, by finite differences."""
    s, t = maps(2, 1), noise(2, 4, 4, 6, seed=2)
    spreads = []
    for image_s, image_t in zip(s.numpy(), t.numpy(), strict=True):
        both = normalize(np.concatenate([image_s.reshape(3, -1), image_t.reshape(4, -1)]))
        spreads.append(cdist(both, both, "sqeuclidean").sum() / 42)

    def held(features: np.ndarray) -> float:
        total = 0.0
        for image_s, image_t, spread in zip(features, t.numpy(), spreads, strict=True):
            a, b = normalize(image_t.reshape(4, -1)), normalize(image_s.reshape(3, -1))
            for factor in (0.25, 0.5, 1, 2, 4):
                k = [rbf_kernel(x, y, gamma=1 / (spread * factor)).mean() for x, y in ((a, a), (b, b), (a, b))]
                total += (k[0] + k[1] - 2 * k[2]) / 2
        return total

    student = s.clone().requires_grad_()
    losses.mmd(student, t, "gaussian").backward()
    for place in [(0, 0, 0, 0), (0, 2, 3, 5), (1, 1, 2, 4)]:
        step = np.zeros(s.shape)
        step[place] = 1e-5
        slope = (held(s.numpy() + step) - held(s.numpy() - step)) / 2e-5
        assert student.grad[place].item() == pytest.approx(slope, rel=1e-5)


def test_gaussian_of_equal_channels_is_finite_and_small() -> None:
    """No spread at all: the bandwidth has a floor, and rounding, which not every draw has, is not blown up."""
    for drawn in torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0)):
        same = drawn.repeat(2, 6, 1, 1).requires_grad_()
        value = losses.mmd(same, same.detach()[:, :3], "gaussian")
        value.backward()
        assert abs(value.item()) < 0.05 and torch.isfinite(same.grad).all()
