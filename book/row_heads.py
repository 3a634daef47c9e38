"""A small extension of Sphinx: the first entry of a line of a table heads it, so that a screen reader can say so.

Sphinx has no words for that in a table with spans; entries of the head lead their columns in the same way.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes


def mark(app: Any, tree: nodes.document, page: str) -> None:
    """The first column of every table of ours is made of heads."""
    for table in tree.findall(nodes.table):
        if "kdnb-table" in table["classes"]:
            next(table.findall(nodes.colspec))["stub"] = 1


def name(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Heads of lines and of columns say which they are."""
    body = context.get("body", "")
    context["body"] = body.replace('<th class="stub', '<th scope="row" class="stub').replace(
        '<th class="head', '<th scope="col" class="head'
    )


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("doctree-resolved", mark)
    app.connect("html-page-context", name)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
