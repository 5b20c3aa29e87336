"""Every algorithm against loops written from the papers, the fixed points of the theory, and each other."""

import math
from itertools import islice

import node_cases
import numpy as np
import pytest
import torch
from paper_loops import BY_HAND, LR, STEPS, N

from optcourse import nodes
from optcourse.nodes import aggregators, attacks, compressors
from optcourse.problems import QuadraticNodes
from optcourse.theory import gossip, local


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", BY_HAND)
def test_thirteen_steps_are_those_of_the_paper(name, exact):
    x = node_cases.iterate(nodes.Network(N, exact=exact), name, torch.float64, STEPS, LR)
    np.testing.assert_allclose(x.numpy(), np.stack(BY_HAND[name]()), rtol=0, atol=1e-12)


def quadratic(n=5, dim=3, seed=0, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    return QuadraticNodes(rng.uniform(0.5, 2, (n, dim)), rng.normal(size=(n, dim)))


def last(iterates, steps):
    for _ in range(steps):
        x = next(iterates)
    return x.numpy()


def test_fixed_points_are_those_of_the_theory():
    f = quadratic()
    x = torch.zeros(5, 3, dtype=torch.float64)
    W = nodes.mixing_matrix(nodes.topology("ring", 5))
    fedavg = last(nodes.local_sgd(nodes.Network(5), f.node_gradient, x, 0.2, local_steps=7), 7 * 200)
    for j in range(3):
        point = local.fedavg_fixed_point(curvatures=f.a[:, j], centers=f.b[:, j], lr=0.2, local_steps=7)
        assert fedavg[:, j] == pytest.approx(point, abs=1e-12)
        dsgd = last(nodes.dsgd(nodes.Network(5), f.node_gradient, x, 0.2, W=W), 2000)
        ends = gossip.dsgd_fixed_point(W=W.numpy(), curvatures=f.a[:, j], centers=f.b[:, j], lr=0.2)
        np.testing.assert_allclose(dsgd[:, j], ends, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["scaffold", "gradient_tracking", "d2"])
def test_corrected_methods_end_at_the_minimizer_of_heterogeneous_nodes(name):
    f, net = quadratic(), nodes.Network(5)
    W = nodes.mixing_matrix(nodes.topology("ring", 5))
    options = {
        "scaffold": {"local_steps": 5},
        "gradient_tracking": {"W": W},
        "d2": {"W": (W + torch.eye(5, dtype=W.dtype)) / 2},
    }
    iterates = nodes.ALGORITHMS[name](
        net, f.node_gradient, torch.zeros(5, 3, dtype=torch.float64), 0.1, **options[name]
    )
    np.testing.assert_allclose(last(iterates, 3000), np.tile(f.minimizer, (5, 1)), rtol=0, atol=1e-10)


def test_push_sum_is_dsgd_where_the_matrix_is_doubly_stochastic():
    W = nodes.one_peer_exponential(N)
    points = []
    for rule in (nodes.dsgd, nodes.push_sum):
        net = nodes.Network(N)
        points.append(
            last(rule(net, node_cases.gradient(net, torch.float64), node_cases.start(net, torch.float64), LR, W), 9)
        )
    np.testing.assert_allclose(*points, rtol=0, atol=1e-14)


@pytest.mark.parametrize("n", [5, 8])
def test_push_sum_agrees_on_the_mean_of_a_lopsided_graph_where_gossip_does_not(n):
    W = nodes.mixing_matrix(node_cases.lopsided(n), "push")
    x = torch.arange(float(n), dtype=torch.float64)[:, None]
    iterates = nodes.push_sum(nodes.Network(n), torch.zeros_like, x, 0.1, W=W)
    ends = last(iterates, 400)
    np.testing.assert_allclose(ends, (n - 1) / 2, rtol=0, atol=1e-12)
    shares = nodes.memory(iterates)["u"][:, -1] / n  # Perron's vector of the columns
    np.testing.assert_allclose(W @ shares, shares, atol=1e-14)
    assert float(shares.max() / shares.min()) > 2
    with pytest.raises(ValueError, match="rows that sum to 1"):
        next(nodes.dsgd(nodes.Network(n), torch.zeros_like, x, 0.1, W=W))


def test_error_feedback_follows_plain_sgd_up_to_its_memory():
    """x - mean(e) is a step of plain SGD from x - mean(e), whatever the compressor."""
    net = nodes.Network(N)
    grad = node_cases.gradient(net, torch.float64, noise=0.0)
    iterates = nodes.error_feedback(net, grad, node_cases.start(net, torch.float64), LR, compressors.top_k(2))
    x, virtual = node_cases.start(net, torch.float64), node_cases.start(net, torch.float64)
    for _ in range(20):
        virtual = virtual - LR * grad(x).mean(0)
        x = next(iterates)
        e = nodes.memory(iterates)["e"]
        torch.testing.assert_close(x - e.mean(0), virtual, rtol=0, atol=1e-13)


def test_full_rank_powersgd_is_parallel_sgd():
    net, steps = nodes.Network(N), 10
    options = {"shapes": node_cases.SHAPES, "rank": 3}
    grad = node_cases.gradient(net, torch.float64, noise=0.0)
    x = node_cases.start(net, torch.float64)
    powersgd = last(nodes.powersgd(net, grad, x, LR, **options), steps)
    psgd = last(nodes.psgd(nodes.Network(N), grad, x, LR), steps)
    np.testing.assert_allclose(powersgd, psgd, rtol=0, atol=1e-12)


def test_only_powersgd_s_own_feedback_keeps_the_memories_of_heterogeneous_nodes_bounded():
    """The published memory drifts apart with every step, and moves the iterates by nothing but rounding."""
    grown, ends = {}, {}
    for feedback in ("mean", "own"):
        net = nodes.Network(N)
        grad, x = node_cases.gradient(net, torch.float64, noise=0.0), node_cases.start(net, torch.float64)
        iterates = nodes.powersgd(net, grad, x, 0.1, node_cases.SHAPES, feedback=feedback)
        sizes, points = zip(
            *((float(nodes.memory(iterates)["e"].norm()), x) for x in islice(iterates, 2000)), strict=True
        )
        grown[feedback], ends[feedback] = max(sizes[1000:]) / max(sizes[:1000]), points[-1]
    assert grown["mean"] == pytest.approx(2, abs=0.05) and grown["own"] <= 1.5
    torch.testing.assert_close(ends["mean"], ends["own"], rtol=0, atol=1e-10)


def test_robust_rule_without_liars_is_parallel_sgd():
    net = nodes.Network(N)
    grad = node_cases.gradient(net, torch.float64, noise=0.0)
    x = node_cases.start(net, torch.float64)
    robust = last(nodes.robust_sgd(net, grad, x, LR, aggregators.mean), 10)
    np.testing.assert_allclose(robust, last(nodes.psgd(nodes.Network(N), grad, x, LR), 10), rtol=0, atol=1e-13)


def test_runs_that_share_a_rule_and_an_attack_with_history_do_not_disturb_each_other():
    shared = {"aggregate": aggregators.clipping_from_last(2.0), "attack": attacks.mimic(warmup=3), "n_byzantine": 2}

    def run(noise, options):
        net = nodes.Network(N)
        grad = node_cases.gradient(net, torch.float64, noise=noise)
        return nodes.robust_sgd(net, grad, node_cases.start(net, torch.float64), LR, **options)

    pair = run(0.0, shared), run(1.0, shared)
    for _ in range(8):
        together = [next(iterates) for iterates in pair]  # in turn
    for noise, x in zip((0.0, 1.0), together, strict=True):
        alone = {"aggregate": aggregators.clipping_from_last(2.0), "attack": attacks.mimic(warmup=3), "n_byzantine": 2}
        assert torch.equal(nodes.last_iterate(run(noise, alone), 8), x)


def test_every_algorithm_has_a_case_here():
    covered = {rule.__name__ for rule, _ in node_cases.cases(nodes.Network(N)).values()}
    assert covered == set(nodes.ALGORITHMS)


def test_last_iterate_takes_so_many_more_steps():
    iterates = iter(torch.arange(10.0))
    assert (float(nodes.last_iterate(iterates, 3)), float(nodes.last_iterate(iterates, 1))) == (2.0, 3.0)
    with pytest.raises(ValueError, match="steps must be"):
        nodes.last_iterate(iterates, 0)


def test_bad_arguments_are_refused_before_the_first_iterate():
    net = nodes.Network(4)
    grad, x = lambda x: x, torch.zeros(4, 2)
    W = nodes.mixing_matrix(nodes.topology("ring", 4))
    halves = torch.block_diag(*[torch.full((2, 2), 0.5)] * 2)
    with pytest.raises(ValueError, match=r"x must be a dense floating-point tensor of shape \[4, \.\.\.\]"):
        nodes.psgd(net, grad, torch.zeros(3, 2), 0.1)
    with pytest.raises(ValueError, match="x must be a dense floating-point"):
        nodes.psgd(net, grad, torch.zeros(4, 2, dtype=torch.int64), 0.1)
    with pytest.raises(ValueError, match="lr must be in"):
        nodes.psgd(net, grad, x, 0.0)
    with pytest.raises(TypeError, match="local_stepps"):
        nodes.local_sgd(net, grad, x, 0.1, local_stepps=3)
    for bad, message in (
        (torch.eye(4), "connect all nodes"),
        (halves, "connect all nodes"),
        (2 * W, "rows that sum to 1"),
        (W[:3, :3], r"\[4, 4\]"),
    ):
        with pytest.raises(ValueError, match=message):
            next(nodes.dsgd(net, grad, x, 0.1, W=bad))
    with pytest.raises(ValueError, match="symmetric"):
        next(nodes.d2(net, grad, x, 0.1, W=nodes.one_peer_exponential(4)[0]))
    with pytest.raises(ValueError, match="tree"):
        next(nodes.relay_sum(net, grad, x, 0.1, tree=nodes.topology("ring", 4)))
    with pytest.raises(ValueError, match="local_steps"):
        next(nodes.local_sgd(net, grad, x, 0.1, local_steps=0))
    with pytest.raises(ValueError, match="grad must return"):
        next(nodes.psgd(net, lambda x: x[:, :1], x, 0.1))
    with pytest.raises(ValueError, match="alive"):
        next(nodes.local_sgd(net, grad, x, 0.1, alive=lambda k: torch.zeros(4, dtype=torch.bool)))


@pytest.mark.parametrize("name", ["psgd", "dsgd", "error_feedback", "robust_sgd", "relay_sum"])
def test_a_message_that_is_not_finite_is_refused(name):
    net = nodes.Network(N)
    good = node_cases.gradient(net, torch.float64)

    def grad(x):
        g = good(x)
        g[5, 3] = math.nan
        return g

    rule, options = node_cases.cases(net)[name]
    with pytest.raises(ValueError, match="finite"):
        next(rule(net, grad, node_cases.start(net, torch.float64), 0.1, **options))
