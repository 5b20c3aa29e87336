"""An element-wise optimizer as a function: many rates, many copies, one equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optcourse.optim.engine.optimizer import FlatOptimizer


def stepper(method: type[Any], *, lr: float | Tensor, **settings: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """A function ``x, gradient -> next x`` with the state of an element-wise ``method`` of ``optcourse.optim`` inside.

    Unlike an optimizer it takes a tensor of rates: ``lr`` broadcasts against x, so that with x of shape
    [rates, seeds, d] and lr of shape [rates, 1, 1] a whole grid runs in one go. ``settings`` are those of
    the method. Raises ``TypeError`` for a method that is more than its pure function ``update`` (one that looks at
    layers, as LARS or SGDP), and the method's own errors for bad settings.

    >>> from optcourse.optim import SGD
    >>> step = stepper(SGD, lr=torch.tensor([[0.1], [0.5]]), momentum=0.9)
    >>> step(torch.ones(2, 1), torch.ones(2, 1)).flatten()
    tensor([0.9000, 0.5000])
    """
    if getattr(method, "update_blocks", None) is not FlatOptimizer.update_blocks:
        raise TypeError(f"method must be an element-wise optimizer of optcourse.optim, got {method!r}")
    x, extremes = [torch.nn.Parameter(torch.zeros(1))], torch.as_tensor(lr).detach().aminmax()
    checker, _ = (method(x, lr=float(rate), **settings) for rate in extremes)
    group = {**checker.defaults, "lr": lr}
    numbers, slots = dict(method.counters), None

    def step(x: Tensor, gradient: Tensor) -> Tensor:
        nonlocal numbers, slots
        if slots is None:
            slots = [torch.full_like(x, initial) for initial in checker.initial_slots(group).values()]
        numbers = method.count(group, **numbers)
        gradient = -gradient if group.get("maximize") else gradient
        x, *slots = method.update(x, gradient, *slots, **method.scalars(**numbers, **group))
        return x

    return step
