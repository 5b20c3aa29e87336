"""Point to point: which row travels along which directed edge, from which process to which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from optcourse.nodes.network.wire import Wire


class Edges:
    """Directed edges (sender, receiver), the same in every process, prepared for the rows of one process.

    ``split`` lists the rows of each process. ``senders`` and ``receivers`` are int64 ``[edges]``; ``rows`` is the
    number of edges whose sender this process owns. Raises ``ValueError`` for what is no pair of nodes in 0..n-1.
    """

    def __init__(self, edges: Sequence[tuple[int, int]], split: list[int], rank: int) -> None:
        n = sum(split)
        try:
            ends = np.array([tuple(edge) for edge in edges] or np.empty((0, 2), dtype=np.int64))
        except (TypeError, ValueError):
            ends = np.empty(0)
        if ends.shape[1:] != (2,) or ends.dtype.kind not in "iu" or ((ends < 0) | (ends >= n)).any():
            raise ValueError(
                f"edges must join nodes in 0..{n - 1}, pairs of integers (sender, receiver), got {edges!r}"
            )
        self.senders, self.receivers = torch.as_tensor(ends.astype(np.int64)).unbind(1)
        owner = torch.repeat_interleave(torch.arange(len(split)), torch.tensor(split))
        source, target = owner[self.senders], owner[self.receivers]
        self._out, self._in = source == rank, target == rank
        self.rows = int(self._out.sum())
        others = [r for r in range(len(split)) if r != rank]
        self._to = {r: to for r in others if (to := self._out & (target == r)).any()}
        self._from = {r: fro for r in others if (fro := self._in & (source == r)).any()}

    def heard(self, n: int) -> list[Tensor]:
        """The senders from which each of the n nodes receives, in the order of the edges."""
        return [self.senders[self.receivers == i] for i in range(n)]

    def deliver(self, wire: Wire, t: Tensor) -> Tensor:
        """One row per edge with an own sender becomes one row per edge with an own receiver, in the edges' order."""
        along = t.new_zeros(len(self.senders), *t.shape[1:])
        along[self._out] = t
        incoming = {r: t.new_empty(int(edges.sum()), *t.shape[1:]) for r, edges in self._from.items()}
        wire.start_exchange({r: along[edges] for r, edges in self._to.items()}, incoming)()
        for r, buffer in incoming.items():
            along[self._from[r]] = buffer
        return along[self._in]
