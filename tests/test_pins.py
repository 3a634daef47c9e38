"""What stands in the book on the records of one day: verdicts, their numbers and every caption, word for word.

`KDNB_WRITE_PINS=1 pytest tests/test_pins.py` writes the pins again, from the records that they name: only where
something was meant to change.  Records that came later change nothing here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from book_samples import fill

from kdnb import exhibits, paths, plots, tables
from kdnb.exhibits import slkd
from kdnb.exhibits.show import show
from kdnb.study.store import Store
from kdnb.tables.claims import told_of_claims, verdicts
from kdnb.tables.sheet import Said

PINS = Path(__file__).with_name("pins.json")
RESULTS = paths.ROOT / "data" / "results"
EXHIBITS = {
    "comparison": ("comparison/table1", "comparison/schedule", "comparison/kd-temperature"),
    "slkd": ("slkd/table1", "slkd/table3", "slkd/table6", "slkd/control", "slkd/fig4"),
}
#: The measurement of steps that there was.
STEPS = "cpu-2-cores-methods.json"
WRITE = bool(os.environ.get("KDNB_WRITE_PINS"))


def judged(paper: str) -> dict[str, list[str]]:
    """Every verdict of a paper at pilot scale, and every comparison that it used, a line each."""
    found = {}
    for key, verdict in verdicts(paper, Store.open())["pilot"].items():
        needed = verdict.seeds_needed
        lines = [f"{verdict.status}; {len(verdict.missing)} missing, {len(verdict.repeated)} repeated; {needed} seeds"]
        for finding in (*verdict.findings, *verdict.evidence):
            d, r = finding.difference, finding.correlation
            numbers = (d.value, d.low, d.high, d.n, d.method) if d else (r.pearson, r.low, r.high, r.n, r.spearman)
            # What is zero but for rounding is another rounding on another processor.
            told = ", ".join(f"{round(n, 9) + 0.0:.6g}" if isinstance(n, float) else str(n) for n in numbers)
            printed = "–" if finding.printed is None else f"{finding.printed:g}"
            says = {True: "for", False: "against", None: "open"}[finding.truth]
            lines.append(f"{finding.place}: {finding.text}: {says}: {told}; print {printed}; {finding.seeds_needed}")
        found[key] = lines
    return found


def digest(text: str) -> str:
    """Enough to tell that it is the same."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _tables(papers: Sequence[str]) -> Iterator[Any]:
    for exhibit in map(exhibits.get, (key for paper in papers for key in EXHIBITS[paper])):
        yield from [tables.results(exhibit)] if exhibit.paper == "comparison" else tables.pairs(exhibit)
        yield from tables.runs(exhibit)
    for paper in papers:
        yield tables.claims(paper)
        yield from tables.evidence(paper)
    if "comparison" in papers:
        yield from tables.selection(show("comparison/table1"))
        yield tables.parameters("comparison/table1", ["plain", "kd", "crd", "fitnet+kd"])


def _figures(papers: Sequence[str]) -> Iterator[Any]:
    for paper in papers:
        yield from map(plots.rows, EXHIBITS[paper])
    if "comparison" in papers:
        yield from (plots.gains("comparison/table1"), plots.accuracy_and_cost("comparison/table1"))
        yield plots.alone_and_combined("comparison/table1")
        yield from plots.training(show("comparison/table1", ["plain", "kd", "fitnet"]), of="fitnet").plots
    if "slkd" in papers:
        yield from (plots.gains("slkd/table1"), plots.gains("slkd/table7", over="kd"))
        yield from (plots.courses("slkd/fig2", slkd.trajectories()), plots.courses("slkd/fig4", slkd.GUIDES))
        yield from (plots.planes("slkd/fig5"), plots.logit_gaps("slkd/fig6", **slkd.LOGIT_GAPS))


def now(*papers: str) -> dict[str, Any]:
    """What today's code says of the records that are there."""
    shown = {}
    for number, table in enumerate(_tables(papers)):
        if isinstance(table, Said):
            shown[f"said in place of table {number}"] = table.text
            continue
        body = "\n".join(" | ".join(entry.text for entry in line) for line in (*table.head, *table.body))
        shown[f"table {table.name}"] = [table.caption, table.note, digest(body)]
    for plot in _figures(papers):
        shown[f"figure {plot.name}"] = [plot.caption, f"{len(plot.frame)} lines"]
    for paper in papers:
        shown[f"{paper} in short"] = [*tables.in_short(paper).lines, *told_of_claims(paper)]
    return {"verdicts": {paper: judged(paper) for paper in papers}, "shown": shown}


@pytest.fixture(scope="module")
def pins() -> Iterator[dict[str, Any]]:
    found = json.loads(PINS.read_text()) if PINS.exists() else {}
    yield found
    if WRITE:
        PINS.write_text(json.dumps(found, indent=0, ensure_ascii=False) + "\n")


@pytest.fixture
def book(tmp_path, monkeypatch, empty_project):
    """A page of a book is made in a folder of its own; only the steps that were timed by that day are there."""
    (paths.committed_results() / "bench").mkdir(parents=True)
    shutil.copy(RESULTS / "bench" / STEPS, paths.committed_results() / "bench")
    monkeypatch.setenv("KDNB_BATCH", "1")
    monkeypatch.setattr("os.fsync", lambda file: None)
    monkeypatch.chdir(tmp_path)


def check(pins: dict[str, Any], state: str, found: dict[str, Any]) -> None:
    if WRITE:
        pins[state] = found
    assert found["verdicts"] == pins[state]["verdicts"]
    assert found["shown"].keys() == pins[state]["shown"].keys()
    for name, lines in pins[state]["shown"].items():
        assert found["shown"][name] == lines, name


def test_what_the_book_says_of_these_records_stays_word_for_word(pins, book):
    if WRITE:
        pins.setdefault("records", sorted(str(path.relative_to(RESULTS)) for path in RESULTS.glob("*/**/seed*.json")))
    for name in pins["records"]:
        target = paths.committed_results() / name
        target.parent.mkdir(parents=True, exist_ok=True)
        for path in RESULTS.joinpath(name).parent.glob(f"{target.stem}.*"):
            shutil.copy(path, target.parent)
    check(pins, "measured", now("comparison"))


def test_what_the_book_would_say_of_a_whole_pilot_stays_word_for_word(pins, book):
    fill(Store.open(), "pilot", seeds=2, key="slkd")
    fill(Store.open(), "paper", seeds=1, key="slkd/table1")
    check(pins, "made", now("slkd"))
