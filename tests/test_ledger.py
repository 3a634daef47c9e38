"""The ledger of all claims, what a verdict hangs on, coverage, the register, and how wide intervals are."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import math
import re

import numpy as np
import pandas as pd
import pytest
from book_samples import fill
from scipy import stats
from study_samples import record as sample

from kdnb import exhibits, page, paths, tables
from kdnb.exhibits.claims import withdrawn
from kdnb.exhibits.claims.judge import Verdict, verdicts
from kdnb.exhibits.claims.links import links
from kdnb.exhibits.claims.places import trained_here
from kdnb.exhibits.claims.predicates import AnyOf, Better, Claim, Finding, all_of
from kdnb.exhibits.claims.told import told
from kdnb.exhibits.claims.words import NO_VERDICT, NOT_MEASURED, OUR_READING, WORDS
from kdnb.exhibits.controls import gains_at_equal_schedule
from kdnb.exhibits.paper import Paper
from kdnb.exhibits.score import ACCURACY, ERROR
from kdnb.study.statistics import Difference
from kdnb.study.store import Store
from kdnb.tables import landing
from kdnb.tables.certainty import layout
from kdnb.tables.claims import measured_frames, seeds_told, told_of
from kdnb.tables.ledger import CHIPS, HEAD, closest, hangs_on, judged


@pytest.fixture(autouse=True)
def _only_this_store(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "demo_results", lambda: tmp_path / "demo")
    monkeypatch.setattr(paths, "committed_results", lambda: tmp_path / "published")
    monkeypatch.setattr(paths, "committed_checkpoints", lambda: tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def in_book(monkeypatch):
    monkeypatch.setenv("KDNB_BATCH", "1")


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


@pytest.mark.parametrize(
    "paper, id, told_as",
    [
        ("comparison", "C5", "FitNet > FSP (CIFAR-10 and CIFAR-100)"),
        ("comparison", "C16", "more than half of 20: KD, FitNet > FSP, PKT, MMD-Linear, MMD-Polynomial, MMD-Gaussian "
         "(CIFAR-10 and CIFAR-100)"),
        ("comparison", "C3", "all of: KD > FitNet, FSP, PKT, MMD-Linear, MMD-Polynomial, MMD-Gaussian, CRD (CIFAR-10); "
         "[exactly one of: FitNet, FSP, PKT, MMD-Linear, MMD-Polynomial, MMD-Gaussian, CRD > KD (CIFAR-100)]"),
        ("comparison", "C14", "|r| < 0.5 between results alone and with KD (CIFAR-10 and CIFAR-100)"),
        ("slkd", "S2", "all of: SLKD ≥ KD + 0.5 (6 places); KD > SLKD − 3.5 (11 places); SLKD ≥ KD + 1.5 (5 places)"),
        ("slkd", "S4", "SLKD > (AT, SP, RKD, OFD, CRD, ReviewKD, DKD, KD) − 1 (11 places)"),
        ("iekd", "I13", "IE-FT < Plain student (CIFAR-100, ResNet110a → MobileNetV1: Rise of the loss under noise)"),
        ("srm", "R2", "SRM > Teacher − 1 (CIFAR-100, DenseNet-121 → AllCNN)"),
    ],
)  # fmt: skip
def test_what_a_claim_was_taken_to_mean_is_one_line_of_symbols(paper, id, told_as):
    of = exhibits.paper(paper)
    assert told(of.claim(id).predicate, of) == told_as


def test_a_row_whose_label_has_a_comma_is_quoted_among_others():
    srm = exhibits.paper("srm")
    assert told(srm.claim("R8").predicate, srm).startswith("SRM > KD, “FitNet, all maps”, AT, ")


def test_the_meaning_of_every_claim_stands_in_the_file_and_below_its_papers_table(in_book):
    """Every row that a claim compares is named there, and its printed numbers stand beside, unless they are many."""
    summary, *by_paper = tables.ledger()
    predicates = dict(zip(summary.frame["id"], summary.frame["predicate"], strict=True))
    for paper, table in zip([paper for paper in exhibits.papers() if paper.claims], by_paper, strict=True):
        lines = [told for told in table.fold.text.splitlines() if told.startswith("- ")]
        assert len(lines) == len(paper.claims)
        for claim, line in zip(paper.claims, lines, strict=True):
            assert line.startswith(f"- **{claim.id}**, ") and "*In print:* " in line
            assert bool(predicates[claim.full_id]) == (claim.predicate is not None)
            for leaf in claim.predicate.leaves() if claim.predicate else ():
                assert all(paper.label(row) in predicates[claim.full_id] for row in leaf.sides())
        assert '<details class="kdnb-fold"><summary>What each claim was taken to mean' in table.to_myst()
    first = by_paper[0].fold.text
    assert "*In print:* CIFAR-100: CRD 70.66, KD 69.78, FitNet 69.26" in first
    assert "- **C17**, §3, Table 1. A judgement, which no comparison decides. *In print:* CIFAR-10: " in first
    assert "- **R10**, §IV-B, Table 6; our tables: “5 images a class for the student”. " in by_paper[2].fold.text


def test_a_verdict_hangs_on_the_comparison_that_decides_it():
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
            against = [f for f in known if f.truth is False]
            alike = [
                f for f in against if not {*f.leaf.sides()} & {"crd", "crd+kd"}
            ] or against  # on the schedule of all
            assert call.truth is False and call.difference.high == min(f.difference.high for f in alike)
        elif call is not None:
            assert call.truth is None, "what is decided keeps no claim open"
    assert {verdict.status for verdict in judged.values()} >= {"agrees at that scale", "disagrees at that scale"}
    summary, first, *_ = tables.ledger(store)
    body = {entries[0].text: entries for entries in first.body}
    assert body["C4"][3].text in ("✕ disagrees, pilot", "● agrees, pilot", "◐ open, pilot")
    assert summary.body[0][1].text == "17"


def test_a_verdict_hangs_on_the_difference_of_two_rows_and_says_what_margin_is_claimed():
    store = Store.open()
    fill(store, "pilot", seeds=2, key="infoflow/table1")
    calls = {one.claim.id: one for one in judged(exhibits.paper("infoflow"), store)}
    call = closest(calls["F2"].verdict)
    told = hangs_on(exhibits.paper("infoflow"), calls["F2"])
    assert told.startswith("Proposed − PKT-H: ")
    where = "CIFAR-10: mAP (c), percent, here ResNet20 → CNN-1-A → CNN-1"
    assert f"], more than +1.29 is claimed ({where}; 2 seeds)" in told
    assert f": {call.difference.value:+.2f} [" in told  # the difference itself: nothing is taken off it


def test_a_verdict_however_read_hangs_on_what_stands_in_every_reading():
    """A row that can be read otherwise may lose by more: without the other it would be a verdict of our reading."""
    lost = Difference("ie-ft", "ofd", 7.0, 6.0, 8.0, 3, "pooled")
    claim = next(claim for claim in exhibits.paper("iekd").claims if claim.id == "I2")
    leaves = {leaf.sides(): leaf for leaf in claim.predicate.leaves() if leaf.place.startswith("cifar10/resnet56")}
    of_ours = Finding(leaves["ie-ft", "ofd"], False, lost)
    of_all = Finding(leaves["ie-at", "ft"], False, dataclasses.replace(lost, a="ie-at", b="ft", low=1.0))
    for_it = Finding(leaves["ie-at", "kd"], True, dataclasses.replace(lost, low=-8.0, high=-6.0))

    def hangs(status: str, *found: Finding, of: Claim = claim) -> Finding | None:
        return closest(Verdict(of, "pilot", status, (*found, for_it)))

    disagrees = WORDS["pilot"][False]
    assert hangs(disagrees, of_ours, of_all) is of_all
    assert hangs(disagrees, of_ours) is of_ours  # all readings may say so, each by rows of its own
    assert hangs(OUR_READING, of_ours, of_all) is of_ours
    assert hangs(disagrees, of_ours, of_all, of=dataclasses.replace(claim, readings=None)) is of_ours


def test_rows_that_are_set_aside_are_named_with_their_wide_intervals():
    """Beside the comparisons of a claim and on a method's page; and two ways at one place do not name it twice."""
    store, draw = Store.open(), np.random.default_rng(1)
    for cell in exhibits.get("comparison/table1").cells("pilot", "cifar100"):
        for run in cell.runs(3) if cell.experiment and cell.row.role != "teacher" else ():
            noise = draw.normal(0, 0.08 if cell.row.key == "kd" else 0.001)
            store.write(run, sample(run, metrics={"headline": 0.5 + noise}), "comparison")
    found = {table.name: table.note for table in tables.evidence("comparison", store)}
    told = "Set aside, and compared by their own pairs alone, since they vary too much for the others' spread: KD."
    assert found["evidence-comparison-c10-pilot"].count("pairs alone; sd ") == 1
    assert "KD" in found["evidence-comparison-c10-pilot"] and told in found["evidence-comparison-c10-pilot"]
    assert "(CIFAR-100)" not in found["evidence-comparison-c10-pilot"].partition("Intervals: ")[2]
    assert "Set aside" not in found["evidence-comparison-c5-pilot"]
    assert told in tables.outcome("comparison/table1", ["fsp"], store=store).note


def test_places_of_rows_that_are_set_aside_are_told_where_there_are_several():
    told = importlib.import_module("kdnb.tables.evidence").set_aside_told
    both = {"CIFAR-10": ["KD", "FitNet, all maps"], "CIFAR-100": [], "Digits": ["AT"]}
    assert told(both, name_places=True).endswith("spread: KD, “FitNet, all maps” (CIFAR-10); AT (Digits).")
    assert told({"CIFAR-10": ["KD"]}, name_places=False).endswith("spread: KD.")
    assert told({"CIFAR-10": []}, name_places=False) == ""


def test_an_open_claim_says_what_keeps_it_open():
    """A comparison with one seed, or those that are not measured; never one that is decided."""
    store, paper = Store.open(), exhibits.paper("comparison")
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/table1")
    told = {one.claim.id: hangs_on(paper, one) for one in judged(paper, store)}
    assert told["C15"] == "2 of 4 comparisons are not yet measured"
    fill(store, "pilot", seeds=1, dataset="cifar10", key="comparison/table1")
    told = {one.claim.id: hangs_on(paper, one) for one in judged(paper, store)}
    assert told["C15"].startswith("FSP + KD − KD: ")
    assert told["C15"].endswith(" (CIFAR-10, here ResNet20 → ResNet8; one seed, which decides nothing), and 1 more")


def test_seeds_that_nobody_would_train_are_not_counted():
    claim = exhibits.paper("comparison").claim("C5")
    undecided = Finding(next(claim.predicate.leaves()), None)
    known = [
        Verdict(claim, "pilot", "undetermined", (undecided,), seeds_needed=seeds)
        for seeds in (7, 100, 3455, math.inf, None)
    ]
    assert [seeds_told(verdict) for verdict in known] == ["7", "100", "more than 100", "more than 100", "–"]
    for verdict in known[2:4]:
        assert "More than 100 seeds would settle" in told_of(verdict, exhibits.paper("comparison"))
    assert "would settle" not in told_of(known[4], exhibits.paper("comparison"))


def test_rows_on_a_schedule_of_their_own_are_marked_wherever_claims_are_decided(in_book):
    """The ledger, a paper's own page and the comparisons, each with what is gained at equal schedule."""
    store = Store.open()
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/table1")
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/schedule")
    paper, (_, first, second, *_) = exhibits.paper("comparison"), tables.ledger(store)
    equal = gains_at_equal_schedule(paper.exhibits[0], "pilot", "cifar100", store)["crd"]
    gain = f"CRD {equal.value:+.2f} [{equal.low:.2f}, {equal.high:.2f}]"
    calls = {entries[0].text: entries[5].text for entries in first.body}
    assert calls["C10"].startswith("CRD † − ") and "†" not in calls["C5"]
    found = landing.found(paper, store)
    evidence = {table.name: table for table in tables.evidence("comparison", store)}
    decided = evidence["evidence-comparison-c10-pilot"]
    assert {entries[0].text for entries in decided.body} == {"CRD †"}
    for table in first, found, decided:
        assert "† trained on a schedule of their own." in table.note and gain in table.note
    assert "†" not in second.note and "†" not in evidence["evidence-comparison-c5-pilot"].note


def test_the_comparisons_of_a_claim_add_up():
    """For, open, against, unmeasured and repeated, of every claim of every paper, whatever is measured of it."""
    store = Store.open()
    for key, seeds in (("comparison/table1", 2), ("slkd", 2), ("infoflow/table1", 1)):
        fill(store, "pilot", seeds=seeds, key=key)
    for cell in exhibits.get("slkd/fig4").cells("pilot"):  # two pairs with the same relatives
        for run in cell.runs(2) if cell.row.key in ("slkd", "slkd-one") else ():
            record = store.get(*run.key)
            share = 0.5 + 0.01 * run.seed + 0.1 * (cell.row.key == "slkd")
            history = {**record.history, "self_accuracy": [share] * len(record.history["epoch"])}
            store.write(run, dataclasses.replace(record, history=history), "slkd")
    summary, *by_paper = tables.ledger(store)
    frame = summary.frame
    parts = frame[["for", "open", "against", "unmeasured", "repeated"]].sum(axis=1)
    assert list(parts) == list(frame["comparisons"])
    assert frame["repeated"].sum() > 0 and {"no verdict", "undetermined", "not measured"} <= set(frame["verdict"])
    known = frame.set_index("id")["comparisons"]
    # A second place is fifteen comparisons, whoever is the first: one with that, the others with the rest.
    assert known["comparison-C13"] == 15 and known["slkd-S2"] == 22 and known["srm-R13"] == 0
    repeated = frame[frame["repeated"] > 0].iloc[0]
    told = {entries[0].text: entries[4].text for table in by_paper for entries in table.body}
    assert told[repeated["id"].partition("-")[2]].endswith(f", {repeated['repeated']} repeated")


def test_one_seed_weighs_one_of_several_alternatives_too():
    """Of those who may be the first the one in print, not all of them at once."""
    store = Store.open()
    fill(store, "pilot", seeds=1, dataset="cifar100", key="comparison/table1")
    frame = tables.ledger(store)[0].frame.set_index("id")
    second = frame.loc["comparison-C13"]
    assert second["verdict"] == "no verdict" and second["open"] == second["comparisons"] == 15


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
        claim("best of two", AnyOf((all_of(ab, ac), all_of(far, Better("here", "c", "b"))))),
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
    assert frame.loc["slkd-S1", "needed_by"] == "slkd-S2" and "slkd-S9" in frame.loc["slkd-S1", "explained_by"]
    assert frame.loc["iekd-I1", "needed_by"] == "iekd-I2"
    for column in ("needed_by", "explained_by", "shared_with"):
        assert {key for keys in frame[column] for key in keys.split()} <= set(frame.index)
    for paper in exhibits.papers():
        known = {claim.id for claim in paper.claims}
        assert known >= {*paper.explained, *(key for of in paper.explained.values() for key in of)}


def test_no_two_papers_have_a_claim_of_one_id():
    """Pages leave the paper out of an id."""
    ids = [claim.id for paper in exhibits.papers() for claim in paper.claims]
    assert len(set(ids)) == len(ids)


def test_every_claim_says_which_section_makes_it(in_book):
    frame = tables.ledger()[0].frame
    assert frame["section"].str.fullmatch(r"\d(\.\d)?|[IVX]+-[A-Z]|[A-Z]\.\d").all()
    sections = dict(zip(frame["id"], frame["section"], strict=True))
    assert sections["slkd-S7"] == "4.3" and sections["srm-R13"] == "III-A" and sections["slkd-S11"] == "A.5"


def test_what_several_papers_print_of_one_cell_stands_side_by_side(monkeypatch):
    """As these papers' files have it: an error is what it leaves of 100, and other images are another cell."""
    these = ("comparison", "slkd", "srm", "iekd", "infoflow")
    monkeypatch.setattr(exhibits, "PAPERS", {key: exhibits.PAPERS[key] for key in these})
    table = tables.printed_twice()
    body = {(where, method): rest for where, method, *rest in ([e.text for e in entries] for entries in table.body)}
    assert [entry.text for entry in table.head[0]][2:] == ["Eight methods compared", "SLKD", "SRM", "IE-KD", "Apart"]
    assert body["CIFAR-100, ResNet56 → ResNet20", "KD"] == ["69.78", "71.04", "–", "–", "1.26"]
    assert body["CIFAR-10, ResNet56 → ResNet20", "KD"] == ["92.66", "–", "–", "92.63", "0.03"]
    assert body["CIFAR-10, ResNet56 → ResNet20", "CRD"] == ["91.88", "–", "–", "93.20, 93.27", "1.39"]
    assert body["CIFAR-10, ResNet20 alone", "–"] == ["91.74", "–", "–", "92.22", "0.48"]
    assert body["ImageNet, ResNet34 → ResNet18", "KD"] == ["–", "–", "69.21", "70.66", "1.45"]
    assert len(body) == 11 and not any("CUB" in where for where, _ in body)
    cells = table.frame.groupby(["dataset", "teacher", "student", "row"])
    assert (cells["paper"].nunique() > 1).all()
    spreads = cells["reported"].max() - cells["reported"].min()
    assert np.allclose(spreads, cells["apart"].first())
    assert f"the widest {spreads.max():.2f}. Equal numbers, which may be copies, are not counted: 1. The" in table.note
    assert f"Half are {np.median(spreads[spreads > 0]):.2f} points apart" in table.note


def test_every_paper_with_claims_has_a_page_that_includes_what_was_found(monkeypatch):
    monkeypatch.setenv("KDNB_BATCH", "1")
    for paper in (paper for paper in exhibits.papers() if paper.claims):
        asked = f"write book/papers/{paper.key}.md and name it in _toc.yml"
        assert page.of_paper(paper.key) == f"/book/papers/{paper.key}", asked
        text = (paths.ROOT / "book" / "papers" / f"{paper.key}.md").read_text(encoding="utf-8")
        assert f"found-{paper.key}.md" in text and "{tableofcontents}" in text


def test_on_a_phone_columns_are_called_as_in_the_head():
    sheet = (paths.ROOT / "book" / "_static" / "kdnb.css").read_text(encoding="utf-8")
    found = re.findall(r'kdnb-ledger td:nth-child\((\d)\)::before \{ content: "(.*): "', sheet)
    assert len(found) > 4 and all(HEAD[int(column) - 1] == called for column, called in found)


def test_what_the_papers_own_methods_gain_is_told_where_another_gains_more():
    told = importlib.import_module("kdnb.tables.in_short")._own
    gains = [
        Difference("kd", "plain", 9.0, 8.0, 10.0, 3, "pooled"),
        Difference("ie-at", "plain", 3.0, 1.0, 5.0, 3, "pooled"),
        Difference("ie-ft", "plain", -1.5, math.nan, math.nan, 1, "one seed"),
    ]
    labels = {"kd": "KD", "ie-at": "IE-AT", "ie-ft": "IE-FT"}
    own = told(gains, ACCURACY, labels, ["ie-at", "ie-ft"])
    assert own == " The paper's own: IE-AT +3.00 [1.00, 5.00], IE-FT -1.50."
    assert told(gains, ACCURACY, labels, ["kd"]) == ""


def test_a_place_names_the_networks_of_the_rows_that_are_compared():
    paper = exhibits.paper("iekd")
    place = exhibits.get("iekd/table1").columns[0].key
    relatives = ["ResNet20 → ResNet8", "ResNet20 → ResNet8", "ResNet8 → ResNet8", ""]
    frame = pd.DataFrame({"row": ["ofd", "ie-od", "tf-kd", "plain"], "networks": relatives, "relatives": relatives})
    here = trained_here(paper, place, frame, {"ofd", "ie-od"})
    assert here.endswith(", here ResNet20 → ResNet8")
    both = ", here ResNet20 → ResNet8, ResNet8 → ResNet8"
    assert trained_here(paper, place, frame, {"ofd", "tf-kd"}).endswith(both)
    assert trained_here(paper, place, frame, {"plain"}).endswith(both)  # whom nobody teaches
    own = {"row": "ft", "networks": "ResNet56 → ResNet20", "relatives": ""}
    frame = pd.concat([frame, pd.DataFrame([own])])
    assert trained_here(paper, place, frame, {"ft", "plain"}) == paper.title(place)
    assert trained_here(paper, place, frame, {"ft", "ofd"}).endswith(", here ResNet20 → ResNet8, ResNet56 → ResNet20")


def test_a_row_that_an_auxiliary_teaches_is_told_with_it():
    """And with the relative that taught it; a classifier after a student has that student's networks."""
    store = Store.open()
    fill(store, "pilot", seeds=2, key="infoflow/table1")
    fill(store, "pilot", seeds=2, key="infoflow/table2")
    paper, found = exhibits.paper("infoflow"), measured_frames("infoflow", store)["pilot"]
    alone, through = "ResNet20 → CNN-1", "ResNet20 → CNN-1-A → CNN-1"
    for place in ("cifar10#map_cosine", "cifar10"):
        told = {rows: trained_here(paper, place, found[place], rows) for rows in (("flow", "pkt-h"), ("flow", "pkt"))}
        assert told["flow", "pkt-h"].endswith(f", here {through}")
        assert {*told["flow", "pkt"].partition(", here ")[2].split(", ")} == {alone, through}


def test_the_gain_of_one_method_is_no_family():
    told = importlib.import_module("kdnb.tables.in_short")._sentence
    worse = Difference("kd", "plain", -2.26, -3.3, -1.2, 3, "pooled")
    plain = pd.DataFrame({"row": ["plain"], "value": [-30.2]})
    assert told([worse], ERROR, plain, {"kd": "KD"}).endswith("KD is nearest, -2.26 points [-3.30, -1.20] (95 %).")


def test_a_row_that_gains_nothing_is_not_told_as_a_gain():
    worse = Difference("kd", "plain", -2.26, math.nan, math.nan, 1, "one seed")
    plain = pd.DataFrame({"row": ["plain"], "value": [-30.2]})
    told = importlib.import_module("kdnb.tables.in_short")._sentence([worse], ERROR, plain, {"kd": "KD"})
    assert (
        told == "the plain student has 30.20 % (error); none gains on it, KD is nearest, -2.26 points, from one seed."
    )
