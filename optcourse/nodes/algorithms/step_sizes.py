"""Step sizes: a number, one for each coordinate, or a function of the round that behaves like what it gives there."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optcourse.arguments import positive
from optcourse.nodes.network.checks import described
from optcourse.nodes.network.progress import Place


def step_size(lr: Any, x: Tensor, place: Place) -> float | Tensor | Varying:
    """``lr`` as a number, as a tensor of shape () or [d] with the dtype and device of x, or as one that varies."""
    if isinstance(lr, Varying):  # of an algorithm that this one is part of: its law, in the rounds of this one
        return Varying(lr.law, x, place)
    return Varying(lr, x, place) if callable(lr) else _fixed(lr, x)


class Varying:
    """The step size of a rule, ``law(k)`` in round k: in arithmetic it is that of the round in which the rule is.

    Operators, comparisons, ``float`` and functions of torch take it for the number or tensor that it is then; before
    the first round of ``net.rounds()`` it is none, which raises ``ValueError``. Its methods it has as :func:`rate`.
    """

    __array_ufunc__ = None  # numbers of numpy leave their operators to this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, law: Callable[[int], Any], x: Tensor, place: Place) -> None:
        self.law, self._x, self._place = law, x, place
        self._last: tuple[int, float | Tensor] = 0, _fixed(law(0), x)  # a bad one fails at the call

    def at(self, k: int) -> float | Tensor:
        """That of round k, checked."""
        if self._last[0] != k:
            self._last = k, _fixed(self.law(k), self._x)
        return self._last[1]

    @property
    def now(self) -> float | Tensor:
        """That of the current round."""
        if self._place.round is None:
            raise ValueError(
                "lr must be a number where no round has begun, got a function of the round: "
                "loop `for k in net.rounds():`, and use lr inside"
            )
        return self.at(self._place.round)

    def __float__(self) -> float:
        """That of the current round, when it is one number."""
        return float(self.now)

    def __format__(self, how: str) -> str:
        """That of the current round, as its format wants it."""
        return format(self.now, how)

    def __getattr__(self, name: str) -> Any:
        """What only numbers or tensors have: an error that says where they are."""
        raise AttributeError(f"lr is a function of the round and has no {name}; nodes.rate(lr, k), its value, may")

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: tuple = (), options: dict[str, Any] | None = None
    ) -> Any:
        """Functions of torch, and its operators with a tensor on the left."""
        return function(*map(_now, args), **{name: _now(value) for name, value in (options or {}).items()})


def _now(value: Any) -> Any:
    return value.now if isinstance(value, Varying) else value


def _operator(name: str, function: Callable[..., Any], reflected: bool = False) -> None:
    def both(self: Varying, *other: Any) -> Any:
        values = [_now(value) for value in (self, *other)]
        return function(*reversed(values) if reflected else values)

    setattr(Varying, f"__{name}__", both)


for _name in ("neg", "pos", "abs", "lt", "le", "gt", "ge", "eq", "ne"):
    _operator(_name, getattr(operator, _name))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    _operator(_name, getattr(operator, _name))
    _operator(f"r{_name}", getattr(operator, _name), reflected=True)


def rate(lr: float | Tensor | Varying, k: int) -> float | Tensor:
    """The step size of round k as it is, a number or a tensor of shape () or [d], whatever ``lr`` a rule was given."""
    return lr.at(k) if isinstance(lr, Varying) else lr


def _fixed(lr: Any, x: Tensor) -> float | Tensor:
    """``lr`` as a number, or as a tensor of shape () or [d] with the dtype and device of x."""
    if not isinstance(lr, (Tensor, np.ndarray)):
        (lr,) = positive(lr=lr)
        if not lr.ndim:
            return float(lr)
    sizes = torch.as_tensor(lr).detach()
    if sizes.is_complex() or sizes.dtype == torch.bool or sizes.layout != torch.strided:
        raise TypeError(f"lr must be a real number, or a tensor of them, got {described(sizes)}")
    positive(lr=sizes.double().cpu().numpy())
    if sizes.shape not in ((), x.shape[1:]):
        raise ValueError(f"lr must be a number or have shape [{x.shape[1]}], got shape {list(sizes.shape)}")
    return sizes.to(x)
