"""Code of the package as a page shows it beside its formula: read from the source, never imported or pasted."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdnb import methods, page
from kdnb.errors import unknown

PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Listing:
    """Some definitions of one file, in the order they stand there."""

    path: str
    code: str
    first_line: int

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/plain": self.code}
        if page.in_book():
            caption = f":caption: {self.path}, line {self.first_line}"
            return bundle | {"text/markdown": f"````{{code-block}} python\n{caption}\n\n{self.code}\n````"}
        return bundle | {"text/markdown": f"`{self.path}`\n\n````python\n{self.code}\n````"}


def loss(*names: str) -> Listing:
    """Functions or classes of `kdnb.losses` that stand in one file."""
    return _of_room("losses", "loss", names)


def analysis(*names: str) -> Listing:
    """Functions or classes of `kdnb.analysis` that stand in one file."""
    return _of_room("analysis", "analysis", names)


def method(name: str) -> Listing:
    """The function that builds a method's stages."""
    entry = methods.get(name)
    return _listing(PACKAGE / "methods" / entry.file, (entry.function,))


def _of_room(room: str, what: str, names: tuple[str, ...]) -> Listing:
    files = sorted((PACKAGE / room).glob("*.py"))
    known = {name: path for path in files for name in _definitions(path)}
    for name in names:
        if name not in known:
            raise unknown(what, name, (n for n in known if not n.startswith("_")))
    return _listing(known[names[0]], names)


def _definitions(path: Path) -> dict[str, ast.stmt]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, kinds):
            found[node.name] = node
            if isinstance(node, ast.ClassDef):
                found |= {f"{node.name}.{inner.name}": inner for inner in node.body if isinstance(inner, kinds)}
    return found


def _listing(path: Path, names: tuple[str, ...]) -> Listing:
    definitions = _definitions(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    pieces = []
    first = None
    for name in names:
        if name not in definitions:
            raise unknown(f"definition in {path.name}", name, definitions)
        node = definitions[name]
        begin = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        first = first or begin
        pieces.append("\n".join(lines[begin - 1 : node.end_lineno]))
    return Listing(path.relative_to(PACKAGE.parent).as_posix(), "\n\n\n".join(pieces), first or 1)
