"""Every method of the catalogue: what all of them have in common, one property a test."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from capturable import capturable
from method_samples import (
    KD,
    RECIPE,
    SIZE,
    logits,
    make_batch,
    make_inputs,
    make_setup,
    member,
    numbers,
    parameters,
    ready,
    stages,
)
from torch import Tensor

from kdnb import losses
from kdnb.errors import KdnbError
from kdnb.methods import catalogue, get, registry
from kdnb.methods.stage import Schedule, Setup, Stage, accuracy
from kdnb.training.member import Member

ALONE = list(catalogue())
WITH_KD = [name for name, entry in catalogue().items() if entry.takes_kd]
OF_STUDENTS = [name for name, entry in catalogue().items() if entry.of == "student"]
#: Methods that begin with other networks than the usual pair.
NETWORKS = {"tf-kd": ("resnet8", "resnet8")}
#: Methods that leave their students' features as they are.
READ_OFF = {"probe"}

#: What an objective that does not repeat has most likely done.
DRAWN = "it did not say the same twice: does it draw from torch's own generator, in place of its stage's `draws`?"
every_method = pytest.mark.parametrize("name", ALONE)
every_combination = pytest.mark.parametrize("name", [*ALONE, *(f"{name}+kd" for name in WITH_KD)])


def setup_of(name: str, seed: int = 1) -> Setup:
    setup = make_setup(name, *NETWORKS.get(name, ()), seed=seed)
    if get(name).of == "teacher":  # which is given no student, and asks for none
        return dataclasses.replace(setup, student=None, recipe=None)  # type: ignore[arg-type]
    return setup


@functools.cache
def places(name: str) -> range:
    """The positions of a method's stages."""
    return range(len(stages(name, setup_of(name))))


def begun(name: str, position: int, seed: int = 1) -> tuple[Stage, Setup, Member]:
    """A stage in the engine, prepared."""
    setup = setup_of(name, seed)
    stage = stages(name, setup)[position]
    running = member(stage)
    if stage.prepare is not None:
        running.prepare([make_inputs(stage, setup, k) for k in range(stage.prepare_batches)])
    return stage, setup, running


def step(running: Member, setup: Setup, seed: int = 0) -> None:
    running.compute(make_inputs(running.stage, setup, seed), running.draw(SIZE))
    running.step += 1


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def unlike(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in before.items() if not torch.equal(tensor.nan_to_num(), after[name].nan_to_num())}


# -- the catalogue -----------------------------------------------------------------------------------------


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(KdnbError, match="did you mean fitnet"):
        get("fitnett")
    combined = ("dkd+kd", "slkd+kd", "plain+kd", "kd+kd", "at+at", "information-flow+kd", "srm-dictionaries+kd")
    for name in combined:  # which have soft targets of their own, no teacher, no labels or no student
        with pytest.raises(KdnbError):
            get(name)


@every_method
def test_a_methods_file_is_what_the_catalogue_says(name: str) -> None:
    """Defaults are read from the source; the function itself has the same."""
    entry = get(name)
    source = (Path(registry.__file__).parent / entry.file).read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source))
    function = getattr(importlib.import_module(f"kdnb.methods.{entry.file[:-3]}"), entry.function)
    signature = list(inspect.signature(function).parameters.values())[1:]
    assert {p.name: p.default for p in signature} == entry.defaults
    assert function.__doc__, f"{entry.file}: {entry.function} has no docstring: which paper and equation is it?"
    assert {p.name for p in signature if p.kind is p.KEYWORD_ONLY} == {*entry.later}
    if entry.takes_kd:
        combined = get(f"{name}+kd")
        assert combined.defaults == entry.defaults | registry.KD_DEFAULTS and not combined.takes_kd


@every_method
def test_wrong_arguments_are_refused(name: str) -> None:
    entry = get(name)
    with pytest.raises(KdnbError, match=f"no argument of method '{name}' called 'no_such'"):
        entry.arguments({"no_such": 1})
    held = [word for words in registry.RANGES for word in words]
    for argument, kind in entry.kinds.items():
        with pytest.raises(KdnbError, match=argument):
            entry.arguments({argument: 3 if kind == "str" else "neither"})
        if kind.split()[0] in ("int", "float") and argument.rpartition("_")[2] in held:
            with pytest.raises(KdnbError, match=f"{argument} of method '{name}' must be"):
                entry.arguments({argument: -1})


@every_method
def test_stages_are_those_that_are_declared(name: str) -> None:
    entry, made = get(name), stages(name, setup_of(name))
    assert [stage.name for stage in made if stage.shared] == list(entry.shared)
    assert len({stage.name for stage in made}) == len(made)
    assert {*entry.stage_arguments} <= {*entry.shared}
    assert all({*names} <= {*entry.defaults} for names in entry.stage_arguments.values())
    for stage in entry.shared:
        own = entry.arguments_of([stage], entry.defaults)
        assert own, f"the shared stage {stage} has no arguments of its own"


# -- steps -------------------------------------------------------------------------------------------------


@every_combination
def test_a_step_trains_what_it_says_and_nothing_else(name: str) -> None:
    """Its loss is finite, it can be captured, and no parameter but those that learn has moved: the teacher's least."""
    entry, moved_students = get(name), False
    for position in places(name) if not entry.with_kd else [-1]:  # the steps before are the same
        stage, setup, running = begun(name, position)
        inputs, draws = make_inputs(stage, setup), running.draw(SIZE)
        learning = parameters(module for turn in stage.turns for module in turn.trainable)
        taught = parameters([setup.student]) if setup.student is not None else set()
        known = parameters(stage.modules.values()) | taught
        assert learning and learning <= known
        before = {parameter: parameter.detach().clone() for parameter in known}
        teacher = copied(setup.teacher_network().state_dict())
        with capturable():
            running.compute(inputs, draws)
        assert running.check() and all(total.isfinite() for total in running.sums.values())
        moved = {parameter for parameter, value in before.items() if not torch.equal(parameter, value)}
        assert moved == learning
        assert not unlike(teacher, setup.teacher_network().state_dict())
        moved_students |= bool(moved & taught - parameters([setup.student.classifier])) if taught else False
    assert moved_students == (entry.of == "student" and name not in READ_OFF)


@every_method
def test_it_stops_at_its_depth(name: str) -> None:
    """What it says is deep enough, and what is deeper, as in a cohort where another asks for it, changes nothing."""
    for position in places(name):
        stage, setup, batch = ready(name, position, setup=setup_of(name))
        said = numbers(stage.objective(batch))
        assert all(torch.tensor(value).isfinite() for value in said.values())
        deeper = make_batch(dataclasses.replace(stage, teacher_depth="logits"), setup)
        if stage.student_depth is not None:
            deeper.student = setup.student.activations(deeper.images)
        assert logits(deeper.teacher) is not None and numbers(stage.objective(deeper)) == said, DRAWN


@every_method
def test_its_state_survives_a_resume(name: str) -> None:
    """Another stage that takes it up goes on as the first does, whatever it had drawn for itself."""
    for position in places(name):
        _, setup, first = begun(name, position)
        _, other, second = begun(name, position, seed=2)
        step(first, setup)
        second.restore(*copied_state(first))
        for running, its in ((first, setup), (second, other)):
            step(running, its, seed=1)
        assert not unlike(first.weights(), second.weights()), DRAWN
        assert not unlike(first.sums, second.sums), DRAWN


def copied_state(running: Member) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, meta = running.state()
    return copied(tensors), dict(meta)


@every_method
def test_own_modules_depend_on_the_seed_alone(name: str) -> None:
    """Whatever was drawn before, a method's own modules begin the same; another seed gives others."""

    def own(seed: int, drawn_before: int) -> dict[str, Tensor]:
        setup = setup_of(name, seed)
        torch.rand(drawn_before)
        (first, *_) = stages(name, setup)
        return copied({f"{n}.{k}": v for n, m in first.modules.items() if n != "student" for k, v in
                       m.state_dict().items()})  # fmt: skip

    first = own(1, 0)
    assert not unlike(first, own(1, 7))
    if any(tensor.is_floating_point() and tensor.numel() > 1 for tensor in first.values()):
        assert unlike(first, own(2, 0))


# -- what is learned last ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_STUDENTS)
def test_the_last_stage_follows_the_recipe(name: str) -> None:
    setup = setup_of(name)
    last = stages(name, setup)[-1]
    assert last.name == "train" and last.optimiser == setup.optimiser() and last.modules["student"] is setup.student
    assert (last.epochs, last.batch_size) == (RECIPE.epochs, SIZE)
    assert last.schedule == Schedule(RECIPE.milestones, RECIPE.factor)
    assert last.selection is not None and last.selection.validate is accuracy and last.selection.highest


@pytest.mark.parametrize("name", [*WITH_KD, *(f"{name}+kd" for name in WITH_KD)])
def test_what_stands_where_labels_are_needed(name: str) -> None:
    """Cross-entropy alone, or KD's two terms with its weights; beside them the method's own."""
    stage, _, batch = ready(name)
    terms = numbers(stage.objective(batch))
    labels = losses.cross_entropy(logits(batch.student), batch.labels).item()
    if name.endswith("+kd"):
        soft = losses.kd(logits(batch.student), logits(batch.teacher), KD["temperature"]).item()
        assert terms["ce"] == pytest.approx(KD["labels_weight"] * labels)
        assert terms["kd"] == pytest.approx(KD["soft_weight"] * soft)
    else:
        assert terms["ce"] == pytest.approx(labels) and "kd" not in terms


@pytest.mark.parametrize("name", [name for name in ALONE if get(name).label_free])
def test_what_sees_no_labels_is_the_same_under_others(name: str) -> None:
    stage, _, batch = ready(name)
    before = numbers(stage.objective(batch))
    batch.labels = (batch.labels + 1) % 5
    assert numbers(stage.objective(batch)) == before


# -- settings ----------------------------------------------------------------------------------------------

#: Method -> its arguments as the fact sheet has them for CIFAR-100 (beta and the review's weight: the commonest).
SETTINGS: dict[str, dict[str, Any]] = {
    "at": {"weight": 1000.0, "first_stage": 1},
    "sp": {"weight": 3000.0},
    "rkd": {"distance_weight": 25.0, "angle_weight": 50.0},
    "ofd": {"weight": 1e-3, "teacher_mode": "train"},
    "reviewkd": {"weight": 5.0, "warm_up_epochs": 20},
    "dkd": {"alpha": 1.0, "beta": 8.0, "temperature": 4.0, "warm_up_epochs": 20},
    "slkd-sequential": {
        "teachers": 2,
        **registry.KD_DEFAULTS,
        "self_labels_weight": 1.0,
        "self_soft_weight": 1.0,
        "process_weight": 1.0,
        "mix": 0.5,
    },
}
SETTINGS["slkd"] = {**SETTINGS["slkd-sequential"], "coupled": True, "supervision": "both"}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_the_fact_sheets(name: str) -> None:
    assert get(name).defaults == SETTINGS[name] and get(name).needs_teacher
