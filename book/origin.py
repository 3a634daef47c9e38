"""A small extension of Sphinx: every page says which version of the project made it, when, and what it is about."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

LICENCE = "MIT licence"
#: So many letters of a page's beginning describe it to search engines and to whoever shares it.
LONGEST = 200
EXCERPTS = "excerpts.js"


def git(project: Path, *arguments: str) -> str:
    """What git says of the project; nothing where there is no history."""
    try:
        said = subprocess.run(["git", *arguments], cwd=project, capture_output=True, encoding="utf-8", timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip() if said.returncode == 0 else ""


def repository(project: Path) -> str:
    """The project's address: `$KDNB_REPOSITORY`, or the remote that it was cloned from by https; else nothing."""
    found = os.environ.get("KDNB_REPOSITORY", "") or git(project, "remote", "get-url", "origin")
    return found.removesuffix(".git") if re.fullmatch(r"https://[^@\s]+", found) else ""


def made(project: Path) -> str:
    """`kdnb 0.1.0 · MIT licence · commit de2d217 of 2026-11-26`; what is not known is left out."""
    from kdnb import __version__

    commit = git(project, "log", "-1", "--format=%h of %cs", "--", ".")
    parts = [f"kdnb {__version__}", LICENCE] + ([f"commit {commit}"] if commit else [])
    address = repository(project)
    return " · ".join(
        [html.escape(part) for part in parts] + ([f'<a href="{address}">{address}</a>'] if address else [])
    )


def sign(app: Any, config: Any) -> None:
    """The line goes to the foot of every page.  Tables keep their titles alone; an extension would number them."""
    config.numfig = False
    config.html_theme_options = {**config.html_theme_options, "extra_footer": f"<p>{made(Path(app.srcdir))}</p>"}


def describe(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """The first sentences of a page are its description, and its excerpt among the hits of a search."""
    if page == "search":
        app.add_js_file(EXCERPTS)
    words = beginning(context.get("body", ""))
    if words:
        told = html.escape(words, quote=True)
        app.env.kdnb_excerpts = {**getattr(app.env, "kdnb_excerpts", {}), page: told}
        context["metatags"] = context.get("metatags", "") + f'<meta name="description" content="{told}" />\n'


def beginning(body: str) -> str:
    """The words of a page's first paragraph, as far as they are an excerpt; formulas as they are written in LaTeX."""
    first = next(iter(re.findall(r"<p>(.*?)</p>", body, re.S)), "")
    written = re.sub(r"<math\b.*?<annotation[^>]*>(.*?)</annotation>.*?</math>", r"\1", first, flags=re.S)
    words = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", written))).strip()
    return words if len(words) <= LONGEST else words[:LONGEST].rsplit(" ", 1)[0].rstrip(",;:") + " …"


def keep(app: Any, failed: Exception | None) -> None:
    """The excerpts go beside the book's scripts, for the page of the search alone."""
    if failed is None:
        told = json.dumps(getattr(app.env, "kdnb_excerpts", {}), ensure_ascii=False, sort_keys=True)
        (Path(app.outdir) / "_static" / EXCERPTS).write_text(f"const kdnbExcerpts = {told};\n", encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("config-inited", sign, priority=900)
    app.connect("html-page-context", describe)
    app.connect("build-finished", keep)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
