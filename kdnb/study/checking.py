"""What comes from elsewhere, held to its shape before anything reads it: records, and the JSON beside weights."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

#: Metrics of every run that is judged on test images.
SCORES = ("headline", "last", "all_images")

#: What readers of a record rely on: `type`s, the fields of a dict, `[kind]` for lists, `{...: kind}` for dicts of any
#: names; a name with `?` may be missing or null.  Fields beyond these are free below the first level.
RECORD: Any = {
    "fingerprint": str,
    "seed": int,
    "metrics": {...: float},
    "experiment": {
        "profile": {"name": str},
        "images": {"dataset": str, "split": str, "digests": {...: str}},
        "network?": {"name": str},
        "teacher?": {"fingerprint": str},
        "recipe?": {"epochs": int},
        "method": {"name": str},
        "stage?": str,
    },
    "history": {...: [float]},
    "cost": {"wall_seconds": float, "images_per_s": float, "cohort_size": int, "device": str},
    "environment": {
        "numerics?": {...: object},
        "versions?": {...: str},
        "commit?": str,
        "sources?": str,
        "teacher?": str,
        "earlier_sources?": [str],
        "segments?": [{...: object}],
    },
    "correct": str,
    "arrays": str,
}
#: What a checkpoint says of a run in progress, as `kdnb.study.work` keeps it.
PROGRESS: Any = {
    "stage": str,
    "epoch": int,
    "step": int,
    "prepared": bool,
    "finished": bool,
    "history": {...: [float]},
    "best_value?": float,
    "best_epoch": int,
    "numerics": {
        "device": str,
        "dtype": str,
        "mode": str,
        "threads": int,
        "deterministic": bool,
        "torch_version": str,
        "instructions?": str,
    },
    "index": int,
    "earlier": {...: [float]},
    "seconds": float,
    "images": float,
    "sources?": [str],
    "segments?": [{"index": int, "epoch": int, "step": int, "numerics": {...: object}}],
    "followed?": {...: {...: [float]}},
}
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    dict: "an object",
    list: "a list",
}


def problem(content: Any) -> str:
    """What keeps this content from being a record's, in words; empty where nothing does."""
    if isinstance(content, dict):
        content = {"correct": "", "arrays": "", **content}
    if fault := misfit(content, RECORD):
        return fault
    if strange := sorted(content.keys() - RECORD.keys()):
        return f"'{strange[0]}' is no field of a record"
    if content["seed"] < 0:
        return "its seed is negative"
    experiment, history = content["experiment"], content["history"]
    scored = experiment.get("stage") is None and experiment.get("network") is not None
    scored = scored and "diverged" not in content["metrics"]
    missing = [name for name in ("epochs", *(SCORES if scored else ())) if name not in content["metrics"]]
    if missing:
        return f"its metrics lack {', '.join(missing)}"
    # An earlier stage's columns, which carry its name before a dot, end with it.
    if len({len(column) for name, column in history.items() if "." not in name and name != "epoch"}) > 1:
        return "its history has columns of several lengths"
    if any(len(column) > len(history.get("epoch", [])) for column in history.values()):
        return "its history goes on after its epochs"
    try:
        base64.b64decode(content["correct"], validate=True)
    except ValueError:
        return "correct is no base64"
    return ""


def misfit(content: Any, shape: Any) -> str:
    """Where content has not this shape, in words; empty where it has."""
    return _misfit(content, shape, "")


def _misfit(value: Any, kind: Any, where: str) -> str:
    """Where a value is of another kind, and which was expected; empty where it fits."""
    taken = dict if isinstance(kind, dict) else list if isinstance(kind, list) else kind
    fits = isinstance(value, int | float) if taken is float else isinstance(value, taken)
    if not fits or (isinstance(value, bool) and taken in (int, float)):
        return f"{where or 'it'} is not {_WORDS[taken]}"
    if taken is list:
        return _first(_misfit(entry, kind[0], f"an entry of {where}") for entry in value)
    if taken is not dict:
        return ""
    if ... in kind:
        return _first(_misfit(entry, kind[...], _inside(where, name)) for name, entry in value.items())
    return _first(_field(value, name, inner, where) for name, inner in kind.items())


def _field(value: Any, name: str, kind: Any, where: str) -> str:
    own = name.removesuffix("?")
    if name != own and value.get(own) is None:
        return ""
    return _misfit(value[own], kind, _inside(where, own)) if own in value else f"it has no {_inside(where, own)}"


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _first(faults: Iterable[str]) -> str:
    return next((fault for fault in faults if fault), "")
