"""The claims of information flow: what its printed numbers bear out, what other numbers would, and readings of ours."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
from study_samples import record

from kdnb import exhibits
from kdnb.exhibits import infoflow
from kdnb.exhibits.claims import judge
from kdnb.exhibits.claims.places import printed as printed_of
from kdnb.exhibits.claims.predicates import Claim, better, read_as
from kdnb.exhibits.claims.words import OUR_READING
from kdnb.exhibits.infoflow_claims import CLAIMS, COLUMNS, FROM_EARLY, FROM_LATE, MAP_C, PAPER, divergence, title

# The fact sheet, section 1: by Euclidean mAP the method is better with supervision (claim 5); figures print nothing.
HOLDS = {
    **dict.fromkeys((f"F{n}" for n in (1, 2, 3, 4, 6, 7, 8, 9, 12)), "holds"),
    "F5": "mixed",
    **dict.fromkeys(("F10", "F11"), "open"),
}


def test_what_holds_of_the_papers_own_numbers_is_what_the_fact_sheet_says():
    assert judge.words_in_print(PAPER) == HOLDS
    assert [c.id for c in CLAIMS] == [f"F{i}" for i in range(1, 13)]


@pytest.mark.parametrize(
    ("claim_id", "cell", "value", "word"),
    [
        ("F1", ("cifar10#map_cosine", "pkt-h"), 53.06, "mixed"),  # a tie is not better
        ("F2", ("cifar10#map_cosine", "pkt-h"), 51.80, "fails"),
        ("F3", ("cifar10#top100_precision_cosine", "flow+contrastive"), 62.50, "mixed"),
        ("F4", ("cifar10#map_euclidean", "pkt-h"), 49.08, "mixed"),
        ("F5", ("cifar10#map_euclidean", "flow"), 49.60, "holds"),
        ("F6", ("cifar10", "pkt-h"), 72.00, "mixed"),
        ("F8", ("cub200", "distill"), 35.50, "mixed"),
        ("F12", ("cifar10#map_cosine", "cnn1_h-cnn1"), 53.10, "mixed"),
    ],
)
def test_other_numbers_would_be_told_otherwise(claim_id, cell, value, word):
    numbers = printed_of(PAPER)
    assert cell in numbers
    assert PAPER.claim(claim_id).word_in_print({**numbers, cell: value}) == word


def test_every_row_of_a_claim_and_of_its_readings_has_runs():
    """A comparison nobody can make would leave a claim open for ever."""
    there = {(c.column.key, c.row.key) for e in PAPER.judged for c in e.cells("paper")}
    for claim in CLAIMS:
        if claim.id != "F10" and "table" in claim.exhibits[0] and claim.exhibits[0][-1] not in "345":
            for predicate in (claim.predicate, *claim.readings):
                assert {(leaf.place, row) for leaf in predicate.leaves() for row in leaf.rows()} <= there, claim.id
    for claim in CLAIMS:
        assert set(claim.exhibits) <= {e.key for e in exhibits.select("infoflow")}
        assert all(title(leaf.place) for leaf in claim.predicate.leaves())


def runs(**means: float) -> dict[str, pd.DataFrame]:
    """Three seeds a row, with a spread of a tenth of a point."""
    lines = [
        (row, s, mean + 0.1 * ((s * i) % 3 - 1)) for i, (row, mean) in enumerate(means.items(), 1) for s in (1, 2, 3)
    ]
    return {MAP_C.key: pd.DataFrame(lines, columns=["row", "seed", "value"])}


def status(readings, profile="paper", **means):
    claim = Claim("X", "infoflow", "It is better.", (), better(MAP_C, "flow", "pkt"), readings=readings)
    paper = dataclasses.replace(PAPER, claims=(claim,))
    (verdict,) = judge.verdicts(paper, runs(**means), profile)
    return verdict.status


def test_a_claim_on_a_reading_of_ours_is_contradicted_only_where_all_readings_contradict_it():
    other = read_as(better(MAP_C, "flow", "pkt"), {"pkt": "pkt-jeffreys"})
    assert other == better(MAP_C, "flow", "pkt-jeffreys")
    behind = {"flow": 50.0, "pkt": 53.0}
    assert status(None, **behind) == "contradicted"
    assert status((), **behind) == OUR_READING
    assert status((other,), **behind) == OUR_READING  # the other one is not measured
    assert status((other,), **behind, **{"pkt-jeffreys": 48.0}) == OUR_READING
    assert status((other,), **behind, **{"pkt-jeffreys": 53.0}) == "contradicted"
    assert status((other,), "pilot", **behind, **{"pkt-jeffreys": 48.0}) == OUR_READING
    assert status((other,), flow=53.0, pkt=50.0) == "confirmed"


def test_figure_1_is_read_off_the_histories():
    """Epochs are the paper's: of 7 epochs that stand for 50, the first stands for epochs 1 to 8."""
    cell = exhibits.get("infoflow/fig1").cell("pilot", "flow")
    (run,) = cell.runs(1)
    values = [8.0, 6.0, 4.0, 3.0, 2.0, 1.0, 1.0]
    found = record(run, history={"epoch": list(range(1, 8)), "last": values})
    assert divergence(found, 1, 8) == 8.0 and divergence(found, 10, 25) == pytest.approx((6 + 4) / 2)
    read = PAPER.read(cell, found)
    assert read == {(FROM_EARLY.key, "flow"): 8.0, (FROM_LATE.key, "flow"): 5.0}
    assert PAPER.shown(exhibits.get("infoflow/table1").cell("pilot", "flow"), found) is None
    assert len(COLUMNS) == 4 and set(infoflow.FIGURE_1) == {r.key for r in exhibits.get("infoflow/fig1").rows}
