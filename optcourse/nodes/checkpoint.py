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

import json
import os
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from optcourse.arguments import integer
from optcourse.nodes.algorithm import Iterates
from optcourse.nodes.checkpoint_files import complete_rounds, file_name, read_rows, saved_files, what_is_missing
from optcourse.nodes.network import Network


class NoCheckpoint(ValueError):
    """There is no round at which the rows of all nodes were saved."""


def snapshot(net: Network, iterates: Iterates, x: Tensor) -> dict[str, Any]:
    """What continues an algorithm that has just yielded ``x``: the own rows, its memory, random numbers and counters.

    The memory are the local variables that the algorithm declared with ``net.initial``: tensors with one row per own
    node, or lists of them. The snapshot refers to the tensors of the algorithm, and copies none.
    """
    variables = iterates.gi_frame.f_locals
    memory = {name: variables[name] for name in net.memory}
    clock = net.clock and {"times": net.clock.times.clone(), "calls": net.clock.calls}
    return {
        "round": net.round + 1,
        "n": net.n,
        "nodes": net.mine.tolist(),
        "processes": net.world,
        "dtype": str(x.dtype),
        "x": x,
        "memory": {name: list(value) if isinstance(value, list) else value for name, value in memory.items()},
        "per_node": [name for name, per_node in net.memory.items() if per_node and _fits(memory[name], net.rows)],
        "positions": net.stream_positions,
        "bytes_sent": net.bytes_sent.clone(),
        "wire_bytes": net.wire_bytes,
        "clock": clock,
    }


class Keeper:
    """Saves the own rows in ``folder`` after every ``every`` rounds, and when something goes wrong.

    Call :meth:`begin` or :meth:`restore` *before* the algorithm, and take the iterates from :meth:`watch`. ``folder``
    is one that all processes share. The last two rounds that all nodes have saved are kept, and what is newer: of
    processes that do not wait for each other some may be ahead. ``settings`` (JSON) describe the run; a run with
    others is not continued. ``record`` (JSON) may be set to anything that the rows should carry along.
    """

    def __init__(
        self, folder: str | os.PathLike, net: Network, every: int = 50, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.folder, self.net, self.every = Path(folder), net, integer("every", every, 1)
        self.settings = json.loads(json.dumps(dict(settings or {})))
        self.record: Any = None
        self._state: dict[str, Any] | None = None
        self._before: dict[str, Any] = {}
        self._saved = -1

    # ------------------------------------------------------------------ during a run

    @property
    def done(self) -> int:
        """The full rounds so far."""
        return self._state["round"] if self._state else 0

    def begin(self, x: Tensor) -> Tensor:
        """Start anew: forget what an earlier run left in the folder. Returns ``x``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._forget(above=-1)
        return x

    def watch(self, iterates: Iterates, steps: int) -> Iterates:
        """The iterates until round ``steps``; whatever ends them early, the rows of the last full round are saved."""
        try:
            for k in range(self.done, steps):
                x = next(iterates, None)
                if x is None:  # the algorithm itself has an end
                    return
                self._keep(snapshot(self.net, iterates, x))
                yield x
                if (k + 1) % self.every == 0 or k + 1 == steps:  # with what the caller recorded about this round
                    self.save()
        except GeneratorExit:
            raise
        except BaseException:
            self.save()
            raise

    def _keep(self, state: dict[str, Any]) -> None:
        """Hold on to a snapshot until the next one: a tensor that stays from round to round may be written into."""
        current, before = state["memory"], self._before
        self._state = state | {"memory": {name: _frozen(t, before.get(name)) for name, t in current.items()}}
        self._before = current

    def save(self) -> int | None:
        """Write the rows of the last full round, unless they are there; returns its number, None before the first."""
        if self._state is None:
            return None
        r, state = self._state["round"], self._state
        if r != self._saved:
            first, last = state["nodes"][0], state["nodes"][-1]
            path = self.folder / file_name(r, first, last, state["n"])
            texts = {"settings": json.dumps(self.settings), "record": json.dumps(self.record)}
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            try:
                torch.save(_compact(state) | texts, temporary)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            self._saved = r
            self._prune()
        return r

    # ------------------------------------------------------------------ the next run

    def restore(self, x: Tensor) -> Tensor:
        """The rows of the newest round that all nodes have saved, whatever number of processes saved them.

        ``x`` says which shape, dtype and device is expected. The network goes on from there: round, random numbers,
        bytes, clock, and the memory of the algorithm that is started next. Raises :class:`NoCheckpoint` (it names the
        nodes), and ``ValueError`` for rows of another run (n, shape, dtype, ``settings``), for files that cannot be
        read, and for an algorithm with memory on edges in another number of processes.
        """
        complete = complete_rounds(self.folder, self.net.n)
        newest = complete[-1] if complete else -1
        self.net._wire.agree("the newest round in the folder", [newest])  # one that all processes share
        if newest < 0:
            raise NoCheckpoint(what_is_missing(self.folder, self.net.n))
        parts = [read_rows(path) for r, *_, path in saved_files(self.folder, self.net.n) if r == newest]
        parts.sort(key=lambda part: part["nodes"][0])
        self._compare(parts[0], x)
        whole = self._assemble(parts, x)
        self._state = whole
        self._saved, self.record = newest, json.loads(parts[0]["record"])
        self._forget(above=newest)
        return whole["x"]

    def _compare(self, part: dict[str, Any], x: Tensor) -> None:
        """Raise ``ValueError`` unless the rows are those of this run."""
        found = {"dtype": part["dtype"], "d": list(part["x"].shape[1:])} | json.loads(part["settings"])
        wanted = {"dtype": str(x.dtype), "d": list(x.shape[1:])} | self.settings
        names = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
        if names:
            listed = "; ".join(f"{name} was {found.get(name)!r} and is now {wanted.get(name)!r}" for name in names)
            raise ValueError(f"the rows in {self.folder} belong to another run: {listed}")

    def _assemble(self, parts: list[dict[str, Any]], x: Tensor) -> dict[str, Any]:
        """Own rows from the parts; sets the network."""
        net = self.net
        same = [part["nodes"] for part in parts] == _ranges(net.split)
        memory = {}
        for name in parts[0]["memory"]:
            if same:
                memory[name] = parts[net.rank]["memory"][name]
            elif all(name in part["per_node"] for part in parts):
                memory[name] = _own([part["memory"][name] for part in parts], net.mine)
            else:
                raise ValueError(
                    f"the memory {name!r} of this algorithm belongs to edges: it goes on in {parts[0]['processes']} "
                    f"processes, as it was saved, and not in {net.world}"
                )
        memory = {name: _to(value, x.device) for name, value in memory.items()}
        state = parts[net.rank if same else 0] | {
            "nodes": net.mine.tolist(),
            "x": _own([part["x"] for part in parts], net.mine).to(x.device),
            "memory": memory,
        }
        net.resume(state["round"], memory, _positions(parts, net.mine.tolist()))
        net.bytes_sent.copy_(state["bytes_sent"])
        together = sum(part["wire_bytes"] for part in parts)
        net._wire.sent = state["wire_bytes"] if same else together if net.rank == 0 else 0
        if net.clock and state["clock"]:
            net.clock.times, net.clock.calls = state["clock"]["times"], state["clock"]["calls"]
        return state

    def _forget(self, above: int) -> None:
        """Delete the rows of rounds > ``above``, before anybody saves new ones."""
        self.net._wire.agree("the start of the run", [above])  # all have read
        if self.net.rank == 0:
            for r, *_, path in saved_files(self.folder, None):
                if r > above:
                    path.unlink(missing_ok=True)
        self.net._wire.agree("the start of the run", [above])

    def _prune(self) -> None:
        complete = complete_rounds(self.folder, self.net.n)
        for r, *_, path in saved_files(self.folder, self.net.n):
            if len(complete) > 1 and r < complete[-2]:
                path.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------ rows


def _fits(value: Any, rows: int) -> bool:
    """Whether a tensor, or every tensor of a list, has that many rows."""
    return all(len(t) == rows for t in (value if isinstance(value, list) else [value]))


def _own(parts: list[Any], mine: Tensor) -> Any:
    if isinstance(parts[0], list):
        return [torch.cat(tensors)[mine] for tensors in zip(*parts, strict=True)]
    return torch.cat(parts)[mine]


def _positions(parts: list[dict[str, Any]], mine: list[int]) -> dict[str, dict[str, Any]]:
    """How far the streams of the own nodes were used; nodes that drew differently often have a list."""
    positions: dict[str, dict[str, Any]] = {}
    for key in {key: None for part in parts for key in part["positions"]}:
        if key.endswith(" everybody"):
            positions[key] = parts[0]["positions"][key]
            continue
        drawn = [(len(part["nodes"]), part["positions"].get(key, {})) for part in parts]
        positions[key] = {}
        for kind in {kind: None for _, counts in drawn for kind in counts}:
            each = [counts.get(kind, 0) for _, counts in drawn]
            lists = [at if isinstance(at, list) else [at] * n for at, (n, _) in zip(each, drawn, strict=True)]
            own = [list(chain(*lists))[i] for i in mine]
            positions[key][kind] = own[0] if len(set(own)) == 1 else own
    return positions


def _frozen(value: Any, before: Any) -> Any:
    """``value``, or a copy where it is the tensor that it was ``before``, or the first."""
    if isinstance(value, list):
        return [_frozen(t, old) for t, old in zip(value, before or [None] * len(value), strict=True)]
    return value.clone() if before is None or value is before else value


def _to(value: Any, device: torch.device) -> Any:
    return [t.to(device) for t in value] if isinstance(value, list) else value.to(device)


def _compact(value: Any) -> Any:
    """Tensors as they are, without the storage behind their views (``expand`` and slices)."""
    if isinstance(value, Tensor):
        return value.detach().contiguous().clone()
    if isinstance(value, dict):
        return {key: _compact(entry) for key, entry in value.items()}
    return [_compact(entry) for entry in value] if isinstance(value, list) else value


def _ranges(split: list[int]) -> list[list[int]]:
    starts = count(0)
    return [[next(starts) for _ in range(rows)] for rows in split]
