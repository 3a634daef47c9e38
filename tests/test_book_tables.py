"""Tables of the book: what stands in them is what the store and the papers say, and they render as what they are."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import random
import re
import subprocess
import sys

import pandas as pd
import pytest
from book_samples import accuracy, asked_for, commands_of, fill
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.core import publish_doctree
from docutils.utils import new_document
from pybtex.database import Person
from sphinx import addnodes
from study_samples import keep, record

from kdnb import exhibits, listing, methods, page, paths, tables
from kdnb.errors import KdnbError
from kdnb.exhibits import comparison
from kdnb.exhibits.runs import measure
from kdnb.exhibits.show import show
from kdnb.study.environment import source_digest
from kdnb.study.experiment import Run
from kdnb.study.statistics import paired
from kdnb.study.store import Store
from kdnb.tables.grid import grid
from kdnb.tables.in_short import told_of_gains
from kdnb.tables.method import scale_told
from kdnb.tables.sheet import Entry, Said, Table, line
from kdnb.tables.speed import method_costs, speed, step_costs


@pytest.fixture(autouse=True)
def _only_this_store(tmp_path, monkeypatch):
    """The records of this machine's demo and study stay out."""
    monkeypatch.setattr(paths, "demo_results", lambda: tmp_path / "demo")
    monkeypatch.setattr(paths, "committed_results", lambda: tmp_path / "published")
    monkeypatch.setattr(paths, "committed_checkpoints", lambda: tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store():
    found = Store.open()
    fill(found, seeds=3)
    return found


@pytest.fixture
def in_book(monkeypatch, tmp_path):
    monkeypatch.setenv("KDNB_BATCH", "1")
    monkeypatch.setenv("KDNB_BOOK", str(paths.ROOT))


def test_a_claim_of_a_row_on_a_schedule_of_its_own_is_marked():
    shown = tables.claims("comparison", ids=["C2", "C3", "C10"])
    assert ["†" in entries[0].text for entries in shown.body] == [False, False, True]
    assert "† trained on a schedule of their own." in shown.note
    assert "†" not in tables.claims("comparison", ids=["C3"]).note


def test_a_cell_tells_how_many_of_its_runs_diverged(store):
    cells = {key: comparison.TABLE_1.cell("demo", key) for key in ("kd", "crd")}
    runs = {key: cell.runs(3) for key, cell in cells.items()}
    for run in (runs["kd"][0], *runs["crd"]):
        lost = dataclasses.replace(store.get(*run.key), metrics={"epochs": 0, "diverged": 1}, correct="")
        store.write(run, lost, "comparison")
    shown = tables.results("comparison/table1", ["plain", "kd", "crd"])
    texts = {entries[0].text.removesuffix(" †"): entries[-1].text for entries in (shown.demo or shown).body}
    assert texts["CRD"] == "3 diverged" and texts["KD"].endswith("(2), 1 diverged")
    assert "diverged" not in texts["Plain student"]
    assert 3 in shown.frame.set_index("row").loc[["crd"], "diverged"].to_list()


def by_verdict(lines):
    """The lines of the sentence that counts claims by their verdict."""
    return next(line for line in lines if "claims by verdict" in line).splitlines()


def texts(lines):
    return [[entry.text for entry in entries] for entries in lines]


# -- drawing ---------------------------------------------------------------------------------------------


def test_a_grid_with_spans_is_the_table_that_was_meant():
    cells = [
        [("Method", 1, 2), ("The paper", 2, 1), ("Demo", 1, 1)],
        [("C100", 1, 1), ("C10", 1, 1), ("Digits", 1, 1)],
        [("KD + more", 1, 1), ("1", 1, 1), ("not yet measured", 2, 2)],
        [("b", 1, 1), ("2", 1, 1)],
    ]
    tree = publish_doctree("\n".join(grid(cells, head=2)), settings_overrides={"report_level": 2, "halt_level": 2})
    found = [
        (entry.astext(), 1 + entry.get("morecols", 0), 1 + entry.get("morerows", 0))
        for entry in tree.findall(lambda node: node.tagname == "entry")
    ]
    assert found == [cell for entries in cells for cell in entries]
    assert len(next(tree.findall(lambda node: node.tagname == "thead"))) == 2


def test_a_table_by_hand_is_html_and_leaves_no_file(tmp_path):
    table = Table("t", "A & B", [line("x", "y")], [line("1 < 2", Entry("wide", columns=2))], pd.DataFrame({"x": [1]}))
    bundle = table._repr_mimebundle_()
    html = BeautifulSoup(bundle["text/html"], "html.parser")
    assert html.caption.text == "A & B" and html.tbody.th["scope"] == "row" and html.tbody.th.text == "1 < 2"
    assert html.find("td")["colspan"] == "2"
    assert "text/markdown" not in bundle and not list(tmp_path.glob("*.csv"))


def test_a_command_in_a_table_is_code_whose_dashes_stay(in_book):
    told = "a_b: `kdnb study --exhibit a_b`; a lone ` is a letter"
    assert (
        r"a\_b: `kdnb study --exhibit a_b`;"
        in Table("t", "", [line("x")], [line(told.partition("; a")[0] + ";")]).to_myst()
    )
    spans = Table("t", "", [line("x", "y")], [[Entry(told.partition("; a")[0], columns=2)]]).to_myst()
    assert r"a\_b: ``kdnb study --exhibit a_b``" in spans
    assert r"a\_b" in Table("t", "", [line("x")], [line(told)]).to_myst().splitlines()[-2]


def test_a_table_in_the_book_is_myst_with_its_csv_beside_it(tmp_path, in_book):
    table = Table(
        "t", "Caption", [line("x", "y")], [line("a_b", Entry("7", target="some-label"))], pd.DataFrame({"x": [1]})
    )
    text = table._repr_mimebundle_()["text/markdown"]
    assert ":name: tab-t" in text and r"a\_b" in text and "{ref}`7 <some-label>`" in text
    assert "{download}`t.csv <t.csv>`" in text and (tmp_path / "t.csv").read_text() == "x\n1\n"


def test_how_numbers_are_made_once_more_is_folded_below_the_csv(tmp_path, in_book):
    table = Table("t", "Caption", [line("x")], [line("y")], pd.DataFrame({"x": [1]}), rerun="```console\n$ kdnb\n```")
    text = table._repr_mimebundle_()["text/markdown"]
    assert text.index("t.csv") < text.index("<details") < text.index("$ kdnb") < text.index("</details>")
    plain = dataclasses.replace(table, rerun="")
    assert "<details" not in plain._repr_mimebundle_()["text/markdown"]


# -- results ---------------------------------------------------------------------------------------------


def test_results_show_print_and_measured_and_the_demo_apart(store):
    table = tables.results("comparison/table1")
    assert texts(table.head)[0] == ["Method", "The paper"] and not table.of_demo
    by_row = {entries[0].text: entries for entries in table.body}
    assert [e.text for e in by_row["KD"][1:]] == ["69.78", "92.66"]
    assert table.demo.of_demo and texts(table.demo.head)[0] == ["Method", "Demo of this build"]
    by_row = {entries[0].text: entries for entries in table.demo.body}
    values = pd.Series([100 * accuracy(2, seed) for seed in (1, 2, 3)])
    assert by_row["KD"][-1].text == f"{values.mean():.2f} ± {values.std():.2f} (3)"
    assert by_row["Teacher"][-1].text == f"{100 * accuracy(0, 0):.2f} (1)"


def test_what_nobody_measured_is_said_and_never_filled_in(store):
    table = tables.results("comparison/table1")
    assert table.note.endswith("Nothing is measured at paper scale yet.")
    fill(store, "paper", seeds=1, dataset="cifar100")
    after = tables.results("comparison/table1")
    kd = next(entries for entries in after.body if entries[0].text == "KD")
    assert kd[3].text == f"{100 * accuracy(2, 1):.2f} (1)" and kd[4].text == "not yet"


def test_a_demo_is_marked_as_demo(store):
    assert "says nothing about the paper" in tables.results("comparison/table1").demo.note


def test_an_ablation_with_nothing_but_a_demo_is_the_demo(store):
    table = tables.results("comparison/kd-alpha")
    assert table.of_demo and table.demo is None and table.frame["runs"].max() == 3


def test_a_demo_of_other_sources_is_called_so(store):
    (kd,) = exhibits.get("comparison/table1").cells("demo", "digits", ["kd"])
    first = store.get(kd.experiment.fingerprint, 1)
    store.write(Run(kd.experiment, 1), dataclasses.replace(first, environment={"sources": "0" * 16}), "comparison")
    table = tables.results("comparison/table1").demo
    assert texts(table.head)[0][-1] == "Demo, in part of another build"
    assert f"Other sources than today's made 1 of its {17 * 3 - 2} runs; `make clean`" in table.note
    assert tables.results("comparison/table1", ["crd"]).demo.note.endswith("says nothing about the paper.")
    first = dataclasses.replace(first, environment={"sources": source_digest(), "earlier_sources": ["0" * 16]})
    store.write(Run(kd.experiment, 1), first, "comparison")
    alone = show("comparison/table1", ["kd"], seeds=1)
    assert scale_told(alone) == "demo, in part of another build, Digits"


def test_pilot_and_short_stand_there_once_measured(store):
    fill(store, "pilot", seeds=1, dataset="cifar100")
    heads = texts(tables.results("comparison/table1").head)
    assert "Measured at pilot scale" in heads[0] and heads[1].count("CIFAR-100") == 2
    assert "ResNet20 → ResNet8" in tables.results("comparison/table1").note


def test_the_command_below_results_asks_for_their_runs_and_no_others(store):
    table = tables.results("comparison/table1", ["plain", comparison.variation("kd", "KD", of="kd")])
    (command,) = commands_of(table.demo)
    assert commands_of(table) == [] and command.endswith("--profile demo --rows plain,kd --seeds 3")
    frame = table.frame[table.frame["runs"] > 0]
    assert asked_for(command) == {(fingerprint, seed) for fingerprint in frame["fingerprint"] for seed in (1, 2, 3)}
    assert " on CPU, 2 threads. They train" in table.demo.rerun and "kdnb run --like" in table.demo.rerun
    assert "--rows" not in commands_of(tables.results("comparison/table1").demo)[0]
    assert "not measured yet" not in table.demo.rerun


def test_what_a_command_trains_beyond_what_is_measured_is_said(store):
    """Hours are of what there is: a reader who starts the command waits for the rest, too."""
    keep(Run(comparison.TABLE_1.cell("pilot", "teacher", "cifar100").experiment, 0))
    told = tables.results("comparison/table1", ["teacher", "kd"], "pilot").rerun
    assert "--rows teacher,kd" in told and " 3 more runs that they ask for are not measured yet; " in told


def test_no_command_is_given_for_what_is_not_measured_or_a_readers_own(store):
    other = exhibits.get("comparison/kd-temperature").row("kd-t2")  # its runs are there: under another table's name
    table = tables.results("comparison/table1", [dataclasses.replace(other, key="kd")])
    assert table.frame["runs"].max() == 3 and table.rerun == table.demo.rerun == ""
    assert tables.results("comparison/table1", profile="short").rerun.count("$ kdnb") == 0


def test_an_ablation_has_no_column_of_the_paper(store):
    assert "The paper" not in texts(tables.results("comparison/kd-alpha").head)[0]


def test_the_csv_holds_what_the_table_shows(store):
    frame = tables.results("comparison/table1").frame
    kd = frame[(frame["row"] == "kd") & (frame["profile"] == "demo")].iloc[0]
    assert kd["runs"] == 3 and kd["seeds"] == "1 2 3" and len(kd["fingerprint"]) == 16
    assert kd["mean"] == pytest.approx(100 * sum(accuracy(2, s) for s in (1, 2, 3)) / 3, abs=1e-3)


def test_links_lead_to_pages_that_exist(store, in_book, tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_BOOK", str(tmp_path))
    page._rows.cache_clear()
    assert {e.target or e.page for entries in tables.results("comparison/table1").body for e in entries} == {""}
    monkeypatch.setenv("KDNB_BOOK", str(paths.ROOT))
    table = tables.results("comparison/table1")
    assert {e.page for entries in table.body for e in entries[:1]} == {
        "teacher", "plain_student", "kd", "fitnet", "fsp", "pkt", "mmd", "crd",
    }  # fmt: skip
    assert table.demo.body[2][-1].target == "runs-comparison-table1-demo-digits-kd"


def test_every_target_of_a_table_is_a_label_on_the_page_of_runs(store, in_book):
    wanted = {e.target for entries in tables.results("comparison/table1").demo.body for e in entries if e.target}
    labels = {e.label for t in tables.runs("comparison/table1") for entries in t.body for e in entries if e.label}
    assert wanted == labels and len(wanted) == 17


def test_runs_copy_their_records_beside_the_page(store, in_book, tmp_path):
    (table,) = tables.runs("comparison/table1")
    assert len(table.body) == 1 + 16 * 3
    link = table.body[1][2]
    record = json.loads((tmp_path / link.file).read_text())
    assert record["seed"] == 1 and record["metrics"]["headline"] == accuracy(1, 1)
    assert texts(table.body)[1][1:4] == ["1", "JSON", f"{100 * accuracy(1, 1):.2f}"]


# -- a method's page -------------------------------------------------------------------------------------


def test_parameters_are_the_papers_and_differ_by_data_set_where_they_do():
    body = dict(texts(tables.parameters("comparison/table1", ["kd"]).body))
    assert body["epochs"] == "200 / 100" and body["temperature"] == "8" and body["soft weight"] == "0.8"
    assert body["networks"] == "ResNet56 → ResNet20" and body["learning rate"] == "0.1"


COST = "Cost in epochs of KD"


def column(table, called):
    """What stands under a head."""
    at = [entry.text for entry in table.head[0]].index(called)
    return [entries[at].text for entries in table.body]


def test_costs_are_epochs_times_what_a_step_costs_and_count_a_first_step_with_each_user(store, tmp_path):
    runs = show("comparison/table1", ["kd", "fitnet", "fitnet+kd"], seeds=3)
    assert column(tables.costs(runs), COST) == ["–"] * 3  # no step was measured
    bench = tmp_path / "published" / "bench"
    bench.mkdir(parents=True)
    steps = {("kd", "train"): 1.0, ("fitnet", "hint"): 0.5, ("fitnet", "train"): 0.7, ("fitnet+kd", "train"): 1.1}
    lines = [{"method": method, "stage": stage, "ratio_to_kd": ratio} for (method, stage), ratio in steps.items()]
    (bench / "here.json").write_text(json.dumps({"methods": lines, "networks": "resnet56 -> resnet20"}))
    table = tables.costs(runs)
    kd, fitnet, both = texts(table.body)
    first = int(fitnet[2])
    assert kd[1:4] == ["10", "–", "10"] and first > 0
    assert list(table.frame["epochs_of_kd"]) == pytest.approx([10, 0.5 * first + 7, 0.5 * first + 11])
    assert both[2] == fitnet[2]
    for path in (store.home(runs.cells[0].experiment).results).rglob("fitnet@hint*/*.json"):
        path.unlink()
    assert (
        "with ResNet56 → ResNet20, each method with its defaults, even where other networks were trained." in table.note
    )
    halves = tables.costs(runs)
    assert column(halves, COST) == ["10", "–", "–"]  # half a cost is none
    assert "Epochs of steps before" not in [entry.text for entry in halves.head[0]], "a column of dashes is none"
    fill(store, "pilot", seeds=2, dataset="cifar100", key="comparison/table1")
    fill(store, "paper", seeds=1, dataset="cifar100", key="comparison/table1", rows=["plain"])  # not the page's own row
    runs = show("comparison/table1", ["plain", "kd"], seeds=3)
    assert "measured at pilot scale, CIFAR-100" in tables.costs(runs).caption


def test_parameters_tell_what_a_measured_smaller_scale_changes(store):
    assert "pilot: epochs" not in dict(texts(tables.parameters("comparison/table1", ["crd"]).body))
    fill(store, "pilot", seeds=1, dataset="cifar100", key="comparison/table1")
    body = dict(texts(tables.parameters("comparison/table1", ["crd"]).body))
    assert body["pilot: epochs"] == "30 / 23", "CIFAR-100's and CIFAR-10's"
    assert body["pilot: × 0.1 after epochs"] == "19, 23, 27 / 14, 17, 20"
    assert body["pilot: networks"] == "ResNet20 → ResNet8" and body["pilot: training images"] == "10,000"


def test_selection_reads_the_same_runs_in_two_ways(store):
    runs = show("comparison/table1", ["kd", "crd"], seeds=3)
    (demo,) = tables.selection(runs)
    assert texts(demo.body)[0][3] == "0.20 ± 0.00 (3)" and demo.caption.startswith(
        "The selected epoch and the last, demo"
    )
    assert demo.note == "Selected less last, mean over 2 rows: +0.20 [0.20, 0.20]."
    fill(store, "pilot", seeds=2, dataset="cifar100", key="comparison/table1")
    pilot, demo = tables.selection(runs)
    assert "measured at pilot scale, CIFAR-100" in pilot.caption and pilot.name != demo.name


# -- claims ----------------------------------------------------------------------------------------------


def test_claims_say_what_holds_in_print_and_that_a_demo_says_nothing(store):
    body = {entries[0].text: [e.text for e in entries] for entries in tables.claims("comparison").body}
    assert len(body) == 17
    assert body["C1 †"][2:] == ["yes", "○ not yet measured"] and body["C13"][2] == "no"
    assert body["C6"][2] == "partly" and body["C17"][2:] == ["–", "◇ a judgement"]


def test_claims_carry_the_scale_they_were_judged_at(store):
    fill(store, "pilot", seeds=3, dataset="cifar100")
    table = tables.claims("comparison")
    assert texts(table.head)[0][-1] == "Measured at pilot scale"
    c10 = next(entries for entries in table.body if entries[0].text == "C10 †")
    assert re.match("[●✕◐] ", c10[3].text)
    assert {"difference", "low", "high", "seeds", "for_it"} <= set(table.frame.columns)
    assert set(table.frame["place"]) == {"CIFAR-100"}
    assert "confirmed" not in " ".join(e.text for entries in table.body for e in entries[3:])


def test_claims_of_one_seed_have_numbers_and_no_verdict(store):
    fill(store, "pilot", seeds=1, dataset="cifar100")
    table = tables.claims("comparison")
    assert {entries[3].text for entries in table.body} == {
        "○ one seed, which gives no verdict",
        "○ not yet measured",
        "◇ a judgement",
    }
    assert table.frame["for_it"].isna().all() and table.frame["difference"].notna().any()
    lines = tables.in_short("comparison", "pilot").lines
    assert lines[-1].endswith("17 of 34 cells are measured, with 17 runs; one seed each, which says nothing of chance.")
    gain = 100 * (accuracy(16, 1) - accuracy(1, 1))
    assert lines[0].endswith(f"CRD + KD gains the most on it, {gain:.2f} points, from one seed.")
    assert by_verdict(lines)[:2] == ["Measured at pilot scale, the 17 claims by verdict:", "  - ○ one seed (15)"]


def test_a_claim_says_where_nothing_of_it_is_measured(store):
    fill(store, "pilot", seeds=3, dataset="cifar100")
    told = {entries[0].text: entries[3].text for entries in tables.claims("comparison").body}
    assert re.match(r"◐ open: (all|\d+ of) 15 comparisons for it.*; CIFAR-10 not yet measured", told["C1 †"])
    assert "CIFAR-10 " not in told["C10 †"]  # it speaks of CIFAR-100 alone
    fill(store, "pilot", seeds=3, dataset="cifar10")
    told = {entries[0].text: entries[3].text for entries in tables.claims("comparison").body}
    assert " 30 comparisons for it" in told["C1 †"] and "not yet measured" not in told["C1 †"]


def test_claims_that_want_only_what_is_not_measured_yet_are_named(store):
    fill(store, "pilot", seeds=3, dataset="cifar100")
    (told,) = (line for line in by_verdict(tables.in_short("comparison").lines) if "◐ open" in line)
    assert re.match(r"  - ◐ open \(\d+\), though all that is measured speaks for 4: Every method", told)
    assert re.findall(r"\((C\d+)\)", told) == ["C1", "C7", "C12", "C15"]


def test_evidence_has_every_comparison_of_a_verdict_with_the_runs_that_it_compares(store, in_book):
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/table1")
    evidence = {table.name: table for table in tables.evidence("comparison")}
    claims = tables.claims("comparison")
    led_to = {entries[3].target for entries in claims.body} - {""}
    assert led_to == {f"tab-{name}" for name in evidence} and len(led_to) == 16  # CRD on CIFAR-10 has no runs
    table = evidence["evidence-comparison-c10-pilot"]
    assert [entries[0].text for entries in table.body] == ["CRD †"] * 7
    numbers = claims.frame.query("claim == 'comparison-C10'")
    for entries, (_, told) in zip(table.body, numbers.iterrows(), strict=True):
        assert entries[3].text == f"{told['difference']:+.2f} [{told['low']:.2f}, {told['high']:.2f}]"
        assert entries[2].text == f"{told['printed_difference']:+.2f}"
        assert entries[5].text == {True: "for the claim", False: "against it"}.get(told["for_it"], "cannot tell")
    labels = {e.label for t in tables.runs("comparison/table1") for entries in t.body for e in entries if e.label}
    targets = {entries[place].target for table in evidence.values() for entries in table.body for place in (0, 1)}
    assert targets - {""} <= labels and "runs-comparison-table1-pilot-cifar100-crd-kd" in targets
    (alone,) = evidence["evidence-comparison-c14-pilot"].body
    assert alone[0].text.startswith("|r| < 0.5") and alone[2].text == "7 points"
    assert evidence["evidence-comparison-c14-pilot"].head[0][0].text == "Claim"
    assert any("{ref}`C2 <tab-evidence-comparison-c2-pilot>`" in line for line in tables.in_short("comparison").lines)
    assert "The teacher has one run, of seed 0" in evidence["evidence-comparison-c2-pilot"].note
    assert "teacher" not in evidence["evidence-comparison-c10-pilot"].note
    assert "No number decides it" in evidence["evidence-comparison-c17-pilot"].note


def test_below_comparisons_stands_what_their_intervals_are_made_of(store, in_book):
    """Three numbers in, the interval out: half of it is critical value times sd times the root of 2 / n."""
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/table1")
    (table,) = (table for table in tables.evidence("comparison") if table.name == "evidence-comparison-c10-pilot")
    sd, df, critical = re.search(r"Intervals: sd (\S+), df (\S+), critical value (\S+), pooled\.", table.note).groups()
    low, high = re.search(r"\[(\S+), (\S+)\]", table.body[0][3].text).groups()
    half = float(critical) * float(sd) * (2 / 3) ** 0.5
    assert df == "30" and (float(high) - float(low)) / 2 == pytest.approx(half, rel=0.05)


def test_evidence_names_places_margins_and_teachers(store, in_book):
    fill(store, "pilot", seeds=2, key="slkd")
    evidence = {table.name: table for table in tables.evidence("slkd")}
    table = evidence["evidence-slkd-s4-pilot"]
    assert [entry.text for entry in table.head[0]][:3] == ["Place", "Claimed higher", "than"]
    assert table.head[0][3].text == "by"
    assert {entries[2].text for entries in table.body if entries[3].text == "more than -1"} >= {"AT", "DKD"}
    runs = [table for exhibit in exhibits.select("slkd") for table in tables.runs(exhibit)]
    labels = {entry.label for table in runs for entries in table.body for entry in entries if entry.label}
    targets = {entries[place].target for t in evidence.values() for entries in t.body for place in (1, 2)}
    assert len(targets) > 20 and targets - {""} <= labels
    teachers = {entries[1].text for entries in evidence["evidence-slkd-s6-pilot"].body}
    assert "SLKD under ResNet32x4" in teachers


def test_two_seeds_of_a_student_beside_a_constant_are_said_to_tell_little(store):
    """Pooled or not: with three there is nothing to warn of."""
    for seeds, told in ((2, True), (3, False)):
        fill(store, "pilot", seeds=seeds, dataset="cifar100", key="comparison/table1")
        (table,) = (table for table in tables.evidence("comparison") if table.name == "evidence-comparison-c2-pilot")
        assert ("one degree of freedom" in table.note) is told


def test_a_demo_is_no_evidence(store):
    (said,) = tables.evidence("comparison")
    assert "Not yet measured" in said.text


def test_claims_about_rows_are_those_that_name_them():
    shown = [entries[0].text for entries in tables.claims("comparison", ["crd", "crd+kd"]).body]
    assert shown == ["C1 †", "C10 †", "C11 †", "C12 †"]


def test_in_short_counts_cells_and_claims(store, in_book, tmp_path):
    text = tables.in_short("comparison")._repr_mimebundle_()["text/markdown"]
    assert (
        "None of this paper's runs is made yet, at any scale" in text
        and "17 of 17 cells are measured, with 49 runs" in text
    )
    assert "support 12 of its 17 claims, 3 partly, 1 not; 1 cannot be checked from them." in text
    assert (tmp_path / "in-short.md").read_text().strip() == text
    assert all(line.lstrip().startswith("- ") for line in text.splitlines())


def test_in_short_tells_gains_with_their_intervals_and_names_decided_claims(store):
    fill(store, "pilot", seeds=3, dataset="cifar100")
    lines = tables.in_short("comparison").lines
    gains = next(line for line in lines if "gains the most" in line)
    runs = measure(exhibits.get("comparison/table1"), "pilot", "cifar100", store)
    found = paired(runs.query("row != 'teacher'"))
    best = max(found, key=lambda gain: gain.value)
    where = "CIFAR-100, ResNet20 → ResNet8 (its teacher saw all images, the student 10,000)"
    assert gains.startswith(f"Measured at pilot scale, {where}: the plain student has ")
    assert f"CRD + KD gains the most on it, {best.value:.2f} points [{best.low:.2f}, {best.high:.2f}]" in gains
    up = sum(gain.low > 0 for gain in found)
    assert f"{up} of 15 rows (methods alone and with KD) beat the plain student by more than seeds explain" in gains
    (decided,) = (line for line in by_verdict(lines) if line.startswith("  - ✕ disagrees ("))
    assert decided.count("(C") == int(re.search(r"\((\d+)\)", decided)[1])
    assert "FitNet and KD both beat PKT (C6)" in decided


def test_gains_of_many_pairs_of_networks_are_counted(store):
    fill(store, "paper", seeds=2, dataset="cifar100", key="slkd/table1")
    (told,) = told_of_gains(exhibits.paper("slkd"), store)
    assert told.startswith("Measured at paper scale, on 6 pairs of networks: the most is gained by SLKD on 6")
    assert "Of 54 comparisons with the plain student" in told
    assert re.search(r" The paper's own, 6 of them: \d gains, \d losses\.$", told)


def test_what_to_beware_of_stands_beside_the_gains_of_its_scale_alone(store):
    fill(store, "pilot", seeds=2, key="infoflow/table1")
    paper = exhibits.paper("infoflow")
    (told,) = told_of_gains(paper, store)
    assert told.endswith(paper.beware["pilot"])
    fill(store, "short", seeds=2, key="infoflow/table1")
    assert not any("optimiser" in line for line in told_of_gains(paper, Store.open()))


def test_without_a_plain_student_no_gain_is_told(store):
    assert told_of_gains(exhibits.paper("slkd"), store) == []


# -- speed, code -----------------------------------------------------------------------------------------

BENCH = {
    "device": "a device",
    "images": "random",
    "networks": "a -> b, batch 64",
    "rounds": 3,
    "reference_images_per_s": 1000.0,
    "cohorts": [
        {"size": 4, "images_per_s": 5000.0, "ratio": 5.0, "peak_gib": 1.5},
        {"size": 8, "images_per_s": 6000.0, "ratio": 6.0, "peak_gib": None, "lowest": 5900.0, "highest": 6100.0},
    ],
    "roofline": {"reached": {"4": 0.42}},
}


METHODS = [
    {"method": name, "stage": "train", "ratio_to_kd": ratio, "microseconds_per_image": 100 * ratio,
     "peak_gib": memory, "extra_parameters": extra}
    for name, ratio, memory, extra in (
        ("kd", 1.0, 0.5, 0), ("crd", 1.7, 1.2, 16640), ("pkt", 1.1, 0.5, 0), ("at+kd", 1.2, 0.5, 0)
    )
]  # fmt: skip


def test_speed_is_not_measured_until_there_is_a_file_and_then_what_it_says(tmp_path):
    assert "not yet measured" in speed()[0].to_text()
    bench = tmp_path / "published" / "bench"
    bench.mkdir(parents=True)
    (bench / "here.json").write_text(json.dumps(BENCH))
    (table,) = speed()
    assert texts(table.body)[1] == ["4", "5,000", "5.00", "–", "42 %", "1.50"]
    assert texts(table.body)[2] == ["8", "6,000 (5,900–6,100)", "6.00", "–", "–", "–"]
    assert "not yet measured" in method_costs()[0].to_text()
    measured = {"device": "a machine", "networks": "resnet56 -> resnet20", "methods": METHODS}
    (bench / "methods.json").write_text(json.dumps(measured))
    (costs,) = method_costs()
    assert texts(costs.body)[:2] == [
        ["KD", "train", "1.00", "100", "0.50", "0"],
        ["AT + KD", "train", "1.20", "120", "0.50", "0"],  # which no table has
    ]
    own = step_costs(["crd"], name="own")
    assert texts(own.body) == [["CRD", "train", "1.70", "170", "1.20", "16,640", "ResNet56 → ResNet20; a machine"]]
    of_a_table = {**measured, "networks": "resnet20 -> resnet8", "table": "slkd/table1 at pilot scale", "others": 0.7}
    of_a_table["methods"] = [METHODS[0], {**METHODS[1], "arguments": {"negatives": 16384}}]
    of_a_table["numerics"] = {"device": "cpu", "dtype": "float32", "mode": "eager", "threads": 1}
    (bench / "pilot.json").write_text(json.dumps(of_a_table))
    first, second = method_costs()
    assert "ResNet20 → ResNet8, settings of SLKD, Table 1, at pilot scale; time" in second.caption
    assert "settings of" not in first.caption and "Other processes had 70 %" in second.note
    assert second.frame["arguments"].iloc[1] == "negatives 16384"
    own = step_costs(["crd"], name="own")  # one table, a line a measurement
    with_settings = "ResNet20 → ResNet8, settings of SLKD, Table 1, at pilot scale; a machine; float32; "
    first_timed, second_timed = (texts([cells])[0][-1] for cells in own.body)
    assert (
        first_timed == "ResNet56 → ResNet20; a machine"
        and second_timed == with_settings + "other processes had 70 % of the machine"
    )
    assert len(step_costs(["pkt"], name="own").body) == 1  # the second has no line for it
    assert "not yet measured" in step_costs(["nst"], name="own").to_text()
    (bench / "pilot.json").unlink()
    measured["methods"] = [{**METHODS[0], "method": name, "extra_parameters": None} for name in methods.catalogue()]
    (bench / "methods.json").write_text(json.dumps(measured))
    every = texts(method_costs()[0].body)
    assert "Teacher" not in {called for called, *_ in every}  # a plain student's step is no teacher's
    assert len({called for called, *_ in every}) == len(every) and {more for *_, more in every} == {"–"}
    assert sum(called in methods.catalogue() for called, *_ in every) < 10  # steps of the teacher's, which have no row
    (bench / "torn.json").write_text("{")
    with pytest.raises(KdnbError, match=r"torn\.json is not a measurement"):
        speed()


def test_a_listing_is_the_packages_own_code():
    shown = listing.loss("kd")
    assert shown.path == "kdnb/losses/logits.py" and shown.code.startswith("@loss\ndef kd(")
    source = (paths.ROOT / shown.path).read_text().splitlines()
    assert source[shown.first_line - 1] == "@loss"
    assert listing.method("fitnet+kd").code.startswith('@method("fitnet"')
    assert "def remember" in listing.loss("Contrastive.remember").code
    assert listing.analysis("relevance").path == "kdnb/analysis/lrp.py"


def test_a_listing_of_nothing_names_the_nearest():
    with pytest.raises(KdnbError, match="did you mean"):
        listing.loss("pkd")


def test_every_notebook_row_is_a_row_of_table_1():
    rows = {row.key for row in exhibits.get("comparison/table1").rows}
    named = set()
    for path in (paths.ROOT / "notebooks" / "comparison").glob("*.ipynb"):
        named |= set(json.loads(path.read_text())["metadata"].get("kdnb", {}).get("rows", []))
    assert named == rows


def test_claims_can_be_asked_for_by_name():
    assert [entries[0].text for entries in tables.claims("comparison", ids=["C14", "C5"]).body] == ["C14", "C5"]
    with pytest.raises(KdnbError, match="did you mean C1"):
        tables.claims("comparison", ids=["C111"])
    assert tables.claims("comparison", ["plain"]) == Said("The paper makes no claim about what is shown here.")
    with pytest.raises(KdnbError, match="did you mean comparison"):
        tables.claims("comparisons")


PAGE = """\
Page
====

.. list-table:: A list
   :class: kdnb-table
   :header-rows: 1

   * - Method
     - Score
   * - KD
     - 1

.. table:: A grid
   :class: kdnb-table

   +--------+-----------+
   | Method | two       |
   +========+=====+=====+
   | KD     | 1   | 2   |
   +--------+-----+-----+

===== =====
other table
===== =====
"""


def test_the_first_entry_of_a_line_heads_it_in_the_book(tmp_path):
    (tmp_path / "index.rst").write_text(PAGE, encoding="utf-8")
    (tmp_path / "conf.py").write_text('extensions = ["row_heads"]\n', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", str(tmp_path), str(tmp_path / "html")],
        env={**os.environ, "PYTHONPATH": str(paths.ROOT / "book")}, capture_output=True, encoding="utf-8", timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = BeautifulSoup((tmp_path / "html" / "index.html").read_text(encoding="utf-8"), "html.parser")
    listed, drawn, other = page.find_all("table")
    for table in (listed, drawn):
        assert [th.text.strip() for th in table.find_all("th", scope="row")] == ["KD"]
        assert {th["scope"] for th in table.thead.find_all("th")} == {"col"}
    assert not other.find_all("th", scope="row")


def test_paper_gets_every_column():
    sheet = (paths.ROOT / "book" / "_static" / "kdnb.css").read_text(encoding="utf-8")
    printed = sheet.partition("@media print")[2]
    assert re.search(r"pst-scrollable-table-container.*overflow: visible", printed)
    assert "white-space: normal !important" in printed and "position: static !important" in printed
    assert re.search(r"\.bd-main \.bd-content,.*margin: 0;", printed), "the theme's margin would cut every line"
    assert ".bd-footer-content { display: block !important; }" in printed, "a sheet says what made it, and when"


# -- a row on a schedule of its own, and arguments of a reader's own ---------------------------------------


def test_a_row_on_another_schedule_says_what_it_gains_on_equal_terms(store):
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/table1")
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/schedule")
    pairs = [("crd", "plain-long"), ("plain-long", "plain"), ("crd", "kd-long")]
    asked = tables.differences("comparison/schedule", pairs)
    gap = {entries[0].text: float(entries[2].text.split()[0]) for entries in asked.body}
    table = tables.results("comparison/table1")
    labels = {entries[0].text for entries in table.body}
    assert {"CRD †", "CRD + KD †"} <= labels and "KD" in labels
    kept = gap["CRD − Plain student on CRD's schedule"]
    over_kd = gap["CRD − KD on CRD's schedule"]
    assert f"CRD {kept:+.2f} [" in table.note
    assert f" Over KD on it: CRD {over_kd:+.2f} [" in table.note, "the plain student is the kinder of the two"
    line = next(line for line in tables.in_short("comparison").lines if "schedule of their own" in line)
    assert "Over the plain student on that schedule" in line and "degrees of freedom" in asked.note


def test_a_gain_on_equal_terms_by_one_seed_claims_no_interval(store):
    for key in ("comparison/table1", "comparison/schedule"):
        fill(store, "pilot", seeds=1, dataset="cifar100", key=key)
    told = tables.results("comparison/table1").note
    assert re.search(r"on that schedule, at pilot scale, CIFAR-100: CRD [+-]\d+\.\d\d \(one seed\), CRD \+ KD ", told)
    assert "95 %" not in told and "1 seeds" not in told


def test_few_rows_take_the_spread_of_the_table_beside_which_they_stand(store):
    """Alone they cannot tell that one of them varies more; with the table's rows it is set aside, and named."""
    exhibit, pair = exhibits.get("iekd/at-weight"), ("at-100", "plain")
    for place, cell in enumerate([*exhibit.cells("pilot"), *exhibits.get("iekd/table1").cells("pilot")]):
        for run in cell.runs(3) if cell.experiment and cell.column.pair == exhibit.columns[0].pair else ():
            noise = random.Random(f"{cell.row.key} {run.seed}").gauss(0, 0.06 if cell.row.key == "at" else 0.003)
            store.write(run, record(run, 0.5 + place / 100 + noise), "iekd")
    store = Store.open()
    alone, beside = (tables.differences(exhibit, [pair], beside=b) for b in ("", "iekd/table1"))
    assert "vary more: AT." in beside.note and "vary more" not in alone.note
    widths = [table.frame["high"][0] - table.frame["low"][0] for table in (alone, beside)]
    assert widths[1] < 0.7 * widths[0] and alone.frame["value"][0] == pytest.approx(beside.frame["value"][0])


def test_differences_of_several_scores_stand_in_one_line(store):
    fill(store, "pilot", seeds=2, key="infoflow/table1", rows=["plain", "distill"])
    table = tables.differences("infoflow/table1", [("distill", "plain")])
    ((entries,), (head,)) = table.body, table.head
    assert [entry.text for entry in head[2:-1]] == ["mAP (e)", "mAP (c)", "top-100 (e)", "top-100 (c)"]
    assert [entry.text.split()[0] for entry in entries[2:-1]] == [f"{value:+.2f}" for value in table.frame["value"]]
    assert entries[-1].text == "2" and table.note.count("degrees of freedom") == 4


def test_an_argument_of_a_method_does_not_take_the_place_of_the_recipes():
    settings = {entries[0].text: entries[1].text for entries in tables.parameters("comparison/table1", ["crd"]).body}
    assert settings["momentum"] == "0.9" and settings["momentum of the method"] == "0.5"


def test_where_scales_side_by_side_would_be_too_wide_each_has_a_table(store):
    """Four scores, in print and at two scales, are twelve columns; at one they stand beside the printed ones."""
    fill(store, "pilot", seeds=1, key="infoflow/table1")
    alone = tables.results("infoflow/table1", profile="pilot")
    assert alone.above == () and len(alone.head[1]) == 8
    exhibit = exhibits.get("infoflow/table1")
    fill(store, "paper", seeds=1, key="infoflow/table1", rows=["plain"])
    both = tables.results("infoflow/table1", profile="pilot")
    (paper,) = both.above
    assert [entries[0].text for entries in paper.body] == ["Student"] and len(both.body) == len(exhibit.rows)
    assert {len(table.head[1]) for table in (paper, both)} == {8}
    assert paper.caption.endswith("measured at paper scale.") and both.caption.endswith("measured at pilot scale.")
    assert paper.note.startswith(f"{len(exhibit.rows) - 1} more rows are not yet measured at this scale.")
    assert both.to_text().index("paper scale") < both.to_text().index("pilot scale")


def test_the_table_of_one_scale_has_its_rows_where_a_row_belongs_to_a_pair_of_networks(store):
    exhibit = exhibits.get("iekd/fig4c")
    fill(store, "pilot", seeds=1, key=exhibit.key)
    fill(store, "paper", seeds=1, key=exhibit.key, rows=["ie-ft"])
    (paper,) = tables.results(exhibit, profile="pilot").above
    assert [entries[0].text for entries in paper.body] == [exhibit.row("ie-ft").label]
    assert paper.note.startswith(f"{len(exhibit.rows) - 1} more rows are not yet measured at this scale.")


def test_a_readers_own_arguments_stand_in_the_label_and_not_beside_the_papers_number(store):
    row = comparison.variation("kd", "KD", of="kd", temperature=4.0)
    (own,) = tables.results("comparison/table1", [row]).body
    (known,) = tables.results("comparison/table1", [comparison.variation("kd", "KD", of="kd", temperature=8.0)]).body
    assert own[0].text == "KD, temperature 4.0" and own[1].text == "–"
    assert known[0].text == "KD" and known[1].text == "69.78"


def test_a_teacher_costs_no_epochs_of_a_student(store):
    table = tables.costs(show("comparison/table1", ["teacher", "kd"]))
    assert dict(zip(column(table, "Row"), column(table, COST), strict=True))["Teacher"] == "–"


def test_first_steps_have_their_records(store):
    table = tables.first_steps("comparison")
    assert {entries[0].text for entries in table.body} == {"fitnet, hint", "fsp, flow", "pkt, kernel"}


def test_a_methods_page_begins_with_what_came_out(store):
    """The gain is that of the figure, with its interval; a demo is no result."""
    said = tables.outcome("comparison/table1", ["kd"])
    assert said.text.startswith("**Not yet measured.**") and "KD +0.92 to +1.48" in said.text
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/table1")
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/schedule")
    table = tables.outcome("comparison/table1", ["kd", "crd"])
    runs = measure(comparison.TABLE_1, "pilot", "cifar100", store)
    runs = runs[runs["row"] != "teacher"][["row", "seed", "value"]]
    gains = {gain.a: gain for gain in paired(runs)}
    kd, crd = (dict(zip(texts(table.head)[0], (e.text for e in line), strict=True)) for line in table.body)
    gain = gains["kd"]
    assert kd["Gain over the plain student"] == f"{gain.value:+.2f} [{gain.low:.2f},\N{NO-BREAK SPACE}{gain.high:.2f}]"
    better = "better than" if gain.low > 0 else "may be no better than"
    assert kd["So far"] == f"{better} the plain student"
    assert kd["Gain over KD"] == "–" != crd["Gain over KD"] and crd["Method"] == "CRD †"
    assert crd["The same, both on †'s schedule"] not in ("–", crd["Gain over the plain student"])
    assert "C10" in table.note and "C13" not in table.note


def test_a_table_says_how_large_a_difference_from_the_plain_student_has_to_be(store):
    """The mean of the half-widths that the figure of gains has; a part of the rows, or one seed, says nothing."""
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/table1")
    runs = measure(comparison.TABLE_1, "pilot", "cifar100", store)
    gains = paired(runs[runs["row"] != "teacher"][["row", "seed", "value"]])
    half = sum(gain.high - gain.low for gain in gains) / len(gains) / 2
    told = f"A difference from the plain student is more than chance beyond ± {half:.2f}, measured at pilot scale."
    assert told in tables.results("comparison/table1").note
    assert "more than chance" not in tables.results("comparison/table1", ["plain", "kd"]).note


def test_an_outcome_of_two_places_tells_each_its_own(store):
    """Print, cost and the gain at equal schedule are those of a place: where none is measured there is a dash."""
    fill(store, "pilot", seeds=3, key="comparison/table1")
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/schedule")
    table = tables.outcome("comparison/table1", ["crd"])
    found = [dict(zip(texts(table.head)[0], (e.text for e in line), strict=True)) for line in table.body]
    first, second = sorted(found, key=lambda told: told["Where"])
    assert first["Where"].startswith("CIFAR-10,") and second["Where"].startswith("CIFAR-100,")
    equal = "The same, both on †'s schedule"
    assert first[equal] == "–" != second[equal] and "–" not in (first["Gain over KD"], second["Gain over KD"])
    cells = comparison.TABLE_1.cells("paper", None, ["crd", "plain"])
    of = {(cell.dataset, cell.row.key): cell.reported for cell in cells}
    for told, dataset in (first, "cifar10"), (second, "cifar100"):
        assert told["Gain in print"] == f"{of[dataset, 'crd'] - of[dataset, 'plain']:+.2f}"


def test_an_outcome_of_one_seed_says_nothing_of_chance(store):
    fill(store, "pilot", seeds=1, dataset="cifar100", key="comparison/table1")
    (line,) = tables.outcome("comparison/table1", ["kd"]).body
    assert line[-1].text == "one seed says nothing of chance" and "[" not in line[2].text


def test_numbers_are_set_as_in_print(monkeypatch):
    """Their minus is one, and no line ends within a spread or an interval; names and code stay as they are."""
    monkeypatch.syspath_prepend(str(paths.ROOT / "book"))
    readable = importlib.import_module("readable")
    tree = new_document("page")
    kept = "CIFAR-10, 1e-6, 2021-2023"
    tree += [nodes.paragraph("", "FSP -0.11 ± 0.31 (3) [-0.42, 0.20]"), nodes.paragraph("", kept)]
    tree += [nodes.paragraph("", "", nodes.literal("", "x -1"))]
    readable.set_numbers(None, tree)
    first, *others = (paragraph.astext() for paragraph in tree.children)
    assert first == "FSP −0.11 ±\N{NO-BREAK SPACE}0.31\N{NO-BREAK SPACE}(3) [−0.42,\N{NO-BREAK SPACE}0.20]"
    assert others == [kept, "x -1"]


def test_who_hears_a_link_to_a_record_hears_whose_it_is(monkeypatch):
    """Every one reads `JSON`; behind it stands, for the ear alone, of which row and seed."""
    monkeypatch.syspath_prepend(str(paths.ROOT / "book"))
    readable = importlib.import_module("readable")

    def line(*texts):
        link = addnodes.download_reference("", "", nodes.literal("", "JSON"))
        shown = [nodes.paragraph("", "", link) if text == "JSON" else nodes.paragraph("", text) for text in texts]
        return nodes.row("", *(nodes.entry("", paragraph) for paragraph in shown))

    group = nodes.tgroup("", nodes.thead("", line("Row", "Seed", "Record", "Score")))
    group += nodes.tbody("", line("FitNet + KD", "2", "JSON", "64.10"), line("CRD", "1", "JSON", "63.05"))
    tree = new_document("page")
    tree += nodes.table("", group, classes=["kdnb-table", "kdnb-runs"])
    readable.name_records(None, tree)
    links = list(tree.findall(addnodes.download_reference))
    assert [link.astext() for link in links] == ["JSON of FitNet + KD, seed 2", "JSON of CRD, seed 1"]
    assert all(link[0].astext() == "JSON" and link[1]["classes"] == ["visually-hidden"] for link in links)


def _cell(*shown):
    """A cell of an executed page, as it is read: its outputs are in containers of containers."""
    bundle = nodes.container("", *shown, mime_type="text/markdown")
    return nodes.container("", bundle, nb_element="cell_code", classes=["cell"])


def test_what_only_a_demo_has_is_gathered_at_the_end_of_its_page(monkeypatch):
    monkeypatch.syspath_prepend(str(paths.ROOT / "book"))
    readable = importlib.import_module("readable")
    demo = [nodes.container("", nodes.table(), classes=["kdnb-demo"]) for _ in range(2)]
    scores = nodes.section("", nodes.title("", "Scores"), _cell(nodes.table(), demo[0]), ids=["scores"])
    curves = nodes.section("", nodes.title("", "Curves"), _cell(demo[1]), ids=["curves"])
    tree = new_document("page")
    tree += [nodes.docinfo(), nodes.section("", nodes.title("", "KD"), scores, curves, ids=["kd"])]
    readable.gather(None, tree)
    *_, fold = tree[1].children
    assert fold["ids"] == ["demo-of-this-build"] and [p for p in demo if p.parent is fold] == demo
    assert "2 tables" in fold.astext() and len(list(scores.findall(nodes.table))) == 1
    assert scores.astext().split() == ["Scores"]  # what is measured is seen, so nothing is said
    assert curves.astext().endswith("Not yet measured; the demo has run it.")
    before = tree.pformat()
    readable.gather(None, tree)
    assert tree.pformat() == before


def test_words_that_lead_to_a_demo_alone_say_so(monkeypatch):
    monkeypatch.syspath_prepend(str(paths.ROOT / "book"))
    readable = importlib.import_module("readable")
    demo = [nodes.container("", nodes.table(), classes=["kdnb-demo"]) for _ in range(3)]
    shown = [_cell(nodes.table()), _cell(demo[0]), nodes.paragraph("", "Early:"), _cell(demo[1])]
    more = [nodes.paragraph("", "Late:"), _cell(nodes.table(), demo[2]), nodes.paragraph("", "The end.")]
    tree = new_document("page")
    tree += nodes.section("", nodes.title("", "KD"), *shown, *more, ids=["kd"])
    readable.gather(None, tree)
    told = [node.astext() for node in tree[0].children if isinstance(node, nodes.paragraph)]
    assert told == ["Early:", "Not yet measured; the demo has run it.", "Late:", "The end."]


def _listing(path, lines):
    code = nodes.literal_block("", "\n".join(f"x = {number}" for number in range(lines)))
    return nodes.container("", nodes.caption("", f"{path}, line 7"), code, literal_block=True)


def test_a_listing_of_more_than_a_screen_is_folded(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(paths.ROOT / "book"))
    listings = importlib.import_module("listings")
    monkeypatch.setattr(listings, "_address", lambda *told: "")
    tree = new_document("page")
    long, short = _listing("kdnb/methods/srm.py", 51), _listing("kdnb/losses/codes.py", 50)
    tree += [long, short, _listing("elsewhere.py", 90), nodes.paragraph("", "The end.")]
    listings.lead(None, tree, "page")
    opened, *rest = tree.children
    assert opened.astext() == '<details class="kdnb-listing"><summary>51 lines of kdnb/methods/srm.py</summary>'
    assert not opened["classes"] and rest[0] is long and rest[1].astext() == "</details>" and rest[2] is short
    assert [type(node) for node in rest[3:]] == [nodes.container, nodes.paragraph], "only the package's own are folded"


def test_works_are_listed_as_pages_call_them(monkeypatch):
    monkeypatch.syspath_prepend(str(paths.ROOT / "book"))
    citations = importlib.import_module("citations")

    def work(year, *authors):
        return citations.Entry("article", {"year": year}, {"author": [Person(name) for name in authors]})

    works = [work("2008", "van der Maaten, Laurens", "Hinton, Geoffrey"), work("2015", "A, B", "C, D", "E, F")]
    works += [work("2003", "Torkkola, Kari"), work("2003", "Torkkola, Kari")]
    told = ["van der Maaten and Hinton, 2008", "A et al., 2015", "Torkkola, 2003a", "Torkkola, 2003b"]
    assert list(citations.Labels().format_labels(works)) == told
