r"""Asynchronous SGD on real processes, recorded so that the simulator can replay it.

Process 0 is the server and owns no node; process r > 0 is node r - 1. Run it under ``torchrun`` after
``torch.distributed.init_process_group("gloo")``::

    rank = torch.distributed.get_rank()
    grad = problem(Streams("data", 0, [rank - 1])) if rank else None
    recorded = record_async(grad, torch.zeros(1, d), lr=0.1, updates=100)
    if recorded:
        schedule, iterates = recorded
        schedule.save("schedule.json")

In the simulator, ``async_sgd(Network(n), grad, x, lr, schedule)`` with streams of the same name and seed then gives
``iterates`` again, bit for bit: which gradient came first was chance, but it is written down.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from optcourse.arguments import integer, positive, real
from optcourse.nodes.algorithms.algorithm import Gradient
from optcourse.nodes.algorithms.asynchronous import Limit, update
from optcourse.nodes.network.wire import Wire
from optcourse.nodes.time.schedule import Job, Schedule

_STOP = -1


def record_async(
    grad: Gradient | None,
    x: Tensor,
    lr: float | Tensor | Callable[[int], float],
    updates: int,
    limit: Limit | None = None,
    timeout: float = 30.0,
) -> tuple[Schedule, Tensor] | None:
    """Run ``async_sgd`` on w - 1 workers and a server that applies gradients in the order in which they arrive.

    All processes call it. ``grad(x, rows)`` is the gradient of the *own* node, x ``[1, d]`` and rows ``[0]``; the
    server may pass None. ``x`` ``[1, d]`` is the start (the server's counts), ``lr`` and ``limit`` are as in
    ``async_sgd``. Process 0 returns (schedule, iterates ``[updates, d]``), the others None. Times are seconds on the
    server's clock: from sending the model to receiving the gradient, the way there and back included.

    Raises ``ValueError`` for fewer than two processes, x of another shape or different in shape between processes, and
    as ``async_sgd`` does; :class:`NodeFailed` in workers when the server is lost, and in the server when nobody but
    lost workers owes it a gradient (the others are served on), within ``timeout`` seconds each. A gradient for which
    the server waits longer counts as lost.
    """
    first = lr(0) if callable(lr) else lr
    positive(lr=first.cpu().numpy() if isinstance(first, Tensor) else first)
    updates = integer("updates", updates, 1)
    wire = Wire(float(real("timeout", timeout, 0, open_low=True)))
    if wire.world < 2:
        raise ValueError("record_async must run in at least two processes, a server and a worker, got one")
    wire.agree("the shape of x", [*x.shape, x.element_size()])
    if x.dim() != 2 or len(x) != 1 or not x.is_floating_point():
        raise ValueError(f"x must be a floating-point tensor of shape [1, d], got {x.dtype} {list(x.shape)}")
    if wire.rank == 0:
        return _serve(wire, x, lr, updates, limit)
    if grad is None:
        raise ValueError("grad must be given in every process but 0, got None")
    _work(wire, grad, x)
    return None


def _serve(
    wire: Wire, x: Tensor, lr: float | Tensor | Callable[[int], float], updates: int, limit: Limit | None
) -> tuple[Schedule, Tensor]:
    n_nodes, begin = wire.world - 1, time.perf_counter()
    under_way: dict[int, tuple[int, float]] = {}  # node -> (version that it reads, when it was sent)
    jobs: list[Job] = []
    unfinished: list[Job] = []
    iterates: list[Tensor] = []

    def give(node: int, version: int) -> None:
        under_way[node] = (version, time.perf_counter() - begin)
        wire.send(torch.tensor([version]), node + 1)
        wire.send(x, node + 1)

    for node in range(n_nodes):
        give(node, 0)
    while under_way:
        g = torch.empty_like(x)
        node = wire.receive(g) - 1
        now = time.perf_counter() - begin
        read, start = under_way.pop(node)
        job = Job(node, read, start, now, now)
        if len(jobs) == updates:
            unfinished.append(job)
        else:
            size = lr(len(jobs)) if callable(lr) else lr
            x = update(x, g, size, len(jobs) - read, limit)
            jobs.append(job)
            iterates.append(x[0])
            wire.at(len(jobs))
        if len(jobs) < updates:
            give(node, len(jobs))
        else:
            wire.send(torch.tensor([_STOP]), node + 1)
    return Schedule(n_nodes, tuple(jobs), tuple(unfinished)), torch.stack(iterates)


def _work(wire: Wire, grad: Gradient, x: Tensor) -> None:
    version, x, row = torch.zeros(1, dtype=torch.int64), x.clone(), torch.zeros(1, dtype=torch.int64)
    while True:
        wire.receive(version, sender=0)
        if version.item() == _STOP:
            return
        wire.at(int(version))
        wire.receive(x, sender=0)
        g = grad(x, row)
        if g.shape != x.shape or g.dtype != x.dtype:
            raise ValueError(
                f"grad must return a tensor like x, {x.dtype} {list(x.shape)}, got {g.dtype} {list(g.shape)}"
            )
        wire.send(g, 0)
