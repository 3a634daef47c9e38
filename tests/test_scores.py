"""A small invented paper whose columns are scores, one of them smaller-is-better: its table, its claim, its figures."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from study_samples import record

from kdnb import exhibits, paths, plots, tables
from kdnb.errors import KdnbError
from kdnb.exhibits import ACCURACY, ERROR, Column, Exhibit, Paper, Row, Score, comparison, show
from kdnb.exhibits import wanted as work
from kdnb.exhibits.claims.predicates import Better, Claim, all_of, better
from kdnb.exhibits.reported import lines_of, reported
from kdnb.study.profile import get_profile
from kdnb.study.statistics import Difference
from kdnb.study.store import Store
from kdnb.tables.evidence import difference_told
from kdnb.tables.words import runs_label

SURPRISE = Score("nll", "Surprise", "nats", decimals=3, higher_is_better=False)
HITS, MISSES = Column("cifar100"), Column("cifar100", score=SURPRISE)


def build(row, column, profile):
    return comparison.build(row, column, profile)


TABLE = Exhibit(
    "tiny",
    "table1",
    "Two methods by two scores",
    (Row("plain", "Plain student", "plain", role="baseline"), Row("kd", "KD", "kd", comparison.KD)),
    (HITS, MISSES),
    build,
)
CLAIMS = (
    Claim("T1", "tiny", "KD is right more often.", ("tiny/table1",), better(HITS, "kd", "plain", by=1.0)),
    Claim("T2", "tiny", "KD is less surprised.", ("tiny/table1",), better(MISSES, "kd", "plain", by=0.1)),
    Claim("T3", "tiny", "It is better.", ("tiny/table1",), all_of(*(better(c, "kd", "plain") for c in (HITS, MISSES)))),
)
PRINTED = """\
exhibit,dataset,teacher,student,method,condition,metric,value,std,unit,note
table1,cifar100,,,baseline,,top1_accuracy,60.00,0.30,%,
table1,cifar100,,,KD,,top1_accuracy,63.00,0.20,%,
table1,cifar100,,,baseline,,nll,1.500,,nats,
table1,cifar100,,,KD,,nll,1.250,,nats,
"""


@pytest.fixture(autouse=True)
def _in_print(tmp_path, monkeypatch, empty_project):
    reported.cache_clear(), lines_of.cache_clear()
    monkeypatch.setattr(paths, "reported", lambda: tmp_path)
    (tmp_path / "tiny.csv").write_text(PRINTED, encoding="utf-8")
    monkeypatch.setitem(exhibits.PAPERS, "tiny", Paper("tiny", (TABLE,), claims=CLAIMS))
    yield
    reported.cache_clear(), lines_of.cache_clear()


@pytest.fixture
def measured():
    store = Store.open()
    for cell in TABLE.cells("pilot", None, ["plain", "kd"]):
        for run in cell.runs(3):
            better, shake = cell.row.key == "kd", 0.001 * ((run.seed * (5 if cell.row.key == "kd" else 3)) % 4)
            metrics = {"headline": 0.54 + 0.05 * better + shake, "nll": 1.60 - 0.30 * better + shake}
            store.write(run, record(run, metrics=metrics), "tiny")


def texts(lines):
    return [[entry.text for entry in line] for line in lines]


def test_a_table_has_a_column_for_every_score_in_its_own_unit(measured):
    table = tables.results("tiny/table1")
    assert texts(table.head)[1][:2] == ["Accuracy, percent", "Surprise, nats, less is better"]
    kd = texts(table.body)[1]
    assert kd[:3] == ["KD", "63.00 ± 0.20", "1.250"]
    assert kd[-2:] == ["59.20 ± 0.10 (3)", "1.302 ± 0.001 (3)"]
    assert table.caption == "Two methods by two scores; mean ± standard deviation (runs)."
    assert list(table.frame["score"].unique()) == ["top1_accuracy", "nll"]


def test_claims_know_which_side_is_the_better_one(measured):
    body = {line[0].text: [entry.text for entry in line[2:]] for line in tables.claims("tiny").body}
    assert body["T1"] == ["yes", "● agrees: its one comparison for it"]
    assert [told.partition(":")[0] for told in (body["T2"][1], body["T3"][1])] == ["● agrees"] * 2
    evidence = {table.name: table for table in tables.evidence("tiny")}
    surprise = evidence["evidence-tiny-t2-pilot"]
    assert texts(surprise.head)[0][:4] == ["Claimed lower", "than", "by", "Difference in print"]
    assert texts(surprise.body)[0][:3] == ["KD", "Plain student", "less than -0.1"]
    assert texts(surprise.body)[0][4].startswith("-0.300 [-0.30")
    assert texts(evidence["evidence-tiny-t3-pilot"].head)[0][1] == "Claimed better"
    assert {line[0].text for line in evidence["evidence-tiny-t3-pilot"].body} == {
        "CIFAR-100, here ResNet20 → ResNet8",
        "CIFAR-100: Surprise, nats, less is better, here ResNet20 → ResNet8",
    }


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        (0.4472, 0.4546, "+0.451 [0.447, 0.455]"),  # both ends would be 0.45
        (-0.9018, 0.0032, "-0.449 [-0.902, 0.003]"),  # an end would be zero, on neither side
        (0.00012, 0.8, "+0.4001 [0.0001, 0.8000]"),
        (0.000012, 0.8, "+0.40 [0.00, 0.80]"),  # four decimals are the most
        (0.45, 0.45, "+0.45 [0.45, 0.45]"),  # as it is
        (0.4, 1.2, "+0.80 [0.40, 1.20]"),
    ],
)
def test_an_interval_is_told_with_the_decimals_that_it_needs(low, high, told):
    assert difference_told(ACCURACY, Difference("a", "b", (low + high) / 2, low, high, 3, "pooled")) == told


def test_one_run_needs_no_more_decimals_and_a_score_keeps_its_own():
    nan = float("nan")
    assert difference_told(ACCURACY, Difference("a", "b", 0.001, nan, nan, 1, "one seed")) == "+0.00"
    for rounding in (0.0, -0.0, 2e-17, -2e-17):
        assert ACCURACY.difference(Difference("a", "b", rounding, rounding, 1.0, 2, "pooled")) == "+0.00 [0.00, 1.00]"
    assert ACCURACY.text(-0.004) == "-0.00", "an end just below zero is not zero"
    fine = replace(ACCURACY, decimals=6)
    assert (
        difference_told(fine, Difference("a", "b", 1e-5, 1e-6, 2e-5, 3, "pooled")) == "+0.000010 [0.000001, 0.000020]"
    )


def test_a_spread_that_is_not_zero_is_not_told_as_zero(measured):
    """Of rows that are nearly alike the interval and what it is made of both have more decimals."""
    store, nearly = Store.open(), {"plain": 0.54, "kd": 0.56}
    for cell in TABLE.cells("pilot", None, ["plain", "kd"]):
        for run in cell.runs(3):
            accuracy = nearly[cell.row.key] + 1e-6 * ((run.seed * len(cell.row.key)) % 4)
            store.write(run, record(run, metrics={"headline": accuracy, "nll": 1.0}), "tiny")
    (table,) = [table for table in tables.evidence("tiny") if table.name == "evidence-tiny-t1-pilot"]
    sd = re.search(r"sd (0\.\d+),", table.note)[1]
    assert len(sd) == len("0.0001") and float(sd) > 0
    low, high = re.search(r"\[(.*), (.*)\]", table.body[0][4].text).groups()
    assert float(low) < float(high)


def test_a_claim_of_less_fails_where_it_is_more():
    leaf = Better("d", "a", "b", score=SURPRISE)
    assert leaf.text() == "a < b" and leaf.in_print({"a": 1.0, "b": 2.0}) and not leaf.in_print({"a": 2.0, "b": 1.0})
    assert Better("d", "a", "b", by=-0.5, score=SURPRISE).in_print({"a": 2.4, "b": 2.0})


def test_figures_draw_gains_to_the_right_for_every_score(measured):
    plot = plots.gains("tiny/table1", "pilot")
    by_score = plot.frame.groupby("score")["gain"].mean()
    assert by_score["top1_accuracy"] > 4 and 0.2 < by_score["nll"] < 0.4
    labels = [axes.get_xlabel() for axes in plot.figure.axes]
    assert labels == ["gain in points", "gain in nats"]
    assert plot.frame.groupby("score")["reported"].first().to_dict() == {"top1_accuracy": 3.0, "nll": 0.25}
    rows = plots.rows("tiny/table1", "pilot")
    assert [axes.get_xlabel() for axes in rows.figure.axes] == ["percent", "nats, less is better"]
    assert [axes.get_title().partition("\n")[0] for axes in rows.figure.axes] == ["Accuracy", "Surprise"]


def test_sentences_ask_the_score_for_its_words(measured):
    accuracy, surprise = tables.in_short("tiny").lines[:2]
    assert "the plain student has 54.20 %; KD gains the most on it, 5.00 points" in accuracy
    assert "the plain student has 1.602 nats (surprise); KD gains the most on it, 0.300 nats" in surprise


def test_a_run_has_one_line_with_all_its_scores(measured):
    (table,) = tables.runs("tiny/table1")
    assert len(table.body) == 6 and len(table.frame) == 12
    heads = [entry.text for entry in table.head[0]][3:-3]
    accuracy = ["Score, %", "Score, %, last epoch", "Score, %, all images"]
    assert heads == [*accuracy, "Surprise, nats, less is better"]  # nobody's surprise is known at its last epoch
    labels = [entries[0].label for entries in table.body if entries[0].label]
    assert sorted(labels) == sorted({runs_label(cell) for cell in TABLE.cells("pilot") if cell.experiment})
    assert table.body[0][6].text == "1.603"


def test_an_error_is_an_accuracy_told_the_other_way_round(measured):
    (cell, *_) = TABLE.cells("pilot")
    run = Store.open().get(*cell.runs(1)[0].key)
    assert ERROR.of(run) == pytest.approx(100 - ACCURACY.of(run))
    assert not ERROR.higher_is_better and Column("cifar10", score=ERROR).key == "cifar10#top1_error"


def test_two_printed_numbers_of_one_cell_are_refused(tmp_path):
    text = PRINTED + "table1,cifar100,,,KD,on train,nll,0.900,,nats,\n"
    (tmp_path / "tiny.csv").write_text(text, encoding="utf-8")
    with pytest.raises(KdnbError, match=r"two numbers in table1 for cifar100, nll, kd: 1.25 and 0.9"):
        TABLE.cells("paper")


def test_each_data_set_may_have_a_pair_of_its_own():
    near, far = exhibits.Pair("resnet56", "resnet20"), exhibits.Pair("vgg13", "vgg8")
    columns = (Column("cifar10", near, ERROR), Column("cifar100", far, ERROR))
    table = tables.results(Exhibit("tiny", "table5", "Errors", TABLE.rows, columns, build), profile="paper")
    assert [text.replace("\N{NO-BREAK SPACE}", " ") for text in texts(table.head)[1][:2]] == [
        "CIFAR-10, ResNet56 → ResNet20",
        "CIFAR-100, VGG13 → VGG8",
    ]


def test_a_run_with_several_scores_is_told_and_drawn_once(measured):
    runs = show.show("tiny/table1", ["plain", "kd"], "pilot", seeds=3)
    assert len(runs.frame) == 12 and len(runs.once().frame) == len(runs.once().records) == 6
    assert [entry.text for entry in [line[0] for line in tables.costs(runs).body]] == ["Plain student", "KD"]
    assert len(plots.curves(runs, "kd").frame.drop_duplicates()) == len(plots.curves(runs, "kd").frame)


def test_the_paper_that_contributing_adds_is_planned_and_shown(tmp_path, monkeypatch):
    """Its blocks as they stand: four rows by two scores; and without what measures one of them nothing is trained."""
    text = (paths.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Add a paper")[2]
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    said: dict = {}
    for block in blocks:
        if block.startswith(("from dataclasses", "claim = ")):
            exec(compile(block, "CONTRIBUTING.md", "exec", dont_inherit=True), said)
    heads = next(line for line in text.splitlines() if line.startswith("`exhibit,"))
    lines = ["table1,cifar10,,,KD,,map_euclidean,70.1,0.2,%,", "table1,cifar10,,,Mine,,map_euclidean,72.3,0.1,%,"]
    (tmp_path / "mine.csv").write_text("\n".join([heads.partition("`;")[0].strip("`"), *lines]), encoding="utf-8")
    monkeypatch.setitem(exhibits.PAPERS, "mine", said["PAPER"])
    table, demo = said["TABLE_1"], get_profile("demo")
    assert len({run.key for run in work.runs([table], demo, seeds=1)}) == 4
    assert ["Mine", "72.30 ± 0.10", "–"] in [line[:3] for line in texts(tables.results("mine/table1").body)]
    assert [line[2].text for line in tables.claims("mine").body] == ["yes"]
    unmeasured = replace(table, columns=(Column("cifar10", score=said["MAP"]),))
    with pytest.raises(KdnbError, match=r"'mAP' of mine/table1 is the metric 'map_euclidean', which no run would have"):
        work.runs([unmeasured], demo, seeds=1)
