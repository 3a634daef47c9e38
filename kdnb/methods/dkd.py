"""DKD, decoupled distillation (Zhao et al. 2022): the target's share and the rest of the answer, apart.

The divergence of the whole softened answer ties the weight of the non-targets to how sure the teacher is of the
target; here each has a weight of its own.
"""

from __future__ import annotations

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage, present, warm_up


@method("dkd", revision=1)
def dkd(
    setup: Setup, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0, warm_up_epochs: int = 20
) -> list[Stage]:
    """L = CE + min(epoch/W, 1) T^2 [alpha KL(b_T || b_S) + beta KL(q_T || q_S)], see `kdnb.losses.dkd`."""

    def objective(batch: Batch) -> Losses:
        logits = present(batch.student.logits), present(batch.teacher.logits)
        decoupled = losses.dkd(*logits, batch.labels, alpha, beta, temperature)
        return {**setup.supervision(batch), "dkd": warm_up(batch, warm_up_epochs) * decoupled}

    return [setup.training(objective, teacher_depth="logits")]
