# The study as a graph: data -> cohorts -> notebooks -> book.
#
# `make book` runs it here; on a cluster: snakemake --executor slurm --jobs 20 --config profile=paper.
# Outputs are stamps.  Records, checkpoints and pages are never outputs, since Snakemake deletes the outputs
# of a job that was killed, and a job of ours goes on from where it stopped.

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from kdnb import exhibits, notebooks

PROFILE = config.get("profile", "demo")
# Seeds of every run; without it each exhibit has as many as its profile has time for.
SEEDS = {"seeds": int(config.get("seeds", 0))} if config.get("seeds") else {}
# Papers or single exhibits, as `kdnb study --exhibit` takes them.
STUDIED = config.get("exhibits", ",".join(sorted({e.paper for e in exhibits.select("all")}))).split(",")
PARAMETERS = {"profile": PROFILE, **SEEDS}

PYTHON = shlex.quote(sys.executable)
JUPYTER_BOOK = shlex.quote(str(Path(sys.executable).parent / "jupyter-book"))
STEP = f"{PYTHON} book/build.py step"
STAMPS = Path(".stamps")


def study(key):
    return f"-m kdnb study --exhibit {key} --profile {PROFILE}" + "".join(f" --seeds {n}" for n in SEEDS.values())


def planned():
    """Every group of runs by its id: what it needs, whether it is done, and the exhibit that asks for it."""
    found = {}
    for key in STUDIED:
        command = [sys.executable, *study(key).split(), "--plan", "--json"]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
        for group in json.loads(answer.stdout)["cohorts"]:
            found.setdefault(group["id"], {**group, "exhibit": key})
    return found


def pages():
    """`comparison/kd` for every page of _toc.yml that a notebook becomes."""
    words = Path("_toc.yml").read_text(encoding="utf-8").split()
    return [w.removeprefix("book/executed/") for w in words if w.startswith("book/executed/")]


def source(page):
    return Path("notebooks") / f"{page}.ipynb"


def executed(page):
    return Path("book/executed") / f"{page}.ipynb"


def forget(*stamps):
    """A stamp says that something is there as it should be: take it away where that is no longer so."""
    for stamp in stamps:
        Path(stamp).unlink(missing_ok=True)


def remember(stamp):
    """A stamp of old for what is there already, from another folder or before the stamps were lost."""
    if not Path(stamp).exists():
        Path(stamp).parent.mkdir(parents=True, exist_ok=True)
        Path(stamp).touch()
        os.utime(stamp, (1, 1))


COHORTS = planned()
PAGES = pages()
DATASETS = sorted({d for key in STUDIED for e in exhibits.select(key) for d in e.datasets_of(PROFILE)})

# Snakemake does not make again what is missing halfway, so whatever rests on a missing stamp goes with it.
missing = [name for name, cohort in COHORTS.items() if not cohort["done"]]
for name in COHORTS:
    remember(STAMPS / "cohorts" / name)
forget(*(STAMPS / "cohorts" / name for name in missing))
stale = [p for p in PAGES if missing or not notebooks.is_current(source(p), executed(p), PARAMETERS)]
forget(*(STAMPS / "pages" / page for page in stale))
if stale or not Path("_build/html/index.html").exists():
    forget(STAMPS / "book")


rule all:
    input:
        STAMPS / "book",


rule data:
    output:
        touch(STAMPS / "data" / "{dataset}"),
    shell:
        f"{STEP} data 'data set {{wildcards.dataset}}' -- {PYTHON} -m kdnb data check {{wildcards.dataset}}"


# A cohort that is done already only finds that out.  What it starts from is ancient: when it was made says nothing.
rule cohort:
    input:
        [ancient(STAMPS / "data" / name) for name in DATASETS],
        lambda wildcards: [ancient(STAMPS / "cohorts" / need) for need in COHORTS[wildcards.cohort]["needs"]],
    output:
        touch(STAMPS / "cohorts" / "{cohort}"),
    params:
        study=lambda wildcards: study(COHORTS[wildcards.cohort]["exhibit"]),
        title=lambda wildcards: f"training {wildcards.cohort} ({len(COHORTS[wildcards.cohort]['runs'])} runs)",
    threads: 1 if PROFILE == "demo" else workflow.cores
    shell:
        f"{STEP} training '{{params.title}}' -- {PYTHON} {{params.study}} --cohort {{wildcards.cohort}}"


rule page:
    input:
        source=lambda wildcards: source(wildcards.page),
        cohorts=[STAMPS / "cohorts" / name for name in COHORTS],
    output:
        touch(STAMPS / "pages" / "{page}"),
    params:
        target=lambda wildcards: executed(wildcards.page),
        parameters=shlex.quote(json.dumps(PARAMETERS)),
    shell:
        f"{STEP} notebooks 'notebook {{wildcards.page}}' -- {PYTHON} -m kdnb.notebooks run {{input.source}} "
        "{params.target} --study {params.parameters} --project ."


rule book:
    input:
        pages=[STAMPS / "pages" / page for page in PAGES],
        config=["_config.yml", "_toc.yml"],
        texts=[str(p) for pattern in ("*.md", "*.bib", "_static/*.*") for p in sorted(Path("book").glob(pattern))],
    output:
        touch(STAMPS / "book"),
    shell:
        f"{STEP} book 'building the book' -- {JUPYTER_BOOK} build . -n -W --keep-going --all -q"
