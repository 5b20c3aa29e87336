"""Who takes part in an average, and with which weight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from optcourse.arguments import integer, nonnegative
from optcourse.nodes.makers import as_called, maker
from optcourse.nodes.network.checks import described
from optcourse.nodes.network.network import Network
from optcourse.nodes.streams import Streams

#: Which nodes take part in the average after step k, ``alive(k) -> bool Tensor[n]``; or a mask for all steps.
Alive = Callable[[int], Tensor] | Tensor

#: The weight of each node in the average after step k, float64 [n]; None: 1/n each.
Shares = Callable[[int], Tensor | None]


@maker
def clients(n_nodes: int, count: int, seed: int = 0) -> Callable[[int], Tensor]:
    """``count`` of n nodes, drawn anew and without replacement for every step: ``alive`` of a sampled average.

    A pure function of the step, the same in every process. Raises ``ValueError`` unless 1 <= count <= n_nodes.

    >>> alive = clients(10, 3)
    >>> int(alive(4).sum()), bool((alive(4) == alive(4)).all())
    (3, True)
    """
    n = integer("n_nodes", n_nodes, 1)
    count = integer("count", count, 1, n)

    def alive(k: int) -> Tensor:
        drawn = Streams(f"clients {integer('k', k, 0)}", seed, range(n)).uniform(dtype=torch.float64)
        return drawn.argsort(stable=True).argsort() < count

    return alive


def shares(net: Network, alive: Alive | None, samples: ArrayLike | None = None) -> Shares:
    """The weights of an average over the nodes ``alive``, in proportion to their ``samples`` [n] >= 0 (None: alike).

    Raises ``ValueError`` for masks and samples of another shape, and for a step without anyone alive who has samples;
    ``TypeError`` for an ``alive`` that is neither a function nor a mask.
    """
    weights = None if samples is None else _weights(net, samples)
    if alive is None:
        everybody = None if weights is None else weights / weights.sum()
        return lambda k: everybody
    if callable(alive):
        as_called("alive", alive, "alive(k)", 0)
        mask = alive
    else:
        fixed = _mask(net, "be a function of the step, or", alive)
        mask = lambda k: fixed  # noqa: E731

    def of_step(k: int) -> Tensor:
        takes_part = _mask(net, "give", mask(k))
        share = takes_part.double() if weights is None else weights * takes_part
        if not share.any():
            raise ValueError(f"alive must leave a node with samples in step {k}, got {takes_part}")
        return share / share.sum()

    return of_step


def changed(net: Network, share: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    """``new`` in the own rows of those who take part, ``old`` in the others."""
    return new if share is None else torch.where((share[net.mine, None] > 0).to(new.device), new, old)


def _mask(net: Network, must: str, said: Tensor | ArrayLike) -> Tensor:
    """What ``alive`` said, as a mask of those who take part."""
    mask = torch.as_tensor(said) if isinstance(said, Tensor | np.ndarray | list | tuple) else said
    if not isinstance(mask, Tensor) or mask.shape != (net.n,) or mask.dtype != torch.bool or not mask.any():
        got = described(mask) if isinstance(mask, Tensor) and mask.numel() > 64 else repr(said)
        raise (ValueError if isinstance(mask, Tensor) else TypeError)(
            f"alive must {must} a bool mask of shape [{net.n}] that is not all False, got {got}"
        )
    return mask


def _weights(net: Network, samples: ArrayLike) -> Tensor:
    """``samples`` as float64 [n]."""
    (held,) = nonnegative(samples=samples)
    if held.shape != (net.n,) or not held.any():
        raise ValueError(f"samples must have shape [{net.n}] and not be all 0, got {held}")
    return torch.as_tensor(np.asarray(held, dtype=float))
