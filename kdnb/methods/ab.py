"""AB, activation boundaries (Heo et al. 2019), in two steps: first which neurons fire, then training as usual.

Step 1 sees no labels: where the teacher's maps before their ReLU are of another width than the student's, connectors
(1x1 convolution and batch norm) bring the student's to it, and only the side of zero on which the teacher's lie
counts.  Everything but the classifier learns.  The standard benchmark has it so; its authors have connectors always.
"""

from __future__ import annotations

import torch
from torch import nn

from kdnb import losses
from kdnb.losses.common import to_smaller
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage
from kdnb.models.network import conv_norm

#: The standard benchmark's factor on the sum over a map.
SCALE = 3e-3


@method("ab", revision=2, shared=("boundary",))
def ab(setup: Setup, boundary_epochs: int = 30, boundary_margin: float = 1.0) -> list[Stage]:
    """Step 1: L = 0.003 sum_j 2^(j-n) boundary_j over stages j = 1..n, paired from the last.  Step 2: labels, or KD."""
    student, teacher = setup.student, setup.teacher_network()
    common = setup.common_stages
    widths = list(zip(student.stage_widths[-common:], teacher.stage_widths[-common:], strict=True))
    connectors = setup.build("connectors", lambda: nn.ModuleList(_connector(ours, wide) for ours, wide in widths))

    def objective(batch: Batch) -> Losses:
        maps = zip(
            connectors, batch.student.preactivations[-common:], batch.teacher.preactivations[-common:], strict=True
        )
        terms = [
            losses.boundary(*to_smaller(connector(ours), theirs), boundary_margin) / 2 ** (common - 1 - number)
            for number, (connector, ours, theirs) in enumerate(maps)
        ]
        return {"boundary": SCALE * torch.stack(terms).sum()}

    first = setup.training(
        objective,
        name="boundary",
        modules={"connectors": connectors},
        trainable=[*student.trunk(len(student.stages)), connectors],
        epochs=boundary_epochs,
        student_depth=len(student.stages),
        teacher_depth=len(teacher.stages),
        selection=None,
        shared=True,
    )
    return [first, setup.training(setup.supervision)]


def _connector(ours: int, wide: int) -> nn.Module:
    """Nothing where the widths are equal: then each neuron has its own like."""
    return nn.Identity() if ours == wide else conv_norm(ours, wide, 1)
