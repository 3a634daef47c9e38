"""The register of methods: `@method(name, revision=...)` on a function from a `Setup` to stages.

The catalogue is read from the source of the files in this folder without importing them, so a page that
only shows stored runs needs no torch, and a new method is one new file and nothing else.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdnb import kinds
from kdnb.catalogue import Entry, literal, registered
from kdnb.errors import KdnbError, unknown

if TYPE_CHECKING:
    from kdnb.methods.stage import Setup, Stage

Build = Callable[..., "list[Stage]"]

#: The method that others are measured beside; wherever it has a row, the row is called so too.
KD = "kd"
#: Arguments that `<method>+kd` takes beside the method's own, see `kdnb.methods.stage.Supervision`.
KD_DEFAULTS: dict[str, Any] = {"labels_weight": 0.1, "soft_weight": 0.9, "temperature": 4.0}

#: What arguments may be, by the last word of their names: the same for all methods.
RANGES: dict[tuple[str, ...], dict[str, Any]] = {
    ("epochs", "patience", "size", "milestones", "negatives", "teachers", "width", "keep", "stage"): {"low": 1},
    ("temperature", "lr"): {"low": 0, "open_low": True},
    ("weight", "alpha", "beta", "decay"): {"low": 0},
    ("share", "sparsity"): {"low": 0, "high": 1, "open_low": True},
    ("momentum", "mix", "inherited"): {"low": 0, "high": 1},
}


@dataclass(frozen=True)
class Method:
    """A method's entry in the catalogue.

    `revision` is raised when the mathematics changes; `of` is whose method it is, a `student`'s or, where it looks at
    nothing but the teacher, the `teacher`'s; `after` names methods of the teacher alone that it goes on from, with the
    arguments `<last word of the name>_<argument>`; `shared` names the stages with a record of their own,
    and `stage_arguments` what such a stage depends on beside the arguments that carry its name; `defaults`
    are the method's arguments, `kinds` their annotations, and `later` those that came after records were stored
    (behind the `*`).  A `label_free` method has no place for labels, and so none for KD in their stead.
    `step_of` names a method whose step does the same work: what it costs need not be measured again.  The teacher of a
    method with a `teacher_alike` has to have the student's architecture.
    """

    name: str
    revision: int
    needs_teacher: bool = True
    label_free: bool = False
    shared: tuple[str, ...] = ()
    of: str = "student"
    after: tuple[str, ...] = ()
    with_kd: bool = False
    stage_arguments: dict[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    later: tuple[str, ...] = ()
    step_of: str = ""
    teacher_alike: bool = False
    file: str = ""
    function: str = ""

    def arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        """All arguments, given or default; an unknown one is an error that names the nearest.

        Each is brought to its kind and held to its range (`RANGES`): 8, 8.0 and "8" are one experiment.
        """
        for name in given:
            if name not in self.defaults:
                raise unknown(f"argument of method '{self.name}'", name, self.defaults)
        return {**self.defaults, **{name: self._taken(name, value) for name, value in given.items()}}

    def _taken(self, name: str, value: Any) -> Any:
        what = f"{name} of method '{self.name}'"
        value = kinds.brought(what, self.kinds[name], value)
        for words, limits in RANGES.items():
            if not isinstance(value, bool | str) and any(name == word or name.endswith(f"_{word}") for word in words):
                return kinds.limited(what, value, **limits)
        return value

    def told(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments as a fingerprint has them: those that came later only where they are not at their default."""
        arguments = self.arguments(given)
        return {n: v for n, v in arguments.items() if n not in self.later or v != self.defaults[n]}

    def arguments_of(self, stages: Sequence[str], given: dict[str, Any]) -> dict[str, Any]:
        """Those of the given arguments that some shared stages depend on."""
        named = {name for stage in stages for name in self.stage_arguments.get(stage, ())}
        carried = tuple(f"{stage}_" for stage in stages)
        return {k: v for k, v in given.items() if k.startswith(carried) or k in named}

    def passed_on(self, step: str, given: dict[str, Any]) -> dict[str, Any]:
        """What the method passes on to a step of the teacher alone, given or by default: of `x-paraphraser` all that
        begins with `paraphraser_`.
        """
        arguments, carried = self.arguments(given), f"{step.rpartition('-')[2]}_"
        return {k.removeprefix(carried): v for k, v in arguments.items() if k.startswith(carried)}

    @property
    def takes_kd(self) -> bool:
        """Whether there is a `<method>+kd`: the method has a teacher and labels, and no soft targets of its own."""
        taught = self.needs_teacher and self.of == "student" and not self.label_free
        return taught and not set(self.defaults) & set(KD_DEFAULTS)

    def stages(self, setup: Setup, arguments: dict[str, Any]) -> list[Stage]:
        """Build the stages: imports the method's file, and with it torch."""
        module = importlib.import_module(f"kdnb.methods.{Path(self.file).stem}")
        build: Build = getattr(module, self.function)
        own = {k: v for k, v in arguments.items() if not (self.with_kd and k in KD_DEFAULTS)}
        return build(setup, **own)


def method(
    name: str,
    *,
    revision: int,
    needs_teacher: bool = True,
    label_free: bool = False,
    shared: tuple[str, ...] = (),
    of: str = "student",
    after: tuple[str, ...] = (),
    stage_arguments: dict[str, tuple[str, ...]] | None = None,
    step_of: str = "",
    teacher_alike: bool = False,
) -> Callable[[Build], Build]:
    """Register a function as a method; every argument must be a literal, since the source is read.

    Arguments of the function behind a `*` came after records of it were stored: at their defaults they are left out of
    its fingerprints, and mean what was done before they came.  The decorator's arguments are the fields of `Method` of
    the same names.
    """

    def register(build: Build) -> Build:
        parameters = list(inspect.signature(build).parameters.values())[1:]
        if any(inspect.Parameter.empty in (p.default, p.annotation) for p in parameters):
            raise KdnbError(f"Method '{name}': every argument after the set-up needs an annotation and a default.")
        return build

    return register


@functools.cache
def catalogue() -> dict[str, Method]:
    """Every registered method by name, read from the files beside this one."""
    return found_in(Path(__file__).parent)


def found_in(folder: Path) -> dict[str, Method]:
    """The methods of a folder's files by name; KdnbError where two share one."""
    found: dict[str, Method] = {}
    for entry in registered(folder, "method"):
        if entry.name in found:
            raise KdnbError(f"Method '{entry.name}' is registered in {found[entry.name].file} and {entry.file}.")
        if "revision" not in entry.fields:
            raise KdnbError(f"{entry.place}: method '{entry.name}' needs a revision; a new one says revision=1.")
        _check_fields(entry)
        given = _arguments(entry)
        found[entry.name] = Method(
            name=entry.name,
            defaults={a.arg: literal(d, f"the default of '{a.arg}'", entry.file) for a, _, d in given},
            kinds={a.arg: ast.unparse(kind) for a, kind, _ in given},
            later=tuple(argument.arg for argument in entry.function.args.kwonlyargs),
            file=entry.file,
            function=entry.function.name,
            **entry.fields,
        )
    return found


def get(name: str) -> Method:
    """The method of a name; `<method>+kd` is a method whose labels are replaced by KD's objective."""
    base_name, plus, extra = name.partition("+")
    known = catalogue()
    if base_name not in known or (plus and not (extra == "kd" and known[base_name].takes_kd)):
        combined = [f"{n}+kd" for n, entry in known.items() if entry.takes_kd]
        raise unknown("method", name, [*known, *combined])
    base = known[base_name]
    if not plus:
        return base
    kinds_of_kd = dict.fromkeys(KD_DEFAULTS, "float")
    return dataclasses.replace(
        base, name=name, with_kd=True, defaults={**base.defaults, **KD_DEFAULTS}, kinds={**base.kinds, **kinds_of_kd}
    )


def _check_fields(entry: Entry) -> None:
    """KdnbError for a keyword that `@method` does not take, or takes as another kind."""
    known = {n: p for n, p in inspect.signature(method).parameters.items() if p.kind is p.KEYWORD_ONLY}
    for name, value in entry.fields.items():
        if name not in known:
            fault = unknown(f"argument of @method for '{entry.name}'", name, known)
            raise KdnbError(f"{entry.place}: {fault}")
        default = known[name].default
        kind = int if name == "revision" else dict if default is None else type(default)
        if type(value) is not kind:
            hint = f"; write ({value!r},)" if kind is tuple and isinstance(value, str) else ""
            raise KdnbError(
                f"{entry.place}: {name} of method '{entry.name}' has to be of the kind {kind.__name__}; "
                f"{value!r} is not{hint}."
            )


def _arguments(entry: Entry) -> list[tuple[ast.arg, ast.expr, ast.expr]]:
    """The arguments after the set-up, each with its annotation and its default; KdnbError where one is missing."""
    all_of = entry.function.args
    first = [*all_of.posonlyargs, *all_of.args]
    if not first or all_of.vararg or all_of.kwarg:
        raise KdnbError(f"{entry.place}: method '{entry.name}' takes the set-up first, and every argument by its name.")
    defaults: list[ast.expr | None] = [None] * (len(first) - len(all_of.defaults))
    defaults += all_of.defaults
    given = []
    for argument, default in zip([*first, *all_of.kwonlyargs], [*defaults, *all_of.kw_defaults], strict=True):
        if argument is first[0]:
            continue
        if default is None or argument.annotation is None:
            raise KdnbError(
                f"{entry.file}, line {argument.lineno}: '{argument.arg}' of method '{entry.name}' needs an annotation "
                f"and a default, as in '{argument.arg}: float = 1.0'."
            )
        given.append((argument, argument.annotation, default))
    return given
