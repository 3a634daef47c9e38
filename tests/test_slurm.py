"""The stand-in for Slurm itself: jobs that are submitted at once have numbers of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import slurm


def test_a_number_that_a_job_has_is_not_given_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IN_PLACE_OF_SLURM", str(tmp_path))
    (tmp_path / "1001.asked").write_text('["the job of another"]', encoding="utf-8")
    assert slurm.main("sbatch", ["--wrap=true"]) == slurm.main("sbatch", ["--wrap=true"]) == 0
    assert capsys.readouterr().out.split() == ["1000", "1002"]
    assert slurm.submitted(tmp_path)[1] == ["the job of another"]


def test_jobs_submitted_at_once_are_all_kept(tmp_path):
    command = [sys.executable, slurm.__file__, "sbatch"]
    environment = {**os.environ, "IN_PLACE_OF_SLURM": str(tmp_path)}
    jobs = [
        subprocess.Popen([*command, f"--wrap=echo {n}"], env=environment, stdout=subprocess.PIPE, encoding="utf-8")
        for n in range(6)
    ]
    numbers = [job.communicate()[0].strip() for job in jobs]
    assert sorted(numbers) == [str(number) for number in range(1000, 1006)]
    assert sorted(words[0] for words in slurm.submitted(tmp_path)) == [f"--wrap=echo {n}" for n in range(6)]
    assert {path.read_text(encoding="utf-8") for path in tmp_path.glob("*.state")} == {"COMPLETED"}
