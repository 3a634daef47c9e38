"""A network whose last channels are in two parts, one that inherits and one that explores: what each part is like.

A network that has no parts is cut as its seed would have cut it, so that it can stand beside one that has.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kdnb.analysis.lrp import relevance
from kdnb.analysis.neurons import FOR_NEURONS, active_neurons, loss_gradients
from kdnb.analysis.registry import Found, Subject, measure
from kdnb.analysis.similarity import alike, stage_maps
from kdnb.methods.inheritance import Parts
from kdnb.randomness import keyed_seed

#: Test images whose maps are compared with the teacher's.
FOR_MAPS = 32
#: Of which classes of a hundred an image is shown (CIFAR-100's butterfly, crocodile, leopard, pear); of fewer in share.
CLASSES_SHOWN = (14, 27, 42, 57)


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


@measure("relevance", arrays=("pictures", "relevance_maps", "shown_classes"))
def relevance_of_parts(subject: Subject) -> Found:
    """Where the true class of a few test images is seen: pictures [n, H, W, 3] and maps [n, 3, H, W], sums over RGB.

    The maps are the whole one, the inheriting part's and the exploring part's; `shown_classes` [n, 2] are the true and
    the predicted class.  Shown is the first test image of each class in `CLASSES_SHOWN`, whatever it looks like.
    """
    images, labels = subject.student.images, subject.labels
    asked = [shown * subject.num_classes // 100 for shown in CLASSES_SHOWN]
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
