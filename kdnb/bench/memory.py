"""How much memory some steps take: on CUDA what was allocated at most, on a Linux CPU how far the process grew."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path
from types import TracebackType

import torch

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


class Peak:
    """A context; afterwards `gib` holds the peak while it lasted, or None where the system does not tell.

    On CUDA all that is allocated counts, networks and images included.  On a CPU what the process held before is left
    out, since it holds much else; a method's networks are then left out too, its activations and gradients count.
    What earlier work has freed goes back to the system first: a process that still held it would not seem to grow.
    """

    def __init__(self, on_cuda: bool) -> None:
        self.on_cuda = on_cuda
        self.gib: float | None = None

    def __enter__(self) -> Peak:
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            self._before = _reset()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.on_cuda:
            self.gib = torch.cuda.max_memory_allocated() / 2**30
        elif self._before is not None:
            self.gib = max(0, _kib("VmHWM") - self._before) / 2**20


def _reset() -> int | None:
    """Forget the peak so far; the resident set in KiB, or None where that cannot be done."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # the GNU C library's; others have no such function
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _RESET.write_text("5", encoding="utf-8")
        return _kib("VmRSS")
    except OSError:
        return None


def _kib(field: str) -> int:
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise OSError(f"{_STATUS} has no {field}")
