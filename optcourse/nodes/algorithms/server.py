r"""Optimizers as rules for rows: what takes the local steps of ``local_sgd``, and what its server does with the change.

A rule is called ``rule(x, g, state, lr) -> (x, state)`` and begins with ``rule.start(x)``, lists of tensors with a row
for every row of x: :class:`optcourse.optim.RowRule`, or :class:`Adaptive` as here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from optcourse.arguments import positive, real
from optcourse.nodes.makers import maker, refuse_maker
from optcourse.optim import RowRule
from optcourse.optim.stepper import check_element_wise


class Rule(Protocol):
    """One step of an optimizer whose state is outside."""

    def start(self, x: Tensor) -> list[Tensor]:
        """The state before the first step."""
        ...

    def __call__(self, x: Tensor, g: Tensor, state: list[Tensor], lr: float | Tensor) -> tuple[Tensor, list[Tensor]]:
        """The rows after the step, and the state."""
        ...


class Adaptive:
    r"""The adaptive servers of Reddi et al.: :math:`x \leftarrow x-\eta\,m/(\sqrt v+\tau)` without bias correction.

    With g the change that the server takes for a gradient, :math:`m \leftarrow \beta_1m+(1-\beta_1)g` from 0, and v
    from :math:`\tau^2` by ``second(v, g^2)``.
    """

    def __init__(self, second: Callable[[Tensor, Tensor], Tensor], beta1: float, tau: float) -> None:
        self._second, self._beta1, self._tau = second, beta1, tau

    def start(self, x: Tensor) -> list[Tensor]:
        """m and v before the first step."""
        return [torch.zeros_like(x), torch.full_like(x, self._tau**2)]

    def __call__(self, x: Tensor, g: Tensor, state: list[Tensor], lr: float | Tensor) -> tuple[Tensor, list[Tensor]]:
        """One step."""
        m, v = state
        m, v = self._beta1 * m + (1 - self._beta1) * g, self._second(v, g * g)
        return x - lr * m / (v.sqrt() + self._tau), [m, v]


@maker
def fed_adam(beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3) -> Adaptive:
    r"""FedAdam's server: :math:`v \leftarrow \beta_2v+(1-\beta_2)g^2`.

    For ``local_sgd(..., server=fed_adam(), server_lr=0.1)``. Raises ``ValueError`` for betas outside [0, 1) or
    tau <= 0. Source: Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar & McMahan 2021, "Adaptive federated
    optimization", Algorithm 2, with its defaults; :func:`fed_yogi` and :func:`fed_adagrad` likewise.
    """
    beta = real("beta2", beta2, 0, 1, open_high=True)
    return _adaptive(lambda v, g2: beta * v + (1 - beta) * g2, beta1, tau)


@maker
def fed_yogi(beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3) -> Adaptive:
    r"""FedYogi's server: :math:`v \leftarrow v-(1-\beta_2)\,g^2\,\mathrm{sgn}(v-g^2)`; see :func:`fed_adam`."""
    beta = real("beta2", beta2, 0, 1, open_high=True)
    return _adaptive(lambda v, g2: v - (1 - beta) * g2 * (v - g2).sign(), beta1, tau)


@maker
def fed_adagrad(beta1: float = 0.0, tau: float = 1e-3) -> Adaptive:
    r"""FedAdagrad's server: :math:`v \leftarrow v+g^2`; see :func:`fed_adam`."""
    return _adaptive(lambda v, g2: v + g2, beta1, tau)


def _adaptive(second: Callable[[Tensor, Tensor], Tensor], beta1: float, tau: float) -> Adaptive:
    positive(tau=tau)
    return Adaptive(second, real("beta1", beta1, 0, 1, open_high=True), float(tau))


def as_rule(name: str, optimizer: Any) -> Rule | None:
    """A rule, or None, as it is; an element-wise optimizer class, or a ``partial`` of one, as a rule.

    Raises ``TypeError`` for anything else, ``ValueError`` for a ``partial`` with an ``lr``, and what the optimizer
    raises.
    """
    if optimizer is None or isinstance(optimizer, RowRule | Adaptive):
        return optimizer
    refuse_maker(name, optimizer)
    method, settings = optimizer, {}
    if isinstance(optimizer, partial) and not optimizer.args:
        method, settings = optimizer.func, optimizer.keywords
    if not isinstance(method, type):
        raise TypeError(
            f"{name} must be an optimizer of optcourse.optim, a partial of one with keywords only, or a rule, "
            f"got {optimizer!r}"
        )
    if "lr" in settings:
        raise ValueError(
            f"{name} must have no lr of its own (the algorithm's lr or server_lr counts), got lr = {settings['lr']}"
        )
    check_element_wise(name, method)
    try:
        return RowRule(method, **settings)
    except TypeError as error:
        raise TypeError(f"{name} must have settings of {method.__name__}, got {settings}: {error}") from None
