"""A small extension of Sphinx: what other packages write into pages, put right for who reads or hears them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes

from kdnb.page import FOR_PHONES

#: What stands in a page, and what ought to: a fold is called by its own words; a list without items is none.
PUT_RIGHT = {
    '<summary aria-label="Toggle hidden content">': "<summary>",
    '<div role="list" class="citation-list">': '<div class="citation-list">',
}


#: Where a page has its demo, and what the fold says of it, once a page.
DEMO = "demo-of-this-build"
MARK = "the demo was here"
OF_A_DEMO = (
    "Tiny networks on scanned digits, trained for this book. They show that every step runs, and say "
    "nothing about the paper."
)


#: A minus before a number, and blanks at which no line ends: within `± 0.31 (3)`, and within an interval.
MINUS = re.compile(r"(?:^|(?<=[\s\[(,]))-(?=\d)")
TOGETHER = re.compile(r"± [\d.,]+(?: \(\d+\))?|\[\S+, \S+\]")
#: The head of the column of a table of runs that leads to records; those left of it say what was run.
RECORD = "Record"
#: A picture of the book as its page has it, and the screens that are a phone's.
PICTURE = re.compile(r'<img [^>]*src="(?P<folder>[^"]*_images/)(?P<name>[\w-]+)\.svg"[^>]*>')
PHONE = "(max-width: 600px)"
#: What is no sentence.
AS_IT_IS = (nodes.literal, nodes.literal_block, nodes.raw, nodes.math, nodes.math_block, nodes.comment)


def set_numbers(app: Any, tree: nodes.document) -> None:
    """Numbers as a printer sets them: their minus is one, and a spread or an interval stands in one line."""
    for text in list(tree.findall(nodes.Text)):
        told = printed(text)
        if told != text and not isinstance(text.parent, AS_IT_IS):
            text.parent.replace(text, nodes.Text(told))


def printed(text: str) -> str:
    """`-0.11 ± 0.31 (3) [-0.42, 0.20]` with its minus signs, and blanks that do not break."""
    text = MINUS.sub("\N{MINUS SIGN}", text)
    return TOGETHER.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def name_records(app: Any, tree: nodes.document) -> None:
    """The link to a record says whose it is, to who hears it: one page has hundreds that look the same."""
    for table in tree.findall(nodes.table):
        heads = [entry.astext() for entry in next(table.findall(nodes.thead), nodes.thead()).findall(nodes.entry)]
        if "kdnb-runs" in table["classes"] and RECORD in heads:
            for line in next(table.findall(nodes.tbody)).findall(nodes.row):
                told = [(head, entry.astext()) for head, entry in zip(heads, line.children, strict=True)]
                before = told[: heads.index(RECORD)]
                whose = ", ".join(f"seed {text}" if head == "Seed" else text for head, text in before)
                for link in line.children[len(before)].findall(addnodes.download_reference):
                    link += nodes.inline("", f" of {whose}", classes=["visually-hidden"])


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


def gather(app: Any, tree: nodes.document) -> None:
    """What only a demo has is in one fold at the end of its page; where nothing else was to be seen, a line says so."""
    parts = [part for part in tree.findall(nodes.container) if "kdnb-demo" in part["classes"]]
    if not parts:
        return
    emptied = {id(section): section for section in map(_section, parts)}
    for part in parts:
        part["classes"] = ["kdnb-of-demo"]
        cell = _cell(part)
        cell.parent.insert(cell.parent.index(cell), nodes.comment("", MARK))
        part.parent.remove(part)
        if cell.get("hide_mode") is None and not _shows(cell):
            cell.parent.remove(cell)
    for section in emptied.values():
        mark = next(_marks(section))
        if not any(isinstance(child, nodes.container) and _shows(child) for child in section.children):
            mark.replace_self(nodes.paragraph("", "", *_nothing_yet()))
    for mark in list(_marks(tree)):
        if _is_announced(mark):
            mark.replace_self(nodes.paragraph("", "", *_nothing_yet()))
        else:
            mark.parent.remove(mark)
    next(child for child in tree.children if isinstance(child, nodes.section)).append(_folded(parts))


def _marks(tree: nodes.Element) -> Iterator[nodes.comment]:
    """Where parts were that are in the fold now."""
    return (node for node in tree.findall(nodes.comment) if node.astext() == MARK)


def _is_announced(mark: nodes.comment) -> bool:
    """Whether the words before a mark end in a colon, and nothing measured stands where they lead."""
    siblings = mark.parent.children
    place = siblings.index(mark)
    after = siblings[place + 1 : place + 2]
    told = isinstance(siblings[place - 1], nodes.paragraph) and siblings[place - 1].astext().endswith(":")
    return place > 0 and told and not any(_shows(node) for node in after if isinstance(node, nodes.container))


def _section(node: nodes.Node) -> nodes.section:
    while not isinstance(node, nodes.section):
        node = node.parent
    return node


def _cell(node: nodes.Node) -> nodes.container:
    """The cell of the notebook that a part of a page is in."""
    while node.get("nb_element") != "cell_code":
        node = node.parent
    return node


def _shows(cell: nodes.container) -> bool:
    """Whether a cell has a table or a picture."""
    return any(isinstance(node, nodes.table | nodes.figure | nodes.image) for node in cell.findall())


def _nothing_yet() -> list[nodes.Node]:
    link = nodes.reference("", "the demo", refid=DEMO, internal=True)
    return [nodes.Text("Not yet measured; "), link, nodes.Text(" has run it.")]


def _folded(parts: list[nodes.container]) -> nodes.section:
    """The section at a page's end."""
    tables, figures = (sum(len(list(part.findall(kind))) for part in parts) for kind in (nodes.table, nodes.figure))
    counts = [f"{n} {what}{'s' * (n > 1)}" for n, what in ((tables, "table"), (figures, "figure")) if n]
    opened = f'<details class="kdnb-demo"><summary>Show the demo: {" and ".join(counts)}</summary>'
    section = nodes.section("", nodes.title("", "Demo"), ids=[DEMO], names=[])
    section += nodes.paragraph("", OF_A_DEMO)
    section += [nodes.raw("", opened, format="html"), *parts, nodes.raw("", "</details>", format="html")]
    return section


def keep_heard(app: Any, tree: nodes.document) -> None:
    """What is told of every picture for who cannot see it."""
    told = {image["uri"]: image["alt"] for image in tree.findall(nodes.image) if image.get("alt")}
    app.env.kdnb_heard = getattr(app.env, "kdnb_heard", {}) | told


def say_again(app: Any, tree: nodes.document, page: str) -> None:
    """A page that shows another page's picture, and tells nothing of it, says what stands there."""
    for image in tree.findall(nodes.image):
        if not image.get("alt"):
            image["alt"] = app.env.kdnb_heard.get(image["uri"], "")


def keep_narrow(app: Any, tree: nodes.document) -> None:
    """Which pictures of a page have a twin beside them that is drawn for a phone."""
    app.env.kdnb_narrow = _narrow(app) | {
        path.stem: twin
        for path in (Path(image["uri"]) for image in tree.findall(nodes.image))
        if path.suffix == ".svg" and Path(app.srcdir, twin := path.with_stem(f"{path.stem}{FOR_PHONES}")).exists()
    }


def _narrow(app: Any) -> dict[str, Path]:
    """Name of a picture -> its twin, from the book's folder; empty where an older build has been read."""
    return getattr(app.env, "kdnb_narrow", {})


def show_narrow(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """On a narrow screen the twin stands in the picture's place."""
    context["body"] = PICTURE.sub(lambda found: _with_twin(found, _narrow(app)), context.get("body", ""))


def _with_twin(found: re.Match[str], narrow: dict[str, Path]) -> str:
    if found["name"] not in narrow:
        return found[0]
    twin = f"{found['folder']}{found['name']}{FOR_PHONES}.svg"
    return f'<picture><source media="{PHONE}" srcset="{twin}" />{found[0]}</picture>'


def copy_narrow(app: Any, error: Exception | None) -> None:
    """The twins lie beside the pictures."""
    if error is None and app.builder.format == "html":
        for twin in _narrow(app).values():
            if Path(app.srcdir, twin).exists():
                shutil.copyfile(Path(app.srcdir, twin), Path(app.outdir, app.builder.imagedir, twin.name))


def put_right(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Names and roles that a screen reader says."""
    for wrong, right in PUT_RIGHT.items():
        context["body"] = context.get("body", "").replace(wrong, right)


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("doctree-read", set_numbers)
    app.connect("doctree-read", name_records)
    app.connect("doctree-read", fold)
    app.connect("doctree-read", gather, priority=400)  # before the page's contents are listed
    app.connect("doctree-read", keep_heard)
    app.connect("doctree-read", keep_narrow)
    app.connect("doctree-resolved", say_again)
    app.connect("html-page-context", show_narrow)
    app.connect("build-finished", copy_narrow)
    app.connect("html-page-context", put_right)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
