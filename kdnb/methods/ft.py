"""FT, factor transfer (Kim et al. 2018): a translator says of the student's last map what the teacher's factors say."""

from __future__ import annotations

from kdnb import losses
from kdnb.losses.common import to_smaller
from kdnb.methods.paraphraser import encoder, tapped
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage


@method("ft", revision=3, after=("paraphraser",))
def ft(
    setup: Setup, weight: float = 500.0, paraphraser_share: float = 0.5, paraphraser_epochs: int = 30
) -> list[Stage]:
    """L = CE + w mean |F_S - F_T|, F_S = translator(last map), F_T = E(last map), each of length 1 per image.

    Where the maps' sizes differ, the larger factor is average-pooled to the smaller.  Student and translator are
    trained together; the paraphraser's encoder stays as it is.
    """
    teacher = setup.teacher_network()
    paraphraser = setup.steps["paraphraser"]["paraphraser"]
    encode = paraphraser.get_submodule("encoder")
    factors = max(1, round(paraphraser_share * teacher.stage_widths[-1]))
    translator = setup.build("translator", lambda: encoder(setup.student.stage_widths[-1], factors))

    def objective(batch: Batch) -> Losses:
        student = translator(tapped(batch.student))
        taught = encode(tapped(batch.teacher))
        return {**setup.supervision(batch), "factor": weight * losses.factor(*to_smaller(student, taught))}

    return [
        setup.training(
            objective,
            modules={"translator": translator, "paraphraser": paraphraser},
            trainable=[setup.student, translator],
            frozen=("paraphraser",),
            teacher_depth=len(teacher.stages),
        )
    ]
