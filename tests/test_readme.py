"""What the documents promise exists: commands, options, targets, packages, and the example of a ninth method."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from kdnb import exhibits, paths
from kdnb.cli import app

ROOT = paths.ROOT
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "book/rerun.md", "book/index.md")]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
#: What a package is called for conda where it has another name than for pip.
CONDA = {"torch": "pytorch", "snakemake": "snakemake-minimal"}


def commands(path):
    """The lines after `$ ` in a document's blocks of commands, and commands in running text."""
    text = path.read_text()
    lines = re.findall(r"^\$ (.+)$", text, flags=re.MULTILINE)
    lines += re.findall(r"`((?:make|kdnb|snakemake) [^`]+)`", text)
    return [line.split("   #")[0].strip() for whole in lines for line in whole.split("&&")]


ALL = [(path.name, line) for path in DOCUMENTS for line in commands(path)]


def starting(word):
    return [pytest.param(line, id=f"{name}: {line}") for name, line in ALL if shlex.split(line)[0] == word]


@pytest.mark.parametrize("line", starting("make"))
def test_make_targets_exist(line):
    words = [word for word in shlex.split(line)[1:] if "=" not in word]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert words and set(words) <= set(targets)


@pytest.mark.parametrize("line", starting("kdnb"))
def test_kdnb_commands_exist_and_take_what_is_shown(line):
    command, words = typer.main.get_command(app), shlex.split(line)[1:]
    while hasattr(command, "commands") and words:
        name = words.pop(0)
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    command.make_context(command.name, words, resilient_parsing=not words)  # a bare name in prose has no arguments


@pytest.mark.parametrize("line", starting("papermill"))
def test_notebooks_shown_with_papermill_exist_and_have_the_parameters(line):
    import papermill

    words = shlex.split(line)
    known = papermill.inspect_notebook(str(ROOT / words[1]))
    given = [words[i + 1] for i, word in enumerate(words) if word == "-p"]
    assert given and set(given) <= set(known)


@pytest.mark.parametrize("line", starting("snakemake"))
def test_snakemake_is_given_what_the_snakefile_reads(line):
    words = shlex.split(line)
    given = [word.partition("=")[0] for word in words[words.index("--config") + 1 :]]
    asked = re.findall(r'config\.get\("([a-z]+)"', (ROOT / "Snakefile").read_text())
    assert given and set(given) <= set(asked)


def test_the_readme_is_short_and_shows_a_page():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 120
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert (ROOT / picture).stat().st_size > 10_000


def test_links_in_documents_lead_somewhere():
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for where in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert where.startswith("http") or (ROOT / where).exists(), where


def test_profiles_in_documents_are_the_profiles_of_the_study():
    from kdnb.study.profile import PROFILES

    for path in (ROOT / "README.md", ROOT / "book" / "how_to_read.md"):
        assert set(re.findall(r"^\| `([a-z]+)` \|", path.read_text(), flags=re.MULTILINE)) == set(PROFILES)


def test_make_help_names_every_target():
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("book", "test", "lab", "install", "clean"):
        assert f"make {target}" in said


# -- packages --------------------------------------------------------------------------------------------


def requirements(lines):
    split = [re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", line) for line in lines]
    return {match[1].lower(): match[2] for match in split if match}


def test_conda_gets_what_pyproject_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = requirements([*project["dependencies"], *(line for group in extras.values() for line in group)])
    given = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(line["pip"] for line in given if not isinstance(line, str))
    conda = requirements([line for line in given if isinstance(line, str)] + pip[:-1])
    assert conda.pop("python") == project["requires-python"]
    del conda["make"], conda["pip"]
    assert conda == {CONDA.get(name, name): version for name, version in asked.items()}
    assert pip[-1] == "-e ."


def test_the_lock_pins_every_package_that_pyproject_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][^ ]*", line) for line in lines), "only name==version"
    locked = {name.replace("_", "-") for name in requirements(lines)}
    extras = project["optional-dependencies"]
    asked = requirements([*project["dependencies"], *(line for group in extras.values() for line in group)])
    assert set(asked) <= locked and "kdnb" not in locked


def test_citation_and_package_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"] and citation["license"] == project["license"]
    assert f"## {project['version']}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert f"Version {project['version']}" in (ROOT / "book" / "cite.md").read_text()


# -- the ninth method ------------------------------------------------------------------------------------


@pytest.fixture
def project_with_the_example(tmp_path):
    """A copy of the package in which the steps of CONTRIBUTING.md were followed to the letter."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    shutil.copytree(ROOT / "kdnb", tmp_path / "kdnb", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "data" / "reported", tmp_path / "data" / "reported")
    file = re.search(r"`(kdnb/methods/\w+\.py)`:\n\n```python\n(.*?)```", text, flags=re.DOTALL)
    entry = re.search(r"In `_ALONE` of `(kdnb/exhibits/\w+\.py)`.*?```python\n(.*?)```", text, flags=re.DOTALL)
    assert file and entry
    (tmp_path / file[1]).write_text(file[2])
    exhibit = tmp_path / entry[1]
    before = exhibit.read_text()
    exhibit.write_text(re.sub(r"(_ALONE = \{\n)", lambda m: m[1] + entry[2], before))
    assert exhibit.read_text() != before
    return tmp_path


#: Commands one after the other in one process, as each would be by itself.
COMMANDS = """
import json, sys
from kdnb import cli
for sys.argv in json.loads(sys.argv[1]):
    try:
        cli.main()
    except SystemExit as ended:
        assert not ended.code, ended.code
"""


def test_the_ninth_method_is_one_file_and_one_line(project_with_the_example, tmp_path):
    """It trains, alone and with KD, by the very command that the page shows, and stands in the table."""
    line = next(line for line in commands(ROOT / "CONTRIBUTING.md") if line.startswith("kdnb run attention"))
    environment = {**os.environ, "PYTHONPATH": str(project_with_the_example)}
    both = json.dumps([shlex.split(line), ["kdnb", "run", "attention+kd", *shlex.split(line)[3:]]])
    asked = [sys.executable, "-c", COMMANDS, both]
    done = subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("headline") == 2
    records = [json.loads(p.read_text()) for p in (tmp_path / "store").rglob("attention*/seed1.json")]
    assert len(records) == 2 and all("attention" in record["history"] for record in records)
    shown = subprocess.run(
        [sys.executable, "-c", "from kdnb import tables; print(tables.results('comparison/table1').to_text())"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.search(r"^AT, my own \| – \| –", shown.stdout, flags=re.MULTILINE)


def test_the_documents_are_there():
    for name in ("LICENSE", "CHANGELOG.md", "CITATION.cff", ".pre-commit-config.yaml", ".ci/run"):
        assert Path(ROOT / name).exists(), name
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert {path.name for path in WORKFLOWS} == {"book.yml", "test.yml"}
    for path in WORKFLOWS:
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]


# -- hooks and workflows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [True, False], ids=["make's environment", "an environment of one's own"])
def test_types_are_checked_in_the_environment_that_is_there(there, tmp_path):
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    command = next(hook["entry"] for hook in hooks if hook["id"] == "mypy")
    places = {"make": tmp_path / ".venv" / "bin" / "python", "active": tmp_path / "bin" / "python3"}
    for name, python in places.items():
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\necho {name} $*\n", encoding="utf-8")
        python.chmod(0o755)
    if not there:
        places["make"].unlink()
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "VENV": ""}
    said = subprocess.run(shlex.split(command), cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8")
    assert said.stdout.strip() == f"{'make' if there else 'active'} -m mypy kdnb"


def test_only_the_job_that_publishes_may_write():
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}
        writing = {name for name, job in workflow["jobs"].items() if "write" in job.get("permissions", {}).values()}
        assert writing <= {"publish"}


NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@pytest.mark.parametrize("name", ["README.md", "book/index.md", "CITATION.cff"])
def test_the_papers_are_counted(name):
    count = NUMBERS[sum(bool(paper.claims) for paper in exhibits.papers())]
    assert f"{count} papers" in (ROOT / name).read_text(encoding="utf-8").lower(), (
        f"{name} does not say '{count} papers'"
    )


def test_the_printed_numbers_are_counted():
    cells = [cell for exhibit in exhibits.all_exhibits() for cell in exhibit.cells("paper")]
    printed = sum(cell.printed is not None for cell in cells)
    assert f"{printed} printed numbers" in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_what_is_cited_stands_in_the_list_of_works():
    works = {*re.findall(r"^@\w+\{([^,\s]+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), re.M)}
    pages = [*(ROOT / "notebooks").glob("*/*.ipynb"), *(ROOT / "book").glob("**/*.md")]
    roles = [
        keys for path in pages for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", path.read_text(encoding="utf-8"))
    ]
    cited = {key.strip() for keys in roles for key in keys.split(",")}
    assert len(cited) > 20 and cited <= works, f"book/references.bib has no entry for {sorted(cited - works)}"
