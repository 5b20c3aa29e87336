"""Checks of arguments, said once: every error names the argument, the value and the allowed range."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np


def real(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> Any:
    """Return ``value`` when it is a finite real number (or an array of them) in the interval.

    ``open_low`` and ``open_high`` exclude the end points. Raises ``TypeError`` for a value
    that is no number and ``ValueError`` for one outside the interval.
    """
    if isinstance(value, float) and low < value < high:  # nearly always, and once or more in each step of a training
        return value
    if isinstance(value, (bool, str)) or value is None:
        raise TypeError(f"{name} must be a real number, got {value!r}")
    try:
        array = np.asarray(value)
        if array.dtype.kind in "cUS":  # numpy would drop the imaginary part, and read a text
            raise TypeError
        array = array.astype(float, copy=False)
    except (TypeError, ValueError, RuntimeError):  # the last for tensors with a graph
        raise TypeError(f"{name} must be a real number, got {value!r}") from None
    inside = np.isfinite(array)
    inside &= array > low if open_low else array >= low
    inside &= array < high if open_high else array <= high
    if not inside.all():
        left = "(" if open_low or math.isinf(low) else "["
        right = ")" if open_high or math.isinf(high) else "]"
        worst = value if isinstance(value, Real) else array[~inside].flat[0].item()
        raise ValueError(f"{name} must be in {left}{low:g}, {high:g}{right}, got {worst!r}")
    return value if isinstance(value, Real) else array


def number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """``value`` as a float when it is *one* number in the interval, as :func:`real`; ``TypeError`` for several."""
    checked = real(name, value, low, high, open_low=open_low, open_high=open_high)
    if np.ndim(checked):
        raise TypeError(f"{name} must be one real number, got {value!r}")
    return float(checked)


def positive(**values: Any) -> tuple[np.ndarray, ...]:
    """Every value is a finite number > 0, or an array of them; returned as float arrays in order."""
    return tuple(np.asarray(real(name, value, 0.0, open_low=True), dtype=float) for name, value in values.items())


def nonnegative(**values: Any) -> tuple[np.ndarray, ...]:
    """Every value is a finite number >= 0, or an array of them; returned as float arrays in order."""
    return tuple(np.asarray(real(name, value, 0.0), dtype=float) for name, value in values.items())


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int when it is an integer in ``low..high`` (both included)."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if int(value) < low or (high is not None and int(value) > high):
        allowed = f"at least {low}" if high is None else f"in {low}..{high}"
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return int(value)


def function(name: str, value: Any, like: str) -> Any:
    """Return ``value`` when it can be called; ``like`` says which function it should be: "of the round"."""
    if not callable(value):
        raise TypeError(f"{name} must be a function {like}, got {value!r}")
    return value


def choice(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """Return ``value`` when it is one of ``allowed``."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value
