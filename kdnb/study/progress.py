"""Progress for people: a bar on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from kdnb.training.cohort import Cohort

#: Seconds between two lines in a plain log, after an epoch and within a long one.
QUIET_SECONDS = 10.0
LONG_SECONDS = 60.0
#: Seconds between two updates in place.
BLINK_SECONDS = 0.5


class Progress:
    """Says how far a cohort is: on a terminal in place, in a log now and then."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = stream or sys.stderr
        self.clock = clock
        self.in_place = self.stream.isatty()
        self._last = -LONG_SECONDS
        self._open_line = False

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._open_line:
            self.stream.write("\r\x1b[K")
            self._open_line = False
        print(line, file=self.stream, flush=True)

    def epoch(self, cohort: Cohort) -> None:
        """After an epoch: every one in place, one in a few seconds in a log."""
        self._tell(cohort, 0.0 if self.in_place else QUIET_SECONDS)

    def step(self, cohort: Cohort) -> None:
        """Within an epoch: twice a second in place, once a minute in a log."""
        self._tell(cohort, BLINK_SECONDS if self.in_place else LONG_SECONDS)

    def _tell(self, cohort: Cohort, apart: float) -> None:
        if self.clock() - self._last < apart:
            return
        self._last = self.clock()
        if self.in_place:
            self.stream.write(f"\r\x1b[K{told(cohort)[:110]}")
            self.stream.flush()
            self._open_line = True
        else:
            print(told(cohort), file=self.stream, flush=True)


def told(cohort: Cohort) -> str:
    """`epoch 3/25  [###-----]  1,240 images/s, 16 runs, 12 min left  validation 12.3 to 41.0 %`."""
    total = max(m.stage.epochs for m in cohort.members)
    done = cohort.epoch + cohort.step / cohort.steps_per_epoch
    filled = round(20 * done / total)
    bar = "#" * filled + "-" * (20 - filled)
    epoch = min(cohort.epoch + (cohort.step > 0), total)
    rate = f"{cohort.meter.rate:,.0f} images/s, {len(cohort.members)} runs{_left(cohort)}"
    measured = [m.history["validation_accuracy"][-1] for m in cohort.members if "validation_accuracy" in m.history]
    spread = f"  validation {100 * min(measured):.1f} to {100 * max(measured):.1f} %" if measured else ""
    return f"  epoch {epoch}/{total}  [{bar}]  {rate}{spread}"


def _left(cohort: Cohort) -> str:
    """Minutes that the cohort still takes at the rate so far; early stopping may end it sooner."""
    if not cohort.meter.rate:
        return ""
    count = len(cohort.material.training)
    images = sum((m.stage.epochs - m.epoch) * count - m.step * cohort.batch_size for m in cohort.active)
    minutes = max(images, 0) / cohort.meter.rate / 60
    return f", {minutes:.0f} min left" if minutes >= 1 else ""
