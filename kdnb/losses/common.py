"""What all losses share: their precision, the teacher as a constant, pairs of layers, sizes of maps."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.errors import KdnbError

P = ParamSpec("P")


#: The beginnings of the names of arguments that have an entry for each image of the batch.
PER_IMAGE = ("student", "teacher", "guide", "logits", "labels")


def loss(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Make a formula a loss: full precision in, and no gradient into what belongs to the teacher.

    Floating tensors (also in lists) below float32 are converted to float32, float64 stays; autocast is off
    inside; arguments whose names begin with `teacher` are detached.  Raises KdnbError where the arguments that have an
    entry an image (`PER_IMAGE`) are not of the same batch.
    """
    names = list(inspect.signature(function).parameters)
    constants = [name.startswith("teacher") for name in names]

    @functools.wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        known = zip(args, chain(constants, repeat(False)), strict=False)  # too many: the call below objects
        positional = [_ready(v, constant) for v, constant in known]
        need_one_batch(function.__name__, {**dict(zip(names, args, strict=False)), **kwargs})
        named = {name: _ready(v, name.startswith("teacher")) for name, v in kwargs.items()}
        with exactly(*positional, *named.values()):
            return function(*positional, **named)  # type: ignore[arg-type]

    return computed


def exactly(*arguments: Any) -> torch.autocast:
    """A context in which autocast is off on the device of the first tensor among the arguments."""
    flat = (t for a in arguments for t in (a if isinstance(a, list) else [a]))
    device = next((t.device.type for t in flat if isinstance(t, Tensor)), "cpu")
    return torch.autocast("cuda" if device == "cuda" else "cpu", enabled=False)  # others, as meta, have no autocast


def full(tensor: Tensor) -> Tensor:
    """The tensor in float32; float64 and whole numbers stay what they are."""
    return tensor.float() if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor


def _ready(value: Any, constant: bool) -> Any:
    if isinstance(value, list | tuple):
        return [_ready(v, constant) for v in value]
    if not isinstance(value, Tensor):
        return value
    return full(value.detach() if constant else value)


def layers(student: Sequence[Tensor], teacher: Sequence[Tensor], at_least: int = 1) -> list[tuple[Tensor, Tensor]]:
    """The pairs of a list loss; as many layers of the one as of the other, and not too few."""
    if len(student) != len(teacher) or len(student) < at_least:
        raise KdnbError(
            f"A loss over layers needs as many layers of the student as of the teacher, at least {at_least}; "
            f"it was given {len(student)} and {len(teacher)}."
        )
    return list(zip(student, teacher, strict=True))


def need_one_batch(what: str, arguments: Mapping[str, Any]) -> None:
    """An error where tensors of different batches would otherwise be broadcast against each other, or cut short."""
    sizes: dict[str, int] = {}
    for name, value in arguments.items():
        if name.startswith(PER_IMAGE):
            for tensor in value if isinstance(value, list | tuple) else [value]:
                if isinstance(tensor, Tensor) and tensor.dim():
                    sizes.setdefault(name, len(tensor))
                    if len(tensor) != next(iter(sizes.values())):
                        told = ", ".join(f"{n} {size}" for n, size in {**sizes, name: len(tensor)}.items())
                        raise KdnbError(f"{what}: its arguments are of different batches ({told} images).")


def need_same_shape(what: str, student: Tensor, teacher: Tensor) -> None:
    """An error where two tensors would otherwise be broadcast against each other."""
    if student.shape != teacher.shape:
        raise KdnbError(
            f"{what}: the student's shape {tuple(student.shape)} is not the teacher's "
            f"{tuple(teacher.shape)}; bring them together by a regressor first."
        )


def to_smaller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps [B, C, H, W] average-pooled to the smaller height and the smaller width of both."""
    height, width = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
    return pooled(a, height, width), pooled(b, height, width)


def pooled(maps: Tensor, height: int, width: int) -> Tensor:
    """Average pooling [B, C, H, W] -> [B, C, height, width].

    Where the sizes divide, plain pooling gives what adaptive pooling gives, and its gradient is
    reproducible on a GPU too.
    """
    if maps.shape[2:] == (height, width):
        return maps
    if maps.shape[2] % height == 0 and maps.shape[3] % width == 0:
        return F.avg_pool2d(maps, (maps.shape[2] // height, maps.shape[3] // width))
    return F.adaptive_avg_pool2d(maps, (height, width))


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """||a_i - b_j||^2 of vectors [..., n, D] and [..., m, D] -> [..., n, m], never below zero."""
    squares_a, squares_b = a.square().sum(-1), b.square().sum(-1)
    return (squares_a[..., :, None] + squares_b[..., None, :] - 2 * a @ b.mT).clamp_min(0)
