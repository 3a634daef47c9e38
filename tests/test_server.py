"""Servers of a build: what they fork is as what is started, fails as that does, and stops when it is told to."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import nbformat
import pytest
from book_samples import notebook

from kdnb import notebooks, server
from kdnb.study.record import read

#: A page that tells what it finds, and leaves something behind.
TELLING = """\
import builtins, os, sys
print(getattr(builtins, "left_behind", None), os.getcwd(), sys.path[0], sys.flags.utf8_mode, "torch" in sys.modules)
print({name: os.environ.get(name) for name in ("KDNB_BATCH", "KDNB_BOOK", "OWN")}, __name__, sorted(globals()))
builtins.left_behind = 1
warnings = __import__("warnings").warn("for the log")
"""
#: A page that says which process makes it, and then takes its time.
WAITING = "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(60)"


@pytest.fixture(scope="module")
def place():
    """The folder of a server of pages, while it is at work."""
    yield from at_work("pages")


@pytest.fixture(scope="module")
def training_place():
    """The folder of a server that trains, while it is at work."""
    yield from at_work("training")


def at_work(trade):
    folder = notebooks.short_place() / f"kdnb-tested-{os.getpid()}-{trade}"
    process = server.start(folder, trade)
    yield folder
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(timeout=60) == 0 and not folder.exists()


def asked(place, source, target):
    return told(place, "pages", "run", str(source), str(target), "--project", str(source.parents[2]))


def told(place, trade, *arguments, **environment):
    command = [sys.executable, "-m", "kdnb.server", "run", str(place), trade, *arguments]
    return subprocess.Popen(
        command,
        env={**os.environ, "OWN": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def shown(target):
    return [o.text for c in nbformat.read(target, as_version=4).cells for o in c.get("outputs", [])]


def test_pages_of_a_server_are_what_they_are_alone(place, tmp_path, monkeypatch):
    source = notebook(tmp_path / "notebooks" / "comparison" / "a.ipynb", TELLING)
    targets = [tmp_path / "out" / f"{name}.ipynb" for name in ("first", "second", "alone")]
    for target in targets[:2]:
        page = asked(place, source, target)
        said = page.communicate(timeout=120)
        assert page.returncode == 0 and "UserWarning: for the log" in said[1], said
    monkeypatch.setenv("OWN", "1")
    notebooks.execute(source, targets[2], {}, tmp_path)
    first, second, alone = map(shown, targets)
    assert first == second == alone and "None" in alone[0] and "'OWN': '1'" in alone[0]


def test_a_failing_page_of_a_server_names_notebook_and_cell(place, tmp_path):
    source = notebook(tmp_path / "notebooks" / "comparison" / "a.ipynb", "1 / 0")
    page = asked(place, source, tmp_path / "out" / "a.ipynb")
    _, said = page.communicate(timeout=120)
    assert page.returncode == 2 and f"kdnb: {source} failed in cell 2: ZeroDivisionError: division by zero" in said
    assert not (tmp_path / "out" / "a.ipynb").exists()


def test_a_page_ends_with_who_asked_for_it_and_its_folder_is_left_clean(place, tmp_path):
    source = notebook(tmp_path / "notebooks" / "comparison" / "a.ipynb", WAITING)
    page, told = asked(place, source, tmp_path / "out" / "a.ipynb"), tmp_path / "out" / "pid"
    _until(lambda: told.exists() and told.read_text())
    page.terminate()
    assert page.wait(timeout=60) == 143
    _until(lambda: not os.path.exists(f"/proc/{told.read_text()}"))
    assert [path.name for path in told.parent.iterdir()] == ["pid"]


def test_without_a_server_a_page_is_made_all_the_same(tmp_path):
    source = notebook(tmp_path / "notebooks" / "comparison" / "a.ipynb", "1 / 0")
    page = asked(tmp_path / "nobody", source, tmp_path / "out" / "a.ipynb")
    _, said = page.communicate(timeout=120)
    assert page.returncode == 2 and "failed in cell 2: ZeroDivisionError" in said


def test_a_run_of_a_server_is_what_it_is_alone(training_place, tmp_path):
    found = []
    for folder in (training_place, tmp_path / "nobody"):
        store = tmp_path / f"of-{folder.name}"
        run = told(folder, "training", "run", "plain", "--epochs", "1", KDNB_STORE=str(store), OMP_NUM_THREADS="1")
        said = run.communicate(timeout=240)
        assert run.returncode == 0 and "headline" in said[0], said
        (path,) = store.rglob("seed1.json")
        found.append(read(path))
    first, alone = found
    assert (first.metrics, first.history, first.correct) == (alone.metrics, alone.history, alone.correct)
    assert first.environment == alone.environment


def test_a_training_that_is_told_to_stop_saves_what_it_has(training_place, tmp_path):
    # Fewer epochs than the demo's: a checkout whose book is built has that run already, and trains nothing.
    run = told(training_place, "training", "run", "crd", "--epochs", "5", KDNB_STORE=str(tmp_path))
    assert "epochs of stage" in run.stderr.readline()
    run.terminate()
    _, said = run.communicate(timeout=120)
    assert run.returncode == 143 and "checkpoints are written" in said
    assert list(tmp_path.rglob("running/**/*.json"))


def test_a_wrong_command_of_a_server_is_said(training_place):
    run = told(training_place, "training", "run", "kf")
    _, said = run.communicate(timeout=120)
    assert run.returncode == 2 and "did you mean kd" in said


def _until(so) -> None:
    began = time.monotonic()
    while not so():
        assert time.monotonic() - began < 120
        time.sleep(0.05)
