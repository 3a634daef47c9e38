"""What an experiment goes on from: teachers of each seed, another run, steps of the teacher alone, few images."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch
from dataset_samples import publish, splits, write_layout
from study_samples import TINY, experiment, keep_teacher

from kdnb import datasets
from kdnb.errors import KdnbError
from kdnb.methods.recipe import Recipe
from kdnb.study import plan
from kdnb.study.experiment import Experiment, Run
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.study.workbench import Workbench, begin_with
from kdnb.training.numerics import detect

pytestmark = pytest.mark.usefixtures("empty_project")
BRIEF = Recipe(epochs=2, batch_size=64, lr=0.05, milestones=())


def student(method: str, network: str = "resnet8", **changes: object) -> Experiment:
    """A student of the untrained ResNet-14 that `keep_teacher` leaves, for an epoch."""
    once = dataclasses.replace(TINY, name="custom-once", at_most=1)
    taught = experiment("kd", dataclasses.replace(TINY, name="custom-once", at_most=1))
    return Experiment(once, taught.images, network, BRIEF, method, teacher=taught.teacher, **changes)


def train(*runs: Run) -> Store:
    store = Store.open()
    outcome = Runner(store, detect("cpu", "float32", "eager"), "comparison", say=lambda line: None).run(runs)
    assert not outcome.failed and not outcome.left
    return store


def weights(store: Store, run: Run) -> dict[str, torch.Tensor]:
    found = store.load_weights(run)
    assert found is not None
    return found


def test_a_chain_of_three_networks():
    """ResNet-14 teaches an auxiliary of each seed, and that one the students of its seed."""
    auxiliary = student("kd")
    keep_teacher(auxiliary)
    last = dataclasses.replace(auxiliary, method="plain", teacher=None)
    taught = dataclasses.replace(last, method="kd", teacher=auxiliary, teachers="of each seed")
    runs = [Run(taught, 1), Run(taught, 2)]
    assert [run.teacher for run in runs] == [Run(auxiliary, 1), Run(auxiliary, 2)]
    assert {run.teacher for run in (Run(auxiliary, 1), Run(auxiliary, 2))} == {Run(auxiliary.teacher, 0)}
    store = train(*runs)
    digests = [store.get(*run.key).environment["teacher"] for run in runs]
    bench = Workbench(store, detect("cpu", "float32", "eager"))
    assert digests == [bench.teacher_digest(Run(auxiliary, seed)) for seed in (1, 2)] and len(set(digests)) == 2
    assert list(Store.open().records(taught.fingerprint)) == [1, 2]


def test_a_probe_reads_off_what_another_student_has_learned():
    """It begins with that student, of the same seed; its features stay, its classifier moves."""
    learned = student("kd")
    keep_teacher(learned)
    probe = dataclasses.replace(learned, method="probe", teacher=None, start=learned)
    run = Run(probe, 3)
    assert run.start == Run(learned, 3) and run.needs() == [Run(learned, 3)]
    store = train(run, Run(dataclasses.replace(probe, method="plain"), 3))  # and fine-tuning, beside it
    before = weights(store, run.start)
    assert not any(name.startswith("student.") and value.dtype == torch.float16 for name, value in before.items())
    bench = Workbench(store, detect("cpu", "float32", "eager"))
    fresh = bench.stages(run)[0].modules["student"].state_dict()
    assert all(torch.equal(fresh[name.removeprefix("student.")], value) for name, value in before.items())
    assert store.get(*run.key).metrics["headline"] >= 0
    with pytest.raises(KdnbError, match=r"cannot begin with a resnet8: its student is a resnet14"):
        dataclasses.replace(probe, network="resnet14")


def test_a_probe_on_another_data_set(tmp_path, monkeypatch):
    """What a student learned from digits, read off on a hundred classes of other images: only its classifier learns."""
    parts = splits("cifar100")
    publish(monkeypatch, "cifar100", parts)
    write_layout(tmp_path / "data", "cifar100", parts)
    learned = student("kd")
    keep_teacher(learned)
    moved = dataclasses.replace(learned.images, dataset="cifar100", student_images=None)
    probe = Run(dataclasses.replace(learned, images=moved, method="probe", start=learned), 1)
    store, bench = train(probe), Workbench(Store.open(), detect("cpu", "float32", "eager"))
    before = weights(store, probe.start)
    after = bench.stages(probe)[0].modules["student"]
    assert before["student.classifier.weight"].shape[0] == 10 and after.classifier.weight.shape[0] == 100
    kept = {k: v for k, v in after.state_dict().items() if not k.startswith("classifier.")}
    assert all(torch.equal(before[f"student.{name}"], value) for name, value in kept.items())
    record = store.get(*probe.key)
    assert "ece" in record.metrics and "agreement" not in record.metrics  # its teacher tells ten other classes
    assert record.metrics["epochs"] == 1 and record.experiment["images"]["dataset"] == "cifar100"


def test_a_student_moves_to_other_classes_with_a_fresh_classifier():
    """Another data set has other classes: all but the classifier is taken over; another network is refused."""
    from kdnb import models

    old, new = models.create("resnet8", 10), models.create("resnet8", 7)
    fresh = new.classifier.weight.clone()
    begin_with(new, old.state_dict())
    assert torch.equal(new.classifier.weight, fresh) and torch.equal(new.stem[0].weight, old.stem[0].weight)
    with pytest.raises(KdnbError, match="would not fit"):
        begin_with(models.create("resnet14", 10), old.state_dict())


def test_a_step_of_the_teacher_is_shared_by_methods_and_students():
    """FT alone and with KD, on two students, at any recipe: one paraphraser a seed; other arguments are another one."""
    users = [student("ft"), student("ft+kd"), student("ft", "resnet14")]
    users.append(dataclasses.replace(users[0], recipe=dataclasses.replace(BRIEF, lr=0.1)))
    steps = {step.fingerprint for user in users for step in user.steps()}
    assert len(steps) == 1
    (step,) = users[0].steps()
    assert step.network is None and step.recipe is None and step.method == "paraphraser"
    assert step.canonical()["network"] is None and step.arguments == {"share": 0.5, "epochs": 30}
    narrow = dataclasses.replace(users[0], arguments={"paraphraser_share": 0.25})
    assert narrow.steps()[0].fingerprint not in steps and narrow.fingerprint != users[0].fingerprint


def test_a_step_is_trained_once_and_not_again():
    users = [Run(student("ft"), 1), Run(student("ft+kd"), 1), Run(student("ft", "resnet14"), 1)]
    keep_teacher(users[0].experiment)
    trained = [run.label for run in plan.missing(users, Store.open())]
    assert len(trained) == 4 and "paraphraser resnet14 on digits, seed 1" in trained[0]
    store = train(*users)
    (step,) = users[0].steps().values()
    metrics = store.get(*step.key).metrics
    assert "headline" not in metrics and metrics["epochs"] == 1
    before = weights(store, step)
    setup = Workbench(store, detect("cpu", "float32", "eager"))._setup(users[1])
    there = setup.steps["paraphraser"]["paraphraser"].state_dict()
    assert all(torch.equal(there[name.removeprefix("paraphraser.")], value) for name, value in before.items())
    assert plan.missing([Run(student("ft", "resnet14"), 1)], store) == []


def test_a_step_that_is_trained_again_for_its_weights_keeps_its_record():
    first, second = Run(student("ft"), 1), Run(student("ft", "resnet14"), 1)
    keep_teacher(first.experiment)
    store = train(first)
    (step,) = first.steps().values()
    record, folder = store.get(*step.key), store.weights_folder(step)
    shutil.rmtree(folder)
    told = record.path.read_text(encoding="utf-8").replace('"wall_seconds": ', '"wall_seconds": 1')
    record.path.write_text(told, encoding="utf-8")  # as another machine would have it
    store = train(second)
    assert store.weights_folder(step) is not None and record.path.read_text(encoding="utf-8") == told


def test_steps_of_a_method_follow_each_other():
    """A shared stage goes on from those before it: what trained the first is not trained again for the second."""
    from kdnb import methods

    two = dataclasses.replace(methods.get("fitnet"), shared=("hint", "train"))
    second = dataclasses.replace(experiment("fitnet"), stage="train")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "get", lambda name: two)
        (first,) = second.shared_stages()
        assert first.stage == "hint" and first.shared_stages() == []
        assert first.fingerprint == experiment("fitnet").shared_stages()[0].fingerprint


def test_stored_dictionaries_are_used_again() -> None:
    """A method, its variants and recipes share what has their sparsity and size; a probe goes on from its step 2."""
    tiny = {"predict_epochs": 1, "predict_batch_size": 75}
    whole = student("srm+kd", arguments=tiny)
    pixel = dataclasses.replace(whole, arguments={**tiny, "targets": "pixel"})
    other = dataclasses.replace(whole, arguments={**tiny, "dictionaries_size": 3.0})
    assert whole.steps()[0].fingerprint == pixel.steps()[0].fingerprint != other.steps()[0].fingerprint
    (predicted,) = whole.shared_stages()
    assert predicted.fingerprint == student("srm", arguments=tiny).shared_stages()[0].fingerprint
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


def test_few_images_of_each_class_are_others_for_each_seed_and_nested() -> None:
    """Five are among the ten of the same seed; none of them selects; a teacher has the whole of what is left."""
    images = dataclasses.replace(student("plain").images, student_images=None, split="held-out")
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


def _padded(images: object, padding: int) -> torch.Tensor:
    return torch.nn.functional.pad(images.padded, (0, 0, *(padding,) * 4))  # type: ignore[attr-defined]
