"""The order of work: which runs a part of the study asks for, in which order, and the jobs that they make.

The command line, the dashboard, the notebooks and the Snakefile ask here.  Free of torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kdnb import analysis, datasets, exhibits
from kdnb.errors import KdnbError, unknown
from kdnb.exhibits.exhibit import Cell, Exhibit, no_data_set
from kdnb.study import checking, plan
from kdnb.study.experiment import Experiment, Run
from kdnb.study.profile import PROFILES, Profile
from kdnb.study.store import Store


def select(keys: str, dataset: str | None = None) -> list[Exhibit]:
    """The exhibits of some keys, by commas, each once: `<paper>/<name>`, a whole `<paper>`, or `all`.

    Where `dataset` is a reader's own images, those of them that can be made on it; KdnbError where none can.
    """
    chosen = list({e.key: e for key in keys.split(",") for e in exhibits.select(key.strip())}.values())
    if dataset is None or not datasets.is_own(dataset):
        return chosen
    found = [exhibit.on(dataset) for exhibit in chosen if exhibit.for_own_images]
    if not found:
        open_to_all = ", ".join(e.key for e in exhibits.select("all") if e.for_own_images)
        raise KdnbError(f"{keys} is not made on images of your own; these are: {open_to_all}.")
    return found


def of_cell(cell: Cell, seeds: int) -> list[Run]:
    """The runs of one cell: `seeds` of them, but one teacher teaches them all."""
    return cell.runs(1 if cell.row.role == "teacher" else seeds)


def runs(
    chosen: Iterable[Exhibit],
    profile: Profile,
    dataset: str | None = None,
    seeds: int | None = None,
    rows: str | None = None,
) -> list[Run]:
    """The runs of the cells in rounds: all rows of a data set at seed 1, then at seed 2, ...; then the next set.

    Before them come the runs that settle cells which wait; these cells have no runs of their own until then.  Where
    several exhibits are asked for some rows, what waits for all rows of a table goes on waiting.
    Without `seeds` each exhibit has as many as its profile has time for.  `rows` are named by commas.
    Raises KdnbError for a data set or a row that none of the exhibits has, for a row that is named and cannot be run
    under this profile, and for a score that no run would have.
    """
    chosen = list(chosen)
    names = list(dict.fromkeys(name for exhibit in chosen for name in exhibit.datasets_of(profile)))
    if dataset is not None and dataset not in names:
        open_to_own = any(exhibit.for_own_images for exhibit in chosen)
        known = [*names, *(datasets.own_names() if open_to_own else ())]
        raise no_data_set("data set", dataset, profile, known, open_to_own)
    keys = asked(chosen, rows)
    wanted: list[Run] = []
    found: list[Cell] = []
    for name in [dataset] if dataset else names:
        cells = [
            (exhibit, cell)
            for exhibit in chosen
            if name in exhibit.datasets_of(profile)
            for cell in exhibit.cells(profile, name)
            if keys is None or keys & cell.names
        ]
        _refuse_scores_that_nobody_measures(cells)
        found += [cell for _, cell in cells]
        narrow = keys is not None and len(chosen) > 1
        waiting = [cell for _, cell in cells if not (narrow and cell.awaits_table)]
        wanted += dict.fromkeys(run for cell in waiting for run in cell.awaits)
        of_cells = [of_cell(cell, seeds or exhibit.seeds(profile)) for exhibit, cell in cells]
        for turn in range(max(map(len, of_cells), default=0)):
            wanted += [of_one[turn] for of_one in of_cells if turn < len(of_one)]
    _refuse_rows_without_runs(keys or (), found, profile)
    return wanted


#: More rows than these are counted where they wait, and not named; so many tables are named where a row is.
MOST_NAMED, FEW_NAMED = 10, 3
#: What every run has in its record beside its scores and what is always measured.
OF_EVERY_RUN = ("epochs", "selected", "selected_epoch", "best_seen", "best_seen_epoch", *checking.SCORES)


def _refuse_rows_without_runs(keys: Iterable[str], cells: Sequence[Cell], profile: Profile) -> None:
    """Who names a row wants its runs: that it has none is said, and not passed over."""
    for key in sorted(keys):
        named = [cell for cell in cells if key in cell.names]
        if not any(cell.experiment or cell.waits for cell in named):
            why = "; ".join(dict.fromkeys(cell.why_not for cell in named)) or "no table has it on these images"
            raise KdnbError(
                f"'{key}' cannot be run under profile '{profile.name}': {why}. Leave it out of --rows, or take another "
                "profile."
            )


def _refuse_scores_that_nobody_measures(cells: Iterable[tuple[Exhibit, Cell]]) -> None:
    """Before anything is trained for a column that would stay empty."""
    always = {*OF_EVERY_RUN, *(metric for name in analysis.ALWAYS for metric in analysis.get(name).metrics)}
    for exhibit, cell in cells:
        kept = {name for names in cell.column.keeps.values() for name in names}
        measured = always | {metric for name in kept for metric in analysis.get(name).metrics}
        if cell.experiment is not None and cell.score.metric not in measured:
            raise KdnbError(
                f"The score '{cell.score.title}' of {exhibit.key} is the metric '{cell.score.metric}', which no run "
                f"would have: name the measurement that makes it in the `keeps` of the column {cell.column.key}."
            )


def why_not(chosen: Iterable[Exhibit], profile: Profile) -> str:
    """Why cells have no experiment, each reason once."""
    reasons = dict.fromkeys(cell.why_not for _, cell in _cells(chosen, profile) if cell.why_not)
    return "; ".join(reasons) or "its cells were not asked for"


def awaited(chosen: Iterable[Exhibit], profile: Profile, rows: str | None = None) -> list[str]:
    """Which rows wait, and what for, a line for each reason."""
    chosen = list(chosen)
    keys, found = asked(chosen, rows), dict[str, list[str]]()
    for _, cell in _cells(chosen, profile):
        if cell.waits and (keys is None or keys & cell.names):
            found.setdefault(cell.why_not, []).append(cell.row.label)
    return [f"not yet: {_labels_told(list(dict.fromkeys(labels)))}: {why}" for why, labels in found.items()]


def _labels_told(labels: list[str]) -> str:
    return "; ".join(labels) if len(labels) <= MOST_NAMED else f"{len(labels)} rows"


def papers(chosen: Iterable[Exhibit], profile: Profile) -> dict[str, str]:
    """Experiment -> the paper that files it, needs included: the first that has it."""
    found: dict[str, str] = {}
    for exhibit, cell in _cells(chosen, profile):
        for run in plan.with_needs([*cell.awaits, *cell.runs(1)]):
            found.setdefault(run.experiment.fingerprint, exhibit.paper)
    return found


def experiment_of(fingerprint: str) -> Experiment | None:
    """The experiment that a record belongs to, if a cell of today has it, or needs it, at any profile."""
    return next((found for found in every_experiment() if found.fingerprint == fingerprint), None)


def every_experiment() -> Iterator[Experiment]:
    """What the cells of today compute, those on a reader's own images too, at every profile; needs before users."""
    for profile in PROFILES.values():
        for _, cell in _cells([*select("all"), *exhibits.on_own_images()], profile):
            yield from (run.experiment for run in plan.with_needs(cell.runs(1)))


@dataclass(frozen=True)
class Planned(plan.Job):
    """A job of the plan, and which of its runs are left to do."""

    left: tuple[Run, ...]

    @property
    def done(self) -> bool:
        """Whether nothing is left of it."""
        return not self.left

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets whose images its runs learn from."""
        return tuple(dict.fromkeys(run.experiment.images.dataset for run in self.runs))


def jobs(wanted: Iterable[Run], store: Store) -> list[Planned]:
    """All jobs of the wanted runs, done or not, needs before users."""
    wanted = list(wanted)
    missing = {run.key for run in plan.missing(wanted, store)}
    return [
        Planned(job.id, job.runs, job.needs, tuple(run for run in job.runs if run.key in missing))
        for job in plan.jobs(wanted)
    ]


def lacking(planned: Iterable[Planned], wanted: Iterable[Run], store: Store) -> list[Planned]:
    """Those of the jobs that have to be done before all of the wanted runs are there."""
    keys = {run.key for run in plan.missing(wanted, store)}
    return [job for job in planned if any(run.key in keys for run in job.runs)]


def _cells(chosen: Iterable[Exhibit], profile: Profile) -> Iterable[tuple[Exhibit, Cell]]:
    for exhibit in chosen:
        yield from ((exhibit, cell) for cell in exhibit.cells(profile))


def asked(chosen: Sequence[Exhibit], rows: str | None) -> set[str] | None:
    """The names of rows that are asked for, by commas; None for all.  See `Cell.names`.

    Raises KdnbError for one that none of the exhibits has; it names the exhibits that do.
    """
    if rows is None:
        return None
    keys = {key.strip() for key in rows.split(",")}
    known = {name for exhibit in chosen for name in exhibit.names()}
    for key in sorted(keys - known):
        elsewhere = [exhibit.key for exhibit in exhibits.select("all") if key in exhibit.names()]
        if not elsewhere:
            raise unknown("row", key, known)
        more = f" and {len(elsewhere) - FEW_NAMED} more" if len(elsewhere) > FEW_NAMED else ""
        raise KdnbError(
            f"'{key}' is no row of {', '.join(exhibit.key for exhibit in chosen)}; it is one of "
            f"{', '.join(elsewhere[:FEW_NAMED])}{more}: name the table, as in --exhibit {elsewhere[0]}."
        )
    return keys
