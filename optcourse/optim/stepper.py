"""Optimizers as functions of rows: many rates, many copies of a network, one equation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from optcourse.arguments import integer, nonnegative, real
from optcourse.models.rows import split
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


def layer_stepper(net: nn.Module) -> Callable[..., Callable[[Tensor, Tensor], Tensor]]:
    """:func:`stepper` for what looks at layers or wraps another optimizer: LARS, LAMB, Muon, Lookahead, torch's own.

    ``layer_stepper(net)(method, lr=lr, **settings)`` is a function ``x, gradient -> next x`` for rows x ``[rows, d]``,
    parameters of networks of net's shape. ``method(parameters, lr=..., **settings)`` makes the optimizer of one row,
    whose rate is ``lr[row]`` at each step. Slower than :func:`stepper`: the optimizers step one after the other.

    >>> from optcourse.optim import SGD, Lookahead
    >>> halfway = lambda parameters, lr: Lookahead(SGD(parameters, lr=lr), k=1)
    >>> step = layer_stepper(nn.Linear(1, 1))(halfway, lr=torch.tensor([[0.2], [1.0]]))
    >>> step(torch.ones(2, 2), torch.ones(2, 2))
    tensor([[0.9000, 0.9000],
            [0.5000, 0.5000]])
    """
    parameters = list(net.parameters())

    def new_step(method: Callable[..., Any], *, lr: Tensor, **settings: Any) -> Callable[[Tensor, Tensor], Tensor]:
        home, slope, optimizers = torch.empty(0), torch.empty(0), []

        def step(x: Tensor, gradient: Tensor) -> Tensor:
            nonlocal home, slope
            if not optimizers:
                home, slope = torch.empty_like(x), torch.empty_like(x)
                layers, slopes = split(parameters, home), split(parameters, slope)
                for row, rate in enumerate(lr.flatten().tolist()):
                    own = [nn.Parameter(layer[row]) for layer in layers]
                    for p, its in zip(own, slopes, strict=True):
                        p.grad = its[row]
                    optimizers.append(method(own, lr=rate, **settings))
            home.copy_(x)
            slope.copy_(gradient)
            for optimizer, rate in zip(optimizers, lr.flatten().tolist(), strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
            return home.clone()

        return step

    return new_step


def lookahead_stepper(
    k: int = 5, alpha: float = 0.5, new_step: Callable[..., Callable[[Tensor, Tensor], Tensor]] = stepper
) -> Callable[..., Callable[[Tensor, Tensor], Tensor]]:
    """Lookahead for rows, around what ``new_step`` makes: every k steps x goes back to ``slow + alpha (x - slow)``.

    The equation, and the errors for k and alpha, are those of :class:`optcourse.optim.Lookahead`.

    >>> from optcourse.optim import SGD
    >>> step = lookahead_stepper(k=2)(SGD, lr=0.5)
    >>> x = step(torch.ones(1, 2), torch.ones(1, 2))
    >>> x, step(x, torch.ones(1, 2))
    (tensor([[0.5000, 0.5000]]), tensor([[0.5000, 0.5000]]))
    """
    integer("k", k, 1)
    real("alpha", alpha, 0.0, 1.0)

    def around(method: Any, *, lr: Any, **settings: Any) -> Callable[[Tensor, Tensor], Tensor]:
        fast, slow, steps = new_step(method, lr=lr, **settings), None, 0

        def step(x: Tensor, gradient: Tensor) -> Tensor:
            nonlocal slow, steps
            slow = x if slow is None else slow
            x, steps = fast(x, gradient), steps + 1
            if steps % k == 0:
                slow = x = torch.lerp(slow, x, alpha)
            return x

        return step

    return around


def ascent(rho: float | Tensor, p: float = 2) -> Callable[[Tensor], Tensor]:
    r"""SAM's perturbation row by row: gradients ``[rows, d]`` -> the ε that maximizes ⟨ε, g⟩ over ``‖ε‖_p <= rho``.

    The formula is that of :class:`optcourse.optim.SAM`, with 1/p + 1/q = 1. ``rho`` may differ by row, ``[rows, 1]``;
    where it is zero, or the gradient is, so is ε. Raises ``ValueError`` for rho < 0 or p < 1.

    >>> ascent(0.5)(torch.tensor([[3.0, -4.0], [0.0, 0.0]]))
    tensor([[ 0.3000, -0.4000],
            [ 0.0000,  0.0000]])
    """
    nonnegative(rho=torch.as_tensor(rho).detach().cpu().numpy())
    p = p if p == math.inf else real("p", p, 1.0)

    def climb(g: Tensor) -> Tensor:
        if p == math.inf:
            return rho * g.sgn()
        u = g / g.abs().amax(1, keepdim=True).clamp_min(torch.finfo(g.dtype).tiny)  # so that no power overflows
        if p == 1:
            place = u.abs().argmax(1, keepdim=True)
            return rho * torch.zeros_like(u).scatter(1, place, u.gather(1, place).sgn())
        q = p / (p - 1)
        length = (u.abs() ** q).sum(1, keepdim=True) ** (1 / p)
        return rho * u.sgn() * u.abs() ** (q - 1) / length.clamp_min(torch.finfo(g.dtype).tiny)

    return climb
