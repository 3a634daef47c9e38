"""What kdnb says when something is wrong: a sentence that names the thing, the fault and the remedy."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path


class KdnbError(Exception):
    """An error a person can act on; the command line prints it in one line and exits with code 2."""


class DataError(KdnbError):
    """A data set is missing, incomplete or not what its description says."""


class StoreError(KdnbError):
    """A record or a checkpoint could not be written or read."""


def is_memory(error: BaseException) -> bool:
    """Whether what went wrong is that memory, the device's or the machine's, did not hold something.

    It may lie behind the error: ending a broken capture fails too, and hides what broke it.
    """
    return any(_says_memory(each) for each in _behind(error))


def _says_memory(error: BaseException) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool({"MemoryError", "OutOfMemoryError"} & kinds) or "can't allocate memory" in str(error)


def _behind(error: BaseException) -> Iterator[BaseException]:
    """An error and all that led to it, as a traceback shows them, each once: they may go round in a circle."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)


def reason(error: BaseException) -> str:
    """Why something failed, as a part of a sentence: ours as they are, memory and permissions by name."""
    if isinstance(error, KdnbError):
        return str(error).rstrip(".")
    if is_memory(error):
        return "the memory does not hold it"
    if isinstance(error, PermissionError):
        return f"{error.filename or 'a file'} may not be read or written by this user"
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f", at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


#: Of more names than these an error lists the first and counts the rest.
MOST_LISTED = 20
#: What was given is repeated as far as this many characters.
LONGEST = 80


def short(given: str) -> str:
    """What was given as an error repeats it: its beginning where it is long."""
    return given if len(given) <= LONGEST else f"{given[:LONGEST]}..."


def unknown(kind: str, name: object, known: Iterable[str]) -> KdnbError:
    """The error for a name that does not exist, with the nearest names that do."""
    names = sorted(known)
    given = short(str(name))
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    more = f", and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names[:MOST_LISTED])}{more}."
    return KdnbError(f"There is no {kind} called '{given}'; {hint}")
