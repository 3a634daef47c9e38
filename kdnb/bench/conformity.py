"""`kdnb bench --conformity`: do bfloat16 and the usual loop end where the engine in float32 ends?

The plain student and KD at pilot scale, the same seeds every way, the last epoch's weights, scored on all test images:
nothing is selected.  None of these runs enters the store, where a run has one record whatever computed it; what they
scored is kept in a file of its own, run by run as they end, and the next call goes on from there.  A file has the runs
of one machine, a processor or a GPU, and one process at a time fills it.

That the engine computes what a plain loop computes is shown step by step in float64 (tests/test_engine.py); that its
accuracies are those of the usual loop is the second look.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdnb import datasets, exhibits, methods, models, paths
from kdnb.bench.track import device_name
from kdnb.bench.usual import UsualLoop
from kdnb.errors import KdnbError
from kdnb.evaluation.correct import pack
from kdnb.kinds import parsed
from kdnb.lock import acquire
from kdnb.methods.registry import KD_DEFAULTS
from kdnb.methods.stage import Supervision
from kdnb.study.equivalence import LINES, MARGIN, SEEDS, SPREAD, power
from kdnb.study.experiment import Experiment, Run
from kdnb.study.profile import get_profile
from kdnb.study.progress import Progress
from kdnb.study.runner import Runner
from kdnb.study.store import Home, Store
from kdnb.study.workbench import student_weights
from kdnb.training import numerics as numerics_module
from kdnb.training.bfloat16 import has_bfloat16
from kdnb.training.checkpoint import ANOTHER_FILE, write_atomically
from kdnb.training.images import Normalisation
from kdnb.training.numerics import Numerics, detect, processor

EXHIBIT = "comparison/table1"
WAYS = ("float32", "bfloat16", "usual loop")


class Conformity:
    """The runs of this comparison on this machine, and the file that keeps what they scored.

    `progress` tells people what is training; without it nothing is told.
    """

    def __init__(
        self,
        path: Path,
        progress: Progress | None = None,
        profile: str = "pilot",
        dataset: str = "cifar100",
        device: str = "auto",
        seeds: int = SEEDS,
    ) -> None:
        self.path, self.seeds = path, seeds
        self.progress = progress or Progress(io.StringIO())
        self.say = self.progress.say
        self.device = detect(device)
        self.experiments = dict(_experiments(profile, dataset))
        self.machine = _machine(self.device)
        self.what = f"{profile}, {datasets.info(dataset).title}"
        self.content = self._read()
        self.scratch = (paths.own_store() or paths.demo_results().parent) / f"conformity-{self._digest()}"

    def run(self, budget: float | None = None) -> bool:
        """Train what is missing, seed by seed, within so many seconds; whether all is there.

        Raises KdnbError while another process fills the same file.
        """
        with self._alone():
            self.content = self._read()  # another process may have filled it meanwhile
            return self._run(budget)

    def _run(self, budget: float | None) -> bool:
        ends = None if budget is None else time.monotonic() + budget
        ways: tuple[str, ...] = WAYS
        if self.device.device == "cpu" and not has_bfloat16():
            self.say("this processor has no bfloat16 arithmetic: the engine in float32 and the usual loop are compared")
            ways = ("float32", "usual loop")
        pairs = len(LINES) * self.seeds
        self.say(
            f"{pairs} pairs; if one difference has a spread of {SPREAD} points, the chance to show that there is none "
            f"beyond {MARGIN:g} is {100 * power(SPREAD, pairs):.0f} %"
        )
        for seed in range(1, self.seeds + 1):
            for way in ways:
                missing = [line for line in self.experiments if not self._has(way, line, seed)]
                left = None if ends is None else ends - time.monotonic()
                if missing and left is not None and left <= 0:
                    return False
                if missing and not (self._usual if way == "usual loop" else self._engine)(way, missing, seed, left):
                    return False
        shutil.rmtree(self.scratch, ignore_errors=True)
        return True

    def _engine(self, way: str, lines: list[str], seed: int, left: float | None) -> bool:
        """Side by side in a store of their own, that the study never reads; stopped, they go on from there."""
        numerics = dataclasses.replace(self.device, dtype=way)
        home, study = self.scratch / way, Store.open()
        own = Home(home / "results", home / "checkpoints")
        store = dataclasses.replace(study, demo=study.own or study.demo, own=own)  # the teacher is the study's
        store.refresh()
        runs = {line: Run(self.experiments[line], seed) for line in lines}
        outcome = Runner(store, numerics, "conformity", left, self.say, self.progress.epoch, self.progress.step).run(
            list(runs.values())
        )
        outcome.check()
        for line, run in runs.items():
            record = store.get(*run.key)
            if record is not None and record.diverged:
                raise KdnbError(f"{run.label} diverged in {way}, so that it conforms with nothing: {record.path}.")
            if record is not None:
                told = record.environment["numerics"]
                self._keep(way, line, seed, told, record.metrics["all_images"], record.correct)
        return not outcome.left

    def _usual(self, way: str, lines: list[str], seed: int, left: float | None) -> bool:
        numerics = dataclasses.replace(self.device, dtype="float32", mode="eager")
        numerics_module.apply(numerics)
        for line in lines:
            what = f"{line}, the usual loop, seed {seed}"
            correct = usual(self.experiments[line], seed, numerics.torch_device, what, self.say)
            self.say(f"{what}: {100 * correct.mean():.2f} %")
            self._keep(way, line, seed, numerics.as_dict(), float(correct.mean()), pack(correct))
        return True

    # -- the file ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """The right to fill the file: two who do would each write what they know over what the other has added."""
        held = acquire(self.path.with_name(f".{self.path.name}.lock"))
        if held is None:
            raise KdnbError(
                f"{self.path} is being filled by another process of `kdnb bench --conformity`; "
                f"wait until it has ended, or {ANOTHER_FILE}."
            )
        try:
            yield
        finally:
            held.release()

    def _digest(self) -> str:
        """What tells apart unfinished runs of other files and machines: one's end removes no other's checkpoints."""
        return hashlib.sha256(f"{self.path.absolute()}, {self.machine}".encode()).hexdigest()[:8]

    def _read(self) -> dict[str, Any]:
        fresh = {"conformity": self.what, "device": self.machine, "margin": MARGIN, "seeds": self.seeds, "runs": []}
        if not self.path.exists():
            return fresh
        try:
            content = parsed(self.path.read_bytes())
            if content["conformity"] != self.what or not isinstance(content["runs"], list):
                raise ValueError("it is something else")
            theirs = content["device"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KdnbError(f"{self.path} is not a conformity of {self.what}; {ANOTHER_FILE}.") from error
        if theirs != self.machine:
            raise KdnbError(f"{self.path} has the runs of {theirs}, and this is {self.machine}; {ANOTHER_FILE}.")
        return {**content, "seeds": self.seeds}

    def _has(self, way: str, line: str, seed: int) -> bool:
        """Whether a run is there; one of the other kind of device counts for nothing."""
        wanted = way, line, seed, self.device.device
        return any((r["way"], r["line"], r["seed"], r["numerics"]["device"]) == wanted for r in self.content["runs"])

    def _keep(self, way: str, line: str, seed: int, numerics: dict[str, Any], score: float, correct: str) -> None:
        run = {"way": way, "line": line, "seed": seed, "score": round(score, 6)}
        self.content["runs"].append({**run, "numerics": numerics, "correct": correct})
        write_atomically(self.path, (json.dumps(self.content, indent=1) + "\n").encode(), ANOTHER_FILE)


def default_file(device: str = "auto") -> Path:
    """Where the runs of this kind of machine are kept, which is the GPU's where that trains."""
    name = "-".join(re.findall(r"[a-z0-9]+", _machine(detect(device)).lower()))
    return paths.committed_results() / "bench" / f"conformity-{name}.json"


def usual(
    experiment: Experiment, seed: int, device: torch.device, what: str = "", say: Callable[[str], None] = lambda _: None
) -> np.ndarray:
    """The usual loop on an experiment's images, networks, weights and schedule: whether it knows each test image.

    `say` gets a line an epoch, that begins with `what`.
    """
    data, images = datasets.load(experiment.images.dataset), experiment.images
    chosen: Any = slice(None)
    if images.student_images is not None:
        chosen = datasets.class_balanced(data.train.labels, images.student_images, f"student/{images.dataset}")
    torch.manual_seed(seed)
    recipe, profile, run = experiment.recipe, experiment.profile, Run(experiment, seed)
    assert experiment.network is not None and recipe is not None, "a student"
    student = models.create(experiment.network, data.info.num_classes)
    teacher = torch.nn.Module()
    if run.teacher is not None:
        weights, network = Store.open().load_weights(run.teacher), run.teacher.experiment.network
        if weights is None or network is None:
            raise KdnbError(f"The teacher of {run.label} is not trained yet; train it first.")
        teacher = models.create(network, data.info.num_classes)
        teacher.load_state_dict(student_weights(weights))
    loop = UsualLoop(
        np.array(data.train.images[chosen]),
        np.array(data.train.labels[chosen]),
        teacher,
        student,
        recipe,
        objective(experiment),
        Normalisation(images.mean, images.std),
        device,
    )
    # Shortened by a rule of its own, as all of this loop is: the engine's would hide its own mistakes.
    ratio = min(profile.factor, Fraction(profile.at_most or recipe.epochs, recipe.epochs))
    epochs, *milestones = (max(1, math.ceil(count * ratio)) for count in (recipe.epochs, *recipe.milestones))
    loop.train(epochs, milestones, lambda epoch: say(f"  {what}: epoch {epoch}/{epochs}"))
    return loop.correct(np.array(data.test.images), np.array(data.test.labels))


def objective(experiment: Experiment) -> Supervision:
    """What labels and teacher weigh in the loss that the usual loop writes down: plain's or KD's own arguments."""
    known = methods.get(experiment.method).arguments(experiment.arguments)
    return Supervision(**{name: known[name] for name in KD_DEFAULTS if name in known})


def _machine(numerics: Numerics) -> str:
    """Who computes: the GPU, or the processor, however many of its threads do; those stand with each run."""
    return device_name(numerics) if numerics.device == "cuda" else processor()


def _experiments(profile: str, dataset: str) -> Iterator[tuple[str, Experiment]]:
    table = exhibits.get(EXHIBIT)
    for cell in table.cells(get_profile(profile), dataset, [table.row(line) for line in LINES]):
        assert cell.experiment is not None and cell.experiment.recipe is not None
        recipe = dataclasses.replace(cell.experiment.recipe, selection="last")
        yield cell.row.key, dataclasses.replace(cell.experiment, recipe=recipe)
