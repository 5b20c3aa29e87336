"""How an equation meets memory: one pass over flat vectors, compiled or in pieces that fit into the cache."""

from __future__ import annotations

import functools
import types
import warnings
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

#: From this many elements on, calling a kernel costs less than copying into a shared buffer, and
#: compiling one (seconds, once) may pay; below it, small parameters share a buffer and run eagerly.
LARGE = 100_000
#: Elements per piece in eager mode: the temporaries of an equation then stay in the cache.
PIECE = 131_072


def average(old: Tensor, new: Tensor, beta: float | Tensor) -> Tensor:
    """The running average ``beta * old + (1 - beta) * new`` of Adam and its relatives.

    ``torch.lerp`` does it in one pass, but wants a plain number; the compiler fuses the sum anyway.
    """
    if isinstance(beta, Tensor):
        return beta * old + (1 - beta) * new
    return torch.lerp(old, new, 1 - beta)


def l2(x: Tensor, g: Tensor, weight_decay: float | Tensor) -> Tensor:
    """The gradient of ``f(x) + weight_decay / 2 * ||x||^2``: the penalty enters through the gradient."""
    if not isinstance(weight_decay, Tensor) and weight_decay == 0:
        return g
    return g + weight_decay * x


def working_dtype(t: Tensor) -> torch.dtype:
    """The precision to compute in: float32 for bfloat16 and float16, else the tensor's own."""
    return torch.float32 if t.dtype in (torch.bfloat16, torch.float16) else t.dtype


def elementwise(
    rule: Callable[..., tuple[Tensor, ...]],
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    scalars: dict[str, Any],
    compile: bool = False,
) -> None:
    """``outputs <- rule(*inputs, **scalars)`` in place, for a rule that treats every element alike.

    ``outputs`` and ``inputs`` are vectors of one length (inputs may also be 0-dim) and may be the
    same tensors. bfloat16 and float16 are computed in float32 and rounded once, at the end.
    Compiled kernels are used from :data:`LARGE` elements on, where a compiler works.
    """
    if compile and outputs[0].numel() >= LARGE and _compiler_works():
        try:
            return _run_compiled(rule, outputs, inputs, scalars)
        except _COMPILER_ERRORS as error:  # raised before anything was written
            _give_up(error)
    if outputs[0].device.type != "cpu" or outputs[0].numel() <= PIECE:
        return _write(rule, outputs, inputs, scalars)
    tensors = [t.split(PIECE) if t.dim() else repeat(t) for t in (*outputs, *inputs)]
    for pieces in zip(*tensors, strict=False):
        _write(rule, pieces[: len(outputs)], pieces[len(outputs) :], scalars)


def _write(rule: Callable, outputs: Sequence[Tensor], inputs: Sequence[Tensor], scalars: dict[str, Any]) -> None:
    inputs = [t.to(working_dtype(t)) for t in inputs]
    for old, new in zip(outputs, rule(*inputs, **scalars), strict=True):
        old.copy_(new)


def _run_compiled(rule: Callable, outputs: Sequence, inputs: Sequence, scalars: dict[str, Any]) -> None:
    # Numbers travel as one float64 tensor: as Python numbers they would be compiled in, and every
    # new learning rate would compile again. Switches (bool) do select another kernel.
    switches = {name: value for name, value in scalars.items() if isinstance(value, bool)}
    names = tuple(name for name in scalars if name not in switches)
    numbers = torch.tensor([float(scalars[name]) for name in names], dtype=torch.float64)
    _kernel(rule, names)(tuple(outputs), tuple(inputs), numbers.to(outputs[0].device), switches)


@functools.cache
def _kernel(rule: Callable, names: tuple[str, ...]) -> Callable:
    def write(outputs: tuple, inputs: tuple, numbers: Tensor, switches: dict[str, bool]) -> None:
        _write(rule, outputs, inputs, {**dict(zip(names, numbers.unbind(), strict=True)), **switches})

    # torch limits recompilations per code object, so every rule gets a copy of its own.
    code = write.__code__.replace(co_name=f"write_{rule.__qualname__}")
    own = types.FunctionType(code, write.__globals__, code.co_name, None, write.__closure__)
    return torch.compile(own, dynamic=True, fullgraph=True)


# torch.compile itself raises RuntimeError where it does not support the platform; the exceptions of
# its front and back end (a missing C++ compiler among them) derive from it as well.
_COMPILER_ERRORS = (RuntimeError,)
_failures: list[str] = []


def _compiler_works() -> bool:
    return not _failures


def _give_up(error: Exception) -> None:
    """Remember that compilation fails here, and say so once."""
    _failures.append(str(error))
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    warnings.warn(
        f"compile=True: torch.compile does not work here ({reason.strip()}); the optimizers run eagerly, with the "
        "same results up to rounding but more slowly. A C++ compiler on the PATH (or in the variable CXX) enables it.",
        RuntimeWarning,
        stacklevel=2,
    )
