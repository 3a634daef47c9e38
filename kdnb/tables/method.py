"""What a method's page says beside its results: its parameters, and what selecting an epoch does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from kdnb import exhibits, methods
from kdnb.exhibits import Exhibit, Part
from kdnb.exhibits.exhibit import Asked
from kdnb.exhibits.names import network_title, pair_title
from kdnb.exhibits.show import Shown, published
from kdnb.methods.recipe import Recipe
from kdnb.study.experiment import Experiment
from kdnb.study.profile import get_profile
from kdnb.study.statistics import one_sample
from kdnb.study.store import Store
from kdnb.tables.results import measured
from kdnb.tables.sheet import Table, line
from kdnb.tables.words import NOT_YET, scale_title, slug, spread, title

#: What these are called belongs to the training: a method's argument of that name is told as the method's.
OF_TRAINING = {"momentum", "optimiser"}


def parameters(exhibit: Exhibit | str, rows: Sequence[Asked], *, name: str = "") -> Table:
    """The settings of rows as the paper has them, one column a row, where data sets differ both values.

    Below them stands what a smaller scale changes, for every one that has runs of these rows.
    """
    exhibit = exhibits.get(exhibit)
    chosen = exhibit.parts(rows)
    there = set(measured(exhibit, chosen, Store.open(), "paper")["profile"])
    scales = [scale for scale in ("short", "pilot") if scale in there]
    papers = [_settings_of(exhibit, row) for row in chosen]
    smaller = [_at_smaller(exhibit, row, scales) for row in chosen]
    keys = list(dict.fromkeys(key for column in [*papers, *smaller] for key in column))
    columns = [paper | here for paper, here in zip(papers, smaller, strict=True)]
    body = [line(key, *(column.get(key, "–") for column in columns)) for key in keys]
    frame = pd.DataFrame(
        {"setting": keys} | {r.key: [c.get(k) for k in keys] for r, c in zip(chosen, columns, strict=True)}
    )
    several = " / ".join(title(d) for d in exhibit.datasets)
    differ = f"; where the data sets differ: {several}" if len(exhibit.datasets) > 1 else ""
    to_choose = any(cell.awaits for row in chosen for cell in exhibit.cells("paper", None, [row]))
    choice = " Of values with “or” a grid of runs chooses one, once all of it is trained." if to_choose else ""
    return Table(
        name=name or slug(f"parameters {chosen[-1].key}"),
        caption=f"Parameters at paper scale{differ}.{choice}",
        head=[line("Setting", *(row.title for row in chosen))],
        body=body,
        frame=frame,
        note=_OWN_ARGUMENTS if any(methods.get(row.row.method).defaults for row in chosen) else "",
    )


_OWN_ARGUMENTS = "Settings without a word on the training are the method's own, by the names that its code explains."


def _at_smaller(exhibit: Exhibit, row: Part, scales: Sequence[str]) -> dict[str, str]:
    """What a smaller scale changes: networks, epochs, milestones, and how many images a student sees; of several data
    sets, where they differ, one value after the other.
    """
    found: dict[str, dict[str, None]] = {}
    for scale in scales:
        profile = get_profile(scale)
        for cell in exhibit.cells(scale, None, [row]):
            if cell.experiment is not None:
                recipe, images = _recipe(cell.experiment), cell.experiment.images.student_images
                told = {
                    f"{scale}: networks": _networks(cell.experiment),
                    f"{scale}: epochs": str(profile.scaled(recipe.epochs)),
                    f"{scale}: × {recipe.factor:g} after epochs": _after(map(profile.scaled, recipe.milestones)),
                    f"{scale}: training images": "all" if images is None else f"{images:,}",
                }
                for key, value in told.items():
                    found.setdefault(key, {})[value] = None
    return {key: " / ".join(values) for key, values in found.items()}


def _after(milestones: Iterable[int]) -> str:
    """The epochs after which a learning rate falls: `150, 180`, or `none`."""
    return ", ".join(map(str, milestones)) or "none"


def _recipe(experiment: Experiment) -> Recipe:
    assert experiment.recipe is not None, "a row of a table trains a student"
    return experiment.recipe


def _networks(experiment: Experiment) -> str:
    if experiment.teacher is not None:
        return pair_title(str(experiment.teacher.network), str(experiment.network))
    return network_title(str(experiment.network))


def _settings_of(exhibit: Exhibit, row: Part) -> dict[str, str]:
    """Every setting, with all its values where data sets differ, or where runs of a grid are still to choose one."""
    cells = exhibit.cells("paper", None, [row])
    told = [_settings(cell.experiment) for cell in cells if cell.experiment]
    chosen_from = [_settings(run.experiment) for cell in cells for run in cell.awaits]
    found = {}
    for key in dict.fromkeys(key for settings in (*told, *chosen_from) for key in settings):
        values = dict.fromkeys(settings[key] for settings in (*told, *chosen_from) if key in settings)
        found[key] = (" or " if chosen_from else " / ").join(values)
    return found


def _settings(experiment: Experiment) -> dict[str, str]:
    recipe = _recipe(experiment)
    best = {"best": "best validation accuracy", "steps": "best validation accuracy where a rate's epochs end"}
    chosen = best.get(recipe.selection, "last epoch")
    settings: dict[str, Any] = {
        "networks": _networks(experiment),
        "epochs": recipe.epochs,
        "learning rate": recipe.lr,
        f"× {recipe.factor:g} after epochs": _after(recipe.milestones),
        "batch size": recipe.batch_size,
        **_optimiser(recipe),
        "weight decay": recipe.weight_decay,
        "selected epoch": chosen,
    }
    for name, value in methods.get(experiment.method).arguments(experiment.arguments).items():
        told = name.replace("_", " ")
        settings[f"{told} of the method" if told in {*settings, *OF_TRAINING} else told] = value
    return {k: _told(v) for k, v in settings.items()}


def _optimiser(recipe: Recipe) -> dict[str, Any]:
    """SGD by its momentum; another optimiser by its name, and when it begins afresh."""
    if recipe.optimiser == "sgd":
        return {"momentum": recipe.momentum}
    afresh = {"never": "", "drop": ", anew where the rate drops", "epoch": ", anew each epoch"}[recipe.restart]
    norms = {"one": "1", "uniform": "U(0, 1)"}[recipe.norm_scale]
    return {"optimiser": recipe.optimiser.capitalize() + afresh, "scales of batch norms begin at": norms}


def _told(value: Any) -> str:
    if value is None:
        return "calibrated"
    if isinstance(value, tuple | list):
        return ", ".join(str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def selection(runs: Shown, *, name: str = "selection") -> list[Table]:
    """The protocol's score beside the last epoch's, by row: the same runs, read in two ways, at each scale."""
    return [_selection(part, slug(f"{name} {part.profile} {part.cells[0].dataset}")) for part in at_scales(runs)]


def _selection(runs: Shown, name: str) -> Table:
    body, lines = [], []
    for cell in runs.cells:
        part = runs.frame[runs.frame["row"] == cell.key]
        if part.empty:
            body.append(line(cell.row.label, NOT_YET, "–", "–", "–"))
            continue
        difference = part["value"] - part["last"]
        readings = [spread(part["value"]), spread(part["last"]), spread(difference), spread(part["all_images"])]
        body.append(line(cell.title, *readings))
        means = part[["value", "last", "all_images"]].mean()
        lines.append({"row": cell.key, **means, "difference": difference.mean(), "runs": len(part)})
    return Table(
        name=name,
        caption=f"The selected epoch and the last, {scale_told(runs)}; percent, mean ± standard deviation (runs).",
        head=[line("Row", "Selected epoch", "Last epoch", "Difference", "Selected, all test images")],
        body=body,
        frame=pd.DataFrame(lines).round(4),
        note=_over_all(runs.frame),
        of_demo=runs.profile == "demo",
    )


def _over_all(runs: pd.DataFrame) -> str:
    """The mean difference over the rows, each once, with an interval that takes them for a sample of methods."""
    by_row = (runs["value"] - runs["last"]).groupby(runs["row"]).mean()
    if len(by_row) < 2:
        return ""
    d = one_sample("selected", "last", by_row.to_numpy())
    return f"Selected less last, mean over {len(by_row)} rows: {d.value:+.2f} [{d.low:.2f}, {d.high:.2f}]."


def at_scales(runs: Shown) -> list[Shown]:
    """The same rows at every scale that the study has measured, then as the notebook shows them."""
    return [*published(runs), runs]


def scale_told(runs: Shown) -> str:
    """`measured at pilot scale, CIFAR-100`."""
    scale = scale_title(runs.profile, runs.frame)
    return f"{scale[0].lower()}{scale[1:]}, {title(runs.cells[0].dataset)}"
