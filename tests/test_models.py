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

#: One of each family and shape; deeper and wider ones differ in their counts alone.
SMALL = ["resnet8", "resnet20", "resnet8x4", "wrn_16_1", "wrn_16_2", "vgg8", "vgg13", "mobilenet_v2"]
SMALL += ["shufflenet_v1", "shufflenet_v2"]


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


#: Side of each map at 32x32, as the distillation benchmarks have them.
SIDES = {
    "resnet8": (32, 32, 16, 8),
    "resnet8x4": (32, 32, 16, 8),
    "resnet50": (32, 32, 16, 8, 4),
    "wrn_16_2": (32, 32, 16, 8),
    "vgg8": (32, 16, 8, 4, 4),
    "mobilenet_v2": (16, 16, 8, 4, 2),
    "shufflenet_v1": (32, 16, 8, 4),
    "shufflenet_v2": (32, 16, 8, 4),
}
WIDTHS = {
    "resnet8x4": (32, 64, 128, 256, 256),
    "resnet50": (64, 256, 512, 1024, 2048, 2048),
    "wrn_16_2": (16, 32, 64, 128, 128),
    "vgg8": (64, 128, 256, 512, 512, 512),
    "mobilenet_v2": (16, 12, 16, 48, 160, 1280),
    "shufflenet_v1": (24, 240, 480, 960, 960),
    "shufflenet_v2": (24, 116, 232, 464, 1024),
}


@pytest.mark.parametrize("name", SIDES)
def test_maps_have_the_benchmarks_sides_and_widths(name):
    with torch.no_grad():
        acts = models.create(name, 10).eval().activations(torch.zeros(1, 3, 32, 32))
    assert tuple(m.shape[2] for m in [acts.stem, *acts.stages]) == SIDES[name]
    if name in WIDTHS:
        assert (*(m.shape[1] for m in [acts.stem, *acts.stages]), acts.embedding.shape[1]) == WIDTHS[name]


@pytest.mark.parametrize("name", [*SMALL, "resnet50"])
@pytest.mark.parametrize("side", [16, 32])
def test_activations_have_the_promised_shapes(name, side):
    network = models.create(name, 10).eval()
    with torch.no_grad():
        acts = network.activations(torch.randn(2, 3, side, side))
    assert acts.stem.shape[:2] == (2, network.stem_width)
    assert [s.shape[1] for s in acts.stages] == list(network.stage_widths)
    assert [p.shape for p in acts.preactivations] == [s.shape for s in acts.stages]
    assert acts.embedding.shape == (2, network.embedding_width)
    assert acts.logits.shape == (2, 10)
    assert all(a.shape[2] >= b.shape[2] for a, b in zip(acts.stages, acts.stages[1:], strict=False))


@pytest.mark.parametrize("name", ["resnet8", "resnet8x4", "resnet50", "vgg8", "shufflenet_v1", "shufflenet_v2"])
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
    left = sum(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    # Only a wide net has norms that do not follow a convolution.
    assert (left > 0) == name.startswith("wrn")
    assert not any(p.requires_grad for p in folded.parameters())


def test_a_wide_nets_preactivation_is_the_norm_that_follows_and_runs_once():
    network = models.create("wrn_16_2", 10)
    images = torch.randn(4, 3, 16, 16)
    acts = network.activations(images)
    norms = network.margin_norms()
    for stage, preactivation, norm in zip(acts.stages, acts.preactivations, norms, strict=True):
        assert int(norm.num_batches_tracked) == 1
        assert torch.allclose(norm(stage), preactivation, atol=1e-5)
    network.eval()
    acts = network.activations(images)
    assert torch.allclose(acts.embedding, acts.preactivations[-1].relu().mean((2, 3)), atol=1e-6)


@pytest.mark.parametrize("name", ["resnet8", "resnet50", "wrn_16_2", "vgg8"])
def test_a_margin_norm_belongs_to_each_stage(name):
    network = models.create(name, 10)
    assert [norm.num_features for norm in network.margin_norms()] == list(network.stage_widths)


def test_a_family_without_margins_says_so():
    with pytest.raises(KdnbError, match="another teacher"):
        models.create("mobilenet_v2", 10).margin_norms()


def test_initialisation_is_kaiming_fan_out():
    weight = models.create("resnet56", 100).stages[2][1].first.conv.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)


def test_an_unknown_network_names_the_nearest():
    with pytest.raises(KdnbError, match="resnet20"):
        models.create("resnet21")
