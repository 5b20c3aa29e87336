"""What compressed weights look like: most of them zero (pruning), or all of them with few bits.

A compression chooses a set of simple points (those with a mask's zeros, those of a grid) and moves weights into it.
:class:`optcourse.optim.Compressed` trains with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from optcourse.arguments import choice, integer, real
from optcourse.optim.engine.kernels import working_dtype


class Compressor(Protocol):
    """A set of simple points that moves now and then, and a way from any point into it."""

    def choose(self, weights: Sequence[Tensor], step: int) -> list[Tensor]:
        """What describes the set, for each tensor (a mask, a scale), before the gradient number ``step`` = 0, 1, ..."""
        ...

    def apply(self, weights: Sequence[Tensor], forms: Sequence[Tensor]) -> list[Tensor]:
        """The weights moved into the set that :meth:`choose` has described; new tensors."""
        ...


@dataclass(frozen=True)
class Magnitude:
    """Keep the largest weights, set the others to zero: of all tensors together, or ``scope="layer"``, of each.

    ``sparsity`` in [0, 1] is the share that becomes zero, ``round(sparsity * n)`` of n as in torch.nn.utils.prune, or a
    function of the step that gives it (see :func:`gradual`).
    """

    sparsity: float | Callable[[int], float]
    scope: str = "global"

    def __post_init__(self) -> None:
        """Check what is known now."""
        choice("scope", self.scope, ("global", "layer"))
        if not callable(self.sparsity):
            real("sparsity", self.sparsity, 0.0, 1.0)

    def choose(self, weights: Sequence[Tensor], step: int) -> list[Tensor]:
        """Masks: 1 where a weight stays."""
        value = self.sparsity(step) if callable(self.sparsity) else self.sparsity
        share = float(real("sparsity", value, 0.0, 1.0))
        sizes = [w.numel() for w in weights]
        magnitudes = [w.detach().abs().flatten() for w in weights]
        if self.scope == "layer" or not weights:
            masks = [_largest(m, share) for m in magnitudes]
        else:
            masks = _largest(torch.cat(magnitudes), share).split(sizes)
        return [mask.reshape(w.shape) for mask, w in zip(masks, weights, strict=True)]

    def apply(self, weights: Sequence[Tensor], forms: Sequence[Tensor]) -> list[Tensor]:
        """``mask * w``, and zero where the mask is, whatever w."""
        return [w.where(mask != 0, 0) for w, mask in zip(weights, forms, strict=True)]


@dataclass(frozen=True)
class Grid:
    r"""Round to ``bits`` bits: the points :math:`s\,i/q`, i = -q, ..., q with :math:`q = 2^{bits-1} - 1`.

    ``scale`` = s is a number, beyond which weights are clipped, or None: the largest magnitude in each tensor. Nearest
    (ties to even), or with a ``generator`` up or down at random, with probabilities that make the mean right:
    E C(w) = w for |w| <= s. The points are held in the parameter's own precision, and s must be a normal number in it.

    >>> Grid(3, scale=3.0).apply([torch.tensor([0.4, 0.6, -1.5, 9.0])], [torch.tensor(3.0)])
    [tensor([ 0.,  1., -2.,  3.])]
    """

    bits: int
    scale: float | None = None
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        integer("bits", self.bits, 2, 24)
        if self.scale is not None:
            real("scale", self.scale, 0.0, open_low=True)
        if not isinstance(self.generator, torch.Generator | None):
            raise TypeError(f"generator must be a torch.Generator or None, got {self.generator!r}")

    @property
    def levels(self) -> int:
        """q; neighbours are scale / q apart."""
        return 2 ** (self.bits - 1) - 1

    def choose(self, weights: Sequence[Tensor], step: int) -> list[Tensor]:
        """Scales, of shape [1, ..., 1]."""
        if self.scale is None:
            return [
                w.detach().abs().amax([*range(w.dim())], keepdim=True) if w.numel() else w.detach() for w in weights
            ]
        for w in weights:
            limits = torch.finfo(w.dtype)
            real(f"scale for {w.dtype}", self.scale, limits.tiny, limits.max)
        return [torch.full_like(w[(slice(1),) * w.dim()], self.scale) for w in weights]

    def apply(self, weights: Sequence[Tensor], forms: Sequence[Tensor]) -> list[Tensor]:
        """The grid's points; zero where the scale is zero."""
        return [self._round(w, scale) for w, scale in zip(weights, forms, strict=True)]

    def _round(self, w: Tensor, scale: Tensor) -> Tensor:
        wide, scale = w.to(working_dtype(w)), scale.to(working_dtype(w))
        u = (wide / scale.where(scale != 0, 1)).clamp(-1, 1) * self.levels
        nearest = self._points(u.round(), scale, w.dtype)
        if self.generator is None:
            return nearest
        low, draw = u.floor(), torch.rand(u.shape, generator=self.generator, device=self.generator.device)
        drawn = self._points(low + (draw.to(u.device) < u - low), scale, w.dtype)
        return drawn.where(nearest != w, w)  # what is a point stays, also where it is one up to the precision only

    def _points(self, i: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        return (scale * (i / self.levels)).to(dtype)


def gradual(step: int, *, sparsity: float, end: int, begin: int = 0, initial: float = 0.0) -> float:
    r"""The sparsity at a step: :math:`s + (s_0 - s)(1 - u)^3`, with u from 0 at ``begin`` to 1 at ``end``; then s.

    Fast at first, where many weights do not matter. Source: Zhu and Gupta, To prune, or not to prune (2017), equation
    (1). ``sparsity`` and ``initial`` in [0, 1], 0 <= begin < end.

    >>> [gradual(step, sparsity=0.8, end=10) for step in (0, 5, 10, 99)]
    [0.0, 0.7000000000000001, 0.8, 0.8]
    """
    s, start = real("sparsity", sparsity, 0.0, 1.0), real("initial", initial, 0.0, 1.0)
    first = integer("begin", begin, 0)
    u = min(max((real("step", step, 0.0) - first) / (integer("end", end, first + 1) - first), 0.0), 1.0)
    return float(s + (start - s) * (1 - u) ** 3)


def _largest(magnitudes: Tensor, share: float) -> Tensor:
    """A mask [n] of zeros for the ``share`` of smallest entries, and ones."""
    n = magnitudes.numel()
    out = round(share * n)
    keep = 2 * out > n  # the shorter list is found sooner
    found = magnitudes.topk(n - out if keep else out, largest=keep, sorted=False).indices
    return torch.full_like(magnitudes, float(not keep)).scatter(0, found, float(keep))
