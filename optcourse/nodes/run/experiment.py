"""One training run from start to result: a model, data split over the nodes, an algorithm, and what it cost.

>>> from optcourse import nodes
>>> result = train(Setup("psgd", nodes=4, steps=20), nodes.Network(4, clock=Setup("psgd").clock()))
>>> result["round"], result["bytes_per_node"] == 20 * (2 * 3 / 4) * 4 * result["parameters"]
(20, True)
"""

from __future__ import annotations

import time
from dataclasses import asdict
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from optcourse.nodes.network.network import Network
from optcourse.nodes.run.checkpoint import Keeper
from optcourse.nodes.run.recipes import Experiment, Setup, Show


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
    rounds = keeper.watch(iterates, setup.steps) if keeper else islice(iterates, setup.steps)
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
