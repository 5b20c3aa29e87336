"""Gradient methods on the problems of ``optcourse.problems``, many seeds at once, in numpy.

The trajectories of theory experiments: no model, no data loader, only x, g and the step size.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import integer, positive
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


def _descend(
    x: np.ndarray,
    gradient: Callable[[np.ndarray], np.ndarray],
    lr: ArrayLike,
    steps: int,
    every: int,
    record: Callable[[np.ndarray], np.ndarray] | None,
) -> np.ndarray:
    steps, every = integer("steps", steps, 1), integer("every", every, 1)
    (lr,) = positive(lr=lr)
    if lr.ndim > 1 or (lr.ndim == 1 and lr.size != steps):
        raise ValueError(f"lr must be a number or a sequence of shape [{steps}], got shape {list(lr.shape)}")
    rates = np.broadcast_to(lr, steps)
    record = record or (lambda x: x)
    first = record(x)
    history = np.empty((steps // every + 1, *first.shape))
    history[0] = first
    for k in progress(range(1, steps + 1), desc="steps"):
        x = x - rates[k - 1] * gradient(x)
        if not np.isfinite(x).all():
            raise FloatingPointError(f"the iterate is not finite after step {k} with lr = {rates[k - 1]:g}")
        if k % every == 0:
            history[k // every] = record(x)
    return history
