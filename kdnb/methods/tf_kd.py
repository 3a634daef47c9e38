"""Tf-KD by self-training (Yuan et al. 2020): KD from a trained network of the student's own architecture.

No larger network is needed: the teacher is what the student would have become alone.
"""

from __future__ import annotations

from typing import Literal

from kdnb.errors import KdnbError
from kdnb.methods.registry import method
from kdnb.methods.stage import Setup, Stage, Supervision


@method("tf-kd", revision=1, teacher_alike=True)
def tf_kd(
    setup: Setup,
    mix: float = 0.9,
    temperature: float = 4.0,
    multiplier_weight: float = 1.0,
    mean: Literal["images", "entries"] = "images",
) -> list[Stage]:
    """L = (1 - a) CE(z_S, y) + a m T^2 KL(p_T^T || p_S^T), a the `mix`, m the `multiplier_weight`.

    The divergence is a mean over `images`, or, as its authors' code has it, over all `entries` of the logits.  Raises
    KdnbError for a teacher of another architecture.
    """
    teacher, student = setup.teacher_network(), setup.student
    if teacher.name != student.name:
        raise KdnbError(f"Tf-KD's teacher is a trained {student.name}, as its student is; not a {teacher.name}.")
    share = 1 if mean == "images" else 1 / student.num_classes
    supervision = Supervision(1 - mix, mix * multiplier_weight * share, temperature)
    return [setup.training(supervision, teacher_depth="logits")]
