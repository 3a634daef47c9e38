"""Small image sets in the formats of the real ones, and the means to make kdnb take them for real."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from kdnb.datasets import catalogue

COUNTS = {"cifar10": {"train": 50, "test": 20}, "cifar100": {"train": 300, "test": 200}}


def splits(name: str, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random images of every class; `seed` tells one version of the data from another."""
    draw = np.random.default_rng([seed, len(name)])
    found = {}
    for split, count in COUNTS[name].items():
        images = draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        labels = draw.permutation(np.arange(count) % catalogue.info(name).num_classes).astype(np.uint8)
        found[split] = images, labels
    return found


def digest(images: np.ndarray, labels: np.ndarray) -> str:
    """The order-free digest, written down a second time."""
    digests = [hashlib.sha256(x.tobytes() + bytes([y])).digest() for x, y in zip(images, labels, strict=True)]
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def publish(monkeypatch, name: str, parts, **archive_changes) -> None:
    """Make the given splits the published ones: counts, digests, and what is said of the archive."""
    info = catalogue.info(name)
    small = dataclasses.replace(
        info.with_counts(len(parts["train"][1]), len(parts["test"][1])),
        published={split: digest(*part) for split, part in parts.items()},
        archive=dataclasses.replace(info.archive, **archive_changes),
    )
    monkeypatch.setitem(catalogue._CATALOGUE, name, small)


def write_layout(root: Path, name: str, parts, classes=None) -> Path:
    """The prepared layout, in the order given."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    described = {}
    for split, (images, labels) in parts.items():
        np.save(folder / f"{split}_images.npy", images)
        np.save(folder / f"{split}_labels.npy", labels)
        described[split] = {"count": len(labels), "order_free_sha256": digest(images, labels)}
    meta = {"name": name, "classes": list(classes or catalogue.info(name).class_names), "splits": described}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return folder


def records(images: np.ndarray, labels: np.ndarray, name: str) -> bytes:
    """The binary format: (coarse label for CIFAR-100,) label, then 1024 red, 1024 green, 1024 blue bytes."""
    out = io.BytesIO()
    for image, label in zip(images, labels, strict=True):
        out.write(bytes([label // 5, label]) if name == "cifar100" else bytes([label]))
        for channel in range(3):
            out.write(image[:, :, channel].tobytes())
    return out.getvalue()


def write_unpacked(place: Path, name: str, parts) -> Path:
    """The folder of the unpacked archive."""
    if name == "cifar100":
        folder, files = place / "cifar-100-binary", {"train.bin": parts["train"], "test.bin": parts["test"]}
    else:
        images, labels = parts["train"]
        folder, files = place / "cifar-10-batches-bin", {"test_batch.bin": parts["test"]}
        for i in range(5):
            files[f"data_batch_{i + 1}.bin"] = images[i * 10 : i * 10 + 10], labels[i * 10 : i * 10 + 10]
    folder.mkdir(parents=True)
    for file, part in files.items():
        (folder / file).write_bytes(records(*part, name))
    return folder


def pack(folder: Path) -> tuple[Path, str]:
    """The archive of an unpacked folder, beside it, and its md5."""
    packed = (
        folder.parent
        / {
            "cifar-100-binary": "cifar-100-binary.tar.gz",
            "cifar-10-batches-bin": "cifar-10-binary.tar.gz",
        }[folder.name]
    )
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(folder, arcname=folder.name)
    return packed, hashlib.md5(packed.read_bytes()).hexdigest()


def write_tree(place: Path, name: str, parts) -> Path:
    """A tree of PNG files, a folder a class."""
    for split, (images, labels) in parts.items():
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = place / split / catalogue.info(name).class_names[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return place


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a prepared set but the kept orders."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}
