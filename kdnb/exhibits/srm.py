"""Tran, Gabbouj and Iosifidis 2021, SRM: a student that predicts sparse codes of its teacher's pixels, then KD.

Tables 1 to 4 are on CIFAR-100, DenseNet-121 -> AllCNN, and run here.  Tables 5 to 8 need images of 224 x 224 that are
not prepared; their few-shot protocol comes to CIFAR-100 as tables of our own.  Recipes are those of the paper and its
published code; what had to be decided stands beside each choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from kdnb.exhibits.choosing import search
from kdnb.exhibits.exhibit import DIGITS, Absent, Awaited, Build, Column, Control, Exhibit, Pair, Part, Row
from kdnb.exhibits.score import ACCURACY, ERROR, Score, percent
from kdnb.methods.recipe import Recipe
from kdnb.study.experiment import Experiment, Images
from kdnb.study.profile import PROFILES, Profile
from kdnb.study.store import Store

PAPER = "srm"

#: As the authors have them for SRM, KD and FitNet; their benchmark's code has others for the rest, here all have these.
NORMALISATION = {
    "cifar100": ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)),
    "digits": DIGITS,
}

D121_ALLCNN = Pair("densenet121", "allcnn", {"demo": ("resnet14", "resnet8"), "pilot": ("resnet20", "resnet8")})
#: Tables 5 to 7: images of 224 x 224.
TRANSFER = (Pair("resnext50_32x4d", "allcnn_224"), Pair("resnext50_32x4d", "resnet18"))
TRANSFER_SETS = ("flowers102", "cub200", "stanford_cars", "mit_indoor67", "pubfig83")
#: Table 8.
IMAGENET = Pair("resnet34", "resnet18")

#: The demo has time for so many epochs a stage, so many images of a student and in a batch, and of long tables for
#: these rows.
DEMO_EPOCHS, DEMO_IMAGES, DEMO_BATCH = 7, 200, 16
DEMO_ROWS = {
    "table3": ("plain", "kd", "srm-1.5-0.01", "srm", "srm-3-0.03"),
    "at-weight": ("plain", "at"),
    "few-shot-5": ("teacher", "plain", "kd", "srm"),
    "few-shot-10": ("teacher", "plain", "kd", "srm"),
    "alpha-temperature": ("kd-a0.25-t4", "kd-a0.5-t4", "kd-a0.75-t4"),
}

# -- recipes -----------------------------------------------------------------------------------------------

#: Teacher, KD, FitNet and SRM: Adam is made afresh where the rate drops, and the best end of a step is kept.
OWN = Recipe(
    epochs=200, batch_size=128, lr=1e-3, milestones=(30, 130), weight_decay=1e-4, selection="steps",
    optimiser="adam", restart="drop",
)  # fmt: skip
#: Schedules of a row other than the one above.
SCHEDULES = {
    "": OWN,
    "baseline": replace(OWN, batch_size=256),
    # AT, PKT, RKD and CRD come from a benchmark's code: one Adam throughout, the best of all epochs.
    "benchmark": replace(OWN, milestones=(30, 131), selection="best", restart="never"),
    # The epochs of SRM's three steps together, 100 + 160 + 200, with milestones at the same shares of them.
    "long": replace(OWN, epochs=460, milestones=(69, 299)),
    "baseline-long": replace(OWN, epochs=460, milestones=(69, 299), batch_size=256),
    # Of the published code; the text says 60 epochs and no schedule.
    "probe": replace(OWN, epochs=40, milestones=(10, 30)),
}

# -- KD's weight and temperature ---------------------------------------------------------------------------

ALPHAS, TEMPERATURES = (0.25, 0.5, 0.75), (2.0, 4.0, 8.0)
#: Of the authors' grid, which they validate and whose winners they do not print.  It stands in the demo and in
#: shortened trials, which choose nothing; a scale's own grid (`ALPHA_TEMPERATURE`) chooses for its tables.
MIDDLE = 0.5, 4.0
#: Rows of the grid that are chosen for: how they are called, and the method that ends with KD.
TUNED = {"kd": ("KD", "kd"), "fitnet": ("FitNet", "fitnet-maps+kd"), "srm": ("SRM", "srm+kd")}


def soft(alpha: float, temperature: float) -> dict[str, Any]:
    """KD's arguments: alpha weighs the soft term, 1 - alpha the labels."""
    return {"labels_weight": 1.0 - alpha, "soft_weight": alpha, "temperature": temperature}


# -- rows --------------------------------------------------------------------------------------------------

#: Label of the grid of Table 3: sizes and sparsities of dictionaries.
SIZES, SPARSITIES = (1.5, 2.0, 3.0), (0.01, 0.02, 0.03)


def _grid_key(size: float, sparsity: float) -> str:
    """The cell of Table 3 that is the SRM of all other tables has its name."""
    return "srm" if (size, sparsity) == (2.0, 0.02) else f"srm-{size:g}-{sparsity:g}"


def _grid() -> list[Row]:
    return [
        Row(
            _grid_key(size, sparsity),
            f"SRM, size {size:g}, sparsity {sparsity:g}",
            "srm+kd",
            {"dictionaries_size": size, "dictionaries_sparsity": sparsity},
        )
        for sparsity in SPARSITIES
        for size in SIZES
        if _grid_key(size, sparsity) != "srm"
    ]


def _tried() -> list[Row]:
    return [
        Row(f"{of}-a{alpha:g}-t{t:g}", f"{name}, alpha {alpha:g}, T = {t:g}", method, soft(alpha, t))
        for of, (name, method) in TUNED.items()
        for alpha in ALPHAS
        for t in TEMPERATURES
    ]


ROWS = {
    row.key: row
    for row in (
        Row("teacher", "Teacher", "plain", role="teacher"),
        Row("plain", "Plain student", "plain", role="baseline", schedule="baseline"),
        Row("kd", "KD", "kd"),
        Row("fitnet", "FitNet, all maps", "fitnet-maps+kd"),
        Row("at", "AT", "at", {"first_stage": 2}, schedule="benchmark"),
        Row("pkt", "PKT", "pkt-joint", schedule="benchmark"),
        Row("rkd", "RKD", "rkd", schedule="benchmark"),
        Row(
            "crd",
            "CRD + KD",
            "crd+kd",
            {"labels_weight": 1.0, "soft_weight": 1.0, "temperature": 4.0, "negatives": 16_384},
            schedule="benchmark",
        ),
        Row("srm", "SRM", "srm+kd"),
        # Table 2: what is done with a student of the step before the labels.
        Row("fitnet-probe", "FitNet, linear probe", "probe", {"norms": "train"}, schedule="probe"),
        Row("fitnet-probe-fixed", "FitNet, probe, norms fixed", "probe", {"norms": "eval"}, schedule="probe"),
        Row("fitnet-whole", "FitNet, all weights, labels", "plain"),
        Row("srm-probe", "SRM, linear probe", "probe", {"norms": "train"}, schedule="probe"),
        Row("srm-probe-fixed", "SRM, probe, norms fixed", "probe", {"norms": "eval"}, schedule="probe"),
        Row("srm-whole", "SRM, all weights, labels", "plain"),
        # Tables 3 and 4.
        *_grid(),
        Row("srm-pixel", "SRM, pixel labels alone", "srm+kd", {"targets": "pixel"}),
        Row("srm-image", "SRM, image labels alone", "srm+kd", {"targets": "image"}),
        # Controls of ours.
        Row("at-100", "AT, weight 100", "at", {"first_stage": 2, "weight": 100.0}, schedule="benchmark"),
        Row("srm-shuffled", "SRM, pixel labels shuffled", "srm+kd", {"targets": "pixel", "shuffled": True}),
        Row("plain-460", "Plain student, 460 epochs", "plain", role="baseline", schedule="baseline-long"),
        Row("kd-460", "KD, 460 epochs", "kd", schedule="long"),
        *_tried(),
        # Table 8's, which nobody can run here.
        Row("seq-kd", "Sequential KD", "kd"),
        Row("kd-one", "KD + ONE", "kd"),
        Row("eskd", "ESKD", "kd"),
        Row("eskd-at", "ESKD + AT", "kd"),
    )
}
#: Rows that begin with the student of another row's first step.
STARTS = {key: key.partition("-")[0] for key in ROWS if ROWS[key].method == "probe" or key.endswith("-whole")}


def line(key: str) -> Part:
    """A row of the tables on CIFAR-100."""
    return Part(ROWS[key], D121_ALLCNN)


def variation(key: str, **arguments: Any) -> Part:
    """A row with other arguments: what a reader tries out."""
    return line(key).varied(**arguments)


# -- experiments -------------------------------------------------------------------------------------------


def images(dataset: str, student_images: int | None, per_class: int | None = None) -> Images:
    """All test images score; a fixed tenth of the training images, 5,000 of CIFAR-100's, selects."""
    mean, std = NORMALISATION[dataset]
    return Images(dataset, "held-out", mean, std, student_images=student_images, per_class=per_class)


def build(row: Row, column: Column, profile: Profile) -> Experiment | Absent:
    """A row as an experiment, or why there is none."""
    brief = _brief(profile)
    return _built(row, column, profile, images(_known(column), brief.student_images), brief)


def build_few(per_class: int) -> Build:
    """Rows whose students see so few images of each class, other ones for each seed.

    All of the paper's epochs at every scale but the demo, which has none for anything: they are short.  The teacher is
    that of the other tables.  The best end of a step is kept in every row: the table is ours, and has one rule.
    """

    def built(row: Row, column: Column, profile: Profile) -> Experiment | Absent:
        whole = replace(_brief(profile), factor=Fraction(1))
        found = _built(row, column, profile, images(_known(column), None, per_class), whole)
        if isinstance(found, Absent) or found.recipe is None or row.role == "teacher":
            return found
        return replace(found, recipe=replace(found.recipe, selection="steps"))

    return built


def in_demo(name: str, built: Build) -> Build:
    """A table of which the demo trains some rows alone."""

    def chosen(row: Row, column: Column, profile: Profile) -> Experiment | Absent:
        if profile.embedded_data and row.key not in DEMO_ROWS.get(name, (row.key,)):
            return Absent("the demo has no time for it")
        return built(row, column, profile)

    return chosen


def _brief(profile: Profile) -> Profile:
    """What a profile has time for where a student is trained: in the demo, less than for others."""
    if not profile.embedded_data:
        return profile
    return replace(profile, at_most=min(DEMO_EPOCHS, profile.at_most or DEMO_EPOCHS), student_images=DEMO_IMAGES)


def _in_small_batches(recipe: Recipe, profile: Profile) -> Recipe:
    """A student's recipe; in the demo with smaller batches, so that a few epochs have steps enough to learn by."""
    return replace(recipe, batch_size=DEMO_BATCH) if profile.embedded_data else recipe


def _known(column: Column) -> str:
    """The data set of a column, or CIFAR-100 where that is none of ours: its cells are refused a moment later."""
    return column.dataset if column.dataset in NORMALISATION else "cifar100"


def _built(row: Row, column: Column, profile: Profile, seen: Images, of_students: Profile) -> Experiment | Absent:
    """`seen` is what a student learns from, `of_students` the profile that it is trained under."""
    pair = column.pair
    assert pair is not None, "every column of this paper has a pair of networks"
    if pair == IMAGENET:
        return Absent("ImageNet is not among the prepared data sets")
    if pair in TRANSFER:
        return Absent("the five data sets of 224 x 224 images are not among the prepared ones")
    big, small = pair.networks(profile) or ("", "")
    teacher = Experiment(profile, images(seen.dataset, None), big, OWN, "plain")
    if row.role == "teacher":
        return teacher
    student = Experiment(
        of_students, seen, small, _in_small_batches(SCHEDULES[row.schedule], profile), "plain", note=_note(row)
    )
    if row.role == "baseline":
        return student
    arguments = {**(soft(*MIDDLE) if _ends_with_kd(row) else {}), **row.arguments}
    if row.key not in STARTS:
        return replace(student, method=row.method, arguments=arguments, teacher=teacher)
    origin = ROWS[STARTS[row.key]]
    recipe = _in_small_batches(OWN, profile)
    learned = replace(student, method=origin.method, arguments={}, teacher=teacher, recipe=recipe, note="")
    return replace(student, method=row.method, arguments=row.arguments, start=learned.shared_stages()[0])


def _ends_with_kd(row: Row) -> bool:
    """Whether alpha and temperature are chosen for a row: its method has them, and it has none of its own."""
    return any(row.method == method for _, method in TUNED.values()) and "temperature" not in row.arguments


def _note(row: Row) -> str:
    return f"{row.schedule}-schedule" if row.schedule.endswith("long") else ""


# -- what the paper prints ---------------------------------------------------------------------------------

_PRINTED_METHODS = {
    "baseline": "plain",
    "Seq. KD": "seq-kd",
    "KD+ONE": "kd-one",
    "ESKD+AT": "eskd-at",
}
_PRINTED_CONDITIONS = {
    "protocol=linear_probing": "{}-probe",
    "protocol=whole_network_update": "{}-whole",
    "pixel_level=1;image_level=0": "srm-pixel",
    "pixel_level=0;image_level=1": "srm-image",
} | {f"mu={size:.1f};lambda={sparsity:g}": _grid_key(size, sparsity) for size in SIZES for sparsity in SPARSITIES}


def key_of(printed: Mapping[str, str]) -> str:
    """The row, with its networks, that a line of the paper's CSV belongs to."""
    method = _PRINTED_METHODS.get(printed["method"], printed["method"].lower())
    row = _PRINTED_CONDITIONS.get(printed["condition"], "{}").format(method)
    student = printed["student"].replace("allcnn_0.66", "allcnn")
    networks = {"teacher": printed["teacher"], "plain": student}.get(row, f"{printed['teacher']}-{student}")
    return f"{networks}/{row}"


# -- exhibits ----------------------------------------------------------------------------------------------

#: Accuracy on the images that are held out, by which alpha and temperature are chosen.
VALIDATION = percent("selected", "Validation accuracy")
METHODS = ("teacher", "plain", "kd", "fitnet", "at", "pkt", "rkd", "crd", "srm")
#: What is kept beside SRM's runs: what their dictionaries have learned.
KEPT = {"srm": ("dictionaries",)}
#: Which images a few of each class are is most of the noise.
FEW_SEEDS = 5


def _table(
    name: str,
    title: str,
    rows: Iterable[str],
    *,
    score: Score = ACCURACY,
    built: Build = build,
    keeps: Mapping[str, tuple[str, ...]] = KEPT,
    **more: Any,
) -> Exhibit:
    """A table on CIFAR-100."""
    columns = (Column("cifar100", D121_ALLCNN, score, keeps if built is build else {}),)
    lines = tuple(ROWS[key] for key in rows)
    return Exhibit(PAPER, name, title, lines, columns, in_demo(name, built), key_of=key_of, **more)


ALPHA_TEMPERATURE = _table(
    "alpha-temperature",
    "KD's weight and temperature, by accuracy on the images that are held out",
    [key for key in ROWS if "-t" in key],
    score=VALIDATION,
    # The best of SRM's is the run of Table 1, which is not trained again for what that keeps.
    keeps={key: KEPT["srm"] for key in ROWS if key.startswith("srm-a")},
    ablation=True,
    study_seeds=1,
    seeds_between=(1, 1),
)


def choice(of: str, profile: Profile, store: Store) -> Row | Absent:
    """The best cell of the grid at a scale for `kd`, `fitnet` or `srm`, or what has to be measured before.

    Of equally good cells it is the first one: with the smaller alpha, then the lower temperature.
    """
    _, method = TUNED[of]
    cells = ALPHA_TEMPERATURE.cells(profile, asked=[r.key for r in ALPHA_TEMPERATURE.rows if r.method == method])
    found = search(cells, lambda cell, record: cell.score.of(record), store)
    if found.left:
        done = len(cells) - found.left
        why = f"alpha and temperature are not chosen at {profile.name} scale yet, {done} of {len(cells)} "
        why += f"pairs are measured: `kdnb study --exhibit {ALPHA_TEMPERATURE.key} --profile {profile.name}`"
        return Awaited(why, tuple(run for cell in cells for run in cell.runs(1)))
    return found.best or Absent("with every alpha and temperature of the grid it diverged")


def _tuned(profile: Profile, dataset: str) -> dict[str, Row | Absent]:
    """All rows that end with KD, with what was chosen for KD, FitNet and SRM at this scale, or without as yet.

    The demo and shortened trials, which no table shows, choose nothing: they have the middle of the grid.
    """
    if profile.embedded_data or profile.name not in PROFILES:
        return {}
    store = Store.open()
    chosen = {method: choice(of, profile, store) for of, (_, method) in TUNED.items()}
    return {row.key: _with(chosen[row.method], row) for row in ROWS.values() if _ends_with_kd(row)}


def _with(chosen: Row | Absent, row: Row) -> Row | Absent:
    """What was chosen, on the row's own schedule; its own arguments go before when the cell is made."""
    return chosen if isinstance(chosen, Absent) else replace(row, arguments=chosen.arguments)


def _exhibit(name: str, title: str, rows: Iterable[str], **more: Any) -> Exhibit:
    """A table on CIFAR-100 for whose rows alpha and temperature are chosen."""
    return _table(name, title, rows, choose=_tuned, **more)


def _transfer(name: str, title: str) -> Exhibit:
    """A table on five data sets that are not here."""
    columns = tuple(Column(dataset, pair) for pair in TRANSFER for dataset in TRANSFER_SETS)
    return Exhibit(PAPER, name, title, tuple(ROWS[key] for key in METHODS), columns, build, key_of=key_of)


TABLE_1 = _exhibit(
    "table1",
    "SRM against six methods on CIFAR-100",
    METHODS,
    gain=("srm", "kd"),
    controls={"srm": Control("srm/epochs", "plain-460", "kd-460")},
)
TABLE_2 = _exhibit(
    "table2",
    "What a student has learned before it sees labels: a linear probe, and training from there",
    ["plain", *STARTS],
)
TABLE_3 = _exhibit(
    "table3",
    "Size and sparsity of the dictionaries",
    ["plain", "kd", *(_grid_key(size, sparsity) for sparsity in SPARSITIES for size in SIZES)],
)
TABLE_4 = _exhibit("table4", "Pixel labels, image labels, or both", ["plain", "kd", "srm-pixel", "srm-image", "srm"])
FEW = {
    count: _exhibit(
        f"few-shot-{count}",
        f"{count} images a class for the student, all for its teacher",
        METHODS,
        built=build_few(count),
        ablation=True,
        study_seeds=FEW_SEEDS,
        gain=("srm", "kd"),
    )
    for count in (5, 10)
}

EXHIBITS = (
    TABLE_1,
    TABLE_2,
    TABLE_3,
    TABLE_4,
    _transfer("table5", "Transfer to five data sets"),
    _transfer("table6", "Transfer with 5 images a class"),
    _transfer("table7", "Transfer with 10 images a class"),
    Exhibit(
        PAPER,
        "table8",
        "Error on ImageNet",
        tuple(ROWS[key] for key in ("kd", "at", "seq-kd", "kd-one", "eskd", "eskd-at", "crd", "srm")),
        (Column("imagenet", IMAGENET, ERROR),),
        build,
        key_of=key_of,
    ),
)

ABLATIONS = (
    *FEW.values(),
    _exhibit(
        "epochs",
        "SRM's three steps take 460 epochs: the plain student and KD with as many",
        ["plain", "plain-460", "kd", "kd-460", "srm"],
        ablation=True,
    ),
    _exhibit(
        "at-weight", "AT at the benchmark's weight, and at a tenth of it", ["plain", "at-100", "at"], ablation=True
    ),
    _exhibit(
        "shuffled",
        "Pixel labels shuffled among pixels: does any target do?",
        ["plain", "kd", "srm-shuffled", "srm-pixel"],
        ablation=True,
    ),
    ALPHA_TEMPERATURE,
)
