"""bfloat16 where the processor has no such arithmetic: the same values, by kernels of float32."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from study_samples import TINY, experiment, keep_teacher
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from kdnb.study.experiment import Run
from kdnb.study.store import Store
from kdnb.study.workbench import Workbench
from kdnb.training import numerics as numerics_module
from kdnb.training import probe
from kdnb.training.bfloat16 import Widened
from kdnb.training.cohort import Cohort
from kdnb.training.member import Member
from kdnb.training.numerics import detect
from kdnb.training.probe import Layer

HALF = detect("cpu", dtype="bfloat16", mode="eager", threads=1)
ORDINARY = Layer(16, 32, (3, 3), (2, 2), (1, 1), (1, 1), 1, (16, 16))
DEPTHWISE = Layer(16, 16, (3, 3), (1, 1), (1, 1), (1, 1), 16, (8, 8))
#: A step of bfloat16's is 2^-8 of a value; rounding errs by half of it, and a sum in float32 may fall on either side.
STEP = 2**-8


@pytest.fixture
def lacking(monkeypatch):
    """A processor without the arithmetic."""
    monkeypatch.setattr(numerics_module, "has_bfloat16", lambda: False)


class Kernels(TorchDispatchMode):
    """Which types the convolutions that are really computed have, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.met: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name.startswith("convolution"):
            self.met.setdefault(name, set()).update(x.dtype for x in args[:2])
        return func(*args, **(kwargs or {}))


@pytest.mark.arithmetic
@pytest.mark.parametrize("layer", [ORDINARY, DEPTHWISE])
def test_a_convolution_is_the_exact_sum_of_rounded_values_rounded(layer):
    torch.manual_seed(1)
    conv, images = layer.build(), layer.images(4).requires_grad_()
    with Widened(), torch.autocast("cpu", torch.bfloat16), Kernels() as kernels:
        out = conv(images)
        grad = torch.randn_like(out)
        found = torch.autograd.grad(out, [images, conv.weight], grad)
    assert kernels.met == {"convolution": {torch.float32}, "convolution_backward": {torch.float32}}
    assert out.dtype == torch.bfloat16 and {g.dtype for g in found} == {torch.float32}

    exact, rounded = layer.build().double(), images.detach().bfloat16().double().requires_grad_()
    with torch.no_grad():
        exact.weight.copy_(conv.weight.bfloat16())
    truth = exact(rounded)
    expected = (truth.detach(), *torch.autograd.grad(truth, [rounded, exact.weight], grad.double()))
    for value, true in zip((out.detach(), *found), expected, strict=True):
        assert torch.equal(value.bfloat16().to(value.dtype), value)  # rounded, the gradients too
        torch.testing.assert_close(value.double(), true, rtol=STEP, atol=1e-5)


@pytest.mark.arithmetic
@pytest.mark.parametrize("layer", [ORDINARY, DEPTHWISE])
def test_it_is_as_right_as_a_kernel_of_bfloat16_has_to_be(layer):
    torch.manual_seed(3)
    with Widened():
        assert probe.agree(layer)


@pytest.mark.arithmetic
def test_a_bias_and_what_upsamples_are_rounded_too():
    torch.manual_seed(2)
    up, images = nn.ConvTranspose2d(4, 3, 2, 2), torch.randn(2, 4, 5, 5)
    with Widened(), torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        out = up(images)
    low = nn.ConvTranspose2d(4, 3, 2, 2).double()
    with torch.no_grad():
        low.weight.copy_(up.weight.bfloat16()), low.bias.copy_(up.bias.bfloat16())
        torch.testing.assert_close(out.double(), low(images.bfloat16().double()), rtol=STEP, atol=1e-5)
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_not_in_bfloat16_stays_as_it_is(dtype):
    torch.manual_seed(4)
    conv, images = ORDINARY.build().to(dtype), ORDINARY.images(2).to(dtype)
    with torch.no_grad():
        plain = conv(images)
    with torch.no_grad(), Widened():
        assert torch.equal(conv(images), plain)
        with torch.autocast("cpu", torch.bfloat16):
            assert conv(images).dtype == (torch.bfloat16 if dtype == torch.float32 else torch.float64)


def test_only_a_cpu_that_lacks_it_is_helped(monkeypatch):
    single = dataclasses.replace(HALF, dtype="float32")
    monkeypatch.setattr(numerics_module, "has_bfloat16", lambda: True)
    assert not isinstance(HALF.arithmetic(), Widened)
    monkeypatch.setattr(numerics_module, "has_bfloat16", lambda: False)
    assert isinstance(HALF.arithmetic(), Widened)
    for other in (single, dataclasses.replace(HALF, device="cuda")):
        assert not isinstance(other.arithmetic(), Widened)


def test_teacher_and_student_train_without_a_kernel_of_bfloat16(lacking):
    store = Store.open()
    taught = experiment("kd", TINY)
    bench = Workbench(store, HALF)
    teacher = bench.teacher(keep_teacher(taught, store))
    assert next(teacher.parameters()).dtype == torch.bfloat16
    material, _ = bench.material(taught.images)
    member = Member(bench.stages(Run(taught, 1))[0], "kd", 1, HALF)
    with Kernels() as kernels:
        running = Cohort([member], teacher, material, HALF).steps()
        for _ in range(2):
            next(running)
    assert kernels.met == {"convolution": {torch.float32}, "convolution_backward": {torch.float32}}
    assert {p.dtype for p in member.student.parameters()} == {torch.float32}
