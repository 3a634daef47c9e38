"""One process trains a run: the one that holds its lock.

A lock ends with its process, however that ends, so a crash leaves nothing behind that has to be cleared; the empty
file that it is on stays.  A folder whose file system knows no locks has them in this machine's folder for temporary
files: marks that outlive their process would stop everybody.  Where that fails too everybody has the lock: then two
processes may do the same work, and still no file is torn.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import tempfile
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

#: A mark in a file instead of a lock outlives its process; versions that fall back to one are told not to.
_WITHOUT_MARKS: dict[str, Any] = (
    {"fallback_to_soft": False} if "fallback_to_soft" in inspect.signature(FileLock.__init__).parameters else {}
)


class Lock:
    """A lock that is held until `release`."""

    def __init__(self, held: Any) -> None:
        self._held = held

    def release(self) -> None:
        """Let others have it."""
        if self._held is not None:
            with contextlib.suppress(OSError):
                self._held.release()
            self._held = None


def acquire(path: Path, seconds: float = 0) -> Lock | None:
    """The lock of a path, or None where another holds it, and still does after so many seconds."""
    for place in (path, _on_this_machine(path)):
        held = FileLock(str(place), timeout=seconds, thread_local=False, **_WITHOUT_MARKS)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            held.acquire()
            return Lock(held)
        except Timeout:
            return None
        except (OSError, NotImplementedError):  # a folder that cannot be written, or a file system without locks
            continue
    return Lock(None)


def _on_this_machine(path: Path) -> Path:
    digest = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"kdnb-{digest}.lock"
