"""Which panels a figure has: one for a data set at every scale, or one for a pair of networks at its best scale."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdnb import page
from kdnb.exhibits import Column, Exhibit, Pair, Score
from kdnb.exhibits.exhibit import Networks
from kdnb.exhibits.names import pair_title
from kdnb.plots.style import Plot, across, on_a_phone, style, width
from kdnb.study.profile import get_profile
from kdnb.tables.words import NOT_YET, OF_A_DEMO, TITLES, measured_at, title

#: So many pairs that were not measured are named in a caption; more are counted.
MOST_NAMED = 2
#: So many lines without runs are named in a caption; more are counted.
MOST_LINES = 4
#: What a panel's runs are of: a profile, a data set, and the networks that were trained where it is one pair's.
Trained = tuple[str, str, Networks | None]


@dataclass(frozen=True)
class Panel:
    """One column of an exhibit under one profile; `named` is what tells it from the exhibit's other scores."""

    profile: str
    column: Column
    named: str = ""

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The runs of a frame that belong here."""
        here = (frame["profile"] == self.profile) & (frame["dataset"] == self.dataset) & (frame["pair"] == self.key)
        return frame[here & (frame["score"] == self.score.key)]

    @property
    def dataset(self) -> str:
        return self.column.dataset

    @property
    def pair(self) -> Pair | None:
        return self.column.pair

    @property
    def key(self) -> str:
        """The pair's key, empty where all rows have the same networks."""
        return self.pair.key if self.pair else ""

    @property
    def score(self) -> Score:
        return self.column.score

    @property
    def title(self) -> str:
        """`CIFAR-100: pilot`; the paper's pair in a line of its own, and below it the scale and who was trained."""
        what = f"{self.named}\n" if self.named else ""
        if self.pair is None:
            return f"{what}{title(self.dataset)}: {short(self.profile)}"
        return f"{what}{self.pair.title}\n{self.trained}"

    @property
    def sentence(self) -> str:
        """The same as a part of a sentence."""
        return self.title if self.pair is None else f"{self.pair.title} ({self.trained})"

    @property
    def networks(self) -> Networks | None:
        """Teacher and student that were trained here, where the panel is one pair's."""
        return self.pair.networks(self.profile) if self.pair else None

    @property
    def of_relatives(self) -> bool:
        """Whether other networks stand for the paper's: where a table has one pair, at every scale but its own."""
        if self.pair is None:
            return get_profile(self.profile).scale not in ("short", "paper")
        return self.networks != (self.pair.teacher, self.pair.student)

    @property
    def trained(self) -> str:
        """`paper scale`, or `pilot: ResNet20 → ResNet8` where relatives stand for the paper's networks."""
        named = f": {pair_title(*self.networks)}" if self.networks and self.of_relatives else ""
        return f"{short(self.profile)}{named}"


def short(scale: str) -> str:
    """How a panel's title calls a profile."""
    return "paper scale" if scale == "paper" else scale


#: Every role that a row may have.
ROLES = ("teacher", "baseline", "auxiliary", "student", "control")
#: Those of rows that are compared with each other.
COMPARED_ROLES = ROLES[1:]


def labels(exhibit: Exhibit, roles: Collection[str] = ROLES) -> dict[str, str]:
    """The rows of an exhibit in its order, each with its label."""
    return {row.key: row.label for row in exhibit.rows if row.role in roles}


def panels(exhibit: Exhibit, frame: pd.DataFrame, profile: str, at_least: int = 1) -> list[Panel]:
    """The panels for the runs of `frame`, where so many lines beside the teacher's have some.

    With one pair of networks: every scale that has runs, the shown profile last.  With several: each pair that has
    runs, at its `strongest` scale, where one of them has so many lines.  Several scores have a panel each.  A demo says
    nothing: it stands alone, where nothing else is measured, and never beside another scale.  None where there is
    nothing to draw.
    """
    students = frame[frame["line"] != "teacher"]
    if exhibit.pairs:
        # A pair that is not drawn is called unmeasured: beside a pair of many lines, one of a single line stands too.
        every = _of_pairs(exhibit, frame, profile)
        found = [panel for panel in every if panel.profile != "demo"] or every
        return found if any(panel.of(students)["line"].nunique() >= at_least for panel in found) else []
    lines = students.groupby(["profile", "dataset", "score"])["line"].nunique()
    there = {place for place, count in lines.items() if count >= at_least}
    scales = [*(scale for scale in TITLES if scale not in (profile, "demo")), profile]
    found = [
        _panel(exhibit, s, c) for s in scales for c in exhibit.columns_of(s) if (s, c.dataset, c.score.key) in there
    ]
    return [panel for panel in found if panel.profile != "demo"] or found


def _panel(exhibit: Exhibit, profile: str, column: Column) -> Panel:
    several = len({column.score for column in exhibit.columns}) > 1
    return Panel(profile, column, column.score.title if several else "")


def _of_pairs(exhibit: Exhibit, frame: pd.DataFrame, profile: str) -> list[Panel]:
    """Every pair at its strongest scale: the columns that have runs there."""
    found = []
    for pair in exhibit.pairs:
        runs = frame[(frame["pair"] == pair.key) & (frame["line"] != "teacher")]  # a teacher alone compares nothing
        lines = runs.groupby("profile")["line"].nunique().to_dict()
        scale = strongest(profile, lambda name, lines=lines: lines.get(name, 0))  # type: ignore[misc]
        if scale:
            columns = [column for column in exhibit.columns_of(scale) if column.pair == pair]
            found += [panel for c in columns if len((panel := _panel(exhibit, scale, c)).of(runs))]
    return found


def of_their_own(found: Sequence[Panel], frame: pd.DataFrame) -> list[Panel]:
    """Panels but those whose runs all stand in one before them: relatives may stand for several pairs of a paper."""
    runs = [(panel.column.score.key, set(panel.of(frame)["path"])) for panel in found]
    return [
        panel
        for place, (panel, (score, own)) in enumerate(zip(found, runs, strict=True))
        if not any(score == other and own <= those for other, those in runs[:place])
    ]


def strongest(profile: str, measured: Callable[[str], int]) -> str | None:
    """The scale at which most is measured, the largest of equals; None where nothing is.

    A demo stands only where it is asked for, and nothing but it was measured.
    """
    scales = [scale for scale in TITLES if scale != "demo"]
    best = max(scales, key=measured)
    if measured(best):
        return best
    return profile if profile == "demo" and measured(profile) else None


def scales_told(exhibit: Exhibit, shown: Sequence[Panel]) -> str:
    """What a caption adds: of several pairs how scales were chosen and which are missing; what a demo is.

    In the book the fold that has a page's demo says the last, once.  Begins with a blank, or is empty.
    """
    of_demo = any(panel.profile == "demo" for panel in shown)
    if not exhibit.pairs:
        return f" {OF_A_DEMO}" if of_demo and not page.in_book() else ""
    said = []
    if len({panel.profile for panel in shown}) > 1:
        said.append("Each pair stands at the scale at which most of it is measured.")
    standing = {(panel.key, panel.score.key): _trained(panel.profile, panel.column) for panel in shown}
    if len({(score, who) for (_, score), who in standing.items()}) < len(standing):
        said.append("The same networks stand for several pairs here.")
    others = [pair for pair in exhibit.pairs if pair.key not in {p.pair.key for p in shown if p.pair}]
    alike = [pair.title for pair in others if _stands(exhibit, pair, standing.values())]
    if alike:
        said.append(f"The networks shown stand for {', '.join(alike)} too.")
    missing = [pair.title for pair in others if pair.title not in alike]
    if shown and missing:
        several = f"{len(missing)} of {len(exhibit.pairs)} pairs"
        said.append(f"{NOT_YET.capitalize()}: {', '.join(missing) if len(missing) <= MOST_NAMED else several}.")
    if of_demo:
        said.append("A demo, of relatives on the embedded digits, says nothing about the paper.")
    return "".join(f" {sentence}" for sentence in said)


def _trained(profile: str, column: Column) -> Trained:
    return profile, column.dataset, column.pair.networks(profile) if column.pair else None


def _stands(exhibit: Exhibit, pair: Pair, trained: Collection[Trained]) -> bool:
    """Whether what was trained is also what stands for this pair: the same networks, on the same images."""
    own = {
        _trained(scale, column)
        for scale in {scale for scale, _, networks in trained if networks}
        for column in exhibit.columns_of(scale)
        if column.pair == pair
    }
    return not own.isdisjoint(trained)


def lacking(shown: Sequence[Panel], lines: Mapping[str, str], there: Collection[str], demo: Collection[str]) -> str:
    """Which of these lines, given with their labels, are not among those that panels have runs of.

    `demo` are those of which a demo has some: it stands beside no other scale.  Begins with a blank, or is empty.
    """
    missing = [line for line in lines if line not in there]
    if not shown or not missing:
        return ""
    scales = {panel.profile for panel in shown}
    real = scales - {"demo"}
    (scale,) = scales if len(scales) == 1 else ("",)
    told = f"not yet {measured_at(scale)}" if real and scale in TITLES else NOT_YET
    few = len(missing) <= MOST_LINES
    named = "; ".join(lines[line] for line in missing) if few else f"{len(missing)} of {len(lines)} rows"
    undrawn = " The demo's runs are not drawn." if real and set(missing) & set(demo) else ""
    return f" {told[:1].upper()}{told[1:]}: {named}.{undrawn}"


def plot(
    exhibit: Exhibit,
    shown: Sequence[Panel],
    figure: Figure,
    name: str,
    caption: str,
    frame: pd.DataFrame,
    seen: str = "",
) -> Plot:
    """A figure of these panels: its caption says how their scales were chosen, and the book if all are a demo's.

    A demo's numbers lie beside the figure only where it draws them.
    """
    of_demo = bool(shown) and all(panel.profile == "demo" for panel in shown)
    if not of_demo and "profile" in frame:
        frame = frame[frame["profile"] != "demo"]
    return Plot(figure, name, caption + scales_told(exhibit, shown), frame, seen, of_demo)


# -- places on the page ------------------------------------------------------------------------------------


def columns_for(count: int) -> int:
    """How many panels stand side by side: at most three, and four in two lines of two; on a phone one."""
    if on_a_phone():
        return 1
    return 2 if count == 4 else max(1, min(count, 3))


def entitle(axes: Axes, panel: Panel, count: int) -> None:
    """Write the title above one of `count` panels: smaller where three stand side by side, since names are long."""
    axes.set_title(panel.title, fontsize=8 if columns_for(count) > 2 else 10)


def grid(count: int, height: float, below: float = 0.5, share: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels of a height in inches, and room for a legend below them.

    With `share` the panels of a line have one scale of values, written once.
    """
    columns = columns_for(count)
    lines = max(1, -(-count // columns))
    figure = Figure(figsize=(width(), height * lines + below))
    places = list(figure.subplots(lines, columns, squeeze=False, sharey="row" if share else False).flat)
    for unused in places[count:]:
        unused.set_axis_off()
    return figure, places[:count]


def legend_below(figure: Figure, places: Iterable[Axes], columns: int) -> None:
    """One legend for what several panels show, below them all; the same thing stands there once."""
    named: dict[str, Artist] = {}
    for axes in places:
        handles, names = axes.get_legend_handles_labels()
        named |= dict(zip(names, handles, strict=True))
    columns = max(1, min(across(columns), len(named)))
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=columns)


def clause(caption: str) -> str:
    """What a caption is of, before it says how that is drawn."""
    return re.split("[:;.]", caption, maxsplit=1)[0]


def unmeasured(heading: str, name: str, frame: pd.DataFrame, what: str = "") -> Plot:
    """The figure of what nobody has measured: it says so, in the book in one line, of `what` or of its heading."""
    with style():
        figure = Figure(figsize=(width(), 1.0))
        axes = figure.subplots()
        axes.set_axis_off()
        axes.text(0.5, 0.5, f"{heading}: {NOT_YET}", ha="center", va="center", fontsize=11, color="#555555")
    what = what or heading
    return Plot(figure, name, what if what.endswith(("?", ".")) else f"{what}.", frame.iloc[:0])
