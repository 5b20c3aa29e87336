"""Partial averaging, sum_j W_ij x_j: which rows must travel where, and the sum in three ways."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse as sparse
import torch
from torch import Tensor

from optcourse.nodes.graphs.sparse import as_torch, csr
from optcourse.nodes.graphs.topology import check_mixing
from optcourse.nodes.network.wire import Wire

#: From this many nodes on, and when at most a quarter of W is filled, the sum runs over the edges only.
SPARSE_FROM = 64


class Route:
    """One matrix W, prepared for the rows of one process.

    ``split`` lists the rows of each process. ``heard[i]`` are the nodes other than i whose row node i weighs;
    ``receivers`` [n] how many nodes weigh each node's row; ``columns`` the nodes whose rows this process needs.
    Raises ``ValueError`` unless W is doubly stochastic.
    """

    def __init__(self, W: Tensor, split: list[int], rank: int) -> None:
        n = sum(split)
        check_mixing(W, n, connected=False)  # a round of a schedule may be disconnected
        S = csr(W)
        bounds = np.concatenate([[0], np.cumsum(split)])
        mine = slice(bounds[rank], bounds[rank + 1])
        off = S - sparse.diags(S.diagonal())
        off.eliminate_zeros()
        off = off.tocsr()
        self.receivers = torch.as_tensor(np.bincount(off.indices, minlength=n), dtype=torch.float64)
        self.heard = [torch.as_tensor(off.indices[off.indptr[i] : off.indptr[i + 1]]) for i in range(n)]
        own = np.arange(n)[mine]
        needed = np.union1d(off[mine].indices, own)
        self.columns, self._own = torch.as_tensor(needed), torch.as_tensor(np.searchsorted(needed, own))
        self._all = len(split) == 1
        self._exchange = {
            r: (self._rows_for(off, mine, part), self._rows_from(off, mine, part, needed))
            for r in range(len(split))
            if r != rank and (part := slice(bounds[r], bounds[r + 1]))
        }
        local = S[mine][:, needed].tocsr()
        local.sort_indices()
        self._steps = _steps(local)
        self._sparse = n >= SPARSE_FROM and local.nnz <= 0.25 * local.shape[0] * local.shape[1]
        self._matrix = as_torch(local, torch.float64) if self._sparse else torch.as_tensor(local.toarray())
        self._cast: dict[torch.dtype, Tensor] = {}

    def start(self, wire: Wire, t: Tensor) -> Callable[[], Tensor]:
        """Send the own rows ``t`` to whoever needs them; the result waits, and returns the rows ``columns``."""
        if self._all:
            return lambda: t
        known = t.new_zeros(len(self.columns), *t.shape[1:])
        known[self._own] = t
        outgoing = {r: t[rows] for r, (rows, _) in self._exchange.items() if len(rows)}
        incoming = {r: t.new_empty(len(rows), *t.shape[1:]) for r, (_, rows) in self._exchange.items() if len(rows)}
        wait = wire.start_exchange(outgoing, incoming)

        def received() -> Tensor:
            wait()
            for r, buffer in incoming.items():
                known[self._exchange[r][1]] = buffer
            return known

        return received

    def apply(self, known: Tensor, exact: bool) -> Tensor:
        """sum_j W_ij known_j for the own rows i; ``exact`` adds neighbour after neighbour, in node order."""
        shape = known.shape[1:]
        flat = known.reshape(len(known), math.prod(shape))
        if exact:
            total = torch.zeros(len(self._own), flat.shape[1], dtype=flat.dtype, device=flat.device)
            for rows, columns, weights in self._steps:
                term = flat.index_select(0, columns).mul_(weights.to(flat)[:, None])
                if len(rows) == len(total):
                    total += term
                else:
                    total[rows] += term
        else:
            if flat.dtype not in self._cast:
                self._cast[flat.dtype] = self._matrix.to(flat)
            matrix = self._cast[flat.dtype]
            # With something to add to, which beta=0 ignores, torch's sparse product needs one copy of the result less.
            total = torch.addmm(flat.new_zeros(()), matrix, flat, beta=0) if self._sparse else matrix @ flat
        return total.reshape(len(self._own), *shape)

    @staticmethod
    def _rows_for(off: sparse.csr_array, mine: slice, theirs: slice) -> Tensor:
        """Places among the own rows that some node of ``theirs`` weighs."""
        wanted = np.unique(off[theirs].indices)
        return torch.as_tensor(wanted[(wanted >= mine.start) & (wanted < mine.stop)] - mine.start)

    @staticmethod
    def _rows_from(off: sparse.csr_array, mine: slice, theirs: slice, needed: np.ndarray) -> Tensor:
        """Places among ``needed`` of the rows of ``theirs`` that an own node weighs."""
        wanted = np.unique(off[mine].indices)
        wanted = wanted[(wanted >= theirs.start) & (wanted < theirs.stop)]
        return torch.as_tensor(np.searchsorted(needed, wanted))


class Routes:
    """The routes of the matrices that were used last, up to 64: ``routes(W)``."""

    def __init__(self, split: list[int], rank: int) -> None:
        self._of = split, rank
        self._known: dict[tuple[int, int], tuple[Tensor, Route]] = {}

    def __call__(self, W: Tensor) -> Route:
        """The route of W, a new one if W was changed. Raises as :class:`Route`, ``TypeError`` for what is no tensor."""
        key = (id(W), W._version if isinstance(W, Tensor) else 0)
        if key not in self._known:
            route = Route(W, *self._of)
            if len(self._known) >= 64:
                self._known.pop(next(iter(self._known)))
            self._known[key] = (W, route)  # holds W, so that its id stays its own
        return self._known[key][1]


def weights(weight: Tensor | None, n: int) -> tuple[Tensor | None, Tensor]:
    """The weight of each node in a mean, float64 [n] (None: 1/n), and the mask of those that have one.

    Raises ``ValueError`` for another shape, for complex numbers, and unless all are finite and one is not 0.
    """
    if weight is None:
        return None, torch.ones(n, dtype=torch.bool)
    if torch.as_tensor(weight).is_complex():
        raise ValueError(f"weight must be real, got {weight}")
    weight = torch.as_tensor(weight, dtype=torch.float64).detach()
    if weight.shape != (n,) or not torch.isfinite(weight).all() or not (weight != 0).any():
        raise ValueError(f"weight must be finite, of shape [{n}] and not all zero, got {weight}")
    return weight, weight != 0


def weighted_sum(weight: Tensor, q: Tensor) -> Tensor:
    """sum_j weight_j q_j over the rows with a weight: what stands in the others may be NaN."""
    sends = weight != 0
    return (weight[sends].to(q).reshape(-1, *[1] * (q.dim() - 1)) * q[sends]).sum(0)


def _steps(local: sparse.csr_array) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Step s adds the s-th neighbour, in node order, of every row that has that many: (rows, columns, weights)."""
    degrees = np.diff(local.indptr)
    steps = []
    for s in range(int(degrees.max(initial=0))):
        rows = np.flatnonzero(degrees > s)
        places = local.indptr[rows] + s
        steps.append(tuple(map(torch.as_tensor, (rows, local.indices[places].astype(np.int64), local.data[places]))))
    return steps
