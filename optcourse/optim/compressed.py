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
gradual pruning (as Zhu & Gupta, see below)  ``Compressed(SGD(...), prune, every=16, feedback=False)``
projected gradients (hard thresholding)      ``Compressed(SGD(...), prune, feedback=False)``
once, then fine-tuning with that mask        first SGD alone, then ``Compressed(sgd, Magnitude(0.9), every=10**9,
                                             feedback=False)`` around it, and :meth:`Compressed.compress`
few bits, with a master copy                 ``Compressed(SGD(...), Grid(4))``
few bits and nothing else                    ``Compressed(SGD(...), Grid(4), feedback=False)``
===========================================  =================================================================

Without feedback a pruned weight is worth its last update when a mask is chosen: by that it can come back, before the
ramp ends and after it. Zhu and Gupta do not update what is pruned.

>>> from optcourse.optim import SGD, Magnitude
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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optcourse.arguments import choice, integer
from optcourse.models.rows import split
from optcourse.optim.pruning import Compressor
from optcourse.optim.stepper import stepper
from optcourse.optim.wrappers import SAM, Wrapper, setting


class Compressed(Wrapper):
    r"""An optimizer whose parameters stay compressed: :math:`w \leftarrow w - \text{update}(\nabla f(x))`, x ← C(w).

    After every :meth:`step` the parameters hold x: gradients, evaluation and the model's ``state_dict`` are those of
    the compressed network. The dense w is ``state[p]["compressed_dense"]``, and in a ``with optimizer.dense():`` the
    parameters are w. The inner optimizer steps from w, so decay and trust ratios see w. Without ``feedback`` there is
    no w: it steps from x.

    ``optimizer``: any ``torch.optim.Optimizer`` that steps without a closure. Ours calls the closure once, at x. SAM
    goes around, ``SAM(params, lambda ps, **kw: Compressed(SGD(ps, **kw), ...))``, Lookahead inside: around, it would
    write into the parameters what the next step forgets. ``compressor`` is
    :class:`Magnitude`, :class:`Grid` or what else has their methods. Its set (mask, scale) is chosen anew every
    ``every`` steps; Lin et al. take 16. Parameters of two or more dimensions are compressed, so no biases and norms,
    unless their group says ``"compress": True`` or False; also those without a gradient.

    Nothing moves before the first step. Call :meth:`compress` for a first gradient that is taken at C(w), too. With
    feedback, what is written into the parameters by hand is lost at the next step, once w is remembered. w has the
    parameter's precision: updates too small for a bfloat16 are lost in it as in any bfloat16 training.

    Source: Lin, Stich, Barba, Dmitriev and Jaggi, Dynamic Model Pruning with Feedback (ICLR 2020), Algorithm 1.
    """

    slots = ("dense", "form")
    feedback, every, taken, generator_state = map(setting, ("feedback", "every", "taken", "generator_state"))
    _inside = False

    def __init__(self, optimizer: Optimizer, compressor: Compressor, *, feedback: bool = True, every: int = 1) -> None:
        super().__init__(optimizer)
        if not (callable(getattr(compressor, "choose", None)) and callable(getattr(compressor, "apply", None))):
            raise TypeError(f"compressor must have the methods choose and apply, got {compressor!r}")
        if isinstance(optimizer, SAM):
            raise TypeError("optimizer must not be SAM, which goes around: see the documentation of Compressed")
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
        with self._undone_if_it_fails() as weights:
            kept = {p: self._pop(p) for p in weights}  # torch's optimizers begin where a state is empty
            try:
                for p, own in kept.items():
                    _set(p, own.get("dense", p))
                self.optimizer.step()
            finally:
                self._put(kept)
            self.taken += 1
            self._compress(anew=self.taken % self.every == 0)
        return loss

    def compress(self) -> None:
        """Choose mask or scale anew and move the parameters to C(w), now."""
        self._outside("compress")
        with self._undone_if_it_fails() as weights:
            for p in weights:
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

    @contextmanager
    def _undone_if_it_fails(self) -> Iterator[list[Tensor]]:
        """If optimizer or compressor do: x, w, masks and scales are put back, and the step is not counted."""
        weights, taken = self._selected(), self.taken
        home = {p: p.detach().clone() for p in weights}
        kept = {p: self._pop(p) for p in weights}
        self._put(kept)
        try:
            yield weights
        except BaseException:
            for p, x in home.items():
                _set(p, x)
            self._put(kept)
            self.taken = taken
            raise

    def _dense(self, p: Tensor) -> Tensor:
        return self.state.get(p, {}).get(self.prefix + "dense", p)

    def _pop(self, p: Tensor) -> dict[str, Tensor]:
        state = self.state.get(p, {})
        return {slot: state.pop(self.prefix + slot) for slot in self.slots if self.prefix + slot in state}

    def _put(self, kept: dict[Tensor, dict[str, Tensor]]) -> None:
        for p, own in kept.items():
            self._pop(p)
            if own:
                self.state[p].update({self.prefix + slot: value for slot, value in own.items()})

    @torch.no_grad()
    def _compress(self, anew: bool) -> None:
        """Where the parameters are w: remember them, and move them to C(w)."""
        weights, form, dense = self._selected(), self.prefix + "form", self.prefix + "dense"
        if anew or not all(form in self.state.get(p, {}) for p in weights):
            chosen = self.compressor.choose(weights, self.taken)
            for p, its in zip(weights, chosen, strict=True):
                self.state[p][form] = its.to(p)
        points = self.compressor.apply(weights, [self.state[p][form].to(p) for p in weights])
        for p, x in list(zip(weights, points, strict=True)):  # all there, or nothing is written
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


def compressed_stepper(
    net: nn.Module, compressor: Compressor, *, feedback: bool = True, every: int = 1, new_step: Callable = stepper
) -> Callable[..., Callable[[Tensor, Tensor], Tensor]]:
    """:class:`Compressed` for rows, around what ``new_step`` makes: parameters ``[rows, d]`` of networks like net.

    ``compressed_stepper(net, compressor)(method, lr=lr, **settings)`` is a function ``x, gradient -> next x`` as
    :func:`optcourse.optim.stepper` makes it; each row has its own mask or scale. A layer's weights are compressed,
    biases are not. The step, and the errors for ``every`` and ``feedback``, are those of :class:`Compressed`.

    >>> from optcourse.optim import SGD, Magnitude
    >>> step = compressed_stepper(nn.Linear(2, 1), Magnitude(0.5))(SGD, lr=0.5)
    >>> step(torch.tensor([[1.0, 0.75, 3.0], [2.0, 4.0, 6.0]]), torch.zeros(2, 3))
    tensor([[1., 0., 3.],
            [0., 4., 6.]])
    """
    choice("feedback", feedback, (True, False))
    integer("every", every, 1)
    parameters = list(net.parameters())
    places = [i for i, p in enumerate(parameters) if p.dim() > 1 and p.numel()]

    def choose(*weights: Tensor, step: int) -> list[Tensor]:
        return compressor.choose(weights, step)

    def around(method: Any, *, lr: Any, **settings: Any) -> Callable[[Tensor, Tensor], Tensor]:
        inner, w, forms, taken = new_step(method, lr=lr, **settings), None, [], 0

        def step(x: Tensor, gradient: Tensor) -> Tensor:
            nonlocal w, forms, taken
            w, taken = inner(w if feedback and w is not None else x, gradient), taken + 1
            x = w.clone()
            layers = split(parameters, x)
            weights = [layers[i] for i in places]
            if places and (taken % every == 0 or not forms):
                forms = torch.vmap(partial(choose, step=taken))(*weights)
            for layer, point in zip(weights, compressor.apply(weights, forms), strict=True):
                layer.copy_(point)
            return x

        return step

    return around


@torch.no_grad()
def _set(p: Tensor, value: Tensor) -> None:
    p.copy_(value)
