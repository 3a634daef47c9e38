"""Same answers, shown: the runs of the comparison, the file that keeps them, and what is concluded from them."""

from __future__ import annotations

import dataclasses
import io
import json
import signal

import numpy as np
import pytest
import torch
from scipy import stats
from study_samples import TINY, experiment, keep_teacher

from kdnb import datasets, methods, models, paths, tables
from kdnb.bench import conformity
from kdnb.errors import KdnbError
from kdnb.evaluation.correct import unpack
from kdnb.methods.recipe import Recipe
from kdnb.methods.stage import Batch, Setup, Supervision, TrainingSet
from kdnb.models.network import Activations
from kdnb.study import equivalence
from kdnb.study.progress import Progress
from kdnb.study.store import Store

pytestmark = pytest.mark.usefixtures("empty_project")
RECIPE = Recipe(epochs=1, batch_size=32, lr=0.05, milestones=(), selection="last")
CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch):
    """Plain and KD on few digits for an epoch, on a machine that has bfloat16."""
    few = dataclasses.replace(TINY, student_images=64)
    found = {line: experiment(line, few, recipe=RECIPE) for line in ("plain", "kd")}
    monkeypatch.setattr(conformity, "_experiments", lambda profile, dataset: found.items())
    monkeypatch.setattr(conformity.probe, "has_bfloat16", lambda: True)
    keep_teacher(found["kd"])
    return found


def test_every_way_is_run_once_kept_as_it_ends_and_never_enters_the_store(small, tmp_path, monkeypatch):
    file, before = tmp_path / "conformity.json", len(Store.open().all())

    def told() -> list[tuple[str, str, int]]:
        return [(r["way"], r["line"], r["seed"]) for r in json.loads(file.read_text(encoding="utf-8"))["runs"]]

    log = io.StringIO()
    first = conformity.Conformity(file, Progress(log), "demo", "digits", "cpu", seeds=1)
    with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
        interrupted.setattr(conformity, "usual", lambda *given: signal.raise_signal(signal.SIGINT))
        first.run()
    assert "2 pairs; if one difference has a spread of 0.9 points" in log.getvalue().splitlines()[0]
    kept = told()
    assert kept == [(way, line, 1) for way in ("float32", "bfloat16") for line in ("plain", "kd")]
    monkeypatch.setattr(conformity.Conformity, "_engine", None)  # nothing of it is trained again
    assert conformity.Conformity(file, Progress(log), "demo", "digits", "cpu", seeds=1).run()
    assert told() == [*kept, ("usual loop", "plain", 1), ("usual loop", "kd", 1)]
    for run in json.loads(file.read_text(encoding="utf-8"))["runs"]:
        assert run["numerics"]["dtype"] == ("bfloat16" if run["way"] == "bfloat16" else "float32")
        assert unpack(run["correct"], datasets.info("digits").test_count).mean() == pytest.approx(
            run["score"], abs=1e-5
        )
    assert len(Store.open().all()) == before and not (tmp_path / "store" / "conformity").exists()


def test_a_budget_that_is_spent_leaves_runs(small, tmp_path):
    assert not conformity.Conformity(tmp_path / "c.json", profile="demo", dataset="digits", device="cpu").run(budget=0)


def test_another_file_is_not_written_over(small, tmp_path):
    (tmp_path / "bench.json").write_text('{"ratio": 2}', encoding="utf-8")
    with pytest.raises(KdnbError, match="is not a conformity of demo"):
        conformity.Conformity(tmp_path / "bench.json", profile="demo", dataset="digits")


def test_its_runs_are_the_studys_but_for_the_selection():
    plain, kd = dict(conformity._experiments("pilot", "cifar100")).values()
    assert (plain.network, kd.network, kd.teacher.network) == ("resnet8", "resnet8", "resnet20")
    assert plain.recipe.selection == kd.recipe.selection == "last"
    study = experiment("kd")
    assert dataclasses.replace(kd.recipe, selection=study.recipe.selection) == study.recipe


def test_the_usual_loop_descends_the_loss_of_the_studys_own_runs():
    """Else it would train something else and be told to differ: plain's and KD's loss on any logits are the same."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(8, 100, generator=draw) for _ in range(2))
    images, labels = torch.zeros(8, 3, 4, 4), torch.randint(100, (8,), generator=draw)
    seen = [Activations(stem=images, logits=logits) for logits in (student, teacher)]
    batch = Batch(images, labels, labels, *seen, torch.tensor(0.0), {})
    setup = Setup(models.create("resnet8", 100), None, RECIPE, Supervision(), TrainingSet(labels, 100), 1, CPU)
    for line, run in conformity._experiments("pilot", "cifar100"):
        method = methods.get(run.method)
        (stage,) = method.stages(setup, method.arguments(run.arguments))
        wanted = sum(term.item() for term in stage.objective(batch).values())
        usual = sum(term.item() for term in conformity.objective(run)(batch).values())
        assert usual == pytest.approx(wanted), line


# -- what is concluded ---------------------------------------------------------------------------------------


def test_an_interval_within_the_margin_shows_the_same_and_one_beyond_it_that_it_is_not():
    draw = np.random.default_rng(0).normal(0, 0.9, 20)
    found = equivalence.paired(list(draw - draw.mean() + 0.1))
    low, high = stats.t.interval(0.90, 19, 0.1, stats.sem(draw))
    assert (found.low, found.high, found.count) == (pytest.approx(low), pytest.approx(high), 20)
    assert found.same is True
    assert equivalence.paired([0.1, 1.9]).same is None
    assert equivalence.paired([2.9, 3.0, 3.1]).same is False and equivalence.paired([1.0]) is None


def test_groups_without_pairs_have_welchs_interval():
    a, b = np.array([70.1, 70.9, 71.5, 69.8]), np.array([70.0, 72.5, 69.0])
    found = equivalence.unpaired(list(a), list(b))
    wanted = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.90)
    assert (found.low, found.high) == (pytest.approx(wanted.low), pytest.approx(wanted.high))


def test_power_is_the_share_of_such_studies_that_show_it():
    draws = np.random.default_rng(1).normal(0.2, 0.9, (20_000, 8))
    half = stats.t.ppf(0.95, 7) * draws.std(axis=1, ddof=1) / np.sqrt(8)
    shown = (np.abs(draws.mean(axis=1)) + half < 1).mean()
    assert equivalence.power(0.9, 8, 0.2) == pytest.approx(shown, abs=0.02)
    assert equivalence.power(0.9, 20) > 0.99 > equivalence.power(0.9, 8) > equivalence.power(0.9, 4)


def test_the_page_says_what_is_measured_and_what_is_not(tmp_path):
    (nothing,) = tables.conformity()
    assert "not yet measured" in nothing.body[0][2].text.lower()
    content = {"conformity": "pilot, CIFAR-100", "device": "a machine", "runs": []}
    for way, shift in (("float32", 0.0), ("bfloat16", 0.002), ("usual loop", 0.001)):
        for line in ("plain", "kd"):
            for seed in (1, 2, 3):
                content["runs"].append({"way": way, "line": line, "seed": seed, "score": 0.6 + 0.001 * seed + shift})
    folder = paths.committed_results() / "bench"
    folder.mkdir(parents=True)
    (folder / "conformity-x.json").write_text(json.dumps(content), encoding="utf-8")
    (table,) = tables.conformity()
    told = [[entry.text for entry in row] for row in table.body]
    assert "a machine: pilot, CIFAR-100" in table.caption
    assert told[0] == ["bfloat16 minus float32, same seeds, all", "6", "+0.20", "+0.20 to +0.20", "yes"]
    assert told[3][0].endswith("both in float32: plain") and told[3][2] == "-0.10" and told[3][4] == "yes"
