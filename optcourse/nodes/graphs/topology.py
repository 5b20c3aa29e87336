r"""Who talks to whom: graphs, mixing matrices, spectral gaps and schedules with one neighbour per round.

Gossip is x_i <- sum_j W_ij x_j. W_ij > 0 says that node i hears node j; a node always hears itself. W must be doubly
stochastic: its rows sum to 1, so that equal nodes stay equal, and its columns sum to 1, so that the mean stays. Where
some hear more nodes than hear them, simple weights have columns that sum to 1 only: ``push_sum`` needs no more.
``spectral_gap`` = 1 - ||W - J||_2 with J = 11^T/n says how fast the nodes agree; for graphs with a name there is a
formula in ``theory.gossip.mixing_rate``.

An edge (u, v) of a directed graph says that u sends to v: it becomes W[v, u].
"""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor

from optcourse.arguments import choice, integer
from optcourse.nodes.graphs.sparse import component_sizes, csr, listed, tensor

GRAPHS = ("ring", "directed_ring", "path", "torus", "grid", "star", "tree", "hypercube", "exponential", "complete")
RULES = ("metropolis", "uniform", "push")
#: Which lines of a matrix sum to 1.
STOCHASTIC = {"doubly": ("row", "column"), "columns": ("column",), "rows": ("row",)}

#: Up to this number of nodes the spectral gap is computed by a dense singular value decomposition.
_DENSE = 500


def topology(name: str, n: int) -> nx.Graph:
    """The graph called ``name`` with the nodes 0..n-1; ``graph.name`` is ``name``.

    ============= ========================== ===========================================================
    name          n                          the neighbours of node i
    ============= ========================== ===========================================================
    ring          any                        i - 1 and i + 1 mod n
    directed_ring any                        i hears i - 1 mod n alone: a ``networkx.DiGraph``
    path          any                        i - 1 and i + 1
    torus         s^2, s >= 3                up, down, left, right in an s x s square (row-major) that wraps around
    grid          s^2                        the same without wrap-around
    star          any                        0 for all others
    tree          any                        children 2i + 1 and 2i + 2 (balanced binary tree with root 0)
    hypercube     2^p                        the numbers that differ from i in one bit
    exponential   any                        i hears i + 2^j mod n for j < ceil log2 n: a ``networkx.DiGraph``
    complete      any                        all
    ============= ========================== ===========================================================

    "one_peer_exponential" is a schedule and not a graph: see :func:`one_peer_exponential`. Source of the exponential
    graph: Ying, Yuan, Chen, Hu, Pan & Yin 2021, "Exponential graph is provably efficient for decentralized deep
    training". Raises ``ValueError`` for an unknown name or a number of nodes that the graph does not have.

    >>> topology("ring", 4).edges
    EdgeView([(0, 1), (0, 3), (1, 2), (2, 3)])
    >>> sorted(topology("exponential", 8).predecessors(0))
    [1, 2, 4]
    """
    if name == "one_peer_exponential":
        raise ValueError("name must be that of a graph: one_peer_exponential(n) gives the matrices of this schedule")
    choice("name", name, GRAPHS)
    n = integer("n", n, 1)
    side, bits = math.isqrt(n), (n - 1).bit_length()
    least = 3 if name == "torus" else 1
    if name in ("torus", "grid") and (side**2 != n or side < least):
        allowed = sorted({max(least, side) ** 2, max(least, side + 1) ** 2})
        raise ValueError(f"n of a {name} must be s^2 with s >= {least} (near: {listed(allowed)}), got {n}")
    if name == "hypercube" and n != 2**bits:
        raise ValueError(f"n of a hypercube must be 2^p (near: {2 ** (bits - 1)}, {2**bits}), got {n}")
    nodes = range(n)
    if name in ("ring", "directed_ring", "path"):
        edges = [(i, (i + 1) % n) for i in (nodes[:-1] if name == "path" else nodes)]
    elif name in ("torus", "grid"):
        stop = side if name == "torus" else side - 1
        edges = [(row * side + k, row * side + (k + 1) % side) for row in range(side) for k in range(stop)]
        edges += [(k * side + column, (k + 1) % side * side + column) for k in range(stop) for column in range(side)]
    elif name == "star":
        edges = [(0, i) for i in nodes[1:]]
    elif name == "tree":
        edges = [((i - 1) // 2, i) for i in nodes[1:]]
    elif name == "hypercube":
        edges = [(i, i ^ 1 << k) for i in nodes for k in range(bits)]
    elif name == "exponential":
        edges = [((i + 2**k) % n, i) for i in nodes for k in range(bits)]
    else:
        edges = [(i, j) for i in nodes for j in range(i)]
    graph = nx.DiGraph(name=name) if name in ("directed_ring", "exponential") else nx.Graph(name=name)
    graph.add_nodes_from(nodes)
    graph.add_edges_from((i, j) for i, j in edges if i != j)  # the ring of one node has no edge
    return graph


def mixing_matrix(
    graph: nx.Graph, rule: str = "metropolis", *, dtype: torch.dtype = torch.float64, sparse: bool = False
) -> Tensor:
    r"""The doubly stochastic matrix W [n, n] of a connected graph with the nodes 0..n-1; W_ii > 0 for all i.

    (``rule="push"``: with columns that sum to 1, on every graph.)

    ``rule="metropolis"``: :math:`W_{ij}=1/(1+\max\{d_i,d_j\})` for neighbours, d the degrees. ``rule="uniform"``:
    :math:`W_{ij}=1/(1+d_{\max})`. Both have :math:`W_{ii}=1-\sum_{j\ne i}W_{ij}`, and they agree where all degrees are
    equal (1/3 on a ring, 1/n on the complete graph). On an undirected graph W is symmetric. On a directed graph d
    counts who is heard; "uniform" is doubly stochastic if every node hears as many as hear it, "metropolis" as a rule
    only if all degrees are equal. ``rule="push"`` is for ``push_sum``: a node shares what it has equally among itself
    and the :math:`d_j` nodes that hear it, :math:`W_{ij}=1/(1+d_j)`, and needs to know no more. Self-loops and edge
    weights of ``graph`` are not used.

    ``sparse=True`` gives a CSR tensor and never builds n x n numbers. ``dtype`` is torch.float32 or torch.float64.
    Raises ``TypeError`` for what is not a networkx Graph or DiGraph; ``ValueError`` for an empty graph, nodes that are
    not 0..n-1, a graph that is not (strongly) connected, an unknown rule, and a rule that does not give a doubly
    stochastic matrix on this directed graph. Source of the Metropolis weights: Xiao, Boyd & Lall 2005, "A scheme for
    robust distributed sensor fusion based on average consensus".

    >>> mixing_matrix(topology("path", 3), "uniform") * 3
    tensor([[2., 1., 0.],
            [1., 1., 1.],
            [0., 1., 2.]], dtype=torch.float64)
    """
    choice("rule", rule, RULES)
    n, hears, heard = _links(graph)
    degree = np.bincount(heard if rule == "push" else hears, minlength=n)
    largest = {
        "metropolis": np.maximum(degree[hears], degree[heard]),
        "uniform": np.full(hears.shape, degree.max()),
        "push": degree[heard],
    }[rule]
    weight = 1 / (1 + largest)
    own = 1 - np.bincount(heard if rule == "push" else hears, weight, minlength=n)
    nodes = np.arange(n)
    W = tensor(n, np.append(hears, nodes), np.append(heard, nodes), np.append(weight, own), dtype, sparse)
    if graph.is_directed() and rule != "push":
        try:
            check_mixing(W, n)
        except ValueError as error:
            raise ValueError(f"rule {rule!r} is not doubly stochastic on this directed graph: {error}") from None
    return W


def check_mixing(W: Tensor, n: int, *, connected: bool = True, stochastic: str = "doubly") -> None:
    """Raise ``ValueError`` unless W (dense or CSR) is a mixing matrix of n nodes.

    That is: shape [n, n], float32 or float64, finite, no negative entry, every row and column sums to 1 (``stochastic``
    = "columns" or "rows": these alone) and, if ``connected``, every node reaches every other. Sums and signs count up
    to 8 sqrt(n) eps of W's dtype, the rounding of n additions. ``TypeError`` for what is not a tensor. A matrix that
    passes can still have spectral gap 0, as a cyclic shift has; with W_ii > 0 for all i it cannot.

    >>> check_mixing(torch.tensor([[0.5, 0.5], [0.4, 0.6]]), 2)
    Traceback (most recent call last):
    ValueError: W must have columns that sum to 1, column 1 sums to 1.1 (off by 0.1)
    """
    n = integer("n", n, 1)
    matrix = csr(W)
    if matrix.shape != (n, n):
        raise ValueError(f"W must have shape [{n}, {n}], got {list(W.shape)}")
    entries = matrix.tocoo()
    rounding = 8 * math.sqrt(n) * torch.finfo(W.dtype).eps
    for bad, allowed in ((~np.isfinite(entries.data), "finite"), (entries.data < -rounding, "non-negative")):
        if bad.any():
            k = int(bad.argmax())
            i, j = entries.row[k], entries.col[k]
            raise ValueError(f"W must have {allowed} entries, got W[{i}, {j}] = {entries.data[k]:.9g}")
    choice("stochastic", stochastic, STOCHASTIC)
    for line in STOCHASTIC[stochastic]:
        sums = np.asarray(matrix.sum(axis=int(line == "row"))).ravel()
        k = int(abs(sums - 1).argmax())
        off = sums[k] - 1
        if abs(off) > rounding:
            raise ValueError(f"W must have {line}s that sum to 1, {line} {k} sums to {sums[k]:.6g} (off by {off:.3g})")
    if connected:
        sizes = component_sizes(matrix > rounding)
        if len(sizes) > 1:
            raise ValueError(f"W must connect all nodes, got {len(sizes)} components of sizes {listed(sizes)}")


def spectral_gap(W: Tensor) -> float:
    """1 - ||W - 11^T/n||_2 of a doubly stochastic matrix (dense or CSR) [n, n]: in [0, 1], and 1 for averaging.

    Mixing brings the nodes together by the factor 1 - ``spectral_gap`` or better. From 501 nodes on Lanczos iterations
    with a fixed start vector (no n x n numbers for a CSR matrix; a ring of 10,000 takes seconds). Raises
    ``ValueError`` as :func:`check_mixing`, except that nodes that are not connected have the gap 0.

    >>> round(spectral_gap(mixing_matrix(topology("hypercube", 8))), 12)
    0.5
    """
    matrix = csr(W)
    n = W.shape[0]
    check_mixing(W, n, connected=False)
    if n <= _DENSE:
        rate = np.linalg.norm(matrix.toarray() - 1 / n, 2)
    else:
        transposed = matrix.T.tocsr()
        products = {"matvec": lambda x: matrix @ x - x.mean(), "rmatvec": lambda x: transposed @ x - x.mean()}
        apart: Any = LinearOperator((n, n), **products, dtype=float)  # pyright: ignore[reportCallIssue]: __new__ takes them
        start = np.random.default_rng(0).standard_normal(n)
        # The iteration cannot start from W = J, where one product leaves nothing but rounding.
        if np.linalg.norm(apart @ start) < 1e-13 * np.linalg.norm(start):
            return 1.0
        found: Any = svds(apart, k=1, v0=start, ncv=100, return_singular_vectors=False)
        rate = found[0]
    return min(1.0, max(0.0, 1 - float(rate)))


def one_peer_exponential(n: int, *, dtype: torch.dtype = torch.float64, sparse: bool = False) -> list[Tensor]:
    r"""The ceil log2 n rounds of the one-peer exponential graph: in round k node i averages with i + 2^k mod n.

    W_k = (I + P_k)/2 with the cyclic shift P_k: every node hears one node and is heard by one. A round alone may have
    spectral gap 0, but for n = 2^p the product of all rounds, in any order, is exactly 11^T/n; for other n it is not
    (``theory.gossip.mixing_rate``). Use them in turn: round t takes ``rounds[t % len(rounds)]``. One node has one
    round, [[1]]. Raises ``ValueError`` for n < 1. Source: Ying, Yuan, Chen, Hu, Pan & Yin 2021, "Exponential graph is
    provably efficient for decentralized deep training" (periodic exact averaging).

    >>> first, second = one_peer_exponential(4)
    >>> (first @ second).tolist() == [[0.25] * 4] * 4
    True
    """
    n = integer("n", n, 1)
    nodes = np.arange(n)
    rows, halves = np.tile(nodes, 2), np.full(2 * n, 0.5)
    hops = [2**k for k in range(max(1, (n - 1).bit_length()))]
    return [tensor(n, rows, np.append(nodes, (nodes + hop) % n), halves, dtype, sparse) for hop in hops]


def _links(graph: nx.Graph) -> tuple[int, np.ndarray, np.ndarray]:
    """The number of nodes of a checked graph, and its links: node hears[k] hears node heard[k], another one."""
    if not isinstance(graph, nx.Graph) or graph.is_multigraph():
        raise TypeError(f"graph must be a networkx Graph or DiGraph, got {type(graph).__name__}")
    n = len(graph)
    if n == 0:
        raise ValueError("graph must have at least one node, got an empty graph")
    if set(graph) != set(range(n)):
        numbers = f"0..{n - 1} (networkx.convert_node_labels_to_integers)"
        raise ValueError(f"graph must have the nodes {numbers}, got {listed(graph)}")
    links = nx.to_scipy_sparse_array(graph, nodelist=range(n), weight=None, dtype=float, format="csr")  # pyright: ignore[reportArgumentType]: without weights
    sizes = component_sizes(links)
    if len(sizes) > 1:
        how = "strongly connected" if graph.is_directed() else "connected"
        raise ValueError(f"graph must be {how}, got {len(sizes)} components of sizes {listed(sizes)}")
    # Sorted, so that W has the same bits however the graph was built.
    receivers = links.T.tocsr().sorted_indices().tocoo()
    others = receivers.row != receivers.col
    return n, receivers.row[others], receivers.col[others]
