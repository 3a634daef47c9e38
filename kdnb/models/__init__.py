"""Networks by family; importing this names them, creating one imports torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdnb.errors import unknown

if TYPE_CHECKING:
    from kdnb.models.network import Network


@dataclass(frozen=True)
class _Entry:
    """A network's file and class, its arguments, and its revision, raised when its function changes."""

    file: str
    build: str
    arguments: dict[str, Any] = field(default_factory=dict)
    revision: int = 1


_NETWORKS = {
    **{
        f"resnet{depth}": _Entry("resnet", "ResNet", {"depth": depth, "widths": (16, 16, 32, 64)})
        for depth in (8, 14, 20, 32, 44, 56, 110)
    },
    **{
        f"resnet{depth}x4": _Entry("resnet", "ResNet", {"depth": depth, "widths": (32, 64, 128, 256)})
        for depth in (8, 32)
    },
    "resnet110a": _Entry("resnet", "ResNet", {"depth": 110, "widths": (16, 16, 32, 64), "padded": True}),
    "resnet50": _Entry("resnet", "BottleneckResNet"),
    **{
        f"wrn_{depth}_{width}": _Entry("wrn", "WideResNet", {"depth": depth, "width": width})
        for depth, width in ((16, 1), (16, 2), (40, 1), (40, 2), (40, 4), (46, 4), (28, 10))
    },
    "vgg8": _Entry("vgg", "VGG", {"layers": (1, 1, 1, 1, 1)}),
    "vgg11": _Entry("vgg", "VGG", {"layers": (1, 1, 2, 2, 2)}),
    "vgg13": _Entry("vgg", "VGG", {"layers": (2, 2, 2, 2, 2)}),
    "vgg13_pool4": _Entry("vgg", "VGG", {"layers": (2, 2, 2, 2, 2), "pools": 4}),
    "mobilenet_v1": _Entry("mobilenet", "MobileNetV1"),
    "mobilenet_v2": _Entry("mobilenet", "MobileNetV2"),
    "shufflenet_v1": _Entry("shufflenet", "ShuffleNetV1"),
    "shufflenet_v2": _Entry("shufflenet", "ShuffleNetV2"),
    "densenet121": _Entry("densenet", "DenseNet"),
    "allcnn": _Entry("allcnn", "AllCNN"),
    "cnn1": _Entry("cnn", "CNN", {"widths": (8, 16, 32), "hidden": 64}),
    "cnn1_a": _Entry("cnn", "CNN", {"widths": (16, 32, 64), "hidden": 128}),
    "cnn1_l": _Entry("cnn", "CNN", {"widths": (4, 8, 16), "hidden": 64}),
    "cnn1_h": _Entry("cnn", "CNN", {"widths": (32, 64, 128), "hidden": 256}),
    "preact_resnet18": _Entry("preact", "PreActResNet"),
}


def names() -> list[str]:
    """Names of all networks."""
    return sorted(_NETWORKS)


def revision(name: str) -> int:
    """The revision of a network: part of every experiment that uses it."""
    return _entry(name).revision


def create(name: str, num_classes: int = 100) -> Network:
    """A fresh network from torch's current random state; its input is [B, 3, H, W], H = W = 16 or 32."""
    entry = _entry(name)
    module = importlib.import_module(f"kdnb.models.{entry.file}")
    network: Network = getattr(module, entry.build)(num_classes=num_classes, **entry.arguments)
    network.name = name
    return network


def _entry(name: str) -> _Entry:
    if name not in _NETWORKS:
        raise unknown("network", name, _NETWORKS)
    return _NETWORKS[name]
