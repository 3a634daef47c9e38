"""Curves at every measured scale: the study's first, the notebook's own profile last."""

from __future__ import annotations

import pandas as pd
import pytest
from book_samples import fill
from study_samples import experiment, record

from kdnb import exhibits, paths, plots
from kdnb.exhibits.show import published, show
from kdnb.methods.recipe import Recipe
from kdnb.methods.stage import Optimiser, Schedule, Stage
from kdnb.plots import Plot
from kdnb.plots.histories import milestones
from kdnb.study.experiment import Run
from kdnb.study.profile import get_profile
from kdnb.study.record import thinned
from kdnb.study.store import Store


@pytest.fixture(autouse=True)
def _only_this_store(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "demo_results", lambda: tmp_path / "demo")
    monkeypatch.setattr(paths, "committed_results", lambda: tmp_path / "published")
    monkeypatch.setattr(paths, "committed_checkpoints", lambda: tmp_path / "checkpoints")
    monkeypatch.setenv("KDNB_BATCH", "1")
    monkeypatch.chdir(tmp_path)


def test_only_the_demo_is_one_figure():
    fill(Store.open(), seeds=1, key="comparison/table1")
    runs = show("comparison/table1", ["plain", "kd"], "demo")
    assert published(runs) == [] and [plot.name for plot in plots.training(runs, "kd").plots] == ["curves-kd"]


def test_measured_scales_come_first_each_with_its_own_numbers(tmp_path):
    fill(Store.open(), seeds=1, key="comparison/table1")
    fill(Store.open(), "pilot", seeds=2, dataset="cifar100", key="comparison/table1")
    drawn = plots.training(show("comparison/table1", ["plain", "kd"], "demo"), "kd", name="c")
    assert [plot.name for plot in drawn.plots] == ["c-pilot-cifar100", "c"]
    text = drawn._repr_mimebundle_()["text/markdown"]
    assert text.index("c-pilot-cifar100.svg") < text.index("c.svg")
    assert set(pd.read_csv(tmp_path / "c-pilot-cifar100.csv")["seed"]) == {1, 2}
    assert set(pd.read_csv(tmp_path / "c.csv")["seed"]) == {1}
    assert "pilot" in drawn.plots[0].caption and "demo" in drawn.plots[1].caption


def test_a_notebook_at_pilot_scale_shows_it_once(monkeypatch):
    fill(Store.open(), "pilot", seeds=1, dataset="cifar100", key="comparison/table1")
    runs = show("comparison/table1", ["plain", "kd"], "pilot", dataset="cifar100")
    monkeypatch.delenv("KDNB_BATCH")
    drawn = plots.training(runs, "kd")
    assert len(drawn.plots) == 1 and "<svg" in drawn._repr_mimebundle_()["text/html"]


def test_what_the_notebooks_own_scale_lacks_is_not_told_below_a_scale_that_is_measured():
    fill(Store.open(), "pilot", seeds=1, dataset="cifar100", key="comparison/table1")
    drawn = plots.training(show("comparison/table1", ["plain", "kd"], "demo"), "kd", name="c")
    assert [plot.name for plot in drawn.plots] == ["c-pilot-cifar100"]


@pytest.mark.parametrize(("profile", "epochs"), [("pilot", 13), ("demo", 10), ("paper", 100)])
def test_the_rate_falls_where_it_fell_in_training(profile, epochs):
    """Not by the epochs that were trained, which are rounded: an eighth of 100 are 13, and of 40 are 5."""
    recipe, shares = Recipe(100, 64, 0.1, milestones=(40, 60)), get_profile(profile)
    optimiser, schedule = Optimiser("sgd", recipe.lr), Schedule(recipe.milestones)
    whole = Stage("train", {}, [], lambda batch: {}, optimiser, recipe.epochs, 64, schedule, student_depth=None)
    stage = whole.shortened(shares.factor, shares.at_most)
    run = Run(experiment("plain", shares, recipe=recipe), 1)
    assert milestones(record(run, metrics={"epochs": epochs})) == [*stage.schedule.milestones]
    assert stage.epochs == epochs


def test_nothing_measured_is_one_line():
    drawn = plots.training(show("comparison/table1", ["plain", "kd"], "demo"), "kd")
    text = drawn._repr_mimebundle_()["text/markdown"]
    assert text == "**Not yet measured:** Training of KD, demo of this build, Digits.\n"


def infoflow(*rows: str) -> Plot:
    """Curves of rows, of which those that labels do not teach have no accuracy in their history."""
    store, exhibit = Store.open(), exhibits.get("infoflow/table1")
    for row in rows:
        (cell, *_) = exhibit.cells("demo", None, [row])
        (run,) = cell.runs(1)
        history = {"last": [0.5, 0.25]} | ({"validation_accuracy": [0.25, 0.375]} if row == "plain" else {})
        store.write(run, record(run, history=thinned(history)), "infoflow")
    return plots.curves(show("infoflow/table1", rows), rows[-1])


def test_caption_and_words_tell_the_accuracy_that_is_drawn_and_whose():
    """And no mAP, which the table has."""
    plot = infoflow("plain", "pkt", "flow")
    (accuracy, _) = plot.figure.axes
    assert [line.get_label() for line in accuracy.lines] == ["Student"] and accuracy.get_title() == "Test accuracy"
    assert ": test accuracy; " in plot.caption
    assert plot.caption.endswith(
        " The classifier of methods without labels learns nothing, so only Student has a curve of accuracy."
    )
    assert plot.seen.endswith(
        " Test accuracy after the last epoch: Student 37.50 %. Proposed, loss in the last epoch: last layer 0.25."
    )


def test_every_row_with_a_curve_needs_no_word_about_it():
    assert "classifier" not in infoflow("plain").caption


def test_without_any_curve_of_accuracy_the_caption_says_so():
    plot = infoflow("flow")
    assert "so none has a curve of accuracy." in plot.caption
    assert plot.seen.endswith(" Proposed, loss in the last epoch: last layer 0.25.") and "accuracy" not in plot.seen
