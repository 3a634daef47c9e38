"""What a folder registers by a decorator, read from its sources: nothing of it is imported.

A page that only shows stored runs needs no torch, and a new entry is one new function in a file of that folder.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdnb.errors import KdnbError


@dataclass(frozen=True)
class Entry:
    """A decorated function: the decorator's first argument and its keywords, all of them literals."""

    name: str
    fields: dict[str, Any]
    function: ast.FunctionDef
    file: str


def registered(folder: Path, decorator: str) -> Iterator[Entry]:
    """The functions at the top of a folder's files under `@decorator(name, field=literal, ...)`, file by file.

    Raises KdnbError, with file and line, for a file that is no Python, and for what is no literal.
    """
    for path in sorted(folder.glob("*.py")):
        for node in (node for node in _parsed(path).body if isinstance(node, ast.FunctionDef)):
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == decorator:
                    if not call.args:
                        raise KdnbError(f"{path.name}, line {call.lineno}: @{decorator} needs a name first.")
                    fields = {str(k.arg): literal(k.value, f"'{k.arg}'", path.name) for k in call.keywords}
                    yield Entry(literal(call.args[0], "the name", path.name), fields, node, path.name)


def literal(node: ast.expr, what: str, file: str) -> Any:
    """The value of an expression that is written out; KdnbError for one that would have to be computed."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise KdnbError(
            f"{file}, line {node.lineno}: {what} has to be written out, as a number, a text, True, False or None, "
            f"since the file is read and not run; '{ast.unparse(node)}' is not."
        ) from None


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise KdnbError(
            f"{path.name}, line {error.lineno}: this is no Python ({error.msg}); mend it, or take the file away."
        ) from None
