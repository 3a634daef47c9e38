"""A stored run, trained once more under its own numerics, and compared: what reproducible means, tried."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kdnb.errors import KdnbError
from kdnb.study.experiment import Experiment, Run
from kdnb.study.record import Record
from kdnb.study.runner import Runner
from kdnb.study.store import Home, Store
from kdnb.training.numerics import Numerics, detect


@dataclass
class Repeated:
    """What came of it: where the two differ, and what of the numerics could not be had here."""

    record: Record
    differences: list[str] = field(default_factory=list)
    other_numerics: list[str] = field(default_factory=list)


def repeat(record: Record, experiment: Experiment, say: Callable[[str], None]) -> Repeated:
    """Train a record's run again, with the weights that are here for what it needs; nothing of it stays.

    Raises KdnbError where its device, precision or mode are not to be had here, or where the training does not end.
    """
    run = Run(experiment, record.seed)
    numerics = _own_numerics(record)
    with tempfile.TemporaryDirectory(prefix="kdnb-") as place:
        store = _Apart.beside(run, Path(place))
        outcome = Runner(store, numerics, "again", say=say).run([run])
        again = store.get(*run.key)
    if again is None:
        why = " ".join(outcome.failed.values()) or "it was stopped"
        raise KdnbError(f"{run.label} was not trained to its end: {why}.")
    return Repeated(again, differences(record, again), _other_numerics(record, numerics))


def differences(one: Record, other: Record) -> list[str]:
    """Where the metrics, histories and single test images of two records differ, as far as both tell them."""
    found = [
        f"{name}: {value:.6g} there, {other.metrics[name]:.6g} here"
        for name, value in one.metrics.items()
        if other.metrics.get(name, value) != value
    ]
    for name, column in one.history.items():
        here = other.history.get(name, column)
        if here != column:
            at = next((i for i, pair in enumerate(zip(column, here, strict=False)) if pair[0] != pair[1]), len(here))
            epoch = one.history["epoch"][at] if at < len(one.history.get("epoch", [])) else "the last"
            found.append(f"history of {name}: from epoch {epoch} on")
    if one.correct and other.correct and one.correct != other.correct:
        found.append(f"test images: {_flipped(one.correct, other.correct)} of them right in one and wrong in the other")
    return found


def _flipped(one: str, other: str) -> int:
    a, b = (np.frombuffer(base64.b64decode(text), np.uint8) for text in (one, other))
    return int(np.unpackbits(a ^ b).sum()) if len(a) == len(b) else 8 * max(len(a), len(b))


def _own_numerics(record: Record) -> Numerics:
    """The device, precision, mode and threads of a record, with what this machine has of the rest."""
    told = record.environment.get("numerics") or {}
    try:
        return detect(told["device"], told["dtype"], told["mode"], told["deterministic"], told["threads"])
    except (KeyError, TypeError) as error:
        raise KdnbError(f"{record.path} does not tell how it was computed; it cannot be repeated.") from error


def _other_numerics(record: Record, here: Numerics) -> list[str]:
    """What a record was computed with that this machine has not: versions, instructions."""
    told, ours = record.environment["numerics"], here.as_dict()
    return [
        f"{n.replace('_', ' ')} {told[n]} there, {ours[n]} here" for n in ours if told.get(n) not in (None, "", ours[n])
    ]


@dataclass
class _Apart(Store):
    """The store without one run, whose new record and checkpoints go to a folder of their own."""

    hidden: tuple[str, int] = ("", 0)
    apart: Home | None = None

    @classmethod
    def beside(cls, run: Run, place: Path) -> Store:
        here = Store.open()
        apart = Home(place / "results", place / "checkpoints")
        store = cls(here.published, here.demo, here.custom, here.own, hidden=run.key, apart=apart)
        store.refresh()
        return store

    def homes(self) -> list[Home]:
        return [*super().homes(), *([self.apart] if self.apart else [])]

    def home(self, experiment: Experiment) -> Home:
        assert self.apart is not None
        return self.apart

    def _take(self, record: Record) -> None:
        assert self.apart is not None and record.path is not None
        if (record.fingerprint, record.seed) != self.hidden or record.path.is_relative_to(self.apart.results):
            super()._take(record)
