"""Gradient methods on the problems of ``optcourse.problems``, many seeds at once, in numpy.

The trajectories of theory experiments: no model, no data loader, only x, g and the step size.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import integer, positive, real
from optcourse.problems import Problem
from optcourse.runtime import progress


def squared_gradient(problem: Problem) -> Callable[[np.ndarray], np.ndarray]:
    """The function x -> ||grad f(x)||^2, to be recorded by :func:`sgd`."""
    return lambda x: np.square(problem.gradient(x)).sum(-1)


def gap(problem: Problem) -> Callable[[np.ndarray], np.ndarray]:
    """The function x -> f(x) - f*, to be recorded by :func:`sgd`."""
    return problem.delta0


def sgd(
    problem: Problem,
    x0: ArrayLike,
    *,
    lr: ArrayLike,
    steps: int,
    rng: np.random.Generator,
    seeds: int = 1,
    batch_size: int = 1,
    every: int = 1,
    record: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """SGD, x <- x - lr * g, from ``x0`` [d] in ``seeds`` independent copies.

    ``lr`` is one step size or a sequence of shape [steps]. Returns ``record(x)`` at every ``every``-th
    iterate, x_0 first: shape [seeds, steps // every + 1, ...]; by default x itself, [..., d]. Raises
    ``ValueError`` for a bad shape or a step size that is not positive, and ``FloatingPointError``,
    with the number of the step, once an iterate is no longer finite.
    """
    x = np.tile(np.asarray(x0, dtype=float), (integer("seeds", seeds, 1), 1))
    return _descend(x, lambda x: problem.stochastic_gradient(x, rng, batch_size), lr, steps, every, record).swapaxes(
        0, 1
    )


def gradient_descent(
    problem: Problem,
    x0: ArrayLike,
    *,
    lr: ArrayLike,
    steps: int,
    every: int = 1,
    record: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Gradient descent from ``x0`` [..., d]: ``record(x)`` of shape [steps // every + 1, ...].

    Arguments and errors as for :func:`sgd`.
    """
    return _descend(np.asarray(x0, dtype=float), problem.gradient, lr, steps, every, record)


def heavy_ball(
    problem: Problem,
    x0: ArrayLike,
    *,
    lr: ArrayLike,
    momentum: ArrayLike,
    steps: int,
    rng: np.random.Generator | None = None,
    seeds: int = 1,
    batch_size: int = 1,
    every: int = 1,
    record: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Heavy ball, x_{k+1} = x_k - lr g(x_k) + momentum (x_k - x_{k-1}), from x_{-1} = x_0.

    ``momentum`` in [0, 1) is one number or a sequence of shape [steps]. Without ``rng`` the gradients are
    exact and everything else is as in :func:`gradient_descent`; with it they are stochastic, in ``seeds``
    copies, as in :func:`sgd`. For a rate that changes see lecture 04.3: this is the form with the rate
    inside the buffer. Source: Polyak 1964.
    """
    return _with_momentum(problem, x0, lr, momentum, steps, rng, seeds, batch_size, every, record, ahead=False)


def nesterov(
    problem: Problem,
    x0: ArrayLike,
    *,
    lr: ArrayLike,
    momentum: ArrayLike,
    steps: int,
    rng: np.random.Generator | None = None,
    seeds: int = 1,
    batch_size: int = 1,
    every: int = 1,
    record: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Nesterov: y_k = x_k + momentum (x_k - x_{k-1}), x_{k+1} = y_k - lr g(y_k), from x_{-1} = x_0.

    Records x, not y. Arguments, shapes and errors as for :func:`heavy_ball`. Source: Nesterov 1983.
    """
    return _with_momentum(problem, x0, lr, momentum, steps, rng, seeds, batch_size, every, record, ahead=True)


def _with_momentum(problem, x0, lr, momentum, steps, rng, seeds, batch_size, every, record, *, ahead):
    x = np.asarray(x0, dtype=float)
    if rng is None:
        return _descend(x, problem.gradient, lr, steps, every, record, momentum, ahead)
    x = np.tile(x, (integer("seeds", seeds, 1), 1))

    def gradient(x):
        return problem.stochastic_gradient(x, rng, batch_size)

    return _descend(x, gradient, lr, steps, every, record, momentum, ahead).swapaxes(0, 1)


def _descend(
    x: np.ndarray,
    gradient: Callable[[np.ndarray], np.ndarray],
    lr: ArrayLike,
    steps: int,
    every: int,
    record: Callable[[np.ndarray], np.ndarray] | None,
    momentum: ArrayLike = 0.0,
    ahead: bool = False,
) -> np.ndarray:
    """Heavy ball, or Nesterov when the gradient is taken ``ahead``; gradient descent has no momentum."""
    steps, every = integer("steps", steps, 1), integer("every", every, 1)
    rates = _per_step("lr", positive(lr=lr)[0], steps)
    betas = _per_step("momentum", np.asarray(real("momentum", momentum, 0, 1, open_high=True), dtype=float), steps)
    record = record or (lambda x: x)
    first = record(x)
    history = np.empty((steps // every + 1, *first.shape))
    history[0] = first
    old = x
    for k in progress(range(1, steps + 1), desc="steps"):
        y = x + betas[k - 1] * (x - old)
        old, x = x, y - rates[k - 1] * gradient(y if ahead else x)
        if not np.isfinite(x).all():
            raise FloatingPointError(f"the iterate is not finite after step {k} with lr = {rates[k - 1]:g}")
        if k % every == 0:
            history[k // every] = record(x)
    return history


def _per_step(name: str, value: np.ndarray, steps: int) -> np.ndarray:
    if value.ndim > 1 or (value.ndim == 1 and value.size != steps):
        raise ValueError(f"{name} must be a number or a sequence of shape [{steps}], got shape {list(value.shape)}")
    return np.broadcast_to(value, steps)
