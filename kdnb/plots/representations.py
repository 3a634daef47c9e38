"""What a student makes of the test images: its features in the plane, and its logits beside its teacher's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdnb import exhibits
from kdnb.analysis.representation import logit_gap
from kdnb.exhibits import Cell, Exhibit, Pair
from kdnb.plots.panels import Panel, labels, nothing_yet, scales_told, strongest
from kdnb.plots.style import WIDTH, Plot, style
from kdnb.study.record import Record
from kdnb.study.store import Store
from kdnb.tables.results import NOT_YET, TITLES, slug

#: The paper's figure divides gaps by this and shows them from 0 to 1.
DIVISOR = 3.0
#: Classes beyond these have the colours of others again, as in the paper's figure.
CLASS_COLOURS = np.array(sns.color_palette("tab10"))
#: The size of a point in the paper's figure, and how many there are; fewer are drawn larger.
POINT_SIZE, POINTS, LARGEST_POINT = 1.0, 10_000, 8.0
LINES = ("kd", "slkd")


@dataclass(frozen=True)
class _Kept:
    """One run with the arrays that lie beside its record."""

    cell: Cell
    record: Record
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class _Found:
    """What is drawn for the first pair of networks that has the arrays: by line a run of the lowest common seed."""

    exhibit: Exhibit
    lines: Sequence[str]
    panel: Panel | None
    kept: Mapping[str, _Kept]


def planes(
    exhibit: Exhibit | str = "slkd/fig5", profile: str = "demo", name: str = "", lines: Sequence[str] = LINES
) -> Plot:
    """The test images as points of the plane, coloured by class: t-SNE of the student's features, a panel a line.

    For the first of the exhibit's pairs of networks whose arrays are kept, at its strongest scale.
    """
    found = _find(exhibit, profile, lines, ("plane", "labels"))
    with style():
        figure = _side_by_side(found, _points, 3.9)
    several = any(k.arrays["labels"].max() >= len(CLASS_COLOURS) for k in found.kept.values())
    caption = "The student's features of all test images in the plane (t-SNE), coloured by class"
    caption += " in ten colours, over and over." if several else "."
    caption += " Separability is the mean silhouette of the features themselves, between −1 and 1."
    frame = _table((_points_of(k) for k in found.kept.values()), ["line", "x", "y", "label"])
    return _plot(figure, name or slug(f"planes {found.exhibit.key}"), caption, found, frame)


def logit_gaps(
    exhibit: Exhibit | str = "slkd/fig6", profile: str = "demo", name: str = "", lines: Sequence[str] = LINES
) -> Plot:
    """How far the mean logits of student and teacher are apart, class by class: |M_S − M_T| / 3, the diagonal 0.

    For the first of the exhibit's pairs of networks whose arrays are kept, at its strongest scale.
    """
    found = _find(exhibit, profile, lines, ("student_means", "teacher_means"))
    with style():
        figure = _side_by_side(found, _heat, 4.2)
        images = [image for axes in figure.axes for image in axes.images]
        if images:
            figure.colorbar(images[0], ax=figure.axes, extend="max", label="difference / 3", shrink=0.75)
    caption = "How far the mean logits of student and teacher are apart, by the images' class, divided by 3 as in the"
    caption += " code of DKD, on which SLKD's is built; the diagonal is set to 0."
    caption += "".join(f" {k.cell.row.label}: {_gap_told(k)}." for k in found.kept.values())
    frame = _table((_gaps_of(k) for k in found.kept.values()), ["line", "class", "logit", "difference"])
    return _plot(figure, name or slug(f"logit-gaps {found.exhibit.key}"), caption, found, frame)


# -- what is kept ------------------------------------------------------------------------------------------


def _find(exhibit: Exhibit | str, profile: str, lines: Sequence[str], names: Sequence[str]) -> _Found:
    exhibit = exhibits.get(exhibit) if isinstance(exhibit, str) else exhibit
    store = Store.open()
    for pair in exhibit.pairs:
        by_scale = {scale: _with_arrays(exhibit, scale, pair, lines, names, store) for scale in TITLES}
        scale = strongest(profile, lambda scale, found=by_scale: len(found[scale]))  # type: ignore[misc]
        if scale:
            panel = Panel(scale, exhibit.datasets_of(scale)[0], pair)
            return _Found(exhibit, lines, panel, _of_one_seed(by_scale[scale], names, store))
    return _Found(exhibit, lines, None, {})


def _with_arrays(
    exhibit: Exhibit, scale: str, pair: Pair, lines: Sequence[str], names: Sequence[str], store: Store
) -> dict[str, tuple[Cell, dict[int, Record]]]:
    """By line its cell, and by seed the records beside which all these arrays lie; no line without one."""
    rows = [row for row in exhibit.rows if row.line in lines and row.pair is not None and row.pair.key == pair.key]
    found = {}
    for cell in exhibit.cells(scale, exhibit.datasets_of(scale)[0], rows) if rows else []:
        records = store.records(cell.experiment.fingerprint) if cell.experiment else {}
        kept = {s: r for s, r in records.items() if {*names} <= store.array_names(r.fingerprint, s)}
        if kept:
            found[cell.row.line] = cell, kept
    return found


def _of_one_seed(
    by_line: Mapping[str, tuple[Cell, dict[int, Record]]], names: Sequence[str], store: Store
) -> dict[str, _Kept]:
    """Of each line the lowest seed that all have; where there is none, its own lowest."""
    common = set.intersection(*({*records} for _, records in by_line.values()))
    chosen = {line: (cell, records[min(common or records)]) for line, (cell, records) in by_line.items()}
    return {line: _Kept(cell, record, store.arrays(record)) for line, (cell, record) in chosen.items()}


# -- figures -----------------------------------------------------------------------------------------------


def _side_by_side(found: _Found, draw: Callable[[Axes, _Kept], None], height: float) -> Figure:
    """A square panel a line; one that says so where a line's arrays are missing."""
    if found.panel is None:
        return nothing_yet(found.exhibit.title)
    figure = Figure(figsize=(WIDTH, height))
    figure.suptitle(found.panel.title, fontsize=10)
    for axes, line in zip(figure.subplots(1, len(found.lines), squeeze=False)[0], found.lines, strict=True):
        axes.grid(False)
        if line in found.kept:
            draw(axes, found.kept[line])
        else:
            axes.set_axis_off()
            axes.set_title(labels(found.exhibit)[line])
            axes.text(0.5, 0.5, NOT_YET, ha="center", va="center", color="#555555", transform=axes.transAxes)
    return figure


def _plot(figure: Figure, name: str, caption: str, found: _Found, frame: pd.DataFrame) -> Plot:
    """The figure, with a caption that also says whose runs these are."""
    if found.panel is None:
        return Plot(figure, name, caption, frame)
    seeds = sorted({k.record.seed for k in found.kept.values()})
    caption += f" {found.panel.sentence}, seed {' and '.join(str(seed) for seed in seeds)}."
    return Plot(figure, name, caption + scales_told(found.exhibit, [found.panel]), frame)


def _table(parts: Iterable[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    several = list(parts)
    return pd.concat(several, ignore_index=True)[columns] if several else pd.DataFrame(columns=columns)


# -- features in the plane ---------------------------------------------------------------------------------


def _points(axes: Axes, kept: _Kept) -> None:
    """Points as an image within the picture, hard-edged: as paths, or smoothed, the file would be much larger."""
    x, y = kept.arrays["plane"].astype(np.float64).T
    size = min(LARGEST_POINT, max(POINT_SIZE, POINT_SIZE * POINTS / len(x)))
    colours = CLASS_COLOURS[kept.arrays["labels"].astype(int) % len(CLASS_COLOURS)]
    axes.scatter(x, y, s=size, c=colours, alpha=0.4, linewidths=0, rasterized=True, antialiased=False)
    told = kept.record.metrics.get("separability")
    axes.set_title(kept.cell.row.label + (f": separability {told:.2f}" if told is not None else ""))
    axes.set(xticks=[], yticks=[], box_aspect=1)  # t-SNE's axes mean nothing
    axes.spines[:].set_visible(True)


def _points_of(kept: _Kept) -> pd.DataFrame:
    plane = pd.DataFrame(kept.arrays["plane"].astype(np.float64), columns=["x", "y"]).round(2)
    return plane.assign(label=kept.arrays["labels"], line=kept.cell.row.line)


# -- logits beside the teacher's ---------------------------------------------------------------------------


def _heat(axes: Axes, kept: _Kept) -> None:
    axes.imshow(_gap(kept) / DIVISOR, cmap="rocket_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set(title=f"{kept.cell.row.label}\n{_gap_told(kept)}", xlabel="logit", ylabel="class of the images")
    axes.title.set_fontsize(9)
    axes.label_outer()


def _gap(kept: _Kept) -> np.ndarray:
    """|M_S − M_T| in raw logits, [K, K], the diagonal 0."""
    student, teacher = (kept.arrays[f"{who}_means"].astype(np.float64) for who in ("student", "teacher"))
    gap = np.abs(student - teacher)
    np.fill_diagonal(gap, 0.0)
    return gap


def _gap_told(kept: _Kept) -> str:
    """Mean and maximum, divided and (in brackets) not."""
    mean, largest = logit_gap(kept.arrays["student_means"], kept.arrays["teacher_means"])
    return f"mean {mean / DIVISOR:.3f} ({mean:.3f}), largest {largest / DIVISOR:.2f} ({largest:.2f})"


def _gaps_of(kept: _Kept) -> pd.DataFrame:
    gap = _gap(kept)
    rows, columns = np.indices(gap.shape)
    whole = {"class": rows.ravel(), "logit": columns.ravel(), "difference": gap.ravel().round(3)}
    return pd.DataFrame(whole).assign(line=kept.cell.row.line)
