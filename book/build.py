"""What `make` calls: set up the environment, build the book, clean up.  Needs nothing but Python itself.

    build.py install        the environment with kdnb, once per pyproject.toml and Python
    build.py book           install, then build
    build.py build          everything the Snakefile asks for: data, training, notebooks, pages
    build.py clean          remove what a build makes
    build.py step PHASE NAME -- COMMAND...    one job of the Snakefile: said, timed, run

Only one build at a time works in a folder: a second one says so and waits.  The locks are the operating
system's and go with their processes, however these end; Snakemake's own outlives a killed build, so it is off.
A job that outlives its build keeps a lock too, and the next build waits for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

ROOT = Path(os.environ.get("KDNB_BOOK") or Path(__file__).resolve().parents[1])
STAMPS = ROOT / ".stamps"
TIMES = STAMPS / "times.jsonl"
LOCK, JOBS = STAMPS / "lock", STAMPS / "jobs-lock"
VENV = Path(os.environ.get("VENV") or ".venv")
OLDEST_PYTHON = (3, 11)
#: Phases of a build in the order of their times' report.
PHASES = ("training", "notebooks", "book")


def install() -> None:
    """Create the environment and install kdnb with everything the book and the tests need, once."""
    environment = ROOT / VENV
    python = environment / "bin" / "python"
    stamp = environment / "kdnb-installed"
    if sys.version_info < OLDEST_PYTHON:
        raise SystemExit(
            f"kdnb needs Python {'.'.join(map(str, OLDEST_PYTHON))} or newer, and {sys.executable} is "
            f"{sys.version.split()[0]}; name another one: make PYTHON=python3.12 ..."
        )
    key = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == key:
        return
    own = not python.exists() or (environment / "pyvenv.cfg").exists()
    if own:
        say(f"setting up {VENV} with Python {sys.version.split()[0]}")
        if subprocess.run([sys.executable, "-m", "venv", str(environment)]).returncode:
            raise SystemExit("Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv")
    say("installing kdnb and its packages (some 5 GB with torch; minutes, once)")
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["-e", f"{ROOT}[book,test]"]
    if subprocess.run(command).returncode:
        raise SystemExit("The packages could not be installed; what pip says stands above.")
    stamp.write_text(key, encoding="utf-8")


def build() -> None:
    """Everything the Snakefile asks for; says where the time went and where the book is."""
    began = time.time()
    TIMES.unlink(missing_ok=True)
    python = ROOT / VENV / "bin" / "python"
    command = [str(python), "-m", "snakemake", "--directory", str(ROOT), "--snakefile", str(ROOT / "Snakefile")]
    command += ["--cores", os.environ.get("KDNB_CORES", "all"), "--nolock", "--rerun-incomplete"]
    command += ["--rerun-triggers", "mtime", "--keep-going", "--quiet", "all"]
    if call(command, env=os.environ | {"KDNB_BOOK": str(ROOT)}):
        raise SystemExit("The book is not complete; what went wrong stands above.  `make book` goes on from here.")
    report(time.time() - began)
    say(f"the book: {ROOT / '_build' / 'html' / 'index.html'}")


def clean() -> None:
    """Remove the book, the executed notebooks, the stamps and the records of this build's demo."""
    for place in ("_build", "book/executed", ".snakemake", "data/demo"):
        shutil.rmtree(ROOT / place, ignore_errors=True)
    for stamp in STAMPS.iterdir():
        if stamp not in (LOCK, JOBS):
            shutil.rmtree(stamp) if stamp.is_dir() else stamp.unlink()


def step(phase: str, name: str, command: list[str]) -> int:
    """Run one job, say when it begins and ends, and keep its time."""
    began = time.time()
    say(f"{name}")
    STAMPS.mkdir(exist_ok=True)
    with JOBS.open("a", encoding="utf-8") as lock:
        hold(lock, fcntl.LOCK_SH)
        code = call(command, pass_fds=(lock.fileno(),))
    with TIMES.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"phase": phase, "name": name, "began": began, "ended": time.time()}) + "\n")
    say(f"{name}: {'done' if code == 0 else 'FAILED'} after {told(time.time() - began)}")
    return code


def report(whole: float) -> None:
    """The time split: for each phase how long at least one of its jobs was at work."""
    jobs = [json.loads(line) for line in TIMES.read_text(encoding="utf-8").splitlines()] if TIMES.exists() else []
    parts = []
    for phase in PHASES:
        spans = sorted((job["began"], job["ended"]) for job in jobs if job["phase"] == phase)
        parts.append(f"{phase} {told(_union(spans))}")
    say(f"time: {', '.join(parts)}; {told(whole)} in all" if jobs else f"nothing has changed ({told(whole)})")


def _union(spans: list[tuple[float, float]]) -> float:
    total, reached = 0.0, 0.0
    for began, ended in spans:
        total += max(0.0, ended - max(began, reached))
        reached = max(reached, ended)
    return total


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the folder's lock; wait, and say so, while another build has it, or a job of one that was killed."""
    STAMPS.mkdir(exist_ok=True)
    with LOCK.open("a", encoding="utf-8") as lock, JOBS.open("a", encoding="utf-8") as jobs:
        hold(lock, fcntl.LOCK_EX, "another build is at work in this folder; waiting for it")
        hold(jobs, fcntl.LOCK_EX, "a job of an interrupted build is still at work; waiting for it")
        fcntl.flock(jobs, fcntl.LOCK_UN)
        yield


def hold(file: IO[str], kind: int, waiting: str = "") -> None:
    """Take a lock; `waiting` is said if that takes time.  A file system without locks is taken as it is."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        if waiting:
            say(waiting)
        fcntl.flock(file, kind)
    except OSError:
        pass


def call(command: list[str], **options: Any) -> int:
    """Run a command in the project's folder.  Told to stop, tell it to stop, and wait until it has."""
    process = subprocess.Popen(command, cwd=ROOT, **options)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the terminal has told the command too
            continue
        except SystemExit:
            process.terminate()


def told(seconds: float) -> str:
    """`48 s`, `3 min 5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def say(line: str) -> None:
    """A line of the build's log, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def main(arguments: list[str]) -> int:
    """Do what the first argument names."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that commands are told and waited for
    if arguments[:1] == ["step"]:
        return step(arguments[1], arguments[2], arguments[arguments.index("--") + 1 :])
    tasks = {"install": [install], "build": [build], "book": [install, build], "clean": [clean]}
    if len(arguments) != 1 or arguments[0] not in tasks:
        print(__doc__)
        return 2
    with alone():
        for task in tasks[arguments[0]]:
            task()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
