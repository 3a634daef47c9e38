#!/usr/bin/env python3
"""A stand-in for Slurm: called by one of its names, it runs what is submitted at once, here, and notes what was asked.

`install(folder)` puts it into a folder under every name that is called; it keeps its jobs in `$IN_PLACE_OF_SLURM`.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

NAMES = ("sbatch", "srun", "sacct", "squeue", "sinfo", "sacctmgr", "sshare", "scontrol", "scancel")


def install(folder: Path) -> Path:
    """The folder, to be put first into PATH."""
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


def submitted(place: Path) -> list[list[str]]:
    """The arguments of every `sbatch`, in order."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(place.glob("*.asked"))]


def sbatch(place: Path, words: list[str]) -> int:
    """Run the wrapped command to its end and print the job's number; its state is asked for later."""
    number = _claimed(place, json.dumps(words))
    command = next(word.removeprefix("--wrap=") for word in words if word.startswith("--wrap="))
    with (place / f"{number}.log").open("w", encoding="utf-8") as log:
        environment = {**os.environ, "SLURM_JOB_ID": number, "SLURM_JOBID": number}
        code = subprocess.call(command, shell=True, env=environment, stdout=log, stderr=log)
    ended = place / f"{number}.ended"
    ended.write_text("COMPLETED" if code == 0 else "FAILED", encoding="utf-8")
    ended.rename(place / f"{number}.state")  # at once: who asks meanwhile reads no half of it
    print(number)
    return 0


def _claimed(place: Path, asked: str) -> str:
    """The first number that no job has: several are submitted at once."""
    for number in itertools.count(1000):
        with suppress(FileExistsError), (place / f"{number}.asked").open("x", encoding="utf-8") as stream:
            stream.write(asked)
            return str(number)
    raise AssertionError("numbers do not end")


def srun(words: list[str]) -> int:
    """Run the command behind the options."""
    while words and words[0].startswith("-"):
        words = words[1:]
    return subprocess.call(words)


def main(name: str, words: list[str]) -> int:
    """Answer as Slurm would."""
    place = Path(os.environ["IN_PLACE_OF_SLURM"])
    if name == "sbatch":
        return sbatch(place, words)
    if name == "srun":
        return srun(words)
    if name in ("sacct", "squeue"):
        for state in sorted(place.glob("*.state")):
            print(f"{state.stem}|{state.read_text(encoding='utf-8')}")
    print({"sinfo": "PARTITION\nmain*", "sacctmgr": "study", "scontrol": "MinJobAge = 300 sec"}.get(name, ""), end="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
