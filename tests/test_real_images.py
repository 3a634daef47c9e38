"""The whole way on real images: 2,000 of CIFAR-100, the networks of the paper, one epoch."""

from __future__ import annotations

import numpy as np
import pytest
from dataset_samples import digest, write_layout
from typer.testing import CliRunner

from kdnb import datasets, paths
from kdnb.cli import app
from kdnb.study.store import Store


@pytest.mark.data
def test_teacher_student_and_kd_train_on_a_part_of_cifar100(tmp_path, monkeypatch):
    if not (paths.data_root() / "cifar100" / "meta.json").exists():
        pytest.skip("CIFAR-100 is not prepared here; `kdnb data prepare cifar100` makes it")
    data = datasets.load("cifar100")
    whole = {"train": (data.train, 2000), "test": (data.test, 500)}
    parts = {split: (np.array(s.images[:n]), np.array(s.labels[:n], dtype=np.uint8)) for split, (s, n) in whole.items()}
    write_layout(tmp_path / "part", "cifar100", parts)
    monkeypatch.setenv("KDNB_DATA", str(tmp_path / "part"))

    arguments = "study --profile short --exhibit comparison/table1 --seeds 1 --epochs 1 --dataset cifar100"
    done = CliRunner().invoke(app, [*arguments.split(), "--rows", "teacher,plain,kd"])

    assert done.exit_code == 0, done.output
    records = {r.experiment["method"]["name"] + str(r.seed): r for r in Store.open().all() if "custom-" in str(r.path)}
    assert {"plain0", "plain1", "kd1"} == records.keys()
    assert all(r.metrics["epochs"] == 1 and 0 <= r.metrics["headline"] < 0.2 for r in records.values())
    part = digest(*parts["train"])
    assert records["kd1"].experiment["images"]["digests"]["train"] == part
    assert records["kd1"].experiment["teacher"]["fingerprint"] == records["plain0"].fingerprint
