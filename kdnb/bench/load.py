"""What some work took of the machine, and what others took of it meanwhile."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_MACHINE = Path("/proc/stat")


@dataclass(frozen=True)
class Pace:
    """Images that were trained on, the seconds on the wall and of processors that it took, and the load beside it.

    `others` is the share of the machine's processors that other processes had; None where the system does not tell.
    """

    images: int
    seconds: float
    cpu_seconds: float
    others: float | None

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds

    @property
    def per_cpu_second(self) -> float:
        """Images per second of a processor: what stays comparable where others use the machine."""
        return self.images / max(self.cpu_seconds, 1e-9)


class Stopwatch:
    """From its making to `pace`; its process counts, and the children that work for it (loaders)."""

    def __init__(self) -> None:
        self._began, self._own, self._busy = time.perf_counter(), _own_seconds(), _busy_seconds()

    def pace(self, images: int) -> Pace:
        """What it took to train on so many images."""
        seconds, own = time.perf_counter() - self._began, _own_seconds() - self._own
        busy = _busy_seconds()
        if busy is None or self._busy is None:
            return Pace(images, seconds, own, None)
        (before, cores), (after, _) = self._busy, busy
        others = (after - before - own) / (cores * seconds)
        return Pace(images, seconds, own, min(1.0, max(0.0, others)))


def others(paces: Sequence[Pace]) -> float | None:
    """The share of the machine that others had, over all that was timed; None where the system does not tell."""
    told = [(pace.others, pace.seconds) for pace in paces if pace.others is not None]
    whole = sum(seconds for _, seconds in told)
    return round(sum(share * seconds for share, seconds in told) / whole, 2) if whole else None


def _own_seconds() -> float:
    """Seconds of processors that this process has had, and its children, those that live included."""
    times = os.times()
    living = sum(_seconds_of(child.pid) for child in multiprocessing.active_children())
    return times.user + times.system + times.children_user + times.children_system + living


def _seconds_of(process: int | None) -> float:
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _busy_seconds() -> tuple[float, int] | None:
    """Seconds that the machine's processors were at work, stolen ones included, and how many processors it has."""
    try:
        lines = _MACHINE.read_text(encoding="utf-8").splitlines()
        user, nice, system, _, _, irq, softirq, steal = (int(field) for field in lines[0].split()[1:9])
    except (OSError, ValueError, IndexError):
        return None
    cores = sum(line.startswith("cpu") for line in lines) - 1
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), max(1, cores)
