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

import numpy as np
import torch
from numpy.typing import ArrayLike

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
