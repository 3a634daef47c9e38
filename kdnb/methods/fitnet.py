"""FitNet (Romero et al. 2015): first imitate the teacher's map a third of the way in, then train as usual.

Step 1 sees no labels.  The guided layer is the end of the first stage; a regressor brings the student's map
to the teacher's width and is thrown away afterwards.  What lies deeper in the student is not touched.

`fitnet-maps` imitates the maps of all stages at once, as SRM's authors ran it: every layer but the classifier learns.
"""

from __future__ import annotations

from torch import nn

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Optimiser, Schedule, Selection, Setup, Stage, total
from kdnb.models.initialisation import kaiming_fan_in

GUIDED = 1  # the stage whose map is imitated, counted from 1


@method("fitnet", revision=1, shared=("hint",))
def fitnet(
    setup: Setup,
    hint_epochs: int = 500,
    hint_patience: int = 100,
    hint_lr: float = 0.005,
    hint_batch_size: int = 128,
) -> list[Stage]:
    """Step 1: L = mean (r(F_S) - F_T)^2 of the guided maps, r = ReLU(BN(conv 1x1)).  Step 2: labels, or KD."""
    student, teacher = setup.student, setup.teacher_network()
    narrow, wide = student.stage_widths[GUIDED - 1], teacher.stage_widths[GUIDED - 1]
    regressor = setup.build("regressor", lambda: _regressor(narrow, wide))

    def objective(batch: Batch) -> Losses:
        guided = batch.student.stages[GUIDED - 1]
        return {"hint": losses.hint(regressor(guided), batch.teacher.stages[GUIDED - 1])}

    hint = Stage(
        name="hint",
        modules={"student": student, "regressor": regressor},
        trainable=[*student.trunk(GUIDED), regressor],
        objective=objective,
        optimiser=Optimiser("rmsprop", hint_lr),
        epochs=hint_epochs,
        batch_size=hint_batch_size,
        student_depth=GUIDED,
        teacher_depth=GUIDED,
        selection=Selection(total(objective), highest=False, patience=hint_patience),
        shared=True,
    )
    return [hint, setup.training(setup.supervision)]


@method("fitnet-maps", revision=1, shared=("hint",))
def fitnet_maps(
    setup: Setup, hint_epochs: int = 160, hint_lr: float = 1e-3, hint_decay: float = 1e-4, hint_batch_size: int = 512
) -> list[Stage]:
    """Step 1: L = sum_j mean (r_j(F_S^j) - F_T^j)^2 over all stages j, r_j = conv 1x1.  Step 2: labels, or KD.

    Step 1 is trained by Adam, made afresh where the rate drops, and its last epoch's weights are handed on.
    """
    student, teacher = setup.student, setup.teacher_network()
    widths = list(zip(student.stage_widths, teacher.stage_widths, strict=True))
    regressors = setup.build("regressors", lambda: nn.ModuleList(_linear(narrow, wide) for narrow, wide in widths))

    def objective(batch: Batch) -> Losses:
        maps = zip(regressors, batch.student.stages, batch.teacher.stages, strict=True)
        return {f"hint{j}": losses.hint(r(guided), taught) for j, (r, guided, taught) in enumerate(maps, start=1)}

    hint = Stage(
        name="hint",
        modules={"student": student, "regressors": regressors},
        trainable=[*student.trunk(len(widths)), regressors],
        objective=objective,
        optimiser=Optimiser("adam", hint_lr, weight_decay=hint_decay, restart="drop"),
        schedule=Schedule((30, 130)),
        epochs=hint_epochs,
        batch_size=hint_batch_size,
        student_depth=len(widths),
        teacher_depth=len(widths),
        shared=True,
    )
    return [hint, setup.training(setup.supervision)]


def _linear(narrow: int, wide: int) -> nn.Conv2d:
    """Initialised as the networks of SRM's authors are."""
    conv = nn.Conv2d(narrow, wide, 1)
    kaiming_fan_in(conv)
    return conv


def _regressor(narrow: int, wide: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(narrow, wide, 1), nn.BatchNorm2d(wide), nn.ReLU())
