"""Pipelines: the layers of one network on several stages, and the bars of their Gantt chart."""

from __future__ import annotations

from optcourse.arguments import integer, number
from optcourse.nodes.time.clock import Interval


def gpipe(stages: int, micro: int, *, forward: float = 1.0, backward: float = 2.0) -> list[Interval]:
    r"""The bars of a batch that goes through ``stages`` in ``micro`` parts: all forward, then all backward.

    Every piece of work starts as soon as its input is there and its stage is free; ``forward`` and ``backward`` are the
    seconds of one part on one stage, > 0. With p stages and M parts the last bar ends at (M + p - 1)(forward +
    backward), so that each stage idles (p - 1)/(M + p - 1) of the time. Source: Huang et al. 2019, "GPipe".

    Raises ``ValueError`` for fewer than one stage or part, or times that are not positive.

    >>> max(bar.end for bar in gpipe(stages=2, micro=4))
    15.0
    """
    p, M = integer("stages", stages, 1), integer("micro", micro, 1)
    ahead, back = number("forward", forward, 0, open_low=True), number("backward", backward, 0, open_low=True)
    work = [(s, k, ahead) for k in range(M) for s in range(p)]
    work += [(s, k, back) for k in range(M) for s in reversed(range(p))]
    bars, free, ready = [], [0.0] * p, [0.0] * M
    for s, k, seconds in work:
        start = max(free[s], ready[k])
        free[s] = ready[k] = float(start + seconds)
        bars.append(Interval(s, start, free[s], "compute"))
    return bars
