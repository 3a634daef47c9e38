"""One student of a cohort: a stage of a run, with its step, its validation and its state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdnb.errors import KdnbError, is_memory
from kdnb.methods.stage import Batch, Losses, Stage, TooShallow, Turn, accuracy, surprise
from kdnb.models.network import Activations, Network
from kdnb.randomness import keyed_seed
from kdnb.training import optimisers
from kdnb.training.numerics import Numerics

#: A loss that is not finite is noticed after at most so many steps.
CHECK_EVERY = 64


@dataclass
class Inputs:
    """What all members of a cohort are given in one step.

    `teacher_in_training` is what the teacher says on the batch's own statistics, for stages that ask for it.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    epoch: Tensor
    teacher: Activations
    teacher_in_training: Activations | None = None


class Member:
    """A stage in progress: its modules and optimisers, its position, history and best epoch so far.

    `label` names the run in messages.  `failed` holds a sentence once the run cannot go on; `by_error` is true
    where an error ended it and not its numbers, so that another try may end otherwise.
    """

    def __init__(self, stage: Stage, label: str, seed: int, numerics: Numerics) -> None:
        self.stage = stage
        self.label = label
        self.seed = seed
        self.numerics = numerics
        self.device = numerics.torch_device
        for module in stage.modules.values():
            module.to(self.device).to(memory_format=torch.channels_last)
        self.optimisers = [optimisers.make(turn.optimiser, turn.trainable, self.device) for turn in stage.turns]
        self.epoch = 0
        self.step = 0
        self.prepared = stage.prepare is None
        self.history: dict[str, list[float]] = {}
        self.sums: dict[str, Tensor] = {}
        self.validation: dict[str, Tensor] = {}  # name -> sum over images; empty, or of zeros, between two epochs
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=self.device)
        self.device_step = torch.zeros((), dtype=torch.int64, device=self.device)
        self.best_value: float | None = None
        self.best_epoch = -1
        self.best: dict[str, Tensor] = {}
        self.failed: str | None = None
        self.by_error = False
        self.finished = False

    @property
    def student(self) -> Network:
        """The network that learns; KdnbError where the stage has none."""
        student = self.stage.modules.get("student")
        if not isinstance(student, Network):
            raise KdnbError(f"{self.label}: stage '{self.stage.name}' has no student.")
        return student

    # -- one step -----------------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """Set modes and the epoch's learning rates; optimisers that begin afresh here do."""
        self.train_mode()
        schedule = self.stage.schedule
        for turn, optimiser in self._turns():
            optimisers.set_rate(optimiser, schedule.rate(turn.optimiser.lr, self.epoch))
            afresh = {"never": False, "drop": schedule.drops(self.epoch), "epoch": True}[turn.optimiser.restart]
            if afresh and self.step == 0:
                optimisers.restart(optimiser)

    def _turns(self) -> list[tuple[Turn, torch.optim.Optimizer]]:
        return list(zip(self.stage.turns, self.optimisers, strict=True))

    def draw(self, size: int) -> dict[str, Tensor]:
        """The stage's own random numbers of this step, keyed by (seed, stage, step)."""
        if self.stage.draws is None:
            return {}
        stream = torch.Generator(device=self.device)
        stream.manual_seed(keyed_seed(self.seed, "draws", self.stage.name, self.epoch, self.step))
        return self.stage.draws(stream, size)

    def compute(self, inputs: Inputs, draws: dict[str, Tensor]) -> None:
        """Forward, backward, optimiser, turn by turn, and sums: all on the device, so that it can be captured."""
        met: Losses = {}
        for turn, optimiser in self._turns():
            self.clear_gradients()  # of all: one turn's backward may reach what another trains
            with self.numerics.autocast():
                batch = self._batch(inputs, draws)
                terms = turn.objective(batch)
            _need_terms(terms, "objective")
            loss = torch.stack([term.float() for term in terms.values()]).sum()
            self._watch(loss.detach())
            loss.backward()
            if turn.optimiser.name != "rmsprop":  # the fused optimisers know how to leave a step out
                optimiser.found_inf = (self.first_bad >= 0).float()  # type: ignore[attr-defined]
            optimiser.step()
            met |= terms
        self.device_step += 1
        with torch.no_grad():
            if self.stage.after_step is not None:
                self.stage.after_step(batch)
            self._add_up(batch, met)

    def clear_gradients(self) -> None:
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)

    def fail(self, error: Exception, doing: str) -> None:
        """End the run by an error of its own, which came up while it did something."""
        self.by_error = True
        reason = (str(error) or type(error).__name__).strip().rstrip(".")
        if is_memory(error):
            reason = "the device's memory does not hold it; train fewer runs at once (--together)"
        elif isinstance(error, TooShallow | IndexError) or "NoneType" in reason:
            reason += self._declared(told=isinstance(error, TooShallow))
        self.failed = (
            f"{self.label}: stage '{self.stage.name}' ended in epoch {self.epoch + 1} of {self.stage.epochs}, "
            f"{doing} ({reason}); it leaves no record, the other runs go on."
        )

    def _declared(self, told: bool) -> str:
        """How deep the stage goes, and the remedy unless it is told: for an error that may come from reading on."""
        depths = {"student_depth": self.stage.student_depth, "teacher_depth": self.stage.teacher_depth}
        short = {name: depth for name, depth in depths.items() if depth != "logits"}
        if not short:
            return ""
        declares = " and ".join(f"{name}={depth!r}" for name, depth in short.items())
        remedy = "" if told else f', what lies deeper is not there: declare what is read, as {[*short][-1]}="logits"'
        return f"; the stage declares {declares}{remedy}"

    def check(self) -> bool:
        """Ask the device whether a loss was not finite; then the member has failed and says where."""
        bad = int(self.first_bad.item())
        if bad >= 0 and self.failed is None:
            self.failed = (
                f"{self.label}: the loss was not finite at step {bad} of stage '{self.stage.name}' "
                f"(epoch {self.epoch + 1} of {self.stage.epochs}); the run has diverged and ends."
            )
        return self.failed is None

    def _batch(self, inputs: Inputs, draws: dict[str, Tensor]) -> Batch:
        depth, student = self.stage.student_depth, Activations(stem=inputs.images[:0])
        if depth is not None:
            student = self.student.activations(inputs.images, depth)
        teacher = inputs.teacher
        if self.stage.teacher_mode == "train" and inputs.teacher_in_training is not None:
            teacher = inputs.teacher_in_training
        teacher = teacher.as_deep_as(self.stage.teacher_depth)  # what others of the cohort ask for is not its own
        # Warm-ups count the paper's epochs, whatever share of them the profile runs.
        epoch = inputs.epoch / float(self.stage.ratio)
        return Batch(inputs.images, inputs.labels, inputs.indices, student, teacher, epoch, draws)

    def _watch(self, loss: Tensor) -> None:
        """Keep the first step whose loss was not finite; optimisers are masked from there on."""
        bad = ~torch.isfinite(loss) & (self.first_bad < 0)
        self.first_bad.copy_(torch.where(bad, self.device_step, self.first_bad))

    def _add_up(self, batch: Batch, terms: Losses) -> None:
        size = len(batch.labels)
        self._add("images", torch.full((), float(size), device=self.device))
        for name, term in terms.items():
            self._add(name, term.detach().float() * size)
        if batch.student.logits is not None and self.stage.labelled:
            self._add("train_accuracy", (batch.student.logits.argmax(1) == batch.labels).float().sum())

    def _add(self, name: str, value: Tensor) -> None:
        if name not in self.sums:
            self.sums[name] = torch.zeros((), dtype=torch.float64, device=self.device)
        self.sums[name] += value

    # -- before the first step, and after the last one of an epoch --------------------------------------

    def prepare(self, batches: list[Inputs]) -> None:
        """Calibrate on the first batches: student in train mode, its running statistics put back after."""
        assert self.stage.prepare is not None
        student = self.stage.modules.get("student", nn.Module())
        kept = {k: v.clone() for k, v in student.state_dict().items()}
        self.train_mode()
        with torch.no_grad(), self.numerics.autocast():
            self.stage.prepare([self._batch(inputs, self.draw(len(inputs.labels))) for inputs in batches])
        student.load_state_dict(kept)
        self.prepared = True

    def watched(self) -> dict[str, Any]:
        """What is measured on the validation part after each epoch: name -> Batch -> scalar."""
        measures: dict[str, Any] = {}
        if self.stage.student_depth == "logits":
            measures |= {"validation_accuracy": accuracy, "validation_ce": surprise}
        selection = self.stage.selection
        if selection is not None and selection.validate is not accuracy:
            measures["validation_loss"] = selection.validate
        return measures

    def validation_needs_teacher(self) -> bool:
        selection = self.stage.selection
        asks = selection is not None and selection.needs_teacher
        return self.stage.teacher_depth is not None and (asks or self.stage.observe is not None)

    @torch.no_grad()
    def validate(self, inputs: Inputs, sums: dict[str, Tensor]) -> None:
        """Add one validation batch to `sums`, name -> sum over images, in place; in float32, whatever trains."""
        size = len(inputs.labels)
        batch = self._batch(inputs, {})
        values = {name: measure(batch) for name, measure in self.watched().items()}
        if self.stage.observe is not None:
            observed = self.stage.observe(batch)
            _need_terms(observed, "`observe`")
            values |= observed
        _need_scalars(values, "validation")
        for name, value in values.items():
            if name not in sums:
                sums[name] = torch.zeros((), dtype=torch.float64, device=self.device)
            sums[name] += value.double() * size  # stays on the device

    def validated(self, count: int) -> dict[str, float]:
        """The means over so many images that were validated; the sums begin anew."""
        means = {name: float(total.item()) / count for name, total in self.validation.items()}
        for total in self.validation.values():
            total.zero_()  # in place, as with the steps' sums
        return means

    @property
    def awaits_validation(self) -> bool:
        """Whether something hangs on the validation after this epoch: it may be selected, or is the first or last."""
        selection, epochs = self.stage.selection, self.epoch + 1
        return epochs in (1, self.stage.epochs) or selection is None or selection.among(epochs)

    def end_epoch(self, validated: dict[str, float]) -> None:
        """Write the epoch into the history, keep the best weights, and see whether the stage is over.

        What was not validated after this epoch stands in the history as it was found last.
        """
        images = float(self.sums["images"].item())
        row = {"lr": self.stage.schedule.rate(self.stage.optimiser.lr, self.epoch)}
        row |= {name: float(total.item()) / images for name, total in self.sums.items() if name != "images"}
        row |= validated
        row |= {name: column[-1] for name, column in self.history.items() if name not in row}
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)
        for total in self.sums.values():
            total.zero_()  # in place: a captured step goes on adding to these very tensors
        self.epoch, self.step = self.epoch + 1, 0
        self._select(row)
        self._distrust([name for name, value in row.items() if not math.isfinite(value)])

    def _select(self, validated: dict[str, float]) -> None:
        selection, last = self.stage.selection, self.epoch - 1
        if selection is not None:
            name = "validation_accuracy" if selection.validate is accuracy else "validation_loss"
            value = validated[name]
            sign = 1 if selection.highest else -1
            better = self.best_value is None or sign * value > sign * self.best_value
            if better and math.isfinite(value) and selection.among(self.epoch):
                self.best_value, self.best_epoch, self.best = value, last, self._weights_of(*selection.modules)
            if selection.patience is not None and last - self.best_epoch >= selection.patience:
                self.finished = True
        self.finished = self.finished or self.epoch >= self.stage.epochs

    def _distrust(self, columns: list[str]) -> None:
        """A number that is not finite ends the run, and so does a last step that left such weights."""
        if self.finished and not all(bool(tensor.isfinite().all()) for tensor in self._learned()):
            columns = [*columns, "the student's weights" if "student" in self.stage.modules else "the weights"]
        if columns and self.failed is None:
            self.failed = (
                f"{self.label}: {', '.join(columns)} not finite after epoch {self.epoch} of {self.stage.epochs} "
                f"of stage '{self.stage.name}'; the run has diverged and ends."
            )

    def _learned(self) -> list[Tensor]:
        """The student's state, or, in a stage without one, whatever was trained."""
        if "student" in self.stage.modules:
            return list(self.student.state_dict().values())
        return [p for turn in self.stage.turns for module in turn.trainable for p in module.parameters()]

    def train_mode(self) -> None:
        for name, module in self.stage.modules.items():
            module.train(name not in self.stage.frozen)

    def eval_mode(self) -> None:
        for module in self.stage.modules.values():
            module.eval()

    # -- state ----------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """A copy of all modules' state, `<module>.<key>` -> tensor."""
        return self._weights_of(*self.stage.modules)

    def selected_weights(self) -> dict[str, Tensor]:
        """What leaves the stage: the chosen modules of the selected epoch, or the last one; all else as it ended."""
        return {**self.weights(), **self.best}

    def _weights_of(self, *names: str) -> dict[str, Tensor]:
        return {name: weight.clone() for name, weight in self._live_weights(*names).items()}

    def _live_weights(self, *names: str) -> dict[str, Tensor]:
        """The state of these modules, `<module>.<key>` -> tensor, as it is and goes on changing."""
        states = {name: self.stage.modules[name].state_dict() for name in names}
        return {f"{name}.{key}": v.detach() for name, state in states.items() for key, v in state.items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that a later `restore` needs to go on as if nothing had happened."""
        tensors = self._tensors(self.weights())
        meta = {
            "stage": self.stage.name,
            "epoch": self.epoch,
            "step": self.step,
            "prepared": self.prepared,
            "finished": self.finished,
            "history": self.history,
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "numerics": self.numerics.as_dict(),
        }
        return tensors, meta

    def _tensors(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a state with these weights; all else is what the member itself goes on with, not copied."""
        tensors = {f"module.{k}": v for k, v in weights.items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        tensors |= {f"sum.{k}": v for k, v in self.sums.items()}
        tensors |= {"first_bad": self.first_bad, "device_step": self.device_step}
        for place, optimiser in zip(self._optimiser_names(), self.optimisers, strict=True):
            for index, slots in optimiser.state_dict()["state"].items():
                tensors |= {f"{place}.{index}.{k}": v for k, v in slots.items() if isinstance(v, Tensor)}
        return tensors

    def state_bytes(self) -> int:
        """How large the state is; nothing is copied, since memory may be short."""
        tensors = self._tensors(self._live_weights(*self.stage.modules))
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Take up a state that `state` gave, under the same numerics."""
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            groups.setdefault(kind, {})[rest] = tensor.to(self.device)
        load_weights(self.stage.modules, groups.get("module", {}))
        self.best = groups.get("best", {})
        self.sums = groups.get("sum", {})
        self.first_bad.copy_(tensors["first_bad"])
        self.device_step.copy_(tensors["device_step"])
        for place, optimiser in zip(self._optimiser_names(), self.optimisers, strict=True):
            _restore_moments(optimiser, groups.get(place, {}))
        self.epoch, self.step = meta["epoch"], meta["step"]
        self.prepared, self.finished = meta["prepared"], meta["finished"]
        self.history = meta["history"]
        self.best_value, self.best_epoch = meta["best_value"], meta["best_epoch"]

    def _optimiser_names(self) -> list[str]:
        """Under which names the turns' optimisers stand in a state; that of the first is as old as states are."""
        return ["optimiser", *(f"optimiser{turn}" for turn in range(1, len(self.optimisers)))]


def _need_terms(terms: object, of: str) -> None:
    """KdnbError for what a stage's objective, or its `observe`, returned, if it is not a dict of scalars."""
    if not isinstance(terms, dict) or not terms:
        given = "an empty dict" if isinstance(terms, dict) else "None" if terms is None else f"a {type(terms).__name__}"
        raise KdnbError(f"its {of} returned {given}: return the terms by name, {{name: scalar}}")
    _need_scalars(terms, of)


def _need_scalars(terms: dict[str, Any], of: str) -> None:
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.dim():
            given = f"a tensor of shape {list(term.shape)}" if isinstance(term, Tensor) else f"a {type(term).__name__}"
            raise KdnbError(f"the term '{name}' of its {of} is {given}: return {{name: scalar}}, each a 0-d tensor")


def _restore_moments(optimiser: torch.optim.Optimizer, slots: dict[str, Tensor]) -> None:
    """The moments alone: learning rates follow the schedule, not what was saved."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in slots.items():
        index, _, slot = name.partition(".")
        like = parameters[int(index)]
        if tensor.shape == like.shape:
            # The fused kernels walk through memory: a moment must lie there as its parameter does.
            tensor = torch.empty_like(like, dtype=tensor.dtype, requires_grad=False).copy_(tensor)
        state.setdefault(int(index), {})[slot] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def load_weights(modules: dict[str, nn.Module], weights: dict[str, Tensor]) -> None:
    """Load `<module>.<key>` tensors into the modules that they name; every module must be complete."""
    for name, module in modules.items():
        prefix = f"{name}."
        module.load_state_dict({k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)})
