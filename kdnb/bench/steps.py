"""`kdnb bench --methods`: what each method's stages cost beside KD's step, each alone: time, memory, parameters.

Of every method of the package with its defaults, on one pair of networks; or of a table's rows as the table has them:
its networks, its images, its batches, the arguments of each row.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kdnb import datasets, exhibits, methods
from kdnb.bench import speed
from kdnb.bench.load import Pace, others
from kdnb.bench.track import Entrant, Track, device_name, rounded
from kdnb.errors import KdnbError
from kdnb.exhibits import Cell
from kdnb.exhibits.costs import networks_of
from kdnb.exhibits.exhibit import Networks
from kdnb.methods.registry import KD, KD_DEFAULTS
from kdnb.methods.stage import Stage
from kdnb.study.experiment import Experiment, Images
from kdnb.study.store import Store
from kdnb.study.workbench import Workbench
from kdnb.training import numerics as numerics_module
from kdnb.training.cohort import Cohort, Material
from kdnb.training.numerics import Numerics


@dataclass(frozen=True)
class Programme:
    """Who is timed, KD among them, and on which images; those of every bench where none are named.

    `table` says whose settings methods have, `leaderboard/first at pilot scale`, and is empty where they have their
    defaults.  With `all_asked` everyone was asked for by name: who cannot have the networks is an error.
    """

    entrants: tuple[Entrant, ...]
    networks: Networks
    images: Images | None = None
    table: str = ""
    all_asked: bool = False


def of_catalogue(only: Sequence[str] | None = None) -> Programme:
    """Every method with its defaults, or KD and some; but for those whose step another method's measurement tells."""
    big, small = networks = speed.TEACHER, speed.STUDENT
    known = methods.catalogue()
    alone = [name for name, method in known.items() if not method.step_of]
    every = [*alone, *(f"{name}+kd" for name in alone if known[name].takes_kd)]
    names = every if only is None else list(dict.fromkeys([KD, *only]))
    entrants = (Entrant(name, small if methods.get(name).teacher_alike else big, small, speed.RECIPE) for name in names)
    return Programme(tuple(entrants), networks, all_asked=only is not None)


def of_table(exhibit: str, profile: str, only: Sequence[str] | None = None) -> Programme:
    """KD and the methods of a table's rows, or of some, with what the table gives them under a profile.

    Of rows that share a method the first with the table's networks is timed, else the first.  Raises KdnbError where
    none can run, and for rows of several pairs of networks, one of which has to be named.
    """
    table = exhibits.get(exhibit)
    dataset = table.datasets_of(profile)[0]
    asked = _taught(table.cells(profile, dataset, only))
    if not asked:
        raise KdnbError(f"None of these rows of {exhibit} can run under profile '{profile}'.")
    pairs = dict.fromkeys(cell.column.pair.key for cell in asked if cell.column.pair)
    if len(pairs) > 1:
        raise KdnbError(f"{exhibit} has several pairs of networks; name one of them: --only {' or '.join(pairs)}.")
    beside = [cell for cell in _taught(table.cells(profile, dataset)) if cell.column == asked[0].column]
    networks = networks_of(beside) or networks_of(asked)
    if networks is None:
        raise KdnbError(f"Nobody teaches in {exhibit}: there is no KD to compare its steps with.")
    first = [cell for cell in beside if cell.row.method == KD and networks_of([cell]) == networks][:1]
    entrants: dict[str, Entrant] = {}
    for entrant in _entrants([*first, *sorted(asked, key=lambda cell: networks_of([cell]) != networks)], networks):
        entrants.setdefault(entrant.method, entrant)
    return Programme(
        entrants=tuple(entrants.values()),
        networks=networks,
        images=next(cell.experiment.images for cell in asked if cell.experiment),
        table=f"{exhibit} at {asked[0].profile.name} scale",
        all_asked=only is not None,
    )


def measured(
    programme: Programme, numerics: Numerics, rounds: int = 3, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Each stage's time as a ratio to KD's, its memory and its parameters, as the book reads them.

    A ratio is taken within a round; told are their median, the lowest and the highest.  Raises KdnbError where one that
    was asked for cannot have the networks.
    """
    numerics_module.apply(numerics)
    material, classes, source = _material(programme.images, numerics, say)
    track = Track(numerics, material, classes, say)
    stages = _stages(programme, track)
    cohorts = {key: track.cohort([stage], entrant.teacher) for key, (entrant, stage) in stages.items()}
    paces: dict[tuple[str, str], list[Pace]] = {key: [] for key in cohorts}
    memory: dict[tuple[str, str], float | None] = {}
    steps = dict.fromkeys(cohorts, 100 if numerics.device == "cuda" else 6)
    for turn in range(rounds):
        for key, gib, pace in speed.one_round(track, cohorts, steps):
            memory[key] = gib
            paces[key].append(pace)
            track.tell(turn + 1, " / ".join(key), pace)
    of_kd = paces[KD, "train"]
    return {
        "device": device_name(numerics),
        "networks": " -> ".join(programme.networks),
        **({"table": programme.table} if programme.table else {}),
        "images": source,
        "numerics": numerics.as_dict(),
        "rounds": rounds,
        "others": others([pace for of in paces.values() for pace in of]),
        "methods": [
            {
                **_told(*stages[key], cohort),
                "microseconds_per_image": round(statistics.median(1e6 / pace.rate for pace in paces[key]), 1),
                **_ratios([kd.rate / pace.rate for pace, kd in zip(paces[key], of_kd, strict=True)]),
                "peak_gib": rounded(memory[key]),
                "extra_parameters": _trained(stages[key][1]),
            }
            for key, cohort in cohorts.items()
        ],
    }


# -- who is timed ------------------------------------------------------------------------------------------


def _taught(cells: Iterable[Cell]) -> list[Cell]:
    """The cells that can run and train a student."""
    return [cell for cell in cells if cell.experiment and cell.experiment.network and cell.row.role != "teacher"]


def _entrants(cells: Iterable[Cell], networks: Networks) -> Iterator[Entrant]:
    """Everyone whom these cells ask for, KD first: from KD's cell if it is the first, else with its defaults.

    All with these networks, so that their steps compare, whoever teaches a row; only what teaches itself has its own.
    """
    for number, cell in enumerate(cells):
        experiment = cell.experiment
        assert experiment is not None and experiment.network and experiment.recipe, "only students are asked"
        wanted = _with_steps(experiment)
        if number == 0 and KD not in wanted:
            yield Entrant(KD, *networks, experiment.recipe)
        for name, arguments in wanted.items():
            teacher = networks[1] if methods.get(name).teacher_alike else networks[0]
            yield Entrant(name, teacher, networks[1], experiment.recipe, arguments)


def _with_steps(experiment: Experiment) -> dict[str, Mapping[str, Any]]:
    """Method -> arguments: the steps of the teacher alone that an experiment goes on from, its method without KD where
    that has first steps, and its method, or the one whose step does the same work.
    """
    method, arguments = methods.get(experiment.method), experiment.arguments
    found: dict[str, Mapping[str, Any]] = {step: method.passed_on(step, arguments) for step in method.after}
    if method.with_kd and method.shared:
        alone = {name: value for name, value in arguments.items() if name not in KD_DEFAULTS}
        found[method.name.removesuffix("+kd")] = alone
    return found | ({method.step_of: {}} if method.step_of else {method.name: arguments})


def _stages(programme: Programme, track: Track) -> dict[tuple[str, str], tuple[Entrant, Stage]]:
    """Every stage that is timed, by method and name: of a method with KD the last, since the others are told once."""
    found = {}
    for entrant in programme.entrants:
        try:
            stages = track.stages(entrant)
        except KdnbError as error:
            if programme.all_asked:
                raise
            track.say(f"{entrant.method} is left out: {error}")
            continue
        for stage in stages if "+" not in entrant.method else stages[-1:]:
            found[entrant.method, stage.name] = entrant, stage
    return found


def _material(images: Images | None, numerics: Numerics, say: Callable[[str], None]) -> tuple[Material, int, str]:
    """What is trained on, its classes, and what it is called; few images validate where an epoch ends meanwhile."""
    if images is None:
        pixels, labels, classes, source = speed.images()
        return speed.material(pixels, labels, numerics), classes, source
    material, _ = Workbench(Store.open(), numerics, say).material(images, seed=1)
    count, info = len(material.training), datasets.info(images.dataset)
    few = replace(material, validation=material.validation.first(speed.EVALUATED))
    return few, info.num_classes, f"{count:,} images of {info.title}"


# -- what is told of them ----------------------------------------------------------------------------------


def _told(entrant: Entrant, stage: Stage, cohort: Cohort) -> dict[str, Any]:
    arguments = {"arguments": dict(entrant.arguments)} if entrant.arguments else {}
    return {"method": entrant.method, "stage": stage.name, "batch_size": cohort.batch_size, **arguments}


def _ratios(of: Sequence[float]) -> dict[str, float]:
    found = {"ratio_to_kd": statistics.median(of), "lowest": min(of), "highest": max(of)}
    return {name: round(ratio, 3) for name, ratio in found.items()}


def _trained(stage: Stage) -> int:
    """How many parameters the turns of a stage train beside its student's; where it has none, all that they train."""
    student = stage.modules.get("student")
    students = {id(p) for p in student.parameters()} if student is not None else set()
    trained = {id(p): p for turn in stage.turns for module in turn.trainable for p in module.parameters()}
    return sum(p.numel() for key, p in trained.items() if key not in students)
