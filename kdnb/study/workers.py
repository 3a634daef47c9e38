"""One study, several processes on a CPU: each trains cohorts of its own on its share of the cores.

Small networks gain little from a second thread; a second process gains what the first leaves idle.  Workers claim runs
as any two studies on one store do, so that nothing is trained twice and one takes over what another leaves.  They are
watched from here: their lines are told, a signal reaches all of them, and what they did is told together.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

import torch

from kdnb.errors import KdnbError
from kdnb.study import plan
from kdnb.study.choice import Choice
from kdnb.study.experiment import Run
from kdnb.study.progress import BLINK_SECONDS, Place, Progress
from kdnb.study.runner import Outcome, Runner, listening
from kdnb.study.store import Store

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from kdnb.training.cohort import Cohort


@dataclass(frozen=True)
class Task:
    """What a process of a study is told: the runs, whose they are, how they are computed, and until when.

    `asked` are arguments of `Choice`; `until` is a time of the clock, in seconds.
    """

    wanted: tuple[Run, ...]
    papers: str | Mapping[str, str]
    asked: Mapping[str, Any]
    until: float | None = None
    together: int = plan.LARGEST_COHORT
    any_numerics: bool = False
    last_call: bool = False


def train(task: Task, workers: int | None, progress: Progress) -> Outcome:
    """Train what is missing: in so many processes, or as many as fit; in this one where that is one.

    Raises KdnbError for several on a GPU.
    """
    store = Store.open()
    choice = Choice(store, **task.asked, say=progress.say)
    missing = plan.missing(task.wanted, store)
    if workers is None:
        count = fitting(missing, choice, task.together)
    elif workers > 1 and choice.machine.device != "cpu":
        raise KdnbError("Workers share the cores of a CPU, and one process keeps a GPU busy; leave --workers out.")
    else:
        count = min(workers, plan.side_by_side(missing, task.together))
    if count < 2:
        return _runner(task, store, choice, progress).run(task.wanted)
    threads = max(1, choice.machine.threads // count)
    if workers is not None:  # also where the table was begun with others
        task = replace(task, asked={**task.asked, "threads": threads})
    _measure(missing, Choice(store, **{**task.asked, "threads": threads}, say=progress.say))
    progress.say(f"{count} workers with {threads} thread{'s' * (threads > 1)} each")
    return _Watch(task, threads, progress).run(count)


def fitting(missing: Iterable[Run], choice: Choice, together: int = plan.LARGEST_COHORT) -> int:
    """How many workers these runs get by themselves: a core each, where there are as many cohorts.

    One where nothing is gained, or something else decides: on a GPU, in the demo, for a single cohort, and where the
    table was begun with as many threads as there are cores, as it then goes on.
    """
    missing = list(missing)
    cores = choice.machine.threads
    if choice.machine.device != "cpu" or any(run.experiment.profile.embedded_data for run in missing):
        return 1
    count = min(cores, plan.side_by_side(missing, together))
    if count < 2:
        return 1
    begun = [numerics.threads for run in missing if (numerics := choice.begun(run)) is not None]
    return max(1, min(count, cores // max(begun, default=1)))


def _measure(missing: list[Run], choice: Choice) -> None:
    """What has to be measured of this machine is measured once, while it is quiet; workers find it."""
    threads = torch.get_num_threads()
    try:
        for run in missing:
            choice(run)
    finally:
        torch.set_num_threads(threads)


def _runner(task: Task, store: Store, choice: Choice, told: Progress | _Speaker, **options: Any) -> Runner:
    budget = None if task.until is None else task.until - time.time()
    limits = budget, told.say, told.epoch, told.step, task.together, task.any_numerics, task.last_call
    return Runner(store, choice, task.papers, *limits, **options)


# -- here ------------------------------------------------------------------------------------------------------


@dataclass
class _Worker:
    """A process, its number for people, the pipe to it, and what it said at its end."""

    number: int
    process: SpawnProcess
    pipe: Connection
    outcome: Outcome | None = None
    error: str = ""

    @property
    def ended(self) -> bool:
        return self.outcome is not None or bool(self.error)


class _Watch:
    """Starts the workers, tells people what they say and each other what failed, and waits for their end.

    SIGTERM, SIGINT and SIGHUP reach all of them: each saves what it has in progress.
    """

    def __init__(self, task: Task, threads: int, progress: Progress) -> None:
        self.task = task
        self.threads = threads
        self.progress = progress
        self.stopped = 0
        self.workers: list[_Worker] = []

    def _started(self, number: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(self.task, self.threads, theirs), name=f"worker {number}")
        process.start()
        theirs.close()
        return _Worker(number, process, ours)

    def run(self, count: int) -> Outcome:
        """What so many workers did, when all of them have ended; KdnbError for an error that ended one."""
        with listening(self._stop):
            for number in range(1, count + 1):
                self.workers.append(self._started(number))
            if self.stopped:  # meanwhile
                self._tell_all(signal.SIGTERM)
            open_pipes = {worker.pipe: worker for worker in self.workers}
            while open_pipes:
                for pipe in wait(list(open_pipes)):
                    assert isinstance(pipe, Connection)
                    try:
                        self._hear(open_pipes[pipe], *pipe.recv())
                    except (EOFError, OSError):
                        self._gone(open_pipes.pop(pipe))
        return self._together()

    def _hear(self, worker: _Worker, kind: str, told: Any) -> None:
        if kind == "line":
            self.progress.say(f"[{worker.number}] {told}")
        elif kind == "place":
            self.progress.worker(worker.number, *told)
        elif kind == "failed":
            for other in self.workers:
                if other is not worker:
                    with contextlib.suppress(OSError):
                        other.pipe.send(told)
        elif kind == "outcome":
            worker.outcome = told
        elif kind == "error":
            worker.error = told
            self._tell_all(signal.SIGTERM)  # no other worker would fare better

    def _gone(self, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        self.progress.worker_ended(worker.number)
        if not worker.ended and not self.stopped:
            code = worker.process.exitcode or 0
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self.progress.say(f"[{worker.number}] ended by {how}; what it saved is taken up by others, or next time")

    def _stop(self, number: int, frame: object) -> None:
        if self.stopped and number == signal.SIGINT:
            self._tell_all(signal.SIGINT)
            raise KeyboardInterrupt
        self.stopped = number
        self._tell_all(signal.SIGTERM)  # one that is only starting ends without a word

    def _tell_all(self, number: int) -> None:
        for worker in self.workers:
            if worker.process.is_alive() and worker.process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.process.pid, number)

    def _together(self) -> Outcome:
        for worker in self.workers:
            if worker.error:
                raise KdnbError(worker.error)
        found = [worker.outcome for worker in self.workers if worker.outcome is not None]
        recorded = [run for outcome in found for run in outcome.recorded]
        failed = {key: why for outcome in found for key, why in outcome.failed.items()}
        stopped = self.stopped or max((outcome.stopped for outcome in found), default=0)
        left = len(plan.missing(self.task.wanted, Store.open()))
        return Outcome(recorded, failed, left, stopped, lost=len(self.workers) - len(found))


# -- in a worker -----------------------------------------------------------------------------------------------


def _work(task: Task, threads: int, pipe: Connection) -> None:
    """A worker's whole life."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)  # the keyboard's signal comes once, from whoever watches us
    torch.set_num_threads(threads)
    speaker = _Speaker(pipe)
    try:
        store = Store.open()
        choice = Choice(store, **task.asked, say=speaker.say)
        runner = _runner(task, store, choice, speaker, on_failure=lambda run: speaker.send("failed", run.key))
        threading.Thread(target=_listen, args=(pipe, runner), daemon=True).start()
        speaker.send("outcome", runner.run(task.wanted))
    except KdnbError as error:
        speaker.send("error", str(error))
        sys.exit(1)


def _listen(pipe: Connection, runner: Runner) -> None:
    """Leave alone what failed elsewhere; stop when nobody watches us any more."""
    try:
        while True:
            runner.given_up.add(pipe.recv())
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)


class _Speaker:
    """Tells whoever watches what people should see; that nobody listens ends no training."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._last = -BLINK_SECONDS

    def send(self, kind: str, told: Any) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send((kind, told))

    def say(self, line: str) -> None:
        self.send("line", line)

    def epoch(self, cohort: Cohort) -> None:
        self._last = time.monotonic()
        self.send("place", (Place.of(cohort), True))

    def step(self, cohort: Cohort) -> None:
        if time.monotonic() - self._last >= BLINK_SECONDS:
            self._last = time.monotonic()
            self.send("place", (Place.of(cohort), False))
