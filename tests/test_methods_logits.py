"""What is learned from answers: labels, KD, its halves, a mixed-up or an equal teacher, KD without labels; warm-ups."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from method_samples import CLASSES, SIZE, logits, make_inputs, make_setup, member, numbers, ready, stages
from study_samples import TINY
from torch import Tensor

from kdnb import losses
from kdnb.errors import KdnbError
from kdnb.methods import get
from kdnb.methods.stage import Batch, warm_up

# -- one step of each, by another formula ------------------------------------------------------------------


def test_plain_asks_no_teacher() -> None:
    assert not get("plain").needs_teacher
    stage, _, batch = ready("plain")
    assert stage.teacher_depth is None and set(stage.objective(batch)) == {"ce"}


def test_kd_alone() -> None:
    stage, _, batch = ready("kd", labels_weight=0.2, soft_weight=0.8, temperature=8.0)
    assert stage.teacher_depth == "logits"
    s, t = logits(batch.student), logits(batch.teacher)
    expected = 0.2 * losses.cross_entropy(s, batch.labels) + 0.8 * losses.kd(s, t, 8.0)
    assert sum(stage.objective(batch).values()).item() == pytest.approx(expected.item())


def test_dkd_by_hand() -> None:
    stage, _, batch = ready("dkd", epoch=4, beta=6.0)
    p_s, p_t = ((logits(a) / 4).softmax(1).double() for a in (batch.student, batch.teacher))
    expected = 0.0
    for s, t, y in zip(p_s, p_t, batch.labels, strict=True):
        expected += (t[y] * (t[y] / s[y]).log() + (1 - t[y]) * ((1 - t[y]) / (1 - s[y])).log()).item()
        rest = torch.arange(CLASSES) != y
        q_s, q_t = s[rest] / s[rest].sum(), t[rest] / t[rest].sum()
        expected += 6 * (q_t * (q_t / q_s).log()).sum().item()
    assert stage.objective(batch)["dkd"].item() == pytest.approx(5 / 20 * 16 * expected / SIZE, rel=1e-4)


def test_distill_is_kd_without_labels() -> None:
    stage, _, batch = ready("distill")
    p, log_q = (logits(batch.teacher) / 2).softmax(1), (logits(batch.student) / 2).log_softmax(1)
    assert stage.objective(batch)["soft"].item() == pytest.approx(-(p * log_q).sum().item() / SIZE, rel=1e-5)


def test_tf_kd_learns_from_its_own_kind() -> None:
    setup = make_setup(teacher="resnet8")
    usual, _, batch = ready("tf-kd", setup=setup)
    (kd,) = stages("kd", setup, labels_weight=0.1, soft_weight=0.9, temperature=4.0)
    assert numbers(usual.objective(batch)) == pytest.approx(numbers(kd.objective(batch)))
    (code,) = stages("tf-kd", setup, multiplier_weight=50.0, mean="entries")
    expected = 50 / CLASSES * usual.objective(batch)["kd"].item()
    assert code.objective(batch)["kd"].item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(KdnbError, match=r"a trained resnet8, as its student is; not a resnet14"):
        stages("tf-kd")


# -- warm-ups ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dkd", "reviewkd"])
def test_the_warm_up_counts_the_papers_epochs_from_one(name: str) -> None:
    values = {epoch: ready(name, epoch=epoch) for epoch in (0, 9, 19, 20, 239)}
    terms = {e: s.objective(b)[{"dkd": "dkd", "reviewkd": "review"}[name]].item() for e, (s, _, b) in values.items()}
    whole = terms[239]
    assert {e: term / whole for e, term in terms.items()} == pytest.approx({0: 0.05, 9: 0.5, 19: 1, 20: 1, 239: 1})
    _, _, batch = ready("dkd", epoch=3)
    assert warm_up(batch, 0).item() == 1


def test_the_warm_up_of_a_shortened_run_is_as_far_as_the_papers() -> None:
    """A quarter of the epochs: the run's epoch k stands for the paper's 4 k."""
    setup = make_setup("dkd")
    stage = stages("dkd", setup)[0].shortened(TINY.factor / 4)
    seen: list[float] = []
    kept = stage.objective

    def objective(batch: Batch) -> dict[str, Tensor]:
        seen.append(warm_up(batch, 20).item())
        return kept(batch)

    running = member(dataclasses.replace(stage, objective=objective))
    for epoch in range(6):
        running.compute(make_inputs(stage, setup, epoch=epoch), {})
    assert stage.epochs == 50 and seen == pytest.approx([0.05, 0.25, 0.45, 0.65, 0.85, 1.0])


# -- settings ----------------------------------------------------------------------------------------------


def test_a_whole_number_is_the_same_setting_with_and_without_its_point():
    kd = get("kd")
    assert kd.arguments({"temperature": 8}) == kd.arguments({"temperature": 8.0})
    assert isinstance(kd.arguments({"temperature": 8})["temperature"], float)
    assert get("crd").arguments({"negatives": 16})["negatives"] == 16
    assert get("slkd").arguments({"coupled": False})["coupled"] is False


def test_the_best_of_the_steps_of_the_rate() -> None:
    setup = make_setup("plain")
    recipe = dataclasses.replace(setup.recipe, milestones=(30, 130), selection="steps")
    selection = dataclasses.replace(setup, recipe=recipe).selection()
    assert selection is not None and selection.at == (30, 130, 200)
    with pytest.raises(KdnbError, match="did you mean steps"):
        dataclasses.replace(setup, recipe=dataclasses.replace(recipe, selection="step")).selection()
