"""What a run leaves behind: one JSON file, small enough to read, complete enough to be believed."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdnb.errors import StoreError
from kdnb.kinds import parsed
from kdnb.study import checking

#: A history longer than this is thinned, evenly, keeping the first and the last epoch.
LONGEST_HISTORY = 64
#: ... and so is one of more columns than seven, so that a record stays small.
MOST_NUMBERS = 448
#: Bytes of a record, which is refused where it would be larger: what grows with the images lies beside it.
LARGEST_RECORD = 8 * 1024


@dataclass(frozen=True)
class Record:
    """One run's result.

    metrics      shares in 0..1: `headline` (the protocol's), `last`, `all_images`, `selected` (on the validation part),
                 `best_seen` (the best epoch's where the test images themselves are watched: selected on them),
                 `ece`, `agreement` (with the teacher's first choice); in nats `nll` and `teacher_kl`; `brier` in 0..2;
                 `epochs`; and in units of their own what analyses found whose arrays are kept.  Of a run that diverged
                 `epochs` alone, which it ended, and `diverged`, the one in which its numbers were not finite any more
    correct      one packed bit per test image, in canonical order, of the headline's weights; empty where the images
                 are too many for a record: then the bits lie with the predictions (`kdnb.study.predictions`)
    history      column -> values, one an epoch (`epoch` counts from 1)
    cost         wall seconds, images/s, cohort size, device: for estimates only
    environment  numerics, versions, commit, digest of the sources
    arrays       digest of the file of arrays beside the record (`kdnb.study.arrays`); empty where it keeps none
    """

    experiment: dict[str, Any]
    fingerprint: str
    seed: int
    metrics: dict[str, float]
    history: dict[str, list[float]]
    cost: dict[str, Any]
    environment: dict[str, Any]
    correct: str = ""
    arrays: str = ""
    path: Path | None = field(default=None, compare=False)

    @property
    def diverged(self) -> bool:
        """Whether its numbers ceased to be finite: then it has no score, and is not trained again."""
        return "diverged" in self.metrics

    def to_json(self) -> str:
        """The record as text; raises StoreError where a number is not finite, or the text too large."""
        text = self._text()
        if len(text) > LARGEST_RECORD:
            raise StoreError(
                f"The record of {self.fingerprint}, seed {self.seed}, would have {len(text):,} bytes, and may have "
                f"{LARGEST_RECORD:,}; what is told of every image belongs into the arrays beside it."
            )
        return text

    def with_history(self, history: dict[str, list[float]]) -> Record:
        """The record with a history: `thinned`, and further where there is no room for that much."""
        longest = LONGEST_HISTORY
        while True:
            record = dataclasses.replace(self, history=thinned(history, longest))
            if longest <= 2 or len(record._text()) <= LARGEST_RECORD:
                return record
            longest //= 2

    def _text(self) -> str:
        content = {
            "fingerprint": self.fingerprint,
            "seed": self.seed,
            "metrics": self.metrics,
            "experiment": self.experiment,
            "cost": self.cost,
            "environment": self.environment,
            "history": self.history,
            "correct": self.correct,
        }
        if self.arrays:
            content["arrays"] = self.arrays
        try:
            lines = [f" {json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in content.items()]
        except ValueError as error:
            raise StoreError(f"The record of {self.fingerprint}, seed {self.seed}, holds a NaN.") from error
        return "{\n" + ",\n".join(lines) + "\n}\n"


def read(path: Path) -> Record:
    """Read a record; raises StoreError that says what is wrong with the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StoreError(f"{path} is no record, since there is no such file; name one that is there.") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is not a whole record ({error}).") from error
    return parse(text, path)


def parse(text: str, path: Path) -> Record:
    """The record that a file at `path` holds, or would hold; raises StoreError that says what is wrong."""
    try:
        content = parsed(text)
        problem = checking.problem(content)
    except ValueError as error:
        problem = str(error)
    if problem:
        raise StoreError(f"{path} is not a whole record ({problem}).")
    return Record(**content, path=path)


def thinned(history: dict[str, list[float]], longest: int = LONGEST_HISTORY) -> dict[str, list[float]]:
    """The history with an `epoch` column, rounded; at most `longest` of its epochs, and MOST_NUMBERS numbers.

    A column that is shorter than the others, an earlier stage's, ends with its stage.
    """
    count = max((len(column) for column in history.values()), default=0)
    kept = list(range(count))
    longest = min(longest, max(2, MOST_NUMBERS // max(1, len(history))))
    if count > longest:
        kept = sorted({round(i * (count - 1) / (longest - 1)) for i in range(longest)})
    columns: dict[str, list[float]] = {"epoch": [i + 1 for i in kept]}
    for name, values in history.items():  # an earlier stage's columns may be shorter
        columns[name] = [_rounded(values[i]) for i in kept if i < len(values)]
    return columns


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
