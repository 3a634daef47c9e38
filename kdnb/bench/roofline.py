"""What the machine itself allows: measured matmul and copy rates, and what one image asks of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kdnb import models
from kdnb.training.numerics import Numerics


@dataclass(frozen=True)
class Work:
    """What one training image costs at least: floating-point operations and bytes moved."""

    flops: float
    bytes: float


def kd_work(teacher: str, student: str, classes: int, side: int, size_of: int) -> dict[str, Work]:
    """The least work per image of the teacher's forward and of the student's forward and backward.

    FLOPs count multiply and add apart.  Bytes count each convolution's input and output once per pass that
    needs them: forward (read input, write output); backward (read input, read output's gradient for the
    weights and again for the input, write the input's gradient).  All else is taken as fused.
    """
    forward_t, maps_t = _forward(teacher, classes, side)
    forward_s, maps_s = _forward(student, classes, side)
    return {
        "teacher": Work(forward_t, size_of * maps_t),
        "student": Work(3 * forward_s, 3 * size_of * maps_s),
    }


def machine(numerics: Numerics) -> dict[str, float]:
    """Measured rates: matmul in FLOP/s at the run's precision, copy in bytes/s (read and write counted)."""
    device, dtype = numerics.torch_device, numerics.torch_dtype
    on_cuda = device.type == "cuda"
    n = 8192 if on_cuda else 1536
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    source = torch.zeros((2**30 if on_cuda else 2**27), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return {
        "matmul_flops": 2 * n**3 / _seconds(lambda: a @ b, on_cuda),
        "copy_bytes": 2 * len(source) / _seconds(lambda: target.copy_(source), on_cuda),
    }


def seconds_per_image(work: Work, rates: dict[str, float]) -> float:
    """Roofline time: whichever of arithmetic and traffic takes longer."""
    return max(work.flops / rates["matmul_flops"], work.bytes / rates["copy_bytes"])


def _seconds(run: Callable[[], object], on_cuda: bool, rounds: int = 7) -> float:
    def once() -> float:
        if on_cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        if on_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - began

    once()
    return min(once() for _ in range(rounds)) if on_cuda else statistics.median(once() for _ in range(rounds))


def _forward(name: str, classes: int, side: int) -> tuple[float, float]:
    """FLOPs of one image's forward, and the values that its convolutions read and write."""
    network = models.create(name, classes).eval()
    values = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal values
        values += inputs[0].numel() + output.numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, side, side))
    return float(counter.get_total_flops()), float(values)
