"""Tables with a column a pair: printed numbers, measured ones where the networks are the paper's, relatives apart."""

from __future__ import annotations

import pytest
from book_samples import accuracy, asked_for, commands_of, fill
from study_samples import keep

from kdnb import exhibits, paths, tables
from kdnb.study.experiment import Run
from kdnb.study.store import Store


@pytest.fixture(autouse=True)
def _only_this_store(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "demo_results", lambda: tmp_path / "demo")
    monkeypatch.setattr(paths, "committed_results", lambda: tmp_path / "published")
    monkeypatch.setattr(paths, "committed_checkpoints", lambda: tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)


def texts(table):
    return [[entry.text for entry in line] for line in table.body]


def head(table, number=0):
    return [entry.text.replace("\N{NO-BREAK SPACE}", " ") for entry in table.head[number]]


def line(table, label):
    return next(entries for entries in texts(table) if entries[0] == label)


def test_the_paper_alone():
    printed, demo = tables.pairs("slkd/table1")
    assert head(printed, 0)[:3] == ["Method", "ResNet32x4 → ResNet8x4", "ResNet56 → ResNet8"]
    assert len(printed.head) == 1 and printed.note == "Nothing is measured at paper scale yet." and demo.of_demo
    assert line(printed, "Teacher")[1:3] == ["79.42", "72.34"] and line(printed, "Plain student")[1] == "72.50"
    assert line(printed, "SLKD − KD") == ["SLKD − KD", "+3.52", "+1.88", "+1.37", "+1.39", "+0.92", "+2.03"]
    assert head(demo, 1) == ["trained here", "ResNet14 → ResNet8"]
    assert line(demo, "SLKD") == ["SLKD", "not yet"] and line(demo, "SLKD − KD") == ["SLKD − KD", "–"]
    assert "5 of 6 pairs have no relatives" in demo.note and "says nothing about the paper" in demo.note


def test_measured_demo():
    fill(Store.open(), seeds=3, key="slkd/table5")
    _, demo = tables.pairs("slkd/table5")
    assert head(demo, 0)[1:] == ["ResNet56 → ResNet20", "ResNet32x4 → ResNet20"]
    assert head(demo, 1)[1:] == ["ResNet8 → ResNet8", "ResNet14 → ResNet8"]
    cells = exhibits.get("slkd/table5").cells("demo")
    place = {cell.key: number for number, cell in enumerate(cells)}
    scores = [100 * accuracy(place["resnet56-resnet20/kd"], seed) for seed in (1, 2, 3)]
    assert line(demo, "KD")[1].startswith(f"{sum(scores) / 3:.2f} ±") and line(demo, "KD")[1].endswith("(3)")
    gains = [100 * accuracy(place["resnet56-resnet20/slkd"], s) - kd for s, kd in zip((1, 2, 3), scores, strict=True)]
    assert line(demo, "SLKD − KD")[1].startswith(f"{sum(gains) / 3:+.2f} ±")
    assert set(demo.frame["trained"]) == {"ResNet8 → ResNet8", "ResNet14 → ResNet8"} and demo.frame["runs"].max() == 3


def test_measured_with_the_papers_networks():
    cell = exhibits.get("slkd/table1").cell("paper", "resnet56-resnet8/kd")
    keep(Run(cell.experiment, 1), 0.605)
    printed, _ = tables.pairs("slkd/table1")
    assert head(printed, 1) == ["paper", "measured"] and printed.note == ""
    assert line(printed, "KD")[:4] == ["KD", "73.33", "60.17", "60.50 (1)"] and len(line(printed, "KD")) == 8
    assert line(printed, "AT")[3] == "not yet" and line(printed, "SLKD − KD")[2:4] == ["+1.88", "–"]
    assert len(printed.frame) == 66


def test_table_7_prints_one_self_learning_teacher():
    printed, _ = tables.pairs("slkd/table7")
    assert line(printed, "SL-T alone, one")[1:] == ["75.71", "68.76"]
    assert line(printed, "SLKD, one SL-T")[1:] == ["76.13", "69.25"]
    assert line(printed, "SLKD")[1:] == ["–", "–"]


def test_planned_data_says_what_is_missing():
    (said,) = tables.pairs("slkd/table3")
    assert "ImageNet is not among the prepared data sets" in said.text and "not yet measured" in said.text


def test_an_ablation_prints_nothing_of_the_paper():
    (demo,) = tables.pairs("slkd/control", gain=("slkd", "kd-control"))
    assert line(demo, "SLKD − KD, 1.1 CE + 1.9 KL")[1:] == ["–", "–"] and "9 of 11 pairs" in demo.note


def test_parts_of_a_table():
    printed, demo = tables.pairs("slkd/table1", lines=["kd", "dkd"], only=["vgg13-vgg8", "resnet32x4-resnet8x4"])
    assert [e[0] for e in texts(printed)] == ["DKD", "KD"] and len(printed.head[0]) == 3
    assert head(demo, 0) == ["The paper's pair", "ResNet32x4 → ResNet8x4"]


def test_each_table_renders(tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_BATCH", "1")
    fill(Store.open(), seeds=1, key="slkd")
    for exhibit in exhibits.select("slkd"):
        for table in tables.pairs(exhibit):
            assert getattr(table, "name", "not yet measured") in table._repr_mimebundle_()["text/markdown"]


def test_the_command_below_a_part_of_a_table_asks_for_that_part():
    fill(Store.open(), seeds=1, key="slkd/table1")
    exhibit = exhibits.get("slkd/table1")
    pair = next(cell.column.pair.key for cell in exhibit.cells("demo") if cell.experiment)
    for options in ({}, {"lines": ["kd", "slkd"]}, {"only": [pair]}, {"only": [pair], "lines": ["kd"]}):
        (command,) = [c for table in tables.pairs(exhibit, **options) for c in commands_of(table)]
        frame = tables.pairs(exhibit, **options)[-1].frame
        shown = {*frame[frame["runs"] > 0]["fingerprint"]}
        assert {fingerprint for fingerprint, _ in asked_for(command)} == shown, command


def test_tables_of_one_scale_on_several_data_sets_have_names_of_their_own():
    fill(Store.open(), "pilot", seeds=1, key="iekd/table5")
    names = [table.name for table in tables.pairs("iekd/table5", "pilot")]
    assert len(names) == len(set(names)) and {"iekd-table5-cifar10-pilot", "iekd-table5-cifar100-pilot"} <= set(names)


def test_pairs_that_the_same_runs_stand_for_share_a_column():
    fill(Store.open(), seeds=1, key="slkd/fig4")
    demo = tables.pairs("slkd/fig4")[-1]
    assert head(demo)[1:] == ["VGG13 → VGG8; ResNet32x4 → ResNet8x4"]
    assert len(demo.frame["pair"].unique()) == 2 and (demo.frame["runs"] > 0).all()


def test_a_pair_without_runs_is_named_below_those_with_some():
    cell = exhibits.get("slkd/table1").cell("pilot", "resnet56-resnet8/kd")
    keep(Run(cell.experiment, 1), 0.605)
    before = tables.pairs("slkd/table1", "pilot", lines=["at"])[-1]
    assert len(head(before)) > 2 and "no runs" not in before.note, "where none has any, all stand there"
    table = tables.pairs("slkd/table1", "pilot", lines=["kd"])[-1]
    assert head(table)[1:] == ["ResNet56 → ResNet8"] and line(table, "KD") == ["KD", "60.50 (1)"]
    assert "2 of 6 pairs have no runs at this scale yet: " in table.note and (table.frame["runs"] == 0).sum() == 2
