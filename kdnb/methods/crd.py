"""CRD, contrastive representation distillation (Tian, Krishnan and Isola 2020): tell an image's own
representation in the other network from those of images of other classes.

Both networks' embeddings are mapped to a common space; the maps are trained with the student and thrown
away afterwards.  Negatives come from memory banks, or, with `in_batch`, from the batch itself.
"""

from __future__ import annotations

from typing import Any

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage, present


@method("crd", revision=1)
def crd(
    setup: Setup,
    weight: float = 0.8,
    negatives: int = 4096,
    contrast_temperature: float = 0.07,
    momentum: float = 0.5,
    width: int = 128,
    in_batch: bool = False,
) -> list[Stage]:
    """L = CE + w (L_S + L_T), see `kdnb.losses.contrastive`.

    `negatives` is capped by what the training set has.  With KD, labels and soft targets keep the weights of
    the supervision.
    """
    widths = setup.student.embedding_width, setup.teacher_network().embedding_width
    labels, size = setup.training_set.labels, setup.recipe.batch_size
    memory: dict[str, Any] = {}
    contrast: losses.Contrastive | losses.InBatchContrastive
    if in_batch:
        contrast = setup.build("contrast", lambda: losses.InBatchContrastive(*widths, width, contrast_temperature))
    else:
        banks = setup.build(
            "contrast",
            lambda: losses.Contrastive(*widths, labels, negatives, contrast_temperature, momentum, width, size),
        )
        contrast = banks
        memory = {"draws": banks.draw, "after_step": lambda batch: banks.remember(batch.indices)}

    def seen(batch: Batch) -> tuple[Any, ...]:
        """What the criterion looks at: both embeddings, the classes and, for banks, who stands in them."""
        both = present(batch.student.embedding), present(batch.teacher.embedding), batch.labels
        return both if in_batch else (*both, batch.indices, batch.draws)

    def objective(batch: Batch) -> Losses:
        return {**setup.supervision(batch), "crd": weight * contrast(*seen(batch))}

    return [
        setup.training(
            objective,
            modules={"contrast": contrast},
            teacher_depth="embedding",
            prepare=lambda batches: contrast.calibrate(*seen(batches[0])),
            prepare_batches=1,
            **memory,
        )
    ]
