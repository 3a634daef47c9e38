"""What is missing, in which order, and which runs belong together.  Free of torch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from kdnb.study.experiment import Run
from kdnb.study.store import Store

#: Members of one cohort at most, which bounds memory.
LARGEST_COHORT = 16


@dataclass(frozen=True)
class Job:
    """Runs of one seed that share images and can start together, as many as train side by side: one job of a batch.

    It keeps its `id` when runs join it, so that a batch goes on when settings were chosen that more runs waited for.
    Inside, stages of the same batch size form the cohorts proper.
    """

    id: str
    runs: tuple[Run, ...]
    needs: tuple[str, ...]


def with_needs(wanted: Iterable[Run]) -> list[Run]:
    """The runs with everything they start from or learn from, needs before users, each once.

    A run that is wanted several times keeps what any of them keeps.
    """
    whole = _whole(wanted := list(wanted))
    ordered: dict[tuple[str, int], Run] = {}

    def visit(run: Run) -> None:
        for need in run.needs():
            visit(need)
        ordered.setdefault(run.key, whole.get(run.key, run))

    for run in wanted:
        visit(run)
    return list(ordered.values())


def needed(wanted: Iterable[Run]) -> set[tuple[str, int]]:
    """The keys of the runs whose weights some wanted run, or what it needs, goes on from or learns from."""
    return {need.key for run in with_needs(wanted) for need in run.needs()}


def missing(wanted: Iterable[Run], store: Store) -> list[Run]:
    """What has to be trained, by priority: in the order wanted, needs first, and only where needed."""
    whole = _whole(wanted := list(wanted))
    todo: dict[tuple[str, int], Run] = {}

    def visit(run: Run, weights_needed: bool) -> None:
        run = whole.get(run.key, run)
        if store.diverged(run) and not (weights_needed and run.experiment.scored):
            return
        if store.has(run) and (not weights_needed or store.weights_folder(run) is not None):
            return
        for need in run.needs():
            visit(need, weights_needed=True)
        todo.setdefault(run.key, run)

    for run in wanted:
        visit(run, weights_needed=False)
    return list(todo.values())


def jobs(wanted: Iterable[Run]) -> list[Job]:
    """All runs in jobs, needs before users, in the order of the first run of each."""
    runs = with_needs(wanted := list(wanted))
    level: dict[tuple[str, int], int] = {}
    for run in runs:
        level[run.key] = 1 + max((level[need.key] for need in run.needs()), default=-1)
    goes_on = needed(wanted)
    members: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        e = run.experiment
        # A plain student has no needs of its own, but its place is beside the students of its seed.
        depth = level[run.key] if run.key in goes_on else max(level[run.key], 1)
        key = (e.images, e.profile, run.seed, depth)
        members.setdefault(key, []).append(run)
    members = {part: job for key, runs in members.items() for part, job in _parts(key, runs)}
    home = {run.key: key for key, job in members.items() for run in job}
    ids = {key: _identity(key, job) for key, job in members.items()}
    return [
        Job(
            ids[key],
            tuple(job),
            tuple(sorted({ids[home[need.key]] for run in job for need in run.needs()} - {ids[key]})),
        )
        for key, job in sorted(members.items(), key=lambda item: int(str(item[0][3])))
    ]


def side_by_side(missing: Iterable[Run], together: int = LARGEST_COHORT) -> int:
    """How many cohorts of these runs can be at work at once: the most of those that need nothing of each other."""
    missing = list(missing)
    keys = {run.key for run in missing}
    level: dict[str, int] = {}
    counted: Counter[int] = Counter()
    for job in jobs(missing):
        level[job.id] = 1 + max((level[need] for need in job.needs), default=-1)
        counted[level[job.id]] += _cohorts([run for run in job.runs if run.key in keys], together)
    return max(counted.values(), default=0)


def _cohorts(runs: list[Run], together: int) -> int:
    """How many cohorts the runs of a job make: one a teacher at least, and none larger than is trained together."""
    taught = Counter(run.teacher.key for run in runs if run.teacher is not None)
    sizes = list(taught.values()) or [len(runs)]
    return sum(-(-size // together) for size in sizes)


def urgent(ready: list[Run], todo: list[Run]) -> list[Run]:
    """The ready runs, first those that the most urgent one's companions wait for: so that they train together."""
    companions = [run for run in todo if _may_share(ready[0], run)]
    waited_for = {need.key for run in companions for need in run.needs()}
    return sorted(ready, key=lambda run: run.key not in waited_for)


def _may_share(first: Run, other: Run) -> bool:
    """Same images, same seed, and the same teacher or none: what a cohort asks for."""
    teachers = {run.teacher.key for run in (first, other) if run.teacher is not None}
    return first.experiment.images == other.experiment.images and first.seed == other.seed and len(teachers) <= 1


def alike(lead: Run, ready: list[Run]) -> list[Run]:
    """The runs that can share a cohort with `lead` and with each other: two may share with it, but not a teacher."""
    found = [run for run in ready if _may_share(lead, run)]
    taught = next((run for run in [lead, *found] if run.teacher is not None), lead)
    return [run for run in found if _may_share(taught, run)]


def _whole(wanted: Iterable[Run]) -> dict[tuple[str, int], Run]:
    """The wanted runs by key, each with all that it keeps, whoever asks for it."""
    found: dict[tuple[str, int], Run] = {}
    for run in wanted:
        found[run.key] = found.get(run.key, run).keeping(run.keeps)
    return found


def _parts(key: tuple[object, ...], runs: list[Run]) -> list[tuple[tuple[object, ...], list[Run]]]:
    """The runs in parts of equal size, none larger than a cohort: what cannot train side by side are several jobs."""
    count = -(-len(runs) // LARGEST_COHORT)
    bounds = [len(runs) * i // count for i in range(count + 1)]
    return [((*key, i), runs[bounds[i] : bounds[i + 1]]) for i in range(count)]


def _identity(key: tuple[object, ...], job: list[Run]) -> str:
    """The name of a job: of what its runs share, so that it stays when others join them, as settings are chosen."""
    first = job[0].experiment
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:8]
    return f"{first.profile.name}-{first.images.dataset}-seed{job[0].seed}-{digest}"
