"""Methods that look at whole layers: trust ratios (LARS, LAMB) and projections (SGDP, AdamP).

What is element-wise runs over flat vectors; what belongs to a layer (a parameter tensor) is a few numbers from the
norms of its views.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from optcourse.optim.adam import Adam, AdamLike
from optcourse.optim.engine.blocks import Block
from optcourse.optim.engine.kernels import LARGE, axpy, elementwise, l2, working_dtype
from optcourse.optim.engine.optimizer import FlatOptimizer
from optcourse.optim.engine.settings import Options
from optcourse.optim.sgd import SGD

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

    def update_blocks(self, blocks: list[Block], numbers: dict[str, float], group: dict[str, Any]) -> None:
        """λ from the norms, then the equation."""
        jobs = []
        for block in blocks:
            length, slope = norms(block, block.x), norms(block, block.g)
            moving = (length > 0) & (slope > 0)
            ratio = group["trust"] * length / (slope + group["weight_decay"] * length)
            x, m = block.x, block.slots["m"]
            jobs.append(((x, m), (x, block.g, m, spread(torch.where(moving, ratio, 1.0), block))))
        elementwise(LARS.update, jobs, self.scalars(**numbers, **group), self.compile)


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


def project(w: Tensor, g: Tensor, d: Tensor, delta: float, eps: float) -> bool:
    """Take from ``d``, in place, its part along ``w`` where the layer is scale-invariant; whether it is.

    A normalized layer does not feel the length of its weights, so its gradient is orthogonal to
    them. The test asks every row first (one filter each), then the layer as a whole:
    ``max |cos(w, g)| < delta / √dim``. Shapes: all alike, two or more dimensions.
    """
    ws, gs, ds = (t.to(d.dtype).flatten(1) for t in (w, g, d))
    w_norm, g_norm = (torch.linalg.vector_norm(t, dim=1) for t in (ws, gs))
    wg = row_products(ws, gs)

    def tangent(w_norm: Tensor, g_norm: Tensor, wg: Tensor, dim: int) -> bool:
        return bool((wg.abs() / ((w_norm + eps) * (g_norm + eps))).max() < delta / math.sqrt(dim))

    if tangent(w_norm, g_norm, wg, ws.shape[1]):
        part = row_products(ws, ds) / (w_norm + eps) ** 2
    elif tangent(w_norm.norm(), g_norm.norm(), wg.sum(), w.numel()):
        part = row_products(ws, ds).sum() / (w_norm.norm() + eps) ** 2
    else:
        return False
    d.addcmul_(part.view(-1, *[1] * (w.dim() - 1)), w.to(d.dtype), value=-1)
    return True


def row_products(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of every pair of rows, a few rows at a time so that the products stay in the cache."""
    rows = max(1, LARGE // a.shape[1])
    return torch.cat([torch.linalg.vecdot(x, y) for x, y in zip(a.split(rows), b.split(rows), strict=True)])


class Projected(Layerwise):
    """What SGDP and AdamP share: on scale-invariant layers only the tangent part of the step is taken."""

    def decay_rate(self, group: dict[str, Any]) -> float:
        """How fast weights decay, per unit of rate."""
        return group["weight_decay"]

    def look(self, block: Block, d: Tensor, group: dict[str, Any]) -> tuple[Tensor, ...]:
        """Project where a layer is scale-invariant; what the decay keeps of every layer."""
        rate = group["lr"] * self.decay_rate(group)
        keep = [1 - rate] * len(block.sizes)
        for i, layer in enumerate(zip(block.cut(block.x), block.cut(block.g), block.cut(d), strict=True)):
            if layer[0].dim() > 1 and project(*layer, group["delta"], group["eps"]):
                keep[i] = 1 - rate * group["wd_ratio"]
        return (spread(torch.tensor(keep, dtype=d.dtype, device=d.device), block),)

    @staticmethod
    def update(x: Tensor, d: Tensor, keep: Tensor, *, lr, **_) -> tuple[Tensor]:
        """``x <- keep x - lr d``."""
        return (axpy(-lr, d, keep * x),)


class SGDP(Projected, SGD):
    r"""Momentum that does not lengthen scale-invariant weights.

    .. math::
        d &= \text{the direction of SGD}, \qquad \Pi_w(d) = d - \frac{\langle w, d \rangle}{\|w\|^2} \, w \\
        x &\leftarrow x - \text{lr} \cdot \Pi_x(d) \quad \text{if } \max |\cos(x, g)| < \delta / \sqrt{\dim}, \qquad
        x \leftarrow x - \text{lr} \cdot d \ \text{ otherwise}

    for parameters of two or more dimensions: projection and test per row (output channel), else
    over the whole tensor. Slides print the test as ``w · g < δ``, which depends on units; the authors' code
    tests the cosine against ``δ/√dim``, and so do we. Decay is decoupled, ``x <- (1 - lr · w · r) x`` with
    ``w = weight_decay / (1 - momentum)``, and ``r = wd_ratio`` on projected layers, else 1.

    Without Nesterov the direction *is* the buffer in the authors' package (``adamp`` 0.3), which projects it in place:
    its next step starts from a projected momentum. Algorithm 1 projects the step alone, and so do we.

    Defaults: ``delta=0.1`` and ``wd_ratio=0.1`` are the paper's; ``momentum=0.9``, without which there is
    nothing to project.

    Source: Heo et al., AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
    Weights (ICLR 2021), Algorithm 1.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        momentum: float = 0.9,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        eps: float = 1e-8,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        **options: Unpack[Options],
    ) -> None:
        settings = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
        more = {"eps": eps, "delta": delta, "wd_ratio": wd_ratio}
        FlatOptimizer.__init__(self, params, {"lr": lr, **settings, **more}, **options)

    def decay_rate(self, group: dict[str, Any]) -> float:
        """Momentum lengthens a gradient's effect by 1/(1 - momentum); the decay keeps pace."""
        return group["weight_decay"] / (1 - group["momentum"])


class AdamP(Projected, AdamLike):
    r"""Adam that does not lengthen scale-invariant weights.

    .. math::
        d = \hat m / (\sqrt{\hat v} + \varepsilon), \qquad
        x \leftarrow x - \text{lr} \cdot \Pi_x(d) \quad \text{if } \max |\cos(x, g)| < \delta / \sqrt{\dim}

    with projection, test, rows and ``wd_ratio`` as in :class:`SGDP` and the moments of :class:`Adam`. Slides and the
    paper's box leave out the bias corrections, which the authors' code has; ours has them. Decay is
    decoupled, ``x <- (1 - lr · weight_decay · r) x``.

    Defaults: Adam's, with ``delta=0.1`` and ``wd_ratio=0.1`` from the paper.

    Source: Heo et al., AdamP (ICLR 2021), Algorithm 2.
    """

    direction = staticmethod(Adam.direction)

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        **options: Unpack[Options],
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**settings, "delta": delta, "wd_ratio": wd_ratio}, **options)
