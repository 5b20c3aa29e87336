"""Gradients of many nodes through the compiler behind ``torch.compile``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from optcourse.runtime import progress

#: ``(x [c, d], X [c, B, ...], Y [c, B, ...])`` -> the gradients of a few nodes, ``[c, size]`` for each parameter.
Gradients = Callable[[Tensor, Tensor, Tensor], list[Tensor]]

#: So many shapes are compiled at most.
MOST_PROGRAMS = 8


def compiled(eager: Gradients) -> Gradients:
    """``eager``, its forward and backward pass traced into one graph and compiled at the first call.

    A program holds for one number of nodes and one shape of batches. The first ``MOST_PROGRAMS`` shapes get one; what
    comes with ever new shapes (asynchronous steps of few nodes) runs eagerly, since compiling would take longer than it
    saves. Where the compiler does not work, a ``RuntimeWarning`` says so once and ``eager`` takes over.

    What the model and the loss read besides their arguments is part of the program, as it was when traced: a constant
    that changes later, or a tensor that is replaced, is not seen (one that is changed in place is). Nor does a program
    look at labels: one outside the classes, at which ``eager`` raises, gives a wrong gradient.
    """
    programs: dict[tuple, Gradients] = {}
    works = True

    def gradients(x: Tensor, X: Tensor, Y: Tensor) -> list[Tensor]:
        nonlocal works
        key = tuple((t.shape, t.dtype, t.device) for t in (x, X, Y))
        if not works or (key not in programs and len(programs) == MOST_PROGRAMS):
            return eager(x, X, Y)
        try:
            if key not in programs:
                programs[key] = _compile(eager, x, X, Y)
            return programs[key](x, X, Y)
        except Exception as error:  # a compiler has many ways to fail
            parts = eager(x, X, Y)  # says what is wrong with the arguments, if that is the reason
            works, reason = False, str(error).strip().partition("\n")[0] or type(error).__name__
            warnings.warn(
                f"compile=True: torch's compiler does not work here ({reason}); gradients are computed eagerly, "
                "with the same results up to rounding but more slowly",
                RuntimeWarning,
                stacklevel=3,
            )
            return parts

    return gradients


def _compile(eager: Gradients, x: Tensor, X: Tensor, Y: Tensor) -> Gradients:
    from torch import _inductor  # a compiler that few need

    own = x.new_empty(x.shape)

    def arguments(x: Tensor, X: Tensor, Y: Tensor) -> list[Tensor]:
        # A program expects one layout. The parameters are copied in any case: products read their factors piece by
        # piece, and find them in the cache after one pass.
        return [own.copy_(x), X.contiguous(), Y.contiguous()]

    # The code between the kernels is C++ as well, so that a few nodes at a time are worth a call.
    options = {"cpp_wrapper": True} if x.device.type == "cpu" else None
    with progress([None], desc=f"compiling the gradients of {len(x)} nodes", delay=0.0):
        example: list[Any] = arguments(x, X, Y)
        graph = make_fx(eager)(*example)
        for node in graph.graph.nodes:
            node.meta.pop("val", None)  # notes of the tracer that the compiler would take for its own
        # The compiler itself: the checks of torch.compile at every call would take as long as two nodes.
        program: Any = _inductor.compile(graph, example, options=options)
        program(*example)  # now, and not at the first use, it does the rest of its work
    return lambda x, X, Y: program(*arguments(x, X, Y))
