"""From a trained run to its record: what the test images say, what its figures need, and what it cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from kdnb import analysis
from kdnb.datasets.identity import identity
from kdnb.evaluation.correct import correct, pack
from kdnb.models.network import Network
from kdnb.study import arrays as array_files
from kdnb.study.environment import environment
from kdnb.study.experiment import TEACHER_SEED, Run
from kdnb.study.record import Record, thinned
from kdnb.study.store import Store
from kdnb.study.work import Work
from kdnb.study.workbench import Workbench, student_weights
from kdnb.training.numerics import Numerics


@dataclass
class Analysed:
    """What the analyses of a run found: metrics, arrays for figures, and why any of them could not be computed."""

    metrics: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


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
        self, work: Work, selected: dict[str, torch.Tensor], last: dict[str, torch.Tensor]
    ) -> tuple[dict[str, float], list[str]]:
        """Record a trained run by the weights of its selected and last epoch.

        Returns its metrics, and why any of its arrays could not be computed: an analysis that fails costs nothing else.
        """
        run = work.run
        metrics, bits = self._metrics(work, selected, last)
        analysed = Analysed()
        if run.experiment.stage is None:  # a stage alone is not analysed, and may have no student
            work.member.student.load_state_dict(student_weights(selected))
            analysed = self._analysed(run, work.member.student)
        metrics |= analysed.metrics
        record = Record(
            experiment=run.experiment.canonical(),
            fingerprint=run.experiment.fingerprint,
            seed=run.seed,
            metrics=_rounded(metrics),
            history=thinned(work.history),
            cost=self._cost(work),
            environment=self._environment(work),
            correct=bits,
        )
        if run.seed == TEACHER_SEED or run.experiment.stage is not None:
            self.store.save_weights(run, selected)
        self.store.write(run, record, self._filed_under(run), analysed.arrays)
        return metrics, analysed.failures

    def add_arrays(self, run: Run) -> Analysed:
        """Compute what the figures of a stored run need from the weights that it left."""
        record = self.store.get(*run.key)
        assert record is not None
        analysed = self._analysed(run, self.workbench.teacher(run))
        if analysed.arrays:
            record = dataclasses.replace(record, metrics=record.metrics | _rounded(analysed.metrics))
            self.store.write(run, record, self._filed_under(run), analysed.arrays)
        return analysed

    def keeps(self, run: Run) -> list[str]:
        """What the run keeps, and what is kept of it already: a figure that has its arrays does not lose them."""
        return list(dict.fromkeys([*run.keeps, *self.store.kept(run)]))

    def _filed_under(self, run: Run) -> str:
        return self.paper if isinstance(self.paper, str) else self.paper[run.experiment.fingerprint]

    def _metrics(
        self, work: Work, selected: dict[str, torch.Tensor], last: dict[str, torch.Tensor]
    ) -> tuple[dict[str, float], str]:
        member = work.member
        metrics: dict[str, float] = {"epochs": member.epoch}
        if member.best_value is not None:
            metrics |= {"selected": member.best_value, "selected_epoch": member.best_epoch + 1}
        if work.run.experiment.stage is not None:
            return metrics, ""
        _, evidence = self.workbench.material(work.run.experiment.images)
        found = {}
        for name, weights in (("last", last), ("headline", selected)):
            member.student.load_state_dict(student_weights(weights))
            found[name] = correct(member.student, evidence.test, self.numerics)
        metrics["headline"] = float(found["headline"][evidence.score].mean())
        metrics["last"] = float(found["last"][evidence.score].mean())
        metrics["all_images"] = float(found["headline"].mean())
        return metrics, pack(np.asarray(found["headline"]))

    def _analysed(self, run: Run, student: Network) -> Analysed:
        analysed, names = Analysed(), self.keeps(run)
        if not names:
            return analysed
        subject = self.workbench.subject(run, student)
        for name in names:
            try:
                arrays, metrics = analysis.get(name).of(subject)
                array_files.packed({**analysed.arrays, **arrays})  # it refuses what is too large
            except Exception as error:  # whatever it is, the run is worth more than its figure
                reason = f"the arrays '{name}' could not be computed ({error}); it is recorded without them."
                analysed.failures.append(f"{run.label}: {reason}")
            else:
                analysed.arrays |= arrays
                analysed.metrics |= metrics
        return analysed

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


def _rounded(metrics: dict[str, float]) -> dict[str, float]:
    """Six digits of each, however small: the loss that selects a first step may be."""
    return {name: value if isinstance(value, int) else float(f"{value:.6g}") for name, value in metrics.items()}


def _device_name(numerics: Numerics) -> str:
    if numerics.device == "cuda":
        return str(torch.cuda.get_device_name())
    return f"CPU, {numerics.threads} thread{'s' * (numerics.threads > 1)}"
