"""The claims of the inheritance and exploration paper, one after another.

A place is a column: a pair of networks on a data set, whose errors are compared.  Table 5 has places of its own
(`...@share`), since it prints other numbers for the rows of Tables 1 and 2: which variant it is about is not said.
What Figure 1b shows has a place for each loss (`...#train`, `...#test`), one number a run.

`remark` says what a reader of the paper should know of the printed numbers, and where the reading is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdnb.exhibits import iekd
from kdnb.exhibits.claims.predicates import Better, Claim, Predicate, all_of, better, read_as
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

# -- places ------------------------------------------------------------------------------------------------


def share_place(column: Column) -> str:
    """Where the rows of Table 5 are compared."""
    return f"{column.key}@share"


def loss_place(column: Column, which: str) -> str:
    """Where the losses of Figure 1b are compared."""
    return f"{column.dataset}/{LARGE.pair.key if LARGE.pair else ''}#{which}"


def title(place: str) -> str:
    """How a place is called: `CIFAR-10, ResNet56 → ResNet20: Error, percent, less is better`."""
    if place.endswith(("#train", "#test")):
        dataset, _, which = place.partition("#")
        return f"{_column_title(dataset.partition('/')[0])}: {SHOWN[which].heading}"
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


def _claim(
    number: int,
    sentence: str,
    rests_on: str,
    predicate: Predicate,
    remark: str = "",
    read_otherwise: Mapping[str, str] | None = None,
) -> Claim:
    """A claim; `read_otherwise`: which rows stand for which in another reading, none where ours alone is run."""
    exhibits = tuple(f"{iekd.PAPER}/{name}" for name in rests_on.split())
    readings = None
    if read_otherwise is not None:
        readings = (read_as(predicate, read_otherwise),) if read_otherwise else ()
    return Claim(f"I{number}", iekd.PAPER, sentence, exhibits, predicate, remark=remark, readings=readings)


#: Other readings, named beforehand: IE-OD's equation to the letter, DML under IE-DML's schedule, weights that match the
#: size of a metric, and FT at IE-FT's weight.
TO_THE_LETTER = {"ie-od": "ie-od-raw"}
BRIEF = {"dml": "dml-brief"}
MATCHED = {"metric-cosine": "cosine-1", "metric-l1-cka": "l1-cka-1"}
LIGHTER = {"ft": "ft-50"}


(R110_R32,) = iekd.CIFAR100

CLAIMS = (
    _claim(
        1,
        "The IE variant of AT, FT and OD beats the plain method, on CIFAR-10, ImageNet and VOC.",
        "table1 table2 table3 readings",
        all_of(*_everywhere(*PLAIN.items())),
        "The baselines are not one harness: KD, AT, FT, Tf-KD and CRD on ImageNet equal numbers that other papers "
        "printed for other recipes. The supplementary prints Table 1 again, and eleven cells differ: all of IE-FT and "
        "IE-OD (by 0.20, 0.10, 0.20 and 0.10), IE-AT on WRN-46-4 → VGG-13 (4.55 there, 4.75 here), and CRD twice.",
        TO_THE_LETTER,
    ),
    _claim(
        2,
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
        "Not in its own Table 1: IE-AT has 6.81 on WRN-40-1 → ResNet-20, where OD has 6.69 and CRD 6.77; and 7.76 on "
        "WRN-16-2 → WRN-16-1, where FT has 7.64, OD 7.48 and CRD 7.49.",
        TO_THE_LETTER,
    ),
    _claim(
        3,
        "IE-OD is better than IE-FT, and IE-FT better than IE-AT.",
        "table1 table2 table3 readings",
        all_of(*_everywhere(("ie-od", "ie-ft"), ("ie-ft", "ie-at"))),
        "Most margins are small: 0.04 between IE-OD and IE-FT on ResNet-56 → ResNet-20, from one run each, and no "
        "spread is printed.",
        TO_THE_LETTER,
    ),
    _claim(
        4,
        "Distilled with IE-OD, a detector on ResNet-18 rises by 1.9 points of mAP.",
        "table3",
        Better(DETECTION.key, "ie-od", "plain", or_equal=True, by=1.9, score=DETECTION.score),
        "From 71.61 to 73.51. Detection is not run here.",
    ),
    _claim(
        5,
        "Two networks that teach each other end better by IE-DML than by DML, and than alone.",
        "table4 dml-schedule",
        all_of(*_beside()),
        "DML's column is that of its own paper, at 200 epochs and batches of 64; IE-DML has 160 and 128. For "
        "ResNet-32 beside itself the paper prints 68.99, an accuracy, among its errors; the error would be 31.01.",
        BRIEF,
    ),
    _claim(
        6,
        "Both parts are needed: channels split in equal parts are best, on three data sets.",
        "table5",
        all_of(*_even_split()),
        "Which variant Table 5 has is not said: at equal parts its 6.53 is IE-OD's in Table 1, its 25.67 IE-FT's in "
        "Table 6a. Our rows are IE-FT. On ImageNet exploration alone (30.02) is worse than no teacher.",
        {},
    ),
    _claim(
        7,
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
        "Weights of 50 for both parts are best.",
        "table6b",
        all_of(*_best_of_table((R110_R32,), "ie-ft", (*iekd.WEIGHTS, "plain"))),
        "The published code has 1 for both in its only setting, which is almost no distillation.",
    ),
    _claim(
        9,
        "A large student of a small teacher ends with higher losses by FT than from scratch, and with lower ones by "
        "IE-FT.",
        "fig1b",
        all_of(*_large_student()),
        "Taken as: cross-entropy of the last epoch, in training and on the test images. The paper draws it under the "
        "name KD, with FT's weight of 500; at 50, which IE-FT has, it may be otherwise. It prints no number.",
        LIGHTER,
    ),
)

# -- evidence ----------------------------------------------------------------------------------------------


def counts(cell: Cell) -> Where | None:
    """Where an error counts; those of figures and of ablations do not, but for the rows that stand in tables too."""
    name = cell.exhibit.partition("/")[2]
    if name == "fig1b":
        return None
    place = share_place(cell.column) if name == "table5" else cell.column.key
    return place, cell.row.key


def shown(cell: Cell, record: Record) -> dict[Where, float] | None:
    """What a run of Figure 1b shows: both losses after its last epoch, where its history has them."""
    if cell.exhibit != iekd.FIGURE_1B.key:
        return None
    return {
        (loss_place(cell.column, which), cell.row.key): record.history[column][-1]
        for which, column in HISTORY.items()
        if record.history.get(column)
    }


PAPER = Paper(iekd.PAPER, iekd.EXHIBITS, iekd.ABLATIONS, CLAIMS, counts, shown, title)
