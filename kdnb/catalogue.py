"""What a folder registers by a decorator, read from its sources: nothing of it is imported.

A page that only shows stored runs needs no torch, and a new entry is one new function in a file of that folder.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdnb.errors import KdnbError

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Entry:
    """A decorated function: the decorator's first argument and its keywords, all of them literals."""

    name: str
    fields: dict[str, Any]
    function: ast.FunctionDef
    file: str

    @property
    def place(self) -> str:
        """Where the function stands, for a message."""
        return f"{self.file}, line {self.function.lineno}"


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
                    name = literal(call.args[0], "the name", path.name)
                    if not isinstance(name, str):
                        raise KdnbError(f"{path.name}, line {call.lineno}: the name {name} is no text; quote it.")
                    yield Entry(name, fields, node, path.name)


def literal(node: ast.expr, what: str, file: str) -> Any:
    """The value of an expression that is written out; KdnbError for one that would have to be computed."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise KdnbError(
            f"{file}, line {node.lineno}: {what} has to be written out, as a number, a text, True, False or None, "
            f"since the file is read and not run; '{ast.unparse(node)}' is not{_instead(node)}."
        ) from None


def _instead(node: ast.expr) -> str:
    """What to write instead, where that is plain arithmetic."""
    try:
        return f", write {_worked_out(node)!r}"
    except (ValueError, TypeError, ArithmeticError):
        return ""


def _worked_out(node: ast.expr) -> int | float:
    """Sums, products and quotients of numbers; ValueError for anything else."""
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return _ARITHMETIC[type(node.op)](_worked_out(node.left), _worked_out(node.right))  # type: ignore[no-any-return]
    value = ast.literal_eval(node)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return value


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise KdnbError(
            f"{path.name}, line {error.lineno}: this is no Python ({error.msg}); mend it, or take the file away."
        ) from None
    except ValueError:  # what is no UTF-8, too
        raise KdnbError(f"{path.name} is no text in UTF-8; save it as that, or take the file away.") from None
