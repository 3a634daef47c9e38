"""What figures need of a trained network beyond its numbers, and what of it is kept beside a record.

The measurements on tensors stand here by their names too, whichever file they live in; torch comes with the first.
"""

import importlib
from typing import TYPE_CHECKING

from kdnb.analysis import representation  # its analyses are registered
from kdnb.analysis.registry import Analysis, Observed, Subject, analysis, get, names

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
    "Analysis",
    "Observed",
    "Subject",
    "active_neurons",
    "analysis",
    "get",
    "linear_cka",
    "names",
    "nearest_centroid",
    "qmi",
    "representation",
]


def __getattr__(name: str) -> object:
    if name not in _ON_TENSORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ON_TENSORS[name]), name)
