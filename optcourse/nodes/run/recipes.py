"""What one training run consists of: a recipe for every algorithm, the setup of a run, and the parts made from both.

>>> setup = Setup("choco", nodes=4)
>>> setup.compressor, setup.lr, setup.local_steps
('top_k', 0.1, None)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, NamedTuple

import networkx as nx
import torch
import torch.nn.functional as F
from torch import Tensor

from optcourse import data as datasets
from optcourse import models
from optcourse.arguments import choice, integer, real
from optcourse.models.rows import evaluate, flat_parameters
from optcourse.nodes import aggregators, attacks, compressors
from optcourse.nodes.algorithms.algorithm import ALGORITHMS, Iterates
from optcourse.nodes.graphs.topology import GRAPHS, mixing_matrix, one_peer_exponential, topology
from optcourse.nodes.network.network import Network
from optcourse.nodes.samples.gradients import flat_gradient
from optcourse.nodes.samples.shards import SPLITS, Shards, split
from optcourse.nodes.streams import Streams
from optcourse.nodes.time.clock import Clock, exponential
from optcourse.nodes.time.schedule import asynchronous_schedule

#: Wraps an iterable of steps in a progress bar with a name.
Show = Callable[[Iterable, str], Iterable]


class Recipe(NamedTuple):
    """How a run uses an algorithm.

    ``line`` describes it; ``defaults`` are the settings that it has of its own; ``options(run)`` are its
    arguments that are no settings of the same name; ``lr`` trains digits; ``changing``: its graph may be another one in
    every round; ``rule`` is its function, if it is called otherwise.
    """

    line: str
    defaults: Mapping[str, Any] = {}
    options: Callable[[Experiment], dict[str, Any]] = lambda run: {}
    lr: float = 0.1
    changing: bool = False
    rule: str | None = None


def _mixing(run: Experiment, lazy: bool = False) -> dict[str, Any]:
    n, name = run.setup.nodes, run.setup.topology
    if name == "one_peer_exponential":
        return {"W": one_peer_exponential(n)}
    W = mixing_matrix(topology(name, n))
    return {"W": (W + torch.eye(n, dtype=W.dtype)) / 2 if lazy else W}


def _tree(run: Experiment) -> dict[str, Any]:
    return {"tree": nx.bfs_tree(topology(run.setup.topology, run.setup.nodes), 0).to_undirected()}


def _random_k(run: Experiment) -> compressors.Compressor:
    unbiased = run.setup.algorithm in ("compressed_sgd", "qsgd")  # nothing makes up for a bias there
    return compressors.random_k(_kept(run), _streams(run), unbiased=unbiased)


def _streams(run: Experiment) -> Streams:
    return run.net.streams("compressor", run.setup.seed)


def _kept(run: Experiment) -> int:
    d = run.start.shape[1]
    return max(1, d // 20) if run.setup.k is None else integer("k", run.setup.k, 1, d)


#: (the settings that a compressor has of its own, the compressor of a run).
COMPRESSORS: dict[str, tuple[Mapping[str, Any], Callable[[Experiment], compressors.Compressor]]] = {
    "identity": ({}, lambda run: compressors.identity()),
    "top_k": ({"k": None}, lambda run: compressors.top_k(_kept(run))),
    "random_k": ({"k": None}, _random_k),
    "qsgd": ({"levels": 4}, lambda run: compressors.qsgd(run.setup.levels, _streams(run))),
    "scaled_sign": ({}, lambda run: compressors.scaled_sign()),
    "low_rank": ({"rank": 2}, lambda run: compressors.low_rank(run.shapes, run.setup.rank, streams=_streams(run))),
}


def _compress(run: Experiment) -> dict[str, Any]:
    return {"compress": COMPRESSORS[run.setup.compressor][1](run)}


def _robust(run: Experiment) -> dict[str, Any]:
    s = run.setup
    rule, attack = aggregators.AGGREGATORS[s.aggregator], attacks.ATTACKS.get(s.attack)
    rule(torch.zeros(s.nodes, 1), s.n_byzantine)  # refuses more liars than it stands now, not in the first round
    if s.aggregator == "centered_clipping":
        rule = aggregators.clipping_from_last()  # a run has a history
    options = {"aggregate": rule, "n_byzantine": s.n_byzantine, "momentum": 0.5}
    return options | {"attack": attack() if attack else None}


def _schedule(run: Experiment) -> dict[str, Any]:
    s = run.setup
    law = exponential(s.compute, s.nodes, seed=s.seed)
    return {"schedule": asynchronous_schedule(law, s.nodes, s.steps, s.latency, show=run.show)}


_ring = {"topology": "ring"}
RECIPES = {
    "psgd": Recipe("parallel SGD: everybody averages every gradient"),
    "local_sgd": Recipe("local SGD, or FedAvg: average the models after some local steps", {"local_steps": 5}),
    "post_local_sgd": Recipe(
        "parallel SGD first, local SGD in the second half",
        {"local_steps": 5},
        lambda run: {"switch": run.setup.steps // 2},
    ),
    "scaffold": Recipe("local SGD whose steps are corrected for heterogeneous data", {"local_steps": 5}),
    "diloco": Recipe("AdamW on every node, Nesterov momentum on their mean change", {"local_steps": 10}, lr=0.001),
    "dsgd": Recipe("decentralized SGD: average with the neighbours", _ring, _mixing, changing=True),
    "gradient_tracking": Recipe("decentralized, each node follows the mean gradient", _ring, _mixing, changing=True),
    "d2": Recipe(
        "decentralized SGD without the error of heterogeneous data", _ring, lambda run: _mixing(run, lazy=True)
    ),
    "relay_sum": Recipe("sums relayed along a tree: every step reaches every node once", {"topology": "tree"}, _tree),
    "choco": Recipe(
        "decentralized, and only compressed changes travel",
        _ring | {"compressor": "top_k", "consensus_lr": 0.2},
        lambda run: _mixing(run) | _compress(run),
    ),
    "compressed_sgd": Recipe("compressed gradients, without memory", {"compressor": "random_k"}, _compress),
    "qsgd": Recipe("unbiased quantized gradients", {"compressor": "qsgd"}, _compress, rule="compressed_sgd"),
    "error_feedback": Recipe(
        "compressed gradients, and what was left out is sent later", {"compressor": "top_k"}, _compress
    ),
    "powersgd": Recipe(
        "low-rank gradients from a power iteration that all nodes share",
        {"rank": 2},
        lambda run: {"shapes": run.shapes, "rank": run.setup.rank},
    ),
    "robust_sgd": Recipe(
        "a robust rule instead of the mean, against nodes that lie",
        {"aggregator": "trimmed_mean", "attack": "sign_flip", "n_byzantine": None},
        _robust,
    ),
    "async_sgd": Recipe("a server that applies gradients when they arrive", {}, _schedule, lr=0.05),
}
_PASSED_ON = ("local_steps", "consensus_lr")  # arguments of the same name

_COUNT, _POSITIVE = partial(integer, low=1), partial(real, low=0, open_low=True)


def _setting(default: Any, line: str, allowed: Collection[str | bool] | Callable[[str, Any], Any]) -> Any:
    """A field of :class:`Setup`: what the command line says about it, and the values or the check of a value."""
    return field(default=default, metadata={"line": line, "allowed": allowed})


@dataclass(frozen=True)
class Setup:
    """What is trained, and how; None becomes the default of the algorithm's recipe, where that has a use for it
    (the hints say what it finds then).

    ``k`` stays None, for d/20; ``n_byzantine`` is a fifth of the nodes. ``alpha`` is the parameter of the Dirichlet
    split, 0.5; split "label" gives every node two classes (more when the nodes are few). ``latency`` in seconds,
    ``bandwidth`` in bytes per second and ``compute``, seconds per gradient, are those of the simulated clock. Raises
    ``ValueError`` for unknown names, numbers outside their range, and settings that the algorithm has no use for.
    """

    algorithm: str
    nodes: int = _setting(8, "Nodes, shared out among the processes.", _COUNT)
    steps: int = _setting(200, "Rounds in total.", _COUNT)
    lr: float | None = _setting(None, "Learning rate.", _POSITIVE)
    batch_size: int = _setting(16, "Samples per gradient and node.", _COUNT)
    data: str = _setting("digits", "", ("digits", "mnist1d"))
    model: str = _setting("mlp", "", ("mlp", "cnn"))
    split: str = _setting("iid", "Who has what.", SPLITS)
    alpha: float | None = _setting(None, "Of the Dirichlet split: small is heterogeneous.  [default: 0.5]", _POSITIVE)
    topology: str = _setting(None, "Who talks to whom.", (*GRAPHS, "one_peer_exponential"))
    compressor: str = _setting(None, "What makes messages small.", COMPRESSORS)
    levels: int = _setting(None, "Of qsgd's quantization.  [default: 4]", _COUNT)
    k: int | None = _setting(None, "Entries that top_k and random_k keep.  [default: d/20]", _COUNT)
    rank: int = _setting(None, "Of low_rank and powersgd.", _COUNT)
    local_steps: int | None = _setting(None, "Steps between two averages.", _COUNT)
    consensus_lr: float | None = _setting(
        None, "How far choco moves to its neighbours.", partial(real, low=0, high=1, open_low=True)
    )
    aggregator: str = _setting(None, "", aggregators.AGGREGATORS)
    attack: str = _setting(None, "", ("none", *attacks.ATTACKS, "label_flip"))
    n_byzantine: int = _setting(None, "Nodes that lie.  [default: a fifth]", partial(integer, low=0))
    latency: float = _setting(1e-4, "Simulated seconds per message.", partial(real, low=0))
    bandwidth: float = _setting(1e9, "Simulated bytes per second.", partial(real, low=1e-6))
    compute: float = _setting(1e-3, "Simulated seconds per gradient.", _POSITIVE)
    exact: bool = _setting(False, "The same bits for every number of processes.", (False, True))
    dtype: str = _setting("float32", "", ("float32", "float64"))
    seed: int = _setting(0, "Seed of everything.", partial(integer, low=0, high=2**32 - 1))

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, and resolve the defaults."""
        choice("algorithm", self.algorithm, RECIPES)
        for setting in fields(self)[1:]:
            value, allowed = getattr(self, setting.name), setting.metadata["allowed"]
            if value is not None:
                allowed(setting.name, value) if callable(allowed) else choice(setting.name, value, allowed)
        recipe = RECIPES[self.algorithm]
        used = {"lr": recipe.lr, **recipe.defaults}
        if "compressor" in used:
            used |= COMPRESSORS[self.compressor or used["compressor"]][0]
        if "n_byzantine" in used:
            used["n_byzantine"] = self.nodes // 5
        if self.split == "dirichlet":
            used["alpha"] = 0.5
        for name, value in vars(self).items():
            if getattr(Setup, name, "") is None and value is not None and name not in used:
                raise ValueError(f"{name} has no effect on {self.algorithm} with these settings, got {value!r}")
        for name, default in used.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        if self.n_byzantine is not None:
            integer("n_byzantine", self.n_byzantine, 0, self.nodes - 1)
        if self.topology == "one_peer_exponential" and not recipe.changing:
            raise ValueError(f"topology must be one graph for {self.algorithm}, got the schedule {self.topology!r}")

    def clock(self) -> Clock:
        """The simulated clock."""
        return Clock(compute=self.compute, latency=self.latency, seconds_per_byte=1 / self.bandwidth)


class Experiment:
    """The parts of a run on ``net``: ``data``, ``model``, ``grad``, ``start`` (x of the own nodes).

    ``show`` wraps what takes long to prepare in a progress bar.
    """

    def __init__(
        self, setup: Setup, net: Network, device: torch.device | str = "cpu", show: Show = lambda steps, _: steps
    ) -> None:
        s = self.setup = setup
        self.net, self.show, dtype = net, show, getattr(torch, s.dtype)
        self.data = (datasets.digits if s.data == "digits" else datasets.mnist1d)(dtype=dtype).to(device)
        features = self.data.x_train.shape[1]
        if s.model == "mlp":
            model = models.mlp(features, self.data.n_classes, width=32, depth=1, seed=s.seed)
        elif s.data == "digits":
            model = models.cnn2d(8, self.data.n_classes, channels=(8, 16), seed=s.seed)
        else:
            model = models.cnn1d(features, self.data.n_classes, channels=(8, 8, 8), seed=s.seed)
        self.model = model.to(device, dtype)
        self.shapes = [tuple(p.shape) for p in model.parameters()]
        self.grad = flat_gradient(self.model, F.cross_entropy, self._shards())
        self.start = flat_parameters(self.model).repeat(net.rows, 1)
        recipe = RECIPES[s.algorithm]
        self.options = {name: getattr(s, name) for name in _PASSED_ON if name in recipe.defaults} | recipe.options(self)
        self.rule = ALGORITHMS[recipe.rule or s.algorithm]

    def iterates(self, x: Tensor) -> Iterates:
        """The algorithm, from x on."""
        return self.rule(self.net, self.grad, x, self.setup.lr, **self.options)

    def observe(self, x: Tensor) -> dict[str, float | None]:
        """Loss and test accuracy of the mean model, and how far apart the nodes are; costs nothing in the accounts."""
        net = self.net
        everyone = net.observe(x)
        wire = net.observe(torch.full((net.rows, 1), net.wire_bytes / net.rows, dtype=torch.float64)).sum()
        if net.rank:
            return {}
        mean, data = everyone.mean(0), self.data
        return {
            "loss": float(evaluate(self.model, mean, data.x_train, data.y_train)[0]),
            "test_accuracy": float(evaluate(self.model, mean, data.x_test, data.y_test)[1]),
            "consensus_distance": float((everyone - mean).square().sum(1).mean().sqrt()),
            "bytes_per_node": float(net.bytes_sent.mean()),
            "wire_bytes": round(float(wire)),
            "simulated_seconds": net.clock.now if net.clock else None,
        }

    def _shards(self) -> Shards:
        s = self.setup
        integer("batch_size", s.batch_size, 1, len(self.data.y_train))
        parts = split(self.data, s.nodes, s.split, alpha=0.5 if s.alpha is None else s.alpha, seed=s.seed)
        liars = range(s.nodes - s.n_byzantine, s.nodes) if s.attack == "label_flip" else ()
        return Shards(self.net, self.data, parts, s.batch_size, seed=s.seed, relabel=attacks.label_flip, liars=liars)
