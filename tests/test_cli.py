"""The command line: bad input is answered in one line with exit code 2, good input at once."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from study_samples import experiment, keep, keep_teacher, record

from kdnb import cli, exhibits
from kdnb.errors import KdnbError
from kdnb.exhibits import status
from kdnb.study import profile
from kdnb.study.experiment import Run
from kdnb.study.profile import PROFILES, Profile
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.training.cohort import Cohort
from kdnb.training.numerics import detect

pytestmark = pytest.mark.usefixtures("empty_project")
DEMO = PROFILES["demo"]


@dataclass
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def kdnb(monkeypatch, capsys) -> Callable[..., Answer]:
    """Run the command as a person would, in this process."""

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["kdnb", *arguments])
        with pytest.raises(SystemExit) as done:
            cli.main()
        told = capsys.readouterr()
        return Answer(done.value.code or 0, told.out, told.err)

    return run


BAD = {
    "a record to repeat that is not there": (
        "run --like nosuch.json",
        "nosuch.json is no record, since there is no such",
    ),
    "data set not prepared": ("data check cifar100", "kdnb data prepare cifar100"),
    "data set of a study not prepared": ("study --profile pilot --dataset cifar100", "kdnb data prepare cifar100"),
    "data set of a run not prepared": ("run plain --profile short --dataset cifar10", "kdnb data prepare cifar10"),
    "unknown data set": ("data check cifar10o", "did you mean cifar10"),
    "data set to prepare": ("data prepare digit", "did you mean digits"),
    "line of a table of pairs": ("run slkd --exhibit slkd/table1", "resnet56-resnet8/slkd"),
    "nothing of an exhibit": ("study --exhibit slkd/table3 --profile paper", "ImageNet is not among"),
    "data set of a profile": ("study --dataset cifar100", "known: digits"),
    "data set of a run": ("run kd --dataset digts", "did you mean digits"),
    "row": ("run kdd", "did you mean kd"),
    "rows": ("study --rows kd,fitnett", "did you mean fitnet"),
    "row of another table": ("run dkd", "name the table, as in --exhibit slkd/table1"),
    "rows of another table": ("study --rows kd,dkd", "'dkd' is no row of comparison/table1; it is one of slkd/table1"),
    "a row that is not run": (
        "study --exhibit leaderboard/first --rows kd,at",
        "'at' cannot be run under profile 'demo'",
    ),
    "exhibit of the dashboard": ("status comparison/tabel1", "did you mean comparison/table1"),
    "what a record says already": (
        "run kd --like r.json --seed 7 --any-numerics",
        "leave out the row, --seed, --any-numerics",
    ),
    "exhibit": ("run kd --exhibit comparison/tabel1", "did you mean comparison/table1"),
    "exhibits": ("study --exhibit comparisn", "did you mean comparison"),
    "profile": ("run kd --profile papper", "did you mean paper"),
    "device": ("run plain --device cude", "did you mean cuda"),
    "mode": ("run plain --mode eagre", "did you mean eager"),
    "precision": ("run plain --dtype float23", "did you mean float32"),
    "budget": ("study --budget soon", "as in 9m; 'soon' is not"),
    "job": ("study --job demo-digits-seed1-00000000", "--plan lists them"),
    "job by its old name": ("study --cohort demo-digits-seed1-00000000", "--plan lists them"),
    "JSON of no plan": ("study --json", "--json says nothing without --plan: add --plan, or leave --json out."),
    "all of no export": ("study --export-all", "--export-all says nothing without --export"),
    "a last call without an end": ("study --last-call", "--last-call says nothing without --budget"),
    "a device of a plan": ("study --plan --device tpu", "--plan trains nothing: leave out --device"),
    "images that are to come": (
        "study --exhibit leaderboard/first --dataset flowers --profile pilot",
        "Images of your own come first: `kdnb data prepare flowers --from FOLDER`.",
    ),
    "a job beside a plan": ("study --plan --job nosuch", "--plan lists them"),
    "methods that are not timed": ("bench --only kd", "--only says nothing without --methods"),
    "rows that are not timed": ("bench --exhibit leaderboard/first", "--exhibit says nothing without --methods"),
    "a profile of no table": ("bench --methods --profile pilot", "--profile says nothing without --exhibit"),
    "a budget of no conformity": ("bench --budget 9m", "--budget says nothing without --conformity"),
    "what conformity settles": (
        "bench --conformity --dtype bfloat16 --rounds 3",
        "--conformity settles how it trains: leave out --rounds, --dtype.",
    ),
    "no name": ("data prepare x/y", "There is no data set called 'x/y'"),
    "captured on a CPU": ("run plain --device cpu --mode captured", "use --mode eager on a CPU"),
    "compiled": ("run plain --mode compiled", "Compiled steps are gone"),
    "an archive that is not there": (
        "import nowhere.tar.gz",
        "nowhere.tar.gz is not a whole archive of an export (No such file or directory).",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered_in_one_line(name, kdnb):
    command, answer = BAD[name]
    found = kdnb(*command.split())
    assert found.code == 2
    assert answer in found.err and found.err.startswith("kdnb: ") and found.err.count("\n") == 1
    assert not found.out
    assert not Store.open().all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is said where CUDA is missing")
def test_a_missing_cuda_device_is_said(kdnb):
    found = kdnb("run", "plain", "--device", "cuda")
    assert found.code == 2 and "No CUDA device" in found.err


@pytest.mark.parametrize(
    "command",
    [
        "study --seeds 0",
        "study --seeds 1001",
        "run kd --seed 9007199254740993",
        "study --epoch 1",
        "study --epochs 0",
        "run",
        "rum kd",
        "import",
        "data chek x",
    ],
)
def test_usage_errors_have_exit_code_2_and_train_nothing(command, kdnb):
    found = kdnb(*command.split())
    assert found.code == 2 and "Traceback" not in found.err and found.err


@pytest.mark.parametrize("command", ["", "run", "study", "status", "import", "bench", "data", "data prepare"])
def test_help_reads_well(command, kdnb):
    found = kdnb(*command.split(), "--help")
    assert found.code == 0 and "Usage:" in found.out and "Traceback" not in found.out


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("9m", 540), ("2h", 7200), ("1.5h", 5400), ("45", 45), (" 3m ", 180), (None, None)],
)
def test_a_budget_is_a_number_with_a_unit(text, seconds):
    assert cli._seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-3m", "9 minutes", "1d", "1h30m", "nan"])
def test_a_budget_that_is_none_is_refused(text):
    with pytest.raises(KdnbError, match="as in 9m"):
        cli._seconds(text)


# -- the plan and the dashboard ----------------------------------------------------------------------------


def test_the_plan_lists_jobs_and_what_is_done(kdnb):
    kd = Run(experiment("kd", DEMO), 1)
    teacher = keep_teacher(kd.experiment)
    found = kdnb("study", "--plan", "--json", "--seeds", "2", "--rows", "teacher,plain,kd,fitnet")
    groups = json.loads(found.out)["jobs"]
    assert json.loads(found.out)["cohorts"] == groups  # the old name of the same
    assert found.code == 0 and [set(group) for group in groups] == [{"id", "needs", "runs", "left", "done"}] * len(
        groups
    )
    by_id = {group["id"]: group for group in groups}
    assert all(need in by_id for group in groups for need in group["needs"])
    assert sum(len(group["runs"]) for group in groups) == 1 + 2 * 3 + 2  # teacher; three rows; FitNet's hints
    done = [group for group in groups if group["done"]]
    assert [group["runs"] for group in done] == [[teacher.label]]
    options = ("study", "--plan", "--seeds", "2", "--rows", "teacher,plain,kd,fitnet")
    told = kdnb(*options).out.splitlines()
    assert [line.split()[:2] for line in told] == [["done" if g["done"] else "missing", g["id"]] for g in groups]
    keep(kd)
    (group,) = (g for g in json.loads(kdnb(*options, "--json").out)["jobs"] if kd.label in g["runs"])
    assert kd.label not in group["left"] and len(group["left"]) == len(group["runs"]) - 1 > 0
    line = next(line for line in kdnb(*options).out.splitlines() if group["id"] in line)
    assert line.endswith(f"{len(group['left'])} of {len(group['runs'])} runs"), "what is stored is not missing"


def test_a_teacher_without_weights_is_not_done_while_somebody_needs_it(kdnb):
    kd = Run(experiment("kd", DEMO), 1)
    keep(kd.needs()[0])  # the record alone: weights do not always travel
    options = ("study", "--plan", "--json", "--seeds", "1", "--rows", "teacher,kd")
    assert [g["done"] for g in json.loads(kdnb(*options).out)["jobs"]] == [False, False]
    keep(kd)
    assert [g["done"] for g in json.loads(kdnb(*options).out)["jobs"]] == [True, True]


def test_rows_are_those_of_whichever_exhibit_has_them(kdnb):
    options = ("study", "--plan", "--json", "--exhibit", "comparison", "--seeds", "1")
    groups = json.loads(kdnb(*options, "--rows", "plain,kd-t4,crd-16").out)["jobs"]
    assert sum(len(group["runs"]) for group in groups) == 1 + 3
    assert "did you mean kd-t8" in kdnb(*options, "--rows", "kd-t5").err


def test_the_plan_is_the_same_whatever_is_stored(kdnb):
    before = json.loads(kdnb("study", "--plan", "--json").out)["jobs"]
    keep(Run(experiment("plain", DEMO), 1))
    after = json.loads(kdnb("study", "--plan", "--json").out)["jobs"]
    stored = {"done": 0, "left": 0}
    assert [g | stored for g in before] == [g | stored for g in after] and before != after


def test_hours_left_are_those_of_the_same_cells_and_a_teacher_says_nothing_of_its_students(kdnb):
    exhibit, store = exhibits.get("comparison/table1"), Store.open()
    cells = {cell.key: cell for cell in exhibit.cells("demo")}

    def lasts(row: str, hours: float) -> None:
        run = cells[row].runs(1)[0]
        cost = record(run).cost | {"wall_seconds": 3600 * hours}
        store.write(run, record(run, cost=cost), "comparison")

    def left() -> float | None:
        return status.progress(exhibit, "demo", store)["hours_left"]

    lasts("teacher", 100.0)
    assert left() is None
    lasts("plain", 1.0)
    seeds, students = exhibit.seeds("demo"), len(cells) - 1
    assert left() == seeds * students - 1
    lasts("kd", 3.0)
    assert left() == (seeds - 1) * (1 + 3) + seeds * (students - 2) * 2


def test_the_dashboard_counts_what_is_measured_and_says_what_cannot_run_and_why(kdnb):
    for seed in (1, 2):
        keep(Run(experiment("kd", DEMO), seed))
    keep(Run(experiment("plain", DEMO), 1))
    schedule = exhibits.get("comparison/schedule").cells("demo", "digits")
    keep(schedule[1].runs(1)[0])  # an ablation's record is not stale
    unknown = Run(experiment("kd", DEMO, arguments={"temperature": 3.0}), 1)
    stale = keep(unknown)
    found = kdnb("status", "--json")
    report = json.loads(found.out)
    by_name = {f"{e['paper']}/{e['exhibit']}": e for e in [*report["exhibits"], *report["ablations"]]}
    table = by_name["comparison/table1"]
    assert {"paper", "exhibit", "cells", "runnable", "measured"} <= set(table)
    assert table["cells"] == table["runnable"] == 34
    assert table["measured"] == {"demo": 2, "pilot": 0, "short": 0, "paper": 0}
    assert table["profiles"]["demo"]["runs"] == 3 and table["profiles"]["demo"]["wanted"] == 1 + 16 * 2
    assert table["profiles"]["demo"]["hours_left"] is not None and table["profiles"]["paper"]["hours_left"] is None
    assert [line["path"] for line in report["stale"]] == [str(stale)] and report["broken"] == []
    assert report["stale"][0]["what"] == "belongs to no cell of an exhibit as it is defined now"
    assert by_name["slkd/table3"]["runnable"] == 0 and "ImageNet" in by_name["slkd/table3"]["why_not"]
    assert by_name["slkd/table1"]["runnable"] == by_name["slkd/table1"]["cells"] == 66
    assert by_name["slkd/table1"]["profiles"]["pilot"]["cells"] == 33
    assert "comparison/kd-alpha" in by_name and table["why_not"] == ""
    stale.write_text("torn")
    told = kdnb("status", "comparison/table1,slkd/table4,leaderboard/first,leaderboard/tuning").out
    assert "comparison/table1: 34 cells, 34 can run" in told and f"broken: {stale}" in told
    assert "slkd/table4: 9 cells, 0 can run (ImageNet is not among" in told
    assert "71 can run (“Plain, tuned”, “KD, tuned”: its settings are not chosen yet: " in told
    assert "leaderboard/tuning: 12 cells, 12 can run\n" in told, "what runs at pilot scale alone can run"
    of_one = kdnb("status", "comparison/table1").out.splitlines()
    assert of_one[0].startswith("comparison/table1: 34 cells") and of_one[1].endswith("3 of 33 runs, minutes left")
    assert "    kd: demo 2" in of_one and "    fitnet: no run" in of_one


# -- runs --------------------------------------------------------------------------------------------------


def test_a_stored_run_is_shown_at_once(kdnb, monkeypatch):
    path = keep(Run(experiment("kd", DEMO), 4), 0.8125)

    def trained(self: Cohort) -> None:
        raise AssertionError("a stored run was trained again")

    monkeypatch.setattr(Cohort, "steps", trained)
    assert "stored already, trained in " in kdnb("run", "kd", "--seed", "4", "--dtype", "float32").err
    found = kdnb("run", "kd", "--seed", "4")
    assert found.code == 0 and "stored already" not in found.err
    told = dict(line.split() for line in found.out.splitlines())
    assert told["headline"] == "0.8125" and told["record"] == str(path)


def test_a_stored_run_of_other_sources_says_why_it_counts(kdnb):
    keep(Run(experiment("kd", DEMO), 4))  # whose sources are not told
    told = kdnb("run", "kd", "--seed", "4").err
    assert "recorded by other sources (unknown) than today's" in told and "it counts" in told


@pytest.fixture
def tiny_demo(monkeypatch):
    """The demo as small as it can be."""
    tiny = Profile("demo", Fraction(1), at_most=1, student_images=100, scale="demo")
    monkeypatch.setitem(profile.PROFILES, "demo", tiny)


@pytest.mark.usefixtures("tiny_demo")
def test_a_study_trains_what_is_missing_and_nothing_twice(kdnb):
    keep_teacher(experiment("kd", PROFILES["demo"]))
    found = kdnb("study", "--rows", "plain,kd", "--seeds", "2", "--device", "cpu")
    assert found.code == 0 and "4 runs recorded, 0 failed, 0 left" in found.err
    again = kdnb("study", "--rows", "plain,kd", "--seeds", "2", "--device", "cpu")
    assert again.code == 0 and "0 runs recorded, 0 failed, 0 left" in again.err and "epoch" not in again.err
    assert "all 4 asked for are stored already" in again.err and "stored already" not in found.err


@pytest.mark.usefixtures("tiny_demo")
def test_one_job_of_the_plan_is_trained_alone(kdnb):
    keep_teacher(experiment("kd", PROFILES["demo"]))
    groups = json.loads(kdnb("study", "--plan", "--json", "--rows", "plain,kd", "--seeds", "2").out)["jobs"]
    wanted = next(g for g in groups if not g["done"])
    found = kdnb("study", "--rows", "plain,kd", "--seeds", "2", "--job", wanted["id"])
    assert found.code == 0 and "2 runs recorded" in found.err
    after = json.loads(kdnb("study", "--plan", "--json", "--rows", "plain,kd", "--seeds", "2").out)["jobs"]
    assert [g["id"] for g in after if g["done"]] == [g["id"] for g in groups if g["done"] or g is wanted]


@pytest.mark.usefixtures("tiny_demo")
def test_a_budget_that_is_over_leaves_everything_for_later(kdnb):
    found = kdnb("study", "--rows", "plain", "--seeds", "2", "--budget", "1s")
    assert found.code == 0 and "0 runs recorded, 0 failed, 2 left" in found.err


def test_shortened_trials_are_shown_in_no_table(kdnb):
    found = kdnb("study", "--rows", "plain", "--seeds", "1", "--epochs", "1")
    assert found.code == 0 and "1 runs recorded" in found.err
    (stored,) = Store.open().all()
    assert stored.experiment["profile"]["name"].startswith("custom-") and stored.metrics["epochs"] == 1
    assert exhibits.measure(exhibits.get("comparison/table1"), "demo", "digits").empty
    assert json.loads(kdnb("status", "comparison/table1", "--json").out)["stale"] == []


def test_without_seeds_a_demo_trains_what_it_has_time_for(kdnb):
    def seeds(*options):
        groups = json.loads(kdnb("study", "--plan", "--json", *options).out)["jobs"]
        return {run.rpartition(" ")[2] for group in groups for run in group["runs"]}

    assert seeds("--exhibit", "slkd/table1") == {"0", "1"}
    assert seeds("--exhibit", "slkd/table1", "--seeds", "2") == {"0", "1", "2"}
    assert seeds("--exhibit", "slkd/table1", "--profile", "pilot") == {"0", "1", "2", "3"}
    assert seeds("--exhibit", "comparison/kd-alpha") == {"0", "1"}
    assert seeds("--exhibit", "comparison/table1") == {"0", "1", "2"}


def test_a_run_is_filed_under_its_own_paper(empty_project):
    wanted = Run(experiment("plain"), 1)
    Runner(Store.open(), detect("cpu"), {wanted.experiment.fingerprint: "slkd"}, say=lambda line: None).run([wanted])
    assert "slkd" in Store.open().get(*wanted.key).path.parts


# -- a record again ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny_demo")
def test_a_record_is_repeated_under_its_own_numerics_and_nothing_of_it_stays(kdnb, empty_project, tmp_path):
    assert kdnb("run", "plain", "--seed", "3").code == 0
    (stored,) = Store.open().all()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"}
    found = kdnb("run", "--like", str(stored.path))
    assert found.code == 0 and found.out.startswith("equal: ")
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert after == before


@pytest.mark.usefixtures("tiny_demo")
def test_where_a_record_is_not_repeated_is_told(kdnb, tmp_path):
    kdnb("run", "plain")
    (stored,) = Store.open().all()
    content = json.loads(stored.path.read_text(encoding="utf-8"))
    content["metrics"]["headline"] += 0.25
    content["history"]["ce"][0] += 1
    content["environment"]["numerics"]["torch_version"] = "2.0"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content), encoding="utf-8")
    found = kdnb("run", "--like", str(other))
    assert found.code == 1
    assert "differs: headline: " in found.out and "differs: history of ce: from epoch 1 on" in found.out
    assert "torch version 2.0 there" in found.out and "differs: last" not in found.out


def test_a_record_that_cannot_be_repeated_is_refused(kdnb, tmp_path):
    assert "--like RECORD.json" in kdnb("run").err
    assert "there is no such file" in kdnb("run", "--like", str(tmp_path / "none.json")).err
    path = keep(Run(experiment("plain"), 1))  # a profile of the tests
    found = kdnb("run", "--like", str(path))
    assert found.code == 2 and "belongs to no cell" in found.err


def test_the_version_is_said(kdnb):
    from kdnb import __version__

    assert kdnb("--version").out == f"kdnb {__version__}\n"


def test_an_import_says_what_it_did(kdnb, tmp_path, monkeypatch):
    from kdnb.study.archives import export_store

    keep(Run(experiment("plain"), 1))
    export_store(Store.open(), tmp_path / "out.tar.gz")
    told = "archives read: 1; records taken: {}; checkpoints taken: 0; refused: 0"
    assert told.format(0) in kdnb("import", str(tmp_path / "out.tar.gz")).out
    monkeypatch.setenv("KDNB_STORE", str(tmp_path / "elsewhere"))
    assert told.format(1) in kdnb("import", str(tmp_path / "out.tar.gz")).out


def test_an_import_that_refuses_something_says_so_by_its_exit_code(kdnb, tmp_path, monkeypatch):
    import tarfile

    monkeypatch.setenv("KDNB_STORE", str(tmp_path / "elsewhere"))
    (tmp_path / "seed1.json").write_text('{"seed": 1}', encoding="utf-8")
    with tarfile.open(tmp_path / "out.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "seed1.json", "results/comparison/pilot/cifar100/a-b/kd/seed1.json")
    answer = kdnb("import", str(tmp_path / "out.tar.gz"))
    assert answer.code == 1 and "records taken: 0; checkpoints taken: 0; refused: 1" in answer.out
    (tmp_path / "text.tar.gz").write_text("no archive", encoding="utf-8")
    answer = kdnb("import", str(tmp_path / "text.tar.gz"))
    assert answer.code == 2 and answer.err.count("\n") == 1 and "text.tar.gz is not a whole archive" in answer.err


def test_where_an_export_goes_is_tried_before_anything_is_trained(kdnb, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "_train", lambda *arguments: pytest.fail("it has begun to train"))
    (tmp_path / "file").touch()
    answer = kdnb("study", "--export", str(tmp_path / "file" / "out.tar.gz"))
    assert answer.code == 2 and "out.tar.gz cannot be written" in answer.err


def test_an_export_onto_a_file_of_somebody_is_refused_before_anything_is_trained(kdnb, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "_train", lambda *arguments: pytest.fail("it has begun to train"))
    (tmp_path / "mine.txt").write_text("my words", encoding="utf-8")
    answer = kdnb("study", "--export", str(tmp_path / "mine.txt"))
    assert answer.code == 2 and answer.err.count("\n") == 1 and "mine.txt is no archive of an export" in answer.err
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "my words"


@pytest.mark.parametrize(("ended", "code"), [(0, 1), (4, 4)])
def test_an_export_that_cannot_be_written_is_said_and_hides_no_exit_code(ended, code, kdnb, tmp_path, monkeypatch):
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cli, "_train", lambda *arguments: (Store.open(), ended))
    monkeypatch.setattr("os.fsync", full)
    answer = kdnb("study", "--export", str(tmp_path / "out.tar.gz"))
    assert answer.code == code and answer.err.count("\n") == 1
    assert "out.tar.gz could not be written (No space left on device)" in answer.err
    assert "Free some space or name another file" in answer.err


STREAMS = {"a full disk": (">/dev/full", 1), "no streams": (">&- 2>&-", 0)}


@pytest.mark.parametrize(("redirected", "code"), STREAMS.values(), ids=STREAMS)
def test_an_answer_that_cannot_be_written_is_one_sentence(redirected, code):
    line = f"'{sys.executable}' -m kdnb data list {redirected}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stderr == (
        "kdnb: The answer could not be written (No space left on device); send it elsewhere.\n" * code
    )
