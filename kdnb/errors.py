"""What kdnb says when something is wrong: a sentence that names the thing, the fault and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KdnbError(Exception):
    """An error a person can act on; the command line prints it in one line and exits with code 2."""


class DataError(KdnbError):
    """A data set is missing, incomplete or not what its description says."""


class StoreError(KdnbError):
    """A record or a checkpoint could not be written or read."""


#: Of more names than these an error lists the first and counts the rest.
MOST_LISTED = 20


def unknown(kind: str, name: object, known: Iterable[str]) -> KdnbError:
    """The error for a name that does not exist, with the nearest names that do."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    more = f", and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names[:MOST_LISTED])}{more}."
    return KdnbError(f"There is no {kind} called '{name}'; {hint}")
