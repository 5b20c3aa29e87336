"""Gossip: a graph, its spectral gap, and how fast its nodes agree (lecture 17)."""

from __future__ import annotations

import networkx as nx
import numpy as np
import torch
from matplotlib.figure import Figure

from optcourse.arguments import choice, integer
from optcourse.nodes import draw_topology, dsgd, mixing_matrix, one_peer_exponential, spectral_gap, topology
from optcourse.nodes.network.network import Network
from optcourse.plotting import COLORS, figure, theory

#: Graphs that exist for every number of nodes.
GRAPHS = ("ring", "path", "star", "tree", "exponential", "one peer", "complete")
ROUNDS, TARGET = 60, 1e-3


def gossip_figure(graph: str, n_nodes: int) -> Figure:
    r"""Gossip with Metropolis weights on a graph of n nodes, from 20 random numbers in each (always the same).

    Left, the graph; right, the disagreement after each of 60 rounds beside lambda^t, for *one peer* the powers of what
    a whole cycle of rounds leaves. The titles give the spectral gap (of one peer: of its cycle) and the round in which
    one thousandth of the disagreement is left. A disagreement of zero (below 1e-15) is marked.

    ``graph`` is one of ``GRAPHS``, ``n_nodes`` in 2..64. Raises ``ValueError`` otherwise.
    """
    choice("graph", graph, GRAPHS)
    n = integer("n_nodes", n_nodes, 2, 64)
    cycle = one_peer_exponential(n) if graph == "one peer" else [mixing_matrix(topology(graph, n))]
    whole = torch.linalg.multi_dot([*cycle, torch.eye(n, dtype=torch.float64)]) if len(cycle) > 1 else cycle[0]
    lam = 1 - spectral_gap(whole)
    x = torch.as_tensor(np.random.default_rng(0).standard_normal((n, 20)))
    mean, distance = x.mean(0), [1.0]
    first = (x - mean).norm()
    iterates = dsgd(Network(n), torch.zeros_like, x, 1.0, W=cycle)
    for _ in range(ROUNDS):
        distance.append(((next(iterates) - mean).norm() / first).item())
    relative = np.array(distance)
    zero, below = np.flatnonzero(relative < 1e-15), np.flatnonzero(relative <= TARGET)
    fig, (left, right) = figure(ncols=2, height=4.0)
    if graph == "one peer":
        hop = 2 ** (len(cycle) - 1)
        peers = nx.DiGraph([((i + hop) % n, i) for i in range(n)], name="exponential")
        draw_topology(left, peers, title=f"round {len(cycle)} of {len(cycle)}: gap of a cycle {1 - lam:.3g}")
    else:
        draw_topology(left, topology(graph, n), title=f"{graph}, n = {n}: gap {1 - lam:.3g}")
    until = int(zero[0]) if zero.size else ROUNDS + 1
    right.plot(np.arange(until), relative[:until], "o-", markersize=3, color=COLORS["blue"], label="measured")
    if zero.size:
        right.plot(until, 2e-6, "v", markersize=9, color=COLORS["red"], label=f"exact after round {until}")
    if lam > 1e-9:
        rounds = np.arange(0, ROUNDS + 1, len(cycle))
        theory(right, rounds, lam ** (rounds / len(cycle)), label="$λ^t$")
    right.axhline(TARGET, color=COLORS["grey"], linewidth=1)
    right.set(yscale="log", ylim=(1e-6, 2), xlim=(-1, ROUNDS), xlabel="round t", ylabel="distance to the mean / first")
    right.set_title(f"1/1000 after {below[0]} rounds" if below.size else f"1/1000: later than round {ROUNDS}")
    right.legend(loc="best")
    return fig
