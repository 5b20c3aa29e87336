"""One small problem and one set of arguments for every algorithm, shared by the tests and by the real processes."""

from functools import partial

import networkx as nx
import torch
from torch.nn.functional import cross_entropy

from optcourse import data, models, nodes
from optcourse.models.rows import flat_parameters
from optcourse.nodes import aggregators, attacks, compressors
from optcourse.nodes.samples.gradients import flat_gradient
from optcourse.nodes.samples.shards import Shards, split
from optcourse.nodes.time.clock import exponential
from optcourse.optim import SGD, Adam

DIM = 18  # a 3 x 4 matrix and two vectors
SHAPES = [(3, 4), (4,), (2,)]


def gradient(net, dtype, noise=0.1, seed=0):
    """Smooth, non-quadratic, different at every node, with noise from the node's own stream."""
    generator = torch.Generator().manual_seed(17)
    centers = torch.randn(net.n, DIM, generator=generator, dtype=torch.float64)[net.mine].to(dtype)
    scales = (0.5 + torch.rand(net.n, DIM, generator=generator, dtype=torch.float64))[net.mine].to(dtype)
    streams = net.streams("data", seed)

    def grad(x, rows=None):
        here = slice(None) if rows is None else rows
        return scales[here] * torch.sin(x - centers[here]) + noise * streams.normal(DIM, dtype=dtype, rows=rows)

    return grad


def start(net, dtype):
    """The same point at every node."""
    return torch.linspace(-1, 1, DIM, dtype=dtype).repeat(net.rows, 1)


def lopsided(n):
    """A directed ring with short cuts from node 0 to every second node: many hear 0, which hears one."""
    graph = nx.cycle_graph(n, create_using=nx.DiGraph)
    graph.add_edges_from((0, i) for i in range(2, n, 2))
    return graph


def one_way_pairs(n):
    """Rounds in which node i sends all but a third of what it has to i + 2^k, and nodes 0 and 1 send nothing in one."""
    rounds = []
    for k in range(3):
        W = torch.zeros(n, n, dtype=torch.float64)
        for j in range(n):
            keeps = 1.0 if k == 1 and j < 2 else 1 / 3
            W[j, j] = keeps
            W[(j + 2**k) % n, j] = 1 - keeps
        rounds.append(W)
    return rounds


def cases(net):
    """Name -> (algorithm, keyword arguments)."""
    n = net.n
    ring = nodes.mixing_matrix(nodes.topology("ring", n), rule="metropolis")
    lazy = (ring + torch.eye(n, dtype=ring.dtype)) / 2
    tree = nx.convert_node_labels_to_integers(nx.balanced_tree(2, 3).subgraph(range(n)))
    top = compressors.top_k(4)
    return {
        "psgd": (nodes.psgd, {}),
        "local_sgd": (nodes.local_sgd, {"local_steps": 3}),
        "local_sgd, drop-outs": (nodes.local_sgd, {"local_steps": 2, "alive": lambda k: torch.arange(n) != k % n}),
        "local_sgd, when necessary": (nodes.local_sgd, {"local_steps": 50, "threshold": 0.02}),
        "local_sgd, samples": (
            nodes.local_sgd,
            {"local_steps": 2, "samples": range(1, n + 1), "alive": nodes.clients(n, 3, seed=1), "proximal": 0.3},
        ),
        "local_sgd, Adam": (nodes.local_sgd, {"local_steps": 3, "optimizer": partial(Adam, betas=(0.8, 0.9))}),
        "local_sgd, FedAvgM": (
            nodes.local_sgd,
            {"local_steps": 3, "server": partial(SGD, momentum=0.9), "server_lr": 0.5},
        ),
        "local_sgd, FedAdam": (
            nodes.local_sgd,
            {"local_steps": 3, "server": nodes.fed_adam(0.8, 0.9, 0.01), "server_lr": 0.2, "samples": [1.0] * n},
        ),
        "local_sgd, FedYogi": (nodes.local_sgd, {"local_steps": 3, "server": nodes.fed_yogi(), "server_lr": 0.05}),
        "local_sgd, FedAdagrad": (
            nodes.local_sgd,
            {"local_steps": 3, "server": nodes.fed_adagrad(), "server_lr": 0.2, "alive": nodes.clients(n, n // 2)},
        ),
        "overlap_local_sgd": (nodes.overlap_local_sgd, {"local_steps": 3}),
        "post_local_sgd": (nodes.post_local_sgd, {"switch": 4, "local_steps": 3}),
        "scaffold": (nodes.scaffold, {"local_steps": 3}),
        "scaffold, samples": (nodes.scaffold, {"local_steps": 2, "alive": nodes.clients(n, 3, seed=2)}),
        "diloco": (nodes.diloco, {"local_steps": 3, "weight_decay": 0.1}),
        "diloco, one out": (nodes.diloco, {"local_steps": 3, "weight_decay": 0.1, "alive": torch.arange(n) != 1}),
        "dsgd": (nodes.dsgd, {"W": ring}),
        "dsgd, one peer": (nodes.dsgd, {"W": nodes.one_peer_exponential(n)}),
        "push_sum": (nodes.push_sum, {"W": nodes.mixing_matrix(lopsided(n), "push")}),
        "push_sum, one peer": (nodes.push_sum, {"W": one_way_pairs(n)}),
        "gradient_tracking": (nodes.gradient_tracking, {"W": ring}),
        "d2": (nodes.d2, {"W": lazy}),
        "relay_sum": (nodes.relay_sum, {"tree": tree}),
        "choco": (nodes.choco, {"W": ring, "compress": top, "consensus_lr": 0.4}),
        "qsgd": (nodes.qsgd, {"compress": compressors.qsgd(4, net.streams("compressor"))}),
        "qsgd, random-k": (
            nodes.qsgd,
            {"compress": compressors.random_k(5, net.streams("compressor"), unbiased=True)},
        ),
        "error_feedback": (nodes.error_feedback, {"compress": top}),
        "error_feedback, samples": (nodes.error_feedback, {"compress": top, "alive": nodes.clients(n, 3, seed=2)}),
        "error_feedback, sign": (nodes.error_feedback, {"compress": compressors.scaled_sign()}),
        "powersgd": (nodes.powersgd, {"shapes": SHAPES, "rank": 2}),
        "powersgd, momentum": (nodes.powersgd, {"shapes": SHAPES, "momentum": 0.9}),
        "powersgd, own feedback": (nodes.powersgd, {"shapes": SHAPES, "feedback": "own"}),
        "async_sgd": (
            nodes.async_sgd,
            {
                "schedule": nodes.asynchronous_schedule(exponential(1.0, n, seed=5), n, updates=30),
                "limit": nodes.delay_adaptive(L=4.0),
            },
        ),
        "robust_sgd": (
            nodes.robust_sgd,
            {
                "aggregate": aggregators.trimmed_mean,
                "n_byzantine": 2,
                "attack": attacks.noise(1.0),
                "momentum": 0.5,
            },
        ),
        "robust_sgd, krum": (
            nodes.robust_sgd,
            {"aggregate": aggregators.krum, "n_byzantine": 2, "attack": attacks.sign_flip()},
        ),
        "robust_sgd, with history": (
            nodes.robust_sgd,
            {
                "aggregate": aggregators.clipping_from_last(radius=2.0),
                "n_byzantine": 2,
                "attack": attacks.mimic(warmup=5),
                "momentum": 0.9,
            },
        ),
    }


def digits_gradient(net, dtype):
    """A small network on digits sorted by label: what the lectures train. Returns (gradient, start)."""
    digits = data.digits(seed=0, dtype=dtype)
    model = models.mlp(64, 10, width=48, depth=1, seed=0).to(dtype)
    shards = Shards(net, digits, split(digits, net.n, "label"), batch_size=8)
    return flat_gradient(model, cross_entropy, shards), flat_parameters(model).repeat(net.rows, 1)


def iterate(net, name, dtype, steps, lr=0.1):
    """The iterate of the own rows after ``steps`` steps."""
    rule, options = cases(net)[name]
    iterates = rule(net, gradient(net, dtype), start(net, dtype), lr, **options)
    for _ in range(steps):
        x = next(iterates)
    return x
