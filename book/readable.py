"""A small extension of Sphinx: what other packages write into pages, put right for who reads or hears them."""

from __future__ import annotations

from typing import Any

from docutils import nodes

#: What stands in a page, and what ought to: a fold is called by its own words; a list without items is none.
PUT_RIGHT = {
    '<summary aria-label="Toggle hidden content">': "<summary>",
    '<div role="list" class="citation-list">': '<div class="citation-list">',
}


def fold(app: Any, tree: nodes.document) -> None:
    """The cell of parameters and the one that a build adds to it are behind one fold, which says what is in it."""
    cells = {
        name: cell
        for cell in tree.findall(nodes.container)
        for name in cell["classes"]
        if cell.get("nb_element") == "cell_code" and cell.get("hide_mode")
    }
    parameters, given = cells.get("tag_parameters"), cells.get("tag_injected-parameters")
    if parameters is None:
        return
    parameters["prompt_show"], parameters["prompt_hide"] = "Show the parameters", "Hide the parameters"
    if given is not None:
        parameters.children[0] += nodes.paragraph("", "This build sets:", classes=["kdnb-given"])
        parameters.children[0] += given.children[0].children
        given.parent.remove(given)


def put_right(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Names and roles that a screen reader says."""
    for wrong, right in PUT_RIGHT.items():
        context["body"] = context.get("body", "").replace(wrong, right)


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("doctree-read", fold)
    app.connect("html-page-context", put_right)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
