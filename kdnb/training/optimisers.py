"""From an `Optimiser` of a stage to torch's, fused where torch has it fused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from kdnb.errors import unknown
from kdnb.methods.stage import Optimiser


def make(spec: Optimiser, modules: Iterable[nn.Module], device: torch.device) -> torch.optim.Optimizer:
    """One optimiser over the parameters of `modules`, each counted once.

    On CUDA the learning rate is a tensor there, so that a captured step can follow the schedule.
    """
    parameters = list({id(p): p for m in modules for p in m.parameters() if p.requires_grad}.values())
    on_cuda = device.type == "cuda"
    lr: Any = torch.tensor(spec.lr, device=device) if on_cuda else spec.lr
    if spec.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=lr,
            momentum=spec.momentum,
            weight_decay=spec.weight_decay,
            nesterov=spec.nesterov,
            fused=True,
        )
    if spec.name == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=spec.weight_decay, fused=True, capturable=on_cuda)
    if spec.name == "rmsprop":
        return torch.optim.RMSprop(
            parameters, lr=lr, momentum=spec.momentum, weight_decay=spec.weight_decay, capturable=on_cuda
        )
    raise unknown("optimiser", spec.name, ["sgd", "adam", "rmsprop"])


def restart(optimiser: torch.optim.Optimizer) -> None:
    """Forget moments and step counts, in place: a captured step goes on with these very tensors.

    From here on the optimiser does what one that is made anew would do.
    """
    for slots in optimiser.state.values():
        for value in slots.values():
            if isinstance(value, torch.Tensor):
                value.zero_()


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate in place."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
