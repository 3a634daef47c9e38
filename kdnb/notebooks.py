"""Notebooks into pages: parameters checked, executed by papermill, and executed again only where it matters.

    python -m kdnb.notebooks run notebooks/comparison/kd.ipynb book/executed/comparison/kd.ipynb \\
        --parameters '{"profile": "demo"}'

A page is current while its notebook, its parameters, the code that shows and the records that it shows are
the ones it was made from; their digest is kept in the page.  A notebook's metadata may say, under `kdnb`,
which `exhibits` it shows (default: all of its paper), which `rows` of them it is the page of, which other `files` it
reads, and, by `demo: false`, that it shows nothing of a demo and waits for none.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdnb import exhibits, page, paths
from kdnb.errors import KdnbError, reason, unknown
from kdnb.study.environment import made_now
from kdnb.study.profile import PROFILES
from kdnb.study.store import Store

if TYPE_CHECKING:
    from kdnb.kernels import Waiting

#: Rooms whose code never decides how a stored run is shown.
NOT_SHOWING = ("training", "evaluation", "bench", "book.py", "server.py", "kernels.py", "cli.py", "__main__.py")


def check_parameters(source: Path, parameters: dict[str, Any]) -> None:
    """Refuse parameters that the notebook does not have: papermill itself only warns."""
    import papermill

    known = papermill.inspect_notebook(_plain(source))
    for name in parameters:
        if name not in known:
            raise unknown(f"parameter of {source.stem}.ipynb", name, known)


def execute(
    source: Path,
    target: Path,
    parameters: dict[str, Any],
    project: Path | None = None,
    made_from: str = "",
    *,
    kernel: Waiting | None = None,
) -> None:
    """Execute a notebook as a page of the book: it shows what is stored and trains nothing.

    The page appears whole or not at all.  Its `kernel` is started where none is waiting.
    Raises KdnbError for an unknown parameter, and where a cell fails.
    """
    import nbformat
    import papermill
    from traitlets.config import Config

    check_parameters(source, parameters)
    made_from = made_from or digest(source, parameters)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kdnb-", dir=short_place()) as place, _kernel_environment(project, place):
        draft = Path(place) / "page.ipynb"
        try:
            papermill.execute_notebook(
                _plain(source),
                _plain(draft),
                parameters,
                kernel_name="python3",
                cwd=str(target.parent),
                progress_bar=False,
                # Kernels that start together on the ports of one machine take each other's; sockets do not.
                config=Config({"KernelManager": {"transport": "ipc", "ip": f"{place}/kernel"}}),
                extra_arguments=["--log-level=50"],  # a kernel that is told to stop calls that an error
                **({"kernel_manager_class": kernel.manager()} if kernel else {}),
            )
        except papermill.exceptions.PapermillExecutionError as error:
            raise KdnbError(f"{source} failed in cell {error.exec_count}: {error.ename}: {error.evalue}") from error
        notebook = nbformat.read(draft, as_version=4)
    _tag_injected(notebook)
    _put_warnings_into_the_log(notebook, source)
    notebook.metadata["kdnb"] = {**notebook.metadata.get("kdnb", {}), "digest": made_from}
    notebook.metadata.pop("papermill", None)
    written = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        nbformat.write(notebook, written)
        os.replace(written, target)
    finally:
        written.unlink(missing_ok=True)


def taken(source: Path, study: dict[str, Any]) -> dict[str, Any]:
    """Those parameters of a whole study that the notebook has."""
    import papermill

    known = papermill.inspect_notebook(_plain(source))
    return {name: value for name, value in study.items() if name in known}


def _plain(path: Path) -> str:
    """A path for papermill, which fills parameters into braces: those of a folder's name are doubled."""
    return str(path).replace("{", "{{").replace("}", "}}")


def is_current(source: Path, target: Path, parameters: dict[str, Any], store: Store | None = None) -> bool:
    """Whether the executed page was made from what is there now."""
    try:
        kept = json.loads(target.read_text(encoding="utf-8"))["metadata"]["kdnb"]["digest"]
    except (OSError, ValueError, KeyError):
        return False
    return bool(kept == digest(source, parameters, store))


def digest(source: Path, parameters: dict[str, Any], store: Store | None = None) -> str:
    """sha256 of everything a page is made from."""
    found = hashlib.sha256()
    found.update(source.read_bytes())
    found.update(json.dumps(parameters, sort_keys=True).encode())
    found.update(_code())
    found.update(" ".join(sorted(page.pages(source.resolve().parents[2]))).encode())  # pages lead to each other
    for path in sorted(paths.reported().glob("*.csv")):
        _add(found, path)
    for pattern in _metadata(source).get("files", []):
        for path in sorted(paths.ROOT.glob(pattern)):
            _add(found, path)
    for line in _records_shown(source, str(parameters.get("profile", "demo")), store):
        found.update(line.encode())
    return found.hexdigest()


def exhibits_of(source: Path) -> list[str]:
    """The exhibits that a notebook shows: those that it names, or all of the paper that its folder is called after."""
    paper = source.parent.name
    of_paper = [paper] if paper in {exhibit.paper for exhibit in exhibits.select("all")} else []
    keys: list[str] = _metadata(source).get("exhibits", of_paper)
    return [exhibit.key for key in keys for exhibit in exhibits.select(key)]


def shows_demo(source: Path) -> bool:
    """Whether a notebook shows runs of the demo: then its page waits for them."""
    return bool(_metadata(source).get("demo", True))


def _metadata(source: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))["metadata"].get("kdnb", {})
    return found


@functools.cache
def _code() -> bytes:
    """What the code that shows says, as it was when this process began."""
    found, package = hashlib.sha256(), Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] not in NOT_SHOWING:
            _add(found, path)
    return found.digest()


def _add(found: Any, path: Path) -> None:
    found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")


def _records_shown(source: Path, profile: str, store: Store | None) -> Iterator[str]:
    """One line a record of the exhibits' cells, and of the steps that they start from, in every profile."""
    store = store or Store.open()
    for key in exhibits_of(source):
        for cell, fingerprint in _experiments(key, profile, shows_demo(source)):
            for seed, record in store.every(fingerprint).items():
                # A demo's page says whether the sources of today made its runs.
                made = made_now(record.environment) if cell.startswith("demo ") else ""
                yield f"{key} {cell} {seed} {made} {record.to_json()}"


def _experiments(key: str, profile: str, demo: bool) -> Iterator[tuple[str, str]]:
    """The cells of an exhibit in every profile, each with the fingerprints that its numbers come from."""
    for name in dict.fromkeys([*PROFILES, profile] if demo else [p for p in PROFILES if p != "demo"]):
        yield from _experiments_of(key, name)


@functools.cache
def _experiments_of(key: str, profile: str) -> list[tuple[str, str]]:
    found = []
    for cell in exhibits.get(key).cells(profile):
        if cell.experiment is not None:
            for experiment in (cell.experiment, *cell.experiment.shared_stages(), *cell.experiment.steps()):
                found.append((f"{cell.profile.name} {cell.dataset} {cell.key}", experiment.fingerprint))
    return found


def _tag_injected(notebook: Any) -> None:
    """The cell that papermill put in is hidden on the page, and can be opened there."""
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags and "hide-input" not in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]


def _put_warnings_into_the_log(notebook: Any, source: Path) -> None:
    """What libraries write to stderr is for who builds the book, not for who reads it."""
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        for said in [output for output in outputs if output.get("name") == "stderr"]:
            print(f"{source.stem}: {said.text.rstrip()}", file=sys.stderr)
            outputs.remove(said)


#: Bytes that the path of a folder with sockets may have; systems allow some 100 for the whole path.
_LONGEST_PLACE = 70


def short_place() -> Path:
    """Where temporary folders go whose sockets' paths must be short: the usual place, or /tmp where that is long."""
    usual = tempfile.gettempdir()
    return Path(usual if len(os.fsencode(usual)) <= _LONGEST_PLACE else "/tmp")


@contextlib.contextmanager
def _kernel_environment(project: Path | None, place: str) -> Iterator[None]:
    """What the kernel inherits: that it only shows, which book it is for, this environment's kernel, UTF-8.

    Where the home cannot be written, what would be kept there lies in `place`.
    """
    before = dict(os.environ)
    os.environ |= {"KDNB_BATCH": "1", "KDNB_BOOK": str(project or paths.ROOT), "JUPYTER_PREFER_ENV_PATH": "1"}
    os.environ |= {"PYTHONUTF8": "1", "JUPYTER_RUNTIME_DIR": place}
    if not os.access(os.path.expanduser("~"), os.W_OK):
        os.environ |= {"IPYTHONDIR": place, "MPLCONFIGDIR": place, "XDG_CACHE_HOME": place, "JUPYTER_DATA_DIR": place}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def prepare() -> None:
    """Read what pages are made from, code, records and cells: once for all that this process makes."""
    _code()
    Store.open()
    for exhibit in exhibits.select("all"):
        for name in PROFILES:
            _experiments_of(exhibit.key, name)


def main(arguments: list[str] | None = None, kernel: Waiting | None = None) -> int:
    """`run`: execute unless the page is current."""
    parser = argparse.ArgumentParser(prog="python -m kdnb.notebooks", description=main.__doc__)
    parser.add_argument("command", choices=["run"])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--parameters", type=json.loads, default={}, metavar="JSON", help="an unknown one is an error")
    parser.add_argument(
        "--study", type=json.loads, default={}, metavar="JSON", help="taken where the notebook has them"
    )
    parser.add_argument("--project", type=Path, default=paths.ROOT, help="the folder with the book")
    given = parser.parse_args(arguments)
    source, target = given.source.resolve(), given.target.resolve()
    asked = {**given.study, **given.parameters}
    try:
        if is_current(source, target, asked):
            print(f"{source.stem}: shows nothing new")
        else:
            parameters = {**taken(source, given.study), **given.parameters}
            made_from = digest(source, asked)
            execute(source, target, parameters, given.project.resolve(), made_from, kernel=kernel)
    except KdnbError as error:
        print(f"kdnb: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a full disk under the page, or under what is written on the way
        print(f"kdnb: {source.stem} could not be made: {reason(error)}.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
