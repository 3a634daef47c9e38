"""The claims of the SLKD paper, S1 to S11, one after another.

A place is a pair of networks on a data set, and its rows are the lines of the tables: `cifar100/resnet56-resnet8`.
Tables 5 and 6 compare teachers of one student: the student is the place (`cifar100/resnet20`), and its rows are named
by teacher and line (`resnet56/kd`).  What figures show has places of its own (`cifar100/vgg13-vgg8#distance`), with
one number a run in the unit that the place's title gives.

`remark` says what a reader of the paper should know of the printed numbers, and where the reading is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from kdnb import datasets
from kdnb.exhibits import slkd
from kdnb.exhibits.claims.predicates import Better, all_of, mostly, numbered
from kdnb.exhibits.claims.words import TEACHER
from kdnb.exhibits.exhibit import Cell, Column, Pair
from kdnb.exhibits.names import network_title, pair_title
from kdnb.exhibits.paper import Paper, Where, where
from kdnb.exhibits.score import ACCURACY, Score
from kdnb.study.record import Record

PAIRS = (*slkd.SAME_FAMILY, *slkd.CROSS_FAMILY)
OTHERS = ("at", "sp", "rkd", "ofd", "crd", "reviewkd", "dkd", "kd")
#: Pairs of the figures on trajectories.
FIGURE_2, FIGURE_4 = (slkd.V13_V8, slkd.R50_M2), (slkd.V13_V8, slkd.R32X4_R8X4)
FEATURES = ("at", "ofd", "crd", "reviewkd")

#: What figures show.  Rows are named so that more is better for each of them.
DISTANCE = Score("distance", "KL divergence to the student early in training", "nats")
TRAJECTORY = Score("trajectory", "accuracy of the self-learning teachers at the first learning rate", "percent")
SEPARABILITY = Score("separability", "separability of the student's features", "mean silhouette")
LOGITS = Score("logits", "mean gap of class-mean logits to the teacher's")
SHOWN = {score.key: score for score in (DISTANCE, TRAJECTORY, SEPARABILITY, LOGITS)}

# -- places ------------------------------------------------------------------------------------------------


def place(pair: Pair, score: Score = ACCURACY, dataset: str = "cifar100") -> str:
    """Where the rows of a pair are compared."""
    return Column(dataset, pair, score).key


def place_of_student(pair: Pair, dataset: str = "cifar100") -> str:
    """Where the teachers of one student are compared."""
    return f"{dataset}/{pair.student}"


def title(place: str) -> str:
    """How a place is called: `CIFAR-100, ResNet56 → ResNet8`."""
    dataset, _, rest = place.partition("/")
    networks, _, shown = rest.partition("#")
    teacher, _, student = networks.rpartition("-")
    named = pair_title(teacher, student) if teacher else f"teachers of {network_title(student)}"
    return f"{datasets.title(dataset)}, {named}" + (f": {SHOWN[shown].heading}" if shown else "")


#: Before a method's row: its gap to the teacher, of which more is no better.
GAP_OF = "gap of "


def row_of(row: str) -> tuple[str, str]:
    """The line of the tables behind a row of a place, and what its label adds: `kd`, ` under ResNet56`, `'s gap`."""
    if row.startswith(GAP_OF):
        return row.removeprefix(GAP_OF), "'s gap"
    teacher, _, line = row.rpartition("/")
    return line, f" under {network_title(teacher)}" if teacher else ""


# -- claims ------------------------------------------------------------------------------------------------


def _on(pairs: tuple[Pair, ...], *comparisons: tuple[str, str], dataset: str = "cifar100") -> list[Better]:
    """Each (better, worse) on every pair."""
    return [Better(place(pair, dataset=dataset), a, b) for pair in pairs for a, b in comparisons]


def _gain_within(pairs: tuple[Pair, ...], low: float, high: float) -> list[Better]:
    """SLKD's gain over KD lies in [low, high) on every pair."""
    at_least = [Better(place(pair), "slkd", "kd", or_equal=True, by=low) for pair in pairs]
    return at_least + [Better(place(pair), "kd", "slkd", by=-high) for pair in pairs]


def _teachers(pairs: tuple[Pair, ...]) -> list[Better]:
    """SLKD beats KD with every teacher of a student, and KD gives least with the strongest."""
    here = place_of_student(pairs[0])
    gains = [Better(here, f"{pair.teacher}/slkd", f"{pair.teacher}/kd") for pair in pairs]
    others = [pair.teacher for pair in pairs if pair.teacher != slkd.STRONGEST]
    return gains + [Better(here, f"{other}/kd", f"{slkd.STRONGEST}/kd") for other in others]


_claim = numbered(slkd.PAPER, "S")

CLAIMS = (
    _claim(
        1,
        "4.2",
        "SLKD beats KD on all eleven pairs of networks.",
        "table1 table2",
        all_of(*_on(PAIRS, ("slkd", "kd"))),
    ),
    _claim(
        2,
        "4.2",
        "It gains 1 to 3 points over KD within one family of networks, and 2 to 3 across families.",
        "table1 table2",
        all_of(*_gain_within(slkd.SAME_FAMILY, 0.5, 3.5), *_gain_within(slkd.CROSS_FAMILY, 1.5, 3.5)),
        "Taken as: to whole points, that is from 0.5, or 1.5, to less than 3.5. In print one gain is larger: 3.52 on "
        "ResNet32x4 → ResNet8x4.",
    ),
    _claim(
        3,
        "4.2",
        "Students of VGG13 become better than their teacher: VGG11 and VGG8.",
        "table1",
        all_of(*_on((slkd.V13_V11, slkd.V13_V8), ("slkd", TEACHER))),
        "In print two more do, of another teacher: WRN-40-2's students WRN-16-2 and ShuffleNetV1.",
    ),
    _claim(
        4,
        "1",
        "SLKD is state of the art, or comparable to it.",
        "table1 table2",
        all_of(*(Better(place(pair), "slkd", other, by=-1.0) for pair in PAIRS for other in OTHERS)),
        "Taken as: on no pair is another method better by a point or more. In print SLKD beats DKD on 10 of 11 pairs; "
        "ReviewKD beats SLKD on 5, once by 1.28 points (ResNet32x4 → ShuffleNetV1).",
    ),
    _claim(
        5,
        "4.2",
        "On ImageNet SLKD beats KD, and most methods that distil features.",
        "table3 table4",
        all_of(
            *_on(slkd.IMAGENET, ("slkd", "kd"), dataset="imagenet"),
            mostly(*_on(slkd.IMAGENET, *(("slkd", other) for other in FEATURES), dataset="imagenet")),
        ),
        "Most is taken as more than half of the comparisons with AT, OFD, CRD and ReviewKD. The paper's numbers are "
        "lost in the text that we have, and ImageNet is not prepared here.",
    ),
    _claim(
        6,
        "4.2",
        "Bigger teachers: KD's student suffers under a much stronger teacher, and SLKD gains over KD under each.",
        "table5 table6",
        all_of(*_teachers(slkd.TO_R20), *_teachers(slkd.TO_W162)),
        "To suffer is taken as: with ResNet32x4, the strongest, KD's student is worse than with each other teacher. "
        "SLKD's falls there too, in print to 70.38 and 75.08: it relieves, and does not cure.",
    ),
    _claim(
        7,
        "4.3",
        "A self-learning teacher alone supervises better than the teacher alone, and both together best.",
        "table7",
        all_of(*_on(slkd.SWITCHES, ("slkd-self-one", "kd"), ("slkd-one", "slkd-self-one"))),
        "We take Table 7 to have one self-learning teacher (SL-T): for both together it prints 76.13 and 69.25, "
        "Tables 1 and 2 for two of them 76.85 and 69.94.",
    ),
    _claim(
        8,
        "4.3",
        "Training self-learning teachers and student in parallel beats training them in sequence on all eleven pairs.",
        "table8 table9",
        all_of(*_on(PAIRS, ("slkd", "slkd-sequential"))),
        "In print by 0.06 (ResNet56 → ResNet8) to 2.14 points (ResNet50 → MobileNetV2).",
    ),
    _claim(
        9,
        "3.2",
        "Early in training the self-learning teachers' answers are nearer to the student's than the teacher's are.",
        "fig2",
        all_of(*(Better(place(pair, DISTANCE), "from teacher", "from self", score=DISTANCE) for pair in FIGURE_2)),
        "Taken as: by KL divergence at temperature 4, on the test images, over the first tenth of the epochs. The "
        "paper draws it and prints no number.",
        about=("slkd",),
    ),
    _claim(
        10,
        "3.3",
        "Two self-learning teachers, fused, give a more reliable trajectory than one.",
        "fig4",
        all_of(*(Better(place(pair, TRAJECTORY), "slkd", "slkd-one", score=TRAJECTORY) for pair in FIGURE_4)),
        "Taken as: up to the first drop of the learning rate the fused answer is right more often, on the test images. "
        "The paper draws it and prints no number.",
    ),
    _claim(
        11,
        "A.5",
        "SLKD's student has more separable features than KD's, and logits closer to the teacher's.",
        "fig5 fig6",
        all_of(
            Better(place(slkd.V13_V8, SEPARABILITY), "slkd", "kd", score=SEPARABILITY),
            Better(place(slkd.V13_V8, LOGITS), f"{GAP_OF}kd", f"{GAP_OF}slkd", score=LOGITS),
        ),
        "Separable is taken as a higher mean silhouette of the classes among the features; close as a smaller mean "
        "difference of mean logits by class, the diagonal left out, as Figure 6 draws it. The paper prints no number.",
    ),
)

# -- evidence ----------------------------------------------------------------------------------------------


def _by_teacher(cell: Cell) -> Where | None:
    """None for a teacher's own accuracy: at a student's place there are several teachers."""
    pair, line = _pair(cell), cell.row.key
    return None if line == TEACHER else (place_of_student(pair, cell.dataset), f"{pair.teacher}/{line}")


def counts(cell: Cell) -> Where | None:
    """Where the accuracies of a table count.  Those of figures do not: their pairs have other relatives."""
    name = cell.exhibit.partition("/")[2]
    if name in FIGURES:
        return None
    return _by_teacher(cell) if name in ("table5", "table6") else where(cell)


def _distances(cell: Cell, record: Record) -> dict[Where, float]:
    """How far the student is from who teaches it, over the first tenth of the epochs (one at least)."""
    epochs = record.history["epoch"]
    early = [epoch <= max(1, epochs[-1] / 10) for epoch in epochs]
    here = place(_pair(cell), DISTANCE, cell.dataset)
    return {
        (here, "from teacher"): _mean(record, "kl_teacher_student", early),
        (here, "from self"): _mean(record, "kl_self_student", early),
    }


def _trajectory(cell: Cell, record: Record) -> dict[Where, float]:
    """How often the self-learning teachers are right, one or two fused, before the learning rate first drops."""
    rates = record.history["lr"]
    accuracy = _mean(record, "self_accuracy", [rate == rates[0] for rate in rates])
    return {(place(_pair(cell), TRAJECTORY, cell.dataset), cell.row.key): 100 * accuracy}


def _separability(cell: Cell, record: Record) -> dict[Where, float]:
    here = place(_pair(cell), SEPARABILITY, cell.dataset)
    return {(here, cell.row.key): record.metrics.get("separability", math.nan)}


def _logits(cell: Cell, record: Record) -> dict[Where, float]:
    here = place(_pair(cell), LOGITS, cell.dataset)
    return {(here, f"{GAP_OF}{cell.row.key}"): record.metrics.get("logit_gap", math.nan)}


#: What a run shows in a figure; NaN where its record does not tell.
FIGURES: dict[str, Callable[[Cell, Record], dict[Where, float]]] = {
    "fig2": _distances,
    "fig4": _trajectory,
    "fig5": _separability,
    "fig6": _logits,
}


def shown(cell: Cell, record: Record) -> dict[Where, float] | None:
    """What a run shows in a figure; None for those of tables."""
    figure = FIGURES.get(cell.exhibit.partition("/")[2])
    return figure(cell, record) if figure else None


def _mean(record: Record, column: str, among: list[bool]) -> float:
    """The mean of a column of the history over some of its epochs; NaN where the record has no such column."""
    values = [value for value, taken in zip(record.history.get(column, []), among, strict=False) if taken]
    return sum(values) / len(values) if values else math.nan


def _pair(cell: Cell) -> Pair:
    assert cell.column.pair is not None, "every column of this paper has a pair of networks"
    return cell.column.pair


PAPER = Paper(
    slkd.PAPER,
    slkd.EXHIBITS,
    slkd.ABLATIONS,
    CLAIMS,
    counts,
    shown,
    title,
    row_of,
    named="SLKD",
    explained={"S1": ("S7", "S8", "S9", "S10", "S11")},
    own=("slkd",),
)
