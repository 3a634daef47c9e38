"""Where things lie: the one place that knows folders.

The environment may name places of its own.  They mean what they meant where the command was given: they are made
absolute as soon as the package is imported, so that a process that changes its folder, and every one that it
starts, goes on in the same place.
"""

from __future__ import annotations

import os
from pathlib import Path

from kdnb.errors import KdnbError

ROOT = Path(__file__).resolve().parents[1]
#: Variables of the environment that name a folder.
PLACES = ("KDNB_DATA", "KDNB_STORE", "KDNB_BOOK")


def named(variable: str) -> Path | None:
    """The absolute folder that a variable of the environment names, `~` being the home; None where it is not set."""
    given = os.environ.get(variable)
    return Path(os.path.abspath(os.path.expanduser(given))) if given else None


def file_above(place: Path) -> Path | None:
    """What is no folder and stands in the way of one at `place`: that itself, or what should hold it; None if nothing.

    What may not be looked at stands in nobody's way as far as is known.
    """
    for path in (place, *place.parents):
        try:
            if path.exists():
                return None if path.is_dir() else path
        except OSError:
            return None
    return None


def project() -> Path:
    """The folder of the repository.  Raises KdnbError where the package was installed without it."""
    if not (ROOT / "data" / "reported").is_dir():
        raise KdnbError(
            f"kdnb lies in {ROOT} without its repository, which holds the papers' numbers, the records and the "
            "notebooks; get the repository and run `make install` in it, or `pip install -e` its folder."
        )
    return ROOT


def data_root() -> Path:
    """Folder of the prepared data sets: `$KDNB_DATA`, or `data/` of the project."""
    return named("KDNB_DATA") or project() / "data"


def committed_results() -> Path:
    """Folder of the records that belong to the published study."""
    return project() / "data" / "results"


def committed_checkpoints() -> Path:
    """Folder of the few small teachers that belong to the published study."""
    return project() / "data" / "checkpoints"


def demo_results() -> Path:
    """Folder of the records that this build's demo makes; never committed."""
    return project() / "data" / "demo"


def reported() -> Path:
    """Folder of the numbers that the papers print, one CSV a paper."""
    return project() / "data" / "reported"


def own_store() -> Path | None:
    """Where new records and checkpoints go when they shall not go into the project: `$KDNB_STORE`."""
    return named("KDNB_STORE")


def cache() -> Path:
    """Folder of what was found out about this machine: below `$XDG_CACHE_HOME`, or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "kdnb"


def from_home(path: Path) -> str:
    """A path as it may be published: below one's own folder it begins with `~`, which names nobody."""
    home = Path(os.path.expanduser("~"))
    return str(Path("~") / path.relative_to(home)) if path.is_relative_to(home) else str(path)


def _resolve() -> None:
    """Make the named places absolute for this process and those that it starts."""
    for variable in PLACES:
        place = named(variable)
        if place is not None:
            os.environ[variable] = str(place)


_resolve()
