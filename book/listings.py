"""A small extension of Sphinx: listings whose long lines go on below, and whose titles lead to their files.

A listing that would fill more than a screen is folded, so that the formula before it and what follows stay together.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import origin
from docutils import nodes

#: A listing's title, as `kdnb/listing.py` writes it.
TITLE = re.compile(r"(kdnb/(\w+)/\S+)\.py, line (\d+)")
#: A listing of more lines is folded.
MOST_LINES = 50
CODE = re.compile(r'(<div class="highlight"><pre>(?:<span></span>)?)(.*?)(</pre>)', re.DOTALL)


def lead(app: Any, tree: nodes.document, page: str) -> None:
    """The title of a listing leads to its lines in the repository; where that is not known, to the reference."""
    for title in list(tree.findall(nodes.caption)):  # folds change the tree
        told = title.astext()
        found = TITLE.fullmatch(told)
        if found and (address := _address(app, page, *found.groups())):
            title.children = []
            title += nodes.reference("", told, refuri=address)
        if found:
            _fold(title.parent, told.partition(",")[0])


def _fold(listing: nodes.Element, file: str) -> None:
    """A long listing, with its title, behind one line that opens it."""
    lines = len(listing[-1].astext().splitlines())
    if lines > MOST_LINES:
        head = f'<details class="kdnb-listing"><summary>{lines} lines of {file}</summary>'
        at = listing.parent.index(listing)  # `replace_self` would give its name and classes to the fold's beginning
        listing.parent.insert(at + 1, nodes.raw("", "</details>", format="html"))
        listing.parent.insert(at, nodes.raw("", head, format="html"))


def _address(app: Any, page: str, module: str, room: str, line: str) -> str:
    project, reference = Path(app.srcdir), f"book/reference/{room}"
    if at := origin.repository(project):
        return f"{at}/blob/{origin.git(project, 'rev-parse', 'HEAD') or 'HEAD'}/{module}.py#L{line}"
    if reference not in app.env.found_docs:
        return ""
    return f"{app.builder.get_relative_uri(page, reference)}#{nodes.make_id(module.replace('/', '.'))}"


def fit(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Every line of code is a box of its own, which knows how far it is indented."""
    context["body"] = CODE.sub(lambda found: found[1] + _lines(found[2]) + found[3], context.get("body", ""))


def _lines(code: str) -> str:
    return "\n".join(_line(line) if line else "" for line in code.split("\n"))


def _line(line: str) -> str:
    text = re.sub(r"<[^>]*>", "", line)
    return f'<span class="kdnb-line" style="--in: {len(text) - len(text.lstrip())}ch">{line}</span>'


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("doctree-resolved", lead)
    app.connect("html-page-context", fit)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
