"""Losses on the classifier's answers: labels, softened teachers, decoupled distillation.

Logits are z [B, K] of B images and K classes; p^T = softmax(z / T) row by row; labels y [B] are int64.  A teacher's
-inf is a class that it rules out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.losses.common import loss, need_same_shape


@loss
def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-1/B sum_b log p_{b, y_b}."""
    return F.cross_entropy(logits, labels)


@loss
def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 1/B sum_b KL(p_T^T(b) || p_S^T(b)), summed over classes (Hinton, Vinyals and Dean 2015)."""
    return _softened(student_logits, teacher_logits, temperature)


@loss
def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """-1/B sum_b sum_c p_T^T log p_S^T: `kd` without its T^2 and with the teacher's entropy, which is a constant."""
    targets = F.softmax(teacher_logits / temperature, dim=1)
    return F.cross_entropy(student_logits / temperature, targets)


@loss
def coupled_kd(student_logits: Tensor, guide_logits: Tensor, temperature: float) -> Tensor:
    """`kd` with a guide that is no constant: the gradient goes to both sides, and draws them together.

    d/dz_G = T/B p_G (log p_G/p_S - KL(p_G || p_S)), softmaxes at temperature T.
    """
    return _softened(student_logits, guide_logits, temperature)


def _softened(student_logits: Tensor, target_logits: Tensor, temperature: float) -> Tensor:
    need_same_shape("kd", student_logits, target_logits)
    log_student = F.log_softmax(student_logits / temperature, dim=1)
    log_target = _ruling_out(F.log_softmax(target_logits / temperature, dim=1))
    return temperature**2 * F.kl_div(log_student, log_target, reduction="batchmean", log_target=True)


def _ruling_out(log_p: Tensor) -> Tensor:
    """log p with a very negative number where p is 0: a class that the teacher rules out adds 0 log 0 = 0."""
    return log_p.masked_fill(log_p.isneginf(), -1e30)


@loss
def dkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    alpha: float,
    beta: float,
    temperature: float,
) -> Tensor:
    """Decoupled distillation (Zhao et al. 2022): T^2 1/B sum_b [alpha KL(b_T || b_S) + beta KL(q_T || q_S)].

    b = (p_y, 1 - p_y) is the answer to "the target or not", q the softmax over the classes that are not the
    target.  All in logarithms, so that a teacher sure of its answer does no harm; with two classes q is one
    number, 1, and its term is zero.
    """
    need_same_shape("dkd", student_logits, teacher_logits)
    target = labels[:, None] == torch.arange(student_logits.shape[1], device=labels.device)
    binary_student, rest_student = _decoupled(student_logits / temperature, target)
    binary_teacher, rest_teacher = (_ruling_out(t) for t in _decoupled(teacher_logits / temperature, target))
    among_rest = rest_teacher.masked_fill(target, -torch.inf).exp()  # q_T, and 0 at the target
    target_part = (binary_teacher.exp() * (binary_teacher - binary_student)).sum(1)
    rest_part = (among_rest * (rest_teacher - rest_student)).sum(1)
    return temperature**2 * (alpha * target_part + beta * rest_part).mean()


def _decoupled(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(log p_y, log(1 - p_y)) [B, 2], and z - log sum_{c != y} e^{z_c} [B, K]: log q wherever c != y."""
    every = logits.logsumexp(1, keepdim=True)
    rest = logits.masked_fill(target, -torch.inf).logsumexp(1, keepdim=True)
    hit = logits.masked_fill(~target, 0).sum(1, keepdim=True)
    return torch.cat([hit - every, rest - every], dim=1), logits - rest
