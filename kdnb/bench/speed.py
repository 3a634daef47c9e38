"""`kdnb bench`: the usual loop and the engine in one process, in turns, medians of as many rounds as it takes."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch

from kdnb import datasets, models
from kdnb.bench.load import Pace, others
from kdnb.bench.roofline import Rates, kd_work, launch_seconds, seconds_per_image
from kdnb.bench.track import SOFT, Entrant, Track, device_name, rounded
from kdnb.bench.usual import UsualLoop
from kdnb.errors import DataError
from kdnb.methods.recipe import Recipe
from kdnb.training import numerics as numerics_module
from kdnb.training.capture import Streams
from kdnb.training.cohort import Cohort, Material
from kdnb.training.images import Augmentation, DeviceImages, Normalisation
from kdnb.training.numerics import CAPTURED, Numerics, detect
from kdnb.training.probe import layers, probe

TEACHER, STUDENT, BATCH = "resnet56", "resnet20", 64
SIZES = (1, 2, 4, 8, 16)
RECIPE = Recipe(epochs=200, batch_size=BATCH, lr=0.1, milestones=(80, 120))
NORMALISATION = Normalisation((0.5071, 0.4865, 0.4409), (0.2009, 0.1984, 0.2023))
#: A bench is done after so many rounds at least, and once the middle half of each ratio to the usual loop lies within
#: this share of it; at the latest after so many seconds.
LEAST_ROUNDS, SPREAD, LONGEST = 3, 0.05, 900.0
#: Fewer images than this are no epoch of the usual loop's timed steps.
LEAST_IMAGES = 5000
#: So many images validate where an epoch ends meanwhile.
EVALUATED = 1000
#: What a cohort is known by in a round.
Key = TypeVar("Key", bound=Hashable)


def chosen(
    device: str,
    dtype: str,
    mode: str,
    deterministic: bool | None,
    again: bool,
    say: Callable[[str], None],
    student: str = "",
) -> tuple[Numerics, str]:
    """The numerics of a bench, and what the probe says of this machine: `auto` is what a new table would begin with.

    The probe looks at the bench's student, or at another one.
    """
    numerics = detect(device, dtype, mode, deterministic)
    if numerics.device != "cpu":
        return numerics, ""
    numerics_module.apply(numerics)
    student = student or STUDENT
    found = probe(student, 100, 32, again, say)
    say(f"{student}: {found.told}")
    return (dataclasses.replace(numerics, dtype=found.dtype) if dtype == "auto" else numerics), found.told


class Bench:
    """The usual loop and cohorts of students, to be timed in turns; networks are untrained, which costs the same.

    `told` is what the probe said of this machine.  Raises DataError where there are too few images to time.
    """

    def __init__(self, numerics: Numerics, say: Callable[[str], None] = lambda line: None, told: str = "") -> None:
        numerics_module.apply(numerics)
        self.numerics = numerics
        self.say = say
        self.told = told
        self.images, labels, self.classes, self.source = images()
        self.track = Track(numerics, material(self.images, labels, numerics), self.classes, say)
        teacher, student = (models.create(name, self.classes) for name in (TEACHER, STUDENT))
        device = numerics.torch_device
        self.usual = UsualLoop(self.images, labels, teacher, student, RECIPE, SOFT, NORMALISATION, device)

    def speed(self, rounds: int | None = None, longest: float = LONGEST) -> dict[str, Any]:
        """The whole comparison; keys as the book page reads them.  Without `rounds` as many as it takes."""
        on_cuda = self.numerics.device == "cuda"
        steps = {0: 60, **dict.fromkeys(SIZES, 200)} if on_cuda else {0: 8, 1: 8, 2: 6, 4: 4, 8: 2, 16: 2}
        found: dict[int, list[Pace]] = {0: [], **{size: [] for size in SIZES}}
        teacher_seconds: list[float] = []
        memory: dict[int, float | None] = {}
        cohorts = {size: self._cohort(size) for size in SIZES}
        rates, shapes = Rates(), layers(TEACHER, self.classes, 32) | layers(STUDENT, self.classes, 32)
        began = time.perf_counter()
        while not _enough(found, rounds, time.perf_counter() - began, longest):
            turn = len(found[0]) + 1
            found[0].append(self.usual.run(steps[0], BATCH))
            self.track.tell(turn, "usual loop", found[0][-1])
            for size, gib, pace in one_round(self.track, cohorts, steps):
                memory[size] = gib
                found[size].append(pace)
                self.track.tell(turn, f"{size} students", pace)
            teacher_seconds.append(self._teacher_seconds())
            rates.measure(self.numerics, shapes)
        usual = statistics.median(p.rate for p in found[0])
        medians = {size: statistics.median(p.rate for p in found[size]) for size in SIZES}
        return {
            "device": device_name(self.numerics),
            "images": self.source,
            "networks": f"{TEACHER} -> {STUDENT}, batch {BATCH}",
            "numerics": self.numerics.as_dict(),
            "probe": self.told,
            "rounds": len(found[0]),
            "others": others([pace for paces in found.values() for pace in paces]),
            "reference": self.usual.told(),
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
                    "peak_gib": rounded(memory[size]),
                    "teacher_share": _share(statistics.median(teacher_seconds), BATCH * size / rate),
                }
                for size, rate in medians.items()
            ],
            "roofline": self._roofline(found, rates),
        }

    def _cohort(self, size: int) -> Cohort:
        """So many students of KD side by side."""
        kd = Entrant("kd", TEACHER, STUDENT, RECIPE)
        return self.track.cohort([self.track.stages(kd, number)[-1] for number in range(size)], TEACHER)

    @torch.no_grad()
    def _teacher_seconds(self, steps: int = 4) -> float:
        """What the teacher takes for a batch by itself, from a graph where steps are."""
        teacher = self.track.teacher(TEACHER)
        batch = self.track.material.training.plain(0, BATCH)[0].to(self.numerics.torch_dtype)

        def forward() -> None:
            teacher(batch)  # which lives as long as this function does: a graph goes on reading it

        teach = _recorded(forward, Streams()) if self.numerics.mode in CAPTURED else forward
        teach()
        self.track.wait()
        began = time.perf_counter()
        for _ in range(steps):
            teach()
        self.track.wait()
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


def one_round(
    track: Track, cohorts: Mapping[Key, Cohort], steps: Mapping[Key, int]
) -> Iterator[tuple[Key, float | None, Pace]]:
    """Each cohort's key, peak memory and pace, one after the other.

    In its turn a cohort has all streams of a GPU to itself, as in a study: all together would ask for more than there
    are, and the last would be timed with fewer than their members.
    """
    for cohort in cohorts.values():
        cohort.rest()  # one that has not begun has a stream kept for it, too
    for key, cohort in cohorts.items():
        gib, pace = track.time(cohort, steps[key])
        cohort.rest()
        yield key, gib, pace


def images() -> tuple[np.ndarray, np.ndarray, int, str]:
    """CIFAR-100's training images where they are prepared, else random ones of the same shape."""
    try:
        data = datasets.load("cifar100")
    except DataError:
        random = np.random.default_rng(0)
        drawn = random.integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8)
        return drawn, random.integers(0, 100, len(drawn)), 100, "random images"
    if len(data.train.labels) < LEAST_IMAGES:
        raise DataError(
            f"CIFAR-100 has {len(data.train.labels)} training images here, too few to time anything: a bench needs "
            f"{LEAST_IMAGES:,}. Prepare the whole set, or point $KDNB_DATA to an empty folder for random images."
        )
    source = "CIFAR-100" if data.published else f"{len(data.train.labels):,} images of CIFAR-100"
    return np.array(data.train.images), np.array(data.train.labels), data.info.num_classes, source


def material(pixels: np.ndarray, labels: np.ndarray, numerics: Numerics) -> Material:
    """Images of CIFAR's size to train on, and the first of them to validate on."""

    def on_device(count: int, padding: int) -> DeviceImages:
        device, dtype = numerics.torch_device, numerics.torch_dtype
        return DeviceImages(pixels[:count], labels[:count], NORMALISATION, device, dtype, padding)

    return Material(on_device(len(labels), 4), on_device(EVALUATED, 0), Augmentation(4, True))


def _recorded(work: Callable[[], None], streams: Streams) -> Callable[[], None]:
    """Work as a graph that is replayed; done once before, so that the library has chosen its kernels."""
    stream = streams.new()
    streams.wait(stream, streams.main())
    with streams.on(stream):
        work()
    streams.synchronize()
    return streams.record(work, stream)


def _share(seconds: float, of: float) -> float:
    """A part of a whole as a file of a bench has it; timed apart from it, the part may seem to take longer."""
    return round(min(1.0, seconds / of), 2)


def _enough(found: dict[int, list[Pace]], rounds: int | None, seconds: float, longest: float) -> bool:
    """Whether to stop: after the rounds that were asked for, else when little is spread, or the time is up."""
    done = len(found[0])
    if rounds is not None or done < LEAST_ROUNDS:
        return done >= (rounds or LEAST_ROUNDS)
    ratios = [[p.rate / usual.rate for p, usual in zip(found[size], found[0], strict=True)] for size in SIZES]
    quarters = [np.quantile(of, (0.25, 0.5, 0.75)) for of in ratios]
    return seconds > longest or all(high - low <= SPREAD * middle for low, middle, high in quarters)


def _per_cpu_second(paces: list[Pace]) -> float:
    return round(statistics.median(pace.per_cpu_second for pace in paces), 1)
