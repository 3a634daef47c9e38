"""A paper's data against themselves: what a slip of the pen in the file or in a claim says, where it said nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_scores import CLAIMS, HITS, PRINTED, TABLE

from kdnb import exhibits, paths
from kdnb.errors import KdnbError
from kdnb.exhibits import Column, Paper
from kdnb.exhibits.claims.predicates import Claim, better
from kdnb.exhibits.faults import faults
from kdnb.exhibits.reported import HEAD, lines_of, reported
from kdnb.exhibits.status import report, told

SAID = "table1,cifar100,,,KD,,top1_accuracy,63.00,0.20,%,"


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A small paper whose file is what a test writes: `tiny(text)` is the paper."""
    monkeypatch.setattr(paths, "reported", lambda: tmp_path)

    def of(text: str, *claims: Claim) -> Paper:
        reported.cache_clear(), lines_of.cache_clear()
        (tmp_path / "tiny.csv").write_text(text, encoding="utf-8")
        return Paper("tiny", (TABLE,), claims=claims or CLAIMS)

    yield of
    reported.cache_clear(), lines_of.cache_clear()


@pytest.mark.parametrize("paper", [paper.key for paper in exhibits.papers()])
def test_every_printed_number_and_every_claim_of_a_paper_is_of_a_cell(paper):
    assert faults(exhibits.paper(paper)) == []


def test_a_paper_that_is_right_has_none(tiny):
    assert faults(tiny(PRINTED)) == []
    text = "text-4,cifar100,,,KD,,top1_accuracy,63.00,,%,\ntable1,cifar100,,,KD,,top1_gain,3.00,,%,\n"
    assert faults(tiny(PRINTED + text)) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("table1,cifar100,,,KD,,top1", "table2,cifar100,,,KD,,top1", "There is no exhibit of tiny called 'table2'"),
        ("KD,,top1_accuracy", "KT,,top1_accuracy", "There is no row of tiny/table1 called 'kt'; did you mean kd?"),
        ("KD,,top1_accuracy", "KD,,top1_acuracy", "no column of tiny/table1 called 'cifar100, top1_acuracy'; did you"),
        (SAID, SAID.replace("cifar100", "cifar1000"), "no column of tiny/table1 called 'cifar1000, top1_accuracy'"),
    ],
)
def test_a_line_that_belongs_to_no_cell_is_named_with_its_place(tiny, old, new, said):
    (fault,) = faults(tiny(PRINTED.replace(old, new)))
    assert "tiny.csv, line 3: " in fault and said in fault


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("63.00,0.20", "63,00,0.20", r"tiny\.csv, line 3, has 12 fields where its head has 11: is there a comma"),
        ("63.00,0.20", "63.00", r"tiny\.csv, line 3, has 10 fields"),
        ("63.00", "6o.00", r"tiny\.csv, line 3: the value '6o\.00' is no number"),
        ("0.20,%", "nan,%", r"tiny\.csv, line 3: the std 'nan' is no number"),
        (",std,", ",sd,", r"tiny\.csv has to begin with the head exhibit,dataset,"),
        (PRINTED, "", r"tiny\.csv has to begin with the head exhibit,dataset,"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_line(tiny, old, new, said):
    tiny(PRINTED.replace(old, new))
    with pytest.raises(KdnbError, match=said):
        TABLE.cells("paper")


def test_a_paper_without_a_file_says_which_is_missing(tiny, tmp_path):
    tiny(PRINTED)
    (tmp_path / "tiny.csv").unlink()
    with pytest.raises(KdnbError, match=r"There is no .*tiny\.csv, where stands what 'tiny' prints; its head is"):
        TABLE.cells("paper")
    assert PRINTED.startswith(",".join(HEAD))


def test_a_claim_names_tables_rows_and_columns_that_there_are(tiny):
    table, row = Claim("T1", "tiny", "", ("tiny/table9",), None), better(HITS, "kd", "plane")
    column = better(Column("cifar10"), "kd", "plain")
    claims = (table, *(Claim(key, "tiny", "", ("tiny/table1",), of) for key, of in (("T2", row), ("T3", column))))
    paper = tiny(PRINTED, *claims)
    assert [fault.partition("; ")[0] for fault in faults(paper)] == [
        "Claim T1 of tiny: There is no exhibit called 'tiny/table9'",
        "Claim T2 of tiny: There is no row called 'plane'",
        "Claim T3 of tiny: There is no column called 'cifar10'",
    ]
    with pytest.raises(KdnbError, match="no column of tiny called 'cifar10'; did you mean cifar100"):
        paper.title("cifar10")
    assert faults(replace(paper, place_title=str)) == faults(paper)[:2]  # a paper with places of its own knows them


@pytest.mark.usefixtures("empty_project")
def test_the_dashboard_tells_faults(tiny, monkeypatch):
    monkeypatch.setattr(exhibits, "PAPERS", {"tiny": tiny(PRINTED.replace("KD,,top1", "KT,,top1"))})
    assert "\nfault: " in told(report()) and "no row of tiny/table1 called 'kt'" in told(report())
