"""A small extension of Sphinx: `{room}` lists what a folder of the package offers, from its docstrings.

The sources are read and nothing is imported: a build waits for no torch.  What begins with an underscore is left out.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

PACKAGE = "kdnb"
#: A decorator that enters its function in a register, by a name.
REGISTERS = re.compile(r"\w+\(['\"]")
Defined = ast.FunctionDef | ast.ClassDef
#: A block of a docstring that is set in columns keeps its lines.
IN_COLUMNS = re.compile(r"^\s|\S {3,}\S", re.MULTILINE)


class Room(SphinxDirective):
    """`{room} losses`: a section for every file of `kdnb/losses/`, with its functions and classes."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        folder = package() / self.arguments[0]
        if not folder.is_dir():
            raise self.error(f"There is no room '{self.arguments[0]}': {folder} is no folder.")
        found: list[nodes.Node] = []
        for path in sorted(folder.rglob("*.py")):
            self.env.note_dependency(str(path))
            if not path.name.startswith("_"):
                found += section(path)
        return found


def package() -> Path:
    """Where the package lies that this book is about: beside the book, or where Python finds it."""
    beside = Path(__file__).resolve().parents[1] / PACKAGE
    if beside.is_dir():
        return beside
    import kdnb

    return Path(kdnb.__file__).parent


def section(path: Path) -> Iterator[nodes.section]:
    """A file: what it is for, then what it offers; nothing where it offers nothing."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    offered = public(tree.body)
    if offered:
        name = ".".join([PACKAGE, *path.relative_to(package()).with_suffix("").parts])
        found = nodes.section("", nodes.title("", name), ids=[nodes.make_id(name)])
        found += prose(ast.get_docstring(tree) or "")
        found += listed(offered, name)
        yield found


def public(body: list[ast.stmt]) -> list[Defined]:
    """Functions and classes for others: named without an underscore, and explained."""
    defined = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [node for node in defined if not node.name.startswith("_") and ast.get_docstring(node)]


def listed(offered: list[Defined], where: str) -> nodes.definition_list:
    """Each with its signature and its docstring; a class with its methods below."""
    found = nodes.definition_list()
    for node in offered:
        name = f"{where}.{node.name}"
        said = nodes.definition("", *prose(ast.get_docstring(node) or ""))
        if isinstance(node, ast.ClassDef) and (methods := public(node.body)):
            said += listed(methods, name)
        term = nodes.term("", "", nodes.literal("", signature(node)), ids=[_id(name, node)])
        found += nodes.definition_list_item("", term, said)
    return found


def _id(name: str, node: Defined) -> str:
    """Where a page has it: ids are in small letters, so a class and a function may differ by nothing else."""
    return nodes.make_id(name) + ("-class" if isinstance(node, ast.ClassDef) else "")


def signature(node: Defined) -> str:
    """`kd(student_logits: Tensor, ...) -> Tensor`, below the decorator that registers it, if one does."""
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    told = "".join(f"@{text} " for text in decorators if REGISTERS.match(text))
    if isinstance(node, ast.ClassDef):
        fields = [ast.unparse(field) for field in node.body if isinstance(field, ast.AnnAssign)]
        own = [field for field in fields if not field.startswith("_")]
        return f"{told}class {node.name}" + (f"({', '.join(own)})" if is_dataclass(node) else "")
    arguments = "({})".format(re.sub(r"^(self|cls)(, |$)", "", ast.unparse(node.args)))
    asked = "" if {"property", "functools.cached_property"} & {*decorators} else arguments
    return f"{told}{node.name}{asked}" + (f" -> {ast.unparse(node.returns)}" if node.returns else "")


def is_dataclass(node: ast.ClassDef) -> bool:
    return any(ast.unparse(decorator).startswith("dataclass") for decorator in node.decorator_list)


def prose(docstring: str) -> list[nodes.Node]:
    """Paragraphs; formulas and columns as they were written."""
    blocks = [block for block in re.split(r"\n\s*\n", inspect.cleandoc(docstring)) if block.strip()]
    return [_as_written(block) if IN_COLUMNS.search(block) else _paragraph(block) for block in blocks]


def _as_written(block: str) -> nodes.literal_block:
    return nodes.literal_block(block, block, language="none")


def _paragraph(block: str) -> nodes.paragraph:
    """Words, and what stands between backticks as code."""
    parts = re.split(r"`([^`]+)`", " ".join(block.split()))
    inline = [nodes.literal("", text) if place % 2 else nodes.Text(text) for place, text in enumerate(parts) if text]
    return nodes.paragraph("", "", *inline)


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_directive("room", Room)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
