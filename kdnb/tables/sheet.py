"""A table as a thing of its own: entries, a caption, a name, and the numbers to download.

In the book it is MyST, so that it is numbered, can be referred to, and every link in it is checked when the
book is built; in a notebook run by hand it is HTML.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdnb import page
from kdnb.tables.grid import grid

#: Tables of so many columns or more are set smaller, so that they fit a page.
MANY_COLUMNS = 9


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a table, or in several that it spans.

    `page` is another page of the book (relative), `target` a label anywhere in it, `file` something beside
    the page that the text lets one download; at most one of them.  `label` is a target for others.
    """

    text: str
    page: str = ""
    target: str = ""
    file: str = ""
    label: str = ""
    columns: int = 1
    rows: int = 1

    def linked(self, role_format: str) -> str:
        """The text, as a role of the book where it links somewhere."""
        for role, where in (("doc", self.page), ("ref", self.target), ("download", self.file)):
            if where:
                return role_format.format(role=role, text=self.text, where=where)
        return ""


Line = Sequence[Entry]


@dataclass(frozen=True)
class Fold:
    """What stands below a table for who opens it: the line that opens it, and the text behind that, in Markdown."""

    title: str
    text: str


@dataclass
class Table:
    """Head and body in lines of entries; `frame` is what the CSV beside it holds, which is called `file`, or as the
    table is; `note` stands below, and in the book, folded below that, `fold`, and `rerun`: how its numbers are made
    once more.
    What is `of_demo` goes to the book's fold for it; `demo` is what a demo has of a table that is measured.  `above` it
    stand tables of other scales, where all scales side by side would be too wide to read.
    """

    name: str
    caption: str
    head: Sequence[Line]
    body: Sequence[Line]
    frame: pd.DataFrame | None = None
    note: str = ""
    css: str = ""
    file: str = ""
    rerun: str = ""
    of_demo: bool = False
    demo: Table | None = None
    above: tuple[Table, ...] = ()
    fold: Fold | None = None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/plain": self.to_text()}
        return bundle | ({"text/markdown": self.to_myst()} if page.in_book() else {"text/html": self.to_html()})

    # -- the book ---------------------------------------------------------------------------------------

    def to_myst(self) -> str:
        """The table for the book; writes the CSV beside the page."""
        text = self._grid() if self._has_spans() else self._list()
        below = self.note
        if self.frame is not None:
            file = f"{self.file or self.name}.csv"
            self.frame.to_csv(page.folder() / file, index=False, float_format=page.NUMBERS)
            below = f"{below} {{download}}`{file} <{file}>`".strip()
        parts = [text, f"{{.kdnb-below}}\n{below}" if below else "", *self._folds()]
        told = "\n\n".join(filter(None, parts)) + "\n"
        own = page.of_demo(told) if self.of_demo else told
        return "\n".join([*(t.to_myst() for t in self.above), own, *([self.demo.to_myst()] if self.demo else [])])

    def _folds(self) -> Iterator[str]:
        """What is there for who opens it."""
        folds = {
            "kdnb-fold": self.fold,
            "kdnb-rerun": Fold("Make these numbers yourself", self.rerun) if self.rerun else None,
        }
        for css, fold in folds.items():
            if fold is not None:
                head = f'<details class="{css}"><summary>{html.escape(fold.title)}</summary>'
                yield f"{head}\n\n{fold.text}\n\n</details>"

    def _classes(self) -> str:
        """What the style sheet knows the table by; one of many columns has smaller letters."""
        many = sum(entry.columns for entry in self.head[0]) >= MANY_COLUMNS
        return " ".join(filter(None, ["kdnb-table", self.css, "kdnb-many" if many else ""]))

    def _has_spans(self) -> bool:
        return any(e.columns > 1 or e.rows > 1 for line in [*self.head, *self.body] for e in line)

    def _list(self) -> str:
        lines = [f"`````{{list-table}} {self.caption}", f":name: tab-{self.name}", f":header-rows: {len(self.head)}"]
        lines += [f":class: {self._classes()}", ""]
        for line in [*self.head, *self.body]:
            for position, entry in enumerate(line):
                lead = "* - " if position == 0 else "  - "
                label = f"({entry.label})=\n    " if entry.label else ""
                text = entry.linked("{{{role}}}`{text} <{where}>`") or myst(entry.text)
                lines.append(f"{lead}{label}{text}".rstrip())
        return "\n".join([*lines, "`````"])

    def _grid(self) -> str:
        cells = [
            [(_rst(e) if not (t := e.linked(":{role}:`{text} <{where}>`")) else t, e.columns, e.rows) for e in line]
            for line in [*self.head, *self.body]
        ]
        drawn = grid(cells, len(self.head))
        lines = [
            "```{eval-rst}",
            f".. table:: {self.caption}",
            f"   :name: tab-{self.name}",
            f"   :class: {self._classes()}",
            "",
        ]
        return "\n".join([*lines, *(f"   {line}" for line in drawn), "```"])

    # -- a notebook run by hand -------------------------------------------------------------------------

    def to_html(self) -> str:
        """The table with its caption, without links."""

        def rows(lines: Sequence[Line], tag: str) -> Iterator[str]:
            for line in lines:
                first = _html(line[0], 'th scope="row"' if tag == "td" else tag)
                yield "<tr>" + first + "".join(_html(entry, tag) for entry in line[1:]) + "</tr>"

        caption = html.escape(re.sub(r"[`*]", "", self.caption))
        return "\n".join(
            [
                *(table.to_html() for table in self.above),
                f'<table class="kdnb-table"><caption>{caption}</caption>',
                "<thead>", *rows(self.head, 'th scope="col"'), "</thead>",
                "<tbody>", *rows(self.body, "td"), "</tbody></table>",
                *([self.demo.to_html()] if self.demo else []),
            ]
        )  # fmt: skip

    def to_text(self) -> str:
        """Plain lines: what a log shows."""
        lines = [self.caption, *(" | ".join(e.text for e in line) for line in [*self.head, *self.body])]
        above = [table.to_text() for table in self.above]
        return "\n".join([*above, *lines, *([self.demo.to_text()] if self.demo else [])])


@dataclass(frozen=True)
class Said:
    """A sentence in place of a table that would have nothing to show."""

    text: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": self.text, "text/markdown": self.text}


@dataclass(frozen=True)
class Included:
    """Texts in Markdown for pages that are not executed: these include them, by their names."""

    texts: dict[str, str]

    def write(self) -> None:
        """Leave them as files beside the page that is made; run by hand there are none."""
        for name, text in self.texts.items() if page.in_book() else ():
            (page.folder() / f"{name}.md").write_text(text, encoding="utf-8")


def _rst(entry: Entry) -> str:
    return _written(entry.text, r"([*`|\\_])", "``")


def myst(text: str) -> str:
    """Plain text as it stands in the Markdown of the book."""
    return _written(text, r"([*_\\<>{}\[\]$|@])", "`")  # an @ would make an address of P@100


def _written(text: str, marks: str, quote: str) -> str:
    """A text as markup: its marks mean themselves, and what stands between two backticks is code.

    In a sentence the two dashes of a command's option would become one.
    """
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a lone backtick is a letter like others
        parts = [text]
    told = (f"{quote}{part}{quote}" if n % 2 else re.sub(marks, r"\\\1", part) for n, part in enumerate(parts))
    return "".join(told)


def _html(entry: Entry, tag: str) -> str:
    spans = f' colspan="{entry.columns}"' * (entry.columns > 1) + f' rowspan="{entry.rows}"' * (entry.rows > 1)
    return f"<{tag}{spans}>{html.escape(entry.text)}</{tag.split()[0]}>"


def without_empty(head: Line, body: list[Line], column: str) -> tuple[Line, list[Line]]:
    """Head and body without the column of this name, where it has nothing but dashes or nothing at all."""
    at = next((place for place, entry in enumerate(head) if entry.text == column), None)
    if at is None or any(entries[at].text not in ("", "–") for entries in body):
        return head, body
    return [*head[:at], *head[at + 1 :]], [[*entries[:at], *entries[at + 1 :]] for entries in body]


def line(*texts: object) -> list[Entry]:
    """A line of plain entries."""
    return [text if isinstance(text, Entry) else Entry(str(text)) for text in texts]
