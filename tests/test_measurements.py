"""The register of measurements: its contract, one that is followed over epochs, and retrieval of a trained student."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from study_samples import TINY, experiment, record

from kdnb import analysis
from kdnb.analysis import Measurement, Observed, Subject, registry
from kdnb.errors import KdnbError
from kdnb.evaluation.retrieval import averages, retrieval
from kdnb.study import plan
from kdnb.study.experiment import TEACHER_SEED, Run
from kdnb.study.predictions import predictions
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.training.numerics import detect

NUMERICS = detect("cpu", threads=1)
PLAIN = experiment("plain", dataclasses.replace(TINY, at_most=3))
#: The paper's epochs that the first and the last of these three stand for.
FIRST, END = PLAIN.recipe.epochs // 3, PLAIN.recipe.epochs


@pytest.fixture
def register(monkeypatch):
    """Makes a measurement known for the length of a test."""

    def register(name: str, compute, **fields) -> Measurement:
        entry = Measurement(name, given=compute, **fields)
        known = dict(registry.catalogue())
        registry.add(known, entry)
        monkeypatch.setitem(registry.catalogue(), name, entry)
        return entry

    return register


def runner(store: Store, **changes) -> Runner:
    return Runner(store, NUMERICS, "comparison", say=lambda line: None, **changes)


# -- the contract ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (({"a": np.ones(2)}, {}), "gave"),
        (({"b": np.ones(2)}, {"m": 1.0}), "gave"),
        (({"a": np.array([1.0, np.nan])}, {"m": 1.0}), "a of measurement 'x' would not be finite"),
        (({"a": np.ones(2)}, {"m": float("inf")}), "m of measurement 'x' would not be finite"),
    ],
)
def test_a_measurement_keeps_its_word(found, says, register):
    entry = register("x", lambda subject: found, arrays=("a",), metrics=("m",))
    with pytest.raises(KdnbError, match=says):
        entry.of(None)


@pytest.mark.parametrize("names", [("x", ("b",), ()), ("y", ("a",), ()), ("y", ("b",), ("m",)), ("y", ("plane",), ())])
def test_two_measurements_share_no_name(names, register):
    register("x", None, arrays=("a",), metrics=("m",))
    name, arrays, metrics = names
    with pytest.raises(KdnbError, match="is a name of another measurement"):
        register(name, None, arrays=arrays, metrics=metrics)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "names neither arrays nor metrics"),
        ({"arrays": ("a",), "at": (0, 1)}, "only numbers are"),
        (
            {"metrics": ("m",), "needs": ("teachers",)},
            "needs 'teachers', which no measurement is given; there are teacher",
        ),
    ],
)
def test_an_entry_that_breaks_the_contract_is_refused(fields, says, register):
    with pytest.raises(KdnbError, match=says):
        register("x", None, **fields)


def test_every_run_is_measured_by_what_is_always_asked():
    every = {name: analysis.get(name).metrics for name in analysis.ALWAYS}
    assert set(every["accuracy"]) >= {"headline", "all_images"} and "ece" in every["calibration"]
    assert analysis.get("fidelity").needs == ("teacher",)


# -- after training ----------------------------------------------------------------------------------------


def test_a_measurement_sees_training_images_and_the_modules_of_the_last_stage(register):
    """It is named by the run that keeps it; a record that has its metrics is not measured again."""

    def compute(subject: Subject):
        assert subject.training is not None
        seen = subject.student.over(subject.training)
        assert seen is subject.student.over(subject.training) and seen.network is subject.student.network
        return {}, {"images": float(len(seen.outputs.logits)), "modules": float(len(subject.modules))}

    register("sizes", compute, metrics=("images", "modules"), needs=("training", "modules"))
    store, run = Store.open(), Run(PLAIN, 1, keeps=("sizes",))
    runner(store).run([run]).check()
    assert {n: store.get(*run.key).metrics[n] for n in ("images", "modules")} == {"images": 150.0, "modules": 1.0}
    assert store.has(run) and store.kept(run) == ["sizes"] and not plan.missing([run], store)


def test_retrieval_of_a_student_is_that_of_its_embeddings():
    store, run = Store.open(), Run(PLAIN, 1, keeps=("retrieval",))
    seen: dict[str, Observed] = {}
    entry = analysis.get("retrieval")

    def compute(subject: Subject):
        seen["queries"], seen["database"] = subject.student, subject.student.over(subject.training)
        return entry.compute(subject)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.catalogue(), "retrieval", dataclasses.replace(entry, given=compute))
        runner(store).run([run]).check()
    metrics, (queries, database) = store.get(*run.key).metrics, (seen["queries"], seen["database"])
    for distance in ("euclidean", "cosine"):
        embedded = [(o.outputs.embeddings, o.images.labels.numpy()) for o in (queries, database)]
        for name, value in retrieval(*embedded[0], *embedded[1], distance, at=100).items():
            assert metrics[f"{name}_{distance}"] == pytest.approx(value, rel=1e-5)
        told = predictions(store, store.get(*run.key)).columns[f"average_precision_{distance}"]
        exact = averages(*embedded[0], *embedded[1], distance).average_precision.numpy()
        assert np.abs(told - exact).max() <= 0.5 / 15 + 1e-6 and exact.mean() == pytest.approx(
            metrics[f"map_{distance}"], rel=1e-5
        )
    assert metrics["map_cosine"] > 0.1  # of ten classes


def test_a_run_that_was_measured_before_a_column_came_is_whole():
    store, run = Store.open(), Run(PLAIN, 1, keeps=("retrieval",))
    entry = analysis.get("retrieval")
    before = record(run, metrics=dict.fromkeys(entry.metrics, 0.5))
    store.write(run, before, "comparison")
    assert entry.columns and store.has(run) and not store.lacking(run)


def test_one_ranking_serves_all_that_is_measured_of_it(monkeypatch):
    """Retrieval and its recall levels rank the same images: once by each distance."""
    ranked = []
    made = averages
    monkeypatch.setattr("kdnb.evaluation.retrieval.averages", lambda *given: ranked.append(given[4]) or made(*given))
    store, run = Store.open(), Run(PLAIN, 1, keeps=("retrieval", "recall_levels"))
    runner(store).run([run]).check()
    assert ranked == ["euclidean", "cosine"]
    record = store.get(*run.key)
    for distance in ranked:
        levels = store.arrays(record)[f"recall_levels_{distance}"]
        assert levels.mean() == pytest.approx(record.metrics[f"map_11pt_{distance}"], rel=1e-5)


# -- over the epochs ---------------------------------------------------------------------------------------


def norm(subject: Subject):
    """What a measurement may be: a number that moves as a network learns."""
    return {}, {"norm": float(subject.student.network.classifier.weight.detach().norm())}


def test_a_measurement_is_followed_over_the_epochs(register):
    """At given epochs of the paper, under a profile that runs a part of them; 0 is before the first step."""
    register("norms", norm, metrics=("norm",), at=(0, FIRST, END))
    store, run = Store.open(), Run(PLAIN, 1, keeps=("norms",))
    runner(store).run([run]).check()
    kept = store.arrays(store.get(*run.key))
    assert kept["norms_epochs"].tolist() == [0, 1, 3] and len(set(kept["norm"].tolist())) == 3
    assert "norm" not in store.get(*run.key).metrics and store.has(run)


def test_what_is_followed_survives_a_stop_and_changes_no_number(register, tmp_path, monkeypatch):
    register("norms", norm, metrics=("norm",), at=(0, FIRST, 2 * FIRST, END))
    run, found = Run(PLAIN, 1, keeps=("norms",)), []
    for place, stops in (("whole", False), ("stopped", True)):
        monkeypatch.setenv("KDNB_STORE", str(tmp_path / place))
        store = Store.open()
        if stops:  # after each of its steps
            while not store.has(run):
                stopping = runner(store)
                stopping.on_step = lambda cohort, stopping=stopping: setattr(stopping.outcome, "stopped", 15)
                stopping.run([run])
        else:
            runner(store).run([run]).check()
        record = store.get(*run.key)
        found.append((record.metrics, record.history, {k: v.tolist() for k, v in store.arrays(record).items()}))
    plain = Run(PLAIN, 1)
    monkeypatch.setenv("KDNB_STORE", str(tmp_path / "unasked"))
    store = Store.open()
    runner(store).run([plain]).check()
    assert found[0] == found[1] and found[0][0] == store.get(*plain.key).metrics


def test_a_followed_measurement_that_fails_costs_no_run(register):
    def compute(subject: Subject):
        if torch.is_grad_enabled() and subject.seed == 1:
            raise ValueError("nothing to see")
        return norm(subject)

    register("norms", compute, metrics=("norm",), at=(0, END))
    store, run = Store.open(), Run(PLAIN, 1, keeps=("norms",))
    outcome = runner(store).run([run])
    assert "it was not taken after epoch 0, 3 of 3" in outcome.failed[run.key]
    assert store.get(*run.key) is not None and store.lacking(run) == ["norms"]


def test_weights_that_were_left_cannot_tell_what_was_on_the_way(register):
    """A stored run is trained again for a measurement that is followed, and not for one of its end."""
    register("norms", norm, metrics=("norm",), at=(0, END))
    register("last-norm", lambda subject: ({}, {"last_norm": norm(subject)[1]["norm"]}), metrics=("last_norm",))
    store, run = Store.open(), Run(PLAIN, 0)
    trained = runner(store)
    trained.run([run]).check()
    assert runner(store)._only_lacks_arrays(run.keeping(["last-norm"]))
    assert not runner(store)._only_lacks_arrays(run.keeping(["norms"]))
    before = store.get(*run.key)
    runner(store).run([run.keeping(["last-norm"])]).check()
    after = store.get(*run.key)
    assert after.metrics["last_norm"] > 0 and after.cost == before.cost and after.correct == before.correct


def test_weights_that_were_left_are_measured_in_float32_whatever_trained_them(register):
    """A network that was trained in bfloat16 is looked at as it is scored, when its figure asks and later alike."""

    def compute(subject: Subject):
        assert subject.student.over(subject.training).outputs.embeddings.dtype == np.float32
        return {"looked_at": np.ones(1)}, {}

    register("looked_at", compute, arrays=("looked_at",), needs=("training",))
    run = Run(PLAIN, TEACHER_SEED)
    numerics = detect("cpu", dtype="bfloat16", threads=1)
    store = Store.open()
    assert Runner(store, numerics, "comparison", say=lambda line: None).run([run]).recorded == [run]
    drawn, steps = run.keeping(["looked_at"]), []
    outcome = Runner(store, numerics, "comparison", say=lambda line: None, on_step=steps.append).run([drawn])
    assert outcome.recorded == [drawn] and not outcome.failed and not steps and not store.lacking(drawn)
