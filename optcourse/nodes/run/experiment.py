"""One training run from start to result: a model, data split over the nodes, an algorithm, and what it cost.

>>> from optcourse import nodes
>>> result = train(Setup("psgd", nodes=4, steps=20), nodes.Network(4, clock=Setup("psgd").clock()))
>>> result["round"], result["bytes_per_node"] == 20 * (2 * 3 / 4) * 4 * result["parameters"]
(20, True)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from optcourse import data as datasets
from optcourse import models
from optcourse.arguments import integer
from optcourse.models.rows import evaluate, flat_parameters
from optcourse.nodes import attacks
from optcourse.nodes.algorithms.algorithm import Iterates
from optcourse.nodes.network.network import Network
from optcourse.nodes.run import recipes
from optcourse.nodes.run.checkpoint import Keeper
from optcourse.nodes.run.recipes import Setup
from optcourse.nodes.samples.gradients import flat_gradient
from optcourse.nodes.samples.shards import Shards, split

#: Wraps an iterable of steps in a progress bar with a name.
Show = Callable[[Iterable, str], Iterable]


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
        self.rule, self.options = recipes.algorithm(self)

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


def train(
    setup: Setup,
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
    experiment = Experiment(setup, net, device, show)
    x, record = experiment.start, {"history": [], "seconds": 0.0}
    done = 0
    if keeper is not None:
        x = keeper.restore(x) if resume else keeper.begin(x)
        record = keeper.record = _record(keeper) if resume else record
        done = keeper.done
    if setup.steps < done:
        raise ValueError(f"steps must be at least {done}, the rounds that are done already, got {setup.steps}")
    history, every = record["history"], max(1, setup.steps // 20)

    def look(k: int, x: Tensor) -> None:
        if (k % every == 0 or k == setup.steps) and (not history or history[-1]["round"] < k):
            history.append(experiment.observe(x) | {"round": k, "real_seconds": record["seconds"]})

    look(done, x)  # also when the run was interrupted before it had looked at this round
    iterates = experiment.iterates(x)
    steps = range(done, setup.steps)
    rounds = keeper.watch(iterates, setup.steps) if keeper else (x for x, _ in zip(iterates, steps, strict=False))
    begin = time.perf_counter()
    for k, x in enumerate(show(rounds, setup.algorithm), done + 1):
        record["seconds"] += time.perf_counter() - begin
        look(k, x)
        begin = time.perf_counter()
    if net.rank:
        return {}
    return {
        "settings": asdict(setup),
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
