"""How a run is computed on a machine: measured where that decides, continued where it was begun."""

from __future__ import annotations

import copy
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from study_samples import TINY, experiment, keep_teacher, record

from kdnb import datasets, exhibits, paths
from kdnb.analysis.registry import Observed
from kdnb.errors import KdnbError
from kdnb.models.network import Network
from kdnb.study.choice import Choice
from kdnb.study.experiment import Run
from kdnb.study.profile import get_profile
from kdnb.study.store import Store
from kdnb.study.workbench import Workbench
from kdnb.training import numerics, probe
from kdnb.training.cohort import Cohort, run_side_by_side
from kdnb.training.images import DeviceImages
from kdnb.training.member import Member
from kdnb.training.probe import Layer, Measured

ORDINARY = Layer(4, 8, (3, 3), (2, 2), (1, 1), (1, 1), 1, (8, 8))
DEPTHWISE = Layer(8, 8, (3, 3), (1, 1), (1, 1), (1, 1), 8, (8, 8))


@pytest.fixture
def clock(monkeypatch):
    """Every shape is measured as so many times as fast in bfloat16; `asked` are those that were measured.

    CIFAR-100 is there as far as a choice looks at it.
    """

    class Clock:
        ratio, agrees = 2.0, True

        def __init__(self) -> None:
            self.asked: list[Layer] = []

        def measure(self, layer: Layer) -> Measured:
            self.asked.append(layer)
            return Measured({"float32": self.ratio, "bfloat16": 1.0}, self.agrees)

    found = Clock()
    monkeypatch.setattr(probe, "has_bfloat16", lambda: True)
    monkeypatch.setattr(probe, "measure", found.measure)
    monkeypatch.setattr("kdnb.study.choice.datasets.load", lambda name: SimpleNamespace(info=datasets.info(name)))
    return found


# -- the probe -----------------------------------------------------------------------------------------------


def test_a_networks_layers_are_its_convolutions_with_their_count_and_work():
    found = probe.layers("resnet20", 100, 32)
    assert sum(found.values()) == 21  # 19 of 3x3, and two shortcuts of 1x1
    block = Layer(16, 16, (3, 3), (1, 1), (1, 1), (1, 1), 1, (32, 32))
    assert found[block] == 6
    assert sum(count * layer.flops(1) for layer, count in found.items()) == pytest.approx(81.6e6, rel=0.01)
    assert {layer.groups for layer in probe.layers("mobilenet_v2", 100, 32)} >= {1, 16, 96}


@pytest.mark.arithmetic
@pytest.mark.parametrize("layer", [ORDINARY, DEPTHWISE, Layer(6, 4, (2, 2), (2, 2), (0, 0), (1, 1), 2, (6, 6))])
def test_bfloat16_that_is_right_agrees(layer):
    torch.manual_seed(3)
    assert probe.agree(layer)


@pytest.mark.parametrize("part", [0, 1, 2], ids=["values", "gradient of the images", "gradient of the weights"])
def test_a_kernel_that_leaves_out_a_term_does_not_agree(part, monkeypatch):
    """As bfloat16 kernels of some versions did: one tap of a 3x3 convolution is lost."""
    right = probe._sums

    def wrong(conv, images, grad):
        found = right(conv, images, grad)
        if images.dtype != torch.bfloat16:
            return found
        holed = ORDINARY.build().bfloat16()
        with torch.no_grad():
            holed.weight.copy_(conv.weight)
            holed.weight[:, :, 0, 1] = 0
        other = right(holed, images, grad)
        if part == 2:
            other = (*other[:2], found[2] * (torch.arange(3) != 1)[:, None])
        return tuple(o if i == part else f for i, (o, f) in enumerate(zip(other, found, strict=True)))

    torch.manual_seed(3)
    monkeypatch.setattr(probe, "_sums", wrong)
    assert not probe.agree(ORDINARY)


def test_a_layer_is_timed_in_both_precisions():
    found = probe.measure(DEPTHWISE)
    assert found.agrees and set(found.seconds) == {"float32", "bfloat16"}
    assert all(0 < seconds < 10 for seconds in found.seconds.values())


VERDICTS = [
    # times as fast: ordinary, depthwise; do they agree? -> precision
    (1.20, None, True, "bfloat16"),
    (1.10, None, True, "float32"),  # within what noise moves
    (3.00, None, False, "float32"),
    (3.00, 1.50, True, "bfloat16"),
    (3.00, 0.20, True, "float32"),  # a known slow kernel
]


@pytest.mark.parametrize(("ordinary", "depthwise", "agrees", "dtype"), VERDICTS)
def test_bfloat16_needs_a_margin_and_right_kernels_and_grouped_ones_are_judged_apart(
    ordinary, depthwise, agrees, dtype
):
    times = {ORDINARY: ordinary} | ({DEPTHWISE: depthwise} if depthwise else {})
    measured = {
        layer.key: Measured({"float32": t, "bfloat16": 1.0}, agrees or layer != ORDINARY) for layer, t in times.items()
    }
    found = probe.judged(probe.Counter({layer: 2 for layer in times}), measured)
    assert found.dtype == dtype and found.told.startswith(f"{dtype}: ")
    assert ("grouped" in found.told) == bool(depthwise) and ("wrong for 1 shapes" in found.told) == (not agrees)


def test_what_was_measured_is_kept_for_every_network_of_the_same_shapes(clock):
    lines: list[str] = []
    first = probe.probe("resnet20", 100, 32, say=lines.append)
    assert first.dtype == "bfloat16" and first.ratio == 2 and len(clock.asked) == len(probe.layers("resnet20", 100, 32))
    assert len(lines) == 1 and str(paths.cache()) in first.told
    clock.ratio = 1.0  # a busier hour moves nothing
    assert probe.probe("resnet20", 100, 32).dtype == probe.probe("resnet56", 100, 32).dtype == "bfloat16"
    assert len(set(clock.asked)) == len(clock.asked)
    assert probe.probe("resnet20", 100, 32, again=True).dtype == "float32"


SPOILT = {
    "torn": lambda text: text[:100],
    "nested deep": lambda text: "[" * 100_000,
    "nothing measured": lambda text: text.replace('"layers"', '"others"'),
    "other kinds": lambda text: text.replace('"seconds": {', '"seconds": [{').replace("}", "}]", 1),
}


@pytest.mark.parametrize("what", ["threads", "instructions", "torch", *SPOILT])
def test_another_machine_or_a_torn_file_is_measured_anew(what, clock, monkeypatch):
    probe.probe("resnet8", 10, 16)
    count = len(clock.asked)
    if what == "threads":
        torch.set_num_threads(2)
    elif what == "instructions":
        monkeypatch.setattr(probe, "instruction_set", lambda: "another")
    elif what == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9")
    else:
        (file,) = paths.cache().glob("*.json")
        file.write_text(SPOILT[what](file.read_text(encoding="utf-8")), encoding="utf-8")
    assert probe.probe("resnet8", 10, 16).dtype == "bfloat16"
    assert len(clock.asked) == 2 * count


def test_a_home_that_cannot_be_written_keeps_nothing_and_goes_on(clock, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = probe.probe("resnet8", 10, 16)
    assert found.dtype == "bfloat16" and "not kept" in found.told


def test_a_processor_without_bfloat16_is_not_measured(clock, monkeypatch):
    monkeypatch.setattr(probe, "has_bfloat16", lambda: False)
    found = probe.probe("resnet8", 10, 16)
    assert (found.dtype, clock.asked) == ("float32", []) and "no bfloat16 arithmetic" in found.told


# -- the choice ----------------------------------------------------------------------------------------------


def pilot(line: str, seed: int = 1) -> Run:
    """A run of the comparison's first table at pilot scale."""
    table = exhibits.get("comparison/table1")
    (cell,) = table.cells(get_profile("pilot"), "cifar100", [table.row(line)])
    return Run(cell.experiment, seed)


def stored(run: Run, **told: object) -> None:
    """A record of this run under such numerics."""
    how = {**dataclasses.asdict(numerics.detect("cpu")), **told}
    Store.open().write(run, record(run, environment={"numerics": how}), "comparison")


@pytest.mark.usefixtures("empty_project")
def test_the_demo_is_the_same_everywhere_and_never_probed(clock):
    torch.set_num_threads(2)
    how = Choice(Store.open())(Run(experiment("kd", TINY), 1))
    assert (how.device, how.dtype, how.mode, how.threads) == ("cpu", "float32", "eager", 1)
    assert Choice(Store.open(), dtype="bfloat16")(Run(experiment("kd", TINY), 1)).dtype == "bfloat16"
    assert not clock.asked


@pytest.mark.usefixtures("empty_project")
def test_a_table_that_nobody_began_is_measured_and_told_once(clock):
    lines: list[str] = []
    choice = Choice(Store.open(), "cpu", say=lines.append)
    assert choice(pilot("plain")).dtype == choice(pilot("kd")).dtype == choice(pilot("kd", 2)).dtype == "bfloat16"
    assert len(lines) == 2 and "resnet8: bfloat16: bfloat16 is 2.00 times as fast" in lines[1]
    assert Choice(Store.open(), "cpu", dtype="float32")(pilot("kd")).dtype == "float32"


@pytest.mark.usefixtures("empty_project")
def test_a_table_goes_on_as_it_was_begun(clock):
    stored(pilot("plain"), dtype="float32", threads=1, mode="compiled")
    stored(pilot("plain", 2), dtype="float32", threads=1, mode="eager")
    stored(pilot("plain", 3), dtype="bfloat16", threads=2, mode="eager")
    torch.set_num_threads(2)
    how = Choice(Store.open(), "cpu")(pilot("kd"))
    assert (how.dtype, how.threads, how.mode) == ("float32", 1, "eager") and not clock.asked
    assert Choice(Store.open(), "cpu", dtype="bfloat16")(pilot("kd")).dtype == "bfloat16"


@pytest.mark.usefixtures("empty_project")
@pytest.mark.parametrize("change", [{"split": "test"}, {"mean": (0.4, 0.4, 0.4)}])
def test_images_that_another_protocol_prepares_are_another_table(change, clock):
    stored(pilot("plain"), dtype="float32", threads=1, mode="eager")
    other = pilot("kd").experiment
    run = Run(dataclasses.replace(other, images=dataclasses.replace(other.images, **change)), 1)
    assert Choice(Store.open(), "cpu", say=lambda line: None)(run).dtype == "bfloat16" and clock.asked


@pytest.mark.usefixtures("empty_project")
@pytest.mark.parametrize("told", [{"device": "cuda"}, {"dtype": None}, {"threads": "two"}, {"threads": 10**6}])
def test_runs_of_another_device_or_that_do_not_tell_are_no_example(told, clock):
    stored(pilot("plain"), **told)
    assert Choice(Store.open(), "cpu", say=lambda line: None)(pilot("kd")).dtype == "bfloat16"
    assert clock.asked


def test_the_published_tables_go_on_in_float32_on_one_thread(clock):
    """Their records were made by compiled steps of old, and stay what they are."""
    how = Choice(Store.open(), "cpu")(pilot("kd", 9))
    assert (how.dtype, how.threads, how.mode) == ("float32", 1, "eager") and not clock.asked
    old = {json.dumps(r.environment["numerics"]["mode"]) for r in Store.open().all()}
    assert '"compiled"' in old


def test_a_mode_that_is_gone_is_said():
    with pytest.raises(KdnbError, match="Compiled steps are gone"):
        numerics.detect("cpu", mode="compiled")


@pytest.mark.usefixtures("empty_project")
def test_a_step_of_the_teacher_alone_is_computed_as_suits_the_teacher(clock):
    student = pilot("kd").experiment
    lines: list[str] = []
    run = Run(dataclasses.replace(student, network=None, recipe=None, method="paraphraser", arguments={}), 1)
    assert Choice(Store.open(), "cpu", say=lines.append)(run).dtype == "bfloat16" and lines[-1].startswith("resnet20: ")


# -- what decides --------------------------------------------------------------------------------------------


def test_on_cuda_what_is_float32_is_not_rounded_on_the_way():
    """No TF32: not in the losses, which are float32 whatever trains, and not in scores.  The switches are anywhere."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    try:
        numerics.apply(dataclasses.replace(numerics.detect("cpu"), device="cuda", deterministic=False))
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, False)
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before


EVERY = [(device, dtype) for device in ("cpu", "cuda") for dtype in ("float32", "bfloat16")]
#: Two logits that are nearer to each other than this may change places between ways of computing.
TIE = 1e-4


@torch.no_grad()
def in_float64(network: Network, images: DeviceImages) -> tuple[np.ndarray, np.ndarray]:
    """The class of every image and how far its logit lies above the next one, computed in float64."""
    exact = copy.deepcopy(network).double().eval()
    batches = [images.double() for _, images, _ in images.plain_batches(100)]
    embedded = torch.cat([exact.activations(batch, "embedding").embedding for batch in batches]).double()
    first, second = exact.classifier(embedded).topk(2, dim=1)[0].T
    return exact.classifier(embedded).argmax(1).cpu().numpy(), (first - second).cpu().numpy()


@pytest.mark.usefixtures("empty_project")
@pytest.mark.parametrize(("device", "dtype"), EVERY)
def test_whatever_trains_a_class_is_the_same_unless_two_logits_tie(device, dtype):
    """Of the student that is validated and scored, and of the teacher that it is compared with."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    run, store = Run(experiment("kd", dataclasses.replace(TINY, student_images=None, at_most=1)), 1), Store.open()
    keep_teacher(run.experiment, store)
    how = numerics.detect(device, dtype, "eager")
    bench = Workbench(store, how)
    material, _ = bench.material(run.experiment.images)
    member = Member(bench.stages(run)[-1], "kd", 1, how)
    run_side_by_side([Cohort([member], bench.teacher(run.teacher), material, how)])

    classes, gaps = in_float64(member.student, material.validation)
    right = (classes == material.validation.labels.cpu().numpy()).mean()
    ties = (gaps <= TIE).mean()
    assert abs(member.history["validation_accuracy"][-1] - right) <= ties + 1e-6 and len({*classes}) > 1

    subject = bench.subject(run, member.student)
    assert subject.teacher is not None
    for observed in (subject.student, subject.teacher):
        _is_told_as_in_float64(observed)


def _is_told_as_in_float64(observed: Observed) -> None:
    classes, gaps = in_float64(observed.network, observed.images)
    clear = gaps > TIE
    assert clear.mean() > 0.98 and np.array_equal(observed.outputs.logits.argmax(1)[clear], classes[clear])
