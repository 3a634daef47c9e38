"""What is learned through codes of the teacher's maps: factors and dictionaries, and students that predict them."""

from __future__ import annotations

import math

import pytest
import torch
from method_samples import backward, make_batch, ready
from torch import nn

from kdnb import losses
from kdnb.methods.paraphraser import Paraphraser
from kdnb.methods.srm import Dictionary, _places, sizes
from kdnb.methods.stage import Optimiser, Schedule

# -- factors -----------------------------------------------------------------------------------------------


def test_encoders_begin_as_the_released_code_has_them() -> None:
    """Weights of each 3x3 layer, forward and back, from N(0, 2 / (9 c_out)); norms at 1 and 0."""
    torch.manual_seed(0)
    layers = [m for m in Paraphraser(64, 32).modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels) for m in layers] == [
        (64, 64),
        (64, 32),
        (32, 32),
        (32, 32),
        (32, 64),
        (64, 64),
    ]
    for layer in layers:
        assert layer.bias is None
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * layer.out_channels)), rel=0.03)


# -- dictionaries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "atoms", "keeps"),
    [
        (1.5, (192, 384, 1536), ((1, 3, 15), (3, 7, 30), (5, 11, 46))),
        (2.0, (256, 512, 2048), ((2, 5, 20), (5, 10, 40), (7, 15, 61))),
        (3.0, (384, 768, 3072), ((3, 7, 30), (7, 15, 61), (11, 23, 92))),
    ],
)
def test_dictionaries_have_the_fact_sheets_sizes(
    size: float, atoms: tuple[int, ...], keeps: tuple[tuple[int, ...], ...]
) -> None:
    for sparsity, keep in zip((0.01, 0.02, 0.03), keeps, strict=True):
        assert [sizes(width, sparsity, size) for width in (128, 256, 1024)] == list(zip(atoms, keep, strict=True))


def test_where_atoms_begin() -> None:
    """By the number of atoms, not of channels."""
    dictionary = Dictionary(20, 600, 3)
    bound = math.sqrt(6 / 600)
    assert dictionary.atoms.abs().max() <= bound and dictionary.atoms.std().item() == pytest.approx(
        bound / math.sqrt(3), rel=0.05
    )
    assert dictionary.offset.shape == (1,) and -1 <= dictionary.offset.item() <= 1


def test_dictionaries_learn_from_the_teacher_alone() -> None:
    stage, _, batch = ready("srm-dictionaries", 0)
    dictionaries = stage.modules["dictionaries"]
    assert [tuple(d.atoms.shape) for d in dictionaries] == [(16, 32), (32, 64), (64, 128)]
    assert stage.student_depth is None and stage.teacher_depth == 3 and stage.trainable == [dictionaries]
    assert stage.optimiser == Optimiser("adam", 1e-3, restart="drop") and stage.optimiser.weight_decay == 0
    assert (stage.epochs, stage.batch_size, stage.schedule) == (100, 512, Schedule((10, 70)))
    assert stage.selection is not None and stage.selection.at == (10, 70, 100)
    terms = stage.objective(batch)
    backward(terms)
    assert set(terms) == {"stage1", "stage2", "stage3"}
    assert all(p.grad is not None for p in dictionaries.parameters())


@pytest.mark.parametrize("targets", ["both", "pixel", "image"])
def test_the_student_predicts_the_teachers_atoms(targets: str) -> None:
    stage, setup, batch = ready("srm", 0, targets=targets)
    own, known = stage.modules["own"], stage.modules["known"]
    assert [tuple(d.atoms.shape) for d in own] == [(16, 32), (32, 64), (64, 128)]
    assert stage.optimiser == Optimiser("adam", 1e-3, weight_decay=1e-4, restart="drop")
    assert (stage.epochs, stage.batch_size, stage.schedule) == (160, 384, Schedule((30, 130)))
    assert stage.selection is not None and stage.selection.at == (30, 130, 160) and not stage.selection.highest
    terms = stage.objective(batch)
    assert {name[:-1] for name in terms} == {"both": {"pixels", "images"}, "pixel": {"pixels"}}.get(targets, {"images"})
    for j, (d, theirs) in enumerate(zip(own, known, strict=True)):
        pixels, images = losses.labels_of(batch.teacher.stages[j], theirs.atoms, theirs.offset, theirs.keep)
        student = batch.student.stages[j]
        if targets != "image":
            expected = losses.pixel_prediction(student, d.atoms, d.offset, pixels)
            assert terms[f"pixels{j + 1}"].item() == pytest.approx(expected.item())
        if targets != "pixel":
            expected = losses.image_prediction(student, d.atoms, d.offset, images)
            assert terms[f"images{j + 1}"].item() == pytest.approx(expected.item())
    backward(terms)
    learning = [p for module in stage.trainable for p in module.parameters()]
    assert all(p.grad is not None for p in learning)
    assert all(p.grad is None for p in [*known.parameters(), *setup.student.classifier.parameters()])


def test_shuffled_labels_are_the_same_labels_elsewhere() -> None:
    """The control keeps which atoms there are and how often, and loses where they are."""
    stage, setup, _ = ready("srm", 0, targets="pixel", shuffled=True)
    assert stage.selection is None
    batch = make_batch(stage, setup)
    assert set(batch.draws) == {"places"}
    plain, _, _ = ready("srm", 0, targets="pixel")
    plain.modules["own"].load_state_dict(stage.modules["own"].state_dict())
    plain.modules["known"].load_state_dict(stage.modules["known"].state_dict())
    for maps in batch.teacher.stages:
        places = _places(batch.draws["places"], maps)
        count = maps[:, 0].numel()
        assert sorted(places.tolist()) == list(range(count)) and places.tolist() != list(range(count))
    moved = stage.objective(batch)
    assert moved["pixels1"].item() != pytest.approx(plain.objective(batch)["pixels1"].item(), rel=1e-9)


def test_the_last_stage_is_plain_training_or_kd() -> None:
    for name in ("srm", "srm+kd", "fitnet-maps", "fitnet-maps+kd"):
        last, _, batch = ready(name)
        assert set(last.modules) == {"student"}
        assert set(last.objective(batch)) == ({"ce", "kd"} if name.endswith("+kd") else {"ce"})
