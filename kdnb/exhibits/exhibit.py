"""Exhibits: the tables and figures of the papers, as cells that know their experiments.

A cell is a row (a method), a column (a data set, a pair of networks, a score) and a profile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from kdnb import datasets, methods
from kdnb.datasets.catalogue import Normalisation
from kdnb.errors import KdnbError, short, unknown
from kdnb.exhibits.names import network_title, pair_title
from kdnb.exhibits.reported import KeyOf, MetricOf, Printed, key_of_method, metric_of_line, reported
from kdnb.exhibits.score import ACCURACY, Score
from kdnb.study.experiment import TEACHER_SEED, Experiment, Run
from kdnb.study.profile import Profile, get_profile

Networks = tuple[str, str]

#: Mean and std of the embedded digits, per channel: whatever a protocol says of its own images.
DIGITS = ((0.3053, 0.3053, 0.3053), (0.3760, 0.3760, 0.3760))


def normalisation(dataset: str, known: Mapping[str, Normalisation]) -> Normalisation:
    """Mean and std per channel: the protocol's of the images that it knows, those measured of a reader's own."""
    return known.get(dataset) or datasets.info(dataset).measured or known[dataset]


#: How many seeds a run of the whole study trains, where the command does not say.
SEEDS = 3


@dataclass(frozen=True)
class Pair:
    """A teacher and a student as a paper pairs them, and who stands for them where less is run.

    `relatives`: scale (`demo`, `pilot`) -> teacher and student; a pair without some has no cells there.
    `scored`: where two networks teach each other, whose score counts: the `first` one's or the `second` one's.
    """

    teacher: str
    student: str
    relatives: Mapping[str, Networks] = field(default_factory=dict, hash=False)
    scored: str = ""

    @property
    def key(self) -> str:
        """`resnet56-resnet8`, or `resnet110-resnet32-first`."""
        return f"{self.teacher}-{self.student}" + (f"-{self.scored}" if self.scored else "")

    @property
    def title(self) -> str:
        """`ResNet56 → ResNet8`, or `ResNet32 beside ResNet110`."""
        if not self.scored:
            return pair_title(self.teacher, self.student)
        which = f", {self.scored}" if self.teacher == self.student else ""
        return f"{network_title(self.student)} beside {network_title(self.teacher)}{which}"

    def networks(self, profile: str | Profile) -> Networks | None:
        """Teacher and student under a profile: the paper's own where its networks are run."""
        profile = get_profile(profile)
        own = profile.scale in ("short", "paper")
        return (self.teacher, self.student) if own else self.relatives.get(profile.scale)


@dataclass(frozen=True)
class Row:
    """One row of a table: a method with its arguments, or a network alone.

    `role` is what stands there: a `teacher` or the plain student (`baseline`) alone, a `student` of a method that is
    proposed, an `auxiliary` network that was itself taught and teaches, or a `control` that nobody would use.
    `schedule` names another training recipe of the paper than the row's own, for controls.
    """

    key: str
    label: str
    method: str
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    role: str = "student"
    schedule: str = ""

    def varied(self, **arguments: Any) -> Row:
        """The row with other arguments: what a reader tries out, a line of an ablation."""
        return replace(self, arguments={**self.arguments, **arguments})


@dataclass(frozen=True)
class Column:
    """One column of a table: a data set, a pair of networks where the table has several, and a score.

    `keeps` names the arrays that figures need beside the records of its rows (`kdnb.analysis`): row -> analyses.
    """

    dataset: str
    pair: Pair | None = None
    score: Score = ACCURACY
    keeps: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @property
    def key(self) -> str:
        """`cifar100`, `cifar100/resnet56-resnet8`, `cifar100#map`: where the rows of a column are compared."""
        pair = f"/{self.pair.key}" if self.pair else ""
        return f"{self.dataset}{pair}" + ("" if self.score == ACCURACY else f"#{self.score.key}")

    @property
    def title(self) -> str:
        """The same for people: `CIFAR-100, ResNet56 → ResNet8: mAP, percent`."""
        pair = f", {self.pair.title}" if self.pair else ""
        return datasets.title(self.dataset) + pair + ("" if self.score == ACCURACY else f": {self.score.heading}")


@dataclass(frozen=True)
class Part:
    """What may be asked of an exhibit: a row in all of its columns, or for one pair of networks."""

    row: Row
    pair: Pair | None = None

    @property
    def key(self) -> str:
        """`kd`, or `resnet56-resnet8/kd`."""
        return f"{self.pair.key}/{self.row.key}" if self.pair else self.row.key

    @property
    def title(self) -> str:
        """The label, and for which pair of networks."""
        return f"{self.row.label}, {self.pair.title}" if self.pair else self.row.label

    @property
    def printed_key(self) -> str:
        """The key under which papers print it: a network alone has no partner there."""
        alone = {"teacher": self.pair.teacher, "baseline": self.pair.student} if self.pair else {}
        return f"{alone[self.row.role]}/{self.row.key}" if self.row.role in alone else self.key

    def varied(self, **arguments: Any) -> Part:
        """The row with other arguments, in the same place."""
        return replace(self, row=self.row.varied(**arguments))

    def stands_in(self, column: Column) -> bool:
        return self.pair is None or self.pair == column.pair


#: What names parts of an exhibit: the key of a row, `<pair>/<row>`, a pair, or the things themselves.
Asked = str | Row | Part


@dataclass(frozen=True)
class Absent:
    """In place of an experiment: why a cell has none."""

    why: str


@dataclass(frozen=True)
class Awaited(Absent):
    """In place of an experiment for now: what has to be measured first, and the runs that settle the row.

    Whoever wants the cell trains these before; where none are named, they are for the reader to begin.  Where
    `whole_table`, they are all rows of another table: who names a row of several tables does not ask for these.
    """

    runs: tuple[Run, ...] = ()
    whole_table: bool = False


Build = Callable[[Row, Column, Profile], Experiment | Absent]


@dataclass(frozen=True)
class Cell:
    """One cell: its experiment under a profile, and what the paper printed there.

    `experiment` is None where the profile has no relatives for it, and `why_not` says so; where it `waits`, it will be
    settled by other runs, `awaits`, or by those of a whole table, `awaits_table`.  With `seeds_between` only runs of
    these seeds, the first and the last, are the cell's.
    """

    exhibit: str
    row: Row
    column: Column
    profile: Profile
    experiment: Experiment | None
    printed: Printed | None
    why_not: str = ""
    seeds_between: tuple[int, int] | None = None
    waits: bool = False
    awaits: tuple[Run, ...] = ()
    awaits_table: bool = False

    def takes(self, seed: int) -> bool:
        """Whether a run of this seed counts here; a teacher is the same everywhere."""
        if self.seeds_between is None or self.row.role == "teacher":
            return True
        return self.seeds_between[0] <= seed <= self.seeds_between[1]

    @property
    def part(self) -> Part:
        return Part(self.row, self.column.pair)

    @property
    def key(self) -> str:
        return self.part.key

    @property
    def names(self) -> set[str]:
        """What asks for the cell: its row, its row for its pair of networks, or all rows of that pair."""
        return {self.row.key, self.key} | ({self.column.pair.key} if self.column.pair else set())

    @property
    def title(self) -> str:
        return self.part.title

    @property
    def dataset(self) -> str:
        return self.column.dataset

    @property
    def score(self) -> Score:
        return self.column.score

    @property
    def reported(self) -> float | None:
        """The printed number alone."""
        return self.printed.value if self.printed else None

    @property
    def keeps(self) -> tuple[str, ...]:
        """The analyses whose arrays are kept beside its records."""
        return self.column.keeps.get(self.row.key, ())

    def runs(self, seeds: int) -> list[Run]:
        """The runs that fill the cell: seeds 1, 2, ..., as far as they count here; a teacher's first is the one that
        teaches.
        """
        if self.experiment is None:
            return []
        first = TEACHER_SEED if self.row.role == "teacher" else (self.seeds_between or (1, 0))[0]
        counted = (seed for seed in range(first, first + seeds) if self.takes(seed))
        return [Run(self.experiment, seed, keeps=self.keeps) for seed in counted]


class Control(NamedTuple):
    """Where the schedule of a row is given to others: the table, and its plain student and KD on that schedule."""

    table: str
    plain: str
    kd: str


@dataclass(frozen=True)
class Exhibit:
    """A table or figure: its rows, its columns, and how a cell becomes an experiment.

    An `ablation` is a table of ours, which the paper does not print: it asks what one choice is worth.
    `demo_seeds` is how many seeds the demo has time for, `study_seeds` how many any other scale trains; `gain` two rows
    whose difference ends the table.  `controls` names, for a row that the paper trains on another schedule than the
    rest, where the plain student and KD stand that were trained on the same.  `seeds_between` are the
    first and last seed that count here, where other runs of its experiments belong elsewhere.  `choose` settles, from
    what is measured on a data set, rows that depend on it: the key of a row -> the row as it was chosen (a reader's own
    arguments go before), or why there is none (yet).  A table that is `for_own_images` can be made on a reader's own,
    see `on`.
    """

    paper: str
    name: str
    title: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    build: Build
    ablation: bool = False
    key_of: KeyOf = key_of_method
    demo_seeds: int = 1
    gain: tuple[str, str] | None = None
    metric_of: MetricOf = metric_of_line
    controls: Mapping[str, Control] = field(default_factory=dict, hash=False)
    study_seeds: int = SEEDS
    seeds_between: tuple[int, int] | None = None
    choose: Callable[[Profile, str], Mapping[str, Row | Absent]] | None = None
    for_own_images: bool = False

    @property
    def key(self) -> str:
        return f"{self.paper}/{self.name}"

    @property
    def called(self) -> str:
        """`Table 1`, as its paper has it; a table of ours by its title, as far as the first mark."""
        if self.ablation:
            return f"“{re.split('[:,]', self.title)[0]}”"
        for kind, written in (("table", "Table "), ("fig", "Fig. ")):
            number = self.name.removeprefix(kind)
            if number != self.name and number[:1].isdigit():
                return written + number
        return self.name.replace("-", " ")

    @property
    def datasets(self) -> tuple[str, ...]:
        """The paper's data sets, in the order of the table."""
        return tuple(dict.fromkeys(column.dataset for column in self.columns))

    def on(self, dataset: str) -> Exhibit:
        """The same table on another data set, such as a reader's own images; figures have nothing kept there.

        Raises KdnbError for a data set that there is not, and where the table is not `for_own_images`.
        """
        if dataset in self.datasets:
            return self
        if not self.for_own_images or not datasets.is_own(dataset):
            raise unknown(f"data set of {self.key}", dataset, self.datasets)
        return replace(self, columns=tuple(dict.fromkeys(replace(c, dataset=dataset, keeps={}) for c in self.columns)))

    def datasets_of(self, profile: str | Profile) -> tuple[str, ...]:
        """The data sets under a profile: the paper's, or the embedded digits that stand for them."""
        return tuple(dict.fromkeys(column.dataset for column in self.columns_of(profile)))

    def columns_of(self, profile: str | Profile) -> tuple[Column, ...]:
        """The columns under a profile, each once: with the embedded digits where they stand for the paper's images."""
        if not get_profile(profile).embedded_data:
            return self.columns
        return tuple(dict.fromkeys(replace(column, dataset="digits") for column in self.columns))

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs of networks in the order of the table; none where all rows have the same."""
        return tuple(dict.fromkeys(column.pair for column in self.columns if column.pair is not None))

    def seeds(self, profile: str | Profile) -> int:
        """How many seeds a profile trains where nothing else is asked for."""
        return self.demo_seeds if get_profile(profile).embedded_data else self.study_seeds

    def row(self, key: str) -> Row:
        """The row of a key; KdnbError names the nearest."""
        for row in self.rows:
            if row.key == key:
                return row
        raise unknown(f"row of {self.key}", key, [row.key for row in self.rows])

    def names(self) -> dict[str, list[Part]]:
        """What parts may be called: a row by its key, `<pair>/<row>`, and all rows of a pair by the pair's."""
        found = {row.key: [Part(row)] for row in self.rows}
        for pair in self.pairs:
            found[pair.key] = [Part(row, pair) for row in self.rows]
            found |= {part.key: [part] for part in found[pair.key]}
        return found

    def parts(self, asked: Iterable[Asked] | None = None) -> list[Part]:
        """The parts that are asked for, all without; KdnbError for a name that none has."""
        if asked is None:
            return [Part(row) for row in self.rows]
        found, names = [], self.names()
        for one in asked:
            if isinstance(one, str):
                if one not in names:
                    raise unknown(f"row of {self.key}", one, names)
                found += names[one]
            else:
                found.append(self._told_apart(Part(one) if isinstance(one, Row) else one))
        return found

    def _own(self, row: Row) -> Row | None:
        """The table's own row of this key, where `row` is another one: a reader's, with arguments of their own."""
        return next((own for own in self.rows if own.key == row.key and own is not row), None)

    def _told_apart(self, part: Part) -> Part:
        """A part whose arguments are not the table's says so in its label: `KD, temperature 4`."""
        own = self._own(part.row)
        if own is None:
            return part
        column = next(c for c in self._columns_for([part], get_profile("paper")) if part.stands_in(c))
        changed = _changed(*(self.build(row, column, get_profile("paper")) for row in (own, part.row)))
        return replace(part, row=replace(part.row, label=", ".join([own.label, *changed])))

    def cells(
        self, profile: str | Profile, dataset: str | None = None, asked: Iterable[Asked] | None = None
    ) -> list[Cell]:
        """The cells of one data set or of all, column by column, those that are asked for in that order."""
        profile, parts = get_profile(profile), self.parts(asked)
        if dataset is not None and dataset not in self.datasets_of(profile):
            known, ours = self.datasets_of(profile), f"data set of {self.key}"
            raise no_data_set(ours, dataset, profile, known, self.for_own_images)
        settled = self.choose(profile, self.datasets[0]) if self.choose else {}
        return [
            self._cell(part.row, settled.get(part.row.key), column, profile)
            for column in self._columns_for(parts, profile)
            if dataset in (None, column.dataset)
            for part in parts
            if part.stands_in(column)
        ]

    def every(self, profile: str | Profile) -> list[Cell]:
        """All cells, those too that nothing was chosen for: what may be measured."""
        return replace(self, choose=None).cells(profile)

    def cell(self, profile: str | Profile, asked: Asked, dataset: str | None = None) -> Cell:
        """The one cell of this name, on the first data set unless another is named; KdnbError where it has several."""
        cells = self.cells(profile, dataset or self.datasets_of(profile)[0], [asked])
        pairs = dict.fromkeys(cell.key for cell in cells)
        if len(pairs) > 1:
            raise KdnbError(f"{self.key} has a row '{asked}' for every pair: {', '.join(pairs)}; name one.")
        return cells[0]

    def _columns_for(self, parts: Iterable[Part], profile: Profile) -> list[Column]:
        """The exhibit's columns, and such as it would have for pairs of networks that it does not show."""
        own = self.columns_of(profile)
        more = [replace(column, pair=part.pair, keeps={}) for part in parts if part.pair for column in own]
        known = {column.pair for column in own}
        return list(dict.fromkeys([*own, *(column for column in more if column.pair not in known)]))

    def _cell(self, row: Row, settled: Row | Absent | None, column: Column, profile: Profile) -> Cell:
        """The cell of a row, with what was chosen for it where it has no arguments of its own."""
        built: Experiment | Absent
        built = settled if isinstance(settled, Absent) else self.build(_taking(row, settled), column, profile)
        key = column.dataset, column.score.key, Part(row, column.pair).printed_key
        printed = None if self.ablation else reported(self.paper, self.name, self.key_of, self.metric_of).get(key)
        own = self._own(row)
        if printed and own is not None and _changed(*(self.build(r, column, profile) for r in (own, row))):
            printed = None  # the paper's number is of the paper's arguments
        cell = Cell(self.key, row, column, profile, None, printed, seeds_between=self.seeds_between)
        if isinstance(built, Awaited):
            waits = replace(cell, why_not=built.why, waits=True)
            return replace(waits, awaits=built.runs, awaits_table=built.whole_table)
        return replace(cell, why_not=built.why) if isinstance(built, Absent) else replace(cell, experiment=built)


def _taking(row: Row, settled: Row | Absent | None) -> Row:
    """A row with what was chosen for it, but for its own arguments."""
    if not isinstance(settled, Row):
        return row
    return replace(row, arguments={**settled.arguments, **row.arguments}, schedule=settled.schedule)


def no_data_set(kind: str, dataset: str, profile: Profile, known: Iterable[str], open_to_own: bool) -> KdnbError:
    """The error for a data set that is none of those known under a profile, and may be a reader's that is to come."""
    if profile.embedded_data and datasets.is_own(dataset):
        return KdnbError(
            "The demo trains on the digits alone; images of your own take --profile pilot, short or paper."
        )
    error = unknown(f"{kind} under profile '{profile.name}'", dataset, known)
    if not open_to_own or profile.embedded_data:
        return error
    return KdnbError(f"{error} Images of your own come first: `kdnb data prepare {short(dataset)} --from FOLDER`.")


def _changed(before: Experiment | Absent, after: Experiment | Absent) -> list[str]:
    """The arguments that tell an experiment from another of its method: `temperature 4`."""
    if isinstance(before, Absent) or isinstance(after, Absent):
        return []
    known = methods.get(before.method).arguments(before.arguments)
    asked = methods.get(after.method).arguments(after.arguments)
    return [f"{name.replace('_', ' ')} {asked[name]}" for name in asked if asked[name] != known.get(name)]
