"""What is measured of dictionaries, against the losses' own numbers, and how it is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from book_samples import fill
from test_representation import observed

from kdnb import analysis, losses, plots
from kdnb.analysis import Subject
from kdnb.analysis.dictionaries import SPARSITIES
from kdnb.methods.srm import Dictionaries
from kdnb.plots.dictionaries import ATOM_COLOURS, OTHERS, _coloured, _most_used
from kdnb.study.store import Store
from kdnb.training.images import DeviceImages, Normalisation

SIZES, KEEP = (32, 64, 128), 3


@pytest.fixture(scope="module")
def images() -> DeviceImages:
    draw = np.random.default_rng(1)
    pixels = draw.integers(0, 256, size=(60, 16, 16, 3)).astype(np.uint8)
    normalisation = Normalisation((0.5,) * 3, (0.25,) * 3)
    return DeviceImages(pixels, np.arange(60) % 10, normalisation, torch.device("cpu"), torch.float32)


def made(seed: int) -> Dictionaries:
    torch.manual_seed(seed)
    return Dictionaries((width, size, KEEP) for width, size in zip((16, 32, 64), SIZES, strict=True))


def subject(images: DeviceImages, same: bool) -> Subject:
    """A student that is its teacher, with the teacher's dictionaries or with others."""
    network = observed("resnet8", 1, images)
    left = {"student": network.network, "known": made(1), "own": made(1 if same else 2)}
    return Subject(
        network, network, images.labels.numpy(), np.arange(60), 10, seed=1, earlier={"predict": left}.__getitem__
    )


def test_numbers_are_those_of_codes(images):
    arrays, metrics = analysis.get("dictionaries").of(subject(images, same=True))
    assert metrics["labels_agree"] == 1
    assert np.array_equal(arrays["teacher_pixel_labels"], arrays["student_pixel_labels"])
    assert arrays["pictured"].shape == (6, 16, 16, 3) and arrays["label_sides"].tolist() == [[16, 16], [8, 8], [4, 4]]
    assert arrays["atom_counts"].tolist() == [*SIZES] and arrays["atoms_kept"].tolist() == [KEEP] * 3
    maps = observed("resnet8", 1, images).network.eval().activations(images.plain(0, 60)[0], 3).stages
    used, unexplained, first = [], [], 0
    for j, (features, d) in enumerate(zip(maps, made(1), strict=True)):
        labels, _ = losses.labels_of(features, d.atoms, d.offset, KEEP)
        share = np.bincount(labels.numpy(), minlength=d.size) / len(labels)
        assert arrays["atom_use"][first : first + d.size] == pytest.approx(share, rel=1e-5)
        error = losses.reconstruction(features, d.atoms, d.offset, KEEP) / features.square().mean()
        unexplained.append(error.item())
        whole = losses.reconstruction(features, d.atoms, d.offset, d.size) / features.square().mean()
        assert arrays["unexplained_by_sparsity"][j, SPARSITIES.index(1.0)] == pytest.approx(whole.item(), rel=1e-4)
        used.append((share > 0).mean())
        first += d.size
    assert arrays["unexplained_by_layer"] == pytest.approx(unexplained, rel=1e-4)
    assert metrics["unexplained"] == pytest.approx(np.mean(unexplained), rel=1e-4)
    assert metrics["atoms_used"] == pytest.approx(np.mean(used))


def test_a_student_of_other_atoms_gives_other_labels(images):
    _, metrics = analysis.get("dictionaries").of(subject(images, same=False))
    assert metrics["labels_agree"] < 0.5


def test_pictures_are_shown_without_the_padding_of_crops(images):
    pixels, normalisation = images.pixels(range(60)).numpy(), Normalisation((0.5,) * 3, (0.25,) * 3)
    padded = DeviceImages(pixels, images.labels.numpy(), normalisation, torch.device("cpu"), torch.float32, padding=2)
    arrays, _ = analysis.get("dictionaries").of(subject(padded, same=True))
    assert np.array_equal(arrays["pictured"], pixels[:6])


def test_what_was_kept_is_drawn(empty_project):
    fill(Store.open(), "pilot", seeds=1, key="srm/table1")
    labels, atoms = plots.pixel_labels("srm/table1", "srm"), plots.atoms("srm/table1", "srm")
    assert "pilot" in labels.caption and "seed 1" in atoms.caption and "same label to" in labels.caption
    assert "both give the same label to" in labels.seen
    assert "at layer 1 the most used tenth of the atoms labels 10 % of the pixels, and a code of 17 %" in atoms.seen
    assert len(labels.frame) == 2 * (64 + 16) and labels.frame["layer"].unique().tolist() == [1, 2]
    assert len(labels.figure.axes) == 2 * (1 + 2 * 2)
    trained = atoms.frame[atoms.frame["what"] == "trained for"]
    assert trained["x"].tolist() == [16.6667, 16.6667] and trained["y"].tolist() == [85.0, 75.0]
    use = atoms.frame[(atoms.frame["what"] == "use") & (atoms.frame["layer"] == 1)]
    assert use["y"].tolist() == pytest.approx([100 * n / 6 for n in range(7)], abs=1e-3)  # all atoms alike
    error = atoms.frame[(atoms.frame["what"] == "error") & (atoms.frame["layer"] == 1)]
    assert error["x"].tolist() == pytest.approx([100 / 6, 50, 100], abs=1e-3)  # a code keeps one atom at least


def test_the_atoms_most_used_have_a_colour_each_and_the_others_are_grey():
    rare, often = np.arange(100, 120), np.repeat(np.arange(9), np.arange(10, 1, -1))
    labels = np.concatenate([often, rare])
    known = _most_used(labels[:40], labels[40:])
    assert known.tolist() == list(range(9))
    picture = _coloured(labels.reshape(1, 1, -1), known)[0, 0]
    assert (picture[len(often) :] == OTHERS).all() and len(np.unique(picture[: len(often)], axis=0)) == 9
    assert len(np.unique(np.concatenate([ATOM_COLOURS, OTHERS[None]]), axis=0)) == 10


def test_without_runs_the_figures_say_so(empty_project):
    for plot in (plots.pixel_labels("srm/table1", "srm"), plots.atoms("srm/table1", "srm")):
        assert plot.frame.empty and plot.to_svg()
