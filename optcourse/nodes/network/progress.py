"""Where a network stands: the rounds of its algorithm, random numbers, and what a checkpoint holds of both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from optcourse.arguments import integer
from optcourse.nodes.network.checks import refuse_undecorated
from optcourse.nodes.network.wire import Wire
from optcourse.nodes.streams import Streams
from optcourse.nodes.time.clock import Clock


class Progress:
    """The part of a ``Network`` that an interrupted run takes up again."""

    wire: Wire
    n: int
    mine: Tensor
    clock: Clock | None

    def __init__(self) -> None:
        self.memory: dict[str, bool] = {}
        self._restored: dict[str, Any] = {}
        self._streams: dict[str, Streams] = {}
        self._start = 0

    @property
    def round(self) -> int:
        """The round that the algorithm is in, from 0."""
        return self.wire.round

    def rounds(self) -> Iterator[int]:
        """0, 1, 2, ... (or, once, on from the round of a checkpoint), one for each round of an algorithm."""
        if self.clock:
            refuse_undecorated()
        return self._rounds()

    def _rounds(self) -> Iterator[int]:
        k = self._start
        self._start, self._restored = 0, {}  # a checkpoint is for one algorithm
        while True:
            self.wire.at(k)
            yield k
            k += 1

    def streams(self, name: str, seed: int = 0, everybody: bool = False) -> Streams:
        """Random numbers for the own nodes; the same object for the same arguments.

        With ``everybody`` all n nodes, in every process: for what each process computes about all nodes.
        """
        key = f"{name} {seed}{' everybody' if everybody else ''}"
        if key not in self._streams:
            self._streams[key] = Streams(name, seed, range(self.n) if everybody else self.mine)
        return self._streams[key]

    def initial(self, name: str, value: Any, per_node: bool = True) -> Any:
        """``value`` (a tensor or a list of them), or what an interrupted run had in the local variable ``name``.

        An algorithm declares its memory so; ``checkpoint.snapshot`` reads these variables. ``per_node=False`` says
        that its rows are not those of the own nodes (but of their edges, say).
        """
        self.memory[name] = per_node
        return self._restored.get(name, value)

    def resume(self, round: int, restored: dict[str, Any], position: dict[str, dict[str, Any]]) -> None:
        """Let the next algorithm begin at ``round`` with the memory and stream positions of a checkpoint."""
        self._start, self._restored = integer("round", round, 0), dict(restored)
        for key, at in position.items():
            name, seed = key.removesuffix(" everybody").rsplit(" ", 1)
            self.streams(name, int(seed), key.endswith(" everybody")).position = dict(at)

    @property
    def stream_positions(self) -> dict[str, dict[str, Any]]:
        """How far each of ``streams`` has been used: what :meth:`resume` takes."""
        return {key: dict(streams.position) for key, streams in self._streams.items()}
