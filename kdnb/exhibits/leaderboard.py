"""The leaderboard, an exhibit of our own: every method of the papers on the same images with the same teacher.

The set-up is SLKD's: its recipe, its images, the last epoch, all test images, its teacher, KD at temperature 4 and 0.9.
So its rows are the leaderboard's wherever they serve, trained once for both.  What is equal is the last stage, which
learns from labels: its epochs, optimiser and batches.  Earlier stages keep their own.

All of its tables can be made on a reader's own images (`Exhibit.on`), which choose their own settings and finalists.

A paper that is added adds its methods to `METHODS`, a line each; what has no row says why in `LEFT_OUT`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kdnb import datasets, methods
from kdnb.exhibits import slkd
from kdnb.exhibits.choosing import search
from kdnb.exhibits.exhibit import Absent, Awaited, Column, Exhibit, Row
from kdnb.exhibits.paper import Paper
from kdnb.exhibits.runs import diverged, runs_of
from kdnb.study.experiment import Experiment, Images
from kdnb.study.profile import PROFILES, Profile
from kdnb.study.store import Store

PAPER = "leaderboard"

NETWORKS = {
    "demo": ("resnet14", "resnet8"),
    "pilot": ("resnet20", "resnet8"),
    "short": ("resnet56", "resnet20"),
    "paper": ("resnet56", "resnet20"),
}
#: The pair of SLKD's tables whose settings of DKD and ReviewKD serve: that of its relatives, or the nearest.
SETTINGS_OF = {"demo": slkd.R32X4_R8X4, "pilot": slkd.R32X4_R8X4, "short": slkd.R56_R8, "paper": slkd.R56_R8}


@dataclass(frozen=True)
class Entry:
    """A method of the leaderboard: its arguments, and who chose its settings, on what.

    `joined` says how a loss is joined to cross-entropy where no argument of the method has its weight.
    """

    method: str
    label: str
    settings: str
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    joined: str = ""


CODE = "its authors' code"
ITS_PAPER = "its paper"
BENCHMARK = "the field's benchmark"
COMPARED = "the comparison of eight methods"

METHODS = (
    Entry("kd", "KD", BENCHMARK),
    Entry("at", "AT", BENCHMARK),
    Entry("sp", "SP", BENCHMARK),
    Entry("rkd", "RKD", BENCHMARK),
    Entry("ofd", "OFD", CODE),
    Entry("crd", "CRD", CODE, {"negatives": slkd.NEGATIVES}),
    Entry("reviewkd", "ReviewKD", CODE),
    Entry("dkd", "DKD", CODE),
    Entry("slkd", "SLKD", CODE),
    Entry("slkd-sequential", "SLKD*, in sequence", "our reading"),
    Entry("fitnet", "FitNet", COMPARED),
    Entry("fsp", "FSP", COMPARED),
    Entry("pkt", "PKT", COMPARED),
    Entry("mmd-linear", "MMD-Linear", COMPARED, joined="CE + beta MMD, beta calibrated on the first ten batches"),
    Entry("mmd-polynomial", "MMD-Polynomial", COMPARED, joined="CE + beta MMD, beta calibrated on ten batches"),
    Entry("mmd-gaussian", "MMD-Gaussian", COMPARED, joined="CE + beta MMD, beta calibrated on the first ten batches"),
    Entry("fitnet-maps", "FitNet, all maps", "another paper's code"),
    Entry("srm", "SRM", CODE),
    Entry("fitnet-joint", "FitNet, beside the labels", BENCHMARK),
    Entry("pkt-joint", "PKT, beside the labels", BENCHMARK),
    Entry(
        "information-flow-joint",
        "Information flow, beside the labels",
        "our reading",
        joined="the weight is PKT's; a tenth of it serves far better, as the odd rows show",
    ),
    Entry("nst", "NST", BENCHMARK),
    Entry("cc", "CC", BENCHMARK),
    Entry("vid", "VID", BENCHMARK),
    Entry("ab", "AB", BENCHMARK),
    Entry("ft", "FT", CODE),
    Entry("ie-at", "IE-AT", ITS_PAPER),
    Entry("ie-ft", "IE-FT", ITS_PAPER),
    Entry("ie-od", "IE-OD", ITS_PAPER),
    Entry("tf-kd", "Tf-KD, taught by itself", "our reading"),
    Entry("dml", "DML, with a peer", CODE),
    Entry("ie-dml", "IE-DML, with a peer", ITS_PAPER),
)
LABEL_FREE = "trains features for retrieval, without labels; beside the labels it has a row"
#: Methods without a row, and why.
LEFT_OUT = {
    "probe": "a measurement of a network, not a way to train one",
    "kd-mismatched": "a control, with a row of its own below the methods",
    "kd-again": "a control, with rows of its own below the methods",
    "information-flow": LABEL_FREE,
    "match-pkt": LABEL_FREE,
    "match-hint": LABEL_FREE,
    "match-mkt": "trains features for retrieval, without labels; its distances are those of RKD, which has a row",
    "contrastive": "trains features for retrieval, without a classifier",
    "distill": "KD without labels; KD has its own row",
}

# -- rows that keep the table honest -----------------------------------------------------------------------

AGAIN = ("kd-again-1", "kd-again-2", "kd-again-3")
#: Row -> what it takes away from a gain.
CONTROLS = {
    "label-smoothing": "soft targets without a teacher: is it regularisation?",
    "plain-tuned": "labels alone, settings searched",
    "kd-tuned": "KD, settings searched",
    "kd-untrained": "the teacher never learned: its initial weights, only the running means of its batch norms are fit",
    "kd-mismatched": "the teacher answers for another image",
    "kd-early": "the teacher stopped after an eighth of its epochs",
    "kd-same-images": "the teacher learned from the student's images alone: is a gain the images that it saw besides?",
    "kd-self": "the teacher has the student's architecture",
    "kd-labels": "labels weigh 1 and not 0.1, as beside most methods: is a gain over KD the labels'?",
    **{key: "KD again: initial weights moved by a relative 1e-6, the same batches" for key in AGAIN},
}

#: Training recipes beside the table's own, by name: what differs.
RECIPES: dict[str, dict[str, Any]] = {
    "": {},
    "twice": {"epochs": 480, "milestones": (300, 360, 420)},
    "four-times": {"epochs": 960, "milestones": (600, 720, 840)},
}
RATES, DECAYS = (0.02, 0.05, 0.1), (5e-4, 1e-3)
RECIPES |= {f"lr-{rate:g}-decay-{decay:g}": {"lr": rate, "weight_decay": decay} for rate in RATES for decay in DECAYS}
TEMPERATURES, SOFT_WEIGHTS = (2.0, 4.0, 8.0), (0.5, 0.9)


def _rows() -> tuple[Row, ...]:
    rows = [
        Row("teacher", "Teacher", "plain", role="teacher"),
        Row("plain", "Plain student", "plain", role="baseline"),
    ]
    for entry in METHODS:
        rows.append(Row(entry.method, entry.label, entry.method, entry.arguments))
        if methods.get(entry.method).takes_kd:
            rows.append(Row(f"{entry.method}+kd", f"{entry.label} + KD", f"{entry.method}+kd", entry.arguments))
    return tuple(rows)


KD_LABELS = Row("kd-labels", "KD, labels in full", "kd", {"labels_weight": 1.0})


def _controls() -> tuple[Row, ...]:
    rows = (
        Row("label-smoothing", "Plain, smoothed labels", "label-smoothing"),
        Row("plain-tuned", "Plain, tuned", "plain"),
        Row("kd-tuned", "KD, tuned", "kd"),
        Row("kd-untrained", "KD, untrained teacher", "kd"),
        Row("kd-mismatched", "KD, answers of other images", "kd-mismatched"),
        Row("kd-early", "KD, teacher stopped early", "kd"),
        Row("kd-same-images", "KD, teacher of the same images", "kd"),
        Row("kd-self", "KD, teacher like the student", "tf-kd"),  # at these settings its loss is KD's: one training
        KD_LABELS,
        *(Row(key, f"KD again, {key[-1]}", "kd-again", {"copy": int(key[-1])}) for key in AGAIN),
    )
    return tuple(replace(row, role="control") for row in rows)


ROWS = _rows()
#: The methods themselves: those that the second round chooses from.
COMPETING = tuple(row.key for row in ROWS if row.role == "student" and row.key != "kd")

# -- experiments -------------------------------------------------------------------------------------------

#: Rows of the demo, which only shows that everything works, and stays short: a row of your own can stand here, too.
IN_DEMO = {
    *("teacher", "plain", "kd", "crd", "crd+kd", "dkd"),
    *("label-smoothing", "kd-mismatched", "kd-untrained", "kd-again-1"),
}


def build(row: Row, column: Column, profile: Profile) -> Experiment | Absent:
    """A row as an experiment, or why there is none."""
    if profile.embedded_data and row.key not in IN_DEMO:
        return Absent("left out of the demo, which stays short (`IN_DEMO` in kdnb/exhibits/leaderboard.py)")
    if row.key == "kd-same-images" and profile.student_images is None:
        return Absent("students learn from all images there, as their teacher does")
    return experiment(row, column.dataset, profile)


def experiment(row: Row, dataset: str, profile: Profile) -> Experiment:
    """A row under a profile, with its teacher and its recipe."""
    big, small = NETWORKS[profile.scale]
    if row.role == "teacher":
        return slkd.plain(big, profile, dataset, None)
    student = slkd.plain(small, profile, dataset, profile.student_images)
    assert student.recipe is not None, "a row of a table trains a student"
    recipe, needs_teacher = replace(student.recipe, **RECIPES[row.schedule]), methods.get(row.method).needs_teacher
    teacher = _teacher(row, dataset, profile) if needs_teacher else None
    return replace(
        student,
        recipe=recipe,
        method=row.method,
        arguments={**slkd.settings(row.method.partition("+")[0], SETTINGS_OF[profile.scale]), **row.arguments},
        teacher=teacher,
        note=row.schedule or (f"{teacher.note}-teacher" if teacher and teacher.note else ""),
    )


def _teacher(row: Row, dataset: str, profile: Profile) -> Experiment:
    """Who teaches a row: the table's teacher, but for the controls that ask what it is worth."""
    big, small = NETWORKS[profile.scale]
    alike = methods.get(row.method).teacher_alike
    known = slkd.plain(small if alike else big, profile, dataset, None)
    assert known.recipe is not None, "a teacher is trained"
    if row.key == "kd-untrained":
        return replace(known, recipe=replace(known.recipe, epochs=1, lr=0.0, milestones=()), note="untrained")
    if row.key == "kd-early":
        return replace(known, recipe=replace(known.recipe, epochs=known.recipe.epochs // 8), note="stopped-early")
    if row.key == "kd-same-images":
        return replace(slkd.plain(big, profile, dataset, profile.student_images), note="same-images")
    return known


# -- settings that are searched for, and the five best -----------------------------------------------------


def _searched(row: Row, column: Column, profile: Profile) -> Experiment | Absent:
    """A candidate of the search: a tenth of the training images, from which no candidate learns, chooses."""
    if profile.scale != "pilot":
        return Absent("the search is made at pilot scale; other scales take its choice")
    found = experiment(row, column.dataset, profile)
    return replace(found, images=_held_out(found.images))


def _held_out(images: Images) -> Images:
    return replace(images, split="held-out")


TUNING = Exhibit(
    PAPER,
    "tuning",
    "The search for settings of the plain student and of KD",
    (
        *(
            Row(f"plain-{name}", f"Plain, {name.replace('-', ' ')}", "plain", role="baseline", schedule=name)
            for name in RECIPES
            if name.startswith("lr-")
        ),
        *(
            Row(
                f"kd-{t:g}-{weight:g}",
                f"KD, temperature {t:g}, weight {weight:g}",
                "kd",
                {"temperature": t, "soft_weight": weight, "labels_weight": round(1 - weight, 2)},
            )
            for t in TEMPERATURES
            for weight in SOFT_WEIGHTS
        ),
    ),
    (Column("cifar100"),),
    _searched,
    ablation=True,
    study_seeds=1,
    seeds_between=(0, 0),
    for_own_images=True,
)


def _tuned(profile: Profile, dataset: str) -> dict[str, Row | Absent]:
    """The tuned rows with the settings that were best in the search on these images; `Absent` until all is measured."""
    if profile.embedded_data:
        return dict.fromkeys(("plain-tuned", "kd-tuned"), Absent("the demo searches for no settings"))
    store = Store.open()
    tuning, found = TUNING.on(dataset), dict[str, Row | Absent]()
    for key, method in (("plain-tuned", "plain"), ("kd-tuned", "kd")):
        row = next(row for row in _controls() if row.key == key)
        cells = [cell for cell in tuning.cells("pilot") if cell.row.method == method]
        chosen = search(cells, lambda cell, record: record.history["validation_accuracy"][-1], store)
        if chosen.left:
            runs = tuple(run for cell in cells for run in cell.runs(1))
            found[key] = Awaited(f"its settings are not chosen yet: {_command(tuning)}", runs)
        elif chosen.best is None:
            found[key] = Absent("all candidates of its search diverged")
        else:
            found[key] = replace(row, arguments=chosen.best.arguments, schedule=chosen.best.schedule)
    return found


def _command(exhibit: Exhibit) -> str:
    """What trains a table at pilot scale."""
    (dataset,) = exhibit.datasets
    own = f" --dataset {dataset}" if datasets.is_own(dataset) else ""
    return f"`kdnb study --exhibit {exhibit.key} --profile pilot{own}`"


FIRST = Exhibit(
    PAPER,
    "first",
    "All methods, the first round",
    (*ROWS, *_controls()),
    (Column("cifar100"),),
    build,
    ablation=True,
    seeds_between=(1, 10),
    choose=_tuned,
    for_own_images=True,
)
#: How many methods go on to the second round, and beside whom.
FINALISTS, BESIDE = 5, {"teacher", "plain", "kd"}


def _finalists(profile: Profile, dataset: str) -> dict[str, Row | Absent]:
    """Who has no part in the second round, and why: all but plain, KD and the five best of the first.

    They are chosen by the seeds that the first round asks for, a method that diverged at one of these after all others.
    Who has begun stays in when a method is added to the first round later, and is shown meanwhile once it has all of
    its seeds.
    """
    if profile.embedded_data:
        return dict.fromkeys((row.key for row in ROWS), Absent("the demo has one round"))
    store, first, second = Store.open(), FIRST.on(dataset), SECOND.on(dataset)
    begun = Counter(cell.row.key for cell, _ in runs_of(second.every(profile), store) if cell.row.key in COMPETING)
    chosen = {key for key, count in begun.items() if count >= SECOND.study_seeds}
    if len(chosen) < FINALISTS:
        cells, seeds = first.cells(profile, asked=COMPETING), range(1, first.seeds(profile) + 1)
        scores: dict[str, list[float]] = {key: [] for key in COMPETING}
        for cell, record in runs_of(cells, store):
            if record.seed in seeds:
                scores[cell.row.key].append(cell.score.of(record))
        lost = {cell.row.key: len({*diverged(cell, store)} & {*seeds}) for cell in cells}
        if any(len(scores[key]) + lost[key] < len(seeds) for key in COMPETING):
            runs = tuple(run for cell in cells for run in cell.runs(len(seeds)))
            why = "the first round is not finished, which chooses the five best"
            waits = Awaited(why, runs, whole_table=True)
            return {row.key: waits for row in ROWS if not begun or row.key not in {*begun} | BESIDE}
        whole = [key for key in COMPETING if scores[key]]
        best = sorted(whole, key=lambda key: (key not in begun, lost[key], -sum(scores[key]) / len(scores[key])))
        chosen = {*best[:FINALISTS]}
    why = "not among the five best of the first round"
    return {row.key: Absent(why) for row in ROWS if row.key not in chosen | BESIDE}


SECOND = Exhibit(
    PAPER,
    "second",
    "The five best, the second round: fresh seeds",
    ROWS,
    (Column("cifar100"),),
    build,
    ablation=True,
    study_seeds=10,
    seeds_between=(11, 20),
    choose=_finalists,
    for_own_images=True,
)


def _beyond_the_demo(row: Row, column: Column, profile: Profile) -> Experiment | Absent:
    if profile.embedded_data:
        return Absent("left out of the demo, which stays short (`IN_DEMO` in kdnb/exhibits/leaderboard.py)")
    return experiment(row, column.dataset, profile)


#: Label -> how many of the recipe's epochs, and the recipe's name.
PATIENCE: Mapping[str, tuple[int, str]] = {"": (1, ""), ", twice": (2, "twice"), ", four times": (4, "four-times")}
PATIENT = Exhibit(
    PAPER,
    "patience",
    "Do gains fade with longer training?",
    tuple(
        replace(row, key=row.key + (f"-{name}" if name else ""), label=row.label + more, schedule=name)
        for row in ROWS
        if row.key in ("plain", "kd", "crd+kd", "fitnet+kd")
        for more, (_, name) in PATIENCE.items()
    ),
    (Column("cifar100"),),
    _beyond_the_demo,
    ablation=True,
    seeds_between=(1, 10),
    for_own_images=True,
)


#: What may make DKD's gain beside taking the divergence apart: the weight of its second part, and labels in full.
WEIGHTS = Exhibit(
    PAPER,
    "weights",
    "Is DKD's gain its weights'?",
    (
        *(row for row in ROWS if row.key in ("plain", "kd", "dkd")),
        Row("dkd-2", "DKD, beta 2", "dkd", {"beta": 2.0}),
        Row("dkd-1", "DKD, beta 1", "dkd", {"beta": 1.0}),
        KD_LABELS,
    ),
    (Column("cifar100"),),
    _beyond_the_demo,
    ablation=True,
    seeds_between=(1, 10),
    for_own_images=True,
)

#: Two rows of the first round that are odd, at other weights: IE-FT's feature term has a tenth of FT's, and the weight
#: that information flow has from PKT makes a term some ten times PKT's.
ODD = Exhibit(
    PAPER,
    "odd-weights",
    "Are two odd rows odd by their weights?",
    (
        *(row for row in ROWS if row.key in ("plain", "ft", "ie-ft", "pkt-joint", "information-flow-joint")),
        Row("ft-50", "FT, weight 50", "ft", {"weight": 50.0}),
        Row("ie-ft-500", "IE-FT, inheritance 500", "ie-ft", {"inheritance_weight": 500.0}),
        Row(
            "information-flow-3000",
            "Information flow, beside the labels, weight 3,000",
            "information-flow-joint",
            {"weight": 3_000.0},
        ),
    ),
    (Column("cifar100"),),
    _beyond_the_demo,
    ablation=True,
    seeds_between=(1, 10),
    for_own_images=True,
)


def on(dataset: str) -> tuple[Exhibit, Exhibit, Exhibit, Exhibit]:
    """The tables on a data set, CIFAR-100 or a reader's own: first round, second round, search, patience."""
    first, second, search, patient = (exhibit.on(dataset) for exhibit in (FIRST, SECOND, TUNING, PATIENT))
    return first, second, search, patient


#: Row -> who chose its settings; what is joined to cross-entropy, and how.
SETTINGS = {
    row.key: entry.settings + (f"; {entry.joined}" if entry.joined else "")
    for entry in METHODS
    for row in ROWS
    if row.method.partition("+")[0] == entry.method
}

LEADERBOARD = Paper(PAPER, (FIRST, SECOND), (TUNING, PATIENT, WEIGHTS, ODD), named="Leaderboard")
assert set(PROFILES) == set(NETWORKS)
