"""Every test works in a store and a data folder of its own, on one thread."""

from __future__ import annotations

import os
import signal
import sys

import pytest

# Whoever started the suite in the background may have had these ignored; what is stopped here must notice.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Tiny networks gain nothing from a second thread, and lose much where another process wants the core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

#: What pages and their tests are made with (`kdnb[book,test]`); a machine that only trains has none of it.
OF_PAGES = {"bs4", "jupyter_book", "math_core", "matplotlib", "nbformat", "papermill", "seaborn", "snakemake", "yaml"}


class Module(pytest.Module):
    """A file of tests; it is skipped, and says why, where what pages are made with is not installed."""

    def collect(self):
        try:
            yield from super().collect()
        except self.CollectError as error:
            missing = getattr(error.__cause__, "name", None)
            if not isinstance(error.__cause__, ModuleNotFoundError) or missing not in OF_PAGES:
                raise
            pytest.skip(f"{missing} is not installed, which pages need", allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    return Module.from_parent(parent, path=module_path)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch, request):
    """Records and data sets of this machine are left alone, except where a test is marked `data`."""
    monkeypatch.setenv("KDNB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KDNB_BATCH", raising=False)
    if "data" not in request.keywords:
        monkeypatch.setenv("KDNB_DATA", str(tmp_path / "data"))
    yield
    if "torch" in sys.modules:  # a run under other numerics leaves its threads behind
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture
def empty_project(tmp_path, monkeypatch):
    """No published record and no demo: the store holds what the test puts there."""
    monkeypatch.setattr("kdnb.paths.committed_results", lambda: tmp_path / "published" / "results")
    monkeypatch.setattr("kdnb.paths.committed_checkpoints", lambda: tmp_path / "published" / "checkpoints")
    monkeypatch.setattr("kdnb.paths.demo_results", lambda: tmp_path / "demo")


@pytest.fixture
def double_precision(monkeypatch):
    """Networks are made and validated in float64: for tests that compare two ways of computing."""
    import torch

    monkeypatch.setattr("kdnb.training.freeze.exact", lambda teacher: teacher)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
