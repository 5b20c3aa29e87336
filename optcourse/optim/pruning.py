r"""Training with compressed weights: most of them zero, or all of them with few bits.

One step, with ``C`` the compression (magnitude pruning, rounding), ``w`` the dense weights and ``x`` the parameters:

.. math::
    g = \nabla f(x), \qquad w \leftarrow w - \gamma g, \qquad x \leftarrow C(w)

*With feedback* the optimizer remembers w. Without, w is forgotten, and the next step begins at x. With
:math:`e = w - x`, what the compression has taken away, this is error feedback (lecture 15):
:math:`x \leftarrow C(p)`, :math:`e \leftarrow p - C(p)` with :math:`p = x + e - \gamma g`.

With ``prune = Magnitude(partial(gradual, sparsity=0.9, end=200))``:

===========================================  =================================================================
dynamic pruning with feedback (Lin et al.)   ``Compressed(SGD(...), prune, every=16)``
gradual pruning (Zhu & Gupta)                ``Compressed(SGD(...), prune, every=16, feedback=False)``
projected gradients (hard thresholding)      ``Compressed(SGD(...), prune, feedback=False)``
once, then fine-tuning with that mask        the second, with ``Magnitude(lambda step: 0.9 * (step >= 200))``
few bits, with a master copy                 ``Compressed(SGD(...), Grid(4))``
few bits and nothing else                    ``Compressed(SGD(...), Grid(4), feedback=False)``
===========================================  =================================================================

>>> from optcourse.optim import SGD
>>> w = torch.nn.Parameter(torch.tensor([[1.0, 0.75]]))
>>> optimizer = Compressed(SGD([w], lr=0.5), Magnitude(0.5))
>>> for _ in range(2):
...     w.grad = torch.tensor([[0.25, -0.125]])
...     optimizer.step()
...     print(w.tolist())
[[0.875, 0.0]]
[[0.0, 0.875]]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from optcourse.arguments import choice, integer, real
from optcourse.optim.engine.kernels import working_dtype
from optcourse.optim.wrappers import Wrapper, setting


class Compressor(Protocol):
    """A set of simple points that moves now and then, and a way from any point into it."""

    def choose(self, weights: Sequence[Tensor], step: int) -> list[Tensor]:
        """What describes the set, for each tensor (a mask, a scale), before the gradient number ``step`` = 0, 1, ..."""
        ...

    def apply(self, weights: Sequence[Tensor], forms: Sequence[Tensor]) -> list[Tensor]:
        """The weights moved into the set that :meth:`choose` has described; new tensors."""
        ...


class Compressed(Wrapper):
    r"""An optimizer whose parameters stay compressed: :math:`w \leftarrow w - \text{update}(\nabla f(x))`, x ← C(w).

    After every :meth:`step` the parameters hold x: gradients, evaluation and the model's ``state_dict`` are those of
    the compressed network. The dense w is ``state[p]["compressed_dense"]``, and in a ``with optimizer.dense():`` the
    parameters are w. The inner optimizer steps from w, so decay and trust ratios see w. Without ``feedback`` there is
    no w: it steps from x.

    ``optimizer``: any ``torch.optim.Optimizer`` that steps without a closure. Ours calls the closure once, at x; SAM
    goes around: ``SAM(params, lambda ps, **kw: Compressed(SGD(ps, **kw), ...))``. ``compressor`` is
    :class:`Magnitude`, :class:`Grid` or what else has their methods. Its set (mask, scale) is chosen anew every
    ``every`` steps; Lin et al. take 16. Parameters of two or more dimensions are compressed, so no biases and norms,
    unless their group says ``"compress": True`` or False; also those without a gradient.

    Nothing moves before the first step. Call :meth:`compress` for a first gradient that is taken at C(w), too. With
    feedback, what is written into the parameters by hand between two steps is lost (except before the first).

    Source: Lin, Stich, Barba, Dmitriev and Jaggi, Dynamic Model Pruning with Feedback (ICLR 2020), Algorithm 1.
    """

    slots = ("dense", "form")
    feedback, every, taken, generator_state = map(setting, ("feedback", "every", "taken", "generator_state"))
    _inside = False

    def __init__(self, optimizer: Optimizer, compressor: Compressor, *, feedback: bool = True, every: int = 1) -> None:
        super().__init__(optimizer)
        if not (callable(getattr(compressor, "choose", None)) and callable(getattr(compressor, "apply", None))):
            raise TypeError(f"compressor must have the methods choose and apply, got {compressor!r}")
        self.compressor = compressor
        self.feedback, self.every = choice("feedback", feedback, (True, False)), integer("every", every, 1)
        self.taken, self.generator_state = 0, None
        for state in self.state.values():  # of an earlier one around the same optimizer
            for slot in self.slots:
                state.pop(self.prefix + slot, None)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the inner optimizer from w with the gradient at x; if it fails, x and w are as before."""
        self._outside("step")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        kept = {p: self._pop(p) for p in self._selected()}  # torch's optimizers begin where a state is empty
        home = {p: p.detach().clone() for p, own in kept.items() if "dense" in own}
        try:
            for p in home:
                _set(p, kept[p]["dense"])
            self.optimizer.step()
        except BaseException:
            for p, x in home.items():
                _set(p, x)
            raise
        finally:
            for p, own in kept.items():
                if own:
                    self.state[p].update({self.prefix + slot: value for slot, value in own.items()})
        self.taken += 1
        self._compress(anew=self.taken % self.every == 0)
        return loss

    def compress(self) -> None:
        """Choose mask or scale anew and move the parameters to C(w), now."""
        self._outside("compress")
        for p in self._selected():
            _set(p, self._dense(p))
        self._compress(anew=True)

    @contextmanager
    def dense(self) -> Iterator[None]:
        """Inside, the parameters are w (without feedback: x); what is written into them there is lost."""
        home = {p: p.detach().clone() for p in self._selected() if self._dense(p) is not p}
        before, self._inside = self._inside, True
        try:
            for p in home:
                _set(p, self._dense(p))
            yield
        finally:
            for p, x in home.items():
                _set(p, x)
            self._inside = before

    def _outside(self, method: str) -> None:
        if self._inside:
            raise RuntimeError(f"Compressed.{method} must not be called inside dense(), where the parameters are w")

    def _selected(self) -> list[Tensor]:
        groups = self.param_groups
        return [p for group in groups for p in group["params"] if p.numel() and group.get("compress", p.dim() > 1)]

    def _dense(self, p: Tensor) -> Tensor:
        return self.state.get(p, {}).get(self.prefix + "dense", p)

    def _pop(self, p: Tensor) -> dict[str, Tensor]:
        state = self.state.get(p, {})
        return {slot: state.pop(self.prefix + slot) for slot in self.slots if self.prefix + slot in state}

    @torch.no_grad()
    def _compress(self, anew: bool) -> None:
        """Where the parameters are w: remember them, and move them to C(w)."""
        weights, form, dense = self._selected(), self.prefix + "form", self.prefix + "dense"
        if anew or not all(form in self.state.get(p, {}) for p in weights):
            chosen = self.compressor.choose(weights, self.taken)
            for p, its in zip(weights, chosen, strict=True):
                self.state[p][form] = its.to(p)
        points = self.compressor.apply(weights, [self.state[p][form].to(p) for p in weights])
        for p, x in zip(weights, points, strict=True):
            if self.feedback:
                self.state[p][dense] = self.state[p][dense].to(p).copy_(p) if dense in self.state[p] else p.clone()
            _set(p, x)

    def state_dict(self) -> dict[str, Any]:
        """The inner optimizer's, with masks or scales, w, and the state of the compressor's generator."""
        generator = getattr(self.compressor, "generator", None)
        self.generator_state = None if generator is None else generator.get_state()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` saved; the parameters come with the model."""
        super().load_state_dict(state_dict)
        generator = getattr(self.compressor, "generator", None)
        if generator is not None and self.generator_state is not None:
            generator.set_state(self.generator_state.cpu())

    def __getstate__(self) -> dict[str, Any]:
        """The inner optimizer keeps everything but the compressor."""
        return {**super().__getstate__(), "compressor": self.compressor}


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
        return [mask.view(w.shape) for mask, w in zip(masks, weights, strict=True)]

    def apply(self, weights: Sequence[Tensor], forms: Sequence[Tensor]) -> list[Tensor]:
        """``mask * w``, and zero where the mask is, whatever w."""
        return [w.where(mask != 0, 0) for w, mask in zip(weights, forms, strict=True)]


@dataclass(frozen=True)
class Grid:
    r"""Round to ``bits`` bits: the points :math:`s\,i/q`, i = -q, ..., q with :math:`q = 2^{bits-1} - 1`.

    ``scale`` = s is a number, beyond which weights are clipped, or None: the largest magnitude in each tensor. Nearest
    (ties to even), or with a ``generator`` up or down at random, with probabilities that make the mean right:
    E C(w) = w for |w| <= s. The points are held in the parameter's own precision.

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

    @property
    def levels(self) -> int:
        """q; neighbours are scale / q apart."""
        return 2 ** (self.bits - 1) - 1

    def choose(self, weights: Sequence[Tensor], step: int) -> list[Tensor]:
        """Scales, 0-dim."""
        if self.scale is None:
            return [w.detach().abs().max() for w in weights]
        return [w.new_tensor(self.scale) for w in weights]

    def apply(self, weights: Sequence[Tensor], forms: Sequence[Tensor]) -> list[Tensor]:
        """The grid's points; zero where the scale is zero."""
        return [self._round(w, scale) for w, scale in zip(weights, forms, strict=True)]

    def _round(self, w: Tensor, scale: Tensor) -> Tensor:
        wide, scale = w.to(working_dtype(w)), scale.to(working_dtype(w))
        u = (wide / scale.where(scale != 0, 1)).clamp(-1, 1) * self.levels
        if self.generator is None:
            i = u.round()
        else:
            low, draw = u.floor(), torch.rand(u.shape, generator=self.generator, device=self.generator.device)
            i = low + (draw.to(u.device) < u - low)
        return (scale * (i / self.levels)).to(w.dtype)


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
    out = round(share * magnitudes.numel())
    mask = torch.ones_like(magnitudes)
    mask[magnitudes.topk(out, largest=False, sorted=False).indices] = 0
    return mask


@torch.no_grad()
def _set(p: Tensor, value: Tensor) -> None:
    p.copy_(value)
