"""Rules and attacks that remember: what they keep from call to call, as tensors that a checkpoint can hold.

Such a function has an attribute ``history``: a list of tensors, empty before the first call. Who wraps the function
with ``functools.wraps`` shares the list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Tensor])


def remembering(function: Function, history: list[Tensor]) -> Function:
    """``function``, marked as one that keeps in ``history`` what it remembers."""
    vars(function)["history"] = history
    return function


def recalled(
    function: Callable[..., Tensor], past: list[Tensor], rows: int, *arguments: Any, **options: Any
) -> tuple[Tensor, list[Tensor]]:
    """``function(*arguments, **options)`` as it goes on from ``past``, and what it remembers then.

    ``past`` is empty for a new run, or what the last call gave; its tensors have ``rows`` equal rows, one per own node
    of a network, as a checkpoint wants it. Several runs may so share one function. A function without memory is called
    as it is.

    >>> import torch
    >>> history = []
    >>> def total(x):
    ...     history[:] = [x + sum(history)]
    ...     return history[0]
    >>> total = remembering(total, history)
    >>> first, past = recalled(total, [], 2, torch.ones(1))
    >>> second, past = recalled(total, past, 2, torch.ones(1))
    >>> first, second, past
    (tensor([1.]), tensor([2.]), [tensor([[2.],
            [2.]])])
    """
    history = getattr(function, "history", None)
    if history is None:
        return function(*arguments, **options), []
    history[:] = [t[0] for t in past]
    result = function(*arguments, **options)
    return result, [t.expand(rows, *t.shape) for t in history]
