"""One small problem and one set of arguments for every algorithm, shared by the tests and by the real processes."""

import networkx as nx
import torch
from torch.nn.functional import cross_entropy

from optcourse import data, models, nodes
from optcourse.models.rows import flat_parameters
from optcourse.nodes import aggregators, attacks, compressors
from optcourse.nodes.samples.gradients import flat_gradient
from optcourse.nodes.samples.shards import Shards, split
from optcourse.nodes.time.clock import exponential

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
        "post_local_sgd": (nodes.post_local_sgd, {"switch": 4, "local_steps": 3}),
        "scaffold": (nodes.scaffold, {"local_steps": 3}),
        "diloco": (nodes.diloco, {"local_steps": 3, "weight_decay": 0.1}),
        "dsgd": (nodes.dsgd, {"W": ring}),
        "dsgd, one peer": (nodes.dsgd, {"W": nodes.one_peer_exponential(n)}),
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
        "error_feedback, sign": (nodes.error_feedback, {"compress": compressors.scaled_sign()}),
        "powersgd": (nodes.powersgd, {"shapes": SHAPES, "rank": 2}),
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
