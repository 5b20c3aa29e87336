"""An element-wise optimizer as a function: many rates, many copies, one equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


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
