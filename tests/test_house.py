"""The house: data flows one way through its rooms, and nobody imports upwards."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from kdnb import exhibits

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "kdnb"

#: Rooms from the ground up; those on one floor do not know each other.
FLOORS = (
    ("errors", "growth", "lock", "randomness"),
    ("catalogue", "kinds", "paths"),
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
    ("kernels",),
    ("notebooks",),
    ("book",),
    ("cli",),
    ("server", "__main__"),
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

    visit(ast.parse(path.read_text(encoding="utf-8")))
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
    (tmp_path / "x.py").write_text(text, encoding="utf-8")
    assert imported(tmp_path / "x.py") == {("study", 2), ("cli", 3), ("plots", 7)}


def names_taken(path: Path) -> set[str]:
    """Files of the package that a file takes names from, also for its types alone: `study/plan.py`."""
    taken = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        taken |= {f"{name.removeprefix('kdnb.').replace('.', '/')}.py" for name in names if name.startswith("kdnb.")}
    return taken & PLACES


PLACES = {path.relative_to(PACKAGE).as_posix() for path in FILES}


def test_no_files_take_from_each_other_in_a_circle():
    TopologicalSorter({place: names_taken(PACKAGE / place) for place in sorted(PLACES)}).prepare()


def test_a_circle_would_be_seen():
    assert names_taken(PACKAGE / "exhibits/claims/predicates.py") >= {
        "exhibits/claims/evidence.py",
        "exhibits/score.py",
    }


#: What notebooks, the plan and the dashboard need must not wait for torch.
TORCH_FREE = ("datasets", "exhibits", "page", "listing", "plots", "tables", "notebooks", "book")


@pytest.mark.parametrize("room", TORCH_FREE)
def test_rooms_that_only_show_never_import_torch(room):
    for path in [p for p in FILES if room_of(p) == room]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            assert not (isinstance(node, ast.Import) and any(a.name.startswith("torch") for a in node.names)), path
            assert not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch")), path


# -- texts ---------------------------------------------------------------------------------------------


def texts_without_encoding(source: str) -> set[int]:
    """Lines of calls that read or write text in whatever encoding the machine's locale has."""
    found = set()
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        given = {keyword.arg for keyword in call.keywords}
        modes = [a.value for a in (*call.args, *(k.value for k in call.keywords)) if isinstance(a, ast.Constant)]
        binary = any(isinstance(mode, str) and mode[-1:] == "b" and len(mode) <= 3 for mode in modes)
        owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        opens = name == "open" and owner not in ("os", "tarfile", "Image", "Store") and not binary
        asks = name in ("run", "Popen", "check_output") and "text" in given
        if "encoding" not in given and (opens or asks or name in ("read_text", "write_text")):
            found.add(call.lineno)
    return found


#: The tests themselves are run in Python's UTF-8 mode (`make test`).
TEXTS = [*FILES, *(ROOT / "book").glob("*.py"), *(ROOT / "tests").glob("*_samples.py")]


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_texts_are_utf8_under_every_locale(path):
    assert not texts_without_encoding(path.read_text(encoding="utf-8")), 'add encoding="utf-8"'


def test_the_check_of_encodings_sees_what_it_should():
    text = (
        "open(a)\nopen(a, 'rb')\np.open('a')\np.open(mode='w', encoding='utf-8')\np.read_text()\n"
        "p.write_text(t, encoding='utf-8')\nrun(c, text=True)\nos.open(p, 0)\np.open('wb')\n"
    )
    assert texts_without_encoding(text) == {1, 3, 5, 7}


#: Where a paper may be named: its exhibits, its method, what a command takes where nothing is said, and colours.
OF_PAPERS = re.compile(
    r"exhibits/({0})(_claims)?\.py|exhibits/__init__\.py|methods/({0})\.py|cli\.py|plots/style\.py".format(
        "|".join(exhibits.PAPERS)
    )
)
#: The string that decides which images validate in stored records stays; and what a bench trains is some table's.
KEPT = {place: {"comparison"} for place in ("datasets/splits.py", "bench/conformity.py")}
#: Papers that are called by an ordinary word, which code may use for itself.
ORDINARY = {"comparison", "leaderboard"}


def papers_named(text: str) -> set[str]:
    """Papers that code names, in a string or as a name; docstrings and comments may give examples."""
    tree = ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    words = [
        n.value
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docstrings
    ]
    begins = {word.partition("/")[0] for word in words if "/" in word}
    imported = {alias.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names}
    alone = {*words, *(n.id for n in ast.walk(tree) if isinstance(n, ast.Name))} - ORDINARY
    return {key for key in exhibits.PAPERS if key in begins | imported | alone}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_general_room_names_a_paper(path):
    place = path.relative_to(PACKAGE).as_posix()
    if not OF_PAPERS.fullmatch(place):
        assert papers_named(path.read_text(encoding="utf-8")) <= KEPT.get(place, set())


def test_a_paper_in_a_general_room_is_seen():
    assert papers_named('"""As slkd does."""\ngain = ("slkd", "kd")') == {"slkd"}
    assert papers_named('def f(exhibit="comparison/table1"): ...') == {"comparison"}
    assert papers_named('"""comparison/table1"""\ntext = "a comparison"') == set()
