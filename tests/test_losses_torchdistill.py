"""Losses against torchdistill, another library's implementations, where these are right.

Read before they were trusted (1.1.5): SPKDLoss normalises rows by their L1 norm (the 1 it means as the axis
is taken as the order), so that it is not used; KDLoss without `alpha` leaves out T^2; FSPLoss sums norms of columns
where the study takes mean squares, so that only its Gram matrices are compared, at equal sizes (it pools by
maxima); CRDLoss by itself draws negatives with replacement and from any class, so that it is given ours.
The others compute what the papers' own code computes.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdnb import losses

mid_level = pytest.importorskip("torchdistill.losses.mid_level")

BATCH = 6


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(module: torch.nn.Module, student: Tensor, teacher: Tensor, **more: Tensor) -> float:
    """Their losses read a dictionary of a layer's output; here the layer is called `x`."""
    return module({"x": {"output": student}}, {"x": {"output": teacher}}, **more).item()


def pair(factor: float = 1) -> dict[str, dict[str, object]]:
    end = {"path": "x", "io": "output"}
    return {"pair": {"student": end, "teacher": end, "weight": factor}}


def test_kd() -> None:
    s, t = noise(BATCH, 9, seed=1), noise(BATCH, 9, seed=2)
    labels = torch.arange(BATCH)
    theirs = mid_level.KDLoss("x", "output", "x", "output", temperature=4.0, alpha=0.3)
    ours = 0.3 * losses.cross_entropy(s, labels) + 0.7 * losses.kd(s, t, 4.0)
    assert ours.item() == pytest.approx(run(theirs, s, t, targets=labels), rel=1e-9)


def test_attention() -> None:
    s, t = noise(BATCH, 3, 4, 5, seed=1), noise(BATCH, 7, 4, 5, seed=2)
    assert losses.attention([s], [t]).item() == pytest.approx(run(mid_level.ATLoss(pair(), "code"), s, t), rel=1e-9)


def test_pkt() -> None:
    s, t = noise(BATCH, 9, seed=1), noise(BATCH, 4, seed=2)
    theirs = mid_level.PKTLoss("x", "output", "x", "output")
    assert losses.pkt(s, t).item() == pytest.approx(run(theirs, s, t), rel=1e-9)


def test_rkd() -> None:
    s, t = noise(BATCH, 9, seed=1), noise(BATCH, 4, seed=2)
    theirs = mid_level.RKDLoss("x", "x", dist_factor=25, angle_factor=50, reduction="mean")
    assert losses.rkd(s, t).item() == pytest.approx(run(theirs, s, t), rel=1e-9)


@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_hierarchical_context(side: int) -> None:
    s, t = noise(BATCH, 3, side, side, seed=1), noise(BATCH, 3, side, side, seed=2)
    theirs = mid_level.HierarchicalContextLoss("x", "output", "x", "output")
    theirs_value = theirs({"x": {"output": (s, None)}}, {"x": {"output": t}}).item()
    assert losses.hierarchical_context([s], [t]).item() == pytest.approx(theirs_value, rel=1e-9)


def test_fsp_gram_matrices() -> None:
    s = [noise(BATCH, 3, 4, 5, seed=1), noise(BATCH, 2, 4, 5, seed=2)]
    t = [noise(BATCH, 3, 4, 5, seed=3), noise(BATCH, 2, 4, 5, seed=4)]
    gap = mid_level.FSPLoss.compute_fsp_matrix(*s) - mid_level.FSPLoss.compute_fsp_matrix(*t)
    assert losses.fsp(s, t).item() == pytest.approx(gap.square().mean().item(), rel=1e-9)


def test_contrastive_over_three_steps() -> None:
    """Loss, gradient and both banks, step after step, on the same negatives."""
    labels = torch.arange(40) % 5
    torch.manual_seed(0)
    ours = losses.Contrastive(9, 4, labels, negatives=12, width=8, batch_size=BATCH)
    theirs = mid_level.CRDLoss("s", "e", "t", 8, 40, num_negative_samples=12, num_samples=40)
    theirs.memory_v1.copy_(ours.student_bank)
    theirs.memory_v2.copy_(ours.teacher_bank)
    for step in range(3):
        indices = torch.randperm(40)[:BATCH]
        student, teacher = torch.randn(BATCH, 9, requires_grad=True), torch.randn(BATCH, 4)
        draws = ours.draw(torch.Generator().manual_seed(step), BATCH)
        given = (student, teacher, labels[indices], indices, draws)
        if step == 0:
            ours.calibrate(*given)
        value = ours(*given)
        (slope,) = torch.autograd.grad(value, student)
        e_s, e_t = ours.project(student, teacher)
        chosen = torch.cat([indices[:, None], ours.negative_indices(labels[indices], draws)], dim=1)
        their_value = theirs(
            {"s": {"output": e_s}, "e": {"input": {"pos_idx": indices, "contrast_idx": chosen}}},
            {"t": {"output": e_t}},
        ).squeeze()
        (their_slope,) = torch.autograd.grad(their_value, student)
        ours.remember(indices)
        assert value.item() == pytest.approx(their_value.item(), rel=1e-5)
        torch.testing.assert_close(slope, their_slope, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(ours.student_bank, theirs.memory_v1)
        torch.testing.assert_close(ours.teacher_bank, theirs.memory_v2)
