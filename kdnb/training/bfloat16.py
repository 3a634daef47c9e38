"""bfloat16 on a processor without its arithmetic: convolutions of values in bfloat16, by kernels of float32.

Where a processor has the arithmetic, a convolution multiplies bfloat16 numbers, adds their products up in float32 and
rounds the sum.  Kernels of float32 do the same with numbers that were rounded before: a product of two of them is
exact.  PyTorch's own way around takes eight times as long as float32 or more, this one 1.1 to 1.4 times.  So a table
that was begun in bfloat16 goes on anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = frozenset({
    torch.conv1d, torch.conv2d, torch.conv3d,
    torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d,
})  # fmt: skip


def has_bfloat16() -> bool:
    """Whether the library of kernels knows this processor's bfloat16 arithmetic; without it, it takes the long way."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Widened(TorchFunctionMode):
    """Within it, a CPU's convolutions that would be computed in bfloat16 are, with kernels of float32.

    What comes out is bfloat16, and so is every gradient on its way back; weights' gradients end in the weights' type.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func not in CONVOLUTIONS or not _in_bfloat16(args[0] if args else given["input"]):
            return func(*args, **given)
        with torch.autocast("cpu", enabled=False):
            found: Tensor = func(*map(_wide, args), **{name: _wide(value) for name, value in given.items()})
            return found.bfloat16()


def _in_bfloat16(images: Tensor) -> bool:
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16 and images.dtype != torch.float64
    return images.dtype == torch.bfloat16


def _wide(value: Any) -> Any:
    """A tensor rounded to bfloat16, as float32; anything else as it is."""
    return value.bfloat16().float() if isinstance(value, Tensor) else value
