"""Progress for people: a bar for each cohort or worker on a terminal, plain lines everywhere else.

Nothing that goes wrong with a line for people may end a training: a reader that has gone, a full disk under the log.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import TaskID

    from kdnb.training.cohort import Cohort

#: Seconds between two lines in a plain log, after an epoch and within a long one.
QUIET_SECONDS = 10.0
LONG_SECONDS = 60.0
#: Seconds between two updates of a bar.
BLINK_SECONDS = 0.5


class Unfailing:
    """A stream for people: what it cannot write is lost, and whoever writes does not learn of it.

    A stream that was closed before we began is None, and takes nothing.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream if stream is not None else io.TextIOBase()

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(line: str, stream: TextIO | None = None) -> None:
    """A line on a stream, by default the standard output, if that takes it."""
    print(line, file=Unfailing(stream or sys.stdout), flush=True)


def let_go(*streams: TextIO | None) -> None:
    """Drop what streams still hold and cannot write: Python would end with an exit code of its own."""
    for stream in filter(None, streams):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@dataclass(frozen=True)
class Place:
    """How far a cohort is: in words, and in epochs of all that there are at most."""

    told: str
    epochs: float
    total: int

    @classmethod
    def of(cls, cohort: Cohort) -> Place:
        return cls(told(cohort), *_epochs(cohort))


class Progress:
    """Says how far cohorts are: on a terminal by a bar each, in a log by a line now and then.

    Used as a context, so that the terminal is left as it was.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = Unfailing(stream or sys.stderr)
        self.clock = clock
        self._bars = _Bars(self.stream) if self.stream.isatty() else None
        #: When something was last said of a worker; cohorts of this process are those of worker 0.
        self._last: dict[int, float] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._bars is not None:
            self._bars.say(line)
        else:
            print(line, file=self.stream, flush=True)

    def epoch(self, cohort: Cohort) -> None:
        """After an epoch: every one on a bar, one in a few seconds in a log."""
        if self._due(0, 0.0 if self._bars is not None else QUIET_SECONDS):
            self._tell(cohort)

    def step(self, cohort: Cohort) -> None:
        """Within an epoch: twice a second on a bar, once a minute in a log."""
        if self._due(0, BLINK_SECONDS if self._bars is not None else LONG_SECONDS):
            self._tell(cohort)

    def worker(self, number: int, place: Place, after_an_epoch: bool) -> None:
        """How far another process of this study is: on a bar of its own, or in a line with its number."""
        if self._bars is not None:
            self._bars.show(number, Place(f"[{number}] {place.told}", place.epochs, place.total))
        elif self._due(number, QUIET_SECONDS if after_an_epoch else LONG_SECONDS):
            print(f"  [{number}] {place.told}", file=self.stream, flush=True)

    def worker_ended(self, number: int) -> None:
        """It has no bar any more."""
        if self._bars is not None:
            self._bars.remove(number)

    def _due(self, worker: int, apart: float) -> bool:
        """Whether it is so long ago that something was said of a worker."""
        due = self.clock() - self._last.get(worker, -LONG_SECONDS) >= apart
        if due:
            self._last[worker] = self.clock()
        return due

    def _tell(self, cohort: Cohort) -> None:
        if self._bars is not None:
            self._bars.show_training(cohort)
        else:
            print(f"  {told(cohort)}", file=self.stream, flush=True)


class _Bars:
    """The bars of the cohorts that are training, or of workers, below the lines that stay."""

    def __init__(self, stream: Unfailing) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Display

        columns = (BarColumn(bar_width=20), TextColumn("{task.description}", markup=False))
        self._display = Display(*columns, console=Console(file=stream), auto_refresh=False, transient=True)  # type: ignore[arg-type]
        self._tasks: dict[Hashable, TaskID] = {}
        self._cohorts: weakref.WeakSet[Cohort] = weakref.WeakSet()

    def say(self, line: str) -> None:
        self._display.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show_training(self, cohort: Cohort) -> None:
        """The bar of a cohort; those of others that are at their end go."""
        self._cohorts.add(cohort)
        training = {id(c) for c in self._cohorts if c.active} | {id(cohort)}
        for key in self._tasks.keys() - training:
            self.remove(key)
        self.show(id(cohort), Place.of(cohort))

    def show(self, key: Hashable, place: Place) -> None:
        self._display.start()
        if key not in self._tasks:
            self._tasks[key] = self._display.add_task("")
        task = self._tasks[key]
        self._display.update(task, completed=place.epochs, total=place.total, description=place.told)
        self._display.refresh()

    def remove(self, key: Hashable) -> None:
        if key in self._tasks:
            self._display.remove_task(self._tasks.pop(key))

    def stop(self) -> None:
        self._display.stop()


def told(cohort: Cohort) -> str:
    """`epoch 3/25  1,240 images/s, 16 runs, 12 min left  validation 12.3 to 41.0 %`."""
    _, total = _epochs(cohort)
    epoch = min(cohort.epoch + (cohort.step > 0), total)
    rate = f"{cohort.meter.rate:,.0f} images/s, {len(cohort.members)} runs{_left(cohort)}"
    measured = [m.history["validation_accuracy"][-1] for m in cohort.members if "validation_accuracy" in m.history]
    spread = f"  validation {100 * min(measured):.1f} to {100 * max(measured):.1f} %" if measured else ""
    return f"epoch {epoch}/{total}  {rate}{spread}"


def _epochs(cohort: Cohort) -> tuple[float, int]:
    """How many epochs are done, and how many there are at most."""
    total = max(member.stage.epochs for member in cohort.members)
    return cohort.epoch + cohort.step / cohort.steps_per_epoch, total


def _left(cohort: Cohort) -> str:
    """Minutes that the cohort still takes at the rate so far; early stopping may end it sooner."""
    if not cohort.meter.rate:
        return ""
    count = len(cohort.material.training)
    images = sum((m.stage.epochs - m.epoch) * count - m.step * cohort.batch_size for m in cohort.active)
    minutes = max(images, 0) / cohort.meter.rate / 60
    return f", {minutes:.0f} min left" if minutes >= 1 else ""
