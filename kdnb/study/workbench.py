"""From an experiment to something that can be trained: images on the device, networks, stages.

The only place where a description becomes tensors.  Nothing here decides what runs when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from kdnb import datasets, methods, models
from kdnb.analysis import Observed, Subject
from kdnb.datasets import Dataset, ImageSet
from kdnb.errors import DataError, KdnbError, StoreError, unknown
from kdnb.methods.registry import KD_DEFAULTS
from kdnb.methods.stage import Setup, Stage, Supervision, TrainingSet
from kdnb.models.initialisation import uniform_norms
from kdnb.models.network import Network
from kdnb.randomness import keyed_seed
from kdnb.study.experiment import Experiment, Images, Run
from kdnb.study.store import Store
from kdnb.training.cohort import Material
from kdnb.training.freeze import frozen
from kdnb.training.images import Augmentation, DeviceImages, Normalisation
from kdnb.training.member import load_weights
from kdnb.training.numerics import Numerics


@dataclass
class TestImages:
    """The images an experiment is judged on: all test images, which of them score, and the training images with labels.

    The latter are those that the student learned from, but where it learned from images without labels.
    """

    test: DeviceImages
    score: np.ndarray
    labelled: DeviceImages


class Workbench:
    """Makes and keeps what several runs share: image sets and teachers on the device.

    `say` gets a line where a data set is not the published one.
    """

    def __init__(self, store: Store, numerics: Numerics, say: Callable[[str], None] = lambda line: None) -> None:
        self.store = store
        self.numerics = numerics
        self.say = say
        self._told: set[str] = set()
        self._material: dict[tuple[Images, int | None], tuple[Material, TestImages]] = {}
        self._teachers: dict[tuple[tuple[str, int], torch.dtype], Network] = {}
        self._digests: dict[tuple[str, int], str] = {}
        self._observed: dict[tuple[tuple[str, int], Images], Observed] = {}

    def material(self, images: Images, seed: int | None = None) -> tuple[Material, TestImages]:
        """Training, validation and test images of a run, on the device; DataError if missing.

        Few of each class are other ones for every seed, so there it has to be told.
        """
        assert seed is not None or not images.per_class, "few images of each class are those of a seed"
        key = images, seed if images.per_class else None
        if key not in self._material:
            self._material[key] = self._load(images, seed)
        return self._material[key]

    def teacher(self, run: Run) -> Network:
        """A finished teacher, frozen and folded, in the precision of the run."""
        return self._frozen(run, self.numerics.torch_dtype)

    def scored(self, run: Run) -> Network:
        """The network that a finished run left, frozen and folded, as it is scored: in float32 whatever trains."""
        return self._frozen(run, torch.float32)

    def _frozen(self, run: Run, dtype: torch.dtype) -> Network:
        key = run.key, dtype
        if key not in self._teachers:
            weights = self._weights(run, run)
            network = _network(run.experiment, seed=0)
            load_weights({"student": network}, weights)
            self._digests[run.key] = _digest(weights)
            self._teachers[key] = frozen(network, self.numerics.torch_device, dtype)
        return self._teachers[key]

    def _teacher_of(self, run: Run) -> Network | None:
        """The teacher of a run; KdnbError where its weights here are others than those that taught its companions."""
        if run.teacher is None:
            return None
        teacher, here = self.teacher(run.teacher), self.teacher_digest(run.teacher)
        known = self.store.teacher_digest(run.teacher.key[0]) if run.experiment.teachers == "fixed" else ""
        if known not in ("", here):
            raise KdnbError(
                f"{run.label}: the weights of its teacher here ({here}) are not those that taught the stored runs "
                f"({known}), and the two are never compared. Bring that teacher's checkpoint (kdnb import), or take "
                f"{self.store.weights_folder(run.teacher)} away where another copy lies below."
            )
        return teacher

    def teacher_digest(self, run: Run) -> str:
        """16 hexadecimal digits that stand for a teacher's weights as they are kept, whatever the device."""
        self.teacher(run)
        return self._digests[run.key]

    def subject(self, run: Run, student: Network, modules: Mapping[str, nn.Module] | None = None) -> Subject:
        """What is measured of a run; its teacher runs over the test images once for all its students."""
        experiment = run.experiment
        _, evidence = self.material(experiment.images, run.seed)
        return Subject(
            student=Observed(student, evidence.test),
            teacher=self._observed_teacher(run.teacher, experiment.images, evidence) if run.teacher else None,
            labels=evidence.test.labels.cpu().numpy(),
            score=evidence.score,
            num_classes=datasets.info(experiment.images.dataset).num_classes,
            seed=run.seed,
            training=evidence.labelled,
            modules=modules or {},
            earlier=lambda name: self._earlier(name, run),
        )

    def _observed_teacher(self, teacher: Run, images: Images, evidence: TestImages) -> Observed:
        key = teacher.key, images
        if key not in self._observed:
            self._observed[key] = Observed(self.scored(teacher), evidence.test)
        return self._observed[key]

    def stages(self, run: Run) -> list[Stage]:
        """The stages that a run has to train, shortened by its profile, starting weights loaded.

        Shared stages that the run builds on are loaded, not trained; a shared stage's own run is that
        stage alone.
        """
        experiment = run.experiment
        stages = _all_stages(self._setup(run), experiment)
        names = [stage.name for stage in stages]
        if experiment.stage is not None:
            stages = stages[: names.index(experiment.stage) + 1]
        done = run.shared_stages()
        for shared in done:
            load_weights(stages[names.index(str(shared.experiment.stage))].modules, self._weights(shared, run))
        profile = experiment.profile
        return [stage.shortened(profile.factor, profile.at_most) for stage in stages[len(done) :]]

    def _weights(self, need: Run, user: Run) -> dict[str, Tensor]:
        """What a run left that another one goes on from; StoreError where it is gone."""
        weights = self.store.load_weights(need)
        if weights is None:
            raise StoreError(f"The weights of {need.label} are missing, and {user.label} needs them; train it again.")
        return weights

    def _student(self, run: Run) -> Network:
        """The student at its start: from the stream of (seed, network), or as another run of its seed left it."""
        student = _network(run.experiment, run.seed)
        if run.start is not None:
            begin_with(student, student_weights(self._weights(run.start, run)))
        return student.to(self.numerics.torch_device)

    def _step(self, step: Run, user: Run) -> dict[str, nn.Module]:
        """The modules of a step or of a shared stage, as its run left them, for one that goes on from it."""
        stages = _all_stages(self._setup(step), step.experiment)
        stage = next((stage for stage in stages if stage.name == step.experiment.stage), stages[-1])
        load_weights(stage.modules, self._weights(step, user))
        return stage.modules

    def _earlier(self, name: str, run: Run) -> dict[str, nn.Module]:
        """The modules of the step or shared stage of this name that a run went on from; KdnbError where it has none."""
        known = {**run.steps(), **{str(stage.experiment.stage): stage for stage in run.shared_stages()}}
        if name not in known:
            raise unknown(f"step of {run.label}", name, known)
        return self._step(known[name], run)

    def _setup(self, run: Run) -> Setup:
        experiment = run.experiment
        material, _ = self.material(experiment.images, run.seed)
        return Setup(
            student=self._student(run) if experiment.network else None,  # type: ignore[arg-type]
            teacher=self._teacher_of(run),
            recipe=experiment.recipe,  # type: ignore[arg-type]
            supervision=supervision(experiment),
            training_set=TrainingSet(
                material.training.labels,
                datasets.info(experiment.images.dataset).num_classes,
                labelled=experiment.images.learned == "train",
            ),
            seed=run.seed,
            device=self.numerics.torch_device,
            steps={name: self._step(step, run) for name, step in run.steps().items()},
        )

    def _tell_of_a_part(self, data: Dataset) -> None:
        name = data.info.name
        if not data.published and name not in self._told:
            self._told.add(name)
            self.say(
                f"{name}: not the published set, but the {len(data.train):,} training and {len(data.test):,} test "
                "images that are prepared here; its runs are told apart from those of the whole set"
            )

    def _load(self, images: Images, seed: int | None) -> tuple[Material, TestImages]:
        data = datasets.load(images.dataset)
        self._tell_of_a_part(data)
        normalisation = Normalisation(images.mean, images.std)
        augmentation = Augmentation(data.info.crop_padding, data.info.flip)
        everything = np.arange(len(data.test.labels))
        learned, selecting, validation, score = np.arange(len(data.train.labels)), data.test, everything, everything
        if images.split == "halves":
            validation, score = datasets.halves(data.test.labels, datasets.halves_key(images.dataset))
        elif images.split == "held-out":
            learned, validation = datasets.held_out(data.train.labels, f"held-out/{images.dataset}")
            selecting = data.train
        if not len(validation) or not len(score):
            raise DataError(
                f"The {len(everything)} test images of {images.dataset} are too few for the split '{images.split}': "
                "none would be left to select by, or to score; prepare more of them."
            )
        source = data.train
        if images.learned == "unlabelled":
            source = _without_labels(data)
            learned = np.arange(len(source))
        learned = learned[_chosen(images, source.labels[learned], seed)]

        def on_device(
            pixels: np.ndarray, labels: np.ndarray, padding: int = 0, dtype: torch.dtype = self.numerics.torch_dtype
        ) -> DeviceImages:
            device, mode = self.numerics.torch_device, images.padding_mode
            return DeviceImages(pixels, labels, normalisation, device, dtype, padding, mode)

        material = Material(
            training=on_device(source.images[learned], source.labels[learned], augmentation.padding),
            validation=on_device(selecting.images[validation], selecting.labels[validation]),
            augmentation=augmentation,
        )
        test = on_device(data.test.images, data.test.labels, dtype=torch.float32)  # scores are, whatever trains
        known = material.training if source is data.train else on_device(data.train.images, data.train.labels)
        return material, TestImages(test, score, known)


def _without_labels(data: Dataset) -> ImageSet:
    """The images without labels of a data set, with -1 for the label of each."""
    assert data.unlabelled is not None, "an experiment on a data set without such images is refused"
    return replace(data.unlabelled, labels=np.full(len(data.unlabelled.images), -1))


def _chosen(images: Images, labels: np.ndarray, seed: int | None) -> np.ndarray:
    """Which of the images with these labels a run learns from: all, fixed ones, or few of each class for its seed."""
    if images.per_class:
        few = images.per_class * datasets.info(images.dataset).num_classes
        return datasets.class_balanced(labels, few, f"few/{images.dataset}/{seed}")
    if images.student_images is not None and images.student_images < len(labels):
        return datasets.class_balanced(labels, images.student_images, f"student/{images.dataset}")
    return np.arange(len(labels))


def _network(experiment: Experiment, seed: int) -> Network:
    """The network of an experiment, initialised as a function of (seed, network)."""
    assert experiment.network is not None, "a step of the teacher alone has no network of its own"
    classes = datasets.info(experiment.images.dataset).num_classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keyed_seed(seed, "network", experiment.network))
        network = models.create(experiment.network, classes)
        if experiment.recipe is not None and experiment.recipe.norm_scale == "uniform":
            uniform_norms(network)
        return network


def supervision(experiment: Experiment) -> Supervision:
    """What stands where an experiment's method needs labels."""
    method = methods.get(experiment.method)
    if not method.with_kd:
        return Supervision()
    arguments = method.arguments(experiment.arguments)
    return Supervision(**{name: arguments[name] for name in KD_DEFAULTS})


def _all_stages(setup: Setup, experiment: Experiment) -> list[Stage]:
    method = methods.get(experiment.method)
    return method.stages(setup, method.arguments(experiment.arguments))


def _digest(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode() + b"\0" + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def begin_with(student: Network, weights: dict[str, Tensor]) -> None:
    """Load a student's weights into another of the same network; where the classes are others, not its classifier's.

    Raises KdnbError where anything else differs.
    """
    own = student.state_dict()
    others = [name for name in own if name not in weights or own[name].shape != weights[name].shape]
    classifier = {f"classifier.{name}" for name in student.classifier.state_dict()}
    if not set(others) <= classifier or own.keys() != weights.keys():
        raise KdnbError(f"A student cannot begin with these weights: {', '.join(sorted(others))} would not fit.")
    student.load_state_dict({**weights, **{name: own[name] for name in others}})


def student_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The student's part of a stage's weights, under the student's own names."""
    return {k.removeprefix("student."): v for k, v in weights.items() if k.startswith("student.")}
