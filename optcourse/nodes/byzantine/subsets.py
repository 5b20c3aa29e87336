r"""Robust rules that average the n-f most credible of n vectors: near each other, near one vector, near the median.

Called like the rules of ``aggregators``, ``rule(X [n, d], n_byzantine)``, with the same errors, and listed there.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from optcourse.arguments import integer
from optcourse.nodes.byzantine.vectors import centred_gram, check_rule, coordinate_median, distances


def mda(X: Tensor, n_byzantine: int) -> Tensor:
    r"""Minimum-diameter averaging: the average of the n-f rows whose largest distance is least, [d].

    Of several such subsets the one with the least sum of squared distances. Exact, in at most 2^(f+1) steps and not one
    for each subset: of the two rows farthest apart, any better subset leaves one out.

    Source: El Mhamdi, Guerraoui, Guirguis, Hoang & Rouault 2020, "Genuinely distributed Byzantine machine learning".

    >>> import torch
    >>> mda(torch.tensor([[0.0], [1.0], [3.0], [1000.0]]), n_byzantine=1)
    tensor([1.3333])
    """
    f = check_rule(X, n_byzantine, "mda")
    D2 = distances(centred_gram(X)[2]).cpu().numpy()
    return X[_tightest(D2, len(X) - f)].mean(0)


def monna(X: Tensor, n_byzantine: int, reference: int = 0) -> Tensor:
    """The average of the n-f rows nearest to the row of node ``reference``, itself included, [d].

    Made for nodes that aggregate for themselves, each with its own vector as reference: the constant holds for an
    honest reference, and a Byzantine one leads anywhere. Raises ``ValueError`` for a reference outside 0..n-1.

    Source: Farhadkhani, Guerraoui, Gupta, Hoang, Pinot & Stephan 2023, "Robust collaborative learning with linear
    gradient overhead", nearest-neighbor averaging.

    >>> import torch
    >>> monna(torch.tensor([[0.0], [1.0], [3.0], [1000.0]]), n_byzantine=1, reference=2)
    tensor([1.3333])
    """
    f = check_rule(X, n_byzantine, "monna")
    integer("reference", reference, 0, len(X) - 1)
    nearest = distances(centred_gram(X)[2])[reference].argsort(stable=True)
    return X[nearest[: len(X) - f]].mean(0)


def meamed(X: Tensor, n_byzantine: int) -> Tensor:
    """The mean around the median: in every coordinate the average of the n-f values nearest to the median, [d].

    Source: Xie, Koyejo & Gupta 2018, "Generalized Byzantine-tolerant SGD" (mean-around-median).

    >>> import torch
    >>> meamed(torch.tensor([[0.0], [1.0], [3.0], [1000.0]]), n_byzantine=1)
    tensor([1.3333])
    """
    f = check_rule(X, n_byzantine, "meamed")
    nearest = (X - coordinate_median(X)).abs().argsort(dim=0, stable=True)
    return X.gather(0, nearest[: len(X) - f]).mean(0)


def _tightest(D2: np.ndarray, size: int) -> list[int]:
    """The ``size`` rows with the least largest D2 [n, n] among them, then the least sum, then the first."""
    first = tuple(range(len(D2)))
    best, seen, todo = (np.inf, np.inf, first), {first}, [first]
    while todo:
        rows = todo.pop()
        inside = D2[np.ix_(rows, rows)]
        pair = divmod(int(inside.argmax()), len(rows))
        if len(rows) == size:
            best = min(best, (inside[pair], inside.sum(), rows))
            continue
        for out in pair:
            if (fewer := rows[:out] + rows[out + 1 :]) not in seen:
                seen.add(fewer)
                todo.append(fewer)
    return list(best[2])
