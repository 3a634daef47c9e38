"""SRM: what its losses say by brute force, in parts and whole; its steps, and the methods that its authors compared."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from capturable import capturable
from study_samples import keep_teacher
from test_chains import student as a_student
from test_chains import train, weights
from test_methods import make_batch, make_setup
from torch import Tensor

from kdnb import datasets, losses
from kdnb.errors import KdnbError
from kdnb.losses import codes
from kdnb.methods import get
from kdnb.methods.recipe import Recipe
from kdnb.methods.srm import Dictionary, _places, sizes
from kdnb.methods.stage import Batch, Optimiser, Schedule, Setup, Stage
from kdnb.study import plan
from kdnb.study.experiment import Run
from kdnb.study.store import Store
from kdnb.study.workbench import Workbench
from kdnb.training.numerics import detect

IMAGES, CHANNELS, SIDE, ATOMS, KEEP = 6, 5, 3, 7, 2


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MAPS, ATOM, OFFSET = noise(IMAGES, CHANNELS, SIDE, SIDE), noise(CHANNELS, ATOMS, seed=1), noise(1, seed=2)
#: Codes of one image, of two, and of all at a time.
CHUNKS = [1, 2 * SIDE * SIDE * ATOMS, 10**9]


def coded() -> np.ndarray:
    """Sparse codes [B, H, W, M], entry by entry."""
    found = np.zeros((IMAGES, SIDE, SIDE, ATOMS))
    for b, i, j in np.ndindex(IMAGES, SIDE, SIDE):
        pixel = MAPS[b, :, i, j].numpy()
        dense = [1 / (1 + math.exp(-(pixel @ ATOM[:, m].numpy() + OFFSET.item()))) for m in range(ATOMS)]
        for m in sorted(range(ATOMS), key=lambda m: -dense[m])[:KEEP]:
            found[b, i, j, m] = dense[m]
    return found


# -- losses ------------------------------------------------------------------------------------------------


def test_labels_are_those_of_codes_computed_entry_by_entry() -> None:
    pixels, images = losses.labels_of(MAPS, ATOM, OFFSET, KEEP)
    code = coded()
    assert ((code > 0).sum(-1) == KEEP).all()
    assert pixels.tolist() == code.argmax(-1).ravel().tolist()
    assert images.numpy() == pytest.approx(code.mean((1, 2)), rel=1e-12)
    assert images.min() >= 0 and images.max() <= 1 and (images.sum(1) <= KEEP).all()


def test_reconstruction_and_predictions_by_hand() -> None:
    code = coded()
    rebuilt = np.einsum("cm,bijm->bcij", ATOM.numpy(), code)
    assert losses.reconstruction(MAPS, ATOM, OFFSET, KEEP).item() == pytest.approx(
        float(((MAPS.numpy() - rebuilt) ** 2).mean())
    )
    targets, shares = losses.labels_of(MAPS, ATOM, OFFSET, KEEP)
    maps, atoms, offset = noise(IMAGES, 4, SIDE, SIDE, seed=3), noise(4, ATOMS, seed=4), noise(1, seed=5)
    k = 1 / (1 + np.exp(-(np.einsum("bcij,cm->bijm", maps.numpy(), atoms.numpy()) + offset.item())))
    flat = k.reshape(-1, ATOMS)
    log_p = flat - np.log(np.exp(flat).sum(1, keepdims=True))
    by_pixel = -log_p[np.arange(len(flat)), targets.numpy()].mean()
    assert losses.pixel_prediction(maps, atoms, offset, targets).item() == pytest.approx(by_pixel)
    p, g = k.mean((1, 2)), shares.numpy()
    by_image = -(g * np.log(p) + (1 - g) * np.log(1 - p)).mean()
    assert losses.image_prediction(maps, atoms, offset, shares).item() == pytest.approx(by_image)


def test_a_prediction_of_pixels_has_the_floor_that_its_docstring_names() -> None:
    sure = 1e3 * torch.eye(ATOMS, dtype=torch.float64)[:, :, None, None]  # one pixel an image, one atom alight
    floor = math.log(1 + (ATOMS - 1) / math.e)
    atoms = 2 * torch.eye(ATOMS, dtype=torch.float64) - 1
    found = losses.pixel_prediction(sure, atoms, torch.zeros(1, dtype=torch.float64), torch.arange(ATOMS))
    assert found.item() == pytest.approx(floor)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_in_parts_it_is_the_same_as_whole(chunk: int) -> None:
    """Values and gradients, in float64."""
    maps, atoms, offset = (t.clone().requires_grad_() for t in (MAPS, ATOM, OFFSET))
    targets, shares = losses.labels_of(MAPS, ATOM, OFFSET, KEEP, chunk)
    whole = losses.labels_of(MAPS, ATOM, OFFSET, KEEP)
    assert torch.equal(targets, whole[0]) and torch.equal(shares, whole[1])

    def found(chunk: int) -> list[Tensor]:
        every = (
            losses.reconstruction(noise(IMAGES, CHANNELS, SIDE, SIDE, seed=6), atoms, offset, KEEP, chunk),
            losses.pixel_prediction(maps, atoms, offset, targets, chunk),
            losses.image_prediction(maps, atoms, offset, shares, chunk),
        )
        slopes = [torch.autograd.grad(v, [atoms, offset, maps][: 2 + (n > 0)]) for n, v in enumerate(every)]
        return [*every, *(slope for of in slopes for slope in of)]

    for one, other in zip(found(chunk), found(10**9), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)


def test_only_a_part_of_the_codes_is_held() -> None:
    """What is kept for the gradient grows neither with the images nor with the atoms' number."""
    held = []

    def pack(tensor: Tensor) -> Tensor:
        held.append(tensor.numel())
        return tensor

    atoms = noise(CHANNELS, 64, seed=1).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        losses.reconstruction(noise(64, CHANNELS, SIDE, SIDE), atoms, OFFSET, KEEP, chunk=4 * SIDE * SIDE * 64)
    assert max(held) <= 64 * CHANNELS * SIDE * SIDE < 64 * SIDE * SIDE * 64  # maps, never their codes


def test_a_part_at_srms_sizes_is_some_megabytes() -> None:
    """Batches of 512 and 384 of DenseNet-121's maps: the codes of a part are 16 MiB, or those of one image."""
    for width, side in ((128, 16), (256, 8), (1024, 4)):
        for size in (1.5, 2.0, 3.0):
            atoms, _ = sizes(width, 0.02, size)
            parts = codes._parts(torch.empty(512, 1, side, side), torch.empty(1, atoms), codes.CHUNK)
            assert max(len(part) for part in parts) * side * side * atoms * 4 <= 16 * 2**20


def test_maps_of_unequal_size_are_refused() -> None:
    with pytest.raises(KdnbError, match="54 labels for maps of 96 pixels"):
        losses.pixel_prediction(noise(6, 4, 4, 4), noise(4, ATOMS), OFFSET, torch.zeros(54, dtype=torch.int64))


# -- stages ------------------------------------------------------------------------------------------------


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


def ready(name: str, position: int = 0, **given: object) -> tuple[Stage, Setup, Batch]:
    """A stage of a method, its set-up with fresh dictionaries where it asks for them, and a batch."""
    setup = make_setup(name)
    for step in get(name).after:
        made = get(step).stages(setup, get(step).arguments(get(name).passed_on(step, dict(given))))
        setup.steps[step] = made[-1].modules
    stage = get(name).stages(setup, get(name).arguments(dict(given)))[position]
    return stage, setup, make_batch(stage, setup)


def test_dictionaries_learn_from_the_teacher_alone() -> None:
    stage, _, batch = ready("srm-dictionaries")
    dictionaries = stage.modules["dictionaries"]
    assert [tuple(d.atoms.shape) for d in dictionaries] == [(16, 32), (32, 64), (64, 128)]
    assert stage.student_depth is None and stage.teacher_depth == 3 and stage.trainable == [dictionaries]
    assert stage.optimiser == Optimiser("adam", 1e-3, restart="drop") and stage.optimiser.weight_decay == 0
    assert (stage.epochs, stage.batch_size, stage.schedule) == (100, 512, Schedule((10, 70)))
    assert stage.selection is not None and stage.selection.at == (10, 70, 100)
    terms = stage.objective(batch)
    with capturable():
        torch.stack(list(terms.values())).sum().backward()
    assert set(terms) == {"stage1", "stage2", "stage3"}
    assert all(p.grad is not None for p in dictionaries.parameters())


@pytest.mark.parametrize("targets", ["both", "pixel", "image"])
def test_the_student_predicts_the_teachers_atoms(targets: str) -> None:
    stage, setup, batch = ready("srm", targets=targets)
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
    torch.stack(list(terms.values())).sum().backward()
    learning = [p for module in stage.trainable for p in module.parameters()]
    assert all(p.grad is not None for p in learning)
    assert all(p.grad is None for p in [*known.parameters(), *setup.student.classifier.parameters()])


def test_shuffled_labels_are_the_same_labels_elsewhere() -> None:
    """The control keeps which atoms there are and how often, and loses where they are."""
    stage, setup, _ = ready("srm", targets="pixel", shuffled=True)
    assert stage.selection is None
    batch = make_batch(stage, setup)
    assert set(batch.draws) == {"places"}
    plain, _, _ = ready("srm", targets="pixel")
    plain.modules["own"].load_state_dict(stage.modules["own"].state_dict())
    plain.modules["known"].load_state_dict(stage.modules["known"].state_dict())
    for maps in batch.teacher.stages:
        places = _places(batch.draws["places"], maps)
        count = maps[:, 0].numel()
        assert sorted(places.tolist()) == list(range(count)) and places.tolist() != list(range(count))
    with capturable():
        moved = stage.objective(batch)
    assert moved["pixels1"].item() != pytest.approx(plain.objective(batch)["pixels1"].item(), rel=1e-9)


def test_the_last_stage_is_plain_training_or_kd() -> None:
    for name in ("srm", "srm+kd", "fitnet-maps", "fitnet-maps+kd"):
        setup = make_setup(name)
        for step in get(name).after:
            setup.steps[step] = get(step).stages(setup, get(step).arguments({}))[-1].modules
        entry = get(name)
        own = {k: v for k, v in entry.defaults.items() if k not in ("labels_weight", "soft_weight", "temperature")}
        last = entry.stages(setup, own)[-1]
        assert set(last.modules) == {"student"}
        assert set(last.objective(make_batch(last, setup))) == ({"ce", "kd"} if name.endswith("+kd") else {"ce"})


# -- what SRM is compared with ------------------------------------------------------------------------------


def test_fitnet_on_all_maps() -> None:
    stage, setup, batch = ready("fitnet-maps")
    regressors = stage.modules["regressors"]
    terms = stage.objective(batch)
    for j, regressor in enumerate(regressors):
        expected = (regressor(batch.student.stages[j]) - batch.teacher.stages[j]).square().mean()
        assert terms[f"hint{j + 1}"].item() == pytest.approx(expected.item())
        assert regressor.bias is not None and regressor.kernel_size == (1, 1)
    assert (stage.epochs, stage.batch_size, stage.selection) == (160, 512, None)
    assert setup.student.classifier not in stage.trainable


def test_attention_may_begin_deeper() -> None:
    stage, _, batch = ready("at", first_stage=2)
    expected = losses.attention(batch.student.stages[1:], batch.teacher.stages[1:])
    assert stage.objective(batch)["attention"].item() == pytest.approx(1000 * expected.item())
    assert get("at").told({"first_stage": 1}) == {"weight": 1000.0}  # as before the argument came
    with pytest.raises(KdnbError, match="first_stage"):
        get("at").arguments({"first_stage": 0})


# -- in a study --------------------------------------------------------------------------------------------


def test_the_best_of_the_steps_of_the_rate() -> None:
    setup = make_setup("plain")
    recipe = dataclasses.replace(setup.recipe, milestones=(30, 130), selection="steps")
    selection = dataclasses.replace(setup, recipe=recipe).selection()
    assert selection is not None and selection.at == (30, 130, 200)
    with pytest.raises(KdnbError, match="did you mean steps"):
        dataclasses.replace(setup, recipe=dataclasses.replace(recipe, selection="step")).selection()


@pytest.mark.usefixtures("empty_project")
def test_stored_dictionaries_are_used_again() -> None:
    """SRM, its ablations and its recipes share what has their sparsity and size; a probe goes on from its step 2."""
    tiny = {"predict_epochs": 1, "predict_batch_size": 75}
    whole = a_student("srm+kd", arguments=tiny)
    pixel = dataclasses.replace(whole, arguments={**tiny, "targets": "pixel"})
    other = dataclasses.replace(whole, arguments={**tiny, "dictionaries_size": 3.0})
    assert whole.steps()[0].fingerprint == pixel.steps()[0].fingerprint != other.steps()[0].fingerprint
    (predicted,) = whole.shared_stages()
    assert predicted.fingerprint == a_student("srm", arguments=tiny).shared_stages()[0].fingerprint
    assert predicted.fingerprint != pixel.shared_stages()[0].fingerprint
    recipe = Recipe(epochs=1, batch_size=128, lr=1e-3, milestones=(), optimiser="adam", selection="best")
    probe = dataclasses.replace(whole, method="probe", arguments={}, teacher=None, recipe=recipe, start=predicted)
    keep_teacher(whole)
    runs = [Run(whole, 1), Run(probe, 1)]
    assert len(plan.missing(runs, Store.open())) == 4  # dictionaries, step 2, and the two
    store = train(*runs)
    (step,) = runs[0].steps().values()
    before, predicted_by = weights(store, step), weights(store, runs[0].shared_stages()[0])
    assert not plan.missing([Run(whole, 1)], store) and len(plan.missing([Run(pixel, 1)], store)) == 2
    train(Run(pixel, 1))
    after, others = weights(store, step), weights(store, Run(pixel, 1).shared_stages()[0])
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    known = {name.removeprefix("known."): tensor for name, tensor in others.items() if name.startswith("known.")}
    assert all(torch.equal(known[name.removeprefix("dictionaries.")], tensor) for name, tensor in before.items())
    bench = Workbench(store, detect("cpu", "float32", "eager"))
    probed = bench.stages(Run(probe, 1))[0].modules["student"]
    assert all(torch.equal(predicted_by[f"student.{name}"], tensor) for name, tensor in probed.state_dict().items())
    subject = bench.subject(runs[0], probed)
    left = subject.earlier("predict")
    assert set(left) == {"student", "own", "known"}
    assert torch.equal(left["own"][0].atoms, predicted_by["own.0.atoms"])
    with pytest.raises(KdnbError, match="did you mean predict"):
        subject.earlier("predicted")


@pytest.mark.usefixtures("empty_project")
def test_few_images_of_each_class_are_others_for_each_seed_and_nested() -> None:
    """Five are among the ten of the same seed; none of them selects; a teacher has the whole of what is left."""
    images = dataclasses.replace(a_student("plain").images, student_images=None, split="held-out")
    bench = Workbench(Store.open(), detect("cpu", "float32", "eager"))

    def learned(per_class: int | None, seed: int | None) -> set[bytes]:
        material, evidence = bench.material(dataclasses.replace(images, per_class=per_class), seed)
        assert len(evidence.score) == len(datasets.load("digits").test.labels)
        if per_class:
            assert torch.bincount(material.training.labels).tolist() == [per_class] * 10
        kept = {image.numpy().tobytes() for image in material.training.padded}
        assert not kept & {image.numpy().tobytes() for image in _padded(material.validation, material.training.padding)}
        return kept

    five, ten, of_another, everything = learned(5, 1), learned(10, 1), learned(5, 2), learned(None, None)
    assert len(five) == 50 and five < ten < everything and five != of_another
    assert dataclasses.replace(images, per_class=5).canonical() != dataclasses.replace(images, per_class=10).canonical()
    assert "per_class" not in images.canonical()


def _padded(images: object, padding: int) -> Tensor:
    return torch.nn.functional.pad(images.padded, (0, 0, *(padding,) * 4))  # type: ignore[attr-defined]


def test_held_out_images_are_a_tenth_of_each_class() -> None:
    labels = np.repeat(np.arange(10), 50)
    rest, tenth = datasets.held_out(labels, "key")
    assert np.bincount(labels[tenth]).tolist() == [5] * 10
    assert sorted([*rest, *tenth]) == list(range(500))
