"""What is learned from how images lie to each other: likenesses, distances and angles, kernels, contrast."""

from __future__ import annotations

import math

import pytest
import torch
from method_samples import COUNT, SIZE, make_batch, make_setup, parameters, ready, stages
from torch import Tensor
from torch.nn import functional as F

from kdnb import losses
from kdnb.methods.stage import Optimiser


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


def test_pkts_kernel() -> None:
    stage, setup, batch = ready("pkt", 0)
    assert stage.optimiser == Optimiser("adam", 1e-4)
    assert (stage.epochs, stage.batch_size, stage.schedule.milestones) == (500, 128, ())
    assert stage.selection is not None and not stage.selection.highest and stage.selection.patience == 100
    assert batch.student.embedding is not None and batch.teacher.embedding is not None
    expected = losses.pkt(batch.student.embedding, batch.teacher.embedding)
    assert stage.objective(batch)["kernel"].item() == expected.item()
    left = parameters([setup.student]) - parameters(stage.trainable)
    assert left == parameters([setup.student.classifier])


def test_crds_step() -> None:
    stage, setup, batch = ready("crd")
    contrast = stage.modules["contrast"]
    assert isinstance(contrast, losses.Contrastive)
    assert contrast.negatives == COUNT - 6  # 4,096 asked for; a class of 6 meets 24 others
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
        setup = make_setup("crd", seed=seed)
        stage = stages("crd", setup)[0]
        batch = make_batch(stage, setup, seed)
        assert stage.prepare is not None
        with torch.no_grad():
            stage.prepare([batch])
            values.append(stage.objective(batch)["crd"].item() / 0.8)
    sigma = 1 / (0.07 * math.sqrt(128))
    assert sum(values) / 8 == pytest.approx(2 * (math.log(24) + sigma**2 / 2 + 1), rel=0.25)


def test_crd_without_banks() -> None:
    stage, _, batch = ready("crd", in_batch=True)
    contrast = stage.modules["contrast"]
    assert isinstance(contrast, losses.InBatchContrastive)
    assert stage.draws is None and stage.after_step is None
    expected = 0.8 * contrast(batch.student.embedding, batch.teacher.embedding, batch.labels)
    assert stage.objective(batch)["crd"].item() == pytest.approx(expected.item(), rel=1e-6)
