"""The plan: what needs what, what belongs together, and what makes an experiment another one."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from study_samples import TINY, experiment, keep, keep_teacher

from kdnb import exhibits, growth, methods, models
from kdnb.errors import KdnbError
from kdnb.exhibits import ablations, all_exhibits, comparison
from kdnb.exhibits.wanted import of_cell
from kdnb.methods.recipe import Recipe
from kdnb.randomness import keyed_seed
from kdnb.study import experiment as experiments
from kdnb.study import plan
from kdnb.study.experiment import Experiment, Images, Run
from kdnb.study.profile import PROFILES
from kdnb.study.record import read
from kdnb.study.store import Store, record_path

pytestmark = pytest.mark.usefixtures("empty_project")
TABLE = comparison.TABLE_1
ROOT = Path(__file__).resolve().parents[1]


def table(profile: str = "demo", seeds: int = 3) -> list[Run]:
    dataset = TABLE.datasets_of(profile)[0]
    cells = TABLE.cells(profile, dataset)
    return [run for cell in cells for run in of_cell(cell, seeds)]


# -- needs and jobs ----------------------------------------------------------------------------------------


def test_needs_come_before_users_and_each_once():
    runs = plan.with_needs(reversed(table()))
    keys = [run.key for run in runs]
    assert len(set(keys)) == len(keys)
    for place, run in enumerate(runs):
        assert all(keys.index(need.key) < place for need in run.needs())
    shared = [run for run in runs if run.experiment.stage is not None]
    # fitnet, fsp and pkt, each with and without KD, share one first stage a seed
    assert sorted((r.experiment.method, r.experiment.stage, r.seed) for r in shared) == sorted(
        (m, s, seed) for m, s in (("fitnet", "hint"), ("fsp", "flow"), ("pkt", "kernel")) for seed in (1, 2, 3)
    )
    assert len(runs) == 1 + 3 * 16 + 3 * 3


@pytest.mark.parametrize("profile", PROFILES)
def test_jobs_hold_every_run_once_and_need_no_circle(profile):
    runs = table(profile)
    jobs = plan.jobs(runs)
    ids = [job.id for job in jobs]
    assert len(set(ids)) == len(ids)
    held = [run.key for job in jobs for run in job.runs]
    assert sorted(held) == sorted(run.key for run in plan.with_needs(runs))
    for place, job in enumerate(jobs):
        assert all(ids.index(need) < place for need in job.needs)  # in order: no circle
        assert len({(run.seed, run.experiment.images, run.experiment.profile) for run in job.runs}) == 1
        for need in {need.key for run in job.runs for need in run.needs()}:
            (home,) = [g.id for g in jobs if need in {r.key for r in g.runs}]
            assert home in job.needs
    assert plan.jobs(list(reversed(runs)))[0].id == jobs[0].id  # a job's name does not depend on the order


def test_of_stored_runs_nothing_is_missing_and_needs_only_where_needed():
    kd, plain = Run(experiment("kd"), 1), Run(experiment("plain"), 1)
    teacher, hint = kd.needs()[0], Run(experiment("fitnet"), 1).needs()[1]
    assert plan.missing([kd, plain], Store.open()) == [teacher, kd, plain]
    keep(teacher)  # a record without weights teaches nobody
    assert plan.missing([kd, teacher], Store.open()) == [teacher, kd]
    keep_teacher(kd.experiment)
    assert plan.missing([kd], Store.open()) == [kd]
    assert plan.missing([Run(experiment("fitnet"), 1)], Store.open())[0] == hint
    keep(kd)
    assert plan.missing([kd], Store.open()) == []


def test_runs_of_different_teachers_never_share_a_cohort():
    """A plain student could join either; then the two would have one teacher between them."""
    plain, kd = experiment("plain"), experiment("kd")
    other = dataclasses.replace(kd, teacher=dataclasses.replace(kd.teacher, network="resnet20"))
    runs = [Run(e, 1) for e in (plain, other, kd)]
    assert plan.alike(runs[0], runs) == [runs[0], runs[1]]
    assert plan.alike(runs[2], runs) == [runs[0], runs[2]]
    assert plan.alike(runs[0], [runs[0], Run(kd, 2), runs[2]]) == [runs[0], runs[2]]


# -- what runs keep ----------------------------------------------------------------------------------------


def test_what_a_run_keeps_makes_no_other_run_of_it():
    bare, drawn = Run(BASE, 1), Run(BASE, 1, keeps=("plane",))
    assert bare == drawn and hash(bare) == hash(drawn) and bare.key == drawn.key and len({bare, drawn}) == 1
    assert record_path(bare, "slkd") == record_path(drawn, "slkd") and "plane" not in json.dumps(BASE.canonical())
    assert bare.keeping(()) is bare and drawn.keeping(["plane"]) is drawn
    assert drawn.keeping(["logits_by_class", "plane"]).keeps == ("plane", "logits_by_class")
    assert all(not need.keeps for need in Run(experiment("fitnet"), 1, keeps=("plane",)).needs())


def test_a_run_cannot_keep_what_it_does_not_have():
    with pytest.raises(KdnbError, match="did you mean plane"):
        Run(BASE, 1, keeps=("plain",))
    with pytest.raises(KdnbError, match=r"'logits_by_class' compares .* plain resnet8 on digits, seed 1 has none"):
        Run(experiment("plain"), 1, keeps=("plane", "logits_by_class"))
    (stage,) = experiment("fitnet").shared_stages()
    with pytest.raises(KdnbError, match="only whole runs keep measurements"):
        Run(stage, 1, keeps=("plane",))


def test_a_run_that_is_wanted_twice_keeps_what_either_keeps():
    """Two figures of one run, and a table that needs none: trained once, for all of them."""
    kd, plain = experiment("kd"), experiment("plain")
    wanted = [Run(kd, 1), Run(plain, 1), Run(kd, 1, ("plane",)), Run(kd, 1, ("logits_by_class",)), Run(kd, 1)]
    bare = [Run(kd, 1), Run(plain, 1)]
    for runs in (plan.with_needs(wanted), plan.missing(wanted, Store.open()), plan.missing(iter(wanted), Store.open())):
        assert [run.keeps for run in runs] == [(), ("plane", "logits_by_class"), ()]
    held, alike = plan.jobs(iter(wanted)), plan.jobs(bare)
    assert [job.id for job in held] == [job.id for job in alike] and held == alike
    assert [run.keeps for job in held for run in job.runs] == [(), ("plane", "logits_by_class"), ()]


def test_a_teacher_keeps_what_is_wanted_of_it_though_its_students_ask_for_less():
    kd = Run(experiment("kd"), 1)
    teacher = kd.needs()[0]
    for runs in ([kd, teacher.keeping(["plane"])], [teacher.keeping(["plane"]), kd]):
        assert [run.keeps for run in plan.missing(runs, Store.open())] == [("plane",), ()]
    keep_teacher(kd.experiment)
    store = Store.open()
    assert plan.missing([kd, teacher], store) == [kd]
    assert plan.missing([kd, teacher.keeping(["plane"])], store) == [teacher, kd]


def test_a_record_without_the_arrays_of_its_figure_is_missing():
    bare, drawn = Run(BASE, 1), Run(BASE, 1, ("plane",))
    keep_teacher(BASE)
    keep(bare)
    store = Store.open()
    assert store.has(bare) and not store.has(drawn) and plan.missing([bare], store) == []
    assert plan.missing([bare, drawn], store) == [drawn]
    keep(drawn)
    store = Store.open()
    assert store.has(bare) and store.has(drawn) and plan.missing([bare, drawn], store) == []
    assert plan.missing([drawn.keeping(["logits_by_class"])], store) == [drawn]


# -- fingerprints ------------------------------------------------------------------------------------------


def test_fingerprints_of_the_published_study_do_not_move():
    """Whoever changes one of these throws the stored records away: raise a revision instead, and mean it."""
    demo = PROFILES["demo"]
    assert experiment("plain", demo).fingerprint == "19a05c4e774cf592"
    assert experiment("kd", demo).fingerprint == "1f136dc4a24011e7"
    assert experiment("fitnet+kd", demo).shared_stages()[0].fingerprint == "6123f4f6275c8391"
    assert comparison.teacher(demo, "digits").fingerprint == "c79310755d4e3938"
    assert keyed_seed(1, "network", "resnet20") == 2398003251864864491
    assert keyed_seed(1) != keyed_seed("1")


BASE = experiment("kd")


@dataclasses.dataclass(frozen=True)
class Grown(Recipe):
    """A recipe with a field that came later."""

    lookahead: int = growth.later(0)


def test_a_field_that_came_later_counts_only_where_it_says_something():
    before = dataclasses.replace(BASE)
    grown = dataclasses.replace(BASE, recipe=Grown(**growth.told(BASE.recipe)))
    assert grown.fingerprint == before.fingerprint
    other = dataclasses.replace(grown, recipe=dataclasses.replace(grown.recipe, lookahead=5))
    assert other.fingerprint != before.fingerprint and other.canonical()["recipe"]["lookahead"] == 5


def test_an_argument_that_came_later_counts_only_where_it_says_something(tmp_path):
    """Behind the `*`: at its default it is left out, and the method is what it was."""
    text = '@method("mine", revision=1)\ndef mine(setup, weight: float = 1.0, *, layers: int = 3): ...\n'
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    (mine,) = methods.registry.found_in(tmp_path).values()
    assert mine.told({"weight": 2}) == {"weight": 2.0} == mine.told({"weight": 2.0, "layers": 3})
    assert mine.told({"layers": 4}) == {"weight": 1.0, "layers": 4}
    assert mine.arguments({}) == {"weight": 1.0, "layers": 3}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '@method("m", revision=1)\ndef m(setup, t: float = 4.0 / 2): ...\n',
            "m.py, line 2: the default of 't'",
        ),
        ('@method("m", revision=N)\ndef m(setup): ...\n', "m.py, line 1: 'revision' has to be written out"),
        ('@method("m")\ndef m(setup): ...\n', "m.py, line 2: method 'm' needs a revision; a new one says revision=1"),
        ("@method(revision=1)\ndef m(setup): ...\n", "m.py, line 1: @method needs a name first"),
        ("def m(setup:\n", "m.py, line 1: this is no Python"),
        ('@method("m", revision=1)\ndef m(setup, t: float = 4.0 / 2): ...\n', "'4.0 / 2' is not, write 2.0."),
        ('@method("m", revision=1)\ndef m(setup, t: int = len("ab")): ...\n', "'len('ab')' is not."),
        (
            '@method("m", revision=1)\ndef m(setup, t: float): ...\n',
            "m.py, line 2: 't' of method 'm' needs an annotation",
        ),
        (
            '@method("m", revision=1)\ndef m(setup, *, t: float): ...\n',
            "m.py, line 2: 't' of method 'm' needs an annot",
        ),
        ('@method("m", revision=1)\ndef m(setup, t=1.0): ...\n', "and a default, as in 't: float = 1.0'"),
        ('@method("m", revision=1)\ndef m(setup, **more): ...\n', "m.py, line 2: method 'm' takes the set-up first"),
        ('@method("m", revison=1, revision=1)\ndef m(setup): ...\n', "'revison'; did you mean revision?"),
        ('@method("m", revision="1")\ndef m(setup): ...\n', "revision of method 'm' has to be of the kind int"),
        ('@method("m", revision=1, shared=("hint"))\ndef m(setup): ...\n', "'hint' is not; write ('hint',)."),
        ("@method(3, revision=1)\ndef m(setup): ...\n", "m.py, line 1: the name 3 is no text"),
    ],
)
def test_a_file_of_methods_that_cannot_be_read_is_named_with_its_line(text, told, tmp_path):
    (tmp_path / "m.py").write_text(text, encoding="utf-8")
    with pytest.raises(KdnbError, match=re.escape(told)):
        methods.registry.found_in(tmp_path)


def test_a_file_of_methods_in_another_encoding_is_named(tmp_path):
    (tmp_path / "m.py").write_bytes("# Köln\n".encode("latin-1"))
    with pytest.raises(KdnbError, match="UTF-8"):
        methods.registry.found_in(tmp_path)


def test_every_committed_record_is_that_of_a_cell(monkeypatch):
    """Nothing that is published may become stale by a change of the code: neither a field nor a revision.

    Some cells have settings that other published records choose.
    """
    monkeypatch.setattr("kdnb.paths.committed_results", lambda: ROOT / "data" / "results")
    known = {
        run.experiment.fingerprint
        for exhibit in [*all_exhibits(), *ablations()]
        for profile in PROFILES
        for dataset in exhibit.datasets_of(profile)
        for cell in exhibit.cells(profile, dataset)
        for run in plan.with_needs(cell.runs(1))
    }
    records = [read(path) for path in sorted((ROOT / "data" / "results").rglob("seed*.json"))]
    assert len(records) > 60
    assert [str(record.path) for record in records if record.fingerprint not in known] == []


#: No digits are without labels, and a method of labels does without none: what is learned from is told of others.
LABEL_FREE = dataclasses.replace(
    BASE, method="match-pkt", arguments={}, images=dataclasses.replace(BASE.images, dataset="stl10")
)

CHANGES: dict[str, Experiment] = {
    "label-free": LABEL_FREE,
    "images.learned": dataclasses.replace(
        LABEL_FREE, images=dataclasses.replace(LABEL_FREE.images, learned="unlabelled")
    ),
    "epochs": dataclasses.replace(BASE, profile=dataclasses.replace(TINY, at_most=3)),
    "factor": dataclasses.replace(BASE, profile=dataclasses.replace(TINY, factor=Fraction(1, 8))),
    "profile": dataclasses.replace(BASE, profile=dataclasses.replace(TINY, name="demo")),
    "network": dataclasses.replace(BASE, network="resnet14"),
    "method": dataclasses.replace(BASE, method="crd+kd"),
    "argument": dataclasses.replace(BASE, arguments={**BASE.arguments, "temperature": 4.0}),
    "teacher": dataclasses.replace(BASE, teacher=dataclasses.replace(BASE.teacher, network="resnet20")),
    "teacher's recipe": dataclasses.replace(
        BASE, teacher=dataclasses.replace(BASE.teacher, recipe=dataclasses.replace(comparison.LONG, lr=0.3))
    ),
    "no teacher": dataclasses.replace(BASE, teacher=None),
    "stage": dataclasses.replace(BASE, stage="hint"),
    "teachers": dataclasses.replace(BASE, teachers="of each seed"),
    "start": dataclasses.replace(BASE, start=experiment("plain")),
    **{
        f"recipe.{name}": dataclasses.replace(BASE, recipe=dataclasses.replace(BASE.recipe, **{name: value}))
        for name, value in {
            "epochs": 201, "batch_size": 65, "lr": 0.11, "milestones": (80,), "momentum": 0.8,
            "weight_decay": 1e-4, "factor": 0.2, "selection": "last", "optimiser": "adam", "nesterov": True,
            "restart": "drop", "norm_scale": "uniform",
        }.items()
    },
    **{
        f"images.{name}": dataclasses.replace(BASE, images=dataclasses.replace(BASE.images, **{name: value}))
        for name, value in {
            "dataset": "cifar100", "split": "test", "mean": (0.5,) * 3, "std": (0.5,) * 3, "student_images": 151,
            "padding_mode": "reflect", "per_class": 5,
        }.items()
    },
}  # fmt: skip


def test_every_field_makes_another_experiment():
    prints = {name: changed.fingerprint for name, changed in CHANGES.items()} | {"base": BASE.fingerprint}
    alike = [(a, b) for a, b in itertools.combinations(prints, 2) if prints[a] == prints[b]]
    assert not alike
    told = {field.name for field in dataclasses.fields(Experiment)} - {"note"}
    covered = {"profile", "images", "network", "recipe", "method", "arguments", "teacher", "stage", "teachers", "start"}
    assert told == covered  # a new field needs a line above
    assert {f.name for f in dataclasses.fields(BASE.recipe)} == {n[7:] for n in CHANGES if n.startswith("recipe.")}
    assert {f.name for f in dataclasses.fields(Images)} == {n[7:] for n in CHANGES if n.startswith("images.")}


@pytest.mark.parametrize("room", ["engine", "network", "method", "data"])
def test_a_revision_makes_another_experiment(room, monkeypatch):
    before = BASE.fingerprint
    fresh = dataclasses.replace(BASE)
    if room == "engine":
        monkeypatch.setattr(experiments, "ENGINE_REVISION", 99)
    elif room == "network":
        monkeypatch.setattr(models, "revision", lambda name: 99)
    elif room == "method":
        monkeypatch.setattr(methods, "get", lambda name: dataclasses.replace(methods.registry.get(name), revision=99))
    else:
        monkeypatch.setattr(experiments, "identity", lambda name: {"train": "0", "test": "0"})
    assert fresh.fingerprint != before


def test_what_is_no_part_of_an_experiment_does_not_change_it():
    """Arguments at their defaults, a note for people, the paper that asks, the order of arguments, the seed."""
    method = methods.get("kd")
    spelled = dataclasses.replace(BASE, arguments={**method.defaults, **BASE.arguments})
    assert spelled.fingerprint == BASE.fingerprint
    turned = dataclasses.replace(BASE, arguments=dict(reversed(BASE.arguments.items())), note="something")
    assert turned.fingerprint == BASE.fingerprint and turned == dataclasses.replace(BASE, arguments=turned.arguments)
    assert Run(BASE, 1).key[0] == Run(BASE, 2).key[0]
    assert record_path(Run(BASE, 1), "comparison") != record_path(Run(BASE, 1), "slkd")
    assert json.loads(json.dumps(BASE.canonical())) == BASE.canonical()  # what a record keeps is what was hashed
    assert "seed" not in json.dumps(BASE.canonical()) and "comparison" not in json.dumps(BASE.canonical())


def test_a_shared_stage_depends_on_its_own_arguments_alone():
    def stage(key: str, **arguments: object) -> str:
        changed = experiment(key)
        changed = dataclasses.replace(changed, arguments={**changed.arguments, **arguments})
        (found,) = changed.shared_stages()
        return found.fingerprint

    assert stage("fitnet") == stage("fitnet+kd") == stage("fitnet+kd", temperature=2.0)
    assert stage("fitnet") != stage("fitnet", hint_epochs=30) == stage("fitnet+kd", hint_epochs=30)


def test_an_override_of_the_epochs_is_in_no_table():
    limited = PROFILES["paper"].limited(1)
    assert limited.name.startswith("custom-") and limited.limited(None) is limited
    assert limited.name != PROFILES["short"].limited(1).name != PROFILES["short"].limited(2).name
    table_prints = {c.experiment.fingerprint for p in PROFILES for d in TABLE.datasets_of(p) for c in TABLE.cells(p, d)}
    cells = TABLE.cells(limited, "cifar100")
    assert not {c.experiment.fingerprint for c in cells} & table_prints
    assert {c.experiment.network for c in cells} == {"resnet56", "resnet20"}  # the scale stays


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda: exhibits.get("comparison/table"), "did you mean comparison/table1"),
        (lambda: exhibits.select("comparision"), "did you mean comparison"),
        (lambda: TABLE.row("fitnet+kdd"), r"did you mean fitnet\+kd"),
        (lambda: TABLE.cells("demo", "digit"), "did you mean digits"),
        (lambda: TABLE.cells("papr", "cifar100"), "did you mean paper"),
        (lambda: models.revision("resnet21"), "did you mean resnet"),
        (lambda: methods.get("fitnett"), "did you mean fitnet"),
        (lambda: methods.get("crd+k"), r"did you mean crd\+kd"),
        (lambda: experiment("kd", arguments={"temprature": 2}).fingerprint, "did you mean temperature"),
    ],
)
def test_an_unknown_name_is_answered_by_the_nearest(ask, answer):
    with pytest.raises(KdnbError, match=answer):
        ask()


# -- nothing that plans or shows waits for torch -----------------------------------------------------------

SHOWING = """
import sys
from kdnb import exhibits
from kdnb.exhibits.show import show
from kdnb.study import plan
from kdnb.study.store import Store
shown = show("comparison/table1", rows=["plain", "kd"], profile="demo")
assert len(shown.missing) == int(sys.argv[1]), shown.missing
exhibits.measure(exhibits.get("comparison/table1"), "demo", "digits")
runs = [r for e in exhibits.all_exhibits() for c in e.cells("demo", "digits") for r in c.runs(3)]
assert plan.jobs(runs) and plan.missing(runs, Store.open())
import kdnb.cli
for command in (["run", "kd", "--seed", "9"], ["status"], ["study", "--plan", "--json"]):
    sys.argv = ["kdnb", *command]
    try:
        kdnb.cli.main()
    except SystemExit as done:
        assert not done.code
print(sorted({"torch", "torchvision", "matplotlib", "jupyter", "papermill", "snakemake"} & set(sys.modules)))
"""


def test_planning_and_showing_import_no_torch(tmp_path):
    project = tmp_path / "project"  # a project without records of its own
    environment = {**os.environ, "KDNB_BATCH": "1", "KDNB_STORE": str(tmp_path / "store")}
    start = f"from pathlib import Path; import kdnb.paths as p; p.demo_results = lambda: Path({str(project)!r})\n"
    keep(Run(experiment("kd", PROFILES["demo"]), 9))
    command = [sys.executable, "-c", start + SHOWING, "6"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    plan_printed = done.stdout[done.stdout.index("{") : done.stdout.rindex("[]")]
    assert json.loads(plan_printed)["cohorts"] and "headline  0.5" in done.stdout


def test_no_job_is_larger_than_what_trains_side_by_side(monkeypatch):
    monkeypatch.setattr(plan, "LARGEST_COHORT", 3)
    runs = [Run(experiment(key), 1) for key in ("plain", "kd", "fitnet", "fitnet+kd", "mmd-linear", "pkt", "crd")]
    found = plan.jobs(runs)
    assert max(len(job.runs) for job in found) <= 3
    held = [run.key for job in found for run in job.runs]
    assert len(held) == len(set(held)) and set(held) == {run.key for run in plan.with_needs(runs)}
    home = {run.key: job.id for job in found for run in job.runs}
    for job in found:
        assert set(job.needs) == {home[need.key] for run in job.runs for need in run.needs()} - {job.id}
    assert sorted(len(part) for _, part in plan._parts(("key",), runs)) == [2, 2, 3]  # not three, three and one
