"""The book as a whole: what its pages wait for, whether it is as new as they are, and what readers download.

    python -m kdnb.book build     bind the executed pages and the texts: `_build/html`

The Snakefile asks here.  What has to be done is read from what is there, records and pages, never from stamps.
"""

from __future__ import annotations

import functools
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdnb import __version__, notebooks, page
from kdnb.errors import KdnbError
from kdnb.exhibits import wanted
from kdnb.exhibits.wanted import Planned
from kdnb.kinds import MOST_SEEDS
from kdnb.study import plan
from kdnb.study.profile import get_profile
from kdnb.study.store import Store

#: What a page is bound from beside the executed notebooks.
TEXTS = (
    *("_config.yml", "_toc.yml", "CITATION.cff", "CONTRIBUTING.md", "book/*.md", "book/*.bib", "book/*.py"),
    *("book/papers/*.md", "book/reference/*.md", "kdnb/*/**/*.py", "book/_static/*.*"),
)
#: Where the digest of what the book was made from is kept; it goes with `make clean`.
MADE_FROM = Path(".stamps") / "book.sha256"
ABOUT = """\
This notebook is a page of the book *The evidence of knowledge distillation, re-run*. It needs `kdnb` (made with version
{version}), the package of the project that the book is built from: in the project's folder, `make install` sets it up
and `make lab` opens the notebooks. Run by hand, the cells show what is stored there and train what is missing;
`profile` says at which scale."""


@dataclass(frozen=True)
class Book:
    """The book in `project` over a study: `exhibits` by commas under a profile, with so many `seeds` where given."""

    project: Path
    profile: str = "demo"
    seeds: int | None = None
    exhibits: str = "all"

    def check(self) -> None:
        """Raises KdnbError where the profile, the exhibits, the seeds or the table of contents are none."""
        if self.seeds is not None and (type(self.seeds) is not int or not 1 <= self.seeds <= MOST_SEEDS):
            raise KdnbError(f"seeds are a count, 1 to {MOST_SEEDS}; '{self.seeds}' is none.")
        _ = self.jobs, self.pages  # made when first asked for: each raises where it cannot be

    @property
    def parameters(self) -> dict[str, Any]:
        """What every notebook is told that has such a parameter."""
        return {"profile": self.profile} | ({"seeds": self.seeds} if self.seeds else {})

    @functools.cached_property
    def store(self) -> Store:
        """The records as they were when first asked for."""
        return Store.open()

    @functools.cached_property
    def jobs(self) -> dict[str, Planned]:
        """Every job of the study by its id."""
        chosen = wanted.select(self.exhibits)
        runs = wanted.runs(chosen, get_profile(self.profile), seeds=self.seeds)
        return {job.id: job for job in wanted.jobs(runs, self.store)}

    def waiting(self) -> list[str]:
        """Which rows can be trained by the same command once more: what settles them is measured now, or is not yet.

        The plan of a build is made when it begins.
        """
        chosen, profile = wanted.select(self.exhibits), get_profile(self.profile)
        planned = {run.key for job in self.jobs.values() for run in job.runs}
        runs = wanted.runs(chosen, profile, seeds=self.seeds)
        new = [run for run in plan.missing(runs, Store.open()) if run.key not in planned]
        again = [f"{len(new)} runs can be made now, since what they waited for is: run the same command again"]
        return [*again * bool(new), *wanted.awaited(chosen, profile)]

    @functools.cached_property
    def pages(self) -> list[str]:
        """`<paper>/<name>` of every page that a notebook becomes; raises KdnbError where one has no notebook."""
        found = page.pages(self.project)
        for name in found:
            if not (self.project / self.source(name)).exists():
                raise KdnbError(f"_toc.yml lists {page.EXECUTED}{name}, and there is no {self.source(name)}.")
        return found

    def source(self, name: str) -> Path:
        """The notebook of a page, from the project's folder."""
        return Path("notebooks") / f"{name}.ipynb"

    def executed(self, name: str) -> Path:
        """The executed page, from the project's folder."""
        return Path(page.EXECUTED) / f"{name}.ipynb"

    def waits_for(self, name: str) -> list[Planned]:
        """The jobs that have to be done before everything is there that a page shows."""
        source = self.project / self.source(name)
        keys = notebooks.exhibits_of(source) if notebooks.shows_demo(source) or self.profile != "demo" else []
        return list({job.id: job for key in keys for job in self._lacking[key]}.values())

    @functools.cached_property
    def _lacking(self) -> dict[str, list[Planned]]:
        """The jobs that each exhibit waits for."""
        profile = get_profile(self.profile)
        runs = {exhibit.key: wanted.runs([exhibit], profile, seeds=self.seeds) for exhibit in wanted.select("all")}
        return {key: wanted.lacking(self.jobs.values(), of, self.store) for key, of in runs.items()}

    def stale_pages(self) -> list[str]:
        """The pages that have to be made: what they wait for is not there, or they show something else.

        As it was when first asked for, which takes reading all that they are made from.
        """
        return self._stale_pages

    @functools.cached_property
    def _stale_pages(self) -> list[str]:
        return [name for name in self.pages if not self._is_current(name)]

    def _is_current(self, name: str) -> bool:
        source, target = (self.project / path for path in (self.source(name), self.executed(name)))
        return not self.waits_for(name) and notebooks.is_current(source, target, self.parameters, self.store)

    def is_bound(self) -> bool:
        """Whether the book is there and was made from the pages and texts as they are."""
        try:
            kept = (self.project / MADE_FROM).read_text(encoding="utf-8")
        except OSError:
            return False
        return kept == made_from(self.project) and (self.project / "_build" / "html" / "index.html").exists()

    def left(self) -> list[str]:
        """What is still missing, a line each: runs by their jobs, then pages."""
        now = Book(self.project, self.profile, self.seeds, self.exhibits)
        lines = [_left_of(job, now.store) for job in now.jobs.values() if not job.done]
        stale = now.stale_pages()
        return lines + ([f"{len(stale)} of {len(now.pages)} pages: {', '.join(stale)}"] if stale else [])


def _left_of(job: Planned, store: Store) -> str:
    left = [run.label for run in job.runs if not store.has(run)] or ["weights that others start from"]
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return f"{job.id}: {len(left)} of {len(job.runs)} runs ({'; '.join(left[:3])}{more})"


def made_from(project: Path) -> str:
    """sha256 of the pages and texts that are bound."""
    found = hashlib.sha256()
    for path in _bound(project):
        found.update(f"{path.relative_to(project).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


def _bound(project: Path) -> Iterable[Path]:
    for pattern in TEXTS:
        yield from sorted(project.glob(pattern))
    for name in page.pages(project):
        path = project / page.EXECUTED / f"{name}.ipynb"
        if path.exists():
            yield path


def build(project: Path) -> int:
    """Bind the book; jupyter-book's exit code."""
    found = made_from(project)
    jupyter_book = Path(sys.executable).parent / "jupyter-book"
    options = ["-n", "-W", "--keep-going", "--all", "-q"]
    code = subprocess.call([str(jupyter_book), "build", ".", *options], cwd=project)
    if code == 0:
        for name in page.pages(project):
            make_readable(project / "_build" / "html" / "_sources" / page.EXECUTED / f"{name}.ipynb")
        (project / MADE_FROM).parent.mkdir(exist_ok=True)
        (project / MADE_FROM).write_text(found, encoding="utf-8")
    return code


def make_readable(download: Path) -> None:
    """Turn the copy of a page that readers download into a notebook that says where kdnb comes from and can be read.

    The book's own markup means nothing outside of it: what the cells showed becomes plain text and pictures.
    """
    import nbformat

    if not download.exists():
        return
    notebook = nbformat.read(download, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            picture = re.search(r"^:+\{figure\} (\S+\.svg)\n", output.get("data", {}).pop("text/markdown", ""), re.M)
            if picture:
                drawn = page.project() / page.EXECUTED / download.parent.name / picture[1]
                output["data"]["image/svg+xml"] = drawn.read_text(encoding="utf-8")
    about = nbformat.v4.new_markdown_cell(ABOUT.format(version=__version__), id="about-this-notebook")
    notebook.cells.insert(0, about)
    nbformat.write(notebook, download)


if __name__ == "__main__":
    if sys.argv[1:] != ["build"]:
        sys.exit(__doc__)
    sys.exit(build(page.project()))
