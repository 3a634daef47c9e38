"""The usual loop, as the field's repositories have it: an honest reference for the engine.

DataLoader workers, torchvision transforms on PIL images one by one, eager float32, the teacher evaluated in
every step.  What is timed on a GPU has as many workers as the cores allow, up to eight, and convolutions in TF32, which
is PyTorch's default; what is trained for its accuracy has float32 as the process computes it.  On a CPU there are two
workers, as in all that was measured so far.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from kdnb import losses
from kdnb.bench.load import Pace, Stopwatch
from kdnb.methods.recipe import Recipe
from kdnb.methods.stage import Supervision
from kdnb.training.images import Normalisation

#: Loader processes on a CPU, which they share with the training, and on a GPU at most.
WORKERS, MOST_WORKERS = 2, 8
#: Batches that each of them has ready, PyTorch's default.
AHEAD = 2


def workers(device: torch.device) -> int:
    """How many loader processes the usual loop has beside this device."""
    return min(MOST_WORKERS, _cores()) if device.type == "cuda" else WORKERS


def _cores() -> int:
    """The cores that this process may use, where the system tells that."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def library_precision(device: torch.device) -> Iterator[None]:
    """On CUDA convolutions take TF32, as PyTorch has it where nobody says otherwise; afterwards what was set before."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


class _Images(Dataset[tuple[Any, int]]):
    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: transforms.Compose) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class UsualLoop:
    """A student learns from labels, or from them and a teacher, batch by batch, as the recipe and the weights say."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        teacher: nn.Module,
        student: nn.Module,
        recipe: Recipe,
        supervision: Supervision,
        normalisation: Normalisation,
        device: torch.device,
    ) -> None:
        self.device, self.workers = device, workers(device)
        as_tensors = [transforms.ToTensor(), transforms.Normalize(normalisation.mean, normalisation.std)]
        augmented = [transforms.RandomCrop(images.shape[1], padding=4), transforms.RandomHorizontalFlip()]
        self.plain = transforms.Compose(as_tensors)
        self.dataset = _Images(images, labels, transforms.Compose([*augmented, *as_tensors]))
        self.recipe, self.supervision = recipe, supervision
        self.teacher, self.student = teacher.to(device).eval(), student.to(device)
        self.optimiser = torch.optim.SGD(
            self.student.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        self.cross_entropy = nn.CrossEntropyLoss()

    def run(self, steps: int, batch_size: int) -> Pace:
        """The pace of `steps` steps, in the library's own precision, after the workers have started.

        An epoch must be as long, with the steps before that do not count.
        """
        self.student.train()
        warm_up = self._warm_up()
        batches = iter(self._loader(batch_size))  # it has a name: its workers must live when they are counted
        with library_precision(self.device):
            for number in range(warm_up + steps):
                if number == warm_up:
                    self._wait()
                    watch = Stopwatch()
                images, labels = next(batches)
                self._step(images.to(self.device), labels.to(self.device))
            self._wait()
            return watch.pace(steps * batch_size)

    def _warm_up(self) -> int:
        """Steps that do not count; on CUDA the batches that were made while the workers and the device began."""
        return AHEAD * self.workers if self.device.type == "cuda" else 2

    def told(self) -> dict[str, Any]:
        """How what is timed is computed, as a file of a bench has it."""
        return {"workers": self.workers, "tf32": self.device.type == "cuda"}

    def train(
        self, epochs: int, milestones: Sequence[int], on_epoch: Callable[[int], None] = lambda epoch: None
    ) -> None:
        """Train for so many epochs; the rate falls after each milestone.  `on_epoch` gets the number that are done."""
        schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimiser, list(milestones), self.recipe.factor)
        for epoch in range(1, epochs + 1):
            self.student.train()
            for images, labels in self._loader(self.recipe.batch_size):
                self._step(images.to(self.device), labels.to(self.device))
            schedule.step()
            on_epoch(epoch)

    @torch.no_grad()
    def correct(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Whether the student knows each image: bool [N]."""
        self.student.eval()
        loader = DataLoader(_Images(images, labels, self.plain), 500)
        found = [self.student(batch.to(self.device)).argmax(1).cpu() == wanted for batch, wanted in loader]
        return torch.cat(found).numpy()

    def _loader(self, batch_size: int) -> DataLoader[tuple[Any, int]]:
        pinned = self.device.type == "cuda"
        return DataLoader(self.dataset, batch_size, shuffle=True, num_workers=self.workers, pin_memory=pinned)

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        logits = self.student(images)
        loss = self.supervision.labels_weight * self.cross_entropy(logits, labels)
        if self.supervision.soft_weight:
            with torch.no_grad():
                taught = self.teacher(images)
            loss = loss + self.supervision.soft_weight * losses.kd(logits, taught, self.supervision.temperature)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        loss.item()  # the running average that every such loop prints

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
