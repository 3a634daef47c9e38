"""Inheritance and exploration's tables as cells: printed numbers, settings, relatives, who is scored of two."""

from __future__ import annotations

import csv
import dataclasses

import pytest
from study_samples import record

from kdnb import analysis, exhibits, methods, models, paths
from kdnb.errors import KdnbError
from kdnb.exhibits import ERROR, iekd
from kdnb.exhibits.reported import reported
from kdnb.study.experiment import Run
from kdnb.study.profile import Profile, get_profile
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.training.numerics import detect

ON_CIFAR = ("table1", "table4", "table5", "table6a", "table6b", "supp-table1")
PROFILES = ("demo", "pilot", "short", "paper")


def cell(exhibit: str, key: str, profile: str = "paper", dataset: str | None = None):
    return exhibits.get(f"iekd/{exhibit}").cell(profile, key, dataset)


def every(profile: str):
    return [(e, c) for e in exhibits.select("iekd") for c in e.cells(profile)]


# -- printed numbers ---------------------------------------------------------------------------------------


def test_every_printed_number_stands_in_a_cell():
    """166 of the tables on CIFAR, 36 of those on ImageNet and VOC, and each line of the CSV but those of the text."""
    tables = [(e, c) for e, c in every("paper") if not e.ablation and not e.name.startswith("text")]
    found = [(e.name, c) for e, c in tables if c.reported is not None]
    on_cifar = [c for name, c in found if name in ON_CIFAR and c.dataset != "imagenet"]
    assert len(on_cifar) == 166 and all(c.experiment is not None for c in on_cifar)
    assert len(found) == 166 + 5 + 22 + 9
    with open(paths.reported() / "iekd.csv", newline="", encoding="utf-8") as stream:
        lines = [line for line in csv.DictReader(stream) if not line["exhibit"].startswith("text")]
    assert len(lines) == len(found)
    keys = {(name, c.dataset, c.score.key, c.part.printed_key) for name, c in found}
    printed = {(name, *key) for name in {l["exhibit"] for l in lines} for key in reported("iekd", name, iekd.key_of)}
    assert printed == keys


def test_numbers_of_the_text_stand_beside_what_is_measured_of_weights():
    told = {(c.row.key, c.score.key): c.reported for c in exhibits.get("iekd/text-4.7").cells("paper")}
    told = {key: value for key, value in told.items() if value is not None}
    neurons = {("teacher", "active_neurons"): 46, ("ie-ft", "active_neurons_inheriting"): 45}
    assert told == {**neurons, ("plain", "training_loss"): 0.126, ("ie-ft", "training_loss"): 0.131}


def test_printed_numbers_by_hand():
    assert cell("table1", "resnet56-resnet20/ie-od").reported == 6.53
    assert cell("table1", "wrn_46_4-vgg13_pool4/plain").reported == 5.99
    assert cell("table1", "wrn_16_2-wrn_16_1/teacher").reported == 6.27
    assert cell("supp-table1", "resnet56-resnet20/ie-od").reported == 6.33
    assert cell("supp-table1", "wrn_46_4-vgg13_pool4/pkt").reported == 4.62
    assert cell("table4", "resnet110a-resnet32-first/dml").reported == 28.69
    assert cell("table4", "resnet32-resnet110a-second/dml").reported == 25.59
    assert cell("table4", "resnet32-resnet32-first/ie-dml").reported == 28.59
    assert cell("table4", "resnet32-resnet32-second/ie-dml").reported == 28.15
    assert cell("table4", "resnet32-resnet32-second/independent").reported == 68.99  # as it is printed
    assert cell("table4", "resnet32-mobilenet_v1-second/independent").reported == 26.35
    assert cell("table5", "resnet110a-resnet32/share-30", dataset="cifar100").reported == 27.23
    assert cell("table6a", "resnet110a-resnet32/metric-partial-l2").reported == 26.71
    assert cell("table6b", "resnet110a-resnet32/weights-500-50").reported == 26.33
    assert cell("table6b", "resnet110a-resnet32/plain").reported == 31.01
    assert cell("table3", "resnet50-resnet18/ie-od").reported == 73.51


# -- what runs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["pilot", "short", "paper"])
def test_every_cell_on_cifar_can_run(profile):
    for exhibit, found in every(profile):
        if found.dataset in ("imagenet", "voc2007"):
            assert found.experiment is None and ("ImageNet" in found.why_not or "VOC" in found.why_not)
        else:
            assert found.experiment is not None, (exhibit.key, found.key)
            assert found.experiment.network in models.names()


def test_the_demo_has_every_exhibit_on_cifar_and_every_method():
    runs = [(e, c) for e, c in every("demo") if c.experiment is not None]
    assert {e.name for e, _ in runs} == {e.name for e in exhibits.select("iekd")} - {"table2", "table3"}
    of_paper = {c.experiment.method for _, c in every("paper") if c.experiment}
    assert {c.experiment.method for _, c in runs} == of_paper == {row.method for row in iekd.ROWS.values()}
    assert len({(c.experiment.fingerprint, s.seed) for e, c in runs for s in c.runs(e.seeds("demo"))}) <= 40


def test_the_recipe():
    found = cell("table1", "wrn_16_2-wrn_16_1/kd").experiment
    assert (found.recipe.epochs, found.recipe.batch_size, found.recipe.lr) == (160, 128, 0.1)
    assert found.recipe.milestones == (80, 120) and found.recipe.nesterov and found.recipe.weight_decay == 5e-4
    assert found.images.split == "test" and found.images.padding_mode == "reflect"
    assert found.teacher.recipe == found.recipe and found.recipe.selection == "last"
    assert found.arguments == {"labels_weight": 0.05, "soft_weight": 0.95, "temperature": 20.0}
    published, brief = (
        cell("dml-schedule", f"resnet32-resnet32-second/{key}").experiment for key in ("dml", "dml-brief")
    )
    assert (published.recipe.epochs, published.recipe.batch_size, published.recipe.milestones) == (
        200,
        64,
        (60, 120, 180),
    )
    assert brief.recipe == found.recipe and published.fingerprint != brief.fingerprint
    alone = cell("table4", "resnet32-mobilenet_v1-second/independent").experiment
    assert (alone.network, alone.recipe.weight_decay) == ("mobilenet_v1", 2e-4)


def test_a_run_that_stands_in_several_tables_is_one():
    once = {
        cell("table6a", "resnet110a-resnet32/ie-ft").experiment.fingerprint,
        cell("table6b", "resnet110a-resnet32/ie-ft").experiment.fingerprint,
        cell("table5", "resnet110a-resnet32/share-50", dataset="cifar100").experiment.fingerprint,
    }
    assert len(once) == 1
    factors = [cell("table1", f"resnet56-resnet20/{key}").experiment.steps()[0] for key in ("ft", *iekd.IE)]
    assert len({step.fingerprint for step in factors}) == 1  # one auto-encoder for FT and its kin


def test_self_training_learns_from_a_student_of_another_seed():
    found = cell("table1", "wrn_40_1-resnet20/tf-kd", "pilot").experiment
    assert found.teacher == cell("table1", "wrn_40_1-resnet20/plain", "pilot").experiment and found.teachers == "fixed"


# -- two networks that teach each other -----------------------------------------------------------------------


def test_two_networks_are_one_run_and_each_has_its_cell():
    first, second = (
        cell("table4", key) for key in ("wrn_28_10-resnet32-first/ie-dml", "resnet32-wrn_28_10-second/ie-dml")
    )
    assert first.experiment == second.experiment and first.experiment.fingerprint == second.experiment.fingerprint
    assert first.experiment.network == "resnet32" and first.experiment.arguments == {"peer": "wrn_28_10"}
    assert methods.get("ie-dml").arguments(first.experiment.arguments)["factors_width"] == 32
    run = record(Run(first.experiment, 1), 0.70, metrics={"peer": 0.80})
    assert (first.score.of(run), second.score.of(run)) == (pytest.approx(30), pytest.approx(20))
    alone = record(Run(cell("table4", "resnet32-wrn_28_10-second/independent").experiment, 1), 0.75)
    assert second.score.of(alone) == pytest.approx(25)
    titles = [found.column.title for found in (first, second)]
    assert titles[0].startswith("CIFAR-100, ResNet32 beside WRN-28-10") and "WRN-28-10 beside ResNet32" in titles[1]
    assert ERROR.otherwise == ""


def test_a_peer_is_part_of_the_experiment_by_its_revision():
    found = cell("table4", "wrn_28_10-resnet32-first/dml").experiment
    assert found.canonical()["peer"] == {"name": "wrn_28_10", "revision": 1}
    assert "peer" not in cell("table4", "resnet32-resnet110a-second/independent").experiment.canonical()
    with pytest.raises(KdnbError, match="did you mean resnet110"):
        dataclasses.replace(found, arguments={"peer": "resnet1100"}).canonical()


@pytest.mark.usefixtures("empty_project")
def test_a_peer_is_measured_beside_its_student():
    brief = Profile("custom-test", get_profile("demo").factor, at_most=1, student_images=150, scale="demo")
    (column, *_) = iekd.TABLE_4.columns_of("demo")
    built = iekd.build(iekd.ROWS["dml-brief"], column, brief)
    run = Run(dataclasses.replace(built, arguments={"peer": "cnn1"}), 1, keeps=("peer",))
    store = Store.open()
    outcome = Runner(store, detect("cpu", "float32", "eager"), "iekd", say=lambda line: None).run([run])
    assert not outcome.failed
    found = store.get(*run.key)
    assert found.metrics["peer"] == pytest.approx(found.history["peer_accuracy"][-1], abs=1e-3)
    assert analysis.get("peer").needs == ("modules",) and {"ce", "peer_ce", "validation_ce"} <= set(found.history)
