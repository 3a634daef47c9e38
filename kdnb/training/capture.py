"""Steps on CUDA, captured once per batch shape and replayed: no Python and no launch in the hot path.

The first steps of a shape run eagerly on the streams they will be captured on: they are steps of the
training like any other, and leave the optimiser's state and the library's choice of kernels behind.  Then
the shared part (gather, crop, flip, teacher) becomes one graph, and every member's step one of its own, on
a stream of its own.  What cannot be captured runs eagerly from then on, with one notice that says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdnb.training.images import EpochDraws
from kdnb.training.member import Inputs, Member

if TYPE_CHECKING:
    from kdnb.training.cohort import Cohort

WARM_UP = 3


class CapturedSteps:
    """Runs a cohort's steps from graphs; one set of graphs per batch size and set of active members."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort
        self.streams: dict[int, torch.cuda.Stream] = {}
        self.warm: dict[int, int] = {}
        self.graphs: dict[int, _Graphs] = {}
        self.company: tuple[int, ...] = ()

    def run(self, draws: EpochDraws) -> None:
        company = tuple(id(m) for m in self.cohort.active)
        if company != self.company:  # somebody left: the teacher may go less deep, memory can go back
            self.company, self.graphs, self.warm = company, {}, {}
        size = len(draws.order)
        if size in self.graphs:
            self.graphs[size].replay(draws)
            return
        self._eagerly_on_streams(draws)
        self.warm[size] = self.warm.get(size, 0) + 1
        if self.warm[size] >= WARM_UP:
            torch.cuda.synchronize()
            self.graphs[size] = _Graphs(self, draws)

    def stream(self, member: Member) -> torch.cuda.Stream:
        return self.streams.setdefault(id(member), torch.cuda.Stream())

    def _eagerly_on_streams(self, draws: EpochDraws) -> None:
        main = torch.cuda.current_stream()
        inputs = self.cohort.inputs(draws, self.cohort.teacher_depth())
        for member in self.cohort.active:
            stream = self.stream(member)
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                member.clear_gradients()
                member.compute(inputs, member.draw(len(draws.order)))
        for member in self.cohort.active:
            main.wait_stream(self.stream(member))


class _Graphs:
    """The captured step of one batch size: static inputs, the shared graph, a graph per member."""

    def __init__(self, steps: CapturedSteps, draws: EpochDraws) -> None:
        self.steps = steps
        self.cohort = steps.cohort
        self.draws = EpochDraws(*(t.clone() for t in draws.fields()))
        self.shared = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.shared):
            self.inputs = self.cohort.inputs(self.draws, self.cohort.teacher_depth())
        self.own_draws: dict[int, dict[str, Tensor]] = {}
        self.members: dict[int, torch.cuda.CUDAGraph | None] = {}
        for member in self.cohort.active:
            self.own_draws[id(member)] = {k: v.clone() for k, v in member.draw(len(draws.order)).items()}
            self.members[id(member)] = self._capture(member)

    def replay(self, draws: EpochDraws) -> None:
        for static, fresh in zip(self.draws.fields(), draws.fields(), strict=True):
            static.copy_(fresh, non_blocking=True)
        self.shared.replay()
        main = torch.cuda.current_stream()
        for member in self.cohort.active:
            stream = self.steps.stream(member)
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                self._step(member)
        for member in self.cohort.active:
            main.wait_stream(self.steps.stream(member))

    def _step(self, member: Member) -> None:
        own = self.own_draws[id(member)]
        for name, fresh in member.draw(len(self.draws.order)).items():
            own[name].copy_(fresh, non_blocking=True)
        graph = self.members[id(member)]
        if graph is None:
            member.clear_gradients()
            member.compute(_detached(self.inputs), own)
        else:
            graph.replay()

    def _capture(self, member: Member) -> torch.cuda.CUDAGraph | None:
        member.clear_gradients()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.steps.stream(member)):
                member.compute(_detached(self.inputs), self.own_draws[id(member)])
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            self.cohort.notice(f"{member.label}: its step cannot be captured ({reason}); it runs eagerly.")
            torch.cuda.synchronize()
            return None
        return graph


def _detached(inputs: Inputs) -> Inputs:
    """The same tensors in a new object: an objective may not change what the others see."""
    return Inputs(inputs.images, inputs.labels, inputs.indices, inputs.epoch, inputs.teacher)
