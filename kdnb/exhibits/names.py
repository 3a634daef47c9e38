"""How papers write the names of networks."""

from __future__ import annotations

_TITLES = {
    "resnet8x4": "ResNet8x4",
    "resnet32x4": "ResNet32x4",
    "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2",
    "shufflenet_v1": "ShuffleNetV1",
    "shufflenet_v2": "ShuffleNetV2",
    "preact_resnet18": "ResNet18",
    "cnn1": "CNN-1",
    "cnn1_l": "CNN-1-L",
    "cnn1_a": "CNN-1-A",
    "cnn1_h": "CNN-1-H",
    "densenet121": "DenseNet-121",
    "allcnn": "AllCNN",
    "allcnn_224": "AllCNN of 224 × 224",
    "resnext50_32x4d": "ResNeXt-50",
}
_FAMILIES = {"resnet": "ResNet", "vgg": "VGG", "wrn": "WRN"}


def network_title(network: str) -> str:
    """`ResNet56`, `WRN-40-2`, `VGG13`; a name of no known family stays as it is."""
    if network in _TITLES:
        return _TITLES[network]
    for short, written in _FAMILIES.items():
        if network.startswith(short):
            return network.replace(short, written).replace("_", "-")
    return network


def pair_title(teacher: str, student: str) -> str:
    """`ResNet56 → ResNet8`."""
    return f"{network_title(teacher)} → {network_title(student)}"


def sentence(title: str) -> str:
    """A title as a sentence, for others to follow: `Does it help?`, `Eight methods compared.`"""
    return title if title.endswith("?") else f"{title}."
