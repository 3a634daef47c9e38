"""Memory that is freed is taken up again without the system's help."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from kdnb.training import allocator

ROUNDS = """
import json, resource, torch
from kdnb.training.numerics import apply, detect
from kdnb.training.allocator import keep_freed_memory
if {keep}:
    apply(detect("cpu", threads=1))

def step():
    held = [torch.ones(2**24) for _ in range(4)]  # 64 MiB each: left to itself glibc gives such blocks back at once

for _ in range(3):
    step()
faults = []
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(json.dumps([sorted(faults)[2], bool({keep}) and keep_freed_memory()]))
"""


def faults(keep: bool) -> tuple[int, bool]:
    """Page faults of a step that holds 256 MiB, the median of five, and whether memory is kept."""
    code = ROUNDS.format(keep=keep)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True, check=True)
    count, kept = json.loads(done.stdout)
    return count, kept


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_a_step_after_the_first_takes_no_page_from_the_system():
    """The median step: what lies beside the heap by chance may have one step take a block anew."""
    before, _ = faults(keep=False)
    after, kept = faults(keep=True)
    assert kept and after < 250 and after < before / 4, (before, after)


def test_who_has_chosen_for_the_c_library_is_left_alone(monkeypatch):
    asked: list[int] = []
    library = SimpleNamespace(mallopt=lambda parameter, value: asked.append(parameter) or 1)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("glibc", "2.39"))
    for name in allocator.CHOSEN:
        monkeypatch.delenv(name, raising=False)
    assert allocator.keep_freed_memory.__wrapped__() is True and len(asked) == 3
    for name in allocator.CHOSEN:
        with monkeypatch.context() as chosen:
            chosen.setenv(name, "131072")
            assert allocator.keep_freed_memory.__wrapped__() is False, name
    assert len(asked) == 3
