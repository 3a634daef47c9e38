"""Figures of the book: they draw what the store holds, even where that is nothing, and the same bytes every time."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import shutil
import xml.etree.ElementTree as ET

import pytest
from book_samples import accuracy, fill
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font

from kdnb import exhibits, page, paths, plots
from kdnb.exhibits.controls import gains_at_equal_schedule
from kdnb.exhibits.show import show
from kdnb.plots.style import PHONE, WIDTH, on_a_phone
from kdnb.study.store import Store
from kdnb.tables.words import OF_A_DEMO

BENCH = paths.ROOT / "data" / "results" / "bench"


@pytest.fixture(autouse=True)
def _only_this_store(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "demo_results", lambda: tmp_path / "demo")
    monkeypatch.setattr(paths, "committed_results", lambda: tmp_path / "published")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store():
    found = Store.open()
    fill(found, seeds=3)
    shutil.copytree(BENCH, paths.committed_results() / "bench")
    return found


DRAWN = {
    "gains": lambda: plots.gains("comparison/table1"),
    "rows": lambda: plots.rows("comparison/kd-alpha"),
    "alone": lambda: plots.alone_and_combined("comparison/table1"),
    "cost": lambda: plots.accuracy_and_cost("comparison/table1"),
    "curves": lambda: plots.curves(show("comparison/table1", ["plain", "fitnet", "fitnet+kd"]), "fitnet+kd"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_a_picture_with_numbers_and_a_caption(name, store, monkeypatch, tmp_path):
    monkeypatch.setenv("KDNB_BATCH", "1")
    plot = DRAWN[name]()
    bundle = plot._repr_mimebundle_()
    assert f":name: fig-{plot.name}" in bundle["text/markdown"] and plot.caption.endswith(".")
    assert re.search(r"\d", plot.seen) and f":alt: {' '.join(plot.seen.split())}\n" in bundle["text/markdown"]
    assert ET.parse(tmp_path / f"{plot.name}.svg").getroot().tag.endswith("svg")
    assert len((tmp_path / f"{plot.name}.csv").read_text().splitlines()) > 5
    assert DRAWN[name]().to_svg() == (tmp_path / f"{plot.name}.svg").read_text(), "the same numbers, the same bytes"
    wide, narrow = (ET.parse(tmp_path / f"{plot.name}{ending}.svg").getroot() for ending in ("", page.FOR_PHONES))
    assert _points(narrow) == pytest.approx(72 * PHONE) and _points(wide) == pytest.approx(72 * WIDTH)


def _points(svg: ET.Element) -> float:
    return float(svg.attrib["width"].removesuffix("pt"))


def test_on_a_phone_panels_stand_below_each_other(store, monkeypatch):
    monkeypatch.setenv("KDNB_BATCH", "1")
    plot = DRAWN["curves"]()
    beside, below = ([axes.get_position() for axes in figure.axes] for figure in (plot.figure, plot.phones))
    assert len(beside) > 1 and len({place.y0 for place in beside}) == 1
    assert len({place.x0 for place in below}) == 1 and len({place.y0 for place in below}) == len(below)
    assert not on_a_phone()  # the next one is a page's again


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_of_nothing_is_still_a_figure(name, monkeypatch):
    monkeypatch.setenv("KDNB_BATCH", "1")
    assert "<svg" in DRAWN[name]().to_svg()


def test_by_hand_a_figure_is_shown_and_leaves_no_file(store, tmp_path):
    data, metadata = plots.gains("comparison/table1")._repr_mimebundle_()
    assert "<svg" in data["image/svg+xml"] and metadata["image/svg+xml"]["needs_background"] == "light"
    assert not list(tmp_path.glob("*.svg"))


def test_gains_are_differences_within_a_seed(store):
    frame = plots.gains("comparison/table1").frame
    one = frame[(frame["row"] == "kd") & (frame["seed"] == 2)].iloc[0]
    assert one["gain"] == pytest.approx(100 * (accuracy(2, 2) - accuracy(1, 2)))
    assert set(frame["row"]).isdisjoint({"plain", "teacher"})


def test_the_printed_points_are_the_papers(store):
    frame = plots.alone_and_combined("comparison/table1").frame
    fsp = frame[(frame["row"] == "fsp") & (frame["scale"] == "the paper") & (frame["dataset"] == "cifar100")].iloc[0]
    assert fsp["alone"] == pytest.approx(0.46) and fsp["with_kd"] == pytest.approx(2.12)


def test_a_colour_stands_for_a_method_alone_and_combined():
    assert plots.colour("crd") == plots.colour("crd+kd") != plots.colour("kd")
    assert plots.colour("something new") == plots.colour("something new")
    assert len({plots.colour(name) for name in plots.COLOURS}) == len(plots.COLOURS)


def test_dots_are_filled_alone_and_hollow_with_kd(store):
    (axes,) = plots.gains("comparison/table1").figure.axes
    labels = {place: label.get_text() for place, label in enumerate(axes.get_yticklabels())}
    rows: dict[str, list] = {}
    for points in axes.collections:
        if len(points.get_offsets()) == 3:  # seeds, not the paper's mark
            rows[labels[int(points.get_offsets()[0, 1])]] = list(points.get_facecolors())
    assert len(rows) == 15
    assert all((len(faces) == 0) == label.removesuffix(" †").endswith("+ KD") for label, faces in rows.items())


@pytest.mark.parametrize("name", ["alone", "cost"])
def test_rows_on_a_schedule_of_their_own_are_marked_and_their_gain_at_equal_schedule_is_told(name, store):
    for key in ("comparison/table1", "comparison/schedule"):
        fill(store, "pilot", seeds=3, dataset="cifar100", key=key)
    plot = DRAWN[name]()
    labels = [text.get_text() for legend in plot.figure.legends for text in legend.get_texts()]
    assert "CRD †" in labels and "FitNet" in labels
    gain = gains_at_equal_schedule(exhibits.get("comparison/table1"), "pilot", "cifar100", store)["crd"]
    assert "† trained on a schedule of their own. Over the plain student on that schedule" in plot.caption
    assert f"CRD {gain.value:+.2f} [{gain.low:.2f}, {gain.high:.2f}]" in plot.caption


def test_a_demo_leaves_the_figure_when_all_its_lines_are_measured_elsewhere(store):
    (demo,) = plots.gains("comparison/table1").figure.axes
    assert demo.get_title() == "Digits: demo"
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/table1")
    (pilot,) = plots.gains("comparison/table1").figure.axes
    assert pilot.get_title() == "CIFAR-100: pilot"
    titles = [axes.get_title() for axes in plots.rows("comparison/kd-temperature").figure.axes]
    assert titles == ["Digits: demo"]  # at pilot scale one temperature is measured: nothing to compare


def test_a_demo_never_stands_beside_a_scale_that_says_something(store):
    """Even where it has rows that are not measured elsewhere: the caption names these."""
    exhibit = exhibits.get("comparison/kd-temperature")
    first, second, *others = exhibit.rows
    fill(store, "demo", seeds=1, key=exhibit.key)
    fill(store, "pilot", seeds=2, dataset="cifar100", key=exhibit.key, rows=[first.key, second.key])
    plot = plots.rows(exhibit)
    assert [axes.get_title() for axes in plot.figure.axes] == ["CIFAR-100: pilot"] and not plot.of_demo
    named = "; ".join(row.label for row in others)
    assert f"Not yet measured at pilot scale: {named}. The demo's runs are not drawn." in plot.caption


def test_a_demo_alone_is_marked_and_says_that_it_says_nothing(store, monkeypatch):
    """In the book the fold that has it says so."""
    for draw in (DRAWN["gains"], DRAWN["rows"], DRAWN["cost"]):
        plot = draw()
        (axes,) = plot.figure.axes
        assert plot.of_demo and axes.get_title() == "Digits: demo" and plot.caption.endswith(f" {OF_A_DEMO}")
    monkeypatch.setenv("KDNB_BATCH", "1")
    plot = DRAWN["gains"]()
    assert OF_A_DEMO not in plot.caption and "kdnb-demo" in plot.to_myst()


def test_a_demo_does_not_stand_beside_what_a_paper_prints(store):
    titles = [axes.get_title() for axes in DRAWN["alone"]().figure.axes if axes.get_title()]
    assert titles == ["CIFAR-100: the paper", "CIFAR-10: the paper"]


def test_a_scale_with_too_few_lines_to_compare_is_not_drawn(store):
    """Nor an empty panel in its place; words tell what there is."""
    exhibit = exhibits.get("infoflow/fig2")
    (first, *_) = exhibit.rows
    fill(store, "pilot", seeds=1, key=exhibit.key, rows=[first.key])
    plot = plots.rows(exhibit)
    assert plot.frame.empty and [text.get_text() for axes in plot.figure.axes for text in axes.texts]
    assert plot.caption.startswith(f"{exhibit.title}. So far there is one row. mAP (e), CIFAR-10, pilot: only ")
    (run,) = exhibit.cells("pilot", None, [first.key])[0].runs(1)
    assert first.label in plot.caption and f"({exhibit.columns[0].score.told(accuracy_of(run))})" in plot.caption


def accuracy_of(run):
    return exhibits.get("infoflow/fig2").columns[0].score.of(Store.open().get(*run.key))


def test_gains_of_one_row_alone_are_told_in_words(store):
    fill(store, "pilot", seeds=2, dataset="cifar100", key="comparison/schedule", rows=["plain", "kd"])
    plot = plots.gains("comparison/schedule", "pilot")
    assert plot.frame.empty
    assert re.match(
        r"Gain over the plain student\. So far there is one row\. CIFAR-100, pilot: only KD \(\d", plot.caption
    )


def test_a_row_alone_stands_in_a_panel_beside_others_that_compare_and_is_told(store):
    fill(store, "pilot", seeds=1, key="infoflow/table1")
    fill(store, "paper", seeds=1, key="infoflow/table1", rows=["plain", "contrastive"])
    seen = plots.gains("infoflow/table1", "pilot").seen
    assert "mAP (e), CIFAR-10, paper scale: only Student, contrastive (" in seen and "pilot: best is " in seen


def test_a_caption_names_what_is_compared_where_much_is_missing(store):
    fill(store, "pilot", seeds=1, dataset="cifar10", key="comparison/pretraining", rows=["fitnet-500", "pkt-500"])
    plot = plots.rows("comparison/pretraining", "pilot")
    assert "Compared by accuracy: FitNet, 500; PKT, 500. Dots are seeds" in plot.caption
    assert "Compared by accuracy: FitNet, 500; PKT, 500. CIFAR-10, pilot: best is " in plot.seen
    fill(store, "pilot", seeds=1, dataset="cifar10", key="comparison/pretraining")
    assert " Compared by accuracy. Dots are seeds" in plots.rows("comparison/pretraining", "pilot").caption


@pytest.mark.parametrize("lacks", [True, False])
def test_a_band_that_is_not_centred_on_its_bar_is_explained(lacks, store):
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/table1", rows=["plain", "kd", "fitnet"])
    fill(store, "pilot", seeds=2 if lacks else 3, dataset="cifar100", key="comparison/table1", rows=["pkt"])
    caption = plots.gains("comparison/table1", "pilot").caption
    assert ("Where a row lacks a seed, its band is estimated from all runs" in caption) == lacks


@pytest.mark.parametrize("one", [True, False])
def test_rows_without_a_band_are_told_to_have_one_seed(one, store):
    exhibit = exhibits.get("comparison/table1")
    fill(store, "pilot", seeds=3, dataset="cifar100", key=exhibit.key)
    rows = [row.key for row in exhibit.rows if row.key != "crd" or not one]
    fill(store, "pilot", seeds=2, dataset="cifar10", key=exhibit.key, rows=rows)
    fill(store, "pilot", seeds=1, dataset="cifar10", key=exhibit.key, rows=["crd"])
    plot = plots.gains(exhibit)
    assert [axes.get_title() for axes in plot.figure.axes] == ["CIFAR-100: pilot", "CIFAR-10: pilot"]
    assert (", rows without a band have one seed, " in plot.caption) == one


def test_a_sentence_that_leads_to_a_figure_has_one(monkeypatch):
    """With the study's own records: a demo's figure goes to the end of the page, and its cell with it."""
    monkeypatch.setattr(paths, "committed_results", lambda: paths.ROOT / "data" / "results")
    for path in sorted((paths.ROOT / "notebooks").glob("*/*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        for before, cell in itertools.pairwise(cells):
            told, code = ("".join(of["source"]).strip() for of in (before, cell))
            if before["cell_type"] == "markdown" and told.endswith(":") and code.startswith("plots."):
                plot = eval(code, {"plots": plots, "profile": "demo"})
                assert not plot.of_demo and not plot.frame.empty, f"{path.name}: {told}"


def test_where_the_papers_own_networks_stand_beside_relatives_the_caption_says_which_are_which():
    for scale in ("paper", "pilot"):
        fill(Store.open(), scale, seeds=1, key="infoflow/table1")
    assert (
        "all of its images, not of what was trained at pilot scale." in plots.gains("infoflow/table1", "pilot").caption
    )


def test_a_very_wide_interval_leaves_room_for_the_others(store):
    inside = plots.gains("comparison/table1")
    assert "cut where" not in inside.caption
    exhibit = exhibits.get("comparison/table1")
    (cell,) = exhibit.cells("demo", "digits", [exhibit.row("crd")])
    for run, score in zip(cell.runs(3), (0.1, 0.9, 0.6), strict=True):
        record = store.get(*run.key)
        metrics = record.metrics | {"headline": score}
        store.write(run, dataclasses.replace(record, metrics=metrics), "comparison")
    wide = plots.gains("comparison/table1")
    assert "intervals (cut where they are very wide)" in wide.caption
    (axes,) = wide.figure.axes
    dots = [x for points in axes.collections for x in points.get_offsets()[:, 0]]
    left, right = axes.get_xlim()
    assert left <= min(dots) and max(dots) <= right and right - left < 4 * (max(dots) - min(dots))


def test_every_row_of_the_tables_has_a_cost_of_its_own(store):
    fill(store, seeds=1, key="slkd/table1")
    for key in ("comparison/table1", "slkd/table1"):
        costs = plots.accuracy_and_cost(key).frame
        students = {row.key for row in exhibits.get(key).rows} - {"teacher"}
        assert set(costs["line"]) == students and costs["epochs_of_kd"].nunique() > len(students) / 2
        kd, plain, fitnet = (costs[costs["line"] == line]["epochs_of_kd"] for line in ("kd", "plain", "fitnet"))
        assert (kd == 10).all() and (plain < 10).all() and (fitnet > 10).all()


def test_curves_tell_what_they_came_to_for_who_cannot_see_them(store):
    """What is drawn, that is the accuracy after the last epoch, and not the table's score."""
    runs = show("comparison/table1", ["plain", "kd"])
    seen = plots.curves(runs, "kd").seen
    last = {row: [] for row in ("plain", "kd")}
    for row, made in zip(runs.frame["row"], runs.records, strict=True):
        last[row].append(100 * made.history["validation_accuracy"][-1])
    plain, kd = (sum(values) / 3 for values in last.values())
    assert kd > plain and seen.endswith(f"accuracy after the last epoch: KD {kd:.2f} %, Plain student {plain:.2f} %.")


def width(text, size, weight):
    """In DejaVu Sans, the widest of the letters that a reader's machine may have."""
    font = FT2Font(findfont(FontProperties(family="DejaVu Sans", weight=weight)))
    font.set_size(size, 72)
    font.set_text(text)
    return font.get_width_height()[0] / 64


@pytest.mark.parametrize("path", sorted((paths.ROOT / "book" / "_static").glob("*.svg")), ids=lambda path: path.stem)
def test_the_words_of_a_drawing_fit_their_boxes_and_the_drawing(path):
    drawing = ET.parse(path).getroot()
    boxes = [[float(rect.get(k, 0)) for k in ("x", "y", "width", "height")] for rect in drawing.findall(".//{*}rect")]
    boxes.append([float(number) for number in drawing.get("viewBox").split()])
    above = {child: parent for parent in drawing.iter() for child in parent}
    for text in drawing.findall(".//{*}text"):
        anchor = text.get("text-anchor") or above[text].get("text-anchor", "start")
        long = width(
            text.text, float(text.get("font-size", drawing.get("font-size"))), text.get("font-weight", "normal")
        )
        x, y = float(text.get("x")), float(text.get("y"))
        left = x - {"start": 0, "middle": long / 2, "end": long}[anchor]
        for box_x, box_y, wide, high in boxes:
            if box_x < x < box_x + wide and box_y < y < box_y + high:
                assert box_x <= left and left + long <= box_x + wide, text.text
