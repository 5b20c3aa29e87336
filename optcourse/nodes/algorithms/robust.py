"""Byzantine nodes: everybody sees every message, some of which lie. Lecture 19 derives rules and attacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from optcourse.arguments import integer, real
from optcourse.nodes.algorithms.algorithm import Gradient, Iterates, algorithm
from optcourse.nodes.byzantine.history import recalled
from optcourse.nodes.byzantine.wrappers import as_aggregator
from optcourse.nodes.makers import as_called
from optcourse.nodes.network.network import Network
from optcourse.nodes.streams import Streams, indices


@algorithm
def robust_sgd(
    net: Network,
    grad: Gradient,
    x: Tensor,
    lr: float,
    aggregate: Callable[..., Tensor],
    n_byzantine: int = 0,
    attack: Callable[[Tensor, Tensor, Streams], Tensor] | None = None,
    byzantine: Sequence[int] | Sequence[bool] | Tensor | None = None,
    momentum: float = 0.0,
    seed: int = 0,
) -> Iterates:
    r"""SGD with a robust rule in place of the mean: :math:`x \leftarrow x-\gamma\,\mathrm{agg}(m_1,\dots,m_n)`.

    :math:`m_i=\beta m_i+(1-\beta)g_i(x)` is each node's momentum (0: the gradient itself), which hides less noise for
    liars to hide in. ``aggregate(X [n, d], n_byzantine=f)`` is told to expect ``n_byzantine`` liars. ``attack``
    replaces the rows of the nodes ``byzantine`` (numbers or a mask [n]; default: the last ``n_byzantine``) by what they
    send; it sees all honest rows, and its random numbers come from ``seed``. A rule or an attack with memory
    (``aggregators.clipping_from_last``, ``attacks.mimic``) begins anew with the run. Per step d numbers from everybody
    to everybody. Bound without noise: ``theory.byzantine.robust_gd_bound``. Source: Karimireddy, He & Jaggi 2021,
    "Learning from history for Byzantine robust optimization", Algorithm 2.

    Raises ``TypeError`` for an aggregate or attack that is no such function, also for its maker (``mimic`` and not
    ``mimic()``), ``ValueError`` for n_byzantine or numbers in byzantine outside the network, a momentum outside [0, 1),
    and, from the rule, for more liars than it stands.
    """
    as_aggregator("aggregate", aggregate)
    if attack is not None:
        as_called("attack", attack, "attack(honest, byzantine, streams)", None, None, None)
    f = integer("n_byzantine", n_byzantine, 0, net.n)
    beta = real("momentum", momentum, 0, 1, open_high=True)
    liars = torch.zeros(net.n, dtype=torch.bool)
    liars[range(net.n - f, net.n) if byzantine is None else indices("byzantine", byzantine, net.n)] = True
    streams = net.streams("attack", seed, everybody=True)
    m = net.initial("m", torch.zeros_like(x))
    rule_past, attack_past = net.initial("rule_past", []), net.initial("attack_past", [])
    for _ in net.rounds():
        m = beta * m + (1 - beta) * grad(x)
        messages = net.gather(m)
        if attack is not None:
            messages, attack_past = recalled(attack, attack_past, net.rows, messages, liars, streams)
        step, rule_past = recalled(aggregate, rule_past, net.rows, messages, n_byzantine=f)
        x = x - lr * step
        yield x
