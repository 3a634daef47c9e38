"""Where a record says it comes from: this project's own history, or that it is unknown; and which sources made it."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from study_samples import experiment, keep, record

from kdnb import paths
from kdnb.exhibits import status
from kdnb.study import environment as environment_module
from kdnb.study.environment import commit, commit_told, environment, made_now, source_digest
from kdnb.study.experiment import Run
from kdnb.study.runner import Runner
from kdnb.study.store import Store
from kdnb.training.numerics import detect

RUN = Run(experiment("plain"), 1)


def git(folder: Path, *arguments: str) -> None:
    names = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, env=os.environ | names)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder, with one file of the package, in a repository of its own."""
    root = tmp_path / "around" / "project"
    (root / "kdnb").mkdir(parents=True)
    (root / "kdnb" / "__init__.py").write_text("")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(environment_module, "commit", commit.__wrapped__)  # asked again
    return root


def test_the_commit_is_the_projects(project, monkeypatch):
    found, why = commit.__wrapped__()
    assert len(found) == 12 and not why
    (project / "kdnb" / "__init__.py").write_text("changed = True")
    assert commit.__wrapped__() == (f"{found}+", "")
    elsewhere = project.parent / "other"
    elsewhere.mkdir()
    git(elsewhere, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(elsewhere / ".git"))  # as in a hook of another repository
    assert commit.__wrapped__() == (f"{found}+", "")


@pytest.mark.parametrize("place", ["around", "itself"])
def test_another_repositorys_commit_is_not_ours(project, place):
    """Unpacked within another repository, or over one that does not hold it."""
    import shutil

    shutil.rmtree(project / ".git")
    other = project.parent if place == "around" else project
    git(other, "init", "-q")
    (other / "notes").write_text("")
    git(other, "add", "notes")
    git(other, "commit", "-qm", "other")
    assert commit.__wrapped__() == ("", "the folder has no history of its own")


def test_without_git_the_commit_is_unknown_and_the_digest_stands_for_it(project, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    told = environment({}, {})
    assert (told["commit"], told["commit_unknown"]) == ("unknown", "git is not installed")
    assert commit_told(told) == f"unknown, sources {told['sources'][:7]}"


def test_a_folder_of_another_user_is_said(project, monkeypatch, tmp_path):
    """As git answers where it trusts nobody else's folder."""
    says = "fatal: detected dubious ownership in repository at '/project'"
    (tmp_path / "git").write_text(f'#!/bin/sh\necho "{says}" >&2\nexit 128\n')
    (tmp_path / "git").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert commit.__wrapped__() == ("", "git does not trust a folder of another user")


@pytest.mark.usefixtures("empty_project")
def test_a_runner_says_once_that_the_commit_is_unknown(monkeypatch):
    monkeypatch.setattr("kdnb.study.runner.commit", lambda: ("", "git is not installed"))
    lines: list[str] = []
    Runner(Store.open(), detect("cpu"), "comparison", budget=0, say=lines.append).run([RUN])
    assert lines[0] == (
        f"the commit is unknown (git is not installed); records carry the digest of the sources, {source_digest()}"
    )


@pytest.mark.usefixtures("empty_project")
def test_the_dashboard_counts_records_by_the_sources_that_made_them():
    here = {"numerics": {}, "sources": source_digest()}
    Store.open().write(RUN, record(RUN, environment=here), "comparison")
    assert "sources:" not in status.told(status.report(keys="comparison/table1"))  # nothing to say
    for seed in (2, 3):
        other = Run(RUN.experiment, seed)
        Store.open().write(other, record(other, environment=here | {"sources": "abcdef0123456789"}), "comparison")
    keep(Run(RUN.experiment, 4))
    found = status.report(keys="comparison/table1")
    assert {(of["sources"], of["records"], of["today"]) for of in found["sources"]} == {
        ("abcdef0123456789", 2, False),
        (source_digest(), 1, True),
        ("", 1, False),
    }
    told = status.told(found).splitlines()[-1]
    assert told.startswith(f"sources: 1 records by today's ({source_digest()[:7]}), 3 by 2 others, which count as well")


def test_a_run_that_went_on_under_new_sources_was_not_made_by_them_alone():
    assert made_now({"sources": source_digest()})
    assert not made_now({"sources": source_digest(), "earlier_sources": ["0"]}) and not made_now({})
