"""Steps on CUDA, captured once per batch shape and replayed: no Python and no launch in the hot path.

The first steps of a shape run eagerly on the streams they will be captured on: they are steps of the
training like any other, and leave the optimiser's state and the library's choice of kernels behind.  Then
the shared part (gather, crop, flip, teacher) becomes one graph, and every member's step one of its own, each on
a stream of its own: a library's workspace belongs to its stream, and graphs that share one would lose it when
the first of them goes.  What cannot be captured runs eagerly from then on, with one notice that says why: a member's
step alone, or the steps of the whole cohort where it is the shared part.

`--mode forked` asks for less launching: a cohort's whole step is one graph, which forks into the members' streams and
joins them again, and its batches of validation are graphs too.  It is a switch to compare, until GPUs were seen to
gain by it; its numbers are those of graphs apart.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from kdnb.training.images import EpochDraws
from kdnb.training.member import Inputs, Member
from kdnb.training.steps import EagerSteps, Plain, Stepped, stepping

WARM_UP = 3
#: PyTorch hands streams out as a ring: so many, and then the same ones again, whether their holders still live or not.
#: So whoever holds streams counts (`_ALIVE`), and gives them up as soon as it rests.
POOL = 32


class Streams:
    """What is asked of CUDA: streams that wait for each other, and work recorded on one to be replayed."""

    def new(self) -> Any:
        return torch.cuda.Stream()

    def main(self) -> Any:
        return torch.cuda.current_stream()

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        return torch.cuda.stream(stream)

    def wait(self, waiting: Any, awaited: Any) -> None:
        waiting.wait_stream(awaited)

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def record(self, work: Callable[[], None], stream: Any) -> Callable[[], None]:
        """Record the work on a stream without doing it, and return what does it; RuntimeError if it cannot be."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            work()
        return graph.replay


class CapturedSteps(EagerSteps):
    """Runs a cohort's steps from graphs; one set of graphs per batch size and set of active members."""

    def __init__(self, cohort: Stepped) -> None:
        super().__init__(cohort)
        self.streams = Streams()
        self.common: Any = None
        self.own_streams: dict[int, Any] = {}
        _ALIVE.add(self)
        self.warm: dict[int, int] = {}
        self.graphs: dict[int, _Graphs | _Step] = {}
        self.captured_for: tuple[int, ...] = ()
        self.eager: set[int] = set()
        self.shared_eagerly = False

    def release(self) -> None:
        """Graphs first, then the streams that they were recorded on."""
        self.graphs, self.warm, self.captured_for = {}, {}, ()
        self.common, self.own_streams = None, {}
        _ALIVE.discard(self)

    def run(self, draws: EpochDraws) -> None:
        present = tuple(id(m) for m in self.cohort.active)
        if present != self.captured_for:  # somebody left: the teacher may go less deep, memory can go back
            self.captured_for, self.graphs, self.warm = present, {}, {}
        size = len(draws.order)
        if size in self.graphs:
            self.graphs[size].replay(draws)
            return
        inputs = self.shared(lambda: self.cohort.inputs(draws))
        self.side_by_side(lambda member: member.compute(inputs, member.draw(size)), draws)
        self.warm[size] = self.warm.get(size, 0) + 1
        if self.warm[size] >= WARM_UP and not self.shared_eagerly:
            self.streams.synchronize()
            recorded = self.recorded(draws)
            if recorded is not None:
                self.graphs[size] = recorded

    def recorded(self, draws: EpochDraws) -> _Graphs | _Step | None:
        """The step of these draws' size, recorded; None, and said, where what all members share cannot be captured."""
        try:
            return _Graphs(self, draws)
        except RuntimeError as error:
            self.shared_eagerly = True
            self.refused("what the runs of a cohort share", error, "they run eagerly")
            return None

    def refused(self, what: str, error: RuntimeError, instead: str) -> None:
        """Say that something cannot be captured, why, and what is done instead."""
        self.streams.synchronize()
        self.cohort.notice(f"{what} cannot be captured ({_why(error)}); {instead}.")

    def shared_stream(self) -> Any:
        """The stream of what all members have in common."""
        if self.common is None:
            self.common = self.streams.new()
            _ALIVE.add(self)  # again, after a rest
        return self.common

    def stream(self, member: Member) -> Any:
        """The member's own stream; the shared one where all cohorts together have as many as there are."""
        if id(member) not in self.own_streams:
            taken = sum(steps.streams_held() for steps in _ALIVE)
            self.own_streams[id(member)] = self.streams.new() if taken < POOL else self.shared_stream()
        return self.own_streams[id(member)]

    def streams_held(self) -> int:
        """How many streams of the pool these steps have, or will have: one that is shared, and the members'."""
        return 1 + sum(stream is not self.common for stream in self.own_streams.values())

    def shared(self, work: Callable[[], Inputs]) -> Inputs:
        """Do something on the shared stream, after all that was begun, before all that follows."""
        return self.aside(self.shared_stream(), work)

    def aside(self, stream: Any, work: Callable[[], Any]) -> Any:
        """Do something on a stream, after all that was begun, before all that follows."""
        main = self.streams.main()
        self.streams.wait(stream, main)
        with self.streams.on(stream):
            found = work()
        self.streams.wait(main, stream)
        return found

    def side_by_side(self, work: Callable[[Member], None], draws: EpochDraws) -> None:
        """Do something for every member on its own stream; an error in it is the member's own."""

        def alone(member: Member) -> None:
            with self.cohort.alone(member, doing=stepping(member, draws)):
                work(member)

        self.fork(alone)

    def fork(self, work: Callable[[Member], None]) -> None:
        """Do something for every member on its own stream, after all that was begun, before all that follows."""
        main, members = self.streams.main(), list(self.cohort.active)
        apart = [member for member in members if self.stream(member) != main]
        for member in apart:
            self.streams.wait(self.stream(member), main)
        for member in members:
            with self.streams.on(self.stream(member)):
                work(member)
        for member in apart:
            self.streams.wait(main, self.stream(member))


class ForkedSteps(CapturedSteps):
    """A cohort's step as one graph, and every batch of its validation as one."""

    def __init__(self, cohort: Stepped) -> None:
        super().__init__(cohort)
        self.one_graph = True
        self.watching: Any = None
        self.seen: dict[tuple[int, ...], int] = {}
        self.validations: dict[tuple[int, ...], _Validation | None] = {}
        self.validated_for: tuple[int, ...] = ()

    def streams_held(self) -> int:
        return super().streams_held() + 1

    def release(self) -> None:
        self.validations, self.seen, self.validated_for = {}, {}, ()
        self.watching = None
        super().release()

    def recorded(self, draws: EpochDraws) -> _Graphs | _Step | None:
        """The step as one graph; as graphs apart, and said, where one alone cannot be captured."""
        if self.one_graph:
            try:
                return _Step(self, draws)
            except RuntimeError as error:
                self.one_graph = False
                self.refused("the step of a cohort", error, "every run has a graph of its own")
        return super().recorded(draws)

    def validate(self, members: list[Member], batch: Plain, share: Callable[[Plain], Inputs]) -> None:
        """From a graph, once the same members have seen some batches of this size on the same stream."""
        present = tuple(id(m) for m in self.cohort.active)
        if present != self.validated_for:  # graphs of one stream live and go together
            self.validated_for, self.validations, self.seen = present, {}, {}
        key = (len(batch[1]), *(id(m) for m in members))
        if self.validations.get(key) is None:
            self.aside(self._stream_of_validation(), lambda: super(ForkedSteps, self).validate(members, batch, share))
            self.seen[key] = self.seen.get(key, 0) + 1
            whole = present == tuple(id(m) for m in self.cohort.active)
            if key not in self.validations and whole and self.seen[key] >= WARM_UP:
                self.validations[key] = self._recorded_validation(members, batch, share)
        else:
            self.validations[key].replay(batch)  # type: ignore[union-attr]

    def _stream_of_validation(self) -> Any:
        if self.watching is None:
            self.watching = self.streams.new()
        return self.watching

    def _recorded_validation(
        self, members: list[Member], batch: Plain, share: Callable[[Plain], Inputs]
    ) -> _Validation | None:
        def work(given: Plain) -> None:
            inputs = share(given)
            for member in members:
                member.validate(inputs, member.validation)

        self.streams.synchronize()
        try:
            return _Validation(self, batch, work)
        except RuntimeError as error:
            self.refused("the validation of a cohort", error, "it runs eagerly")
            return None


#: Whoever holds streams of the pool: the cohorts that are alive.
_ALIVE: weakref.WeakSet[CapturedSteps] = weakref.WeakSet()


class _Static:
    """What a graph of steps reads: draws of one batch size, shared and of each member; they stay where they are."""

    def __init__(self, steps: CapturedSteps, draws: EpochDraws) -> None:
        self.steps = steps
        self.draws = EpochDraws(*(t.clone() for t in draws.fields()))
        self.own_draws = {
            id(member): {name: value.clone() for name, value in member.draw(len(draws.order)).items()}
            for member in steps.cohort.active
        }

    def fill(self, draws: EpochDraws) -> None:
        """Put fresh shared draws where the graph reads them."""
        for static, fresh in zip(self.draws.fields(), draws.fields(), strict=True):
            static.copy_(fresh, non_blocking=True)

    def fill_own(self, member: Member) -> None:
        """Put a member's fresh draws where the graph reads them."""
        own = self.own_draws[id(member)]
        for name, fresh in member.draw(len(self.draws.order)).items():
            own[name].copy_(fresh, non_blocking=True)


class _Graphs(_Static):
    """The captured step of one batch size: static inputs, the shared graph, a graph per member.

    What a graph reads lies in tensors that stay; a replay fills them and runs.
    """

    inputs: Inputs

    def __init__(self, steps: CapturedSteps, draws: EpochDraws) -> None:
        super().__init__(steps, draws)
        self.shared = steps.streams.record(self._share, steps.shared_stream())
        self.members = {id(member): self._captured(member) for member in steps.cohort.active}

    def replay(self, draws: EpochDraws) -> None:
        self.fill(draws)
        self.shared()
        self.steps.side_by_side(self._step, draws)

    def _share(self) -> None:
        """Gather, crop, flip and ask the teacher: the part of a step that all members have in common."""
        self.inputs = self.steps.cohort.inputs(self.draws, recording=True)

    def _step(self, member: Member) -> None:
        self.fill_own(member)
        replay = self.members[id(member)]
        if replay is None:
            member.compute(self.inputs, self.own_draws[id(member)])
        else:
            replay()

    def _captured(self, member: Member) -> Callable[[], None] | None:
        if id(member) in self.steps.eager:
            return None
        member.clear_gradients()  # the captured backward makes gradients of the graph's own
        own = self.own_draws[id(member)]
        try:
            return self.steps.streams.record(lambda: member.compute(self.inputs, own), self.steps.stream(member))
        except RuntimeError as error:
            self.steps.eager.add(id(member))
            self.steps.refused(f"{member.label}: its step", error, "it runs eagerly")
            return None


class _Step(_Static):
    """The captured step of one batch size as one graph: the shared part, then every member on a stream of its own."""

    def __init__(self, steps: CapturedSteps, draws: EpochDraws) -> None:
        super().__init__(steps, draws)
        for member in steps.cohort.active:
            member.clear_gradients()  # the captured backward makes gradients of the graph's own
        self.whole = steps.streams.record(self._work, steps.shared_stream())

    def _work(self) -> None:
        inputs = self.steps.cohort.inputs(self.draws, recording=True)
        self.steps.fork(lambda member: member.compute(inputs, self.own_draws[id(member)]))

    def replay(self, draws: EpochDraws) -> None:
        self.fill(draws)
        for member in list(self.steps.cohort.active):
            with self.steps.cohort.alone(member, doing=stepping(member, draws)):
                self.fill_own(member)
        self.whole()


class _Validation:
    """The captured look at one batch size of a validation, by all members one after the other."""

    def __init__(self, steps: ForkedSteps, batch: Plain, work: Callable[[Plain], None]) -> None:
        images, labels, indices = (t.clone() for t in batch)
        self.batch: Plain = images, labels, indices
        self.whole = steps.streams.record(lambda: work(self.batch), steps.watching)

    def replay(self, batch: Plain) -> None:
        for static, fresh in zip(self.batch, batch, strict=True):
            static.copy_(fresh, non_blocking=True)
        self.whole()


def _why(error: RuntimeError) -> str:
    told = error.__context__ or error  # ending a broken capture fails too, and hides what broke it
    return (str(told).splitlines() or ["no reason given"])[0]
