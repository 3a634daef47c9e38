"""Progress for people: a bar on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from kdnb.training.cohort import Cohort

#: Seconds between two lines in a plain log.
QUIET_SECONDS = 10.0


class Progress:
    """Says how far a cohort is after each epoch: on a terminal in place, in a log now and then."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = stream or sys.stderr
        self.clock = clock
        self.in_place = self.stream.isatty()
        self._last = -QUIET_SECONDS
        self._open_line = False

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._open_line:
            self.stream.write("\r\x1b[K")
            self._open_line = False
        print(line, file=self.stream, flush=True)

    def epoch(self, cohort: Cohort) -> None:
        """How far the cohort is; every epoch in place, every few seconds in a log."""
        line = told(cohort)
        if self.in_place:
            self.stream.write(f"\r\x1b[K{line[:110]}")
            self.stream.flush()
            self._open_line = True
        elif self.clock() - self._last >= QUIET_SECONDS:
            self._last = self.clock()
            print(line, file=self.stream, flush=True)


def told(cohort: Cohort) -> str:
    """`epoch 3/25  [###-----]  1,240 images/s  12.3 % to 41.0 %`."""
    total = max(m.stage.epochs for m in cohort.members)
    filled = round(20 * cohort.epoch / total)
    accuracies = [m.history["validation_accuracy"][-1] for m in cohort.members if "validation_accuracy" in m.history]
    spread = f"  validation {100 * min(accuracies):.1f} to {100 * max(accuracies):.1f} %" if accuracies else ""
    bar = "#" * filled + "-" * (20 - filled)
    rate = f"{cohort.meter.rate:,.0f} images/s, {len(cohort.members)} runs"
    return f"  epoch {cohort.epoch}/{total}  [{bar}]  {rate}{spread}"
