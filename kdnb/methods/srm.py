"""SRM, sparse representation matching (Tran et al. 2021): predict which atoms describe the teacher's pixels.

Three steps.  (1) Dictionaries of the teacher's maps, one a stage, learn to describe a pixel by few of many atoms.  They
depend on the teacher alone: all runs of the same sparsity and size share them.  (2) The student, with dictionaries of
its own, predicts from its maps which atom describes each pixel best, and how much of each atom an image has; it sees no
labels.  (3) Dictionaries are dropped, and the student is trained from there, from labels or by KD.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from kdnb import losses
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Optimiser, Schedule, Selection, Setup, Stage, total

#: No map that is guided has more pixels than an image: random numbers for so many an image are enough.
MOST_PIXELS = 32 * 32


@method("srm-dictionaries", revision=1, of="teacher")
def srm_dictionaries(
    setup: Setup,
    sparsity: float = 0.02,
    size: float = 2.0,
    epochs: int = 100,
    batch_size: int = 512,
    lr: float = 1e-3,
) -> list[Stage]:
    """L = sum_j mean (F_T^j - D_j k_j)^2 over all stages j, k_j the sparse code of a pixel over the same D_j.

    A dictionary has `size` atoms a channel of the teacher, and a code keeps the share `sparsity` of them.  Adam without
    weight decay, made afresh where the rate drops.  The published code chooses among the ends of the rate's steps by
    the loss in training; here it is that on the images that validate.
    """
    teacher = setup.teacher_network()
    wanted = [(width, *sizes(width, sparsity, size)) for width in teacher.stage_widths]
    dictionaries = setup.build("dictionaries", lambda: Dictionaries(wanted))

    def objective(batch: Batch) -> Losses:
        pairs = enumerate(zip(batch.teacher.stages, dictionaries.all(), strict=True), start=1)
        return {f"stage{j}": losses.reconstruction(maps, d.atoms, d.offset, d.keep) for j, (maps, d) in pairs}

    schedule = Schedule((10, 70))
    return [
        Stage(
            name="train",
            modules={"dictionaries": dictionaries},
            trainable=[dictionaries],
            objective=objective,
            optimiser=Optimiser("adam", lr, restart="drop"),
            schedule=schedule,
            epochs=epochs,
            batch_size=batch_size,
            student_depth=None,
            teacher_depth=len(wanted),
            selection=Selection(total(objective), highest=False, at=schedule.ends(epochs), modules=("dictionaries",)),
        )
    ]


@method(
    "srm",
    revision=1,
    after=("srm-dictionaries",),
    shared=("predict",),
    stage_arguments={"predict": ("targets", "shuffled", "dictionaries_sparsity", "dictionaries_size")},
)
def srm(
    setup: Setup,
    dictionaries_sparsity: float = 0.02,
    dictionaries_size: float = 2.0,
    targets: Literal["both", "pixel", "image"] = "both",
    shuffled: bool = False,
    predict_epochs: int = 160,
    predict_batch_size: int = 384,
    predict_lr: float = 1e-3,
    predict_decay: float = 1e-4,
) -> list[Stage]:
    """Step 2: L = sum_j [mean -log softmax(k_S^j)[c^j] + mean BCE(g^j, mean_hw k_S^j)].  Step 3: labels, or KD.

    k_S are the dense kernel values of the student's pixels over its own dictionaries, c and g the pixel and image
    labels of the teacher's sparse codes; `targets` may leave one of the two out.  `shuffled` is a control: the pixel
    labels of a batch change places at random, and the last epoch's weights are handed on, since there is nothing to
    select by.
    """
    student, known = setup.student, setup.steps["srm-dictionaries"]["dictionaries"]
    assert isinstance(known, Dictionaries)
    wanted = [(width, d.size, d.size) for width, d in zip(student.stage_widths, known.all(), strict=True)]
    own = setup.build("dictionaries", lambda: Dictionaries(wanted))
    depth = len(wanted)

    def objective(batch: Batch) -> Losses:
        terms: Losses = {}
        stages = zip(batch.student.stages, batch.teacher.stages, own.all(), known.all(), strict=True)
        for j, (maps, taught, d, theirs) in enumerate(stages, start=1):
            pixels, images = losses.labels_of(taught, theirs.atoms, theirs.offset, theirs.keep)
            if shuffled and batch.draws:
                pixels = pixels[_places(batch.draws["places"], taught)]
            if targets != "image":
                terms[f"pixels{j}"] = losses.pixel_prediction(maps, d.atoms, d.offset, pixels)
            if targets != "pixel":
                terms[f"images{j}"] = losses.image_prediction(maps, d.atoms, d.offset, images)
        return terms

    schedule = Schedule((30, 130))
    predict = Stage(
        name="predict",
        modules={"student": student, "own": own, "known": known},
        trainable=[*student.trunk(depth), own],
        objective=objective,
        optimiser=Optimiser("adam", predict_lr, weight_decay=predict_decay, restart="drop"),
        schedule=schedule,
        epochs=predict_epochs,
        batch_size=predict_batch_size,
        student_depth=depth,
        teacher_depth=depth,
        draws=_noise if shuffled else None,
        selection=None
        if shuffled
        else Selection(total(objective), highest=False, at=schedule.ends(predict_epochs), modules=("student", "own")),
        shared=True,
    )
    return [predict, setup.training(setup.supervision)]


class Dictionary(nn.Module):
    """`size` atoms of `width` channels [C, M], and one offset for all of them; a code keeps `keep` of its entries.

    Atoms begin at U(-b, b), b^2 = 6 / M, the offset at U(-1, 1), as in the published code.
    """

    def __init__(self, width: int, size: int, keep: int) -> None:
        super().__init__()
        self.size, self.keep = size, keep
        bound = math.sqrt(6.0 / size)
        self.atoms = nn.Parameter(torch.empty(width, size).uniform_(-bound, bound))
        self.offset = nn.Parameter(torch.empty(1).uniform_(-1.0, 1.0))


class Dictionaries(nn.ModuleList):
    """One for each stage of a network, of these widths, sizes and kept entries."""

    def __init__(self, wanted: Iterable[tuple[int, int, int]] = ()) -> None:
        super().__init__(Dictionary(width, size, keep) for width, size, keep in wanted)

    def all(self) -> list[Dictionary]:
        return [dictionary for dictionary in self if isinstance(dictionary, Dictionary)]


def sizes(width: int, sparsity: float, size: float) -> tuple[int, int]:
    """How many atoms describe a teacher's map of so many channels, and how many of them a code keeps, as published."""
    return int(size * width), max(1, int(width * sparsity * size))


def _noise(stream: torch.Generator, images: int) -> dict[str, Tensor]:
    return {"places": torch.rand(images, MOST_PIXELS, generator=stream, device=stream.device)}


def _places(noise: Tensor, maps: Tensor) -> Tensor:
    """A random order of all pixels of a batch of maps [B, C, H, W]: int64 [P]."""
    return noise[:, : maps[0, 0].numel()].flatten().argsort(stable=True)
