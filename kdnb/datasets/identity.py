"""Which images a name stands for here, without reading them."""

from __future__ import annotations

from kdnb import paths
from kdnb.datasets.known import info
from kdnb.kinds import parsed


def identity(name: str) -> dict[str, str]:
    """Each split's `order_free_sha256`: of what is prepared here, else of the published set.

    So a part of a data set, prepared under its name, is another experiment than the whole.  Where the published set's
    digests are not known, its archive's md5 stands for them, here and elsewhere, prepared or not.
    """
    known = info(name)
    published = dict(known.published) or {"archive": known.archive.md5 if known.archive else ""}
    try:
        described = parsed((paths.data_root() / name / "meta.json").read_bytes())["splits"]
        if not known.published and {split: described[split]["count"] for split in known.counts} == known.counts:
            return published
        return {split: str(described[split]["order_free_sha256"]) for split in known.counts}
    except (OSError, ValueError, KeyError, TypeError):
        return published
