"""Small experiments for tests: real ones, on the embedded digits, seconds long; and records made by hand."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from kdnb import analysis
from kdnb.exhibits import Column, comparison
from kdnb.study.experiment import TEACHER_SEED, Experiment, Run
from kdnb.study.profile import Profile
from kdnb.study.record import Record, thinned
from kdnb.study.store import Store

TINY = Profile("custom-test", Fraction(1), at_most=2, student_images=150, scale="demo")


def experiment(key: str, profile: Profile = TINY, **changes: object) -> Experiment:
    """A row of the comparison's table on few digits for two epochs."""
    built = comparison.build(comparison.TABLE_1.row(key), Column("digits"), profile)
    return dataclasses.replace(built, **changes) if changes else built


def record(run: Run, headline: float = 0.5, **changes: Any) -> Record:
    """A whole record of a run that nobody trained; metrics stand beside or instead of its scores."""
    scores = {"epochs": 2, "headline": headline, "last": headline, "all_images": headline}
    fields: dict[str, Any] = {
        "experiment": run.experiment.canonical(),
        "fingerprint": run.experiment.fingerprint,
        "seed": run.seed,
        "metrics": {**scores, **changes.pop("metrics", {})},
        "history": thinned({"lr": [0.1, 0.1], "validation_accuracy": [0.2, headline]}),
        "cost": {"wall_seconds": 1.0, "images_per_s": 100.0, "cohort_size": 1, "device": "test"},
        "environment": {"numerics": {}, "commit": "0123456789ab"},
        "correct": "AA==",
    }
    return Record(**{**fields, **changes})


def keep(run: Run, headline: float = 0.5, store: Store | None = None) -> Path:
    """Write such a record into the current store, with arrays where the run keeps some."""
    return (store or Store.open()).write(run, record(run, headline), "comparison", some_arrays(run))


def some_arrays(run: Run, value: float = 1.0) -> dict[str, np.ndarray]:
    """Arrays of every analysis that a run keeps, of this value."""
    return {name: np.full((3, 2), value) for key in run.keeps for name in analysis.get(key).arrays}


def keep_teacher(taught: Experiment, store: Store | None = None) -> Run:
    """Give an experiment's teacher weights that are not trained, but not trivial either."""
    import torch

    from kdnb import models

    teacher = taught.teacher
    assert teacher is not None
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = models.create(teacher.network, 10)
        for _ in range(4):
            network(torch.randn(16, 3, 16, 16))  # in train mode: the running statistics move
    run = Run(teacher, TEACHER_SEED)
    store = store or Store.open()
    store.save_weights(run, {f"student.{k}": v for k, v in network.state_dict().items()})
    keep(run, store=store)
    return run
