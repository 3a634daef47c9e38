"""Flows of information: how much each layer of a network knows of the labels, at its end or epoch by epoch.

Of the first images of each part, whose order is that of their digests, and so as good as drawn: 5,000 of the training
images, 2,000 of the test images.  Layers are those that methods match (`kdnb.methods.matching`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdnb.analysis.registry import Found, Subject, measure
from kdnb.errors import KdnbError

if TYPE_CHECKING:
    from torch import Tensor

    from kdnb.models.network import Network
    from kdnb.training.images import DeviceImages

TRAINING, TEST = 5000, 2000


@measure(
    "flows",
    metrics=("ncc_1", "ncc_2", "ncc_3", "ncc_4", "qmi_1", "qmi_2", "qmi_3", "qmi_4"),
    needs=("training",),
)
def flows(subject: Subject) -> Found:
    """By layer the accuracy of the nearest centroid, and the quadratic mutual information of the test images."""
    return {}, _flows(subject, "")


@measure(
    "flow_course",
    metrics=(
        "course_ncc_1",
        "course_ncc_2",
        "course_ncc_3",
        "course_ncc_4",
        "course_qmi_1",
        "course_qmi_2",
        "course_qmi_3",
        "course_qmi_4",
    ),
    needs=("training",),
    at=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80),
)
def flow_course(subject: Subject) -> Found:
    """The same while the network learns."""
    return {}, _flows(subject, "course_")


def matched_layers(student: Sequence[float], teacher: Sequence[float]) -> list[int]:
    """Whom each layer of a student matches by its information: kappa(i), positions in the teacher's flow, from 0.

    The last one the last; else that of the nearest information, the first of equals.
    """
    if not student or not teacher:
        raise KdnbError("A flow of information has a layer at least; one of these two has none.")
    nearest = [min(range(len(teacher)), key=lambda j: (abs(own - teacher[j]), j)) for own in student[:-1]]
    return [*nearest, len(teacher) - 1]


def flow_divergence(student: Sequence[float], teacher: Sequence[float]) -> float:
    """D_F = sum_i (student_i - teacher_kappa(i))^2 (Passalis, Tzelepi and Tefas 2020)."""
    matches = matched_layers(student, teacher)
    return sum((own - teacher[match]) ** 2 for own, match in zip(student, matches, strict=True))


def _flows(subject: Subject, prefix: str) -> dict[str, float]:
    from kdnb.analysis.information import nearest_centroid, qmi

    assert subject.training is not None
    network = subject.student.network
    known, labels = _layers(network, subject.training, TRAINING)
    asked, test_labels = _layers(network, subject.student.images, TEST)
    found: dict[str, float] = {}
    for number, (train, test) in enumerate(zip(known, asked, strict=True), 1):
        found[f"{prefix}ncc_{number}"] = nearest_centroid(train, labels, test, test_labels)
        found[f"{prefix}qmi_{number}"] = qmi(test, test_labels)
    return found


def _layers(network: Network, images: DeviceImages, count: int) -> tuple[list[Tensor], Tensor]:
    """The layers [N, ...] of the first images, in eval mode and none of them augmented, and the labels [N]."""
    import torch

    from kdnb.methods.matching import layers_of
    from kdnb.training.cohort import evaluation_batch

    network.eval()
    count = min(count, len(images))
    size, parts = evaluation_batch(images.labels.device), []
    with torch.no_grad():
        for start in range(0, count, size):
            batch, _ = images.plain(start, min(start + size, count))
            parts.append(layers_of(network, network.activations(batch, "embedding")))
    return [torch.cat(layer) for layer in zip(*parts, strict=True)], images.labels[:count]
