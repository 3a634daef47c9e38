"""The page that is being made: whether it goes into the book, where it stands, and what stands beside it.

In a batch (`KDNB_BATCH` is set) a notebook runs in the folder of its executed page: tables, figures and
copies of records are written there, and pages refer to each other.  Run by hand, a notebook leaves no file.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

from kdnb import paths


def in_book() -> bool:
    """Whether the notebook is executed for the book."""
    return bool(os.environ.get("KDNB_BATCH"))


def project() -> Path:
    """The folder with the book that is being built: `$KDNB_BOOK`, or this project."""
    return paths.named("KDNB_BOOK") or paths.project()


def folder() -> Path:
    """Where the executed page lies; files beside it can be shown and downloaded."""
    return Path.cwd()


def exists(paper: str, name: str) -> bool:
    """Whether the book has the page of this notebook."""
    return in_book() and (project() / "notebooks" / paper / f"{name}.ipynb").exists()


@functools.cache
def _rows(paper: str, notebooks: Path) -> dict[str, str]:
    found = {}
    for path in sorted((notebooks / paper).glob("*.ipynb")):
        metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
        for key in metadata.get("kdnb", {}).get("rows", []):
            found[key] = path.stem
    return found


def of_row(paper: str, key: str) -> str:
    """The page that treats a row of the paper's tables, as its notebook's metadata says; "" without one."""
    return _rows(paper, project() / "notebooks").get(key, "") if in_book() else ""
