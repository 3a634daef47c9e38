"""The register of methods: `@method(name, revision=...)` on a function from a `Setup` to stages.

The catalogue is read from the source of the files in this folder without importing them, so a page that
only shows stored runs needs no torch, and a new method is one new file and nothing else.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdnb.errors import KdnbError, unknown

if TYPE_CHECKING:
    from kdnb.methods.stage import Setup, Stage

Build = Callable[..., "list[Stage]"]

#: Arguments that `<method>+kd` takes beside the method's own, see `kdnb.methods.stage.Supervision`.
KD_DEFAULTS: dict[str, Any] = {"labels_weight": 0.1, "soft_weight": 0.9, "temperature": 4.0}


@dataclass(frozen=True)
class Method:
    """A method's entry in the catalogue.

    `revision` is raised when the mathematics changes; `shared` names the stages with a record of their own,
    and `stage_arguments` what such a stage depends on beside the arguments that carry its name; `defaults`
    are the method's arguments, and `later` those that came after records were stored (behind the `*`).
    """

    name: str
    revision: int
    needs_teacher: bool = True
    shared: tuple[str, ...] = ()
    with_kd: bool = False
    stage_arguments: dict[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    later: tuple[str, ...] = ()
    file: str = ""
    function: str = ""

    def arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        """All arguments, given or default; an unknown one is an error that names the nearest.

        A whole number given where the default has a point is that number: 8 and 8.0 are one experiment.
        """
        for name in given:
            if name not in self.defaults:
                raise unknown(f"argument of method '{self.name}'", name, self.defaults)
        return {**self.defaults, **{name: _as(self.defaults[name], value) for name, value in given.items()}}

    def told(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments as a fingerprint has them: those that came later only where they are not at their default."""
        arguments = self.arguments(given)
        return {n: v for n, v in arguments.items() if n not in self.later or v != self.defaults[n]}

    def arguments_of(self, stage: str, given: dict[str, Any]) -> dict[str, Any]:
        """Those of the given arguments that a shared stage depends on."""
        named = self.stage_arguments.get(stage, ())
        return {k: v for k, v in given.items() if k.startswith(f"{stage}_") or k in named}

    @property
    def takes_kd(self) -> bool:
        """Whether there is a `<method>+kd`: the method has a teacher, and no soft targets of its own."""
        return self.needs_teacher and not set(self.defaults) & set(KD_DEFAULTS)

    def stages(self, setup: Setup, arguments: dict[str, Any]) -> list[Stage]:
        """Build the stages: imports the method's file, and with it torch."""
        module = importlib.import_module(f"kdnb.methods.{Path(self.file).stem}")
        build: Build = getattr(module, self.function)
        own = {k: v for k, v in arguments.items() if not (self.with_kd and k in KD_DEFAULTS)}
        return build(setup, **own)


def _as(default: Any, value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and isinstance(default, float) else value


def method(
    name: str,
    *,
    revision: int,
    needs_teacher: bool = True,
    shared: tuple[str, ...] = (),
    stage_arguments: dict[str, tuple[str, ...]] | None = None,
) -> Callable[[Build], Build]:
    """Register a function as a method; every argument must be a literal, since the source is read.

    Arguments of the function behind a `*` came after records of it were stored: at their defaults they are left out of
    its fingerprints, and mean what was done before they came.  The decorator's arguments are the fields of `Method` of
    the same names.
    """

    def register(build: Build) -> Build:
        parameters = list(inspect.signature(build).parameters.values())[1:]
        if any(p.default is inspect.Parameter.empty for p in parameters):
            raise KdnbError(f"Method '{name}': every argument after the set-up needs a default.")
        return build

    return register


@functools.cache
def catalogue() -> dict[str, Method]:
    """Every registered method by name, read from the files beside this one."""
    found: dict[str, Method] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for entry in _registered(path):
            if entry.name in found:
                raise KdnbError(f"Method '{entry.name}' is registered in {found[entry.name].file} and {path.name}.")
            found[entry.name] = entry
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
    return Method(
        name=name,
        revision=base.revision,
        shared=base.shared,
        with_kd=True,
        stage_arguments=base.stage_arguments,
        defaults={**base.defaults, **KD_DEFAULTS},
        later=base.later,
        file=base.file,
        function=base.function,
    )


def _registered(path: Path) -> list[Method]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    entries = []
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "method":
                fields = {str(k.arg): ast.literal_eval(k.value) for k in decorator.keywords}
                entries.append(
                    Method(
                        name=ast.literal_eval(decorator.args[0]),
                        defaults=_literal_defaults(node),
                        later=tuple(argument.arg for argument in node.args.kwonlyargs),
                        file=path.name,
                        function=node.name,
                        **fields,
                    )
                )
    return entries


def _literal_defaults(node: ast.FunctionDef) -> dict[str, Any]:
    arguments = node.args.args
    defaults = node.args.defaults
    named = zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True)
    values = {a.arg: ast.literal_eval(d) for a, d in named}
    for keyword, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if default is not None:
            values[keyword.arg] = ast.literal_eval(default)
    return values
