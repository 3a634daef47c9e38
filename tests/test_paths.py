"""Folders: a relative place means what it meant where the command was given, and the package says what it lacks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kdnb import paths

TELLS = (
    "import os, subprocess, sys; from kdnb import paths; os.chdir('/');"
    "print(paths.own_store(), paths.data_root(), flush=True);"
    "subprocess.run([sys.executable, '-c', 'from kdnb import paths; print(paths.own_store(), paths.data_root())'])"
)


def python(*arguments: str, cwd: Path, package: Path = paths.ROOT, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(package), **environment}, capture_output=True,
        encoding="utf-8", timeout=60,
    )  # fmt: skip


def test_a_relative_place_is_where_the_command_was_given(tmp_path):
    home = tmp_path / "home"
    done = python("-c", TELLS, cwd=tmp_path, KDNB_STORE="mystore", KDNB_DATA="~/images", HOME=str(home))
    assert done.stdout.splitlines() == 2 * [f"{tmp_path / 'mystore'} {home / 'images'}"], done.stderr


def test_a_place_that_is_not_set_is_in_the_project(monkeypatch):
    monkeypatch.delenv("KDNB_DATA")
    monkeypatch.setenv("KDNB_STORE", "")
    assert paths.data_root() == paths.ROOT / "data" and paths.own_store() is None


def test_what_stands_in_the_way_of_a_folder_is_found(tmp_path):
    (tmp_path / "file").write_text("")
    assert paths.file_above(tmp_path / "file") == paths.file_above(tmp_path / "file" / "a" / "b") == tmp_path / "file"
    assert paths.file_above(tmp_path) is None and paths.file_above(tmp_path / "a" / "b") is None


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What `pip install .` leaves: the package alone."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(paths.ROOT / "kdnb", site / "kdnb", ignore=shutil.ignore_patterns("__pycache__"))
    return site


@pytest.mark.parametrize("command", ["status", "study --plan", "run kd", "data list"])
def test_the_package_without_its_repository_says_so_in_one_sentence(command, installed, tmp_path, monkeypatch):
    for variable in ("KDNB_STORE", "KDNB_DATA"):
        monkeypatch.delenv(variable)
    done = python("-m", "kdnb", *command.split(), cwd=tmp_path, package=installed)
    assert done.returncode == 2 and done.stderr.startswith("kdnb: kdnb lies in ") and done.stderr.count("\n") == 1
    assert "`make install`" in done.stderr


def test_the_package_without_its_repository_does_what_needs_none(installed, tmp_path):
    done = python("-m", "kdnb", "data", "check", "digits", cwd=tmp_path, package=installed)
    assert done.returncode == 0, done.stderr
    done = python("-m", "kdnb", "data", "list", cwd=tmp_path, package=installed)  # KDNB_DATA is set
    assert done.returncode == 0 and "cifar100" in done.stdout


def test_what_is_published_names_no_folder_of_a_person(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert paths.from_home(tmp_path / "me" / ".cache" / "kdnb") == os.path.join("~", ".cache", "kdnb")
    assert paths.from_home(tmp_path / "you") == str(tmp_path / "you")
    told = [path.read_text(encoding="utf-8") for path in (paths.ROOT / "data" / "results").rglob("*.json")]
    assert told and not any(re.search(r"[\" ]/(root|home|Users)/", text) for text in told)
