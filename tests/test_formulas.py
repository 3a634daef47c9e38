"""Formulas are set when the book is built: all that its pages have, and what is not understood is refused."""

from __future__ import annotations

import importlib.util
import json
import re

import pytest

from kdnb import paths

TEXTS = sorted(paths.ROOT.glob("book/**/*.md")) + sorted(paths.ROOT.glob("notebooks/**/*.ipynb"))
FORMULA = re.compile(r"\$\$(?P<displayed>.+?)\$\$|\$(?P<inline>[^$]+?)\$", re.DOTALL)


@pytest.fixture(scope="module")
def formulas():
    spec = importlib.util.spec_from_file_location("formulas", paths.ROOT / "book" / "formulas.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prose(path):
    """What stands on a page beside code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")
    return re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)


def test_every_formula_of_the_book_can_be_set(formulas):
    found = [match for path in TEXTS for match in FORMULA.finditer(prose(path))]
    assert len(found) > 200
    for match in found:
        parts = formulas.parts(match["displayed"]) if match["displayed"] else [match["inline"]]
        for part in parts:
            assert "</math>" in formulas.mathml(part.strip(), bool(match["displayed"]))


@pytest.mark.parametrize(
    "tex", [r"\nosuchcommand x", r"\frac{1", r"\left( x", r"\begin{aligned} a \\[4pt] b \end{aligned}"]
)
def test_what_is_not_understood_is_named_and_refused(formulas, tex):
    with pytest.raises(ValueError, match="cannot be set") as refused:
        formulas.mathml(tex, False)
    assert tex in str(refused.value)


def test_a_wide_formula_has_parts_and_a_bracketed_one_stays_whole(formulas):
    assert list(formulas.parts(r"a = b,\qquad c")) == ["a = b,", " c"]
    for whole in (r"{a \qquad b}", r"\begin{aligned} a \qquad b \end{aligned}"):
        assert list(formulas.parts(whole)) == [whole]


def test_a_large_bracket_with_an_index_is_stretched_in_a_row_of_its_own(formulas):
    assert re.search(r"<msup><mrow><mo [^>]*>\)</mo></mrow><mn>2</mn></msup>", formulas.mathml(r"\big(x\big)^2", True))
