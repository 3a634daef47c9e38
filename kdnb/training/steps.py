"""One step of a cohort, as its numerics say: eager, or replayed from captured graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kdnb.training.images import EpochDraws

if TYPE_CHECKING:
    from kdnb.training.cohort import Cohort


class Steps(Protocol):
    """Runs one step of a cohort on the images of some draws."""

    def run(self, draws: EpochDraws) -> None: ...


class EagerSteps:
    """Steps as they are written: the teacher once, then each member."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort

    def run(self, draws: EpochDraws) -> None:
        inputs = self.cohort.inputs(draws, self.cohort.teacher_depth())
        for member in self.cohort.active:
            member.compute(inputs, member.draw(len(draws.order)))


def stepper(cohort: Cohort) -> Steps:
    """The way of stepping that the cohort's numerics ask for."""
    if cohort.numerics.mode == "captured":
        from kdnb.training.capture import CapturedSteps

        return CapturedSteps(cohort)
    return EagerSteps(cohort)
