"""Optimizers as functions of rows: many rates, many copies of a network, one equation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from optcourse.arguments import integer, real
from optcourse.models.rows import split
from optcourse.optim.engine.optimizer import FlatOptimizer
from optcourse.optim.layerwise import Layers


def stepper(method: type[Any], *, lr: float | Tensor, **settings: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """A function ``x, gradient -> next x`` with the state of an element-wise ``method`` of ``optcourse.optim`` inside.

    Unlike an optimizer it takes a tensor of rates: ``lr`` broadcasts against x, so that with x of shape
    [rates, seeds, d] and lr of shape [rates, 1, 1] a whole grid runs in one go. ``settings`` are those of
    the method. Raises ``TypeError`` for a method that is more than its pure function ``update`` (one that looks at
    layers, as LARS or SGDP), and the method's own errors for bad settings; ``ValueError`` for an x whose shape is not
    that of the first step, a gradient of another shape than x, or rates that would give x another shape.

    >>> from optcourse.optim import SGD
    >>> step = stepper(SGD, lr=torch.tensor([[0.1], [0.5]]), momentum=0.9)
    >>> step(torch.ones(2, 1), torch.ones(2, 1)).flatten()
    tensor([0.9000, 0.5000])
    """
    check_element_wise("method", method)

    def update(x: Tensor, g: Tensor, *slots: Tensor, numbers: dict, group: dict) -> tuple[Tensor, ...]:
        if isinstance(lr, Tensor) and not _fits(lr.shape, x.shape):
            raise ValueError(f"lr must broadcast to the shape of x, got {list(lr.shape)} for {list(x.shape)}")
        return method.update(x, g, *slots, **method.scalars(**numbers, **group))

    return _with_state(method, update, lr, settings)


class RowRule:
    """An element-wise ``method`` of ``optcourse.optim`` with its state outside: a pure function of rows.

    ``rule = RowRule(Adam, betas=(0.9, 0.99))``; ``state = rule.start(x)`` for rows x ``[rows, ...]`` is a list of
    tensors, each with a row for every row of x: the method's vectors, and ``[rows, 1]`` for what it counts, the same in
    all rows. ``x, state = rule(x, gradient, state, lr)`` is one step with the rate ``lr``, a number or a tensor that
    broadcasts against x. ``settings`` are those of the method. Raises ``TypeError`` for a method that is more than its
    pure function ``update`` (one that looks at layers, as LARS), and the method's own errors for bad settings.

    >>> from optcourse.optim import SGD
    >>> rule, x = RowRule(SGD, momentum=0.5), torch.ones(2, 1)
    >>> x, state = rule(x, torch.ones(2, 1), rule.start(x), lr=0.1)
    >>> x, state = rule(x, torch.ones(2, 1), state, lr=0.1)
    >>> x.flatten(), state[0].flatten()
    (tensor([0.7500, 0.7500]), tensor([1.5000, 1.5000]))
    """

    def __init__(self, method: type[Any], **settings: Any) -> None:
        check_element_wise("method", method)
        self._method = method
        checker = method([nn.Parameter(torch.zeros(1))], **settings)
        self._group = dict(checker.defaults)
        self._first = list(checker.initial_slots(self._group).values())

    def start(self, x: Tensor) -> list[Tensor]:
        """The state before the first step."""
        counts = [torch.full((len(x), 1), float(c), dtype=torch.float64) for c in self._method.counters.values()]
        return [torch.full_like(x, first) for first in self._first] + counts

    def __call__(self, x: Tensor, g: Tensor, state: list[Tensor], lr: float | Tensor) -> tuple[Tensor, list[Tensor]]:
        """One step: the new rows and the new state."""
        method, group, n_slots = self._method, {**self._group, "lr": lr}, len(self._first)
        counters = zip(method.counters.items(), state[n_slots:], strict=True)
        numbers = method.count(group, **{name: type(first)(float(t[0])) for (name, first), t in counters})
        g = -g if group.get("maximize") else g
        x, *slots = method.update(x, g, *state[:n_slots], **method.scalars(**numbers, **group))
        counts = [torch.full_like(t, float(n)) for n, t in zip(numbers.values(), state[n_slots:], strict=True)]
        return x, slots + counts


def check_element_wise(name: str, method: Any) -> None:
    """Raise ``TypeError`` unless the argument ``name`` is an optimizer of this package that acts entry by entry."""
    if getattr(method, "update_blocks", None) is not FlatOptimizer.update_blocks:
        raise TypeError(f"{name} must be an element-wise optimizer of optcourse.optim, got {method!r}")


def _with_state(
    method: type[Any], update: Callable[..., tuple[Tensor, ...]], lr: float | Tensor, settings: dict[str, Any]
) -> Callable[[Tensor, Tensor], Tensor]:
    """A step that keeps the method's slots and counters: ``update(x, g, *slots, numbers=..., group=...)``."""
    x, extremes = [torch.nn.Parameter(torch.zeros(1))], _numbers("lr", lr).aminmax()
    checker, _ = (method(x, lr=float(rate), **settings) for rate in extremes)
    group = {**checker.defaults, "lr": lr}
    numbers, slots, shape = dict(method.counters), [], None

    def step(x: Tensor, gradient: Tensor) -> Tensor:
        nonlocal numbers, slots, shape
        _check_shapes(shape, x, gradient)
        if shape is None:
            slots = [torch.full_like(x, initial) for initial in checker.initial_slots(group).values()]
        shape, numbers = x.shape, method.count(group, **numbers)
        gradient = -gradient if group.get("maximize") else gradient
        x, *slots = update(x, gradient, *slots, numbers=numbers, group=group)
        return x

    return step


def layer_stepper(net: nn.Module, *, shared: bool = False) -> Callable[..., Callable[[Tensor, Tensor], Tensor]]:
    """:func:`stepper` for what looks at layers or wraps another optimizer: LARS, LAMB, Muon, Lookahead, torch's own.

    ``layer_stepper(net)(method, lr=lr, **settings)`` is a function ``x, gradient -> next x`` for rows x ``[rows, d]``,
    parameters of networks of net's shape. ``method(parameters, lr=..., **settings)`` makes the optimizer of one row,
    whose rate is ``lr[row]`` at each step; one rate is that of all rows. Slower than :func:`stepper`: except for LARS,
    LAMB, SGDP and AdamP, whose ``update_rows`` takes all rows at once, the optimizers step one after the other. With
    ``shared``, rows of one rate have one optimizer, several times faster: only for a method that looks at every
    parameter by itself (Muon), not for SAM or a clipped norm.

    Raises ``ValueError`` for another number of rates, rates of one optimizer that part later, and for shapes as
    :func:`stepper`.

    >>> from optcourse.optim import SGD, Lookahead
    >>> halfway = lambda parameters, lr: Lookahead(SGD(parameters, lr=lr), k=1)
    >>> step = layer_stepper(nn.Linear(1, 1))(halfway, lr=torch.tensor([[0.2], [1.0]]))
    >>> step(torch.ones(2, 2), torch.ones(2, 2))
    tensor([[0.9000, 0.9000],
            [0.5000, 0.5000]])
    """
    parameters = list(net.parameters())

    def new_step(
        method: Callable[..., Any], *, lr: float | Tensor, **settings: Any
    ) -> Callable[[Tensor, Tensor], Tensor]:
        home, slope, optimizers, teams = torch.empty(0), torch.empty(0), [], []
        _numbers("lr", lr)

        def rates(rows: int) -> Tensor:
            found = torch.as_tensor(lr).reshape(-1, 1)
            if len(found) not in (1, rows):
                raise ValueError(f"lr must be one rate, or one for each of the {rows} rows of x, got {len(found)}")
            return found

        if "update_rows" in getattr(method, "__dict__", ()):  # its own, and not of the class that it refines
            layers = Layers([p.shape for p in parameters])

            def together(x: Tensor, g: Tensor, *slots: Tensor, numbers: dict, group: dict) -> tuple[Tensor, ...]:
                group = group | {"lr": rates(len(x))}
                return cast(Any, method).update_rows(layers, x, g, *slots, numbers=numbers, group=group)

            return _with_state(cast(Any, method), together, lr, settings)

        def step(x: Tensor, gradient: Tensor) -> Tensor:
            nonlocal home, slope, teams
            _check_shapes(home.shape if optimizers else None, x, gradient)
            now = rates(len(x)).expand(len(x), 1).flatten().tolist()
            if not optimizers:
                home, slope = torch.empty_like(x), torch.empty_like(x)
                layers, slopes = split(parameters, home), split(parameters, slope)
                alike = {rate: [row for row in range(len(x)) if now[row] == rate] for rate in now}
                teams = [*alike.values()] if shared else [[row] for row in range(len(x))]
                for team in teams:
                    own = [nn.Parameter(layer[row]) for row in team for layer in layers]
                    for p, its in zip(own, [its[row] for row in team for its in slopes], strict=True):
                        p.grad = its
                    optimizers.append(method(own, lr=now[team[0]], **settings))
            home.copy_(x)
            slope.copy_(gradient)
            for optimizer, team in zip(optimizers, teams, strict=True):
                if len({now[row] for row in team}) > 1:
                    raise ValueError(
                        "lr must stay equal for rows that share an optimizer, got different rates for them"
                    )
                for group in optimizer.param_groups:
                    group["lr"] = now[team[0]]
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
            _check_shapes(None if slow is None else slow.shape, x, gradient)
            slow = x.clone() if slow is None else slow  # the caller may write into x, here and below
            x, steps = fast(x, gradient), steps + 1
            if steps % k == 0:
                slow = torch.lerp(slow, x, alpha)
                x = slow.clone()
            return x

        return step

    return around


def ascent(rho: float | Tensor, p: float = 2) -> Callable[[Tensor], Tensor]:
    r"""SAM's perturbation row by row: gradients ``[rows, d]`` -> the ε that maximizes ⟨ε, g⟩ over ``‖ε‖_p <= rho``.

    The formula is that of :class:`optcourse.optim.SAM`, with 1/p + 1/q = 1. ``rho`` may differ by row, ``[rows, 1]``;
    where it is zero, or the gradient is, so is ε, and NaN where a NaN makes it unknown. Raises ``ValueError`` for
    rho < 0, p < 1, and a rho that is neither one number nor ``[rows, 1]``.

    >>> ascent(0.5)(torch.tensor([[3.0, -4.0], [0.0, 0.0]]))
    tensor([[ 0.3000, -0.4000],
            [ 0.0000,  0.0000]])
    """
    radius = _numbers("rho", rho, 0.0)
    p = p if p == math.inf else real("p", p, 1.0)

    def direction(g: Tensor) -> Tensor:
        if p == math.inf:
            return torch.where(g.isnan(), g, g.sgn())
        u = g / g.abs().amax(1, keepdim=True).clamp_min(torch.finfo(g.dtype).tiny)  # so that no power overflows
        if p == 1:
            place = u.abs().argmax(1, keepdim=True)
            top = u.gather(1, place)
            return (0 * u).scatter(1, place, torch.where(top.isnan(), top, top.sgn()))
        if p == 2:  # below all powers are then squares, roots and u itself
            return u / u.square().sum(1, keepdim=True, dtype=torch.float64).sqrt().clamp_min(1).to(u)
        q = p / (p - 1)
        length = (u.abs() ** q).sum(1, keepdim=True, dtype=torch.float64) ** (1 / p)  # at least 1, or the row is zero
        return u.sgn() * u.abs() ** (q - 1) / length.clamp_min(1).to(u)

    def climb(g: Tensor) -> Tensor:
        if radius.numel() != 1 and radius.shape != (len(g), 1):
            raise ValueError(
                f"rho must be one number or have shape [rows, 1], got {list(radius.shape)} for {len(g)} rows"
            )
        wide = g.to(torch.promote_types(g.dtype, torch.float32))
        return (radius.to(wide) * direction(wide)).to(g.dtype)

    return climb


def _numbers(name: str, value: float | Tensor, low: float = -math.inf) -> Tensor:
    """The real number, or the tensor of them, detached; what is below ``low`` or none at all is refused.

    Of a tensor without ``low`` only that it holds numbers is checked.
    """
    if not isinstance(value, Tensor):
        return torch.as_tensor(real(name, value, low), dtype=torch.float64)
    if value.dtype == torch.bool or value.numel() == 0:
        raise TypeError(f"{name} must hold real numbers, got {value!r}")
    if low > -math.inf:
        real(name, value.detach().cpu().numpy(), low)
    return value.detach()


def _fits(small: torch.Size, large: torch.Size) -> bool:
    """Whether shape ``small`` broadcasts to ``large``; ``torch.broadcast_shapes`` takes longer than a whole step."""
    ends = zip(reversed(small), reversed(large), strict=False)
    return len(small) <= len(large) and all(n in (1, m) for n, m in ends)


def _check_shapes(first: torch.Size | None, x: Tensor, gradient: Tensor) -> None:
    """The state belongs to one shape, and would broadcast against another without a word."""
    if first is not None and x.shape != first:
        raise ValueError(f"x must keep its shape {list(first)}, got {list(x.shape)}")
    if gradient.shape != x.shape:
        raise ValueError(f"gradient must have the shape {list(x.shape)} of x, got {list(gradient.shape)}")
