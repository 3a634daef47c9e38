"""Networks: counts made elsewhere, torchvision's functions, the contract of their activations, folding."""

from __future__ import annotations

import csv
import functools
import math
import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock as TheirBasicBlock
from torchvision.models.resnet import Bottleneck as TheirBottleneck

from kdnb import models, paths
from kdnb.errors import KdnbError
from kdnb.models.mobilenet import Bottleneck as LinearBottleneck
from kdnb.models.network import ConvNorm, Network, conv_norm
from kdnb.models.resnet import BasicBlock
from kdnb.models.shufflenet import UnitV1, shuffle
from kdnb.models.wrn import Group
from kdnb.training.freeze import frozen

with open(paths.reported() / "models.csv", newline="") as stream:
    COUNTS = list(csv.DictReader(stream))

#: One of each family and shape; deeper and wider ones differ in their counts alone.
FAMILIES = [
    *("resnet8", "resnet8x4", "resnet50", "wrn_16_1", "wrn_16_2", "vgg8", "vgg13", "mobilenet_v1", "mobilenet_v2"),
    *("shufflenet_v1", "shufflenet_v2", "densenet121", "allcnn", "cnn1", "preact_resnet18"),
]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@functools.cache
def on_meta(name, num_classes=10, side=32):
    """A network without weights, and what it would give for one image: shapes cost nothing."""
    with torch.device("meta"), torch.no_grad():
        network = models.create(name, num_classes).eval()
        return network, network.activations(torch.zeros(1, 3, side, side))


def flops_of(network):
    """Multiplications and additions, each counted, of one image of 32x32; of a network on meta."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 32, 32))
    return counter.get_total_flops()


def trained_a_little(name):
    """Weights as created, running statistics of their own."""
    network = models.create(name, 10)
    with torch.no_grad():
        for _ in range(2):
            network(1 + 2 * torch.randn(8, 3, 16, 16))
    return network


def maps_of(acts):
    found = [acts.stem, *acts.stages, *acts.preactivations, acts.embedding, acts.logits]
    return [tensor for tensor in found if tensor is not None]


# Counts


@pytest.mark.parametrize("line", COUNTS, ids=lambda line: f"{line['model']}-{line['num_classes']}")
def test_parameters_and_flops_are_those_counted_elsewhere(line):
    network, acts = on_meta(line["model"], int(line["num_classes"]))
    assert sum(p.numel() for p in network.parameters()) == int(line["parameters"])
    assert acts.logits.shape == (1, int(line["num_classes"]))
    if line["flops_32x32"]:
        assert flops_of(network) == pytest.approx(int(line["flops_32x32"]), rel=0.01)


@pytest.mark.parametrize(("name", "millions"), [("densenet121", 888), ("allcnn", 160.4)])
def test_multiply_adds_are_those_of_srms_networks(name, millions):
    assert flops_of(on_meta(name, 100)[0]) / 2 == pytest.approx(millions * 1e6, rel=0.01)


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        # Widths that were published nowhere, and what was chosen for them.
        ("cnn1_l", 10, 6_442),
        ("cnn1_h", 10, 227_594),
        ("cnn1", 100, 20_900),
        ("cnn1_a", 100, 69_604),
        ("densenet121", 10, 6_966_538),
        ("allcnn", 10, 2_159_553),
    ],
)
def test_parameters_the_table_of_counts_leaves_out(name, classes, parameters):
    assert sum(p.numel() for p in on_meta(name, classes)[0].parameters()) == parameters


def test_every_network_is_counted():
    assert {line["model"] for line in COUNTS} | {"cnn1_l", "cnn1_h"} == set(models.names())


# Shapes


#: Channels and side of the stem and of each stage at 32x32, then the width of the embedding.
BASIC = ((16, 32), (16, 32), (32, 16), (64, 8), 64)
TIMES4 = ((32, 32), (64, 32), (128, 16), (256, 8), 256)
VGG = ((64, 32), (128, 16), (256, 8), (512, 4), (512, 4), 512)
SHAPES = {
    **{f"resnet{depth}": BASIC for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{"resnet8x4": TIMES4, "resnet32x4": TIMES4, "vgg8": VGG, "vgg11": VGG, "vgg13": VGG},
    "resnet110a": BASIC,
    "vgg13_pool4": (*VGG[:4], (512, 2), 512),
    "resnet50": ((64, 32), (256, 32), (512, 16), (1024, 8), (2048, 4), 2048),
    **{
        f"wrn_{depth}_{k}": ((16, 32), (16 * k, 32), (32 * k, 16), (64 * k, 8), 64 * k)
        for depth, k in ((16, 1), (16, 2), (40, 1), (40, 2), (40, 4), (46, 4), (28, 10))
    },
    "mobilenet_v1": ((32, 32), (128, 32), (256, 16), (1024, 8), 1024),
    "mobilenet_v2": ((16, 16), (12, 16), (16, 8), (48, 4), (160, 2), 1280),
    "shufflenet_v1": ((24, 32), (240, 16), (480, 8), (960, 4), 960),
    "shufflenet_v2": ((24, 32), (116, 16), (232, 8), (464, 4), 1024),
    "densenet121": ((64, 32), (128, 16), (256, 8), (1024, 4), 1024),
    "allcnn": ((63, 32), (63, 16), (126, 8), (253, 4), 253),
    "cnn1": ((8, 30), (8, 15), (16, 6), (32, 2), 64),
    "cnn1_a": ((16, 30), (16, 15), (32, 6), (64, 2), 128),
    "cnn1_l": ((4, 30), (4, 15), (8, 6), (16, 2), 64),
    "cnn1_h": ((32, 30), (32, 15), (64, 6), (128, 2), 256),
    "preact_resnet18": ((64, 32), (64, 32), (128, 16), (256, 8), (512, 4), 512),
}


@pytest.mark.parametrize("name", models.names())
def test_maps_have_the_published_widths_and_sides(name):
    network, acts = on_meta(name)
    *maps, embedding = SHAPES[name]
    assert [tuple(m.shape[1:]) for m in [acts.stem, *acts.stages]] == [(c, side, side) for c, side in maps]
    assert [p.shape for p in acts.preactivations] == [s.shape for s in acts.stages]
    assert acts.embedding.shape == (1, embedding)
    assert (network.stem_width, *network.stage_widths) == tuple(c for c, _ in maps)
    assert network.embedding_width == embedding == network.classifier.in_features
    assert len(network.stages) == len(maps) - 1


@pytest.mark.parametrize("name", [*FAMILIES, "cnn1_a", "cnn1_l", "cnn1_h"])
def test_images_of_16x16_have_maps_of_half_the_side(name):
    _, small = on_meta(name, side=16)
    _, large = on_meta(name)
    if name.startswith("cnn1"):  # padded there, else nothing would be left
        assert [m.shape[-1] for m in [small.stem, *small.stages]] == [16, 8, 4, 2]
    else:
        assert [2 * m.shape[-1] for m in small.stages] == [m.shape[-1] for m in large.stages]
    assert small.embedding.shape == large.embedding.shape


@pytest.mark.parametrize("shape", [(24, 24), (8, 8), (32, 16)])
def test_an_image_too_small_for_cnn1_is_said(shape):
    with pytest.raises(KdnbError, match=f"{shape[0]}x{shape[1]}"):
        models.create("cnn1", 10)(torch.zeros(1, 3, *shape))


# Functions


def adopt(ours, theirs):
    """Give our module the weights and statistics of theirs, in their order."""
    mine, other = list(ours.state_dict().values()), list(theirs.state_dict().values())
    assert [tuple(t.shape) for t in mine] == [tuple(t.shape) for t in other]
    for target, source in zip(mine, other, strict=True):
        target.copy_(source)


@torch.no_grad()
def lively(module):
    """Norms as training would leave them: weights, shifts and statistics that all differ."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.3)
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 1.5)
    return module.eval()


def their_resnet50():
    net = torchvision.models.resnet.ResNet(TheirBottleneck, [3, 4, 6, 3], num_classes=10)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return net


def their_shufflenet():
    net = torchvision.models.ShuffleNetV2([4, 8, 4], [24, 116, 232, 464, 1024], num_classes=10)
    net.conv1[0], net.maxpool = nn.Conv2d(3, 24, 1, bias=False), nn.Identity()
    return net


def their_vgg13():
    net = torchvision.models.vgg13_bn(num_classes=10)
    features = list(net.features)
    pools = [i for i, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)]
    kept = [layer for i, layer in enumerate(features) if i not in pools[3:]]
    return nn.Sequential(*kept, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


THEIRS = {"resnet50": their_resnet50, "shufflenet_v2": their_shufflenet, "vgg13": their_vgg13}


@pytest.mark.parametrize("name", THEIRS)
@torch.no_grad()
def test_networks_are_torchvisions_with_a_stem_for_small_images(name):
    theirs = lively(THEIRS[name]())
    ours = models.create(name, 10).eval()
    adopt(ours, theirs)
    images = torch.randn(2, 3, 32, 32)
    expected = theirs(images)
    assert expected.std() > 0
    assert torch.allclose(ours(images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(6, 6, 1), (6, 12, 2)])
@torch.no_grad()
def test_a_basic_block_is_torchvisions(inputs, outputs, stride):
    shortcut = None
    if stride == 2:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    theirs = lively(TheirBasicBlock(inputs, outputs, stride, shortcut))
    ours = BasicBlock(inputs, outputs, stride).eval()
    adopt(ours, theirs)
    features = torch.randn(2, inputs, 8, 8)
    assert torch.allclose(F.relu(ours(features)), theirs(features), atol=1e-5)


@torch.no_grad()
def test_a_padded_shortcut_puts_every_second_place_in_the_middle_channels():
    block = lively(BasicBlock(6, 12, 2, padded=True))
    block.second.norm.weight.zero_()
    block.second.norm.bias.zero_()
    features = torch.randn(2, 6, 8, 8)
    given = block(features)
    assert torch.equal(given[:, 3:9], features[:, :, ::2, ::2])
    assert given[:, :3].abs().max() == given[:, 9:].abs().max() == 0


@torch.no_grad()
def test_a_pool_before_the_last_block_is_all_that_tells_vgg13_pool4_from_vgg13():
    ours, pooled = lively(models.create("vgg13", 10)), models.create("vgg13_pool4", 10).eval()
    adopt(pooled, ours)
    images = torch.randn(2, 3, 32, 32)
    one, other = ours.activations(images), pooled.activations(images)
    assert all(torch.equal(a, b) for a, b in zip(one.stages[:-1], other.stages[:-1], strict=True))
    last = ours.stages[-1](F.max_pool2d(one.stages[-2], 2))
    assert torch.allclose(other.preactivations[-1], last, atol=1e-4)


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(6, 6, 1), (6, 12, 1), (6, 6, 2)])
@torch.no_grad()
def test_a_linear_bottleneck_is_torchvisions_with_a_plain_relu(inputs, outputs, stride):
    theirs = lively(InvertedResidual(inputs, outputs, stride, 6))
    for layer in theirs.conv[:2]:
        layer[2] = nn.ReLU()
    ours = LinearBottleneck(inputs, outputs, 6, stride).eval()
    adopt(ours, theirs)
    features = 10 * torch.randn(2, inputs, 8, 8)
    assert torch.allclose(ours(features), theirs(features), atol=1e-4)


def test_mobilenet_v2_has_no_relu6_and_keeps_its_first_expansion():
    network = models.create("mobilenet_v2", 10)
    assert network.stages[0][0].expand.conv.out_channels == 16
    assert network.eval().run_stem(1000 * torch.randn(2, 3, 16, 16)).max() > 6


def test_channels_are_shuffled_as_torch_does():
    features = torch.randn(2, 12, 3, 3)
    for layout in (torch.contiguous_format, torch.channels_last):
        given = features.to(memory_format=layout)
        assert torch.equal(shuffle(given, 3), nn.ChannelShuffle(3)(features))
    assert shuffle(given, 3).is_contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def test_a_unit_of_shufflenet_v1_adds_or_puts_beside():
    unit = lively(UnitV1(24, 240, 2, groups=3))
    features = torch.randn(2, 24, 8, 8)
    assert unit.reduce.conv.groups == 1 and unit.restore.conv.groups == 3  # few inputs are not grouped
    assert torch.equal(unit(features)[:, -24:], F.avg_pool2d(features, 3, 2, padding=1))
    unit = lively(UnitV1(240, 240, 1, groups=3))
    unit.restore.norm.weight.zero_()
    unit.restore.norm.bias.zero_()
    features = torch.randn(2, 240, 4, 4)
    assert unit.reduce.conv.groups == 3
    assert torch.equal(unit(features), features)


def wide_reference(network, images):
    """A wide net written out: groups of (norm, ReLU, convolution, norm, ReLU, convolution) and a final norm."""
    raw = F.conv2d(images, network.stem.weight, padding=1)
    norm = network.stages[0].before
    outputs = []
    for group, stride in zip(network.stages, (1, 2, 2), strict=True):
        for i, (block, following) in enumerate(zip(group.blocks, group.norms, strict=True)):
            step = stride if i == 0 else 1
            activated = F.relu(norm(raw))
            hidden = F.conv2d(activated, block.first.conv.weight, stride=step, padding=1)
            branch = F.conv2d(F.relu(block.first.norm(hidden)), block.second.weight, padding=1)
            if block.first.conv.in_channels != block.second.out_channels:
                raw = branch + F.conv2d(activated, block.shortcut.weight, stride=step)
            else:
                raw = branch + raw
            norm = following
        outputs.append((raw, norm(raw)))
    return outputs, network.classifier(F.relu(norm(raw)).mean((2, 3)))


@pytest.mark.parametrize("name", ["wrn_16_1", "wrn_16_2"])
@torch.no_grad()
def test_a_wide_net_is_its_definition(name):
    network = lively(models.create(name, 10))
    assert [group.blocks[0].shortcut is None for group in network.stages] == [name == "wrn_16_1", False, False]
    images = torch.randn(2, 3, 16, 16)
    acts = network.activations(images)
    expected, logits = wide_reference(network, images)
    for stage, preactivation, (raw, normed) in zip(acts.stages, acts.preactivations, expected, strict=True):
        assert torch.allclose(stage, raw, atol=1e-4) and torch.allclose(preactivation, normed, atol=1e-4)
    assert torch.allclose(acts.logits, logits, atol=1e-4)


def test_a_wide_nets_norms_run_once():
    network = models.create("wrn_16_2", 10)
    network(torch.randn(4, 3, 16, 16))
    assert {int(m.num_batches_tracked) for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {1}
    assert isinstance(network.stages[2], Group) and network.margin_norms()[2] is network.stages[2].norms[1]


@torch.no_grad()
def test_a_preactivation_block_adds_its_activated_input_and_ends_raw():
    network = lively(models.create("preact_resnet18", 10))
    same, changed = network.stages[0][1], network.stages[1][0]
    features = torch.randn(2, 64, 8, 8)
    activated = F.relu(same.norm(features))
    for block, beside in (
        (same, activated),
        (changed, F.conv2d(F.relu(changed.norm(features)), changed.shortcut.weight, stride=2)),
    ):
        block.second.weight.zero_()
        assert torch.allclose(block(features), beside, atol=1e-6)
    acts = network.activations(torch.randn(2, 3, 16, 16))
    assert torch.allclose(acts.embedding, acts.stages[-1].mean((2, 3)), atol=1e-6)
    assert acts.embedding.min() < 0 < acts.embedding.max()


@torch.no_grad()
def test_a_dense_layer_puts_what_it_adds_in_front():
    network = lively(models.create("densenet121", 10))
    layer, transition = network.stages[0][0], network.stages[0][-1]
    features = torch.randn(2, 64, 8, 8)
    inner = F.conv2d(F.relu(layer.norm(features)), layer.reduce.conv.weight, layer.reduce.conv.bias)
    new = F.conv2d(F.relu(layer.reduce.norm(inner)), layer.grow.weight, layer.grow.bias, padding=1)
    assert torch.allclose(layer(features), torch.cat([new, features], 1), atol=1e-4)
    features = torch.randn(2, 256, 8, 8)
    mixed = F.conv2d(F.relu(transition.norm(features)), transition.conv.weight, transition.conv.bias)
    assert torch.allclose(transition(features), F.avg_pool2d(mixed, 2), atol=1e-4)
    assert [len(stage) for stage in network.stages] == [7, 13, 24 + 1 + 16]
    acts = network.activations(torch.randn(2, 3, 16, 16))
    assert torch.allclose(acts.embedding, F.relu(network.last(acts.stages[-1])).mean((2, 3)), atol=1e-5)


@torch.no_grad()
def test_cnn1_is_its_definition():
    network = lively(models.create("cnn1", 10))
    features = images = torch.randn(2, 3, 32, 32)
    expected = []
    for layer in (network.stem, network.stages[1], network.stages[2]):
        features = F.max_pool2d(F.relu(layer.norm(F.conv2d(features, layer.conv.weight, layer.conv.bias))), 2)
        expected.append(features)
    acts = network.activations(images)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(acts.stages, expected, strict=True))
    hidden = F.relu(F.linear(features.reshape(2, -1), network.hidden.weight, network.hidden.bias))
    assert torch.allclose(acts.embedding, hidden, atol=1e-5)
    assert torch.allclose(acts.logits, network.classifier(hidden), atol=1e-5)


# Activations


class Plain(Network):
    """What a network must give, and no more."""

    def __init__(self):
        super().__init__()
        self.stem_width, self.stage_widths, self.embedding_width, self.num_classes = 4, (6, 8), 8, 3
        self.stem = conv_norm(3, 4, 3)
        stages = [nn.Sequential(conv_norm(4, 6, 3), conv_norm(6, 6, 3)), nn.ModuleList([conv_norm(6, 8, 3, 2)])]
        self.stages = nn.ModuleList(stages)
        self.classifier = nn.Linear(8, 3)


@torch.no_grad()
def test_a_network_has_relus_and_a_mean_by_default():
    network = lively(Plain())
    images = torch.randn(2, 3, 8, 8)
    stem = F.relu(network.stem(images))
    (first, second), (third,) = network.stages
    before = [second(F.relu(first(stem)))]
    before.append(third(F.relu(before[0])))
    embedding = F.relu(before[1]).mean((2, 3))
    expected = [stem, *map(F.relu, before), *before, embedding, network.classifier(embedding)]
    for a, b in zip(maps_of(network.activations(images)), expected, strict=True):
        assert torch.equal(a, b)
    assert network.trunk("embedding") == [network.stem, *network.stages]
    with pytest.raises(KdnbError, match="Plain has no batch norms"):
        network.margin_norms()


RECTIFIED = ["resnet8", "resnet8x4", "resnet50", "vgg8", "mobilenet_v1", "shufflenet_v1", "shufflenet_v2", "cnn1"]


@pytest.mark.parametrize("name", RECTIFIED)
def test_a_stage_is_its_preactivation_after_relu(name):
    acts = models.create(name, 10).activations(torch.randn(2, 3, 16, 16))
    for stage, preactivation in zip(acts.stages, acts.preactivations, strict=True):
        assert torch.equal(stage, preactivation.relu())
        assert preactivation.min() < 0
    assert acts.stem.min() == 0


def test_a_stage_of_allcnn_is_its_preactivation_after_leaky_relu():
    acts = models.create("allcnn", 10).activations(torch.randn(2, 3, 16, 16))
    for stage, preactivation in zip(acts.stages, acts.preactivations, strict=True):
        assert torch.equal(stage, torch.maximum(preactivation, 0.1 * preactivation))
        assert preactivation.min() < 0
    assert acts.stem.min() < 0


@pytest.mark.parametrize("name", ["mobilenet_v2", "densenet121", "preact_resnet18"])
def test_a_stage_that_ends_without_relu_is_its_own_preactivation(name):
    acts = models.create(name, 10).activations(torch.randn(2, 3, 16, 16))
    for stage, preactivation in zip(acts.stages, acts.preactivations, strict=True):
        assert torch.equal(stage, preactivation)
        assert stage.min() < 0


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_shallower_forward_gives_the_same_maps_and_runs_its_trunk_and_no_more(name):
    network = models.create(name, 10).eval()
    images = torch.randn(2, 3, 16, 16)
    whole = network.activations(images)
    learned = {id(m) for m in network.modules() if list(m.parameters(recurse=False))}
    ran: set[int] = set()
    for module in network.modules():
        module.register_forward_hook(lambda module, given, got: ran.add(id(module)))
    for depth in [*range(len(network.stages) + 1), "embedding", "logits"]:
        ran.clear()
        acts = network.activations(images, depth)
        trunk = {id(module) for part in network.trunk(depth) for module in part.modules()}
        assert ran <= trunk
        assert ran & learned == trunk & learned  # what a stage may train gets a gradient
        stages = depth if isinstance(depth, int) else len(network.stages)
        assert len(acts.stages) == len(acts.preactivations) == stages
        assert (acts.embedding is not None) == (not isinstance(depth, int))
        assert (acts.logits is not None) == (depth == "logits")
        # A layer that wrote into the map before it would show here.
        kept = [whole.stem, *whole.stages[:stages], *whole.preactivations[:stages], whole.embedding, whole.logits]
        assert all(torch.equal(a, b) for a, b in zip(maps_of(acts), kept, strict=False))
    assert torch.equal(network(images), whole.logits)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_the_layout_of_memory_changes_nothing(name):
    network = trained_a_little(name).eval()
    images = torch.randn(2, 3, 16, 16)
    expected = maps_of(network.activations(images))
    network.to(memory_format=torch.channels_last)
    found = maps_of(network.activations(images.to(memory_format=torch.channels_last)))
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4 * max(1.0, float(b.abs().max())))


#: Batch norms that do not follow a convolution at once; all others are folded into theirs.
UNFOLDED = {"wrn_16_1": 7, "wrn_16_2": 7, "densenet121": 58 + 3 + 1, "preact_resnet18": 8}


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_folded_batch_norms_change_nothing_in_eval(name):
    network = trained_a_little(name)
    folded = frozen(network, torch.device("cpu"), torch.float32)
    images = torch.randn(4, 3, 16, 16)
    for a, b in zip(maps_of(folded.activations(images)), maps_of(network.eval().activations(images)), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4 * max(1.0, float(b.abs().max())))
    left = [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(left) == UNFOLDED.get(name, 0)
    assert any(isinstance(m, ConvNorm) for m in network.modules())
    assert not any(p.requires_grad for p in folded.parameters())


# Margins


@pytest.mark.parametrize("name", ["resnet8", "resnet50", "wrn_16_2", "vgg8", "vgg13", "mobilenet_v1"])
@torch.no_grad()
def test_a_margin_norm_is_the_last_one_before_its_stages_relu(name):
    network = lively(models.create(name, 10))
    norms = network.margin_norms()
    assert [norm.num_features for norm in norms] == list(network.stage_widths)
    images = torch.randn(2, 3, 16, 16)
    before = network.activations(images).preactivations
    for index, norm in enumerate(norms):
        # A shift of the norm is one of the preactivation: nothing but a shortcut's sum lies between them.
        norm.bias += 1
        shifted = network.activations(images, index + 1).preactivations[index]
        norm.bias -= 1
        assert torch.allclose(shifted - before[index], torch.ones(()), atol=0.01)


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "shufflenet_v1", "shufflenet_v2", "densenet121", "allcnn", "cnn1", "preact_resnet18"]
)
def test_a_family_without_margins_says_so(name):
    with torch.device("meta"):
        network = models.create(name, 10)
    with pytest.raises(KdnbError, match="another teacher"):
        network.margin_norms()


# Initial weights


def fan_out(conv):
    return math.sqrt(2 / (conv.weight[0, 0].numel() * conv.out_channels))


def fan_in(module):
    return math.sqrt(2 / module.weight[0].numel())


def torchs_own(module):
    return 1 / math.sqrt(3 * module.weight[0].numel())


def a_hundredth(linear):
    return 0.01


#: Standard deviations of convolutions and of linear layers, by family.
SPREADS = {
    **dict.fromkeys(["resnet20", "resnet8x4", "resnet50", "wrn_16_2"], (fan_out, torchs_own)),
    **dict.fromkeys(["vgg8", "mobilenet_v1", "mobilenet_v2"], (fan_out, a_hundredth)),
    **dict.fromkeys(["shufflenet_v1", "shufflenet_v2", "cnn1", "preact_resnet18"], (torchs_own, torchs_own)),
    **dict.fromkeys(["densenet121", "allcnn"], (fan_in, fan_in)),
}


@pytest.mark.parametrize("name", SPREADS)
@torch.no_grad()
def test_initial_weights_are_spread_as_the_family_says(name):
    network = models.create(name, 100)
    of_convolutions, of_linears = SPREADS[name]
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        rule = of_convolutions if isinstance(module, nn.Conv2d) else of_linears
        spread = rule(module)
        if name == "mobilenet_v1" and isinstance(module, nn.Conv2d) and module.groups > 1:
            spread = math.sqrt(2 / 9)
        count = module.weight.numel()
        assert float(module.weight.std()) == pytest.approx(spread, rel=5 / math.sqrt(2 * count))
        assert abs(float(module.weight.mean())) < 5 * spread / math.sqrt(count)
        largest = float(module.weight.abs().max()) / spread
        # A uniform distribution ends at 1.73 standard deviations, a normal one goes beyond.
        assert (largest < 1.74) == (rule is torchs_own) or count < 100


@torch.no_grad()
def test_initial_biases():
    for name in ("wrn_16_1", "vgg8", "mobilenet_v1", "mobilenet_v2"):
        assert (models.create(name, 10).classifier.bias == 0).all()
    assert (models.create("vgg8", 10).stages[0].layers[0].conv.bias == 0).all()
    for name in ("densenet121", "allcnn"):
        network = models.create(name, 10)
        biases = [m.bias for m in network.modules() if isinstance(m, nn.Conv2d)]
        everything = torch.cat([*biases, network.classifier.bias])
        assert all(bias is not None for bias in biases)
        assert float(everything.std()) == pytest.approx(1, rel=0.1) and abs(float(everything.mean())) < 0.1
    assert models.create("resnet8", 10).classifier.bias.abs().max() > 0


# Names


def test_an_unknown_network_names_the_nearest():
    with pytest.raises(KdnbError, match="resnet20"):
        models.create("resnet21")
    with pytest.raises(KdnbError, match="shufflenet_v1"):
        models.revision("shufflenet")


def test_networks_are_named_without_torch():
    code = (
        "import sys; from kdnb import models\n"
        "assert all(models.revision(name) >= 1 for name in models.names())\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
