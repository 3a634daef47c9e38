"""A network whose last channels are in two parts, one that inherits and one that explores: what each part is like.

A network that has no parts is cut as its seed would have cut it, so that it can stand beside one that has.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kdnb.analysis.flatness import sharpness
from kdnb.analysis.lrp import relevance
from kdnb.analysis.neurons import active_neurons, loss_gradients
from kdnb.analysis.registry import Found, Subject, measure
from kdnb.analysis.similarity import alike, stage_cka, stage_maps
from kdnb.methods.inheritance import Parts
from kdnb.randomness import keyed_seed

#: Training images whose gradients are taken.
FOR_NEURONS = 5_000
#: Training images on which the loss is watched under noise, and no more than this share of those there are.
FOR_NOISE, SHARE_FOR_NOISE = 2_000, 0.25
DRAWS = 10
#: Standard deviations of the noise, and lengths of noise relative to each filter's; the last but one is a number told.
NOISE, RELATIVE_NOISE = (0.005, 0.01, 0.015, 0.02, 0.04), (0.1, 0.2, 0.3)
#: Test images whose maps are compared with the teacher's.
FOR_MAPS = 32
#: Where among all classes those stand of which an image is shown: in CIFAR-100 butterfly, crocodile, leopard, pear.
CLASSES_SHOWN = (0.14, 0.27, 0.42, 0.57)


def channels(subject: Subject) -> tuple[Tensor, Tensor]:
    """The channels of the student's last stage that inherit, and those that explore."""
    parts = subject.modules.get("parts", subject.modules.get("student_parts"))
    if parts is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(keyed_seed(subject.seed, "module", "parts"))
            parts = Parts(subject.student.network.stage_widths[-1], factors=1, inherited=0.5, split="random")
    assert isinstance(parts.inheriting, Tensor) and isinstance(parts.exploring, Tensor)
    return parts.inheriting.cpu(), parts.exploring.cpu()


@measure("parts_alike", metrics=("cka_parts", "cka_parts_biased", "cka_parts_maps", "cka_parts_maps_biased"))
def parts_alike(subject: Subject) -> Found:
    """Linear CKA of the two parts on the test images: of channels' means or of whole maps, unbiased or biased."""
    inheriting, exploring = channels(subject)
    found: dict[str, float] = {}
    for what, pooled in (("cka_parts", True), ("cka_parts_maps", False)):
        features = stage_maps(subject.student.network, subject.student.images, pooled=pooled, last=True)[0]
        both = features[:, inheriting], features[:, exploring]
        found |= {what: alike(*both, unbiased=True), f"{what}_biased": alike(*both, unbiased=False)}
    return {}, found


@measure("stages_alike", arrays=("stage_cka",), needs=("teacher",))
def stages_alike(subject: Subject) -> Found:
    """Linear CKA, unbiased, of each of the student's stages with each of the teacher's: [student's, teacher's]."""
    assert subject.teacher is not None
    table = stage_cka(subject.student.network, subject.teacher.network, subject.student.images)
    return {"stage_cka": table.astype(np.float32)}, {}


@measure(
    "neurons",
    metrics=("active_neurons", "active_neurons_inheriting", "active_neurons_exploring", "active_neurons_embedding"),
    needs=("training",),
)
def neurons(subject: Subject) -> Found:
    """Active neurons of the last map before its ReLU, of its two parts, and of the embedding, on training images."""
    assert subject.training is not None
    network = subject.student.network
    gradients = loss_gradients(network, subject.training, FOR_NEURONS)
    at_embedding = loss_gradients(network, subject.training, FOR_NEURONS, at="embedding")
    inheriting, exploring = (gradients[:, part] for part in channels(subject))
    found = {"": gradients, "_inheriting": inheriting, "_exploring": exploring, "_embedding": at_embedding}
    return {}, {f"active_neurons{what}": float(active_neurons(g.flatten(1))) for what, g in found.items()}


@measure("teacher_neurons", metrics=("active_neurons_teacher",), needs=("teacher", "training"))
def teacher_neurons(subject: Subject) -> Found:
    """Active neurons of the teacher's last map before its ReLU, on the same training images."""
    assert subject.teacher is not None and subject.training is not None
    gradients = loss_gradients(subject.teacher.network, subject.training, FOR_NEURONS)
    return {}, {"active_neurons_teacher": float(active_neurons(gradients.flatten(1)))}


@measure(
    "flatness",
    arrays=("noise", "noise_rise", "relative_noise", "relative_noise_rise"),
    metrics=("sharpness", "relative_sharpness"),
    needs=("training",),
)
def flatness(subject: Subject) -> Found:
    """How the loss of training images rises under noise, [draws, scales]; as numbers the mean rises at one scale."""
    assert subject.training is not None
    network, images = subject.student.network, subject.training
    count = min(FOR_NOISE, max(1, int(SHARE_FOR_NOISE * len(images))))
    _, rise = sharpness(network, images, NOISE, DRAWS, count=count)
    _, relative = sharpness(network, images, RELATIVE_NOISE, DRAWS, count=count, relative=True)
    arrays = {
        "noise": np.array(NOISE),
        "noise_rise": rise,
        "relative_noise": np.array(RELATIVE_NOISE),
        "relative_noise_rise": relative,
    }
    return arrays, {"sharpness": float(rise[:, -2].mean()), "relative_sharpness": float(relative[:, -2].mean())}


@measure("fit", metrics=("training_loss",), needs=("training",))
def fit(subject: Subject) -> Found:
    """The cross-entropy of all training images as they are, in eval mode."""
    assert subject.training is not None
    told = subject.student.over(subject.training).log_probabilities
    labels = subject.training.labels.cpu().numpy()
    return {}, {"training_loss": -float(told[np.arange(len(labels)), labels].mean())}


@measure("relevance", arrays=("pictures", "relevance_maps", "shown_classes"))
def relevance_of_parts(subject: Subject) -> Found:
    """Where the true class of a few test images is seen: pictures [n, H, W, 3] and maps [n, 3, H, W], sums over RGB.

    The maps are the whole one, the inheriting part's and the exploring part's; `shown_classes` [n, 2] are the true and
    the predicted class.  Shown is the first test image of each class in `CLASSES_SHOWN`, whatever it looks like.
    """
    images, labels = subject.student.images, subject.labels
    asked = [int(share * subject.num_classes) for share in CLASSES_SHOWN]
    shown = [int(np.flatnonzero(labels == wanted)[0]) for wanted in asked if (labels == wanted).any()]
    predicted = subject.student.outputs.logits[shown].argmax(1)
    return {
        "pictures": images.pixels(shown).cpu().numpy(),
        "relevance_maps": _maps(subject, shown, labels[shown].tolist()).cpu().numpy().astype(np.float32),
        "shown_classes": np.stack([labels[shown], predicted], 1).astype(np.int16),
    }, {}


@measure("seen_alike", metrics=("seen_alike", "seen_alike_inheriting", "seen_alike_exploring"), needs=("teacher",))
def seen_alike(subject: Subject) -> Found:
    """How alike the student's maps of relevance are to its teacher's: the mean correlation over the first test images.

    Of the true class; of the whole map, and of the two parts'.
    """
    assert subject.teacher is not None
    shown = list(range(min(FOR_MAPS, len(subject.labels))))
    classes = subject.labels[shown].tolist()
    taught = relevance(subject.teacher.network, subject.teacher.images, shown, classes).sum(1)
    maps = _maps(subject, shown, classes)
    alike_by_map = [correlations(maps[:, which], taught).mean() for which in range(3)]
    names = ("seen_alike", "seen_alike_inheriting", "seen_alike_exploring")
    return {}, {name: float(value) for name, value in zip(names, alike_by_map, strict=True)}


def correlations(maps: Tensor, others: Tensor) -> Tensor:
    """Pearson's correlation of each image's two maps [N, H, W] over their pixels, [N]; 0 where one does not vary."""
    x, y = (m.flatten(1) - m.flatten(1).mean(1, keepdim=True) for m in (maps, others))
    length = x.norm(dim=1) * y.norm(dim=1)
    return torch.where(length > 0, (x * y).sum(1) / length, 0.0)


def _maps(subject: Subject, shown: list[int], classes: list[int]) -> Tensor:
    """The student's maps of relevance [n, 3, H, W]: whole, inheriting, exploring."""
    network, images = subject.student.network, subject.student.images
    parts = (None, *(part.tolist() for part in channels(subject)))
    return torch.stack([relevance(network, images, shown, classes, part).sum(1) for part in parts], dim=1)
