"""What an image set is: prepare, check and load. NumPy only; no torch is imported.

`load(name)` gives both splits in canonical order, to which all indices, parts and batches refer.
"""

from kdnb.datasets.catalogue import DatasetInfo
from kdnb.datasets.checking import Description, check, describe
from kdnb.datasets.imageset import Dataset, ImageSet
from kdnb.datasets.known import info, is_own, names, own_names, title
from kdnb.datasets.loading import load
from kdnb.datasets.preparing import prepare
from kdnb.datasets.splits import halves_key
from kdnb.datasets.subsets import class_balanced, digest_of_indices, halves, held_out

__all__ = [
    "Dataset",
    "DatasetInfo",
    "Description",
    "ImageSet",
    "check",
    "class_balanced",
    "describe",
    "digest_of_indices",
    "halves",
    "halves_key",
    "held_out",
    "info",
    "is_own",
    "load",
    "names",
    "own_names",
    "prepare",
    "title",
]
