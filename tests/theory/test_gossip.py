"""DSGD against matrices built from graphs, iterated recursions, and runs on problems whose constants are exact."""

import networkx as nx
import numpy as np
import pytest
from cosines import Cosines
from hypothesis import given
from hypothesis import strategies as st

from optcourse.theory import gossip, sgd

pytestmark = pytest.mark.topic("17.1", "17.2", "17.3")

SETTING = {"L": 2.0, "delta0": 1.0, "sigma2": 0.5, "zeta2": 0.3, "n_nodes": 8, "spectral_gap": 0.2}


def metropolis(graph):
    """W_ij = 1/(1 + max degree) on every edge, the rest on the diagonal."""
    graph = nx.convert_node_labels_to_integers(graph)
    W = np.zeros((len(graph), len(graph)))
    for i, j in graph.edges:
        W[i, j] = W[j, i] = 1 / (1 + max(graph.degree[i], graph.degree[j]))
    return W + np.diag(1 - W.sum(1))


def hears(n, offsets):
    """Node i averages itself and i + offset mod n with equal weights."""
    W = np.eye(n)
    for i in range(n):
        for offset in offsets:
            W[i, (i + offset) % n] += 1
    return W / (1 + len(offsets))


def one_peer(n):
    W = np.eye(n)
    for j in range(int(np.ceil(np.log2(n)))):
        W = hears(n, [2**j]) @ W
    return W


MATRICES = {
    "ring": lambda n: metropolis(nx.cycle_graph(n)),
    "path": lambda n: metropolis(nx.path_graph(n)),
    "torus": lambda n: metropolis(nx.grid_2d_graph(int(n**0.5), int(n**0.5), periodic=True)),
    "star": lambda n: metropolis(nx.star_graph(n - 1)),
    "hypercube": lambda n: metropolis(nx.hypercube_graph(int(np.log2(n)))),
    "exponential": lambda n: hears(n, [2**j for j in range(int(np.ceil(np.log2(n))))]),
    "one_peer_exponential": one_peer,
    "complete": lambda n: np.full((n, n), 1 / n),
}
SIZES = {
    **{name: [3, 4, 5, 6, 9, 16, 33, 64] for name in ("ring", "path", "star")},
    **{
        name: [2, 3, 4, 5, 6, 7, 8, 12, 16, 33, 64, 100] for name in ("exponential", "one_peer_exponential", "complete")
    },
    "torus": [9, 16, 25, 36, 64, 81],
    "hypercube": [2, 4, 8, 16, 32, 64],
}


def lam(W):
    return np.linalg.norm(W - 1 / len(W), 2)


@pytest.mark.parametrize(("name", "n"), [(name, n) for name, sizes in SIZES.items() for n in sizes])
def test_mixing_rates_are_the_norms_of_the_matrices(name, n):
    W = MATRICES[name](n)
    assert W.sum(0) == pytest.approx(1) and W.sum(1) == pytest.approx(1)
    assert gossip.mixing_rate(topology=name, n_nodes=n) == pytest.approx(lam(W), abs=1e-12)


def test_table_covers_every_topology():
    assert set(MATRICES) == set(SIZES) == set(gossip.TOPOLOGIES)


def test_static_exponential_graph_is_at_least_as_good_for_odd_numbers():
    for n in range(2, 200):
        t = (n - 1).bit_length()
        rate = gossip.mixing_rate(topology="exponential", n_nodes=n)
        if n % 2 == 0:
            assert rate == pytest.approx((t - 1) / (t + 1), abs=1e-12)
        else:
            assert rate < (t - 1) / (t + 1)


def test_one_peer_rounds_average_exactly_only_for_powers_of_two():
    for n in range(2, 70):
        exact = gossip.mixing_rate(topology="one_peer_exponential", n_nodes=n) < 1e-12
        assert exact == (n & (n - 1) == 0)


def random_mixing(rng, n):
    """A doubly stochastic matrix that is not symmetric: an average of permutations, and the identity."""
    return (np.eye(n) + sum(np.eye(n)[rng.permutation(n)] for _ in range(3))) / 4


def dsgd(W, A, b, lr, steps=6000):
    x = np.zeros_like(b)
    for _ in range(steps):
        x = W @ (x - lr * np.einsum("nij,nj->ni", A, x - b))
    return x


@pytest.mark.parametrize("seed", range(3))
def test_fixed_point_of_matrices_is_where_dsgd_ends(seed):
    rng = np.random.default_rng(seed)
    M = rng.standard_normal((6, 3, 3))
    A, b = M @ M.swapaxes(1, 2) / 3 + 0.2 * np.eye(3), rng.standard_normal((6, 3))
    W = MATRICES["ring"](6)
    found = gossip.dsgd_fixed_point(W=W, curvatures=A, centers=b, lr=0.1)
    np.testing.assert_allclose(found, dsgd(W, A, b, 0.1), atol=1e-11)


def test_fixed_point_of_scalars_and_its_bias():
    rng = np.random.default_rng(0)
    W, a, b = random_mixing(rng, 7), rng.uniform(0.5, 3, 7), rng.standard_normal(7)
    x = gossip.dsgd_fixed_point(W=W, curvatures=a, centers=b, lr=0.2)
    np.testing.assert_allclose(W @ (x - 0.2 * a * (x - b)), x, atol=1e-13)
    optimum = (a * b).sum() / a.sum()
    bias = [
        abs(gossip.dsgd_fixed_point(W=W, curvatures=a, centers=b, lr=lr).mean() - optimum) for lr in (0.02, 0.002, 2e-4)
    ]
    assert bias[0] / bias[1] == pytest.approx(10, rel=0.2) and bias[1] / bias[2] == pytest.approx(10, rel=0.02)
    complete = gossip.dsgd_fixed_point(W=np.full((7, 7), 1 / 7), curvatures=a, centers=b, lr=0.2)
    np.testing.assert_allclose(complete, optimum, atol=1e-13)
    equal = gossip.dsgd_fixed_point(W=W, curvatures=np.full(7, 1.5), centers=b, lr=0.2)
    assert equal.mean() == pytest.approx(b.mean(), abs=1e-13)


def track(W, a, b, lr, steps):
    """Gradient tracking; the largest error after each step."""
    x = np.zeros_like(b)
    y, errors = a * (x - b), []
    for _ in range(steps):
        new = W @ (x - lr * y)
        y = W @ y + a * (new - b) - a * (x - b)
        x = new
        errors.append(abs(x - (a * b).sum() / a.sum()).max())
    return np.array(errors)


@pytest.mark.parametrize("lr", [0.05, 0.2])
def test_gradient_tracking_converges_to_the_minimizer_at_its_rate(lr):
    rng = np.random.default_rng(1)
    a, b, W = rng.uniform(0.5, 2, 8), rng.standard_normal(8), MATRICES["ring"](8)
    rate = gossip.gradient_tracking_rate(W=W, curvatures=a, lr=lr)
    errors = track(W, a, b, lr, 4000)
    assert errors[-1] < 1e-12
    early, late = np.flatnonzero(errors < 1e-4)[0], np.flatnonzero(errors < 1e-10)[0]
    assert (errors[late] / errors[early]) ** (1 / (late - early)) == pytest.approx(rate, abs=5e-3)


def test_gradient_tracking_rate_is_above_one_where_it_diverges():
    rng = np.random.default_rng(1)
    a, b, W = rng.uniform(0.5, 2, 8), rng.standard_normal(8), MATRICES["ring"](8)
    rate = gossip.gradient_tracking_rate(W=W, curvatures=a, lr=1.5)
    errors = track(W, a, b, 1.5, 200)
    assert rate > 1.01 and errors[-1] > errors[100] > 10


@pytest.mark.parametrize("name", ["ring", "exponential", "complete"])
@pytest.mark.parametrize("sigma2", [0.0, 0.25, 4.0])
def test_bounds_hold_on_non_convex_heterogeneous_runs(name, sigma2):
    """400 runs with +-sigma noise: the mean minus four standard errors stays below, for gradient and distance."""
    n, steps, start = 6, 200, 2.0
    W, problem, rng = MATRICES[name](n), Cosines([0.0, 0.1, 0.2, 2.3, 2.4, 2.5]), np.random.default_rng(3)
    gap = 1 - gossip.mixing_rate(topology=name, n_nodes=n)
    lr = gossip.dsgd_max_step(L=1.0, spectral_gap=gap)
    x, squares, apart = np.full((400, n), start), np.zeros(400), np.zeros(400)
    for _ in range(steps):
        squares += problem.gradients(x.mean(1, keepdims=True)).mean(1) ** 2 / steps
        apart += x.var(axis=1) / steps
        x = (x - lr * (problem.gradients(x) + np.sqrt(sigma2) * rng.choice([-1.0, 1.0], x.shape))) @ W.T
    shared = {"L": 1.0, "sigma2": sigma2, "zeta2": problem.zeta2, "spectral_gap": gap, "lr": lr}
    bound = gossip.dsgd_bound(**shared, delta0=problem.delta0(start), n_nodes=n, steps=steps)
    distance = gossip.consensus_bound(**shared)
    assert squares.mean() - 4 * squares.std() / 20 <= float(bound)
    assert apart.mean() - 4 * apart.std() / 20 <= float(distance) + 1e-25


def test_complete_graph_is_minibatch_sgd():
    setting = SETTING | {"spectral_gap": 1.0, "steps": 50, "lr": 0.3}
    theirs = {k: setting[k] for k in ("L", "delta0", "sigma2", "steps", "lr")}
    assert float(gossip.dsgd_bound(**setting)) == pytest.approx(float(sgd.sgd_bound_at(**theirs, batch_size=8)))


def test_tuned_form_is_above_the_bound_at_its_own_step_and_near_the_best_step():
    for steps in (20, 10**3, 10**6):
        tuned = gossip.dsgd_tuned(**SETTING, steps=steps)
        at_step = float(gossip.dsgd_bound(**SETTING, steps=steps, lr=tuned.stepsize))
        limit = gossip.dsgd_max_step(L=2.0, spectral_gap=0.2)
        best = np.nanmin(gossip.dsgd_bound(**SETTING, steps=steps, lr=limit * np.geomspace(1e-6, 1, 500)).value)
        assert best <= at_step <= float(tuned) * (1 + 1e-12)
        assert float(tuned) <= 3 * best


def test_transient_is_where_the_graph_stops_to_dominate():
    at = gossip.dsgd_transient(**SETTING)
    terms = gossip.dsgd_tuned(**SETTING, steps=at).terms
    assert terms["drift"] == pytest.approx(terms["noise"])
    gaps, nodes = np.array([1e-3, 1e-4]), np.array([8, 80])

    def slope(x, **change):
        steps = gossip.dsgd_transient(**SETTING | change)
        return np.log(steps[1] / steps[0]) / np.log(x[1] / x[0])

    assert slope(gaps, spectral_gap=gaps) == pytest.approx(-4, abs=0.02)
    assert slope(gaps, spectral_gap=gaps, zeta2=0.0) == pytest.approx(-2, abs=0.02)
    assert slope(nodes, n_nodes=nodes) == pytest.approx(3)


@given(gap=st.floats(0.01, 1), factor=st.floats(1.001, 10))
def test_too_long_steps_are_refused(gap, factor):
    limit = gossip.dsgd_max_step(L=2.0, spectral_gap=gap)
    gossip.dsgd_bound(**SETTING | {"spectral_gap": gap}, steps=9, lr=limit)
    with pytest.raises(ValueError, match="dsgd_max_step"):
        gossip.dsgd_bound(**SETTING | {"spectral_gap": gap}, steps=9, lr=limit * factor)


@given(name=st.sampled_from(["L", "delta0", "n_nodes", "spectral_gap", "steps", "lr"]), value=st.floats(-5, 0))
def test_bad_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} must be in"):
        gossip.dsgd_bound(**SETTING | {"steps": 9, "lr": 0.01} | {name: value})


def test_bad_graphs_and_matrices_are_named():
    for topology, n, message in (
        ("wheel", 5, "topology must be one of"),
        ("ring", 2, "n_nodes must be at least 3"),
        ("torus", 10, r"s\^2 with s >= 3"),
        ("torus", 4, r"s\^2 with s >= 3"),
        ("hypercube", 6, "power of 2"),
        ("complete", 1, "n_nodes must be at least 2"),
    ):
        with pytest.raises(ValueError, match=message):
            gossip.mixing_rate(topology=topology, n_nodes=n)
    ring, eye = MATRICES["ring"](4), np.eye(4)
    with pytest.raises(ValueError, match="W must be doubly stochastic"):
        gossip.dsgd_fixed_point(W=ring * 1.1, curvatures=np.ones(4), centers=np.ones(4), lr=0.1)
    with pytest.raises(ValueError, match="W must be doubly stochastic"):
        gossip.gradient_tracking_rate(W=2 * eye - ring, curvatures=np.ones(4), lr=0.1)
    with pytest.raises(ValueError, match=r"W must have shape \[n, n\]"):
        gossip.dsgd_fixed_point(W=ring[:2], curvatures=np.ones(4), centers=np.ones(4), lr=0.1)
    with pytest.raises(ValueError, match="spectral radius"):
        gossip.dsgd_fixed_point(W=ring, curvatures=np.ones(4), centers=np.ones(4), lr=3.0)
    with pytest.raises(ValueError, match="curvatures and centers must have shapes"):
        gossip.dsgd_fixed_point(W=ring, curvatures=np.ones(3), centers=np.ones(4), lr=0.1)
    with pytest.raises(ValueError, match="curvatures must have shape"):
        gossip.gradient_tracking_rate(W=ring, curvatures=np.ones(3), lr=0.1)


def squared_gradients(W, a, b, sigma2, start, steps, lr):
    """The same by recursion on means and covariances, step after step."""
    n, best = len(a), (a * b).sum() / a.sum()
    M, mean, covariance, total = W @ np.diag(1 - lr * a), np.full(n, start), np.zeros((n, n)), np.zeros(3)
    alone, variance = start, 0.0
    for _ in range(steps):
        at_nodes = ((mean - best) ** 2 + np.diag(covariance)).mean()
        total += (alone - best) ** 2 + variance, (mean.mean() - best) ** 2 + covariance.mean(), at_nodes
        mean, covariance = M @ mean + lr * W @ (a * b), M @ covariance @ M.T + lr**2 * sigma2 * W @ W.T
        alone, variance = alone - lr * a.mean() * (alone - best), (1 - lr * a.mean()) ** 2 * variance
        variance += lr**2 * sigma2 / n
    return a.mean() ** 2 * total / steps


@pytest.mark.parametrize("graph", [nx.cycle_graph(5), nx.star_graph(4), nx.complete_graph(3)])
def test_squared_gradients_are_those_of_the_recursion(graph):
    W, rng = metropolis(graph), np.random.default_rng(len(graph))
    n, steps, lr = len(W), np.array([1, 2, 7, 100]), np.array([0.3, 0.1, 0.4, 0.01])
    a, b = rng.uniform(0.5, 2, n), rng.standard_normal(n)
    exact = gossip.dsgd_squared_gradients(W=W, curvatures=a, centers=b, sigma2=2.0, start=1.5, steps=steps, lr=lr)
    expected = [squared_gradients(W, a, b, 2.0, 1.5, T, rate) for T, rate in zip(steps, lr, strict=True)]
    np.testing.assert_allclose(np.stack(exact, 1), expected, rtol=1e-11)


def test_squared_gradients_of_equal_curvatures_and_of_averaging_over_all():
    """Equal curvatures: the mean of the nodes is parallel SGD. W = J: the nodes are."""
    setting = {"sigma2": 1.0, "start": 1.0, "steps": np.array([5, 500]), "lr": 0.2}
    ring, centers = metropolis(nx.cycle_graph(6)), np.arange(6.0)
    equal = gossip.dsgd_squared_gradients(W=ring, curvatures=np.ones(6), centers=centers, **setting)
    np.testing.assert_allclose(equal.at_mean, equal.parallel, rtol=1e-12)
    assert (equal.at_nodes > equal.parallel * 1.01).all()
    J = np.full((6, 6), 1 / 6)
    alone = gossip.dsgd_squared_gradients(W=J, curvatures=np.arange(1.0, 7) / 10, centers=centers, **setting)
    np.testing.assert_allclose(alone.at_nodes, alone.at_mean, rtol=1e-12)
    np.testing.assert_allclose(alone.at_mean, alone.parallel, rtol=1e-12)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"lr": 0.5}, r"lr must be below 1 / \(largest curvature\) = 0.5, got 0.5"),
        ({"W": [[0, 1, 0], [0, 0, 1], [1, 0, 0]]}, "W must be symmetric"),
        ({"centers": [0.0]}, r"must have shape \[3\], got \[3\] and \[1\]"),
        ({"steps": 0}, r"steps must be in \(0, inf\)"),
        ({"sigma2": -1.0}, r"sigma2 must be in \[0, inf\)"),
        ({"curvatures": [1.0, -1.0, 1.0]}, r"curvatures must be in \(0, inf\)"),
    ],
)
def test_squared_gradients_refuse_what_has_no_closed_form(bad, message):
    setting = {"W": np.full((3, 3), 1 / 3), "curvatures": [1.0, 2.0, 1.0], "centers": [0.0, 1.0, 2.0]}
    with pytest.raises(ValueError, match=message):
        gossip.dsgd_squared_gradients(**setting | {"sigma2": 1.0, "start": 0.0, "steps": 5, "lr": 0.1} | bad)


def test_one_node_is_a_graph_and_both_sums_are_looked_at():
    assert gossip.dsgd_fixed_point(W=[[1.0]], curvatures=[2.0], centers=[3.0], lr=0.1) == pytest.approx([3.0])
    assert gossip.gradient_tracking_rate(W=[[1.0]], curvatures=[2.0], lr=0.1) == pytest.approx(0.8)
    lopsided = np.array([[1.0, 0.0], [0.5, 0.5]])  # rows sum to 1
    for W in (lopsided, lopsided.T):
        with pytest.raises(ValueError, match="W must be doubly stochastic"):
            gossip.dsgd_fixed_point(W=W, curvatures=np.ones(2), centers=np.ones(2), lr=0.1)


def test_fixed_points_exist_up_to_the_edge_of_stability():
    """One node: the factor is 1 - 2 lr."""
    setting = {"W": [[1.0]], "curvatures": [2.0], "centers": [3.0]}
    assert gossip.dsgd_fixed_point(**setting, lr=0.999) == pytest.approx([3.0])
    for lr in (1.0, 1.05, 1.4):
        with pytest.raises(ValueError, match="lr must make the iteration contract"):
            gossip.dsgd_fixed_point(**setting, lr=lr)


@given(
    sigma2=st.floats(0.01, 100),
    zeta2=st.floats(0, 100),
    n=st.integers(2, 200),
    gap=st.floats(0.001, 1),
    more=st.floats(0, 6),
)
def test_after_the_transient_a_graph_costs_a_factor_of_three_at_most(sigma2, zeta2, n, gap, more):
    """Of the bound for averaging over all; far beyond, almost nothing."""
    setting = {"L": 2.3, "delta0": 1.9, "sigma2": sigma2, "zeta2": zeta2, "n_nodes": n}
    first = float(gossip.dsgd_transient(**setting, spectral_gap=gap))
    everybody, graph = (
        [float(gossip.dsgd_tuned(**setting, spectral_gap=s, steps=max(first, 1) * 10.0**k)) for k in (more, 18)]
        for s in (1.0, gap)
    )
    assert graph[0] <= 3 * everybody[0] * (1 + 1e-12)
    assert graph[1] <= 1.01 * everybody[1]
