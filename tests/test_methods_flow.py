"""Matching of layers, information flow among them: which layers, how much each weighs, one step of each by loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from method_samples import backward, make_setup, parameters
from method_samples import ready as ready_in
from torch import Tensor, nn
from torch.nn import functional as F

from kdnb import losses, models
from kdnb.errors import KdnbError
from kdnb.methods.matching import Matched, layers_of
from kdnb.methods.recipe import Recipe
from kdnb.methods.stage import Batch, Optimiser, Setup, Stage

RECIPE = Recipe(epochs=50, batch_size=6, lr=1e-3, milestones=(), optimiser="adam", restart="epoch", weight_decay=0.0)


def ready(name: str, teacher: str = "cnn1_a", epoch: float = 0, **given: Any) -> tuple[Stage, Setup, Batch]:
    """Small networks of four layers."""
    return ready_in(name, setup=make_setup(name, teacher, "cnn1", recipe=RECIPE), epoch=epoch, **given)


def features(setup: Setup, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    ours, theirs = [*batch.student.stages, batch.student.embedding], [*batch.teacher.stages, batch.teacher.embedding]
    return [(s.flatten(1), t.flatten(1)) for s, t in zip(ours, theirs, strict=True)]


# -- which layers, and how much each weighs ----------------------------------------------------------------


def test_the_weights_of_inner_layers_fall_epoch_by_epoch():
    """The fact sheet's table: 100, 70, 49, ..., and 1 for the last layer."""
    published = {0: 100, 1: 70, 2: 49, 5: 16.8, 8: 5.76, 10: 2.82, 13: 0.97, 25: 0.0134, 30: 0.00225}
    how = Matched("all", 100.0, 0.7)
    for epoch, weight in published.items():
        last, inner = how.weights(torch.tensor(float(epoch)))
        assert last == 1 and inner.item() == pytest.approx(weight, rel=0.02)
    last, inner = Matched("all", 100.0, 0.7, balanced=True).weights(torch.tensor(3.0))
    assert (last + 3 * inner) / 4 == pytest.approx(1) and inner / last == pytest.approx(34.3)


def test_which_layers_are_matched():
    assert Matched("last", 1, 1).pairs() == [(3, 3)]
    assert Matched("all", 1, 1).pairs() == [(3, 3), (0, 0), (1, 1), (2, 2)]
    assert Matched("third", 1, 1, guide=4).pairs() == [(3, 3), (2, 3)]
    with pytest.raises(KdnbError, match="1 to 4, not 5"):
        Matched("third", 1, 1, guide=5)


def test_layers_have_the_sizes_of_the_published_code():
    with torch.no_grad():
        for name, sizes in (
            ("preact_resnet18", [1024, 2048, 1024, 512]),
            ("cnn1_a", [3600, 1152, 256, 128]),
            ("cnn1", [1800, 576, 128, 64]),
        ):
            network = models.create(name, 10).eval()
            acts = network.activations(torch.randn(2, 3, 32, 32), "embedding")
            assert [layer[0].numel() for layer in layers_of(network, acts)] == sizes


# -- one step of each, by loops ----------------------------------------------------------------------------


def jeffreys(student: Tensor, teacher: Tensor) -> float:
    """Of two matrices of likenesses, rows as probabilities, pair by pair; the diagonal counts."""
    p, q = (k / k.sum(1, keepdim=True) for k in (teacher, student))
    return sum(float((p[i, j] - q[i, j]) * (p[i, j] / q[i, j]).log()) for i in range(len(p)) for j in range(len(p)))


def flow(student: Tensor, teacher: Tensor) -> float:
    cosine = [(F.cosine_similarity(x[:, None], x[None], dim=2) + 1) / 2 for x in (student, teacher)]
    distant = [1 / (1 + torch.cdist(x, x)) for x in (student, teacher)]
    return (jeffreys(*cosine) + jeffreys(*distant)) / len(student) ** 2


def test_information_flow_by_loops():
    stage, setup, batch = ready("information-flow", epoch=2)
    terms = stage.objective(batch)
    *inner, last = [flow(s.double().detach(), t.double()) for s, t in features(setup, batch)]
    assert terms["last"].item() == pytest.approx(last, rel=0.02)  # the code's epsilons, in float32
    assert terms["inner"].item() == pytest.approx(49 * sum(inner), rel=0.02)
    assert set(ready("information-flow", layers="last")[0].objective(batch)) == {"last"}


def test_information_flow_beside_the_labels_weighs_the_same_in_every_epoch():
    for epoch, inner_weight in ((0, 100.0), (2, 49.0)):
        stage, setup, batch = ready("information-flow-joint", epoch=epoch, weight=2.0)
        terms = stage.objective(batch)
        *inner, last = [flow(s.double().detach(), t.double()) for s, t in features(setup, batch)]
        expected = 2 * (last + inner_weight * sum(inner)) / (1 + 3 * inner_weight)
        assert terms["flow"].item() == pytest.approx(expected, rel=0.02)
        assert terms["ce"].item() == pytest.approx(F.cross_entropy(batch.student.logits, batch.labels).item())
    assert parameters(stage.trainable) == parameters([setup.student])


def test_a_layer_of_another_kind_guides_the_third():
    """ResNet's second stage, pooled to 4x4, beside the student's third."""
    stage, _, batch = ready("information-flow", "resnet14", layers="third", guide=2, first_weight=1.0)
    pooled = F.adaptive_avg_pool2d(batch.teacher.stages[1], 4)
    expected = losses.information_flow(batch.student.stages[2], pooled)
    assert stage.objective(batch)["inner"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_is_left_for_the_last_batch_weighs_more_the_smaller_it_is():
    """A mean over pairs of probabilities near 1/B: by eight times where 16 images are left of batches of 128."""
    torch.manual_seed(0)
    student, teacher = torch.rand(128, 20), torch.rand(128, 30)
    for unlike in (losses.pkt, losses.information_flow):
        whole = unlike(student, teacher)
        parts = [unlike(s, t) for s, t in zip(student.split(16), teacher.split(16), strict=True)]
        assert torch.stack(parts).mean() / whole == pytest.approx(8, rel=0.25), unlike.__name__


def test_hint_by_loops():
    """A sum over dimensions, a mean over images; of maps the linear map is one for all places."""
    stage, _, batch = ready("match-hint", layers="all", epoch=1)
    terms = stage.objective(batch)
    maps = stage.modules["maps"]
    assert isinstance(maps, nn.ModuleList)
    assert [tuple(m.weight.shape) for m in maps] == [(128, 64), (16, 8, 1, 1), (32, 16, 1, 1), (64, 32, 1, 1)]
    assert all(m.bias is None for m in maps)
    gaps = [maps[0](batch.student.embedding) - batch.teacher.embedding]
    gaps += [
        torch.einsum("oi,bihw->bohw", m.weight[:, :, 0, 0], s) - t
        for m, s, t in zip(list(maps)[1:], batch.student.stages, batch.teacher.stages, strict=True)
    ]
    last, *inner = [sum(g.square().sum().item() for g in gap) / 6 for gap in gaps]
    assert terms["last"].item() == pytest.approx(last, rel=1e-4)
    assert terms["inner"].item() == pytest.approx(0.7 * sum(inner), rel=1e-4)


@pytest.mark.parametrize("normalised", [True, False])
def test_mkt_by_loops(normalised):
    stage, setup, batch = ready("match-mkt", normalised=normalised)
    s, t = features(setup, batch)[-1]
    if normalised:
        s, t = F.normalize(s), F.normalize(t)
    gaps = [(s[i] - s[j]).norm() - (t[i] - t[j]).norm() for i in range(6) for j in range(6)]
    expected = sum(float(gap) ** 2 for gap in gaps) / 36
    assert stage.objective(batch)["last"].item() == pytest.approx(expected, rel=1e-3)


def test_pkt_is_the_loss_of_its_name():
    stage, setup, batch = ready("match-pkt", layers="all", epoch=3)
    *inner, last = [losses.pkt(s, t).item() for s, t in features(setup, batch)]
    terms = stage.objective(batch)
    assert (terms["last"].item(), terms["inner"].item()) == pytest.approx((last, 0.343 * sum(inner)), rel=1e-4)


def test_contrastive_supervision_stands_beside_or_alone():
    stage, _, batch = ready("information-flow", contrastive_weight=2.0, margin=3.0)
    alone, *_ = ready("contrastive", margin=3.0)
    assert alone.teacher_depth is None
    assert stage.objective(batch)["pairs"].item() == pytest.approx(2 * alone.objective(batch)["pairs"].item())


# -- what learns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["information-flow", "match-pkt", "match-hint", "match-mkt", "contrastive"])
def test_all_but_the_classifier_learns(name):
    given = {} if name == "contrastive" else {"layers": "all"}
    stage, setup, batch = ready(name, **given)
    backward(stage.objective(batch))
    trained, everything = parameters(stage.trainable), parameters(stage.modules.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert everything - trained == set(setup.student.classifier.parameters())
    assert stage.optimiser == Optimiser("adam", 1e-3, restart="epoch") and stage.epochs == 50
