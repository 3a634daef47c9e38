"""Figures of pairs of networks: what is drawn is what the store holds, at the scale where most was measured."""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from book_samples import accuracy, fill
from study_samples import record

from kdnb import exhibits, paths, plots
from kdnb.errors import KdnbError
from kdnb.exhibits import iekd, slkd
from kdnb.exhibits.show import show
from kdnb.plots.curves import term_label
from kdnb.plots.panels import strongest
from kdnb.study.experiment import Run
from kdnb.study.record import thinned
from kdnb.study.store import Store

A, B = "resnet32x4-resnet8x4", "vgg13-mobilenet_v2"
V, M = "vgg13-vgg8", "resnet50-mobilenet_v2"
EPOCHS = 30


@pytest.fixture(autouse=True)
def _only_this_store(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "demo_results", lambda: tmp_path / "demo")
    monkeypatch.setattr(paths, "committed_results", lambda: tmp_path / "published")
    monkeypatch.setattr(paths, "committed_checkpoints", lambda: tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)


def course(exhibit: str, profile: str, *rows: str, seeds: int = 1, **columns: float) -> None:
    """Records of rows whose history has these columns, falling (distances) or rising (accuracies) by seed."""
    found = exhibits.get(exhibit)
    store = Store.open()
    for cell in found.cells(profile, None, rows):
        for run in cell.runs(seeds):
            history = thinned({name: _column(name, end * run.seed) for name, end in columns.items()})
            metrics = {"epochs": EPOCHS, "headline": 0.5, "last": 0.5, "all_images": 0.5}
            store.write(run, record(run, metrics=metrics, history=history), "slkd")


def _column(name: str, end: float) -> list[float]:
    share = [(epoch + 1) / EPOCHS for epoch in range(EPOCHS)]
    return [end / s for s in share] if name.startswith("kl_") else [end * s for s in share]


SLKD_COLUMNS = {
    "ce": 1.0,
    "self": 0.7,
    "validation_accuracy": 0.3,
    "teacher_accuracy": 0.4,
    "self_accuracy": 0.35,
    "self1_accuracy": 0.25,
    "self2_accuracy": 0.28,
    "kl_teacher_student": 0.09,
    "kl_self_student": 0.02,
    "kl_teacher_self": 0.05,
}
ONE_COLUMNS = {k: v for k, v in SLKD_COLUMNS.items() if k not in ("self1_accuracy", "self2_accuracy")}


def keep_arrays(exhibit: str, profile: str, line: str, seed: int, metrics: dict, **arrays: np.ndarray) -> None:
    """Arrays beside the record of the first pair's line, which is made where there is none."""
    found = exhibits.get(exhibit)
    cell = found.cells(profile, None, [line])[0]
    run, store = Run(cell.experiment, seed), Store.open()
    made = store.get(*run.key) or record(run)
    store.write(run, dataclasses.replace(made, metrics=made.metrics | metrics), "slkd", arrays)


def trajectories():
    return plots.courses("slkd/fig2", slkd.trajectories())


def guides():
    return plots.courses("slkd/fig4", slkd.GUIDES)


def planes():
    return plots.planes("slkd/fig5")


def logit_gaps():
    return plots.logit_gaps("slkd/fig6", **slkd.LOGIT_GAPS)


def lines_of(axes) -> dict[str, list[float]]:
    """The drawn lines of a panel that a legend names, by label."""
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines if not line.get_label().startswith("_")}


def titles(plot) -> list[str]:
    return [axes.get_title() for axes in plot.figure.axes if axes.get_title()]


# -- colours -----------------------------------------------------------------------------------------------


def test_a_line_has_one_colour_for_every_pair():
    assert plots.colour(f"{A}/slkd") == plots.colour(f"{B}/slkd") == plots.colour("slkd") == plots.COLOURS["slkd"]
    assert plots.colour(f"{A}/kd") == plots.colour("kd+kd") == plots.COLOURS["kd"]
    assert {row.key for row in exhibits.get("slkd/table1").rows} <= set(plots.COLOURS)


def _linear(channel: int) -> float:
    share = channel / 255
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


def _lab(colour: str) -> np.ndarray:
    """Oklab: distances in it are about those that people see."""
    rgb = np.array([_linear(int(colour[i : i + 2], 16)) for i in (1, 3, 5)])
    cones = np.array(
        [
            [0.41222147, 0.53633254, 0.05144599],
            [0.21190350, 0.68069955, 0.10739696],
            [0.08830246, 0.28171884, 0.62997870],
        ]
    )
    lab = np.array(
        [
            [0.21045426, 0.79361779, -0.00407205],
            [1.97799850, -2.42859221, 0.45059371],
            [0.02590404, 0.78277177, -0.80867577],
        ]
    )
    return lab @ np.cbrt(cones @ rgb)


def test_colours_are_of_middle_lightness_and_far_enough_apart():
    labs = {name: _lab(value) for name, value in plots.COLOURS.items()}
    assert all(0.4 < lab[0] < 0.75 for name, lab in labs.items() if name != "teacher")
    near = [(a, b) for a in labs for b in labs if a < b and np.linalg.norm(labs[a] - labs[b]) < 0.065]
    assert not near


# -- the scale ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "measured", "expected"),
    [
        ("demo", {}, None),
        ("demo", {"demo": 2}, "demo"),
        ("pilot", {"demo": 2}, None),  # a demo shows only where it is asked for
        ("demo", {"demo": 9, "pilot": 1}, "pilot"),
        ("demo", {"pilot": 9, "paper": 1}, "pilot"),  # more of it was measured
        ("demo", {"pilot": 9, "short": 9, "paper": 9}, "paper"),
        ("pilot", {"pilot": 9, "short": 9}, "short"),
    ],
)
def test_the_strongest_scale(profile, measured, expected):
    assert strongest(profile, lambda name: measured.get(name, 0)) == expected


def test_each_pair_stands_at_its_own_scale():
    fill(Store.open(), "pilot", 1, key="slkd/table1")
    course("slkd/table1", "paper", A)
    plot = plots.rows("slkd/table1")
    assert titles(plot) == [
        "ResNet32x4 → ResNet8x4\npaper scale",
        "ResNet56 → ResNet8\npilot: ResNet14 → ResNet8",
        "WRN-40-2 → WRN-40-1\npilot: WRN-16-2 → WRN-16-1",
    ]
    assert "at which most of it is measured" in plot.caption and "Not yet measured: 3 of 6 pairs." in plot.caption
    assert "demo" not in plot.caption.lower()


def test_of_several_pairs_none_is_a_demos_beside_others():
    course("slkd/table7", "demo", f"{A}/kd", f"{A}/slkd")
    assert plots.rows("slkd/table7").of_demo
    course("slkd/table7", "pilot", f"{B}/kd", f"{B}/slkd")
    plot = plots.rows("slkd/table7")
    assert [title.partition("\n")[2] for title in titles(plot)] == [
        "pilot: ResNet14 → MobileNetV2"
    ] and not plot.of_demo
    assert "SL-T alone" in plot.caption and "A demo" not in plot.caption


def test_a_row_that_only_a_demo_has_is_named_as_not_measured_at_the_scale_that_is_drawn():
    """The picture has no mark of it, and no number of its demo lies beside it."""
    fill(Store.open(), "demo", 2, key="slkd/table7")
    course("slkd/table7", "pilot", f"{A}/kd", f"{A}/slkd-one", f"{A}/slkd-self-one", f"{A}/slkd", seeds=3)
    plot = plots.gains("slkd/table7", over="kd")
    (axes,) = plot.figure.axes
    assert axes.get_title().partition("\n")[2] == "pilot: ResNet20 → ResNet8" and not plot.of_demo
    lacking = exhibits.get("slkd/table7").row("slkd-self")
    place = [label.get_text() for label in axes.get_yticklabels()].index(lacking.label)
    assert not [y for points in axes.collections for _, y in points.get_offsets() if y == place]
    assert f" Not yet measured at pilot scale: {lacking.label}. The demo's runs are not drawn." in plot.caption
    assert set(plot.frame["profile"]) == {"pilot"} and "demo" not in plot.seen


def test_a_row_that_nobody_has_run_is_named_without_a_word_of_a_demo():
    course("slkd/table7", "pilot", f"{A}/kd", f"{A}/slkd-one", f"{A}/slkd", seeds=3)
    caption = plots.gains("slkd/table7", over="kd").caption
    assert " Not yet measured at pilot scale: " in caption and "demo" not in caption.lower()


def test_a_course_that_only_a_demo_has_is_named():
    course("slkd/fig4", "demo", f"{V}/slkd-one", f"{V}/slkd", **SLKD_COLUMNS)
    one = exhibits.get("slkd/fig4").row("slkd-one").label
    assert one not in guides().caption
    course("slkd/fig4", "pilot", f"{V}/slkd", **SLKD_COLUMNS)
    plot = guides()
    assert f" Not yet measured at pilot scale: {one}. The demo's runs are not drawn." in plot.caption
    assert not plot.of_demo and "one, " not in plot.seen


def test_costs_tell_only_of_what_is_drawn():
    fill_all()
    course("slkd/table1", "pilot", f"{A}/plain", f"{A}/kd", f"{A}/slkd")
    plot = plots.accuracy_and_cost("slkd/table1")
    named = [text.get_text() for legend in plot.figure.legends for text in legend.get_texts()]
    assert named == ["Plain student", "KD", "SLKD"]
    assert " Not yet measured at pilot scale: 7 of 10 rows. The demo's runs are not drawn." in plot.caption
    assert "ResNet56" not in plot.caption.partition("timed with")[2].partition("Not yet")[0]


def test_a_pair_that_only_a_demo_has_gives_way_to_a_later_one_of_a_scale_that_says_something():
    first, second = exhibits.get("slkd/table7").pairs[:2]
    cells = exhibits.get("slkd/table7").cells
    for scale, pair in (("demo", first), ("pilot", second)):
        (cell,) = cells(scale, None, [f"{pair.key}/kd"])
        run = Run(cell.experiment, 1)
        Store.open().write(run, record(run), "slkd", cloud(40, 10, 1))
    plot = plots.planes("slkd/table7")
    assert f"{second.title} (pilot" in plot.caption and not plot.of_demo
    assert "Not yet measured at pilot scale: SL-T alone, one; " in plot.caption


def test_two_lines_are_told_to_who_cannot_see_them():
    course("slkd/table7", "pilot", f"{A}/kd", f"{A}/slkd")
    seen = plots.rows("slkd/table7").seen
    assert seen.endswith(
        " Compared by accuracy: KD; SLKD. "
        "ResNet32x4 → ResNet8x4 (pilot: ResNet20 → ResNet8): best is KD (50.00 %), then SLKD (50.00 %)."
    )


def test_one_row_of_a_pair_compares_nothing_and_words_tell_it(monkeypatch):
    """A demo that has more rows says nothing in its place."""
    monkeypatch.setenv("KDNB_BATCH", "1")
    fill(Store.open(), "demo", 1, key="slkd/coupled")
    course("slkd/coupled", "pilot", f"{A}/slkd")
    plot = plots.rows("slkd/coupled")
    assert plot.frame.empty and not plot.of_demo
    assert plot.to_myst() == (
        "**Not yet measured:** Whether the student draws its self-learning teachers along, as the code has it. So far "
        "there is one row. ResNet32x4 → ResNet8x4 (pilot: ResNet20 → ResNet8): only SLKD (50.00 %).\n"
    )
    course("slkd/control", "pilot", f"{A}/kd", f"{A}/slkd")
    told = plots.gains("slkd/control", over="kd").caption
    assert told.startswith("Gain over KD of the same networks. So far there is one row. ResNet32x4")
    assert told.endswith("only SLKD (0.00 points).")


def test_one_row_of_a_pair_stands_beside_a_pair_of_more():
    """A pair without a panel is called unmeasured."""
    course("slkd/coupled", "pilot", f"{A}/slkd", f"{A}/slkd-detached", f"{B}/slkd")
    plot = plots.rows("slkd/coupled")
    assert len(titles(plot)) == 2 and "Not yet measured" not in plot.caption


def test_the_same_networks_on_other_images_stand_for_no_other_pair():
    exhibit = exhibits.get("iekd/table5")
    of_cifar10, of_cifar100 = exhibit.pairs[:2]
    assert of_cifar10.networks("pilot") == of_cifar100.networks("pilot")
    course(exhibit.key, "pilot", *(f"{of_cifar10.key}/share-{share}" for share in (50, 70)))
    caption = plots.rows(exhibit).caption
    assert "stand for" not in caption and f"Not yet measured: {of_cifar100.title}" in caption


def test_a_teacher_alone_makes_no_panel():
    course("slkd/table1", "pilot", f"{A}/teacher")
    course("slkd/table1", "demo", f"{A}/plain", f"{A}/kd")
    assert titles(plots.rows("slkd/table1")) == ["ResNet32x4 → ResNet8x4\ndemo: ResNet14 → ResNet8"]


# -- comparisons -------------------------------------------------------------------------------------------


def test_gains_are_over_the_plain_student_of_the_same_pair():
    fill(Store.open(), "pilot", 3, key="slkd/table1")
    plot = plots.gains("slkd/table1", "pilot")
    place = {cell.key: number for number, cell in enumerate(exhibits.get("slkd/table1").cells("pilot"))}
    for pair in (A, "wrn_40_2-wrn_40_1"):
        one = plot.frame[(plot.frame["row"] == f"{pair}/slkd") & (plot.frame["seed"] == 2)].iloc[0]
        expected = 100 * (accuracy(place[f"{pair}/slkd"], 2) - accuracy(place[f"{pair}/plain"], 2))
        assert one["gain"] == pytest.approx(expected)
    assert set(plot.frame["line"]).isdisjoint({"plain", "teacher"})
    assert "95 %" in plot.caption


def test_diamonds_are_the_printed_gains_and_a_relative_says_whose():
    fill(Store.open(), "pilot", 1, key="slkd/table1")
    plot = plots.gains("slkd/table1", "pilot")
    diamond = plot.figure.axes[0].collections[-1]  # SLKD's line is the last: its seeds, then the paper's
    assert diamond.get_offsets()[0].tolist() == pytest.approx([76.85 - 72.50, 8])
    assert "of the paper's networks on all of its images" in plot.caption and "95 %" not in plot.caption


def test_a_demo_has_no_diamonds_and_says_that_it_is_one():
    fill(Store.open(), "demo", 1, key="slkd/table1")
    plot = plots.gains("slkd/table1")
    assert "diamonds" not in plot.caption and plot.caption.endswith("says nothing about the paper.")
    assert titles(plot) == ["ResNet32x4 → ResNet8x4\ndemo: ResNet14 → ResNet8"]
    assert plot.frame["reported"].isna().all()


def test_the_papers_networks_have_their_diamonds_unexplained():
    course("slkd/table1", "paper", f"{A}/plain", f"{A}/kd", f"{A}/slkd")
    caption = plots.gains("slkd/table1").caption
    assert "diamonds the printed gains." in caption


def test_gains_over_another_line():
    fill(Store.open(), "demo", 1, key="slkd/table7")
    plot = plots.gains("slkd/table7", over="kd")
    assert plot.caption.startswith("Gain over KD") and "kd" not in set(plot.frame["line"])
    labels = [tick.get_text() for tick in plot.figure.axes[0].get_yticklabels()]
    assert labels == ["SL-T alone, one", "SLKD, one SL-T", "SL-Ts alone, two", "SLKD"]
    with pytest.raises(KdnbError, match="no line of slkd/table7 called 'plain'"):
        plots.gains("slkd/table7")


def test_rows_have_their_lines_colours():
    fill(Store.open(), "demo", 1, key="slkd/table7")
    axes = plots.rows("slkd/table7").figure.axes[0]
    keys = ["kd", "slkd-self-one", "slkd-one", "slkd-self", "slkd"]
    assert [line.get_color() for line in axes.lines] == [plots.COLOURS[key] for key in keys]


def test_names_of_files_tell_the_exhibit():
    assert plots.gains("slkd/table1").name == "gains-slkd-table1" and plots.gains("comparison/table1").name == "gains"
    assert plots.rows("slkd/table5").name == "rows-slkd-table5" and plots.rows("comparison/kd-alpha").name == "kd-alpha"


# -- curves ------------------------------------------------------------------------------------------------


def shown(monkeypatch, exhibit: str, *rows: str):
    monkeypatch.setenv("KDNB_BATCH", "1")
    return show(exhibit, list(rows))


def test_what_is_observed_is_no_term_of_the_loss(monkeypatch):
    course("slkd/table7", "demo", f"{A}/slkd", **SLKD_COLUMNS)
    plot = plots.curves(shown(monkeypatch, "slkd/table7", f"{A}/slkd"), of=f"{A}/slkd")
    accuracies, terms = plot.figure.axes
    assert set(lines_of(terms)) == {"cross-entropy", "KD, self-learning"} and set(lines_of(accuracies)) == {"SLKD"}
    assert plot.name == "curves-resnet32x4-resnet8x4-slkd" and accuracies.get_title() == "Test accuracy"
    assert "ResNet32x4 → ResNet8x4 (demo: ResNet14 → ResNet8)" in plot.caption


def test_curves_of_several_pairs_have_a_column_each(monkeypatch):
    rows = [f"{pair}/{line}" for pair in (A, B) for line in ("kd", "slkd")]
    course("slkd/table7", "demo", *rows, **SLKD_COLUMNS)
    plot = plots.curves(shown(monkeypatch, "slkd/table7", *rows), of="slkd")
    assert [t.partition("\n")[0] for t in titles(plot)[:2]] == ["ResNet32x4 → ResNet8x4", "VGG13 → MobileNetV2"]
    assert [set(lines_of(axes)) for axes in plot.figure.axes] == [
        *2 * [{"KD", "SLKD"}],
        *2 * [{"cross-entropy", "KD, self-learning"}],
    ]


def test_curves_of_many_pairs_go_on_below(monkeypatch):
    rows = ["kd"]
    course("slkd/table2", "paper", *rows, ce=1.0, validation_accuracy=0.5)
    monkeypatch.setenv("KDNB_BATCH", "1")
    plot = plots.curves(show("slkd/table2", rows, "paper"), of="kd")
    drawn = [axes for axes in plot.figure.axes if axes.axison]
    assert len(drawn) == 10 and drawn[0].get_gridspec().ncols == 3
    assert titles(plot)[0] == "ResNet32x4 → ShuffleNetV2\npaper scale"


def test_a_first_step_that_selects_nothing_shows_what_it_minimises(monkeypatch):
    key = f"{A}/slkd-sequential"
    course("slkd/table8", "demo", key, **SLKD_COLUMNS)
    cell = exhibits.get("slkd/table8").cell("demo", key)
    (stage,) = cell.experiment.shared_stages()
    history = thinned({"learning": [3.0, 2.0], "self_accuracy": [0.2, 0.3], "kl_teacher_self": [0.4, 0.2]})
    Store.open().write(Run(stage, 1), record(Run(stage, 1), history=history), "slkd")
    plot = plots.curves(shown(monkeypatch, "slkd/table8", key), of=key)
    assert lines_of(plot.figure.axes[2]) == {"self-learning loss": [3.0, 2.0]} and "its first step." in plot.caption
    for figure in (plot.figure, plot.phones or plot.figure):
        figure.draw_without_rendering()
        for axes in figure.axes[1:]:
            legend, panel = axes.get_legend().get_window_extent(), axes.get_window_extent()
            assert panel.x0 <= legend.x0 and legend.x1 <= panel.x1, "a legend fits its panel"


def test_a_step_of_the_student_after_one_of_the_teacher_alone_is_the_second(monkeypatch):
    (cell,) = exhibits.get("srm/table1").cells("demo", None, ["srm"])
    course("srm/table1", "demo", cell.key, ce=1.0, validation_accuracy=0.5)
    (stage,) = cell.experiment.shared_stages()
    history = thinned({"pixels1": [3.0, 2.0], "validation_loss": [3.0, 2.0]})
    Store.open().write(Run(stage, 1), record(Run(stage, 1), history=history), "srm")
    plot = plots.curves(shown(monkeypatch, "srm/table1", cell.key), of="srm")
    assert titles(plot)[-1] == "Step 2: predict" and "; its step 2." in plot.caption


@pytest.mark.parametrize(
    ("term", "label"),
    [
        ("ce", "cross-entropy"),
        ("peer_ce", "peer: cross-entropy"),
        ("peer_mutual", "peer: mutual"),
        ("pixels2", "pixels 2"),
        ("my-own_term", "my own term"),
    ],
)
def test_legends_say_what_a_term_is(term, label):
    assert term_label(term) == label


# -- trajectories ------------------------------------------------------------------------------------------


def test_trajectories_are_means_of_seeds_with_their_range():
    course("slkd/fig2", "pilot", f"{V}/slkd", f"{M}/slkd", seeds=3, **SLKD_COLUMNS)
    plot = trajectories()
    distances, _, accuracies, _ = plot.figure.axes
    drawn = lines_of(distances)
    assert set(drawn) == {"KL(teacher‖student)", "KL(self-learning‖student)", "KL(teacher‖self-learning)"}
    assert drawn["KL(teacher‖student)"][-1] == pytest.approx(0.09 * 2, rel=1e-3)  # seeds 1, 2, 3
    assert lines_of(accuracies)["student"][-1] == pytest.approx(100 * 0.3 * 2, rel=1e-3)
    ends = distances.collections[0].get_paths()[0].vertices[:, 1]
    assert ends.max() == pytest.approx(0.09 * 3 * EPOCHS, rel=1e-3) and ends.min() == pytest.approx(0.09, rel=1e-3)
    assert distances.get_yscale() == "log" and accuracies.get_yscale() == "linear"
    assert "nats at temperature 4" in plot.caption.replace("\n", " ")
    assert plot.seen.endswith("student from 2 to 60.") and "KL(teacher‖student) from 5.4 to 0.18, " in plot.seen


def test_the_learning_rate_falls_where_the_shortened_recipe_says():
    course("slkd/fig2", "pilot", f"{V}/slkd", **SLKD_COLUMNS)
    axes = trajectories().figure.axes[0]
    uprights = [line.get_xdata()[0] for line in axes.lines if line.get_label().startswith("_")]
    assert uprights == [math.ceil(m / 8) + 0.5 for m in (150, 180, 210)]


def test_a_logarithmic_axis_is_written_in_plain_numbers():
    course("slkd/fig2", "pilot", f"{V}/slkd", **SLKD_COLUMNS)
    figure = trajectories().figure
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_ylim()
    texts = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert {"0.1", "1"} <= {*texts} and low < 0.1 < 1 < high


def test_distances_of_nothing_stay_on_a_linear_axis():
    course("slkd/fig2", "pilot", f"{V}/slkd", **{**SLKD_COLUMNS, "kl_teacher_self": 0.0})
    assert trajectories().figure.axes[0].get_yscale() == "linear"


def test_trajectories_of_another_line():
    course("slkd/coupled", "demo", f"{A}/slkd-detached", **SLKD_COLUMNS)
    plot = plots.courses("slkd/coupled", slkd.trajectories("slkd-detached"))
    assert set(plot.frame["row"]) == {f"{A}/slkd-detached"} and "VGG13 → MobileNetV2" in plot.caption
    assert plots.courses("slkd/coupled", slkd.trajectories()).frame.empty


def test_guides_tell_one_from_two():
    course("slkd/fig4", "demo", f"{V}/slkd-one", seeds=2, **{**ONE_COLUMNS, "self_accuracy": 0.2})
    course("slkd/fig4", "demo", f"{V}/slkd", seeds=2, **SLKD_COLUMNS)
    plot = guides()
    axes = plot.figure.axes[0]
    ends = {label: values[-1] for label, values in lines_of(axes).items()}
    expected = {"one self-learning teacher": 30.0, "two, mixed": 52.5, "each of the two": 42.0}
    assert ends == pytest.approx({**expected, "student of one": 45.0, "student of two": 45.0}, rel=1e-3)
    # Two thin lines have one name: a dictionary keeps the second, and both are looked at here.
    thin = [line for line in axes.lines if line.get_linewidth() < 1 and line.get_color() == plots.COLOURS["slkd-self"]]
    assert [line.get_ydata()[-1] for line in thin] == pytest.approx([37.5, 42.0], rel=1e-3)
    assert "kl_teacher_self" not in set(plot.frame["column"])
    # The demo has the same relatives for both of the figure's pairs: they are drawn once, and the caption says so.
    assert len(plot.figure.axes) == 1 and "The networks shown stand for ResNet32x4 → ResNet8x4 too." in plot.caption


def test_a_caption_tells_both_panels_and_a_picture_of_nothing_what_it_would_be_of():
    cell = exhibits.get("iekd/exploration").cells("pilot", None, ["ie-ft"])[0]
    nothing = plots.courses("iekd/exploration", iekd.gradients()).caption
    assert nothing == "How hard the network is pushed to explore, by epoch."
    course("iekd/exploration", "pilot", cell.key, inheritance_gradient=1.0, exploration_gradient=0.5, exploration=0.1)
    caption = plots.courses("iekd/exploration", iekd.gradients()).caption
    assert " Above: length of the gradient" in caption and " Below: the exploration term" in caption


def test_guides_with_one_line_alone():
    course("slkd/fig4", "demo", f"{V}/slkd-one", **ONE_COLUMNS)
    assert set(lines_of(guides().figure.axes[0])) == {"one self-learning teacher", "student of one"}


# -- representations ---------------------------------------------------------------------------------------


def cloud(count: int, classes: int, seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        "plane": draw.normal(0, 30, (count, 2)).astype(np.float16),
        "labels": (np.arange(count) % classes).astype(np.uint8),
    }


def test_planes_draw_every_point_in_the_colour_of_its_class():
    for line, seed in (("kd", 2), ("kd", 3), ("slkd", 1), ("slkd", 2)):
        keep_arrays("slkd/fig5", "demo", line, seed, {"separability": seed / 10}, **cloud(40, 12, seed))
    plot = planes()
    assert titles(plot) == ["KD: separability 0.20", "SLKD: separability 0.20"]  # the lowest seed of both
    (points,) = plot.figure.axes[1].collections
    assert np.array_equal(points.get_offsets(), cloud(40, 12, 2)["plane"])
    colours = points.get_facecolors()
    assert (colours[0] == colours[10]).all() and (colours[0] != colours[1]).any() and points.get_alpha() == 0.4
    assert "ten colours, over and over" in plot.caption and "seed 2" in plot.caption
    assert len(plot.frame) == 80 and list(plot.frame.columns) == ["line", "x", "y", "label"]


def test_a_plane_tells_how_many_points_lie_beside_one_of_their_class():
    plane = np.array([[0, 0], [0, 1], [5, 0], [5, 1], [5, 1.5]])
    keep_arrays("slkd/fig5", "demo", "kd", 1, {"separability": 0.2}, plane=plane, labels=np.array([0, 0, 1, 1, 2]))
    assert planes().seen.endswith("KD: of 60 % of the points the nearest one is of the same class, separability 0.20.")


def test_twenty_thousand_points_are_a_small_picture():
    for line in ("kd", "slkd"):
        keep_arrays("slkd/fig5", "paper", line, 1, {"separability": 0.1}, **cloud(10_000, 100, 1))
    plot = planes()
    svg = plot.to_svg()
    assert len(svg) < 400_000 and svg.count("<image") == 2
    assert plot.figure.axes[0].collections[0].get_sizes() == pytest.approx([1.0])


def test_a_line_without_arrays_says_so():
    keep_arrays("slkd/fig5", "demo", "kd", 1, {}, **cloud(40, 10, 1))
    plot = planes()
    assert titles(plot) == ["KD", "SLKD"] and [t.get_text() for t in plot.figure.axes[1].texts] == ["not yet measured"]
    assert "ten colours" not in plot.caption


def means(scale: float) -> dict[str, np.ndarray]:
    teacher = np.arange(16.0).reshape(4, 4)
    gap = scale * np.array([[9, 1, 0, 0], [0, 9, 0, -2], [0, 0, 9, 0], [0, 0, 0, 9]])
    return {"student_means": (teacher + gap).astype(np.float16), "teacher_means": teacher.astype(np.float16)}


def test_logit_gaps_are_absolute_divided_and_without_a_diagonal():
    keep_arrays("slkd/fig6", "pilot", "kd", 1, {}, **means(3.0))
    keep_arrays("slkd/fig6", "pilot", "slkd", 1, {}, **means(0.75))
    plot = logit_gaps()
    image = np.asarray(plot.figure.axes[0].images[0].get_array())
    assert image[1, 3] == 2.0 and image[0, 1] == 1.0 and np.trace(image) == 0 and image.sum() == 3.0
    assert plot.figure.axes[0].images[0].get_clim() == (0, 1)
    assert "KD: mean 0.188 (0.562), largest 2.00 (6.00)." in plot.caption
    assert "SLKD: mean 0.047 (0.141), largest 0.50 (1.50)." in plot.caption
    one = plot.frame[(plot.frame["line"] == "slkd") & (plot.frame["class"] == 1) & (plot.frame["logit"] == 3)]
    assert one["difference"].tolist() == [1.5] and "pilot: ResNet20 → ResNet8" in plot.caption


# -- all of them -------------------------------------------------------------------------------------------

DRAWN = {
    "gains": lambda: plots.gains("slkd/table1"),
    "rows": lambda: plots.rows("slkd/table6"),
    "cost": lambda: plots.accuracy_and_cost("slkd/table2"),
    "curves": lambda: plots.curves(show("slkd/table8", [f"{A}/plain", f"{A}/slkd"]), f"{A}/slkd"),
    "trajectories": trajectories,
    "guides": guides,
    "planes": planes,
    "logit-gaps": logit_gaps,
}


def fill_all() -> None:
    fill(Store.open(), "demo", 2, key="slkd")
    shutil.copytree(paths.ROOT / "data" / "results" / "bench", paths.committed_results() / "bench")
    course("slkd/fig2", "demo", f"{V}/slkd", f"{M}/slkd", **SLKD_COLUMNS)
    course("slkd/fig4", "demo", f"{V}/slkd-one", **ONE_COLUMNS)
    for line in ("kd", "slkd"):
        keep_arrays("slkd/fig5", "demo", line, 1, {"separability": 0.3}, **cloud(30, 10, 1), **means(1.0))


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_a_picture_with_numbers_and_a_caption(name, monkeypatch, tmp_path):
    monkeypatch.setenv("KDNB_BATCH", "1")
    fill_all()
    plot = DRAWN[name]()
    text = plot._repr_mimebundle_()["text/markdown"]
    assert re.fullmatch(r"[a-z0-9-]+", plot.name) and f":name: fig-{plot.name}" in text
    assert plot.caption.endswith(".") and ("demo" in plot.caption.lower())
    assert re.search(r"\d", plot.seen) and f":alt: {' '.join(plot.seen.split())}\n" in text
    assert ET.parse(tmp_path / f"{plot.name}.svg").getroot().tag.endswith("svg")
    assert len(pd.read_csv(tmp_path / f"{plot.name}.csv")) > 3
    assert DRAWN[name]().to_svg() == (tmp_path / f"{plot.name}.svg").read_text()


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_of_nothing_says_so(name, monkeypatch):
    monkeypatch.setenv("KDNB_BATCH", "1")
    plot = DRAWN[name]()
    assert [t.get_text().endswith("not yet measured") for axes in plot.figure.axes for t in axes.texts] == [True]
    assert plot.frame.empty and "<svg" in plot.to_svg()
    assert plot.to_myst() == f"**Not yet measured:** {plot.caption}\n"
    assert not re.search(r"[.?;] ", plot.caption) and plot.caption.endswith(".") and "bars" not in plot.caption


def test_planned_data_is_not_yet_measured():
    (axes,) = plots.gains("slkd/table3").figure.axes
    assert axes.texts[0].get_text() == "Top-1 accuracy on ImageNet, one family: not yet measured"
