"""Huang et al. 2021, inheritance and exploration: its tables, and what of its figures the histories tell.

Table 1 and its longer twin in the supplementary compare methods on four pairs of networks; Table 4 lets two networks
teach each other; Tables 5, 6a and 6b vary one choice.  The recipe is that of the authors' code.  Where an equation
cannot be meant as it is printed, the rows have the reading that can be, and an ablation has the other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from kdnb import methods
from kdnb.exhibits.courses import Courses, Line, Panel
from kdnb.exhibits.exhibit import DIGITS, Absent, Column, Exhibit, Networks, Pair, Part, Row
from kdnb.exhibits.score import ERROR, Score, error, percent
from kdnb.methods.recipe import Recipe
from kdnb.study.experiment import Experiment, Images
from kdnb.study.profile import Profile

PAPER = "iekd"

NORMALISATION = {
    "cifar10": ((0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "digits": DIGITS,
}

# -- networks ----------------------------------------------------------------------------------------------

#: The paper's names; ResNet-110 has shortcuts without weights, and VGG-13 ends at 2x2.
NETWORKS = {
    "ResNet-18": "resnet18",
    "ResNet-20": "resnet20",
    "ResNet-32": "resnet32",
    "ResNet-34": "resnet34",
    "ResNet-50": "resnet50",
    "ResNet-56": "resnet56",
    "ResNet-110": "resnet110a",
    "VGG-13": "vgg13_pool4",
    "WRN-16-1": "wrn_16_1",
    "WRN-16-2": "wrn_16_2",
    "WRN-28-10": "wrn_28_10",
    "WRN-40-1": "wrn_40_1",
    "WRN-46-4": "wrn_46_4",
    "MobileNet": "mobilenet_v1",
}


def _pair(teacher: str, student: str, **relatives: Networks) -> Pair:
    return Pair(teacher, student, relatives)


#: A teacher whose batch norms tell OD its margins, and a student that learns in a second.
SMALL = {"demo": ("resnet8", "cnn1"), "pilot": ("resnet20", "resnet8")}

# Table 1, and its relatives that two cores can afford.
R56_R20 = _pair("resnet56", "resnet20", **SMALL)
W401_R20 = _pair("wrn_40_1", "resnet20", pilot=("wrn_16_1", "resnet8"))
W464_V13 = _pair("wrn_46_4", "vgg13_pool4", pilot=("wrn_16_2", "vgg8"))
W162_W161 = _pair("wrn_16_2", "wrn_16_1", pilot=("wrn_16_2", "wrn_16_1"))
ON_CIFAR10 = (R56_R20, W401_R20, W464_V13, W162_W161)

# The other way round: a small network teaches a large one (Figure 1b and the supplementary's Table 2).
R20_R56 = _pair("resnet20", "resnet56", demo=("cnn1", "cnn1_a"), pilot=("resnet8", "resnet20"))
TO_LARGER = (
    R20_R56,
    _pair("resnet20", "wrn_40_1", pilot=("resnet8", "wrn_16_1")),
    _pair("vgg13_pool4", "wrn_46_4", pilot=("vgg8", "wrn_16_2")),
    _pair("wrn_16_1", "wrn_16_2", pilot=("wrn_16_1", "wrn_16_2")),
)

# Tables 5, 6a and 6b.
R110_R32 = _pair("resnet110a", "resnet32", **SMALL)
ON_IMAGENET = _pair("resnet34", "resnet18")

# Figures 4a to 4c, which name no teacher: networks of Table 4, taught by the teacher of Tables 5 and 6.
R110_MOBILENET = _pair("resnet110a", "mobilenet_v1", demo=SMALL["demo"], pilot=("resnet20", "mobilenet_v2"))
TAUGHT_BY_R110 = (
    R110_R32,
    _pair("resnet110a", "resnet110a", pilot=("resnet20", "resnet20")),
    _pair("resnet110a", "wrn_28_10", pilot=("resnet20", "wrn_16_2")),
    R110_MOBILENET,
)
DETECTORS = _pair("resnet50", "resnet18")


def _mutual(first: str, second: str, **relatives: Networks) -> tuple[Pair, Pair]:
    """Two networks that teach each other: the first beside the second, and the second beside the first.

    `relatives` stand for the first and the second.
    """
    turned = {scale: (second, first) for scale, (first, second) in relatives.items()}
    return Pair(second, first, turned, "first"), Pair(first, second, relatives, "second")


# Table 4.
MUTUAL = (
    _mutual("resnet32", "resnet110a", demo=("cnn1", "cnn1_a"), pilot=("resnet8", "resnet20")),
    _mutual("resnet32", "wrn_28_10", pilot=("resnet8", "wrn_16_2")),
    _mutual("resnet32", "mobilenet_v1", pilot=("resnet8", "mobilenet_v2")),
    _mutual("resnet32", "resnet32", pilot=("resnet8", "resnet8")),
)

# -- scores ------------------------------------------------------------------------------------------------

TOP5 = error("top5", "Top-5 error", printed="top5_error")
MAP_VOC = percent("map_voc", "mAP by the rule of VOC 2007")
#: The second of two networks that teach each other; of one that learns alone, its own.
SECOND = replace(ERROR, metric="peer", otherwise="headline", readings=())


# What is measured of trained weights, by the names that the measurements give.
CKA = Score("cka_parts", "CKA of the parts", decimals=3, higher_is_better=False)
CKA_READINGS = (
    CKA,
    replace(CKA, metric="cka_parts_biased", title="CKA of the parts, biased"),
    replace(CKA, metric="cka_parts_maps", title="CKA of the parts, whole maps"),
    replace(CKA, metric="cka_parts_maps_biased", title="CKA of the parts, whole maps, biased"),
)
NEURONS = Score("active_neurons", "Active neurons", decimals=1)
OF_PARTS = (
    replace(NEURONS, metric="active_neurons_inheriting", title="Active neurons, inheriting part"),
    replace(NEURONS, metric="active_neurons_exploring", title="Active neurons, exploring part"),
    replace(NEURONS, metric="active_neurons_embedding", title="Active neurons of the embedding"),
)
RISE = Score("sharpness", "Rise of the loss under noise", "nats", decimals=3, higher_is_better=False)
RELATIVE_RISE = replace(RISE, metric="relative_sharpness", title="Rise under noise in proportion")
TRAINING_LOSS = replace(RISE, metric="training_loss", title="Training loss")
SEEN = Score("seen_alike", "Likeness of maps to the teacher's", decimals=3)
SEEN_BY_PARTS = (
    SEEN,
    replace(SEEN, metric="seen_alike_inheriting", title="Likeness, inheriting part"),
    replace(SEEN, metric="seen_alike_exploring", title="Likeness, exploring part"),
)

# -- rows --------------------------------------------------------------------------------------------------

#: The benchmark's number of negatives.
NEGATIVES = 16_384
IE = ("ie-at", "ie-ft", "ie-od")
#: The schedule of DML's own paper, which the printed DML column follows; IE-DML has that of the other tables.
LONGER = "published"

ROWS = {
    row.key: row
    for row in (
        Row("teacher", "Teacher", "plain", role="teacher"),
        Row("plain", "Plain student", "plain", role="baseline"),
        Row("kd", "KD", "kd", {"labels_weight": 0.05, "soft_weight": 0.95, "temperature": 20.0}),
        Row("at", "AT", "at"),
        Row("ft", "FT", "ft"),
        Row("ofd", "OD", "ofd"),
        Row("tf-kd", "Tf-KD", "tf-kd"),
        Row("crd", "CRD", "crd", {"negatives": NEGATIVES}),
        Row("fitnet", "FitNet", "fitnet-joint"),
        Row("sp", "SP", "sp"),
        Row("cc", "CC", "cc"),
        Row("vid", "VID", "vid"),
        Row("rkd", "RKD", "rkd"),
        Row("pkt", "PKT", "pkt-joint"),
        Row("ab", "AB", "ab"),
        Row("nst", "NST", "nst"),
        Row("ie-at", "IE-AT", "ie-at"),
        Row("ie-ft", "IE-FT", "ie-ft"),
        Row("ie-od", "IE-OD", "ie-od"),
        # Table 4
        Row("independent", "Independent", "plain"),
        Row("dml", "DML", "dml", schedule=LONGER),
        Row("dml-brief", "DML, IE-DML's schedule", "dml"),
        Row("ie-dml", "IE-DML", "ie-dml"),
        # Table 5: inheriting / exploring
        *(
            Row(f"share-{share}", f"{share / 100:g} / {1 - share / 100:g}", "ie-ft", {"inherited": share / 100})
            for share in (0, 30, 50, 70, 100)
        ),
        # Table 6a
        Row("metric-l2", "L2", "ie-ft", {"metric": "l2"}),
        Row("metric-cosine", "Cosine", "ie-ft", {"metric": "cosine"}),
        Row("metric-partial-l2", "Partial L2", "ie-ft", {"metric": "partial-l2"}),
        Row("metric-l1-cka", "L1 + CKA", "ie-ft", {"metric": "l1+cka"}),
        # Table 6b: weights of inheritance / exploration
        *(
            Row(
                f"weights-{one}-{other}",
                f"{one} / {other}",
                "ie-ft",
                {"inheritance_weight": float(one), "exploration_weight": float(other)},
            )
            for one, other in ((5, 5), (500, 500), (50, 500), (500, 50))
        ),
        # Ablations of ours
        Row("ft-50", "FT, weight 50", "ft", {"weight": 50.0}),
        Row("at-100", "AT, weight 100", "at", {"weight": 100.0}),
        Row("ie-ft-spared", "IE-FT, exploring by its encoder alone", "ie-ft", {"backbone": "spared"}),
        Row("ie-ft-own", "IE-FT, away from its own inheritance", "ie-ft", {"away_from": "inheritance"}),
        Row("ie-ft-halves", "IE-FT, first and last half", "ie-ft", {"split": "halves"}),
        Row("ie-od-raw", "IE-OD to the letter", "ie-od", {"metric": "raw-l2"}),
        Row(
            "cosine-1",
            "Cosine, weights 1 / 1",
            "ie-ft",
            {"metric": "cosine", "inheritance_weight": 1.0, "exploration_weight": 1.0},
        ),
        Row("l1-cka-1", "L1 + CKA, weights 50 / 1", "ie-ft", {"metric": "l1+cka", "exploration_weight": 1.0}),
    )
}


#: Rows that the demo has no time for: it has others of their kind.
NOT_IN_DEMO = {
    *("share-30", "share-70", "weights-500-500", "weights-50-500", "weights-500-50"),
    *("metric-l2", "metric-partial-l2", "metric-l1-cka", "cosine-1", "l1-cka-1", "ie-ft-own", "ie-ft-halves", "at-100"),
}


def _labelled(key: str, label: str) -> Row:
    """A row as another table calls it."""
    return replace(ROWS[key], label=label)


def line(pair: Pair, key: str) -> Part:
    """The row `key` of the paper's tables for a pair of networks."""
    return Part(ROWS[key], pair)


def variation(part: Part, **arguments: Any) -> Part:
    """A row of a pair with other arguments: what a reader tries out."""
    return part.varied(**arguments)


# -- experiments -------------------------------------------------------------------------------------------


def recipe(network: str, row: Row | None = None) -> Recipe:
    """The code's recipe: 160 epochs, last epoch; MobileNet alone decays less, and DML has its own paper's schedule."""
    if row is not None and row.schedule == LONGER:
        return Recipe(epochs=200, batch_size=64, lr=0.1, milestones=(60, 120, 180), nesterov=True)
    decay = 2e-4 if network == "mobilenet_v1" and row is None else 5e-4
    return Recipe(epochs=160, batch_size=128, lr=0.1, milestones=(80, 120), nesterov=True, weight_decay=decay)


def images(dataset: str, student_images: int | None) -> Images:
    """All test images score, and nothing is selected; crops are padded with mirrored edges."""
    mean, std = NORMALISATION[dataset]
    return Images(dataset, "test", mean, std, student_images, padding_mode="reflect")


def plain(network: str, profile: Profile, dataset: str, student_images: int | None) -> Experiment:
    """A network that learns from labels alone."""
    return Experiment(profile, images(dataset, student_images), network, recipe(network), "plain")


def learned_by_students(profile: Profile) -> int | None:
    """How many images a student sees: in the demo twice as many as elsewhere, since its batches are twice as large."""
    few = profile.student_images
    return few and (2 * few if profile.embedded_data else few)


def build(row: Row, column: Column, profile: Profile) -> Experiment | Absent:
    """A row as an experiment, or why there is none."""
    pair, dataset = column.pair, column.dataset
    assert pair is not None, "every column of this paper has a pair of networks"
    if pair == ON_IMAGENET:
        return Absent("ImageNet is not among the prepared data sets yet")
    if pair == DETECTORS:
        return Absent("detection on VOC 2007 is no task here yet")
    networks = pair.networks(profile)
    if networks is None:
        return Absent(f"no relatives of {pair.title} at this scale")
    if profile.scale == "demo" and row.key in NOT_IN_DEMO:
        return Absent("the demo has enough rows of this kind")
    if pair.scored:
        return _mutually(row, pair, networks, profile, dataset)
    big, small = networks
    teacher = plain(big, profile, dataset, None)
    if row.role == "teacher":
        return teacher
    student = plain(small, profile, dataset, learned_by_students(profile))
    if row.role == "baseline":
        return student
    # Self-training's teacher is what the student becomes alone, on the same images, with a teacher's seed.
    source = student if methods.get(row.method).teacher_alike else teacher
    return replace(student, recipe=recipe(small, row), method=row.method, arguments=row.arguments, teacher=source)


def _mutually(row: Row, pair: Pair, networks: Networks, profile: Profile, dataset: str) -> Experiment:
    """Two networks beside each other are one run, of the first with the second as its peer, whichever is scored."""
    other, scored = networks
    if row.method == "plain":
        return plain(scored, profile, dataset, learned_by_students(profile))
    first, second = (scored, other) if pair.scored == "first" else (other, scored)
    alone = plain(first, profile, dataset, learned_by_students(profile))
    note = f"{row.schedule}-schedule" if row.schedule else ""
    arguments = {**row.arguments, "peer": second}
    return replace(alone, recipe=recipe(first, row), method=row.method, arguments=arguments, note=note)


# -- printed numbers -----------------------------------------------------------------------------------------

#: What a line's condition says -> the row it belongs to.
_BY_CONDITION = {
    **{
        f"inheritance={share / 100:.1f};exploration={1 - share / 100:.1f}": f"share-{share}"
        for share in (0, 30, 50, 70, 100)
    },
    "distance=L1": "ie-ft",
    "distance=L2": "metric-l2",
    "distance=cos": "metric-cosine",
    "distance=partial_L2": "metric-partial-l2",
    "distance=L1+CKA": "metric-l1-cka",
    "lambda_inh=50;lambda_exp=50": "ie-ft",
    "features=inheritance": "ie-ft",
    **{
        f"lambda_inh={one};lambda_exp={other}": f"weights-{one}-{other}"
        for one, other in ((5, 5), (500, 500), (50, 500), (500, 50))
    },
}
_BY_METHOD = {"baseline": "plain", "od": "ofd", "tf-kd(s)": "tf-kd"}


def key_of(printed: Mapping[str, str]) -> str:
    """The row that a line of the paper's CSV belongs to, with its networks.

    Both weights zero is training from scratch; of two networks beside each other the scored one stands last.
    """
    networks = [NETWORKS[printed[side]] for side in ("teacher", "student") if printed[side]]
    if printed["condition"] in _OF_WEIGHTS and printed["student"] == "MobileNet":  # whose teacher is not said
        return f"{R110_MOBILENET.key}/ie-ft" if printed["method"] == "IE-KD" else f"{networks[-1]}/plain"
    said = dict(part.split("=") for part in printed["condition"].split(";") if part)
    method = printed["method"].lower()
    key = _BY_CONDITION.get(printed["condition"], _BY_METHOD.get(method, method))
    if said.get("lambda_inh") == said.get("lambda_exp") == "0":
        return f"{networks[-1]}/plain"
    if "position" in said:
        both = [NETWORKS[said["net1"]], NETWORKS[said["net2"]]]
        other, scored = both[::-1] if said["position"] == "net1" else both
        which = "first" if said["position"] == "net1" else "second"
        return f"{Pair(other, scored, scored=which).key}/{key}"
    return f"{'-'.join(networks)}/{key}"


#: What a line's condition says -> what was measured of weights.
_OF_WEIGHTS = {
    "features=inheritance": OF_PARTS[0].key,
    "quantity=converged_training_loss": TRAINING_LOSS.key,
}


def metric_of(printed: Mapping[str, str]) -> str:
    """The score that a line of the paper's CSV is a number of."""
    return _OF_WEIGHTS.get(printed["condition"], printed["metric"])


# -- exhibits ----------------------------------------------------------------------------------------------

#: What is measured of both networks that teach each other.
KEPT = dict.fromkeys(("dml", "dml-brief", "ie-dml"), ("peer",))


def _columns(dataset: str, pairs: Iterable[Pair]) -> tuple[Column, ...]:
    """A column of errors for every pair of networks."""
    return tuple(
        Column(dataset, p, SECOND if p.scored == "second" else ERROR, keeps=KEPT if p.scored else {}) for p in pairs
    )


def _exhibit(
    name: str,
    title: str,
    columns: tuple[Column, ...],
    *rows: str | Row,
    ablation: bool = False,
    gain: tuple[str, str] | None = None,
) -> Exhibit:
    chosen = tuple(ROWS[row] if isinstance(row, str) else row for row in rows)
    return Exhibit(PAPER, name, title, chosen, columns, build, ablation, key_of, gain=gain, metric_of=metric_of)


def _measured(
    pairs: Iterable[Pair], scores: Iterable[Score], keeps: Mapping[str, tuple[str, ...]]
) -> tuple[Column, ...]:
    """A column for every pair and score of trained weights; `keeps`: row -> what is measured on it."""
    return tuple(Column("cifar100", pair, score, keeps) for pair in pairs for score in scores)


COMPARED = ("kd", "at", "ft", "ofd", "tf-kd", "crd")
#: What the supplementary adds to Table 1.
ADDED = ("fitnet", "sp", "cc", "vid", "rkd", "pkt", "ab", "nst")
SHARES = ("share-0", "share-30", "share-50", "share-70", "share-100")
METRICS = ("metric-l2", "metric-cosine", "metric-partial-l2", "metric-l1-cka")
WEIGHTS = ("weights-5-5", "weights-500-500", "weights-50-500", "weights-500-50")
BESIDE = tuple(pair for both in MUTUAL for pair in both)
CIFAR10, CIFAR100 = _columns("cifar10", ON_CIFAR10), _columns("cifar100", (R110_R32,))
IMAGENET = _columns("imagenet", (ON_IMAGENET,))

TABLE_1 = _exhibit(
    "table1", "Errors of methods and of their IE variants", CIFAR10, "teacher", "plain", *COMPARED, *IE,
    gain=("ie-ft", "ft"),
)  # fmt: skip
TABLE_4 = _exhibit(
    "table4", "Errors of networks that teach each other", _columns("cifar100", BESIDE), "independent", "dml", "ie-dml",
    gain=("ie-dml", "dml"),
)  # fmt: skip
TABLE_5 = _exhibit(
    "table5", "Which part of the channels inherits, and which explores",
    (CIFAR10[0], *CIFAR100, *IMAGENET), *SHARES,
)  # fmt: skip
TABLE_6A = _exhibit(
    "table6a", "How near factors are: metrics", CIFAR100, _labelled("ie-ft", "L1"), *METRICS, _labelled("plain", "none")
)
TABLE_6B = _exhibit(
    "table6b", "Weights of inheritance and exploration", CIFAR100,
    ROWS["weights-5-5"], _labelled("ie-ft", "50 / 50"), *WEIGHTS[1:], _labelled("plain", "0 / 0"),
)  # fmt: skip
FIGURE_1B = _exhibit(
    "fig1b", "A large student of a small teacher", _columns("cifar10", (R20_R56,)), "plain", "ft-50", "ft", "ie-ft"
)

#: Rows of the figures of trained weights, and what is measured on those that have a teacher and on all.
WITHIN = ("plain", "ft", "ie-ft")
SEEN_IN_IMAGES = {
    **dict.fromkeys(("teacher", "plain"), ("relevance",)),
    **dict.fromkeys(("ft", "ie-ft"), ("relevance", "seen_alike")),
}
ALIKE = {"plain": ("parts_alike",), **dict.fromkeys(("ft", "ie-ft"), ("parts_alike", "stages_alike"))}
ACTIVE = {
    **dict.fromkeys(("teacher", "plain"), ("neurons",)),
    **dict.fromkeys(("ft", "ie-ft"), ("neurons", "teacher_neurons")),
}
FLAT = {"teacher": ("fit",), **dict.fromkeys(WITHIN, ("flatness", "fit"))}

FIGURE_4A = _exhibit(
    "fig4a", "How alike inheriting and exploring channels are", _measured(TAUGHT_BY_R110, (CKA,), ALIKE), *WITHIN,
    gain=("ie-ft", "plain"),
)  # fmt: skip
FIGURE_4B = _exhibit(
    "fig4b", "To how many directions the loss listens", _measured(TAUGHT_BY_R110, (NEURONS,), ACTIVE),
    "teacher", *WITHIN, gain=("ie-ft", "plain"),
)  # fmt: skip
FIGURE_4C = _exhibit(
    "fig4c", "How the loss rises under noise",
    _measured((R110_MOBILENET,), (RISE, RELATIVE_RISE, TRAINING_LOSS), FLAT), *WITHIN, gain=("ie-ft", "plain"),
)  # fmt: skip
#: Of the maps of Figures 1a and 3, how alike they are to the teacher's.
SEEN_ALIKE = _exhibit(
    "seen", "Where students look, and where their teacher does",
    _measured((R110_R32,), SEEN_BY_PARTS, SEEN_IN_IMAGES), "ft", "ie-ft", ablation=True,
)  # fmt: skip
ALIKE_OTHERWISE = _exhibit(
    "parts-alike", "How alike the two parts are, read in four ways", _measured((R110_R32,), CKA_READINGS, ALIKE),
    *WITHIN, ablation=True,
)  # fmt: skip

EXHIBITS = (
    TABLE_1,
    _exhibit(
        "table2", "Errors on ImageNet", (*IMAGENET, replace(IMAGENET[0], score=TOP5)),
        "teacher", "plain", *COMPARED, *IE,
    ),
    _exhibit(
        "table3", "Detection on VOC 2007", (Column("voc2007", DETECTORS, MAP_VOC),),
        "teacher", "plain", "at", "ft", "ofd", "crd", *IE,
    ),
    TABLE_4,
    TABLE_5,
    TABLE_6A,
    TABLE_6B,
    _exhibit(
        "supp-table1", "Errors of the supplementary: more methods", CIFAR10,
        "teacher", "plain", *COMPARED, *ADDED, *IE, gain=("ie-ft", "ft"),
    ),
    _exhibit(
        "supp-table2", "Large students of small teachers, whose printed numbers are not at hand",
        _columns("cifar10", TO_LARGER), "teacher", "plain", "ft", "ie-ft",
    ),
    _exhibit(
        "fig1a", "Where a student looks", _measured((R110_R32,), (ERROR,), SEEN_IN_IMAGES),
        "teacher", *WITHIN[1:],
    ),
    FIGURE_1B,
    _exhibit("fig3", "Where a network looks", _measured((R110_R32,), (ERROR,), SEEN_IN_IMAGES), "teacher", *WITHIN),
    FIGURE_4A,
    FIGURE_4B,
    FIGURE_4C,
    _exhibit(
        "text-4.7", "Numbers of the text: active neurons, and the loss before there is noise",
        (
            *_measured((R110_R32,), (NEURONS, OF_PARTS[0]), ACTIVE),
            *_measured((R110_MOBILENET,), (TRAINING_LOSS,), FLAT),
        ),
        "teacher", "plain", "ie-ft",
    ),
)  # fmt: skip

ABLATIONS = (
    _exhibit(
        "ft-weight", "FT at the weight of its authors, and at IE-FT's", _columns("cifar10", (R56_R20, R20_R56)),
        "plain", "ft-50", "ft", "ie-ft", ablation=True,
    ),
    _exhibit(
        "at-weight", "AT at the weight of its authors, and at a tenth of it", CIFAR10[:1],
        "plain", "at-100", "at", "ie-at", ablation=True,
    ),
    _exhibit(
        "exploration", "What exploring adds to inheriting with half of the channels", CIFAR10[:1],
        "plain", "ft", "ie-ft-spared", "ie-ft", ablation=True, gain=("ie-ft", "ie-ft-spared"),
    ),
    _exhibit(
        "readings", "Other readings of equations and split", CIFAR10,
        "ie-ft", "ie-ft-own", "ie-ft-halves", "ie-od", "ie-od-raw", ablation=True,
    ),
    _exhibit(
        "metric-weights", "Metrics that are fifty times larger, at weights that match", CIFAR100,
        _labelled("ie-ft", "L1"), "metric-cosine", "cosine-1", "metric-l1-cka", "l1-cka-1", ablation=True,
    ),
    _exhibit(
        "dml-schedule", "DML under its own schedule, and under IE-DML's", _columns("cifar100", BESIDE),
        "independent", "dml", "dml-brief", "ie-dml", ablation=True,
    ),
    SEEN_ALIKE,
    ALIKE_OTHERWISE,
    _exhibit(
        "parts-neurons", "Active neurons of the two parts, and of the embedding",
        _measured((R110_R32,), (NEURONS, *OF_PARTS), ACTIVE), "teacher", *WITHIN, ablation=True,
    ),
)  # fmt: skip

# -- figures -----------------------------------------------------------------------------------------------


#: The maps of Figures 1a and 3: of whom, and of which channels.
MAPS = (("teacher", "whole"), ("plain", "whole"), ("ft", "whole"), ("ie-ft", "inheriting"), ("ie-ft", "exploring"))


def losses_by_epoch() -> Courses:
    """Figure 1b: the cross-entropy of training, as a running mean of each epoch, and that of the test images."""
    rows = (("plain", "from scratch"), ("ft-50", "FT, weight 50"), ("ft", "FT"), ("ie-ft", "IE-FT"))

    def lines(column: str) -> tuple[Line, ...]:
        return tuple(Line(key, column, label, key, "--" if key == "ft-50" else "-") for key, label in rows)

    return Courses(
        "losses",
        "Cross-entropy of a large student and its small teacher's lessons, in nats, by epoch: on the augmented "
        "training images while they are learned, and on the test images after the epoch.",
        (Panel("training loss, nats", lines("ce")), Panel("test loss, nats", lines("validation_ce"))),
    )


def gradients() -> Courses:
    """How hard each term pushes its part of the channels: of IE-FT as it is, and with the network spared."""
    return Courses(
        "gradients",
        "How hard the network is pushed to explore, by epoch. Above: length of the gradient that each term sends into "
        "its channels, mean over test images. Below: the exploration term in training, through the network or by the "
        "encoder alone.",
        (
            Panel(
                "gradient per image",
                (
                    Line("ie-ft", "inheritance_gradient", "inheritance", "ft"),
                    Line("ie-ft", "exploration_gradient", "exploration", "ie-ft"),
                ),
                logarithmic=True,
            ),
            Panel(
                "exploration term",
                (
                    Line("ie-ft", "exploration", "through the network", "ie-ft"),
                    Line("ie-ft-spared", "exploration", "by the encoder alone", "ie-ft-spared", "--"),
                ),
            ),
        ),
    )
