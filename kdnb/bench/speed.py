"""`kdnb bench`: the usual loop and the engine in one process, in turns, medians of several rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from kdnb import datasets, methods, models
from kdnb.bench.memory import Peak
from kdnb.bench.roofline import kd_work, machine, seconds_per_image
from kdnb.bench.usual import UsualLoop
from kdnb.errors import DataError
from kdnb.methods.recipe import Recipe
from kdnb.methods.stage import Setup, Stage, Supervision, TrainingSet
from kdnb.training import numerics as numerics_module
from kdnb.training.cohort import Cohort, Material
from kdnb.training.freeze import frozen
from kdnb.training.images import Augmentation, DeviceImages, Normalisation
from kdnb.training.member import Member
from kdnb.training.numerics import Numerics, processor

TEACHER, STUDENT, BATCH = "resnet56", "resnet20", 64
SIZES = (1, 2, 4, 8, 16)
RECIPE = Recipe(epochs=200, batch_size=BATCH, lr=0.1, milestones=(80, 120))
SOFT = Supervision(labels_weight=0.2, soft_weight=0.8, temperature=8.0)


class Bench:
    """Images, a teacher and cohorts of students to be timed; networks are untrained, which costs the same."""

    def __init__(self, numerics: Numerics, say: Callable[[str], None] = lambda line: None) -> None:
        numerics_module.apply(numerics)
        self.numerics = numerics
        self.say = say
        self.images, self.labels, self.classes, self.source = _images()
        self.material = self._material()
        network = models.create(TEACHER, self.classes)
        self.teacher_network = network
        self.teacher = frozen(network, numerics.torch_device, numerics.torch_dtype)
        self.usual = UsualLoop(self.images, self.labels, TEACHER, STUDENT, self.classes, numerics.torch_device)

    def speed(self, rounds: int = 3) -> dict[str, Any]:
        """The whole comparison; keys as the book page reads them."""
        on_cuda = self.numerics.device == "cuda"
        steps = {0: 60, **dict.fromkeys(SIZES, 200)} if on_cuda else {0: 8, 1: 8, 2: 6, 4: 4, 8: 2, 16: 2}
        rates: dict[int, list[float]] = {0: [], **{size: [] for size in SIZES}}
        teacher_seconds: list[float] = []
        memory: dict[int, float | None] = {}
        cohorts = {size: self._cohort([("kd", {})] * size) for size in SIZES}
        for turn in range(rounds):
            rates[0].append(self.usual.run(steps[0], BATCH))
            self.say(f"round {turn + 1} of {rounds}: usual loop {rates[0][-1]:,.0f} images/s")
            for size in SIZES:
                memory[size], rate = self._time(cohorts[size], steps[size])
                rates[size].append(rate)
                self.say(f"round {turn + 1} of {rounds}: {size} students {rate:,.0f} images/s in all")
            teacher_seconds.append(self._teacher_seconds())
        usual = statistics.median(rates[0])
        medians = {size: statistics.median(rates[size]) for size in SIZES}
        return {
            "device": _device_name(self.numerics),
            "images": self.source,
            "networks": f"{TEACHER} -> {STUDENT}, batch {BATCH}",
            "numerics": self.numerics.as_dict(),
            "rounds": rounds,
            "reference_images_per_s": round(usual, 1),
            "engine_images_per_s": round(medians[1], 1),
            "ratio": round(medians[1] / usual, 2),
            "cohorts": [
                {
                    "size": size,
                    "images_per_s": round(rate, 1),
                    "ratio": round(rate / usual, 2),
                    "lowest": round(min(rates[size]), 1),
                    "highest": round(max(rates[size]), 1),
                    "peak_gib": _rounded(memory[size]),
                    "teacher_share": round(statistics.median(teacher_seconds) * rate / (BATCH * size), 2),
                }
                for size, rate in medians.items()
            ],
            "roofline": self._roofline(medians),
        }

    def methods(self, rounds: int = 3, only: Sequence[str] | None = None) -> dict[str, Any]:
        """Each method's stages alone, or those of KD and some: time as a ratio to KD's step, memory, parameters.

        A ratio is taken within a round; the table has their median, the lowest and the highest.
        """
        steps = 100 if self.numerics.device == "cuda" else 6
        known = methods.catalogue()
        every = [*known, *(f"{name}+kd" for name, method in known.items() if method.takes_kd)]
        names = every if only is None else list(dict.fromkeys(["kd", *only]))
        cohorts = {f"{n} / {c.members[0].stage.name}": c for n in names for c in self._stages_of(n)}
        seconds: dict[str, list[float]] = {name: [] for name in cohorts}
        memory: dict[str, float | None] = {}
        for turn in range(rounds):
            for name, cohort in cohorts.items():
                memory[name], rate = self._time(cohort, steps)
                seconds[name].append(1e6 / rate)
                self.say(f"round {turn + 1} of {rounds}: {name} {rate:,.0f} images/s")
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
        normalisation = Normalisation((0.5071, 0.4865, 0.4409), (0.2009, 0.1984, 0.2023))

        def on_device(count: int, padding: int) -> DeviceImages:
            return DeviceImages(self.images[:count], self.labels[:count], normalisation, device, dtype, padding)

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
        method = methods.get(name)
        supervision = SOFT if method.with_kd else Supervision()
        return method.stages(self._setup(supervision, number), method.arguments({}))

    def _cohort(self, wanted: list[tuple[str, dict[str, Any]]]) -> Cohort:
        stages = [self._built(name, number)[-1] for number, (name, _) in enumerate(wanted)]
        return self._of(stages)

    def _of(self, stages: list[Stage]) -> Cohort:
        members = [Member(stage, f"student {i}", 1, self.numerics) for i, stage in enumerate(stages)]
        return Cohort(members, self.teacher, self.material, self.numerics, notice=self.say)

    def _stages_of(self, name: str) -> Iterator[Cohort]:
        stages = self._built(name, 0)
        # A method's first stage is the same with KD: it is told once.
        for stage in stages if "+" not in name else stages[-1:]:
            yield self._of([stage])

    def _time(self, cohort: Cohort, steps: int) -> tuple[float | None, float]:
        """Peak memory in GiB where it can be told, and images per second over `steps` steps, all students together."""
        if not hasattr(cohort, "_running"):
            cohort._running = cohort.steps()  # type: ignore[attr-defined]
        running = cohort._running  # type: ignore[attr-defined]
        on_cuda = self.numerics.device == "cuda"
        with Peak(on_cuda) as peak:
            for _ in range(8 if on_cuda else 1):
                next(running)
            self._wait()
            began = time.perf_counter()
            for _ in range(steps):
                next(running)
            self._wait()
            elapsed = time.perf_counter() - began
        return peak.gib, steps * cohort.batch_size * len(cohort.members) / elapsed

    def _teacher_seconds(self, steps: int = 4) -> float:
        images, _ = self.material.training.plain(0, BATCH)
        with torch.no_grad():
            self.teacher(images)
            self._wait()
            began = time.perf_counter()
            for _ in range(steps):
                self.teacher(images)
            self._wait()
        return (time.perf_counter() - began) / steps

    def _roofline(self, medians: dict[int, float]) -> dict[str, Any]:
        rates = machine(self.numerics)
        size_of = torch.finfo(self.numerics.torch_dtype).bits // 8
        work = kd_work(TEACHER, STUDENT, self.classes, self.images.shape[1], size_of)
        teacher, student = (seconds_per_image(work[k], rates) for k in ("teacher", "student"))
        return {
            "matmul_tflops": round(rates["matmul_flops"] / 1e12, 3),
            "copy_gb_per_s": round(rates["copy_bytes"] / 1e9, 1),
            "teacher_mflop_per_image": round(work["teacher"].flops / 1e6, 1),
            "student_mflop_per_image": round(work["student"].flops / 1e6, 1),
            "reached": {str(size): round(rate * (student + teacher / size), 3) for size, rate in medians.items()},
        }

    def _wait(self) -> None:
        if self.numerics.device == "cuda":
            torch.cuda.synchronize()


EVALUATED = 1000


def _images() -> tuple[np.ndarray, np.ndarray, int, str]:
    """CIFAR-100's training images where they are prepared, else random ones of the same shape."""
    try:
        data = datasets.load("cifar100")
        return np.array(data.train.images), np.array(data.train.labels), data.info.num_classes, "CIFAR-100"
    except DataError:
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8)
        return images, random.integers(0, 100, len(images)), 100, "random images"


def _trained(stage: Stage) -> int:
    parameters = {id(p): p for m in stage.modules.values() for p in m.parameters()}
    return sum(p.numel() for p in parameters.values())


def _rounded(gib: float | None) -> float | None:
    return None if gib is None else round(gib, 2)


def _device_name(numerics: Numerics) -> str:
    if numerics.device == "cuda":
        return str(torch.cuda.get_device_name())
    return f"{processor()}, {numerics.threads} threads"
