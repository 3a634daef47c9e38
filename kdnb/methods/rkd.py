"""RKD, relational distillation (Park et al. 2019): distances and angles between the embeddings of a batch."""

from __future__ import annotations

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage, present


@method("rkd", revision=1)
def rkd(setup: Setup, distance_weight: float = 25.0, angle_weight: float = 50.0) -> list[Stage]:
    """L = CE + w_d l_d + w_a l_a, see `kdnb.losses.rkd`."""

    def objective(batch: Batch) -> Losses:
        embeddings = present(batch.student.embedding), present(batch.teacher.embedding)
        return {**setup.supervision(batch), "relations": losses.rkd(*embeddings, distance_weight, angle_weight)}

    return [setup.training(objective, teacher_depth="embedding")]
