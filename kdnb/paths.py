"""Where things lie: the one place that knows folders."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def data_root() -> Path:
    """Folder of the prepared data sets: `$KDNB_DATA`, or `data/` of the project."""
    return Path(os.environ.get("KDNB_DATA") or ROOT / "data")


def committed_results() -> Path:
    """Folder of the records that belong to the published study."""
    return ROOT / "data" / "results"


def committed_checkpoints() -> Path:
    """Folder of the few small teachers that belong to the published study."""
    return ROOT / "data" / "checkpoints"


def demo_results() -> Path:
    """Folder of the records that this build's demo makes; never committed."""
    return ROOT / "data" / "demo"


def reported() -> Path:
    """Folder of the numbers that the papers print, one CSV a paper."""
    return ROOT / "data" / "reported"


def own_store() -> Path | None:
    """Where new records and checkpoints go when they shall not go into the project: `$KDNB_STORE`."""
    place = os.environ.get("KDNB_STORE")
    return Path(place) if place else None
