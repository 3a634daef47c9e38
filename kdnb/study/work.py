"""A run in progress: what is kept of it between its stages, and in its checkpoint."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import torch

from kdnb.analysis import Measurement
from kdnb.errors import StoreError, is_memory
from kdnb.methods.stage import Stage
from kdnb.study import checking
from kdnb.study.environment import source_digest
from kdnb.study.experiment import Run
from kdnb.study.store import Store
from kdnb.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from kdnb.training.member import Member, load_weights
from kdnb.training.numerics import Numerics, alike


def begun(folder: Path) -> Checkpoint | None:
    """The checkpoint of a run in progress, or None where there is none; StoreError where it is none of ours."""
    found = load_checkpoint(folder)
    if found is not None and (fault := checking.misfit(found[1], checking.PROGRESS)):
        raise StoreError(f"its checkpoint was made by another version ({fault})")
    return found


class Work:
    """A run in progress: its stages, the one that is being trained, and what it has cost so far."""

    def __init__(self, run: Run, stages: list[Stage], numerics: Numerics) -> None:
        self.run = run
        self.stages = stages
        self.numerics = numerics
        self.index = 0
        self.history: dict[str, list[float]] = {}
        self.seconds = 0.0
        self.images = 0.0
        self.company = 1
        self.sources = [source_digest()]
        #: Measurements that are followed: name -> epochs and values so far, as columns.
        self.followed: dict[str, dict[str, list[float]]] = {}
        #: Where in the stages it began, and where it went on under other numerics.
        self.segments = [self._segment(0, 0, 0, numerics.as_dict())]
        self.member = self._member()

    def _member(self) -> Member:
        return Member(self.stages[self.index], self.run.label, self.run.seed, self.numerics)

    @property
    def trained(self) -> bool:
        """Whether nothing is left to train."""
        return self.member.finished and self.index + 1 == len(self.stages)

    def due(self, measurement: Measurement) -> bool:
        """Whether a measurement that is followed is to be taken now: at this epoch of the last stage, and once."""
        member, taken = self.member, self.followed.get(measurement.name, {}).get("epochs", [])
        last = self.index + 1 == len(self.stages)
        return last and not member.step and member.epoch not in taken and member.epoch in self.epochs_of(measurement)

    def epochs_of(self, measurement: Measurement) -> list[int]:
        """The epochs of the last stage at which a measurement is taken."""
        return self.stages[-1].epochs_of(measurement.at)

    def follow(self, measurement: Measurement, metrics: dict[str, float]) -> None:
        """Keep what was measured after this epoch."""
        columns = self.followed.setdefault(measurement.name, {"epochs": [], **{name: [] for name in metrics}})
        for name, value in {"epochs": self.member.epoch, **metrics}.items():
            columns[name].append(value)

    @property
    def place(self) -> tuple[int, int, int, Numerics]:
        """Where in which stream of batches, and how: works of the same place can share a cohort."""
        return self.member.stage.batch_size, self.member.epoch, self.member.step, self.numerics

    def next_stage(self) -> bool:
        """Take the finished stage's weights into the next one; False if it was the last."""
        self._keep_history()
        if self.index + 1 == len(self.stages):
            return False
        load_weights(self.member.stage.modules, self.member.selected_weights())
        self.index += 1
        self.member = self._member()
        return True

    def _keep_history(self) -> None:
        self.history |= self._own_history()

    def _own_history(self) -> dict[str, list[float]]:
        """The columns of this stage; but for the last stage's they carry its name."""
        prefix = "" if self.index + 1 == len(self.stages) else f"{self.member.stage.name}."
        return {f"{prefix}{name}": column for name, column in self.member.history.items()}

    def until_it_diverged(self) -> tuple[int, dict[str, list[float]]]:
        """Of a run that diverged, how many epochs of its stage are finite throughout, and its history so far."""
        own = self._own_history()
        finite = [all(map(math.isfinite, row)) for row in zip(*own.values(), strict=True)]
        count = [*finite, False].index(False)
        return count, {**self.history, **{name: column[:count] for name, column in own.items()}}

    def save(self, store: Store) -> None:
        tensors, meta = self.member.state()
        meta |= {"index": self.index, "earlier": self.history, "seconds": self.seconds, "images": self.images}
        meta |= {"sources": self.sources, "segments": self.segments, "followed": self.followed}
        save_checkpoint(store.running_folder(self.run), tensors, meta)

    def take_up(self, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
        """Go on from the run's checkpoint, under whatever numerics it was made.

        Raises StoreError where it was made by a version that kept other things; an error of memory as it is, since
        the checkpoint is good.
        """
        try:
            self._take_up(tensors, meta)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            if is_memory(error):
                raise
            raise StoreError("its checkpoint was made by another version") from error

    def _take_up(self, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
        self.sources = list(dict.fromkeys([*meta.get("sources", []), *self.sources]))
        self.index = meta["index"]
        self.history = meta["earlier"]
        self.followed = meta.get("followed", {})
        self.seconds, self.images = meta["seconds"], meta["images"]
        self.segments = meta.get("segments") or [self._segment(0, 0, 0, meta["numerics"])]
        if not alike(meta["numerics"], self.numerics.as_dict()):
            self.segments.append(self._segment(self.index, meta["epoch"], meta["step"], self.numerics.as_dict()))
        self.member = self._member()
        self.member.restore(tensors, meta)

    @staticmethod
    def _segment(index: int, epoch: int, step: int, numerics: dict[str, Any]) -> dict[str, Any]:
        return {"index": index, "epoch": epoch, "step": step, "numerics": numerics}

    def segments_told(self) -> list[dict[str, Any]]:
        """For a record: the stage, the epochs and the numerics of each segment; [] where one computed it all."""
        if len(self.segments) == 1:
            return []
        last = self._segment(self.index, self.member.epoch, 0, {})
        told = []
        for here, after in itertools.pairwise([*self.segments, last]):
            stage = self.stages[here["index"]]
            end = after["epoch"] + (after["step"] > 0) if after["index"] == here["index"] else stage.epochs
            told.append({"stage": stage.name, "epochs": [here["epoch"] + 1, end], "numerics": here["numerics"]})
        return told
