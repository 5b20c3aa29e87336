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


def refuse_undecorated() -> None:
    """Raise ``TypeError`` if the first caller outside this folder is a generator that is no algorithm."""
    frame = sys._getframe(1)
    while frame and (frame.f_globals.get("__package__") == __package__ or frame.f_code.co_name == "<genexpr>"):
        frame = frame.f_back
    if frame and frame.f_code.co_flags & inspect.CO_GENERATOR and frame.f_code not in _known:
        raise TypeError(
            f"{frame.f_code.co_name} must be made an algorithm (@nodes.algorithm) for a network with a clock: "
            "otherwise its gradients take no time"
        )
