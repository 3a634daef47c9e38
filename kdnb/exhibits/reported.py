"""What the papers print, from their CSV."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kdnb import paths
from kdnb.errors import KdnbError

#: The key of the row, with its pair of networks where a table has several, that a line of a paper's CSV belongs to.
KeyOf = Callable[[Mapping[str, str]], str]
#: The key of the score that a line of a paper's CSV is a number of.
MetricOf = Callable[[Mapping[str, str]], str]


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

    A number that stands there twice is one.  Raises KdnbError where two different ones have one key.
    """
    path = paths.reported() / f"{paper}.csv"
    with open(path, newline="", encoding="utf-8") as stream:
        lines = [line for line in csv.DictReader(stream) if line["exhibit"] == exhibit and line["value"]]
    found: dict[tuple[str, str, str], Printed] = {}
    for line in lines:
        key = line["dataset"], metric_of(line), key_of(line)
        std, misprinted = float(line["std"]) if line["std"] else None, line["note"].startswith("typo")
        printed = Printed(float(line["value"]), std, misprinted)
        if found.setdefault(key, printed) != printed:
            raise KdnbError(
                f"{path} prints two numbers in {exhibit} for {', '.join(key)}: {found[key].value:g} and "
                f"{printed.value:g}; the `key_of` of {paper} has to tell their rows apart."
            )
    return found
