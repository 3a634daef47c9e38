"""Runs that are told to stop, and lines for people that nobody takes: save first, then speak, and say how it ended."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import pytest
import torch
from study_samples import experiment, keep_teacher

from kdnb import cli
from kdnb.errors import KdnbError, StoreError, reason
from kdnb.exhibits import show as showing
from kdnb.study import progress as progress_module
from kdnb.study.experiment import Run
from kdnb.study.progress import Progress
from kdnb.study.recorder import Recorder
from kdnb.study.runner import Outcome, Runner
from kdnb.study.store import Store
from kdnb.training.checkpoint import load_checkpoint
from kdnb.training.numerics import detect

pytestmark = pytest.mark.usefixtures("empty_project")
RUN = Run(experiment("plain"), 1)


def train(runs: list[Run], **options: object) -> Outcome:
    return Runner(Store.open(), detect("cpu"), "comparison", **{"say": lambda line: None, **options}).run(runs)


def stop_with(number: int, at: int = 2):
    """Something to do after every step: at this one, a signal."""
    steps = iter(range(1, 10_000))
    return lambda cohort: os.kill(os.getpid(), number) if next(steps) == at else None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_whatever_stops_a_run_its_checkpoint_is_written(number):
    lines: list[str] = []
    before = signal.getsignal(number)
    outcome = train([RUN], on_step=stop_with(number), say=lines.append)
    assert (outcome.stopped, outcome.left, outcome.recorded) == (number, 1, [])
    assert load_checkpoint(Store.open().running_folder(RUN)) is not None
    assert lines[-1] == "stopped; checkpoints are written, and the same command goes on from them"
    assert signal.getsignal(number) is before
    assert train([RUN]).left == 0


def test_a_signal_that_the_caller_has_us_ignore_is_ignored():
    """As under nohup: the terminal may close."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        outcome = train([RUN], on_step=stop_with(signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not outcome.stopped and outcome.recorded == [RUN]


CODES = {
    "done": (Outcome(), [], 0),
    "the budget is spent": (Outcome(left=2), ["--budget", "9m"], 0),
    "left over": (Outcome(left=2), [], 3),
    "failed": (Outcome(failed={("f", 1): "kd, seed 1: no."}, left=1), [], 4),
    "failed within a budget": (Outcome(failed={("f", 1): "kd, seed 1: no."}, left=1), ["--budget", "9m"], 4),
    "the keyboard": (Outcome(left=1, stopped=signal.SIGINT), [], 130),
    "a batch system": (Outcome(left=1, stopped=signal.SIGTERM), ["--budget", "9m"], 143),
    "a terminal that closes": (Outcome(left=1, stopped=signal.SIGHUP), [], 129),
    "stopped when all was done": (Outcome(stopped=signal.SIGTERM), [], 0),
}


@pytest.mark.parametrize("name", CODES)
def test_the_exit_code_tells_how_it_ended(name, monkeypatch, tmp_path):
    outcome, options, code = CODES[name]
    monkeypatch.setattr(Runner, "run", lambda self, wanted: outcome)
    exported = tmp_path / "records.tar.gz"
    command = ["kdnb", "study", "--rows", "plain", *options, "--export", str(exported)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert (done.value.code or 0) == code
    assert exported.exists()  # however it ended, what there is is packed


def test_a_cell_that_is_interrupted_ends_so_once_its_checkpoint_is_written(monkeypatch):
    monkeypatch.setattr(progress_module.Progress, "step", lambda self, cohort: os.kill(os.getpid(), signal.SIGINT))
    monkeypatch.setattr(showing, "detect", lambda device: detect("cpu"), raising=False)
    with pytest.raises(KeyboardInterrupt, match="run this cell again to go on"):
        showing._train(Store.open(), [RUN], "comparison", "cpu")
    assert load_checkpoint(Store.open().running_folder(RUN)) is not None


def test_a_cell_whose_run_fails_says_which_and_fails(monkeypatch):
    def refuses(*told: object) -> None:
        raise KdnbError("the dog ate it")

    monkeypatch.setattr(Recorder, "record", refuses)
    with pytest.raises(KdnbError, match=r"1 run failed: plain resnet8 on digits, seed 1: .*the dog ate it"):
        showing._train(Store.open(), [RUN], "comparison", "cpu")


def test_a_cell_whose_run_diverges_says_which_and_goes_on(capsys):
    broken = Run(experiment("kd", arguments={"labels_weight": 1e39}), 1)
    keep_teacher(broken.experiment)
    showing._train(Store.open(), [broken], "comparison", "cpu")
    told = capsys.readouterr().out
    assert f"{broken.label}: the loss was not finite at step 0" in told and "to train it again, remove" in told


# -- lines that nobody takes -----------------------------------------------------------------------------------


def reader_gone() -> io.TextIOWrapper:
    """As `| tee` leaves it on Ctrl-C."""
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w")


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise ValueError("I/O operation on closed file")


STREAMS = {
    "reader gone": reader_gone,
    "full disk": lambda: open("/dev/full", "w"),  # noqa: SIM115
    "closed": Closed,
}


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("name", STREAMS)
def test_lines_that_cannot_be_written_stop_nobody(name, terminal, monkeypatch):
    stream = STREAMS[name]()
    monkeypatch.setattr(progress_module, "BLINK_SECONDS", 0.0)
    monkeypatch.setattr(progress_module.Unfailing, "isatty", lambda self: terminal, raising=False)
    with Progress(stream) as progress:
        progress.say("a line")
        outcome = train([RUN], say=progress.say, on_epoch=progress.epoch, on_step=progress.step)
    assert outcome.recorded == [RUN]
    progress_module.let_go(stream)
    if name != "closed":
        stream.close()  # nothing is left in it that could not be written


def test_a_signal_within_a_line_waits_for_its_end():
    """Streams may not be entered twice: a handler that speaks would end the training without a checkpoint."""

    class Interrupted(io.StringIO):
        lines = 0
        writing = False

        def write(self, text: str) -> int:
            assert not self.writing, "entered twice"
            self.lines += 1
            if self.lines == 1:
                self.writing = True
                os.kill(os.getpid(), signal.SIGTERM)
                self.writing = False
            return len(text)

    progress = Progress(Interrupted())
    outcome = train([RUN], say=progress.say)
    assert outcome.stopped == signal.SIGTERM and load_checkpoint(Store.open().running_folder(RUN)) is not None


def test_a_full_disk_under_the_log_changes_nothing():
    command = [sys.executable, "-m", "kdnb", "run", "plain", "--epochs", "1", "--device", "cpu"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stderr=full, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert done.returncode == 0 and "headline" in done.stdout


def test_a_terminal_shows_a_bar_for_each_cohort_and_is_left_as_it_was(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress_module, "BLINK_SECONDS", 0.0)
    stream = Terminal()
    with Progress(stream) as progress:
        train([RUN], say=progress.say, on_epoch=progress.epoch, on_step=progress.step)
    shown = stream.getvalue()
    assert "epoch 2/2" in shown and "images/s, 1 runs" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
    assert f"{RUN.label}: " in shown


# -- what goes wrong with one run ------------------------------------------------------------------------------


def test_a_run_that_cannot_be_recorded_fails_alone_and_keeps_its_checkpoint(monkeypatch):
    """Whatever its weights were when it went wrong, it is recorded next time as it would have been."""
    runs = [Run(experiment("kd"), 1), RUN]
    keep_teacher(runs[0].experiment)
    record = Recorder.record

    def troubled(self, work, *weights):
        if work.run == RUN:
            return record(self, work, *weights)
        work.member.student.load_state_dict({k: v * 0 for k, v in work.member.student.state_dict().items()})
        raise StoreError("the disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "record", troubled)
        outcome = train(runs)
    assert outcome.recorded == [RUN] and outcome.left == 1
    says = f"{runs[0].label}: trained, but not recorded (the disk is full); its checkpoint is kept."
    assert outcome.failed == {runs[0].key: says}
    steps: list[object] = []
    assert train(runs, on_step=steps.append).recorded == [runs[0]] and not steps
    once = Store.open().get(*runs[0].key)
    once.path.unlink()
    train(runs)
    again = Store.open().get(*runs[0].key)
    assert (once.metrics, once.history, once.correct) == (again.metrics, again.history, again.correct)


ERRORS = {
    "ours": (StoreError("The disk is full."), "The disk is full"),
    "memory": (MemoryError(), "the memory does not hold it"),
    "memory of a device": (torch.OutOfMemoryError("CUDA out of memory"), "the memory does not hold it"),
    "memory of torch": (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "the memory does not hold it"),
    "permission": (PermissionError(13, "no", "results"), "results may not be read or written by this user"),
    "disk": (OSError(28, "No space left on device", "results"), "results: No space left on device"),
    "a fault of ours": (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_named_for_what_they_are(name):
    error, says = ERRORS[name]
    assert reason(error) == says


def test_an_unforeseen_error_says_where():
    try:
        {}["student"]
    except KeyError as error:
        assert reason(error).startswith("KeyError: 'student', at test_stopping.py:")


def test_a_run_that_cannot_be_built_fails_alone_and_by_name(monkeypatch):
    other = Run(RUN.experiment, 2)
    built = Runner._built

    def without_memory(self, run, *rest):
        if run == other:
            raise MemoryError
        return built(self, run, *rest)

    monkeypatch.setattr(Runner, "_built", without_memory)
    outcome = train([other, RUN])
    assert outcome.recorded == [RUN]
    assert outcome.failed[other.key] == f"{other.label}: it cannot be trained (the memory does not hold it)."
