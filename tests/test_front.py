"""The front page: its answers follow from what is stored."""

from __future__ import annotations

import dataclasses
import statistics
import sys
from types import SimpleNamespace

import pytest
from book_samples import fill
from study_samples import keep, record

from kdnb import exhibits, plots
from kdnb.exhibits.leaderboard import COMPETING, CONTROLS, FIRST, SECOND
from kdnb.exhibits.runs import records_of
from kdnb.exhibits.status import progress
from kdnb.study.experiment import Run
from kdnb.study.store import Store
from kdnb.tables import front
from kdnb.tables.in_short import in_short, students_of, told_of_gains
from kdnb.tables.ledger import judged
from kdnb.tables.ranking import standings


@pytest.fixture
def answers_alone(monkeypatch):
    """The front page without what it counts of all claims and all papers, which takes most of its time."""
    page = sys.modules[front.__module__]
    monkeypatch.setattr(page, "_claims", lambda store: ("", ""))
    monkeypatch.setattr(page, "_paper", lambda paper, store: "")


@pytest.mark.parametrize(
    ("lows", "says"),
    [
        (
            (1.0, 2.0, 3.0),
            "Yes, here: 3 of 3 methods beat the plain student by more than chance explains. The median",
        ),
        (
            (1.0, -2.0, -3.0),
            "Some methods here: 1 of 3 methods beat the plain student by more than chance explains. The median",
        ),
        (
            (-1.0, -2.0),
            "Not that we can tell here: 0 of 2 methods beat the plain student by more than chance explains.",
        ),
    ],
)
def test_whether_distilling_helps_is_said_as_the_gains_have_it(lows, says, monkeypatch):
    gains = [SimpleNamespace(a="at", known=True, low=low, value=low + 0.5) for low in lows]
    page = sys.modules[front.__module__]
    monkeypatch.setattr(page, "_gains", lambda exhibit, store: ("pilot", "CIFAR-100", gains, 3))
    answer, sure = page._helps(exhibits.get("comparison/table1"), Store.open())
    assert answer.startswith(says) and sure.startswith("3 seeds, one teacher")


@pytest.mark.usefixtures("empty_project")
def test_without_runs_nothing_is_answered():
    told = front("comparison/table1", "leaderboard/first", "leaderboard/second", Store.open()).texts["in-one-minute"]
    assert "| **Does distilling help?** | not yet measured | – |" in told
    assert all(paper.heading in told for paper in exhibits.papers() if paper.claims)


@pytest.mark.usefixtures("empty_project", "answers_alone")
def test_no_control_is_the_method_to_use():
    """In this store what stands last in the table gains most, and last stand the controls."""
    fill(Store.open(), "pilot", seeds=2, key="leaderboard/first")
    text = front("comparison/table1", "leaderboard/first", "leaderboard/second").texts["in-one-minute"]
    assert f"| {FIRST.row(COMPETING[-1]).label} gains most:" in text and " over KD; its place is 1 to " in text
    assert "2 seeds, measured at pilot scale, CIFAR-100, ResNet20 → ResNet8 (its teacher saw" in text
    assert "rows are not measured yet" not in text
    answer, _, instead = text.partition(" KD itself in another setting, “")
    assert not any(FIRST.row(key).label in answer for key in CONTROLS)
    assert instead.startswith("KD, labels in full”, gains +") and "over KD, at KD's cost: part of" in instead


@pytest.mark.usefixtures("empty_project")
def test_beside_a_dear_winner_stands_the_best_at_the_cost_of_kd():
    store, page = Store.open(), sys.modules[front.__module__]
    fill(store, "pilot", seeds=2, key="leaderboard/first", rows=["plain", "kd", "at", "sp", "dkd"])
    rows = [row for row in standings(FIRST, "pilot", "cifar100", store)[0] if row.competing and row.records]
    assert [row.label for row in rows[:3]] == ["DKD", "SP", "AT"]
    dear, cheap = (dataclasses.replace(row, cost=cost) for row, cost in zip(rows, (1.4, 1.2), strict=False))
    told = page._leads([dear, cheap, *rows[2:]])
    assert told.startswith("Of what costs at most 1.25 times as much as KD, SP gains most: "), "what one can afford"
    assert " At any cost DKD gains most: " in told and told.count(" of 5.") == 1
    assert told.endswith("it costs 1.4 times as much as KD: KD that trains longer may do as well.")
    assert "SP" not in page._leads([dataclasses.replace(dear, cost=1.0), cheap, *rows[2:]])


@pytest.mark.usefixtures("empty_project", "answers_alone")
def test_a_row_of_one_seed_does_not_hide_what_several_say():
    store = Store.open()
    fill(store, "pilot", seeds=3, key="leaderboard/first", rows=["plain", "kd", "dkd"])
    (cell,) = FIRST.cells("pilot", asked=["reviewkd"])
    keep(Run(cell.experiment, 1), 0.99)
    told = front("comparison/table1", "leaderboard/first", "leaderboard/second").texts["in-one-minute"]
    assert "| DKD gains most:" in told and "; its place is 1 " in told
    assert " By one seed, which decides nothing, still higher: ReviewKD." in told


@pytest.mark.usefixtures("empty_project", "answers_alone")
def test_fresh_seeds_have_the_last_word_and_what_is_missing_is_said():
    store = Store.open()
    fill(store, "pilot", seeds=3, key="leaderboard/first", rows=["plain", "kd", "dkd"])
    told = front("comparison/table1", "leaderboard/first", "leaderboard/second").texts["in-one-minute"]
    able = sum(row.role in ("baseline", "student") for row in FIRST.rows)
    assert (
        "| DKD gains most:" in told
        and f"; {able - 3} of {able} rows are not measured yet, controls not counted (" in told
    )
    for cell in SECOND.every("pilot"):
        if cell.row.key in ("plain", "kd", "dkd", "at"):
            for run in cell.runs(3):
                percent = {"plain": 28, "kd": 37, "dkd": 38, "at": 39}[cell.row.key] + run.seed % 3 / 10
                store.write(run, record(run, percent / 100), "leaderboard")
    told = front("comparison/table1", "leaderboard/first", "leaderboard/second").texts["in-one-minute"]
    assert "| AT gains most: 39" in told and "3 seeds" in told


@pytest.mark.usefixtures("empty_project", "answers_alone")
def test_one_seed_at_a_larger_scale_hides_no_answer_of_several_at_a_smaller_one():
    store, table = Store.open(), exhibits.get("comparison/table1")
    fill(store, "pilot", seeds=3, dataset="cifar100", key="comparison/table1")
    paper = exhibits.paper("comparison")
    before = {one.claim.id: one.verdict.profile for one in judged(paper, store) if one.verdict}
    fill(store, "short", seeds=1, dataset="cifar100", key="comparison/table1", rows=["plain", "kd", "crd"])
    cells = front(table, "leaderboard/first", "leaderboard/second", Store.open()).texts["in-one-minute"]
    assert "3 seeds, one teacher, measured at pilot scale" in cells
    after = {one.claim.id: one.verdict.profile for one in judged(paper, Store.open()) if one.verdict}
    assert after == before and set(after.values()) == {"pilot"}
    assert all("measured at pilot scale" in line.lower() for line in told_of_gains(paper, Store.open())[:1])


@pytest.mark.usefixtures("empty_project")
def test_a_row_that_shares_no_seed_with_the_plain_student_has_no_gain():
    store = Store.open()
    rows = ["teacher", "plain", "fsp", "kd", "crd"]
    fill(store, "pilot", seeds=2, dataset="cifar100", key="comparison/table1", rows=rows)
    cell = exhibits.get("comparison/table1").cell("pilot", "kd", "cifar100")
    for own in store.records(cell.experiment.fingerprint).values():
        own.path.unlink()
    store.write(Run(cell.experiment, 7), record(Run(cell.experiment, 7), 0.99), "comparison")
    (told, *_) = told_of_gains(exhibits.paper("comparison"), Store.open())
    assert "nan" not in told and "KD gains" not in told


@pytest.mark.usefixtures("empty_project")
def test_a_pair_that_has_nothing_but_runs_of_another_is_no_place():
    """Tf-KD has no teacher but the student's kind: its runs stand for two pairs, and those of KD for one of these."""
    fill(Store.open(), "pilot", seeds=2, key="iekd/table1", rows=["resnet56-resnet20"])
    table = exhibits.get("iekd/table1")
    (found,) = students_of(table, "pilot", Store.open()).values()
    assert {"tf-kd", "kd"} <= set(found.runs["row"])
    figure = plots.gains(table, "pilot").figure
    assert len([axes for axes in figure.axes if axes.get_title()]) == 1


@pytest.mark.usefixtures("empty_project", "answers_alone")
def test_a_leaderboard_without_runs_is_not_called_an_answer():
    fill(Store.open(), "pilot", seeds=2, key="comparison/table1")
    told = front("comparison/table1", "leaderboard/first", "leaderboard/second").texts["in-one-minute"]
    wanted = progress(FIRST, "pilot", Store.open())["wanted"]
    assert f"all methods on equal terms: the leaderboard, 0 of {wanted} runs so far" in told


@pytest.mark.usefixtures("empty_project")
def test_scores_are_no_pairs_of_networks_and_an_auxiliary_is_no_method_for_the_student():
    fill(Store.open(), "pilot", seeds=2, key="infoflow/table1")
    gains, *_, measured = in_short("infoflow").lines
    assert gains.startswith("Measured at pilot scale, by 4 scores of the same runs: the most is gained by ")
    assert "pairs of networks" not in gains and "Auxiliary" not in gains
    assert measured.endswith("; a run tells several scores; a run stands in several tables, or rows.")
    (place, of), *_ = students_of(exhibits.get("infoflow/table1"), "pilot", Store.open()).items()
    assert "ResNet20 → CNN-1 " in place and not {"teacher", "aux"} & set(of.runs["row"])


@pytest.mark.usefixtures("empty_project")
def test_at_the_papers_own_size_the_distance_from_print_is_said():
    store = Store.open()
    fill(store, "paper", seeds=2, key="infoflow/table1")
    told = front("comparison/table1", "leaderboard/first", "leaderboard/second", store).texts["in-one-minute"]
    cells = [cell for cell in exhibits.get("infoflow/table1").cells("paper") if cell.reported is not None]
    means = [statistics.fmean(cell.score.of(record) for record in records_of(cell, store)) for cell in cells]
    apart = [abs(mean - cell.reported) for mean, cell in zip(means, cells, strict=True)]
    far = f"{statistics.median(apart):.1f} points in the median, {max(apart):.1f} at most"
    assert f"(they differ from print by {far})" in told
