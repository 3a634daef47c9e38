"""The bench: its numbers are consistent with each other, and its roofline with known counts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from kdnb import methods
from kdnb.bench import roofline, speed
from kdnb.bench.usual import UsualLoop
from kdnb.cli import app
from kdnb.errors import KdnbError
from kdnb.losses import kd
from kdnb.training.numerics import detect

KEYS = {"device", "reference_images_per_s", "engine_images_per_s", "ratio", "cohorts", "roofline"}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(speed, "TEACHER", "resnet14")
    monkeypatch.setattr(speed, "STUDENT", "resnet8")
    monkeypatch.setattr(speed, "BATCH", 16)
    monkeypatch.setattr(speed, "SIZES", (1, 2))


def test_work_per_image_is_the_counted_one():
    work = roofline.kd_work("resnet56", "resnet20", 100, 32, 2)
    assert work["teacher"].flops == pytest.approx(251.5e6, rel=0.01)
    assert work["student"].flops == pytest.approx(3 * 81.6e6, rel=0.01)
    # ResNet-20's stem reads 3x32x32 values and writes 16x32x32; all else moves much more.
    assert work["student"].bytes > 3 * 2 * (19 * 32 * 32) * 10


def test_roofline_takes_the_slower_of_arithmetic_and_traffic():
    rates = {"matmul_flops": 100.0, "copy_bytes": 10.0}
    assert roofline.seconds_per_image(roofline.Work(flops=1000.0, bytes=10.0), rates) == 10.0
    assert roofline.seconds_per_image(roofline.Work(flops=100.0, bytes=50.0), rates) == 5.0


def test_the_usual_loop_learns(monkeypatch):
    draw = np.random.default_rng(0)
    labels = np.arange(320) % 4
    images = (labels[:, None, None, None] * 60 + draw.integers(0, 20, (320, 32, 32, 3))).astype(np.uint8)
    loop = UsualLoop(images, labels, "resnet14", "resnet8", 4, torch.device("cpu"))
    before = {k: v.clone() for k, v in loop.student.state_dict().items()}
    taught = {k: v.clone() for k, v in loop.teacher.state_dict().items()}
    assert loop.run(steps=3, batch_size=16) > 0
    assert any(not torch.equal(v, before[k]) for k, v in loop.student.state_dict().items())
    assert all(torch.equal(v, taught[k]) for k, v in loop.teacher.state_dict().items())
    assert kd(torch.zeros(2, 4), torch.zeros(2, 4), 8.0) == 0


def test_the_command_writes_every_key(small, tmp_path):
    target = tmp_path / "bench.json"
    done = CliRunner().invoke(app, ["bench", "--rounds", "1", "--json", str(target)])
    assert done.exit_code == 0, done.output
    found = json.loads(target.read_text())
    assert found.keys() >= KEYS
    assert [c["size"] for c in found["cohorts"]] == [1, 2]
    assert found["ratio"] == pytest.approx(found["engine_images_per_s"] / found["reference_images_per_s"], rel=0.02)
    assert found["cohorts"][0]["images_per_s"] == found["engine_images_per_s"]
    assert all(0 < share < 2 for share in found["roofline"]["reached"].values())
    assert found["images"] == "random images"  # nothing is prepared where tests run


def test_methods_are_ratios_to_kd_and_know_their_extra_parameters(small, monkeypatch):
    some = {name: methods.get(name) for name in ("plain", "kd", "fitnet", "crd")}
    monkeypatch.setattr(speed.methods, "catalogue", lambda: some)
    found = speed.Bench(detect("cpu")).methods(rounds=1)["methods"]
    lines = {(m["method"], m["stage"]): m for m in found}
    assert lines["kd", "train"]["ratio_to_kd"] == 1.0
    assert lines["kd", "train"]["extra_parameters"] == 0
    assert lines["fitnet", "hint"]["extra_parameters"] == 304  # 1x1 of 16 to 16 with bias, and its norm
    assert lines["crd", "train"]["extra_parameters"] == 2 * 8320
    assert {("plain", "train"), ("fitnet", "train"), ("fitnet+kd", "train")} <= lines.keys()


def test_peak_memory_is_what_came_on_top_and_was_given_back():
    from kdnb.bench.memory import Peak

    held = np.ones(20_000_000)  # 160 MB that were there before
    with Peak(on_cuda=False) as peak:
        np.ones(40_000_000).sum()  # 320 MB, for a moment
    with Peak(on_cuda=False) as quiet:
        held.sum()
    if peak.gib is None:
        pytest.skip("this system does not tell a process's peak")
    assert 0.25 < peak.gib < 0.45 and quiet.gib < 0.1


def test_a_system_that_tells_no_peak_leaves_it_open(monkeypatch, tmp_path):
    from kdnb.bench import memory

    monkeypatch.setattr(memory, "_RESET", tmp_path / "nowhere" / "clear_refs")
    with memory.Peak(on_cuda=False) as peak:
        pass
    assert peak.gib is None


def test_some_methods_stand_beside_kd_alone(small):
    found = speed.Bench(detect("cpu")).methods(rounds=1, only=["at", "kd"])["methods"]
    assert [m["method"] for m in found] == ["kd", "at"] and found[0]["ratio_to_kd"] == 1
    with pytest.raises(KdnbError, match="did you mean dkd"):
        speed.Bench(detect("cpu")).methods(rounds=1, only=["dkdd"])
