"""How much memory some steps take: how far what is allocated on CUDA grew, or the process on a Linux CPU."""

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
    """A context; afterwards `gib` holds how much the peak while it lasted lay above what was held before.

    So networks and images do not count, nor does what else is held; activations and gradients do.  On CUDA that is what
    is allocated, above what it was on entering, or above `held`, an earlier `allocated()`.  Replays of a graph allocate
    nothing: what a captured step takes is told by the same step run eagerly.  On a CPU it is how far the process grew,
    None where the system does not tell.  What earlier work has freed goes back to the system first: a process that
    still held it would not seem to grow.
    """

    def __init__(self, on_cuda: bool, held: int | None = None) -> None:
        self.on_cuda = on_cuda
        self.held = held
        self.gib: float | None = None

    def __enter__(self) -> Peak:
        if not self.on_cuda:
            self._before = _reset()
            return self
        self._before = allocated() if self.held is None else self.held
        torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.on_cuda:
            self.gib = max(0, torch.cuda.max_memory_allocated() - (self._before or 0)) / 2**30
        elif self._before is not None:
            self.gib = max(0, _kib("VmHWM") - self._before) / 2**20


def allocated() -> int:
    """Bytes that are allocated on CUDA; what nobody refers to any more is given up first."""
    gc.collect()
    return torch.cuda.memory_allocated()


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
