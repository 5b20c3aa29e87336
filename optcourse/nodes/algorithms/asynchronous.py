r"""Asynchronous SGD: the server applies a gradient when it arrives, however old it is.

The schedule (who computes at which version) is given, simulated or recorded, so that a run has one result. The plain
way to get it is a loop over updates that evaluates one gradient each. Here a gradient is evaluated when it is needed,
together with those of all other nodes that are under way: a row of ``grad`` has the same bits in every batch, hence so
have the iterates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from optcourse.arguments import positive
from optcourse.nodes.algorithms.algorithm import Gradient, Iterates, algorithm
from optcourse.nodes.algorithms.step_sizes import rate
from optcourse.nodes.makers import as_called, maker
from optcourse.nodes.network.network import Network
from optcourse.nodes.time.schedule import Schedule

#: The largest step size for a gradient that is ``delay`` updates old: ``limit(delay) -> float``.
Limit = Callable[[int], float]


@algorithm
def async_sgd(
    net: Network, grad: Gradient, x: Tensor, lr: float, schedule: Schedule, limit: Limit | None = None
) -> Iterates:
    r"""Asynchronous SGD: :math:`x_{k+1}=x_k-\gamma_k\,g_i(x_{k-d_k})`, node i and delay :math:`d_k` from ``schedule``.

    All rows of x are the server's model, and equal at the start. Yields after every update, and ends with the
    schedule. :math:`\gamma_k` is ``lr``, or min(lr, limit(d_k)), for example with :func:`delay_adaptive`.

    Nodes need their gradients at different times, so ``grad(x, rows)`` is called with ``rows``, int64 [m], increasing
    positions among the own rows, and the m points at which these nodes compute; only their streams may move on. Per
    update one vector of d numbers from the node to the server; a clock of the network shows the times of the schedule.
    Bound: ``theory.asynchrony.async_bound``. Source: Nedic, Bertsekas & Borkar 2001, "Distributed asynchronous
    incremental subgradient methods"; Agarwal & Duchi 2011, "Distributed delayed stochastic optimization".

    Raises ``ValueError`` for another number of nodes in the schedule, rows of x that differ, a limit that is not
    positive, or a gradient that is not finite when it is applied; ``TypeError`` for a limit that is no function of the
    delay, or the maker of one.
    """
    if not isinstance(schedule, Schedule):
        raise TypeError(f"schedule must be a Schedule for {net.n} nodes, got {schedule!r}")
    if schedule.n_nodes != net.n:
        raise ValueError(f"schedule must have n_nodes = {net.n}, got {schedule.n_nodes}")
    if (x != x[:1]).any():
        raise ValueError("x must have equal rows, the model of the server, got rows that differ")
    if limit is not None:
        as_called("limit", limit, "limit(delay)", 0)
    rounds = net.rounds()  # what is above is checked at the call
    jobs, (batches, places, depth) = schedule.jobs, _planned(schedule)
    readers = defaultdict(list)
    for j, job in enumerate(jobs):
        readers[job.read].append(j)
    first = int(net.mine[0]) if net.rows else 0

    def row(j: int) -> int:
        return jobs[j].node - first

    def own(numbers: list[int]) -> list[int]:
        return sorted((j for j in numbers if 0 <= row(j) < net.rows), key=row)

    # What each own node works on, at most depth gradients: the point where it computes one, later the gradient.
    work = net.initial("work", x[:, None].repeat(1, depth, 1))
    slots = work.view(net.rows * depth, -1)
    slot = [row(j) * depth + places[j] for j in range(len(jobs))]
    for k in rounds:
        if k >= len(jobs):
            return
        if batch := own(batches.get(k, [])):
            where = torch.tensor([slot[j] for j in batch])
            slots[where] = grad(slots[where], where // depth)
        g = slots[slot[k]][None] if 0 <= row(k) < net.rows else torch.empty_like(x[:1])
        g = _from_owner(net, jobs[k].node, g)
        x = update(x[:1], g, rate(lr, k), k - jobs[k].read, limit)
        for j in own(readers[k + 1]):
            slots[slot[j]] = x[0]
        net.bytes_sent[jobs[k].node] += g.nbytes
        if net.clock:
            net.clock.times = torch.full_like(net.clock.times, jobs[k].time)
        x = x.expand(net.rows, -1)
        yield x


def update(x: Tensor, g: Tensor, lr: float | Tensor, delay: int, limit: Limit | None) -> Tensor:
    """x - min(lr, limit(delay)) g: what the server does with a gradient, in the simulator and in a recorded run.

    Raises ``ValueError`` for a gradient that is not finite and a limit that is not positive.
    """
    if not (torch.isfinite(g.sum()) or torch.isfinite(g).all()):  # the sum first: it is the faster question
        raise ValueError(f"gradients must be finite, got NaN or infinity with delay {delay}")
    if limit is None:
        return x - lr * g
    largest = float(positive(limit=limit(delay))[0])
    return x - (lr.clamp(max=largest) if isinstance(lr, Tensor) else min(lr, largest)) * g


@maker
def delay_adaptive(L: float, c: float = 0.5) -> Limit:
    r"""Steps of at most :math:`c/(L\,\mathrm{delay})`, and 1/L for a fresh gradient: old gradients count less.

    One slow node then no longer dictates the step size of all. With c = 1/2 each step is the largest that
    ``theory.asynchrony.async_bound`` allows if all delays were this long. The known guarantees are orders, for smaller
    c. Source: Mishchenko, Bach, Even & Woodworth 2022, "Asynchronous SGD beats minibatch SGD under arbitrary delays".

    Raises ``ValueError`` unless L, c > 0.

    >>> limit = delay_adaptive(L=2.0)
    >>> limit(0), limit(5)
    (0.5, 0.05)
    """
    positive(L=L, c=c)
    return lambda delay: min(1.0, c / delay) / L if delay else 1 / L


# ------------------------------------------------------------------------------------ planning ahead


def _planned(schedule: Schedule) -> tuple[dict[int, list[int]], list[int], int]:
    """{k: the jobs that are evaluated right before update k}, at most one per node, in the order of the node.

    Then where a node keeps each of its jobs, and how many it has at most between reading and delivery.
    """
    jobs = schedule.jobs
    of_node: list[list[int]] = [[] for _ in range(schedule.n_nodes)]
    for j, job in enumerate(jobs):
        of_node[job.node].append(j)
    batches, done, queues = {}, set(), [own[::-1] for own in of_node]
    for k in range(len(jobs)):
        if k not in done:
            batches[k] = [queue.pop() for queue in queues if queue and jobs[queue[-1]].read <= k]
            done.update(batches[k])
    places, depth = [0] * len(jobs), 1
    for own in of_node:
        oldest = 0  # the first that is still under way when the next one is read
        for number, j in enumerate(own):
            while own[oldest] < jobs[j].read:
                oldest += 1
            depth = max(depth, number - oldest + 1)
            places[j] = number
    return batches, [number % depth for number in places], depth


def _from_owner(net: Network, node: int, g: Tensor) -> Tensor:
    """The row that the owner of ``node`` holds, in all processes: each of them plays the server."""
    if net.world == 1:
        return g
    ends = torch.tensor(net.split).cumsum(0)
    owner = int(torch.searchsorted(ends, node, right=True))
    others = [r for r in range(net.world) if r != net.rank]
    send, receive = (dict.fromkeys(others, g), {}) if net.rank == owner else ({}, {owner: g})
    net.wire.start_exchange(send, receive)()
    return g
