"""The cluster's command as README shows it, against a stand-in for Slurm: it starts, and asks for what jobs need."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import slurm
from book_samples import PAGES, fill, project

from kdnb import paths
from kdnb.exhibits import wanted
from kdnb.study.profile import PROFILES
from kdnb.study.store import Store

pytest.importorskip("snakemake_executor_plugin_slurm", reason="the extra 'cluster' is not installed")

PAPERS = ("comparison", "slkd")
#: In place of a job: who wants to see what a node is given to do need not train it.
NO_WORK = """
import sys
from pathlib import Path
with Path("done.txt").open("a", encoding="utf-8") as stream:
    stream.write(" ".join(sys.argv[2:4]) + "\\n")
"""


@pytest.fixture
def command() -> list[str]:
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"(snakemake --executor slurm[^`\n]*)", readme)
    return shlex.split(found)


def test_the_readmes_command_gives_nodes_what_is_missing_and_asks_for_what_it_needs(command, tmp_path, monkeypatch):
    folder, place = project(tmp_path / "study"), tmp_path / "slurm"
    place.mkdir()
    monkeypatch.setenv("KDNB_STORE", str(folder / "store"))
    for paper in PAPERS:
        fill(Store.open(), "paper", seeds=3, key=paper)
    (lost,) = wanted.runs(wanted.select("comparison/table1"), PROFILES["paper"], "cifar100", 1, "kd")
    stored = Store.open().get(*lost.key)
    assert stored is not None and stored.path is not None
    stored.path.unlink()
    (folder / "book" / "build.py").write_text(NO_WORK, encoding="utf-8")
    (tmp_path / "profile").mkdir()  # the stand-in has no queue to be patient with
    settings = "slurm-init-seconds-before-status-checks: 1\nquiet: [progress, rules, host, reason]\n"
    (tmp_path / "profile" / "config.yaml").write_text(settings, encoding="utf-8")

    path = os.pathsep.join([str(slurm.install(tmp_path / "bin")), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "IN_PLACE_OF_SLURM": str(place), "PYTHONPATH": str(paths.ROOT)}
    environment["SNAKEMAKE_PROFILE"] = str(tmp_path / "profile")
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, encoding="utf-8"
    )
    logs = "".join(log.read_text(encoding="utf-8") for log in place.glob("*.log"))
    assert done.returncode == 0, done.stderr + logs

    asked = [" ".join(words[:-1]) for words in slurm.submitted(place)]
    # The lost run's teacher and what it teaches; and the one that the leaderboard's own rows wait for.
    assert len(asked) == 3 and all("rule_cohort" in words for words in asked)
    for words in asked:
        assert re.search(r"-t 1440 .*--mem 16000 .*--cpus-per-(task|gpu)=8.*--gpus=1", words), words
    done_by = (folder / "done.txt").read_text(encoding="utf-8").splitlines()
    training = [line for line in done_by if line.startswith("training")]
    assert [sum(seed in line for line in training) for seed in ("seed0", "seed1")] == [2, 1]
    (teacher,) = (number for number, line in enumerate(training) if "seed0" in line and "(1 runs)" in line)
    assert "seed1" in "".join(training[teacher + 1 :])
    assert done_by[-1] == "book building the book"
    trained = max(number for number, line in enumerate(done_by) if line.startswith("training") and "seed1" in line)
    pages = [line for line in done_by if line.startswith("notebooks")]
    assert len(pages) == len(PAGES) and "notebooks notebook comparison/kd" in done_by[trained:]
    assert "notebooks notebook slkd/table2" in done_by[:trained]  # it shows nothing that is missing
