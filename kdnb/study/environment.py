"""Where and with what a run was computed."""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from kdnb import __version__, paths

#: Rooms of the house whose code decides a number.
DECIDING = ("datasets", "losses", "models", "methods", "training", "evaluation", "study")


@functools.cache
def source_digest() -> str:
    """sha256 of the sources that decide a number; it stands for the commit where there is no history."""
    digest = hashlib.sha256()
    package = paths.ROOT / "kdnb"
    for room in DECIDING:
        for path in sorted((package / room).rglob("*.py")):
            digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@functools.cache
def commit() -> str:
    """The commit of the project's folder, `+` behind it where files differ from it; empty without history."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def environment(numerics: dict[str, Any], digests: dict[str, str]) -> dict[str, Any]:
    """What stands in a record: numerics, versions, commit, digests of sources and images."""
    packages = {name: _version(name) for name in ("torch", "torchvision", "numpy")}
    return {
        "numerics": numerics,
        "versions": {"python": platform.python_version(), "kdnb": __version__, **packages},
        "commit": commit(),
        "sources": source_digest(),
        "images": {split: digest[:16] for split, digest in digests.items()},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(paths.ROOT), *arguments],
        capture_output=True,
        check=True,
        timeout=20,
        encoding="utf-8",
    )
    return done.stdout.strip()
