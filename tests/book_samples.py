"""A small store for pages: records of the comparison's table as a study would leave them, made without training."""

from __future__ import annotations

import base64
import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np

from kdnb import analysis, exhibits, paths
from kdnb.exhibits import wanted
from kdnb.exhibits.wanted import of_cell
from kdnb.study import plan
from kdnb.study.environment import source_digest
from kdnb.study.experiment import Run
from kdnb.study.profile import get_profile
from kdnb.study.record import Record
from kdnb.study.store import Store
from kdnb.tables.sheet import Table

EPOCHS = 10


def fill(
    store: Store,
    profile: str = "demo",
    seeds: int = 2,
    dataset: str | None = None,
    key: str = "comparison",
    rows: Sequence[str] | None = None,
) -> None:
    """Write records of every cell under a profile, or of some rows, over whatever this machine has: scores are known.

    A run that stands in several tables is written once, with the arrays that any of them keeps.  What rows wait for
    to be settled is written first.
    """
    scores: dict[tuple[str, int], float] = {}
    awaited = {
        run: None for exhibit in exhibits.select(key) for c in exhibit.cells(profile, dataset) for run in c.awaits
    }
    for place, run in enumerate(awaited):
        scores[run.key] = accuracy(place, run.seed)
        _write(store, run, scores[run.key])
    wanted: list[Run] = []
    for exhibit in exhibits.select(key):
        for name in [dataset] if dataset else exhibit.datasets_of(profile):
            for place, cell in enumerate(exhibit.cells(profile, name, rows)):
                runs = of_cell(cell, seeds)
                wanted += runs
                for run in runs:
                    scores.setdefault(run.key, accuracy(place, run.seed))
    with patch("os.fsync"):  # nobody pulls the plug
        for run in plan.with_needs(wanted):
            if run.key in scores:
                _write(store, run, scores[run.key])


def accuracy(place: int, seed: int) -> float:
    """A score in 0..1 for the row at a place of its table: later rows are better, seeds differ by what noise would."""
    return round(0.6 + 0.01 * place + 0.003 * ((7 * place + 5 * seed) % 4), 4)


def commands_of(table: Table) -> list[str]:
    """The commands that stand below a table."""
    return [line.removeprefix("$ ") for line in table.rerun.splitlines() if line.startswith("$ ")]


def asked_for(command: str) -> set[tuple[str, int]]:
    """Every run that a `kdnb study` with these words fills, less what those need."""
    words = shlex.split(command)
    assert words[:2] == ["kdnb", "study"]
    said = dict(zip(words[2::2], words[3::2], strict=True))
    chosen, profile = wanted.select(said["--exhibit"]), get_profile(said["--profile"])
    found = wanted.runs(chosen, profile, said.get("--dataset"), int(said["--seeds"]), said.get("--rows"))
    return {run.key for run in found}


def _write(store: Store, run: Run, score: float) -> None:
    store.write(run, _record(run, score), "comparison", _arrays(run))
    for stage in run.experiment.shared_stages():
        first = Run(stage, run.seed)
        loss = [round(float(np.exp(-e / 3)), 4) for e in range(1, EPOCHS + 1)]
        store.write(first, _record(first, score, {"validation_loss": loss}), "comparison")


def _arrays(run: Run) -> dict[str, np.ndarray]:
    """What figures draw of 60 test images of ten classes: arrays of the shapes that a study would leave.

    Of those that no sample of a page shows, only that they are there.
    """
    draw = np.random.default_rng(run.seed)
    made = {
        "plane": draw.normal(size=(60, 2)).astype(np.float32),
        "labels": (np.arange(60) % 10).astype(np.uint8),
        "student_means": draw.normal(size=(10, 10)).astype(np.float16),
        "teacher_means": draw.normal(size=(10, 10)).astype(np.float16),
        **_of_dictionaries(draw),
    }
    kept = [name for key in run.keeps for name in analysis.get(key).kept_arrays]
    return {name: made[name] if name in made else np.ones(3) for name in kept}


def _kept_metrics(run: Run) -> list[str]:
    return [name for key in run.keeps if not analysis.get(key).at for name in analysis.get(key).metrics]


def _of_dictionaries(draw: np.random.Generator) -> dict[str, np.ndarray]:
    """Two images, and two layers of 8x8 and 4x4 pixels with dictionaries of 6 and 12 atoms."""
    labels = draw.integers(0, 6, size=2 * (64 + 16)).astype(np.uint16)
    return {
        "pictured": draw.integers(0, 256, size=(2, 16, 16, 3)).astype(np.uint8),
        "teacher_pixel_labels": labels,
        "student_pixel_labels": labels[::-1].copy(),
        "label_sides": np.array([[8, 8], [4, 4]]),
        "atom_use": np.concatenate([np.full(6, 1 / 6), np.full(12, 1 / 12)]).astype(np.float32),
        "atom_counts": np.array([6, 12]),
        "atoms_kept": np.array([1, 2]),
        "sparsities": np.array([0.1, 0.5, 1.0]),
        "unexplained_by_sparsity": np.array([[0.9, 0.5, 0.6], [0.8, 0.4, 0.5]], np.float32),
        "unexplained_by_layer": np.array([0.85, 0.75], np.float32),
    }


def _record(run: Run, score: float, columns: dict[str, list[float]] | None = None) -> Record:
    rise = [round(score * (1 - float(np.exp(-e / 3))), 4) for e in range(1, EPOCHS + 1)]
    history = {"epoch": list(range(1, EPOCHS + 1)), "lr": [0.1] * EPOCHS, "ce": [round(2 - r, 4) for r in rise]}
    history |= columns or {"train_accuracy": rise, "validation_accuracy": rise}
    bits = np.random.default_rng(run.seed).random(600) < score
    return Record(
        experiment=run.experiment.canonical(),
        fingerprint=run.experiment.fingerprint,
        seed=run.seed,
        metrics=dict.fromkeys(_kept_metrics(run), 0.5)
        | ({"selected": score} if run.experiment.recipe and run.experiment.recipe.selection == "steps" else {})
        | {"epochs": EPOCHS, "headline": score, "last": score - 0.002, "all_images": score + 0.001},
        history=history,
        cost={"wall_seconds": 3.5, "images_per_s": 2000.0, "cohort_size": 4, "device": "CPU, 2 threads"},
        environment={"numerics": {"device": "cpu"}, "versions": {"torch": "2.15.0"}, "commit": "0123456789ab"}
        | {"sources": source_digest()},
        correct=base64.b64encode(np.packbits(bits).tobytes()).decode(),
    )


TOC = """\
format: jb-book
root: book/index
parts:
  - chapters:
      - file: book/how_to_read
      - file: book/rerun
      - file: book/data
  - caption: All of them
    chapters:
      - file: book/executed/leaderboard/leaderboard
      - file: book/executed/evidence/ledger
      - file: book/executed/evidence/how_sure
      - file: book/executed/evidence/coverage
  - caption: The papers
    chapters:
      - file: book/papers/comparison
        subtrees:
          - caption: Tables and findings
            sections:
              - file: book/executed/comparison/kd
              - file: book/executed/comparison/table1
              - file: book/executed/comparison/schedule
          - caption: Behind the numbers
            sections:
              - file: book/executed/comparison/evidence
              - file: book/executed/comparison/runs
      - file: book/papers/slkd
        sections:
          - file: book/executed/slkd/table1
          - file: book/executed/slkd/table2
          - file: book/executed/slkd/evidence
          - file: book/executed/slkd/runs
  - caption: The project
    chapters:
      - file: book/reference/losses
      - file: book/references
"""
#: What the sample's pages show; a whole book has all exhibits.
SHOWN = "comparison,slkd"
#: What stands in that table of contents: the pages that the book's own texts lead to, and one of a method.
PAGES = (
    *("comparison/kd", "comparison/table1", "comparison/schedule", "comparison/evidence", "comparison/runs"),
    *("slkd/table1", "slkd/table2", "slkd/evidence", "slkd/runs"),
    *("leaderboard/leaderboard", "evidence/ledger", "evidence/how_sure", "evidence/coverage"),
)


def project(folder: Path) -> Path:
    """A project of its own with the real book's texts and some of its notebooks."""
    for page in PAGES:
        target = folder / "notebooks" / f"{page}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.ROOT / "notebooks" / f"{page}.ipynb", target)
    shutil.copytree(paths.ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("executed", "records"))
    for name in ("Snakefile", "_config.yml", "CITATION.cff", "pyproject.toml"):
        shutil.copy(paths.ROOT / name, folder)
    (folder / "_toc.yml").write_text(TOC, encoding="utf-8")
    graph = (folder / "Snakefile").read_text(encoding="utf-8")
    few = graph.replace('config.get("exhibits", "all")', f'config.get("exhibits", "{SHOWN}")')
    assert few != graph, "the sample trains what its pages show, and the Snakefile says that in another way now"
    (folder / "Snakefile").write_text(few, encoding="utf-8")
    return folder


def notebook(path: Path, *cells: str, parameters: str = 'profile = "demo"\nseeds = 1', **metadata: object) -> Path:
    """A notebook with one cell of parameters and some of code."""
    content = {
        "cells": [_cell(0, parameters, ["parameters"]), *(_cell(i, c, []) for i, c in enumerate(cells, 1))],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "kdnb": metadata,
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _cell(number: int, source: str, tags: list[str]) -> dict[str, object]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": f"cell-{number}",
        "metadata": {"tags": tags},
        "outputs": [],
        "source": source,
    }
