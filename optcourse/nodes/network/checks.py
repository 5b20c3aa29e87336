"""What every collective asks of a tensor and of its caller, and how messages describe a tensor."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

import torch
from torch import Tensor


def is_dense(t: Any) -> bool:
    """Whether t is a dense floating-point tensor."""
    return isinstance(t, Tensor) and t.is_floating_point() and t.layout == torch.strided


def described(t: Any) -> str:
    """A tensor by dtype and shape, anything else as it prints itself: for messages."""
    if not isinstance(t, Tensor):
        return repr(t)
    return f"{t.dtype} of {'' if t.layout == torch.strided else f'layout {t.layout} and '}shape {list(t.shape)}"


_known: set[CodeType] = set()


def known_to_clocks(rule: Callable[..., Any]) -> None:
    """Let ``rule`` use networks that have a clock."""
    _known.add(inspect.unwrap(rule).__code__)


def refuse_undecorated(net: Any) -> None:
    """Raise ``TypeError`` if a generator that is part of no algorithm lets ``net`` work.

    It may call the network itself, or have it as a variable while a function calls that; below a generator that is an
    algorithm everything may.
    """
    frame, culprit, direct = sys._getframe(1), None, True
    while frame:
        code, here = frame.f_code, frame.f_globals.get("__package__") == __package__
        generator = code.co_flags & inspect.CO_GENERATOR and code.co_name != "<genexpr>" and not here
        if generator and code in _known:
            return
        if generator and not culprit and (direct or any(value is net for value in frame.f_locals.values())):
            culprit = code.co_name
        direct = direct and (here or code.co_name == "<genexpr>")
        frame = frame.f_back
    if culprit:
        raise TypeError(
            f"{culprit} must be made an algorithm (@nodes.algorithm) for a network with a clock: "
            "otherwise its gradients take no time"
        )
