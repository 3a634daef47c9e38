"""What a method has to be better than: regularised labels, a teacher that talks of other images, KD by another chance.

None of these is anybody's proposal.  Each takes one explanation of a gain away.
"""

from __future__ import annotations

import torch

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage, Supervision, present
from kdnb.randomness import keyed_seed

#: By how much, relatively, the initial weights are moved for another trajectory on the same batches.
MOVED_BY = 1e-6


@method("label-smoothing", revision=1, needs_teacher=False, step_of="plain")
def label_smoothing(setup: Setup, smoothing_share: float = 0.1) -> list[Stage]:
    """L = (1 - s) CE(z_S, y) + s CE(z_S, uniform): soft targets without a teacher."""

    def objective(batch: Batch) -> Losses:
        logits = present(batch.student.logits)
        even = losses.soft_cross_entropy(logits, torch.zeros_like(logits), 1.0)
        return {
            "ce": (1 - smoothing_share) * losses.cross_entropy(logits, batch.labels),
            "even": smoothing_share * even,
        }

    return [setup.training(objective)]


@method("kd-mismatched", revision=1, step_of="kd")
def kd_mismatched(
    setup: Setup, labels_weight: float = 0.1, soft_weight: float = 0.9, temperature: float = 4.0
) -> list[Stage]:
    """KD whose soft targets are the teacher's answers to the next image of the batch; the labels are right."""

    def objective(batch: Batch) -> Losses:
        logits, answers = present(batch.student.logits), present(batch.teacher.logits)
        return {
            "ce": labels_weight * losses.cross_entropy(logits, batch.labels),
            "kd": soft_weight * losses.kd(logits, answers.roll(1, dims=0), temperature),
        }

    return [setup.training(objective, teacher_depth="logits")]


@method("kd-again", revision=1, step_of="kd")
def kd_again(
    setup: Setup, copy: int = 1, labels_weight: float = 0.1, soft_weight: float = 0.9, temperature: float = 4.0
) -> list[Stage]:
    """KD on the same batches from almost the same start: each initial weight times 1 + 1e-6 n, n standard normal."""
    stream = torch.Generator().manual_seed(keyed_seed(setup.seed, "again", copy))
    with torch.no_grad():
        for weights in setup.student.parameters():
            weights.mul_(1 + MOVED_BY * torch.randn(weights.shape, generator=stream).to(weights))
    supervision = Supervision(labels_weight, soft_weight, temperature)
    return [setup.training(supervision, teacher_depth="logits")]
