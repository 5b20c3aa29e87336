"""Random numbers of the nodes: one stream per *node*, never per process.

Node 5 draws the same numbers whether its row lives in the simulator or in the third of four processes. Data,
compressors and attacks have streams of their own names, so that adding one does not shift the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optcourse.arguments import integer

#: Numbers that a node draws at once for later calls. Independent of how many nodes a process owns.
_BLOCK = 2**12

#: Which of the own rows draw; None is all of them.
Rows = Sequence[int] | Tensor | None


class Streams:
    """Independent random numbers for the nodes ``nodes``, one row each; a pure function of (name, seed, node, call).

    ``name`` tells streams of one seed apart ("data", "compressor", ...), ``seed`` is an integer >= 0 and ``nodes``
    lists the *global* numbers of the nodes that this process owns. ``position`` is a dict that says how often each
    kind was drawn, a number or a list with one per row; setting it continues an interrupted run with the numbers that
    it would have drawn.

    The numbers are drawn on ``device``, and lie there: a GPU draws faster than it can be sent what the CPU drew. They
    are others than the CPU's, and may be others again on another model of GPU.

    ``rows`` of the methods names the rows (0, 1, ... among ``nodes``) that draw, and only these streams move on: the
    j-th draw of a node is the same whoever draws with it. Raises ``ValueError`` for rows that do not exist or repeat,
    and for a size below 0.

    >>> both, second = Streams("data", 0, [0, 1]), Streams("data", 0, [1])
    >>> bool((both.uniform(3)[1:] == second.uniform(3)).all())
    True
    >>> bool((both.uniform(3, rows=[1]) == second.uniform(3)).all()), both.position
    (True, {'uniform torch.float32 [3]': [1, 2]})
    """

    def __init__(self, name: str, seed: int, nodes: Sequence[int] | Tensor, device: torch.device | str = "cpu") -> None:
        self.name, self.seed, self.device = str(name), integer("seed", seed, 0), torch.device(device)
        self.nodes = indices("nodes", nodes)
        self.position: dict[str, int | list[int]] = {}
        self._blocks: dict[str, tuple[int, Tensor]] = {}
        self._row_blocks: dict[tuple[str, int], tuple[int, Tensor]] = {}

    def uniform(self, *size: int, dtype: torch.dtype = torch.float32, rows: Rows = None) -> Tensor:
        """Numbers in [0, 1), shape ``[rows, *size]``."""
        return self._draw("uniform", size, dtype, rows, torch.rand)

    def normal(self, *size: int, dtype: torch.dtype = torch.float32, rows: Rows = None) -> Tensor:
        """Standard normal numbers, shape ``[rows, *size]``."""
        return self._draw("normal", size, dtype, rows, torch.randn)

    def integers(self, high: int | Tensor, *size: int, rows: Rows = None) -> Tensor:
        """Integers in 0..high-1, int64, shape ``[rows, *size]``; ``high`` is a number, or one per row ``[rows]``.

        Raises ``ValueError`` for a high that is not in 1..2**31.
        """
        drawn = len(self.nodes) if rows is None else len(rows)
        highs = torch.as_tensor(high, dtype=torch.float64).reshape(-1, *([1] * len(size)))
        if not ((highs >= 1) & (highs <= 2**31)).all() or len(highs) not in (1, drawn):
            raise ValueError(f"high must be in 1..2**31, one number or one per row ({drawn}), got {high!r}")
        # floor(u * high) with 53 random bits: the bias is below high / 2**53.
        return (self.uniform(*size, dtype=torch.float64, rows=rows) * highs.to(self.device)).long()

    def _draw(
        self, kind: str, size: tuple[int, ...], dtype: torch.dtype, rows: Rows, draw: Callable[..., Tensor]
    ) -> Tensor:
        size = tuple(integer("size", side, 0) for side in size)
        key = f"{kind} {dtype} {list(size)}"
        calls = max(1, _BLOCK // max(1, int(np.prod(size))))
        call = self.position.get(key, 0)
        if rows is not None or not isinstance(call, int):
            return self._draw_rows(key, (calls, *size), dtype, rows, draw)
        self.position[key] = call + 1
        number, place = divmod(call, calls)
        if self._blocks.get(key, (-1, None))[0] != number:
            blocks = [self._fresh(node, key, number, (calls, *size), dtype, draw) for node in self.nodes]
            empty = torch.empty(calls, 0, *size, dtype=dtype, device=self.device)
            block = torch.stack(blocks, 1) if blocks else empty
            self._blocks[key] = (number, block)
        return self._blocks[key][1][place]

    def _draw_rows(
        self, key: str, shape: tuple[int, ...], dtype: torch.dtype, rows: Rows, draw: Callable[..., Tensor]
    ) -> Tensor:
        """The next numbers of ``rows``, whose streams may stand at different places."""
        n = len(self.nodes)
        chosen = list(range(n)) if rows is None else indices("rows", rows, n)
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"rows must not repeat, got {chosen}")
        at = self.position.get(key, 0)
        at = [at] * n if isinstance(at, int) else list(at)  # a new list: the old one may be part of a checkpoint
        picked = []
        for row in chosen:
            number, place = divmod(at[row], shape[0])
            if self._row_blocks.get((key, row), (-1, None))[0] != number:
                block = self._fresh(self.nodes[row], key, number, shape, dtype, draw)
                self._row_blocks[key, row] = (number, block)
            picked.append(self._row_blocks[key, row][1][place])
            at[row] += 1
        self.position[key] = at[0] if len(set(at)) == 1 else at
        return torch.stack(picked) if picked else torch.empty(0, *shape[1:], dtype=dtype, device=self.device)

    def _fresh(
        self, node: int, key: str, number: int, shape: tuple[int, ...], dtype: torch.dtype, draw: Callable[..., Tensor]
    ) -> Tensor:
        """Block ``number`` of one node's numbers."""
        words = [self.seed, zlib.crc32(self.name.encode()), node, zlib.crc32(key.encode()), number]
        generator = torch.Generator(self.device)
        generator.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1))
        return draw(shape, generator=generator, dtype=dtype, device=self.device)


def as_streams(name: str, streams: Any, rows: int | None = None) -> Streams:
    """``streams``; ``TypeError`` unless they are like :class:`Streams`, ``ValueError`` unless of ``rows`` nodes."""
    if not hasattr(streams, "nodes"):  # whatever draws as they do
        raise TypeError(f"{name} must be Streams(name, seed, nodes), with a row for each node, got {streams!r}")
    if rows is not None and len(streams.nodes) != rows:
        raise ValueError(f"{name} must have one row for each of the {rows} nodes, got streams of {len(streams.nodes)}")
    return streams


def indices(name: str, values: Sequence[int] | Sequence[bool] | Tensor, n: int | None = None) -> list[int]:
    """``values`` (a sequence, tensor or array) as a list of integers in 0..n-1; nothing is rounded.

    n truth values are a mask, and stand for the numbers where it is true. Raises ``TypeError`` for what is no integer
    and ``ValueError`` for one outside.

    >>> indices("nodes", torch.tensor([False, True, True]), 3), indices("nodes", [2, 0], 3)
    ([1, 2], [2, 0])
    """
    values = values.tolist() if isinstance(values, (Tensor, np.ndarray)) else values
    if not isinstance(values, Iterable) or isinstance(values, str):
        wanted = "integers" if n is None else f"integers in 0..{n - 1}, or a mask of {n} truth values"
        raise TypeError(f"{name} must be a sequence of {wanted}, got {values!r}")
    values = list(values)
    if n is not None and len(values) == n and all(isinstance(value, bool | np.bool_) for value in values):
        return [i for i, true in enumerate(values) if true]
    return [integer(name, value, 0, None if n is None else n - 1) for value in values]
