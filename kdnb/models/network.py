"""What every network of the study offers to a method: its activations, as deep as they are needed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

from kdnb.errors import KdnbError
from kdnb.losses.common import exactly

#: How far a forward goes: 0 is the stem, k the k-th stage, then the embedding and the logits.
Depth: TypeAlias = int | Literal["embedding", "logits"]


@dataclass
class Activations:
    """The maps that methods distil, of one batch of B images.

    `stem` and each of `stages` are [B, C, H, W]; `preactivations` are the stages' maps before their last
    ReLU, same shapes; `embedding` [B, D] enters the classifier; `logits` [B, K].  What lies deeper than
    the forward went is absent: None, or a shorter list.
    """

    stem: Tensor
    stages: list[Tensor] = field(default_factory=list)
    preactivations: list[Tensor] = field(default_factory=list)
    embedding: Tensor | None = None
    logits: Tensor | None = None

    def as_deep_as(self, depth: Depth | None) -> Activations:
        """What a forward would have met that went no deeper; without a depth nothing, the stem of no image."""
        if depth is None:
            return Activations(stem=self.stem[:0])
        if depth == "logits":
            return self
        if depth == "embedding":
            return replace(self, logits=None)
        return Activations(self.stem, self.stages[:depth], self.preactivations[:depth])


class ConvNorm(nn.Sequential):
    """A convolution followed at once, and only, by its batch norm: the pair that can be folded exactly."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d  # an identity once it is folded

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.add_module("conv", conv)
        self.add_module("norm", norm)


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> ConvNorm:
    """A convolution padded to keep the size, without bias, and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return ConvNorm(conv, nn.BatchNorm2d(outputs))


class Network(nn.Module):
    """A classifier in the shape stem -> stages -> embedding -> logits.

    A subclass must set `stem_width`, `stage_widths`, `embedding_width`, `num_classes`, the modules `stem` and
    `classifier`, and the list `stages`.  The rest it has by default, and overrides where it differs:

    - `run_stem`, `run_stage`: the stem, and each block of a stage (a ModuleList or a Sequential), ends before its
      ReLU, which is applied to it.  `activate` is that ReLU, or another function; `LinearStages` have none.
    - `embed`: the mean of the last map.  A subclass whose embedding learns names those layers in
      `embedding_modules`, as `LastLayer` does.
    - `margin_norm`: an error; a family that has such norms tells which is a stage's.

    Where a stage needs more than the map before it, override `activations`, which alone calls the first two.
    """

    #: The catalogue's name (`kdnb.models.create`): enough to make another network of the same architecture.
    name: str = ""
    stem_width: int
    stage_widths: tuple[int, ...]
    embedding_width: int
    num_classes: int
    stem: nn.Module
    stages: nn.ModuleList
    classifier: nn.Linear

    def activate(self, preactivation: Tensor) -> Tensor:
        """The non-linearity after the stem and after every block of a stage."""
        return F.relu(preactivation)

    def run_stem(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> the stem's map."""
        return self.activate(self.stem(images))

    def run_stage(self, index: int, features: Tensor) -> tuple[Tensor, Tensor]:
        """The map that leaves stage `index` (from 0), and the same before its last ReLU."""
        stage, preactivation = self.stages[index], features
        assert isinstance(stage, nn.ModuleList | nn.Sequential)
        for block in stage:
            preactivation = block(features)
            features = self.activate(preactivation)
        return features, preactivation

    def embed(self, features: Tensor) -> Tensor:
        """The last stage's map -> the vector [B, D] that enters the classifier."""
        return features.float().mean(dim=(2, 3))

    def embedding_modules(self) -> list[nn.Module]:
        """Learned layers between the last stage and the embedding."""
        return []

    def activations(self, images: Tensor, depth: Depth = "logits") -> Activations:
        """Run a batch of normalised images [B, 3, H, W] as deep as `depth` and return what was met."""
        acts = Activations(stem=self.run_stem(images))
        features = acts.stem
        last = depth if isinstance(depth, int) else len(self.stages)
        for index in range(last):
            features, preactivation = self.run_stage(index, features)
            acts.stages.append(features)
            acts.preactivations.append(preactivation)
        if not isinstance(depth, int):
            self.finish(acts, features, depth)
        return acts

    def finish(self, acts: Activations, features: Tensor, depth: Depth) -> None:
        """From the last map to the embedding and, that deep, to the logits.

        Both in float32 whatever the precision of the maps: relations between embeddings are fine ones, and in
        bfloat16 one image in a hundred has two highest logits.
        """
        acts.embedding = self.embed(features).float()
        if depth == "logits":
            with exactly(features):
                acts.logits = self.classifier(acts.embedding.to(self.classifier.weight.dtype))

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> logits [B, K]."""
        logits = self.activations(images).logits
        assert logits is not None
        return logits

    def margin_norms(self) -> list[nn.BatchNorm2d]:
        """Per stage its `margin_norm`; raises KdnbError for a family whose stages have none."""
        return [self.margin_norm(stage) for stage in self.stages]

    def margin_norm(self, stage: nn.Module) -> nn.BatchNorm2d:
        """The batch norm before the stage's last ReLU, whose statistics tell how negative its map may be."""
        raise KdnbError(f"{type(self).__name__} has no batch norms before its stages' ReLUs; take another teacher.")

    #: The network as it was before its norms were folded away; in a tuple, so that it is no module of this one.
    unfolded: tuple[Network, ...] = ()

    #: What `keep_statistics` found.  No buffers: in full precision, whatever the network is cast to.
    _statistics: list[tuple[Tensor, Tensor]] | None = None

    def preactivation_statistics(self) -> list[tuple[Tensor, Tensor]]:
        """Per stage mean and standard deviation [C] of its preactivations, as its `margin_norms` prescribe them.

        Raises KdnbError where there are no such norms.
        """
        if self._statistics is not None:
            return self._statistics
        return [(norm.bias.detach().clone(), norm.weight.detach().abs()) for norm in self.margin_norms()]

    def keep_statistics(self) -> None:
        """Remember `preactivation_statistics`, before the norms are folded away."""
        self._statistics = self.preactivation_statistics()

    def trunk(self, depth: Depth = "logits") -> list[nn.Module]:
        """The modules that a forward to `depth` runs: what a stage that goes no deeper may train."""
        if isinstance(depth, int):
            return [self.stem, *list(self.stages)[:depth]]
        modules = [self.stem, *self.stages, *self.embedding_modules()]
        return [*modules, self.classifier] if depth == "logits" else modules


class LinearStages(Network):
    """A network whose stages are modules that end without ReLU: what leaves one is its own preactivation."""

    def run_stage(self, index: int, features: Tensor) -> tuple[Tensor, Tensor]:
        features = self.stages[index](features)
        return features, features


class LastLayer(Network):
    """A network with a learned layer `last` and a ReLU between the last stage and its mean."""

    last: nn.Module

    def embed(self, features: Tensor) -> Tensor:
        return super().embed(self.activate(self.last(features)))

    def embedding_modules(self) -> list[nn.Module]:
        return [self.last]
