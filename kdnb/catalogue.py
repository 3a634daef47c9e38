"""What a folder registers by a decorator, read from its sources: nothing of it is imported.

A page that only shows stored runs needs no torch, and a new entry is one new function in a file of that folder.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A decorated function: the decorator's first argument and its keywords, all of them literals."""

    name: str
    fields: dict[str, Any]
    function: ast.FunctionDef
    file: str


def registered(folder: Path, decorator: str) -> Iterator[Entry]:
    """The functions at the top of a folder's files under `@decorator(name, field=literal, ...)`, file by file."""
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == decorator:
                    fields = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
                    yield Entry(ast.literal_eval(call.args[0]), fields, node, path.name)
