"""Scores: what a number of a table is, in which unit, and whether more of it is better."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kdnb.study.record import Record

if TYPE_CHECKING:
    from kdnb.study.statistics import Difference


@dataclass(frozen=True)
class Score:
    """A number of a record as tables tell it: `offset + factor * record.metrics[metric]`.

    unit              what stands behind a caption: `percent`, `nats`; a count has none
    sign              what stands behind a number in a sentence: ` %`
    points            the unit of a difference, where it is not the score's own
    higher_is_better  False for errors, distances, losses, and counts of what is better small
    printed           the metric's name in the papers' CSV, where it is another one
    readings          other metrics that are the same thing read in another way: of the last epoch, of all images
    otherwise         the metric of records that have none of this name: who learns alone has no peer
    """

    metric: str
    title: str
    unit: str = ""
    sign: str = ""
    points: str = ""
    factor: float = 1.0
    offset: float = 0.0
    decimals: int = 2
    higher_is_better: bool = True
    printed: str = ""
    readings: tuple[str, ...] = ()
    otherwise: str = ""

    def of(self, record: Record, reading: str = "") -> float:
        """The score of a run, or another reading of it; NaN where the record does not tell."""
        if reading and reading not in self.readings:
            return math.nan
        instead = math.nan if reading else record.metrics.get(self.otherwise, math.nan)
        return self.offset + self.factor * record.metrics.get(reading or self.metric, instead)

    @property
    def key(self) -> str:
        """What the papers' CSV calls it."""
        return self.printed or self.metric

    @property
    def direction(self) -> int:
        """1, or -1 where less is better: a difference times this is a gain."""
        return 1 if self.higher_is_better else -1

    def text(self, value: float, signed: bool = False) -> str:
        """`69.78`, or as a difference `+1.20`."""
        value = round(value, 9) + 0.0  # what is zero but for rounding has another sign on another processor
        return f"{value:{'+' if signed else ''}.{self.decimals}f}"

    def interval(self, low: float, high: float) -> str:
        """`[1.20, 3.40]`."""
        return f"[{self.text(low)}, {self.text(high)}]"

    def difference(self, found: Difference) -> str:
        """`+8.53 [6.71, 10.35]`; no interval from one seed."""
        ends = f" {self.interval(found.low, found.high)}" if found.known else ""
        return self.text(found.value, signed=True) + ends

    def told(self, value: float) -> str:
        """`69.78 %`: the score in a sentence."""
        return self.text(value) + (self.sign or (f" {self.unit}" if self.unit else ""))

    def gain(self, value: float) -> str:
        """`1.20 points`, `0.03 nats`: a gain in a sentence."""
        unit = self.points or self.unit
        return self.text(value) + (f" {unit}" if unit else "")

    @property
    def heading(self) -> str:
        """The head of a column: `mAP, percent`, `Error, percent, less is better`."""
        less = "" if self.higher_is_better else "less is better"
        return ", ".join(part for part in (self.title, self.unit, less) if part)


def percent(metric: str, title: str, **further: Any) -> Score:
    """A share of a record, in 0..1, as percent; differences of it are points.  `further` are fields of `Score`."""
    return Score(metric, title, "percent", " %", "points", 100.0, **further)


def error(metric: str, title: str, **further: Any) -> Score:
    """The same told as the share that is wrong: less is better."""
    return replace(percent(metric, title, **further), factor=-100.0, offset=100.0, higher_is_better=False)


#: The protocol's own score: accuracy by its rule for which epoch counts, on its test images.
ACCURACY = percent("headline", "Accuracy", printed="top1_accuracy", readings=("last", "all_images"))
ERROR = error("headline", "Error", printed="top1_error", readings=("last", "all_images"))
