"""Values from outside, from notebooks, the command line and files: brought to their kind, or refused.

A value that has one obvious meaning gets it, as the text "4" for 4.0 and "false" for False; anything else is an error
that says what was expected.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable
from typing import Any

from kdnb.errors import KdnbError, short, unknown

#: Whole numbers up to here are the same in every language, and in float64.
LARGEST_WHOLE = 2**53
#: Nothing that is written here is nested deeper.
DEEPEST = 12
#: More seeds of a run than this nobody means.
MOST_SEEDS = 1000
_WORDS = {"true": True, "false": False}
_NOTHING = ("none", "null", "")


def parsed(text: str | bytes) -> Any:
    """JSON from elsewhere; ValueError for what no writer here makes: depths, NaN, numbers and texts beyond all use."""
    try:
        content = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    _walk(content, 0)
    return content


def brought(what: str, kind: str, value: Any) -> Any:
    """The value as the annotation `kind` has it: `float`, `int`, `bool`, `str`, `Literal[...]`, `tuple[int, ...]`.

    `<kind> | None` takes None too.  Raises KdnbError, naming `what`, for a value of another kind.
    """
    optional = kind.endswith(" | None")
    kind = kind.removesuffix(" | None")
    if optional and (value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING)):
        return None
    if kind.startswith("Literal["):
        choices = _choices(kind)
        if value not in choices:
            raise unknown(what, value, choices)
        return value
    if kind.startswith("tuple["):
        if not isinstance(value, list | tuple):
            raise _refused(what, "a list", value)
        inner = kind.removeprefix("tuple[").removesuffix("]").removesuffix(", ...")
        return tuple(brought(f"every entry of {what}", inner, entry) for entry in value)
    if kind not in _TAKEN:
        raise KdnbError(f"{what} has the kind '{kind}', which nobody knows how to read; known: {', '.join(_TAKEN)}.")
    words, take = _TAKEN[kind]
    try:
        return take(value)
    except (ValueError, TypeError, OverflowError):
        raise _refused(what, words, value) from None


def limited(what: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False) -> Any:
    """The value, if it lies between its limits (or is None); every entry of a tuple.  KdnbError if not."""
    for entry in value if isinstance(value, tuple) else (value,):
        if entry is not None and (entry < low or entry > high or (open_low and entry == low)):
            least = f"greater than {low:g}" if open_low else f"at least {low:g}"
            most = f" and at most {high:g}" if math.isfinite(high) else ""
            raise KdnbError(f"{what} must be {least}{most}; it was given as {entry}.")
    return value


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


def _refuse(constant: str) -> float:
    raise ValueError(f"it holds {constant}")


def _choices(kind: str) -> list[str]:
    chosen = ast.literal_eval(kind.removeprefix("Literal[").removesuffix("]"))
    return list(chosen) if isinstance(chosen, tuple) else [chosen]


def _refused(what: str, words: str, value: Any) -> KdnbError:
    return KdnbError(f"{what} is {words}; {short(repr(value))} is not.")


def _truth(value: Any) -> bool:
    if isinstance(value, str):
        return _WORDS[value.strip().lower()] if value.strip().lower() in _WORDS else _no()
    return value if isinstance(value, bool) else _no()


def _count(value: Any) -> int:
    number = _number(value)
    return int(number) if number == int(number) and abs(number) <= LARGEST_WHOLE else _no()


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError
    number = float(value) + 0.0  # the zero below zero is zero
    return number if math.isfinite(number) else _no()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _no()


def _no() -> Any:
    raise ValueError


_TAKEN: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "float": ("a number", _number),
    "int": ("a whole number", _count),
    "bool": ("true or false", _truth),
    "str": ("a text", _text),
}
