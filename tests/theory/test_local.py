"""Local SGD against iterated rounds, known limits, and runs on problems whose constants are exact."""

import numpy as np
import pytest
from cosines import Cosines
from hypothesis import given
from hypothesis import strategies as st

from optcourse.theory import local, sgd

pytestmark = pytest.mark.topic("16.1", "16.2")

SETTING = {"L": 2.0, "delta0": 1.0, "sigma2": 0.5, "zeta2": 0.3, "n_nodes": 4, "local_steps": 5, "steps": 200}


def fedavg(A, b, lr, local_steps, rounds=4000, start=0.0):
    """Rounds of FedAvg on 1/2 (x - b_i)^T A_i (x - b_i), from the update alone."""
    x = start + np.zeros(b.shape[1])
    for _ in range(rounds):
        nodes = np.tile(x, (len(b), 1))
        for _ in range(local_steps):
            nodes = nodes - lr * np.einsum("nij,nj->ni", A, nodes - b)
        x = nodes.mean(0)
    return x


def random_matrices(rng, n, d):
    M = rng.standard_normal((n, d, d))
    return M @ M.swapaxes(1, 2) / d + 0.2 * np.eye(d), rng.standard_normal((n, d))


@given(seed=st.integers(0, 10**6), tau=st.integers(1, 9), share=st.floats(0.2, 1.5))
def test_fixed_point_of_scalars_is_kept_by_a_round(seed, tau, share):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.1, 3, 4), rng.standard_normal(4)
    lr = share / a.max()
    x = local.fedavg_fixed_point(curvatures=a, centers=b, local_steps=tau, lr=lr)
    nodes = np.full(4, x)
    for _ in range(tau):
        nodes = nodes - lr * a * (nodes - b)
    assert nodes.mean() == pytest.approx(x, abs=1e-12)


@pytest.mark.parametrize("tau", [1, 3, 8])
def test_fixed_point_of_matrices_is_where_fedavg_ends(tau):
    A, b = random_matrices(np.random.default_rng(tau), 5, 3)
    found = local.fedavg_fixed_point(curvatures=A, centers=b, local_steps=tau, lr=0.1)
    np.testing.assert_allclose(found, fedavg(A, b, 0.1, tau), atol=1e-11)


def test_fixed_point_of_matrices_reads_scalars_on_the_diagonal():
    a, b = np.array([[1.0, 4.0], [4.0, 0.5], [0.5, 2.0]]), np.array([[0.0, 1.0], [1.0, -3.0], [-3.0, 2.0]])
    found = local.fedavg_fixed_point(curvatures=np.stack([np.diag(row) for row in a]), centers=b, local_steps=7, lr=0.1)
    for column in range(2):
        one = local.fedavg_fixed_point(curvatures=a[:, column], centers=b[:, column], local_steps=7, lr=0.1)
        assert found[column] == pytest.approx(one, abs=1e-13)


def test_fixed_point_runs_from_the_minimizer_to_the_average_of_minimizers():
    a, b = np.array([1.0, 4.0, 0.5]), np.array([0.0, 1.0, -3.0])
    optimum = (a * b).sum() / a.sum()
    assert optimum == pytest.approx(2.5 / 5.5)
    exact = local.fedavg_fixed_point(curvatures=a, centers=b, local_steps=1, lr=0.1)
    assert exact == pytest.approx(optimum, abs=1e-13)
    slow = [local.fedavg_fixed_point(curvatures=a, centers=b, local_steps=7, lr=lr) for lr in (1e-2, 1e-4, 1e-6)]
    bias = [abs(x - optimum) for x in slow]
    assert bias[0] > 50 * bias[1] > 2500 * bias[2]
    many = local.fedavg_fixed_point(curvatures=a, centers=b, local_steps=2000, lr=0.1)
    assert many == pytest.approx(b.mean(), abs=1e-12)
    middle = local.fedavg_fixed_point(curvatures=a, centers=b, local_steps=7, lr=0.1)
    assert b.mean() < middle < optimum


def test_contraction_is_the_spectral_radius_of_a_round():
    """A round is affine: its linear part has the columns round(e_i) - round(0)."""
    A, b = random_matrices(np.random.default_rng(0), 4, 3)
    columns = [fedavg(A, b, 0.1, 3, 1, e) - fedavg(A, b, 0.1, 3, 1) for e in np.eye(3)]
    factor = local.fedavg_contraction(curvatures=A, local_steps=3, lr=0.1)
    assert factor == pytest.approx(abs(np.linalg.eigvals(np.stack(columns, axis=1))).max(), abs=1e-12)


def test_zeta2_of_the_cosines_is_the_supremum():
    problem = Cosines([0.0, 0.5, 2.5])
    g = problem.gradients(np.linspace(0, 2 * np.pi, 20_001)[:, None])
    assert np.max(g.var(axis=1)) == pytest.approx(problem.zeta2, rel=1e-7)


@pytest.mark.parametrize("tau", [1, 4, 10])
@pytest.mark.parametrize("sigma2", [0.0, 0.25, 4.0])
def test_bounds_hold_on_non_convex_heterogeneous_runs(tau, sigma2):
    """400 runs with +-sigma noise: the mean minus four standard errors stays below, for gradient and distance."""
    problem, rng = Cosines([0.0, 0.5, 2.5]), np.random.default_rng(7)
    lr, steps, start = local.local_sgd_max_step(L=1.0, local_steps=tau), 20 * tau, 2.0
    x = np.full((400, 3), start)
    squares, apart = np.zeros(400), np.zeros(400)
    for t in range(steps):
        squares += problem.squared_gradient(x) / steps
        apart += x.var(axis=1) / steps
        x = x - lr * (problem.gradients(x) + np.sqrt(sigma2) * rng.choice([-1.0, 1.0], x.shape))
        if (t + 1) % tau == 0:
            x[:] = x.mean(1, keepdims=True)
    shared = {"L": 1.0, "sigma2": sigma2, "zeta2": problem.zeta2, "local_steps": tau, "lr": lr}
    bound = local.local_sgd_bound(**shared, delta0=problem.delta0(start), n_nodes=3, steps=steps)
    drift = local.local_drift_bound(**shared)
    for measured, limit in ((squares, float(bound)), (apart, float(drift))):
        assert measured.mean() - 4 * measured.std() / 20 <= limit


def test_without_local_steps_it_is_minibatch_sgd():
    setting = SETTING | {"local_steps": 1}
    theirs = {k: v for k, v in setting.items() if k in ("L", "delta0", "sigma2", "steps")}
    ours = local.local_sgd_bound(**setting, lr=0.3)
    assert float(ours) == pytest.approx(float(sgd.sgd_bound_at(**theirs, batch_size=4, lr=0.3)))


def test_tuned_form_is_above_the_bound_at_its_own_step_and_near_the_best_step():
    for steps in (20, 10**3, 10**6):
        setting = SETTING | {"steps": steps}
        tuned = local.local_sgd_tuned(**setting)
        at_step = float(local.local_sgd_bound(**setting, lr=tuned.stepsize))
        limit = local.local_sgd_max_step(L=2.0, local_steps=5)
        best = np.nanmin(local.local_sgd_bound(**setting, lr=limit * np.geomspace(1e-6, 1, 500)).value)
        assert best <= at_step <= float(tuned) * (1 + 1e-12)
        assert float(tuned) <= 3 * best


def test_local_steps_cost_nothing_in_the_limit():
    """The noise term is that of mini-batches of n; the others fall behind it as T^{-1/6} and T^{-1/2}."""
    once, often = (local.local_sgd_tuned(**SETTING | {"local_steps": tau}).terms for tau in (1, 50))
    assert often["noise"] == once["noise"] == pytest.approx(np.sqrt(8 * 2.0 * 1.0 * 0.5 / (4 * 200)))
    late = local.local_sgd_tuned(**SETTING | {"local_steps": 50, "steps": 200 * 10**6}).terms
    assert late["drift"] / late["noise"] == pytest.approx(0.1 * often["drift"] / often["noise"])
    assert late["deterministic"] / late["noise"] == pytest.approx(1e-3 * often["deterministic"] / often["noise"])


@pytest.mark.parametrize(("n", "tau", "T"), [(1, 1, 50), (4, 5, 400), (8, 20, 400)])
def test_strongly_convex_bound_on_a_noisy_quadratic(n, tau, T):
    """f = x^2/2 + (Ly^2/2): exact second moments of the mean and of a single node, coordinate by coordinate."""
    curvatures, sigma2, start = np.array([1.0, 3.0]), 2.0, np.array([2.0, -1.0])
    shift = max(16 * 3.0, tau)
    mean2, spread2 = start**2, np.zeros(2)  # E xbar^2, and E (x_i - xbar)^2
    gap, G2, weights = 0.0, 0.0, np.square(shift + np.arange(T))
    for t in range(T):
        node2 = mean2 + spread2
        gap += weights[t] * (curvatures * mean2).sum() / 2 / weights.sum()
        G2 = max(G2, (curvatures**2 * node2).sum() + sigma2)
        lr = 4 / (shift + t)
        keep, noise = (1 - lr * curvatures) ** 2, lr**2 * sigma2 / 2
        mean2, spread2 = keep * mean2 + noise / n, keep * spread2 + noise * (1 - 1 / n)
        if (t + 1) % tau == 0:
            spread2 = np.zeros(2)
    bound = local.local_sgd_strongly_convex(
        mu=1.0, L=3.0, R=5**0.5, sigma2=sigma2, G2=G2, n_nodes=n, local_steps=tau, steps=T, shift=shift
    )
    assert gap <= float(bound)  # f at the average iterate is below the average of f
    assert bound.stepsize == pytest.approx(4 / (shift + np.arange(T)))


@given(tau=st.integers(1, 100), factor=st.floats(1.001, 10))
def test_too_long_steps_are_refused(tau, factor):
    limit = local.local_sgd_max_step(L=2.0, local_steps=tau)
    local.local_sgd_bound(**SETTING | {"local_steps": tau}, lr=limit)
    with pytest.raises(ValueError, match="local_sgd_max_step"):
        local.local_sgd_bound(**SETTING | {"local_steps": tau}, lr=limit * factor)
    if tau > 1:
        with pytest.raises(ValueError, match=r"lr <= 1/\(2 L sqrt"):
            local.local_drift_bound(L=2.0, sigma2=0.5, zeta2=0.3, local_steps=tau, lr=limit * factor)


@given(name=st.sampled_from(["L", "delta0", "n_nodes", "local_steps", "steps", "lr"]), value=st.floats(-5, 0))
def test_bad_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} must be in"):
        local.local_sgd_bound(**SETTING | {"lr": 0.01} | {name: value})


def test_bad_arguments_of_fixed_points_are_named():
    good = {"curvatures": [1.0, 2.0], "centers": [0.0, 1.0], "local_steps": 2, "lr": 0.1}
    for change, message in (
        ({"centers": [0.0, 1.0, 2.0]}, "centers must match"),
        ({"curvatures": [[1.0, 2.0]]}, "curvatures must have shape"),
        ({"local_steps": 0}, "local_steps must be at least 1"),
        ({"lr": 3.0}, "lr must make the rounds contract"),
        ({"curvatures": [0.0, 0.0]}, "lr must make the rounds contract"),
        ({"lr": -0.1}, "lr must be in"),
    ):
        with pytest.raises(ValueError, match=message):
            local.fedavg_fixed_point(**good | change)
    strong = {"mu": 1.0, "L": 1.0, "R": 1.0, "sigma2": 0.0, "G2": 1.0, "n_nodes": 1, "local_steps": 1, "steps": 1}
    with pytest.raises(ValueError, match="shift >= max"):
        local.local_sgd_strongly_convex(**strong, shift=15.0)
    with pytest.raises(ValueError, match="mu must be at most L"):
        local.local_sgd_strongly_convex(**strong | {"mu": 2.0}, shift=50.0)


def test_one_node_of_one_weight():
    setting = {"local_steps": 2, "lr": 0.25}
    for curvatures, center in (([2.0], [3.0]), ([[[2.0]]], [[3.0]])):
        assert local.fedavg_contraction(curvatures=curvatures, **setting) == pytest.approx(0.25)
        assert local.fedavg_fixed_point(curvatures=curvatures, centers=center, **setting) == pytest.approx(3.0)
    for refused in ([], np.ones((0, 1, 1)), np.ones((1, 0, 0)), np.ones((2, 2, 3)), np.ones((2, 3, 2))):
        with pytest.raises(ValueError, match="curvatures must have shape"):
            local.fedavg_contraction(curvatures=refused, **setting)
