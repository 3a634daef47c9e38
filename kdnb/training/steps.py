"""One step of a cohort as it is written: eager.  Captured and replayed steps are its counterpart on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from kdnb.training.images import EpochDraws
from kdnb.training.member import Inputs, Member


class Stepped(Protocol):
    """What a way of stepping sees of a cohort: who still trains, and what they share in a step."""

    active: list[Member]
    notice: Callable[[str], None]

    def inputs(self, draws: EpochDraws) -> Inputs:
        """Augmented images of the draws, and the teacher's activations on them."""

    def alone(self, *members: Member, doing: str) -> AbstractContextManager[None]:
        """A context for what members do by themselves: its errors end their runs and no other's."""


class Steps(Protocol):
    """Runs one step of a cohort on the images of some draws."""

    def run(self, draws: EpochDraws) -> None: ...


class EagerSteps:
    """The teacher once, then each member."""

    def __init__(self, cohort: Stepped) -> None:
        self.cohort = cohort

    def run(self, draws: EpochDraws) -> None:
        inputs = self.cohort.inputs(draws)
        for member in list(self.cohort.active):
            with self.cohort.alone(member, doing=stepping(member, draws)):
                member.compute(inputs, member.draw(len(draws.order)))


def stepping(member: Member, draws: EpochDraws) -> str:
    """What a member is doing, for a message."""
    count = len(draws.order)
    return f"at step {member.step + 1}, on a batch of {count} image{'s' * (count > 1)}"
