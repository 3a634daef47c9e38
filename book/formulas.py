"""A small extension of Sphinx: only a page with a formula of its own loads the script that sets formulas.

Sphinx gives the script also to a page that leads to others with formulas, and so to the front page: 2 MB for nothing.
"""

from __future__ import annotations

from typing import Any

from sphinx.domains.math import MathDomain


class Formulas(MathDomain):
    """Mathematics as Sphinx has it, asked page by page."""

    def has_equations(self, docname: str | None = None) -> bool:
        """Whether this very page has a formula; without a name, whether any has."""
        found: dict[str, bool] = self.data["has_equations"]
        return found.get(docname, False) if docname else any(found.values())


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_domain(Formulas, override=True)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
