"""The settings of one training run: what the command line offers, with the defaults of every algorithm.

>>> settings = Settings("choco", nodes=4)
>>> settings["compressor"], settings["lr"]
('top_k', 0.1)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from optcourse.arguments import choice, integer, positive, real
from optcourse.nodes import aggregators, attacks
from optcourse.nodes.algorithms.algorithm import ALGORITHMS
from optcourse.nodes.graphs.topology import GRAPHS
from optcourse.nodes.samples.shards import SPLITS
from optcourse.nodes.time.clock import Clock

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
#: Those that can use another matrix in every round.
_SCHEDULES = ("dsgd", "gradient_tracking")
_OF_COMPRESSORS = {"top_k": {"k"}, "random_k": {"k"}, "qsgd": {"levels"}, "low_rank": {"rank"}}


@dataclass(frozen=True)
class Settings:
    """What is trained, and how; None means the algorithm's default (``OWN``).

    ``k`` is by default d/20, ``levels`` 4, ``n_byzantine`` a fifth of the nodes. ``alpha`` is the parameter of the
    Dirichlet split; split "label" gives every node two classes (more when the nodes are few). ``latency`` in seconds,
    ``bandwidth`` in bytes per second and ``compute``, seconds per gradient, are those of the simulated clock. Raises
    ``ValueError`` for unknown names, numbers outside their range, and settings that the algorithm has no use for.
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
        real("bandwidth", self.bandwidth, 1e-6)
        positive(compute=self.compute)
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
        for name in ("levels", "k", "rank", "local_steps"):
            if getattr(self, name) is not None:
                integer(name, getattr(self, name), 1)
        if self.n_byzantine is not None:
            integer("n_byzantine", self.n_byzantine, 0, self.nodes - 1)
        if self.alpha is not None:
            positive(alpha=self.alpha)
        if self.consensus_lr is not None:
            real("consensus_lr", self.consensus_lr, 0, 1, open_low=True)
        if self["topology"] == "one_peer_exponential" and self.algorithm not in _SCHEDULES:
            raise ValueError(
                f"topology must be one graph for {self.algorithm}, got the schedule 'one_peer_exponential'"
            )

    def __getitem__(self, name: str) -> Any:
        """The value that is used: the given one, else the algorithm's default."""
        value = getattr(self, name)
        return OWN.get(self.algorithm, {"lr": 0.1}).get(name) if value is None else value

    @property
    def liars(self) -> int:
        """The number of Byzantine nodes, the last ones."""
        if "n_byzantine" not in OWN.get(self.algorithm, {}):
            return 0
        return self.nodes // 5 if self.n_byzantine is None else self.n_byzantine

    def clock(self) -> Clock:
        """The simulated clock."""
        return Clock(compute=self.compute, latency=self.latency, seconds_per_byte=1 / self.bandwidth)
