"""The claims of the comparison paper, C1 to C17, one after another.

All rest on Table 1.  `remark` says what a reader of the paper should know of the printed numbers.
"""

from __future__ import annotations

import pandas as pd

from kdnb.exhibits.claims import (
    AllOf,
    AnyOf,
    Better,
    Claim,
    Evidence,
    LittleCorrelation,
    Predicate,
    Truth,
    Verdict,
    all_of,
    best_of,
    judge,
)
from kdnb.exhibits.exhibit import reported

C10, C100 = "cifar10", "cifar100"
BOTH = (C10, C100)
MMD = ("mmd-linear", "mmd-polynomial", "mmd-gaussian")
FEATURES = ("fitnet", "fsp", "pkt", *MMD, "crd")
ALONE = ("kd", *FEATURES)
COMBINED = tuple(f"{name}+kd" for name in FEATURES)
STUDENTS = ("plain", *ALONE, *COMBINED)


def _on_both(*pairs: tuple[str, str], or_equal: bool = False) -> AllOf:
    """Each (better, worse) on both data sets."""
    return AllOf(tuple(Better(d, a, b, or_equal) for d in BOTH for a, b in pairs))


def _second(dataset: str, row: str, others: tuple[str, ...]) -> AnyOf:
    """Exactly one of the others beats the row: some one does, and the row beats all the rest."""
    rest = tuple(other for other in others if other != row)
    return AnyOf(
        tuple(
            all_of(Better(dataset, first, row), best_of(dataset, row, tuple(o for o in rest if o != first)))
            for first in rest
        )
    )


def _claim(number: int, sentence: str, predicate: Predicate | None, remark: str = "", why_not: str = "") -> Claim:
    return Claim(f"C{number}", "comparison", sentence, ("comparison/table1",), predicate, why_not, remark)


CLAIMS = (
    _claim(
        1,
        "Every method, alone or with KD, beats the plain student on both data sets.",
        _on_both(*((row, "plain") for row in (*ALONE, *COMBINED))),
        "The smallest printed gains are 0.12 (MMD-Linear, CIFAR-10) and 0.16 (MMD-Polynomial, CIFAR-100) points.",
    ),
    _claim(2, "No student reaches the teacher.", _on_both(*(("teacher", row) for row in STUDENTS))),
    _claim(
        3,
        "KD is the best standalone method on CIFAR-10 and the second best on CIFAR-100.",
        all_of(best_of(C10, "kd", ALONE), _second(C100, "kd", ALONE)),
        "On CIFAR-10 by 0.04 points over MMD-Gaussian: two test images.",
    ),
    _claim(
        4,
        "KD beats every other standalone method except CRD.",
        _on_both(*(("kd", row) for row in FEATURES if row != "crd")),
    ),
    _claim(
        5,
        "FitNet is at least as good as FSP: slightly better on CIFAR-10, clearly on CIFAR-100.",
        _on_both(("fitnet", "fsp")),
        "The opposite of the FSP paper; on CIFAR-10 the two differ by two test images.",
    ),
    _claim(
        6,
        "FitNet and KD both beat PKT.",
        _on_both(("fitnet", "pkt"), ("kd", "pkt")),
        "In print FitNet ties PKT on CIFAR-100 (69.26 both).",
    ),
    _claim(
        7,
        "MMD-Gaussian is the best of the three kernels standalone.",
        _on_both(("mmd-gaussian", "mmd-linear"), ("mmd-gaussian", "mmd-polynomial")),
        "The NST paper found the polynomial kernel best.",
    ),
    _claim(
        8,
        "With KD, the polynomial kernel is the best on CIFAR-100 and the Gaussian on CIFAR-10.",
        all_of(
            best_of(C100, "mmd-polynomial+kd", tuple(f"{k}+kd" for k in MMD)),
            best_of(C10, "mmd-gaussian+kd", tuple(f"{k}+kd" for k in MMD)),
        ),
    ),
    _claim(
        9,
        "MMD-Gaussian beats FitNet but not KD; the other two kernels beat neither.",
        _on_both(
            ("mmd-gaussian", "fitnet"),
            ("kd", "mmd-gaussian"),
            *((better, kernel) for kernel in ("mmd-linear", "mmd-polynomial") for better in ("fitnet", "kd")),
        ),
    ),
    _claim(10, "CRD is the best standalone method on CIFAR-100.", best_of(C100, "crd", ALONE)),
    _claim(
        11,
        "CRD alone is weak on CIFAR-10: no better than most standalone methods.",
        AllOf(tuple(Better(C10, row, "crd", or_equal=True) for row in ALONE if row not in ("crd", "mmd-linear"))),
        "In print it ties PKT, second-lowest; its schedule there has a tenth of the learning rate.",
    ),
    _claim(
        12,
        "CRD with KD is the best of all on both data sets.",
        all_of(*(best_of(d, "crd+kd", STUDENTS) for d in BOTH)),
    ),
    _claim(
        13,
        "FSP with KD is the second best overall on CIFAR-100.",
        _second(C100, "fsp+kd", STUDENTS),
        "It is the third in the paper's own table: CRD alone has 70.66, FSP with KD 70.42.",
    ),
    _claim(
        14,
        "There is little correlation between a method's result alone and with KD.",
        all_of(*(LittleCorrelation(d, FEATURES) for d in BOTH)),
        "Seven methods make seven points; we take |r| below 0.5 as little.",
    ),
    _claim(
        15,
        "The new combinations FSP+KD and MMD-Gaussian+KD are surprisingly strong: better than KD alone.",
        _on_both(("fsp+kd", "kd"), ("mmd-gaussian+kd", "kd")),
        "In print FSP+KD loses to KD on CIFAR-10 and MMD-Gaussian+KD on CIFAR-100.",
    ),
    _claim(
        16,
        "Older, simpler methods (KD, FitNet) tend to beat newer ones (FSP, PKT, MMD).",
        _on_both(*((old, new) for old in ("kd", "fitnet") for new in ("fsp", "pkt", *MMD))),
        "Taken as: each of the two beats each of the five.  In print MMD-Gaussian beats FitNet, and PKT ties it.",
    ),
    _claim(
        17,
        "As expected: KD, MMD-Linear, CRD; weaker: MMD-Polynomial, PKT, FSP; better: MMD-Gaussian, FitNet.",
        None,
        why_not="A judgement against expectations from other papers; Table 1 alone cannot decide it.",
    ),
)


def printed() -> dict[tuple[str, str], float]:
    """The printed accuracies of Table 1: (data set, row) -> percent."""
    return {(dataset, row): value for (name, dataset, row), value in reported("comparison").items() if name == "table1"}


def in_print() -> dict[str, Truth]:
    """Whether each claim holds of the paper's own numbers, computed from them."""
    return {claim.id: claim.in_print(printed()) for claim in CLAIMS}


def verdicts(frames: dict[str, pd.DataFrame], profile: str) -> list[Verdict]:
    """The verdict on every claim from the runs of one profile: data set -> frame (row, seed, value in percent)."""
    measured = {dataset: Evidence(frame) for dataset, frame in frames.items() if len(frame)}
    return [judge(claim, profile, measured, printed()) for claim in CLAIMS]


__all__ = ["CLAIMS", "in_print", "printed", "verdicts"]
