"""The tables and figures of information flow as cells: every printed number, the chain of networks, the recipes."""

from __future__ import annotations

import csv
import dataclasses

import pytest
import torch

from kdnb import exhibits, methods, paths
from kdnb.exhibits import infoflow, status
from kdnb.exhibits.exhibit import Column
from kdnb.study import plan
from kdnb.study.experiment import Experiment, Run
from kdnb.study.profile import get_profile
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.study.workbench import Workbench
from kdnb.training.numerics import detect

CIFAR = ("table1", "table2", "table6")


def experiment(name: str, key: str, profile: str = "paper") -> Experiment:
    found = exhibits.get(f"infoflow/{name}").cell(profile, key).experiment
    assert found is not None
    return found


def test_every_printed_number_stands_in_one_cell():
    """116 that CIFAR-10 can show, and 117 of tables that wait for other images."""
    found = {e.name: [c for c in e.cells("paper") if c.printed] for e in infoflow.EXHIBITS}
    counts = {name: len(printed) for name, printed in found.items() if printed}
    assert counts == {"table1": 76, "table2": 16, "table3": 44, "table4": 55, "table5": 18, "table6": 24}
    assert sum(counts[name] for name in CIFAR) == 116
    with open(paths.reported() / "infoflow.csv", newline="", encoding="utf-8") as stream:
        lines = [line for line in csv.DictReader(stream) if line["exhibit"].startswith("table")]
    assert len(lines) == sum(counts.values())


def test_printed_numbers_by_hand():
    printed = {(c.exhibit, c.row.key, c.score.key): c.reported for e in infoflow.EXHIBITS for c in e.cells("paper")}
    assert printed["infoflow/table1", "flow", "map_cosine"] == 53.06
    assert printed["infoflow/table1", "plain", "map_euclidean"] == 35.30
    assert printed["infoflow/table1", "contrastive", "map_euclidean"] == 47.69
    assert printed["infoflow/table1", "hint-h+contrastive", "top100_precision_cosine"] == 61.07
    assert printed["infoflow/table1", "aux", "top100_precision_cosine"] == 75.91
    assert printed["infoflow/table2", "flow", "train_top1_accuracy"] == 73.24
    assert printed["infoflow/table2", "flow", "top1_accuracy"] == 71.97
    assert printed["infoflow/table2", "plain", "top1_accuracy"] is None
    assert printed["infoflow/table6", "cnn1_h-cnn1_l", "map_cosine"] == 37.51
    assert printed["infoflow/table5", "hog", "map_cosine"] == 32.06


def test_the_published_networks_levels_of_recall_are_behind_the_printed_numbers():
    """Their means of eleven are Table 1's mAP; of CNN-1-A from labels alone nothing is printed."""
    columns = {"euclidean": "map_euclidean", "cosine": "map_cosine"}
    levels = infoflow.levels_of_published()
    assert set(levels) == {(row, distance) for row in infoflow.RANKED for distance in columns}
    for cell in exhibits.get("infoflow/table1").cells(
        "paper", "cifar10", [r for r in infoflow.RANKED if r != "aux-start"]
    ):
        for distance, score in columns.items():
            if cell.score.key == score:
                found = levels[cell.row.key, distance]
                assert len(found) == 11 and sum(found) / 11 == pytest.approx(cell.reported, abs=0.01)


@pytest.mark.parametrize("profile", ["demo", "pilot", "short", "paper"])
def test_what_cifar_can_show_can_run_and_the_rest_says_why_not(profile):
    for exhibit in exhibits.select("infoflow"):
        for cell in exhibit.cells(profile):
            if exhibit.name in ("table4", "table5") or (exhibit.name, profile) == ("table3", "demo"):
                assert cell.experiment is None and cell.why_not.endswith(("without labels", "networks", "split"))
            else:
                assert cell.experiment is not None


def test_a_chain_of_three_networks():
    """ResNet-18 teaches CNN-1-A, which labels have taught before, and that one, of each seed, the student."""
    flow = experiment("table1", "flow")
    auxiliary = flow.teacher
    assert (flow.network, flow.teachers, flow.start) == ("cnn1", "of each seed", None)
    assert auxiliary == experiment("table1", "aux") and auxiliary.arguments == {"layers": "last"}
    assert (auxiliary.network, auxiliary.teachers) == ("cnn1_a", "fixed")
    assert auxiliary.teacher == experiment("table1", "teacher") and auxiliary.teacher.network == "preact_resnet18"
    assert (auxiliary.start.network, auxiliary.start.method, auxiliary.start.recipe.epochs) == ("cnn1_a", "plain", 80)
    assert Run(flow, 2).teacher == Run(auxiliary, 2) and Run(auxiliary, 2).teacher == Run(auxiliary.teacher, 0)
    for key in ("hint", "mkt", "pkt", "distill"):
        assert experiment("table1", key).teacher == auxiliary.teacher
    for key in ("hint-h", "mkt-h", "pkt-h"):
        assert experiment("table1", key).teacher == auxiliary and experiment("table1", key).arguments["layers"] == "all"


def test_the_recipes_are_the_published_phases():
    def phase(e):
        r = e.recipe
        assert (r.optimiser, r.batch_size, r.lr, r.weight_decay, r.selection) == ("adam", 128, 1e-3, 0.0, "last")
        assert r.norm_scale == "uniform" and e.images.split == "test" and e.images.student_images is None
        return r.epochs, r.milestones, r.restart

    flow = experiment("table1", "flow")
    assert phase(flow) == (50, (), "epoch")
    assert phase(flow.teacher) == (40, (30,), "drop")
    assert phase(flow.teacher.start) == phase(flow.teacher.teacher) == (80, (50,), "drop")
    assert phase(experiment("table1", "plain")) == (50, (), "never")


def test_a_run_that_stands_in_several_tables_is_one():
    flow = experiment("table1", "flow").fingerprint
    others = (("table6", "cnn1_a-cnn1"), ("fig1", "flow"), ("controls", "flow"), ("starts", "flow"), ("norms", "flow"))
    assert {experiment(*other).fingerprint for other in others} == {flow}
    assert experiment("fig1", "flow-last") == experiment("controls", "flow-last")
    every = {c.experiment.fingerprint for e in exhibits.select("infoflow") for c in e.cells("pilot") if c.experiment}
    rows = {row for e in exhibits.select("infoflow") for row in (r.key for r in e.rows)}
    assert len(every) > len(rows) - 15


def test_a_place_has_one_experiment_for_a_row():
    """What is compared is compared by row and column: two tables never mean two things by one."""
    met: dict[tuple[str, str], str] = {}
    for exhibit in exhibits.select("infoflow"):
        for cell in exhibit.cells("paper"):
            if cell.experiment is not None:
                where = cell.column.key, cell.row.key
                assert met.setdefault(where, cell.experiment.fingerprint) == cell.experiment.fingerprint, where


def test_table_2_reads_off_what_table_1_has_learned():
    for key in ("plain", *infoflow.TRANSFER):
        probe, tuned = experiment("table2", key), experiment("tuned", f"{key}-tuned")
        assert (probe.method, tuned.method) == ("probe", "plain")
        assert probe.start == tuned.start == experiment("table1", key) and probe.teacher is None
        assert probe.recipe == tuned.recipe == infoflow.STEADY


def test_controls_differ_in_one_thing():
    flow = experiment("table1", "flow")

    def apart(name, key):
        other = experiment(name, key)
        same = flow.recipe == other.recipe
        given = methods.get(other.method).arguments(other.arguments)
        usual = methods.get(flow.method).arguments(flow.arguments)
        return {k for k in given if given[k] != usual[k]} | (set() if same else {"recipe"})

    def apart_of(key):
        """When Adam begins afresh, of a row and of its control; all else is one."""
        kept, afresh = experiment("optimiser", key), experiment("optimiser", f"{key}-afresh")
        assert dataclasses.replace(afresh, recipe=kept.recipe, note=kept.note) == kept
        return kept.recipe.restart, afresh.recipe.restart

    assert apart("controls", "flow-even") == {"first_weight"}
    assert apart("controls", "flow-balanced") == {"balanced"}
    assert apart("controls", "flow-kept") == {"recipe"}
    assert {apart_of(key) for key in infoflow.KEPT} == {("never", "epoch")}
    assert apart("controls", "flow-last") == {"layers", "recipe"}
    assert apart("readings", "flow-paper") == {"reading"}
    assert apart("norms", "flow-ones") == {"recipe"}
    assert experiment("recall", "aux-start") == experiment("table1", "aux").start
    started = experiment("starts", "flow-labels")
    assert started.start == experiment("table1", "plain") and started.teacher == flow.teacher


def test_a_variation_keeps_its_lesson():
    varied = infoflow.build(infoflow.variation("flow", decay=0.5), Column("cifar10"), get_profile("pilot"))
    usual = experiment("table1", "flow", "pilot")
    assert varied.teacher == usual.teacher and varied.arguments == {"decay": 0.5}


def test_the_chain_runs_and_is_measured(empty_project):
    """An epoch of each on the digits: five runs for one cell of Table 2, with every score of Tables 1 and 2."""
    profile = get_profile("demo").limited(1)
    (flow,) = exhibits.get("infoflow/recall").cells(profile, "digits", ["flow"])[0].runs(1)
    (probe,) = exhibits.get("infoflow/table2").cells(profile, "digits", ["flow"])[0].runs(1)
    assert [run.experiment.method for run in plan.with_needs([probe])].count("plain") == 2
    store = Store.open()
    outcome = Runner(store, detect("cpu", "float32", "eager"), "infoflow", say=lambda line: None).run([flow, probe])
    assert not outcome.failed and not outcome.left
    learned, read_off = (store.get(*run.key) for run in (flow, probe))
    for score in (*infoflow.PUBLISHED, *infoflow.TEXTBOOK):
        assert 5 < score.of(learned) <= 100, score.title
    assert all(0 <= score.of(read_off) <= 100 for score in infoflow.ACCURACIES)
    arrays = store.arrays(learned)
    for distance in ("euclidean", "cosine"):
        mean = arrays[f"recall_levels_{distance}"].mean()
        assert learned.metrics[f"map_11pt_{distance}"] == pytest.approx(mean, rel=1e-4)
    weights = store.load_weights(flow)
    assert status.progress(exhibits.get("infoflow/table1"), "demo", store)["wanted"] == 19  # a run has four scores
    start = Workbench(store, detect("cpu", "float32", "eager")).stages(flow)[0].modules["student"].state_dict()
    assert torch.equal(weights["student.classifier.weight"], start["classifier.weight"])  # untouched, as published
    assert not torch.equal(weights["student.hidden.weight"], start["hidden.weight"])
