"""What the papers print, from their CSV."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kdnb import paths
from kdnb.errors import KdnbError

#: The key of the row, with its pair of networks where a table has several, that a line of a paper's CSV belongs to.
KeyOf = Callable[[Mapping[str, str]], str]
#: The key of the score that a line of a paper's CSV is a number of.
MetricOf = Callable[[Mapping[str, str]], str]


#: How a paper's file begins.
HEAD = ("exhibit", "dataset", "teacher", "student", "method", "condition", "metric", "value", "std", "unit", "note")


@dataclass(frozen=True)
class Printed:
    """A number as a paper prints it, in the unit of its score, with the spread behind its ± where it has one.

    One that is `misprinted`, as the note beside it has it, stands in tables and counts in no gain.
    """

    value: float
    std: float | None = None
    misprinted: bool = False


def key_of_method(line: Mapping[str, str]) -> str:
    """The key where a table has one pair of networks: the method's name."""
    return "plain" if line["method"] == "baseline" else line["method"].lower()


def metric_of_line(line: Mapping[str, str]) -> str:
    """The score where a metric is measured in one way alone: the metric's name."""
    return line["metric"]


@functools.cache
def reported(
    paper: str, exhibit: str, key_of: KeyOf = key_of_method, metric_of: MetricOf = metric_of_line
) -> dict[tuple[str, str, str], Printed]:
    """The numbers that a paper prints in an exhibit: (data set, metric, row) -> value and spread.

    A number that stands there twice is one.  Raises KdnbError where two different ones have one key, and for a file
    that is none of a paper's.
    """
    path = file_of(paper)
    found: dict[tuple[str, str, str], Printed] = {}
    for _, line in lines_of(paper):
        if line["exhibit"] != exhibit:
            continue
        key = line["dataset"], metric_of(line), key_of(line)
        std, misprinted = float(line["std"]) if line["std"] else None, line["note"].startswith("typo")
        printed = Printed(float(line["value"]), std, misprinted)
        if found.setdefault(key, printed) != printed:
            raise KdnbError(
                f"{path} prints two numbers in {exhibit} for {', '.join(key)}: {found[key].value:g} and "
                f"{printed.value:g}; the `key_of` of {paper} has to tell their rows apart."
            )
    return found


def file_of(paper: str) -> Path:
    """Where stands what a paper prints."""
    return paths.reported() / f"{paper}.csv"


@functools.cache
def lines_of(paper: str) -> tuple[tuple[int, Mapping[str, str]], ...]:
    """The lines of a paper's file that have a value, each with its number in the file.

    Raises KdnbError, with file and line, where there is no file, its head is another, or a line has not as many fields
    or no number for a value.
    """
    path = file_of(paper)
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            reader = csv.reader(stream)
            lines = [(reader.line_num, fields) for fields in reader if fields]
    except FileNotFoundError:
        raise KdnbError(
            f"There is no {path}, where stands what '{paper}' prints; its head is {','.join(HEAD)}."
        ) from None
    if not lines or tuple(lines[0][1]) != HEAD:
        raise KdnbError(f"{path} has to begin with the head {','.join(HEAD)}.")
    for number, fields in lines[1:]:
        if len(fields) != len(HEAD):
            raise KdnbError(
                f"{path}, line {number}, has {len(fields)} fields where its head has {len(HEAD)}: is there a comma in "
                "a number or a text? A text with a comma stands in quotes."
            )
    found = tuple((number, dict(zip(HEAD, fields, strict=True))) for number, fields in lines[1:])
    for number, line in found:
        for name in ("value", "std"):
            if line[name] and not _is_number(line[name]):
                raise KdnbError(f"{path}, line {number}: the {name} '{line[name]}' is no number.")
    return tuple((number, line) for number, line in found if line["value"])


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
