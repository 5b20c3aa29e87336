"""What every collective asks of a tensor, and how messages describe one."""

from __future__ import annotations

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
