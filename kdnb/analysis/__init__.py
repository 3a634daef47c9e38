"""What is measured on a trained network, and what of it is kept in its record and beside it.

The measurements on tensors and on networks stand here by their names too, whichever file they live in; torch comes with
the first.
"""

import importlib
from typing import TYPE_CHECKING

from kdnb.analysis.registry import ALWAYS, Measurement, Observed, Subject, get, measure, names

if TYPE_CHECKING:
    from kdnb.analysis.flatness import rise_under_noise, sharpness
    from kdnb.analysis.information import nearest_centroid, qmi
    from kdnb.analysis.lrp import relevance
    from kdnb.analysis.neurons import active_neurons, loss_gradients
    from kdnb.analysis.similarity import channel_cka, stage_cka
    from kdnb.losses.relations import linear_cka

#: Measurement -> the file that it lives in.
_ON_TENSORS = {
    "active_neurons": "kdnb.analysis.neurons",
    "channel_cka": "kdnb.analysis.similarity",
    "linear_cka": "kdnb.losses.relations",
    "loss_gradients": "kdnb.analysis.neurons",
    "nearest_centroid": "kdnb.analysis.information",
    "qmi": "kdnb.analysis.information",
    "relevance": "kdnb.analysis.lrp",
    "rise_under_noise": "kdnb.analysis.flatness",
    "sharpness": "kdnb.analysis.flatness",
    "stage_cka": "kdnb.analysis.similarity",
}

__all__ = [
    "ALWAYS",
    "Measurement",
    "Observed",
    "Subject",
    "active_neurons",
    "channel_cka",
    "get",
    "linear_cka",
    "loss_gradients",
    "measure",
    "names",
    "nearest_centroid",
    "qmi",
    "relevance",
    "rise_under_noise",
    "sharpness",
    "stage_cka",
]


def __getattr__(name: str) -> object:
    if name not in _ON_TENSORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ON_TENSORS[name]), name)
