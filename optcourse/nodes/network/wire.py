"""What really crosses the network: the few calls of ``torch.distributed`` that a :class:`Network` needs.

With one process every call is the identity. A call that fails because a peer is gone or silent raises
:class:`NodeFailed`, which names the peer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from optcourse.nodes.network.heartbeat import Heartbeat


class NodeFailed(RuntimeError):
    """A process was lost: killed, frozen, or cut off. ``rank`` is the process, ``round`` where the survivor stood."""

    def __init__(self, rank: int | None, round: int, why: str = "") -> None:
        self.rank, self.round, self.why = rank, round, why
        who = "an unknown process" if rank is None else f"process {rank}"
        super().__init__(f"{who} failed in round {round}{f': {why}' if why else ''}")

    def __reduce__(self) -> tuple:
        """From its three arguments: the default would call it with the message."""
        return NodeFailed, (self.rank, self.round, self.why)


def split_rows(n: int, world: int) -> list[int]:
    """How many of n nodes each of ``world`` processes owns."""
    least, more = divmod(n, world)
    return [least + (r < more) for r in range(world)]


class Wire:
    """The connection of this process (``rank`` of ``world``) to the others; ``sent`` counts its bytes.

    ``split`` lists how many of the n rows each process owns. ``timeout`` in seconds is the longest that any call
    waits for a silent peer, the search for the culprit included.
    """

    def __init__(self, timeout: float) -> None:
        self.real = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if self.real else (0, 1)
        self.timeout, self.sent, self.round = timeout, 0, 0
        self.split = [0]
        if self.real:
            self._heart = Heartbeat.start(self.rank, self.world, timeout)
            self._group = self._safely(lambda: _group(timeout))

    def at(self, round: int) -> None:
        """The algorithm has reached ``round``."""
        self.round = round
        if self.real and self._heart:
            self._heart.round = round

    def everyone(self, said: Any) -> list[Any]:
        """What every process says, in the order of ranks: anything that can be pickled."""
        heard = [said] * self.world
        if self.real:
            self._safely(lambda: dist.all_gather_object(heard, said, group=self._group))
        return heard

    def agree(self, name: str, numbers: Sequence[int]) -> None:
        """Raise ``ValueError`` in *every* process unless all hand in the same ``numbers``: nobody is left waiting."""
        everyone = self.everyone(list(numbers))
        if any(theirs != everyone[0] for theirs in everyone):
            listed = ", ".join(f"process {r}: {theirs}" for r, theirs in enumerate(everyone))
            raise ValueError(f"{name} must be the same in all processes, got {listed}")

    def all_could(self, error: Exception | None) -> None:
        """Raise ``error``, or ``ValueError`` with the ``error`` of another process: nobody goes on without it."""
        said = self.everyone(None if error is None else str(error))
        if error is not None:
            raise error
        for rank, text in enumerate(said):
            if text is not None:
                raise ValueError(f"process {rank}: {text}")

    def start_sum(self, t: Tensor) -> Callable[[], Tensor]:
        """Add ``t`` over the processes, in an order that the backend chooses; call the result to wait for it."""
        if not self.real or not t.numel():
            return lambda: t
        t = t.contiguous()
        self.sent += round(2 * (self.world - 1) / self.world * t.nbytes)  # ring: reduce-scatter, then all-gather
        work = self._safely(lambda: dist.all_reduce(t, group=self._group, async_op=True))
        return lambda: (self._safely(work.wait), t)[1]

    def start_gather(self, t: Tensor) -> Callable[[], Tensor]:
        """The rows of all processes in node order: ``[rows, ...] -> [n, ...]``; call the result to wait for it."""
        if not self.real:
            return lambda: t
        if not t[:1].numel() and t.dim() > 1:  # rows without numbers
            return lambda: t.new_empty(sum(self.split), *t.shape[1:])
        most = max(self.split)
        padded = t.new_zeros(most, *t.shape[1:])  # collectives want equal parts: up to one row of padding
        padded[: len(t)] = t
        flat = padded.reshape(-1).view(torch.uint8)
        out = flat.new_empty(self.world * flat.numel())
        self.sent += (self.world - 1) * flat.numel()
        work = self._safely(lambda: _all_gather(out, flat, group=self._group, async_op=True))

        def wait() -> Tensor:
            self._safely(work.wait)
            everyone = out.view(t.dtype).reshape(self.world, most, *t.shape[1:])
            return torch.cat([everyone[r, :rows] for r, rows in enumerate(self.split)])

        return wait

    def start_exchange(self, outgoing: dict[int, Tensor], incoming: dict[int, Tensor]) -> Callable[[], None]:
        """Send ``outgoing[rank]``, and receive into the buffers ``incoming[rank]``; call the result to wait."""
        operations = [dist.P2POp(dist.isend, t.contiguous(), r, self._group) for r, t in sorted(outgoing.items())]
        operations += [dist.P2POp(dist.irecv, t, r, self._group) for r, t in sorted(incoming.items())]
        self.sent += sum(t.nbytes for t in outgoing.values())
        works = self._safely(lambda: dist.batch_isend_irecv(operations)) if operations else []

        def wait() -> None:
            for work in works:
                self._safely(work.wait)

        return wait

    def send(self, t: Tensor, receiver: int) -> None:
        """One message to one process, which waits for it in :meth:`receive`."""
        self.sent += t.nbytes
        self._safely(lambda: dist.send(t.contiguous(), receiver, group=self._group))

    def receive(self, buffer: Tensor, sender: int | None = None) -> int:
        """Wait for the next message of ``sender``, or of anybody; returns whose it was."""
        return self._safely(lambda: dist.recv(buffer, sender, group=self._group))

    def culprit(self) -> int | None:
        """The process that fell silent, if one did."""
        return self._heart.culprit() if self.real and self._heart else None

    def _safely(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except RuntimeError as error:
            _groups.clear()  # a group that lost a message is of no use to the next network
            raise NodeFailed(self.culprit(), self.round, _reason(error)) from error


def _reason(error: RuntimeError) -> str:
    """What happened, without the backend's source file and advice."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return re.sub(r"^\[\S+:\d+\]\s*", "", line).split(". ")[0]


#: torch 2.13 gave this collective a new name.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor

_groups: dict[tuple[int, float], Any] = {}


def _group(timeout: float) -> dist.ProcessGroup:
    """All processes, with a deadline of their own; made once, because joining takes longer than many rounds."""
    key = (id(dist.group.WORLD), timeout)
    if key not in _groups:
        _groups[key] = dist.new_group(timeout=timedelta(seconds=0.75 * timeout))
    return _groups[key]
