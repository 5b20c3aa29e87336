"""What the recipes hand to their algorithms, made from the settings of a run (an ``Experiment``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import networkx as nx
import torch

from optcourse.arguments import integer
from optcourse.nodes import aggregators, attacks, compressors
from optcourse.nodes.graphs.topology import mixing_matrix, one_peer_exponential, topology
from optcourse.nodes.streams import Streams
from optcourse.nodes.time.clock import exponential
from optcourse.nodes.time.schedule import asynchronous_schedule


def mixing(run: Any, lazy: bool = False, rule: str = "metropolis") -> dict[str, Any]:
    """The mixing matrix of the graph, or those of its rounds; ``lazy`` keeps half of what a node has."""
    n, name = run.setup.nodes, run.setup.topology
    if name == "one_peer_exponential":
        return {"W": one_peer_exponential(n)}
    W = mixing_matrix(topology(name, n), rule)
    return {"W": (W + torch.eye(n, dtype=W.dtype)) / 2 if lazy else W}


def tree(run: Any) -> dict[str, Any]:
    """A tree of shortest paths from node 0 in the graph."""
    return {"tree": nx.bfs_tree(topology(run.setup.topology, run.setup.nodes), 0).to_undirected()}


def _random_k(run: Any) -> compressors.Compressor:
    unbiased = run.setup.algorithm in ("compressed_sgd", "qsgd")  # nothing makes up for a bias there
    return compressors.random_k(_kept(run), _streams(run), unbiased=unbiased)


def _streams(run: Any) -> Streams:
    return run.net.streams("compressor", run.setup.seed)


def _kept(run: Any) -> int:
    d = run.start.shape[1]
    return max(1, d // 20) if run.setup.k is None else integer("k", run.setup.k, 1, d)


#: (the settings that a compressor has of its own, the compressor of a run).
COMPRESSORS: dict[str, tuple[Mapping[str, Any], Callable[[Any], compressors.Compressor]]] = {
    "identity": ({}, lambda run: compressors.identity()),
    "top_k": ({"k": None}, lambda run: compressors.top_k(_kept(run))),
    "random_k": ({"k": None}, _random_k),
    "qsgd": ({"levels": 4}, lambda run: compressors.qsgd(run.setup.levels, _streams(run))),
    "scaled_sign": ({}, lambda run: compressors.scaled_sign()),
    "low_rank": ({"rank": 2}, lambda run: compressors.low_rank(run.shapes, run.setup.rank, streams=_streams(run))),
}


def compress(run: Any) -> dict[str, Any]:
    """The compressor."""
    return {"compress": COMPRESSORS[run.setup.compressor][1](run)}


def robust(run: Any) -> dict[str, Any]:
    """The robust rule, and the attack on it."""
    s = run.setup
    rule, attack = aggregators.AGGREGATORS[s.aggregator], attacks.ATTACKS.get(s.attack)
    rule(torch.zeros(s.nodes, 1), s.n_byzantine)  # refuses more liars than it stands now, not in the first round
    if s.aggregator == "centered_clipping":
        rule = aggregators.clipping_from_last()  # a run has a history
    options = {"aggregate": rule, "n_byzantine": s.n_byzantine, "momentum": 0.5}
    return options | {"attack": attack() if attack else None}


def schedule(run: Any) -> dict[str, Any]:
    """When which gradient arrives."""
    s = run.setup
    law = exponential(s.compute, s.nodes, seed=s.seed)
    return {"schedule": asynchronous_schedule(law, s.nodes, s.steps, s.latency, show=run.show)}
