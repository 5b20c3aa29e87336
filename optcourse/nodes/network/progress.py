"""Where a network stands: the rounds of its algorithm, random numbers, and what a checkpoint holds of both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from optcourse.arguments import integer
from optcourse.nodes.network.checks import refuse_undecorated
from optcourse.nodes.network.wire import Wire
from optcourse.nodes.streams import Streams
from optcourse.nodes.time.clock import Clock


@dataclass
class Place:
    """Where one run of an algorithm is, of the several that may use a network.

    ``start`` is the round that it begins with and ``restored`` the memory that it begins with; ``memory`` says of each
    variable that it declared whether there is a row per own node; ``round`` is that of ``net.rounds()``, None before.
    """

    start: int = 0
    restored: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, bool] = field(default_factory=dict)
    round: int | None = None


class Progress:
    """The part of a ``Network`` that an interrupted run takes up again."""

    wire: Wire
    n: int
    mine: Tensor
    clock: Clock | None

    def __init__(self) -> None:
        self._place = Place()  # for the next run, or of the one that is at work
        self._at_work = False
        self._streams: dict[str, Streams] = {}

    @property
    def round(self) -> int:
        """The round that the algorithm is in, from 0."""
        return self.wire.round

    def rounds(self) -> Iterator[int]:
        """0, 1, 2, ... (or, once, on from the round of a checkpoint), one for each round of an algorithm."""
        if self.clock:
            refuse_undecorated(self)
        return self._rounds(self._place)

    def _rounds(self, place: Place) -> Iterator[int]:
        k = place.start
        place.start, place.restored = 0, {}  # a checkpoint is for one algorithm
        while True:
            place.round = k
            self.wire.at(k)
            yield k
            k += 1

    def new_place(self) -> Place:
        """That of a run that begins: where :meth:`resume` said, unless it is part of another one."""
        if self._at_work:
            return Place()
        place, self._place = self._place, Place()
        return place

    @contextlib.contextmanager
    def at_work(self, place: Place, taken: int) -> Iterator[None]:
        """The run at ``place``, which has yielded ``taken`` iterates, goes on: rounds and memory are its own."""
        before = self._place, self._at_work
        self._place, self._at_work = place, True
        # A rule without net.rounds() has an iterate per round.
        self.wire.at(place.start + taken if place.round is None else place.round)
        try:
            yield
        finally:
            self._place, self._at_work = before

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
        self._place.memory[name] = per_node
        return self._place.restored.get(name, value)

    def resume(self, round: int, restored: dict[str, Any], position: dict[str, dict[str, Any]]) -> None:
        """Let the next algorithm begin at ``round`` with the memory and stream positions of a checkpoint."""
        self._place = Place(integer("round", round, 0), dict(restored))
        for key, at in position.items():
            name, seed = key.removesuffix(" everybody").rsplit(" ", 1)
            self.streams(name, int(seed), key.endswith(" everybody")).position = dict(at)

    @property
    def stream_positions(self) -> dict[str, dict[str, Any]]:
        """How far each of ``streams`` has been used: what :meth:`resume` takes."""
        return {key: dict(streams.position) for key, streams in self._streams.items()}
