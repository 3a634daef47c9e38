"""The build: one at a time, times told, and a book of a few notebooks whose pages say what the store says."""

from __future__ import annotations

import fcntl
import functools
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from book_samples import PAGES, fill, project
from browser import axe, visited
from bs4 import BeautifulSoup

from kdnb import exhibits, paths
from kdnb.exhibits import status
from kdnb.page import FOR_PHONES
from kdnb.study.store import Store
from kdnb.tables.ledger import judged

BUILD = paths.ROOT / "book" / "build.py"


@pytest.fixture
def build(tmp_path, monkeypatch):
    """The script as a module that works in a folder of its own."""
    monkeypatch.setenv("KDNB_BOOK", str(tmp_path))
    return load()


def load():
    spec = importlib.util.spec_from_file_location("build", BUILD)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(task, folder, **environment):
    return subprocess.Popen(
        [sys.executable, str(folder / "book" / "build.py") if (folder / "book").exists() else str(BUILD), task],
        env={**os.environ, "KDNB_BOOK": str(folder), "VENV": sys.prefix, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def test_a_second_build_says_that_it_waits_and_then_goes_on(tmp_path):
    (tmp_path / ".stamps").mkdir()
    (tmp_path / "_build").mkdir()
    with (tmp_path / ".stamps" / "lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = run("clean", tmp_path)
        assert second.stdout is not None
        assert "another build is at work" in second.stdout.readline()
        time.sleep(0.3)
        assert second.poll() is None and (tmp_path / "_build").exists()
    assert second.wait(timeout=60) == 0
    assert not (tmp_path / "_build").exists()


def test_a_job_that_outlives_its_killed_build_is_waited_for(tmp_path):
    environment = {**os.environ, "KDNB_BOOK": str(tmp_path)}
    (tmp_path / "_build").mkdir()
    over = tmp_path / "over"
    job = [sys.executable, "-c", (
        "import pathlib, time\nprint('inside', flush=True)\n"
        f"while not pathlib.Path({str(over)!r}).exists():\n    time.sleep(0.05)"
    )]  # fmt: skip
    step = subprocess.Popen(
        [sys.executable, str(BUILD), "step", "training", "a job", "--", *job],
        env=environment, stdout=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    assert step.stdout is not None
    while "inside" not in step.stdout.readline():
        pass
    step.kill()
    next_one = run("clean", tmp_path)
    assert next_one.stdout is not None
    try:
        assert "a job of an interrupted build is still at work" in next_one.stdout.readline()
        time.sleep(0.3)
        assert next_one.poll() is None and (tmp_path / "_build").exists()
    finally:
        over.touch()
    next_one.communicate(timeout=60)
    assert next_one.returncode == 0 and not (tmp_path / "_build").exists()


def test_a_build_that_is_told_to_stop_tells_its_command_and_waits(tmp_path):
    command = [sys.executable, "-c", (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), print('saved', flush=True), sys.exit(0)))\n"
        "print('inside', flush=True)\ntime.sleep(60)"
    )]  # fmt: skip
    step = subprocess.Popen(
        [sys.executable, str(BUILD), "step", "training", "a job", "--", *command],
        env={**os.environ, "KDNB_BOOK": str(tmp_path)}, stdout=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    assert step.stdout is not None
    while "inside" not in step.stdout.readline():
        pass
    step.terminate()
    said, _ = step.communicate(timeout=60)
    assert "saved" in said


#: In place of Snakemake: told to stop, it lets its jobs run to their ends.
PATIENT = """\
#!{python}
import os, signal, sys, time
def saved(number, frame):
    print("saved", flush=True)
    os._exit(143)
def listen(how):
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, how)
listen(lambda number, frame: None)  # before there is a job: told too early, it would die and leave the job behind
if os.fork() == 0:
    listen(saved)
    print("inside", flush=True)
    time.sleep(60)
os.wait()
sys.exit(1)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_whatever_stops_a_build_its_jobs_are_told_at_once_and_the_exit_code_says_so(number, code, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PATIENT.format(python=sys.executable), encoding="utf-8")
    python.chmod(0o755)
    building = run("build", tmp_path, VENV=str(tmp_path / "venv"))
    while "inside" not in building.stdout.readline():
        pass
    building.send_signal(number)
    said, _ = building.communicate(timeout=60)
    assert building.returncode == code, said
    assert "saved" in said and "stopped; `make book` goes on from here" in said


def test_what_is_only_starting_when_a_build_is_stopped_is_told_too(build, monkeypatch):
    """Between its start and the line that waits for it: who heard the signal there left it behind."""
    start, started = subprocess.Popen, []

    def stopped_meanwhile(*command, **options):
        started.append(start(*command, **options))
        signal.raise_signal(signal.SIGTERM)
        return started[0]

    monkeypatch.setattr(build.subprocess, "Popen", stopped_meanwhile)
    kept = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        code = build.call([sys.executable, "-c", "import time; time.sleep(60)"], process_group=0)
        assert callable(signal.getsignal(signal.SIGTERM))  # heard again
    finally:
        signal.signal(signal.SIGTERM, kept)
        started[0].kill()
    assert code == 143 and started[0].returncode == -signal.SIGTERM


def test_times_of_a_phase_count_once_where_its_jobs_ran_side_by_side(build):
    assert build._union([(0, 10), (5, 12), (20, 21)]) == 13
    assert build._union([]) == 0
    assert build.told(59.6) == "1 min 0 s" and build.told(7.2) == "7 s"


def test_a_step_says_what_it_does_keeps_its_time_and_passes_its_exit_code_on(build, capfd):
    assert build.step("training", "a job", [sys.executable, "-c", "print('inside'); raise SystemExit(3)"]) == 3
    said = capfd.readouterr().out
    assert "a job\n" in said and "inside" in said and "FAILED after" in said
    assert build.step("notebooks", "another", [sys.executable, "-c", ""]) == 0
    build.report(60)
    assert "training 0 s, notebooks 0 s, book 0 s; 1 min 0 s in all" in capfd.readouterr().out


def test_an_old_python_is_refused_before_anything_is_made(build, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(SystemExit, match=r"needs Python 99\.0 or newer"):
        build.install()
    assert list(tmp_path.iterdir()) == []


# -- the environment -----------------------------------------------------------------------------------


@pytest.fixture
def installing(monkeypatch):
    """`installing(folder)`: run its `build.py install` with a venv without pip and a pip that only links the folder.

    Gives back what was done: "venv" and "pip", in this order.
    """
    monkeypatch.delenv("KDNB_PYTHON", raising=False)

    def install(folder, venv=".venv"):
        monkeypatch.setenv("KDNB_BOOK", str(folder))
        monkeypatch.setenv("VENV", venv)
        module, real, done = load(), subprocess.run, []

        def run(command, **options):
            if "venv" in command:
                done.append("venv")
                return real([*command[:3], "--without-pip", *command[3:]], **options)
            if "pip" in command:
                done.append("pip")
                site = next(Path(command[0]).parents[1].glob("lib/python*/site-packages"))
                (site / "kdnb.pth").write_text(command[-1].partition("[")[0], encoding="utf-8")
                return subprocess.CompletedProcess(command, 0)
            return real(command, **options)

        monkeypatch.setattr(module.subprocess, "run", run)
        module.install()
        return done

    return install


def tiny_project(folder):
    """A project whose kdnb is one file."""
    (folder / "kdnb").mkdir(parents=True)
    (folder / "kdnb" / "__init__.py").touch()
    (folder / "pyproject.toml").write_text(
        '[project]\ndependencies = ["numpy>=1"]\n[project.optional-dependencies]\nbook = ["a>=1"]\ntest = ["b"]\n',
        encoding="utf-8",
    )
    return folder


def place_of_kdnb(folder):
    """Whose package the environment's commands run, from any folder."""
    asked = [folder / ".venv" / "bin" / "python", "-I", "-c", "import kdnb; print(kdnb.__file__)"]
    return Path(subprocess.run(asked, capture_output=True, encoding="utf-8", cwd="/").stdout.strip()).parents[1]


def test_an_installed_environment_is_left_alone_until_its_packages_change(installing, tmp_path):
    folder = tiny_project(tmp_path / "one")
    assert installing(folder) == ["venv", "pip"]
    assert installing(folder) == []
    project = folder / "pyproject.toml"
    project.write_text("# a comment\n" + project.read_text(encoding="utf-8"), encoding="utf-8")
    assert installing(folder) == []
    project.write_text(project.read_text(encoding="utf-8").replace("a>=1", "a>=2"), encoding="utf-8")
    assert installing(folder) == ["pip"] and installing(folder) == []


def test_an_installation_that_was_interrupted_goes_on(installing, tmp_path, monkeypatch):
    folder = tiny_project(tmp_path / "one")
    installing(folder)
    stamp = folder / ".venv" / "kdnb-installed"
    stamp.write_text(json.dumps({"made": True, "place": str(folder / ".venv")}), encoding="utf-8")
    assert installing(folder) == ["pip"]


@pytest.mark.parametrize("change", ["copied", "moved", "copied with an earlier version's stamp"])
def test_a_copied_or_moved_project_runs_its_own_package(installing, tmp_path, change):
    first, second = tiny_project(tmp_path / "one"), tmp_path / "two"
    installing(first)
    if "earlier" in change:
        (first / ".venv" / "kdnb-installed").write_text("0123abcd", encoding="utf-8")
        assert installing(first) == ["pip"]  # where it was made it serves
        (first / ".venv" / "kdnb-installed").write_text("0123abcd", encoding="utf-8")
    shutil.move(first, second) if change == "moved" else shutil.copytree(first, second, symlinks=True)
    assert installing(second) == ["venv", "pip"]
    assert place_of_kdnb(second) == second and installing(second) == []
    if change == "copied":
        assert place_of_kdnb(first) == first and installing(first) == []


def test_another_python_in_the_path_leaves_a_good_environment_alone(installing, tmp_path, monkeypatch):
    folder = tiny_project(tmp_path / "one")
    installing(folder)
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    assert installing(folder) == []


def test_a_python_that_was_named_gets_the_environment_it_asks_for(installing, tmp_path, monkeypatch, capsys):
    folder = tiny_project(tmp_path / "one")
    installing(folder)
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    monkeypatch.setenv("KDNB_PYTHON", "python3.99")
    assert installing(folder) == ["venv", "pip"]
    assert "and python3.99, which was named, is 3.99" in capsys.readouterr().out
    somebodys = tmp_path / "somebodys"
    shutil.copytree(folder / ".venv", somebodys, symlinks=True)
    (somebodys / "kdnb-installed").unlink()
    with pytest.raises(SystemExit, match=r"does not serve: its Python is .* and python3\.99, .*make VENV="):
        installing(folder, venv=str(somebodys))


def test_an_environment_whose_python_is_gone_is_made_anew(installing, tmp_path):
    folder = tiny_project(tmp_path / "one")
    installing(folder)
    (folder / ".venv" / "bin" / "python").unlink()
    (folder / ".venv" / "bin" / "python").symlink_to("/nowhere/python")
    assert installing(folder) == ["venv", "pip"]


def test_a_folder_that_is_no_environment_is_never_cleared(installing, tmp_path):
    folder = tiny_project(tmp_path / "one")
    with pytest.raises(SystemExit, match=r"does not serve: it has no Python that runs; name another"):
        installing(folder, venv="kdnb")
    assert (folder / "kdnb" / "__init__.py").exists()


def test_somebodys_environment_gets_the_packages_and_keeps_its_own(installing, tmp_path):
    folder, somebodys = tiny_project(tmp_path / "one"), tmp_path / "somebodys"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(somebodys)], check=True)
    (somebodys / "mine").touch()
    assert installing(folder, venv=str(somebodys)) == ["pip"] and installing(folder, venv=str(somebodys)) == []
    assert (somebodys / "mine").exists()


def test_the_environments_python_goes_on_where_the_one_in_the_path_is_too_old(build, monkeypatch):
    monkeypatch.delenv("KDNB_PYTHON", raising=False)
    monkeypatch.setattr(build, "VENV", Path(sys.prefix))
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    became: list[list[str]] = []
    monkeypatch.setattr(build.os, "execv", lambda python, command: became.append(command))
    build.settle(["install"])
    assert became == [[str(Path(sys.prefix) / "bin" / "python"), str(BUILD), "install"]]


def test_relative_places_are_handed_on_as_absolute_ones(build, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KDNB_STORE", "mystore")
    monkeypatch.setenv("KDNB_DATA", "~/images")
    monkeypatch.setenv("PYTHONUTF8", "0")
    build.settle([])
    assert os.environ["KDNB_STORE"] == str(tmp_path / "mystore")
    assert os.environ["KDNB_DATA"] == str(tmp_path / "home" / "images")
    assert os.environ["PYTHONUTF8"] == "1"


@pytest.mark.parametrize(("user", "told"), [(0, ["--allow-root"]), (1000, [])])
def test_make_lab_takes_arguments_and_runs_as_root(tmp_path, build, monkeypatch, user, told):
    monkeypatch.setattr(build.os, "geteuid", lambda: user)
    monkeypatch.setattr(build.os, "chdir", lambda place: None)
    became: list[list[str]] = []
    monkeypatch.setattr(build.os, "execv", lambda python, command: became.append(command[1:]))
    monkeypatch.setattr(build, "install", lambda: None)
    assert build.main(["lab", "--", "--no-browser", "--port", "9000"]) == 0
    assert became == [["-m", "jupyter", "lab", "--notebook-dir=notebooks", *told, "--no-browser", "--port", "9000"]]


def test_make_hands_on_what_was_named_and_the_arguments(tmp_path):
    shows = f"include {paths.ROOT / 'Makefile'}\nshow:\n\t@echo named:$$KDNB_PYTHON utf8:$$PYTHONUTF8\n"
    (tmp_path / "Makefile").write_text(shows, encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "KDNB_PYTHON") and not k.startswith("MAKE")}

    def make(*arguments, cwd=tmp_path):
        done = subprocess.run(["make", *arguments], cwd=cwd, env=clean, capture_output=True, encoding="utf-8")
        return done.stdout.strip()

    def show(*arguments):
        return make("-s", "show", *arguments)

    lab = make("-n", "lab", "PYTHON=python3.12", "LAB_ARGUMENTS=--no-browser", cwd=paths.ROOT)
    assert lab == "python3.12 book/build.py lab -- --no-browser"
    assert show() == "named: utf8:1" and show("PYTHON=python3.12") == "named:python3.12 utf8:1"


# -- a book of a few notebooks from a small store --------------------------------------------------------


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A built book: its folder, the store it shows, and what the build said."""
    folder = project(tmp_path_factory.mktemp("book"))
    store = folder / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDNB_STORE", str(store))
        fill(Store.open(), seeds=3)
        fill(Store.open(), seeds=1, key="leaderboard/first")
        fill(Store.open(), seeds=1, key="slkd")  # after it: its figures keep arrays beside the same runs
        fill(Store.open(), "pilot", seeds=2, dataset="cifar100", key="comparison/table1")
    done = run("build", folder, KDNB_STORE=str(store))
    said, _ = done.communicate(timeout=1800)  # minutes where it is quiet; less would be a test of the machine
    assert done.returncode == 0, said
    return folder, store, said


@pytest.fixture
def html(book):
    return book[0] / "_build" / "html"


def pages_of(html):
    return sorted(p for p in html.rglob("*.html") if "_static" not in p.parts)


def soup(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@pytest.mark.book
def test_the_build_says_what_it_does_and_where_the_book_is(book):
    folder, _, said = book
    assert "notebook comparison/kd" in said and re.search(r"time: training .*, notebooks .*, book .* in all", said)
    assert str(folder / "_build" / "html" / "index.html") in said
    assert "training demo" not in said  # everything was stored


@pytest.mark.book
def test_a_second_build_executes_nothing_and_a_changed_record_only_what_shows_it(book):
    folder, store, told = book
    minutes, seconds = re.search(r"(?:(\d+) min )?(\d+) s in all", told).groups(default="0")
    began = time.monotonic()
    again = run("build", folder, KDNB_STORE=str(store))
    said, _ = again.communicate(timeout=1800)
    assert again.returncode == 0 and "nothing has changed" in said and "notebook" not in said
    assert time.monotonic() - began < max(30, (60 * int(minutes) + int(seconds)) / 4), "half a minute where it is quiet"
    kept = (folder / "book" / "executed" / "comparison" / "kd.ipynb").read_bytes()
    record = next(p for p in (store / "results").rglob("seed1.json") if "temperature-2" in str(p))
    text = record.read_text(encoding="utf-8")
    record.write_text(text.replace('"wall_seconds": 3.5', '"wall_seconds": 4.5'), encoding="utf-8")
    third = run("build", folder, KDNB_STORE=str(store))
    said, _ = third.communicate(timeout=1800)
    record.write_text(text, encoding="utf-8")
    assert third.returncode == 0, said
    assert "notebook comparison/runs" in said and "notebook comparison/kd:" not in said
    assert (folder / "book" / "executed" / "comparison" / "kd.ipynb").read_bytes() == kept


@pytest.mark.book
def test_the_root_leads_to_the_front_page(html):
    assert "book/index.html" in (html / "index.html").read_text(encoding="utf-8")
    front = soup(html / "book" / "index.html")
    first, papers = front.article.find_all("table")[:2]
    assert [tr.find("td").text for tr in first.tbody.find_all("tr")][:2] == [
        "Does distilling help?", "Which method should I use?",
    ]  # fmt: skip
    led = {tr.find("td").text: tr.find("td").a for tr in papers.tbody.find_all("tr")}
    assert led["Eight methods compared"]["href"] == "papers/comparison.html" and led["SRM"] is None  # not in this book


@pytest.mark.book
def test_a_papers_page_says_what_was_found_and_has_its_pages_below_it(book, html, monkeypatch):
    monkeypatch.setenv("KDNB_STORE", str(book[1]))
    page, store = soup(html / "book" / "papers" / "comparison.html"), Store.open()
    known = status.progress(exhibits.get("comparison/table1"), "pilot", store)
    assert f"At pilot scale {known['measured']} of {known['cells']} cells are measured" in page.article.text
    assert "support 12 of its 17 claims" in page.article.text
    lines = {tr.th.text: [td.text for td in tr.find_all("td")] for tr in page.article.table.tbody.find_all("tr")}
    paper = exhibits.paper("comparison")
    assert list(lines) == [claim.id for claim in paper.claims]
    every = judged(paper, store)
    assert {one.claim.id: one.found.text for one in every} == {claim: line[1] for claim, line in lines.items()}
    assert re.search(r"of 30 for it; .*, here ResNet20 → ResNet8; \d seeds\)", lines["C1"][2])
    chosen = page.find("nav", class_="bd-links").find("li", class_="current")
    assert chosen.a["href"] == "#" and len(chosen.ul.find_all("a")) == 5
    assert len(page.article.find(id="pages").find_all("a", class_="internal")) == 5


@pytest.mark.book
def test_the_reference_says_what_the_docstrings_say(html):
    page = soup(html / "book" / "reference" / "losses.html")
    (term,) = (dt for dt in page.find_all("dt") if dt.text.startswith("kd("))
    assert "student_logits: Tensor" in term.text and term["id"] == "kdnb-losses-logits-kd"
    assert "summed over classes" in term.find_next("dd").text


@pytest.mark.book
def test_the_table_has_the_papers_and_the_stores_numbers(html, book, monkeypatch):
    monkeypatch.setenv("KDNB_STORE", str(book[1]))
    exhibit = exhibits.get("comparison/table1")
    page = soup(html / "book" / "executed" / "comparison" / "table1.html")
    table = page.find("table", class_="kdnb-results")
    assert table.caption.text.startswith("Top-1 accuracy of eight transfer methods")
    heads = [th.text for th in table.thead.find_all("tr")[0].find_all("th")]
    assert heads[:2] == ["Method", "The paper"] and "Demo of this build" not in heads
    fold = page.find("details", class_="kdnb-demo")
    assert table not in fold.find_all("table") and page.find(id="demo-of-this-build") in fold.parents
    of_demo = fold.find(id="tab-comparison-table1-demo")
    printed_in = {tr.th.text: tr.find_all("td")[0].text for tr in table.tbody.find_all("tr")}
    lines = {tr.th.text: [entry.text for entry in tr.find_all(["th", "td"])] for tr in of_demo.tbody.find_all("tr")}
    store = Store.open()
    assert len(lines) == 17
    for cell in exhibit.cells("demo", "digits"):
        values = [100 * r.metrics["headline"] for r in store.records(cell.experiment.fingerprint).values()]
        mean = sum(values) / len(values)
        label = f"{cell.row.label} †" if cell.row.key in exhibit.controls else cell.row.label
        assert lines[label][-1].startswith(f"{mean:.2f}")
        assert lines[label][-1].endswith(f"({len(values)})")
        printed = exhibit.cells("paper", "cifar100", [cell.row])[0].reported
        assert printed_in[label] == f"{printed:.2f}"


@pytest.mark.book
def test_a_measured_number_leads_to_its_runs_and_their_records(html):
    page = html / "book" / "executed" / "comparison" / "table1.html"
    table = soup(page).find(id="tab-comparison-table1-demo")
    line = next(tr for tr in table.tbody.find_all("tr") if tr.th.text == "FitNet + KD")
    file, _, anchor = line.find_all("td")[-1].a["href"].partition("#")
    runs = soup((page.parent / file).resolve())
    place = runs.find(id=anchor)
    assert place is not None
    row = place.find_parent("tr")
    assert "FitNet + KD" in row.text and "0123456" in row.text and "CPU, 2 threads" in row.text
    record = (page.parent / row.find("a", class_="download")["href"]).resolve()
    assert '"fingerprint"' in record.read_text(encoding="utf-8")


@pytest.mark.book
def test_a_verdict_leads_in_two_steps_to_the_runs_that_it_rests_on(html):
    page = html / "book" / "papers" / "comparison.html"
    verdict = soup(page).article.table.tbody.find("a")
    file, _, anchor = verdict["href"].partition("#")
    evidence = (page.parent / file).resolve()
    table = soup(evidence).find(id=anchor)
    assert f"{verdict.find_parent('tr').th.text}, measured at pilot scale" in table.text
    led = table.find("tbody").find("a")
    file, _, anchor = led["href"].partition("#")
    row = soup((evidence.parent / file).resolve()).find(id=anchor).find_parent("tr")
    assert "pilot" in anchor and row.th.text.strip() == led.text


@pytest.mark.book
def test_no_page_has_a_traceback_or_a_warning_of_python(html):
    for path in pages_of(html):
        text = soup(path).text
        assert "Traceback" not in text and "Warning:" not in text, path


@pytest.mark.book
def test_nothing_is_loaded_from_anywhere_else(html):
    for path in pages_of(html):
        page = soup(path)
        loaded = [t["src"] for t in page.find_all(["script", "img", "iframe", "source"]) if t.get("src")]
        loaded += [t["href"] for t in page.find_all("link") if t.get("href")]
        for where in loaded:
            assert not urlsplit(where).scheme and not where.startswith("//"), f"{path}: {where}"
            assert (path.parent / unquote(urlsplit(where).path)).exists(), f"{path}: {where}"
        inside = " ".join(t.text for t in page.find_all("script"))
        assert "//cdn" not in inside and "unpkg" not in inside
    for sheet in html.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.book
def test_every_link_inside_the_book_leads_somewhere(html):
    ids: dict[Path, set[str]] = {}
    for path in pages_of(html):
        for link in soup(path).find_all("a", href=True):
            where = urlsplit(link["href"])
            if where.scheme or link["href"] == "#":
                continue
            target = (path.parent / unquote(where.path)).resolve() if where.path else path
            assert target.exists(), f"{path}: {link['href']}"
            if where.fragment and target.suffix == ".html":
                if target not in ids:
                    ids[target] = {t["id"] for t in soup(target).find_all(id=True)}
                assert unquote(where.fragment) in ids[target], f"{path}: {link['href']}"


@pytest.mark.book
def test_mathematics_code_figures_and_downloads_are_there(html):
    page = soup(html / "book" / "executed" / "comparison" / "kd.html")
    assert page.find("math", display="block").annotation.text.startswith("L = ")
    listings = [c.text for c in page.find_all(class_="code-block-caption")]
    assert any("kdnb/losses/logits.py" in c for c in listings) and any("kdnb/methods/kd.py" in c for c in listings)
    led_to = {a["href"] for a in page.select(".code-block-caption a.reference")}
    assert "../../reference/losses.html#kdnb-losses-logits" in led_to
    listing = next(c for c in page.find_all(class_="literal-block-wrapper") if "losses/logits.py" in c.text)
    assert listing.find("span", class_="kdnb-line", style="--in: 4ch").text.startswith("    ")
    assert listing.pre.text.strip() in (paths.ROOT / "kdnb" / "losses" / "logits.py").read_text(encoding="utf-8")
    figure = page.find("figure")
    for_phones = figure.picture.source["srcset"]
    assert for_phones == figure.img["src"].replace(".svg", f"{FOR_PHONES}.svg")
    assert (html / "book" / "executed" / "comparison" / for_phones).resolve().exists()
    assert figure.img["src"].endswith(".svg") and figure.figcaption.text.strip().startswith("Training, ")
    named = {a.text for a in page.find_all("a", class_="download")}
    assert len(named) > 3 and all(name.endswith(".csv") for name in named)


@pytest.mark.book
def test_what_a_demo_has_stands_in_the_fold_for_it(html):
    of_demos = [
        (path.name, caption)
        for path in pages_of(html / "book" / "executed")
        for caption in soup(path).select("article table caption, article figcaption")
        if re.search(r"\bdemo of", caption.text, re.IGNORECASE)
    ]
    assert of_demos, "a book that is built by a test has demos alone"
    assert [(page, c.text) for page, c in of_demos if not c.find_parent("details", class_="kdnb-demo")] == []


@pytest.mark.book
def test_every_column_of_every_file_below_a_table_or_a_figure_is_explained(html, book):
    page = soup(html / "book" / "data.html")
    explained = {code.text for table in page.find_all("table") for code in table.select("tr > :first-child code")}
    heads = {
        file.name: file.read_text(encoding="utf-8").partition("\n")[0] for file in book[0].rglob("executed/**/*.csv")
    }
    columns = {column for head in heads.values() if not head.startswith("setting,") for column in head.split(",")}
    assert len(heads) > 20 and len(columns) > 60 and not columns - explained


@pytest.mark.book
def test_the_book_says_to_machines_what_it_is_and_which_files_it_has(html):
    told = json.loads((html / "ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]
    entities = {entity["@id"]: entity for entity in told}
    assert len(entities) == len(told)
    root = entities[entities["ro-crate-metadata.json"]["about"]["@id"]]
    assert root["name"] in soup(html / "book" / "index.html").h1.text.replace("\N{NON-BREAKING HYPHEN}", "-")
    parts = [entities[part["@id"]] for part in root["hasPart"]]
    linked = {a["href"].rpartition("/")[2] for page in html.rglob("*.html") for a in soup(page).find_all(download=True)}
    assert {unquote(part["@id"]).rpartition("/")[2] for part in parts} == {n for n in linked if n.endswith(".csv")}
    assert all((html / unquote(part["@id"])).exists() and part["description"] for part in parts)
    assert all(entities[known["@id"]] for known in (root["license"], root["author"], *root["citation"]))


@pytest.mark.book
def test_what_a_checker_is_told_to_look_at_is_made(book):
    told = yaml.safe_load((paths.ROOT / "codecheck.yml").read_text(encoding="utf-8"))
    cited = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert told["paper"] == {"title": cited["title"], "authors": cited["authors"]}
    # What is measured in this book is the demo's.
    demo = {"-pilot-cifar100.": "-demo-digits.", "-pilot.": "-demo."}
    files = [
        Path(functools.reduce(lambda name, scale: name.replace(scale, demo[scale]), demo, entry["file"]))
        for entry in told["manifest"]
    ]
    here = [name for name in files if any(page.startswith(f"{name.parent.name}/") for page in PAGES)]
    assert len(here) > 4 and [name for name in here if not (book[0] / name).exists()] == []
    for name in {*files} - {*here}:  # its page is not in this book: its notebook names the table
        notebooks = (paths.ROOT / "notebooks" / name.parent.name).glob("*.ipynb")
        table = name.stem.removesuffix("-demo")
        assert any(f'name=\\"{table}\\"' in path.read_text(encoding="utf-8") for path in notebooks), name


@pytest.mark.book
def test_the_front_pages_picture_says_what_it_shows_where_it_is_at_home(html):
    front, home = (soup(html / page) for page in ("book/index.html", "book/executed/comparison/table1.html"))
    told = {image["src"].rpartition("/")[2]: image["alt"] for image in home.find_all("img", class_="kdnb-plot")}
    assert "best is" in told["gains.svg"] and front.find("img", class_="kdnb-plot")["alt"] == told["gains.svg"]


@pytest.mark.book
def test_no_page_has_an_id_twice(html):
    for path in pages_of(html):
        ids = [tag["id"] for tag in soup(path).find_all(id=True)]
        assert [one for one, count in Counter(ids).items() if count > 1] == [], path


@pytest.mark.book
def test_formulas_need_no_script(html):
    for path in pages_of(html):
        page = soup(path)
        assert not [script for script in page.find_all("script") if "mathjax" in script.get("src", "").lower()], path
        assert all(formula.math for formula in page.find_all(class_="math")), path


@pytest.mark.book
def test_the_search_has_an_excerpt_of_every_page_of_ours(html):
    """From a disk it cannot fetch any, and no other page pays for them."""
    told = (html / "_static" / "excerpts.js").read_text(encoding="utf-8")
    excerpts = json.loads(told.removeprefix("const kdnbExcerpts = ").rstrip(";\n"))
    assert excerpts["book/executed/comparison/kd"].startswith("The teacher")
    assert all(told.endswith(" …") for told in excerpts.values() if len(told) > 198)  # no word is cut
    assert not [told for told in excerpts.values() if "[ " in told or " ," in told or " ]" in told]
    loading = {path.name for path in html.rglob("*.html") if "excerpts.js" in path.read_text(encoding="utf-8")}
    assert loading == {"search.html"}


@pytest.mark.book
def test_below_a_table_stands_the_command_that_makes_its_numbers(html):
    page = soup(html / "book" / "executed" / "comparison" / "table1.html")
    fold = next(f for f in page.find_all("details", class_="kdnb-rerun") if "--profile demo" in f.pre.text)
    assert fold.summary.text == "Make these numbers yourself" and not fold.has_attr("open")
    assert "kdnb study --exhibit comparison/table1 --profile demo --seeds 3" in fold.find("pre").text
    assert "Digits are equal where these are" in fold.text


@pytest.mark.book
def test_parameters_and_what_the_build_sets_are_behind_one_fold(html):
    page = soup(html / "book" / "executed" / "comparison" / "kd.html")
    assert page.find(class_="tag_injected-parameters") is None
    (fold,) = page.find(class_="tag_parameters").find_all("details")
    assert fold.summary.find(class_="collapsed").text == "Show the parameters" and not fold.has_attr("open")
    asked, given = (listing.text for listing in fold.find_all("pre"))
    assert "temperature = 8.0" in asked and given.split("\n")[1] == 'profile = "demo"'


@pytest.mark.book
def test_the_executed_notebooks_hold_no_paths_of_this_machine(book):
    folder, _, _ = book
    for path in (folder / "book" / "executed").rglob("*.ipynb"):
        outputs = [str(c.get("outputs", "")) for c in nbformat.read(path, as_version=4).cells]
        assert str(folder) not in "".join(outputs) and str(paths.ROOT) not in "".join(outputs), path


# -- in a browser ------------------------------------------------------------------------------------------

#: What axe-core holds against the text of a page with all folds open; then against its colours on a dark screen.
FAULTS = """
document.querySelectorAll("article details").forEach((fold) => { fold.open = true; });
await new Promise((done) => setTimeout(done, 500));
const found = [];
for (const [theme, rules] of [["light", {}], ["dark", {runOnly: ["color-contrast"]}]]) {
  document.documentElement.dataset.theme = theme;
  document.getAnimations().forEach((animation) => animation.finish());
  const said = await axe.run("article", {...rules, resultTypes: ["violations"]});
  for (const {impact, id, nodes} of said.violations) {
    if (["serious", "critical"].includes(impact)) found.push(`${theme}: ${id}: ${nodes[0].html}`);
  }
}
for (const fold of document.querySelectorAll(".bd-sidebar-primary summary")) {
  if (!(fold.getAttribute("aria-label") || fold.textContent.trim())) found.push(`no name: ${fold.outerHTML}`);
}
return {found, named: axe.version};
"""
#: Sort the first table by some columns, narrow it, and tell what is to be seen after each step.
SORTED = """
for (const fold of document.querySelectorAll("details.kdnb-demo")) fold.open = true;
const table = document.querySelector("table.kdnb-sortable"), heads = [...table.tHead.rows[0].cells];
const rows = () => [...table.tBodies[0].rows].filter((row) => row.offsetHeight > 0);
const column = (name) => heads.findIndex((head) => head.textContent.trim().startsWith(name));
const told = {plain: rows().length, widths: [heads.map((head) => head.offsetWidth)]};
const click = (name, label) => {
  const head = heads[column(name)];
  head.querySelector("button").click();
  told[label] = [head.getAttribute("aria-sort"), rows().map((row) => row.cells[column(name)].textContent.trim())];
  told.widths.push(heads.map((head) => head.offsetWidth));
};
click("Over KD", "best");
click("Over KD", "worst");
click("Method", "names");
const field = document.querySelector("input.kdnb-filter");
field.value = "crd kd";
field.dispatchEvent(new Event("input"));
return {...told, left: rows().map((row) => row.cells[0].textContent.trim()), said: field.nextSibling.textContent};
"""
#: Tables of which a part is to be scrolled for, folds apart; and whether the page itself is too wide.
CUT = """
const cut = [...document.querySelectorAll("article table")].filter((table) => {
  const frame = table.closest(".pst-scrollable-table-container") || table.parentElement;
  return frame.scrollWidth > frame.clientWidth + 1;
});
const { scrollWidth, clientWidth } = document.documentElement;
return {cut: cut.map((table) => table.innerText.slice(0, 80)), page: scrollWidth - clientWidth};
"""


@pytest.mark.book
@pytest.mark.browser
def test_a_browser_finds_nothing_serious_that_keeps_anybody_from_reading(html):
    kinds = ("evidence.html", "runs.html")  # these are large, and alike for all papers: one is enough
    looked_at = [p for p in pages_of(html / "book") if p.name not in kinds or p.parent.name == "comparison"]
    pages = [str(path.relative_to(html)) for path in looked_at]
    told = visited(html, pages, FAULTS, axe())
    assert {*told} == {*pages}
    for page, said in told.items():
        assert said.get("named") and said["found"] == [], f"{page}: {said}"


@pytest.mark.book
@pytest.mark.browser
def test_at_a_tablets_width_every_table_is_seen_whole(html):
    pages = [str(path.relative_to(html)) for path in pages_of(html / "book")]
    assert visited(html, pages, CUT, width=1024) == {page: {"cut": [], "page": 0} for page in pages}


def leading(text: str) -> float:
    """The number that a gain begins with: `+5.17 [3.30, 7.04]`."""
    return float(text.split()[0].replace("\N{MINUS SIGN}", "-"))


@pytest.mark.book
@pytest.mark.browser
def test_a_click_sorts_the_leaderboard_and_words_narrow_it(html):
    page = "book/executed/leaderboard/leaderboard.html"
    told = visited(html, [page], SORTED)[page]
    (down, best), (up, worst) = told["best"], told["worst"]
    numbers = [leading(text) for text in best if text != "–"]
    assert down == "descending" and numbers == sorted(numbers, reverse=True) and len(best) == told["plain"]
    rising = [leading(text) for text in worst if text != "–"]
    assert up == "ascending" and rising == sorted(numbers)
    assert best[len(numbers) :] == worst[len(numbers) :] == ["–"] * (len(best) - len(numbers)) != []
    direction, words = told["names"]
    assert direction == "ascending" and words[0].lower() == min(text.lower() for text in words if text)
    assert told["left"] and all("CRD" in name and "KD" in name for name in told["left"])
    assert told["said"] == f"{len(told['left'])} of {told['plain']} rows"
    assert all(widths == told["widths"][0] for widths in told["widths"]), "a click moves the columns"
