"""Methods that do not lengthen the weights of scale-invariant layers: SGDP and AdamP."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Unpack

import torch
from torch import Tensor

from optcourse.optim.adam import Adam, AdamLike
from optcourse.optim.engine.blocks import Block
from optcourse.optim.engine.kernels import CACHE, axpy
from optcourse.optim.engine.optimizer import FlatOptimizer
from optcourse.optim.engine.settings import Options
from optcourse.optim.layerwise import Layers, Layerwise, spread
from optcourse.optim.sgd import SGD


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
    rows = max(1, CACHE // a.shape[1])
    return torch.cat([torch.linalg.vecdot(x, y) for x, y in zip(a.split(rows), b.split(rows), strict=True)])


def project_rows(w: Tensor, g: Tensor, d: Tensor, delta: float, eps: float) -> tuple[Tensor, Tensor]:
    """:func:`project` for a layer of many networks, ``[networks, filters, entries]``: the new d, and which have it."""
    w_norm, g_norm, wg, wd = w.norm(dim=2), g.norm(dim=2), (w * g).sum(2), (w * d).sum(2)  # [networks, filters]
    W, G = w_norm.norm(dim=1), g_norm.norm(dim=1)
    by_row = (wg.abs() / ((w_norm + eps) * (g_norm + eps))).amax(1) < delta / math.sqrt(w.shape[2])
    whole = wg.sum(1).abs() / ((W + eps) * (G + eps)) < delta / math.sqrt(w[0].numel())
    part = (wd.sum(1) / (W + eps) ** 2).unsqueeze(1)
    part = torch.where(by_row.unsqueeze(1), wd / (w_norm + eps) ** 2, part.where(whole.unsqueeze(1), 0))
    return d - part.unsqueeze(2) * w, by_row | whole


class Projected(Layerwise):
    """What SGDP and AdamP share: on scale-invariant layers only the tangent part of the step is taken."""

    @staticmethod
    def decay_rate(group: dict[str, Any]) -> float:
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

    @classmethod
    def _step_rows(
        cls, layers: Layers, x: Tensor, g: Tensor, *slots: Tensor, numbers: dict[str, float], group: dict[str, Any]
    ) -> tuple[Tensor, ...]:
        """The same step for many networks, whose parameters are rows; ``lr`` may be ``[rows, 1]``."""
        d, *kept = cls.direction(g, *slots, **cls.scalars(**numbers, **group))
        rate = torch.as_tensor(group["lr"]).to(x) * cls.decay_rate(group)
        places = (part.split(layers.sizes, dim=1) for part in (x, g, d))
        steps, keep = [], torch.ones(len(x), len(layers.sizes), dtype=x.dtype, device=x.device) - rate
        for i, (shape, *parts) in enumerate(zip(layers.shapes, *places, strict=True)):
            if len(shape) < 2:
                steps.append(parts[2])
                continue
            weights, slopes, directions = (part.reshape(len(x), shape[0], -1) for part in parts)
            part, invariant = project_rows(weights, slopes, directions, group["delta"], group["eps"])
            steps.append(part.flatten(1))
            keep[:, i] += ((1 - group["wd_ratio"]) * rate * invariant.unsqueeze(1).to(x)).flatten()
        return *cls.update(x, torch.cat(steps, dim=1), layers.spread(keep), lr=group["lr"]), *kept


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

    @classmethod
    def update_rows(cls, *args: Any, **more: Any) -> tuple[Tensor, ...]:
        """Many networks at once, see :class:`LAMB`."""
        return cls._step_rows(*args, **more)

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

    @staticmethod
    def decay_rate(group: dict[str, Any]) -> float:
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

    @classmethod
    def update_rows(cls, *args: Any, **more: Any) -> tuple[Tensor, ...]:
        """Many networks at once, see :class:`LAMB`."""
        return cls._step_rows(*args, **more)

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
