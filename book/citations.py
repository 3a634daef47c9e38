"""A small extension of Sphinx: the list of references calls each work as the pages do, by authors and year."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.alpha import Style as Alpha
from pybtex.style.labels import BaseLabelStyle

NAME = "authors_and_year"


class Labels(BaseLabelStyle):
    """`Passalis and Tefas, 2018`, `Hinton et al., 2015`; of several in one year each has a letter."""

    def format_labels(self, sorted_entries: Iterable[Entry]) -> Iterator[str]:
        """A label a work, in their order."""
        labels = [label(entry) for entry in sorted_entries]
        count, seen = Counter(labels), Counter[str]()
        for told in labels:
            yield told + (chr(ord("a") + seen[told]) if count[told] > 1 else "")
            seen[told] += 1


def label(entry: Entry) -> str:
    """Last names of one or two authors, or of the first of more, and the year."""
    names = [" ".join([*person.prelast_names, *person.last_names]) for person in entry.persons["author"]]
    told = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
    return f"{told}, {entry.fields['year']}"


class Style(Alpha):  # type: ignore[misc]
    """Sorted by authors and year, labelled by both."""

    default_label_style = NAME


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    register_plugin("pybtex.style.labels", NAME, Labels)
    register_plugin("pybtex.style.formatting", NAME, Style)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
