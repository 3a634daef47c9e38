"""The usual loop, as the field's repositories have it: an honest reference for the engine.

DataLoader workers, torchvision transforms on PIL images one by one, eager float32, the teacher evaluated in
every step.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from kdnb import losses, models

WORKERS = 2


class _Images(Dataset[tuple[Any, int]]):
    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: transforms.Compose) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class UsualLoop:
    """KD of `student` from `teacher`, batch by batch; `run(steps)` gives images per second."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, teacher: str, student: str, classes: int, device: torch.device
    ) -> None:
        self.device = device
        mean, std = (0.5071, 0.4865, 0.4409), (0.2009, 0.1984, 0.2023)
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[1], padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )
        self.dataset = _Images(images, labels, self.transform)
        self.teacher = models.create(teacher, classes).to(device).eval()
        self.student = models.create(student, classes).to(device).train()
        self.optimiser = torch.optim.SGD(self.student.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        self.cross_entropy = nn.CrossEntropyLoss()

    def run(self, steps: int, batch_size: int, warm_up: int = 2) -> float:
        """Images per second over `steps` steps, after the workers have started."""
        loader = DataLoader(
            self.dataset, batch_size, shuffle=True, num_workers=WORKERS, pin_memory=self.device.type == "cuda"
        )
        began, done = 0.0, 0
        for number, (images, labels) in enumerate(loader):
            if number == warm_up:
                self._wait()
                began = time.perf_counter()
            self._step(images.to(self.device), labels.to(self.device))
            done = number - warm_up + 1
            if done == steps:
                break
        self._wait()
        return done * batch_size / (time.perf_counter() - began)

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        with torch.no_grad():
            taught = self.teacher(images)
        logits = self.student(images)
        loss = 0.2 * self.cross_entropy(logits, labels) + 0.8 * losses.kd(logits, taught, 8.0)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        loss.item()  # the running average that every such loop prints

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
