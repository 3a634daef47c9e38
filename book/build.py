"""What `make` calls: set up the environment, build the book, clean up.  Needs nothing but Python itself.

    build.py install        the environment with kdnb: made where it is missing or does not serve, else left alone
    build.py book           install, then build
    build.py build          everything the Snakefile asks for: data, training, notebooks, pages
    build.py clean          remove what a build makes
    build.py lab -- ...     install, then JupyterLab on the notebooks with these arguments
    build.py step PHASE NAME -- COMMAND...    one job of the Snakefile: said, timed, run

Only one build at a time works in a folder: a second one says so and waits.  The locks are the operating
system's and go with their processes, however these end; Snakemake's own outlives a killed build, so it is off.
A job that outlives its build keeps a lock too, and the next build waits for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(os.environ.get("KDNB_BOOK") or Path(__file__).resolve().parents[1]).expanduser().absolute()
STAMPS = ROOT / ".stamps"
TIMES = STAMPS / "times.jsonl"
LOCK, JOBS = STAMPS / "lock", STAMPS / "jobs-lock"
SAID = STAMPS / "snakemake.log"
#: What tells a build to stop: somebody's kill, the keyboard, a terminal that closes.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: What Snakemake says while nothing is wrong, and of a job that failed.
CHATTER = re.compile(
    "Assuming |Building DAG|Using shell|Select jobs|Execute [0-9]+ jobs|Touching output|Complete log|Elapsed time|"
    "Storing |RuleException:$|CalledProcessError in file|Command '|Exiting because a job|WorkflowError:$|"
    "At least one job did not|Shutting down|Removing output files|Terminating processes"
)
VENV = Path(os.environ.get("VENV") or ".venv").expanduser()
#: Exit codes of a job that was told to stop: by a closing terminal, the keyboard, SIGTERM.
STOPPED = (129, 130, 143)
OLDEST_PYTHON = (3, 11)
#: The file in an environment that says what it was made of.
STAMP = "kdnb-installed"
#: What the book and the tests need on top of the package.
EXTRAS = ("book", "cluster", "test")
#: Variables of the environment that name folders: relative ones mean where the command was given.
PLACES = ("KDNB_DATA", "KDNB_STORE", "KDNB_BOOK")
#: Phases of a build in the order of their times' report.
PHASES = ("training", "notebooks", "book")


def install() -> None:
    """See to an environment with kdnb, from this folder, and everything the book and the tests need.

    One that serves is left alone, whatever else has changed; one that lacks packages gets them; one that was made
    in another place, or whose Python does not run or is not the one that was named, is made anew.
    """
    environment = ROOT / VENV
    found, stamp = probe(environment), read_stamp(environment)
    unfit = fault(environment, found, stamp)
    if not unfit and found is not None and stamp == stamp_of(environment, found, stamp):
        return
    if unfit:
        if not is_ours(environment, stamp):
            raise SystemExit(f"The environment {environment} does not serve: {unfit}; name another: make VENV=...")
        create(environment, unfit)
        stamp = {"made": True, "place": str(environment.resolve())}
        write_stamp(environment, stamp)
    say("installing kdnb and its packages (some 5 GB with torch; minutes, once)")
    command = [str(python_of(environment)), "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["-e", f"{ROOT}[{','.join(EXTRAS)}]"]
    if subprocess.run(command).returncode:
        raise SystemExit("The packages could not be installed; what pip says stands above.")
    write_stamp(environment, stamp_of(environment, probe(environment) or {}, stamp))


def fault(environment: Path, found: dict[str, Any] | None, stamp: dict[str, Any]) -> str:
    """Why the environment would not serve whatever is installed into it; empty where it can."""
    if found is None:
        return "it has no Python that runs" if environment.exists() else "it is not there"
    version, named = found["python"], os.environ.get("KDNB_PYTHON")
    if tuple(version) < OLDEST_PYTHON:
        return f"its Python is {dotted(version)}, and kdnb needs {dotted(OLDEST_PYTHON)} or newer"
    if named and tuple(version) != sys.version_info[:2]:
        return f"its Python is {dotted(version)}, and {named}, which was named, is {dotted(sys.version_info[:2])}"
    if stamp.get("made"):  # its commands lead to where it was made, and its packages belong to one Python
        place = stamp.get("place") or (environment.resolve() if found["package"] == str(ROOT.resolve()) else "another")
        if str(place) != str(environment.resolve()):
            return f"it was made for another place ({place})"
        if stamp.get("python", version) != version:
            return f"it was made with Python {dotted(stamp['python'])} and has {dotted(version)} now"
    return ""


def create(environment: Path, why: str) -> None:
    """Make the environment, anew where one is there."""
    if sys.version_info < OLDEST_PYTHON:
        raise SystemExit(
            f"kdnb needs Python {dotted(OLDEST_PYTHON)} or newer, and {sys.executable} is "
            f"{sys.version.split()[0]}; name another one: make PYTHON=python3.12 ..."
        )
    say(f"setting up {VENV} with Python {sys.version.split()[0]}: {why}")
    if subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)]).returncode:
        raise SystemExit(
            "The environment could not be made; what Python says stands above.  Where it has no venv module, as on "
            "Debian and Ubuntu: apt install python3-venv"
        )


def is_ours(environment: Path, stamp: dict[str, Any]) -> bool:
    """Whether it may be made (anew): nothing is there, or what this script has made, or a venv in the project."""
    if not environment.exists() or not any(environment.iterdir()) or stamp.get("made"):
        return True
    return (environment / "pyvenv.cfg").exists() and ROOT.resolve() in environment.resolve().parents


def probe(environment: Path) -> dict[str, Any] | None:
    """What the environment's own Python says: its version, and in which folder its kdnb lies; None if it is mute."""
    asked = (
        "import importlib.util, json, os, sys; spec = importlib.util.find_spec('kdnb'); origin = spec and spec.origin;"
        "place = origin and os.path.dirname(os.path.dirname(os.path.realpath(origin)));"
        "print(json.dumps({'python': sys.version_info[:2], 'package': place}))"
    )
    try:
        done = subprocess.run(
            [str(python_of(environment)), "-I", "-c", asked], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return dict(json.loads(done.stdout))
    except (OSError, ValueError):
        return None


def stamp_of(environment: Path, found: dict[str, Any], stamp: dict[str, Any]) -> dict[str, Any]:
    """What an environment that serves was made of: its place, its Python, whose kdnb, the packages asked for."""
    import tomllib  # lazily: an older Python can still say that it is too old

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {})
    lines = [*project.get("dependencies", []), *(line for name in EXTRAS for line in extras.get(name, []))]
    packages = sorted(re.sub(r"\s", "", line) for line in lines)
    asked = {"packages": packages, "commands": dict(project.get("scripts", {}))}
    return {"made": bool(stamp.get("made")), "place": str(environment.resolve()), **found, **asked}


def read_stamp(environment: Path) -> dict[str, Any]:
    """What stands in the environment's stamp; of an earlier version's, which told nothing, that there is one."""
    try:
        return dict(json.loads((environment / STAMP).read_text(encoding="utf-8")))
    except OSError:
        return {}
    except (ValueError, TypeError):
        return {"made": True}


def write_stamp(environment: Path, stamp: dict[str, Any]) -> None:
    (environment / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")


def python_of(environment: Path) -> Path:
    return environment / "bin" / "python"


def dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def lab(arguments: list[str]) -> None:
    """Become JupyterLab on the notebooks.  In a container one is often root, which Jupyter wants to be told."""
    command = [str(python_of(ROOT / VENV)), "-m", "jupyter", "lab", "--notebook-dir=notebooks"]
    command += ["--allow-root"] if os.geteuid() == 0 else []
    os.chdir(ROOT)
    os.execv(command[0], [*command, *arguments])


def build() -> None:
    """Everything the Snakefile asks for; says where the time went and where the book is."""
    began = time.time()
    TIMES.unlink(missing_ok=True)
    python = ROOT / VENV / "bin" / "python"
    command = [str(python), "-m", "snakemake", "--directory", str(ROOT), "--snakefile", str(ROOT / "Snakefile")]
    command += ["--cores", os.environ.get("KDNB_CORES", "all"), "--nolock", "--rerun-incomplete"]
    command += ["--rerun-triggers", "mtime", "--keep-going", "--drop-metadata"]
    command += ["--quiet", "progress", "rules", "host", "reason"]
    with SAID.open("w", encoding="utf-8") as said:
        code = call(command, env=os.environ | {"KDNB_BOOK": str(ROOT)}, stderr=said, process_group=0)
    if code:
        print(errors_in(SAID.read_text(encoding="utf-8", errors="replace")), end="", flush=True)
        if code in STOPPED:
            say("stopped; `make book` goes on from here")
            raise SystemExit(code)
        raise SystemExit("The book is not complete; what went wrong stands above.  `make book` goes on from here.")
    report(time.time() - began)
    say(f"the book: {ROOT / '_build' / 'html' / 'index.html'}")


def errors_in(said: str) -> str:
    """What Snakemake said, less its way of saying that it works and that a job failed: the job has said that itself."""
    return "".join(line for line in said.splitlines(keepends=True) if line.strip() and not CHATTER.match(line))


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
        code = call(command, pass_fds=(lock.fileno(),), stderr=subprocess.STDOUT)
    with TIMES.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"phase": phase, "name": name, "began": began, "ended": time.time()}) + "\n")
    ended = "done" if code == 0 else "stopped" if code in STOPPED else "FAILED"
    say(f"{name}: {ended} after {told(time.time() - began)}")
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
    """Run a command in the project's folder.  Told to stop, tell it to stop, and wait until it has.

    A command with a group of its own (`process_group=0`) is told with all that it has started, as Snakemake would let
    its jobs run to their ends; its exit code then says that it was stopped.
    """
    with put_off() as told_already:  # what is starting has to be told, too
        process = subprocess.Popen(command, cwd=ROOT, **options)
    whole, stopped = "process_group" in options, 0
    while True:
        try:
            while told_already:
                signal.raise_signal(told_already.pop())
            code = process.wait()
            return stopped if whole and code and stopped else code
        except KeyboardInterrupt:  # the terminal has told a command without a group too
            number, stopped = signal.SIGINT, 130
        except SystemExit as told_to:
            number, stopped = signal.SIGTERM, int(told_to.code or 0)
        if whole:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        elif number == signal.SIGTERM:
            process.terminate()


@contextlib.contextmanager
def put_off() -> Iterator[list[int]]:
    """What tells this process to stop only fills the list that is given, as long as this lasts."""
    numbers: list[int] = []
    heard = [number for number in STOPPING if callable(signal.getsignal(number))]
    kept = {number: signal.signal(number, lambda number, _: numbers.append(number)) for number in heard}
    try:
        yield numbers
    finally:
        for number, how in kept.items():
            signal.signal(number, how)


def told(seconds: float) -> str:
    """`48 s`, `3 min 5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def say(line: str) -> None:
    """A line of the build's log, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def main(arguments: list[str]) -> int:
    """Do what the first argument names."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that commands are told and waited for
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    if arguments[:1] == ["step"]:
        return step(arguments[1], arguments[2], arguments[arguments.index("--") + 1 :])
    tasks = {"install": [install], "lab": [install], "build": [build], "book": [install, build], "clean": [clean]}
    name, rest = (arguments or [""])[0], arguments[1:]
    if name not in tasks or (rest and not (name == "lab" and rest[0] == "--")):
        print(__doc__)
        return 2
    settle(arguments)
    with alone():
        for task in tasks[name]:
            task()
    if name == "lab":
        lab(rest[1:])
    return 0


def settle(arguments: list[str]) -> None:
    """What every command that is started from here inherits: absolute places, and UTF-8 under every locale.

    Where the Python that was called is too old, and nobody named it, the environment's own goes on.
    """
    for place in PLACES:
        if os.environ.get(place):
            os.environ[place] = os.path.abspath(os.path.expanduser(os.environ[place]))
    os.environ["PYTHONUTF8"] = "1"
    found = probe(ROOT / VENV) if sys.version_info < OLDEST_PYTHON and not os.environ.get("KDNB_PYTHON") else None
    if found is not None and tuple(found["python"]) >= OLDEST_PYTHON:
        python = str(python_of(ROOT / VENV))
        os.execv(python, [python, os.path.abspath(__file__), *arguments])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
