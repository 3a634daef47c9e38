"""Liu et al. 2023, SLKD: self-learning teachers beside the teacher, against eight methods on eleven pairs of networks.

Tables 1 and 2 are the field's standard benchmark.  The recipe is that of the benchmark's public code; what had to be
decided for pairs without published settings stands beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from kdnb.exhibits.courses import Courses, Line, Panel
from kdnb.exhibits.exhibit import DIGITS, Absent, Column, Exhibit, Pair, Part, Row, normalisation
from kdnb.exhibits.names import network_title as title
from kdnb.methods.recipe import Recipe
from kdnb.study.experiment import Experiment, Images
from kdnb.study.profile import Profile

PAPER = "slkd"

NORMALISATION = {
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "digits": DIGITS,
}

#: Networks of these families learn at a fifth of the rate, and so do the self-learning teachers beside them; so does
#: the network that stands for them in the demo.
SLOW = ("mobilenet_v2", "shufflenet_v1", "shufflenet_v2", "cnn1")


def _pair(teacher: str, student: str, **relatives: tuple[str, str]) -> Pair:
    return Pair(teacher, student, relatives)


# Table 1, and its relatives that two cores can afford.
R32X4_R8X4 = _pair("resnet32x4", "resnet8x4", demo=("resnet14", "resnet8"), pilot=("resnet20", "resnet8"))
R56_R8 = _pair("resnet56", "resnet8", pilot=("resnet14", "resnet8"))
W402_W401 = _pair("wrn_40_2", "wrn_40_1", pilot=("wrn_16_2", "wrn_16_1"))
W402_W162 = _pair("wrn_40_2", "wrn_16_2")
V13_V11 = _pair("vgg13", "vgg11")
V13_V8 = _pair("vgg13", "vgg8")
SAME_FAMILY = (R32X4_R8X4, R56_R8, W402_W401, W402_W162, V13_V11, V13_V8)

# Table 2.
R32X4_S2 = _pair("resnet32x4", "shufflenet_v2")
R32X4_S1 = _pair("resnet32x4", "shufflenet_v1")
R50_M2 = _pair("resnet50", "mobilenet_v2")
V13_M2 = _pair("vgg13", "mobilenet_v2", demo=("resnet8", "cnn1"), pilot=("resnet14", "mobilenet_v2"))
W402_S1 = _pair("wrn_40_2", "shufflenet_v1")
CROSS_FAMILY = (R32X4_S2, R32X4_S1, R50_M2, V13_M2, W402_S1)

# Tables 5 and 6; their students' names are lost, and inferred from numbers.  A stronger teacher's relative is bigger;
# in the demo both tables have the same students, trained once.
TO_R20 = (
    _pair("resnet56", "resnet20", demo=("resnet8", "resnet8"), pilot=("resnet14", "resnet8")),
    _pair("resnet110", "resnet20"),
    _pair("resnet50", "resnet20"),
    _pair("resnet32x4", "resnet20", demo=("resnet14", "resnet8"), pilot=("resnet20", "resnet8")),
)
TO_W162 = (
    _pair("resnet110", "wrn_16_2", demo=("resnet8", "resnet8"), pilot=("resnet14", "wrn_16_1")),
    _pair("vgg13", "wrn_16_2"),
    replace(W402_W162, relatives={"pilot": ("wrn_16_2", "wrn_16_1")}),
    _pair("resnet32x4", "wrn_16_2", demo=("resnet14", "resnet8"), pilot=("resnet20", "wrn_16_1")),
)

#: The strongest teacher of Tables 5 and 6.
STRONGEST = "resnet32x4"

# Figures show other pairs than those that have relatives in the tables.
R8 = {"demo": ("resnet14", "resnet8"), "pilot": ("resnet20", "resnet8")}
FIGURE_V13_V8 = replace(V13_V8, relatives=R8)
FIGURE_R50_M2 = replace(R50_M2, relatives=V13_M2.relatives)

# Tables 3 and 4, ImageNet.
IMAGENET = (_pair("resnet34", "resnet18"), _pair("resnet50", "mobilenet_v1"))

#: DKD's beta as its code gives it by pair; ResNet8 and VGG11 as their nearest relatives there.
DKD_BETA = {
    R32X4_R8X4.key: 8.0,
    R56_R8.key: 2.0,
    W402_W401.key: 6.0,
    W402_W162.key: 6.0,
    V13_V11.key: 6.0,
    V13_V8.key: 6.0,
    R32X4_S2.key: 8.0,
    R32X4_S1.key: 8.0,
    R50_M2.key: 8.0,
    V13_M2.key: 6.0,
    W402_S1.key: 8.0,
}
#: ReviewKD's weight as its code gives it; by analogy 0.6 for ResNet8 and 5 for VGG.  For MobileNetV2 the 30 that
#: users of the benchmark's code needed to reach the printed number (mdistiller, issue 39), not the 8 of analogy.
REVIEW_WEIGHT = {
    R32X4_R8X4.key: 5.0,
    R56_R8.key: 0.6,
    W402_W401.key: 5.0,
    W402_W162.key: 5.0,
    V13_V11.key: 5.0,
    V13_V8.key: 5.0,
    R32X4_S2.key: 8.0,
    R32X4_S1.key: 5.0,
    R50_M2.key: 30.0,
    V13_M2.key: 30.0,
    W402_S1.key: 5.0,
}
#: The original's number of negatives; the comparison paper has a quarter of it.
NEGATIVES = 16_384
#: SLKD's summed weights given to KD alone: is it the learning ability, or just more of everything?
CONTROL: dict[str, Any] = {"labels_weight": 1.1, "soft_weight": 1.9}
#: Arrays that Figures 5 and 6 are drawn from, and of which rows of their pair; figures without them ask for none.
DRAWN = ("plane", "logits_by_class")
KEPT = {V13_V8.key: {"kd": DRAWN, "slkd": DRAWN}}


# -- rows: a method, which every pair of networks has with the pair's settings -----------------------------


ROWS = {
    row.key: row
    for row in (
        Row("teacher", "Teacher", "plain", role="teacher"),
        Row("plain", "Plain student", "plain", role="baseline"),
        Row("at", "AT", "at"),
        Row("sp", "SP", "sp"),
        Row("rkd", "RKD", "rkd"),
        Row("ofd", "OFD", "ofd"),
        Row("crd", "CRD", "crd", {"negatives": NEGATIVES}),
        Row("reviewkd", "ReviewKD", "reviewkd"),
        Row("reviewkd-8", "ReviewKD, weight 8", "reviewkd", {"weight": 8.0}),
        Row("dkd", "DKD", "dkd"),
        Row("kd", "KD", "kd"),
        Row("slkd", "SLKD", "slkd"),
        Row("slkd-one", "SLKD, one SL-T", "slkd", {"teachers": 1}),
        Row("slkd-self", "SL-Ts alone, two", "slkd", {"supervision": "self"}),
        Row("slkd-self-one", "SL-T alone, one", "slkd", {"teachers": 1, "supervision": "self"}),
        Row("slkd-sequential", "SLKD*, in sequence", "slkd-sequential"),
        Row("slkd-detached", "SLKD, detached", "slkd", {"coupled": False}),
        Row("kd-control", "KD, 1.1 CE + 1.9 KL", "kd", CONTROL),
    )
}


def settings(method: str, pair: Pair) -> dict[str, Any]:
    """The arguments of a method that its code gives by pair of networks."""
    by_pair = {
        "dkd": {"beta": DKD_BETA.get(pair.key, 8.0)},
        "reviewkd": {"weight": REVIEW_WEIGHT.get(pair.key, 5.0)},
    }
    return by_pair.get(method, {})


def line(pair: Pair, key: str) -> Part:
    """The row `key` of the paper's tables for a pair of networks."""
    return Part(ROWS[key], pair)


def lines(pairs: Iterable[Pair], *keys: str) -> list[Part]:
    """Rows pair by pair, in the order of the table."""
    return [line(pair, key) for pair in pairs for key in keys]


def variation(part: Part, **arguments: Any) -> Part:
    """A row of a pair with other arguments: what a reader tries out."""
    return part.varied(**arguments)


# -- experiments -------------------------------------------------------------------------------------------


def recipe(network: str) -> Recipe:
    """The benchmark's recipe: 240 epochs, last epoch; small networks of other families learn more slowly."""
    lr = 0.01 if network in SLOW else 0.05
    return Recipe(epochs=240, batch_size=64, lr=lr, milestones=(150, 180, 210), selection="last")


def images(dataset: str, student_images: int | None) -> Images:
    """All test images score, and nothing is selected."""
    mean, std = normalisation(dataset, NORMALISATION)
    return Images(dataset, split="test", mean=mean, std=std, student_images=student_images)


def plain(network: str, profile: Profile, dataset: str, student_images: int | None) -> Experiment:
    """A network that learns from labels alone."""
    return Experiment(profile, images(dataset, student_images), network, recipe(network), "plain")


def build(row: Row, column: Column, profile: Profile) -> Experiment | Absent:
    """A row as an experiment, or why there is none."""
    pair, dataset = column.pair, column.dataset
    assert pair is not None, "every column of this paper has a pair of networks"
    if pair in IMAGENET:
        return Absent("ImageNet is not among the prepared data sets yet")
    networks = pair.networks(profile)
    if networks is None:
        return Absent(f"no relatives of {pair.title} at this scale")
    big, small = networks
    teacher = plain(big, profile, dataset, None)
    if row.role == "teacher":
        return teacher
    student = plain(small, profile, dataset, profile.student_images)
    if row.role == "baseline":
        return student
    arguments = {**settings(row.method, pair), **row.arguments}
    return replace(student, method=row.method, arguments=arguments, teacher=teacher)


#: The lines of the paper's CSV that are no network alone and no method's name.
_PRINTED_LINES = {
    "supervision_T=0;supervision_SLT=1": "slkd-self-one",
    "supervision_T=1;supervision_SLT=1": "slkd-one",
    "training=sequential": "slkd-sequential",
}


def key_of(printed: Mapping[str, str]) -> str:
    """The row that a line of the paper's CSV belongs to.

    Table 7 has one self-learning teacher, as its numbers suggest: they are not those of Tables 1 and 2.
    """
    networks = "-".join(_name(printed[side]) for side in ("teacher", "student") if printed[side])
    method = {"vanilla": "plain"}.get(printed["method"], printed["method"].lower())
    return f"{networks}/{_PRINTED_LINES.get(printed['condition'], method)}"


def _name(printed: str) -> str:
    """A network's name from the way the paper writes it."""
    known = {network for pair in (*SAME_FAMILY, *CROSS_FAMILY, *TO_R20) for network in (pair.teacher, pair.student)}
    return next((network for network in known if title(network) == printed), printed)


# -- exhibits ----------------------------------------------------------------------------------------------


def _exhibit(
    name: str,
    title: str,
    pairs: Iterable[Pair],
    *rows: str,
    dataset: str = "cifar100",
    ablation: bool = False,
    draws: bool = True,
) -> Exhibit:
    """A table with a column for every pair of networks; what is drawn from its runs is kept beside them."""
    columns = tuple(Column(dataset, pair, keeps=KEPT.get(pair.key, {}) if draws else {}) for pair in pairs)
    chosen = tuple(ROWS[key] for key in rows)
    return Exhibit(PAPER, name, title, chosen, columns, build, ablation, key_of, gain=("slkd", "kd"))


BENCHMARK = ("teacher", "plain", "at", "sp", "rkd", "ofd", "crd", "reviewkd", "dkd", "kd", "slkd")
ON_IMAGENET = ("teacher", "plain", "at", "ofd", "crd", "reviewkd", "dkd", "kd", "slkd")
SEQUENCE = ("teacher", "plain", "slkd", "slkd-sequential")
SWITCHES = (R32X4_R8X4, V13_M2)

TABLE_1 = _exhibit("table1", "Top-1 accuracy, teacher and student of one family", SAME_FAMILY, *BENCHMARK)
TABLE_2 = _exhibit("table2", "Top-1 accuracy, teacher and student of two families", CROSS_FAMILY, *BENCHMARK)
TABLE_7 = _exhibit(
    "table7",
    "Who supervises the student: the teacher, self-learning teachers, or both",
    SWITCHES,
    *("kd", "slkd-self-one", "slkd-one", "slkd-self", "slkd"),
)

EXHIBITS = (
    TABLE_1,
    TABLE_2,
    _exhibit("table3", "Top-1 accuracy on ImageNet, one family", IMAGENET[:1], *ON_IMAGENET, dataset="imagenet"),
    _exhibit("table4", "Top-1 accuracy on ImageNet, two families", IMAGENET[1:], *ON_IMAGENET, dataset="imagenet"),
    _exhibit("table5", "Bigger teachers of ResNet20", TO_R20, "teacher", "kd", "slkd"),
    _exhibit("table6", "Bigger teachers of WRN-16-2", TO_W162, "teacher", "kd", "slkd"),
    TABLE_7,
    _exhibit("table8", "Training in parallel or in sequence, one family", SAME_FAMILY, *SEQUENCE),
    _exhibit("table9", "Training in parallel or in sequence, two families", CROSS_FAMILY, *SEQUENCE),
    _exhibit(
        "fig2",
        "How far student and self-learning teacher are",
        (FIGURE_V13_V8, FIGURE_R50_M2),
        "slkd",
        draws=False,  # from the record's courses alone
    ),
    _exhibit("fig4", "One self-learning teacher or two", (FIGURE_V13_V8, R32X4_R8X4), "slkd-one", "slkd", draws=False),
    _exhibit("fig5", "The student's features in the plane", (FIGURE_V13_V8,), "kd", "slkd"),
    _exhibit("fig6", "How far the logits of student and teacher are", (FIGURE_V13_V8,), "kd", "slkd"),
)

ABLATIONS = (
    _exhibit(
        "coupled",
        "Whether the student draws its self-learning teachers along, as the code has it",
        SWITCHES,
        *("slkd", "slkd-detached"),
        ablation=True,
    ),
    _exhibit(
        "control",
        "KD with SLKD's summed weights: the learning ability, or just more KD?",
        (*SAME_FAMILY, *CROSS_FAMILY),
        *("kd", "kd-control", "slkd"),
        ablation=True,
    ),
    _exhibit(
        "review-weight",
        "ReviewKD with MobileNetV2: the weight that its users needed, and that of analogy",
        (R50_M2, V13_M2),
        *("kd", "reviewkd-8", "reviewkd"),
        ablation=True,
    ),
)

# -- figures -----------------------------------------------------------------------------------------------


def trajectories(row: str = "slkd", called: str = "") -> Courses:
    """Distances between teacher, self-learning teachers and student, and below them their accuracies, of one row.

    `called` names it where its label does not tell it from what stands beside it.
    """
    distances = (
        Line(row, "kl_teacher_student", "KL(teacher‖student)", "kd"),
        Line(row, "kl_self_student", "KL(self-learning‖student)", "slkd"),
        Line(row, "kl_teacher_self", "KL(teacher‖self-learning)", "slkd-self", "--"),
    )
    accuracies = (
        Line(row, "teacher_accuracy", "teacher", "teacher"),
        Line(row, "self_accuracy", "self-learning teachers, mixed", "slkd-self", "--"),
        Line(row, "validation_accuracy", "student", "slkd"),
    )
    return Courses(
        "trajectories",
        "how far teacher, self-learning teachers and student are from each other: KL divergence in nats at temperature "
        "4, and accuracy, on the test images after every epoch.",
        (
            Panel("KL divergence in nats", distances, logarithmic=True),
            Panel("test accuracy, %", accuracies, factor=100.0),
        ),
        called or ROWS[row].label,
    )


#: Accuracy of one self-learning teacher, of two and their mixture, and of the students they supervise.
GUIDES = Courses(
    "guides",
    "Accuracy on the test images after every epoch: one self-learning teacher, two whose logits are mixed, each of the "
    "two by itself (thin, the mean alone), and the students that they supervise (dashed).",
    (
        Panel(
            "test accuracy, %",
            (
                Line("slkd-one", "self_accuracy", "one self-learning teacher", "slkd-one"),
                Line("slkd", "self_accuracy", "two, mixed", "slkd"),
                Line("slkd", "self1_accuracy", "each of the two", "slkd-self", ""),
                Line("slkd", "self2_accuracy", "each of the two", "slkd-self", ""),
                Line("slkd-one", "validation_accuracy", "student of one", "slkd-one", "--"),
                Line("slkd", "validation_accuracy", "student of two", "slkd", "--"),
            ),
            factor=100.0,
        ),
    ),
)

#: Figure 6 divides gaps of logits by this and shows them from 0 to 1.
LOGIT_GAPS: dict[str, Any] = {"divisor": 3.0, "as_in": "as in the code of DKD, on which SLKD's is built"}
