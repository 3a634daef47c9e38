"""A watch for what a CUDA graph cannot hold, that works on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

#: Operations that make the host wait for the device, copy from the host, or whose shape depends on values.
FORBIDDEN = (
    "_local_scalar_dense",
    "bincount",
    "equal",
    "is_nonzero",
    "lift_fresh",
    "masked_select",
    "nonzero",
    "unique",
)


class capturable(TorchDispatchMode):
    """`with capturable():` fails on the first operation that could not be captured."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in FORBIDDEN, f"{name} cannot be captured in a graph"
        if name in ("index", "index_put", "index_put_"):
            masks = [i for i in args[1] if i is not None and i.dtype == torch.bool]
            assert not masks, f"{name} by a mask cannot be captured in a graph"
        return func(*args, **(kwargs or {}))
