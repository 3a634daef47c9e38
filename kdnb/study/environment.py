"""Where and with what a run was computed."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from kdnb import __version__, paths

#: Rooms of the house whose code decides a number.
DECIDING = ("datasets", "losses", "models", "methods", "training", "evaluation", "study")
#: What stands for a commit that cannot be told.
UNKNOWN = "unknown"


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
def commit() -> tuple[str, str]:
    """The commit of the project's own history, `+` behind it where files differ; or none, and why it is unknown."""
    try:
        _git("ls-files", "--error-unmatch", "kdnb/__init__.py")  # else it is another one's
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else ""), ""
    except FileNotFoundError:
        return "", "git is not installed"
    except subprocess.CalledProcessError as error:
        trusted = "dubious ownership" not in error.stderr
        return "", "the folder has no history of its own" if trusted else "git does not trust a folder of another user"
    except (OSError, subprocess.SubprocessError) as error:
        return "", f"git does not answer: {error}"


def commit_told(found: Mapping[str, Any]) -> str:
    """The commit of a record's environment; where it is unknown, that and the digest of the sources."""
    known = str(found.get("commit") or UNKNOWN)
    return known if known != UNKNOWN else f"{UNKNOWN}, sources {str(found.get('sources', 'too'))[:7]}"


def sources_told(found: Mapping[str, Any]) -> str:
    """The digests of the sources by which a record was made, those of now or its last ones first; mostly one."""
    earlier = found.get("earlier_sources") or []
    return " ".join([str(found.get("sources") or UNKNOWN), *map(str, earlier)])


def made_now(found: Mapping[str, Any]) -> bool:
    """Whether a record's environment is of the sources as they are."""
    return sources_told(found) == source_digest()


def environment(numerics: dict[str, Any], digests: dict[str, str]) -> dict[str, Any]:
    """What stands in a record: numerics, versions, commit, digests of sources and images."""
    known, why = commit()
    packages = {name: _version(name) for name in ("torch", "torchvision", "numpy")}
    return {
        "numerics": numerics,
        "versions": {"python": platform.python_version(), "kdnb": __version__, **packages},
        "commit": known or UNKNOWN,
        **({"commit_unknown": why} if why else {}),
        "sources": source_digest(),
        "images": {split: digest[:16] for split, digest in digests.items()},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _git(*arguments: str) -> str:
    """What git says of the project's folder, whatever repository lies around it or is set by the caller."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CEILING_DIRECTORIES": str(paths.ROOT.parent), "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    command = ["git", "-C", str(paths.ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True, timeout=20, env=env)
    return done.stdout.strip()
