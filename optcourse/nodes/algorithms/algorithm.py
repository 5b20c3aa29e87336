"""What all distributed algorithms share: arguments are checked at the call, gradients take simulated time."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from optcourse.arguments import function, integer
from optcourse.nodes.algorithms.step_sizes import step_size
from optcourse.nodes.graphs.topology import check_mixing
from optcourse.nodes.network.checks import described
from optcourse.nodes.network.network import Network, known_to_clocks
from optcourse.nodes.network.progress import Place

#: grad(x) for all own nodes, and where an algorithm needs it grad(x, rows) for some.
Gradient = Callable[..., Tensor]
Iterates = Iterator[Tensor]

#: Every algorithm of the package by name, for the command line and for tests that run them all.
ALGORITHMS: dict[str, Callable[..., Iterates]] = {}


def algorithm(rule: Callable[..., Iterates]) -> Callable[..., Iterates]:
    """Make a generator function ``rule(net, grad, x, lr, ...)`` an algorithm.

    The call checks ``x`` (floating point, [rows, d], d >= 1, the same d and dtype in all processes) and ``lr`` (> 0: a
    number, or a tensor or array of shape () or [d], which is cast to the dtype and device of x) before the first
    iterate is asked for, every gradient for its shape, and every iterate. The algorithms of the package check all their
    arguments at the call, that of others with the first iterate. Nothing is differentiated: x, lr and gradients are
    detached. With a clock in the network a gradient costs what the compute law says; a generator that is not an
    algorithm is refused there (``TypeError``), since its gradients would cost nothing.

    ``lr`` may also be a function of the round k = 0, 1, ... that gives such a size (``lambda k: 0.1 / (k + 1)``): in
    the rule ``lr * g``, ``lr / 2`` and so on are then those of the round in which ``net.rounds()`` is, and :func:`rate`
    gives it as it is. A rule without ``net.rounds()`` has no round for it (``ValueError``).

    Raises ``TypeError`` for a ``rule`` that is no generator function.

    >>> @algorithm
    ... def halving(net, grad, x, lr):
    ...     for _ in net.rounds():
    ...         x = net.mean(x - lr * grad(x)).expand_as(x)
    ...         yield x
    >>> iterates = halving(Network(2), torch.ones_like, torch.zeros(2, 1), lr=lambda k: 0.5**k)
    >>> [float(x[0]) for x in islice(iterates, 3)]
    [-1.0, -1.5, -1.75]
    """

    if not inspect.isgeneratorfunction(rule) or not hasattr(inspect.unwrap(rule), "__code__"):
        raise TypeError(
            f"rule must be a generator function, which yields its iterates (those of another one by yield from), "
            f"got {getattr(rule, '__qualname__', repr(rule))}"
        )
    ours = (rule.__module__ or "").startswith(f"{__package__}.")

    @functools.wraps(rule)
    def start(net: Network, grad: Gradient, x: Tensor, lr: Any, *args: Any, **options: Any) -> Iterates:
        net.agree("x", x)
        x, place = x.detach(), net.new_place()
        lr = step_size(lr, x, place)
        function("grad", grad, "of x")
        try:
            inspect.signature(rule).bind(net, grad, x, lr, *args, **options)  # a wrong option fails here, not at next()
        except TypeError as error:
            raise TypeError(f"{rule.__name__} {error}") from None

        def gradient(x: Tensor, rows: Tensor | None = None) -> Tensor:
            x = x.detach()  # its own tensor: grad may ask it to require a gradient
            g = grad(x) if rows is None else grad(x, rows)
            if not isinstance(g, Tensor) or (g.shape, g.dtype, g.layout) != (x.shape, x.dtype, x.layout):
                raise ValueError(f"grad must return a tensor like x, {described(x)}, got {described(g)}")
            if net.clock and rows is None and not counted:
                net.clock.compute()
            return g.detach()

        counted = getattr(grad, "counted_by", None) is net  # by the algorithm that this one is part of
        vars(gradient)["counted_by"] = net
        if ours:
            args, options = tuple(map(_kept, args)), {name: _kept(value) for name, value in options.items()}
            _check(rule, net, gradient, x, lr, *args, **options)
        return Run(net, place, rule(net, gradient, x, lr, *args, **options), x)

    known_to_clocks(rule)
    if ours:
        ALGORITHMS[rule.__name__] = start
    return start


class Run(Iterator[Tensor]):
    """One run of an algorithm: its iterates, each asked for where the run is, whatever else uses the network."""

    def __init__(self, net: Network, place: Place, rule: Any, x: Tensor) -> None:
        self.net, self.place, self._rule, self._x, self._taken = net, place, rule, x, 0

    def __next__(self) -> Tensor:
        """The next iterate, checked."""
        with self.net.at_work(self.place, self._taken):
            x = next(self._rule)
        self._taken += 1
        if not isinstance(x, Tensor) or x.shape != self._x.shape:
            wanted = f"tensors of shape {list(self._x.shape)}, like x"
            raise ValueError(f"{self._rule.__name__} must yield {wanted}, got {described(x)}")
        return x

    @property
    def variables(self) -> dict[str, Any]:
        """Those of the rule, and of generators whose iterates it passes on; empty when it has ended."""
        found, part = {}, self._rule
        while inspect.isgenerator(part) and part.gi_frame is not None:
            found |= part.gi_frame.f_locals
            part = part.gi_yieldfrom
        return found


class _Checked(Exception):
    """A rule has come to its first round."""


class _Before:
    """A network as a rule sees it before its first round."""

    def __init__(self, net: Network) -> None:
        self._net = net

    def __getattr__(self, name: str) -> Any:
        if name in ("initial", "rounds"):
            raise _Checked
        return getattr(self._net, name)


def _check(rule: Callable[..., Any], net: Network, *args: Any, **options: Any) -> None:
    """Run ``rule`` until it declares its memory or begins: all that it has to say about its arguments."""
    with contextlib.suppress(_Checked):
        next(rule(_Before(net), *args, **options))


def _kept(value: Any) -> Any:
    """An argument that can be read more than once."""
    return list(value) if isinstance(value, Iterator) else value


def memory(iterates: Iterates) -> dict[str, Any]:
    """What a running algorithm remembers: the variables that it declared with ``net.initial``, as they are now.

    {name: tensor with one row per own node, or a list of tensors}; empty before the first iterate, and for an algorithm
    without memory. Raises ``TypeError`` for what are not the iterates of an algorithm, or of one that has ended, and
    ``ValueError`` for a name that is not that of a variable.
    """
    variables = running(iterates).variables
    for name in (declared := running(iterates).place.memory):
        if name not in variables:
            raise ValueError(f"net.initial must get the name of the variable that its result becomes, got {name!r}")
    return {name: variables[name] for name in declared}


def running(iterates: Iterates) -> Run:
    """The run whose ``iterates`` these are; ``TypeError`` for others, and when it has ended."""
    if not isinstance(iterates, Run) or not iterates.variables:
        wanted = "those of an algorithm (@nodes.algorithm) that has not ended"
        raise TypeError(f"iterates must be {wanted}, got {iterates!r}")
    return iterates


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
