"""What is measured on trained networks: relevance, sharpness, gradients, alikeness; each where the answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from study_samples import TINY, experiment, keep_teacher
from torch import Tensor, nn

from kdnb import analysis, models
from kdnb.analysis import Observed, Subject
from kdnb.analysis.parts import channels, correlations
from kdnb.analysis.similarity import alike
from kdnb.errors import KdnbError
from kdnb.methods.inheritance import Parts
from kdnb.methods.stage import Setup
from kdnb.models.network import Network
from kdnb.study.experiment import Run
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.training.freeze import as_it_was, frozen
from kdnb.training.images import DeviceImages, Normalisation
from kdnb.training.numerics import detect

CPU = torch.device("cpu")


def some_images(count: int = 4, side: int = 16, mean: float = 0.4) -> DeviceImages:
    stream = np.random.default_rng(3)
    pixels = stream.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    normalisation = Normalisation((mean, 0.5, 0.6), (0.2, 0.25, 0.3))
    return DeviceImages(pixels, np.arange(count) % 10, normalisation, CPU, torch.float32)


def network(name: str, classes: int = 10) -> Network:
    """A network whose norms shift, scale and turn round, as those of a trained one do."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        made = models.create(name, classes)
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 0.7, 0.5)
                nn.init.normal_(module.bias, 0.1, 0.3)
                nn.init.normal_(module.running_mean, 0.0, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
    return made.eval()


def logits(made: Network, images: DeviceImages, chosen: list[int]) -> Tensor:
    pixels = torch.cat([images.plain(i, i + 1)[0] for i in chosen]).double()
    with torch.no_grad():  # no float64 from end to end: embeddings are brought to float32
        return as_it_was(made).double()(pixels)


# -- relevance -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("resnet8", "resnet110a", "resnet50", "wrn_16_1", "vgg8", "mobilenet_v1", "mobilenet_v2", "shufflenet_v1"),
        *("shufflenet_v2", "densenet121", "allcnn", "cnn1", "preact_resnet18"),
    ],
)
def test_the_relevance_of_an_images_pixels_adds_up_to_its_logit(name):
    made, images = network(name), some_images()
    found = analysis.relevance(made, images, [2, 0], classes=[7, 1])
    assert found.shape == (2, 3, 16, 16)
    expected = logits(made, images, [2, 0])[[0, 1], [7, 1]]
    assert found.sum((1, 2, 3)).tolist() == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-5)


def test_maps_of_channels_that_make_up_the_whole_add_up_to_the_whole_map():
    made, images = network("wrn_16_1"), some_images()
    some, others = list(range(0, 64, 3)), [c for c in range(64) if c % 3]
    whole = analysis.relevance(made, images, [0, 1])
    parts = [analysis.relevance(made, images, [0, 1], channels=part) for part in (some, others)]
    assert torch.allclose(parts[0] + parts[1], whole, rtol=1e-9, atol=1e-12)
    assert min(part.abs().sum() for part in parts) > 0.1 * whole.abs().sum()


def test_without_a_class_the_predicted_one_is_explained_and_a_frozen_network_is_the_same():
    made, images = network("resnet8"), some_images()
    predicted = logits(made, images, [0, 1, 2, 3]).argmax(1).tolist()
    found = analysis.relevance(made, images, [0, 1, 2, 3])
    assert torch.equal(found, analysis.relevance(made, images, [0, 1, 2, 3], predicted))
    assert torch.equal(found, analysis.relevance(frozen(made, CPU, torch.bfloat16), images, [0, 1, 2, 3]))
    with pytest.raises(KdnbError, match="a class an image"):
        analysis.relevance(made, images, [0, 1], [3])


class Toy(Network):
    """3 -> 2 channels by 1x1, ReLU, a sum of two branches, ReLU, mean: small enough to follow by hand."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.stage_widths = (2,)
        self.stem = nn.Conv2d(3, 2, 1)
        self.stages = nn.ModuleList([nn.Conv2d(2, 2, 1)])
        self.classifier = nn.Linear(2, classes)

    def run_stem(self, images: Tensor) -> Tensor:
        return F.relu(self.stem(images))

    def run_stage(self, index: int, features: Tensor) -> tuple[Tensor, Tensor]:
        preactivation = self.stages[index](features) + features
        return F.relu(preactivation), preactivation

    def embed(self, features: Tensor) -> Tensor:
        return features.mean(dim=(2, 3))


def by_hand(made: Toy, x: np.ndarray, low: np.ndarray, high: np.ndarray, target: int) -> np.ndarray:
    """Relevance of one pixel [3] of an image of one pixel, rule by rule."""
    w1, b1, w2, b2, w3, b3 = (p.detach().double().numpy().squeeze() for p in made.parameters())
    h = np.maximum(w1 @ x + b1, 0)
    branch = w2 @ h + b2
    out = np.maximum(branch + h, 0)
    at_out = w3[target] * out + b3[target] / 2
    at_h = np.zeros(2)
    for j in range(2):
        # The sum: by its summands of its own sign, or in halves.
        sign = 1 if branch[j] + h[j] > 0 else -1
        pushes = np.maximum(sign * np.array([branch[j], h[j]]), 0)
        to_branch, to_h = at_out[j] * (pushes / pushes.sum() if pushes.sum() else 0.5)
        at_h[j] += to_h
        sign = 1 if branch[j] > 0 else -1
        pushes = np.maximum(sign * w2[j] * h, 0)
        at_h += to_branch * (pushes / pushes.sum() if pushes.sum() else np.full(2, 0.5))
    at_x = np.zeros(3)
    for j in range(2):
        pushes = w1[j] * x - low * np.maximum(w1[j], 0) - high * np.minimum(w1[j], 0)
        at_x += at_h[j] * pushes / pushes.sum()
    return at_x


@pytest.mark.parametrize("seed", range(6))
def test_relevance_of_a_network_followed_by_hand(seed):
    torch.manual_seed(seed)
    made, images = Toy().eval(), some_images(1, side=1)
    low, high = ((shade - images.mean) * images.scale for shade in (0.0, 255.0))
    x = images.plain(0, 1)[0].double().numpy().squeeze()
    for target in (0, 1):
        expected = by_hand(made, x, low.double().numpy(), high.double().numpy(), target)
        found = analysis.relevance(made, images, [0], [target])
        assert found.numpy().squeeze() == pytest.approx(expected, rel=1e-5)


def test_relevance_stays_where_a_network_looks():
    """A stem that sees the red of its own position alone, and features that stay there."""
    made, images = Toy().eval(), some_images(1, side=4)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
        made.stem.weight[:, 0] = 1.0
        made.stem.bias.fill_(-1.5)  # bright reds pass
        made.classifier.weight.fill_(1.0)
    found = analysis.relevance(made, images, [0])[0]
    red = images.plain(0, 1)[0][0, 0]
    assert (found[0][red > 1.5] > 0).all() and (red > 1.5).any()
    assert found[0][red <= 1.5].abs().max() == 0 and found[1:].abs().max() == 0


def test_what_no_input_pushed_is_inherited_by_all_alike():
    """A stem that sees nothing, and whose bias alone speaks."""
    made, images = Toy().eval(), some_images(1, side=2)
    with torch.no_grad():
        made.stem.weight.zero_()
        made.stem.bias.fill_(1.0)
    found = analysis.relevance(made, images, [0], [1])[0]
    assert found.sum().item() == pytest.approx(logits(made, images, [0])[0, 1].item(), rel=1e-5)
    assert torch.allclose(found, found.mean())


def test_a_function_without_a_rule_is_an_error():
    class Other(Toy):
        def embed(self, features: Tensor) -> Tensor:
            return torch.sigmoid(features).mean(dim=(2, 3))

    with pytest.raises(KdnbError, match=r"no rule for 'torch\.sigmoid'"):
        analysis.relevance(Other().eval(), some_images(1), [0])


# -- sharpness -------------------------------------------------------------------------------------------------


def test_a_bowl_rises_by_half_its_curvature_times_the_variance():
    """E f(x + s z) - f(x) = s^2/2 tr H at any point, for f = 1/2 (x - c)' H (x - c)."""
    stream = torch.Generator().manual_seed(0)
    root = torch.randn(50, 50, generator=stream, dtype=torch.float64)
    curvature, centre = root @ root.mT, torch.randn(50, generator=stream, dtype=torch.float64)

    def bowl(parameters):
        away = parameters["x"] - centre
        return float(away @ curvature @ away / 2)

    scales = [0.0, 0.01, 0.1]
    rises = analysis.rise_under_noise(bowl, {"x": centre.clone()}, scales, 400, 1)
    expected = np.array(scales) ** 2 / 2 * float(curvature.trace())
    assert rises.shape == (400, 3) and (rises[:, 0] == 0).all()
    assert rises.mean(0)[1:] == pytest.approx(expected[1:], rel=0.05)
    spread = np.array(scales) ** 2 * float(curvature.square().sum() / 2) ** 0.5  # of a quadratic form of Gaussians
    assert rises.std(0)[1:] == pytest.approx(spread[1:], rel=0.15)


def test_noise_relative_to_filters_does_not_see_their_size():
    """A filter ten times as long behind a norm that divides by ten is the same network, and as flat."""
    made, scaled = network("resnet8"), network("resnet8")
    with torch.no_grad():
        for module in scaled.modules():
            if isinstance(module, nn.Conv2d):
                module.weight *= 10
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean *= 10
                module.running_var.add_(module.eps).mul_(100).sub_(module.eps)
    images = some_images(20)
    before = made.state_dict()["stem.conv.weight"].clone()
    one, other = (analysis.sharpness(n, images, [0.1, 0.3], 2, relative=True)[1] for n in (made, scaled))
    assert one == pytest.approx(other, rel=1e-3, abs=1e-5) and np.abs(one).min() > 1e-3
    one, other = (analysis.sharpness(n, images, [0.01], 2)[1] for n in (made, scaled))
    assert not np.allclose(one, other, rtol=0.1)  # noise that is not relative does
    assert torch.equal(made.stem.conv.weight, before)  # the network itself is left as it was


def test_the_same_draws_are_made_whoever_asks_first():
    images, made = some_images(10), network("resnet8")
    before, alone = analysis.sharpness(made, images, [0.02], 3, seed=4)
    _, among = analysis.sharpness(made, images, [0.01, 0.02], 2, seed=4)
    batch, labels = images.plain(0, 10)
    assert before == pytest.approx(F.cross_entropy(made(batch), labels).item(), rel=1e-5)
    assert np.array_equal(alone[:2, 0], among[:, 1]) and not np.array_equal(alone[0], alone[1])
    with pytest.raises(KdnbError, match="a draw and a scale"):
        analysis.sharpness(made, images, [0.01], 0)


# -- gradients -------------------------------------------------------------------------------------------------


def test_a_classifier_of_rank_r_leaves_r_active_neurons():
    made, images = network("resnet8"), some_images(40)
    with torch.no_grad():
        u, v = (torch.linalg.qr(torch.randn(size, 3))[0] for size in (10, 64))
        made.classifier.weight.copy_(u @ v.mT)
    gradients = analysis.loss_gradients(made, images, at="embedding")
    assert gradients.shape == (40, 64) and analysis.active_neurons(gradients, epsilon=1e-6) == 3
    before_relu = analysis.loss_gradients(made, images, 25)
    assert before_relu.shape == (25, 64, 4, 4)
    assert analysis.active_neurons(before_relu.flatten(1), epsilon=1e-6) > 9  # no bound by classes before the ReLU


def test_gradients_are_those_of_each_image_alone():
    made, images = network("wrn_16_1"), some_images(6)
    together = analysis.loss_gradients(made, images, at="embedding")
    batch, labels = images.plain(4, 5)
    acts = made.activations(batch)
    probabilities = acts.logits.softmax(1) - F.one_hot(labels, 10)
    assert torch.allclose(together[4], (probabilities @ made.classifier.weight)[0], atol=1e-6)
    with pytest.raises(KdnbError, match="layer of active neurons"):
        analysis.loss_gradients(made, images, at="logits")


# -- alikeness -------------------------------------------------------------------------------------------------


def test_a_network_whose_channels_are_rotated_is_alike_to_itself():
    made, images = network("resnet8"), some_images(30)
    table = analysis.stage_cka(made, network("wrn_16_1"), images)
    itself = analysis.stage_cka(made, made, images)
    assert table.shape == (3, 3) and np.diag(itself) == pytest.approx(1) and itself == pytest.approx(itself.T)
    assert itself[0, 2] < 0.99

    class Rotated(Network):
        def __init__(self) -> None:
            super().__init__()
            self.stage_widths = made.stage_widths
            self.rotation = torch.linalg.qr(torch.randn(64, 64))[0]

        def activations(self, images, depth="logits"):
            acts = made.activations(images, depth)
            acts.stages[-1] = torch.einsum("bchw,cd->bdhw", acts.stages[-1], self.rotation)
            return acts

    for pooled in (True, False):
        assert analysis.stage_cka(made, Rotated(), images, pooled=pooled)[2, 2] == pytest.approx(1, abs=1e-4)


def test_channels_that_are_the_same_are_alike_and_others_are_less():
    made, images = network("resnet8"), some_images(30)
    same = analysis.channel_cka(made, images, range(10), range(10))
    assert same == pytest.approx(1)
    assert analysis.channel_cka(made, images, range(10), range(10, 20), unbiased=False, pooled=False) < 0.999


def test_the_size_of_whole_maps_does_not_count():
    """Squares of squares of sums over large maps in float32 would not be finite; zeros are alike to nothing."""
    maps = torch.randn(30, 6, 4, 4, generator=torch.Generator().manual_seed(1))
    x, y = maps[:, :4], maps[:, 2:]
    for unbiased in (False, True):
        found = alike(x, y, unbiased=unbiased)
        assert 0.3 < found < 0.9
        for size in (1e-9, 1e9):
            assert alike(size * x, y / size, unbiased=unbiased) == pytest.approx(found, rel=1e-4)
        assert alike(0 * x, y, unbiased=unbiased) == 0


# -- what a run keeps of it ------------------------------------------------------------------------------------


def subject(made: Network, seed: int = 1, **changes: object) -> Subject:
    images = some_images(24)
    fields = {
        "teacher": Observed(network("wrn_16_1"), images),
        "labels": images.labels.numpy(),
        "score": np.arange(24),
        "num_classes": 10,
        "training": some_images(40),
    }
    return Subject(Observed(made, images), seed=seed, **{**fields, **changes})


def test_a_network_without_parts_is_cut_as_its_seed_would_have_cut_it():
    made = network("resnet8")
    inheriting, exploring = channels(subject(made))
    assert sorted([*inheriting.tolist(), *exploring.tolist()]) == list(range(64)) and len(inheriting) == 32
    setup = Setup.__new__(Setup)  # of a set-up, only the seed and the device are asked for
    setup.__dict__.update(seed=1, device=CPU)
    drawn = setup.build("parts", lambda: Parts(64, 7, 0.5, "random"))
    assert torch.equal(drawn.inheriting, inheriting)
    assert not torch.equal(channels(subject(made, seed=2))[0], inheriting)
    own = Parts(64, 7, 0.3, "halves")
    assert channels(subject(made, modules={"parts": own}))[0].tolist() == list(range(19))
    assert channels(subject(made, modules={"student_parts": own}))[1].tolist() == list(range(19, 64))


@pytest.mark.parametrize(
    "name", ["parts_alike", "stages_alike", "neurons", "flatness", "fit", "relevance", "seen_alike"]
)
def test_a_measurement_keeps_its_word(name):
    arrays, metrics = analysis.get(name).of(subject(network("resnet8")))
    if name == "relevance":
        assert arrays["pictures"].shape == (4, 16, 16, 3) and arrays["shown_classes"][:, 0].tolist() == [1, 2, 4, 5]
        maps = arrays["relevance_maps"]
        assert np.allclose(maps[:, 0], maps[:, 1] + maps[:, 2], atol=1e-5)
        assert np.array_equal(arrays["pictures"][0], some_images(24).padded[1].numpy())
    if name == "neurons":
        assert 1 <= metrics["active_neurons_embedding"] <= 9  # ten classes
        before_relu = analysis.loss_gradients(network("resnet8"), some_images(40)).flatten(1)
        assert metrics["active_neurons"] == analysis.active_neurons(before_relu)
    if name == "parts_alike":
        assert metrics["cka_parts_maps"] < metrics["cka_parts_maps_biased"] < 1
    if name == "fit":
        batch, labels = some_images(40).plain(0, 40)
        expected = F.cross_entropy(network("resnet8")(batch), labels).item()
        assert metrics["training_loss"] == pytest.approx(expected, rel=1e-5)
    if name == "flatness":
        assert arrays["noise_rise"].shape == (10, 5) and arrays["relative_noise_rise"].shape == (10, 3)
        assert metrics["sharpness"] == pytest.approx(arrays["noise_rise"][:, 3].mean())


def test_a_network_sees_what_its_own_copy_sees():
    made = network("resnet8")
    itself = subject(made, teacher=Observed(frozen(made, CPU, torch.float32), some_images(24)))
    metrics = analysis.get("seen_alike").of(itself)[1]
    assert metrics["seen_alike"] == pytest.approx(1)
    neurons = [analysis.get(name).of(itself)[1] for name in ("neurons", "teacher_neurons")]
    assert neurons[1]["active_neurons_teacher"] == neurons[0]["active_neurons"]
    assert max(metrics["seen_alike_inheriting"], metrics["seen_alike_exploring"]) < 0.99
    maps = torch.tensor([[[0.0, 1.0], [2.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]]])
    assert correlations(maps, -2 * maps + 1).tolist() == pytest.approx([-1, 0])


def test_a_run_keeps_what_is_measured_of_the_parts_it_learned_with(empty_project):
    once = dataclasses.replace(TINY, name="custom-once", at_most=1)
    taught = experiment("kd", once)
    keep_teacher(taught)
    split = dataclasses.replace(taught, method="ie-ft", arguments={"paraphraser_epochs": 1, "inherited": 0.25})
    store = Store.open()
    keeps = ("parts_alike", "neurons")
    runs = [
        Run(split, 1, keeps),
        Run(dataclasses.replace(taught, method="plain", arguments={}, teacher=None), 1, keeps[:2]),
    ]
    outcome = Runner(store, detect("cpu", "float32", "eager"), "comparison", say=lambda line: None).run(runs)
    assert not outcome.failed and not outcome.left
    metrics = [store.get(*run.key).metrics for run in runs]
    assert all({"cka_parts", "active_neurons_inheriting"} <= found.keys() for found in metrics)
    assert not any(store.lacking(run) for run in runs)
