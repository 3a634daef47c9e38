"""SLKD's tables and figures as cells: settings of the fact sheet, printed numbers where they belong, relatives."""

from __future__ import annotations

import csv

import pytest

from kdnb import exhibits, methods, models, paths
from kdnb.exhibits import slkd
from kdnb.exhibits.reported import reported
from kdnb.study.profile import get_profile

TABLES = ["table1", "table2", "table5", "table6", "table7", "table8", "table9"]


def cell(exhibit, key, profile="paper"):
    return exhibits.get(f"slkd/{exhibit}").cell(profile, key)


def test_every_printed_accuracy_stands_in_a_cell():
    tables = [exhibit for exhibit in exhibits.select("slkd") if not exhibit.ablation]
    shown = {(e.name, c.dataset, c.part.printed_key) for e in tables for c in e.cells("paper")}
    every = {(e.name, *key) for e in tables for key in reported("slkd", e.name, slkd.key_of)}
    printed = {(name, dataset, row) for name, dataset, metric, row in every if metric == "top1_accuracy"}
    assert printed <= shown
    with open(paths.reported() / "slkd.csv", newline="") as stream:
        lines = [line for line in csv.DictReader(stream) if line["metric"] == "top1_accuracy"]
    alone = [line for line in lines if line["method"] in ("teacher", "vanilla")]
    assert len({k for k in printed if not k[2].endswith(("/teacher", "/plain"))}) == len(lines) - len(alone)


def test_printed_numbers_by_hand():
    assert cell("table1", "resnet56-resnet8/reviewkd").reported == 60.27
    assert cell("table2", "wrn_40_2-shufflenet_v1/teacher").reported == 75.61
    assert cell("table2", "vgg13-mobilenet_v2/plain").reported == 64.60
    assert cell("table6", "wrn_40_2-wrn_16_2/kd").reported == 75.31
    assert cell("table1", "wrn_40_2-wrn_16_2/kd").reported == 74.92
    assert cell("table7", "vgg13-mobilenet_v2/slkd-self-one").reported == 68.76
    assert cell("table9", "resnet50-mobilenet_v2/slkd-sequential").reported == 68.29
    assert cell("table3", "resnet34-resnet18/kd").reported is None


@pytest.mark.parametrize("profile", ["short", "paper"])
def test_every_cell_on_cifar_can_run_with_the_papers_networks(profile):
    for exhibit in exhibits.select("slkd"):
        if exhibit.datasets == ("cifar100",):
            for found in exhibit.cells(profile, "cifar100"):
                assert found.experiment is not None
                networks = found.experiment.teacher and found.experiment.teacher.network, found.experiment.network
                assert networks in [
                    (found.column.pair.teacher, found.column.pair.student),
                    (None, found.column.pair.student),
                    (None, found.column.pair.teacher),
                ]


@pytest.mark.parametrize("name", ["table3", "table4"])
def test_imagenet_is_there_and_not_run(name):
    for profile in ("demo", "pilot", "short", "paper"):
        exhibit = exhibits.get(f"slkd/{name}")
        for found in exhibit.cells(profile, exhibit.datasets_of(profile)[0]):
            assert found.experiment is None and "ImageNet" in found.why_not and found.runs(3) == []


def test_every_exhibit_on_cifar_has_a_demo_and_a_pilot():
    for exhibit in exhibits.select("slkd"):
        if exhibit.datasets == ("cifar100",):
            for profile in ("demo", "pilot"):
                dataset = exhibit.datasets_of(profile)[0]
                assert any(found.experiment for found in exhibit.cells(profile, dataset)), (exhibit.key, profile)


def test_a_pair_without_relatives_says_so():
    found = cell("table1", "vgg13-vgg8/kd", "pilot")
    assert found.experiment is None and found.why_not == "no relatives of VGG13 → VGG8 at this scale"


def test_the_demo_exercises_every_method_and_switch():
    asked = [
        (c.experiment.method, tuple(sorted(c.experiment.arguments)))
        for e in exhibits.select("slkd")
        for c in e.cells("demo", "digits")
        if c.experiment
    ]
    tried = {method for method, _ in asked}
    assert tried == {"plain", "at", "sp", "rkd", "ofd", "crd", "reviewkd", "dkd", "kd", "slkd", "slkd-sequential"}
    switches = {name for method, names in asked if method == "slkd" for name in names}
    assert switches == {"teachers", "supervision", "coupled"}


def test_the_recipe():
    fast = cell("table1", "wrn_40_2-wrn_40_1/kd").experiment
    assert (fast.recipe.epochs, fast.recipe.batch_size, fast.recipe.lr) == (240, 64, 0.05)
    assert fast.recipe.milestones == (150, 180, 210) and fast.recipe.weight_decay == 5e-4
    assert fast.recipe.selection == "last" and fast.images.split == "test"
    for pair in slkd.CROSS_FAMILY:
        slow = cell("table2", f"{pair.key}/slkd").experiment
        assert slow.recipe.lr == 0.01 and slow.teacher.recipe.lr == 0.05


def test_settings_by_pair():
    def argument(exhibit, key, name):
        experiment = cell(exhibit, key).experiment
        return methods.get(experiment.method).arguments(experiment.arguments)[name]

    assert [argument("table1", f"{pair.key}/dkd", "beta") for pair in slkd.SAME_FAMILY] == [8, 2, 6, 6, 6, 6]
    assert [argument("table2", f"{pair.key}/dkd", "beta") for pair in slkd.CROSS_FAMILY] == [8, 8, 8, 6, 8]
    assert [argument("table1", f"{p.key}/reviewkd", "weight") for p in slkd.SAME_FAMILY] == [5, 0.6, 5, 5, 5, 5]
    assert [argument("table2", f"{p.key}/reviewkd", "weight") for p in slkd.CROSS_FAMILY] == [8, 5, 30, 30, 5]
    assert argument("review-weight", "vgg13-mobilenet_v2/reviewkd-8", "weight") == 8
    usual, tried = (cell(t, "vgg13-mobilenet_v2/reviewkd").experiment for t in ("table2", "review-weight"))
    assert tried == usual
    assert argument("table1", "vgg13-vgg8/crd", "negatives") == 16_384
    control = cell("control", "vgg13-vgg8/kd-control").experiment.arguments
    assert control == {"labels_weight": 1.1, "soft_weight": 1.9}


def test_a_run_that_stands_in_several_tables_is_one():
    once = {
        cell(t, "vgg13-mobilenet_v2/slkd").experiment.fingerprint for t in ("table2", "table7", "table9", "control")
    }
    assert len(once) == 1
    assert cell("table8", "vgg13-vgg8/slkd").experiment == cell("fig5", "vgg13-vgg8/slkd").experiment


def test_figures_keep_what_they_draw():
    for profile in ("demo", "paper"):
        for name in ("fig5", "fig6"):
            for run in cell(name, "vgg13-vgg8/slkd", profile).runs(1):
                assert run.keeps == slkd.DRAWN
    assert cell("table1", "vgg13-vgg8/kd").runs(1)[0].keeps == slkd.DRAWN
    assert cell("table1", "resnet56-resnet8/kd").runs(1)[0].keeps == ()


def test_names_of_networks_as_the_paper_writes_them():
    names = [slkd.title(n) for n in ("resnet32x4", "resnet56", "wrn_40_2", "vgg13", "shufflenet_v1", "mobilenet_v2")]
    assert names == ["ResNet32x4", "ResNet56", "WRN-40-2", "VGG13", "ShuffleNetV1", "MobileNetV2"]


def test_every_network_of_a_cell_exists():
    for exhibit in exhibits.select("slkd"):
        for profile in ("demo", "pilot", "paper"):
            for found in exhibit.cells(profile, exhibit.datasets_of(profile)[0]):
                if found.experiment is not None:
                    assert found.experiment.network in models.names()
    assert get_profile("demo").embedded_data
