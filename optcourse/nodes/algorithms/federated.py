r"""Local steps between averages, with everything federated learning adds: FedAvg, FedProx, SCAFFOLD, DiLoCo, samples.

x has one row per own node; ``net.mean`` is one row that broadcasts. Lecture 16 derives the algorithms.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from optcourse.arguments import integer, nonnegative, positive, real
from optcourse.nodes.algorithms.algorithm import Gradient, Iterates, algorithm
from optcourse.nodes.algorithms.participation import Alive, changed, shares
from optcourse.nodes.algorithms.server import as_rule
from optcourse.nodes.algorithms.step_sizes import rate
from optcourse.nodes.network.network import Network
from optcourse.optim import SGD, AdamW


@algorithm
def local_sgd(
    net: Network,
    grad: Gradient,
    x: Tensor,
    lr: float,
    local_steps: int = 1,
    alive: Alive | None = None,
    threshold: float | None = None,
    samples: ArrayLike | None = None,
    proximal: float = 0.0,
    optimizer: Any = None,
    server: Any = None,
    server_lr: float = 1.0,
) -> Iterates:
    r"""Local SGD, or FedAvg: :math:`x_i \leftarrow x_i - \gamma g_i(x_i)`, and all rows become their mean after every
    ``local_steps`` = tau steps.

    Yields after each local step. Per tau steps one mean of d numbers. Bound: ``theory.local.local_sgd_bound``. Source:
    McMahan, Moore, Ramage, Hampson & Aguera y Arcas 2017, Algorithm 1; Stich 2019, "Local SGD converges fast and
    communicates little".

    ``alive(k)``, a mask [n], says who takes part in the averaging after step k: who has not dropped out, or was
    sampled (:func:`clients`); a mask itself holds for all steps. The mean then goes to everybody, and its way to those
    who did not take part is counted. ``samples`` [n] >= 0 weigh the nodes in proportion (FedAvg's
    :math:`n_i/\sum n_j`), among those alive. With ``threshold`` the nodes average as soon as
    :math:`\frac1n\sum_i\|x_i-a\|^2`, with a the last average, exceeds it ("when necessary"), and after tau steps at the
    latest; that costs a mean of one number per step.

    ``proximal`` = mu adds :math:`\mu(x_i-a)` to the gradients: FedProx (Li, Sahu, Zaheer, Sanjabi, Talwalkar & Smith
    2020, equation 2). ``optimizer`` takes the local steps: an element-wise class of ``optcourse.optim``, or a
    ``functools.partial`` of one with its settings; its state stays on the node. ``server`` treats
    :math:`\Delta=\mathrm{mean}(a-x_i)` as a gradient at a, with the rate ``server_lr``: likewise a class
    (``partial(SGD, momentum=0.9)``: FedAvgM of Hsu, Qi & Brown 2019), or ``nodes.fed_adam()`` and its relatives.

    Raises ``ValueError`` for local_steps < 1, a threshold, proximal or samples < 0, server_lr <= 0, a server_lr
    without server, or a round without anyone alive who has samples; ``TypeError`` for what is no element-wise
    optimizer, and an ``alive`` that is no function.
    """
    tau = integer("local_steps", local_steps, 1)
    nonnegative(proximal=proximal, threshold=0.0 if threshold is None else threshold)
    positive(server_lr=server_lr)
    if server is None and server_lr != 1.0:
        raise ValueError(f"server_lr must be 1 without a server, got {server_lr}")
    step, jump, share = as_rule("optimizer", optimizer), as_rule("server", server), shares(net, alive, samples)
    anchor, since = net.initial("anchor", x), net.initial("since", torch.zeros(net.rows, 1))
    local, outer = (
        net.initial(name, rule.start(x) if rule else []) for name, rule in (("local", step), ("outer", jump))
    )
    for k in net.rounds():
        g = grad(x) + proximal * (x - anchor) if proximal else grad(x)
        x, local = step(x, g, local, rate(lr, k)) if step else (x - lr * g, local)
        since = since + 1
        due = bool(since[0] >= tau) if threshold is not None else (k + 1) % tau == 0
        if threshold is not None:
            drift = net.mean((x - anchor).square().sum(1, keepdim=True))
            due = due or drift.item() > threshold
        if due and jump:
            delta = net.mean(anchor - x, weight=share(k))
            x, outer = jump(anchor, delta.expand_as(x), outer, server_lr)
        elif due:
            x = net.mean(x, weight=share(k)).expand_as(x)
        if due:
            anchor, since = x, torch.zeros_like(since)
        yield x


@algorithm
def scaffold(
    net: Network,
    grad: Gradient,
    x: Tensor,
    lr: float,
    local_steps: int = 1,
    server_lr: float = 1.0,
    alive: Alive | None = None,
) -> Iterates:
    r"""SCAFFOLD: local steps :math:`y_i \leftarrow y_i - \gamma(g_i(y_i)-c_i+c)` that know which way the others pull.

    After tau steps :math:`c_i^+=c_i-c+\frac1{\tau\gamma}(x-y_i)`, :math:`x^+=x+\eta\,\mathrm{mean}(y_i-x)` and
    :math:`c^+=c+\frac1n\sum_i(c_i^+-c_i)` (option II; with a step size that changes, its sum over the round in the
    place of tau gamma). Its fixed point is the minimizer itself, whatever the heterogeneity. ``alive(k)`` as in
    :func:`local_sgd`: the mean is over those who take part, and only their c_i change. Per round two means of d
    numbers. Source: Karimireddy, Kale, Mohri, Reddi, Stich & Suresh 2020, Algorithm 1. Raises ``ValueError`` for
    local_steps < 1, server_lr <= 0, or a round without anyone alive, ``TypeError`` for an ``alive`` that is no
    function.
    """
    tau = integer("local_steps", local_steps, 1)
    positive(server_lr=server_lr)
    share = shares(net, alive)
    c_i, c = net.initial("c_i", torch.zeros_like(x)), net.initial("c", torch.zeros_like(x))
    y, x = net.initial("y", x), net.initial("x", x)
    spent = net.initial("spent", x.new_zeros(net.rows, 1))
    for k in net.rounds():
        y, spent = y - lr * (grad(y) - c_i + c), spent + lr * x.new_ones(net.rows, 1)
        if (k + 1) % tau == 0:
            weight = share(k)
            here = None if weight is None else (weight > 0).double() / net.n
            change = (x - y) / spent - c
            c = c + net.mean(change, weight=here)
            c_i = changed(net, weight, c_i + change, c_i)
            x = x + server_lr * net.mean(y - x, weight=weight)
            y, spent = x, torch.zeros_like(spent)
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
    alive: Alive | None = None,
) -> Iterates:
    r"""DiLoCo: AdamW on every node, and Nesterov momentum on what ``local_steps`` of it changed.

    After tau steps the outer gradient is :math:`\Delta=\mathrm{mean}(x-y_i)`; :math:`m \leftarrow \mu m+\Delta`,
    :math:`x \leftarrow x-\eta(\mu m+\Delta)`. Adam's moments stay on their nodes. Per round one mean of d numbers.
    It is :func:`local_sgd` with these two optimizers, and ``alive`` as there. Source: Douillard, Feng, Rusu, Chhaparia,
    Donchev, Kuncoro, Ranzato, Szlam & Shen 2023, Algorithm 1. Raises ``ValueError`` for local_steps < 1, outer_lr <= 0,
    momenta outside [0, 1), eps <= 0 or weight_decay < 0.
    """
    positive(outer_lr=outer_lr, eps=eps)
    b1, b2 = (real("betas", beta, 0, 1, open_high=True) for beta in betas)
    mu = real("outer_momentum", outer_momentum, 0, 1, open_high=True)
    inner = partial(AdamW, betas=(b1, b2), eps=eps, weight_decay=weight_decay)
    server = partial(SGD, momentum=mu, nesterov=mu > 0)
    federated = inspect.unwrap(local_sgd)
    yield from federated(net, grad, x, lr, local_steps, alive, optimizer=inner, server=server, server_lr=outer_lr)
