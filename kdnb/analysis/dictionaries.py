"""What dictionaries of a teacher's pixels have learned, and how far a student that predicts them agrees (SRM).

Looked at is a student as the step `predict` left it, before it saw labels, with its dictionaries and the teacher's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kdnb import losses
from kdnb.analysis.registry import Found, Subject, measure
from kdnb.methods.srm import Dictionaries, Dictionary

if TYPE_CHECKING:
    from torch import nn

#: Test images that are looked at, at most, and of how many classes the first one's labels are kept as pictures.
MOST_IMAGES, PICTURED, BATCH = 1000, 6, 100
#: Shares of atoms that a code may keep, for the error of reconstruction.
SPARSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@measure(
    "dictionaries",
    arrays=(
        "pictured",
        "teacher_pixel_labels",
        "student_pixel_labels",
        "label_sides",
        "atom_use",
        "atom_counts",
        "atoms_kept",
        "sparsities",
        "unexplained_by_sparsity",
        "unexplained_by_layer",
    ),
    metrics=("unexplained", "atoms_used", "labels_agree"),
    needs=("teacher",),
)
def dictionaries(subject: Subject) -> Found:
    """Of each of L layers: pixel labels of a few images, how often each atom is a label, what codes do not explain.

    pictured                 [n, H, W, 3] uint8
    teacher_pixel_labels     all layers one after another, n h w each, h and w in `label_sides` [L, 2]
    student_pixel_labels     likewise
    atom_use                 share of pixels whose label each atom is, all layers one after another, `atom_counts` [L]
    unexplained_by_sparsity  [L, S] mean squared error of codes that keep the share S of atoms, over the mean square
    unexplained_by_layer     [L] the same at the dictionary's own sparsity, `atoms_kept` [L]
    Metrics are means over layers: of the latter, of the share of atoms that are the label of some pixel, and of how
    often student and teacher give a pixel the same label.
    """
    assert subject.teacher is not None
    left = subject.earlier("predict")
    known, own = _dictionaries(left["known"]), _dictionaries(left["own"])
    shown = [int(np.flatnonzero(subject.labels == c)[0]) for c in np.unique(subject.labels)[:PICTURED]]
    pixels = subject.student.images.pixels(shown).cpu().numpy()
    taught, learned = _networks(subject, left)
    pictures = subject.student.images.plain(0, max(shown) + 1)[0][shown]
    found = {"pictured": pixels} | _pictured(taught(pictures), learned(pictures), known, own)
    used = [torch.zeros(d.size, dtype=torch.float64, device=d.atoms.device) for d in known]
    agree, errors = np.zeros(len(known)), np.zeros((len(known), len(SPARSITIES) + 1))
    squares, counted = np.zeros(len(known)), np.zeros(len(known))
    for images in _batches(subject):
        for j, (ours, theirs, d, o) in enumerate(zip(learned(images), taught(images), own, known, strict=True)):
            labels, guessed = _labels(theirs, o), _labels(ours, d)
            used[j] += torch.bincount(labels, minlength=o.size)
            agree[j] += float((labels == guessed).sum())
            counted[j] += len(labels)
            squares[j] += float(theirs.double().square().sum())
            kept = [*(max(1, round(share * o.size)) for share in SPARSITIES), o.keep]
            for place, keep in enumerate(kept):
                errors[j, place] += _squared_error(theirs, o, keep)
    shares = [(count / total).cpu().numpy() for count, total in zip(used, counted, strict=True)]
    unexplained = errors / squares[:, None]
    found |= {
        "atom_use": np.concatenate(shares).astype(np.float32),
        "atom_counts": np.array([d.size for d in known]),
        "atoms_kept": np.array([d.keep for d in known]),
        "sparsities": np.array(SPARSITIES),
        "unexplained_by_sparsity": unexplained[:, :-1].astype(np.float32),
        "unexplained_by_layer": unexplained[:, -1].astype(np.float32),
    }
    return found, {
        "unexplained": float(unexplained[:, -1].mean()),
        "atoms_used": float(np.mean([(share > 0).mean() for share in shares])),
        "labels_agree": float((agree / counted).mean()),
    }


def _networks(subject: Subject, left: Mapping[str, nn.Module]) -> Sequence[Stages]:
    """Teacher and student, each from images to the maps of its stages."""
    assert subject.teacher is not None
    return Stages(subject.teacher.network), Stages(left["student"])


class Stages:
    """A network in eval mode, from images to the maps that leave its stages."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Tensor]:
        stages: list[Tensor] = self.network.activations(images, len(self.network.stages)).stages  # type: ignore[operator, arg-type]
        return stages


def _dictionaries(module: nn.Module) -> list[Dictionary]:
    assert isinstance(module, Dictionaries), "the step `predict` leaves these"
    return module.all()


def _labels(maps: Tensor, dictionary: Dictionary) -> Tensor:
    """Which atom describes each pixel best: the one that a code of one entry keeps."""
    return losses.labels_of(maps, dictionary.atoms, dictionary.offset, 1)[0]


@torch.no_grad()
def _squared_error(maps: Tensor, dictionary: Dictionary, keep: int) -> float:
    """Of codes that keep so many entries, summed over pixels and channels."""
    return float(losses.reconstruction(maps, dictionary.atoms, dictionary.offset, keep)) * maps.numel()


def _pictured(
    taught: Sequence[Tensor], learned: Sequence[Tensor], known: Sequence[Dictionary], own: Sequence[Dictionary]
) -> dict[str, np.ndarray]:
    """The pixel labels of a few images by teacher and student."""

    def labels(maps: Sequence[Tensor], of: Sequence[Dictionary]) -> np.ndarray:
        each = [_labels(m, d).cpu().numpy() for m, d in zip(maps, of, strict=True)]
        return np.concatenate(each).astype(np.uint16)

    return {
        "teacher_pixel_labels": labels(taught, known),
        "student_pixel_labels": labels(learned, own),
        "label_sides": np.array([maps.shape[2:] for maps in taught]),
    }


def _batches(subject: Subject) -> Iterator[Tensor]:
    """The first test images, normalised."""
    for start, images, _ in subject.student.images.plain_batches(BATCH):
        if start >= MOST_IMAGES:
            return
        yield images
