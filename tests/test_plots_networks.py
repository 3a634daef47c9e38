"""Figures of networks seen from within: what is drawn is what lies beside the records."""

from __future__ import annotations

import numpy as np
import pytest
from study_samples import record
from test_plots_slkd import keep_arrays, titles

from kdnb import exhibits, plots
from kdnb.study.store import Store

pytestmark = pytest.mark.usefixtures("empty_project")

EXHIBIT = "slkd/fig5"
MAPS = [("kd", "whole"), ("slkd", "inheriting"), ("slkd", "exploring")]


@pytest.fixture
def relevance():
    """Of two images: the first is right, the second taken for class 4."""
    stream = np.random.default_rng(0)
    pictures = stream.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    maps = stream.normal(size=(2, 3, 16, 16)).astype(np.float32)
    maps[:, 0] = maps[:, 1] + maps[:, 2]
    return {"pictures": pictures, "relevance_maps": maps, "shown_classes": np.array([[1, 1], [2, 4]], np.int16)}


def test_relevance_has_a_column_for_every_map_and_one_scale_for_a_networks_parts(relevance):
    keep_arrays(EXHIBIT, "demo", "slkd", 1, {}, **relevance)
    plot = plots.relevances(EXHIBIT, MAPS)
    places = np.array(plot.figure.axes).reshape(2, 4)
    assert titles(plot) == ["image", "KD", "SLKD\ninheriting part", "SLKD\nexploring part"]
    assert [axes.get_ylabel() for axes in places[:, 0]] == ["class 1", "class 2"]
    assert [axes.get_xlabel() for axes in places[:, 2]] == ["", "taken for 4"]
    assert [t.get_text() for t in places[0, 1].texts] == ["not yet measured"] and not places[0, 1].images
    inheriting, exploring = (places[1, column].images[0] for column in (2, 3))
    assert np.array_equal(exploring.get_array(), relevance["relevance_maps"][1, 2])
    limit = float(np.abs(relevance["relevance_maps"][1]).max())
    assert inheriting.get_clim() == exploring.get_clim() == (-limit, limit)
    sums = plot.frame.set_index(["part", "true"])["sum"]
    assert sums["exploring", 2] == pytest.approx(relevance["relevance_maps"][1, 2].sum(), abs=1e-3)
    assert "seed 1" in plot.caption and "<svg" in plot.to_svg()
    assert "SLKD: 1 of 2 images recognised, logits of their true classes " in plot.seen


def test_noise_is_drawn_from_nothing_with_intervals_over_draws():
    for line, factor in (("kd", 2.0), ("slkd", 1.0)):
        rise = factor * np.array([[0.1, 0.5], [0.3, 0.7], [0.2, 0.6]])
        arrays = {"noise": np.array([0.01, 0.02]), "noise_rise": rise}
        relative = {"relative_noise": np.array([0.1, 0.2]), "relative_noise_rise": 10 * rise}
        keep_arrays(EXHIBIT, "demo", line, 1, {"training_loss": 0.1 * factor}, **arrays, **relative)
    plot = plots.noise(EXHIBIT)
    left, right = plot.figure.axes
    drawn = {line.get_label(): line.get_xydata() for line in left.lines}
    assert drawn["KD"] == pytest.approx(np.array([[0, 0], [0.01, 0.4], [0.02, 1.2]]))
    assert drawn["SLKD"] == pytest.approx(np.array([[0, 0], [0.01, 0.2], [0.02, 0.6]]))
    assert max(line.get_ydata().max() for line in right.lines) == pytest.approx(12)
    half = 4.303 * 0.1 / 3**0.5  # Student's t of three draws
    point = plot.frame.set_index(["line", "kind", "scale"]).loc[("slkd", "noise", 0.01)]
    assert (point["low"], point["high"]) == pytest.approx((0.2 - half, 0.2 + half), rel=1e-3)
    assert "KD 0.200, SLKD 0.100" in plot.caption and "not over seeds" in plot.caption
    rise = "KD: the loss rises by 1.2 nats under noise of standard deviation 0.02, by 12 under noise 0.2 times as long"
    assert rise in plot.seen


def test_stages_are_a_table_for_every_row():
    values = np.array([[1.0, 0.25, 0.1], [0.5, 0.75, 0.2], [0.0, 0.1, 0.9]], np.float32)
    keep_arrays(EXHIBIT, "demo", "slkd", 1, {}, stage_cka=values)
    plot = plots.stages(EXHIBIT)
    assert titles(plot) == ["SLKD"] and plot.figure.axes[0].get_xlabel() == "stage of ResNet14"
    told = {tuple(text.get_position()): text.get_text() for text in plot.figure.axes[0].texts}
    assert told[0, 1] == "0.50" and told[1, 0] == "0.25"  # across the teacher's stage, down the student's
    assert plot.frame.set_index(["student", "teacher"])["cka"][2, 1] == 0.5
    assert "stage 1 is most like the teacher's stage 1 (1.00); stage 2" in plot.seen


def test_what_nobody_has_measured_says_so():
    cell = exhibits.get(EXHIBIT).cells("demo", None, ["slkd"])[0]
    Store.open().write(cell.runs(1)[0], record(cell.runs(1)[0]), "slkd")  # a record without such arrays
    for plot in (plots.relevances(EXHIBIT, MAPS), plots.noise(EXHIBIT), plots.stages(EXHIBIT)):
        assert plot.figure.axes[0].texts[0].get_text().endswith("not yet measured") and plot.frame.empty
