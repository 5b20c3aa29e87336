"""Learning-rate schedules: pure functions of the step that return the multiplier of the rate.

Use them through torch, alone or multiplied:

>>> import torch
>>> from functools import partial
>>> from optcourse.optim import SGD, cosine_restarts, warmup
>>> optimizer = SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.5)
>>> schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(warmup, steps=5))
>>> optimizer.param_groups[0]["lr"]
0.1
>>> both = lambda step: warmup(step, steps=5) * cosine_restarts(step, period=50)

Every function takes a step (0, 1, 2, …) or an array of them, for plots.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from optcourse.arguments import integer, real


def _multiplier(values: Any) -> Any:
    """A Python float for one step, an array for many."""
    return float(values) if np.ndim(values) == 0 else np.asarray(values)


def _steps(step: Any) -> np.ndarray:
    return np.asarray(real("step", step, 0.0), dtype=float)


def warmup(step: Any, *, steps: int) -> Any:
    """``min(1, (step + 1) / steps)``: the first step already moves, step ``steps - 1`` has the full rate.

    Source: Goyal et al., Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour (2017), section 2.2
    (gradual warm-up; there from lr/k for k workers).
    """
    return _multiplier(np.minimum(1.0, (_steps(step) + 1) / integer("steps", steps, 1)))


def step_decay(step: Any, *, every: int, factor: float = 0.1) -> Any:
    """``factor ** (step // every)``: torch's ``StepLR``. ``factor`` in (0, 1]."""
    real("factor", factor, 0.0, 1.0, open_low=True)
    return _multiplier(factor ** (_steps(step) // integer("every", every, 1)))


def exponential(step: Any, *, rate: float) -> Any:
    """``rate ** step``: torch's ``ExponentialLR``. ``rate`` in (0, 1]."""
    real("rate", rate, 0.0, 1.0, open_low=True)
    return _multiplier(rate ** _steps(step))


def triangular(step: Any, *, half_period: int, low: float = 0.1) -> Any:
    """Linear from ``low`` up to 1 in ``half_period`` steps, and down again, for ever. ``low`` in [0, 1].

    Source: Smith, Cyclical Learning Rates for Training Neural Networks (WACV 2017), section 3 ("triangular").
    """
    real("low", low, 0.0, 1.0)
    phase = _steps(step) / integer("half_period", half_period, 1) % 2
    return _multiplier(low + (1 - low) * (1 - abs(phase - 1)))


def cosine_restarts(step: Any, *, period: int, growth: int = 1, low: float = 0.0) -> Any:
    """From 1 down to ``low`` along half a cosine, again and again; each period is ``growth`` times the last.

    ``low + (1 - low) (1 + cos(π t / T)) / 2`` with ``t`` steps since the restart and ``T`` the length of
    the current period; it restarts at 1. One long period is plain cosine decay. ``low`` in [0, 1].

    Source: Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts (ICLR 2017), equation (5).
    """
    integer("period", period, 1)
    integer("growth", growth, 1)
    real("low", low, 0.0, 1.0)
    left, length = _steps(step), np.full(np.shape(step), float(period))
    if growth == 1:
        left = left % period
    while (over := left >= length).any():  # at most log(step) / log(growth) times
        left, length = np.where(over, left - length, left), np.where(over, length * growth, length)
    return _multiplier(low + (1 - low) * (1 + np.cos(np.pi * left / length)) / 2)
