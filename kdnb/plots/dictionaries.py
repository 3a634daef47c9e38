"""What dictionaries of a teacher's pixels have learned: labels as pictures, the use of atoms, the error of codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from kdnb.exhibits import Exhibit
from kdnb.plots.kept import Kept, find, plot
from kdnb.plots.panels import legend_below
from kdnb.plots.style import WIDTH, Plot

#: The atoms most used have a colour each, all others are of this grey.
ATOM_COLOURS = np.array([c for n, c in enumerate(sns.color_palette("tab10")) if n != 7])
OTHERS = np.array([0.8, 0.8, 0.8])
LABELS = ("pictured", "teacher_pixel_labels", "student_pixel_labels", "label_sides")
#: Marks of the axis of sparsities, percent.
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100)
USE = ("atom_use", "atom_counts", "atoms_kept", "sparsities", "unexplained_by_sparsity", "unexplained_by_layer")


def pixel_labels(exhibit: Exhibit | str, row: str, profile: str = "demo", name: str = "") -> Plot:
    """A few test images, and which atom describes each pixel best: by the teacher and by the student, at every layer.

    For the lowest seed of a row whose arrays are kept, at its strongest scale.
    """
    found = find(exhibit, profile, [row], LABELS)
    caption = "Which atom describes each pixel best, at each layer: the teacher's labels, and what the student "
    caption += f"predicts before it has seen class labels. The {len(ATOM_COLOURS)} atoms most used at a layer have a "
    caption += "colour each, the same for both; all others are grey."
    caption += "".join(f" Of the pixels of these images {_alike_told(kept)}." for kept in found.kept.values())
    parts, columns = map(_labels_of, found.kept.values()), ["layer", "image", "y", "x", "teacher", "student"]
    return plot(found, (name, "pixel-labels"), caption, lambda: _pictures(found.kept[row]), parts, columns, _alike_told)


def atoms(exhibit: Exhibit | str, row: str, profile: str = "demo", name: str = "") -> Plot:
    """How evenly the atoms are used, and how much of the teacher's maps codes leave unexplained, layer by layer."""
    found = find(exhibit, profile, [row], USE)
    caption = "Use of the atoms, and the error of codes, on test images. Left: how many of the pixels the most used "
    caption += (
        "atoms label, from few atoms to all of them; were all used alike, it would be the dashed line. Right: the "
    )
    caption += (
        "mean squared error of a code that keeps so many of its atoms, in percent of the maps' mean square; dots "
    )
    caption += "are what the dictionary was trained for."
    parts, columns = map(_curves_of, found.kept.values()), ["layer", "what", "x", "y"]
    return plot(found, (name, "atoms"), caption, lambda: _curves(found.kept[row]), parts, columns, _curves_told)


# -- pictures of labels ------------------------------------------------------------------------------------


def _pictures(kept: Kept) -> Figure:
    images, layers = kept.arrays["pictured"], list(_layers(kept))
    columns = [("\nimage", images)]
    for j, (teacher, student) in enumerate(layers, start=1):
        often = _most_used(teacher, student)
        columns += [
            (f"layer {j}\n{who}", _coloured(of, often)) for who, of in (("teacher", teacher), ("student", student))
        ]
    figure = Figure(figsize=(WIDTH, 0.4 + WIDTH / len(columns) * len(images)))
    places = figure.subplots(len(images), len(columns), squeeze=False)
    for (head, pictures), line in zip(columns, places.T, strict=True):
        line[0].set_title(head, fontsize=9)
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set_axis_off()
    return figure


def _alike_told(kept: Kept) -> str:
    """`both give the same label to 61 %, 35 %, layer by layer`."""
    shares = " %, ".join(f"{100 * (teacher == student).mean():.0f}" for teacher, student in _layers(kept))
    return f"both give the same label to {shares} %, layer by layer"


def _most_used(*labels: np.ndarray) -> np.ndarray:
    """The atoms that label most pixels, as many as have colours, most used first."""
    atoms, counts = np.unique(np.concatenate([of.ravel() for of in labels]), return_counts=True)
    return atoms[np.argsort(-counts, kind="stable")][: len(ATOM_COLOURS)]


def _layers(kept: Kept) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labels [n, H, W] of teacher and student, layer by layer."""
    count, first = len(kept.arrays["pictured"]), 0
    for height, width in kept.arrays["label_sides"]:
        last = first + count * height * width
        both = (kept.arrays[f"{who}_pixel_labels"][first:last] for who in ("teacher", "student"))
        teacher, student = (labels.reshape(count, height, width) for labels in both)
        yield teacher, student
        first = last


def _coloured(labels: np.ndarray, often: np.ndarray) -> np.ndarray:
    """Labels [n, H, W] as colours [n, H, W, 3]."""
    picture = np.broadcast_to(OTHERS, (*labels.shape, 3)).copy()
    for atom, colour in zip(often, ATOM_COLOURS, strict=False):
        picture[labels == atom] = colour
    return picture


def _labels_of(kept: Kept) -> pd.DataFrame:
    parts = []
    for j, (teacher, student) in enumerate(_layers(kept), start=1):
        image, y, x = np.indices(teacher.shape)
        places = {"layer": j, "image": image.ravel(), "y": y.ravel(), "x": x.ravel()}
        parts.append(pd.DataFrame({**places, "teacher": teacher.ravel(), "student": student.ravel()}))
    return pd.concat(parts, ignore_index=True)


# -- use of atoms, error of codes --------------------------------------------------------------------------


def _curves(kept: Kept) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.2))
    use, error = figure.subplots(1, 2)
    frame, colours = _curves_of(kept), sns.color_palette("flare", len(kept.arrays["atom_counts"]))
    for colour, (layer, part) in zip(colours, frame.groupby("layer"), strict=True):
        for what, axes in (("use", use), ("error", error)):
            line = part[part["what"] == what]
            axes.plot(line["x"], line["y"], color=colour, label=f"layer {layer}")
        trained = part[part["what"] == "trained for"]
        error.plot(trained["x"], trained["y"], "o", color=colour)
    use.plot([0, 100], [0, 100], "--", color="#999999", linewidth=1)
    use.set(title="Use of the atoms", xlabel="the most used atoms, %", ylabel="pixels that they label, %")
    error.set(title="Error by sparsity", xlabel="atoms that a code keeps, %", ylabel="error, % of the mean square")
    error.set(xscale="log", ylim=(0, None))
    error.xaxis.set_major_locator(FixedLocator(TICKS))
    error.xaxis.set_minor_locator(NullLocator())
    error.xaxis.set_major_formatter("{x:g}")
    legend_below(figure, [use], 4)
    return figure


def _curves_of(kept: Kept) -> pd.DataFrame:
    """Points of both panels in percent, layer by layer."""
    parts, first = [], 0
    for j, (count, keep) in enumerate(zip(kept.arrays["atom_counts"], kept.arrays["atoms_kept"], strict=True)):
        use = 100 * np.sort(kept.arrays["atom_use"][first : first + count].astype(float))[::-1].cumsum()
        kept_entries = np.maximum(1, np.round(kept.arrays["sparsities"] * count))
        error = 100 * kept.arrays["unexplained_by_sparsity"][j].astype(float)
        here = 100 * float(kept.arrays["unexplained_by_layer"][j])
        parts += [
            _points(j, "use", 100 * np.arange(count + 1) / count, [0, *use]),
            _points(j, "error", 100 * kept_entries / count, error),
            _points(j, "trained for", [100 * keep / count], [here]),
        ]
        first += count
    return pd.concat(parts, ignore_index=True)


def _curves_told(kept: Kept) -> str:
    """Where the curves lie: the pixels of the most used tenth of the atoms, and the error that was trained for."""
    told = []
    for layer, part in _curves_of(kept).groupby("layer"):
        use, trained = part[part["what"] == "use"], part[part["what"] == "trained for"].iloc[0]
        tenth = np.interp(10, use["x"], use["y"])
        told.append(
            f"at layer {layer} the most used tenth of the atoms labels {tenth:.0f} % of the pixels, and a code of "
            f"{trained.x:.2g} % of the atoms leaves {trained.y:.0f} % unexplained"
        )
    return "; ".join(told)


def _points(layer: int, what: str, x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"layer": layer + 1, "what": what, "x": np.round(x, 4), "y": np.round(y, 4)})
