"""How an equation meets memory: one pass over flat vectors, compiled or in pieces that fit into the cache."""

from __future__ import annotations

import contextlib
import functools
import types
import warnings
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import torch
import torch.fx.experimental._config
from torch import Tensor
from torch.autograd.graph import increment_version

from optcourse.optim.engine.replay import replay

#: A tensor of this many elements is worth a call of its own: it is updated where it lies, by a compiled kernel with
#: ``compile=True`` (seconds, once), else by a rule that is read before it runs (:mod:`optcourse.optim.engine.replay`).
LARGE = 16_384
#: Smaller ones share a vector shorter than this, and where a rule runs as it is, longer ones go through it in pieces of
#: this length: the temporaries of an equation then stay in the cache.
CACHE = 131_072
#: Large tensors per call of a compiled kernel: a call costs some 30 µs, whatever it computes.
BUNDLE = 8


def average(old: Tensor, new: Tensor, beta: float | Tensor) -> Tensor:
    """The running average ``beta * old + (1 - beta) * new`` of Adam and its relatives.

    ``torch.lerp`` does it in one pass, but wants a plain number; the compiler fuses the sum anyway.
    """
    if isinstance(beta, Tensor):
        return beta * old + (1 - beta) * new
    return torch.lerp(old, new, 1 - beta)


def axpy(a: float | Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``a * x + y``, which torch does in one pass when ``a`` is a plain number."""
    if isinstance(a, Tensor):
        return a * x + y
    return torch.add(y, x, alpha=a)


def damped(g: Tensor, dampening: float | Tensor) -> Tensor:
    """``(1 - dampening) * g``, and no work when there is no dampening."""
    if not isinstance(dampening, Tensor) and dampening == 0:
        return g
    return (1 - dampening) * g


def l2(x: Tensor, g: Tensor, weight_decay: float | Tensor) -> Tensor:
    """The gradient of ``f(x) + weight_decay / 2 * ||x||^2``: the penalty enters through the gradient."""
    if not isinstance(weight_decay, Tensor) and weight_decay == 0:
        return g
    return axpy(weight_decay, x, g)


def decay(
    x: Tensor, g: Tensor, lr: float | Tensor, *, weight_decay: float | Tensor, decoupled: bool, **_: Any
) -> tuple[Tensor, Tensor]:
    """``x`` and ``g`` under weight decay: of the parameter itself (decoupled), or through the gradient."""
    return (damped(x, lr * weight_decay), g) if decoupled else (x, l2(x, g, weight_decay))


def working_dtype(t: Tensor) -> torch.dtype:
    """The precision to compute in: float32 for bfloat16 and float16, else the tensor's own."""
    return torch.float32 if t.dtype in (torch.bfloat16, torch.float16) else t.dtype


#: What one call of a rule writes, and what it reads.
Job = tuple[Sequence[Tensor], Sequence[Tensor]]


def elementwise(
    rule: Callable[..., tuple[Tensor, ...]], jobs: Sequence[Job], scalars: dict[str, Any], compile: bool = False
) -> None:
    """``outputs <- rule(*inputs, **scalars)`` in place for every job, for a rule that treats every element alike.

    ``outputs`` and ``inputs`` of one job are vectors of one length (inputs may also be 0-dim) and may be the
    same tensors. bfloat16 and float16 are computed in float32 and rounded once, at the end.
    Compiled kernels are used from :data:`LARGE` elements on, where a compiler works.
    """
    eager, large = [], []
    for job in jobs:
        (large if compile and job[0][0].numel() >= LARGE else eager).append(job)
    if large and not _failures:
        try:
            _run_compiled(rule, large, scalars)
        except Exception as error:
            if not isinstance(error, RuntimeError) and not type(error).__module__.startswith("torch."):
                raise  # the rule's own
            _give_up(error)
    for outputs, inputs in eager + large:
        if outputs[0].numel() < LARGE or not replay(rule, scalars, outputs, inputs):
            _run_in_pieces(rule, outputs, inputs, scalars)


def _run_in_pieces(rule: Callable, outputs: Sequence[Tensor], inputs: Sequence[Tensor], scalars: dict) -> None:
    if outputs[0].device.type != "cpu" or outputs[0].numel() <= CACHE:
        return _write(rule, outputs, inputs, scalars)
    tensors = [t.split(CACHE) if t.dim() else repeat(t) for t in (*outputs, *inputs)]
    for pieces in zip(*tensors, strict=False):
        _write(rule, pieces[: len(outputs)], pieces[len(outputs) :], scalars)


def _write(rule: Callable, outputs: Sequence[Tensor], inputs: Sequence[Tensor], scalars: dict[str, Any]) -> None:
    inputs = [t.to(working_dtype(t)) for t in inputs]
    for old, new in zip(outputs, rule(*inputs, **scalars), strict=True):
        old.copy_(new)


def _run_compiled(rule: Callable, jobs: list[Job], scalars: dict[str, Any]) -> None:
    """Run all ``jobs`` and remove them from the list; what an error leaves there was not touched."""
    # Numbers travel as one float64 tensor: as Python numbers they would be compiled in, and every
    # new learning rate would compile again. Switches (bool) do select another kernel.
    switches = tuple((name, value) for name, value in scalars.items() if isinstance(value, bool))
    names = tuple(name for name, value in scalars.items() if not isinstance(value, bool))
    numbers = torch.tensor([float(scalars[name]) for name in names], dtype=torch.float64)
    numbers = numbers.to(jobs[0][0][0].device)
    jobs.sort(key=_form)  # stable: the gradients made last, still in the cache, first
    while jobs:
        bundle = jobs[:BUNDLE]
        if len(bundle) < BUNDLE or _form(bundle[0]) != _form(bundle[-1]):
            bundle = bundle[:1]
        tensors = tuple((t.dtype, t.device) for ts in bundle[0] for t in ts)
        kernel = _kernel(rule, names, switches, (*tensors, *_form(bundle[0])), len(bundle))
        # A view brings the tensor that it is a view of, and every other shape of one would compile again.
        bare = {id(t): t.data for job in bundle for ts in job for t in ts}
        # Without "duck shapes": tensors that have one length by chance shall not need one for ever.
        first = torch.fx.experimental._config.patch(use_duck_shape=False)  # pyright: ignore[reportAttributeAccessIssue]: made at run time
        with contextlib.nullcontext() if kernel in _compiled else first:
            kernel([tuple([bare[id(t)] for t in ts] for ts in job) for job in bundle], numbers)
        _compiled.add(kernel)
        increment_version(t for outputs, _ in bundle for t in outputs if not t.is_inference())
        del jobs[: len(bundle)]


_compiled: set[Callable] = set()


def _form(job: Job) -> list[tuple]:
    """What a compiled kernel is bound to: the number of axes, and whether a tensor begins where its memory does."""
    return [(t.dim(), min(t.storage_offset(), 2)) for t in job[1]]


@functools.cache
def _kernel(rule: Callable, names: tuple[str, ...], switches: tuple, kinds: tuple, jobs: int) -> Callable:
    def write(jobs: list[Job], numbers: Tensor) -> None:
        scalars = {**dict(zip(names, numbers.unbind(), strict=True)), **dict(switches)}
        for outputs, inputs in jobs:
            _write(rule, outputs, inputs, scalars)

    # torch limits recompilations per code object, so every kernel gets a copy of its own.
    code = write.__code__.replace(co_name=f"write_{rule.__qualname__}_{jobs}")
    own = types.FunctionType(code, write.__globals__, code.co_name, None, write.__closure__)
    return torch.compile(own, dynamic=True, fullgraph=True)


# torch.compile itself raises RuntimeError where it does not support the platform, and most exceptions of its front and
# back end (a missing C++ compiler among them) derive from it as well; a limit on recompilations is an Exception.
_failures: list[str] = []


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
