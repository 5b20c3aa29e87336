"""Methods that look at whole layers to scale their steps: LARS and LAMB.

What is element-wise runs over flat vectors; what belongs to a layer (a parameter tensor) is a few numbers from the
norms of its views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from optcourse.optim.adam import Adam, AdamLike
from optcourse.optim.engine.blocks import Block
from optcourse.optim.engine.kernels import axpy, elementwise, l2, working_dtype
from optcourse.optim.engine.optimizer import FlatOptimizer
from optcourse.optim.engine.settings import Options

#: Long vectors are measured in rows of this length: torch sums rows in parallel, and one long vector alone.
ROW = 1024


def norms(block: Block, vector: Tensor) -> Tensor:
    """The Euclidean norm of each parameter's share of a block's flat vector, as one vector."""
    dtype = working_dtype(vector)
    if len(block.sizes) == 1 and len(vector) % ROW == 0:
        return torch.linalg.vector_norm(vector.view(-1, ROW), dim=1, dtype=dtype).norm().view(1)
    return torch.stack(torch._foreach_norm(vector.split(block.sizes), dtype=dtype))


def trust_ratio(weight: Tensor, step: Tensor) -> Tensor:
    """``weight / step`` layer by layer, and 1 where either norm is zero: such a layer is not scaled."""
    return torch.where((weight > 0) & (step > 0), weight / step, 1.0)


def spread(per_layer: Tensor, block: Block) -> Tensor:
    """One number per layer as one per element (0-dim if there is only one layer)."""
    if len(block.sizes) == 1:
        return per_layer[0]
    sizes = torch.tensor(block.sizes, device=per_layer.device)
    return per_layer.repeat_interleave(sizes, output_size=len(block.x))


class Layers:
    """The layers of networks whose parameters are rows ``[rows, d]``: one number per layer is ``[rows, layers]``."""

    def __init__(self, shapes: list[torch.Size]) -> None:
        self.shapes, self.sizes = shapes, [shape.numel() for shape in shapes]
        self.place = torch.arange(len(shapes)).repeat_interleave(torch.tensor(self.sizes))

    def norms(self, rows: Tensor) -> Tensor:
        """The Euclidean norm of each layer of each row."""
        return torch.stack([part.norm(dim=1) for part in rows.split(self.sizes, dim=1)], dim=1)

    def spread(self, per_layer: Tensor) -> Tensor:
        """One number per layer as one per element."""
        return per_layer[:, self.place.to(per_layer.device)]


class Layerwise(FlatOptimizer):
    """Methods in two passes over the elements, with a look at every layer between them.

    ``direction(g, *slots, **scalars) -> (d, *slots)`` is what the rate multiplies, ``look`` changes it or finds numbers
    for each layer, and ``update(x, d, *looked, lr=…, weight_decay=…) -> (x,)`` is the step.
    """

    direction: ClassVar[Callable[..., tuple[Tensor, ...]]]

    def look(self, block: Block, d: Tensor, group: dict[str, Any]) -> tuple[Tensor, ...]:
        """What ``update`` reads besides ``x`` and ``d``, which may be changed in place."""
        raise NotImplementedError

    def sources(self, block: Block) -> tuple[Tensor, ...]:
        """What ``direction`` reads besides the slots."""
        return (block.g,)

    def update_blocks(self, blocks: list[Block], numbers: dict[str, float], group: dict[str, Any]) -> None:
        """Directions, look, step."""
        pairs = [(block, self.scratch(block)) for block in blocks]
        jobs = [((d, *b.slots.values()), (*self.sources(b), *b.slots.values())) for b, d in pairs]
        elementwise(type(self).direction, jobs, self.scalars(**numbers, **group), self.compile)
        jobs = [((b.x,), (b.x, d, *self.look(b, d, group))) for b, d in pairs]
        elementwise(type(self).update, jobs, {name: group[name] for name in ("lr", "weight_decay")}, self.compile)


class LARS(FlatOptimizer):
    r"""Layer-wise adaptive rate scaling: every layer moves by a fixed share of its own length.

    .. math::
        \lambda &= \text{trust} \cdot \frac{\|x\|}{\|g\| + \text{weight\_decay} \cdot \|x\|} \\
        m &\leftarrow \text{momentum} \cdot m + \text{lr} \cdot \lambda \, (g + \text{weight\_decay} \cdot x) \\
        x &\leftarrow x - m

    with Euclidean norms per parameter tensor. The rate is *inside* the buffer, as in the paper; common
    libraries put it outside, which differs while a schedule moves. Without decay and momentum the
    relative step ``‖Δx‖/‖x‖`` is exactly ``lr * trust``, whatever the scale of the loss. A layer whose weight
    or gradient is zero gets ``λ = 1`` (the paper is silent; its formula would never move a zero bias).

    Defaults: the paper's ``momentum=0.9``, ``weight_decay=5e-4`` and ``trust=1e-3``; ``lr`` is the
    global rate, of the order of ``1/trust`` times smaller in effect than it looks.

    Source: You, Gitman and Ginsburg, Large Batch Training of Convolutional Networks (2017), Algorithm 1.
    """

    slots = ("m",)

    def __init__(
        self,
        params: Iterable,
        lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        trust: float = 1e-3,
        **options: Unpack[Options],
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(params, settings, **options)

    @staticmethod
    def scalars(step: int, *, lr: float, momentum: float, weight_decay: float, **_) -> dict[str, Any]:
        """The settings themselves."""
        return {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}

    @staticmethod
    def update(x: Tensor, g: Tensor, m: Tensor, ratio: Tensor, *, lr, momentum, weight_decay) -> tuple[Tensor, Tensor]:
        """``x <- x - m``; ``ratio`` is λ."""
        m = axpy(momentum, m, lr * ratio * l2(x, g, weight_decay))
        return x - m, m

    @staticmethod
    def ratio(length: Tensor, slope: Tensor, *, trust: float, weight_decay: float, **_) -> Tensor:
        """λ from the norms of each layer and of its gradient."""
        return torch.where((length > 0) & (slope > 0), trust * length / (slope + weight_decay * length), 1.0)

    def update_blocks(self, blocks: list[Block], numbers: dict[str, float], group: dict[str, Any]) -> None:
        """λ from the norms, then the equation."""
        jobs = []
        for block in blocks:
            ratio = self.ratio(norms(block, block.x), norms(block, block.g), **group)
            x, m = block.x, block.slots["m"]
            jobs.append(((x, m), (x, block.g, m, spread(ratio, block))))
        elementwise(LARS.update, jobs, self.scalars(**numbers, **group), self.compile)

    @staticmethod
    def update_rows(
        layers: Layers, x: Tensor, g: Tensor, m: Tensor, *, numbers: dict[str, float], group: dict[str, Any]
    ) -> tuple[Tensor, ...]:
        """The same step for many networks, whose parameters are rows; ``lr`` may be ``[rows, 1]``."""
        ratio = LARS.ratio(layers.norms(x), layers.norms(g), **group)
        return LARS.update(x, g, m, layers.spread(ratio), **LARS.scalars(**numbers, **group))


class LAMB(Layerwise, AdamLike):
    r"""Adam's direction, scaled layer by layer to the length of the weights.

    .. math::
        d &= \hat m / (\sqrt{\hat v} + \varepsilon) + \text{weight\_decay} \cdot x \\
        x &\leftarrow x - \text{lr} \cdot \frac{\|x\|}{\|d\|} \, d

    with the moments of :class:`Adam` and Euclidean norms per parameter tensor. ``‖x‖`` is the paper's
    φ with φ(z) = z; a layer whose weight or direction is zero gets the ratio 1. No global gradient clipping:
    libraries that clip by default are reimplementing one training script.

    Defaults: ``eps=1e-6`` and ``weight_decay=0.01`` as in the paper's experiments.

    Source: You et al., Large Batch Optimization for Deep Learning: Training BERT in 76 minutes
    (ICLR 2020), Algorithm 2.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}, **options)

    def sources(self, block: Block) -> tuple[Tensor, ...]:
        """The decay is a part of the direction."""
        return block.x, block.g

    @staticmethod
    def direction(x: Tensor, g: Tensor, m: Tensor, v: Tensor, *, weight_decay, **scalars) -> tuple[Tensor, ...]:
        """Adam's direction and the decay, before scaling."""
        d, m, v = Adam.direction(g, m, v, **scalars)
        return axpy(weight_decay, x, d), m, v

    def look(self, block: Block, d: Tensor, group: dict[str, Any]) -> tuple[Tensor, ...]:
        """The trust ratio of every layer."""
        return (spread(trust_ratio(norms(block, block.x), norms(block, d)), block),)

    @staticmethod
    def update(x: Tensor, d: Tensor, ratio: Tensor, *, lr, **_) -> tuple[Tensor]:
        """``x <- x - lr ratio d``."""
        return (x - lr * ratio * d,)

    @staticmethod
    def update_rows(
        layers: Layers, x: Tensor, g: Tensor, *slots: Tensor, numbers: dict[str, float], group: dict[str, Any]
    ) -> tuple[Tensor, ...]:
        """The same step for many networks, whose parameters are rows; ``lr`` may be ``[rows, 1]``."""
        d, *moments = LAMB.direction(x, g, *slots, **LAMB.scalars(**numbers, **group))
        ratio = layers.spread(trust_ratio(layers.norms(x), layers.norms(d)))
        return *LAMB.update(x, d, ratio, lr=group["lr"]), *moments
