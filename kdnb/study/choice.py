"""With which numerics a run is computed: as asked, else as its table was begun, else as this machine does best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from kdnb import datasets
from kdnb.study.experiment import Run
from kdnb.study.record import Record
from kdnb.study.store import Store
from kdnb.training import numerics as of_machine
from kdnb.training.numerics import CAPTURED, MOST_THREADS, Numerics
from kdnb.training.probe import probe


class Choice:
    """Gives the numerics of a run; a function of the run, the store and the machine, never of company.

    The demo is computed alike everywhere, on one thread of a CPU in eager float32: its digits depend on no clock.
    Elsewhere `auto` goes on as the stored runs of the same network, images and scale were computed, so that nobody
    compares runs of two precisions; where there are none, on a CPU, both are measured (`kdnb.training.probe`).
    `threads` are asked for like the rest, but for the demo.

    Raises KdnbError, at once, for a device, precision or mode that this machine has not.
    """

    def __init__(
        self,
        store: Store,
        device: str = "auto",
        dtype: str = "auto",
        mode: str = "auto",
        deterministic: bool | None = None,
        say: Callable[[str], None] = print,
        threads: int | None = None,
    ) -> None:
        self.store = store
        self.asked = {"device": device, "dtype": dtype, "mode": mode}
        self.deterministic = deterministic
        self.say = say
        self.threads = threads
        self.machine = of_machine.detect(device, dtype, mode, deterministic, threads)
        self._chosen: dict[tuple[Any, ...], Numerics] = {}

    def __call__(self, run: Run) -> Numerics:
        """The numerics of this run: chosen once for all runs of the same network, images and scale."""
        e = run.experiment
        key = (e.profile, e.images, _network(run))
        if key not in self._chosen:
            self._chosen[key] = self._demo() if e.profile.embedded_data else self.begun(run) or self._probed(run)
        return self._chosen[key]

    def _demo(self) -> Numerics:
        return self._with({"device": "cpu", "dtype": "float32", "mode": "auto", "threads": 1})

    def begun(self, run: Run) -> Numerics | None:
        """As most of the runs that this one stands beside were computed on such a device; None where there are none."""
        told = (record.environment.get("numerics") or {} for record in self.store.all() if _beside(record, run))
        ways = Counter(
            (n["dtype"], n["threads"], n["mode"]) for n in told if n.get("device") == self.machine.device and _whole(n)
        )
        if not ways:
            return None
        dtype, threads, mode = ways.most_common(1)[0][0]
        mode = "auto" if mode == "compiled" else mode
        return self._with({"dtype": dtype, "mode": mode, "threads": self.threads or threads})

    def _probed(self, run: Run) -> Numerics:
        if self.machine.device != "cpu" or self.asked["dtype"] != "auto":
            return self.machine
        e = run.experiment
        info = datasets.load(e.images.dataset).info  # first of all: without images there is nothing to choose
        of_machine.apply(self.machine)  # the threads to measure with
        network = _network(run)
        found = probe(network, info.num_classes, info.side, say=self.say)
        self.say(f"{network}: {found.told}")
        return self._with({"dtype": found.dtype})

    def _with(self, found: dict[str, Any]) -> Numerics:
        """What was found, where nothing else is asked for."""
        asked = {name: value for name, value in self.asked.items() if value != "auto"}
        return of_machine.detect(
            **{"threads": self.machine.threads, **found, **asked}, deterministic=self.deterministic
        )


def _network(run: Run) -> str:
    """The network that a run trains; where it trains none, a step of the teacher alone, the teacher."""
    e = run.experiment
    if e.network is None:
        assert e.teacher is not None
        return _network(Run(e.teacher, run.seed))
    return e.network


def _beside(record: Record, run: Run) -> bool:
    """Whether a record's run and this one are compared: the same network, images, prepared alike, and scale."""
    theirs, e = record.experiment, run.experiment
    images = theirs.get("images") or {}
    return (
        (theirs.get("profile") or {}).get("name") == e.profile.name
        and (theirs.get("network") or {}).get("name") == e.network
        and (images.get("dataset"), images.get("student_images")) == (e.images.dataset, e.images.student_images)
        and (images.get("split"), images.get("mean")) == (e.images.split, list(e.images.mean))
    )


def _whole(numerics: dict[str, Any]) -> bool:
    return (
        numerics.get("dtype") in ("float32", "bfloat16")
        and numerics.get("mode") in ("eager", *CAPTURED, "compiled")
        and type(numerics.get("threads")) is int
        and 1 <= numerics["threads"] <= MOST_THREADS
    )
