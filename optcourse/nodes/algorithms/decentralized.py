r"""Averages over neighbours only: decentralized SGD, its cures for heterogeneity, and compressed gossip.

``W`` is a doubly stochastic matrix [n, n] (for ``push_sum`` its columns suffice) or, where the type is ``Mixing``, a
list of them that is used in turn (one-peer schedules): the graph of the list's mean must be connected. Lecture 17
derives the algorithms.
"""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import torch
from torch import Tensor

from optcourse.arguments import real
from optcourse.nodes.algorithms.algorithm import Gradient, Iterates, algorithm, fixed, in_turn
from optcourse.nodes.messages.payloads import Compressor, as_compressor
from optcourse.nodes.network.network import Network

Mixing = Tensor | Sequence[Tensor]


@algorithm
def dsgd(net: Network, grad: Gradient, x: Tensor, lr: float, W: Mixing) -> Iterates:
    r"""Decentralized SGD: :math:`x_i \leftarrow \sum_j w_{ij}(x_j-\gamma g_j(x_j))`.

    Per step d numbers to each neighbour. Bound: ``theory.gossip.dsgd_bound``; with heterogeneous data the fixed point
    is off by O(lr) (``theory.gossip.dsgd_fixed_point``). Source: Lian, Zhang, Zhang, Hsieh, Zhang & Liu 2017, "Can
    decentralized algorithms outperform centralized algorithms?", in the adapt-then-combine order.
    """
    mixing = in_turn(net, W)
    for k in net.rounds():
        x = net.mix(mixing(k), x - lr * grad(x))
        yield x


@algorithm
def push_sum(net: Network, grad: Gradient, x: Tensor, lr: float, W: Mixing) -> Iterates:
    r"""Stochastic gradient push, SGP: gossip on directed graphs, where nobody knows who hears better than itself.

    The columns of W sum to 1 (``mixing_matrix(graph, "push")``), its rows need not: the sum of all u stays, but each
    node ends with a share of its own. So a weight travels along, and what is read is the quotient z:

    .. math:: u_i \leftarrow \sum_jw_{ij}\big(u_j-\gamma g_j(z_j)\big),\quad \omega_i \leftarrow \sum_jw_{ij}\omega_j,
        \quad z_i=u_i/\omega_i

    from u = x, omega = 1; z is what is yielded. With a doubly stochastic W omega stays 1, and it is :func:`dsgd`. Per
    step d + 1 numbers to each node that hears the sender. Source: Assran, Loizou, Ballas & Rabbat 2019, "Stochastic
    gradient push for distributed deep learning", Algorithm 1; Kempe, Dobra & Gehrke 2003, for averages.
    """
    mixing = in_turn(net, W, stochastic="columns")
    u = net.initial("u", torch.cat([x, x.new_ones(net.rows, 1)], 1))  # the last column is omega
    for k in net.rounds():
        g = grad(x)
        u = net.mix(mixing(k), torch.cat([u[:, :-1] - lr * g, u[:, -1:]], 1), stochastic="columns")
        x = u[:, :-1] / u[:, -1:]
        yield x


@algorithm
def gradient_tracking(net: Network, grad: Gradient, x: Tensor, lr: float, W: Mixing) -> Iterates:
    r"""Gradient tracking: :math:`x^+=W(x-\gamma y)`, :math:`y^+=Wy+g(x^+)-g(x)`, :math:`y_0=g(x_0)`.

    y_i follows the *mean* gradient, since the mean of y is always the mean of g; the fixed point is the minimizer. Per
    step 2d numbers to each neighbour. Rate on quadratics: ``theory.gossip.gradient_tracking_rate``. Source: Di Lorenzo
    & Scutari 2016, "NEXT"; Nedic, Olshevsky & Shi 2017.
    """
    mixing = in_turn(net, W)
    g, y = net.initial("g", torch.zeros_like(x)), net.initial("y", torch.zeros_like(x))
    for k in net.rounds():
        if k == 0:
            g = y = grad(x)
        x = net.mix(mixing(k), x - lr * y)
        g, old = grad(x), g
        y = net.mix(mixing(k), y) + g - old
        yield x


@algorithm
def d2(net: Network, grad: Gradient, x: Tensor, lr: float, W: Tensor) -> Iterates:
    r"""D2: :math:`x^{k+1}=W(2x^k-x^{k-1}-\gamma(g^k-g^{k-1}))`, :math:`x^1=W(x^0-\gamma g^0)`.

    Each gradient goes with the step size of its round. Removes the heterogeneity term of DSGD at its price, d numbers
    to each neighbour, for a fixed symmetric W with eigenvalues above -1/3. At -1/3 itself, the smallest of every even
    ring with three equal weights, one root is -1 + O(lr): there the curvature alone damps, and W is taken, whatever its
    rounding. Source: Tang, Lian, Yan, Zhang & Liu 2018, "D2: decentralized training over decentralized data", Algorithm
    1. Raises ``ValueError`` for another W.
    """
    dense = fixed(net, W).to_dense().double()
    if not torch.allclose(dense, dense.T, rtol=0, atol=1e-9):
        raise ValueError("W must be symmetric for D2")
    lowest = float(torch.linalg.eigvalsh(dense)[0])
    if lowest < -1 / 3 - 1e-6:  # entries of single precision are rounded by 3e-8
        raise ValueError(f"W must have eigenvalues of at least -1/3 for D2, got {lowest:.7g}; (W + I)/2 has")
    old_x, old_step = net.initial("old_x", torch.zeros_like(x)), net.initial("old_step", torch.zeros_like(x))
    for k in net.rounds():
        step = lr * grad(x)
        moved = x - step if k == 0 else 2 * x - old_x - (step - old_step)
        old_x, old_step = x, step
        x = net.mix(W, moved)
        yield x


@algorithm
def relay_sum(net: Network, grad: Gradient, x: Tensor, lr: float, tree: nx.Graph) -> Iterates:
    r"""RelaySGD: on a tree, neighbours *relay* sums, so that every node's step reaches all others exactly once.

    With :math:`x_i^{1/2}=x_i-\gamma g_i`, node i sends j the message
    :math:`m_{i\to j}=x_i^{1/2}+\sum_{k\in N_i\setminus j}m_{k\to i}` built from what it received a step ago, with a
    counter of the c summands in it. A vector arrives after as many steps as it has hops to go, and for what is still
    under way stands the start:

    .. math:: x_i \leftarrow \frac1n\Big(x_i^{1/2}+\sum_{k\in N_i}m_{k\to i}
        +\big(n-1-\sum_{k\in N_i}c_{k\to i}\big)\,x_i^0\Big)

    Uniform weights whatever the shape of the tree. Per step d + 1 numbers to each neighbour. Source: Vogels, He,
    Koloskova, Karimireddy, Lin, Stich & Jaggi 2021, "RelaySum for decentralized deep learning on heterogeneous data",
    Algorithm 1 and the released code (all nodes start at one x^0 there). Raises ``ValueError`` unless ``tree`` is a
    tree on 0..n-1.
    """
    graph = isinstance(tree, nx.Graph) and not tree.is_directed()
    if not graph or set(tree.nodes) != set(range(net.n)) or not nx.is_tree(tree):
        raise ValueError(f"tree must be an undirected tree on the nodes 0..{net.n - 1}, got {tree}")
    edges = sorted((i, j) for u, v in tree.edges for i, j in ((u, v), (v, u)))
    own = {int(i): row for row, i in enumerate(net.mine)}
    out = [(i, j) for i, j in edges if i in own]
    into = [(i, j) for i, j in edges if j in own]
    # relays: message number `a` of those received goes into message number `b` of those sent
    relays = [(a, b) for b, (i, j) in enumerate(out) for a, (k, to) in enumerate(into) if to == i and k != j]
    source, target = torch.tensor(relays, dtype=torch.int64).reshape(-1, 2).T
    senders, receivers = torch.tensor([own[i] for i, _ in out]), torch.tensor([own[j] for _, j in into])
    nothing = x.new_zeros(len(into), x.shape[1] + 1)  # the last column counts summands
    received, start = net.initial("received", nothing, per_node=False), net.initial("start", x)
    for _ in net.rounds():
        half = torch.cat([x - lr * grad(x), x.new_ones(net.rows, 1)], 1)
        messages = half[senders].index_add(0, target, received[source]) if out else half[:0]
        received = net.exchange(edges, messages)
        total = half.index_add(0, receivers, received) if into else half
        x = (total[:, :-1] + (net.n - total[:, -1:]) * start) / net.n
        yield x


@algorithm
def choco(
    net: Network, grad: Gradient, x: Tensor, lr: float, W: Tensor, compress: Compressor, consensus_lr: float = 1.0
) -> Iterates:
    r"""CHOCO-SGD: gossip in which only the compressed *change* of a public copy travels.

    With :math:`x^{1/2}=x-\gamma g` and public copies :math:`\hat x_i`: send :math:`q_i=C(x_i^{1/2}-\hat x_i)`, all
    neighbours add it, :math:`\hat x_i \leftarrow \hat x_i+q_i`, and
    :math:`x_i=x_i^{1/2}+\eta\sum_jw_{ij}(\hat x_j-\hat x_i)`. A node stores only the sum
    :math:`s_i=\sum_jw_{ij}\hat x_j` of its neighbours' copies. Any compressor with delta > 0 works when eta =
    ``consensus_lr`` in (0, 1] is small enough; the theory's (``theory.compressed_gossip.choco_gossip_step``) is much
    smaller than what works. Per step one message to each neighbour. Source: Koloskova, Stich & Jaggi 2019,
    "Decentralized stochastic optimization and gossip algorithms with compressed communication", Algorithm 2. Raises
    ``ValueError`` for consensus_lr outside (0, 1], or a list of matrices, ``TypeError`` for what is no compressor.
    """
    W, compress = fixed(net, W), as_compressor("compress", compress)
    eta = real("consensus_lr", consensus_lr, 0, 1, open_low=True)
    public, around = net.initial("public", torch.zeros_like(x)), net.initial("around", torch.zeros_like(x))
    for _ in net.rounds():
        half = x - lr * grad(x)
        q = compress(half - public)
        public, around = public + q.dense(), around + net.mix(W, q)
        x = half + eta * (around - public)
        yield x
