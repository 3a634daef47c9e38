# The study as a graph: data -> jobs of runs -> notebooks -> book.
#
# `make book` runs it here; on a cluster: snakemake --executor slurm --jobs 20 --config profile=paper.
# What is to be done is read from the records and the pages that are there, and reading it changes nothing.  Outputs
# are stamps of this one build.  Records, checkpoints and pages are never outputs, since Snakemake deletes the
# outputs of a job that was killed, and a job of ours goes on from where it stopped.

import json
import shlex
import shutil
import sys
import time
from pathlib import Path

from kdnb import notebooks, server
from kdnb.book import Book
from kdnb.errors import KdnbError

# `seeds` of every run; without it each exhibit has as many as its profile has time for.
# `exhibits`: papers or single exhibits by commas, as `kdnb study --exhibit` takes them.
BOOK = Book(Path.cwd(), config.get("profile", "demo"), config.get("seeds"), config.get("exhibits", "all"))
try:
    BOOK.check()
except KdnbError as error:
    raise WorkflowError(f"kdnb: {error}")

ON_CPU = BOOK.profile in ("demo", "pilot")
try:
    CORES = workflow.cores
except WorkflowError:  # a cluster's nodes have their own
    CORES = int(config.get("cpus", 8))

RUN = f"{time.time_ns():x}"
STAMPS = Path(".stamps") / "runs"
#: Pages, and the runs of a demo, are made by processes that have imported what they need (`kdnb.server`): where they
#: answer, and, once begun, themselves.
PLACES = {trade: notebooks.short_place() / f"kdnb-{RUN}-{trade}" for trade in server.TRADES}
SERVERS = []


def stamps(kind, names, attempt=RUN):
    """What says that something was done in this build."""
    return [STAMPS / attempt / kind / name for name in names]


def missing(jobs):
    return [job.id for job in jobs if not job.done]


def step(phase, name, *command):
    """A job's command line: said, timed, run.  As a parameter it may hold braces, as folders may."""
    return shlex.join([sys.executable, "book/build.py", "step", phase, name, "--", *map(str, command)])


def python(*arguments):
    return [sys.executable, "-m", *arguments]


def served(trade, *arguments):
    return python("kdnb.server", "run", PLACES[trade], trade, *arguments)


def study(job):
    seeds = ["--seeds", BOOK.seeds] if BOOK.seeds else []
    asked = "study", "--exhibit", BOOK.exhibits, "--profile", BOOK.profile, *seeds, "--workers", 1, "--job", job
    return served("training", *asked) if BOOK.profile == "demo" else python("kdnb", *asked)


def everything(wildcards):
    pages = BOOK.stale_pages()
    book = [] if BOOK.is_bound() and not pages else ["book"]
    return stamps("jobs", missing(BOOK.jobs.values())) + stamps("book", book)


localrules:
    all,
    data,
    page,
    book,


wildcard_constraints:
    attempt="[^/]+",
    job="[^/]+",


rule all:
    input:
        everything,


rule data:
    output:
        touch(STAMPS / "{attempt}" / "data" / "{dataset}"),
    params:
        command=lambda w: step("data", f"data set {w.dataset}", *python("kdnb", "data", "check", w.dataset)),
    resources:
        mem_mb=2000,
        runtime=15,
    shell:
        "{params.command}"


rule cohort:
    input:
        lambda w: stamps("data", BOOK.jobs[w.job].datasets, w.attempt),
        lambda w: stamps("jobs", missing(BOOK.jobs[need] for need in BOOK.jobs[w.job].needs), w.attempt),
    output:
        touch(STAMPS / "{attempt}" / "jobs" / "{job}"),
    params:
        command=lambda w: step("training", f"training {w.job} ({len(BOOK.jobs[w.job].runs)} runs)", *study(w.job)),
    priority: 1  # so that what is left at the end are pages, which keep all cores busy
    threads: 1 if BOOK.profile == "demo" else CORES
    resources:
        gpu=int(config.get("gpu", 0 if ON_CPU else 1)),
        mem_mb=int(config.get("mem", 4000 if ON_CPU else 16000)),
        runtime=int(config.get("minutes", 1440)),
    shell:
        "{params.command}"


rule page:
    input:
        source=lambda w: BOOK.source(w.page),
        jobs=lambda w: stamps("jobs", [job.id for job in BOOK.waits_for(w.page)], w.attempt),
    output:
        touch(STAMPS / "{attempt}" / "pages" / "{page}"),
    params:
        command=lambda w: step(
            "notebooks",
            f"notebook {w.page}",
            *served("pages", "run", BOOK.source(w.page), BOOK.executed(w.page)),
            *("--study", json.dumps(BOOK.parameters), "--project", "."),
        ),
    resources:
        mem_mb=2000,
        runtime=15,
    shell:
        "{params.command}"


rule book:
    input:
        lambda w: stamps("pages", BOOK.stale_pages(), w.attempt),
    output:
        touch(STAMPS / "{attempt}" / "book" / "book"),
    params:
        command=lambda w: step("book", "building the book", *python("kdnb.book", "build")),
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "{params.command}"


onstart:
    if workflow.is_main_process:
        waiting = {"pages": BOOK.stale_pages(), "training": BOOK.profile == "demo" and missing(BOOK.jobs.values())}
        SERVERS.extend(server.start(PLACES[trade], trade) for trade, jobs in waiting.items() if jobs)


onsuccess:
    if workflow.is_main_process:
        shutil.rmtree(STAMPS / RUN, ignore_errors=True)
        for line in BOOK.waiting():
            print(line, flush=True)


onerror:
    if workflow.is_main_process:
        shutil.rmtree(STAMPS / RUN, ignore_errors=True)
        for line in BOOK.left():
            print(f"missing: {line}", flush=True)
