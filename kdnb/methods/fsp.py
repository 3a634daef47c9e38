"""FSP, "a gift from knowledge distillation" (Yim et al. 2017): first learn the flow between layers.

Step 1 sees no labels: the Gram matrices between the maps that enter and leave each stage (the stem's, and
the stages') are brought to the teacher's.  Everything but the classifier learns.  Then training as usual.
"""

from __future__ import annotations

from torch import Tensor

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Optimiser, Schedule, Selection, Setup, Stage, total
from kdnb.models.network import Activations


@method("fsp", revision=1, shared=("flow",))
def fsp(
    setup: Setup,
    flow_epochs: int = 164,
    flow_lr: float = 0.01,
    flow_milestones: tuple[int, ...] = (82, 123),
    flow_batch_size: int = 256,
) -> list[Stage]:
    """Step 1: L = sum_q mean (G_T - G_S)^2 over the flows (F_0,F_1), (F_1,F_2), ...  Step 2: labels, or KD."""
    student, teacher = setup.student, setup.teacher_network()

    def objective(batch: Batch) -> Losses:
        return {"flow": losses.fsp(_ends(batch.student), _ends(batch.teacher))}

    flow = Stage(
        name="flow",
        modules={"student": student},
        trainable=student.trunk(len(student.stages)),
        objective=objective,
        optimiser=Optimiser("sgd", flow_lr, momentum=0.9, weight_decay=1e-4),
        schedule=Schedule(tuple(flow_milestones)),
        epochs=flow_epochs,
        batch_size=flow_batch_size,
        student_depth=len(student.stages),
        teacher_depth=len(teacher.stages),
        selection=Selection(total(objective), highest=False),
        shared=True,
    )
    return [flow, setup.training(setup.supervision)]


def _ends(activations: Activations) -> list[Tensor]:
    """The maps at which stages begin and end: F_0, F_1, ..."""
    return [activations.stem, *activations.stages]
