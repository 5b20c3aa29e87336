"""What a caller can get wrong: refused with the argument, the value and the allowed range, or put right at the call."""

import math
import re

import networkx as nx
import node_cases
import numpy as np
import pytest
import torch

from optcourse import nodes
from optcourse.nodes import Network, aggregators, compressors
from optcourse.nodes.algorithms.algorithm import last_iterate
from optcourse.nodes.messages.factors import orthogonalize
from optcourse.nodes.streams import Streams
from optcourse.nodes.time.clock import constant, stragglers

N = 4
W = nodes.mixing_matrix(nodes.topology("ring", N))
X = torch.zeros(N, 3)
HALVES = nodes.one_peer_exponential(N)


def psgd(grad=torch.ones_like, x=X, lr=0.1):
    return last_iterate(nodes.psgd(Network(N), grad, x, lr), 1)


def first(name, **options):
    return next(nodes.ALGORITHMS[name](Network(N), torch.ones_like, X, 0.1, **options))


def robust(byzantine):
    return first("robust_sgd", aggregate=aggregators.median, byzantine=byzantine)


def exchange(*edges):
    return Network(N).exchange(edges, torch.zeros(len(edges), 1))


CALLS = {
    "W of d2 changes": (
        lambda: first("d2", W=HALVES),
        r"W must be one matrix \[4, 4\] for all rounds, got a list of 2",
    ),
    "W of choco changes": (
        lambda: first("choco", W=(W, W, W), compress=compressors.top_k(1)),
        r"W must be one matrix \[4, 4\] for all rounds, got a tuple of 3",
    ),
    "W of dsgd is nothing": (lambda: first("dsgd", W=None), "W must be a tensor, got NoneType"),
    "W of dsgd is a graph": (lambda: first("dsgd", W=nx.cycle_graph(4)), "W must be a tensor, got Graph"),
    "W of d2 is an array": (lambda: first("d2", W=W.numpy()), "W must be a tensor, got ndarray"),
    "mix with an array": (lambda: Network(N).mix(W.numpy(), X), "W must be a tensor, got ndarray"),
    "mix with nothing": (lambda: Network(N).mix(None, X), "W must be a tensor, got NoneType"),
    "mix with a list": (lambda: Network(N).mix([W, W], X), "W must be a tensor, got list"),
    "lr too short": (lambda: psgd(lr=torch.ones(2)), r"lr must be a number or have shape \[3\], got shape \[2\]"),
    "lr too deep": (lambda: psgd(lr=np.ones((1, 3))), r"lr must be a number or have shape \[3\], got shape \[1, 3\]"),
    "lr negative": (lambda: psgd(lr=torch.tensor([0.1, -2.0, 0.1])), r"lr must be in \(0, inf\), got -2.0"),
    "lr complex": (
        lambda: psgd(lr=torch.ones(3) * 1j),
        "lr must be a real number, or a tensor of them, got .*complex64",
    ),
    "lr sparse": (lambda: psgd(lr=torch.ones(3).to_sparse()), "lr must be a real number, .*layout torch.sparse_coo"),
    "lr a text": (lambda: psgd(lr="0.1"), "lr must be a real number, got '0.1'"),
    "x without columns": (lambda: psgd(x=torch.zeros(N, 0)), r"x must have shape \[4, d\] with d >= 1, got \[4, 0\]"),
    "x sparse": (lambda: psgd(x=X.to_sparse()), "x must be a dense floating-point tensor .*layout torch.sparse_coo"),
    "grad of nothing": (lambda: psgd(grad=lambda x: None), r"grad must return a tensor like x, .*\[4, 3\], got None"),
    "grad an array": (lambda: psgd(grad=lambda x: x.numpy()), "grad must return a tensor like x, .* got array"),
    "grad sparse": (lambda: psgd(grad=torch.Tensor.to_sparse), "grad must return .* got .*layout torch.sparse_coo"),
    "grad no function": (lambda: psgd(grad=None), "grad must be a function of x, got None"),
    "tree of nothing": (lambda: first("relay_sum", tree=None), r"tree must be an undirected tree .*0\.\.3, got None"),
    "tree directed": (
        lambda: first("relay_sum", tree=nx.path_graph(4, create_using=nx.DiGraph)),
        r"tree must be an undirected tree on the nodes 0\.\.3, got DiGraph",
    ),
    "schedule of nothing": (
        lambda: first("async_sgd", schedule=None),
        "schedule must be a Schedule for 4 nodes, got None",
    ),
    "byzantine a fraction": (lambda: robust([1.7]), "byzantine must be an integer, got 1.7"),
    "byzantine a tensor": (lambda: robust(torch.tensor([1.7])), "byzantine must be an integer, got 1.7"),
    "byzantine too large": (lambda: robust(np.array([4])), r"byzantine must be in 0\.\.3, got 4"),
    "edge from a half": (
        lambda: exchange((0.5, 1)),
        r"edges must join nodes in 0\.\.3, pairs of integers .*\(0.5, 1\)",
    ),
    "edge with three ends": (lambda: exchange((0, 1, 2)), r"edges must join nodes in 0\.\.3, .*\(0, 1, 2\)"),
    "edges of two kinds": (lambda: exchange((0, 1, 2), (0, 1)), r"edges must join nodes in 0\.\.3"),
    "edge without ends": (lambda: exchange(7), r"edges must join nodes in 0\.\.3"),
    "edge of bools": (lambda: exchange((True, False)), r"edges must join nodes in 0\.\.3"),
    "weight complex": (lambda: Network(N).mean(X, weight=torch.ones(N) * 1j), "weight must be real, got"),
    "clock a text": (lambda: Network(N, clock="x"), "clock must be a Clock or None, got 'x'"),
    "size negative": (lambda: Streams("a", 0, [0]).uniform(-1), "size must be at least 0, got -1"),
    "size a fraction": (lambda: Streams("a", 0, [0]).normal(2, 1.5), "size must be an integer, got 1.5"),
    "nodes of streams": (lambda: Streams("a", 0, [1.7]), "nodes must be an integer, got 1.7"),
    "rows of streams": (lambda: Streams("a", 0, [5, 6]).uniform(1, rows=[0.5]), "rows must be an integer, got 0.5"),
    "a straggler outside": (lambda: stragglers(constant(1.0, 3), [-1], 2.0), r"nodes must be in 0\.\.2, got -1"),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_bad_call_is_told_what_is_wrong(case):
    call, message = CALLS[case]
    with pytest.raises((ValueError, TypeError), match=re.compile(message, re.DOTALL)):
        call()


@pytest.mark.parametrize("name", node_cases.cases(Network(7)))
def test_step_sizes_of_another_dtype_leave_the_iterates_theirs(name):
    """A float64 tensor or array, shape () or [d], with a graph behind it, gives the bits of its float32 values."""

    def run(lr, **how):
        net = Network(7)
        rule, options = node_cases.cases(net)[name]
        x = node_cases.start(net, torch.float32)
        return last_iterate(rule(net, node_cases.gradient(net, torch.float32), x, lr, **options), 5)

    sizes = torch.linspace(0.01, 0.1, node_cases.DIM, dtype=torch.float64)
    expected = run(sizes.float())
    assert expected.dtype == torch.float32 and not torch.equal(expected, run(0.05))
    for lr in (sizes, sizes.numpy(), sizes.clone().requires_grad_()):
        found = run(lr)
        assert torch.equal(found, expected) and not found.requires_grad and found.dtype == torch.float32
    zero_dim = torch.tensor(0.05, dtype=torch.float64)
    assert torch.equal(run(zero_dim), run(zero_dim.numpy())) and run(zero_dim).dtype == torch.float32


@pytest.mark.parametrize("name", node_cases.cases(Network(7)))
def test_no_algorithm_builds_a_graph(name):
    """Neither x, nor a gradient that depends on parameters, nor a grad that differentiates at x itself."""
    net = Network(7)
    rule, options = node_cases.cases(net)[name]
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)

    def grad(x, rows=None):
        x.requires_grad_()
        return torch.autograd.grad((x**2 / 2).sum() * scale, x, create_graph=True)[0]

    start = node_cases.start(net, torch.float64)
    x = last_iterate(rule(net, grad, start.clone().requires_grad_(), 0.1, **options), 4)
    assert not x.requires_grad and not start.requires_grad and start.is_leaf


def test_an_algorithm_after_the_resumed_one_starts_at_the_beginning():
    center = torch.arange(N, dtype=torch.float64)[:, None]
    x = torch.zeros(N, 1, dtype=torch.float64)

    def run(net, x, steps):
        rounds, iterates = [], nodes.gradient_tracking(net, lambda x: x - center, x, 0.1, W)
        for _ in range(steps):
            y = next(iterates)
            rounds.append(net.round)
        return y, rounds, nodes.memory(iterates)

    whole, _, _ = run(Network(N), x, 8)
    at, _, memory = run(Network(N), x, 5)
    net = Network(N)
    net.resume(5, memory, {})
    rest, rounds, _ = run(net, at, 3)
    assert torch.equal(rest, whole) and rounds == [5, 6, 7]
    again, rounds, _ = run(net, x, 5)
    assert torch.equal(again, at) and rounds == [0, 1, 2, 3, 4]


def test_the_end_of_a_schedule_is_named():
    schedule = nodes.asynchronous_schedule(constant(1.0, N), N, updates=6)

    def run(steps):
        iterates = nodes.async_sgd(Network(N), lambda x, rows: torch.ones_like(x), X, 0.5, schedule)
        return last_iterate(iterates, steps)

    assert run(6)[0].tolist() == [-3.0] * 3
    with pytest.raises(ValueError, match="steps must be at most 6, the number of iterates that there were, got 100"):
        run(100)
    with pytest.raises(ValueError, match="at most 0"):
        last_iterate(iter([]), 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_factorized(dtype):
    """Rounding an orthonormal basis U to eps changes U^T U by eps, U U^T P by sqrt(r) eps |P|, to first order."""
    eps, r = torch.finfo(dtype).eps, 2
    P = torch.randn(3, 10, r, generator=torch.Generator().manual_seed(0)).to(dtype)
    U = orthogonalize(P)
    assert U.dtype == dtype
    U, P = U.double(), P.double()
    torch.testing.assert_close(U.mT @ U, torch.eye(r).expand(3, r, r).double(), rtol=0, atol=1.01 * eps)
    assert (torch.linalg.norm(U @ (U.mT @ P) - P, dim=(1, 2)) <= 1.01 * eps * math.sqrt(r) * P.norm(dim=(1, 2))).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_powersgd_of_full_rank_is_parallel_sgd_in_half_precision(dtype):
    net, steps = Network(7), 5
    grad = node_cases.gradient(net, torch.float64, noise=0.0)
    exact = last_iterate(nodes.psgd(net, grad, node_cases.start(net, torch.float64), 0.05), steps)
    rounded = lambda x: grad(x.double()).to(dtype)  # noqa: E731
    options = {"shapes": node_cases.SHAPES, "rank": 3}
    x = last_iterate(nodes.powersgd(Network(7), rounded, node_cases.start(net, dtype), 0.05, **options), steps)
    assert x.dtype == dtype
    # the start and every step round numbers of size 1, by half an eps; as much again for the small updates
    torch.testing.assert_close(x.double(), exact, rtol=0, atol=(steps + 1) * torch.finfo(dtype).eps)
