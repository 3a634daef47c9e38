"""A small extension of Sphinx: formulas are set when the book is built, as MathML that every browser shows by itself.

No script runs in the reader's browser.  The TeX goes with each formula as its annotation.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.util import logging

log = logging.getLogger(__name__)
#: An operator of a given size that carries an index stands alone in its row, or browsers do not stretch it.
SIZED = re.compile(r'(<msu(?:b|p|bsup)>)(<mo [^>]*minsize="[^>]*>[^<]*</mo>)')
#: What is taken for text without a word.
AS_TEXT = r"\\["
#: Between parts of a displayed formula, where a narrow screen may break the line.
BETWEEN = r"\qquad"


def mathml(tex: str, displayed: bool) -> str:
    """A formula as MathML.  Raises ValueError, in a sentence, where it has something that is not understood."""
    from math_core import LatexError, LatexToMathML

    if AS_TEXT in tex:
        raise ValueError(f"The formula '{tex}' cannot be set: '{AS_TEXT}', a new line's distance, would stand as text.")
    try:
        made = LatexToMathML(annotation=True, fancy_error=False).convert_with_local_state(tex, displaystyle=displayed)
    except LatexError as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"The formula '{tex}' cannot be set, at character {reason}; write it otherwise.") from error
    return SIZED.sub(r"\1<mrow>\2</mrow>", made)


def parts(tex: str) -> Iterator[str]:
    """A displayed formula from one wide gap to the next; what stands in braces or in an environment is one part."""
    begun, depth = 0, 0
    for found in re.finditer(r"\\begin\b|\\end\b|\\[{}]|[{}]|\\qquad\b", tex):
        depth += {"{": 1, r"\begin": 1, "}": -1, r"\end": -1}.get(found[0], 0)
        if found[0] == BETWEEN and depth == 0:
            yield tex[begun : found.start()]
            begun = found.end()
    yield tex[begun:]


def inline(self: Any, node: nodes.Element) -> None:
    """A formula in a line."""
    self.body.append(f'<span class="math">{_set(node, node.astext(), False)}</span>')
    raise nodes.SkipNode


def displayed(self: Any, node: nodes.Element) -> None:
    """A formula of its own; its parts stand beside each other where there is room."""
    made = "".join(_set(node, part.strip(), True) for part in parts(node.astext()))
    self.body.append(self.starttag(node, "div", CLASS="math kdnb-formula"))
    self.body.append(f"{made}</div>\n")
    raise nodes.SkipNode


def _set(node: nodes.Element, tex: str, displayed: bool) -> str:
    """The formula; where that fails, its TeX as it is, and a warning, at which a build of the book stops."""
    try:
        return mathml(tex, displayed)
    except ValueError as error:
        log.warning(str(error), location=node)
        return f"<code>{html.escape(tex)}</code>"


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(displayed, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
