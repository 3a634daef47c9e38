"""Which images a name stands for here, without reading them."""

from __future__ import annotations

import json

from kdnb import paths
from kdnb.datasets.catalogue import info


def identity(name: str) -> dict[str, str]:
    """Each split's `order_free_sha256`: of what is prepared here, else of the published set.

    So a part of a data set, prepared under its name, is another experiment than the whole.
    """
    published = dict(info(name).published)
    try:
        described = json.loads((paths.data_root() / name / "meta.json").read_text(encoding="utf-8"))["splits"]
        return {split: str(described[split]["order_free_sha256"]) for split in published}
    except (OSError, ValueError, KeyError, TypeError):
        return published
