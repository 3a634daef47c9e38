"""What dictionaries of a teacher's pixels have learned: labels as pictures, the use of atoms, the error of codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from kdnb import exhibits
from kdnb.exhibits import Exhibit
from kdnb.plots.kept import Kept, find, plot, table
from kdnb.plots.panels import legend_below, nothing_yet
from kdnb.plots.style import WIDTH, Plot, style
from kdnb.tables.words import slug

#: Atoms beyond these have the colours of others again.
ATOM_COLOURS = np.array(sns.color_palette("husl", 24))
#: Neighbours among atoms get colours far apart.
STRIDE = 7
LABELS = ("pictured", "teacher_pixel_labels", "student_pixel_labels", "label_sides")
USE = ("atom_use", "atom_counts", "atoms_kept", "sparsities", "unexplained_by_sparsity", "unexplained_by_layer")


def pixel_labels(exhibit: Exhibit | str, row: str, profile: str = "demo", name: str = "") -> Plot:
    """A few test images, and which atom describes each pixel best: by the teacher and by the student, at every layer.

    For the lowest seed of a row whose arrays are kept, at its strongest scale.
    """
    exhibit = exhibits.get(exhibit)
    found = find(exhibit, profile, [row], LABELS)
    kept = found.kept.get(row)
    with style():
        figure = _pictures(kept) if kept else nothing_yet(exhibit.title)
    caption = "Which atom describes each pixel best, a colour an atom (some share one): the teacher's labels, and what "
    caption += "the student predicts before it has seen class labels, at each layer. Equal colours in one pair of "
    caption += "columns are equal labels."
    frame = table(map(_labels_of, found.kept.values()), ["layer", "image", "y", "x", "teacher", "student"])
    return plot(figure, name or slug(f"pixel-labels {exhibit.key}"), caption, found, frame)


def atoms(exhibit: Exhibit | str, row: str, profile: str = "demo", name: str = "") -> Plot:
    """How evenly the atoms are used, and how much of the teacher's maps codes leave unexplained, layer by layer."""
    exhibit = exhibits.get(exhibit)
    found = find(exhibit, profile, [row], USE)
    kept = found.kept.get(row)
    with style():
        figure = _curves(kept) if kept else nothing_yet(exhibit.title)
    caption = "Left: the share of pixels whose label each atom is, most used first. Right: the mean squared error of a "
    caption += "code that keeps so many of its atoms, over the mean square of the maps; dots are what the dictionary "
    caption += "was trained for. On test images."
    frame = table(map(_curves_of, found.kept.values()), ["layer", "what", "x", "y"])
    return plot(figure, name or slug(f"atoms {exhibit.key}"), caption, found, frame)


# -- pictures of labels ------------------------------------------------------------------------------------


def _pictures(kept: Kept) -> Figure:
    images, layers = kept.arrays["pictured"], list(_layers(kept))
    figure = Figure(figsize=(WIDTH, 1.05 * len(images)))
    places = figure.subplots(len(images), 1 + 2 * len(layers), squeeze=False)
    for n, line in enumerate(places):
        drawn = [images[n]] + [_coloured(labels[n]) for layer in layers for labels in layer]
        for axes, picture in zip(line, drawn, strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
    heads = ["image"] + [f"{who} {j}" for j in range(1, len(layers) + 1) for who in ("teacher", "student")]
    for axes, head in zip(places[0], heads, strict=True):
        axes.set_title(head, fontsize=9)
    return figure


def _layers(kept: Kept) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labels [n, H, W] of teacher and student, layer by layer."""
    count, first = len(kept.arrays["pictured"]), 0
    for height, width in kept.arrays["label_sides"]:
        last = first + count * height * width
        both = (kept.arrays[f"{who}_pixel_labels"][first:last] for who in ("teacher", "student"))
        teacher, student = (labels.reshape(count, height, width) for labels in both)
        yield teacher, student
        first = last


def _coloured(labels: np.ndarray) -> np.ndarray:
    return ATOM_COLOURS[(labels.astype(int) * STRIDE) % len(ATOM_COLOURS)]


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
    use.set(xlabel="share of atoms, most used first", ylabel="share of pixels, %")
    error.set(xlabel="share of atoms that a code keeps", ylabel="unexplained, %", xscale="log")
    legend_below(figure, [use], 4)
    return figure


def _curves_of(kept: Kept) -> pd.DataFrame:
    """Points of both panels, layer by layer."""
    parts, first = [], 0
    sparsities = kept.arrays["sparsities"]
    for j, (count, keep) in enumerate(zip(kept.arrays["atom_counts"], kept.arrays["atoms_kept"], strict=True)):
        use = 100 * np.sort(kept.arrays["atom_use"][first : first + count].astype(float))[::-1]
        error = 100 * kept.arrays["unexplained_by_sparsity"][j].astype(float)
        here = 100 * float(kept.arrays["unexplained_by_layer"][j])
        parts += [
            _points(j, "use", (np.arange(count) + 1) / count, use),
            _points(j, "error", sparsities, error),
            _points(j, "trained for", [keep / count], [here]),
        ]
        first += count
    return pd.concat(parts, ignore_index=True)


def _points(layer: int, what: str, x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"layer": layer + 1, "what": what, "x": np.round(x, 4), "y": np.round(y, 4)})
