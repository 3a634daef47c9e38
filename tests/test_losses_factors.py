"""Factors, codes of pixels, CKA and active neurons: brute force, known answers, bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kdnb import losses
from kdnb.analysis.neurons import active_neurons
from kdnb.errors import KdnbError
from kdnb.losses.factors import METRICS


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(factor: Tensor) -> np.ndarray:
    flat = factor.numpy().reshape(len(factor), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


# -- factors ----------------------------------------------------------------------------------------------


def test_factor_is_the_mean_absolute_difference_of_unit_vectors() -> None:
    s, t = noise(5, 3, 2, 2, seed=1), noise(5, 3, 2, 2, seed=2)
    assert losses.factor(s, t).item() == pytest.approx(np.abs(unit(s) - unit(t)).mean(), rel=1e-12)
    assert losses.factor(7 * s, t).item() == pytest.approx(losses.factor(s, t).item(), rel=1e-12)
    assert losses.inheritance(s, t).item() == losses.factor(s, t).item()


def test_metrics_by_hand() -> None:
    """F_S = (3, 4)/5 and F_T = (1, 0): differences -0.4 and 0.8, product 0.6."""
    s, t = torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]])
    assert losses.inheritance(s, t, "l1").item() == pytest.approx(0.6)
    assert losses.inheritance(s, t, "l2").item() == pytest.approx(math.sqrt((0.16 + 0.64) / 2))
    assert losses.inheritance(s, t, "cosine").item() == pytest.approx(0.4)
    assert losses.exploration(s, t, "cosine").item() == pytest.approx(0.6)
    assert losses.exploration(-s, t, "cosine").item() == pytest.approx(0.6)
    assert losses.exploration(s, t, "l1").item() == pytest.approx(-0.6)


def test_cka_is_of_factors_as_they_are() -> None:
    """Images count by their factors' lengths: scaled one by one they give another CKA, scaled together the same."""
    s, t = noise(9, 2, 2, 2, seed=1), noise(9, 2, 2, 2, seed=2)
    lengths = torch.linspace(0.1, 3.0, 9, dtype=torch.float64).view(-1, 1, 1, 1)
    found = losses.exploration(lengths * s, t, "l1+cka").item()
    x, y = ((f.flatten(1) - f.flatten(1).mean(0)).numpy() for f in (lengths * s, t))
    norms = [np.linalg.norm(z.T @ z) for z in (x, y)]
    assert found == pytest.approx(np.linalg.norm(x.T @ y) ** 2 / (norms[0] * norms[1]), rel=1e-9)
    assert losses.exploration(7 * lengths * s, t, "l1+cka").item() == pytest.approx(found, rel=1e-9)
    assert losses.exploration(s, t, "l1+cka").item() != pytest.approx(found, rel=1e-3)


def test_partial_l2_leaves_out_where_both_are_silent() -> None:
    """Elements with F_S <= F_T <= 0 do not count: the second of (0.6, -0.8) against (0.8, -0.6) does not."""
    s, t = torch.tensor([[0.6, -0.8]]), torch.tensor([[0.8, -0.6]])
    assert losses.inheritance(s, t, "partial-l2").item() == pytest.approx(math.sqrt(0.04 / 2))
    assert losses.inheritance(t, s, "partial-l2").item() == pytest.approx(math.sqrt(0.08 / 2))


def test_the_raw_distance_is_of_the_factors_as_they_are() -> None:
    """(3, 4) and (2, 0): differences 1 and 4; ten times the student's factor is further away, and without end."""
    s, t = torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]])
    assert losses.inheritance(s, t, "raw-l2").item() == pytest.approx(math.sqrt((1 + 16) / 2))
    assert losses.exploration(100 * s, t, "raw-l2").item() < -300


@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric != "raw-l2"])
def test_exploration_is_bounded_whatever_the_scale(metric: str) -> None:
    """The loss cannot be driven down by growing the encoder: at most 2 / sqrt(D), or 1 for products."""
    t = noise(6, 8, 4, 4, seed=1)
    bound = 2 / math.sqrt(t[0].numel()) if metric in ("l1", "l2", "partial-l2") else 1.0
    for s in (1e6 * noise(6, 8, 4, 4, seed=2), -t, torch.zeros_like(t)):
        assert abs(losses.exploration(s, t, metric).item()) <= bound + 1e-9
    assert losses.inheritance(t, t, metric).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("loss", [losses.inheritance, losses.exploration])
def test_gradients_of_factors(loss, metric: str) -> None:
    s, t = noise(4, 2, 3, seed=1).requires_grad_(), noise(4, 2, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, t, metric), s)
    loss(s, t, metric).backward()
    assert t.grad is None
    for edge in (torch.zeros(4, 2, 3), t.detach().clone()):
        edge = edge.double().requires_grad_()
        loss(edge, t, metric).backward()
        assert torch.isfinite(edge.grad).all()


def test_factors_of_other_shapes_and_unknown_metrics() -> None:
    with pytest.raises(KdnbError, match=r"factors.*\(2, 3\).*\(2, 4\)"):
        losses.factor(noise(2, 3), noise(2, 4))
    with pytest.raises(KdnbError, match="l1"):
        losses.exploration(noise(2, 3), noise(2, 3), "l3")


# -- codes ------------------------------------------------------------------------------------------------


def test_code_keeps_the_largest_of_each_row() -> None:
    features, atoms, offset = noise(7, 4, seed=1), noise(4, 9, seed=2), torch.tensor(0.3, dtype=torch.float64)
    code = losses.sparse_code(features, atoms, offset, keep=3)
    dense = 1 / (1 + np.exp(-(features.numpy() @ atoms.numpy() + 0.3)))
    for row, full in zip(code.numpy(), dense, strict=True):
        kept = np.argsort(full)[-3:]
        assert set(np.flatnonzero(row)) == set(kept)
        assert row[kept] == pytest.approx(full[kept], rel=1e-12)
    assert losses.pixel_labels(code).tolist() == dense.argmax(1).tolist()


def test_ties_stay() -> None:
    code = losses.sparse_code(torch.ones(1, 1), torch.tensor([[2.0, 1.0, 1.0, 0.0]]), torch.tensor(0.0), keep=2)
    assert (code > 0).tolist() == [[True, True, True, False]]


def test_code_in_low_precision_is_that_of_float32() -> None:
    """In bfloat16 the sigmoids of 4.0 and 4.01 are one number, and both would stay."""
    features, atoms = torch.ones(1, 1), torch.tensor([[4.0, 4.01, 3.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        code = losses.sparse_code(features, atoms, torch.tensor(0.0), keep=1)
    assert code.dtype == torch.float32 and (code > 0).tolist() == [[False, True, False]]


def test_gradients_of_a_code() -> None:
    features, atoms = noise(3, 4, seed=1).requires_grad_(), noise(4, 5, seed=2).requires_grad_()
    offset = torch.zeros((), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: losses.sparse_code(*a, keep=2), (features, atoms, offset))


def test_codes_refuse_what_does_not_fit() -> None:
    with pytest.raises(KdnbError, match=r"\(2, 3\).*\(4, 5\)"):
        losses.sparse_code(noise(2, 3), noise(4, 5), torch.tensor(0.0), keep=1)
    for keep in (0, 6):
        with pytest.raises(KdnbError, match=f"not {keep}"):
            losses.sparse_code(noise(2, 4), noise(4, 5), torch.tensor(0.0), keep=keep)


# -- CKA --------------------------------------------------------------------------------------------------


def _hsic_1(k: np.ndarray, l: np.ndarray) -> float:
    """Song et al. 2012, equation 5, by its sums over different indices."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))
    ones = np.ones(n)
    found = (
        np.trace(k @ l) + ones @ k @ ones * (ones @ l @ ones) / ((n - 1) * (n - 2)) - 2 / (n - 2) * ones @ k @ l @ ones
    )
    return found / (n * (n - 3))


@pytest.mark.parametrize("shapes", [((12, 3), (12, 5)), ((6, 40), (6, 30))])
def test_cka_by_gram_matrices(shapes) -> None:
    """Both ways of computing it, products of features and products of images, against centred Gram matrices."""
    x, y = noise(*shapes[0], seed=1) + 3, noise(*shapes[1], seed=2) - 1
    k, l = (x @ x.mT).numpy(), (y @ y.mT).numpy()
    h = np.eye(len(k)) - 1 / len(k)
    hsic = {(a, b): np.trace(m @ h @ n @ h) for a, m in (("k", k), ("l", l)) for b, n in (("k", k), ("l", l))}
    expected = hsic["k", "l"] / math.sqrt(hsic["k", "k"] * hsic["l", "l"])
    assert losses.linear_cka(x, y).item() == pytest.approx(expected, rel=1e-9)
    expected = _hsic_1(k, l) / math.sqrt(_hsic_1(k, k) * _hsic_1(l, l))
    assert losses.linear_cka(x, y, unbiased=True).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("unbiased", [False, True])
def test_cka_of_a_rotated_scaled_and_moved_copy_is_one(unbiased: bool) -> None:
    x = noise(30, 8, seed=1)
    rotation, _ = torch.linalg.qr(noise(8, 8, seed=2))
    assert losses.linear_cka(x, 5 * x @ rotation + 2, unbiased).item() == pytest.approx(1, abs=1e-9)
    assert losses.linear_cka(x, torch.ones(30, 4, dtype=torch.float64), unbiased).item() == pytest.approx(0, abs=1e-9)


def test_cka_of_independent_gaussians() -> None:
    """Biased: E tr(KL) / (E tr(KK) E tr(LL))^(1/2) = n / (n + d + 1) off by order 1/n of itself; unbiased: 0.

    With x [n, d] centred, K = x x' has E ||x'y||^2 = n d^2 and E ||x'x||^2 = n d (n + d + 1) (n - 1 for n).
    """
    n, d = 128, 512
    x, y = noise(n, d, seed=1), noise(n, d, seed=2)
    assert losses.linear_cka(x, y).item() == pytest.approx(d / (n + d), abs=0.01)
    assert losses.linear_cka(x, y, unbiased=True).item() == pytest.approx(0, abs=0.03)


def test_cka_in_blocks_is_cka() -> None:
    x, y = noise(1500, 2000, seed=1).float(), noise(1500, 2000, seed=2).float()
    y[:, :500] = x[:, :500]
    by_features = ((x - x.mean(0)).mT @ (y - y.mean(0))).square().sum()
    norms = [((z - z.mean(0)).mT @ (z - z.mean(0))).square().sum() for z in (x, y)]
    assert losses.linear_cka(x, y).item() == pytest.approx(
        (by_features / (norms[0] * norms[1]).sqrt()).item(), rel=1e-3
    )


# -- active neurons ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_a_layer_of_equal_directions_has_as_many_active_neurons(shape: tuple[int, int]) -> None:
    """r orthogonal directions of equal energy: with epsilon 0 all r are needed, whichever Gram matrix is smaller."""
    rank = 7
    u, _ = torch.linalg.qr(noise(shape[0], rank, seed=1))
    v, _ = torch.linalg.qr(noise(shape[1], rank, seed=2))
    assert active_neurons(u @ v.mT, epsilon=1e-9) == rank
    assert active_neurons(1e-8 * u @ v.mT) == math.ceil(rank * 0.95**2)


def test_active_neurons_of_a_linear_net_are_its_rank() -> None:
    """c = 1/2 ||W x||^2 has gradient W'W x by its input: W of rank 3, random x."""
    w = noise(9, 3, seed=1) @ noise(3, 20, seed=2)
    gradients = noise(500, 20, seed=3) @ (w.mT @ w)
    assert active_neurons(gradients, epsilon=1e-9) == 3


def test_active_neurons_count_energy_by_its_root() -> None:
    """Energies 81 : 15 : 4: the roots of their shares are 0.9, 0.98 and 1."""
    gradients = torch.diag(torch.tensor([9.0, 15.0**0.5, 2.0]))
    assert [active_neurons(gradients, e) for e in (0.11, 0.09, 0.05, 0.01)] == [1, 2, 2, 3]
    assert active_neurons(torch.zeros(4, 3)) == 0
    with pytest.raises(KdnbError, match="N, D"):
        active_neurons(torch.zeros(4))
