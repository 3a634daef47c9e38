"""The bench: its numbers are consistent with each other, and its roofline with known counts."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import dataset_samples as samples
import numpy as np
import pytest
import torch
from test_capture_order import KeptForLater
from typer.testing import CliRunner

from kdnb import methods, models, paths, tables
from kdnb.bench import load, roofline, speed, steps, usual
from kdnb.bench.track import Entrant, Track
from kdnb.bench.usual import UsualLoop
from kdnb.cli import app
from kdnb.errors import DataError, KdnbError, StoreError
from kdnb.losses import kd
from kdnb.training import capture
from kdnb.training.member import Member
from kdnb.training.numerics import Numerics, detect
from kdnb.training.probe import layers

KEYS = {"device", "reference_images_per_s", "engine_images_per_s", "ratio", "cohorts", "roofline"}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(speed, "TEACHER", "resnet14")
    monkeypatch.setattr(speed, "STUDENT", "resnet8")
    monkeypatch.setattr(speed, "BATCH", 16)
    monkeypatch.setattr(speed, "RECIPE", dataclasses.replace(speed.RECIPE, batch_size=16))
    monkeypatch.setattr(speed, "SIZES", (1, 2))


def timed(only=None, say=lambda line: None):
    """The steps of the catalogue's methods with their defaults, one round."""
    return steps.measured(steps.of_catalogue(only), detect("cpu"), 1, say)


def test_work_per_image_is_the_counted_one():
    work = roofline.kd_work("resnet56", "resnet20", 100, 32, 2)
    assert work["teacher"].flops == pytest.approx(251.5e6, rel=0.01)
    assert work["student"].flops == pytest.approx(3 * 81.6e6, rel=0.01)
    # ResNet-20's stem reads 3x32x32 values and writes 16x32x32; all else moves much more.
    assert work["student"].bytes > 3 * 2 * (19 * 32 * 32) * 10


def test_roofline_takes_the_slower_of_arithmetic_and_traffic():
    rates = roofline.Rates(products=100.0, convolutions=80.0, copies=10.0)
    assert roofline.seconds_per_image(roofline.Work(flops=1000.0, bytes=10.0), rates) == 10.0
    assert roofline.seconds_per_image(roofline.Work(flops=100.0, bytes=50.0), rates) == 5.0


@pytest.mark.parametrize("rate", [0.01, 1.0, 100.0])
def test_nothing_that_was_measured_lies_above_the_roofline(rate):
    """Convolutions may run faster than matrix products, and whole steps faster than either by itself."""
    work = roofline.Work(flops=100.0, bytes=50.0).with_share(roofline.Work(flops=40.0, bytes=8.0), among=4)
    assert (work.flops, work.bytes) == (110.0, 52.0)
    rates = roofline.Rates(products=100.0, convolutions=300.0, copies=10.0)
    rates.reached(work, rate)
    assert 0 < rate * roofline.seconds_per_image(work, rates) <= 1
    assert rates.flops >= 300.0


def test_rates_are_the_best_that_were_seen():
    rates = roofline.Rates(copies=1e18)
    rates.measure(detect("cpu"), layers("resnet8", 10, 16))
    assert rates.products > 1e8 and rates.convolutions > 1e8 and rates.copies == 1e18


def test_the_usual_loop_learns():
    draw = np.random.default_rng(0)
    labels = np.arange(320) % 4
    images = (labels[:, None, None, None] * 60 + draw.integers(0, 20, (320, 32, 32, 3))).astype(np.uint8)
    torch.manual_seed(0)
    teacher, student = models.create("resnet14", 4), models.create("resnet8", 4)
    loop = UsualLoop(
        images, labels, teacher, student, speed.RECIPE, speed.SOFT, speed.NORMALISATION, torch.device("cpu")
    )
    taught = {k: v.clone() for k, v in loop.teacher.state_dict().items()}
    pace = loop.run(steps=3, batch_size=16)
    assert pace.images == 48 and pace.rate > 0 and pace.per_cpu_second > 0
    loop.train(epochs=2, milestones=[1])
    assert loop.correct(images, labels).mean() > 0.45  # chance is a quarter
    assert loop.optimiser.param_groups[0]["lr"] == pytest.approx(0.01)
    assert all(torch.equal(v, taught[k]) for k, v in loop.teacher.state_dict().items())
    assert kd(torch.zeros(2, 4), torch.zeros(2, 4), 8.0) == 0


def test_the_usual_loop_is_timed_under_the_librarys_precision_and_trained_under_the_processs(monkeypatch):
    told: list[str] = []

    @contextlib.contextmanager
    def precision(device):
        told.append("library's")
        yield
        told.append("process's")

    monkeypatch.setattr(usual, "library_precision", precision)

    def step(self, images, labels):
        told.append("step")
        self.optimiser.step()

    monkeypatch.setattr(UsualLoop, "_step", step)
    images, labels = np.zeros((96, 32, 32, 3), np.uint8), np.arange(96) % 4
    networks = models.create("resnet14", 4), models.create("resnet8", 4)
    loop = UsualLoop(images, labels, *networks, speed.RECIPE, speed.SOFT, speed.NORMALISATION, torch.device("cpu"))
    loop.run(steps=1, batch_size=32)
    assert told == ["library's", *["step"] * 3, "process's"]
    loop.train(epochs=1, milestones=[])
    assert told[5:] == ["step"] * 2  # 96 images in batches of 64
    assert loop.told() == {"workers": 2, "tf32": False}


def test_on_a_gpu_convolutions_of_the_usual_loop_take_tf32_and_afterwards_what_was_set_before():
    cudnn = torch.backends.cudnn
    before, cudnn.allow_tf32 = cudnn.allow_tf32, False
    try:
        for kind, inside in (("cuda", True), ("cpu", False)):
            with contextlib.suppress(KeyboardInterrupt), usual.library_precision(torch.device(kind)):
                assert cudnn.allow_tf32 is inside
                raise KeyboardInterrupt
            assert cudnn.allow_tf32 is False
    finally:
        cudnn.allow_tf32 = before


def test_on_a_gpu_the_usual_loop_has_the_workers_that_the_cores_allow(monkeypatch):
    for cores, wanted in ((1, 1), (4, 4), (64, 8)):
        monkeypatch.setattr(usual, "_cores", lambda cores=cores: cores)
        assert usual.workers(torch.device("cuda")) == wanted
        assert usual.workers(torch.device("cpu")) == 2
    steps = 60 + usual.AHEAD * usual.MOST_WORKERS
    assert steps * speed.BATCH <= speed.LEAST_IMAGES  # so that an epoch is as long as what is timed


def test_a_pace_counts_the_processors_of_this_process_and_of_others(monkeypatch):
    watch = load.Stopwatch()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    pace = watch.pace(600)
    assert pace.cpu_seconds == pytest.approx(0.3, abs=0.15) and pace.seconds >= 0.25
    assert pace.per_cpu_second == pytest.approx(600 / pace.cpu_seconds)
    assert pace.others is None or 0 <= pace.others <= 1
    monkeypatch.setattr(load, "_MACHINE", Path("/nowhere"))
    assert load.Stopwatch().pace(1).others is None


def test_others_are_what_the_machine_did_beside_this_process(monkeypatch):
    busy = iter([(100.0, 4), (103.0, 4)])
    monkeypatch.setattr(load, "_busy_seconds", lambda: next(busy))
    monkeypatch.setattr(load, "_own_seconds", iter([10.0, 11.0]).__next__)
    monkeypatch.setattr(load.time, "perf_counter", iter([0.0, 1.0]).__next__)
    pace = load.Stopwatch().pace(100)
    assert (pace.rate, pace.per_cpu_second, pace.others) == (100.0, 100.0, 0.5)  # 2 of 4 processors


ROUNDS = [
    # rates of the students against a steady usual loop; asked, seconds -> enough?
    ([1, 1, 1], None, 1, True),
    ([1, 1], None, 1, False),  # too few to know how much they are spread
    ([1, 2, 3], None, 1, False),
    ([1, 2, 3], None, 1000, True),  # the time is up
    ([1, 2, 3], 3, 1, True),
    ([1, 1, 1], 4, 1000, False),
]


@pytest.mark.parametrize(("rates", "asked", "seconds", "enough"), ROUNDS)
def test_there_are_rounds_until_little_is_spread_or_the_time_is_up(rates, asked, seconds, enough, monkeypatch):
    monkeypatch.setattr(speed, "SIZES", (1,))
    steady = [load.Pace(1, 1.0, 1.0, None) for _ in rates]
    found = {0: steady, 1: [load.Pace(rate, 1.0, 1.0, None) for rate in rates]}
    assert speed._enough(found, asked, seconds, longest=900) == enough


def test_a_few_images_are_refused(monkeypatch):
    part = SimpleNamespace(train=SimpleNamespace(labels=np.zeros(64)))
    monkeypatch.setattr(speed.datasets, "load", lambda name: part)
    with pytest.raises(DataError, match="64 training images here, too few"):
        speed.Bench(detect("cpu"))


def test_the_command_writes_every_key(small, tmp_path):
    target = tmp_path / "bench.json"
    done = CliRunner().invoke(app, ["bench", "--rounds", "1", "--out", str(target)])
    assert done.exit_code == 0, done.output
    found = json.loads(target.read_text())
    assert found.keys() >= KEYS
    assert [c["size"] for c in found["cohorts"]] == [1, 2]
    ratio = found["engine_images_per_s"] / found["reference_images_per_s"]
    assert found["ratio"] == pytest.approx(ratio, rel=0.02, abs=0.01)  # it has two decimals
    assert found["cohorts"][0]["images_per_s"] == found["engine_images_per_s"]
    assert all(0 < share <= 1 for share in found["roofline"]["reached"].values())
    assert found["probe"].startswith(f"{found['numerics']['dtype']}: ") and found["rounds"] == 1
    assert all(cohort["images_per_cpu_s"] > 0 for cohort in found["cohorts"])
    assert json.loads(done.stdout) == found
    assert found["images"] == "random images"  # nothing is prepared where tests run
    assert found["reference"] == {"workers": 2, "tf32": False}
    assert all(0 < cohort["teacher_share"] <= 1 for cohort in found["cohorts"])


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "Bench", None)  # it is not asked for
    (tmp_path / "file").write_text("", encoding="utf-8")
    for target in (tmp_path, tmp_path / "file" / "bench.json"):
        done = CliRunner().invoke(app, ["bench", "--out", str(target)])
        assert isinstance(done.exception, StoreError) and "cannot be written" in str(done.exception)


def test_numbers_are_printed_where_the_disk_is_full_by_then(tmp_path, monkeypatch):
    def full(path, *given):
        raise StoreError(f"{path} could not be written")

    monkeypatch.setattr(speed, "Bench", lambda *given: SimpleNamespace(speed=lambda rounds: {"ratio": 2}))
    monkeypatch.setattr("kdnb.training.checkpoint.write_atomically", full)
    done = CliRunner().invoke(app, ["bench", "--json", str(tmp_path / "bench.json")])
    assert json.loads(done.stdout) == {"ratio": 2} and isinstance(done.exception, StoreError)


def test_methods_are_ratios_to_kd_and_know_their_extra_parameters(small, monkeypatch):
    some = {name: methods.get(name) for name in ("plain", "kd", "kd-again", "fitnet", "crd")}
    monkeypatch.setattr(steps.methods, "catalogue", lambda: some)
    found = timed()["methods"]
    lines = {(m["method"], m["stage"]): m for m in found}
    assert lines["kd", "train"]["ratio_to_kd"] == 1.0
    assert lines["kd", "train"]["extra_parameters"] == 0
    assert lines["fitnet", "hint"]["extra_parameters"] == 304  # 1x1 of 16 to 16 with bias, and its norm
    assert lines["crd", "train"]["extra_parameters"] == 2 * 8320
    assert {("plain", "train"), ("fitnet", "train"), ("fitnet+kd", "train")} <= lines.keys()
    assert ("kd-again", "train") not in lines  # its step is KD's, and a second number for it would be noise


def test_extra_parameters_are_those_that_a_step_trains_beside_a_students():
    """Not what it keeps as it is; and where there is no student, nothing is taken away for one."""
    pixels, labels, numerics = np.zeros((64, 32, 32, 3), np.uint8), np.arange(64) % 10, detect("cpu")
    track = Track(numerics, speed.material(pixels, labels, numerics), 10)

    def counted(method):
        stages = track.stages(Entrant(method, "resnet14", "resnet8", speed.RECIPE))
        return {stage.name: steps._trained(stage) for stage in stages}

    encoder = 9 * (64 * 64 + 64 * 32 + 32 * 32) + 2 * (64 + 32 + 32)
    decoder = 9 * (32 * 32 + 32 * 64 + 64 * 64) + 2 * (32 + 64 + 64)
    assert counted("ft") == {"train": encoder} and counted("paraphraser") == {"train": encoder + decoder}
    atoms = sum(width * 2 * width + 1 for width in (16, 32, 64))
    assert counted("srm") == {"predict": atoms, "train": 0} and counted("srm-dictionaries") == {"train": atoms}
    teacher, peer = (sum(p.numel() for p in models.create(name, 10).parameters()) for name in ("resnet14", "resnet8"))
    assert counted("slkd-sequential") == {"selves": 2 * teacher, "train": 0}
    assert counted("dml") == {"train": peer} and counted("probe") == {"train": 0}


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


class OnCuda(Numerics):
    """Says that it is on CUDA, and computes on the CPU."""

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cpu")


def captured() -> Numerics:
    return OnCuda(**{**detect("cpu").as_dict(), "device": "cuda", "mode": "captured"})


class DoneOnce(KeptForLater):
    """Recordings take memory as they are made; replays ask for none, and are counted."""

    replayed = 0

    def record(self, work, stream):
        work()
        return self.replay

    def replay(self):
        DoneOnce.replayed += 1


@pytest.fixture
def allocator(monkeypatch):
    """CUDA's, where others hold 3 GiB, an eager step takes a quarter of one, and a cohort's first step takes 2."""
    found = SimpleNamespace(held=3 * 2**30, peak=0)
    compute = Member.compute

    def taking(self, *given):
        compute(self, *given)
        took = 2**28 if getattr(self, "_stepped", False) else 2**31
        self._stepped = True
        found.peak = max(found.peak, found.held + took)

    monkeypatch.setattr(Member, "compute", taking)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: found.held)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: found.peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: setattr(found, "peak", found.held))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr("kdnb.training.capture.Streams", DoneOnce)
    monkeypatch.setattr(DoneOnce, "replayed", 0)
    return found


def test_memory_on_cuda_is_an_eager_steps_above_what_was_held_in_every_round(small, allocator):
    """A replay asks the allocator for nothing, and networks of other cohorts are not this one's."""
    how = captured()
    pixels, labels = np.zeros((640, 32, 32, 3), np.uint8), np.arange(640) % 4
    track = Track(how, speed.material(pixels, labels, how), 4)
    kd = Entrant("kd", speed.TEACHER, speed.STUDENT, speed.RECIPE)
    cohort = track.cohort([track.stages(kd)[-1]], speed.TEACHER)
    first, _ = track.time(cohort, 2)
    allocator.held += 2**30
    again, _ = track.time(cohort, 2)
    assert DoneOnce.replayed and (first, again) == (0.25, 0.25)


def test_on_a_gpu_every_cohort_has_all_streams_to_itself(small, allocator, monkeypatch):
    """Three streams: enough for one cohort of two students, not for four cohorts that hold theirs all the time."""
    monkeypatch.setattr(capture, "POOL", 3)
    monkeypatch.setattr(capture, "_ALIVE", weakref.WeakSet())
    apart: dict[int, list[int]] = {}
    time_it = Track.time

    def timed(self, cohort, steps):
        found = time_it(self, cohort, steps)
        own = {cohort._stepper.stream(member) for member in cohort.members}
        apart.setdefault(id(cohort), []).append(len(own - {cohort._stepper.common}))
        return found

    monkeypatch.setattr(Track, "time", timed)
    how = captured()
    pixels, labels = np.zeros((640, 32, 32, 3), np.uint8), np.arange(640) % 4
    track = Track(how, speed.material(pixels, labels, how), 4)
    kd = Entrant("kd", speed.TEACHER, speed.STUDENT, speed.RECIPE)
    sizes = (1, 2, 1, 2)
    cohorts = {
        place: track.cohort([track.stages(kd)[-1] for _ in range(size)], speed.TEACHER)
        for place, size in enumerate(sizes)
    }
    for _ in range(2):
        assert [key for key, _, _ in speed.one_round(track, cohorts, dict.fromkeys(cohorts, 2))] == [*cohorts]
    assert [*apart.values()] == [[size, size] for size in sizes] and not capture._ALIVE


def test_the_teacher_is_timed_from_a_graph_where_steps_are(monkeypatch):
    batches: list[torch.Tensor] = []
    track = SimpleNamespace(
        teacher=lambda name: batches.append,
        material=SimpleNamespace(training=SimpleNamespace(plain=lambda start, stop: [torch.zeros(2, 3, 8, 8)])),
        wait=lambda: None,
    )
    monkeypatch.setattr(speed, "Streams", DoneOnce)
    monkeypatch.setattr(DoneOnce, "replayed", 0)
    for numerics, eager, replayed in ((captured(), 2, 5), (detect("cpu"), 5, 0)):
        batches.clear()
        DoneOnce.replayed = 0
        assert speed.Bench._teacher_seconds(SimpleNamespace(numerics=numerics, track=track)) > 0
        assert (len(batches), DoneOnce.replayed) == (eager, replayed)  # once to choose kernels, once to record


def test_the_teachers_share_of_a_step_is_no_more_than_the_whole():
    assert (speed._share(0.5, 2.0), speed._share(2.1, 2.0)) == (0.25, 1.0)


def test_a_system_that_tells_no_peak_leaves_it_open(monkeypatch, tmp_path):
    from kdnb.bench import memory

    monkeypatch.setattr(memory, "_RESET", tmp_path / "nowhere" / "clear_refs")
    with memory.Peak(on_cuda=False) as peak:
        pass
    assert peak.gib is None


def test_some_methods_stand_beside_kd_alone(small):
    found = timed(["at", "kd"])["methods"]
    assert [m["method"] for m in found] == ["kd", "at"] and found[0]["ratio_to_kd"] == 1
    with pytest.raises(KdnbError, match="did you mean dkd"):
        steps.of_catalogue(["dkdd"])


def test_a_method_that_goes_on_from_steps_is_timed_and_one_that_teaches_itself_is_by_its_own_kind(small, monkeypatch):
    some = {name: methods.get(name) for name in ("kd", "ie-ft", "tf-kd")}
    monkeypatch.setattr(steps.methods, "catalogue", lambda: some)
    assert [m["method"] for m in timed()["methods"]] == ["kd", "ie-ft", "tf-kd", "ie-ft+kd"]
    assert {e.method: e.teacher for e in steps.of_catalogue().entrants}["tf-kd"] == "resnet8"


def test_a_method_that_cannot_have_these_networks_is_left_out_unless_it_was_asked_for(small, monkeypatch):
    some = {name: methods.get(name) for name in ("kd", "tf-kd")}
    some["tf-kd"] = dataclasses.replace(some["tf-kd"], teacher_alike=False)
    monkeypatch.setattr(steps.methods, "catalogue", lambda: some)
    monkeypatch.setattr(steps.methods, "get", some.get)
    told: list[str] = []
    assert [m["method"] for m in timed(say=told.append)["methods"]] == ["kd"]
    assert any("tf-kd is left out: Tf-KD's teacher is a trained resnet8" in line for line in told)
    with pytest.raises(KdnbError, match="not a resnet14"):
        timed(["tf-kd"])


def test_a_tables_rows_are_timed_with_its_networks_images_and_arguments():
    whole = steps.of_table("leaderboard/first", "pilot")
    by_method = {entrant.method: entrant for entrant in whole.entrants}
    assert whole.networks == ("resnet20", "resnet8") and whole.table == "leaderboard/first at pilot scale"
    assert whole.images.dataset == "cifar100" and whole.images.student_images == 10_000
    assert by_method["crd"].arguments == {"negatives": 16384} and by_method["kd"].arguments == {}
    assert (by_method["tf-kd"].teacher, by_method["crd"].teacher) == ("resnet8", "resnet20")
    assert {"srm-dictionaries", "paraphraser", "plain"} <= by_method.keys() and whole.entrants[0].method == "kd"
    assert not {"kd-again", "kd-mismatched", "label-smoothing"} & by_method.keys()  # their steps are KD's, or plain's
    assert len(by_method) == len(whole.entrants)  # KD's other rows are KD


def test_of_rows_that_share_a_method_the_one_with_the_tables_networks_is_timed():
    """Table 1 of information flow has rows that train the helper, by KD, and rows that the largest network teaches."""
    whole = steps.of_table("infoflow/table1", "pilot")
    by_method = {entrant.method: entrant.arguments for entrant in whole.entrants}
    pairs = {entrant.method: (entrant.teacher, entrant.student) for entrant in whole.entrants}
    assert whole.networks == ("cnn1_a", "cnn1") and next(iter(pairs)) == "kd"
    assert {*pairs.values()} == {whole.networks}  # those without such a row, too: else their steps would not compare
    assert by_method["information-flow"] == {"contrastive_weight": 1.0}  # of its row, and not of the helper's training
    assert len({entrant.recipe.epochs for entrant in whole.entrants}) == 1


def test_a_row_brings_what_it_goes_on_from():
    some = steps.of_table("leaderboard/first", "pilot", ["srm+kd", "label-smoothing"])
    assert [entrant.method for entrant in some.entrants] == ["kd", "srm-dictionaries", "srm", "srm+kd", "plain"]
    with pytest.raises(KdnbError, match="several pairs of networks; name one of them: --only resnet32x4-resnet8x4 or "):
        steps.of_table("slkd/table1", "pilot", ["at"])
    assert steps.of_table("slkd/table1", "pilot", ["resnet32x4-resnet8x4"]).networks == ("resnet20", "resnet8")
    with pytest.raises(KdnbError, match="None of these rows"):
        steps.of_table("leaderboard/first", "demo", ["at"])


def test_the_command_times_a_table_and_its_file_says_which(tmp_path):
    target = tmp_path / "steps.json"
    asked = ["bench", "--methods", "--exhibit", "leaderboard/first", "--profile", "demo", "--only", "crd+kd"]
    done = CliRunner().invoke(app, [*asked, "--rounds", "2", "--out", str(target)])
    assert done.exit_code == 0, done.output
    found = json.loads(target.read_text())
    assert found["networks"] == "resnet14 -> resnet8" and found["table"] == "leaderboard/first at demo scale"
    assert found["images"] == "250 images of Digits" and found["rounds"] == 2
    kd, crd = found["methods"]
    assert crd["arguments"] == {"negatives": 16384} and "arguments" not in kd
    assert crd["lowest"] <= crd["ratio_to_kd"] <= crd["highest"]
    without = CliRunner().invoke(app, ["bench", "--exhibit", "leaderboard/first"])
    assert isinstance(without.exception, KdnbError) and "--methods" in str(without.exception)


def test_a_part_of_a_set_is_named_as_one(tmp_path, monkeypatch):
    samples.write_layout(tmp_path / "data", "cifar100", samples.splits("cifar100"))
    monkeypatch.setattr(speed, "LEAST_IMAGES", 300)
    assert speed.images()[-1] == "300 images of CIFAR-100"


@pytest.mark.usefixtures("empty_project")
def test_a_table_says_how_it_was_computed_and_what_others_had_of_the_machine():
    folder = paths.committed_results() / "bench"
    folder.mkdir(parents=True)
    cohort = {"size": 1, "images_per_s": 90.0, "ratio": 1.5, "peak_gib": None, "images_per_cpu_s": 99.0}
    content = {
        "device": "a machine",
        "networks": "a -> b",
        "images": "CIFAR-100",
        "numerics": {"device": "cpu", "dtype": "bfloat16", "mode": "eager", "threads": 1},
        "rounds": 3,
        "others": 0.54,
        "reference_images_per_s": 60.0,
        "cohorts": [cohort],
        "roofline": {"best_tflops": 1.0, "reached": {"1": 0.5}},
    }
    (folder / "x.json").write_text(json.dumps(content), encoding="utf-8")
    (table,) = tables.speed()
    assert "a → b, KD; bfloat16, eager, 1 thread; images: CIFAR-100" in table.caption
    assert [entry.text for entry in table.body[1]] == ["1", "90", "1.50", "99", "50 %", "–"]
    assert "convolutions" in table.note and "Other processes had 54 % of the machine" in table.note
    del content["others"], content["roofline"]["best_tflops"]
    (folder / "x.json").write_text(json.dumps(content), encoding="utf-8")
    (table,) = tables.speed()
    assert "matmul or copy rate" in table.note and "Other processes" not in table.note
