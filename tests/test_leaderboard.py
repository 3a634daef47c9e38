"""The leaderboard: its rows, the controls that keep it honest, what it chooses from what is measured, and its table."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from book_samples import accuracy, commands_of, fill
from study_samples import experiment, record

from kdnb import exhibits, losses, models, paths, plots, tables
from kdnb.errors import KdnbError
from kdnb.exhibits import leaderboard, slkd, wanted
from kdnb.exhibits.costs import Step, Steps, steps_for, timed_with
from kdnb.exhibits.runs import diverged, runs_of
from kdnb.exhibits.status import progress
from kdnb.methods import catalogue, get
from kdnb.methods.stage import Batch, Setup, Supervision, TrainingSet
from kdnb.models.network import Activations
from kdnb.study import plan
from kdnb.study.experiment import Run
from kdnb.study.predictions import packed
from kdnb.study.profile import PROFILES
from kdnb.study.statistics import Layout, paired
from kdnb.study.store import Store

FIRST, SECOND = leaderboard.FIRST, leaderboard.SECOND


@pytest.fixture(autouse=True)
def _only_this_store(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "demo_results", lambda: tmp_path / "demo")
    monkeypatch.setattr(paths, "committed_results", lambda: tmp_path / "published")
    monkeypatch.setattr(paths, "committed_checkpoints", lambda: tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)


# -- rows --------------------------------------------------------------------------------------------------


def test_every_method_of_a_student_has_a_row_or_a_reason():
    rows = {row.method for row in FIRST.rows}
    students = {name for name, entry in catalogue().items() if entry.of == "student"}
    assert students - rows == set(leaderboard.LEFT_OUT) - rows, "a line in METHODS or in LEFT_OUT is missing"
    combined = {row.method for row in FIRST.rows if row.method.endswith("+kd")}
    assert combined == {f"{entry.method}+kd" for entry in leaderboard.METHODS if get(entry.method).takes_kd}


def test_the_pilots_of_the_benchmarks_methods_are_trained_once_for_both():
    """SLKD's relatives of its first pair are the leaderboard's networks."""
    theirs = {
        cell.row.key: cell.experiment.fingerprint
        for cell in slkd.TABLE_1.cells("pilot", asked=[slkd.R32X4_R8X4.key])
        if cell.experiment
    }
    ours = {cell.row.key: cell.experiment.fingerprint for cell in FIRST.cells("pilot") if cell.experiment}
    assert {key: ours[key] for key in theirs} == theirs and len(theirs) == 11


def test_controls_differ_from_kd_in_what_they_ask_and_in_nothing_else():
    built = {cell.row.key: cell.experiment for cell in FIRST.cells("pilot")}
    kd = built["kd"]
    for key in ("kd-untrained", "kd-early", "kd-same-images"):
        assert dataclasses.replace(built[key], teacher=kd.teacher) == kd and built[key].teacher != kd.teacher
    assert built["kd-self"] == built["tf-kd"]  # one training, that has KD's loss
    assert built["kd-untrained"].teacher.recipe.lr == 0 and built["kd-self"].teacher.network == kd.network
    assert built["kd-same-images"].teacher.images == kd.images != kd.teacher.images
    (at_paper,) = FIRST.cells("paper", None, ["kd-same-images"])
    assert at_paper.experiment is None, "there students learn from all images"
    assert len({built[key].fingerprint for key in leaderboard.AGAIN}) == 3
    assert {built[key].recipe for key in (*leaderboard.AGAIN, "kd-mismatched", "label-smoothing")} == {kd.recipe}


# -- the controls' mathematics -----------------------------------------------------------------------------


def setup(seed: int = 1) -> Setup:
    torch.manual_seed(0)
    student, teacher = models.create("resnet8", 4), models.create("resnet8", 4)
    recipe = experiment("kd").recipe
    return Setup(
        student, teacher, recipe, Supervision(), TrainingSet(torch.arange(8) % 4, 4), seed, torch.device("cpu")
    )


def a_batch() -> Batch:
    torch.manual_seed(1)
    shown = [Activations(torch.zeros(6, 1, 1, 1), [], [], None, torch.randn(6, 4)) for _ in range(2)]
    return Batch(torch.zeros(6, 3, 8, 8), torch.arange(6) % 4, torch.arange(6), *shown, torch.zeros(()))


def test_smoothed_labels_are_those_of_another_implementation():
    (stage,) = get("label-smoothing").stages(setup(), {"smoothing_share": 0.2})
    batch = a_batch()
    expected = torch.nn.functional.cross_entropy(batch.student.logits, batch.labels, label_smoothing=0.2)
    assert sum(stage.objective(batch).values()) == pytest.approx(float(expected), rel=1e-6)


def test_a_mismatched_teacher_answers_for_the_next_image():
    entry = get("kd-mismatched")
    (stage,) = entry.stages(setup(), entry.arguments({}))
    batch = a_batch()
    moved = torch.cat([batch.teacher.logits[-1:], batch.teacher.logits[:-1]])
    assert stage.objective(batch)["kd"] == 0.9 * losses.kd(batch.student.logits, moved, 4.0)


def test_kd_again_begins_a_millionth_away_and_each_copy_elsewhere():
    before = torch.cat([p.flatten() for p in setup().student.parameters()])
    starts = []
    for copy in (1, 1, 2):
        own, entry = setup(), get("kd-again")
        entry.stages(own, entry.arguments({"copy": copy}))
        starts.append(torch.cat([p.detach().flatten() for p in own.student.parameters()]))
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])
    moved = ((starts[0] - before) / before)[before.abs() > 1e-3]
    assert 0.5e-6 < moved.std() < 2e-6


# -- what is chosen ----------------------------------------------------------------------------------------


def test_tuned_rows_wait_for_the_whole_search_and_take_what_held_out_images_say():
    assert "kdnb study --exhibit leaderboard/tuning" in FIRST.cell("pilot", "kd-tuned").why_not
    store = Store.open()
    for place, cell in enumerate(leaderboard.TUNING.cells("pilot")):
        (run,) = cell.runs(1)
        assert run.seed == 0
        seen = 0.9 if cell.row.key in ("kd-8-0.5", "plain-lr-0.1-decay-0.001") else 0.01 * place
        made = record(run, headline=1 - seen)  # the test images say the opposite
        store.write(
            run, dataclasses.replace(made, history={"epoch": [1], "validation_accuracy": [seen]}), "leaderboard"
        )
    kd, plain = (FIRST.cell("pilot", key).experiment for key in ("kd-tuned", "plain-tuned"))
    assert kd.arguments == {"temperature": 8.0, "soft_weight": 0.5, "labels_weight": 0.5}
    assert (plain.recipe.lr, plain.recipe.weight_decay) == (0.1, 1e-3) and plain.images.split == "test"
    assert {cell.experiment.images.split for cell in leaderboard.TUNING.cells("pilot")} == {"held-out"}
    taken = [entries[0].text for entries in tables.search("leaderboard/tuning").body if entries[2].text == "taken"]
    assert set(taken) == {"KD, temperature 8, weight 0.5", "Plain, lr 0.1 decay 0.001"}
    told = tables.search("leaderboard/tuning").note
    assert "“Plain, lr 0.1 decay 0.001” has the largest lr that was tried." in told  # of two decays none is an edge
    assert "“KD, temperature 8, weight 0.5” has the largest temperature that was tried. Beyond the edge" in told


def test_a_best_candidate_amid_what_was_tried_has_nothing_to_beware_of():
    store = Store.open()
    for cell in leaderboard.TUNING.cells("pilot"):
        (run,) = cell.runs(1)
        seen = 0.9 if cell.row.key in ("kd-4-0.5", "plain-lr-0.05-decay-0.001") else 0.1
        made = dataclasses.replace(record(run, headline=0.5), history={"epoch": [1], "validation_accuracy": [seen]})
        store.write(run, made, "leaderboard")
    assert tables.search("leaderboard/tuning").note == "12 of 12 candidates are measured, one seed each."


def test_the_five_best_go_on_with_fresh_seeds_and_who_has_begun_stays():
    waiting = SECOND.cells("pilot")
    assert not any(cell.experiment for cell in waiting)
    first = {run.key for run in wanted.runs([FIRST], PROFILES["pilot"], rows=",".join(leaderboard.COMPETING))}
    assert {run.key for cell in waiting for run in cell.awaits} == first  # the command trains what chooses
    of_all = exhibits.select("leaderboard")
    (of_srm,) = {run.experiment for run in wanted.runs([FIRST], PROFILES["pilot"], rows="srm")}
    assert {run.experiment for run in wanted.runs(of_all, PROFILES["pilot"], rows="srm")} == {of_srm}
    assert {run.key for run in wanted.runs([SECOND], PROFILES["pilot"], rows="srm")} == first  # it alone is asked for
    assert wanted.runs(of_all, PROFILES["pilot"], rows="kd-tuned")  # the search for its settings, which is its own
    fill(Store.open(), "pilot", seeds=3, key="leaderboard/first")
    best = [row.key for row in leaderboard.ROWS if row.key in leaderboard.COMPETING][-5:]  # later rows score higher
    chosen = [cell for cell in SECOND.cells("pilot") if cell.experiment]
    assert {cell.row.key for cell in chosen} == {"teacher", "plain", "kd", *best}
    assert [run.seed for run in chosen[1].runs(10)] == list(range(11, 21))
    tables_before = tables.ranking("leaderboard/second", "pilot")
    assert "not yet measured" in tables_before[0].text  # seeds 1 to 3 are the first round's alone
    store = Store.open()
    others, begun = {"teacher", "plain", "kd"}, ("at", "sp", "rkd", "ofd", "crd")
    for count, key in enumerate(begun, 1):  # others come in the places that are left, the best first
        (cell,) = (cell for cell in SECOND.every("pilot") if cell.row.key == key)
        (run,) = cell.runs(1)
        store.write(run, record(run), "leaderboard")
        chosen = {cell.row.key for cell in SECOND.cells("pilot") if cell.experiment}
        assert chosen == others | {*begun[:count]} | {*best[count:]}


def test_the_five_best_are_chosen_by_the_seeds_of_the_first_round_once_all_have_them():
    fill(Store.open(), "pilot", seeds=3, key="leaderboard/first")
    store, best = Store.open(), [row.key for row in leaderboard.ROWS if row.key in leaderboard.COMPETING][-5:]
    easy = Run(FIRST.cell("pilot", "at").experiment, 4)  # of an easy seed, that others do not have
    store.write(easy, record(easy, 0.99), "leaderboard")
    assert {cell.row.key for cell in SECOND.cells("pilot") if cell.experiment} == {"teacher", "plain", "kd", *best}
    early = [cell for cell in SECOND.every("pilot") if cell.row.key in ("at", "sp", "rkd", "ofd", "crd", "dkd")]
    store.get(*FIRST.cell("pilot", "vid").runs(3)[2].key).path.unlink()
    for cell in early:  # as another table of seeds 11 and more leaves them
        store.write(cell.runs(1)[0], record(cell.runs(1)[0]), "slkd")
    waits = {cell.row.key for cell in SECOND.cells("pilot") if cell.waits}
    assert waits == {row.key for row in leaderboard.ROWS} - {cell.row.key for cell in early} - leaderboard.BESIDE
    assert [run.seed for run in FIRST.cell("pilot", "kd").runs(12)] == list(range(1, 11))  # others count elsewhere


def test_a_method_that_diverged_holds_nothing_up_and_comes_after_all_others():
    fill(Store.open(), "pilot", seeds=3, key="leaderboard/first")
    store, best = Store.open(), [row.key for row in leaderboard.ROWS if row.key in leaderboard.COMPETING][-1]
    cell, other = FIRST.cell("pilot", best), FIRST.cell("pilot", "pkt")
    lose(store, cell.runs(1)[0])
    for stage in other.experiment.shared_stages():  # what a run goes on from is lost, and so is the run
        for run in other.runs(3):
            store.get(*run.key).path.unlink()
            lose(store, Run(stage, run.seed))
    store = Store.open()
    assert diverged(cell, store) == [1] and diverged(other, store) == [1, 2, 3]
    assert not plan.missing(other.runs(3), store)
    chosen = {cell.row.key for cell in SECOND.cells("pilot") if cell.experiment}
    assert len(chosen) == 8 and best not in chosen
    (shown, *_) = tables.ranking("leaderboard/first", "pilot")
    assert f"Runs that diverged and have no score: {FIRST.row(best).label} (1 of 3), PKT (3 of 3)." in shown.note
    assert "not measured yet" not in shown.note
    assert list(shown.frame.set_index("row").loc[[best, "pkt"], "diverged"]) == [1, 3]


def lose(store: Store, run: Run) -> None:
    """A run that diverged in its third epoch, in place of the one that the store has."""
    whole = record(run)
    store.write(run, dataclasses.replace(whole, metrics={"epochs": 2, "diverged": 3}, correct=""), "leaderboard")


def test_a_setting_that_diverged_is_not_chosen():
    fill(Store.open(), "pilot", seeds=1, key="leaderboard/tuning")
    store, cells = Store.open(), leaderboard.TUNING.cells("pilot")
    taken = FIRST.cell("pilot", "kd-tuned").experiment.arguments
    (best,) = (c for c in cells if c.row.method == "kd" and c.row.arguments.items() <= taken.items())
    lose(store, best.runs(1)[0])
    chosen = FIRST.cell("pilot", "kd-tuned").experiment
    assert chosen is not None and chosen.arguments != taken
    shown = {line[0].text: [entry.text for entry in line[1:]] for line in tables.search("leaderboard/tuning").body}
    assert shown[best.row.label] == ["diverged", ""] and len(shown) == len(cells)


# -- the table ---------------------------------------------------------------------------------------------


def test_places_are_intervals_over_all_pairs():
    noise = np.random.default_rng(3).normal(0, 0.1, (6, 4))
    means = {"a": 10, "b": 10, "c": 20, "d": 0}
    lines = [(row, s, mean + noise[s, i]) for i, (row, mean) in enumerate(means.items()) for s in range(6)]
    layout = Layout(pd.DataFrame(lines, columns=["row", "seed", "value"]))
    assert layout.ranks() == {"a": (2, 3), "b": (2, 3), "c": (1, 1), "d": (4, 4)}
    assert layout.probability("c", "a") > 0.999 and layout.probability("a", "c") < 0.001
    assert layout.probability("a", "b") + layout.probability("b", "a") == pytest.approx(1)


def timed(tmp_path) -> None:
    """The steps that were timed first, whatever is timed later."""
    (tmp_path / "published" / "bench").mkdir(parents=True)
    shutil.copy(
        paths.ROOT / "data" / "results" / "bench" / "cpu-2-cores-methods.json", tmp_path / "published" / "bench"
    )


def test_the_table_has_the_gains_of_the_whole_column_and_is_sorted(tmp_path):
    timed(tmp_path)
    fill(Store.open(), "pilot", seeds=3, key="leaderboard/first")
    (table,) = tables.ranking("leaderboard/first", "pilot", settings=leaderboard.SETTINGS)
    frame = table.frame.dropna(subset=["mean"])
    assert list(frame["mean"]) == sorted(frame["mean"], reverse=True)
    runs = pd.DataFrame(
        [
            (cell.row.key, seed, 100 * accuracy(place, seed))
            for place, cell in enumerate(FIRST.cells("pilot"))
            if cell.experiment and cell.row.role != "teacher" and cell.row.key != "kd-self"  # Tf-KD's runs
            for seed in (1, 2, 3)
        ],
        columns=["row", "seed", "value"],
    )
    expected = {gain.a: gain for gain in paired(runs, "kd")}
    at = frame[frame["row"] == "at"].iloc[0]
    assert at["over_kd_low"] == pytest.approx(expected["at"].low) and at["settings"] == "the field's benchmark"
    assert 1 <= at["best_place"] <= at["worst_place"] <= len(runs["row"].unique())
    dear = {entries[0].text for entries in table.body if "⚑" in entries[9].text}
    assert {"CRD", "SLKD"} <= dear and "DKD" not in dear
    costs = frame.set_index("row")["cost_in_kd"]
    assert (costs[list(leaderboard.AGAIN)] == 1).all() and costs["kd-mismatched"] == 1  # the step is KD's
    assert costs["label-smoothing"] == costs["plain"] < 1
    chosen = tables.choices("leaderboard/first", leaderboard.SETTINGS, leaderboard.LEFT_OUT)
    assert "; contrastive (trains features for retrieval, without a classifier)" in chosen.note
    weights = {entries[0].text: entries[2].text for entries in chosen.body}
    assert {entries[0].text.partition(" (=")[0] for entries in table.body} <= {*weights}
    assert next(entries[1].text for entries in chosen.body if entries[0].text == "AT") == "the field's benchmark"
    assert weights["PKT, beside the labels"] == "weight 30000"
    assert weights["Information flow, beside the labels"] == "weight 30000, first weight 100"
    assert weights["KD"] == "labels weight 0.1, soft weight 0.9" and weights["Plain student"] == "–"
    (command,) = commands_of(table)
    assert command == "kdnb study --exhibit leaderboard/first --profile pilot --seeds 3"
    assert "kdnb-sortable" in table.css and "cannot be told from none" in table.note


def score(key: str, seed: int, percent: float, logits: np.ndarray | None = None) -> None:
    """A run of a row at pilot scale, and what it said of all test images."""
    (cell,) = (cell for cell in FIRST.cells("pilot") if cell.row.key == key)
    (run,) = [run for run in cell.runs(3) if run.seed == seed]
    made, arrays = record(run, percent / 100), {}
    if logits is not None:
        arrays = packed(logits, TEST_LABELS)
        right = np.packbits(logits.argmax(axis=1) == TEST_LABELS)
        made = dataclasses.replace(made, correct=base64.b64encode(right.tobytes()).decode())
    Store.open().write(run, made, "leaderboard", arrays)


TEST_LABELS = np.random.default_rng(0).integers(0, 100, 10_000)


def test_settings_that_the_search_leaves_as_they_are_make_no_second_row():
    """The runs are KD's own: counted twice they would look like more noise known, and like a gain of nothing."""
    for cell in leaderboard.TUNING.cells("pilot"):
        (run,) = cell.runs(1)
        seen = 0.9 if cell.row.key in ("kd-4-0.9", "plain-lr-0.1-decay-0.001") else 0.1
        history = {"epoch": [1], "validation_accuracy": [seen]}
        Store.open().write(run, dataclasses.replace(record(run), history=history), "leaderboard")
    for seed in (1, 2, 3):
        for key, percent in {"plain": 28, "kd": 37, "dkd": 40, "plain-tuned": 30}.items():
            score(key, seed, percent + seed / 10 + len(key) * seed % 3 / 10)
    (table,) = tables.ranking("leaderboard/first", "pilot")
    lines = {entries[0].text: [entry.text for entry in entries] for entries in table.body}
    kd, tuned = lines["KD"], lines["KD, tuned (= KD)"]
    assert tuned[1] == kd[1] and tuned[2:6] == ["–"] * 4 != kd[2:6]
    assert lines["Plain, tuned"][2] != "–" == lines["Plain, tuned"][5]  # a control has no place
    assert lines["DKD"][5].endswith(" to 3") or lines["DKD"][5] == "1"  # of the three methods


def test_a_row_is_like_the_tables_teacher_where_both_choose_the_same_class():
    """Whoever taught it; labels are not asked."""
    draw = np.random.default_rng(1)
    of_teacher, of_plain = draw.normal(size=(2, 10_000, 100))
    of_plain[:4_000] = of_teacher[:4_000]
    score("teacher", 0, 60, of_teacher)
    for seed in (1, 2):
        score("plain", seed, 28 + seed, of_plain)
        score("kd", seed, 37 + seed)  # keeps nothing
    (table,) = tables.ranking("leaderboard/first", "pilot")
    like = table.frame.set_index("row")["agreement"]
    same = (of_plain.argmax(axis=1) == of_teacher.argmax(axis=1)).mean()
    assert like["plain"] == pytest.approx(same) and 0.40 < same < 0.42
    assert np.isnan(like["kd"]) and np.isnan(like["teacher"])
    assert {entries[0].text for entries in table.body} == {"Teacher", "Plain student", "KD"}
    assert " rows are not measured yet: AT; AT + KD; SP; " in table.note and len(table.frame) > 60


def test_a_row_that_varies_more_than_the_others_is_named_and_costs_them_nothing():
    noise = np.random.default_rng(2).normal(0, 0.3, (20, 4))
    keys = [row.key for row in leaderboard.ROWS if row.role != "teacher"][:20]
    for place, key in enumerate(keys):
        for seed in (1, 2, 3):
            score(key, seed, 30 + noise[place, seed] + (seed - 2) * 12 * (key == "at"))
    (table,) = tables.ranking("leaderboard/first", "pilot")
    assert "did not learn or vary more than the others: AT." in table.note
    frame = table.frame.set_index("row")
    assert frame.loc["sp", "over_kd_high"] - frame.loc["sp", "over_kd_low"] < 3
    assert frame.loc["at", "over_kd_high"] - frame.loc["at", "over_kd_low"] > 50


def test_a_row_that_did_not_learn_lends_the_others_none_of_its_quiet():
    noise = np.random.default_rng(2).normal(0, 0.5, (5, 4))
    for place, key in enumerate(("plain", "kd", "at", "sp")):
        for seed in (1, 2, 3):
            score(key, seed, 30 + noise[place, seed])
    before = tables.ranking("leaderboard/first", "pilot")[0]
    for seed in (1, 2, 3):
        score("kd-untrained", seed, 1 + seed / 1000)
    (table,) = tables.ranking("leaderboard/first", "pilot")
    sd = r"One run varies by ([\d.]+) points \((\d+) degrees"
    assert re.search(sd, table.note).groups() == re.search(sd, before.note).groups()
    assert "did not learn or vary more than the others: KD, untrained teacher." in table.note
    frame = table.frame.set_index("row")
    half = (frame.loc["at", "over_kd_high"] - frame.loc["at", "over_kd_low"]) / 2
    assert f"± {half:.2f} points over KD" in table.note, "of the rows that share their noise"


def test_the_notebooks_tables_are_on_the_data_set_that_is_named():
    assert leaderboard.on("cifar100") == (FIRST, SECOND, leaderboard.TUNING, leaderboard.PATIENT)
    with pytest.raises(KdnbError, match="cifar10"):
        leaderboard.on("cifar1000")


def test_the_same_method_again_counts_what_was_decided():
    fill(Store.open(), "pilot", seeds=3, key="leaderboard/first")
    told = tables.again("leaderboard/first", ["kd", *leaderboard.AGAIN], "pilot")
    decided = sum(entries[2].text == "yes" for entries in told.body)
    assert len(told.body) == 6 and told.note.startswith(f"{decided} of 6 decide")
    assert decided >= 3  # the sample's rows differ by their place
    assert "0.3 of these." in told.note and re.search(r"varies by \d\.\d\d points .*\(9 degrees", told.note) is None
    assert "(6 degrees of freedom), one of the whole table by" in told.note


def test_a_demo_has_few_rows_and_no_places():
    fill(Store.open(), "demo", seeds=1, key="leaderboard/first")
    (table,) = tables.ranking("leaderboard/first", "demo")
    assert len(table.body) == len(leaderboard.IN_DEMO) and {entries[5].text for entries in table.body} == {"–"}
    assert "says nothing about the paper" in table.note
    assert table.of_demo and exhibits.get("leaderboard/first").seeds("demo") == 1


def test_the_page_says_first_whether_it_answers_yet():
    """A demo is no answer; what is made at a scale is counted."""
    fill(Store.open(), "demo", seeds=1, key="leaderboard/first")
    told = tables.standing("leaderboard/first").text
    count = progress(FIRST, "pilot", Store.open())["wanted"]
    assert told.startswith(f"**Not measured yet:** none of its {count} runs") and "cannot say" in told
    assert count > 100
    fill(Store.open(), "pilot", seeds=1, key="leaderboard/first")  # with what tuned rows wait for
    count = progress(FIRST, "pilot", Store.open())["wanted"]
    assert tables.standing("leaderboard/first").text.endswith(f" of {count} runs at pilot scale.")


def bench(tmp_path, steps: dict[tuple[str, str], float], name: str = "here", **told: str) -> None:
    """What steps cost beside KD's, and what they need: a tenth of that in GiB, and a hundred parameters a unit.

    But for KD's own, rounds are a tenth lower and higher.
    """
    folder = tmp_path / "published" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"method": method, "stage": stage, "ratio_to_kd": ratio, "peak_gib": ratio / 10,
         "lowest": ratio - 0.1 * (method != "kd"), "highest": ratio + 0.1 * (method != "kd"),
         "extra_parameters": round(100 * ratio)}
        for (method, stage), ratio in steps.items()
    ]  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps({"methods": lines, "networks": "this -> that", **told}))


#: The steps of some rows.
SOME = {("kd", "train"): 1.0, ("plain", "train"): 0.5, ("crd", "train"): 1.3, ("tf-kd", "train"): 0.7}


def test_steps_of_the_teacher_alone_are_part_of_the_cost(tmp_path):
    """A paraphraser's epochs are counted as first steps are; without their record half a cost is none."""
    bench(
        tmp_path, {("kd", "train"): 1.0, ("plain", "train"): 0.5, ("ft", "train"): 1.2, ("paraphraser", "train"): 0.6}
    )
    fill(Store.open(), "pilot", seeds=1, key="leaderboard/first", rows=["plain", "kd", "ft"])
    (table,) = tables.ranking("leaderboard/first", "pilot")
    costs = table.frame.set_index("row")["cost_in_kd"]
    assert costs["plain"] == 0.5 and np.isnan(costs["ft"])
    (cell,) = (cell for cell in FIRST.cells("pilot") if cell.row.key == "ft")
    (run,) = cell.runs(1)
    kd = next(r for c, r in runs_of(FIRST.cells("pilot", asked=["kd"]), Store.open())).metrics["epochs"]
    for step in run.steps().values():
        Store.open().write(step, record(step, metrics={"epochs": 5}), "leaderboard")
    (table,) = tables.ranking("leaderboard/first", "pilot")
    assert table.frame.set_index("row")["cost_in_kd"]["ft"] == pytest.approx((1.2 * kd + 0.6 * 5) / kd)
    told = "step by step, with this → that, each method with its defaults; this table's networks are ResNet20 → ResNet8"
    assert told in table.note


def test_with_kd_a_method_needs_what_its_first_step_needs_and_a_teacher_needs_nothing(tmp_path):
    steps = {("kd", "train"): 1.0, ("plain", "train"): 0.5, ("srm", "predict"): 9.0, ("srm", "train"): 0.5}
    bench(tmp_path, {**steps, ("srm+kd", "train"): 1.0})
    found = steps_for(FIRST.cells("pilot"))
    assert found.needs("srm") == found.needs("srm+kd") == (0.9, 900) and found.needs("kd") == (0.1, 100)
    assert found.needs("crd") == (None, None)
    score("teacher", 0, 60)
    score("plain", 1, 28)
    (table,) = tables.ranking("leaderboard/first", "pilot")
    told = {entries[0].text: [entry.text for entry in entries[-2:]] for entries in table.body}
    assert told["Teacher"] == ["–", "–"] and told["Plain student"] == ["0.05", "0"]


def test_costs_are_counted_by_what_was_timed_with_the_tables_networks(tmp_path):
    """Where that is there and knows as much as another measurement; the note and the picture say which it was."""
    fill(Store.open(), "pilot", seeds=1, key="leaderboard/first", rows=["plain", "kd", "crd"])

    def seen() -> tuple[float, str]:
        (table,) = tables.ranking("leaderboard/first", "pilot")
        picture = plots.frontier("leaderboard/first", "leaderboard/patience", "pilot")
        costs = table.frame.set_index("row")["cost_in_kd"]
        assert dict(zip(picture.frame["row"], picture.frame["cost_in_kd"], strict=True))["crd"] == costs["crd"]
        told = table.note.partition("step by step, with ")[2].partition(". ")[0].rstrip(".")
        assert f"Steps were timed with {told.partition(';')[0]}." in picture.caption
        return costs["crd"], told

    bench(tmp_path, SOME, networks="resnet56 -> resnet20")
    own = "; this table's networks are ResNet20 → ResNet8"
    assert seen() == (1.3, f"ResNet56 → ResNet20, each method with its defaults{own}")
    where = {"networks": "resnet20 -> resnet8", "table": "leaderboard/first at pilot scale"}
    bench(tmp_path, {("kd", "train"): 1.0, ("tf-kd", "train"): 0.9}, "part", **where)
    assert seen()[0] == 1.3  # not all rows are in it, and numbers of two are not compared
    bench(tmp_path, {**SOME, ("crd", "train"): 1.6}, "pilot", **where)
    assert seen() == (
        1.6,
        "ResNet20 → ResNet8, each method with its settings in Leaderboard, “All methods”, at pilot scale",
    )
    bench(tmp_path, {**SOME, ("crd", "train"): 1.7}, "earlier", networks="resnet20 -> resnet8")
    assert seen()[0] == 1.6  # the table's own settings
    (plain,) = FIRST.cells("pilot", asked=["plain"])
    assert steps_for([plain]).networks == ("resnet20", "resnet8")  # nobody teaches it; its size tells


def test_a_caption_tells_scales_apart_where_steps_were_timed_with_several_networks():
    step = {("kd", "train"): Step(1.0)}
    one, other = (
        Steps(step, ("resnet56", "resnet20")),
        Steps(step, ("resnet20", "resnet8"), "slkd/table1 at pilot scale"),
    )
    assert timed_with({("paper", "cifar100", ""): Steps()}) == ""
    each = {("paper", "cifar100", ""): one, ("pilot", "cifar10", ""): other, ("pilot", "cifar100", ""): other}
    assert timed_with(each) == (
        " Steps were timed with ResNet56 → ResNet20, each method with its defaults (paper); "
        "ResNet20 → ResNet8, each method with its settings in SLKD, Table 1, at pilot scale (pilot)."
    )


def test_a_cost_has_the_range_of_the_rounds_that_it_was_measured_in(tmp_path):
    bench(tmp_path, SOME)
    fill(Store.open(), "pilot", seeds=1, key="leaderboard/first", rows=["plain", "kd", "crd", "tf-kd", "at"])
    (table,) = tables.ranking("leaderboard/first", "pilot")
    costs = table.frame.set_index("row")[["cost_low", "cost_in_kd", "cost_high"]]
    assert list(costs.loc["crd"]) == pytest.approx([1.2, 1.3, 1.4]) and list(costs.loc["kd"]) == [1, 1, 1]
    assert "Above that in some rounds of timing, below it in others (`cost_low`, `cost_high`): CRD." in table.note
    assert "Not all steps were timed of: AT." in table.note and costs.loc["at"].isna().all()


def test_a_method_that_teaches_itself_has_the_cost_of_its_own_step(tmp_path):
    """Its first training is a teacher's, and told not to be counted."""
    bench(tmp_path, SOME)
    fill(Store.open(), "pilot", seeds=1, key="leaderboard/first", rows=["kd", "tf-kd", "kd-self"])
    (table,) = tables.ranking("leaderboard/first", "pilot")
    costs = table.frame.set_index("row")["cost_in_kd"]
    assert costs["tf-kd"] == costs["kd-self"] == 0.7
    assert table.note.endswith("nor the first training of what teaches itself: Tf-KD, taught by itself.")
    assert "tf-kd" in set(plots.frontier("leaderboard/first", "leaderboard/patience", "pilot").frame["row"])


def test_below_the_command_stands_how_long_its_runs_took_and_what_they_go_on_from(tmp_path):
    """A run in two tables once; seconds of a device together; nothing where records tell none."""

    def train(key: str, seconds: float, device: str) -> None:
        (cell,) = FIRST.cells("pilot", asked=[key])
        (own,) = cell.runs(1)
        for run in [own, *own.shared_stages(), *([own.teacher] if own.teacher else [])]:
            cost = {"wall_seconds": seconds, "images_per_s": 1.0, "cohort_size": 4, "device": device}
            Store.open().write(run, record(run, cost=cost), "leaderboard")

    train("kd", 1800, "CPU, 1 threads")
    train("fitnet", 3600, "CPU, 1 threads")  # its hint took as long, and the teacher of both
    train("plain", 60, "H100")
    (table,) = tables.ranking("leaderboard/first", "pilot")
    assert "go on from took 3.5 h on CPU, 1 thread; 60 s on H100. They train what is missing" in table.rerun
    train("plain", 0, "H100")
    (table,) = tables.ranking("leaderboard/first", "pilot")
    assert "go on from took 3.5 h on CPU, 1 thread. They train" in table.rerun
    for key in ("kd", "fitnet"):
        train(key, 0, "CPU, 1 threads")
    (table,) = tables.ranking("leaderboard/first", "pilot")
    assert "took" not in table.rerun and "They train" in table.rerun


@pytest.mark.parametrize("profile", PROFILES)
def test_with_kd_a_method_keeps_its_settings(profile):
    built = {cell.row.key: cell.experiment for cell in FIRST.cells(profile) if cell.experiment}
    for key in leaderboard.COMPETING:
        if f"{key}+kd" in built:
            alone, both = built[key].arguments, built[f"{key}+kd"].arguments
            assert {name: both.get(name) for name in alone} == dict(alone)


# -- longer training ---------------------------------------------------------------------------------------

LENGTHS = {"": 1, "-twice": 2, "-four-times": 4}
#: What each method has by the epochs it trained for, in percent: KD's lead fades, CRD + KD's stays.
REACHED = {"plain": (28, 31, 33), "kd": (37, 36, 34), "crd+kd": (42, 45, 47)}


def longer(seeds: int = 3) -> None:
    """Runs of three lengths with as many epochs as they say, and CRD + KD's as the table's own row."""
    for cell in leaderboard.PATIENT.cells("pilot"):
        method = cell.row.method
        if method in REACHED:
            place = [*LENGTHS].index(cell.row.key.removeprefix(method))
            for run in cell.runs(seeds):
                percent = REACHED[method][place] + (run.seed * 7 + place) % 3 / 10
                made = record(run, percent / 100, metrics={"epochs": 30 * 2**place})
                Store.open().write(run, made, "leaderboard")


def test_gains_are_over_who_trained_for_as_long():
    longer()
    table = tables.lasting("leaderboard/patience", "pilot")
    lines = {entries[0].text: [entry.text for entry in entries] for entries in table.body}
    assert lines["KD, four times"][1] == "120" and lines["Plain student"][3:] == ["–", "–"]
    gains = table.frame.query("than.str.startswith('plain')").set_index("row")["gain"]
    assert list(gains[["kd", "kd-twice", "kd-four-times"]].round()) == [9, 5, 1]
    over_kd = table.frame.query("than.str.startswith('kd')").set_index("row")["gain"]
    assert list(over_kd[["crd+kd", "crd+kd-twice", "crd+kd-four-times"]].round()) == [5, 9, 13]
    seen = plots.patience("leaderboard/patience", "pilot").seen
    assert re.search(r"; KD: 37\.\d \(gain \+9\.0\) at 30, ", seen)


def test_patience_takes_the_first_rounds_seeds_alone():
    """The second round adds ten seeds to plain and KD at one length: a curve of other seeds at its ends is none."""
    (cell,) = (cell for cell in leaderboard.PATIENT.cells("pilot") if cell.row.key == "kd")
    assert cell.takes(3) and not cell.takes(11) and not cell.takes(0)


def test_what_costs_more_than_kd_stands_beside_kd_that_trained_longer(tmp_path):
    timed(tmp_path)
    assert "not yet" in tables.beside_longer("leaderboard/first", "leaderboard/patience", "pilot").text
    longer()
    table = tables.beside_longer("leaderboard/first", "leaderboard/patience", "pilot")
    ((method, cost, over, times, less, says),) = [[entry.text for entry in entries] for entries in table.body]
    assert method == "CRD + KD" and 1.25 < float(cost) < 2 and times == "2"
    assert over.startswith("+5.") and less.startswith("+6.") and says == "worth its cost"


def test_the_picture_names_what_no_cheaper_method_reaches(tmp_path):
    timed(tmp_path)
    longer()
    for cell in FIRST.cells("pilot", asked=["at", "mmd-gaussian+kd", "label-smoothing", "reviewkd"]):
        percent = {"at": 36, "mmd-gaussian+kd": 40, "label-smoothing": 50, "reviewkd": 30}[cell.row.key]
        for run in cell.runs(2):
            Store.open().write(run, record(run, percent / 100, metrics={"epochs": 30}), "leaderboard")
    plot = plots.frontier("leaderboard/first", "leaderboard/patience", "pilot")
    frame = plot.frame.set_index("row")
    assert {*frame.index[frame["named"]]} == {"plain", "kd", "mmd-gaussian+kd", "crd+kd", "reviewkd"}  # no control
    assert [told.split(" ")[0] for told in plot.seen.partition(": ")[2].split(", ")] == [
        "Plain",
        "KD",
        "MMD-Gaussian",
        "CRD",
    ]
    assert (
        frame.loc["reviewkd", "cost_in_kd"] > 1.25
        and "2 to 3 seeds" in plot.caption
        and "trains longer" in plot.caption
    )
    assert "<svg" in plot.to_svg()
    assert "<svg" in plots.frontier("leaderboard/first", "leaderboard/patience", "demo").to_svg()
