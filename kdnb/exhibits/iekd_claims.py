"""The claims of the inheritance and exploration paper, one after another.

A place is a column: a pair of networks on a data set, whose errors are compared.  Table 5 has places of its own
(`...@share`), since it prints other numbers for the rows of Tables 1 and 2: which variant it is about is not said.
What Figure 1b shows has a place for each loss (`...#train`, `...#test`), one number a run.  Parts of a network are
compared at places (`...#seen`, `...#active`) where a row is a method's part, as `ie-ft@inheriting`, so that a run has
several numbers.

`remark` says what a reader of the paper should know of the printed numbers, and where the reading is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdnb.exhibits import iekd
from kdnb.exhibits.claims.predicates import Better, Claim, Predicate, all_of, better, numbered, read_as
from kdnb.exhibits.exhibit import Cell, Column
from kdnb.exhibits.paper import Paper, Where
from kdnb.exhibits.score import Score
from kdnb.study.record import Record

ERRORS = (*iekd.CIFAR10, *iekd.IMAGENET, Column("imagenet", iekd.ON_IMAGENET, iekd.TOP5))
DETECTION = Column("voc2007", iekd.DETECTORS, iekd.MAP_VOC)
OTHERS = {False: iekd.COMPARED, True: ("at", "ft", "ofd", "crd")}
#: An IE variant and the method that it builds on.
PLAIN = {"ie-at": "at", "ie-ft": "ft", "ie-od": "ofd"}

TRAIN = Score("train_loss", "training loss at the end", "nats", decimals=3, higher_is_better=False)
TEST = Score("test_loss", "test loss at the end", "nats", decimals=3, higher_is_better=False)
SHOWN = {"train": TRAIN, "test": TEST}
#: The column of a record's history that a loss of Figure 1b is read from.
HISTORY = {"train": "ce", "test": "validation_ce"}
LARGE = iekd.FIGURE_1B.columns[0]

#: Where parts of networks are compared: by which score, from which exhibit, and which metrics are which rows.
OF_PARTS = {
    "seen": (
        iekd.SEEN,
        iekd.SEEN_ALIKE.key,
        {"": "seen_alike", "@inheriting": "seen_alike_inheriting", "@exploring": "seen_alike_exploring"},
    ),
    "active": (
        iekd.NEURONS,
        iekd.FIGURE_4B.key,
        {"@inheriting": "active_neurons_inheriting", "@teacher": "active_neurons_teacher"},
    ),
}
#: What a row of such a place adds to its method's label.
PART_TITLES = {"inheriting": ", inheriting part", "exploring": ", exploring part", "teacher": "'s teacher"}

# -- places ------------------------------------------------------------------------------------------------


def share_place(column: Column) -> str:
    """Where the rows of Table 5 are compared."""
    return f"{column.key}@share"


def loss_place(column: Column, which: str) -> str:
    """Where the losses of Figure 1b are compared."""
    return f"{column.dataset}/{LARGE.pair.key if LARGE.pair else ''}#{which}"


def part_place(dataset: str, which: str) -> str:
    """Where parts of networks are compared, whatever the data set."""
    return f"{dataset}/{iekd.R110_R32.key}#{which}"


def row_of(row: str) -> tuple[str, str]:
    """The method behind a part of a network, and what its label adds."""
    key, _, part = row.partition("@")
    return key, PART_TITLES.get(part, "")


def title(place: str) -> str:
    """How a place is called: `CIFAR-10, ResNet56 → ResNet20: Error, percent, less is better`."""
    if place.endswith(("#train", "#test")):
        dataset, _, which = place.partition("#")
        return f"{_column_title(dataset.partition('/')[0])}: {SHOWN[which].heading}"
    if place.endswith(("#seen", "#active")):
        dataset, _, which = place.partition("#")
        return f"{Column(dataset.partition('/')[0], iekd.R110_R32).title}: {OF_PARTS[which][0].heading}"
    return next(
        column.title + (", the split" if place == share_place(column) else "")
        for exhibit in (*iekd.EXHIBITS, *iekd.ABLATIONS)
        for profile in ("paper", "demo")
        for column in exhibit.columns_of(profile)
        if place in (column.key, share_place(column))
    )


def _column_title(dataset: str) -> str:
    return Column(dataset, LARGE.pair).title


# -- claims ------------------------------------------------------------------------------------------------


def _everywhere(*comparisons: tuple[str, str]) -> list[Better]:
    """Each (better, worse) in every column of Tables 1 to 3 that has both."""
    return [
        better(column, a, b)
        for column in (*ERRORS, DETECTION)
        for a, b in comparisons
        if column != DETECTION or {a, b} <= {*OTHERS[True], *iekd.IE}
    ]


def _best_of_table(columns: Sequence[Column], row: str, others: Sequence[str]) -> list[Better]:
    return [better(column, row, other) for column in columns for other in others]


def _beside() -> list[Better]:
    """IE-DML against DML and learning alone, for every network of every pair."""
    return _best_of_table(iekd.TABLE_4.columns, "ie-dml", ("dml", "independent"))


def _even_split() -> list[Better]:
    return [
        Better(share_place(column), "share-50", other, score=column.score)
        for column in iekd.TABLE_5.columns
        for other in iekd.SHARES
        if other != "share-50"
    ]


def _large_student() -> list[Better]:
    """FT ends higher than training from scratch, IE-FT lower, in both losses."""
    return [
        Better(loss_place(LARGE, which), a, b, score=score)
        for which, score in SHOWN.items()
        for a, b in (("plain", "ft"), ("ie-ft", "plain"))
    ]


def _of_parts(which: str, a: str, b: str, by: float = 0.0) -> Better:
    return Better(part_place("cifar100", which), a, b, by=by, score=OF_PARTS[which][0])


_numbered = numbered(iekd.PAPER, "I")


def _claim(
    number: int,
    section: str,
    sentence: str,
    rests_on: str,
    predicate: Predicate,
    remark: str = "",
    read_otherwise: Mapping[str, str] | None = None,
    other: Predicate | None = None,
) -> Claim:
    """A claim; `read_otherwise`: which rows stand for which in another reading, none where ours alone is run.

    `other` is a reading that no exchange of rows gives.
    """
    readings: tuple[Predicate, ...] | None = None if other is None else (other,)
    if read_otherwise is not None:
        readings = (read_as(predicate, read_otherwise),) if read_otherwise else ()
    return _numbered(number, section, sentence, rests_on, predicate, remark, readings=readings)


#: Other readings, named beforehand: the equations of IE-FT and IE-OD to the letter, DML under IE-DML's schedule,
#: weights that match the size of a metric, and FT at IE-FT's weight.
TO_THE_LETTER = {"ie-ft": "ie-ft-own", "ie-od": "ie-od-raw"}
BRIEF = {"dml": "dml-brief"}
MATCHED = {"metric-cosine": "cosine-1", "metric-l1-cka": "l1-cka-1"}
LIGHTER = {"ft": "ft-50"}


#: What the verdicts on Table 1 have to be read with, where a small scale is all that is measured.
OF_WEIGHTS = (
    "At pilot scale FT at IE-FT's weight ends level with IE-FT, and AT at a tenth of its weight better than IE-AT: a "
    "verdict there is of weights, too."
)

(R110_R32,) = iekd.CIFAR100

CLAIMS = (
    _claim(
        1,
        "4.3",
        "The IE variant of AT, FT and OD beats the plain method, on CIFAR-10, ImageNet and VOC.",
        "table1 table2 table3 readings",
        all_of(*_everywhere(*PLAIN.items())),
        "The baselines are not one harness: KD, AT, FT, Tf-KD and CRD on ImageNet equal numbers that other papers "
        "printed for other recipes. The supplementary prints Table 1 again, and eleven cells differ: all of IE-FT and "
        "IE-OD (by 0.20, 0.10, 0.20 and 0.10), IE-AT on WRN-46-4 → VGG-13 (4.55 there, 4.75 here), and CRD twice. "
        f"{OF_WEIGHTS}",
        TO_THE_LETTER,
    ),
    _claim(
        2,
        "4.3",
        "Every IE variant beats all other methods.",
        "table1 table2 table3 readings",
        all_of(
            *(
                better(column, ie, other)
                for column in (*ERRORS, DETECTION)
                for ie in iekd.IE
                for other in OTHERS[column == DETECTION]
            )
        ),
        "Not in its own Table 1: IE-AT has 6.81 on WRN-40-1 → ResNet20, where OD has 6.69 and CRD 6.77; and 7.76 on "
        "WRN-16-2 → WRN-16-1, where FT has 7.64, OD 7.48 and CRD 7.49. "
        f"{OF_WEIGHTS}",
        TO_THE_LETTER,
    ),
    _claim(
        3,
        "4.3",
        "IE-OD is better than IE-FT, and IE-FT better than IE-AT.",
        "table1 table2 table3 readings",
        all_of(*_everywhere(("ie-od", "ie-ft"), ("ie-ft", "ie-at"))),
        "Most margins are small: 0.04 between IE-OD and IE-FT on ResNet56 → ResNet20, from one run each, and no "
        "spread is printed.",
        TO_THE_LETTER,
    ),
    _claim(
        4,
        "4.4",
        "Distilled with IE-OD, a detector on ResNet18 rises by 1.9 points of mAP.",
        "table3",
        Better(DETECTION.key, "ie-od", "plain", or_equal=True, by=1.9, score=DETECTION.score),
        "From 71.61 to 73.51. Detection is not run here.",
    ),
    _claim(
        5,
        "4.5",
        "Two networks that teach each other end better by IE-DML than by DML, and than alone.",
        "table4 dml-schedule",
        all_of(*_beside()),
        "DML's column is that of its own paper, at 200 epochs and batches of 64; IE-DML has 160 and 128. For "
        "ResNet32 beside itself the paper prints 68.99, an accuracy, among its errors; the error would be 31.01.",
        BRIEF,
    ),
    _claim(
        6,
        "4.6",
        "Both parts are needed: channels split in equal parts are best, on three data sets.",
        "table5",
        all_of(*_even_split()),
        "Which variant Table 5 has is not said: at equal parts its 6.53 is IE-OD's in Table 1, its 25.67 IE-FT's in "
        "Table 6a. Our rows are IE-FT. On ImageNet exploration alone (30.02) is worse than no teacher.",
        {},
    ),
    _claim(
        7,
        "4.6",
        "Every metric of factors improves on training from scratch, and L1 is the best of them.",
        "table6a metric-weights",
        all_of(
            *_best_of_table((R110_R32,), "ie-ft", iekd.METRICS),
            *(better(R110_R32, row, "plain") for row in ("ie-ft", *iekd.METRICS)),
        ),
        "The weights of the metrics are not said; here all have 50, though cosine and CKA are some fifty times larger. "
        "From scratch the paper has 31.01, a number of another paper. Partial L2, nearest to OD, is worst here (26.71) "
        "where IE-OD is best elsewhere.",
        MATCHED,
    ),
    _claim(
        8,
        "4.6",
        "Weights of 50 for both parts are best.",
        "table6b",
        all_of(*_best_of_table((R110_R32,), "ie-ft", (*iekd.WEIGHTS, "plain"))),
        "The published code has 1 for both in its only setting, which is almost no distillation.",
    ),
    _claim(
        9,
        "1",
        "A large student of a small teacher ends with higher losses by FT than from scratch, and with lower ones by "
        "IE-FT.",
        "fig1b",
        all_of(*_large_student()),
        "Taken as: cross-entropy of the last epoch, in training and on the test images. The paper draws it under the "
        "name KD, with FT's weight of 500; at 50, which IE-FT has, it may be otherwise. It prints no number.",
        LIGHTER,
    ),
    _claim(
        10,
        "4.7",
        "Inheriting channels look where the teacher looks, and have as many active neurons as it has in twice as many "
        "channels.",
        "seen fig4b parts-neurons",
        all_of(
            _of_parts("seen", "ie-ft@inheriting", "ie-ft@exploring"),
            _of_parts("active", "ie-ft@inheriting", "ie-ft@teacher", by=-4.6),
            _of_parts("active", "ie-ft@teacher", "ie-ft@inheriting", by=-4.6),
        ),
        "Taken as: their maps of relevance are more like the teacher's than those of the exploring channels, over 32 "
        "test images; and the counts, 45 and 46 in print, are less than a tenth of 46 apart. The layer is not said.",
        {},
    ),
    _claim(
        11,
        "4.7",
        "Inheriting and exploring channels are less alike than the same channels of a network that learned alone.",
        "fig4a parts-alike",
        all_of(*_best_of_table(iekd.FIGURE_4A.columns, "ie-ft", ("plain",))),
        "By unbiased linear CKA of channels' means over positions; or, for ResNet32, of whole maps. The paper draws "
        "four networks, and names neither them nor their teacher; ours are those of Table 4.",
        other=all_of(*_best_of_table(iekd.ALIKE_OTHERWISE.columns[2:3], "ie-ft", ("plain",))),
    ),
    _claim(
        12,
        "4.7",
        "Networks taught by IE-KD have more active neurons than those that learned alone.",
        "fig4b",
        all_of(*_best_of_table(iekd.FIGURE_4B.columns, "ie-ft", ("plain",))),
        "The layer is not said: ours is the last map before its ReLU, since behind it there are no more than classes. "
        "The paper draws it and prints no number.",
        {},
    ),
    _claim(
        13,
        "4.7",
        "The minimum of a network taught by IE-KD is flatter: under noise its loss rises less.",
        "fig4c",
        better(iekd.FIGURE_4C.columns[0], "ie-ft", "plain"),
        "Taken as: the mean rise under Gaussian noise of standard deviation 1/50 on all weights; or, since the size of "
        "weights can feign flatness, under noise of a fifth of each filter's length. The paper draws MobileNet.",
        other=better(iekd.FIGURE_4C.columns[1], "ie-ft", "plain"),
    ),
    _claim(
        14,
        "4.7",
        "Exploring channels look where the teacher does not, and where a student of plain distillation does not.",
        "seen",
        _of_parts("seen", "ft", "ie-ft@exploring"),
        "Taken as: their maps of relevance are less like the teacher's than those of a student of FT. Whether these "
        "other places tell classes apart, as the paper shows for a handful of images, is not asked.",
        {},
    ),
)

# -- evidence ----------------------------------------------------------------------------------------------


def counts(cell: Cell) -> Where | None:
    """Where an error counts; those of figures and of ablations do not, but for the rows that stand in tables too."""
    name = cell.exhibit.partition("/")[2]
    if name in ("fig1a", "fig1b", "fig3"):
        return None
    place = share_place(cell.column) if name == "table5" else cell.column.key
    return place, cell.row.key


def shown(cell: Cell, record: Record) -> dict[Where, float] | None:
    """What a run of a figure shows beside its own number: losses of the last epoch, and what was measured of parts."""
    if cell.exhibit == iekd.FIGURE_1B.key:
        return {
            (loss_place(cell.column, which), cell.row.key): record.history[column][-1]
            for which, column in HISTORY.items()
            if record.history.get(column)
        }
    own = {(cell.column.key, cell.row.key): cell.score.of(record)}
    of_parts = {
        (part_place(cell.dataset, which), f"{cell.row.key}{part}"): record.metrics[metric]
        for which, (_, exhibit, metrics) in OF_PARTS.items()
        if cell.exhibit == exhibit and cell.column.pair == iekd.R110_R32
        for part, metric in metrics.items()
        if metric in record.metrics
    }
    return own | of_parts if of_parts else None


PAPER = Paper(
    iekd.PAPER,
    iekd.EXHIBITS,
    iekd.ABLATIONS,
    CLAIMS,
    counts,
    shown,
    title,
    row_of,
    named="IE-KD",
    explained={"I1": ("I6", "I10", "I11", "I12", "I13", "I14")},
    own=("ie-at", "ie-ft", "ie-od"),
)
