"""Gradient methods on the problems of ``optcourse.problems``, many seeds at once, in numpy.

The trajectories of theory experiments: no model, no data loader, only x, g and the step size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Required, TypedDict, Unpack

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from optcourse.arguments import integer, positive, real
from optcourse.problems import Problem
from optcourse.runtime import progress

#: What to keep of an iterate x, or of many in one array.
Record = Callable[[np.ndarray], np.ndarray]


def squared_gradient(problem: Problem) -> Record:
    """The function x -> ||grad f(x)||^2, to be recorded by :func:`sgd`."""
    return lambda x: np.square(problem.gradient(x)).sum(-1)


def gap(problem: Problem) -> Record:
    """The function x -> f(x) - f*, to be recorded by :func:`sgd`."""
    return problem.delta0


class Options(TypedDict, total=False):
    """What the stochastic methods share; see :func:`descend`."""

    lr: Required[ArrayLike]
    steps: Required[int]
    seeds: int
    batch_size: int
    every: int
    record: Record | None


def gradient_descent(
    problem: Problem, x0: ArrayLike, *, lr: ArrayLike, steps: int, every: int = 1, record: Record | None = None
) -> np.ndarray:
    """Gradient descent, x <- x - lr ∇f(x): :func:`descend` with exact gradients and without momentum."""
    return descend(problem, x0, lr=lr, steps=steps, every=every, record=record)


def sgd(problem: Problem, x0: ArrayLike, *, rng: Generator, **options: Unpack[Options]) -> np.ndarray:
    """SGD, x <- x - lr g, in independent copies: :func:`descend` without momentum."""
    return descend(problem, x0, rng=rng, **options)


def heavy_ball(
    problem: Problem, x0: ArrayLike, *, momentum: ArrayLike, rng: Generator | None = None, **options: Unpack[Options]
) -> np.ndarray:
    """Heavy ball, x_{k+1} = x_k - lr g(x_k) + momentum (x_k - x_{k-1}), from x_{-1} = x_0: see :func:`descend`.

    For a rate that changes see lecture 04.3: this is the form with the rate inside the buffer. Source: Polyak 1964.
    """
    return descend(problem, x0, momentum=momentum, rng=rng, **options)


def nesterov(
    problem: Problem, x0: ArrayLike, *, momentum: ArrayLike, rng: Generator | None = None, **options: Unpack[Options]
) -> np.ndarray:
    """Nesterov: y_k = x_k + momentum (x_k - x_{k-1}), x_{k+1} = y_k - lr g(y_k), from x_{-1} = x_0: :func:`descend`.

    Records x, not y. Source: Nesterov 1983.
    """
    return descend(problem, x0, momentum=momentum, ahead=True, rng=rng, **options)


def descend(
    problem: Problem,
    x0: ArrayLike,
    *,
    lr: ArrayLike,
    steps: int,
    momentum: ArrayLike = 0.0,
    ahead: bool = False,
    rng: Generator | None = None,
    seeds: int = 1,
    batch_size: int = 1,
    every: int = 1,
    record: Record | None = None,
) -> np.ndarray:
    """Heavy ball, or Nesterov where the gradient is taken ``ahead``; without momentum gradient descent, all in one.

    Without ``rng`` the gradients are exact and x0 is [..., d]; the result holds ``record(x)`` (by default x itself) at
    every ``every``-th iterate, x_0 first: [steps // every + 1, ...]. With ``rng`` they are stochastic, each the mean of
    ``batch_size``, in ``seeds`` independent copies from x0 [d]: [seeds, steps // every + 1, ...].

    ``lr`` > 0 and ``momentum`` in [0, 1) are numbers or sequences of shape [steps]. Raises ``ValueError`` for a bad
    shape or value, and ``FloatingPointError``, with the number of the step, once an iterate is no longer finite.
    """
    steps, every = integer("steps", steps, 1), integer("every", every, 1)
    rates = _per_step("lr", positive(lr=lr)[0], steps)
    betas = _per_step("momentum", np.asarray(real("momentum", momentum, 0, 1, open_high=True), dtype=float), steps)
    x, record = np.asarray(x0, dtype=float), record or (lambda x: x)
    if rng is not None:
        x = np.tile(x, (integer("seeds", seeds, 1), 1))
    old, history = x, [record(x)]
    for k, (rate, beta) in enumerate(zip(progress(rates, desc="steps"), betas, strict=True), 1):
        y = x + beta * (x - old)
        at = y if ahead else x
        g = problem.gradient(at) if rng is None else problem.stochastic_gradient(at, rng, batch_size)
        old, x = x, y - rate * g
        if not np.isfinite(x).all():
            raise FloatingPointError(f"the iterate is not finite after step {k} with lr = {rate:g}")
        if k % every == 0:
            history.append(record(x))
    return np.stack(history, axis=0 if rng is None else 1, dtype=float)


def _per_step(name: str, value: np.ndarray, steps: int) -> np.ndarray:
    if value.ndim > 1 or (value.ndim == 1 and value.size != steps):
        raise ValueError(f"{name} must be a number or a sequence of shape [{steps}], got shape {list(value.shape)}")
    return np.broadcast_to(value, steps)
