"""Flows of information: layer matching by hand, and a network whose layers are known; how they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from study_samples import record
from torch import nn

from kdnb import analysis, exhibits, models, plots, tables
from kdnb.analysis import Observed, Subject
from kdnb.analysis.flows import flow_divergence, matched_layers
from kdnb.analysis.information import nearest_centroid, qmi
from kdnb.errors import KdnbError
from kdnb.exhibits import infoflow
from kdnb.methods.matching import layers_of
from kdnb.study.store import Store
from kdnb.training.images import DeviceImages, Normalisation


def test_layers_are_matched_by_what_they_know_and_the_last_by_the_last():
    student, teacher = [0.31, 0.5, 0.52, 0.6], [0.3, 0.45, 0.7, 0.9]
    assert matched_layers(student, teacher) == [0, 1, 1, 3]
    assert flow_divergence(student, teacher) == pytest.approx(0.01**2 + 0.05**2 + 0.07**2 + 0.3**2)
    assert matched_layers([0.5], teacher) == [3] and matched_layers([0.5, 0.5], [0.25, 0.75]) == [0, 1]
    with pytest.raises(KdnbError, match="a layer at least"):
        matched_layers([], teacher)


def images(count: int, seed: int) -> DeviceImages:
    stream = np.random.default_rng(seed)
    pixels, labels = stream.integers(0, 255, (count, 16, 16, 3), dtype=np.uint8), np.arange(count) % 3
    return DeviceImages(pixels, labels, Normalisation((0.5,) * 3, (0.2,) * 3), torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("name", ["cnn1", "resnet8"])
def test_a_flow_is_that_of_the_layers_that_methods_match(name, monkeypatch):
    """By layer, of the first images alone, in eval mode."""
    monkeypatch.setattr("kdnb.analysis.flows.TRAINING", 40)
    monkeypatch.setattr("kdnb.analysis.flows.TEST", 30)
    torch.manual_seed(0)
    network, train, test = models.create(name, 3).train(), images(60, 1), images(50, 2)
    labels = test.labels.numpy()
    subject = Subject(Observed(network, test), None, labels, np.arange(50), 3, 1, training=train)
    _, found = analysis.get("flows").of(subject)
    network.eval()
    with torch.no_grad():
        known = layers_of(network, network.activations(train.plain(0, 40)[0], "embedding"))
        asked = layers_of(network, network.activations(test.plain(0, 30)[0], "embedding"))
    for number, (a, b) in enumerate(zip(known, asked, strict=True), 1):
        assert found[f"ncc_{number}"] == nearest_centroid(a, train.labels[:40], b, test.labels[:30])
        assert found[f"qmi_{number}"] == pytest.approx(qmi(b, test.labels[:30]), rel=1e-6)
    _, course = analysis.get("flow_course").of(subject)
    assert {f"course_{key}": value for key, value in found.items()} == course
    assert not any(isinstance(m, nn.BatchNorm2d) and m.training for m in network.modules())


def test_flows_are_drawn_with_the_teachers_beside_them(empty_project):
    """A column a network, a line a layer; numbers in the frame, periods as far as the run went."""
    exhibit, store = exhibits.get("infoflow/flows"), Store.open()
    epochs = np.arange(7)
    for key in ("teacher", "aux", "flow"):
        (run,) = exhibit.cell("pilot", key).runs(1)
        kinds = {f"{kind}_{layer}": 0.1 * layer for kind in ("ncc", "qmi") for layer in (1, 2, 3, 4)}
        metrics = {"headline": 0.5, "epochs": 7, **(kinds if key == "teacher" else {})}
        arrays = {f"course_{name}": value + 0.01 * epochs for name, value in kinds.items()}
        arrays["flow_course_epochs"] = epochs
        store.write(run, record(run, metrics=metrics), "infoflow", arrays if key != "teacher" else None)
    plot = plots.flows(exhibit, "pilot", periods=infoflow.PERIODS)
    assert [axes.get_title() for axes in plot.figure.axes[:2]] == ["Auxiliary", "Proposed"]
    assert "Dotted: the layers of ResNet20" in plot.caption and "seed 1" in plot.caption
    at_end = plot.frame[(plot.frame["line"] == "flow") & (plot.frame["epoch"] == 6)].iloc[0]
    assert at_end["ncc_4"] == pytest.approx(0.46) and set(plot.frame["line"]) == {"aux", "flow"}
    told = tables.flows(exhibit, infoflow.FLOW_PAIRS, "pilot")
    texts = [[entry.text for entry in entries] for entries in told.body]
    assert [text[:2] for text in texts] == [
        ["Auxiliary", "Teacher"],
        ["Proposed", "Auxiliary"],
    ]  # no plain run is there
    assert "Proposed: in the end, layers 1 to 4, nearest centroid, %: 16, 26, 36, 46; mutual" in plot.seen
    assert texts[0][2:5] == ["0.160, 0.260, 0.360, 0.460", "2 3 4 4", f"{3 * 0.04**2 + 0.06**2:.2g}"]
    assert texts[1][3:5] == ["1 2 3 4", "0"]
    (bottom, top) = plot.figure.axes[1].get_ylim()
    assert bottom < 16 and top > 46  # percent


def test_recalls_are_drawn_beside_those_of_the_published_networks(empty_project):
    exhibit, store = exhibits.get("infoflow/recall"), Store.open()
    (run,) = exhibit.cell("pilot", "flow").runs(1)
    arrays = {f"recall_levels_{distance}": np.linspace(0.8, 0.1, 11) for distance in ("euclidean", "cosine")}
    store.write(run, record(run), "infoflow", arrays)
    plot = plots.recalls(exhibit, infoflow.levels_of_published(), "pilot")
    assert [len(axes.get_lines()) for axes in plot.figure.axes] == [2, 2]  # a line and its dashes
    first = plot.frame[(plot.frame["distance"] == "cosine") & (plot.frame["recall"] == 0)].iloc[0]
    assert (first["measured"], first["published"]) == (80.0, 80.11)
    assert "by cosine distance precision falls from 80 to 10 %, mean 45 %" in plot.seen


def test_the_critical_periods_are_those_of_the_weights():
    """Figure 1's bands: connections form while the weight is 2 at least, and all is compression below 0.01."""
    weights = [100 * 0.7**epoch for epoch in range(50)]
    (_, forming), (formed, compressed) = infoflow.PERIODS[0][1:], infoflow.PERIODS[1][1:]
    assert weights[forming] >= 2 > weights[forming + 1] and forming == formed
    assert weights[compressed] >= 0.01 > weights[compressed + 1] and infoflow.PERIODS[2][1] == compressed
