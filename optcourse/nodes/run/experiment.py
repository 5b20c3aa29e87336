"""One training run from start to result: a model, data split over the nodes, an algorithm, and what it cost.

>>> from optcourse import nodes
>>> result = train(Settings("psgd", nodes=4, steps=20), nodes.Network(4, clock=Settings("psgd").clock()))
>>> result["round"], result["bytes_per_node"] == 20 * (2 * 3 / 4) * 4 * result["parameters"]
(20, True)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import networkx as nx
import torch
import torch.nn.functional as F
from torch import Tensor

from optcourse import data as datasets
from optcourse import models
from optcourse.arguments import integer
from optcourse.models.rows import evaluate, flat_parameters
from optcourse.nodes import aggregators, attacks, compressors
from optcourse.nodes.algorithms.algorithm import ALGORITHMS, Iterates
from optcourse.nodes.graphs.topology import mixing_matrix, one_peer_exponential, topology
from optcourse.nodes.network.network import Network
from optcourse.nodes.run.checkpoint import Keeper
from optcourse.nodes.run.recipes import DTYPES, OWN, Settings
from optcourse.nodes.samples.gradients import flat_gradient
from optcourse.nodes.samples.shards import Shards, split
from optcourse.nodes.time.clock import exponential
from optcourse.nodes.time.schedule import asynchronous_schedule

__all__ = ["OWN", "Experiment", "Settings", "train"]

#: Wraps an iterable of steps in a progress bar with a name.
Show = Callable[[Iterable, str], Iterable]


class Experiment:
    """The parts of a run on ``net``: ``data``, ``model``, ``grad``, ``start`` (x of the own nodes).

    ``show`` wraps what takes long to prepare in a progress bar.
    """

    def __init__(
        self, settings: Settings, net: Network, device: torch.device | str = "cpu", show: Show = lambda steps, _: steps
    ) -> None:
        s = self.settings = settings
        self.net, self.show, dtype = net, show, DTYPES[s.dtype]
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
        integer("batch_size", s.batch_size, 1, len(self.data.y_train))
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
            options["schedule"] = asynchronous_schedule(law, n, s.steps, s.latency, show=self.show)
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
            "low_rank": lambda: compressors.low_rank(self._shapes, 2 if s.rank is None else s.rank, streams=streams),
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
    show: Show = lambda steps, _: steps,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Train, and return settings, history and final numbers (in process 0; the others return an empty dictionary).

    ``keeper`` saves rows on the way, and continues from them with ``resume``; ``show(steps, name)`` wraps iterables in
    a progress bar. Every twentieth of the way the mean model is evaluated, which costs neither bytes nor time in the
    accounts: ``real_seconds`` are those of the algorithm. Raises ``ValueError`` for rows of a run that went further.
    """
    experiment = Experiment(settings, net, device, show)
    x, record = experiment.start, {"history": [], "seconds": 0.0}
    done = 0
    if keeper is not None:
        x = keeper.restore(x) if resume else keeper.begin(x)
        record = keeper.record = _record(keeper) if resume else record
        done = keeper.done
    if settings.steps < done:
        raise ValueError(f"steps must be at least {done}, the rounds that are done already, got {settings.steps}")
    history, every = record["history"], max(1, settings.steps // 20)

    def look(k: int, x: Tensor) -> None:
        if (k % every == 0 or k == settings.steps) and (not history or history[-1]["round"] < k):
            history.append(experiment.observe(x) | {"round": k, "real_seconds": record["seconds"]})

    look(done, x)  # also when the run was interrupted before it had looked at this round
    iterates = experiment.iterates(x)
    steps = range(done, settings.steps)
    rounds = keeper.watch(iterates, settings.steps) if keeper else (x for x, _ in zip(iterates, steps, strict=False))
    begin = time.perf_counter()
    for k, x in enumerate(show(rounds, settings.algorithm), done + 1):
        record["seconds"] += time.perf_counter() - begin
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


def _record(keeper: Keeper) -> dict[str, Any]:
    """The history that the rows carry, as it was in their round; raises ``ValueError`` for another record."""
    try:
        history = [row for row in keeper.record["history"] if row["round"] <= keeper.done]
        return {"history": history, "seconds": float(keeper.record["seconds"])}
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"the rows in {keeper.folder} cannot be continued: they carry no history of a run") from None
