"""What comes from elsewhere, held to its shape before anything reads it: records, and the JSON beside weights."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from typing import Any

#: Nothing that is written here is nested deeper.
DEEPEST = 12
#: Whole numbers up to here are the same in every language, and in float64.
LARGEST_WHOLE = 2**53

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
_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "a text", dict: "an object", list: "a list"}


def parsed(text: str | bytes) -> Any:
    """JSON from elsewhere; ValueError for what no writer here makes: depths, NaN, numbers and texts beyond all use."""
    try:
        content = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    _walk(content, 0)
    return content


def problem(content: Any) -> str:
    """What keeps this content from being a record's, in words; empty where nothing does."""
    if isinstance(content, dict):
        content = {"correct": "", "arrays": "", **content}
    if fault := _misfit(content, RECORD, ""):
        return fault
    if strange := sorted(content.keys() - RECORD.keys()):
        return f"'{strange[0]}' is no field of a record"
    if content["seed"] < 0:
        return "its seed is negative"
    experiment, history = content["experiment"], content["history"]
    scored = experiment.get("stage") is None and experiment.get("network") is not None
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


def _walk(value: Any, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError("it is nested too deep")
    if isinstance(value, dict):
        for name, entry in value.items():
            _walk(name, depth)
            _walk(entry, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            _walk(entry, depth + 1)
    elif isinstance(value, str):
        value.encode()  # ValueError for half a character
    elif isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise ValueError("it holds a number too large")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it holds a number that is not finite")


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


def _refuse(constant: str) -> float:
    raise ValueError(f"it holds {constant}")
