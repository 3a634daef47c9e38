"""Contrastive representation distillation (Tian, Krishnan and Isola 2020).

The student's and the teacher's embeddings f_S, f_T of an image are mapped to a common space,
e = n(W f + b) with n(.) the L2 normalisation.  An image's own e of the *other* network is its positive;
images of other classes are its negatives.  With g = exp(<e, m>/tau)/Z over vectors m of the other network,

    L = -1/B sum_i [ log g_i+ / (g_i+ + K/N + eps)  +  sum_{j=1..K} log (K/N) / (g_ij + K/N + eps) ]

once with the student's e as anchor (this part trains the student and W_S), once with the teacher's (this
part trains W_T); the vectors m are constants.  Z is N times the mean of the un-normalised scores on the
first batch, one per side, and never changes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdnb.errors import KdnbError
from kdnb.losses.common import exactly, full

EPSILON = 1e-7


class _CommonSpace(nn.Module):
    """Both linear maps into the common space, trained with the student, and the two normalisers Z."""

    log_normaliser: Tensor

    def __init__(self, student_width: int, teacher_width: int, width: int, temperature: float) -> None:
        super().__init__()
        self.student_map = nn.Linear(student_width, width)
        self.teacher_map = nn.Linear(teacher_width, width)
        self.temperature = temperature
        # log Z, student's anchors first; NaN until `calibrate`, so that forgetting it cannot go unnoticed.
        self.register_buffer("log_normaliser", torch.full((2,), math.nan))

    def project(self, student_embedding: Tensor, teacher_embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [B, D_S], [B, D_T] -> unit vectors e_S, e_T [B, width]; no gradient into the teacher."""
        student = self.student_map(full(student_embedding))
        teacher = self.teacher_map(full(teacher_embedding.detach()))
        return F.normalize(student, dim=1), F.normalize(teacher, dim=1)


class Contrastive(_CommonSpace):
    """CRD with memory banks: negatives are K rows of the training set's banks, of other classes.

    labels      [N], the classes of the training set, in the order its indices refer to
    negatives   K, capped by the fewest images of other classes that any class meets
    batch_size  the largest batch; the anchors of the last one are kept for `remember`

    The banks M_S, M_T [N, width] start uniform in +-sqrt(3/width).  A step is `forward`, then the
    optimiser's, then `remember`; before the first one comes `calibrate`.  Draws come from `draw`.

    **Scores** are one product of anchors and bank, [B, N], then a gather of K columns a row: for the
    study's sizes (64 x 50,000 floats, 12.8 MB) cheaper in time and memory than to gather 64 x 4,096 rows of
    128 numbers (134 MB and as much again for the gradient).

    **Negatives** are drawn without replacement and without sorting or masking the training set: stratified
    sampling with a random cyclic shift.  For an anchor of class c the M = N - n_c images of other classes
    stand in a row.  The row is cut into K strata with edges floor(k M / K); one place is drawn in each
    stratum, and all places are shifted cyclically by the same uniform number.  Places are distinct because
    strata are disjoint, and the shift makes every image's chance of being drawn exactly K/M.  (Pairs are
    a little more spread out than in a simple random sample.)
    """

    student_bank: Tensor
    teacher_bank: Tensor
    student_anchor: Tensor
    teacher_anchor: Tensor
    by_class: Tensor
    class_start: Tensor
    class_count: Tensor

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        labels: Tensor,
        negatives: int = 4096,
        temperature: float = 0.07,
        momentum: float = 0.5,
        width: int = 128,
        batch_size: int = 64,
    ) -> None:
        super().__init__(student_width, teacher_width, width, temperature)
        self.momentum = momentum
        self.count = len(labels)
        labels = labels.detach().cpu()
        counts = torch.bincount(labels)
        self.negatives = min(negatives, self.count - int(counts.max()))
        if self.negatives < 1:
            raise KdnbError(
                "Contrastive: a class without an image of another class has no negatives; "
                "ask for at least 1 and give it a training set of two classes or more."
            )
        bound = math.sqrt(3 / width)
        self.register_buffer("student_bank", torch.empty(self.count, width).uniform_(-bound, bound))
        self.register_buffer("teacher_bank", torch.empty(self.count, width).uniform_(-bound, bound))
        for name, value in {
            "student_anchor": torch.zeros(batch_size, width),
            "teacher_anchor": torch.zeros(batch_size, width),
            "by_class": labels.argsort(stable=True),  # the images, sorted by class
            "class_start": counts.cumsum(0) - counts,  # where a class begins in that order
            "class_count": counts,
        }.items():
            self.register_buffer(name, value, persistent=False)

    def draw(self, generator: torch.Generator, size: int) -> dict[str, Tensor]:
        """The random numbers of one step: places in strata [B, K] in [0, 1), shifts [B] as large integers."""
        device = generator.device
        places = torch.rand(size, self.negatives, generator=generator, device=device)
        shift = torch.randint(2**62, (size,), generator=generator, device=device)
        return {"places": places, "shift": shift}

    def negative_indices(self, labels: Tensor, draws: dict[str, Tensor]) -> Tensor:
        """Images [B, K] to stand against anchors of classes `labels` [B]: distinct, of other classes."""
        places, shift = draws["places"], draws["shift"]
        start, own = self.class_start[labels, None], self.class_count[labels, None]
        others = self.count - own
        stratum = torch.arange(self.negatives + 1, device=labels.device)
        edges = stratum * others // self.negatives
        width = edges[:, 1:] - edges[:, :-1]
        inside = edges[:, :-1] + (places * width).long()
        position = (inside + shift[:, None] % others) % others
        return self.by_class[position + own * (position >= start)]  # step over the anchor's own class

    def forward(
        self,
        student_embedding: Tensor,
        teacher_embedding: Tensor,
        labels: Tensor,
        indices: Tensor,
        draws: dict[str, Tensor],
    ) -> Tensor:
        """L_S + L_T of a batch: embeddings [B, D_S] and [B, D_T], classes [B], indices [B]."""
        with exactly(student_embedding):
            student, teacher = self.project(student_embedding, teacher_embedding)
            scores = self._scores(student, teacher, labels, indices, draws)
            self.student_anchor[: len(labels)].copy_(student.detach())
            self.teacher_anchor[: len(labels)].copy_(teacher.detach())
            noise = student.new_full((), self.negatives / self.count)
            terms = [_noise_contrastive(s - z, noise) for s, z in zip(scores, self.log_normaliser, strict=True)]
            return torch.stack(terms).sum()

    @torch.no_grad()
    def calibrate(
        self,
        student_embedding: Tensor,
        teacher_embedding: Tensor,
        labels: Tensor,
        indices: Tensor,
        draws: dict[str, Tensor],
    ) -> None:
        """Set Z, once, from the first batch; arguments as for `forward`."""
        with exactly(student_embedding):
            student, teacher = self.project(student_embedding, teacher_embedding)
            scores = self._scores(student, teacher, labels, indices, draws)
            means = torch.stack([s.flatten().logsumexp(0) - math.log(s.numel()) for s in scores])
            self.log_normaliser.copy_(means + math.log(self.count))

    @torch.no_grad()
    def remember(self, indices: Tensor) -> None:
        """Move the batch's rows of both banks: M_i <- n(m M_i + (1 - m) e_i), e of the last `forward`."""
        for bank, anchor in (
            (self.student_bank, self.student_anchor),
            (self.teacher_bank, self.teacher_anchor),
        ):
            mixed = self.momentum * bank[indices] + (1 - self.momentum) * anchor[: len(indices)]
            bank.index_copy_(0, indices, F.normalize(mixed, dim=1))

    def _scores(
        self, student: Tensor, teacher: Tensor, labels: Tensor, indices: Tensor, draws: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """<e, m>/tau [B, 1 + K], the positive first: the student's anchors, then the teacher's."""
        if len(labels) > len(self.student_anchor):
            raise KdnbError(
                f"Contrastive: a batch of {len(labels)} is larger than the batch_size "
                f"{len(self.student_anchor)} it was built for."
            )
        chosen = torch.cat([indices[:, None], self.negative_indices(labels, draws)], dim=1)
        against_teacher = (student @ self.teacher_bank.T).gather(1, chosen)
        against_student = (teacher @ self.student_bank.T).gather(1, chosen)
        return against_teacher / self.temperature, against_student / self.temperature


class InBatchContrastive(_CommonSpace):
    """CRD without banks: an anchor's negatives are the images of other classes in its own batch.

    The criterion is the same, with the other network's embeddings of the batch (as constants) in place of
    bank rows, N = B, and K the number of other-class images, which differs from anchor to anchor.  Fewer
    negatives (some 60 instead of 4,096), always fresh, and no memory beyond the two linear maps.
    """

    def forward(self, student_embedding: Tensor, teacher_embedding: Tensor, labels: Tensor) -> Tensor:
        """L_S + L_T of a batch: embeddings [B, D_S], [B, D_T], classes [B]."""
        with exactly(student_embedding):
            scores, other = self._scores(student_embedding, teacher_embedding, labels)
            noise = other.to(scores[0].dtype).mean(1, keepdim=True)
            positive = torch.ones_like(other[:, :1])
            terms = [
                _noise_contrastive(s - z, noise, torch.cat([positive, other], dim=1))
                for s, z in zip(scores, self.log_normaliser, strict=True)
            ]
            return torch.stack(terms).sum()

    @torch.no_grad()
    def calibrate(self, student_embedding: Tensor, teacher_embedding: Tensor, labels: Tensor) -> None:
        """Set Z, once, from the first batch; arguments as for `forward`."""
        with exactly(student_embedding):
            scores, other = self._scores(student_embedding, teacher_embedding, labels)
            left_out = torch.cat([torch.zeros_like(other[:, :1]), ~other], dim=1)
            used = (~left_out).sum()
            sums = [s.masked_fill(left_out, -torch.inf).flatten().logsumexp(0) for s in scores]
            self.log_normaliser.copy_(torch.stack(sums) - used.log() + math.log(len(labels)))

    def _scores(
        self, student_embedding: Tensor, teacher_embedding: Tensor, labels: Tensor
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Scores [B, 1 + B] of both sides, the positive first; and who is of another class [B, B]."""
        student, teacher = self.project(student_embedding, teacher_embedding)
        against_teacher = student @ teacher.detach().T / self.temperature
        against_student = teacher @ student.detach().T / self.temperature
        pair = tuple(torch.cat([s.diagonal()[:, None], s], dim=1) for s in (against_teacher, against_student))
        return (pair[0], pair[1]), labels[:, None] != labels[None, :]


def _noise_contrastive(log_g: Tensor, noise: Tensor, counted: Tensor | None = None) -> Tensor:
    """The criterion above, from log g [B, 1 + K] with the positive first, and K/N as `noise` ([] or [B, 1]).

    Computed from u = log g - log(K/N + eps), so that nothing overflows:
    -log g/(g + K/N + eps) = softplus(-u) and -log (K/N)/(g + K/N + eps) = softplus(u) + log(1 + eps N/K).
    """
    u = log_g - (noise + EPSILON).log()
    positive = F.softplus(-u[:, 0])
    negative = F.softplus(u[:, 1:]) + torch.log1p(EPSILON / noise.clamp_min(EPSILON))
    if counted is not None:
        negative = negative * counted[:, 1:]
    return (positive + negative.sum(1)).mean()
