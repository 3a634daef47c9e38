"""SP, similarity-preserving distillation (Tung and Mori 2019): what is alike to the teacher shall be to the student.

Only the last stage's map counts, as the network gives it: raw in a WRN, linear in MobileNetV2.
"""

from __future__ import annotations

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage


@method("sp", revision=1)
def sp(setup: Setup, weight: float = 3000.0) -> list[Stage]:
    """L = CE + w ||G_T - G_S||^2 / B^2, G = QQ' with rows normalised, Q [B, CHW] the last stage's map."""

    def objective(batch: Batch) -> Losses:
        similarity = losses.similarity(batch.student.stages[-1:], batch.teacher.stages[-1:])
        return {**setup.supervision(batch), "similarity": weight * similarity}

    return [setup.training(objective, teacher_depth=len(setup.teacher_network().stages))]
