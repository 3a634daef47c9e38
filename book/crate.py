"""A small extension of Sphinx: the book tells machines what it is, whose, and what it holds, as an RO-Crate.

`ro-crate-metadata.json` stands beside `index.html` (https://w3id.org/ro/crate/1.1), so that archives, catalogues and
scripts find title, licence, version, the files of numbers and the works that they are about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import origin
import yaml
from pybtex.database import Entry, parse_file

NAME = "ro-crate-metadata.json"
LICENCE = "https://spdx.org/licenses/MIT"
#: What is said of the files that hold everything at once; of others, whose numbers they have.
WHOLE = {
    "evidence/register.csv": "Every record of the study: one line is one run, or one first step.",
    "evidence/claims.csv": "Every claim of the papers, with its verdict and the comparison that it hangs on.",
}

Entity = dict[str, Any]


def crate(project: Path, files: Mapping[str, str]) -> Entity:
    """The description of a book: `files` are its CSVs, `<paper>/<name>.csv` -> where they lie beside `index.html`."""
    works = [_work(key, entry) for key, entry in parse_file(str(project / "book" / "references.bib")).entries.items()]
    parts = [_file(name, place) for name, place in sorted(files.items())]
    about = {"@id": NAME, "@type": "CreativeWork", "about": {"@id": "./"}}
    about["conformsTo"] = {"@id": "https://w3id.org/ro/crate/1.1"}
    return {
        "@context": "https://w3id.org/ro/crate/1.1/context",
        "@graph": [about, _book(project, parts, works), _licence(), _authors(project), *parts, *works],
    }


def _cited(project: Path) -> dict[str, Any]:
    """What CITATION.cff says of the project."""
    found: dict[str, Any] = yaml.safe_load((project / "CITATION.cff").read_text(encoding="utf-8"))
    return found


def _book(project: Path, parts: list[Entity], works: list[Entity]) -> Entity:
    cited, address = _cited(project), origin.repository(project)
    commit, date = origin.git(project, "log", "-1", "--format=%H"), origin.git(project, "log", "-1", "--format=%cs")
    told = {
        "@id": "./",
        "@type": "Dataset",
        "name": cited["title"],
        "description": " ".join(cited["abstract"].split()),
        "version": f"{cited['version']}, commit {commit}" if commit else str(cited["version"]),
        "datePublished": date or str(cited["date-released"]),
        "license": {"@id": LICENCE},
        "author": {"@id": "#authors"},
        "keywords": cited["keywords"],
        "hasPart": [{"@id": part["@id"]} for part in parts],
        "citation": [{"@id": work["@id"]} for work in works],
    }
    return told | ({"isBasedOn": address} if address else {})


def _licence() -> Entity:
    return {"@id": LICENCE, "@type": "CreativeWork", "name": "MIT licence"}


def _authors(project: Path) -> Entity:
    names = ", ".join(author["name"] for author in _cited(project)["authors"])
    return {"@id": "#authors", "@type": "Organization", "name": names}


def _file(name: str, place: str) -> Entity:
    page = name.removesuffix(".csv")
    told = WHOLE.get(name, f"The numbers of a table or a figure: {page}.")
    return {"@id": quote(place), "@type": "File", "name": name, "description": told, "encodingFormat": "text/csv"}


def _work(key: str, entry: Entry) -> Entity:
    """A work that the book is about or cites; its address where one is known."""
    eprint, doi, url = (entry.fields.get(field, "") for field in ("eprint", "doi", "url"))
    address = f"https://doi.org/{doi}" if doi else url or (f"https://arxiv.org/abs/{eprint}" if eprint else f"#{key}")
    return {
        "@id": address,
        "@type": "ScholarlyArticle",
        "name": entry.fields["title"].replace("{", "").replace("}", ""),
        "author": "; ".join(str(person) for person in entry.persons["author"]),
        "datePublished": entry.fields["year"],
    }


def keep(app: Any, failed: Exception | None) -> None:
    """Written when the pages are."""
    if failed is not None:
        return
    executed = "book/executed/"
    files = {
        source.removeprefix(executed): f"_downloads/{place}"
        for source, (_, place) in app.env.dlfiles.items()
        if source.startswith(executed) and source.endswith(".csv")
    }
    told = json.dumps(crate(Path(app.srcdir), files), ensure_ascii=False, indent=1)
    (Path(app.outdir) / NAME).write_text(f"{told}\n", encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("build-finished", keep)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
