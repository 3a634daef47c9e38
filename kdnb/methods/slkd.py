"""SLKD, transferring learning ability (2023): beside the teacher, networks that are learning from it teach.

Self-learning teachers have the teacher's architecture, begin afresh, and learn from labels and teacher as any
student does.  Their answer, or the mean of two, supervises the student as well: it has gone no further than a
learner can follow.  They are optimised as the student is, and thrown away afterwards.

With K(A||B) = T^2 KL(p_A || p_B), the logits of two self-learning teachers mixed before the softmax,
z_L = mix z_L1 + (1 - mix) z_L2, and l, m, l', m' for labels, soft, self labels and self soft weights:

    student   L_S = l CE(z_S, y) + m K(T||S) + w [l' CE(z_S, y) + m' K(L||S)],  w the process weight
    each L_i        l CE(z_Li, y) + m K(T||L_i)

With the authors' values the student's loss is 1.1 CE + 0.9 K(T||S) + 1.0 K(L||S); its fair control is `kd` with
the weights 1.1 and 1.9.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor

from kdnb import losses, models
from kdnb.errors import KdnbError
from kdnb.methods.registry import method
from kdnb.methods.stage import Batch, Losses, Setup, Stage, Supervision, present, total
from kdnb.models.network import Activations, Network

#: The temperature at which the history tells distances, whatever the one of the loss.
OBSERVED = 4.0


@method("slkd", revision=1)
def slkd(
    setup: Setup,
    teachers: int = 2,
    coupled: bool = True,
    supervision: Literal["both", "teacher", "self"] = "both",
    labels_weight: float = 0.1,
    soft_weight: float = 0.9,
    temperature: float = 4.0,
    self_labels_weight: float = 1.0,
    self_soft_weight: float = 1.0,
    process_weight: float = 1.0,
    mix: float = 0.5,
) -> list[Stage]:
    """The self-learning teachers (one or two) train beside the student, step by step.

    `coupled`: K(L||S) sends its gradient into L too, and so draws it towards the student, as the released code
    has it; if not, L is a constant there, as the paper's text has it.  `supervision` by the teacher alone is KD,
    and trains no other network; by self-learning teachers alone, L_S keeps the terms that w multiplies.
    """
    by_teacher, by_self = supervision != "self", supervision != "teacher"
    selves = _selves(setup, teachers) if by_self else {}
    learner = Supervision(labels_weight, soft_weight, temperature)
    labels = by_teacher * labels_weight + by_self * process_weight * self_labels_weight
    student = Supervision(labels, by_teacher * soft_weight, temperature)
    follow = losses.coupled_kd if coupled else losses.kd

    def objective(batch: Batch) -> Losses:
        terms = student(batch)
        if selves:
            answers = _answers(selves, batch)
            guide = _mixed(answers, mix)
            followed = follow(present(batch.student.logits), guide, temperature)
            terms["self"] = process_weight * self_soft_weight * followed
            terms["learning"] = _learning(learner, answers, batch)
        return terms

    def observe(batch: Batch) -> Losses:
        return _trajectory(batch, _answers(selves, batch), mix)

    return [setup.training(objective, modules=dict(selves), teacher_depth="logits", observe=observe)]


@method(
    "slkd-sequential",
    revision=1,
    shared=("selves",),
    stage_arguments={"selves": ("teachers", "labels_weight", "soft_weight", "temperature")},
)
def slkd_sequential(
    setup: Setup,
    teachers: int = 2,
    labels_weight: float = 0.1,
    soft_weight: float = 0.9,
    temperature: float = 4.0,
    self_labels_weight: float = 1.0,
    self_soft_weight: float = 1.0,
    process_weight: float = 1.0,
    mix: float = 0.5,
) -> list[Stage]:
    """SLKD*: the self-learning teachers first learn to the end; frozen, they then teach beside the teacher.

    The paper's text can also be read as updates in turn within each step; this is the plainer reading.
    """
    selves = _selves(setup, teachers)
    learner = Supervision(labels_weight, soft_weight, temperature)
    student = Supervision(labels_weight + process_weight * self_labels_weight, soft_weight, temperature)

    def learning(batch: Batch) -> Losses:
        return {"learning": _learning(learner, _answers(selves, batch), batch)}

    def objective(batch: Batch) -> Losses:
        with torch.no_grad():
            guide = _mixed(_answers(selves, batch), mix)
        followed = losses.kd(present(batch.student.logits), guide, temperature)
        return {**student(batch), "self": process_weight * self_soft_weight * followed}

    def observe(batch: Batch) -> Losses:
        return _trajectory(batch, _answers(selves, batch), mix)

    first = setup.training(
        learning,
        name="selves",
        modules=dict(selves),
        student_depth=None,  # it waits
        teacher_depth="logits",
        selection=None,
        observe=observe,
        shared=True,
    )
    second = setup.training(
        objective,
        modules=dict(selves),
        trainable=[setup.student],
        frozen=tuple(selves),
        teacher_depth="logits",
        observe=observe,
    )
    return [first, second]


def _selves(setup: Setup, count: int) -> dict[str, Network]:
    """Fresh networks of the teacher's architecture; the first is the same whether there is a second or not."""
    if count not in (1, 2):
        raise KdnbError(f"SLKD has one self-learning teacher or two, not {count}; set teachers to 1 or 2.")
    like = setup.teacher_network()

    def make() -> Network:
        return models.create(like.name, like.num_classes)

    return {f"self{i}": setup.build(f"self{i}", make) for i in range(1, count + 1)}


def _answers(selves: dict[str, Network], batch: Batch) -> list[Activations]:
    return [network.activations(batch.images) for network in selves.values()]


def _mixed(answers: list[Activations], mix: float) -> Tensor:
    """Raw logits [B, K] of one, or the mixture of two."""
    logits = [present(answer.logits).float() for answer in answers]
    return logits[0] if len(logits) == 1 else mix * logits[0] + (1 - mix) * logits[1]


def _learning(learner: Supervision, answers: list[Activations], batch: Batch) -> Tensor:
    """What the self-learning teachers minimise: each the loss of a student of the teacher, summed."""
    each = [total(learner)(dataclasses.replace(batch, student=answer)) for answer in answers]
    return torch.stack(each).sum()


def _trajectory(batch: Batch, answers: list[Activations], mix: float) -> Losses:
    """Columns of the history: KL divergences between the answers, at temperature 4, and accuracies of who teaches."""
    teacher, student = present(batch.teacher.logits), batch.student.logits
    columns = {"teacher_accuracy": _accuracy(teacher, batch.labels)}
    if student is not None:
        columns["kl_teacher_student"] = _divergence(teacher, student)
    if answers:
        guide = _mixed(answers, mix)
        if student is not None:
            columns["kl_self_student"] = _divergence(guide, student)
        columns["kl_teacher_self"] = _divergence(teacher, guide)
        columns["self_accuracy"] = _accuracy(guide, batch.labels)
    if len(answers) > 1:  # also each by itself
        for number, answer in enumerate(answers, 1):
            columns[f"self{number}_accuracy"] = _accuracy(present(answer.logits), batch.labels)
    return columns


def _divergence(target: Tensor, logits: Tensor) -> Tensor:
    """KL(target || logits) in nats, mean over the batch."""
    return losses.kd(logits, target, OBSERVED) / OBSERVED**2


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=1) == labels).float().mean()
