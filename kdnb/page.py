"""The page that is being made: whether it goes into the book, where it stands, and what stands beside it.

In a batch (`KDNB_BATCH` is set) a notebook runs in the folder of its executed page: tables, figures and
copies of records are written there, and pages refer to each other.  Run by hand, a notebook leaves no file.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from kdnb import paths
from kdnb.errors import KdnbError

#: Where the executed pages lie in the book's folder.
EXECUTED = "book/executed/"
#: Where the papers' own pages lie.
PAPERS = "book/papers/"
#: What the name of a picture that is drawn for a phone ends with (`book/readable.py` shows it there).
FOR_PHONES = "-on-a-phone"
#: How numbers stand in the files that readers download: all digits that mean something, and no more.
NUMBERS = "%.8g"


def in_book() -> bool:
    """Whether the notebook is executed for the book."""
    return bool(os.environ.get("KDNB_BATCH"))


def of_demo(text: str) -> str:
    """A part of a page that only a demo has: the book gathers these in one fold at its end (`book/readable.py`)."""
    return f"::::::::{{container}} kdnb-demo\n\n{text.strip()}\n\n::::::::\n"


def project() -> Path:
    """The folder with the book that is being built: `$KDNB_BOOK`, or this project."""
    return paths.named("KDNB_BOOK") or paths.project()


def folder() -> Path:
    """Where the executed page lies; files beside it can be shown and downloaded."""
    return Path.cwd()


def exists(paper: str, name: str) -> bool:
    """Whether the book has the page of this notebook."""
    return in_book() and f"{paper}/{name}" in pages(project())


def of_paper(paper: str) -> str:
    """The paper's own page, as executed pages lead to it; "" where the book has none."""
    there = in_book() and f"{PAPERS}{paper}" in _files(project() / "_toc.yml")
    return f"/{PAPERS}{paper}" if there else ""


def of_row(paper: str, key: str, method: str = "", alike: Collection[str] = (), near: Collection[str] = ()) -> str:
    """The page that treats a row of the paper's tables, as its notebook's metadata says; "" without one.

    Else, where `method` is given, the page of another paper that treats the row called so, with KD or without: of
    several one of the papers `alike`, which train the row just so, before others the one that bears its name.  Where
    none does, the page of one of the rows `near`.
    """
    if not in_book():
        return ""
    treated = _rows(project())
    own = [name for name in treated.get(key, ()) if name.startswith(f"{paper}/")]
    if own:
        return own[0].partition("/")[2]
    alone = method.partition("+")[0]
    found = [*treated.get(method, ()), *treated.get(alone, ())]
    found = found or [name for row in near for name in treated.get(row, ())]
    called = f"/{alone.replace('-', '_')}"
    best = min(found, key=lambda name: (name.partition("/")[0] not in alike, not name.endswith(called)), default="")
    return f"../{best}" if best else ""


def pages(book: Path) -> list[str]:
    """`<paper>/<name>` of every notebook that is a page of the book, in its order: what `_toc.yml` lists, no other.

    A folder without `_toc.yml` has none.  Raises KdnbError where it cannot be read.
    """
    found = [file.removeprefix(EXECUTED) for file in _files(book / "_toc.yml") if file.startswith(EXECUTED)]
    return [file.removesuffix(".ipynb") for file in found]


@functools.cache
def _files(toc: Path) -> list[str]:
    import yaml

    if not toc.exists():
        return []
    try:
        content = yaml.safe_load(toc.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise KdnbError(f"{toc.name} cannot be read: {' '.join(str(error).split())}.") from error
    return list(_named(content))


def _named(entry: object) -> Iterator[str]:
    """The values of `root` and `file` in a table of contents, in their order."""
    if isinstance(entry, list):
        for part in entry:
            yield from _named(part)
    elif isinstance(entry, dict):
        for key, value in entry.items():
            yield from [str(value)] if key in ("root", "file") else _named(value)


@functools.cache
def _rows(book: Path) -> dict[str, list[str]]:
    """Key of a row -> the pages that treat it, in the order of the book."""
    found: dict[str, list[str]] = {}
    for name in pages(book):
        source = book / "notebooks" / f"{name}.ipynb"
        if source.exists():
            metadata = json.loads(source.read_text(encoding="utf-8"))["metadata"]
            for key in metadata.get("kdnb", {}).get("rows", []):
                found.setdefault(key, []).append(name)
    return found
