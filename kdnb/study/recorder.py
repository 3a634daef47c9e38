"""From a trained run to its record: what the test images say, what its figures need, and what it cost."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdnb import analysis
from kdnb.analysis import Measurement, Subject
from kdnb.analysis.registry import Found
from kdnb.datasets.identity import identity
from kdnb.errors import KdnbError, StoreError
from kdnb.evaluation.correct import correct, pack
from kdnb.study import arrays as array_files
from kdnb.study import predictions
from kdnb.study.environment import environment
from kdnb.study.experiment import TEACHER_SEED, Run
from kdnb.study.record import Record
from kdnb.study.store import Store
from kdnb.study.work import Work
from kdnb.study.workbench import Workbench, student_weights
from kdnb.training.numerics import Numerics


@dataclass
class Measured:
    """What was found out about a run: metrics, arrays beside its record, and why any of them could not be computed."""

    metrics: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    correct: str = ""

    def add(self, what: str, compute: Callable[[], Found]) -> None:
        """Add arrays and metrics, all or none: whatever fails, the run is worth more than its figure."""
        try:
            arrays, metrics = compute()
            array_files.packed({**self.arrays, **arrays})  # it refuses what is too large
        except Exception as error:
            self.failures.append(f"{what} could not be computed ({error}); it is recorded without.")
        else:
            self.arrays |= arrays
            self.metrics |= metrics


class Recorder:
    """Writes what trained runs leave behind into the store.

    `paper` files the records: one for all, or the one of each experiment by its fingerprint.
    """

    def __init__(self, store: Store, workbench: Workbench, numerics: Numerics, paper: str | Mapping[str, str]) -> None:
        self.store = store
        self.workbench = workbench
        self.numerics = numerics
        self.paper = paper

    def record(
        self, work: Work, selected: dict[str, torch.Tensor], last: dict[str, torch.Tensor], needed: bool = False
    ) -> tuple[dict[str, float], list[str]]:
        """Record a trained run by the weights of its selected and last epoch.

        The weights of what others go on from are kept: of teachers and steps always, else where this one is `needed`.
        A run that has its record was trained again for its weights alone: the record stays, whatever these numerics
        gave.  A teacher's does not, for its score is that of the weights which teach.
        Returns its metrics, and why any of its arrays could not be computed: an analysis that fails costs nothing else.
        """
        run, measured = work.run, Measured(_of_training(work))
        keeps_weights = needed or run.seed == TEACHER_SEED or not run.experiment.scored
        stored, teaches = self.store.get(*run.key), run.seed == TEACHER_SEED and run.experiment.scored
        if stored is not None and self.store.has(run) and not teaches:
            if keeps_weights:
                self.store.save_weights(run, selected)
            return stored.metrics, []
        if run.experiment.scored:
            self._score(measured, work, selected, last)
        record = Record(
            experiment=run.experiment.canonical(),
            fingerprint=run.experiment.fingerprint,
            seed=run.seed,
            metrics=_rounded(measured.metrics),
            history={},
            cost=self._cost(work),
            environment=self._environment(work),
            correct=measured.correct,
        )
        if keeps_weights:
            self.store.save_weights(run, selected)
        self.store.write(run, record.with_history(work.history), self._filed_under(run), measured.arrays)
        return measured.metrics, [f"{run.label}: {reason}" for reason in measured.failures]

    def record_diverged(self, work: Work) -> Path:
        """Record that a run diverged: how far it came, and the numbers up to there."""
        run, (epochs, history) = work.run, work.until_it_diverged()
        record = Record(
            experiment=run.experiment.canonical(),
            fingerprint=run.experiment.fingerprint,
            seed=run.seed,
            metrics={"epochs": epochs, "diverged": min(epochs + 1, work.member.stage.epochs)},
            history={},
            cost=self._cost(work),
            environment=self._environment(work) | {"diverged": str(work.member.failed)},
        )
        return self.store.write(run, record.with_history(history), self._filed_under(run))

    def add_arrays(self, run: Run) -> Measured:
        """Compute what the figures of a stored run need from the weights that it left."""
        record = self.store.get(*run.key)
        assert record is not None
        measured = Measured()
        subject = self.workbench.subject(run, self.workbench.scored(run))
        self._measure(measured, self.store.lacking(run), subject, self.store.arrays(record))
        if measured.arrays or measured.metrics:
            record = dataclasses.replace(record, metrics=record.metrics | _rounded(measured.metrics))
            # What is there stays: it is of the weights that were scored, and what is left of them may be halved.
            arrays = self.store.arrays(record) | measured.arrays
            self.store.write(run, record, self._filed_under(run), arrays)
        measured.failures = [f"{run.label}: {reason}" for reason in measured.failures]
        return measured

    def keeps(self, run: Run) -> list[str]:
        """What the run keeps, and what is kept of it already: a figure that has its arrays does not lose them."""
        return list(dict.fromkeys([*run.keeps, *self.store.kept(run)]))

    def _filed_under(self, run: Run) -> str:
        return self.paper if isinstance(self.paper, str) else self.paper[run.experiment.fingerprint]

    def _score(
        self, measured: Measured, work: Work, selected: dict[str, torch.Tensor], last: dict[str, torch.Tensor]
    ) -> None:
        """Score the headline's weights on the test images, and the last ones where those are others."""
        run, student = work.run, work.member.student
        if work.member.best and work.member.best_epoch + 1 != work.member.epoch:
            student.load_state_dict(student_weights(last))
            measured.metrics["last"] = _accuracy(self.workbench.subject(run, student))["headline"]
        student.load_state_dict(student_weights(selected))
        subject = self.workbench.subject(run, student, work.member.stage.modules)
        logits, accuracy = subject.student.outputs.logits, _accuracy(subject)
        measured.metrics = {"last": accuracy["headline"], **measured.metrics, **accuracy}
        right = correct(logits, subject.labels)
        if len(right) <= predictions.MOST_BITS_IN_A_RECORD:
            measured.correct = pack(right)
        measured.add("the predictions", lambda: (predictions.packed(logits, subject.labels), {}))
        compared = subject.teacher is not None and subject.teacher.network.num_classes == subject.num_classes
        known = [n for n in analysis.ALWAYS if n != "accuracy" and (compared or "teacher" not in analysis.get(n).needs)]
        self._measure(measured, known, subject)
        self._measure(measured, [name for name in self.keeps(run) if not analysis.get(name).at], subject)
        for name in self.keeps(run):
            if analysis.get(name).at:
                measured.add(f"the measurement '{name}'", functools.partial(_followed, work, analysis.get(name)))

    def follow(self, work: Work) -> None:
        """Take the measurements that are due after this epoch; one that cannot be taken is missed at the end."""
        due = [entry for entry in map(analysis.get, self.keeps(work.run)) if entry.at and work.due(entry)]
        if not due:
            return
        work.member.eval_mode()
        subject = self.workbench.subject(work.run, work.member.student, work.member.stage.modules)
        for entry in due:
            with contextlib.suppress(Exception):
                work.follow(entry, entry.of(subject)[1])

    def _measure(
        self, measured: Measured, names: list[str], subject: Subject, stored: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Take measurements; `stored` are the arrays that the run has already."""

        def taken(name: str) -> Found:
            entry = analysis.get(name)
            arrays, metrics = entry.of(subject)
            kept = {key: array for key, array in arrays.items() if key not in entry.columns}
            if entry.columns:
                columns = {key: arrays[key] for key in entry.columns}
                try:
                    kept |= predictions.beside({**(stored or {}), **measured.arrays}, columns, len(subject.labels))
                except StoreError as error:  # the metrics are worth more
                    measured.failures.append(f"what '{name}' tells of every image is not kept ({error})")
            return kept, metrics

        for name in names:
            measured.add(f"the measurement '{name}'", functools.partial(taken, name))

    def _cost(self, work: Work) -> dict[str, Any]:
        rate = work.images / work.seconds if work.seconds else 0.0
        return {
            "wall_seconds": round(work.seconds, 1),
            "images_per_s": round(rate, 1),
            "cohort_size": work.company,
            "device": _device_name(self.numerics),
        }

    def _environment(self, work: Work) -> dict[str, Any]:
        """With the digest of the weights that taught, and of earlier sources where a run went on under new ones."""
        told = environment(work.numerics.as_dict(), identity(work.run.experiment.images.dataset))
        if work.run.teacher is not None:
            told["teacher"] = self.workbench.teacher_digest(work.run.teacher)
        if work.segments_told():
            told["segments"] = work.segments_told()
        earlier = [sources for sources in work.sources if sources != told["sources"]]
        return told | ({"earlier_sources": earlier} if earlier else {})


def _of_training(work: Work) -> dict[str, float]:
    """What a run's own epochs tell; where the test images themselves are watched, their best too, selected on them."""
    member = work.member
    metrics: dict[str, float] = {"epochs": member.epoch}
    if member.best_value is not None:
        metrics |= {"selected": member.best_value, "selected_epoch": member.best_epoch + 1}
    watched = work.history.get("validation_accuracy", [])
    if work.run.experiment.images.split == "test" and watched:
        metrics |= {"best_seen": max(watched), "best_seen_epoch": 1 + watched.index(max(watched))}
    return metrics


def _accuracy(subject: Subject) -> dict[str, float]:
    return analysis.get("accuracy").of(subject)[1]


def _followed(work: Work, measurement: Measurement) -> Found:
    """The columns of a measurement that was followed, as arrays; KdnbError where it was not taken at every epoch."""
    columns, epochs = work.followed.get(measurement.name, {"epochs": []}), work.epochs_of(measurement)
    if columns["epochs"] != epochs:
        missed = ", ".join(str(epoch) for epoch in epochs if epoch not in columns["epochs"])
        raise KdnbError(f"it was not taken after epoch {missed} of {work.stages[-1].epochs}")
    arrays = {name: np.array(column) for name, column in columns.items()}
    return {f"{measurement.name}_epochs": arrays.pop("epochs"), **arrays}, {}


def _rounded(metrics: dict[str, float]) -> dict[str, float]:
    """Six digits of each, however small: the loss that selects a first step may be."""
    return {name: value if isinstance(value, int) else float(f"{value:.6g}") for name, value in metrics.items()}


def _device_name(numerics: Numerics) -> str:
    if numerics.device == "cuda":
        return str(torch.cuda.get_device_name())
    return f"CPU, {numerics.threads} thread{'s' * (numerics.threads > 1)}"
