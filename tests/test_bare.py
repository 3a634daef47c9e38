"""A machine that only trains has none of what pages are made with: the study runs there, and the tests of training."""

from __future__ import annotations

import subprocess
import sys

from conftest import OF_PAGES

WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


def without_pages(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT.format(names=OF_PAGES) + code], capture_output=True, text=True, encoding="utf-8"
    )


def test_tests_of_pages_are_skipped_by_name_and_those_of_training_are_there():
    files = ["tests/test_scores.py", "tests/test_server.py", "tests/test_capture.py"]
    done = without_pages(f"import pytest\nsys.exit(pytest.main(['-n', '0', '--co', '-rs', '-m', 'gpu', *{files}]))")
    assert done.returncode == 0 and done.stdout.count(" is not installed, which pages need") == 2, done.stdout
    assert "tests/test_capture.py::" in done.stdout and "tests/test_scores.py::" not in done.stdout


def test_a_study_runs():
    command = ["study", "--rows", "plain", "--seeds", "1", "--epochs", "1"]
    done = without_pages(f"from kdnb.cli import main\nsys.argv = ['kdnb', *{command}]\nmain()")
    assert done.returncode == 0 and "1 runs recorded, 0 failed, 0 left" in done.stderr, done.stderr


def test_what_is_said_to_be_missing_is():
    absent = without_pages("from kdnb import plots")
    assert absent.returncode == 1 and "No module named 'matplotlib'" in absent.stderr
