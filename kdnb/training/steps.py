"""One step of a cohort as it is written: eager.  Captured and replayed steps are its counterpart on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kdnb.models.network import Depth
from kdnb.training.images import EpochDraws
from kdnb.training.member import Inputs, Member


class Company(Protocol):
    """What a way of stepping sees of a cohort: who still trains, and what they share in a step."""

    active: list[Member]
    notice: Callable[[str], None]

    def inputs(self, draws: EpochDraws, depth: Depth | None) -> Inputs:
        """Augmented images of the draws, and the teacher's activations on them."""

    def teacher_depth(self) -> Depth | None:
        """How deep the teacher is asked."""


class Steps(Protocol):
    """Runs one step of a cohort on the images of some draws."""

    def run(self, draws: EpochDraws) -> None: ...


class EagerSteps:
    """The teacher once, then each member."""

    def __init__(self, company: Company) -> None:
        self.company = company

    def run(self, draws: EpochDraws) -> None:
        inputs = self.company.inputs(draws, self.company.teacher_depth())
        for member in self.company.active:
            member.compute(inputs, member.draw(len(draws.order)))
