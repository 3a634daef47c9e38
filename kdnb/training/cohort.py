"""A cohort: stages of different runs that share images, teacher, batch size and seed.

They step through one stream of batches, and the teacher is evaluated once for all.  A member's numbers do
not depend on the others: draws are keyed, and nothing is shared but inputs.  Nor does its end: an error of its
own fails it alone.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kdnb.methods.stage import deepest
from kdnb.models.network import Activations, Depth, Network
from kdnb.training import freeze
from kdnb.training.capture import CapturedSteps, ForkedSteps
from kdnb.training.images import Augmentation, DeviceImages, EpochDraws, draw_epoch
from kdnb.training.member import CHECK_EVERY, Inputs, Member
from kdnb.training.numerics import Numerics
from kdnb.training.steps import EagerSteps, Plain, Steps


def evaluation_batch(device: torch.device) -> int:
    """Images in one evaluation batch where nothing depends on it: large where launches are what costs."""
    return 2500 if device.type == "cuda" else 500


#: How steps are executed, by the mode of the numerics.
WAYS: dict[str, Callable[[Cohort], Steps]] = {"eager": EagerSteps, "captured": CapturedSteps, "forked": ForkedSteps}


@dataclass
class Material:
    """What a cohort works on: the training images, the images it validates on, and how to augment."""

    training: DeviceImages
    validation: DeviceImages
    augmentation: Augmentation


@dataclass
class Meter:
    """Images that members have seen, and the seconds that took: for progress and a record's cost."""

    images: int = 0
    seconds: float = 0.0
    #: What each member has cost since this was last taken, by its identity.
    member_seconds: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    member_images: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def rate(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0

    def see(self, members: list[Member], images: int) -> None:
        """Each of them has seen so many."""
        self.images += images * len(members)
        for member in members:
            self.member_images[id(member)] += images

    def spend(self, members: list[Member], seconds: float, share: float) -> None:
        """So long a turn took, of which each of them had its share."""
        self.seconds += seconds
        for member in members:
            self.member_seconds[id(member)] += share

    def take(self, member: Member) -> tuple[float, int]:
        """The seconds and the images of a member since this was last asked."""
        return self.member_seconds.pop(id(member), 0.0), self.member_images.pop(id(member), 0)


class Cohort:
    """Members at the same position of the same stream of batches.

    `steps` runs them; it yields after every step, so that its caller may stop between any two (the
    members' states are whole there) or run several cohorts side by side.
    """

    def __init__(
        self,
        members: list[Member],
        teacher: Network | None,
        material: Material,
        numerics: Numerics,
        on_epoch: Callable[[Cohort], None] = lambda cohort: None,
        notice: Callable[[str], None] = print,
    ) -> None:
        first = members[0]
        for member in members:
            same = (member.seed, member.stage.batch_size, member.epoch, member.step, member.numerics)
            assert same == (first.seed, first.stage.batch_size, first.epoch, first.step, numerics), "not one cohort"
        self.members = list(members)
        self.active = [m for m in members if not m.finished]
        self.teacher = teacher
        self.material = material
        self.numerics = numerics
        self.seed = first.seed
        self.batch_size = first.stage.batch_size
        self.epoch, self.step = first.epoch, first.step
        self.on_epoch = on_epoch
        self.notice = notice
        self.meter = Meter()
        self._other_forms: dict[Callable[[Network], Network], Network] = {}
        self._epoch_scalar = torch.zeros((), device=numerics.torch_device)
        # Weakly, so that a cohort that nobody has any more goes at once, not when a collector next runs.
        self._stepper: Steps = WAYS[numerics.mode](weakref.proxy(self))

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.material.training) // self.batch_size)

    # -- the loop ----------------------------------------------------------------------------------------

    def steps(self) -> Generator[None, None, None]:
        """Train until every member has finished or failed, yielding after each step; `rest` however it ends."""
        try:
            yield from self._all_steps()
        finally:
            self.rest()

    def rest(self) -> None:
        """Give up graphs and streams, which others may need; the next step, if there is one, warms up again."""
        self._stepper.release()

    def _all_steps(self) -> Iterator[None]:
        self._prepare()
        while self.active:
            draws = self._draw_epoch(self.epoch)
            for member in self.active:
                member.begin_epoch()
            while self.active and self.step < self.steps_per_epoch:
                part = self._slice(draws, self.step)
                self._stepper.run(part)
                self.step += 1
                for member in self.active:
                    member.step = self.step
                if self.step % CHECK_EVERY == 0 or self.step == self.steps_per_epoch:
                    self._drop_failed()
                self.meter.see(self.active, len(part.order))
                if self.step < self.steps_per_epoch:
                    yield
            if self.active:
                self._end_epoch()
                yield

    def inputs(self, draws: EpochDraws, members: list[Member] | None = None, *, recording: bool = False) -> Inputs:
        """Augmented images of the draws, and the teacher's activations on them, for the active members.

        An error at a teacher in train mode ends the runs that ask for it; it comes out where this is recorded.
        """
        members = self.active if members is None else members
        images, labels = self.material.training.batch(draws)
        depth = asked_depth([m for m in members if m.stage.teacher_mode == "eval"])
        taught = self._teach(self.teacher, images, depth)
        in_training = self._taught_in_training(images, members, recording)
        return Inputs(images, labels, draws.order, self._epoch_scalar, taught, in_training)

    @torch.no_grad()
    def _teach(self, teacher: Network | None, images: Tensor, depth: Depth | None) -> Activations:
        """A teacher's activations, as deep as asked; empty where nobody asks."""
        if depth is None or teacher is None:
            return Activations(stem=images[:0])
        with self.numerics.arithmetic():
            return teacher.activations(images, depth)

    def _taught_in_training(self, images: Tensor, members: list[Member], recording: bool) -> Activations | None:
        """What the teacher says in train mode, for those of the members that ask for it."""
        asking = [m for m in members if m.stage.teacher_mode == "train"]
        if not asking:
            return None
        doing = f"at its teacher in train mode, on a batch of {len(images)}"
        guard = contextlib.nullcontext() if recording else self.alone(*asking, doing=doing)
        with guard, self.numerics.autocast():
            return self._teach(self._teacher_as(freeze.in_training), images, asked_depth(asking))
        return None  # all of them have failed

    def _teacher_as(self, form: Callable[[Network], Network]) -> Network | None:
        """The teacher in another form, made when it is first asked for."""
        if self.teacher is not None and form not in self._other_forms:
            self._other_forms[form] = form(self.teacher)
        return self._other_forms.get(form)

    @contextlib.contextmanager
    def alone(self, *members: Member, doing: str) -> Iterator[None]:
        """What members do by themselves: an error in here ends their runs and no other's.

        A broken promise of the code itself (AssertionError) ends everything, and so does what is no error.
        """
        try:
            yield
        except AssertionError:
            raise
        except Exception as error:
            for member in members:
                member.fail(error, doing)
                self._drop(member)

    def _drop(self, member: Member) -> None:
        self.active.remove(member)
        self.notice(str(member.failed))

    def _draw_epoch(self, epoch: int) -> EpochDraws:
        self._epoch_scalar.fill_(float(epoch))
        count = len(self.material.training)
        draws = draw_epoch(count, self.seed, self.batch_size, epoch, self.material.augmentation)
        return draws.to(self.numerics.torch_device)

    def _slice(self, draws: EpochDraws, step: int) -> EpochDraws:
        return draws.at(step * self.batch_size, min((step + 1) * self.batch_size, len(draws.order)))

    def _prepare(self) -> None:
        waiting = [m for m in self.active if not m.prepared]
        if not waiting:
            return
        draws = self._draw_epoch(0)
        for member in waiting:
            count = min(member.stage.prepare_batches, self.steps_per_epoch)
            with self.alone(member, doing="in its preparation"):
                member.prepare([self.inputs(self._slice(draws, step), [member]) for step in range(count)])

    def _drop_failed(self) -> None:
        for member in list(self.active):
            if not member.check():
                self._drop(member)

    def _end_epoch(self) -> None:
        for member in self.active:
            member.eval_mode()
        validated = self._validate()
        for member in list(self.active):
            with self.alone(member, doing="at its end"):
                member.end_epoch(validated[id(member)])
        self.epoch, self.step = self.epoch + 1, 0
        self._drop_failed()
        self.on_epoch(self)
        self.active = [m for m in self.active if not m.finished]

    def _validate(self) -> dict[int, dict[str, float]]:
        """The means over the validation part of every active member that is due, keyed by the member's identity."""
        due = [m for m in self._due() if m.watched() or m.stage.observe is not None]
        apart = [m for m in due if not m.validation_needs_teacher()]
        taught = [m for m in due if m.validation_needs_teacher()]
        # A transfer loss may depend on the batch size (PKT's does): it is validated at the stage's own.
        self._look(apart, None, evaluation_batch(self.numerics.torch_device))
        if taught:
            self._look(taught, self._teacher_as(freeze.exact), self.batch_size)
        count = len(self.material.validation)
        return {id(m): m.validated(count) if m in due else {} for m in self.active}

    def _look(self, members: list[Member], teacher: Network | None, size: int) -> None:
        """Add the validation part to what members have seen of it, so many images at a time."""
        depth = asked_depth(members)

        def share(batch: Plain) -> Inputs:
            return Inputs(*batch, self._epoch_scalar, self._teach(teacher, batch[0], depth))

        if members:
            for start, images, labels in self.material.validation.plain_batches(size):
                indices = torch.arange(start, start + len(labels), device=labels.device)
                self._stepper.validate(members, (images, labels, indices), share)

    def _due(self) -> list[Member]:
        """The active members to validate after this epoch.

        All of them; but where more images validate than are learned from, which would take most of the time, those
        alone for whom something hangs on it.
        """
        few = len(self.material.training) < len(self.material.validation)
        return [member for member in self.active if not few or member.awaits_validation]


def asked_depth(members: list[Member]) -> Depth | None:
    """The union of what members ask of the teacher."""
    return deepest(None, *(m.stage.teacher_depth for m in members))


def run_side_by_side(cohorts: list[Cohort], stop: Callable[[], bool] = lambda: False) -> bool:
    """Run cohorts in turns, a step each, until all have ended (True) or `stop` says so (False)."""
    running = {cohort: cohort.steps() for cohort in cohorts}
    try:
        while running:
            began, present = time.perf_counter(), {cohort: list(cohort.active) for cohort in running}
            for cohort, steps in list(running.items()):
                if next(steps, _ENDED) is _ENDED:
                    del running[cohort]
            _share(time.perf_counter() - began, present)
            if running and stop():
                return False
        return True
    finally:
        for steps in running.values():
            steps.close()  # now: an error's traceback would keep them, and what they hold


def _share(seconds: float, present: dict[Cohort, list[Member]]) -> None:
    """Share the time of a turn among all who were there.

    On a GPU steps are only queued, and the cohort that waits for its own waits for those of the others, too.
    """
    share = seconds / max(1, sum(map(len, present.values())))
    for cohort, members in present.items():
        cohort.meter.spend(members, seconds, share)


_ENDED = object()
