"""Quinn, McGuinness and Mileo 2021: eight transfer methods, alone and with KD, ResNet-56 -> ResNet-20.

The protocol is reconstructed from the paper and the authors' list of training parameters (they published no
code); what had to be decided stands beside each choice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kdnb import kinds
from kdnb.exhibits.exhibit import DIGITS, Column, Control, Exhibit, Row
from kdnb.methods.recipe import Recipe
from kdnb.study.experiment import Experiment, Images
from kdnb.study.profile import Profile

PAPER = "comparison"

#: Teacher and student that stand for ResNet-56 and ResNet-20 under each profile.
NETWORKS = {
    "demo": ("resnet14", "resnet8"),
    "pilot": ("resnet20", "resnet8"),
    "short": ("resnet56", "resnet20"),
    "paper": ("resnet56", "resnet20"),
}

#: Mean and std as the authors list them; the std is not the pixels' own (fact sheet, section 5).
NORMALISATION = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2009, 0.1984, 0.2023)),
    "digits": DIGITS,
}

LONG = Recipe(epochs=200, batch_size=64, lr=0.1, milestones=(80, 120), selection="best")
BRIEF = Recipe(epochs=100, batch_size=64, lr=0.1, milestones=(40, 60), selection="best")
CRD_LONG = Recipe(epochs=240, batch_size=64, lr=0.05, milestones=(150, 180, 210), selection="best")
CRD_BRIEF = Recipe(epochs=180, batch_size=64, lr=0.01, milestones=(112, 135, 157), selection="best")

#: KD with alpha = 0.8 on the soft term and T = 8, on both data sets.
KD = {"labels_weight": 0.2, "soft_weight": 0.8, "temperature": 8.0}
#: With CRD the cross-entropy keeps its weight, and the soft term has none of its own.
KD_BESIDE_CRD = {"labels_weight": 1.0, "soft_weight": 1.0, "temperature": 8.0}

_ALONE = {
    "fitnet": "FitNet",
    "fsp": "FSP",
    "pkt": "PKT",
    "mmd-linear": "MMD-Linear",
    "mmd-polynomial": "MMD-Polynomial",
    "mmd-gaussian": "MMD-Gaussian",
    "crd": "CRD",
}


def _rows() -> tuple[Row, ...]:
    rows = [
        Row("teacher", "Teacher", "plain", role="teacher"),
        Row("plain", "Plain student", "plain", role="baseline"),
        Row("kd", "KD", "kd", KD),
    ]
    rows += [Row(key, label, key) for key, label in _ALONE.items()]
    for key, label in _ALONE.items():
        rows.append(Row(f"{key}+kd", f"{label} + KD", f"{key}+kd", KD_BESIDE_CRD if key == "crd" else KD))
    return tuple(rows)


def recipe(row: Row, dataset: str) -> Recipe:
    """The training recipe of a row: the base schedule of its data set, or CRD's own."""
    brief = dataset == "cifar10"
    if row.role == "teacher":
        return LONG
    if row.method.startswith("crd") or row.schedule == "crd":
        return CRD_BRIEF if brief else CRD_LONG
    return BRIEF if brief else LONG


def images(dataset: str, student_images: int | None) -> Images:
    """The paper's images: selection on one half of the test images, the score on the other."""
    mean, std = NORMALISATION[dataset]
    return Images(dataset, split="halves", mean=mean, std=std, student_images=student_images)


def teacher(profile: Profile, dataset: str) -> Experiment:
    """The teacher of a data set under a profile; it learns from all training images."""
    return build(TABLE_1.row("teacher"), Column(dataset), profile)


def build(row: Row, column: Column, profile: Profile) -> Experiment:
    """A row of Table 1 as an experiment."""
    dataset, (big, small) = column.dataset, NETWORKS[profile.scale]
    is_teacher = row.role == "teacher"
    return Experiment(
        profile=profile,
        images=images(dataset, None if is_teacher else profile.student_images),
        network=big if is_teacher else small,
        recipe=recipe(row, dataset),
        method=row.method,
        arguments=row.arguments,
        teacher=None if row.method == "plain" else teacher(profile, dataset),
        note=f"{row.schedule}-schedule" if row.schedule else "",
    )


def soft_share(alpha: Any) -> dict[str, float]:
    """The weights of KD's two terms: `alpha`, a share of 1, is the soft one's, and the rest the labels'."""
    alpha = kinds.limited("alpha", kinds.brought("alpha", "float", alpha), 0, 1)
    return {"soft_weight": alpha, "labels_weight": round(1 - alpha, 6)}


def variation(key: str, label: str, of: str, **arguments: Any) -> Row:
    """A row of Table 1 with other arguments: one line of an ablation."""
    return replace(TABLE_1.row(of), key=key, label=label).varied(**arguments)


TABLE_1 = Exhibit(
    paper=PAPER,
    name="table1",
    title="Top-1 accuracy of eight transfer methods, alone and combined with KD",
    rows=_rows(),
    columns=(Column("cifar100"), Column("cifar10")),
    build=build,
    demo_seeds=2,
    controls={row: Control("comparison/schedule", "plain-long", "kd-long") for row in ("crd", "crd+kd")},
)


def _ablation(name: str, title: str, *rows: Row) -> Exhibit:
    return Exhibit(PAPER, name, title, rows, TABLE_1.columns, build, ablation=True)


ABLATIONS = (
    _ablation(
        "kd-temperature",
        "KD: the temperature",
        *(variation(f"kd-t{t}", f"T = {t}", "kd", temperature=float(t)) for t in (1, 2, 4, 8, 16)),
    ),
    _ablation(
        "kd-alpha",
        "KD: the weight alpha of the soft term, 1 - alpha of the labels",
        *(
            variation(f"kd-a{a}", f"alpha = {a / 100:g}", "kd", soft_weight=a / 100, labels_weight=(100 - a) / 100)
            for a in (20, 50, 80, 95, 100)
        ),
    ),
    _ablation(
        "pretraining",
        "FitNet and PKT: how long step 1 may last, in epochs",
        *(variation(f"fitnet-{n}", f"FitNet, {n}", "fitnet", hint_epochs=n) for n in (1, 30, 500)),
        *(variation(f"pkt-{n}", f"PKT, {n}", "pkt", kernel_epochs=n) for n in (1, 30, 500)),
    ),
    _ablation(
        "mmd-weight",
        "MMD: the weight beta, calibrated or printed elsewhere",
        *(
            variation(f"mmd-{kernel}-{name}", f"{kernel.capitalize()}, {label}", f"mmd-{kernel}", weight=weight)
            for kernel, printed, fixed in (
                ("linear", 1.7122e-3, 50.0),
                ("polynomial", 9.5243e-18, 50.0),
                ("gaussian", 26.5041, 100.0),
            )
            for name, label, weight in (
                ("calibrated", "calibrated", None),
                ("printed", f"as printed, {printed:g}", printed),
                ("nst", f"as in NST, {fixed:g}", fixed),
            )
        ),
    ),
    _ablation(
        "crd-negatives",
        "CRD: the number of negatives, and negatives from the batch",
        *(variation(f"crd-{k}", f"K = {k}", "crd", negatives=k) for k in (16, 256, 4096)),
        variation("crd-in-batch", "negatives from the batch", "crd", in_batch=True),
    ),
    _ablation(
        "schedule",
        "The plain student and KD on CRD's schedule",
        TABLE_1.row("plain"),
        replace(TABLE_1.row("plain"), key="plain-long", label="Plain student on CRD's schedule", schedule="crd"),
        TABLE_1.row("kd"),
        replace(TABLE_1.row("kd"), key="kd-long", label="KD on CRD's schedule", schedule="crd"),
        TABLE_1.row("crd"),
        TABLE_1.row("crd+kd"),
    ),
)

EXHIBITS = (TABLE_1,)
