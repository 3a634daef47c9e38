"""Passalis, Tzelepi and Tefas 2020: heterogeneous distillation by information flow, judged by retrieval.

ResNet-18 teaches an auxiliary, CNN-1-A, and that one CNN-1, whose features then rank the training images for every
test image.  The authors' code has the teacher, the auxiliary, the student alone and their own method; of the methods
beside it text and code say little, and what had to be decided for them stands beside each choice.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kdnb import paths
from kdnb.exhibits.courses import Courses, Line, Panel
from kdnb.exhibits.exhibit import DIGITS, Absent, Build, Column, Exhibit, Row
from kdnb.exhibits.names import network_title
from kdnb.exhibits.score import ACCURACY, Score, percent
from kdnb.methods.recipe import Recipe
from kdnb.study.experiment import Experiment, Images
from kdnb.study.profile import Profile

PAPER = "infoflow"

#: The network that stands for ResNet-18 under each scale; the others are themselves everywhere.
TEACHER = {"demo": "resnet8", "pilot": "resnet20", "short": "preact_resnet18", "paper": "preact_resnet18"}
#: Who is between: the paper's own choice for CNN-1.
AUXILIARY = "cnn1_a"

_CIFAR = ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255))
#: Other images are brought to the teacher as those were that it learned from.
NORMALISATION = {"cifar10": _CIFAR, "stl10": _CIFAR, "digits": DIGITS}

# -- recipes: Adam without decay of weights, batch norms that begin at U(0, 1), the last epoch ----------------

#: From labels: the teacher, and the start of an auxiliary.  Adam is made anew when the rate drops.
LONG = Recipe(
    epochs=80,
    batch_size=128,
    lr=1e-3,
    milestones=(50,),
    momentum=0.0,
    weight_decay=0.0,
    optimiser="adam",
    restart="drop",
    norm_scale="uniform",
)
#: An auxiliary that ResNet-18 teaches, after its start.
BETWEEN = replace(LONG, epochs=40, milestones=(30,))
#: A student at one rate: from labels, or of one layer.
STEADY = replace(LONG, epochs=50, milestones=(), restart="never")
#: A student of several layers, whose weights are set anew every epoch; so is the code's optimiser.
AFRESH = replace(STEADY, restart="epoch")

# -- scores ------------------------------------------------------------------------------------------------


#: By Euclidean (e) and cosine (c) distance, as the authors' code computes them: an 11-point average, and the best
#: precision from rank 100 to 128.
MAP_E = percent("map_11pt_euclidean", "mAP (e)", printed="map_euclidean")
MAP_C = percent("map_11pt_cosine", "mAP (c)", printed="map_cosine")
TOP_E = percent("top_k_published_euclidean", "top-100 (e)", printed="top100_precision_euclidean")
TOP_C = percent("top_k_published_cosine", "top-100 (c)", printed="top100_precision_cosine")
PUBLISHED = (MAP_E, MAP_C, TOP_E, TOP_C)
#: As textbooks have them.
TEXTBOOK = (
    percent("map_euclidean", "AP (e)", printed="textbook_map_euclidean"),
    percent("map_cosine", "AP (c)", printed="textbook_map_cosine"),
    percent("precision_at_k_euclidean", "P@100 (e)", printed="textbook_precision_euclidean"),
    percent("precision_at_k_cosine", "P@100 (c)", printed="textbook_precision_cosine"),
)

#: On the images that the classifier learned from, as they are.
TRAIN_ACCURACY = percent("train_accuracy", "Training accuracy", printed="train_top1_accuracy")
ACCURACIES = (TRAIN_ACCURACY, ACCURACY)
#: What is measured on a network for a score, beyond what every run has.
MEASURED = {**dict.fromkeys((*PUBLISHED, *TEXTBOOK), ("retrieval",)), TRAIN_ACCURACY: ("training_accuracy",)}
#: What tables that cannot be run here are printed in.
TOP_10 = {
    d: percent(f"top_10_{d}", f"top-10 ({d[0]})", printed=f"top10_precision_{d}") for d in ("euclidean", "cosine")
}
TOP_1 = percent("top_1_euclidean", "top-1 (e)", printed="top1_precision_euclidean")

# -- rows: a method, and how its student learns ---------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """From whom a row's student learns, where it begins, and by which recipe.

    `teacher` is `teacher` (ResNet-18), an auxiliary by the name of its network, or nobody; `from_labels`: the student
    begins as the one that labels alone have taught, with its 50 epochs, instead of afresh.
    """

    teacher: str = "teacher"
    recipe: Recipe = STEADY
    student: str = "cnn1"
    from_labels: bool = False


ALL = {"layers": "all"}
#: Rows of the tables: key -> label, method, arguments, and the lesson.
_TABLE_1: dict[str, tuple[str, str, dict[str, Any], Lesson]] = {
    "plain": ("Student", "plain", {}, Lesson("")),
    "distill": ("Distill", "distill", {}, Lesson()),
    "hint": ("Hint", "match-hint", {}, Lesson()),
    "mkt": ("MKT", "match-mkt", {}, Lesson()),
    "pkt": ("PKT", "match-pkt", {}, Lesson()),
    "hint-h": ("Hint-H", "match-hint", ALL, Lesson(AUXILIARY, AFRESH)),
    "mkt-h": ("MKT-H", "match-mkt", ALL, Lesson(AUXILIARY, AFRESH)),
    "pkt-h": ("PKT-H", "match-pkt", ALL, Lesson(AUXILIARY, AFRESH)),
    "flow": ("Proposed", "information-flow", {}, Lesson(AUXILIARY, AFRESH)),
}
#: Rows that learn without labels, and those with a contrastive term beside them.
UNSUPERVISED = tuple(_TABLE_1)
SUPERVISED = ("contrastive", *(f"{key}+contrastive" for key in UNSUPERVISED if key not in ("plain", "distill")))

ROWS: dict[str, Row] = {
    "teacher": Row("teacher", "Teacher", "plain", role="teacher"),
    "aux": Row("aux", "Auxiliary", "information-flow", {"layers": "last"}, role="auxiliary"),
    "contrastive": Row("contrastive", "Student, contrastive", "contrastive"),
    "aux-start": Row("aux-start", "Auxiliary, from labels alone", "plain"),
}
LESSONS: dict[str, Lesson] = {"contrastive": Lesson(""), "aux-start": Lesson("", LONG, AUXILIARY)}


def _add(key: str, label: str, method: str, arguments: Mapping[str, Any], lesson: Lesson) -> None:
    role = "baseline" if key == "plain" else "student"
    ROWS[key], LESSONS[key] = Row(key, label, method, dict(arguments), role), lesson


def _vary(key: str, label: str, of: str, arguments: Mapping[str, Any] | None = None, **changes: Any) -> None:
    """A row like another one, with other arguments or another lesson."""
    row = ROWS[of]
    _add(key, label, row.method, {**row.arguments, **(arguments or {})}, replace(LESSONS[of], **changes))


for _key, _of in _TABLE_1.items():
    _add(_key, *_of)
    if f"{_key}+contrastive" in SUPERVISED:
        _vary(f"{_key}+contrastive", f"{_of[0]}, contrastive", _key, {"contrastive_weight": 1.0})

#: Table 6: every auxiliary of every student.
SIZES = tuple(
    (auxiliary, student)
    for student, auxiliaries in (("cnn1", ("cnn1_l", "cnn1_a", "cnn1_h")), ("cnn1_l", ("cnn1", "cnn1_a", "cnn1_h")))
    for auxiliary in auxiliaries
)
for _aux, _student in SIZES:
    _label = f"{network_title(_student)} from {network_title(_aux)}"
    _vary(f"{_aux}-{_student}", _label, "flow", teacher=_aux, student=_student)

# Figure 2: the student's third layer beside each layer of a teacher, and without.
_vary("flow-last", "Information flow, last layer", "flow", {"layers": "last"}, recipe=STEADY)
_vary("flow-resnet", "Information flow, last layer, from ResNet18", "flow-last", teacher="teacher")
_vary("aux-none", "No layer of CNN-1-A but the last", "flow-last", recipe=AFRESH)
_vary("resnet-none", "No layer of ResNet18 but the last", "flow-resnet", recipe=AFRESH)
GUIDES = (1, 2, 3, 4)
for _guide in GUIDES:
    _third = {"layers": "third", "guide": _guide}
    _vary(f"aux-{_guide}", f"CNN-1-A's layer {_guide} → layer 3", "flow", _third)
    _vary(f"resnet-{_guide}", f"ResNet18's layer {_guide} → layer 3", "flow", _third, teacher="teacher")

# Controls: what of the method does it?
_vary("pkt-aux", "PKT, from the auxiliary", "pkt", teacher=AUXILIARY)
_vary("flow-even", "All layers, from weight 1", "flow", {"first_weight": 1.0})
_vary("flow-kept", "Proposed, Adam kept", "flow", recipe=STEADY)
_vary("flow-balanced", "Proposed, weights of mean 1", "flow", {"balanced": True})
_vary("flow-paper", "Proposed, as the text has the loss", "flow", {"reading": "paper"})
_vary("flow-ones", "Proposed, norms from 1", "flow", recipe=replace(AFRESH, norm_scale="one"))
_vary("plain-ones", "Student, norms from 1", "plain", recipe=replace(STEADY, norm_scale="one"))

# Rows whose one optimiser keeps its moments from the first step to the last, with one that is made anew each epoch.
KEPT = ("plain", "distill", "hint", "mkt", "pkt")
for _key in KEPT:
    _vary(f"{_key}-afresh", f"{ROWS[_key].label}, Adam anew each epoch", _key, recipe=AFRESH)

# Readings of ours where the paper is silent, named before anything was measured.
_vary("pkt-jeffreys", "PKT, Jeffreys' divergence", "pkt", {"divergence": "jeffreys"})
_vary("mkt-plain", "MKT, distances as they are", "mkt", {"normalised": False})
_vary("mkt-l1", "MKT, absolute differences", "mkt", {"norm": "l1"})
_vary("mkt-h-plain", "MKT-H, distances as they are", "mkt-h", {"normalised": False})
for _key in ("hint-h", "mkt-h", "pkt-h"):
    _vary(f"{_key}-even", f"{ROWS[_key].label}, all weights 1", _key, {"decay": 1.0})
for _key in UNSUPERVISED[1:]:
    _vary(f"{_key}-labels", f"{ROWS[_key].label}, from the student of labels", _key, from_labels=True)
for _key in UNSUPERVISED:
    ROWS[f"{_key}-tuned"] = replace(ROWS[_key], key=f"{_key}-tuned", role="student")
ROWS["hog"] = Row("hog", "HoG", "plain", role="teacher")


#: What tells rows apart that differ by their recipe alone.
NOTES = {
    "flow-kept": "adam-kept",
    "aux-none": "adam-afresh",
    "resnet-none": "adam-afresh",
    **{f"{key}-afresh": "adam-afresh" for key in KEPT},
    "flow-ones": "norms-from-1",
    "plain-ones": "norms-from-1",
}


def variation(key: str, **arguments: Any) -> Row:
    """A row with other arguments: what a reader tries out."""
    return ROWS[key].varied(**arguments)


# -- experiments -------------------------------------------------------------------------------------------


def images(dataset: str, student_images: int | None) -> Images:
    """All training images teach, all test images score, and nothing is selected."""
    mean, std = NORMALISATION[dataset]
    return Images(dataset, split="test", mean=mean, std=std, student_images=student_images)


@functools.cache
def teacher(profile: Profile, dataset: str) -> Experiment:
    """ResNet-18, or who stands for it, from labels."""
    return Experiment(profile, images(dataset, None), TEACHER[profile.scale], LONG, "plain")


@functools.cache
def from_labels(network: str, recipe: Recipe, profile: Profile, dataset: str) -> Experiment:
    """One of the small networks, from labels alone."""
    note = f"{recipe.epochs}-epochs" if recipe == LONG else ""
    return Experiment(profile, images(dataset, profile.student_images), network, recipe, "plain", note=note)


@functools.cache
def auxiliary(network: str, profile: Profile, dataset: str) -> Experiment:
    """A network that labels have taught, and then ResNet-18 by its last layer."""
    start = from_labels(network, LONG, profile, dataset)
    row = ROWS["aux"]
    last = replace(start, recipe=BETWEEN, method=row.method, arguments=row.arguments, note="")
    return replace(last, teacher=teacher(profile, dataset), start=start)


def build(row: Row, column: Column, profile: Profile) -> Experiment:
    """A row as an experiment: the same for every score."""
    return _build(row, column.dataset, profile)


@functools.cache
def _build(row: Row, dataset: str, profile: Profile) -> Experiment:
    if row.role == "teacher":
        return teacher(profile, dataset)
    if row.key == "aux":
        return replace(auxiliary(AUXILIARY, profile, dataset), arguments=row.arguments)
    lesson = LESSONS[row.key]
    student = from_labels(lesson.student, lesson.recipe, profile, dataset)
    learner = replace(student, method=row.method, arguments=row.arguments, note=NOTES.get(row.key, student.note))
    if lesson.from_labels:
        learner = replace(learner, start=from_labels(lesson.student, STEADY, profile, dataset))
    if lesson.teacher == "teacher":
        return replace(learner, teacher=teacher(profile, dataset))
    if lesson.teacher:
        return replace(learner, teacher=auxiliary(lesson.teacher, profile, dataset), teachers="of each seed")
    return learner


def read_off(row: Row, column: Column, profile: Profile) -> Experiment:
    """Table 2: a classifier on the features of a row of Table 1, as they are.

    Features are learned without the classifier, and neither text nor code says where it comes from; so all rows have
    it from labels, by the student's recipe, while their features stay.  It begins as the row left it: untouched, but
    for Distill and the student of labels.
    """
    return _after(row, column, profile, "probe")


def fine_tuned(row: Row, column: Column, profile: Profile) -> Experiment:
    """The other reading of Table 2: the whole network goes on from labels."""
    return _after(replace(row, key=row.key.removesuffix("-tuned")), column, profile, "plain")


def _after(row: Row, column: Column, profile: Profile, method: str) -> Experiment:
    student = from_labels("cnn1", STEADY, profile, column.dataset)
    return replace(student, method=method, start=build(row, column, profile))


def transferred(row: Row, column: Column, profile: Profile) -> Experiment | Absent:
    """Table 3: who learns, learns from the images without labels of another data set; the teacher is CIFAR-10's.

    Labels have taught none of the networks here on these images.  Teacher and plain student are those of CIFAR-10 as
    they are: of a probe of theirs the features stay, and features are what is scored.  An auxiliary begins as the
    labels of CIFAR-10 have taught it, and the students with it learn from the same new images.
    """
    if profile.embedded_data:
        return Absent(NO_OTHER_DIGITS)
    at_home = _build(row, HOME, profile)
    seen = images(column.dataset, profile.student_images)
    if at_home.teacher is None:
        return replace(at_home, images=seen, method="probe", arguments={}, recipe=STEADY, start=at_home, note="")
    unlabelled = replace(seen, learned="unlabelled")
    moved = replace(at_home, images=unlabelled)
    if at_home.teachers == "of each seed":
        return replace(moved, teacher=replace(at_home.teacher, images=unlabelled))
    return moved


def absent(why: str) -> Build:
    """A table that cannot be run here."""
    return lambda row, column, profile: Absent(why)


# -- printed numbers ---------------------------------------------------------------------------------------

_PRINTED = {"proposed": "flow", "aux.": "aux", "mds": "mkt", "mds-h": "mkt-h"}


def key_of(printed: Mapping[str, str]) -> str:
    """The row that a line of the paper's CSV belongs to."""
    if printed["exhibit"] == "table6":
        return "-".join(
            printed[side].lower().replace("cnn-1", "cnn1").replace("-", "_") for side in ("teacher", "student")
        )
    method = printed["method"].lower()
    contrastive = "supervision=contrastive" in printed["condition"]
    if method == "student":
        return "contrastive" if contrastive else "plain"
    return _PRINTED.get(method, method) + ("+contrastive" if contrastive else "")


def metric_of(printed: Mapping[str, str]) -> str:
    """The score of a line: Table 2 has accuracies of two splits."""
    return f"train_{printed['metric']}" if printed["condition"] == "split=train" else printed["metric"]


# -- exhibits ----------------------------------------------------------------------------------------------


def _exhibit(
    name: str,
    title: str,
    *rows: str,
    scores: tuple[Score, ...] = PUBLISHED,
    dataset: str = "cifar10",
    build: Build = build,
    ablation: bool = False,
    keeps: Mapping[str, tuple[str, ...]] | None = None,
) -> Exhibit:
    """A table with a column a score; `keeps` has what is measured on a row beyond what the scores need."""
    scored = {name: None for score in scores for name in MEASURED.get(score, ())}
    keeps = {row: tuple(dict.fromkeys([*scored, *(keeps or {}).get(row, ())])) for row in rows}
    columns = tuple(Column(dataset, score=score, keeps=keeps) for score in scores)
    chosen = tuple(ROWS[key] for key in rows)
    return Exhibit(PAPER, name, title, chosen, columns, build, ablation, key_of)


#: Whose teacher transfers to other images.
HOME = "cifar10"
NO_OTHER_DIGITS = "the embedded digits have no second set of images beside them, without labels"
NOT_CUB = "CUB-200 is not among the prepared data sets, and the paper does not name the networks"
NOT_SUN = "SUN Attribute is not among the prepared data sets, and nothing is said of networks, labels and split"

TRANSFER = UNSUPERVISED[1:]
FIGURE_1 = ("flow-last", "flow-even", "flow")

TABLE_1 = _exhibit(
    "table1", "Retrieval of CIFAR-10 by the student's features", "teacher", "aux", *SUPERVISED, *UNSUPERVISED
)
TABLE_2 = replace(
    _exhibit(
        "table2",
        "Accuracy of a classifier on the features of each student",
        *("plain", *TRANSFER),
        scores=ACCURACIES,
        build=read_off,
    ),
    metric_of=metric_of,
)

EXHIBITS = (
    TABLE_1,
    TABLE_2,
    _exhibit(
        "table3",
        "Retrieval of STL-10, with a teacher of CIFAR-10",
        *("teacher", "aux", "plain", *TRANSFER),
        dataset="stl10",
        build=transferred,
    ),
    _exhibit(
        "table4",
        "Retrieval and accuracy on CUB-200",
        *("teacher", "aux", "plain", *TRANSFER),
        scores=(MAP_E, MAP_C, TOP_10["euclidean"], TOP_10["cosine"], ACCURACY),
        dataset="cub200",
        build=absent(NOT_CUB),
    ),
    _exhibit(
        "table5",
        "A hand-made extractor of features, HoG, as the teacher: retrieval on SUN Attribute",
        *("hog", "aux", "hint", "mkt", "pkt", "flow"),
        scores=(MAP_C, TOP_1, TOP_10["cosine"]),
        dataset="sun_attribute",
        build=absent(NOT_SUN),
    ),
    _exhibit("table6", "Auxiliaries of three sizes for students of two", *(f"{aux}-{s}" for aux, s in SIZES)),
    _exhibit("fig1", "How fast the last layers become alike", *FIGURE_1, scores=(MAP_C,)),
    _exhibit(
        "fig2",
        "The student's third layer, taught by each layer of a teacher",
        *(f"{who}-{layer}" for who in ("aux", "resnet") for layer in ("none", *GUIDES)),
    ),
)

#: Whose precision at eleven levels of recall is known of the authors' own networks.
RANKED = ("teacher", "aux-start", "aux", "plain", "flow")
#: Whose flows of information are followed: over training, and the teacher's at its end.
FLOWS = {"teacher": ("flows",), **dict.fromkeys(("aux", "plain", "flow"), ("flow_course",))}

ABLATIONS = (
    _exhibit(
        "textbook",
        "Table 1 by the textbook's average precision, and precision at 100",
        *("teacher", "aux", *SUPERVISED, *UNSUPERVISED),
        scores=TEXTBOOK,
        ablation=True,
    ),
    _exhibit(
        "recall",
        "How precision falls with recall, beside the networks that the authors published",
        *RANKED,
        scores=(MAP_E, MAP_C),
        ablation=True,
        keeps=dict.fromkeys(RANKED, ("recall_levels",)),
    ),
    _exhibit(
        "flows",
        "How much each layer knows of the labels",
        *FLOWS,
        scores=(MAP_C,),
        ablation=True,
        keeps=FLOWS,
    ),
    _exhibit(
        "controls",
        "What of the method does it: the teacher, the layers, the weights, the optimiser?",
        *("plain", "pkt", "pkt-aux", "flow-resnet", "flow-last", "aux-none", "flow-even", "flow-balanced", "flow-kept"),
        "flow",
        ablation=True,
    ),
    _exhibit(
        "optimiser",
        "One Adam from the first step to the last, or a new one each epoch",
        *(key for row in KEPT for key in (row, f"{row}-afresh")),
        *("flow-last", "aux-none", "flow-kept", "flow"),
        ablation=True,
    ),
    _exhibit(
        "starts",
        "Where students begin: afresh, or as labels have taught them",
        *("plain", *(key for start in UNSUPERVISED[1:] for key in (start, f"{start}-labels"))),
        ablation=True,
    ),
    _exhibit(
        "readings",
        "Where the paper is silent: other readings of its methods",
        *("mkt", "mkt-plain", "mkt-l1", "mkt-h", "mkt-h-plain", "mkt-h-even", "hint-h", "hint-h-even"),
        *("pkt", "pkt-jeffreys", "pkt-h", "pkt-h-even", "flow", "flow-paper"),
        ablation=True,
    ),
    _exhibit(
        "norms",
        "Where the scales of batch norms begin: at U(0, 1), as the code had them, or at 1",
        *("plain", "plain-ones", "flow", "flow-ones"),
        ablation=True,
    ),
    replace(
        _exhibit(
            "tuned",
            "Table 2 read otherwise: the whole network goes on from labels",
            *(f"{key}-tuned" for key in ("plain", *TRANSFER)),
            scores=ACCURACIES,
            build=fine_tuned,
            ablation=True,
        ),
        metric_of=metric_of,
    ),
)

# -- figures -----------------------------------------------------------------------------------------------

#: The critical periods of Figure 1 by the weight of inner layers: 2.8 after 10 epochs, 0.013 after 25.
PERIODS = (("connections form", 0, 10), ("they are formed", 10, 25), ("fitting, compression", 25, 50))

#: Whose flow should become whose.
FLOW_PAIRS = (("aux", "teacher"), ("plain", "aux"), ("flow", "aux"))

#: The last layers' divergence, which the three rows of Figure 1 minimise with others or alone.
CONVERGENCE = Courses(
    "convergence",
    "How unlike the last layers of student and auxiliary are: the hybrid divergence on training batches, before it is "
    "weighed. Each method minimises it, with the inner layers or alone.",
    (
        Panel(
            "divergence of the last layers",
            (
                Line("flow-last", "last", "last layer (PKT)", "pkt"),
                Line("flow-even", "last", "all, from 1 (PKT-H)", "pkt-h"),
                Line("flow", "last", "all, from 100 (proposed)", "flow"),
            ),
            logarithmic=True,
        ),
    ),
)


@functools.cache
def levels_of_published() -> dict[tuple[str, str], list[float]]:
    """Row and distance -> precision in percent at recall 0, 0.1, ..., 1, of the networks that the authors published.

    Computed from their files of results by rule of their code; means of eleven are the printed mAP.
    """
    found: dict[tuple[str, str], list[float]] = {}
    with open(paths.reported() / f"{PAPER}_recall.csv", newline="", encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            found.setdefault((line["row"], line["distance"]), []).append(float(line["precision"]))
    return found
