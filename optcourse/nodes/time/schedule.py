r"""Who computed what, when: the schedule of an asynchronous run, simulated or recorded.

A server holds the model. Version 0 is the start, and update k, one gradient of one node, makes version k + 1 of version
k. A node computes at the version that it was sent, however many updates happen meanwhile: their number is the *delay*.

>>> from optcourse.nodes.time.clock import constant
>>> run = asynchronous_schedule(constant([1.0, 2.5], 2), n_nodes=2, updates=5)
>>> [(job.node, job.read, job.time) for job in run.jobs]
[(0, 0, 1.0), (0, 1, 2.0), (1, 0, 2.5), (0, 2, 3.0), (0, 4, 4.0)]
>>> run.delays.tolist()
[0, 0, 2, 1, 0]
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from optcourse.arguments import choice, integer, number, real
from optcourse.nodes.streams import Streams
from optcourse.nodes.time.clock import Interval, Law, as_law, duration


class Job(NamedTuple):
    """One gradient: ``node`` computed it at version ``read`` from ``start`` to ``end``; it arrived at ``time`` (s)."""

    node: int
    read: int
    start: float
    end: float
    time: float


@dataclass(frozen=True)
class Schedule:
    """An asynchronous run of ``n_nodes`` nodes: update k applies the gradient ``jobs[k]``.

    ``unfinished`` lists the gradients that were under way when the last update was made; they are part of the picture
    but not of the result. A node delivers its gradients in the order in which it computes them, and ``read`` never
    decreases on a node.

    Raises ``ValueError`` for what cannot have happened: nodes outside 0..n-1, a version that did not exist when the
    gradient was started, times that run backwards, a node that computes two gradients at once or out of order.
    """

    n_nodes: int
    jobs: tuple[Job, ...]
    unfinished: tuple[Job, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot have happened."""
        integer("n_nodes", self.n_nodes, 1)
        for name in ("jobs", "unfinished"):
            object.__setattr__(self, name, tuple(Job(*job) for job in getattr(self, name)))
        _check(self)

    def __len__(self) -> int:
        """The number of updates."""
        return len(self.jobs)

    # ------------------------------------------------------------------ statistics

    @cached_property
    def nodes(self) -> Tensor:
        """Whose gradient update k applied: int64 ``[updates]``."""
        return torch.tensor([job.node for job in self.jobs], dtype=torch.int64)

    @cached_property
    def delays(self) -> Tensor:
        """Updates between reading and applying, k - read: int64 ``[updates]``."""
        return torch.tensor([k - job.read for k, job in enumerate(self.jobs)], dtype=torch.int64)

    @cached_property
    def counts(self) -> Tensor:
        """Updates that each node made: int64 ``[n]``."""
        return torch.bincount(self.nodes, minlength=self.n_nodes)

    @cached_property
    def node_delays(self) -> Tensor:
        """Mean delay of the gradients of each node: float64 ``[n]``, NaN for a node that made no update."""
        sums = torch.zeros(self.n_nodes, dtype=torch.float64)
        return sums.index_add_(0, self.nodes, self.delays.double()) / self.counts

    @cached_property
    def concurrency(self) -> Tensor:
        r"""Gradients under way when update k arrives, its own included: int64 ``[updates]``.

        Every update makes all others that are under way older by one. Hence the sum of ``concurrency - 1`` is that of
        all delays, with ``updates - read`` for the unfinished: n nodes that never rest have a mean delay of n - 1,
        whatever their speeds. Source: Koloskova, Stich & Jaggi 2022, "Sharper convergence guarantees for asynchronous
        SGD for distributed and federated learning".
        """
        change = torch.zeros(len(self) + 1, dtype=torch.int64)
        for k, job in enumerate(self.jobs):
            change[job.read] += 1
            change[k + 1] -= 1
        for job in self.unfinished:
            change[job.read] += 1
        return change[:-1].cumsum(0)

    # ------------------------------------------------------------------ pictures and files

    def intervals(self) -> list[Interval]:
        """The bars of a Gantt chart until the last update: compute, communicate, and wait where a node has no job."""
        bars: list[Interval] = []
        horizon = self.jobs[-1].time if self.jobs else 0.0
        done, delivered = [0.0] * self.n_nodes, [0.0] * self.n_nodes
        for node, read, start, end, time in (*self.jobs, *sorted(self.unfinished, key=lambda job: job.start)):
            issued = self.jobs[read - 1].time if read else 0.0
            sent = min(delivered[node], start)
            given = min(max(sent, issued), start)
            bars += [
                Interval(node, done[node], sent, "communicate"),
                Interval(node, sent, given, "wait"),
                Interval(node, given, start, "communicate"),
                Interval(node, start, end, "compute"),
            ]
            done[node], delivered[node] = end, time
        for node in range(self.n_nodes):
            bars.append(Interval(node, done[node], delivered[node], "communicate"))
            bars.append(Interval(node, max(done[node], delivered[node]), horizon, "wait"))
        clipped = [bar._replace(end=min(bar.end, horizon)) for bar in bars]
        return [bar for bar in clipped if bar.end > bar.start]

    def save(self, path: str | PathLike) -> None:
        """Write the schedule as JSON; times keep all their bits."""
        fields = {"n_nodes": self.n_nodes, "fields": Job._fields, "jobs": self.jobs, "unfinished": self.unfinished}
        Path(path).write_text(json.dumps(fields), encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike) -> Schedule:
        """Read what :meth:`save` wrote. Raises ``ValueError`` for a file without a schedule, or an impossible one."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if tuple(content["fields"]) != Job._fields:
                raise ValueError(f"its fields are {content['fields']}")
            return cls(content["n_nodes"], tuple(content["jobs"]), tuple(content["unfinished"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"path must name a possible schedule saved as JSON, got {str(path)!r}: {error}") from error


def asynchronous_schedule(
    law: Law,
    n_nodes: int,
    updates: int,
    latency: float = 0.0,
    assign: str = "fixed",
    seed: int = 0,
    show: Callable[[Iterable, str], Iterable] = lambda steps, _: steps,
) -> Schedule:
    """Simulate who delivers when: a pure function of its arguments.

    All nodes start at version 0 and time 0. Gradient number c of node i takes ``law(c)[i]`` seconds (``law`` as in
    ``clock``), then ``latency`` seconds to the server, which applies it at once and sends the new version out, again
    ``latency`` seconds. With ``assign="fixed"`` it goes back to the same node, so fast nodes make more updates. With
    "random" it goes to a node drawn uniformly, which computes what it was sent in that order: all nodes make equally
    many updates in expectation, and fast ones wait (Koloskova, Stich & Jaggi 2022). Of two gradients that arrive at
    the same time that of the lower node comes first: n nodes of one speed have delay n - 1 exactly, after the start.
    ``show(steps, name)`` may wrap the loop over the updates in a progress bar.

    Raises ``ValueError`` unless n_nodes >= 1, updates >= 0, latency >= 0 and the law gives one time >= 0 per node,
    ``TypeError`` for what is no number and no law.

    >>> from optcourse.nodes.time.clock import constant
    >>> asynchronous_schedule(constant(1.0, 3), n_nodes=3, updates=6).delays.tolist()
    [0, 1, 2, 2, 2, 2]
    """
    n, updates = integer("n_nodes", n_nodes, 1), integer("updates", updates, 0)
    as_law("law", law)
    latency = number("latency", latency, 0)
    choice("assign", assign, ["fixed", "random"])
    pick = Streams("assign", seed, [0])
    free, calls = [0.0] * n, [0] * n
    under_way: list[tuple[float, int, int, Job]] = []  # a heap: by time, then node, then order

    @lru_cache(maxsize=4096)
    def seconds(call: int) -> list[float]:
        return duration("law", law, call, n).tolist()

    def give(node: int, read: int, arrives: float) -> None:
        start = max(arrives, free[node])
        free[node] = end = start + seconds(calls[node])[node]
        heapq.heappush(under_way, (end + latency, node, calls[node], Job(node, read, start, end, end + latency)))
        calls[node] += 1

    for node in range(n):
        give(node, 0, 0.0)
    jobs: list[Job] = []
    for version in show(range(1, updates + 1), "schedule"):
        job = heapq.heappop(under_way)[-1]
        jobs.append(job)
        node = job.node if assign == "fixed" else int(pick.integers(n))
        give(node, version, job.time + latency)
    return Schedule(n, tuple(jobs), tuple(job for *_, job in sorted(under_way)))


def _check(schedule: Schedule) -> None:
    """Raise ``ValueError`` for a schedule that cannot have happened."""
    jobs, previous = schedule.jobs, {}
    done = [(f"jobs[{k}]", k, job) for k, job in enumerate(jobs)]
    rest = [(f"unfinished[{k}]", len(jobs), job) for k, job in enumerate(schedule.unfinished)]
    for where, newest, job in done + sorted(rest, key=lambda entry: entry[-1].start):
        node = integer(f"{where}: node", job.node, 0, schedule.n_nodes - 1)
        read = integer(f"{where}: read", job.read, 0, newest)
        start = real(f"{where}: start", job.start, 0)
        real(f"{where}: time", job.time, real(f"{where}: end", job.end, start))
        exists, last = (jobs[version - 1].time if version else 0.0 for version in (read, newest))
        if start < exists:
            raise ValueError(f"{where}: start must be at least {exists}, when version {read} came to be, got {start}")
        before = previous.get(node, Job(node, 0, 0.0, 0.0, 0.0))
        if start < before.end:
            finished = f"{before.end}, when node {node} finished its last one"
            raise ValueError(f"{where}: start must be at least {finished}, got {start}")
        if read < before.read or job.time < before.time:
            raise ValueError(f"{where}: node {node} must read and deliver in order, got {job} after {before}")
        if job.time < last:
            raise ValueError(f"{where} must not arrive before jobs[{newest - 1}] does, at {last} s, got {job.time}")
        previous[node] = job
