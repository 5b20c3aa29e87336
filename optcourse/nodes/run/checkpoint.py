"""Rows that outlive their process: each process saves its own nodes, and any number of processes goes on from there.

>>> import tempfile, torch
>>> from optcourse import nodes
>>> def run(steps, folder, resume=False):
...     net = nodes.Network(4)
...     keeper = Keeper(folder, net, every=10)
...     x = keeper.restore(torch.ones(4, 2)) if resume else keeper.begin(torch.ones(4, 2))
...     for x in keeper.watch(nodes.psgd(net, lambda x: x, x, lr=0.1), steps): pass
...     return x
>>> with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
...     _ = run(15, one)
...     torch.equal(run(30, one, resume=True), run(30, other))
True
"""

from __future__ import annotations

import io
import os
import socket
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optcourse import files
from optcourse.arguments import integer
from optcourse.nodes.algorithms.algorithm import Iterates, memory, running
from optcourse.nodes.network.network import Network
from optcourse.nodes.run import checkpoint_files as rows


class NoCheckpoint(ValueError):
    """There is no round at which the rows of all nodes were saved."""


def snapshot(net: Network, iterates: Iterates, x: Tensor) -> dict[str, Any]:
    """What continues an algorithm that has just yielded ``x``: the own rows, its memory, random numbers and counters.

    The memory are the local variables that the algorithm declared with ``net.initial``: tensors with one row per own
    node, or lists of them. The snapshot refers to the tensors of the algorithm, and copies none.
    """
    held, per_node = memory(iterates), running(iterates).place.memory
    clock = net.clock and {"times": net.clock.times.clone(), "calls": net.clock.calls}
    return {
        "round": net.round + 1,
        "n": net.n,
        "nodes": net.mine.tolist(),
        "processes": net.world,
        "dtype": str(x.dtype),
        "x": x,
        "memory": {name: list(value) if isinstance(value, list) else value for name, value in held.items()},
        "per_node": [name for name in held if per_node[name] and rows.fits(held[name], net.rows)],
        "positions": net.stream_positions,
        "bytes_sent": net.bytes_sent.clone(),
        "wire_bytes": net.wire_bytes,
        "clock": clock,
    }


class Keeper:
    """Saves the own rows in ``folder`` after round 1, after every ``every`` rounds, and when something goes wrong.

    Call :meth:`begin` or :meth:`restore` *before* the algorithm, and take the iterates from :meth:`watch`. ``folder``
    is one that all processes share, or one for each machine. The last two rounds that all nodes have saved are kept,
    and what is newer: of processes that do not wait for each other some may be ahead. ``settings`` describe the run; a
    run with others is not continued. ``record`` may be set to anything that the rows should carry along; it may know
    more than the round that it was saved with. Both consist of numbers, text, lists and dictionaries. ``saved`` are
    the records by round of the rows that this process has saved, or gone on from. ``tell`` is called with a sentence
    when a damaged round is passed over, and when the rows of an earlier run make place.

    Processes that are stopped are not all in the same round. One that waits for messages stands *before* them, and
    neighbours are at most one communication apart, the ends of a path of w processes w - 1. So each of w > 1 processes
    holds what it had before the last w communications as well, and saves all of it when it stops: the rows of the
    slowest are then complete. (``async_sgd``, whose processes may be further apart, can lose what came since a save.)
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        net: Network,
        every: int = 50,
        settings: Mapping[str, Any] | None = None,
        tell: Callable[[str], object] = warnings.warn,
    ) -> None:
        self.folder, self.net, self.every, self.tell = Path(folder), net, integer("every", every, 1), tell
        self.settings = dict(settings or {})
        self.record: Any = None
        self._start([])

    # ------------------------------------------------------------------ during a run

    @property
    def done(self) -> int:
        """The full rounds so far; ``watched`` of them since this keeper was made."""
        return self._held[-1]["round"] if self._held else 0

    def begin(self, x: Tensor) -> Tensor:
        """Start anew: when the first rows are to be saved, those of an earlier run move into the folder ``before``.

        Which is told. Of several such runs the one that went furthest stays there. Returns ``x``.
        """
        self._start([])
        return x

    def _start(self, held: list[dict[str, Any]]) -> None:
        self.watched, self._before = 0, {}
        self.saved = {state["round"]: _plain(self.record) for state in held}
        self._held = deque(held, maxlen=self.net.world + 1 if self.net.world > 1 else 1)

    def watch(self, iterates: Iterates, steps: int) -> Iterates:
        """The iterates until round ``steps``; whatever ends them early, the rows of the last full round are saved.

        That includes an error in the loop over them, and leaving it. Raises ``OSError`` when rows cannot be written.
        """
        try:
            for k in range(self.done, steps):
                x = next(iterates, None)
                if x is None:  # the algorithm itself has an end
                    break
                self._keep(snapshot(self.net, iterates, x))
                if self.watched == 1:
                    self._replace_older()
                yield x
                if (k + 1) % self.every == 0:  # with what the caller recorded about this round
                    self._write(self._held[-1])
            if self.watched:
                self._write(self._held[-1])
        except BaseException as error:
            try:
                self.save()
            except OSError as trouble:
                error.add_note(str(trouble))
            raise

    def _keep(self, state: dict[str, Any]) -> None:
        """Hold on to a snapshot for some rounds: a tensor that stays from round to round may be written into."""
        current, before = state["memory"], self._before
        if self._held and torch.equal(state["bytes_sent"], self._held[-1]["bytes_sent"]):
            self._held.pop()  # nobody can have waited there
        self._held.append(state | {"memory": {name: rows.frozen(t, before.get(name)) for name, t in current.items()}})
        self._before = current
        self.watched += 1

    def save(self) -> None:
        """Write the rows of the last rounds, unless they are there. Raises ``OSError`` when they cannot be written."""
        for state in reversed(self._held):
            self._write(state)

    def _write(self, state: dict[str, Any]) -> None:
        r, record = state["round"], _plain(self.record)
        if r in self.saved and self.saved[r] == record:
            return
        path = self.folder / rows.file_name(r, state["nodes"][0], state["nodes"][-1], state["n"])
        content = io.BytesIO()
        torch.save(_plain(state) | {"settings": self.settings, "record": record}, content)
        try:
            files.write(path, content.getbuffer())
        except OSError as error:
            raise OSError(f"the rows cannot be written to {path}: {error.strerror or error}") from error
        self.saved[r] = record
        complete = rows.complete_rounds(self.folder, self.net.n)
        if not complete:  # other machines have folders of their own; the slowest process is at the oldest held round
            complete = sorted(r for r in self.saved if r <= self._held[0]["round"])
        for r, *_, path in rows.saved_files(self.folder, self.net.n):
            if len(complete) > 1 and r < complete[-2]:
                path.unlink(missing_ok=True)

    def _replace_older(self) -> None:
        """Save the first rows of this run, in the place of those that it does not go on from.

        All processes are here at the same time: a mistake in the arguments has stopped them before, with nothing lost.
        """
        state, net, once = self._held[-1], self.net, self.net.rank == 0 or os.environ.get("LOCAL_RANK") == "0"
        anew = len(self.saved) == 0
        if anew:
            net.wire.agree("the first round", [state["round"]])  # all are here
            if once and (text := rows.make_place(self.folder, net.n, self.settings)):
                self.tell(text)
            net.wire.agree("the first round", [state["round"]])  # nobody saves before that
        self._write(state)
        net.wire.agree("the first round", [state["round"]])  # all have saved
        if once and not anew:
            new = {rows.file_name(state["round"], own[0], own[-1], net.n) for own in self._owned()}
            for r, *_, path in rows.saved_files(self.folder, None):
                if r >= state["round"] and path.name not in new:
                    path.unlink(missing_ok=True)
        net.wire.agree("the first round", [state["round"]])  # nobody saves more before that

    # ------------------------------------------------------------------ the next run

    def restore(self, x: Tensor) -> Tensor:
        """The rows of the newest round that all nodes have saved, whatever number of processes saved them.

        ``x`` says which shape, dtype and device is expected. The network goes on from there: round, random numbers,
        bytes, clock, and the memory of the algorithm that is started next. Every process reads the rows of its own
        nodes, in the folder as it sees it; a round whose files cannot all be read is passed over for an older one.
        Raises :class:`NoCheckpoint` (it names the nodes, and the folders if they are
        several), and ``ValueError`` for rows of another run (n, shape, dtype, ``settings``), for files that cannot be
        read when nothing else is there, and for an algorithm with memory on edges in another number of processes.
        """
        net, wire = self.net, self.net.wire
        own = range(int(net.mine[0]), int(net.mine[-1]) + 1)
        everyone = wire.everyone(rows.complete_rounds(self.folder, net.n, own))
        told, damage = [], None
        for r in sorted(set.intersection(*map(set, everyone)), reverse=True):
            paths, parts, damage = rows.files_of_round(self.folder, net.n, r, own), [], None
            try:
                parts = [rows.read_rows(path) for path in paths]
            except ValueError as error:
                damage = error
            said = [text for text in wire.everyone(damage and str(damage)) if text]
            if not said:
                break
            told += said
        else:
            wire.all_could(damage)
            raise NoCheckpoint(self._missing(own))
        error = None
        try:
            whole = self._assemble(paths, parts, x)
        except ValueError as problem:
            error = problem
        wire.all_could(error)
        for text in told:
            self.tell(f"{text}; the rows after round {r} are older, and whole")
        self.record = parts[0]["record"]
        self._start([whole])
        return whole["x"]

    def _missing(self, own: range) -> str:
        """Which rows are missing, and where."""
        wire, here = self.net.wire, str(self.folder)
        newest = wire.everyone(rows.newest_rows(self.folder, self.net.n, own))
        seen = wire.everyone((socket.gethostname(), here, rows.saved_files(self.folder, self.net.n)))
        same = all(files == seen[0][2] for *_, files in seen)
        places = [here if same else f"{folder} of {host} (process {r})" for r, (host, folder, _) in enumerate(seen)]
        return rows.what_is_missing(newest, places)

    def _compare(self, part: dict[str, Any], x: Tensor) -> None:
        """Raise ``ValueError`` unless the rows are those of this run."""
        found = {"dtype": part["dtype"], "d": list(part["x"].shape[1:])} | part["settings"]
        wanted = {"dtype": str(x.dtype), "d": list(x.shape[1:])} | self.settings
        names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
        if names:
            listed = "; ".join(f"{name} was {found.get(name)!r} and is now {wanted.get(name)!r}" for name in names)
            raise ValueError(f"the rows in {self.folder} belong to another run: {listed}")

    def _assemble(self, paths: list[Path], parts: list[dict[str, Any]], x: Tensor) -> dict[str, Any]:
        """Own rows from the parts, which hold at least these; sets the network."""
        net, first = self.net, parts[0]
        for part, path in zip(parts, paths, strict=True):
            self._compare(part, x)
            if any(list(part[name] or ()) != list(first[name] or ()) for name in ("memory", "clock", "per_node")):
                raise ValueError(f"{path} and {paths[0]} cannot be rows of one run: they remember different things")
        same = first["processes"] == net.world and first["nodes"] == net.mine.tolist()
        at = int(net.mine[0]) - first["nodes"][0]
        own = slice(at, at + net.rows)
        memory = {}
        for name in first["memory"]:
            if same:
                memory[name] = first["memory"][name]
            elif all(name in part["per_node"] for part in parts):
                memory[name] = rows.own_rows([part["memory"][name] for part in parts], own)
            else:
                raise ValueError(
                    f"the memory {name!r} of this algorithm belongs to edges: it goes on in {first['processes']} "
                    f"processes, as it was saved, and not in {net.world}"
                )
        memory = rows.mapped(lambda t: t.to(x.device), memory)
        state = first | {
            "nodes": net.mine.tolist(),
            "x": rows.own_rows([part["x"] for part in parts], own).to(x.device),
            "memory": memory,
        }
        net.resume(state["round"], memory, rows.own_positions(parts, own))
        net.bytes_sent.copy_(state["bytes_sent"])
        net.wire.sent = sum(part["wire_bytes"] for part in parts if part["nodes"][0] in state["nodes"])
        if net.clock and state["clock"]:
            net.clock.times, net.clock.calls = state["clock"]["times"], state["clock"]["calls"]
        return state

    def _owned(self) -> list[list[int]]:
        """The nodes of each process."""
        return [nodes.tolist() for nodes in torch.arange(self.net.n).split(self.net.split)]


def _plain(value: Any) -> Any:
    """A copy, without the storage behind views (``expand`` and slices)."""
    return rows.mapped(lambda t: t.detach().contiguous().clone(), value)
