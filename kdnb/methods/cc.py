"""CC, correlation congruence (Peng et al. 2019), as the standard benchmark has it: errors of neighbours in a batch.

Both networks' embeddings are mapped to a common space; the maps are trained with the student and thrown away.
"""

from __future__ import annotations

from torch import nn

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage, present


@method("cc", revision=1)
def cc(setup: Setup, weight: float = 0.02, width: int = 128) -> list[Stage]:
    """L = CE + w mean_b <d_b, d_{b+1}>, d_b = |A e_S - B e_T| of image b, place by place, A and B affine."""
    student, teacher = setup.student.embedding_width, setup.teacher_network().embedding_width
    ours, theirs = (
        setup.build(name, lambda size=size: nn.Linear(size, width))  # type: ignore[misc]
        for name, size in (("student_map", student), ("teacher_map", teacher))
    )

    def objective(batch: Batch) -> Losses:
        mapped = ours(present(batch.student.embedding)), theirs(present(batch.teacher.embedding))
        return {**setup.supervision(batch), "correlation": weight * losses.correlation(*mapped)}

    return [setup.training(objective, modules={"student_map": ours, "teacher_map": theirs}, teacher_depth="embedding")]
