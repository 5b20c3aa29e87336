"""Stochastic gradient descent with momentum, its decoupled weight decay, and the sign of momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

from torch import Tensor

from optcourse.optim.engine.kernels import average, axpy, damped, l2
from optcourse.optim.engine.optimizer import FlatOptimizer
from optcourse.optim.engine.settings import Options


class SGD(FlatOptimizer):
    r"""Stochastic gradient descent, plain, with heavy-ball momentum, or with Nesterov's.

    .. math::
        g &\leftarrow \nabla f(x) + \text{weight\_decay} \cdot x \\
        m &\leftarrow \text{momentum} \cdot m + (1 - \text{dampening}) \, g \\
        x &\leftarrow x - \text{lr} \cdot d, \qquad d = m \ \text{ or, nesterov, } \ g + \text{momentum} \cdot m

    ``x, g, m`` have the shape of the parameter. The first step takes ``m = g`` whatever the dampening,
    and ``momentum=0`` keeps no ``m``. The rate stays outside the buffer (torch's form): when ``lr``
    changes in time this differs from writing it inside, and from ``x + momentum (x - x_old)``.
    A penalty written ``λ‖x‖²``, as on some slides, is ``weight_decay = 2λ`` here.

    Defaults: none is good for every problem; ``lr=1e-3`` is torch's. Momentum 0.9 is the usual choice.

    Sources: Polyak, Some methods of speeding up the convergence of iteration methods (1964);
    Sutskever et al., On the importance of initialization and momentum in deep learning (ICML 2013).
    Raises ``ValueError`` for values out of range, and for Nesterov without momentum or with dampening.
    """

    slots = ("m",)

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **options: Unpack[Options],
    ) -> None:
        settings = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, {"lr": lr, **settings}, **options)

    def check(self, group: dict[str, Any]) -> None:
        """Ranges, and what Nesterov's form needs."""
        super().check(group)
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            got = f"momentum={group['momentum']!r}, dampening={group['dampening']!r}"
            raise ValueError(f"nesterov=True needs momentum in (0, 1) and dampening = 0, got {got}")

    def initial_slots(self, group: dict[str, Any]) -> dict[str, float]:
        """A buffer only where there is momentum."""
        return {"m": 0.0} if group["momentum"] else {}

    @staticmethod
    def scalars(step: int, *, lr: float, momentum: float, dampening: float, weight_decay: float, nesterov: bool, **_):
        """Dampening starts with the second gradient: the first fills the buffer."""
        dampening = dampening if step > 1 else 0.0
        numbers = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        return {**numbers, "nesterov": nesterov}

    @staticmethod
    def direction(g: Tensor, m: Tensor | None = None, *, momentum, dampening, nesterov, **_) -> tuple[Tensor, ...]:
        """What the rate multiplies, and the new buffer."""
        if m is None:
            return (g,)
        m = axpy(momentum, m, damped(g, dampening))
        return (axpy(momentum, m, g) if nesterov else m), m

    @staticmethod
    def update(x: Tensor, g: Tensor, *m: Tensor, lr, weight_decay, **scalars) -> tuple[Tensor, ...]:
        """``x <- x - lr d`` with the penalty inside the gradient."""
        d, *buffer = SGD.direction(l2(x, g, weight_decay), *m, **scalars)
        return axpy(-lr, d, x), *buffer


class SGDW(SGD):
    r"""Momentum with decoupled weight decay.

    .. math::
        m &\leftarrow \text{momentum} \cdot m + (1 - \text{dampening}) \, \nabla f(x) \\
        x &\leftarrow (1 - \text{lr} \cdot \text{weight\_decay}) \, x - \text{lr} \cdot d

    with ``d`` as in :class:`SGD`. The decay does not pass through the buffer. The paper writes the
    schedule as a multiplier η_t of both α and its own λ, and puts the rate inside the buffer: with a
    constant rate that is the same iteration with ``lr = η α`` and ``weight_decay = λ / α``.
    At a constant rate the iterates also equal those of :class:`SGD` with momentum ``β(1 − lr w)``, penalty
    ``w(1 − β)`` and initial buffer ``w x₀ / (1 − lr w)``: "decoupled" is another parametrization there,
    and another method once the rate changes.

    Defaults: ``momentum=0.9``, without which it equals SGD; ``weight_decay=0.01``.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (ICLR 2019), Algorithm 1.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        momentum: float = 0.9,
        dampening: float = 0.0,
        weight_decay: float = 0.01,
        nesterov: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov, **options)

    @staticmethod
    def update(x: Tensor, g: Tensor, *m: Tensor, lr, weight_decay, **scalars) -> tuple[Tensor, ...]:
        """``x <- (1 - lr weight_decay) x - lr d``."""
        d, *buffer = SGD.direction(g, *m, **scalars)
        return axpy(-lr, d, damped(x, lr * weight_decay)), *buffer


class Lion(FlatOptimizer):
    r"""The sign of a momentum that looks further back than it steps.

    .. math::
        c &= \beta_1 m + (1 - \beta_1) \, g \\
        x &\leftarrow (1 - \text{lr} \cdot \text{weight\_decay}) \, x - \text{lr} \cdot \operatorname{sign}(c) \\
        m &\leftarrow \beta_2 m + (1 - \beta_2) \, g

    ``x, g, m`` have the shape of the parameter; ``sign(0) = 0``. Every coordinate moves by ``lr``, so
    the rate is 3–10 times smaller and the decay as much larger than AdamW's; ``lr=1e-4`` and
    ``betas=(0.9, 0.99)`` are the paper's.

    Source: Chen et al., Symbolic Discovery of Optimization Algorithms (NeurIPS 2023), Algorithm 2.
    """

    slots = ("m",)

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay}, **options)

    @staticmethod
    def scalars(step: int, *, lr: float, betas: tuple[float, float], weight_decay: float, **_) -> dict[str, Any]:
        """The settings themselves: Lion corrects no bias, the sign would not see it."""
        return {"lr": lr, "beta1": betas[0], "beta2": betas[1], "weight_decay": weight_decay}

    @staticmethod
    def update(x: Tensor, g: Tensor, m: Tensor, *, lr, beta1, beta2, weight_decay) -> tuple[Tensor, Tensor]:
        """Step along the sign, then remember."""
        x = axpy(-lr, average(m, g, beta1).sign(), damped(x, lr * weight_decay))
        return x, average(m, g, beta2)
