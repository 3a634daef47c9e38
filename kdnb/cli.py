"""The command line: data, runs, the study, its state."""

from __future__ import annotations

import errno
import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdnb import __version__
from kdnb.errors import KdnbError, StoreError
from kdnb.kinds import LARGEST_WHOLE, MOST_SEEDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kdnb.exhibits.wanted import Planned
    from kdnb.study.experiment import Run
    from kdnb.study.profile import Profile
    from kdnb.study.store import Store

#: What `study --plan` reads.
PLANNED = {"plan", "as_json", "exhibit", "profile", "dataset", "seeds", "rows", "epochs", "job"}
#: Exit codes of a training beside 0 and 2: runs are left without a budget, runs failed, and, with the number of the
#: signal added, stopped.
LEFT, FAILED, STOPPED = 3, 4, 128
#: Exit code where something else did not succeed: a record is not repeated or refused, an answer or an export cannot
#: be written.
NOT_ALL = 1
#: What a stream says that takes nothing more, with no file named: a full disk, a quota, a device that is gone.
TAKES_NOTHING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)

app = typer.Typer(
    help="The evidence of knowledge distillation, re-run: train, measure, and see what is known.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Prepare and check data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

ExhibitOption = Annotated[
    str, typer.Option("--exhibit", help="Table or figure as <paper>/<name>, a <paper>, or all; several by commas.")
]
ProfileOption = Annotated[str, typer.Option(help="demo, pilot, short or paper: how much of the protocol.")]
DatasetOption = Annotated[
    str | None, typer.Option(help="Only this data set of the exhibit; the leaderboard takes your own images, too.")
]
SeedsOption = Annotated[
    int | None,
    typer.Option(
        min=1, max=MOST_SEEDS, help="Seeds 1 to N; a teacher has one. Default: 3, in the demo what there is time for."
    ),
]
EpochsOption = Annotated[
    int | None, typer.Option(min=1, max=LARGEST_WHOLE, help="At most so many epochs a stage; shown in no table.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
ModeOption = Annotated[str, typer.Option(help="auto, eager, captured (CUDA), or forked: one graph for a cohort.")]
DtypeOption = Annotated[str, typer.Option(help="auto (as the table was begun, else measured), bfloat16 or float32.")]
DeterministicOption = Annotated[
    bool | None, typer.Option("--deterministic", help="On CUDA, only kernels that repeat bit for bit.")
]
AnyNumericsOption = Annotated[
    bool,
    typer.Option(
        "--any-numerics", help="Go on from checkpoints under this command's numerics; records list the parts."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"kdnb {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Say which version this is.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    context: typer.Context,
    row: Annotated[str | None, typer.Argument(help="Row of the exhibit: kd, fitnet+kd, teacher, ...")] = None,
    exhibit: Annotated[str, typer.Option("--exhibit", help="Table or figure as <paper>/<name>.")] = "comparison/table1",
    profile: ProfileOption = "demo",
    dataset: DatasetOption = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_WHOLE, help="The seed of the run.")] = 1,
    epochs: EpochsOption = None,
    device: DeviceOption = "auto",
    mode: ModeOption = "auto",
    dtype: DtypeOption = "auto",
    deterministic: DeterministicOption = None,
    any_numerics: AnyNumericsOption = False,
    like: Annotated[
        Path | None,
        typer.Option("--like", help="Repeat the run of this record under its own numerics, and compare; keep nothing."),
    ] = None,
) -> None:
    """Train one run of a table, with what it needs; a stored one is shown at once.

    With --like the exit code is 0 where the record is repeated digit for digit, 1 where it is not.
    """
    if like is not None:
        _refuse(context, {"like"}, "--like repeats the run of its record, with all that belongs to it")
        _repeat(like)
        return
    if row is None:
        raise KdnbError("Name a row of the exhibit, as in `kdnb run kd`, or a record to repeat: --like RECORD.json.")
    from kdnb import datasets, exhibits
    from kdnb.exhibits import wanted as work
    from kdnb.exhibits.runs import precision_told
    from kdnb.study.environment import made_now, source_digest
    from kdnb.study.experiment import Run
    from kdnb.study.store import Store

    chosen, scale = exhibits.get(exhibit), _profile(profile, epochs)
    if dataset is not None and datasets.is_own(dataset):
        chosen = chosen.on(dataset)
    work.asked([chosen], row)
    cell = chosen.cell(scale, row, dataset)
    how = _numerics(device, dtype, mode, deterministic)
    if cell.awaits:
        typer.echo(f"not yet: {cell.row.label}: {cell.why_not}", err=True)
        _, code = _train(chosen.paper, list(cell.awaits), how, any_numerics=any_numerics, workers=1)
        if code:
            raise typer.Exit(code)
        cell = chosen.cell(scale, row, dataset)
    if cell.experiment is None:
        raise KdnbError(f"{row} of {exhibit} has no experiment under profile '{profile}': {cell.why_not}.")
    wanted = Run(cell.experiment, seed, cell.keeps)
    store = Store.open()
    code = 0
    stored = store.has(wanted)
    if not stored:  # a stored one needs no device, nor torch
        store, code = _train(chosen.paper, [wanted], how, any_numerics=any_numerics, workers=1)
    record = store.get(*wanted.key)
    if record is not None:
        if stored and (dtype, mode) != ("auto", "auto"):
            precision = precision_told(record) or "a precision that it does not tell"
            typer.echo(f"stored already, trained in {precision}: nothing is trained again", err=True)
        for metric, value in record.metrics.items():
            typer.echo(f"{metric:>16}  {value:.4f}")
        typer.echo(f"{'record':>16}  {record.path}")
        if not made_now(record.environment):
            made = str(record.environment.get("sources", "unknown"))[:7]
            typer.echo(
                f"recorded by other sources ({made}) than today's ({source_digest()[:7]}); it counts, since nothing "
                "that it is made of has another `revision` now (who changes what a part computes raises that)",
                err=True,
            )
    raise typer.Exit(code)


@app.command()
def study(
    context: typer.Context,
    exhibit: ExhibitOption = "comparison/table1",
    profile: ProfileOption = "demo",
    dataset: DatasetOption = None,
    seeds: SeedsOption = None,
    rows: Annotated[str | None, typer.Option(help="Only these rows, lines or pairs, by commas.")] = None,
    epochs: EpochsOption = None,
    budget: Annotated[str | None, typer.Option(help="Stop cleanly after this time: 90s, 9m, 2h.")] = None,
    device: DeviceOption = "auto",
    mode: ModeOption = "auto",
    dtype: DtypeOption = "auto",
    deterministic: DeterministicOption = None,
    plan: Annotated[bool, typer.Option("--plan", help="List what would be trained, in jobs; train nothing.")] = False,
    job: Annotated[
        str | None, typer.Option("--job", "--cohort", help="Train only this job of the plan, and what it needs.")
    ] = None,
    together: Annotated[int | None, typer.Option(min=1, help="At most so many runs side by side.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes on a CPU, each with its share of the cores. Default: one a core, if it has a cohort."
        ),
    ] = None,
    any_numerics: AnyNumericsOption = False,
    last_call: Annotated[
        bool,
        typer.Option(
            "--last-call", help="This machine goes away: put off what neither ends in the budget nor travels."
        ),
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Afterwards pack new records and checkpoints into this file, as out.tar.gz.")
    ] = None,
    export_all: Annotated[
        bool, typer.Option("--export-all", help="With --export: pack again what was packed before.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fill a table: every missing run, by priority, in cohorts; stop at any time and go on later.

    Rows that wait for what other runs settle, such as their settings, are trained after those.

    Exit codes: 0 done, or the budget is spent; 1 the export alone failed; 2 a wrong command; 3 runs are left without
    a budget; 4 runs failed; 129, 130 or 143 stopped by a closing terminal, the keyboard or SIGTERM, with checkpoints
    written.
    """
    from kdnb.exhibits import wanted as work
    from kdnb.study.store import Store

    _need(context, {"as_json": "plan", "export_all": "export", "last_call": "budget"})
    if plan:
        _refuse(context, PLANNED, "--plan trains nothing")
    chosen, scale = work.select(exhibit, dataset), _profile(profile, epochs)
    wanted = work.runs(chosen, scale, dataset, seeds, rows)
    if not wanted:
        raise KdnbError(f"Nothing of {exhibit} can run under profile '{profile}': {work.why_not(chosen, scale)}.")
    for line in work.awaited(chosen, scale, rows):
        typer.echo(line, err=True)
    if job is not None:
        jobs = {planned.id: planned for planned in work.jobs(wanted, Store.open())}
        if job not in jobs:
            raise KdnbError(f"No job of this plan is called '{job}'; --plan lists them.")
        wanted = list(jobs[job].runs)
    if plan:
        _print_plan(work.jobs(wanted, Store.open()), as_json)
        return
    if export is not None:
        from kdnb.study.archives import need_replaceable
        from kdnb.training.checkpoint import try_to_write

        need_replaceable(export)  # not after hours of training
        try_to_write(export)
    how, spent = _numerics(device, dtype, mode, deterministic), _seconds(budget)
    until = None if spent is None else time.time() + spent
    while True:
        papers = work.papers(chosen, scale)
        store, code = _train(papers, wanted, how, until, together, any_numerics, last_call, workers)
        before, wanted = wanted, work.runs(chosen, scale, dataset, seeds, rows) if job is None else []
        if code or not {run.key for run in wanted} - {run.key for run in before}:
            break
    if export is not None and not _exported(store, export, export_all):
        code = code or NOT_ALL
    raise typer.Exit(code)


@app.command()
def status(
    exhibit: Annotated[
        str, typer.Argument(help="Only these, row by row: <paper>/<name>, a <paper>; several by commas.")
    ] = "all",
    as_json: JsonOption = False,
) -> None:
    """The study's dashboard: what each exhibit has, what is missing, what is broken."""
    from kdnb.exhibits.status import report, told

    found = report(keys=exhibit)
    typer.echo(json.dumps(found, indent=1) if as_json else told(found))


@app.command("import")
def import_(
    archives: Annotated[list[Path], typer.Argument(help="Archives that `study --export` made, each a file.")],
) -> None:
    """Take in records and checkpoints from another machine; what is already here is kept.

    The exit code is 1 where something was refused.
    """
    from kdnb.study.archives import import_archives
    from kdnb.study.store import Store

    lines = []
    for line in import_archives(Store.open(), archives):
        typer.echo(line)
        lines.append(line)
    records, checkpoints, refused = (
        sum(line.startswith(kind) for line in lines) for kind in ("record ", "checkpoint ", "refused")
    )
    typer.echo(
        f"archives read: {len(archives)}; records taken: {records}; checkpoints taken: {checkpoints}; "
        f"refused: {refused}; what was here already stays"
    )
    raise typer.Exit(NOT_ALL if refused else 0)


@app.command()
def bench(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option("--out", help="Write the numbers to this file, too.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", hidden=True, help="--out, as it was called.")] = None,
    methods: Annotated[bool, typer.Option("--methods", help="What each method costs, as a ratio to KD.")] = False,
    table: Annotated[
        str | None,
        typer.Option("--exhibit", help="With --methods: the rows of this table, with its networks and its settings."),
    ] = None,
    profile: Annotated[str, typer.Option(help="With --exhibit: demo, pilot, short or paper.")] = "pilot",
    only: Annotated[
        str | None,
        typer.Option(help="With --methods: KD and these methods, or rows of the table, separated by commas."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Rounds; the median counts. Default: until little is spread.")
    ] = None,
    probe: Annotated[bool, typer.Option("--probe", help="Measure anew which precision is faster here.")] = False,
    conformity: Annotated[
        bool,
        typer.Option("--conformity", help="Train in bfloat16, float32 and the usual loop at pilot scale: the same?"),
    ] = False,
    budget: Annotated[str | None, typer.Option(help="With --conformity: go on later.")] = None,
    device: DeviceOption = "auto",
    mode: ModeOption = "auto",
    dtype: DtypeOption = "auto",
    deterministic: DeterministicOption = None,
) -> None:
    """Measure the engine against the usual loop and the machine, in one process, in turns."""
    json_file = out or json_file
    _need(context, {"table": "methods", "only": "methods", "profile": "table", "budget": "conformity"})
    if conformity:
        _refuse(context, {"conformity", "out", "json_file", "device", "budget"}, "--conformity settles how it trains")
        _conformity(json_file, device, _seconds(budget))
        return
    from kdnb.bench import speed, steps
    from kdnb.training.checkpoint import ANOTHER_FILE, try_to_write, write_atomically

    def say(line: str) -> None:
        typer.echo(line, err=True)

    if json_file is not None:
        try_to_write(json_file)  # not after minutes of measuring
    names = [name.strip() for name in only.split(",")] if only else None
    programme = steps.of_table(table, profile, names) if table else steps.of_catalogue(names)
    numerics, told = speed.chosen(device, dtype, mode, deterministic, probe, say, programme.networks[1])
    if methods:
        found = steps.measured(programme, numerics, rounds or speed.LEAST_ROUNDS, say)
    else:
        found = speed.Bench(numerics, say, told).speed(rounds)
    text = json.dumps(found, indent=1)
    typer.echo(text)  # first: a disk may have filled up meanwhile
    if json_file is not None:
        write_atomically(json_file, (text + "\n").encode(), ANOTHER_FILE)


@data_app.command("prepare")
def data_prepare(
    name: str,
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder of the archive or of <split>/<class>/ images.")
    ] = None,
    no_flip: Annotated[
        bool, typer.Option("--no-flip", help="Of your own images: a mirrored one is another thing, as of letters.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Of your own images: put these in the place of others of that name.")
    ] = False,
) -> None:
    """Bring a data set into the prepared layout: downloaded and checked, or from a folder.

    Any other name than those of `kdnb data list` takes images of your own: a folder with train/<class>/ and
    test/<class>/, or with <class>/ alone, of .png and .jpg files.  Other images of that name stay, unless --replace
    is given.
    """
    from kdnb import datasets

    datasets.prepare(name, source, progress=lambda line: typer.echo(line, err=True), flip=not no_flip, replace=replace)
    typer.echo(f"{name}: ready")


@data_app.command("check")
def data_check(name: str) -> None:
    """Check every file of a data set against its description and digest."""
    from kdnb import datasets

    for line in datasets.check(name):
        typer.echo(line)
    typer.echo(f"{name}: as described")


@data_app.command("list")
def data_list() -> None:
    """The data sets that kdnb knows, and which are prepared here."""
    from kdnb import datasets

    for line in datasets.describe():
        typer.echo(line)


def main() -> None:
    """Run the command line; an error of ours is one line and exit code 2."""
    from kdnb.study.progress import let_go, say

    try:
        app()
    except KdnbError as error:
        say(f"kdnb: {error}", sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is not None or error.errno not in TAKES_NOTHING:
            raise
        say(f"kdnb: The answer could not be written ({error.strerror}); send it elsewhere.", sys.stderr)
        sys.exit(NOT_ALL)
    finally:
        let_go(sys.stdout, sys.stderr)


def _exported(store: Store, target: Path, everything: bool) -> bool:
    """Whether what is new could be packed; what was trained stays trained, and its exit code is told."""
    from kdnb.study.archives import export_store

    try:
        exported = export_store(store, target, everything)
    except StoreError as error:
        typer.echo(f"kdnb: {error}", err=True)
        return False
    for path in exported.archives:
        typer.echo(f"exported {path}")
    for line in exported.left:
        typer.echo(line)
    return True


def _said(context: typer.Context) -> list[str]:
    """The parameters that the command line names, in the order in which they are declared."""
    sources = {p.name: context.get_parameter_source(p.name) for p in context.command.params if p.name}
    return [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def _flag(context: typer.Context, name: str) -> str:
    """How the command line calls a parameter."""
    spelt = next(p.opts[0] for p in context.command.params if p.name == name)
    return spelt if spelt.startswith("-") else f"the {spelt}"


def _need(context: typer.Context, needs: Mapping[str, str]) -> None:
    """Raises KdnbError for an option that would be passed over, because the one that it belongs to is not there."""
    said = _said(context)
    for name, other in needs.items():
        if name in said and other not in said:
            option, belongs = _flag(context, name), _flag(context, other)
            raise KdnbError(f"{option} says nothing without {belongs}: add {belongs}, or leave {option} out.")


def _refuse(context: typer.Context, known: set[str], why: str) -> None:
    """Raises KdnbError for what is asked for beside some options, and would be passed over."""
    beside = [_flag(context, name) for name in _said(context) if name not in known]
    if beside:
        raise KdnbError(f"{why}: leave out {', '.join(beside)}.")


def _repeat(path: Path) -> None:
    from kdnb.exhibits import wanted
    from kdnb.study.record import read
    from kdnb.study.repeat import repeat

    record = read(path)
    experiment = wanted.experiment_of(record.fingerprint)
    if experiment is None:
        raise KdnbError(f"{path} belongs to no cell of an exhibit as it is defined now; it cannot be repeated.")
    found = repeat(record, experiment, say=lambda line: typer.echo(line, err=True))
    for line in found.other_numerics:
        typer.echo(f"numerics: {line}; equal digits are not promised")
    for line in found.differences:
        typer.echo(f"differs: {line}")
    if found.differences:
        raise typer.Exit(NOT_ALL)
    typer.echo(f"equal: metrics, history and the test images that are right, as in {path}")


def _conformity(json_file: Path | None, device: str, budget: float | None) -> None:
    from kdnb.bench.conformity import Conformity, default_file
    from kdnb.study.progress import Progress
    from kdnb.training.checkpoint import try_to_write

    file = json_file or default_file(device)
    try_to_write(file)
    with Progress() as progress:
        done = Conformity(file, progress, device=device).run(budget)
    typer.echo(f"{file}: {'all runs are there' if done else 'runs are left; the same command goes on'}")


def _profile(name: str, epochs: int | None) -> Profile:
    from kdnb.study.profile import get_profile

    return get_profile(name).limited(epochs)


def _numerics(device: str, dtype: str, mode: str, deterministic: bool | None) -> dict[str, Any]:
    """How runs are computed as far as the command line says; what it leaves open is chosen for each run."""
    return {"device": device, "dtype": dtype, "mode": mode, "deterministic": deterministic}


def _train(
    paper: str | Mapping[str, str],
    wanted: list[Run],
    asked: Mapping[str, Any],
    until: float | None = None,
    together: int | None = None,
    any_numerics: bool = False,
    last_call: bool = False,
    workers: int | None = None,
) -> tuple[Store, int]:
    """Train what is missing, until a time if one is given; the store, and the exit code that tells how it ended."""
    from kdnb.study.plan import LARGEST_COHORT
    from kdnb.study.progress import Progress
    from kdnb.study.store import Store
    from kdnb.study.workers import Task, train

    task = Task(tuple(wanted), paper, asked, until, together or LARGEST_COHORT, any_numerics, last_call)
    with Progress() as progress:
        outcome = train(task, workers, progress)
        counts = f"{len(outcome.recorded)} runs recorded, {len(outcome.failed)} failed, {outcome.left} left"
        idle = not outcome.recorded and not outcome.failed and not outcome.left
        progress.say(f"{counts}: all {len(wanted)} asked for are stored already" if idle else counts)
    store = Store.open()
    if outcome.stopped and outcome.left:
        return store, STOPPED + outcome.stopped
    if outcome.failed or (outcome.lost and outcome.left):
        return store, FAILED
    return store, LEFT if outcome.left and until is None else 0


def _print_plan(jobs: list[Planned], as_json: bool) -> None:
    if as_json:
        lines = [
            {"id": job.id, "needs": list(job.needs), "runs": _labels(job.runs), "left": _labels(job.left)}
            | {"done": job.done}
            for job in jobs
        ]
        # Jobs were once called cohorts; who reads the old name goes on reading.
        typer.echo(json.dumps({"jobs": lines, "cohorts": lines}, indent=1))
        return
    for job in jobs:
        runs = f"{len(job.runs)} run{'s' * (len(job.runs) != 1)}"
        typer.echo(f"done     {job.id}  {runs}" if job.done else f"missing  {job.id}  {len(job.left)} of {runs}")


def _labels(runs: Iterable[Run]) -> list[str]:
    return [run.label for run in runs]


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not found:
        raise KdnbError(f"A budget is a number with s, m or h behind it, as in 9m; '{text}' is not.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


if __name__ == "__main__":
    main()
