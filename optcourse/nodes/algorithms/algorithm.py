"""What all distributed algorithms share: arguments are checked at the call, gradients take simulated time."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optcourse.arguments import integer, positive
from optcourse.nodes.graphs.topology import check_mixing
from optcourse.nodes.network.checks import described
from optcourse.nodes.network.network import Network, known_to_clocks

#: grad(x) for all own nodes, and where an algorithm needs it grad(x, rows) for some.
Gradient = Callable[..., Tensor]
Iterates = Iterator[Tensor]

#: Every algorithm of the package by name, for the command line and for tests that run them all.
ALGORITHMS: dict[str, Callable[..., Iterates]] = {}


def algorithm(rule: Callable[..., Iterates]) -> Callable[..., Iterates]:
    """Make a generator function ``rule(net, grad, x, lr, ...)`` an algorithm.

    The call checks ``x`` (floating point, [rows, d], d >= 1, the same d and dtype in all processes) and ``lr`` (> 0: a
    number, or a tensor or array of shape () or [d], which is cast to the dtype and device of x) before the first
    iterate is asked for, and every gradient for its shape. Nothing is differentiated: x, lr and gradients are detached.
    With a clock in the network a gradient costs what the compute law says; a generator that is not an algorithm is
    refused there (``TypeError``), since its gradients would cost nothing.

    ``lr`` may also be a function of the round k = 0, 1, ... that gives such a size (``lambda k: 0.1 / (k + 1)``): in
    the rule ``lr * g`` is then that of the round in which ``net.rounds()`` is, and :func:`rate` gives it as it is.

    >>> @algorithm
    ... def halving(net, grad, x, lr):
    ...     for _ in net.rounds():
    ...         x = net.mean(x - lr * grad(x)).expand_as(x)
    ...         yield x
    >>> iterates = halving(Network(2), torch.ones_like, torch.zeros(2, 1), lr=lambda k: 0.5**k)
    >>> [float(x[0]) for x in islice(iterates, 3)]
    [-1.0, -1.5, -1.75]
    """

    @functools.wraps(rule)
    def start(net: Network, grad: Gradient, x: Tensor, lr: Any, *args: Any, **options: Any) -> Iterates:
        net.agree("x", x)
        x = x.detach()
        lr = Varying(net, lr, x) if callable(lr) else _step_size(lr, x)
        if not callable(grad):
            raise TypeError(f"grad must be a function of x, got {grad!r}")
        try:
            inspect.signature(rule).bind(net, grad, x, lr, *args, **options)  # a wrong option fails here, not at next()
        except TypeError as error:
            raise TypeError(f"{rule.__name__} {error}") from None
        net.memory.clear()

        def gradient(x: Tensor, rows: Tensor | None = None) -> Tensor:
            x = x.detach()  # its own tensor: grad may ask it to require a gradient
            g = grad(x) if rows is None else grad(x, rows)
            if not isinstance(g, Tensor) or (g.shape, g.dtype, g.layout) != (x.shape, x.dtype, x.layout):
                raise ValueError(f"grad must return a tensor like x, {described(x)}, got {described(g)}")
            if net.clock and rows is None:
                net.clock.compute()
            return g.detach()

        return rule(net, gradient, x, lr, *args, **options)

    known_to_clocks(rule)
    if (rule.__module__ or "").startswith(f"{__package__}."):
        ALGORITHMS[rule.__name__] = start
    return start


class Varying:
    """The step size of a rule, ``law(k)`` in round k: ``lr * t`` is that of the round in which the network is."""

    def __init__(self, net: Network, law: Callable[[int], Any], x: Tensor) -> None:
        self._net, self._law, self._x = net, law, x
        self.at(0)  # a bad one fails at the call

    def at(self, k: int) -> float | Tensor:
        """That of round k, checked."""
        return _step_size(self._law(k), self._x)

    def __mul__(self, t: Any) -> Any:
        """That of the current round, times t."""
        return self.at(self._net.round) * t

    __rmul__ = __mul__


def rate(lr: float | Tensor | Varying, k: int) -> float | Tensor:
    """The step size of round k, a number or a tensor of shape () or [d], for what is more than a product with it."""
    return lr.at(k) if isinstance(lr, Varying) else lr


def memory(iterates: Iterates) -> dict[str, Any]:
    """What a running algorithm remembers: the variables that it declared with ``net.initial``, as they are now.

    {name: tensor with one row per own node, or a list of tensors}; empty before the first iterate, and for an algorithm
    without memory. Raises ``TypeError`` for what is not the generator of an algorithm, or one that has ended.
    """
    frame = getattr(iterates, "gi_frame", None)
    if frame is None or not isinstance(frame.f_locals.get("net"), Network):
        raise TypeError(f"iterates must be those of an algorithm that has not ended, got {iterates!r}")
    variables = frame.f_locals
    return {name: variables[name] for name in variables["net"].memory}


def last_iterate(iterates: Iterates, steps: int) -> Tensor:
    """The iterate after ``steps`` more steps of an algorithm, for who does not look at those on the way.

    Raises ``ValueError`` for steps < 1, or more than there are before the algorithm ends (that of a schedule does).
    """
    steps, taken, last = integer("steps", steps, 1), 0, torch.empty(0)
    for taken, last in enumerate(islice(iterates, steps), 1):  # noqa: B007
        pass
    if taken < steps:
        raise ValueError(f"steps must be at most {taken}, the number of iterates that there were, got {steps}")
    return last


def in_turn(net: Network, W: Tensor | Sequence[Tensor], stochastic: str = "doubly") -> Callable[[int], Tensor]:
    """The mixing matrix of round k: ``W`` itself, or the matrices of a list in turn.

    Raises ``ValueError`` unless each is [n, n] and ``stochastic``, as in :func:`check_mixing`, and information reaches
    every node, ``TypeError`` for what is no tensor.
    """
    matrices = list(W) if isinstance(W, Sequence) else [W]
    if not matrices:
        raise ValueError("W must hold at least one matrix, got an empty list")
    if len(matrices) == 1:
        check_mixing(matrices[0], net.n, stochastic=stochastic)
    else:
        for matrix in matrices:
            check_mixing(matrix, net.n, connected=False, stochastic=stochastic)
        dense = [m.to_dense() if m.layout != torch.strided else m for m in matrices]
        check_mixing(torch.stack(dense).mean(0), net.n, stochastic=stochastic)
    return lambda k: matrices[k % len(matrices)]


def fixed(net: Network, W: Tensor) -> Tensor:
    """The mixing matrix of an algorithm that uses the same one in all rounds: ``W`` itself.

    Raises ``ValueError`` for a list, and as :func:`in_turn`.
    """
    if isinstance(W, Sequence):
        raise ValueError(
            f"W must be one matrix [{net.n}, {net.n}] for all rounds, got a {type(W).__name__} of {len(W)}"
        )
    check_mixing(W, net.n)
    return W


def _step_size(lr: Any, x: Tensor) -> float | Tensor:
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
