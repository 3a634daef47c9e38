"""Layer-wise relevance: which pixels a logit rests on (Bach et al. 2015), such that the pixels add up to the logit.

One sentence holds for every linear map, be it a convolution, a sum of two branches or an average: the relevance of an
output goes to the inputs that pushed it where it went, in proportion to how much they pushed.  Behind a ReLU that is
the rule alpha = 1, beta = 0; where nobody pushed, all inputs alike inherit, so that nothing is ever lost.
    classifier  R_d = w_cd h_d + b_c / D, which is signed: features speak for the class, or against it
    pixels      by their distance from the darkest and the brightest value that they could have (the z^B rule)
    one by one  ReLU and batch norm, whose outputs have one input each, pass relevance on as it is

The rules stand in the place of gradients: the network runs as always, batch norms folded where a convolution is before
them, and autograd carries relevance backwards through whatever branches, joins and shuffles it has.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from kdnb.errors import KdnbError
from kdnb.models.network import Network
from kdnb.training.freeze import as_it_was, fold_batch_norms
from kdnb.training.images import DeviceImages


def relevance(
    network: Network,
    images: DeviceImages,
    chosen: Sequence[int],
    classes: Sequence[int] | None = None,
    channels: Sequence[int] | None = None,
) -> Tensor:
    """How much each pixel of the chosen images speaks for its image's class: [N, 3, H, W], float64.

    `classes` are the ones asked for, one an image, else those that the network predicts.  The sum over an image is
    its logit.  With `channels`, what passes through these channels of the last stage alone: maps of channels that
    make up the whole add up to the whole map.
    """
    pixels = torch.cat([images.plain(index, index + 1)[0] for index in chosen]).double()
    own = copy.deepcopy(as_it_was(network)).to(pixels.device).double()
    fold_batch_norms(own)
    low, high = ((shade - images.mean) * images.scale for shade in (0.0, 255.0))
    with torch.enable_grad(), Rules(pixels.requires_grad_(), low.double(), high.double()):
        found = own.activations(pixels, depth="embedding")
    assert found.embedding is not None
    at_embedding = _contributions(own, found.embedding.detach(), classes)
    (at_last,) = torch.autograd.grad(found.embedding, found.stages[-1], at_embedding, retain_graph=True)
    if channels is not None:
        at_last = at_last * _marked(channels, at_last.shape[1]).to(at_last)[:, None, None]
    return torch.autograd.grad(found.stages[-1], pixels, at_last)[0]


def _contributions(network: Network, embedding: Tensor, classes: Sequence[int] | None) -> Tensor:
    """What each feature adds to the logit of its image's class, [N, D]; the bias in equal parts."""
    weight, bias = network.classifier.weight.detach(), network.classifier.bias.detach()
    if classes is None:
        asked = (embedding @ weight.mT + bias).argmax(1)
    else:
        asked = torch.tensor(list(classes), device=embedding.device)
        if asked.shape != embedding.shape[:1]:
            raise KdnbError(f"Relevance needs a class an image; {len(embedding)} images were given {len(asked)}.")
    return embedding * weight[asked] + bias[asked, None] / embedding.shape[1]


def _marked(channels: Sequence[int], width: int) -> Tensor:
    marked = torch.zeros(width, dtype=torch.bool)
    marked[torch.as_tensor(list(channels), dtype=torch.long)] = True
    return marked


# -- the rules ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Law:
    """A linear map by what pushes its outputs `up` and what pushes them `down`, both not negative and of degree 1.

    `out` is what the network makes of the inputs; `evenly` the same map with all weights 1, without a bias.
    """

    out: Callable[..., Tensor]
    up: Callable[..., Tensor]
    down: Callable[..., Tensor]
    evenly: Callable[..., Tensor]


class _Shared(torch.autograd.Function):
    """A linear map whose backward hands relevance to the inputs, each input's share being x dpush/dx / push."""

    @staticmethod
    def forward(ctx: Any, law: _Law, *inputs: Tensor) -> Tensor:
        out = law.out(*inputs)
        ctx.law = law
        ctx.save_for_backward(out, *inputs)
        return out

    @staticmethod
    def backward(ctx: Any, *arrived: Tensor) -> Any:
        (relevance,), law = arrived, ctx.law
        out, *inputs = ctx.saved_tensors
        with torch.enable_grad():
            inputs = [x.detach().requires_grad_() for x in inputs]
            push = torch.where(out > 0, law.up(*inputs), law.down(*inputs))
        pushed = push > 0
        per_push = torch.where(pushed, relevance / push, 0.0)
        shares = [x.detach() * g for x, g in zip(inputs, torch.autograd.grad(push, inputs, per_push), strict=True)]
        if not pushed.all():
            left = _in_equal_parts(law, inputs, relevance.masked_fill(pushed, 0.0))
            shares = [share + more for share, more in zip(shares, left, strict=True)]
        return None, *shares


def _in_equal_parts(law: _Law, inputs: Sequence[Tensor], relevance: Tensor) -> Sequence[Tensor]:
    """Relevance of outputs that none of their inputs pushed."""
    with torch.enable_grad():
        ones = [torch.ones_like(x).requires_grad_() for x in inputs]
        many = law.evenly(*ones)
    return torch.autograd.grad(many, ones, relevance / many)


class _OneByOne(torch.autograd.Function):
    """A map each of whose outputs has one input: relevance passes."""

    @staticmethod
    def forward(ctx: Any, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return function(x)

    @staticmethod
    def backward(ctx: Any, *arrived: Tensor) -> Any:
        return None, arrived[0]


class _Padded(torch.autograd.Function):
    """A border around maps, or channels beside others; what falls on it is shared by all that it surrounds."""

    @staticmethod
    def forward(ctx: Any, pad: Sequence[int], x: Tensor) -> Tensor:
        ctx.pad = pad
        return F.pad(x, list(pad))

    @staticmethod
    def backward(ctx: Any, *arrived: Tensor) -> Any:
        (relevance,) = arrived
        within = F.pad(relevance, [-edge for edge in ctx.pad])
        beside = relevance.flatten(1).sum(1) - within.flatten(1).sum(1)
        return None, within + (beside / within[0].numel()).reshape(-1, *[1] * (within.dim() - 1))


def _weighted(function: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution or linear layer: an input of either sign times a weight of either sign."""
    plus, minus = weight.detach().relu(), (-weight.detach()).relu()
    law = _Law(
        out=lambda x: function(x, weight, bias),
        up=lambda x: function(x.relu(), plus, None) + function((-x).relu(), minus, None),
        down=lambda x: function(x.relu(), minus, None) + function((-x).relu(), plus, None),
        evenly=lambda x: function(x, torch.ones_like(weight), None),
    )
    shared: Tensor = _Shared.apply(law, x)
    return shared


def _averaged(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A map all of whose weights are alike, and positive."""
    law = _Law(function, lambda x: function(x.relu()), lambda x: function((-x).relu()), function)
    shared: Tensor = _Shared.apply(law, x)
    return shared


_SUM = _Law(
    out=lambda x, y: x + y,
    up=lambda x, y: x.relu() + y.relu(),
    down=lambda x, y: (-x).relu() + (-y).relu(),
    evenly=lambda x, y: x + y,
)


class Rules(TorchFunctionMode):
    """While it is on, every function that a network calls has a rule of relevance for its gradient.

    The convolutions of `pixels` take the pixels' rule, by the lowest and highest values of their channels.  A function
    without a rule is an error: its gradient would be taken for relevance, and nothing would add up.
    """

    def __init__(self, pixels: Tensor, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.pixels, self.low, self.high = pixels, low[:, None, None], high[:, None, None]

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = resolve_name(function) or str(function)
        rest = functools.partial(_of_first, function, args[1:], kwargs)
        if name == "torch.nn.functional.conv2d":
            return self._convolution(*args, **kwargs)
        if name == "torch.nn.functional.linear":
            return _weighted(function, *args, **kwargs)
        if name == "torch.Tensor.add" and all(isinstance(x, Tensor) for x in args):
            return _Shared.apply(_SUM, *args)
        if name == "torch.nn.functional.pad":
            return self._padded(*args, **kwargs)
        if name in _AVERAGES:
            return _averaged(rest, args[0])
        if name in _ONE_BY_ONE:
            return _OneByOne.apply(rest, args[0])
        if name == "torch.Tensor.float":
            return args[0]  # all is in float64 here
        if name in _ROUTES:
            return function(*args, **kwargs)
        raise KdnbError(f"Layer-wise relevance has no rule for '{name}'; add one in kdnb/analysis/lrp.py.")

    def _convolution(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, *how: Any, **kwargs: Any) -> Tensor:
        def function(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return F.conv2d(x, weight, bias, *how, **kwargs)

        if x is not self.pixels:
            return _weighted(function, x, weight, bias)
        plus, minus, low = weight.detach().relu(), (-weight.detach()).relu(), self.low
        above: Tensor = _OneByOne.apply(lambda x: x - self.low, x)
        below: Tensor = _OneByOne.apply(lambda x: self.high - x, x)

        def push(above: Tensor, below: Tensor) -> Tensor:
            return function(above, plus, None) + function(below, minus, None)

        def evenly(above: Tensor, below: Tensor) -> Tensor:
            return function(above + below, torch.ones_like(weight), None)

        law = _Law(lambda above, below: function(above + low, weight, bias), push, push, evenly)
        shared: Tensor = _Shared.apply(law, above, below)
        return shared

    def _padded(self, x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
        if mode != "constant" or value:
            raise KdnbError(f"Layer-wise relevance knows padding by zeros alone, not '{mode}' by {value}.")
        padded: Tensor = _Padded.apply(pad, x)
        if x is self.pixels:
            self.pixels = padded
        return padded


def _of_first(function: Callable[..., Tensor], others: Sequence[Any], kwargs: Mapping[str, Any], x: Tensor) -> Tensor:
    return function(x, *others, **kwargs)


_AVERAGES = {"torch.Tensor.mean", "torch.nn.functional.avg_pool2d"}
_ONE_BY_ONE = {"torch.nn.functional.relu", "torch.nn.functional.leaky_relu", "torch.nn.functional.batch_norm"}
#: What moves numbers without mixing them: their gradient is the route back.  Of a maximum it goes to the largest.
_ROUTES = {
    "torch.cat",
    "torch.nn.functional.max_pool2d",
    *(f"torch.Tensor.{name}" for name in ("chunk", "dim", "flatten", "permute", "reshape", "shape.__get__")),
    *(f"torch.Tensor.{name}" for name in ("transpose", "__getitem__", "contiguous", "size")),
}
