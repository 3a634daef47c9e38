"""Training what is missing: by priority, in cohorts, within a budget, and on from where it stopped."""

from __future__ import annotations

import contextlib
import functools
import itertools
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch

from kdnb import analysis
from kdnb.errors import DataError, KdnbError, StoreError, is_memory, reason
from kdnb.lock import Lock
from kdnb.study import plan
from kdnb.study.environment import commit, environment, source_digest
from kdnb.study.experiment import Run
from kdnb.study.progress import say as said
from kdnb.study.recorder import Recorder
from kdnb.study.store import Store
from kdnb.study.work import Work, begun
from kdnb.study.workbench import Workbench
from kdnb.training import numerics as numerics_module
from kdnb.training.checkpoint import Checkpoint, keep_aside, remove_checkpoint, try_to_write
from kdnb.training.cohort import Cohort, run_side_by_side
from kdnb.training.member import load_weights
from kdnb.training.numerics import Numerics

CHECKPOINT_SECONDS = 60.0
#: Seconds that are kept free at the end of a budget for checkpoints.
RESERVE_SECONDS = 5.0
#: A checkpoint larger than this does not travel: at the last call of a machine such a stage must be able to finish.
LARGEST_CHECKPOINT = 64 * 2**20
#: The first steps are captured; from there to so many, the rest of a stage can be estimated.
STEPS_TO_START, STEPS_TO_ESTIMATE = 20, 100
#: What stops cleanly: a batch system, the keyboard, a terminal that closes.
STOPPING = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
#: Seconds between two looks at what another process is training; so many of its runs are named.
WAIT_SECONDS = 2.0
FEW = 3


@dataclass
class Outcome:
    """What a call of `Runner.run` did: runs recorded, runs that failed (with the reason), runs left.

    `stopped` is the number of the signal that stopped it, 0 without one; `lost` counts workers that did not say how
    they ended (`kdnb.study.workers`).
    """

    recorded: list[Run] = field(default_factory=list)
    failed: dict[tuple[str, int], str] = field(default_factory=dict)
    left: int = 0
    stopped: int = 0
    lost: int = 0

    def check(self) -> None:
        """Raises KdnbError where runs failed, with every reason once."""
        if self.failed:
            count = f"{len(self.failed)} run{'s' * (len(self.failed) != 1)}"
            raise KdnbError(f"{count} failed: " + " ".join(dict.fromkeys(self.failed.values())))


class Runner:
    """Trains runs into the store, each under its numerics: one for all, or what a function gives for a run.

    `paper` files the records: one for all, or the one of each experiment by its fingerprint.
    `say` gets lines for people; `on_epoch` and `on_step` get every cohort after each of its epochs and steps.
    `budget` is in seconds; at most `together` runs train side by side.  What is in progress goes on under the
    numerics that it began with, wherever this machine can compute them; under those of now with `any_numerics`.  At the
    `last_call` of a machine a state that is too large to leave it is not begun in vain.

    SIGTERM, SIGINT and SIGHUP stop cleanly: checkpoints are written and `run` returns; a signal that our caller has us
    ignore (nohup) is ignored.  Another thread may put into `given_up` what failed elsewhere, as `on_failure` tells it.
    """

    def __init__(
        self,
        store: Store,
        numerics: Numerics | Callable[[Run], Numerics],
        paper: str | Mapping[str, str],
        budget: float | None = None,
        say: Callable[[str], None] = said,
        on_epoch: Callable[[Cohort], None] = lambda cohort: None,
        on_step: Callable[[Cohort], None] = lambda cohort: None,
        together: int = plan.LARGEST_COHORT,
        any_numerics: bool = False,
        last_call: bool = False,
        *,
        on_failure: Callable[[Run], None] = lambda run: None,
    ) -> None:
        self.store = store
        self.together = together
        self.numerics_of: Callable[[Run], Numerics] = numerics if callable(numerics) else lambda run: numerics
        self.any_numerics = any_numerics
        self.last_call = last_call
        self.say = say
        self.on_epoch = on_epoch
        self.on_step = on_step
        self.on_failure = on_failure
        self.given_up: set[tuple[str, int]] = set()
        self.deadline = None if budget is None else time.monotonic() + budget - RESERVE_SECONDS
        self.paper = paper
        environment({}, {})  # the sources as they are when the work begins, not when it ends
        self.outcome = Outcome()
        self._rooms: dict[Numerics, tuple[Workbench, Recorder]] = {}
        self._works: dict[tuple[str, int], Work] = {}
        self._put_off: set[tuple[str, int]] = set()
        self._unsaved: set[tuple[str, int]] = set()
        self._wanted: list[Run] = []
        self._needed: set[tuple[str, int]] = set()
        self._locks: dict[tuple[str, int], Lock] = {}
        self._elsewhere: set[tuple[str, int]] = set()
        self._waiting = False

    def run(self, wanted: Iterable[Run]) -> Outcome:
        """Train every wanted run that has no record, with what it needs, until done or out of time.

        Runs that another process is training are left to it; what is left then is waited for.
        """
        self._wanted = list(wanted)
        self._needed = plan.needed(self._wanted)
        missing = self._missing()
        for folder in {self.store.home(run.experiment).results for run in missing}:  # not after hours of training
            try_to_write(folder / "records", "point $KDNB_STORE elsewhere")
        unknown = commit()[1]
        if unknown and missing:
            self.say(f"the commit is unknown ({unknown}); records carry the digest of the sources, {source_digest()}")
        with listening(self._stop), self._released_at_the_end():
            while not self._stopping():
                todo = [r for r in self._missing() if r.key not in self.outcome.failed.keys() | self.given_up]
                ready = [r for r in todo if not self._waits(r) and r.key not in self._put_off]
                here = [r for r in ready if r.key not in self._elsewhere]
                stored = [r for r in here if self._only_lacks_arrays(r)]
                if stored:
                    self._add_arrays(stored[0])
                elif here:
                    self._train_together(plan.urgent(here, todo))
                elif ready:
                    self._wait_for_others(ready)
                else:
                    break
        left = {run.key for run in self._missing()}
        self.outcome.left = len(left)
        if self.outcome.stopped and left:
            unsaved = len(self._unsaved & left)
            lost = f", but for {unsaved} that could not be" if unsaved else ""
            self.say(f"stopped; checkpoints are written{lost}, and the same command goes on from them")
        return self.outcome

    def room(self, numerics: Numerics) -> tuple[Workbench, Recorder]:
        """What makes and what records the runs of these numerics; images and teachers are kept there."""
        if numerics not in self._rooms:
            workbench = Workbench(self.store, numerics, self.say)
            self._rooms[numerics] = workbench, Recorder(self.store, workbench, numerics, self.paper)
        return self._rooms[numerics]

    def _keeps(self, work: Work) -> list[str]:
        return self.room(work.numerics)[1].keeps(work.run)

    def _missing(self) -> list[Run]:
        return plan.missing(self._wanted, self.store)

    def _waits(self, run: Run) -> bool:
        return any(self.store.weights_folder(need) is None for need in run.needs())

    # -- other processes -------------------------------------------------------------------------------

    def _claimed(self, runs: list[Run]) -> list[Run]:
        """Those of the runs that are ours to train: no other process does, or has done by now."""
        claiming = self.store.claiming(runs[0])
        try:
            return self._claim(runs)
        finally:
            if claiming is not None:
                claiming.release()

    def _claim(self, runs: list[Run]) -> list[Run]:
        fresh = [run for run in runs if run.key not in self._locks]
        for run in fresh:
            lock = self.store.lock(run)
            if lock is None:
                self._elsewhere.add(run.key)
            else:
                self._locks[run.key] = lock
        if any(run.key in self._locks for run in fresh):
            self.store.refresh()
            missing = {run.key for run in self._missing()}
            for run in fresh:
                if run.key not in missing:
                    self._release(run)
        return [run for run in runs if run.key in self._locks]

    def _wait_for_others(self, runs: list[Run]) -> None:
        if not self._waiting:
            named = ", ".join(run.label for run in runs[:FEW])
            more = f" and {len(runs) - FEW} more" if len(runs) > FEW else ""
            self.say(f"waiting for another process that is training {named}{more}")
        self._waiting = True
        time.sleep(WAIT_SECONDS)
        self._elsewhere.clear()
        self.store.refresh()

    def _release(self, run: Run) -> None:
        lock = self._locks.pop(run.key, None)
        if lock is not None:
            lock.release()

    @contextlib.contextmanager
    def _released_at_the_end(self) -> Iterator[None]:
        try:
            yield
        finally:
            for lock in self._locks.values():
                lock.release()
            self._locks.clear()
            self._works.clear()

    # -- one cohort ------------------------------------------------------------------------------------

    def _train_together(self, ready: list[Run]) -> None:
        """Train the most urgent run, and whoever can share its stream of batches, to the end of a stage.

        On CUDA further seeds go side by side, a cohort each.
        """
        companies = self._companies(ready)
        works = [work for company in companies for work in company]
        if not works:
            return
        with _within_memory(len(works)):  # their teachers are loaded
            cohorts = [self._cohort(company) for company in companies]
        pairs = list(zip(companies, cohorts, strict=True))
        numerics_module.apply(works[0].numerics)
        for company, cohort in pairs:
            if not all(work.trained for work in company):
                self._announce(company, cohort)
        self._follow(works)  # before the first step
        for work, cohort in ((work, cohort) for company, cohort in pairs for work in company):
            work.company = len(cohort.members)
        whole = self._run(cohorts, works)
        self.account(works, cohorts)
        if not whole or any(self._keeps(work) for work in works):
            self._save(works)  # analyses take their time: from here on no training can be lost
        for work in sorted(works, key=lambda work: bool(self._keeps(work))):
            self._settle(work)
        self._elsewhere.clear()  # time has passed: others may be done, or gone
        self._waiting = False

    def _run(self, cohorts: list[Cohort], works: list[Work]) -> bool:
        """Whether the cohorts ran to their end; KdnbError where memory does not hold them."""
        with _within_memory(len(works)):
            return run_side_by_side(cohorts, _Watch(self, works, cohorts))

    def _announce(self, works: list[Work], cohort: Cohort) -> None:
        names = ", ".join(work.run.experiment.method for work in works)
        stage = works[0].member.stage
        self.say(
            f"seed {cohort.seed}, {works[0].run.experiment.images.dataset}: {names} "
            f"({stage.epochs - cohort.epoch} epochs of stage '{stage.name}', batch {cohort.batch_size})"
        )

    def _companies(self, ready: list[Run]) -> list[list[Work]]:
        """Works that train at the same time, a list for each cohort; the most urgent run is in the first."""
        companies: list[list[Work]] = []
        room = self.together
        leads = {(run.seed, run.experiment.images): run for run in reversed(ready)}
        for lead in sorted(leads.values(), key=ready.index):
            ours = self._claimed(plan.alike(lead, ready)[:room])
            works = [w for w in (self._work(run) for run in ours) if w is not None]
            if works:
                how = companies[0][0].numerics if companies else works[0].numerics
                company = [w for w in works if w.place == works[0].place and w.numerics == how][:room]
                companies += [company] if company else []
                room -= len(company)
                self._leave_to_others([work for work in works if work not in company])
            if room <= 0 or any(work.numerics.device == "cpu" for company in companies for work in company):
                break
        return companies

    def _leave_to_others(self, works: list[Work]) -> None:
        """Give up the claim on works that are at another stage than the company: their state is on disk."""
        for work in works:
            self._works.pop(work.run.key, None)
            self._release(work.run)

    def _work(self, run: Run) -> Work | None:
        """The run in progress, taken up from its checkpoint; None, and said, if it cannot be built.

        KdnbError where memory does not hold it beside the others: it may be trained when there are fewer.
        """
        if run.key not in self._works:
            try:
                work = self._resumed(run)
            except DataError as error:
                self._without_images(run, error)
                return None
            except Exception as error:
                if is_memory(error) and self._works:
                    raise _too_many(len(self._works) + 1) from error
                self._fail(run, f"{run.label}: it cannot be trained ({reason(error)}).")
                return None
            self._works[run.key] = work
        return self._works[run.key]

    def _without_images(self, run: Run, error: DataError) -> None:
        """Give up all runs on a data set that is not here, so that others go on; the error is raised where none do."""
        missing = run.experiment.images.dataset
        todo = [r for r in self._missing() if r.key not in self.outcome.failed.keys() | self.given_up]
        lost = [r for r in todo if r.experiment.images.dataset == missing]
        if len(lost) == len(todo):
            raise error
        for each in lost:
            self._drop(each, str(error))
        self.say(f"{error} Left out for now: {len(lost)} run{'s' * (len(lost) != 1)}; those on other images go on.")

    def _resumed(self, run: Run) -> Work:
        asked = self.numerics_of(run)
        found = self._checkpoint(run, asked)
        if found is None:
            if self.store.get(*run.key) is not None and self.store.lacking(run):
                arrays = ", ".join(self.store.lacking(run))
                self.say(
                    f"{run.label}: trained again, its figure needs arrays ({arrays}) that the stored run did not keep"
                )
            return self._built(run, asked)
        (tensors, meta), numerics = found
        work = self._built(run, numerics)
        try:
            work.take_up(tensors, meta)
        except StoreError as error:
            self._keep_aside(run, str(error))
            return self._built(run, asked)
        goes_on = f"goes on at epoch {work.member.epoch + 1} of {work.member.stage.epochs}"
        self.say(f"{run.label}: {'is trained, and only to be recorded' if work.trained else goes_on}")
        return work

    def _checkpoint(self, run: Run, asked: Numerics) -> tuple[Checkpoint, Numerics] | None:
        """The run's checkpoint, or one that was kept aside, if this machine can go on from it; and under what.

        One that is damaged, or whose numerics this machine cannot compute, is kept aside and said.
        """
        folder = self.store.running_folder(run)
        for place in (folder, *sorted(folder.parent.glob(f"{folder.name}~*"))):
            try:
                found = begun(place)
                if found is None:
                    continue
                numerics = asked if self.any_numerics else numerics_module.restored(found[1]["numerics"])
            except StoreError as error:
                if place == folder:
                    self._keep_aside(run, str(error))
                continue
            if place != folder:
                remove_checkpoint(folder)
                place.rename(folder)
            return found, numerics
        return None

    def _keep_aside(self, run: Run, why: str) -> None:
        aside = keep_aside(self.store.running_folder(run))
        self.say(f"{run.label}: {why.rstrip('.')}; it is kept aside as {aside}, and the run starts again")

    def _built(self, run: Run, numerics: Numerics) -> Work:
        numerics_module.apply(numerics)
        workbench, _ = self.room(numerics)
        return Work(run, workbench.stages(run), numerics)

    def _cohort(self, works: list[Work]) -> Cohort:
        numerics = works[0].numerics
        workbench, _ = self.room(numerics)
        material, _ = workbench.material(works[0].run.experiment.images, works[0].run.seed)
        teachers = [w.run.teacher for w in works if w.run.teacher is not None]
        teacher = workbench.teacher(teachers[0]) if teachers else None
        members = [w.member for w in works]
        return Cohort(members, teacher, material, numerics, functools.partial(self._end_of_epoch, works), self.say)

    def _end_of_epoch(self, works: list[Work], cohort: Cohort) -> None:
        self._follow(works)
        self.on_epoch(cohort)

    def _follow(self, works: list[Work]) -> None:
        """What is followed over the epochs of runs is measured now, where it is due."""
        for work in works:
            if work.member.failed is None and work.run.experiment.scored:
                self.room(work.numerics)[1].follow(work)

    def account(self, works: list[Work], cohorts: list[Cohort]) -> None:
        """Put down what works have cost since they were last accounted for."""
        for work, cohort in itertools.product(works, cohorts):
            seconds, images = cohort.meter.take(work.member)
            work.seconds += seconds
            work.images += images

    def _settle(self, work: Work) -> None:
        """After a cohort: record a finished run, forget a failed one, keep the rest."""
        run = work.run
        if work.member.failed is not None and work.member.by_error:  # it may go on from its checkpoint another time
            self._drop(run, work.member.failed)
        elif work.member.failed is not None:
            self._diverged(work)
        elif work.trained and self._keeps(work) and self._stopping():
            self.say(f"{run.label}: trained; the arrays that it keeps are computed next time")
        elif work.member.finished:
            last = work.member.weights()
            selected = work.member.selected_weights()
            if work.next_stage():
                self._save([work])
            else:
                self._record(work, selected, last)

    def _record(self, work: Work, selected: dict[str, torch.Tensor], last: dict[str, torch.Tensor]) -> None:
        """Record a trained run; one that cannot be recorded fails alone, and goes on from its checkpoint next time."""
        run = work.run
        try:
            metrics, failures = self.room(work.numerics)[1].record(work, selected, last, run.key in self._needed)
        except Exception as error:
            load_weights(work.member.stage.modules, last)
            try:
                work.save(self.store)
                kept = "its checkpoint is kept"
            except StoreError:
                kept = "its last checkpoint could not be written, and it goes on from the one before, if there is one"
            self._fail(run, f"{run.label}: trained, but not recorded ({reason(error)}); {kept}.")
            return
        self._not_analysed(run, failures)
        if not self.store.lacking(run):  # else its weights are there for another try
            self.store.forget_running(run)
        self._works.pop(run.key, None)
        self._release(run)
        self.outcome.recorded.append(run)
        self.say(f"{run.label}: {_told(metrics)} in {work.seconds:.0f} s")

    def _diverged(self, work: Work) -> None:
        """Record a run that diverged, as its cohort has said: that is a result, and it is not trained again.

        One that has a record, or that teaches others, has failed: the record stays, and the others wait for a teacher.
        """
        run, stored = work.run, self.store.get(*work.run.key)
        if stored is not None or (run.key in self._needed and run.experiment.scored):
            self._drop(run, str(work.member.failed))
            self.store.forget_running(run)
            return
        try:
            path = self.room(work.numerics)[1].record_diverged(work)
        except Exception as error:
            self._fail(run, f"{run.label}: diverged, but not recorded ({reason(error)}).")
            return
        self.store.forget_running(run)
        self._works.pop(run.key, None)
        self._release(run)
        self.outcome.recorded.append(run)
        self.say(f"{run.label}: recorded as diverged; to train it again, remove {path}")

    # -- arrays that figures need ------------------------------------------------------------------------

    def _only_lacks_arrays(self, run: Run) -> bool:
        """Whether a stored run left its weights, so that nothing has to be trained again for its figures."""
        lacking = [analysis.get(name) for name in self.store.lacking(run)]
        in_training = any(entry.at or "modules" in entry.needs for entry in lacking)
        stored = self.store.get(*run.key) is not None and self.store.weights_folder(run) is not None
        return stored and bool(lacking) and not in_training

    def _add_arrays(self, run: Run) -> None:
        if not self._claimed([run]):
            return
        self.say(f"{run.label}: arrays for its figure, from the weights that the stored run left")
        try:
            numerics = self.numerics_of(run)
            numerics_module.apply(numerics)
            analysed = self.room(numerics)[1].add_arrays(run)
        except Exception as error:
            self._fail(run, f"{run.label}: its arrays could not be added ({reason(error)}).")
            return
        self._not_analysed(run, analysed.failures)
        if analysed.arrays or analysed.metrics:
            self.outcome.recorded.append(run)
        self._release(run)

    def _not_analysed(self, run: Run, failures: list[str]) -> None:
        for failure in failures:
            self.outcome.failed[run.key] = failure
            self.on_failure(run)
            self.say(failure)

    # -- stopping ----------------------------------------------------------------------------------------

    def _save(self, works: list[Work]) -> None:
        """Write the checkpoints of works.  One that cannot be written is said, and training goes on without.

        A disk that is full now may have room in a minute; what there was before is still there.
        """
        for work in works:
            if work.member.failed is not None or work.run.key in self._put_off:
                continue
            try:
                work.save(self.store)
            except StoreError as error:
                if work.run.key not in self._unsaved:
                    self.say(f"{work.run.label}: no checkpoint for now ({reason(error)}).")
                self._unsaved.add(work.run.key)
            else:
                self._unsaved.discard(work.run.key)

    def put_off(self, work: Work) -> None:
        """Leave a run for another time: it would not finish in this budget, and its state is too large to keep."""
        self._put_off.add(work.run.key)
        self._works.pop(work.run.key, None)
        self._release(work.run)
        self.say(f"{work.run.label}: put off, it would not finish within the budget and is too large to travel")

    def _fail(self, run: Run, why: str) -> None:
        self._drop(run, why)
        self.say(why)

    def _drop(self, run: Run, why: str) -> None:
        self.outcome.failed[run.key] = why
        self.on_failure(run)  # before anybody else can claim it
        self._works.pop(run.key, None)
        self._release(run)

    def _stopping(self) -> bool:
        return bool(self.outcome.stopped) or (self.deadline is not None and time.monotonic() > self.deadline)

    def _stop(self, number: int, frame: object) -> None:
        if self.outcome.stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.outcome.stopped = number  # nothing is said here: a line may be half written just now


@contextlib.contextmanager
def listening(stop: Callable[[int, object], None]) -> Iterator[None]:
    """Signals that stop cleanly are handled by `stop` in here, but for those that our caller has us ignore."""
    heard = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    try:
        before = {number: signal.signal(number, stop) for number in heard}
    except ValueError:  # not in the main thread: whoever runs us stops us
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Watch:
    """Asked after every step of all cohorts whether to stop; writes checkpoints now and then."""

    def __init__(self, runner: Runner, works: list[Work], cohorts: list[Cohort]) -> None:
        self.runner, self.works, self.cohorts = runner, works, cohorts
        self.began = self.saved = time.monotonic()
        self.steps = 0

    def __call__(self) -> bool:
        self.steps += 1
        for cohort in self.cohorts:
            self.runner.on_step(cohort)
        if self.steps == STEPS_TO_START:
            numerics_module.wait(self.cohorts[0].numerics)
            self.began = time.monotonic()
        if self.steps == STEPS_TO_ESTIMATE and self._hopeless():
            return True
        if time.monotonic() - self.saved > CHECKPOINT_SECONDS:
            self.runner.account(self.works, self.cohorts)
            self.runner._save(self.works)
            self.saved = time.monotonic()
        return self.runner._stopping()

    def _hopeless(self) -> bool:
        """Whether a stage that cannot travel would not end by the last call; its runs are put off, and that is said."""
        if self.runner.deadline is None or not self.runner.last_call:
            return False
        large = [w for w in self.works if w.member.state_bytes() > LARGEST_CHECKPOINT]
        numerics_module.wait(self.cohorts[0].numerics)
        seconds_per_step = (time.monotonic() - self.began) / (STEPS_TO_ESTIMATE - STEPS_TO_START)
        steps = max(cohort.steps_per_epoch for cohort in self.cohorts)
        left = max(((w.member.stage.epochs - w.member.epoch) * steps for w in large), default=0)
        if time.monotonic() + left * seconds_per_step <= self.runner.deadline:
            return False
        for work in large:
            self.runner.put_off(work)
        return bool(large)


@contextlib.contextmanager
def _within_memory(count: int) -> Iterator[None]:
    """Where memory does not hold so many runs, that is said, with what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_memory(error):
            raise
        raise _too_many(count) from error


def _too_many(count: int) -> KdnbError:
    """What is said where memory does not hold so many runs."""
    return KdnbError(
        f"The memory does not hold {count} runs side by side; train fewer at once, as with "
        f"--together {max(1, count // 2)}. What was saved in the last minute is taken up again."
    )


def _told(metrics: dict[str, float]) -> str:
    if "headline" in metrics:
        return f"{100 * metrics['headline']:.2f} %"
    return f"validation loss {metrics['selected']:.4g}" if "selected" in metrics else "done"
