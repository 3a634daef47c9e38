"""The papers' tables, regenerated: what the paper prints beside what was measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from kdnb import datasets, exhibits, page
from kdnb.exhibits import Cell, Exhibit, Row
from kdnb.exhibits.exhibit import COLUMNS, line_of
from kdnb.study.store import Store
from kdnb.tables.sheet import Entry, Line, Table, line

#: Groups of columns by profile, in their order; `paper` always stands there, the others once measured.
TITLES = {
    "paper": "Measured at paper scale",
    "short": "Measured at a quarter of the epochs",
    "pilot": "Measured at pilot scale",
    "demo": "Demo of this build",
}
NOT_YET = "not yet measured"
OF_A_DEMO = (
    "A demo shows that every step runs, and says nothing about the paper: what is meant for hundreds of epochs may "
    "lose to labels alone in ten."
)


@dataclass(frozen=True)
class Group:
    """Neighbouring columns: the paper's numbers, or what was measured under one profile."""

    title: str
    profile: str | None
    datasets: tuple[str, ...]


def results(
    exhibit: Exhibit | str,
    rows: Sequence[str | Row] | None = None,
    profile: str = "demo",
    *,
    name: str = "",
    caption: str = "",
    store: Store | None = None,
) -> Table:
    """The exhibit, or some of its rows: the paper's number, measured mean ± std (n), and this profile's.

    `profile` is the one that the notebook shows beside the published study; a demo is marked as such.
    """
    exhibit = exhibits.get(exhibit) if isinstance(exhibit, str) else exhibit
    store = store or Store.open()
    chosen = [exhibit.row(r) if isinstance(r, str) else r for r in rows or exhibit.rows]
    frame = measured(exhibit, chosen, store, profile)
    groups = _groups(exhibit, frame, profile)
    head = [
        [Entry("Method", rows=2), *(Entry(g.title, columns=len(g.datasets)) for g in groups)],
        line(*(title(dataset) for g in groups for dataset in g.datasets)),
    ]
    empty = {g.profile for g in groups if g.profile and frame[frame["profile"] == g.profile].empty}
    body: list[Line] = []
    for number, row in enumerate(chosen):
        entries = [Entry(row.label, page=page.of_row(exhibit.paper, row.key))]
        for group in groups:
            if group.profile in empty:
                if number == 0:
                    entries.append(Entry(NOT_YET, columns=len(group.datasets), rows=len(chosen)))
                continue
            entries += [_entry(exhibit, row, group.profile, dataset, frame) for dataset in group.datasets]
        body.append(entries)
    return Table(
        name=name or slug(exhibit.key),
        caption=caption or f"{exhibit.title}; percent, mean ± standard deviation (runs).",
        head=head,
        body=body,
        frame=summary(exhibit, chosen, frame, groups),
        note=_note(groups, frame),
        css="kdnb-results",
    )


def measured(exhibit: Exhibit, rows: Sequence[Row], store: Store, profile: str) -> pd.DataFrame:
    """Every stored run of these rows, under every profile of the study and the one that is asked for."""
    lines = []
    for name in dict.fromkeys([*TITLES, profile]):
        for dataset in exhibit.datasets_of(name):
            for cell in exhibit.cells(name, dataset, list(rows)):
                if cell.experiment is not None:
                    found = store.records(cell.experiment.fingerprint)
                    lines += [line_of(cell, seed, record) for seed, record in found.items()]
    return pd.DataFrame(lines, columns=COLUMNS)


def with_lines(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs with the two parts of their row's key: the `pair`, empty where all rows have the same, and the `line`."""
    parts = [str(key).rpartition("/") for key in frame["row"]]
    return frame.assign(pair=[pair for pair, _, _ in parts], line=[line for _, _, line in parts])


def _groups(exhibit: Exhibit, frame: pd.DataFrame, profile: str) -> list[Group]:
    groups = [] if exhibit.ablation else [Group("The paper", None, exhibit.datasets)]
    for name in dict.fromkeys([*TITLES, profile]):
        shown = name == "paper" or name == profile or (name != "demo" and (frame["profile"] == name).any())
        if shown:
            names = exhibit.datasets_of(name)
            if name not in ("paper", profile):  # only the data sets that have runs
                names = tuple(d for d in names if (frame[frame["profile"] == name]["dataset"] == d).any())
            groups.append(Group(TITLES.get(name, f"Profile {name}"), name, names))
    return groups


def _entry(exhibit: Exhibit, row: Row, profile: str | None, dataset: str, frame: pd.DataFrame) -> Entry:
    if profile is None:
        printed = exhibit.cells("paper", dataset, [row])[0].reported
        return Entry("–" if printed is None else f"{printed:.2f}")
    values = frame.query("row == @row.key and profile == @profile and dataset == @dataset")["value"]
    if values.empty:
        return Entry("not yet")
    target = runs_label(exhibit, profile, dataset, row.key) if page.exists(exhibit.paper, "runs") else ""
    return Entry(spread(values), target=target)


def spread(values: pd.Series) -> str:
    """`69.78 ± 0.31 (3)`, or `69.78 (1)`: no spread from one run."""
    if len(values) == 1:
        return f"{values.iloc[0]:.2f} (1)"
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f} ({len(values)})"


def summary(exhibit: Exhibit, rows: Sequence[Row], frame: pd.DataFrame, groups: Sequence[Group]) -> pd.DataFrame:
    """The table in long form: one line a cell and profile."""
    lines = []
    for group in groups:
        if group.profile is None:
            continue
        for dataset in group.datasets:
            for cell in exhibit.cells(group.profile, dataset, list(rows)):
                lines.append(summary_line(cell, frame))
    return pd.DataFrame(lines)


def summary_line(cell: Cell, frame: pd.DataFrame) -> dict[str, object]:
    """One cell and profile as a line of the CSV: printed, mean, spread, seeds."""
    key, profile, dataset = cell.row.key, cell.profile, cell.dataset
    runs = frame.query("row == @key and profile == @profile and dataset == @dataset")
    values = runs["value"]
    return {
        "row": key,
        "label": cell.row.label,
        "dataset": dataset,
        "profile": profile,
        "reported": cell.reported,
        "mean": round(values.mean(), 4) if len(values) else None,
        "std": round(values.std(ddof=1), 4) if len(values) > 1 else None,
        "runs": len(values),
        "seeds": " ".join(str(s) for s in runs["seed"]),
        "last_epoch_mean": round(runs["last"].mean(), 4) if len(values) else None,
        "all_images_mean": round(runs["all_images"].mean(), 4) if len(values) else None,
        "fingerprint": cell.experiment.fingerprint if cell.experiment else "",
    }


def _note(groups: Sequence[Group], frame: pd.DataFrame) -> str:
    """Which networks stand behind each group, and what may not be read into a demo."""
    said = []
    for group in groups:
        runs = frame[(frame["profile"] == group.profile) & (frame["teacher"] != "")]
        pairs = sorted(set(runs["teacher"] + " → " + runs["student"]))
        if pairs:
            said.append(f"{group.title}: {', '.join(pairs)}.")
    if any(g.profile == "demo" for g in groups):
        said.append(OF_A_DEMO)
    if page.in_book():
        said.append("Measured numbers lead to their runs.")
    return " ".join(said)


def title(dataset: str) -> str:
    """How a data set is called in a table."""
    return datasets.title(dataset)


def slug(key: str) -> str:
    """A key as it can stand in labels and file names."""
    return re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")


def runs_label(exhibit: Exhibit, profile: str, dataset: str, row: str) -> str:
    """The label on the page of runs where a cell's runs begin."""
    return slug(f"runs {exhibit.key} {profile} {dataset} {row}")
