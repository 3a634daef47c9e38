"""Curves at every measured scale: the study's first, the notebook's own profile last."""

from __future__ import annotations

import pandas as pd
import pytest
from book_samples import fill

from kdnb import paths, plots
from kdnb.exhibits.show import published, show
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
