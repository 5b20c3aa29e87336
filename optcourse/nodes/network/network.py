"""n nodes, simulated or real: the leading axis of every tensor is "my nodes".

A network of n nodes is owned by w processes, each of which holds about n/w rows. One process that owns all rows *is*
the simulator; under ``torchrun`` the same lines of an algorithm run on real processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from optcourse.arguments import integer, number
from optcourse.nodes.messages.payloads import Message, received
from optcourse.nodes.network.averaging import price, read, silent, total, weighted_sum, weights
from optcourse.nodes.network.checks import described, is_dense, known_to_clocks, refuse_undecorated
from optcourse.nodes.network.edges import Edges
from optcourse.nodes.network.mixing import Route
from optcourse.nodes.network.progress import Progress
from optcourse.nodes.network.wire import NodeFailed, Wire, split_rows
from optcourse.nodes.time.clock import Clock

__all__ = ["Network", "NodeFailed", "Pending", "known_to_clocks"]


@dataclass(frozen=True)
class Pending:
    """A communication that is under way; ``wait()`` blocks until its result is there, and returns it."""

    wait: Callable[[], Tensor]


class Network(Progress):
    """n nodes, of which this process owns the rows ``mine``.

    Parameters
    ----------
    n : the number of nodes, at least the number of processes (which need not divide it).
    exact : sum in node order, so that every number of processes gives the same bits. It gathers all rows everywhere;
        otherwise real processes add with the backend's all-reduce, in its order.
    clock : a ``Clock`` for simulated time, or None.
    timeout : seconds after which a silent process counts as lost (:class:`NodeFailed`).

    Attributes: ``n``; ``mine``, the numbers of the own nodes, int64 ``[rows]``; ``rows``; ``rank`` and ``world``;
    ``round``, counted by the running algorithm; ``bytes_sent``, float64 ``[n]``: what each node has sent, counted from
    the payload tensors (a dense mean as a ring all-reduce, 2(n-1)/n vectors; anything gathered n-1 messages; mixing
    and exchange one message per edge; those who average also send the result to those who do not); ``wire_bytes``: what
    this *process* handed to the network, 0 in the simulator. With one node per process the two agree for plain
    collectives; on the loopback interface TCP and gloo add less than 2 % to payloads from 100 kB on. ``wire`` is the
    connection of this process to the others.

    Raises ``ValueError`` for n below the number of processes, or an n or ``exact`` that differs between them.

    >>> net = Network(4)
    >>> x = torch.arange(8.0).reshape(4, 2)
    >>> net.mean(x), net.bytes_sent.tolist()
    (tensor([[3., 4.]]), [12.0, 12.0, 12.0, 12.0])
    """

    def __init__(self, n: int, exact: bool = False, clock: Clock | None = None, timeout: float = 30.0) -> None:
        self.wire = Wire(number("timeout", timeout, 0, open_low=True))
        self.rank, self.world, self.exact = self.wire.rank, self.wire.world, bool(exact)
        self.n = integer("n", n, 1)
        self.wire.agree("n", [self.n])
        self.wire.agree("exact", [int(self.exact)])
        if self.n < self.world:
            raise ValueError(f"n must be at least the number of processes, {self.world}, got {n}")
        self.split = split_rows(self.n, self.world)
        self.wire.split = self.split
        first = sum(self.split[: self.rank])
        self.mine = torch.arange(first, first + self.split[self.rank])
        self.rows = len(self.mine)
        self.bytes_sent = torch.zeros(self.n, dtype=torch.float64)
        if not isinstance(clock, Clock | None):
            raise TypeError(f"clock must be a Clock or None, got {clock!r}")
        self.clock = clock.bind(self.n) if clock else None
        super().__init__()

    @cached_property
    def _route(self) -> Callable[[Tensor, int, str], Route]:
        # By identity, as tensors hash, and by version: W may be changed in place.
        split, rank = self.split, self.rank
        return lru_cache(64)(lambda W, version, stochastic: Route(W, split, rank, stochastic))

    def __getstate__(self) -> dict[str, Any]:
        """A function of a notebook that mentions a network travels to other processes; what is cached stays here."""
        return {name: value for name, value in vars(self).items() if name != "_route"}

    @property
    def wire_bytes(self) -> int:
        """Bytes that this process handed to the network."""
        return self.wire.sent

    # ------------------------------------------------------------------ collectives

    def mean(self, q: Tensor | Message, weight: Tensor | None = None, hand_out: bool = True) -> Tensor:
        """sum_j weight_j q_j over all n nodes, with weight_j = 1/n by default: shape ``[1, ...]``.

        One row, which broadcasts over the own nodes. ``weight`` [n] is used as given: for the mean of those that are
        ``alive`` say ``weight=alive / alive.sum()``. Nodes of weight 0 send nothing; the others give them the result,
        in bytes and time as well, unless ``hand_out`` is False: for a result that they do not use. Raises
        ``ValueError`` for a wrong shape or a sum that is not finite.
        """
        return self.start_mean(q, weight, hand_out).wait()

    def mix(self, W: Tensor, q: Tensor | Message, stochastic: str = "doubly") -> Tensor:
        """sum_j W_ij q_j for the own nodes i: ``[rows, ...]``; a row travels only to nodes that weigh it.

        ``W`` [n, n], dense or CSR, is doubly stochastic, or where an algorithm says so ``stochastic`` in its "columns"
        or "rows" alone; one that is not raises ``ValueError``, as does a wrong shape or a sum that is not finite, and
        ``TypeError`` if it is no tensor. Sparse from 64 nodes on.
        """
        return self.start_mix(W, q, stochastic).wait()

    def gather(self, q: Tensor | Message) -> Tensor:
        """What every node sees when all send everything to all: ``[n, ...]`` in node order, all dense at once.

        For what needs all rows, as a median does; :meth:`mean` reads messages some at a time.
        """
        self._refuse_undecorated()
        parts, n_bytes = self._parts("q", q)
        self.bytes_sent += (self.n - 1) * n_bytes
        waits = [self.wire.start_gather(t) for t in parts]
        if self.clock:
            self.clock.mean(n_bytes, pattern="all_gather")
        everyone = received(q, [wait() for wait in waits])
        return self._finite(everyone, lambda: silent(everyone, [everyone]))

    def observe(self, x: Tensor) -> Tensor:
        """The rows of all nodes, ``[n, ...]``, to look at: not counted, not checked, and without simulated time."""
        sent = self.wire.sent
        everyone = self.wire.start_gather(self.check_rows("x", x))()
        self.wire.sent = sent
        return everyone

    def lost(self) -> int | None:
        """The rank of a process that fell silent, None when all tick; takes up to a quarter of ``timeout``."""
        return self.wire.culprit()

    def start_mean(
        self,
        q: Tensor | Message,
        weight: Tensor | None = None,
        hand_out: bool = True,
        since: Tensor | None = None,
    ) -> Pending:
        """:meth:`mean` that goes on in the background.

        With ``since`` [rows, 1], what :meth:`own_times` was when this mean was asked for before, it is asked for again,
        by a run that was interrupted meanwhile: its bytes are counted already.
        """
        self._refuse_undecorated()
        parts, n_bytes = self._parts("q", q)
        weight, sends = weights(weight, self.n)
        each, handed = price(q, n_bytes, sends, hand_out)
        begun = None if since is None else self.observe(since)[:, 0]
        pattern = "all_gather" if isinstance(q, Message) else None
        times = self.clock.after_mean(n_bytes, sends, pattern, handed, begun) if self.clock else None
        whole, sent = self.exact or isinstance(q, Message) or self.world == 1, self.wire.sent
        if whole:
            waits = [self.wire.start_gather(t.contiguous()) for t in parts]
        else:
            share = parts[0].sum(0) if weight is None else weighted_sum(weight[self.mine], parts[0])
            waits = [self.wire.start_sum(share)]
        if since is None:
            self.bytes_sent += each * sends.double()
        else:
            self.wire.sent = sent

        def wait() -> Tensor:
            got = [wait() for wait in waits]
            summed = total(q, got, weight) if whole else got[0]
            result = summed if whole or weight is not None else summed / self.n
            if self.clock and times:
                self.clock.finish(times)
            return self._finite(result.unsqueeze(0), (lambda: silent(q, got) & sends) if whole else None)

        return Pending(wait)

    def own_times(self) -> Tensor:
        """The simulated time of each own node, float64 ``[rows, 1]``; 0 without a clock."""
        times = self.clock.times if self.clock else torch.zeros(self.n, dtype=torch.float64)
        return times[self.mine, None].clone()

    def start_mix(self, W: Tensor, q: Tensor | Message, stochastic: str = "doubly") -> Pending:
        """:meth:`mix` that goes on in the background."""
        self._refuse_undecorated()
        parts, n_bytes = self._parts("q", q)
        if not isinstance(W, Tensor):
            raise TypeError(f"W must be a tensor, got {type(W).__name__}")
        route = self._route(W, W._version, stochastic)
        self.bytes_sent += route.receivers * n_bytes
        times = self.clock.after_mix(route.heard, n_bytes) if self.clock else None
        waits = [route.start(self.wire, t) for t in parts]

        def wait() -> Tensor:
            got = [wait() for wait in waits]
            mixed = route.apply(read(q, got), self.exact)
            if self.clock and times:
                self.clock.finish(times)
            return self._finite(mixed, lambda: silent(q, got), route.columns)

        return Pending(wait)

    def exchange(self, edges: Sequence[tuple[int, int]], messages: Tensor | Message) -> Tensor:
        """Point to point: one message per directed edge (sender, receiver).

        ``edges`` lists *all* edges, the same in every process; ``messages`` has one row for each edge whose sender is
        an own node, in the order of ``edges``. Returns one row for each edge whose receiver is an own node, in that
        order. Raises ``ValueError`` for another number of rows or nodes outside 0..n-1.
        """
        self._refuse_undecorated()
        route = Edges(edges, self.split, self.rank)
        parts, n_bytes = self._parts("messages", messages, rows=route.rows)
        self.bytes_sent.index_add_(0, route.senders, torch.full((len(route.senders),), n_bytes, dtype=torch.float64))
        if self.clock:
            self.clock.mix(route.heard(self.n), n_bytes)
        return self._finite(received(messages, [route.deliver(self.wire, t) for t in parts]), None)

    # ------------------------------------------------------------------ checks

    def check_rows(self, name: str, t: Tensor, rows: int | None = None) -> Tensor:
        """``t`` when it is a dense floating-point tensor with one row per own node; else ``ValueError``."""
        rows = self.rows if rows is None else rows
        if not is_dense(t) or t.dim() < 1 or len(t) != rows:
            wanted = f"a dense floating-point tensor of shape [{rows}, ...]"
            raise ValueError(f"{name} must be {wanted}, got {described(t)}")
        return t

    def agree(self, name: str, t: Tensor) -> None:
        """:meth:`check_rows`, and the same d >= 1 and dtype in all processes; else ``ValueError`` in every one."""
        right = is_dense(t) and t.dim() == 2 and len(t) == self.rows and t.shape[1] > 0
        try:
            self.wire.agree(f"the shape of {name}", [*t.shape[1:], t.element_size()] if right else [-1])
        finally:
            self.check_rows(name, t)  # this process's own mistake is said more clearly
            if not right:
                raise ValueError(f"{name} must have shape [{self.rows}, d] with d >= 1, got {list(t.shape)}")

    def _refuse_undecorated(self) -> None:
        """With a clock, a generator that calls must be an algorithm: its gradients would take no time."""
        if self.clock:
            refuse_undecorated(self)

    def _parts(self, name: str, q: Tensor | Message, rows: int | None = None) -> tuple[list[Tensor], float]:
        """The tensors that travel, and the bytes of one row of them."""
        if isinstance(q, Message):
            if len(q) != (self.rows if rows is None else rows):
                raise ValueError(f"{name} must have {self.rows if rows is None else rows} rows, got {len(q)}")
            parts = list(q.payload)
        else:
            parts = [self.check_rows(name, q, rows)]
        return parts, float(sum(math.prod(t.shape[1:]) * t.element_size() for t in parts))  # for 0 rows as well

    def _finite(self, result: Tensor, silent: Callable[[], Tensor] | None, names: Tensor | None = None) -> Tensor:
        """``result`` when it is finite; else ``ValueError``, which names the first of those that are ``silent``."""
        if torch.isfinite(result.sum()) or torch.isfinite(result).all():
            return result
        culprits = silent().nonzero()[:, 0] if silent else torch.empty(0, dtype=torch.int64)
        culprits = culprits if names is None else names[culprits]
        who = f"node {int(culprits[0])}" if len(culprits) else "a node"
        raise ValueError(f"messages must be finite: {who} sent NaN or infinity in round {self.round}")
