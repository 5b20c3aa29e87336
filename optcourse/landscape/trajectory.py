"""Paths of torch optimizers over the problems of the course, in float64.

>>> import torch
>>> from optcourse.problems import Saddle
>>> trajectory(lambda params: torch.optim.SGD(params, lr=0.5), Saddle(), [1.0, 0.5], steps=2)
array([[1.   , 0.5  ],
       [0.5  , 0.75 ],
       [0.25 , 1.125]])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from optcourse.arguments import integer, real
from optcourse.problems import Problem


def trajectory(
    optimizer: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer],
    problem: Problem,
    start: ArrayLike,
    steps: int,
) -> np.ndarray:
    """The iterates x_0 = ``start`` [d], x_1, ..., as an array [steps + 1, d] of float64.

    ``optimizer`` is called with the list of parameters, for instance ``lambda params: Adam(params, lr=0.1)``,
    and sees the exact gradients of ``problem``. ``start`` may have leading axes [..., d]: an element-wise
    method then walks from all starts at once (result [steps + 1, ..., d]); one that looks at norms would mix them.
    Once an iterate is not finite, the rest is NaN. Raises ``ValueError`` or ``TypeError`` for another
    dimension, a start that is not finite, or steps < 1.
    """
    points = torch.as_tensor(np.asarray(real("start", start), dtype=np.float64).copy())
    problem.value(points)  # an error that names the dimension
    x = torch.nn.Parameter(points)
    method = optimizer([x])
    history = torch.full((integer("steps", steps, 1) + 1, *x.shape), torch.nan, dtype=x.dtype)
    for k in range(steps + 1):
        if not torch.isfinite(x).all():
            break
        history[k] = x.detach()
        x.grad = problem.gradient(x.detach())
        method.step()
    return history.numpy()


def stepper(method: type[Any], *, lr: float | Tensor, **settings: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """A function ``x, gradient -> next x`` with the state of an element-wise ``method`` of ``optcourse.optim`` inside.

    Unlike an optimizer it takes a tensor of rates: ``lr`` broadcasts against x, so that with x of shape
    [rates, seeds, d] and lr of shape [rates, 1, 1] a whole grid runs in one go. ``settings`` are those of
    the method. Raises ``TypeError`` for a method without the pure function ``update``, and the method's
    own errors for bad settings.

    >>> from optcourse.optim import SGD
    >>> step = stepper(SGD, lr=torch.tensor([[0.1], [0.5]]), momentum=0.9)
    >>> step(torch.ones(2, 1), torch.ones(2, 1)).flatten()
    tensor([0.9000, 0.5000])
    """
    if not callable(getattr(method, "update", None)) or not hasattr(method, "scalars"):
        raise TypeError(f"method must be an element-wise optimizer of optcourse.optim, got {method!r}")
    checker = method([torch.nn.Parameter(torch.zeros(1))], lr=float(torch.as_tensor(lr).max()), **settings)
    group = {**checker.defaults, "lr": lr}
    numbers, slots = dict(method.counters), None

    def step(x: Tensor, gradient: Tensor) -> Tensor:
        nonlocal numbers, slots
        if slots is None:
            slots = [torch.full_like(x, initial) for initial in checker.initial_slots(group).values()]
        numbers = method.count(group, **numbers)
        x, *slots = method.update(x, gradient, *slots, **method.scalars(**numbers, **group))
        return x

    return step
