r"""Averages over all nodes: parallel SGD, and local steps before or during an average.

x has one row per own node; ``net.mean`` is one row that broadcasts. Lectures 14 and 16 derive the algorithms.
"""

from __future__ import annotations

import torch
from torch import Tensor

from optcourse.arguments import integer
from optcourse.nodes.algorithms.algorithm import Gradient, Iterates, algorithm
from optcourse.nodes.network.network import Network


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
def overlap_local_sgd(net: Network, grad: Gradient, x: Tensor, lr: float, local_steps: int = 1) -> Iterates:
    r"""Local SGD whose average is under way while the next local steps are computed (CoCoD-SGD, delayed averaging).

    At the start of a round of tau = ``local_steps`` steps the mean of the :math:`x_i` is asked for; when they are done
    it has arrived, and the node adds what it did meanwhile: :math:`x_i \leftarrow \bar x^{old}+(x_i-x_i^{old})`. A
    round takes the longer of tau gradients and one mean, where :func:`local_sgd` takes their sum. The price: each node
    starts from an average that lacks the others' last round. Yields after each local step. Per round one mean of d
    numbers, by ``net.start_mean``. Source: Shen, Xu, Liu, Liang & Cheng 2019, "Faster distributed deep net training:
    computation and communication decoupled stochastic gradient descent", Algorithm 1; the same idea, Wang, Liang &
    Joshi 2020, "Overlap Local-SGD".

    Raises ``ValueError`` for local_steps < 1.
    """
    tau = integer("local_steps", local_steps, 1)
    begun, asked = net.initial("begun", x), net.initial("asked", torch.zeros(net.rows, 1, dtype=torch.float64))
    pending = None
    for k in net.rounds():
        if k % tau == 0:
            begun, asked = x, net.own_times()
            pending = net.start_mean(begun)
        elif pending is None:  # continued from a checkpoint within a round
            pending = net.start_mean(begun, since=asked)
        x = x - lr * grad(x)
        if (k + 1) % tau == 0:
            x = pending.wait() + (x - begun)
        yield x
