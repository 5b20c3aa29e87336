r"""Averages over all nodes: parallel SGD, local SGD and its relatives.

x has one row per own node; ``net.mean`` is one row that broadcasts. Lectures 14 and 16 derive the algorithms.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from optcourse.arguments import integer, nonnegative, positive, real
from optcourse.nodes.algorithms.algorithm import Gradient, Iterates, algorithm
from optcourse.nodes.network.network import Network

#: Which nodes take part in step k: ``alive(k) -> bool Tensor[n]``.
Alive = Callable[[int], Tensor]


@algorithm
def psgd(net: Network, grad: Gradient, x: Tensor, lr: float) -> Iterates:
    r"""Parallel SGD: :math:`x \leftarrow x - \gamma\frac1n\sum_j g_j(x)`, mini-batch SGD with n times the batch.

    Assumes that all rows of x are equal at the start; they stay so. Per step one mean of d numbers. Bound:
    ``theory.sgd.sgd_bound`` with ``batch_size`` = n B. Source: Dekel, Gilad-Bachrach, Shamir & Xiao 2012, "Optimal
    distributed online prediction using mini-batches".
    """
    for _ in net.rounds():
        x = x - lr * net.mean(grad(x))
        yield x


@algorithm
def local_sgd(
    net: Network,
    grad: Gradient,
    x: Tensor,
    lr: float,
    local_steps: int = 1,
    alive: Alive | None = None,
    threshold: float | None = None,
) -> Iterates:
    r"""Local SGD, or FedAvg: :math:`x_i \leftarrow x_i - \gamma g_i(x_i)`, and all rows become their mean after every
    ``local_steps`` = tau steps.

    Yields after each local step. Per tau steps one mean of d numbers. ``alive(k)``, a mask [n], says who takes part in
    the averaging after step k (drop-outs); their mean then goes to everybody. With ``threshold`` the nodes average as
    soon as :math:`\frac1n\sum_i\|x_i-a\|^2`, with a the last average, exceeds it ("when necessary"), and after tau
    steps at the latest; that costs a mean of one number per step. Bound: ``theory.local.local_sgd_bound``. Source:
    McMahan, Moore, Ramage, Hampson & Aguera y Arcas 2017, Algorithm 1; Stich 2019, "Local SGD converges fast and
    communicates little".

    Raises ``ValueError`` for local_steps < 1, a threshold < 0, or a round without anyone alive.
    """
    tau = integer("local_steps", local_steps, 1)
    if threshold is not None:
        nonnegative(threshold=threshold)
    anchor, since = net.initial("anchor", x), net.initial("since", torch.zeros(net.rows, 1))
    for k in net.rounds():
        x, since = x - lr * grad(x), since + 1
        due = bool(since[0] >= tau) if threshold is not None else (k + 1) % tau == 0
        if threshold is not None:
            drift = net.mean((x - anchor).square().sum(1, keepdim=True))
            due = due or drift.item() > threshold
        if due:
            x = net.mean(x, weight=_share(net, alive, k)).expand_as(x)
            anchor, since = x, torch.zeros_like(since)
        yield x


@algorithm
def post_local_sgd(net: Network, grad: Gradient, x: Tensor, lr: float, switch: int, local_steps: int) -> Iterates:
    """Parallel SGD for ``switch`` steps, local SGD with ``local_steps`` afterwards.

    The large batch is spent where noise hurts, the drift where it helps to generalize. Per step one mean of d numbers
    first, one per ``local_steps`` steps later. Source: Lin, Stich, Patel & Jaggi 2020, "Don't use large mini-batches,
    use local SGD", section 3. Raises ``ValueError`` for switch < 0 or local_steps < 1.
    """
    switch, tau = integer("switch", switch, 0), integer("local_steps", local_steps, 1)
    for k in net.rounds():
        x = x - lr * grad(x)
        if k < switch or (k + 1 - switch) % tau == 0:
            x = net.mean(x).expand_as(x)
        yield x


@algorithm
def scaffold(
    net: Network, grad: Gradient, x: Tensor, lr: float, local_steps: int = 1, server_lr: float = 1.0
) -> Iterates:
    r"""SCAFFOLD: local steps :math:`y_i \leftarrow y_i - \gamma(g_i(y_i)-c_i+c)` that know which way the others pull.

    After tau steps :math:`c_i^+=c_i-c+\frac1{\tau\gamma}(x-y_i)`, :math:`x^+=x+\eta\,\mathrm{mean}(y_i-x)` and
    :math:`c^+=\mathrm{mean}\,c_i^+` (option II; c = mean of the c_i). Its fixed point is the minimizer itself, whatever
    the heterogeneity. Per round two means of d numbers. Source: Karimireddy, Kale, Mohri, Reddi, Stich & Suresh 2020,
    Algorithm 1. Raises ``ValueError`` for local_steps < 1 or server_lr <= 0.
    """
    tau = integer("local_steps", local_steps, 1)
    positive(server_lr=server_lr)
    c_i, c = net.initial("c_i", torch.zeros_like(x)), net.initial("c", torch.zeros_like(x))
    y, x = net.initial("y", x), net.initial("x", x)
    for k in net.rounds():
        y = y - lr * (grad(y) - c_i + c)
        if (k + 1) % tau == 0:
            c_i = c_i - c + (x - y) / (tau * lr)
            c = net.mean(c_i).expand_as(x)
            x = x + server_lr * net.mean(y - x)
            y = x
        yield y


@algorithm
def diloco(
    net: Network,
    grad: Gradient,
    x: Tensor,
    lr: float,
    local_steps: int = 50,
    outer_lr: float = 0.7,
    outer_momentum: float = 0.9,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Iterates:
    r"""DiLoCo: AdamW on every node, and Nesterov momentum on what ``local_steps`` of it changed.

    After tau steps the outer gradient is :math:`\Delta=\mathrm{mean}(x-y_i)`; :math:`m \leftarrow \mu m+\Delta`,
    :math:`x \leftarrow x-\eta(\mu m+\Delta)`. Adam's moments stay on their nodes. Per round one mean of d numbers.
    Source: Douillard, Feng, Rusu, Chhaparia, Donchev, Kuncoro, Ranzato, Szlam & Shen 2023, Algorithm 1. Raises
    ``ValueError`` for local_steps < 1, outer_lr <= 0, momenta outside [0, 1), eps <= 0 or weight_decay < 0.
    """
    tau = integer("local_steps", local_steps, 1)
    positive(outer_lr=outer_lr, eps=eps)
    nonnegative(weight_decay=weight_decay)
    b1, b2 = (real("betas", beta, 0, 1, open_high=True) for beta in betas)
    mu = real("outer_momentum", outer_momentum, 0, 1, open_high=True)
    m, v, outer = (net.initial(name, torch.zeros_like(x)) for name in ("m", "v", "outer"))
    y, x = net.initial("y", x), net.initial("x", x)
    for k in net.rounds():
        g = grad(y)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        m_hat, v_hat = m / (1 - b1 ** (k + 1)), v / (1 - b2 ** (k + 1))
        y = y - lr * (m_hat / (v_hat.sqrt() + eps) + weight_decay * y)
        if (k + 1) % tau == 0:
            delta = net.mean(x - y)
            outer = mu * outer + delta
            x = x - outer_lr * (mu * outer + delta)
            y = x
        yield y


def _share(net: Network, alive: Alive | None, k: int) -> Tensor | None:
    """The weight of each node in the average after step k."""
    if alive is None:
        return None
    mask = torch.as_tensor(alive(k))
    if mask.shape != (net.n,) or mask.dtype != torch.bool or not mask.any():
        raise ValueError(f"alive must give a bool mask of shape [{net.n}] that is not all False, got {mask}")
    return mask.double() / mask.sum()
