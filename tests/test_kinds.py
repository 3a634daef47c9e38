"""Arguments and parameters from outside: brought to their kind, held to their range, or refused in a sentence."""

from __future__ import annotations

import pytest
from study_samples import experiment

from kdnb import kinds, methods
from kdnb.errors import KdnbError
from kdnb.exhibits import comparison
from kdnb.exhibits.show import show

OBVIOUS = [
    ("float", "4", 4.0),
    ("float", 4, 4.0),
    ("float", " 0.5 ", 0.5),
    ("float", -0.0, 0.0),
    ("int", "16", 16),
    ("int", 16.0, 16),
    ("bool", "false", False),
    ("bool", "True", True),
    ("float | None", "none", None),
    ("float | None", None, None),
    ("tuple[int, ...]", [82, "123"], (82, 123)),
    ("Literal['both', 'self']", "self", "self"),
]
REFUSED = [
    ("float", "four", "x is a number; 'four' is not."),
    ("float", True, "x is a number; True is not."),
    ("float", None, "x is a number; None is not."),
    ("float", float("nan"), "x is a number; nan is not."),
    ("float", "1e999", "x is a number; '1e999' is not."),
    ("int", 2.5, "x is a whole number; 2.5 is not."),
    ("int", 10**17, "x is a whole number; 100000000000000000 is not."),
    ("float", "9" * 400, f"x is a number; '{'9' * 79}... is not."),
    ("Literal['both', 'self']", ["self"], "There is no x called '['self']'; did you mean self?"),
    ("int", "true", "x is a whole number; 'true' is not."),
    ("bool", 0, "x is true or false; 0 is not."),
    ("bool", "no", "x is true or false; 'no' is not."),
    ("tuple[int, ...]", "82,123", "x is a list; '82,123' is not."),
    ("tuple[int, ...]", [82, 0.5], "every entry of x is a whole number; 0.5 is not."),
    ("Literal['both', 'self']", "slf", "There is no x called 'slf'; did you mean self?"),
]
OUT_OF_RANGE = [
    ("kd", {"temperature": 0}, "temperature of method 'kd' must be greater than 0; it was given as 0.0."),
    ("kd", {"soft_weight": "-1"}, "soft_weight of method 'kd' must be at least 0; it was given as -1.0."),
    ("fitnet", {"hint_epochs": 0}, "hint_epochs of method 'fitnet' must be at least 1; it was given as 0."),
    ("pkt+kd", {"kernel_batch_size": 0}, "kernel_batch_size of method 'pkt+kd' must be at least 1; it was given as 0."),
    ("fsp", {"flow_milestones": [82, 0]}, "flow_milestones of method 'fsp' must be at least 1; it was given as 0."),
    ("crd", {"negatives": -5}, "negatives of method 'crd' must be at least 1; it was given as -5."),
    ("slkd", {"mix": 1.5}, "mix of method 'slkd' must be at least 0 and at most 1; it was given as 1.5."),
]


@pytest.mark.parametrize(("kind", "given", "meant"), OBVIOUS)
def test_a_value_with_one_obvious_meaning_gets_it(kind, given, meant):
    found = kinds.brought("x", kind, given)
    assert repr(found) == repr(meant)


@pytest.mark.parametrize(("kind", "given", "sentence"), REFUSED)
def test_a_value_of_another_kind_is_refused(kind, given, sentence):
    with pytest.raises(KdnbError) as error:
        kinds.brought("x", kind, given)
    assert str(error.value) == sentence


@pytest.mark.parametrize(("method", "given", "sentence"), OUT_OF_RANGE)
def test_an_argument_out_of_its_range_is_refused_before_anything_is_trained(method, given, sentence):
    with pytest.raises(KdnbError) as error:
        experiment("kd", method=method, arguments=given)
    assert str(error.value) == sentence


def test_a_switch_given_as_text_is_the_switch():
    """`papermill -p coupled false` gives the text: it is the uncoupled method, in record, path and message alike."""
    text, switch = (experiment("kd", method="slkd", arguments={"coupled": value}) for value in ("false", False))
    assert text.fingerprint == switch.fingerprint != experiment("kd", method="slkd", arguments={}).fingerprint
    assert text.variant == switch.variant == "coupled-False"


def test_every_argument_of_every_method_is_read_and_its_default_allowed():
    for name, entry in methods.catalogue().items():
        assert set(entry.kinds) == set(entry.defaults), name
        defaults = entry.arguments(entry.defaults)
        assert {n: (type(v), v) for n, v in defaults.items()} == {n: (type(v), v) for n, v in entry.defaults.items()}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"seeds": 0}, "seeds must be at least 1 and at most 1000; it was given as 0."),
        ({"seeds": 1.5}, "seeds is a whole number; 1.5 is not."),
        ({"device": "gpu"}, "There is no device called 'gpu'; did you mean cpu?"),
        ({"seeds": 10**9}, "seeds must be at least 1 and at most 1000; it was given as 1000000000."),
        ({"profile": "pilto"}, "There is no profile called 'pilto'; did you mean pilot?"),
        ({"profile": ["pilot"]}, "There is no profile called '['pilot']'; did you mean pilot?"),
    ],
)
def test_parameters_of_a_notebook_go_through_the_same_door(monkeypatch, given, sentence):
    monkeypatch.setenv("KDNB_BATCH", "1")  # told though nothing is trained
    with pytest.raises(KdnbError) as error:
        show("comparison/table1", ["plain"], **given)
    assert str(error.value) == sentence


@pytest.mark.parametrize("alpha", [0.8, "0.8"])
def test_a_share_as_text_is_that_share(alpha):
    assert comparison.soft_share(alpha) == {"soft_weight": 0.8, "labels_weight": 0.2}


@pytest.mark.parametrize("alpha", [None, [0.8], 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(alpha):
    with pytest.raises(KdnbError, match=r"^alpha "):
        comparison.soft_share(alpha)


def test_a_count_of_seeds_as_text_is_that_count(monkeypatch):
    monkeypatch.setenv("KDNB_BATCH", "1")
    asked = [show("comparison/table1", ["plain"], seeds=seeds) for seeds in ("2", 2)]
    assert asked[0].missing == asked[1].missing


def test_a_stage_of_no_epochs_is_refused():
    from kdnb.methods.stage import Optimiser, Stage

    with pytest.raises(KdnbError, match=r"Stage 'hint' has 0 epochs of batches of 64; both are at least 1\."):
        Stage("hint", {}, [], lambda batch: {}, Optimiser("sgd", 0.1), epochs=0, batch_size=64, student_depth=None)
