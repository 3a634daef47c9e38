"""The reference of the package: read from its sources, room by room, and nothing imported."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys

import pytest

from kdnb import paths

FILE = paths.ROOT / "book" / "reference.py"


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def only(reference, text):
    (node,) = reference.public(ast.parse(text).body)
    return node


def test_signatures_are_those_of_the_sources(reference):
    method = only(
        reference, '@method("x", revision=1)\ndef x(setup: Setup, *, weight: float = 1.0) -> list[Stage]:\n "Doc."'
    )
    assert reference.signature(method) == (
        "@method('x', revision=1) x(setup: Setup, *, weight: float=1.0) -> list[Stage]"
    )
    data = only(
        reference, '@dataclass(frozen=True)\nclass A:\n "Doc."\n b: int = 1\n _c: int = 2\n def f(self, x): "Doc."'
    )
    assert reference.signature(data) == "class A(b: int = 1)"
    assert reference.signature(reference.public(data.body)[0]) == "f(x)"
    assert reference.public(ast.parse('def _own(): "Doc."\ndef unsaid(): ...').body) == []


def test_formulas_and_columns_keep_their_lines(reference):
    words, formula, columns = reference.prose(
        "Words on `one`\nline.\n\n    a = b\n\nname     what it is\nother    more"
    )
    assert [words.astext(), words.children[1].tagname] == ["Words on one line.", "literal"]
    assert formula.tagname == columns.tagname == "literal_block" and columns.astext().count("\n") == 1


def test_every_room_has_a_page_and_what_it_offers_stands_there_without_torch(reference):
    rooms = {path.parent.name for path in (paths.ROOT / "kdnb").glob("*/__init__.py")} - {"bench"}
    pages = paths.ROOT / "book" / "reference"
    assert {path.stem for path in pages.glob("*.md")} == rooms | {"index"}
    assert all(f"```{{room}} {room}\n" in (pages / f"{room}.md").read_text(encoding="utf-8") for room in rooms)
    losses = sorted((paths.ROOT / "kdnb" / "losses").glob("[a-z]*.py"))
    told = "".join(section.astext() for path in losses for section in reference.section(path))
    offered = ast.parse((paths.ROOT / "kdnb" / "losses" / "__init__.py").read_text(encoding="utf-8")).body[-1].value
    assert all(f"{name}(" in told or f"class {name}" in told for name in ast.literal_eval(offered))
    asked = f"import sys; sys.path.insert(0, {str(FILE.parent)!r}); import reference; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, encoding="utf-8")
    assert done.stdout.strip() == "False", done.stderr
