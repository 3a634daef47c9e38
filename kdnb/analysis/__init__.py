"""What is measured on a trained network, and what of it is kept in its record and beside it.

The measurements on tensors stand here by their names too, whichever file they live in; torch comes with the first.
"""

import importlib
from typing import TYPE_CHECKING

from kdnb.analysis.registry import ALWAYS, Measurement, Observed, Subject, get, measure, names

if TYPE_CHECKING:
    from kdnb.analysis.information import nearest_centroid, qmi
    from kdnb.analysis.neurons import active_neurons
    from kdnb.losses.relations import linear_cka

#: Measurement -> the file that it lives in.
_ON_TENSORS = {
    "active_neurons": "kdnb.analysis.neurons",
    "linear_cka": "kdnb.losses.relations",
    "nearest_centroid": "kdnb.analysis.information",
    "qmi": "kdnb.analysis.information",
}

__all__ = [
    "ALWAYS",
    "Measurement",
    "Observed",
    "Subject",
    "active_neurons",
    "get",
    "linear_cka",
    "measure",
    "names",
    "nearest_centroid",
    "qmi",
]


def __getattr__(name: str) -> object:
    if name not in _ON_TENSORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ON_TENSORS[name]), name)
