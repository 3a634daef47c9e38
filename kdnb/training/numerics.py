"""How a run is computed: fixed when it starts, kept in its checkpoint, told in its record.

Under the same numerics the same seed gives the same numbers, bit for bit on a CPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import torch

from kdnb.errors import KdnbError, unknown


@dataclass(frozen=True)
class Numerics:
    """Device, precision, and the way a step is executed.

    `mode` is `eager`, `compiled` (CPU) or `captured` (a CUDA graph); `threads` counts on a CPU, where the
    order of a reduction depends on it.
    """

    device: str
    dtype: str
    mode: str
    threads: int
    deterministic: bool
    torch_version: str

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    @property
    def torch_dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The student's forward runs in here; weights stay in float32.

        The cache of cast weights is off: a captured step must not keep a tensor from outside the graph.
        """
        if self.dtype == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.torch_device.type, self.torch_dtype, cache_enabled=self.mode != "captured")

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def detect(
    device: str = "auto", dtype: str = "auto", mode: str = "auto", deterministic: bool | None = None
) -> Numerics:
    """The numerics of this machine: bf16 where the device computes in it, captured steps on CUDA.

    Raises KdnbError for a device that is not there.
    """
    kind = _device(device)
    if dtype == "auto":
        dtype = "bfloat16" if _has_bfloat16(kind) else "float32"
    if dtype not in ("bfloat16", "float32"):
        raise unknown("precision", dtype, ["bfloat16", "float32"])
    if mode == "auto":
        mode = "captured" if kind == "cuda" else "eager"
    if mode not in ("eager", "compiled", "captured"):
        raise unknown("mode of execution", mode, ["eager", "compiled", "captured"])
    if mode == "captured" and kind != "cuda":
        raise KdnbError(
            "Only a CUDA device captures steps in a graph; use --mode eager or compiled on a CPU."
        )
    if deterministic is None:
        deterministic = kind == "cpu"
    threads = torch.get_num_threads() if kind == "cpu" else 1
    return Numerics(kind, dtype, mode, threads, deterministic, torch.__version__)


def apply(numerics: Numerics) -> None:
    """Set the process-wide switches that these numerics stand for."""
    if numerics.device == "cpu":
        torch.set_num_threads(numerics.threads)
        return
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = not numerics.deterministic
    torch.backends.cudnn.deterministic = numerics.deterministic


def _device(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise unknown("device", device, ["auto", "cpu", "cuda"])
    if device == "cuda" and not torch.cuda.is_available():
        raise KdnbError("No CUDA device is at hand on this machine; use --device cpu, or auto.")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _has_bfloat16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    # Emulated bf16 is slower than float32: ask for the instructions, not for the data type.
    return bool(torch.cpu._is_avx512_bf16_supported()) and os.environ.get("KDNB_NO_BF16") is None
