"""The ledger of all claims, what stands behind a closest call, coverage, the register, and how wide intervals are."""

from __future__ import annotations

import csv
import importlib
import math

import numpy as np
import pytest
from book_samples import fill
from scipy import stats

from kdnb import exhibits, page, paths, tables
from kdnb.exhibits.claims import withdrawn
from kdnb.exhibits.claims.judge import verdicts
from kdnb.exhibits.claims.links import links
from kdnb.exhibits.claims.predicates import Better, Claim, all_of, any_of
from kdnb.exhibits.claims.words import NO_VERDICT, NOT_MEASURED, OUR_READING, WORDS
from kdnb.exhibits.paper import Paper
from kdnb.study.store import Store
from kdnb.tables.certainty import layout
from kdnb.tables.claims import measured_frames
from kdnb.tables.ledger import CHIPS, call_told, closest, judged


@pytest.fixture(autouse=True)
def _only_this_store(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "demo_results", lambda: tmp_path / "demo")
    monkeypatch.setattr(paths, "committed_results", lambda: tmp_path / "published")
    monkeypatch.setattr(paths, "committed_checkpoints", lambda: tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)


def test_every_claim_of_every_paper_stands_in_the_ledger_and_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_BATCH", "1")
    summary, *by_paper = tables.ledger()
    ids = {f"{paper.key}-{claim.id}" for paper in exhibits.papers() for claim in paper.claims}
    assert set(summary.frame["id"]) == ids and len(summary.frame) == len(ids)
    assert sum(len(table.body) for table in by_paper) == len(ids)
    summary.to_myst()
    with open(tmp_path / "claims.csv", encoding="utf-8") as stream:
        assert {entry["id"] for entry in csv.DictReader(stream)} == ids
    chips = {entries[3].text for table in by_paper for entries in table.body}
    assert chips == {"○ not yet measured", "◇ a judgement"}


def test_printed_numbers_of_a_claim_are_those_of_the_papers_file():
    """Every number beside a claim is a line of what the paper prints."""
    frame = tables.ledger()[0].frame
    for paper in exhibits.papers():
        file = paths.reported() / f"{paper.key}.csv"
        if not paper.claims or not file.exists():
            continue
        with open(file, newline="", encoding="utf-8") as stream:
            known = {f"{float(entry['value']):g}" for entry in csv.DictReader(stream) if entry["value"]}
        told = [text for text in frame[frame["paper"] == paper.key]["printed_numbers"] if text]
        numbers = {part.rpartition(" ")[2] for text in told for part in text.split("; ")}
        assert told and numbers <= known, paper.key


def test_a_call_is_as_close_as_the_comparison_that_a_verdict_hangs_on():
    store = Store.open()
    fill(store, "pilot", seeds=3, key="comparison/table1")
    paper = exhibits.paper("comparison")
    judged = {verdict.claim.id: verdict for verdict in verdicts(paper, measured_frames(paper, store)["pilot"], "pilot")}
    for verdict in judged.values():
        call = closest(verdict)
        known = [f for f in verdict.findings if f.difference is not None and f.difference.known]
        if verdict.status == "agrees at that scale" and known:
            assert call.difference.low == min(f.difference.low for f in known)
        elif verdict.status == "disagrees at that scale" and known:
            assert call.truth is False and call.difference.high == min(f.difference.high for f in known)
    assert {verdict.status for verdict in judged.values()} >= {"agrees at that scale", "disagrees at that scale"}
    body = {entries[0].text: entries for entries in tables.ledger(store)[1].body}
    assert body["C4"][3].text in ("✕ disagrees, pilot", "● agrees, pilot", "◐ open, pilot")
    assert tables.ledger(store)[0].body[0][1].text == "17"


def test_a_closest_call_is_the_difference_of_two_rows_and_says_what_margin_is_claimed():
    store = Store.open()
    fill(store, "pilot", seeds=2, key="infoflow/table1")
    calls = {one.claim.id: one for one in judged(exhibits.paper("infoflow"), store)}
    call = closest(calls["F2"].verdict)
    told = call_told(exhibits.paper("infoflow"), call)
    assert told.startswith("Proposed − PKT-H: ") and told.endswith("], more than +1.29 is claimed")
    assert f": {call.difference.value:+.2f} [" in told  # the difference itself: nothing is taken off it


def test_withdrawn_verdicts_stay_in_a_list(monkeypatch):
    assert "No verdict of this book has been withdrawn" in tables.withdrawn().text
    taken = withdrawn.Withdrawn("comparison", "C1", "pilot", "agrees", "2026-12-01", "a seed was counted twice")
    monkeypatch.setattr(importlib.import_module("kdnb.tables.ledger"), "WITHDRAWN", (taken,))
    assert [entry.text for entry in tables.withdrawn().body[0]][:2] == ["comparison-C1", "pilot"]


def test_coverage_and_register_count_what_is_there(tmp_path):
    store = Store.open()
    fill(store, "pilot", seeds=2, dataset="cifar100", key="comparison/table1")
    fill(store, "demo", seeds=1, key="comparison/table1")
    first = tables.coverage(store)[0].body[0]
    assert [entry.text for entry in first[1:4]] == ["34", "34", "34"]
    assert first[4].text.startswith("33 of 98")  # 16 students twice, and their teacher once
    register = tables.register(store).frame
    assert len(register[register["stage"] == ""]) == 33 and set(register["scale"]) == {"pilot"}
    assert set(register["form"]) == {1} and register["method"].str.len().min() > 1


def test_half_widths_are_those_of_the_intervals_and_of_students_t():
    store = Store.open()
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/table1")
    table = tables.certainty("comparison/table1", "pilot", "cifar100", store)
    found = layout("comparison/table1", "pilot", "cifar100", store)
    frame = table.frame.set_index("comparisons")
    alone = stats.t.ppf(0.975, found.df) * found.sd * math.sqrt(2 / 3)
    assert frame.loc[1, "half_width_3_seeds"] == pytest.approx(alone, rel=1e-3)
    many = found.differences([(row, "plain") for row in found.rows if row != "plain"])
    half = (many[0].high - many[0].low) / 2
    assert frame.loc[15, "half_width_3_seeds"] == pytest.approx(half, rel=5e-3)
    assert list(frame["half_width_3_seeds"]) == sorted(frame["half_width_3_seeds"])
    assert np.all(frame["seeds_for_0.5"] >= frame["seeds_for_2"])


def test_every_verdict_that_there_is_has_a_chip():
    every = {word for words in WORDS.values() for word in words.values()} | {OUR_READING, NO_VERDICT, NOT_MEASURED}
    assert every <= set(CHIPS)


def test_a_claim_that_needs_another_falls_with_it():
    def claim(key, predicate):
        return Claim(key, "x", key, (), predicate)

    ab, ac, far = Better("here", "a", "b"), Better("here", "a", "c"), Better("here", "a", "b", by=1.0)
    claims = (
        claim("better", ab),
        claim("far better", far),
        claim("best", all_of(ab, ac)),
        claim("best of two", any_of(all_of(ab, ac), all_of(far, Better("here", "c", "b")))),
        claim("elsewhere", Better("there", "a", "b")),
        claim("why", Better("there", "c", "b")),
        claim("a judgement", None),
    )
    found = links(Paper("x", (), claims=claims, explained={"better": ("why",)}))
    assert found["better"].needed_by == ("far better", "best")
    assert found["better"].told == "far better, best; to be explained by why; shares with best of two"
    assert found["far better"].needed_by == found["best"].needed_by == () and found["elsewhere"].told == "–"


def test_claims_that_hang_together_stand_in_the_ledger():
    frame = tables.ledger()[0].frame.set_index("id")
    assert frame.loc["slkd-S1", "needed_by"] == "S2" and "S9" in frame.loc["slkd-S1", "explained_by"]
    assert frame.loc["iekd-I1", "needed_by"] == "I2"
    for paper in exhibits.papers():
        known = {claim.id for claim in paper.claims}
        assert known >= {*paper.explained, *(key for of in paper.explained.values() for key in of)}


def test_every_paper_with_claims_has_a_page_that_includes_what_was_found(monkeypatch):
    monkeypatch.setenv("KDNB_BATCH", "1")
    for paper in (paper for paper in exhibits.papers() if paper.claims):
        assert page.of_paper(paper.key) == f"/book/papers/{paper.key}"
        text = (paths.ROOT / "book" / "papers" / f"{paper.key}.md").read_text(encoding="utf-8")
        assert f"found-{paper.key}.md" in text and "{tableofcontents}" in text
