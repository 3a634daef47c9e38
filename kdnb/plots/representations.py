"""What a student makes of the test images: its features in the plane, and its logits beside its teacher's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.spatial import cKDTree

from kdnb.analysis.representation import gaps_by_class, logit_gap
from kdnb.exhibits import Exhibit
from kdnb.plots.kept import Found, Kept, find, plot
from kdnb.plots.panels import labels
from kdnb.plots.style import WIDTH, Plot
from kdnb.tables.words import NOT_YET

#: Classes beyond these have the colours of others again, as in the paper's figure.
CLASS_COLOURS = np.array(sns.color_palette("tab10"))
#: The size of a point in the paper's figure, and how many there are; fewer are drawn larger.
POINT_SIZE, POINTS, LARGEST_POINT = 1.0, 10_000, 8.0


def planes(exhibit: Exhibit | str, profile: str = "demo", name: str = "") -> Plot:
    """The test images as points of the plane, coloured by class: t-SNE of the student's features, a panel a row.

    For the first of the exhibit's columns whose arrays are kept, at its strongest scale.
    """
    found = find(exhibit, profile, None, ("plane", "labels"))
    several = any(k.arrays["labels"].max() >= len(CLASS_COLOURS) for k in found.kept.values())
    caption = "The student's features of all test images in the plane (t-SNE), coloured by class"
    caption += " in ten colours, over and over." if several else "."
    caption += " Separability is the mean silhouette of the features themselves, between −1 and 1."
    parts, columns = map(_points_of, found.kept.values()), ["line", "x", "y", "label"]
    return plot(
        found, (name, "planes"), caption, lambda: _side_by_side(found, _points, 3.9), parts, columns, _neighbours_told
    )


def logit_gaps(
    exhibit: Exhibit | str,
    profile: str = "demo",
    name: str = "",
    divisor: float = 1.0,
    as_in: str = "",
) -> Plot:
    """How far the mean logits of student and teacher are apart, class by class: |M_S − M_T|, the diagonal 0.

    For the first of the exhibit's columns whose arrays are kept, at its strongest scale.  Where the paper divides gaps,
    so does the figure, and says `as_in` what.
    """
    found = find(exhibit, profile, None, ("student_means", "teacher_means"))

    def draw() -> Figure:
        figure = _side_by_side(found, lambda axes, kept: _heat(axes, kept, divisor), 4.2)
        image = next(image for axes in figure.axes for image in axes.images)
        label = "difference" if divisor == 1 else f"difference / {divisor:g}"
        figure.colorbar(image, ax=figure.axes, extend="max", label=label, shrink=0.75)
        return figure

    divided = "" if divisor == 1 else f", divided by {divisor:g}" + (f" {as_in}" if as_in else "")
    caption = "How far the mean logits of student and teacher are apart, by the images' class"
    caption += f"{divided}; the diagonal is set to 0."
    caption += "".join(f" {k.cell.row.label}: {_gap_told(k, divisor)}." for k in found.kept.values())
    parts, columns = map(_gaps_of, found.kept.values()), ["line", "class", "logit", "difference"]
    return plot(found, (name, "logit-gaps"), caption, draw, parts, columns, lambda kept: _gap_told(kept, divisor))


# -- figures -----------------------------------------------------------------------------------------------


def _side_by_side(found: Found, draw: Callable[[Axes, Kept], None], height: float) -> Figure:
    """A square panel a line; one that says so where a line's arrays are missing."""
    assert found.panel is not None, "what is drawn has runs"
    figure = Figure(figsize=(WIDTH, height))
    figure.suptitle(found.panel.title, fontsize=10)
    for axes, line in zip(figure.subplots(1, len(found.rows), squeeze=False)[0], found.rows, strict=True):
        axes.grid(False)
        if line in found.kept:
            draw(axes, found.kept[line])
        else:
            axes.set_axis_off()
            axes.set_title(labels(found.exhibit)[line])
            axes.text(0.5, 0.5, NOT_YET, ha="center", va="center", color="#555555", transform=axes.transAxes)
    return figure


# -- features in the plane ---------------------------------------------------------------------------------


def _points(axes: Axes, kept: Kept) -> None:
    """Points as an image within the picture, hard-edged: as paths, or smoothed, the file would be much larger."""
    x, y = kept.arrays["plane"].astype(np.float64).T
    size = min(LARGEST_POINT, max(POINT_SIZE, POINT_SIZE * POINTS / len(x)))
    colours = CLASS_COLOURS[kept.arrays["labels"].astype(int) % len(CLASS_COLOURS)]
    axes.scatter(x, y, s=size, c=colours, alpha=0.4, linewidths=0, rasterized=True, antialiased=False)
    told = kept.record.metrics.get("separability")
    axes.set_title(kept.cell.row.label + (f": separability {told:.2f}" if told is not None else ""))
    axes.set(xticks=[], yticks=[], box_aspect=1)  # t-SNE's axes mean nothing
    axes.spines[:].set_visible(True)


def _neighbours_told(kept: Kept) -> str:
    """How far the classes lie apart in the picture: how many points have one of their class next to them."""
    plane, classes = kept.arrays["plane"].astype(np.float64), kept.arrays["labels"]
    _, nearest = cKDTree(plane).query(plane, 2)
    share = 100 * (classes[nearest[:, 1]] == classes).mean()
    told = kept.record.metrics.get("separability")
    apart = f", separability {told:.2f}" if told is not None else ""
    return f"of {share:.0f} % of the points the nearest one is of the same class{apart}"


def _points_of(kept: Kept) -> pd.DataFrame:
    plane = pd.DataFrame(kept.arrays["plane"].astype(np.float64), columns=["x", "y"]).round(2)
    return plane.assign(label=kept.arrays["labels"], line=kept.cell.row.key)


# -- logits beside the teacher's ---------------------------------------------------------------------------


def _heat(axes: Axes, kept: Kept, divisor: float) -> None:
    axes.imshow(_gap(kept) / divisor, cmap="rocket_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set(title=f"{kept.cell.row.label}\n{_gap_told(kept, divisor)}", xlabel="logit", ylabel="class of the images")
    axes.title.set_fontsize(9)
    axes.label_outer()


def _gap(kept: Kept) -> np.ndarray:
    """|M_S − M_T| in raw logits, [K, K], the diagonal 0."""
    return gaps_by_class(kept.arrays["student_means"], kept.arrays["teacher_means"])


def _gap_told(kept: Kept, divisor: float) -> str:
    """Mean and maximum, divided and (in brackets) not."""
    mean, largest = logit_gap(kept.arrays["student_means"], kept.arrays["teacher_means"])
    if divisor == 1:
        return f"mean {mean:.3f}, largest {largest:.2f}"
    return f"mean {mean / divisor:.3f} ({mean:.3f}), largest {largest / divisor:.2f} ({largest:.2f})"


def _gaps_of(kept: Kept) -> pd.DataFrame:
    gap = _gap(kept)
    rows, columns = np.indices(gap.shape)
    whole = {"class": rows.ravel(), "logit": columns.ravel(), "difference": gap.ravel().round(3)}
    return pd.DataFrame(whole).assign(line=kept.cell.row.key)
