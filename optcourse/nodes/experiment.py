"""One training run from start to result: a model, data split over the nodes, an algorithm, and what it cost.

>>> from optcourse import nodes
>>> result = train(Settings("psgd", nodes=4, steps=20), nodes.Network(4, clock=Settings("psgd").clock()))
>>> result["round"], result["bytes_per_node"] == 20 * (2 * 3 / 4) * 4 * result["parameters"]
(20, True)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import networkx as nx
import torch
import torch.nn.functional as F
from torch import Tensor

from optcourse import data as datasets
from optcourse import models
from optcourse.arguments import choice, integer, positive, real
from optcourse.nodes import aggregators, attacks, compressors
from optcourse.nodes.algorithm import ALGORITHMS, Iterates
from optcourse.nodes.checkpoint import Keeper
from optcourse.nodes.clock import Clock, exponential
from optcourse.nodes.gradients import evaluate, flat_gradient, flat_parameters
from optcourse.nodes.graphs import GRAPHS, mixing_matrix, one_peer_exponential, topology
from optcourse.nodes.network import Network
from optcourse.nodes.schedule import asynchronous_schedule
from optcourse.nodes.shards import SPLITS, Shards, split

DATA = ("digits", "mnist1d")
MODELS = ("mlp", "cnn")
TOPOLOGIES = (*GRAPHS, "one_peer_exponential")
COMPRESSORS = ("identity", "top_k", "random_k", "qsgd", "scaled_sign", "low_rank")
ATTACKS = (*attacks.ATTACKS, "label_flip")
DTYPES = {"float32": torch.float32, "float64": torch.float64}

#: The settings that each algorithm has of its own, with defaults, and a learning rate that trains digits.
OWN: dict[str, dict[str, Any]] = {
    "psgd": {"lr": 0.1},
    "local_sgd": {"lr": 0.1, "local_steps": 5},
    "post_local_sgd": {"lr": 0.1, "local_steps": 5},
    "scaffold": {"lr": 0.1, "local_steps": 5},
    "diloco": {"lr": 0.001, "local_steps": 10},
    "dsgd": {"lr": 0.1, "topology": "ring"},
    "gradient_tracking": {"lr": 0.1, "topology": "ring"},
    "d2": {"lr": 0.1, "topology": "ring"},
    "relay_sum": {"lr": 0.1, "topology": "tree"},
    "choco": {"lr": 0.1, "topology": "ring", "compressor": "top_k", "consensus_lr": 0.2},
    "qsgd": {"lr": 0.1, "compressor": "qsgd"},
    "error_feedback": {"lr": 0.1, "compressor": "top_k"},
    "powersgd": {"lr": 0.1, "rank": 2},
    "robust_sgd": {"lr": 0.1, "aggregator": "trimmed_mean", "attack": "sign_flip", "n_byzantine": None},
    "async_sgd": {"lr": 0.05},
}
_OF_COMPRESSORS = {"top_k": {"k"}, "random_k": {"k"}, "qsgd": {"levels"}, "low_rank": {"rank"}}


@dataclass(frozen=True)
class Settings:
    """What is trained, and how; None means the algorithm's default (``OWN``).

    ``k`` is by default d/20, ``levels`` 4, ``n_byzantine`` a fifth of the nodes. ``alpha`` is the parameter of the
    Dirichlet split; split "label" gives every node two classes (more when the nodes are few). ``latency`` in seconds,
    ``bandwidth`` in bytes per second and ``compute``, seconds per gradient, are those of the simulated clock. Raises
    ``ValueError`` for unknown names, and for settings that the algorithm has no use for.
    """

    algorithm: str
    nodes: int = 8
    steps: int = 200
    lr: float | None = None
    batch_size: int = 16
    data: str = "digits"
    model: str = "mlp"
    split: str = "iid"
    alpha: float | None = None
    topology: str | None = None
    compressor: str | None = None
    levels: int | None = None
    k: int | None = None
    rank: int | None = None
    local_steps: int | None = None
    consensus_lr: float | None = None
    aggregator: str | None = None
    attack: str | None = None
    n_byzantine: int | None = None
    latency: float = 1e-4
    bandwidth: float = 1e9
    compute: float = 1e-3
    exact: bool = False
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        choice("algorithm", self.algorithm, ALGORITHMS)
        integer("nodes", self.nodes, 1)
        integer("steps", self.steps, 1)
        integer("batch_size", self.batch_size, 1)
        integer("seed", self.seed, 0, 2**32 - 1)
        real("latency", self.latency, 0)
        positive(bandwidth=self.bandwidth, compute=self.compute)
        for name, allowed in {
            "data": DATA,
            "model": MODELS,
            "split": SPLITS,
            "dtype": DTYPES,
            "topology": (None, *TOPOLOGIES),
            "compressor": (None, *COMPRESSORS),
            "aggregator": (None, *aggregators.AGGREGATORS),
            "attack": (None, "none", *ATTACKS),
        }.items():
            choice(name, getattr(self, name), allowed)
        own = OWN.get(self.algorithm, {"lr": 0.1})
        used = {"lr", *own, *_OF_COMPRESSORS.get(self.compressor or own.get("compressor"), ())}
        if self.split == "dirichlet":
            used.add("alpha")
        optional = ("alpha", "topology", "compressor", "levels", "k", "rank", "local_steps", "consensus_lr")
        for name in (*optional, "aggregator", "attack", "n_byzantine"):
            if getattr(self, name) is not None and name not in used:
                raise ValueError(f"{name} has no effect on {self.algorithm} with these settings, got {self[name]!r}")
        positive(lr=self["lr"])

    def __getitem__(self, name: str) -> Any:
        """The value that is used: the given one, else the algorithm's default."""
        value = getattr(self, name)
        return OWN.get(self.algorithm, {"lr": 0.1}).get(name) if value is None else value

    @property
    def liars(self) -> int:
        """The number of Byzantine nodes, the last ones."""
        if "n_byzantine" not in OWN.get(self.algorithm, {}):
            return 0
        return self.nodes // 5 if self.n_byzantine is None else integer("n_byzantine", self.n_byzantine, 0, self.nodes)

    def clock(self) -> Clock:
        """The simulated clock."""
        return Clock(compute=self.compute, latency=self.latency, seconds_per_byte=1 / self.bandwidth)


class Experiment:
    """The parts of a run on ``net``: ``data``, ``model``, ``grad``, ``start`` (x of the own nodes)."""

    def __init__(self, settings: Settings, net: Network, device: torch.device | str = "cpu") -> None:
        s = self.settings = settings
        self.net, dtype = net, DTYPES[s.dtype]
        self.data = (datasets.digits if s.data == "digits" else datasets.mnist1d)(dtype=dtype).to(device)
        features = self.data.x_train.shape[1]
        if s.model == "mlp":
            model = models.mlp(features, self.data.n_classes, width=32, depth=1, seed=s.seed)
        elif s.data == "digits":
            model = models.cnn2d(8, self.data.n_classes, channels=(8, 16), seed=s.seed)
        else:
            model = models.cnn1d(features, self.data.n_classes, channels=(8, 8, 8), seed=s.seed)
        self.model = model.to(device, dtype)
        self.grad = flat_gradient(self.model, F.cross_entropy, self._shards())
        self.start = flat_parameters(self.model).repeat(net.rows, 1)
        self.options = self._options()

    def iterates(self, x: Tensor) -> Iterates:
        """The algorithm, from x on."""
        s = self.settings
        return ALGORITHMS[s.algorithm](self.net, self.grad, x, s["lr"], **self.options)

    def observe(self, x: Tensor) -> dict[str, float]:
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
        s = self.settings
        alpha = 0.5 if s.alpha is None else s.alpha
        parts = split(self.data, s.nodes, s.split, alpha=alpha, seed=s.seed)
        liars = range(s.nodes - s.liars, s.nodes) if s["attack"] == "label_flip" else ()
        return Shards(self.net, self.data, parts, s.batch_size, seed=s.seed, relabel=attacks.label_flip, liars=liars)

    def _options(self) -> dict[str, Any]:
        """The arguments that only this algorithm has."""
        s, n, options = self.settings, self.settings.nodes, {}
        own = OWN.get(s.algorithm, {})
        if s.algorithm == "relay_sum":
            options["tree"] = nx.bfs_tree(topology(s["topology"], n), 0).to_undirected()
        elif s["topology"] == "one_peer_exponential":
            options["W"] = one_peer_exponential(n)
        elif "topology" in own:
            W = mixing_matrix(topology(s["topology"], n))
            options["W"] = (W + torch.eye(n, dtype=W.dtype)) / 2 if s.algorithm == "d2" else W
        if "compressor" in own:
            options["compress"] = self._compressor()
        if s.algorithm == "powersgd":
            options |= {"shapes": self._shapes, "rank": s["rank"]}
        options |= {name: s[name] for name in ("local_steps", "consensus_lr") if name in own}
        if s.algorithm == "post_local_sgd":
            options["switch"] = s.steps // 2
        if s.algorithm == "robust_sgd":
            rule = aggregators.AGGREGATORS[s["aggregator"]]
            rule(torch.zeros(n, 1), s.liars)  # refuses more liars than it stands now, not in the first round
            options |= {"aggregate": rule, "n_byzantine": s.liars, "momentum": 0.5}
            options["attack"] = self._attack()
        if s.algorithm == "async_sgd":
            law = exponential(s.compute, n, seed=s.seed)
            options["schedule"] = asynchronous_schedule(law, n, s.steps, s.latency)
        return options

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        return [tuple(p.shape) for p in self.model.parameters()]

    def _compressor(self) -> compressors.Compressor:
        s, d = self.settings, self.start.shape[1]
        k, streams = max(1, d // 20) if s.k is None else s.k, self.net.streams("compressor", s.seed)
        name, unbiased = s["compressor"], s.algorithm == "qsgd"
        make: dict[str, Callable[[], compressors.Compressor]] = {
            "identity": compressors.identity,
            "top_k": lambda: compressors.top_k(integer("k", k, 1, d)),
            "random_k": lambda: compressors.random_k(integer("k", k, 1, d), streams, unbiased=unbiased),
            "qsgd": lambda: compressors.qsgd(4 if s.levels is None else s.levels, streams),
            "scaled_sign": compressors.scaled_sign,
            "low_rank": lambda: compressors.low_rank(self._shapes, s.rank or 2, streams=streams),
        }
        return make[name]()

    def _attack(self) -> Callable[..., Tensor] | None:
        name = self.settings["attack"]
        if name not in attacks.ATTACKS:
            return None
        return attacks.ATTACKS[name]()


def train(
    settings: Settings,
    net: Network,
    keeper: Keeper | None = None,
    resume: bool = False,
    show: Callable[[Iterable], Iterable] = iter,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Train, and return settings, history and final numbers (in process 0; the others return an empty dictionary).

    ``keeper`` saves rows on the way, and continues from them with ``resume``; ``show`` wraps the iterates in a
    progress bar. Every twentieth of the way the mean model is evaluated, which costs neither bytes nor time in the
    accounts: ``real_seconds`` are those of the algorithm.
    """
    experiment = Experiment(settings, net, device)
    x, record = experiment.start, {"history": [], "seconds": 0.0}
    done = 0
    if keeper is not None:
        x = keeper.restore(x) if resume else keeper.begin(x)
        record = keeper.record = keeper.record if resume else record
        done = keeper.done
    history, every = record["history"], max(1, settings.steps // 20)

    def look(k: int, x: Tensor) -> None:
        history.append(experiment.observe(x) | {"round": k, "real_seconds": record["seconds"]})

    if done == 0:
        look(0, x)
    iterates = experiment.iterates(x)
    steps = range(done, settings.steps)
    rounds = keeper.watch(iterates, settings.steps) if keeper else (x for x, _ in zip(iterates, steps, strict=False))
    begin = time.perf_counter()
    for k, x in enumerate(show(rounds), done + 1):
        record["seconds"] += time.perf_counter() - begin
        if k % every == 0 or k == settings.steps:
            look(k, x)
        begin = time.perf_counter()
    if net.rank:
        return {}
    return {
        "settings": asdict(settings) | {name: settings[name] for name in OWN.get(settings.algorithm, {})},
        "processes": net.world,
        "parameters": x.shape[1],
        **history[-1],
        "bytes_sent": net.bytes_sent.tolist(),
        "history": history,
    }
