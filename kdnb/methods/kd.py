"""Knowledge distillation (Hinton, Vinyals and Dean 2015): the teacher's softened answers as targets."""

from __future__ import annotations

from kdnb.methods.registry import method
from kdnb.methods.stage import Setup, Stage, Supervision


@method("kd", revision=1)
def kd(setup: Setup, labels_weight: float = 0.1, soft_weight: float = 0.9, temperature: float = 4.0) -> list[Stage]:
    """L = w_labels CE(z_S, y) + w_soft T^2 KL(p_T^T || p_S^T)."""
    supervision = Supervision(labels_weight, soft_weight, temperature)
    return [setup.training(supervision, teacher_depth="logits")]
