"""How a run is computed: fixed when it starts, kept in its checkpoint, told in its record.

Under the same numerics the same seed gives the same numbers, bit for bit on a CPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from kdnb.errors import KdnbError, StoreError, reason, unknown
from kdnb.training.allocator import keep_freed_memory
from kdnb.training.bfloat16 import Widened, has_bfloat16

#: Records of old have the mode.  Compiled steps took a minute to make, and then ResNet-8 and ResNet-20 trained at 0.91
#: to 1.01 times the eager rate on one processor, at 1.00 to 1.15 times it on two others: no gain to rely on.
COMPILED = "Compiled steps are gone: they cost a minute to make and gained too little; use --mode eager."

#: More threads than this no processor has; whoever asks for them from elsewhere would end the process.
MOST_THREADS = 1024
#: Steps as CUDA graphs: one for each run beside the shared one, or one for all (`kdnb.training.capture`).
CAPTURED = ("captured", "forked")

#: What oneDNN's kernels are written for, as its limit ($ONEDNN_MAX_CPU_ISA) calls it, and what a processor must have.
ONEDNN = (
    ("SSE41", "sse4_1"),
    ("AVX", "avx"),
    ("AVX2", "avx2"),
    ("AVX2_VNNI", "avx_vnni"),
    ("AVX512_CORE", "avx512_f"),
    ("AVX512_CORE_VNNI", "avx512_vnni"),
    ("AVX512_CORE_BF16", "avx512_bf16"),
    ("AVX512_CORE_FP16", "avx512_fp16"),
    ("AVX512_CORE_AMX", "amx_tile"),
    ("AVX512_CORE_AMX_FP16", "amx_fp16"),
)


@dataclass(frozen=True)
class Numerics:
    """Device, precision, and the way a step is executed.

    `mode` is `eager`, `captured` (CUDA graphs) or `forked` (one graph for all that train together); records of old
    also have `compiled`.  `threads` counts on a CPU, where the order of a reduction depends on it.
    `instructions` are those that kernels use; records and checkpoints of old do not say.
    """

    device: str
    dtype: str
    mode: str
    threads: int
    deterministic: bool
    torch_version: str
    instructions: str = ""

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    @property
    def torch_dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """The student's forward runs in here; weights stay in float32.

        The cache of cast weights is off: a captured step must not keep a tensor from outside the graph.
        """
        if self.dtype != "bfloat16":
            yield
            return
        cached = self.mode not in CAPTURED
        with self.arithmetic(), torch.autocast(self.torch_device.type, self.torch_dtype, cache_enabled=cached):
            yield

    def arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        """Whatever computes in bfloat16 runs in here, a frozen teacher too: a processor may lack the arithmetic."""
        lacking = self.device == "cpu" and self.dtype == "bfloat16" and not has_bfloat16()
        return Widened() if lacking else contextlib.nullcontext()

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def detect(
    device: str = "auto",
    dtype: str = "auto",
    mode: str = "auto",
    deterministic: bool | None = None,
    threads: int | None = None,
) -> Numerics:
    """The numerics of this machine, but for what is asked: on CUDA bf16 where it has it, and captured steps.

    On a CPU that is float32: whether bf16 is faster there depends on the networks (`kdnb.training.probe`).
    A CPU is deterministic as it is; on CUDA `deterministic` picks kernels that repeat, for some time.

    Raises KdnbError for a device that is not there, for a mode that it has not, and for threads beyond all use.
    """
    kind = _device(device)
    if dtype == "auto":
        dtype = "bfloat16" if kind == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if dtype not in ("bfloat16", "float32"):
        raise unknown("precision", dtype, ["bfloat16", "float32"])
    if deterministic is None:
        deterministic = kind == "cpu"
    if kind == "cuda":
        threads = 1
    threads = threads or torch.get_num_threads()
    if not 1 <= threads <= MOST_THREADS:
        raise KdnbError(f"Threads are 1 to {MOST_THREADS}; {threads} are none that a processor has.")
    return Numerics(kind, dtype, _mode(mode, kind), threads, deterministic, torch.__version__, instruction_set(kind))


def restored(told: dict[str, Any]) -> Numerics:
    """The numerics that a checkpoint tells; StoreError, with the reason, where they cannot be computed here."""
    try:
        theirs = Numerics(**told)
    except TypeError as error:
        raise StoreError(f"its checkpoint was made by another version ({reason(error)})") from error
    try:
        here = detect(theirs.device, theirs.dtype, theirs.mode, theirs.deterministic, theirs.threads)
    except KdnbError as error:
        raise StoreError(f"its checkpoint's numerics cannot be computed here ({reason(error)})") from error
    if alike(theirs.as_dict(), here.as_dict()):
        return here
    other = [
        f"{name.replace('_', ' ')} {value}, here {getattr(here, name)}"
        for name, value in theirs.as_dict().items()
        if value not in ("", getattr(here, name))
    ]
    raise StoreError(f"its checkpoint was made under numerics that cannot be computed here ({'; '.join(other)})")


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two tell the same numerics, as far as both tell them."""
    return all(one[name] == other[name] for name in one.keys() & other.keys() if "" not in (one[name], other[name]))


def instruction_set(kind: str = "cpu") -> str:
    """The instructions that kernels of this process use: PyTorch's own ones and oneDNN's, or a GPU's kind."""
    if kind == "cuda":
        return "sm_{}{}".format(*torch.cuda.get_device_capability())
    limit = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").upper()
    names = [name for name, _ in ONEDNN]
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    usable = ONEDNN[: names.index(limit) + 1] if limit in names else ONEDNN
    best = [name for name, flag in usable if has.get(flag)]
    return torch.backends.cpu.get_cpu_capability() + (f", oneDNN {best[-1]}" if best else "")


def apply(numerics: Numerics) -> None:
    """Set the process-wide switches that these numerics stand for."""
    if numerics.device == "cpu":
        torch.set_num_threads(numerics.threads)
        keep_freed_memory()
        return
    torch.backends.cuda.matmul.allow_tf32 = False  # what is computed in float32 is meant to be: losses, scores
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = not numerics.deterministic
    torch.backends.cudnn.deterministic = numerics.deterministic
    if numerics.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, before its first use
    torch.use_deterministic_algorithms(numerics.deterministic, warn_only=True)


def wait(numerics: Numerics) -> None:
    """Until the device has done what it was given: a GPU's steps are only queued."""
    if numerics.device == "cuda":
        torch.cuda.synchronize()


def _device(device: str) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise unknown("device", device, ["auto", "cpu", "cuda"])
    if device == "cuda" and not torch.cuda.is_available():
        raise KdnbError("No CUDA device is at hand on this machine; use --device cpu, or auto.")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _mode(mode: str, kind: str) -> str:
    if mode == "auto":
        return "captured" if kind == "cuda" else "eager"
    if mode == "compiled":
        raise KdnbError(COMPILED)
    if mode not in ("eager", *CAPTURED):
        raise unknown("mode of execution", mode, ["auto", "eager", *CAPTURED])
    if mode in CAPTURED and kind != "cuda":
        raise KdnbError("Only a CUDA device captures steps in a graph; use --mode eager on a CPU.")
    return mode


def processor() -> str:
    """The processor's name, as its maker has it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as stream:
        for line in stream:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
