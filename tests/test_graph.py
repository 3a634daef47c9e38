"""The study as a graph: a job has the data of its runs, a page the jobs it shows, and reading it changes nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from book_samples import fill, notebook

from kdnb import notebooks, page, paths
from kdnb.book import Book, make_readable
from kdnb.exhibits import wanted
from kdnb.study.profile import PROFILES
from kdnb.study.store import Store

BUILD = paths.ROOT / "book" / "build.py"
TOC = "format: jb-book\nroot: book/index\nchapters:\n"


@pytest.fixture
def project(tmp_path):
    """A folder with one page, which shows the table of KD's alphas."""
    return small_project(tmp_path / "project")


def small_project(folder: Path) -> Path:
    (folder / "book").mkdir(parents=True)
    for name in ("Snakefile", "_config.yml", "book/build.py"):
        shutil.copy(paths.ROOT / name, folder / name)
    (folder / "_toc.yml").write_text(TOC + "  - file: book/executed/comparison/alphas\n", encoding="utf-8")
    (folder / "book" / "index.md").write_text("# A book\n", encoding="utf-8")
    cell = 'from kdnb import tables\ntables.results("comparison/kd-alpha")'
    notebook(folder / "notebooks/comparison/alphas.ipynb", cell, exhibits=["comparison/kd-alpha"])
    return folder


def snakemake(folder, *options):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--nolock", *options]
    environment = {**os.environ, "KDNB_BOOK": str(folder), "PYTHONPATH": str(paths.ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8")


def build(folder, **more):
    environment = {**os.environ, "KDNB_BOOK": str(folder), "VENV": sys.prefix, "PYTHONPATH": str(paths.ROOT), **more}
    command = [sys.executable, str(folder / "book" / "build.py"), "build"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
    return subprocess.run(command, env=environment, **options)


def contents(folder):
    """Every file with its time of change, but for Snakemake's own."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".snakemake" not in path.parts]
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_whole_study_is_planned_at_every_profile_and_reading_it_changes_nothing(profile, tmp_path):
    shutil.copytree(paths.ROOT / "notebooks", tmp_path / "study" / "notebooks")
    for name in ("Snakefile", "_toc.yml"):
        shutil.copy(paths.ROOT / name, tmp_path / "study")
    before = contents(tmp_path)
    found = snakemake(tmp_path / "study", "--dry-run", "--quiet", "progress", "--config", f"profile={profile}")
    assert found.returncode == 0, found.stderr
    assert contents(tmp_path) == before
    said = found.stdout + found.stderr
    todo = [job for job in Book(tmp_path / "study", profile).jobs.values() if not job.done]
    assert todo or (profile == "demo" and paths.demo_results().exists())  # the book of this checkout is built
    assert said.count("rule cohort:") == len(todo)
    assert said.count("rule page:") == len(page.pages(tmp_path / "study"))
    data = set(re.findall(r"data/(\w+)$", said, flags=re.MULTILINE)) & {"digits", "cifar10", "cifar100", "imagenet"}
    wanted = {"digits"} if profile == "demo" else {"cifar10", "cifar100"}
    assert data == (wanted if todo else set())


def test_a_page_waits_for_the_jobs_that_it_shows_and_for_no_others(project, empty_project):
    study = Book(project, "paper")
    waits = {job.id for job in study.waits_for("comparison/alphas")}
    runs = wanted.runs(wanted.select("comparison/kd-alpha"), PROFILES["paper"])
    holding = {job.id for job in study.jobs.values() if {run.key for run in job.runs} & {run.key for run in runs}}
    assert holding < waits < set(study.jobs)  # with the teachers' jobs
    fill(Store.open(), "paper", seeds=3, key="comparison/kd-alpha")
    filled = Book(project, "paper")
    assert filled.waits_for("comparison/alphas") == []
    assert not any(filled.jobs[job].done for job in holding)  # but for others' runs


def test_a_page_is_stale_while_a_run_that_it_shows_is_missing(project, empty_project):
    fill(Store.open(), "demo", seeds=1, key="comparison/kd-alpha")
    target = project / "book/executed/comparison/alphas.ipynb"
    source = project / "notebooks/comparison/alphas.ipynb"
    target.parent.mkdir(parents=True)
    shutil.copy(source, target)
    made = nbformat.read(target, as_version=4)
    made.metadata["kdnb"]["digest"] = notebooks.digest(source, Book(project).parameters)
    nbformat.write(made, target)
    assert Book(project).stale_pages() == []
    (lost, *_) = wanted.runs(wanted.select("comparison/kd-alpha"), PROFILES["demo"], rows="kd-a50")
    stored = Store.open().get(*lost.key)
    assert stored is not None and stored.path is not None
    stored.path.unlink()
    assert Book(project).stale_pages() == ["comparison/alphas"]
    (job,) = [job for job in Book(project).jobs.values() if lost in job.runs]
    assert any(line.startswith(f"{job.id}: ") for line in Book(project).left())


def test_of_pages_that_treat_a_method_that_of_a_paper_with_the_same_training_comes_first(project, monkeypatch):
    toc = TOC
    for name in ("other/theirs", "third/kd_a50"):
        notebook(project / f"notebooks/{name}.ipynb", rows=["kd-a50"])
        toc += f"  - file: book/executed/{name}\n"
    (project / "_toc.yml").write_text(toc, encoding="utf-8")
    monkeypatch.setenv("KDNB_BOOK", str(project))
    monkeypatch.setenv("KDNB_BATCH", "1")
    assert page.of_row("leaderboard", "mine", "kd-a50") == "../third/kd_a50"  # which bears its name
    assert page.of_row("leaderboard", "mine", "kd-a50", {"other"}) == "../other/theirs"


def test_only_pages_of_the_table_of_contents_are_pages(project, monkeypatch):
    """A saved copy of a notebook names the same rows, and takes over nothing."""
    source = notebook(project / "notebooks/comparison/alphas.ipynb", rows=["kd-a50"])
    shutil.copy(source, source.with_name("alphas-Copy1.ipynb"))
    shutil.copy(source, source.with_name("zz.ipynb"))
    monkeypatch.setenv("KDNB_BOOK", str(project))
    monkeypatch.setenv("KDNB_BATCH", "1")
    assert page.of_row("comparison", "kd-a50") == "alphas" and page.of_row("leaderboard", "kd-a50") == ""
    assert page.of_row("leaderboard", "mine", "kd-a50+kd") == "../comparison/alphas"  # by its method
    assert page.of_row("leaderboard", "mine", "new", near=["none", "kd-a50"]) == "../comparison/alphas"
    assert page.of_row("leaderboard", "mine", "new", near=["none"]) == ""
    assert page.exists("comparison", "alphas") and not page.exists("comparison", "alphas-Copy1")
    assert Book(project).pages == ["comparison/alphas"]


@pytest.mark.parametrize(
    ("toc", "told"),
    [
        ("root: book/index\nchapters:\n  - file: 'book/x\n", "_toc.yml cannot be read"),
        (TOC + "  - file: book/executed/comparison/alpha\n", "there is no notebooks/comparison/alpha.ipynb"),
    ],
)
def test_a_typing_error_in_the_table_of_contents_is_said(project, toc, told):
    (project / "_toc.yml").write_text(toc, encoding="utf-8")
    done = build(project)
    assert done.returncode == 1 and told in done.stdout and "Traceback" not in done.stdout
    assert "the book:" not in done.stdout


def test_a_book_is_checked_also_where_python_leaves_assertions_out(project):
    (project / "_toc.yml").write_text(TOC + "  - file: book/executed/comparison/alpha\n", encoding="utf-8")
    check = f"import pathlib, kdnb.book; kdnb.book.Book(pathlib.Path({str(project)!r})).check()"
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT)}
    done = subprocess.run([sys.executable, "-O", "-c", check], env=environment, capture_output=True, encoding="utf-8")
    assert "there is no notebooks/comparison/alpha.ipynb" in done.stderr


#: In place of a job: training is told to stop, everything else has nothing to do.
STOPPED = "import sys\nsys.exit(143 if sys.argv[2] == 'training' else 0)\n"


@pytest.mark.parametrize("broken", ["a data set that is not there", "a training that is told to stop"])
def test_without_its_runs_no_page_is_made_and_what_is_missing_is_said(broken, project):
    if "stop" in broken:
        (project / "book" / "build.py").write_text(STOPPED, encoding="utf-8")
    done = snakemake(project, "--keep-going", "--config", "profile=short", "exhibits=comparison/kd-alpha", "seeds=1")
    assert done.returncode == 1
    missing = [line for line in done.stdout.splitlines() if line.startswith("missing: ")]
    jobs = Book(project, "short", 1, "comparison/kd-alpha").jobs
    assert len(missing) == len(jobs) + 1
    assert missing[-1] == "missing: 1 of 1 pages: comparison/alphas"
    assert not (project / "book" / "executed").exists() and not list((project / ".stamps").glob("runs/*"))


def test_a_folder_may_have_braces_and_blanks_in_its_name(tmp_path):
    fill(Store.open(), "demo", seeds=1, key="comparison/kd-alpha")
    folder = small_project(tmp_path / "a {folder} of {0}")
    done = snakemake(
        folder, ".stamps/runs/now/pages/comparison/alphas", "--config", "exhibits=comparison/kd-alpha", "seeds=1"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "book/executed/comparison/alphas.ipynb").exists()


def test_a_downloaded_notebook_says_where_kdnb_comes_from_and_holds_no_markup_of_the_book(project, monkeypatch):
    monkeypatch.setenv("KDNB_BOOK", str(project))
    page_of_it = notebook(project / "book/executed/comparison/alphas.ipynb", "1")
    (page_of_it.parent / "rise.svg").write_text("<svg/>", encoding="utf-8")
    made = nbformat.read(page_of_it, as_version=4)
    shown = {"text/plain": "Fig. 1", "text/markdown": ":::{figure} rise.svg\n:name: rise\n:::"}
    made.cells[1].outputs = [nbformat.v4.new_output("display_data", shown)]
    download = project / "_build/html/_sources/book/executed/comparison/alphas.ipynb"
    download.parent.mkdir(parents=True)
    nbformat.write(made, download)
    make_readable(download)
    (about, *_, last) = nbformat.read(download, as_version=4).cells
    assert "make install" in about.source and "needs `kdnb`" in about.source
    assert last.outputs[0].data == {"text/plain": "Fig. 1", "image/svg+xml": "<svg/>"}
