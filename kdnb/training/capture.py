"""Steps on CUDA, captured once per batch shape and replayed: no Python and no launch in the hot path.

The first steps of a shape run eagerly on the streams they will be captured on: they are steps of the
training like any other, and leave the optimiser's state and the library's choice of kernels behind.  Then
the shared part (gather, crop, flip, teacher) becomes one graph, and every member's step one of its own, each on
a stream of its own: a library's workspace belongs to its stream, and graphs that share one would lose it when
the first of them goes.  What cannot be captured runs eagerly from then on, with one notice that says why.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from kdnb.training.images import EpochDraws
from kdnb.training.member import Inputs, Member
from kdnb.training.steps import Stepped, stepping

WARM_UP = 3
#: CUDA hands out so many streams, and then the same ones again.
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


class CapturedSteps:
    """Runs a cohort's steps from graphs; one set of graphs per batch size and set of active members."""

    def __init__(self, cohort: Stepped) -> None:
        self.cohort = cohort
        self.streams = Streams()
        self.common: Any = None
        self.own_streams: dict[int, Any] = {}
        _ALIVE.add(self)
        self.warm: dict[int, int] = {}
        self.graphs: dict[int, _Graphs] = {}
        self.captured_for: tuple[int, ...] = ()
        self.eager: set[int] = set()

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
        if self.warm[size] >= WARM_UP:
            self.streams.synchronize()
            self.graphs[size] = _Graphs(self, draws)

    def shared_stream(self) -> Any:
        """The stream of what all members have in common."""
        if self.common is None:
            self.common = self.streams.new()
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
        main, common = self.streams.main(), self.shared_stream()
        self.streams.wait(common, main)
        with self.streams.on(common):
            found = work()
        self.streams.wait(main, common)
        return found

    def side_by_side(self, work: Callable[[Member], None], draws: EpochDraws) -> None:
        """Do something for every member on its own stream, after all that was begun, before all that follows."""
        main, members = self.streams.main(), list(self.cohort.active)
        for member in members:
            self.streams.wait(self.stream(member), main)
            with self.cohort.alone(member, doing=stepping(member, draws)), self.streams.on(self.stream(member)):
                work(member)
        for member in members:
            self.streams.wait(main, self.stream(member))


#: Whoever holds streams of the pool: the cohorts that are alive.
_ALIVE: weakref.WeakSet[CapturedSteps] = weakref.WeakSet()


class _Graphs:
    """The captured step of one batch size: static inputs, the shared graph, a graph per member.

    What a graph reads lies in tensors that stay; a replay fills them and runs.
    """

    inputs: Inputs

    def __init__(self, steps: CapturedSteps, draws: EpochDraws) -> None:
        self.steps = steps
        self.draws = EpochDraws(*(t.clone() for t in draws.fields()))
        self.own_draws = {
            id(member): {name: value.clone() for name, value in member.draw(len(draws.order)).items()}
            for member in steps.cohort.active
        }
        self.shared = steps.streams.record(self._share, steps.shared_stream())
        self.members = {id(member): self._captured(member) for member in steps.cohort.active}

    def replay(self, draws: EpochDraws) -> None:
        for static, fresh in zip(self.draws.fields(), draws.fields(), strict=True):
            static.copy_(fresh, non_blocking=True)
        self.shared()
        self.steps.side_by_side(self._step, draws)

    def _share(self) -> None:
        """Gather, crop, flip and ask the teacher: the part of a step that all members have in common."""
        self.inputs = self.steps.cohort.inputs(self.draws)

    def _step(self, member: Member) -> None:
        own = self.own_draws[id(member)]
        for name, fresh in member.draw(len(self.draws.order)).items():
            own[name].copy_(fresh, non_blocking=True)
        replay = self.members[id(member)]
        if replay is None:
            member.compute(self.inputs, own)
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
            self.steps.streams.synchronize()
            self.steps.eager.add(id(member))
            told = error.__context__ or error  # ending a broken capture fails too, and hides what broke it
            reason = (str(told).splitlines() or ["no reason given"])[0]
            self.steps.cohort.notice(f"{member.label}: its step cannot be captured ({reason}); it runs eagerly.")
            return None
