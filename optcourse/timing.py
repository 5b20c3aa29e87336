"""A stopwatch for the CPU and for GPUs, which do what they are told later."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from optcourse.arguments import integer


def elapsed(call: Callable[[], object], device: torch.device | str = "cpu") -> float:
    """Seconds that ``call()`` takes, whatever it starts on ``device`` included.

    On a CUDA device: between two events in its current stream, after all that was under way there has ended. That is
    the time of the kernels, and the time to start them where they are shorter than that. Elsewhere: by the clock.
    """
    if torch.device(device).type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    with torch.cuda.device(device):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        before.record()
        call()
        after.record()
        torch.cuda.synchronize()
        return before.elapsed_time(after) / 1e3


def in_turn(
    calls: Sequence[Callable[[], object]], *, repeats: int, device: torch.device | str = "cpu", warmup: int = 3
) -> np.ndarray:
    """Seconds ``[repeats, calls]`` of each of ``calls``, by :func:`elapsed`, to be compared by ``measure.paired``.

    Every round has each of them once, in an order that is drawn anew: what else the machine does meets all alike. The
    order is the same in every process, so that processes may meet in the calls. ``warmup`` rounds come before, to
    compile and to allocate. Raises ``ValueError`` for no calls, repeats < 1 and warmup < 0.
    """
    if not calls:
        raise ValueError("calls must be at least one function, got none")
    rng, rounds = np.random.default_rng(0), integer("warmup", warmup, 0) + integer("repeats", repeats, 1)
    seconds = np.empty((rounds, len(calls)))
    for row in seconds:
        for i in rng.permutation(len(calls)):
            row[i] = elapsed(calls[i], device)
    return seconds[warmup:]
