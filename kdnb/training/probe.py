"""Whether bfloat16 trains faster than float32 on this CPU: measured on the layers of the networks at hand.

No flag of a processor tells: some have the arithmetic and are slower by it, and kernels of some versions are wrong.
So each shape of convolution, with the batch norm and ReLU behind it, is run in both precisions, once a machine, torch
version and thread count; what was found is kept, and networks that share shapes share it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdnb import models, paths
from kdnb.errors import StoreError
from kdnb.kinds import parsed
from kdnb.lock import acquire
from kdnb.training.bfloat16 import has_bfloat16
from kdnb.training.checkpoint import write_atomically
from kdnb.training.numerics import instruction_set, processor

#: bfloat16 is taken from so many times the speed of float32 on: noise moves a measurement by less.
MARGIN = 1.15
#: Images in a batch, as most stages of the study have them.
BATCH = 64
#: Each shape is run so often in each precision, in turns; the fastest counts.
ROUNDS = 5
#: From here on it is plain that bfloat16 is the slower one, as it is where a version lacks the kernel.
HOPELESS = 4.0

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, order=True)
class Layer:
    """The shape of a convolution: channels in and out, kernel, stride, padding, dilation, groups, side of its input."""

    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    side: tuple[int, int]

    @property
    def key(self) -> str:
        """The shape as text, by which its measurement is kept."""
        return " ".join(f"{name} {value}" for name, value in asdict(self).items())

    def build(self) -> nn.Conv2d:
        """A convolution of this shape, without bias as before a batch norm, channels last."""
        return nn.Conv2d(
            self.inputs, self.outputs, self.kernel, self.stride, self.padding, self.dilation, self.groups, bias=False
        ).to(memory_format=torch.channels_last)

    def images(self, batch: int) -> Tensor:
        """Random inputs, channels last."""
        return torch.randn(batch, self.inputs, *self.side).contiguous(memory_format=torch.channels_last)

    def flops(self, batch: int) -> float:
        """Floating-point operations of its forward: multiply and add apart."""
        height, width = (
            (side + 2 * pad - step * (size - 1) - 1) // stride + 1
            for side, pad, step, size, stride in zip(
                self.side, self.padding, self.dilation, self.kernel, self.stride, strict=True
            )
        )
        per_value = 2 * self.kernel[0] * self.kernel[1] * self.inputs // self.groups
        return float(batch * height * width * self.outputs * per_value)


@dataclass(frozen=True)
class Measured:
    """One shape: seconds of a batch's forward and backward by precision, and whether both give the same."""

    seconds: dict[str, float]
    agrees: bool


@dataclass(frozen=True)
class Found:
    """How many times as fast bfloat16 is over all layers of a network, and over the grouped ones among them.

    `wrong` are the shapes where they do not agree.  `kept` says where it is kept, `seconds` how long it took.
    """

    ratio: float
    grouped: float | None = None
    wrong: tuple[str, ...] = ()
    seconds: float = 0.0
    kept: str = ""

    @property
    def dtype(self) -> str:
        """The precision to train in."""
        slow = self.grouped is not None and self.grouped < 1
        return "float32" if self.wrong or slow or self.ratio < MARGIN else "bfloat16"

    @property
    def told(self) -> str:
        """One line for people."""
        if not self.ratio:
            return "float32: this processor has no bfloat16 arithmetic"
        apart = "" if self.grouped is None else f", its grouped convolutions {self.grouped:.2f} times"
        wrong = f"; bfloat16 is wrong for {len(self.wrong)} shapes ({self.wrong[0]})" if self.wrong else ""
        took = f"; measured in {self.seconds:.0f} s, {self.kept}" if self.seconds else f"; {self.kept}"
        return f"{self.dtype}: bfloat16 is {self.ratio:.2f} times as fast here{apart}{wrong}{took}"


def probe(
    network: str, classes: int, side: int, again: bool = False, say: Callable[[str], None] = lambda line: None
) -> Found:
    """Compare the precisions on the layers of a network that learns, as this process computes (its threads).

    What is kept from before is not measured again, except where `again` says so.  A teacher does not count: else a
    student with one and a student without might be computed in two precisions, and compared.
    """
    if not has_bfloat16():
        return Found(0.0)
    wanted = layers(network, classes, side)
    began = time.perf_counter()
    with _kept() as kept:
        fresh = [layer for layer in sorted(wanted) if again or layer.key not in kept.measured]
        if fresh:
            say(f"measuring {len(fresh)} shapes of convolution in float32 and bfloat16, once on this machine")
        for layer in fresh:
            kept.measured[layer.key] = measure(layer)
        where = kept.save() if fresh else kept.where
    return judged(wanted, kept.measured, time.perf_counter() - began if fresh else 0.0, where)


def judged(wanted: Counter[Layer], measured: dict[str, Measured], seconds: float = 0.0, kept: str = "") -> Found:
    """The verdict over a network's layers, each as often as it occurs."""

    def ratio(of: Iterable[Layer]) -> float:
        single, half = (sum(wanted[x] * measured[x.key].seconds[dtype] for x in of) for dtype in PRECISIONS)
        return single / half

    grouped = [layer for layer in wanted if layer.groups > 1]
    wrong = tuple(layer.key for layer in sorted(wanted) if not measured[layer.key].agrees)
    return Found(ratio(wanted), ratio(grouped) if grouped else None, wrong, seconds, kept)


def layers(name: str, classes: int, side: int) -> Counter[Layer]:
    """The shapes of a network's convolutions on images of this side, each with how often it occurs."""
    found: Counter[Layer] = Counter()

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d) and not isinstance(module.padding, str)
        shape = (module.kernel_size, module.stride, module.padding, module.dilation)
        kernel, stride, padding, dilation = ((int(pair[0]), int(pair[1])) for pair in shape)
        height, width = inputs[0].shape[2:]
        place = (module.in_channels, module.out_channels, kernel, stride, padding, dilation)
        found[Layer(*place, module.groups, (height, width))] += 1

    with torch.random.fork_rng(devices=[]):
        network = models.create(name, classes).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    with torch.no_grad():
        network(torch.zeros(1, 3, side, side))
    return found


# -- one layer -----------------------------------------------------------------------------------------------


def measure(layer: Layer) -> Measured:
    """Both precisions in turns, the fastest of some rounds; and whether they agree."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        steps = {dtype: _step(layer, dtype) for dtype in PRECISIONS}
        agrees = agree(layer)
    best: dict[str, float] = dict.fromkeys(PRECISIONS, float("inf"))
    for _ in range(ROUNDS):
        for dtype, step in steps.items():
            best[dtype] = min(best[dtype], _seconds(step))
        if best["bfloat16"] > HOPELESS * best["float32"]:
            break
    return Measured(best, agrees)


def _step(layer: Layer, dtype: str) -> Callable[[], object]:
    """Forward and backward of the convolution, its batch norm and a ReLU, as in training; it was run once."""
    precision: torch.dtype = getattr(torch, dtype)
    conv, norm = layer.build(), nn.BatchNorm2d(layer.outputs)
    images = layer.images(BATCH).to(precision).requires_grad_()

    def step() -> None:
        with torch.autocast("cpu", precision, enabled=dtype != "float32"):
            out = F.relu(norm(conv(images)))
        torch.autograd.grad(out, [images, conv.weight], torch.ones_like(out))

    step()
    return step


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def agree(layer: Layer, batch: int = 4) -> bool:
    """Whether a bfloat16 convolution gives what bfloat16 can: its values, and its gradients for images and weights.

    Each is a sum of products of random numbers, exact in float64.  Summed in bfloat16, whose step is 2^-8, it is off by
    some steps of itself and of its partial sums, which are as large as the root of the squares' sum: eight are allowed.
    A kernel that leaves out a term is off by more.
    """
    conv, images = layer.build().bfloat16(), layer.images(batch).bfloat16()
    with torch.no_grad():
        grad = torch.randn_like(conv(images))
    found = _sums(conv, images, grad)
    exact = _sums(conv.double(), images.double(), grad.double())
    with torch.no_grad():
        conv.weight.square_()
    squares = _sums(conv, images.double().square(), grad.double().square())
    return all(
        bool(((value.double() - true).abs() <= 8 * 2**-8 * (true.abs() + square.sqrt())).all())
        for value, true, square in zip(found, exact, squares, strict=True)
    )


def _sums(conv: nn.Conv2d, images: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    """The convolution's values, and its gradients for images and weights."""
    images = images.detach().requires_grad_()
    out = conv(images)
    return (out.detach(), *torch.autograd.grad(out, [images, conv.weight], grad))


# -- what is kept --------------------------------------------------------------------------------------------


class _Kept:
    """The measurements of this machine, torch and thread count: a file of the user's cache."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.measured: dict[str, Measured] = {}
        # No file, or no whole one: anew.
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            content = parsed(path.read_bytes()) if path else {}
            if all(content.get(name) == value for name, value in _place().items()):
                self.measured = {key: _measured(value) for key, value in content["layers"].items()}

    @property
    def where(self) -> str:
        """Where it is kept, for people."""
        return f"kept in {paths.from_home(self.path)}" if self.path else "not kept, since there is no folder for it"

    def save(self) -> str:
        """Write the file, if there can be one, and say where."""
        content = _place() | {"layers": {key: asdict(value) for key, value in self.measured.items()}}
        try:
            if self.path is not None:
                write_atomically(self.path, (json.dumps(content, indent=1) + "\n").encode())
        except StoreError:
            self.path = None
        return self.where


def _measured(told: Any) -> Measured:
    return Measured({dtype: float(seconds) for dtype, seconds in told["seconds"].items()}, bool(told["agrees"]))


#: Seconds for which another process's measurement is waited for; after that this one measures, too.
LONGEST_PROBE = 600.0


@contextlib.contextmanager
def _kept() -> Iterator[_Kept]:
    """What is kept so far, while no other process measures; where there can be no file, nothing is kept."""
    text = json.dumps(_place(), sort_keys=True)
    path = paths.cache() / f"precision-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        yield _Kept(None)
        return
    held = acquire(path.with_name(f"{path.name}.lock"), LONGEST_PROBE)
    try:
        yield _Kept(path)
    finally:
        if held is not None:
            held.release()


def _place() -> dict[str, Any]:
    """What a measurement holds for."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "instruction_set": instruction_set(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
