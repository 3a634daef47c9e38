"""One process trains a run: the one that holds its lock.

A lock ends with its process, however that ends, so a crash leaves nothing behind that has to be cleared.
Where the system or the folder knows no locks, everybody has them: then two processes may do the same work,
and still no file is torn.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]


class Lock:
    """A lock that is held until `release`."""

    def __init__(self, path: Path, file: int | None) -> None:
        self.path = path
        self._file = file

    def release(self) -> None:
        """Let others have it; the file goes while it is still held."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


def acquire(path: Path) -> Lock | None:
    """The lock of a path, or None while another holds it."""
    while fcntl is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            break
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), path.stat()):
                return Lock(path, file)
            os.close(file)  # its holder removed the file between our opening and our locking it
        except BlockingIOError:
            os.close(file)
            return None
        except FileNotFoundError:
            os.close(file)
        except OSError:  # a file system without locks
            os.close(file)
            break
    return Lock(path, None)
