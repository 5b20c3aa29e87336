"""Partial averaging, sum_j W_ij x_j: which rows must travel where, and the sum in three ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache

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
        as_tensor = as_torch if n >= SPARSE_FROM and local.nnz <= 0.25 * math.prod(local.shape) else _filled
        # Of the columns of a piece, from the place ``first`` on.
        self._steps = lru_cache(None)(lambda first, size: _steps(local[:, first : first + size]))
        self._matrix = lru_cache(None)(
            lambda first, size, dtype, device: as_tensor(local[:, first : first + size], dtype).to(device)
        )

    def start(self, wire: Wire, t: Tensor) -> Callable[[], Tensor]:
        """Send the own rows ``t`` to whoever needs them; the result waits, and returns the rows ``columns``."""
        if not self._for and not self._from:
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

    def apply(self, pieces: Iterable[tuple[int, Tensor]], exact: bool) -> Tensor:
        """sum_j W_ij x_j for the own rows i; ``exact`` adds neighbour after neighbour, in node order.

        ``pieces`` are the rows x_j of the nodes ``columns``, some at a time, each with the place of its first row. A
        piece is forgotten before the next one is read; how large they are changes no bit of an exact sum.
        """
        total, shape = torch.empty(()), torch.Size()
        for first, known in pieces:
            shape, size = known.shape[1:], len(known)
            flat = known.reshape(size, math.prod(shape))
            if first == 0:
                total = (flat.new_zeros if exact else flat.new_empty)(len(self._own), flat.shape[1])
            if exact:
                self._add_in_order(total, first, flat)
            else:  # in place, as torch's sparse product else needs one copy of the result more
                total.addmm_(self._matrix(first, size, flat.dtype, flat.device), flat, beta=first > 0)
            del known, flat
        return total.reshape(len(self._own), *shape)

    def _add_in_order(self, total: Tensor, first: int, flat: Tensor) -> None:
        for rows, columns, weights in self._steps(first, len(flat)):
            term = flat.index_select(0, columns.to(flat.device)).mul_(weights.to(flat)[:, None])
            if len(rows) == len(total):
                total += term
            else:
                total[rows] += term


def _filled(W: sparse.csr_array, dtype: torch.dtype) -> Tensor:
    """A matrix of scipy as a dense tensor."""
    return torch.from_numpy(W.toarray()).to(dtype)


def _steps(local: sparse.csr_array) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Step s adds the s-th neighbour, in node order, of every row that has that many: (rows, columns, weights)."""
    degrees = np.diff(local.indptr)
    steps = []
    for s in range(int(degrees.max())):
        rows = np.flatnonzero(degrees > s)
        places = local.indptr[rows] + s
        steps.append(tuple(map(torch.as_tensor, (rows, local.indices[places].astype(np.int64), local.data[places]))))
    return steps
