"""Learning from images without labels, of another data set than the teacher's: Table 3 of information flow, small."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from dataset_samples import publish, splits, write_layout
from test_datasets_stl10 import unpacked  # noqa: F401 - a fixture: a small STL-10 in the true format
from typer.testing import CliRunner

from kdnb import datasets, exhibits
from kdnb.cli import app
from kdnb.errors import KdnbError
from kdnb.exhibits import infoflow
from kdnb.study import plan
from kdnb.study.experiment import Experiment
from kdnb.study.profile import get_profile
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.study.workbench import Workbench
from kdnb.training.numerics import detect

TABLE = exhibits.get("infoflow/table3")
BRIEF = get_profile("pilot").limited(1)


def experiment(key: str, profile=BRIEF) -> Experiment:
    found = TABLE.cell(profile, key).experiment
    assert found is not None
    return found


@pytest.fixture
def cifar10(tmp_path, monkeypatch, empty_project):
    """A small CIFAR-10, taken for the published one, and a place for what is prepared."""
    parts = splits("cifar10")
    publish(monkeypatch, "cifar10", parts)
    monkeypatch.setenv("KDNB_DATA", str(tmp_path / "prepared"))
    write_layout(tmp_path / "prepared", "cifar10", parts)


def study(exhibit: str, rows: str) -> tuple[int, str]:
    """Exit code and everything that was said."""
    arguments = f"study --exhibit {exhibit} --rows {rows} --profile pilot --epochs 1 --seeds 1 --dtype float32"
    done = CliRunner().invoke(app, arguments.split())
    return done.exit_code, " ".join(f"{done.output} {done.exception or ''}".split())


def test_the_table_is_trained_on_images_without_labels_and_measured_on_those_with(cifar10, unpacked):  # noqa: F811
    datasets.prepare("stl10", unpacked)
    runs = {key: TABLE.cell(BRIEF, key).runs(1)[0] for key in ("plain", "distill", "flow")}
    store = Store.open()
    Runner(store, detect("cpu", "float32", "eager"), "infoflow", say=lambda line: None).run(runs.values()).check()
    for run in runs.values():
        record = store.get(*run.key)
        assert record is not None and record.experiment["images"]["dataset"] == "stl10"
        assert all(0 < score.of(record) <= 100 for score in infoflow.PUBLISHED)
    distilled = store.get(*runs["distill"].key)
    assert (
        distilled is not None and "soft" in distilled.history and "train_accuracy" not in distilled.history
    )  # no labels, no accuracy

    bench = Workbench(store, detect("cpu", "float32", "eager"))
    material, evidence = bench.material(runs["flow"].experiment.images)
    assert len(material.training) == 25 and set(material.training.labels.tolist()) == {-1}
    assert (len(evidence.labelled), len(evidence.test)) == (20, 30)
    assert sorted(evidence.labelled.labels.tolist()) == sorted(2 * list(range(10)))

    before = store.load_weights(runs["plain"].start)  # its features are those that CIFAR-10 has made
    after = bench.stages(runs["plain"])[0].modules["student"].state_dict()
    assert torch.equal(before["student.hidden.weight"], after["hidden.weight"])


def test_without_its_images_a_table_says_so_and_what_it_needs_of_others_is_trained(cifar10):
    code, said = study("infoflow/table3", "plain")
    assert code == 1 and "`kdnb data prepare stl10`" in said
    (plain,) = TABLE.cell(BRIEF, "plain").runs(1)
    assert Store.open().get(*plain.start.key) is not None and Store.open().get(*plain.key) is None


def test_runs_on_other_images_go_on_where_one_data_set_is_missing(cifar10):
    """What comes first lacks its images; that ends no other run, and each of its own says why."""
    lost = TABLE.cell(BRIEF, "plain").runs(2)
    (other,) = exhibits.get("infoflow/table1").cell(BRIEF, "contrastive").runs(3)[2:]
    said: list[str] = []
    wanted = [lost[0], other, lost[1]]
    outcome = Runner(Store.open(), detect("cpu", "float32", "eager"), "infoflow", say=said.append).run(wanted)
    assert other in outcome.recorded and outcome.failed.keys() == {run.key for run in lost}
    assert all("`kdnb data prepare stl10`" in why for why in outcome.failed.values())
    assert [line.endswith("Left out for now: 2 runs; those on other images go on.") for line in said].count(True) == 1


def test_who_learns_from_what():
    """The teacher is CIFAR-10's, on which nothing of STL-10 is learned; the auxiliary is taught on the new images."""
    flow, hint = experiment("flow", get_profile("paper")), experiment("hint", get_profile("paper"))
    auxiliary = experiment("aux", get_profile("paper"))
    home = infoflow.teacher(get_profile("paper"), "cifar10")
    assert flow.teacher == auxiliary and flow.teachers == "of each seed"
    assert auxiliary.teacher == hint.teacher == home and auxiliary.start.images.dataset == "cifar10"
    assert {e.images.learned for e in (flow, hint, auxiliary)} == {"unlabelled"}
    assert experiment("teacher", get_profile("paper")).start == home
    assert (
        experiment("plain", get_profile("paper")).start
        == exhibits.get("infoflow/table1").cell("paper", "plain").experiment
    )
    assert {e.images.learned for e in (home, experiment("plain"))} == {"train"} and "learned" not in home.canonical()[
        "images"
    ]
    assert "digits" in TABLE.cell("demo", "flow").why_not
    assert len(plan.with_needs(TABLE.cell("paper", "flow").runs(1))) == 4


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": "plain", "teacher": None, "teachers": "fixed"}, "plain .*learns from labels"),
        ({"arguments": {"contrastive_weight": 1.0}}, "learns from labels"),
        ({"images": infoflow.images("cifar10", None)}, "CIFAR-10 has no images without labels"),
    ],
)
def test_what_needs_labels_is_refused_before_it_is_trained(changes, told):
    flow = experiment("flow")
    images = dataclasses.replace(changes.pop("images", flow.images), learned="unlabelled")
    with pytest.raises(KdnbError, match=told):
        dataclasses.replace(flow, images=images, **changes)
