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
    Raises ``ValueError`` unless W is ``stochastic``: "doubly", or in its "columns" or "rows" alone.
    """

    def __init__(self, W: Tensor, split: list[int], rank: int, stochastic: str = "doubly") -> None:
        n = sum(split)
        check_mixing(W, n, connected=False, stochastic=stochastic)  # a round of a schedule may be disconnected
        S = csr(W)
        bounds = np.concatenate([[0], np.cumsum(split)])
        owned = [slice(bounds[r], bounds[r + 1]) for r in range(len(split))]
        mine = owned[rank]
        off = S - sparse.diags(S.diagonal())
        off.eliminate_zeros()
        off = off.tocsr()
        self.receivers = torch.as_tensor(np.bincount(off.indices, minlength=n), dtype=torch.float64)
        self.heard = [torch.as_tensor(heard) for heard in np.split(off.indices, off.indptr[1:-1])]
        own = np.arange(n)[mine]
        needed = np.union1d(off[mine].indices, own)
        self.columns, self._own = torch.as_tensor(needed), torch.as_tensor(np.searchsorted(needed, own))
        self._all = len(split) == 1
        self._for, self._from = {}, {}  # places among the own rows, and among ``columns``, by process
        for r, theirs in enumerate(owned):
            wanted = np.unique(off[theirs, mine].indices)
            wants = np.unique(off[mine, theirs].indices) + theirs.start
            if r != rank and len(wanted):
                self._for[r] = torch.as_tensor(wanted)
            if r != rank and len(wants):
                self._from[r] = torch.as_tensor(np.searchsorted(needed, wants))
        local = S[mine][:, needed].tocsr()
        local.sort_indices()
        self._steps = _steps(local)
        self._sparse = n >= SPARSE_FROM and local.nnz <= 0.25 * math.prod(local.shape)
        self._matrix = as_torch(local, torch.float64) if self._sparse else torch.as_tensor(local.toarray())
        self._cast: dict[torch.dtype, Tensor] = {}

    def start(self, wire: Wire, t: Tensor) -> Callable[[], Tensor]:
        """Send the own rows ``t`` to whoever needs them; the result waits, and returns the rows ``columns``."""
        if self._all:
            return lambda: t
        known = t.new_zeros(len(self.columns), *t.shape[1:])
        known[self._own] = t
        incoming = {r: t.new_empty(len(rows), *t.shape[1:]) for r, rows in self._from.items()}
        wait = wire.start_exchange({r: t[rows] for r, rows in self._for.items()}, incoming)

        def received() -> Tensor:
            wait()
            for r, buffer in incoming.items():
                known[self._from[r]] = buffer
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


def _steps(local: sparse.csr_array) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Step s adds the s-th neighbour, in node order, of every row that has that many: (rows, columns, weights)."""
    degrees = np.diff(local.indptr)
    steps = []
    for s in range(int(degrees.max(initial=0))):
        rows = np.flatnonzero(degrees > s)
        places = local.indptr[rows] + s
        steps.append(tuple(map(torch.as_tensor, (rows, local.indices[places].astype(np.int64), local.data[places]))))
    return steps
