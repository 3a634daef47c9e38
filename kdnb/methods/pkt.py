"""PKT, probabilistic knowledge transfer (Passalis and Tefas 2018): first learn who is like whom.

Step 1 sees no labels: the images' similarities to each other within a batch, as conditional probabilities,
are brought to the teacher's.  Everything but the classifier learns.  Then training as usual.
"""

from __future__ import annotations

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Optimiser, Selection, Setup, Stage, present, total


@method("pkt", revision=1, shared=("kernel",))
def pkt(
    setup: Setup,
    kernel_epochs: int = 500,
    kernel_patience: int = 100,
    kernel_lr: float = 1e-4,
    kernel_batch_size: int = 128,
) -> list[Stage]:
    """Step 1: L = mean_ij p_ij log(p_ij / q_ij) on the embeddings.  Step 2: labels, or KD."""
    student = setup.student

    def objective(batch: Batch) -> Losses:
        return {"kernel": losses.pkt(present(batch.student.embedding), present(batch.teacher.embedding))}

    kernel = Stage(
        name="kernel",
        modules={"student": student},
        trainable=student.trunk("embedding"),
        objective=objective,
        optimiser=Optimiser("adam", kernel_lr),
        epochs=kernel_epochs,
        batch_size=kernel_batch_size,
        student_depth="embedding",
        teacher_depth="embedding",
        selection=Selection(total(objective), highest=False, patience=kernel_patience),
        shared=True,
    )
    return [kernel, setup.training(setup.supervision)]
