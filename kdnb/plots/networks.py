"""Trained networks seen from within: relevance in images, the loss under noise, and how alike stages are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdnb.exhibits import Exhibit
from kdnb.exhibits.names import network_title
from kdnb.plots.kept import Found, Kept, find, plot
from kdnb.plots.panels import grid, labels, legend_below
from kdnb.plots.style import WIDTH, Plot, colour
from kdnb.study.statistics import summaries
from kdnb.tables.words import NOT_YET

#: The maps of a run, in the order in which they are kept, and what stands behind the row's label.
PARTS = {"whole": "", "inheriting": "inheriting part", "exploring": "exploring part"}
#: A row of an exhibit and which of its maps.
Shown = tuple[str, str]


# -- relevance ---------------------------------------------------------------------------------------------


def relevances(exhibit: Exhibit | str, maps: Sequence[Shown], profile: str = "demo", name: str = "") -> Plot:
    """Test images, and beside each where in it the true class is seen: a column for each of `maps`.

    Red speaks for the class, blue against it.  Maps of one network and image have one scale, so that parts can be
    compared with each other, but not networks.
    """
    found = find(exhibit, profile, list(dict.fromkeys(row for row, _ in maps)), ("relevance_maps", "shown_classes"))
    caption = "Where a network sees the image's true class: red pixels speak for it, blue ones against it, and all of "
    caption += "them add up to the logit. Parts add up to the whole; scales are each network's own."
    parts = [_sums(found.kept[row], part) for row, part in maps if row in found.kept]
    columns, draw = ["line", "part", "true", "predicted", "sum"], lambda: _beside_images(found, maps)
    return plot(found, (name, "relevance"), caption, draw, parts, columns, _recognised_told)


def _beside_images(found: Found, maps: Sequence[Shown]) -> Figure:
    some = next(iter(found.kept.values()))
    count, columns = len(some.arrays["pictures"]), 1 + len(maps)
    side = WIDTH / max(columns, 5)
    figure = Figure(figsize=(side * columns, side * count + 0.7))
    places = figure.subplots(count, columns, squeeze=False)
    for axes, picture, classes in zip(places[:, 0], some.arrays["pictures"], some.arrays["shown_classes"], strict=True):
        axes.imshow(picture)
        axes.set_ylabel(f"class {classes[0]}")
    for column, shown in enumerate(maps, start=1):
        for image in range(count):
            _map(places[image, column], found, shown, image)
        places[0, column].set_title(_called(found, shown), fontsize=8)
    places[0, 0].set_title("image", fontsize=8)
    for axes in places.flat:
        axes.grid(False)
        axes.set(xticks=[], yticks=[])
    return figure


def _called(found: Found, shown: Shown) -> str:
    row, part = shown
    return "\n".join(word for word in (labels(found.exhibit)[row], PARTS[part]) if word)


def _map(axes: Axes, found: Found, shown: Shown, image: int) -> None:
    row, part = shown
    if row not in found.kept:
        axes.text(0.5, 0.5, NOT_YET, ha="center", va="center", fontsize=7, color="#555555", transform=axes.transAxes)
        return
    arrays = found.kept[row].arrays
    maps = arrays["relevance_maps"][image]
    limit = float(np.abs(maps).max()) or 1.0
    axes.imshow(maps[list(PARTS).index(part)], cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    true, predicted = arrays["shown_classes"][image]
    if true != predicted:
        axes.set_xlabel(f"taken for {predicted}", fontsize=7)


def _recognised_told(kept: Kept) -> str:
    """How many images are recognised, and what the maps add up to."""
    true, predicted = kept.arrays["shown_classes"].T
    logits = ", ".join(f"{logit:.1f}" for logit in kept.arrays["relevance_maps"][:, 0].sum((1, 2)))
    return f"{(true == predicted).sum()} of {len(true)} images recognised, logits of their true classes {logits}"


def _sums(kept: Kept, part: str) -> pd.DataFrame:
    true, predicted = kept.arrays["shown_classes"].T
    sums = kept.arrays["relevance_maps"][:, list(PARTS).index(part)].sum((1, 2)).round(3)
    return pd.DataFrame({"true": true, "predicted": predicted, "sum": sums}).assign(line=kept.cell.row.key, part=part)


# -- noise -------------------------------------------------------------------------------------------------


def noise(exhibit: Exhibit | str, profile: str = "demo", name: str = "") -> Plot:
    """How the loss of training images rises when noise is added to all that was learned: a line a row.

    On the left the noise is of one size for all weights, on the right of a share of each filter's length.
    """
    found = find(exhibit, profile, None, ("noise", "noise_rise", "relative_noise", "relative_noise_rise"))
    parts = [_rises(kept, kind) for kept in found.kept.values() for kind in ("noise", "relative_noise")]
    caption = "How much the cross-entropy of training images rises when Gaussian noise is added to all learned weights"
    caption += ": means over draws, which are the same for all lines; bands are 95 % intervals over draws, not over "
    caption += "seeds. On the left noise of one size, on the right in proportion to the length of each filter."
    before = [(kept.cell.row.label, kept.record.metrics.get("training_loss")) for kept in found.kept.values()]
    told = [f"{label} {loss:.3f}" for label, loss in before if loss is not None]
    caption += f" Without noise the loss is: {', '.join(told)}." if told else ""
    columns, draw = ["line", "kind", "scale", "draws", "mean", "low", "high"], lambda: _under_noise(found, parts)
    return plot(found, (name, "noise"), caption, draw, parts, columns, _rises_told)


def _rises(kept: Kept, kind: str) -> pd.DataFrame:
    """The mean rise and its interval over draws, scale by scale, from nothing where there is no noise."""
    scales, rises = kept.arrays[kind], kept.arrays[f"{kind}_rise"]
    runs = pd.DataFrame(rises, columns=[f"{scale:g}" for scale in scales]).melt(var_name="row", value_name="value")
    lines = [(0.0, len(rises), 0.0, 0.0, 0.0)]
    lines += [(float(s.row), s.n, s.mean, s.low, s.high) for s in summaries(runs)]
    found = pd.DataFrame(lines, columns=["scale", "draws", "mean", "low", "high"])
    return found.assign(line=kept.cell.row.key, kind=kind)


def _rises_told(kept: Kept) -> str:
    """Where both lines end."""
    one, other = (_rises(kept, kind).iloc[-1] for kind in ("noise", "relative_noise"))
    told = f"the loss rises by {one['mean']:.2g} nats under noise of standard deviation {one['scale']:g}"
    return f"{told}, by {other['mean']:.2g} under noise {other['scale']:g} times as long as each filter"


def _under_noise(found: Found, parts: Sequence[pd.DataFrame]) -> Figure:
    figure, places = grid(2, 2.6)
    frame = pd.concat(parts)
    kinds = {"noise": "standard deviation of the noise", "relative_noise": "length of the noise, filter's length = 1"}
    for axes, (kind, what) in zip(places, kinds.items(), strict=True):
        for line, part in frame[frame["kind"] == kind].groupby("line", sort=False):
            hue = colour(str(line))
            axes.plot(part["scale"], part["mean"], color=hue, label=labels(found.exhibit)[str(line)])
            axes.fill_between(part["scale"], part["low"], part["high"], color=hue, alpha=0.2, linewidth=0)
        axes.set(xlabel=what, ylabel="rise of the loss, nats", xlim=(0, None))
    legend_below(figure, places, 4)
    return figure


# -- stages ------------------------------------------------------------------------------------------------


def stages(exhibit: Exhibit | str, profile: str = "demo", name: str = "", rows: Sequence[str] | None = None) -> Plot:
    """How alike the stages of student and teacher are: linear CKA of each with each, a panel a row."""
    found = find(exhibit, profile, rows, ("stage_cka",))
    caption = "How alike the stages of student (down) and teacher (across) are on the test images: linear CKA of the "
    caption += "channels' means, unbiased; 1 is alike but for a rotation, 0 as alike as chance."
    parts, columns = map(_by_stage, found.kept.values()), ["line", "student", "teacher", "cka"]
    return plot(found, (name, "stages"), caption, lambda: _tables_of_stages(found), parts, columns, _alike_told)


def _tables_of_stages(found: Found) -> Figure:
    figure, places = grid(len(found.kept), 2.5, below=0.0)
    for axes, kept in zip(places, found.kept.values(), strict=True):
        values, experiment = kept.arrays["stage_cka"], kept.cell.experiment
        assert experiment is not None and experiment.teacher is not None
        axes.imshow(values, cmap="viridis", vmin=0, vmax=1)
        for (student, teacher), value in np.ndenumerate(values):
            shade = "black" if value > 0.6 else "white"
            axes.text(teacher, student, f"{value:.2f}", ha="center", va="center", color=shade, fontsize=8)
        axes.grid(False)
        axes.set(title=kept.cell.row.label, xlabel=f"stage of {network_title(str(experiment.teacher.network))}")
        axes.set_ylabel(f"stage of {network_title(str(experiment.network))}")
        for ticks, count in ((axes.set_xticks, values.shape[1]), (axes.set_yticks, values.shape[0])):
            ticks(range(count), [str(stage + 1) for stage in range(count)])
    return figure


def _alike_told(kept: Kept) -> str:
    """For each stage of the student the one of the teacher that is most like it."""
    values = kept.arrays["stage_cka"]
    return "; ".join(
        f"stage {stage} is most like the teacher's stage {of.argmax() + 1} ({of.max():.2f})"
        for stage, of in enumerate(values, start=1)
    )


def _by_stage(kept: Kept) -> pd.DataFrame:
    values = kept.arrays["stage_cka"]
    student, teacher = np.indices(values.shape) + 1
    found = {"student": student.ravel(), "teacher": teacher.ravel(), "cka": values.ravel().round(4)}
    return pd.DataFrame(found).assign(line=kept.cell.row.key)
