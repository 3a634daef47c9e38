"""The order of work: which runs a part of the study asks for, and the jobs they make."""

from __future__ import annotations

import pytest
from study_samples import keep, keep_teacher

from kdnb import exhibits
from kdnb.errors import KdnbError
from kdnb.exhibits import wanted
from kdnb.study import plan
from kdnb.study.profile import PROFILES
from kdnb.study.store import Store

DEMO, PAPER = PROFILES["demo"], PROFILES["paper"]


def names(runs):
    return [(run.experiment.method, run.experiment.images.dataset, run.seed) for run in runs]


def test_all_rows_come_at_one_seed_before_any_comes_at_the_next_and_one_teacher_serves_all():
    found = wanted.runs(wanted.select("comparison/table1"), PAPER, "cifar100", 2, "teacher,plain,kd")
    assert names(found) == [
        ("plain", "cifar100", 0),  # the teacher
        ("plain", "cifar100", 1), ("kd", "cifar100", 1),
        ("plain", "cifar100", 2), ("kd", "cifar100", 2),
    ]  # fmt: skip


def test_one_data_set_comes_after_the_other():
    found = wanted.runs(wanted.select("comparison/table1"), PAPER, None, 2, "plain")
    assert [(dataset, seed) for _, dataset, seed in names(found)] == [
        ("cifar100", 1), ("cifar100", 2), ("cifar10", 1), ("cifar10", 2),
    ]  # fmt: skip


def test_several_parts_of_the_study_are_chosen_by_commas_each_once():
    keys = [exhibit.key for exhibit in wanted.select("comparison/table1, comparison/kd-alpha,comparison/table1")]
    assert keys == ["comparison/table1", "comparison/kd-alpha"]
    assert set(wanted.select("comparison,slkd")) <= set(wanted.select("all"))
    with pytest.raises(KdnbError, match="did you mean comparison/table1"):
        wanted.select("slkd,comparison/tabel1")


def test_rows_are_named_by_key_by_line_or_by_pair():
    def count(rows):
        return len(wanted.runs(wanted.select("slkd/table1"), PAPER, "cifar100", 1, rows))

    assert count("vgg13-vgg8/kd") == 1
    assert count("slkd") == 6
    assert count("vgg13-vgg8, kd") == 11 + 5
    with pytest.raises(KdnbError, match="did you mean vgg13-vgg8"):
        count("vgg13-vgg9")


def test_a_row_that_no_table_has_on_the_images_that_are_asked_for_is_refused():
    """Beside rows that can run it would else be passed over."""
    chosen = wanted.select("comparison/table1,slkd/table1")
    with pytest.raises(KdnbError, match=r"'vgg13-vgg8' cannot be run .*: no table has it on these images"):
        wanted.runs(chosen, PAPER, "cifar10", 1, "plain,vgg13-vgg8")
    assert wanted.runs(chosen, PAPER, "cifar10", 1, "plain")


def test_every_run_of_the_whole_study_is_filed_under_the_paper_that_has_it():
    everything = wanted.select("all")
    papers = wanted.papers(everything, DEMO)
    first: dict[str, str] = {}  # a run of two papers is filed under the one that comes first
    for exhibit in everything:
        for cell in exhibit.cells(DEMO, "digits"):
            if cell.experiment is not None and cell.row.key in ("slkd", "fitnet", "dkd"):
                paper = first.setdefault(cell.experiment.fingerprint, exhibit.paper)
                assert papers[cell.experiment.fingerprint] == paper
    runs = plan.with_needs(wanted.runs(everything, DEMO, seeds=1))
    assert {run.experiment.fingerprint for run in runs} == {*papers}


@pytest.mark.usefixtures("empty_project")
def test_a_job_knows_its_data_sets_and_whether_anything_is_left_to_do():
    chosen = wanted.runs(exhibits.select("comparison/table1"), PAPER, None, 1, "teacher,kd")
    jobs = wanted.jobs(chosen, Store.open())
    assert [(job.datasets, job.done) for job in jobs] == [
        (("cifar100",), False), (("cifar10",), False), (("cifar100",), False), (("cifar10",), False),
    ]  # fmt: skip
    kd = next(run for run in chosen if run.experiment.method == "kd")
    keep_teacher(kd.experiment)
    keep(kd)
    assert [job.done for job in wanted.jobs(chosen, Store.open())] == [True, False, True, False]


def test_why_nothing_can_run_is_said_once():
    told = wanted.why_not(wanted.select("slkd/table3,slkd/table4"), PAPER)
    assert told.count("ImageNet is not among") == 1
