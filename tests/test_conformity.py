"""Same answers, shown: the runs of the comparison, the file that keeps them, and what is concluded from them."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import signal
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from study_samples import TINY, experiment, keep_teacher

from kdnb import datasets, methods, models, paths, tables
from kdnb.bench import conformity
from kdnb.errors import KdnbError, StoreError
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
    monkeypatch.setattr(conformity, "has_bfloat16", lambda: True)
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
    assert len(Store.open().all()) == before and not list((tmp_path / "store").glob("conformity*"))


def test_a_budget_that_is_spent_leaves_runs(small, tmp_path):
    assert not conformity.Conformity(tmp_path / "c.json", profile="demo", dataset="digits", device="cpu").run(budget=0)


def test_another_file_is_not_written_over(small, tmp_path):
    (tmp_path / "bench.json").write_text('{"ratio": 2}', encoding="utf-8")
    with pytest.raises(KdnbError, match="is not a conformity of demo"):
        conformity.Conformity(tmp_path / "bench.json", profile="demo", dataset="digits")


# -- one process a file, and one machine ---------------------------------------------------------------------


@pytest.fixture
def scored(small, monkeypatch):
    """No run is trained: each has half of the images right, and leaves something in the folder of unfinished ones."""

    def keep(self, way, lines, seed, left):
        self.scratch.mkdir(parents=True, exist_ok=True)
        for line in lines:
            self._keep(way, line, seed, self.device.as_dict(), 0.5, "")
        return True

    monkeypatch.setattr(conformity.Conformity, "_engine", keep)
    monkeypatch.setattr(conformity.Conformity, "_usual", keep)
    return keep


def conformity_in(file, device="cpu", seeds=1):
    return conformity.Conformity(file, profile="demo", dataset="digits", device=device, seeds=seeds)


def runs_in(file):
    return [(r["way"], r["line"], r["seed"]) for r in json.loads(file.read_text(encoding="utf-8"))["runs"]]


def while_it_trains(scored, monkeypatch, meanwhile):
    """Do something once the engine has scored its first runs, in bfloat16 as well as in float32."""

    def engine(self, *given):
        return scored(self, *given) and meanwhile()

    monkeypatch.setattr(conformity.Conformity, "_engine", engine)


def test_a_file_that_another_process_fills_is_left_to_it(scored, tmp_path, monkeypatch):
    """Each would write what it knows over what the other has added."""
    file = tmp_path / "c.json"
    first, second = conformity_in(file), conformity_in(file)

    def refused():
        with pytest.raises(KdnbError, match=r"c\.json is being filled by another process.*; wait until"):
            second.run()
        return True

    while_it_trains(scored, monkeypatch, refused)
    assert first.run() and len(runs_in(file)) == 6


def test_what_another_process_has_added_before_is_kept(scored, tmp_path):
    file = tmp_path / "c.json"
    early = conformity_in(file, seeds=2)
    assert conformity_in(file).run() and early.run()
    assert len(runs_in(file)) == len(set(runs_in(file))) == 12


def test_unfinished_runs_of_another_file_stay_where_one_is_done(scored, tmp_path, monkeypatch):
    first, second = conformity_in(tmp_path / "a.json"), conformity_in(tmp_path / "b.json")

    def done():
        with monkeypatch.context() as inner:
            inner.setattr(conformity.Conformity, "_engine", scored)
            assert second.run()
        return first.scratch.is_dir() and not second.scratch.exists()

    while_it_trains(scored, monkeypatch, done)
    assert first.run()


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has a GPU."""
    detect = conformity.detect

    def pretended(device="auto"):
        found = detect("cpu")
        return found if device == "cpu" else dataclasses.replace(found, device="cuda", mode="captured", threads=1)

    monkeypatch.setattr(conformity, "detect", pretended)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")


def test_a_gpu_has_a_file_of_its_own(gpu, scored, tmp_path, monkeypatch):
    monkeypatch.setattr(conformity, "processor", lambda: "AMD EPYC")
    names = {device: conformity.default_file(device).name for device in ("cpu", "cuda", "auto")}
    assert names["cpu"] == "conformity-amd-epyc.json"
    assert names["cuda"] == names["auto"] == "conformity-nvidia-h100-80gb-hbm3.json"
    for device, title in (("cpu", "AMD EPYC"), ("cuda", "NVIDIA H100 80GB HBM3")):
        file = tmp_path / f"{device}.json"
        assert conformity_in(file, device).run()
        assert json.loads(file.read_text(encoding="utf-8"))["device"] == title
    with pytest.raises(KdnbError, match=r"cpu\.json has the runs of AMD EPYC, and this is NVIDIA H100.*another file"):
        conformity_in(tmp_path / "cpu.json", "cuda")
    one, other = (conformity_in(tmp_path / "new.json", device) for device in ("cpu", "cuda"))
    assert one.scratch != other.scratch  # what one has not finished the other does not go on from


def test_runs_of_a_gpu_under_a_processors_name_count_for_nothing(scored, tmp_path):
    file = tmp_path / "c.json"
    assert conformity_in(file).run()
    content = json.loads(file.read_text(encoding="utf-8"))
    content["runs"][0]["numerics"]["device"] = "cuda"
    file.write_text(json.dumps(content), encoding="utf-8")
    assert conformity_in(file).run()
    assert runs_in(file)[6:] == runs_in(file)[:1]


def test_where_the_disk_is_full_another_file_helps(scored, tmp_path, monkeypatch):
    def full(stream):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("kdnb.training.checkpoint.os.fsync", full)
    with pytest.raises(StoreError, match="Free some space or name another file"):
        conformity_in(tmp_path / "c.json").run()


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


def test_the_page_tells_the_plan_that_the_command_follows(monkeypatch):
    (table,) = tables.conformity()
    assert "10 seeds a line" in table.note and "a spread of 0.9 points, 20 of them show" in table.note
    page = sys.modules["kdnb.tables.speed"]
    monkeypatch.setattr(page, "SEEDS", 4)
    monkeypatch.setattr(page, "SPREAD", 2.5)
    (table,) = tables.conformity()
    chance = 100 * equivalence.power(2.5, 8)
    assert (
        "4 seeds a line" in table.note and f"2.5 points, 8 of them show with a chance of {chance:.1f} %" in table.note
    )
    assert (conformity.SEEDS, conformity.LINES) == (equivalence.SEEDS, equivalence.LINES)
