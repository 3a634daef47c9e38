"""`kdnb bench`: the usual loop and the engine in one process, in turns, medians of as many rounds as it takes."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from kdnb import datasets, methods, models
from kdnb.bench.load import Pace, Stopwatch
from kdnb.bench.memory import Peak
from kdnb.bench.roofline import Rates, kd_work, launch_seconds, seconds_per_image
from kdnb.bench.usual import UsualLoop
from kdnb.errors import DataError, KdnbError
from kdnb.methods.recipe import Recipe
from kdnb.methods.stage import Setup, Stage, Supervision, TrainingSet
from kdnb.training import numerics as numerics_module
from kdnb.training.cohort import Cohort, Material
from kdnb.training.freeze import frozen
from kdnb.training.images import Augmentation, DeviceImages, Normalisation
from kdnb.training.member import Member
from kdnb.training.numerics import Numerics, detect, processor
from kdnb.training.probe import layers, probe

TEACHER, STUDENT, BATCH = "resnet56", "resnet20", 64
SIZES = (1, 2, 4, 8, 16)
RECIPE = Recipe(epochs=200, batch_size=BATCH, lr=0.1, milestones=(80, 120))
SOFT = Supervision(labels_weight=0.2, soft_weight=0.8, temperature=8.0)


NORMALISATION = Normalisation((0.5071, 0.4865, 0.4409), (0.2009, 0.1984, 0.2023))
#: A bench is done after so many rounds at least, and once the middle half of each ratio to the usual loop lies within
#: this share of it; at the latest after so many seconds.
LEAST_ROUNDS, SPREAD, LONGEST = 3, 0.05, 900.0
#: Fewer images than this are no epoch of the usual loop's timed steps.
LEAST_IMAGES = 4096
#: From this share of the machine in other hands on it is said.
BUSY = 0.1


def chosen(
    device: str, dtype: str, mode: str, deterministic: bool | None, again: bool, say: Callable[[str], None]
) -> tuple[Numerics, str]:
    """The numerics of a bench, and what the probe says of this machine: `auto` is what a new table would begin with."""
    numerics = detect(device, dtype, mode, deterministic)
    if numerics.device != "cpu":
        return numerics, ""
    numerics_module.apply(numerics)
    found = probe(STUDENT, 100, 32, again, say)
    say(f"{STUDENT}: {found.told}")
    return (dataclasses.replace(numerics, dtype=found.dtype) if dtype == "auto" else numerics), found.told


class Bench:
    """Images, a teacher and cohorts of students to be timed; networks are untrained, which costs the same.

    `told` is what the probe said of this machine.  Raises DataError where there are too few images to time.
    """

    def __init__(self, numerics: Numerics, say: Callable[[str], None] = lambda line: None, told: str = "") -> None:
        numerics_module.apply(numerics)
        self.numerics = numerics
        self.say = say
        self.told = told
        self.images, self.labels, self.classes, self.source = _images()
        self.material = self._material()
        network = models.create(TEACHER, self.classes)
        self.teacher = frozen(network, numerics.torch_device, numerics.torch_dtype)
        student = models.create(STUDENT, self.classes)
        device = numerics.torch_device
        self.usual = UsualLoop(self.images, self.labels, network, student, RECIPE, SOFT, NORMALISATION, device)

    def speed(self, rounds: int | None = None, longest: float = LONGEST) -> dict[str, Any]:
        """The whole comparison; keys as the book page reads them.  Without `rounds` as many as it takes."""
        on_cuda = self.numerics.device == "cuda"
        steps = {0: 60, **dict.fromkeys(SIZES, 200)} if on_cuda else {0: 8, 1: 8, 2: 6, 4: 4, 8: 2, 16: 2}
        found: dict[int, list[Pace]] = {0: [], **{size: [] for size in SIZES}}
        teacher_seconds: list[float] = []
        memory: dict[int, float | None] = {}
        cohorts = {size: self._cohort([("kd", {})] * size) for size in SIZES}
        rates, shapes = Rates(), layers(TEACHER, self.classes, 32) | layers(STUDENT, self.classes, 32)
        began = time.perf_counter()
        while not _enough(found, rounds, time.perf_counter() - began, longest):
            turn = len(found[0]) + 1
            found[0].append(self.usual.run(steps[0], BATCH))
            self._tell(turn, "usual loop", found[0][-1])
            for size in SIZES:
                memory[size], pace = self._time(cohorts[size], steps[size])
                found[size].append(pace)
                self._tell(turn, f"{size} students", pace)
            teacher_seconds.append(self._teacher_seconds())
            rates.measure(self.numerics, shapes)
        usual = statistics.median(p.rate for p in found[0])
        medians = {size: statistics.median(p.rate for p in found[size]) for size in SIZES}
        return {
            "device": _device_name(self.numerics),
            "images": self.source,
            "networks": f"{TEACHER} -> {STUDENT}, batch {BATCH}",
            "numerics": self.numerics.as_dict(),
            "probe": self.told,
            "rounds": len(found[0]),
            "others": _others([pace for paces in found.values() for pace in paces]),
            "reference_images_per_s": round(usual, 1),
            "reference_images_per_cpu_s": _per_cpu_second(found[0]),
            "engine_images_per_s": round(medians[1], 1),
            "ratio": round(medians[1] / usual, 2),
            "cohorts": [
                {
                    "size": size,
                    "images_per_s": round(rate, 1),
                    "ratio": round(rate / usual, 2),
                    "lowest": round(min(p.rate for p in found[size]), 1),
                    "highest": round(max(p.rate for p in found[size]), 1),
                    "images_per_cpu_s": _per_cpu_second(found[size]),
                    "peak_gib": _rounded(memory[size]),
                    "teacher_share": round(statistics.median(teacher_seconds) * rate / (BATCH * size), 2),
                }
                for size, rate in medians.items()
            ],
            "roofline": self._roofline(found, rates),
        }

    def methods(self, rounds: int = 3, only: Sequence[str] | None = None) -> dict[str, Any]:
        """Each method's stages alone, or those of KD and some: time as a ratio to KD's step, memory, parameters.

        A ratio is taken within a round; the table has their median, the lowest and the highest.  Raises KdnbError where
        one of `only` cannot have the bench's networks.
        """
        steps = 100 if self.numerics.device == "cuda" else 6
        known = methods.catalogue()
        alone = [name for name, method in known.items() if not method.step_of]
        every = [*alone, *(f"{name}+kd" for name in alone if known[name].takes_kd)]
        names = every if only is None else list(dict.fromkeys(["kd", *only]))
        cohorts = {f"{n} / {c.members[0].stage.name}": c for n in names for c in self._able(n, only is not None)}
        seconds: dict[str, list[float]] = {name: [] for name in cohorts}
        memory: dict[str, float | None] = {}
        for turn in range(rounds):
            for name, cohort in cohorts.items():
                memory[name], pace = self._time(cohort, steps)
                seconds[name].append(1e6 / pace.rate)
                self._tell(turn + 1, name, pace)
        ratios = {
            name: [s / kd for s, kd in zip(found, seconds["kd / train"], strict=True)]
            for name, found in seconds.items()
        }
        student = sum(p.numel() for p in models.create(STUDENT, self.classes).parameters())
        costs = [
            {
                "method": name.partition(" / ")[0],
                "stage": name.partition(" / ")[2],
                "batch_size": cohort.batch_size,
                "microseconds_per_image": round(statistics.median(seconds[name]), 1),
                "ratio_to_kd": round(statistics.median(ratios[name]), 3),
                "lowest": round(min(ratios[name]), 3),
                "highest": round(max(ratios[name]), 3),
                "peak_gib": _rounded(memory[name]),
                "extra_parameters": _trained(cohort.members[0].stage) - student,
            }
            for name, cohort in cohorts.items()
        ]
        return {
            "device": _device_name(self.numerics),
            "networks": f"{TEACHER} -> {STUDENT}",
            "numerics": self.numerics.as_dict(),
            "rounds": rounds,
            "methods": costs,
        }

    # -- building and timing -----------------------------------------------------------------------------

    def _material(self) -> Material:
        device, dtype = self.numerics.torch_device, self.numerics.torch_dtype

        def on_device(count: int, padding: int) -> DeviceImages:
            return DeviceImages(self.images[:count], self.labels[:count], NORMALISATION, device, dtype, padding)

        return Material(on_device(len(self.labels), 4), on_device(EVALUATED, 0), Augmentation(4, True))

    def _setup(self, supervision: Supervision, seed: int) -> Setup:
        return Setup(
            student=models.create(STUDENT, self.classes).to(self.numerics.torch_device),
            teacher=self.teacher,
            recipe=RECIPE,
            supervision=supervision,
            training_set=TrainingSet(self.material.training.labels, self.classes),
            seed=seed,
            device=self.numerics.torch_device,
        )

    def _built(self, name: str, number: int) -> list[Stage]:
        """A method's stages; steps of the teacher alone that it goes on from are as they are made, untrained."""
        method = methods.get(name)
        setup = self._setup(SOFT if method.with_kd else Supervision(), number)
        for step in method.after:
            own = methods.get(step)
            made = own.stages(setup, own.arguments(method.passed_on(step, {})))
            setup.steps[step] = made[-1].modules
        return method.stages(setup, method.arguments({}))

    def _cohort(self, wanted: list[tuple[str, dict[str, Any]]]) -> Cohort:
        stages = [self._built(name, number)[-1] for number, (name, _) in enumerate(wanted)]
        return self._of(stages)

    def _of(self, stages: list[Stage]) -> Cohort:
        members = [Member(stage, f"student {i}", 1, self.numerics) for i, stage in enumerate(stages)]
        return Cohort(members, self.teacher, self.material, self.numerics, notice=self.say)

    def _able(self, name: str, asked: bool) -> list[Cohort]:
        """A method's stages; none, and a word, for one that cannot have these networks and was not asked for."""
        try:
            return list(self._stages_of(name))
        except KdnbError as error:
            if asked:
                raise
            self.say(f"{name} is left out: {error}")
            return []

    def _stages_of(self, name: str) -> Iterator[Cohort]:
        stages = self._built(name, 0)
        # A method's first stage is the same with KD: it is told once.
        for stage in stages if "+" not in name else stages[-1:]:
            yield self._of([stage])

    def _time(self, cohort: Cohort, steps: int) -> tuple[float | None, Pace]:
        """Peak memory in GiB where it can be told, and the pace of `steps` steps, all students together."""
        if not hasattr(cohort, "_running"):
            cohort._running = cohort.steps()  # type: ignore[attr-defined]
        running = cohort._running  # type: ignore[attr-defined]
        on_cuda = self.numerics.device == "cuda"
        with Peak(on_cuda) as peak:
            for _ in range(8 if on_cuda else 1):
                next(running)
            self._wait()
            watch = Stopwatch()
            for _ in range(steps):
                next(running)
            self._wait()
            pace = watch.pace(steps * cohort.batch_size * len(cohort.members))
        return peak.gib, pace

    def _tell(self, turn: int, what: str, pace: Pace) -> None:
        """One line, and a second one where the machine was not ours alone."""
        self.say(f"round {turn}: {what} {pace.rate:,.0f} images/s, {pace.per_cpu_second:,.0f} per CPU-second")
        if pace.others is not None and pace.others > BUSY:
            self.say(f"round {turn}: others had {100 * pace.others:.0f} % of this machine's processors meanwhile")

    def _teacher_seconds(self, steps: int = 4) -> float:
        images = self.material.training.plain(0, BATCH)[0].to(self.numerics.torch_dtype)
        with torch.no_grad():
            self.teacher(images)
            self._wait()
            began = time.perf_counter()
            for _ in range(steps):
                self.teacher(images)
            self._wait()
        return (time.perf_counter() - began) / steps

    def _roofline(self, found: dict[int, list[Pace]], rates: Rates) -> dict[str, Any]:
        size_of = torch.finfo(self.numerics.torch_dtype).bits // 8
        work = kd_work(TEACHER, STUDENT, self.classes, self.images.shape[1], size_of)
        whole = {size: work["student"].with_share(work["teacher"], size) for size in SIZES}
        for size in SIZES:
            rates.reached(whole[size], max(pace.rate for pace in found[size]))
        return {
            "matmul_tflops": round(rates.products / 1e12, 3),
            "convolution_tflops": round(rates.convolutions / 1e12, 3),
            "best_tflops": round(rates.flops / 1e12, 3),
            "copy_gb_per_s": round(rates.copies / 1e9, 1),
            "best_gb_per_s": round(rates.bytes / 1e9, 1),
            "launch_us": round(1e6 * launch_seconds(), 2) if self.numerics.device == "cuda" else None,
            "teacher_mflop_per_image": round(work["teacher"].flops / 1e6, 1),
            "student_mflop_per_image": round(work["student"].flops / 1e6, 1),
            "reached": {
                str(size): round(
                    statistics.median(p.rate for p in found[size]) * seconds_per_image(whole[size], rates), 3
                )
                for size in SIZES
            },
        }

    def _wait(self) -> None:
        if self.numerics.device == "cuda":
            torch.cuda.synchronize()


EVALUATED = 1000


def _images() -> tuple[np.ndarray, np.ndarray, int, str]:
    """CIFAR-100's training images where they are prepared, else random ones of the same shape."""
    try:
        data = datasets.load("cifar100")
    except DataError:
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8)
        return images, random.integers(0, 100, len(images)), 100, "random images"
    if len(data.train.labels) < LEAST_IMAGES:
        raise DataError(
            f"CIFAR-100 has {len(data.train.labels)} training images here, too few to time anything: a bench needs "
            f"{LEAST_IMAGES:,}. Prepare the whole set, or point $KDNB_DATA to an empty folder for random images."
        )
    source = "CIFAR-100" if data.published else f"{len(data.train.labels):,} images of CIFAR-100"
    return np.array(data.train.images), np.array(data.train.labels), data.info.num_classes, source


def _enough(found: dict[int, list[Pace]], rounds: int | None, seconds: float, longest: float) -> bool:
    """Whether to stop: after the rounds that were asked for, else when little is spread, or the time is up."""
    done = len(found[0])
    if rounds is not None or done < LEAST_ROUNDS:
        return done >= (rounds or LEAST_ROUNDS)
    ratios = [[p.rate / usual.rate for p, usual in zip(found[size], found[0], strict=True)] for size in SIZES]
    quarters = [np.quantile(of, (0.25, 0.5, 0.75)) for of in ratios]
    return seconds > longest or all(high - low <= SPREAD * middle for low, middle, high in quarters)


def _others(paces: list[Pace]) -> float | None:
    """The share of the machine that others had, over all that was timed; None where the system does not tell."""
    told = [(pace.others, pace.seconds) for pace in paces if pace.others is not None]
    shares, seconds = zip(*told, strict=True) if told else ((), ())
    return round(float(np.average(shares, weights=seconds)), 2) if told else None


def _per_cpu_second(paces: list[Pace]) -> float:
    return round(statistics.median(pace.per_cpu_second for pace in paces), 1)


def _trained(stage: Stage) -> int:
    parameters = {id(p): p for m in stage.modules.values() for p in m.parameters()}
    return sum(p.numel() for p in parameters.values())


def _rounded(gib: float | None) -> float | None:
    return None if gib is None else round(gib, 2)


def _device_name(numerics: Numerics) -> str:
    if numerics.device == "cuda":
        return str(torch.cuda.get_device_name())
    return f"{processor()}, {numerics.threads} threads"
