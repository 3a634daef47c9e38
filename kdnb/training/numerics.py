"""How a run is computed: fixed when it starts, kept in its checkpoint, told in its record.

Under the same numerics the same seed gives the same numbers, bit for bit on a CPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from dataclasses import dataclass
from typing import Any

import torch

from kdnb.errors import KdnbError, unknown

#: A run on a CPU is compiled from so many images on: compiling takes up to a minute, and gains a tenth to a
#: sixth of the time (ResNet-8: 1,750 -> 2,000 images/s; ResNet-20: 605 -> 690).
WORTH_COMPILING = 200_000


@dataclass(frozen=True)
class Numerics:
    """Device, precision, and the way a step is executed.

    `mode` is `eager`, `compiled` (CPU) or `captured` (a CUDA graph); before a run starts it may also be
    `auto`, see `for_images`.  `threads` counts on a CPU, where the order of a reduction depends on it.
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

    def for_images(self, images: int) -> Numerics:
        """What a run that sees so many images is computed with: `auto` decides, all else stays.

        It depends on the run and the machine alone, never on company, and so does every number.
        """
        if self.mode != "auto":
            return self
        worthwhile = images >= WORTH_COMPILING and compiler() is not None
        return dataclasses.replace(self, mode="compiled" if worthwhile else "eager")

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def detect(
    device: str = "auto", dtype: str = "auto", mode: str = "auto", deterministic: bool | None = None
) -> Numerics:
    """The numerics of this machine: bf16 where it is faster, captured steps on CUDA.

    A CPU is deterministic as it is; on CUDA `deterministic` picks kernels that repeat, for some time.

    Raises KdnbError for a device that is not there.
    """
    kind = _device(device)
    if dtype == "auto":
        dtype = "bfloat16" if _has_bfloat16(kind) else "float32"
    if dtype not in ("bfloat16", "float32"):
        raise unknown("precision", dtype, ["bfloat16", "float32"])
    if mode == "auto" and kind == "cuda":
        mode = "captured"
    if mode not in ("auto", "eager", "compiled", "captured"):
        raise unknown("mode of execution", mode, ["auto", "eager", "compiled", "captured"])
    if mode == "compiled" and (kind == "cuda" or compiler() is None):
        raise KdnbError("Compiled steps are for a CPU, and need a C++ compiler (g++ or $CXX); use --mode auto.")
    if mode == "captured" and kind != "cuda":
        raise KdnbError("Only a CUDA device captures steps in a graph; use --mode eager or compiled on a CPU.")
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
    if numerics.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, before its first use
    torch.use_deterministic_algorithms(numerics.deterministic, warn_only=True)


def _device(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise unknown("device", device, ["auto", "cpu", "cuda"])
    if device == "cuda" and not torch.cuda.is_available():
        raise KdnbError("No CUDA device is at hand on this machine; use --device cpu, or auto.")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def compiler() -> str | None:
    """The C++ compiler that compiled steps would use, or None."""
    return shutil.which(os.environ.get("CXX") or "g++")


def _has_bfloat16(kind: str) -> bool:
    """Whether bf16 is faster than float32 here.

    On a CPU that takes tiles (AMX).  With the AVX-512 dot product alone it was measured slower: ResNet-20
    trains at 460 images/s in bf16 and 605 in float32 on two such cores (torch 2.15).
    """
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_amx_tile_supported())
