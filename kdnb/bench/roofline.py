"""What the machine itself allows: the best rates that it has shown, and what one image asks of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kdnb import models
from kdnb.training.numerics import Numerics
from kdnb.training.probe import BATCH, Layer


@dataclass(frozen=True)
class Work:
    """What one training image costs at least: floating-point operations and bytes moved."""

    flops: float
    bytes: float

    def with_share(self, other: Work, among: int) -> Work:
        """This and a share of what is done once for so many: a student's work and its part of the teacher's."""
        return Work(self.flops + other.flops / among, self.bytes + other.bytes / among)


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


@dataclass
class Rates:
    """The best that this machine has shown in the precision in use, in FLOP/s and bytes/s (read and write counted).

    `products` of large matrices, `convolutions` of the networks' own shapes, `copies` of their maps and of much more;
    `steps` and `traffic` are what whole training steps reached.  The roofline is the best of all, so that nothing
    measured lies above it.
    """

    products: float = 0.0
    convolutions: float = 0.0
    copies: float = 0.0
    steps: float = 0.0
    traffic: float = 0.0

    @property
    def flops(self) -> float:
        """FLOP/s at best."""
        return max(self.products, self.convolutions, self.steps)

    @property
    def bytes(self) -> float:
        """Bytes/s at best."""
        return max(self.copies, self.traffic)

    def measure(self, numerics: Numerics, layers: Iterable[Layer]) -> None:
        """Let the machine show what it can; what it has shown before and does not reach now stays."""
        device, dtype = numerics.torch_device, numerics.torch_dtype
        on_cuda = device.type == "cuda"
        n = 8192 if on_cuda else 1024
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        self.products = max(self.products, 2 * n**3 / _seconds(lambda: a @ b, on_cuda))
        for layer in layers:
            conv, images = layer.build().to(device, dtype), layer.images(BATCH).to(device, dtype)
            with torch.no_grad():
                best = _seconds(lambda conv=conv, images=images: conv(images), on_cuda)  # type: ignore[misc]
            self.convolutions = max(self.convolutions, layer.flops(BATCH) / best)
            self._copy(images, on_cuda)
        self._copy(torch.zeros(2**30 if on_cuda else 2**27, dtype=torch.uint8, device=device), on_cuda)

    def reached(self, work: Work, rate: float) -> None:
        """Training steps went at so many images per second, each of them so much work."""
        self.steps, self.traffic = max(self.steps, rate * work.flops), max(self.traffic, rate * work.bytes)

    def _copy(self, source: Tensor, on_cuda: bool) -> None:
        target = torch.empty_like(source)
        seconds = _seconds(lambda: target.copy_(source), on_cuda)
        self.copies = max(self.copies, 2 * source.numel() * source.element_size() / seconds)


def seconds_per_image(work: Work, rates: Rates) -> float:
    """Roofline time: whichever of arithmetic and traffic takes longer."""
    return max(work.flops / rates.flops, work.bytes / rates.bytes)


def launch_seconds(graphs: int = 200) -> float:
    """What it costs on CUDA to launch a captured graph of one small kernel."""
    value = torch.zeros(1, device="cuda")
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        value.add_(1)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        value.add_(1)

    def launch() -> None:
        for _ in range(graphs):
            graph.replay()

    return _seconds(launch, on_cuda=True) / graphs


def _seconds(run: Callable[[], object], on_cuda: bool, rounds: int = 5) -> float:
    """The fastest of some rounds, after one that does not count."""

    def once() -> float:
        if on_cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        if on_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - began

    once()
    return min(once() for _ in range(rounds))


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
