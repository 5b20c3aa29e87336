r"""Simulated time: how long a round would take on n machines with given speeds and wires.

The cost model: a message of m bytes takes :math:`t_s+t_wm` seconds (latency and seconds per byte), a gradient takes
what the compute law says. Times are *max-plus*: a node starts when everything it waits for has arrived, so a mean
starts when the slowest node is ready, and a mixing round when the slowest neighbour is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from optcourse.arguments import integer, nonnegative, number, positive
from optcourse.nodes.makers import as_called, maker
from optcourse.nodes.streams import Streams, indices
from optcourse.theory.distributed.communication import communication_time

#: Seconds that gradient number ``call`` takes on each node: ``law(call) -> float64 Tensor[n]``, the same at every call.
Law = Callable[[int], Tensor]


class Interval(NamedTuple):
    """One bar of a Gantt chart: what ``node`` did from ``start`` to ``end`` seconds."""

    node: int
    start: float
    end: float
    kind: str  # "compute", "wait" or "communicate"


def duration(name: str, law: Law, call: int, n_nodes: int) -> Tensor:
    """What ``law`` says that gradient number ``call`` takes, float64 ``[n_nodes]``, checked: each time is >= 0."""
    times = torch.as_tensor(nonnegative(**{name: law(call)})[0])
    if times.shape != (n_nodes,):
        raise ValueError(f"{name} must give one time per node, shape [{n_nodes}], got shape {list(times.shape)}")
    return times


def as_law(name: str, law: Law) -> Law:
    """``law`` when it is a function of the call; ``TypeError`` otherwise, also for a maker of laws itself."""
    return as_called(name, law, f"{name}(call)", 0)


@maker
def constant(seconds: float | Sequence[float] | Tensor, n_nodes: int) -> Law:
    """Every gradient takes ``seconds``: a number, or one per node. Raises ``ValueError`` unless all are > 0.

    >>> constant([1.0, 2.0], 2)(7)
    tensor([1., 2.], dtype=torch.float64)
    """
    return _constant("seconds", seconds, integer("n_nodes", n_nodes, 1))


def _constant(name: str, seconds: ArrayLike | Tensor, n: int) -> Law:
    (times,) = positive(**{name: seconds})
    if times.shape not in ((), (n,)):
        raise ValueError(f"{name} must be a number or have shape [{n}], got shape {list(times.shape)}")
    fixed = torch.as_tensor(times).expand(n).clone()
    return lambda call: fixed


@maker
def exponential(mean: float, n_nodes: int, seed: int = 0, minimum: float = 0.0) -> Law:
    """``minimum`` plus an exponential time, ``mean`` seconds together: a node that is now and then held up.

    Raises ``ValueError`` unless mean > minimum >= 0.

    >>> law = exponential(1.0, 4, seed=3)
    >>> bool((law(5) == law(5)).all()), law(5).shape
    (True, torch.Size([4]))
    """
    minimum = number("minimum", minimum, 0)
    mean = number("mean", mean, minimum, open_low=True)
    n, block = integer("n_nodes", n_nodes, 1), 256

    @cache
    def seconds(number: int) -> Tensor:
        u = Streams(f"clock {number}", seed, range(n)).uniform(block, dtype=torch.float64)
        return minimum - (mean - minimum) * torch.log1p(-u)

    return lambda call: seconds(integer("call", call, 0) // block)[:, call % block]


@maker
def stragglers(law: Law, nodes: Sequence[int], factor: float) -> Law:
    """``law`` with ``nodes`` slower by ``factor`` >= 1. Raises ``ValueError`` for less, or for other nodes.

    >>> stragglers(constant(1.0, 3), [2], 5.0)(0)
    tensor([1., 1., 5.], dtype=torch.float64)
    """
    as_law("law", law)
    factor = number("factor", factor, 1)
    slow = indices("nodes", nodes, len(law(0)))

    def slower(call: int) -> Tensor:
        times = law(call).clone()
        times[slow] *= factor
        return times

    return slower


class Clock:
    """The time of each node, in simulated seconds. Hand one to ``Network(n, clock=...)``.

    ``compute`` is a law, or the seconds of one gradient (a number, or one per node); ``latency`` in seconds and
    ``seconds_per_byte`` describe every wire; ``pattern`` is the algorithm of a dense mean, one of
    ``theory.communication.PATTERNS`` (compressed messages and gathers use an all-gather). ``record=True`` keeps
    ``timeline``, a list of :class:`Interval`. Every process keeps the times of all n nodes: a pure function of the law
    and of the bytes, which costs no message. Raises ``ValueError`` for times that are negative (for one gradient, or
    0) or not finite, and for an unknown pattern; ``TypeError`` for what is no number and no law.

    >>> clock = Clock(compute=[1.0, 3.0], latency=0.5).bind(2)
    >>> clock.compute(); clock.mean(n_bytes=100); clock.times.tolist()
    [4.0, 4.0]
    """

    def __init__(
        self,
        *,
        compute: Law | float | Sequence[float] | Tensor = 1.0,
        latency: float = 0.0,
        seconds_per_byte: float = 0.0,
        pattern: str = "ring",
        record: bool = False,
    ) -> None:
        self.latency = number("latency", latency, 0)
        self.seconds_per_byte = number("seconds_per_byte", seconds_per_byte, 0)
        self._law = as_law("compute", compute) if callable(compute) else positive(compute=compute)[0]
        self.pattern, self.record = pattern, record
        self.timeline: list[Interval] = []
        self.calls = 0
        self.times = torch.zeros(0, dtype=torch.float64)
        self._seconds = partial(communication_time, latency=self.latency, seconds_per_byte=self.seconds_per_byte)
        self._seconds(pattern=pattern, n_nodes=1, message_bytes=1.0)  # refuses an unknown pattern now

    def bind(self, n_nodes: int) -> Clock:
        """Set all n nodes to time 0 (``Network`` does this). Returns itself."""
        law = self._law if callable(self._law) else _constant("compute", self._law, n_nodes)
        self.law = partial(duration, "compute", law, n_nodes=n_nodes)
        self.law(0)  # refuses another number of nodes now
        self.times = torch.zeros(n_nodes, dtype=torch.float64)
        self.calls, self.timeline = 0, []
        return self

    @property
    def now(self) -> float:
        """When the last node is done, in seconds."""
        return float(self.times.max())

    def compute(self) -> None:
        """Every node computes one gradient."""
        self._advance(self.times, self.law(self.calls), "compute")
        self.calls += 1

    def mean(self, n_bytes: float, among: Tensor | None = None, pattern: str | None = None) -> None:
        """A mean over all nodes, or those in the mask ``among`` [n]: starts when the slowest is ready."""
        self.finish(self.after_mean(n_bytes, among, pattern))

    def mix(self, heard: Sequence[Tensor], n_bytes: float) -> None:
        """Node i waits for the nodes ``heard[i]`` and receives ``n_bytes`` from each, one after the other."""
        self.finish(self.after_mix(heard, n_bytes))

    def after_mean(
        self,
        n_bytes: float,
        among: Tensor | None = None,
        pattern: str | None = None,
        handed: float | None = None,
        since: Tensor | None = None,
    ) -> tuple:
        """(start, end) times [n] of a mean that starts now, or started at ``since`` [n]; :meth:`finish` waits for them.

        With ``handed`` those outside are then given so many bytes, by those inside, each of whom serves one after the
        other; as in :meth:`mix`, a message takes the time of who receives it.
        """
        n_bytes = number("n_bytes", n_bytes, 0)
        times = self.times if since is None else since
        inside = torch.ones_like(times, dtype=torch.bool) if among is None else among
        begin = torch.where(inside, times[inside].max(), times)
        seconds = self._seconds(pattern=pattern or self.pattern, n_nodes=int(inside.sum()), message_bytes=n_bytes)
        end = begin + float(seconds) * inside.double()
        if handed is not None:
            message, turn = self.latency + handed * self.seconds_per_byte, ((~inside).cumsum(0) - 1) // inside.sum()
            begin = torch.where(inside, begin, torch.maximum(times, end[inside].max() + turn * message))
            end = torch.where(inside, end, begin + message)
        return begin, end

    def after_mix(self, heard: Sequence[Tensor], n_bytes: float) -> tuple:
        """(start, end) times [n] of a mixing round that starts now."""
        n_bytes = number("n_bytes", n_bytes, 0)
        counts = torch.tensor([len(j) for j in heard])
        hears, arrives = torch.arange(len(counts)).repeat_interleave(counts), self.times[torch.cat([*heard]).long()]
        begin = self.times.scatter_reduce(0, hears, arrives, "amax")
        return begin, begin + counts.double() * (self.latency + n_bytes * self.seconds_per_byte)

    def finish(self, window: tuple) -> None:
        """Wait until a communication ``(start, end)`` is over; what was computed meanwhile costs no extra time."""
        begin, end = window
        begin, end = torch.maximum(begin, self.times), torch.maximum(end, self.times)
        self._advance(self.times, begin - self.times, "wait")
        self._advance(begin, end - begin, "communicate")

    def _advance(self, start: Tensor, seconds: Tensor, kind: str) -> None:
        end = start + seconds
        if self.record:
            bars = zip(start.tolist(), end.tolist(), strict=True)
            self.timeline += [Interval(i, s, e, kind) for i, (s, e) in enumerate(bars) if e > s]
        self.times = end
