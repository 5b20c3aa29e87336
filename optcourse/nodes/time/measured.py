"""The collectives of this machine: what they take, and the line of latency and bandwidth through their times."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import ArrayLike

from optcourse import timing
from optcourse.arguments import choice, integer
from optcourse.nodes.run.launch import CannotLaunch, launch

#: What is timed, and the share of the vector that every node must send at least, times n/(n - 1).
KINDS = {"all-reduce": 2, "all-gather": 1, "reduce-scatter": 1}
#: torch's names of the last two, newest first.
NAMES = ("all_gather_single", "all_gather_into_tensor"), ("reduce_scatter_single", "reduce_scatter_tensor")


class Line(NamedTuple):
    """Seconds of m bytes: ``latency + seconds_per_byte * m``; ``misfit`` is the root mean square relative error."""

    latency: float
    seconds_per_byte: float
    misfit: float


def fitted_line(n_bytes: ArrayLike, seconds: ArrayLike) -> Line:
    """The line, with coefficients >= 0, that is closest to the times of some sizes in *relative* error.

    Both have shape [sizes]. Raises ``ValueError`` for other shapes and for seconds that are not positive.

    >>> found = fitted_line([1e3, 1e6], [2e-3, 1.001])
    >>> print(f"{found.latency:.3g} s and {found.seconds_per_byte:.3g} s for each byte")
    0.001 s and 1e-06 s for each byte
    """
    from scipy.optimize import nnls

    m, t = np.asarray(n_bytes, dtype=float), np.asarray(seconds, dtype=float)
    if m.ndim != 1 or m.shape != t.shape or not len(m):
        raise ValueError(f"n_bytes and seconds must have shape [sizes], got {list(m.shape)} and {list(t.shape)}")
    if not (t > 0).all():
        raise ValueError(f"seconds must be positive, got {t.min()}")
    largest = max(m.max(), 1.0)  # columns of like size
    (latency, per_largest), misfit = nnls(np.stack([np.ones(len(m)), m / largest], 1) / t[:, None], np.ones(len(m)))
    return Line(float(latency), float(per_largest / largest), float(misfit / np.sqrt(len(m))))


class Collectives(NamedTuple):
    """What :func:`collectives` measured."""

    #: Processes that took part.
    n_nodes: int
    #: Bytes of the whole vector, float64 ``[sizes]``: a little more than asked for, so that all parts are equal.
    n_bytes: np.ndarray
    #: Seconds ``[repeats, sizes]`` of the slowest process, for each of ``KINDS``.
    seconds: dict[str, np.ndarray]

    def bus(self, kind: str) -> np.ndarray:
        """Bytes a second ``[repeats, sizes]`` that every node must at least have sent meanwhile.

        Those are (n - 1)/n vectors, and twice as many for an all-reduce: the "bus bandwidth" of nccl-tests
        (PERFORMANCE.md there). Algorithms that send no more than necessary have the same one for all kinds.
        """
        share = KINDS[choice("kind", kind, KINDS)] * (self.n_nodes - 1) / self.n_nodes
        return share * self.n_bytes / self.seconds[kind]


def collectives(
    sizes: Sequence[int], device: str = "cpu", *, repeats: int = 20, processes: int = 2, timeout: float = 300.0
) -> Collectives:
    """Time all-reduce, all-gather and reduce-scatter of vectors of ``sizes`` bytes between real processes.

    On ``"cpu"`` there are ``processes`` of them, with gloo; on ``"cuda"`` one for each GPU of this machine, with nccl.
    The sums are float32, and are verified before the clock starts.

    Raises ``ValueError`` for no sizes, sizes < 4, repeats < 1 and another device, what :func:`launch` raises, and its
    :class:`CannotLaunch` where torch has no nccl.
    """
    if not len(sizes):
        raise ValueError("sizes must be at least one number of bytes, got none")
    wanted = [integer("sizes", size, 4) for size in sizes]
    integer("repeats", repeats, 1)
    backend, n = "gloo", integer("processes", processes, 1)
    if choice("device", device, ("cpu", "cuda")) == "cuda":
        if not dist.is_nccl_available():
            raise CannotLaunch("torch was built without nccl")
        backend, n = "nccl", torch.cuda.device_count()
    parts = [-(-size // (4 * n)) for size in wanted]  # numbers that each node has of the vector
    timed = launch(_timed, parts, device, repeats, processes=n, timeout=timeout, backend=backend)
    seconds = np.max(timed, axis=0)  # [sizes, repeats, kinds]
    return Collectives(n, 4.0 * n * np.array(parts), {kind: seconds[..., i].T for i, kind in enumerate(KINDS)})


def _timed(parts: list[int], device: str, repeats: int) -> np.ndarray:
    """In a process of :func:`launch`: seconds ``[sizes, repeats, kinds]``."""
    rank, n, found = dist.get_rank(), dist.get_world_size(), []
    if device == "cuda":
        torch.cuda.set_device(rank)
    place = torch.device(device, rank) if device == "cuda" else torch.device(device)
    # The group that `launch` joined notices lost peers, and therefore waits in steps of milliseconds: too coarse here.
    os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "0"
    group = dist.new_group(backend="nccl" if device == "cuda" else "gloo")
    gather, scatter = (_named(*names) for names in NAMES)
    for part in parts:
        whole, own = torch.ones(n * part, device=place), torch.full((part,), rank + 1.0, device=place)
        together: tuple[Any, ...] = (dist.all_reduce, whole), (gather, whole, own), (scatter, own, whole)
        calls = [partial(*what, group=group) for what in together]
        ranks = torch.arange(1.0, n + 1, device=place).repeat_interleave(part)
        answers = (whole, torch.full_like(whole, n)), (whole, ranks), (own, torch.full_like(own, n * (rank + 1)))
        for kind, call, (answer, right) in zip(KINDS, calls, answers, strict=True):
            call()
            if not torch.equal(answer, right):
                raise RuntimeError(f"the {kind} of {whole.nbytes} bytes is wrong in process {rank}")
        for t in (whole, own):
            t.zero_()  # sums of sums would overflow
        found.append(timing.in_turn(calls, repeats=repeats, device=place))
    return np.array(found)


def _named(*names: str) -> Callable[..., object]:
    """The first of ``names`` that this version of torch.distributed has."""
    return next(getattr(dist, name) for name in names if hasattr(dist, name))
