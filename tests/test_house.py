"""The house: data flows one way through its rooms, and nobody imports upwards."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "kdnb"

#: Rooms from the ground up; those on one floor do not know each other.
FLOORS = (
    ("errors", "randomness"),
    ("paths",),
    ("datasets", "losses"),
    ("models",),
    ("methods",),
    ("training",),
    ("evaluation",),
    ("analysis",),
    ("study",),
    ("exhibits",),
    ("page",),
    ("listing", "tables"),
    ("plots",),
    ("bench",),
    ("notebooks",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ROOT_NAMES = {"__version__"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[tuple[str, int]]:
    """Rooms that a file imports, anywhere in it but for its types alone, each with a line."""
    found: set[tuple[str, int]] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in node.orelse:
                visit(other)
            return
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports by dots; write the name out"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "kdnb" and len(parts) > 1 and parts[1] not in ROOT_NAMES:
                found.add((parts[1], node.lineno))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent != PACKAGE)


def test_every_room_has_a_floor():
    assert {room_of(path) for path in FILES} <= set(FLOOR)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nobody_imports_upwards(path):
    here = room_of(path)
    wrong = [
        f"{path.name}:{line} imports kdnb.{room}"
        for room, line in sorted(imported(path))
        if room != here and FLOOR[room] >= FLOOR[here]
    ]
    assert not wrong


def test_the_check_sees_what_it_should(tmp_path):
    text = (
        "from typing import TYPE_CHECKING\nimport kdnb.study.plan\nfrom kdnb import cli\n"
        "if TYPE_CHECKING:\n    from kdnb import tables\ndef f():\n    from kdnb.plots import style\n"
    )
    (tmp_path / "x.py").write_text(text)
    assert imported(tmp_path / "x.py") == {("study", 2), ("cli", 3), ("plots", 7)}


#: What notebooks, the plan and the dashboard need must not wait for torch.
TORCH_FREE = ("datasets", "exhibits", "page", "listing", "plots", "tables", "notebooks")


@pytest.mark.parametrize("room", TORCH_FREE)
def test_rooms_that_only_show_never_import_torch(room):
    for path in [p for p in FILES if room_of(p) == room]:
        for node in ast.parse(path.read_text()).body:
            assert not (isinstance(node, ast.Import) and any(a.name.startswith("torch") for a in node.names)), path
            assert not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch")), path
