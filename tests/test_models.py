"""Networks: counts against independent ones, the contract of their activations, folding."""

from __future__ import annotations

import csv

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kdnb import models, paths
from kdnb.errors import KdnbError
from kdnb.training.freeze import frozen

with open(paths.reported() / "models.csv", newline="") as stream:
    COUNTS = [line for line in csv.DictReader(stream) if line["model"] in models.names()]

SMALL = [name for name in models.names() if name not in ("resnet110", "resnet32x4")]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("line", COUNTS, ids=lambda line: f"{line['model']}-{line['num_classes']}")
def test_parameters_and_flops_are_those_counted_elsewhere(line):
    network = models.create(line["model"], int(line["num_classes"])).eval()
    assert sum(p.numel() for p in network.parameters()) == int(line["parameters"])
    if line["flops_32x32"]:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 32, 32))
        assert counter.get_total_flops() == pytest.approx(int(line["flops_32x32"]), rel=0.01)


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("side", [16, 32])
def test_activations_have_the_promised_shapes(name, side):
    network = models.create(name, 10).eval()
    with torch.no_grad():
        acts = network.activations(torch.randn(2, 3, side, side))
    assert acts.stem.shape == (2, network.stem_width, side, side)
    assert [s.shape[1] for s in acts.stages] == list(network.stage_widths)
    assert [p.shape for p in acts.preactivations] == [s.shape for s in acts.stages]
    assert acts.embedding.shape == (2, network.embedding_width)
    assert acts.logits.shape == (2, 10)
    assert all(a.shape[2] >= b.shape[2] for a, b in zip(acts.stages, acts.stages[1:], strict=False))


@pytest.mark.parametrize("name", [n for n in SMALL if n.startswith("resnet")])
def test_a_stage_is_its_preactivation_after_relu(name):
    acts = models.create(name, 10).activations(torch.randn(2, 3, 16, 16))
    for stage, preactivation in zip(acts.stages, acts.preactivations, strict=True):
        assert torch.equal(stage, preactivation.relu())
        assert preactivation.min() < 0


@pytest.mark.parametrize("name", SMALL)
def test_a_shallower_forward_gives_the_same_maps_and_runs_only_its_trunk(name):
    network = models.create(name, 10).eval()
    images = torch.randn(2, 3, 16, 16)
    whole = network.activations(images)
    for depth in [*range(len(network.stages) + 1), "embedding", "logits"]:
        trunk = {id(module) for part in network.trunk(depth) for module in part.modules()}
        ran: set[int] = set()
        hooks = [m.register_forward_hook(lambda m, i, o, ran=ran: ran.add(id(m))) for m in network.modules()]
        acts = network.activations(images, depth)
        for hook in hooks:
            hook.remove()
        assert ran <= trunk
        assert all(torch.equal(a, b) for a, b in zip(acts.stages, whole.stages, strict=False))
        assert len(acts.stages) == (depth if isinstance(depth, int) else len(network.stages))
        assert (acts.logits is not None) == (depth == "logits")
        if not isinstance(depth, int):
            assert torch.equal(acts.embedding, whole.embedding)


@pytest.mark.parametrize("name", SMALL)
def test_folded_batch_norms_change_nothing_in_eval(name):
    network = models.create(name, 10)
    for _ in range(3):  # running statistics of their own
        network(1 + 2 * torch.randn(16, 3, 16, 16))
    folded = frozen(network, torch.device("cpu"), torch.float32)
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(folded(images), network.eval()(images), atol=1e-4, rtol=1e-4)
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules()) == 0
    assert not any(p.requires_grad for p in folded.parameters())


def test_initialisation_is_kaiming_fan_out():
    weight = models.create("resnet56", 100).stages[2][1].first.conv.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)


def test_an_unknown_network_names_the_nearest():
    with pytest.raises(KdnbError, match="resnet20"):
        models.create("resnet21")
