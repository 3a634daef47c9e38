"""One step of a cohort as it is written: eager.  Captured and replayed steps are its counterpart on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from kdnb.training.images import EpochDraws
from kdnb.training.member import Inputs, Member


class Stepped(Protocol):
    """What a way of stepping sees of a cohort: who still trains, and what they share in a step."""

    active: list[Member]
    notice: Callable[[str], None]

    def inputs(self, draws: EpochDraws, *, recording: bool = False) -> Inputs:
        """Augmented images of the draws, and the teacher's activations on them.

        While this is recorded errors come out of it: what cannot be captured is to run eagerly, not to end a run.
        """

    def alone(self, *members: Member, doing: str) -> AbstractContextManager[None]:
        """A context for what members do by themselves: its errors end their runs and no other's."""


#: A batch to validate on: images, labels, indices.
Plain = tuple[Tensor, Tensor, Tensor]


class Steps(Protocol):
    """Runs one step of a cohort on the images of some draws, and one batch of a validation."""

    def run(self, draws: EpochDraws) -> None: ...

    def validate(self, members: list[Member], batch: Plain, share: Callable[[Plain], Inputs]) -> None:
        """Add the batch to the members' sums; `share` makes what they have in common of it."""

    def release(self) -> None:
        """Give up what was taken to step, graphs and streams; the next step takes it anew."""


class EagerSteps:
    """The teacher once, then each member."""

    def __init__(self, cohort: Stepped) -> None:
        self.cohort = cohort

    def validate(self, members: list[Member], batch: Plain, share: Callable[[Plain], Inputs]) -> None:
        inputs = share(batch)
        for member in [m for m in members if m in self.cohort.active]:
            with self.cohort.alone(member, doing=f"in its validation, on a batch of {len(inputs.labels)}"):
                member.validate(inputs, member.validation)

    def release(self) -> None:
        """Nothing was taken."""

    def run(self, draws: EpochDraws) -> None:
        inputs = self.cohort.inputs(draws)
        for member in list(self.cohort.active):
            with self.cohort.alone(member, doing=stepping(member, draws)):
                member.compute(inputs, member.draw(len(draws.order)))


def stepping(member: Member, draws: EpochDraws) -> str:
    """What a member is doing, for a message."""
    count = len(draws.order)
    return f"at step {member.step + 1}, on a batch of {count} image{'s' * (count > 1)}"
