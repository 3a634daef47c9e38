"""How a description that is stored can grow: what came later counts only where it says something new.

The fingerprints of all stored records are hashes of such descriptions.  A field that is added with `later` is left
out of them at its default, so that whatever was computed before it existed is still what it was.
"""

from __future__ import annotations

import dataclasses
from typing import Any

_LATER = "later"


def later(default: Any) -> Any:
    """A dataclass field that came after records were stored: at `default` it means what was done before it came."""
    return dataclasses.field(default=default, metadata={_LATER: True})


def told(instance: Any) -> dict[str, Any]:
    """The fields of a dataclass instance by name, those that came later only where they are not at their default."""
    fields = dataclasses.fields(instance)
    return {f.name: getattr(instance, f.name) for f in fields if not _says_nothing(f, getattr(instance, f.name))}


def _says_nothing(field: dataclasses.Field[Any], value: Any) -> bool:
    return bool(field.metadata.get(_LATER)) and bool(value == field.default)
