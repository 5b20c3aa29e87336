"""Who is alive: every process ticks a counter in the group's key-value store, so that survivors can name a lost one.

A backend only says that *some* connection broke, and after a first survivor has left, connections break that
had nothing to do with the loss. So the first process that finds a silent counter writes the culprit down for all.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from datetime import timedelta

import torch.distributed as dist

_LOST = "lost"
#: Passes, two in the time of a tick, after which a counter that stands still tells of a loss.
_STILL = 16
#: Seconds that the end of a process waits for a reply of the store.
_PATIENCE = 30.0


class Heartbeat(threading.Thread):
    """A daemon thread that ticks until the process ends, however it ends. A frozen process does not tick either."""

    current: Heartbeat | None = None

    def __init__(self, rank: int, world: int, timeout: float) -> None:
        super().__init__(name="optcourse-heartbeat", daemon=True)
        self.rank, self.world, self.round, self.network = rank, world, 0, 0
        self._set(timeout)
        self._left = threading.Event()
        self._searches: list[threading.Thread] = []
        self._store, self._ticking = self._connect(), self._connect()  # one per thread: calls on a store may block
        self._beat(self._store)

    @classmethod
    def start(cls, rank: int, world: int, timeout: float) -> Heartbeat | None:
        """The heartbeat of this process, for one network more; None where the group has no store that can be reached.

        All processes make their networks in the same order, so that they agree on the number of each.
        """
        if cls.current is None and "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ:
            try:
                cls.current = cls(rank, world, timeout)
            except (RuntimeError, ValueError):
                return None
            threading.Thread.start(cls.current)
            atexit.register(cls.current.leave)
        if cls.current is not None:
            cls.current._set(timeout)
            cls.current.network += 1
        return cls.current

    def _set(self, timeout: float) -> None:
        self.timeout, self.interval = timeout, min(0.5, max(0.02, timeout / 100))

    def run(self) -> None:
        """Tick; end quietly when the store is gone, because then the group is as well."""
        try:
            while not self._left.wait(self.interval):
                self._beat(self._ticking)
        except RuntimeError:
            return

    def leave(self) -> None:
        """Stop ticking: this process takes no further part, and whoever waits for it may say so.

        Returns when no thread of this one is inside the store: one that comes back from there while Python ends
        aborts the process ("terminate called without an active exception"). A frozen store is not waited for longer
        than ``_PATIENCE``.
        """
        self._left.set()
        end = time.monotonic() + min(self.timeout, _PATIENCE)
        for thread in (self, *self._searches):
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))

    def culprit(self) -> int | None:
        """The rank that fell silent, the same for all survivors, or the one that is rounds behind; else None.

        Takes less than a quarter of ``timeout``.
        """
        found: list[int | None] = []

        def search() -> None:
            with contextlib.suppress(RuntimeError):  # the store is gone; a frozen one does not answer at all
                found.append(self._find())

        thread = threading.Thread(target=search, daemon=True)
        self._searches.append(thread)
        thread.start()
        thread.join(0.22 * self.timeout)
        if found:
            return found[0]
        # The store went with the process that held it: process 0, unless a launcher does.
        return None if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" or self.rank == 0 else 0

    def _find(self) -> int | None:
        """Who stands still while others tick, counted in passes of this loop: on a busy machine it has to wait too."""
        end, key = time.monotonic() + self.timeout / 5, f"culprit/{self.network}"
        others = [r for r in range(self.world) if r != self.rank]
        beats, still = {r: self._beats(r) for r in others}, dict.fromkeys(others, 0)
        while time.monotonic() < end:
            if self._store.check([key]):
                return int(self._store.get(key))
            time.sleep(self.interval / 2)
            for r in others:
                before, beats[r] = beats[r], self._beats(r)
                still[r] = still[r] + 1 if beats[r] == before else 0
            longest, *rest = sorted(still, key=still.__getitem__, reverse=True)
            if still[longest] > _STILL and all(2 * still[r] < still[longest] for r in rest):
                return self._write_down(key, longest)
        longest = max(still, key=still.__getitem__)
        if still[longest] > _STILL / 2:  # several stand still
            return self._write_down(key, longest)
        rounds = {r: self._store.add(f"round/{r}", 0) for r in others}
        latest = min(rounds, key=rounds.__getitem__)  # all tick: the one that is behind hangs in its own computation
        return self._write_down(key, latest) if rounds[latest] < self.round else None

    def _write_down(self, key: str, rank: int) -> int:
        """``rank``, or whom another survivor had written down before."""
        rank = int(self._store.compare_set(key, "", str(rank)))
        self._store.set(_LOST, str(rank))
        return rank

    def _beats(self, rank: int) -> int:
        return self._store.add(f"beats/{rank}", 0)

    def _beat(self, store: dist.Store) -> None:
        store.add(f"beats/{self.rank}", 1)
        store.set(f"round/{self.rank}", str(self.round))

    def _connect(self) -> dist.Store:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return _ours(dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=self.timeout)))


def written_down(store: dist.TCPStore) -> int | None:
    """The last culprit that survivors agreed on, for the process that holds the store."""
    ours = _ours(store)
    return int(ours.get(_LOST)) if ours.check([_LOST]) else None


def _ours(store: dist.TCPStore) -> dist.Store:
    """The keys of this package; a restarted job has its own."""
    return dist.PrefixStore(f"optcourse/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
