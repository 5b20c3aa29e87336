"""Robust rules, written out here, against extremal configurations and thousands of random attacks."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from optcourse.theory import byzantine

pytestmark = pytest.mark.topic("19.1", "19.2", "19.3")

COUNTS = [(n, f) for n in range(3, 14) for f in range(1, (n - 1) // 2 + 1)]


def trimmed_mean(X, f):
    return trim_mean(X, (f + 0.5) / len(X), axis=0)


def median(X, f):
    return np.median(X, axis=0)


def geometric_median(X, f):
    """Weiszfeld's iteration, smoothed."""
    z = np.median(X, axis=0)
    for _ in range(100):
        w = 1 / np.maximum(np.linalg.norm(X - z, axis=1), 1e-12)
        z = (w[:, None] * X).sum(0) / w.sum()
    return z


def krum(X, f, neighbours=None):
    """The vector with the least sum of squared distances to its nearest others."""
    squares = np.square(X[:, None] - X).sum(-1)
    others = len(X) - f - 1 if neighbours is None else neighbours
    return X[np.sort(squares, axis=1)[:, : others + 1].sum(1).argmin()]


def krum_paper(X, f):
    return krum(X, f, len(X) - f - 2)


def nearest(X, f, point):
    """The average of the n-f vectors nearest to a point."""
    return X[np.square(X - point).sum(1).argsort()[: len(X) - f]].mean(0)


def mda(X, f):
    """Every subset of n-f: the one with the least largest distance."""
    squares = np.square(X[:, None] - X).sum(-1)
    subsets = list(map(list, combinations(range(len(X)), len(X) - f)))
    return X[min(subsets, key=lambda rows: squares[np.ix_(rows, rows)].max())].mean(0)


def monna(X, f):
    return nearest(X, f, X[0])


def meamed(X, f):
    return np.concatenate([nearest(column, f, np.median(column)) for column in X.T[:, :, None]])


def clipped_step(X, v, radius):
    offsets = X - v
    lengths = np.linalg.norm(offsets, axis=1, keepdims=True)
    return v + (offsets * np.minimum(1, radius / np.maximum(lengths, 1e-300))).mean(0)


def error_and_variance(rule, honest, attackers):
    center = honest.mean(0)
    found = rule(np.concatenate([honest, attackers]), len(attackers))
    return np.square(found - center).sum(), np.square(honest - center).sum(1).mean()


@pytest.mark.parametrize(("n", "f"), COUNTS)
@pytest.mark.parametrize("d", [1, 3])
def test_trimmed_mean_attains_its_constant(n, f, d):
    """f honest at -1, the others at 0, attackers far above."""
    honest = np.zeros((n - f, d))
    honest[:f] = -1
    error, variance = error_and_variance(trimmed_mean, honest, np.full((f, d), 1e6))
    constant = byzantine.kappa(rule="trimmed_mean", n_nodes=n, n_byzantine=f)
    assert error / variance == pytest.approx(constant, rel=1e-12)


@pytest.mark.parametrize(("n", "f"), COUNTS)
def test_median_attains_its_constant(n, f):
    """As many honest values low as leave both middle values high."""
    low = (n - 1) // 2
    honest = np.zeros((n - f, 2))
    honest[:low] = -1
    error, variance = error_and_variance(median, honest, np.full((f, 2), 1e6))
    constant = byzantine.kappa(rule="median", n_nodes=n, n_byzantine=f)
    assert error / variance == pytest.approx(constant, rel=1e-12)


RULES = {
    "trimmed_mean": trimmed_mean,
    "median": median,
    "geometric_median": geometric_median,
    "krum": krum,
    "krum_paper": krum_paper,
    "mda": mda,
    "monna": monna,
    "meamed": meamed,
}


@pytest.mark.parametrize("rule", RULES)
def test_random_attacks_never_exceed_the_constant(rule):
    rng = np.random.default_rng(11)
    for trial in range(300):
        n, f = COUNTS[rng.integers(len(COUNTS))]
        if f > byzantine.breakdown(rule=rule, n_nodes=n):
            continue
        d = rng.integers(1, 4)
        spread = rng.choice([0.01, 1.0, 10.0], (n - f, 1))
        honest = rng.standard_normal((n - f, d)) * spread
        # Attackers together or apart, inside the honest cloud or far away, or copies of an honest vector.
        shared = rng.standard_normal(d) * rng.choice([0.5, 3.0, 1e3])
        attackers = shared + rng.choice([0, 0.3]) * rng.standard_normal((f, d))
        if trial % 3 == 0:
            attackers[:] = honest[rng.integers(n - f)]
        error, variance = error_and_variance(RULES[rule], honest, attackers)
        constant = byzantine.kappa(rule=rule, n_nodes=n, n_byzantine=f)
        assert error <= constant * variance * (1 + 1e-9), f"n = {n}, f = {f}"


def worst_of_two_scenarios(rule, n, f):
    """Larger ratio error/V when the honest among n-f zeros and f ones are unknown."""
    X = np.concatenate([np.zeros(n - f), np.ones(f)])[:, None]
    found = rule(X, f)[0]
    if abs(found) > 1e-9:  # the honest are all the zeros, with V = 0
        return np.inf
    honest = X[f:, 0]
    return (found - honest.mean()) ** 2 / honest.var()


@pytest.mark.parametrize("rule", RULES)
def test_lower_bound_is_met_by_every_rule(rule):
    for n, f in COUNTS:
        if f <= byzantine.breakdown(rule=rule, n_nodes=n):
            lowest = byzantine.kappa_lower_bound(n_nodes=n, n_byzantine=f)
            assert worst_of_two_scenarios(RULES[rule], n, f) >= lowest * (1 - 1e-9)
            assert byzantine.kappa(rule=rule, n_nodes=n, n_byzantine=f) >= lowest * (1 - 1e-9)


def test_mean_breaks_at_one_node_and_others_at_half():
    honest, far = np.random.default_rng(0).standard_normal((4, 2)), np.full((1, 2), 1e9)
    error, _ = error_and_variance(lambda X, f: X.mean(0), honest, far)
    assert error > 1e15 and byzantine.kappa(rule="mean", n_nodes=5, n_byzantine=1) == np.inf
    assert byzantine.kappa(rule="mean", n_nodes=5, n_byzantine=0) == 0
    for rule in byzantine.RULES[1:]:
        for n in range(5, 14):
            f = byzantine.breakdown(rule=rule, n_nodes=n)
            assert f == ((n - 3) // 2 if rule == "krum_paper" else (n - 1) // 2)
            assert np.isfinite(byzantine.kappa(rule=rule, n_nodes=n, n_byzantine=f))
            assert byzantine.kappa(rule=rule, n_nodes=n, n_byzantine=f + 1) == np.inf
    # With half of the nodes the attackers carry the median away.
    error, _ = error_and_variance(median, honest, np.full((4, 2), 1e9))
    assert error > 1e15


@given(seed=st.integers(0, 10**6), f=st.integers(1, 4), start=st.floats(0, 10), push=st.floats(0.1, 1e4))
def test_a_clipped_step_ends_where_it_is_bounded(seed, f, start, push):
    rng = np.random.default_rng(seed)
    n, v = 10, rng.standard_normal(3)
    honest = rng.standard_normal((n - f, 3))
    center = honest.mean(0)
    v = center + start * v / np.linalg.norm(v)
    variance = np.square(honest - center).sum(1).mean()
    setting = {"distance": np.linalg.norm(v - center), "variance": variance, "n_nodes": n, "n_byzantine": f}
    away = (v - center) if start > 1e-6 else np.ones(3)
    attackers = np.tile(v + push * away / np.linalg.norm(away), (f, 1))
    after = clipped_step(np.concatenate([honest, attackers]), v, byzantine.clipping_radius(**setting))
    assert np.linalg.norm(after - center) <= byzantine.clipping_step(**setting) * (1 + 1e-9)


@pytest.mark.parametrize(("n", "f"), COUNTS)
def test_repeated_steps_tend_to_the_constant_and_it_is_attained(n, f):
    constant = byzantine.kappa(rule="centered_clipping", n_nodes=n, n_byzantine=f)
    distance = 100.0
    for _ in range(3000):
        distance = byzantine.clipping_step(distance=distance, variance=2.0, n_nodes=n, n_byzantine=f)
    assert distance**2 / 2.0 == pytest.approx(constant, rel=1e-9)
    # n-2f honest at v, f honest two radii below it, attackers above: v does not move.
    m, v = n - f, np.zeros(1)
    B, V = 2 * f / m, 4 * (f / m) * (1 - f / m)
    radius = byzantine.clipping_radius(distance=B, variance=V, n_nodes=n, n_byzantine=f)
    assert radius == pytest.approx(1)
    X = np.concatenate([np.zeros(n - 2 * f), np.full(f, -2.0), np.full(f, 1e6)])[:, None]
    assert abs(clipped_step(X, v, radius)) < 1e-12
    assert B**2 / V == pytest.approx(constant, rel=1e-12)


def test_clipping_radius_is_the_best_one():
    """Of the bound delta B + (1 - delta)(V + B^2)/(4 tau) + delta tau."""
    B, V, delta = 1.5, 2.0, 0.3
    radii = np.geomspace(0.01, 100, 200_001)
    values = delta * B + (1 - delta) * (V + B**2) / (4 * radii) + delta * radii
    setting = {"distance": B, "variance": V, "n_nodes": 10, "n_byzantine": 3}
    assert byzantine.clipping_step(**setting) == pytest.approx(values.min(), rel=1e-9)
    assert byzantine.clipping_radius(**setting) == pytest.approx(radii[values.argmin()], rel=1e-3)


@pytest.mark.parametrize("rule", ["trimmed_mean", "median", "geometric_median", "krum"])
def test_robust_descent_stays_below_its_bound(rule):
    """Honest f_i = 1 - cos(x - phase_i) with exact zeta2; attackers send what hurts: the wrong sign, or far away."""
    phases, f = np.array([0.0, 0.2, 0.4, 0.9, 1.3]), 2
    z = np.exp(-1j * phases) - np.exp(-1j * phases).mean()
    zeta2 = (np.mean(abs(z) ** 2) + abs(np.mean(z**2))) / 2
    constant = byzantine.kappa(rule=rule, n_nodes=7, n_byzantine=f)
    delta0 = np.mean(1 - np.cos(2.5 - phases)) - (1 - abs(np.exp(1j * phases).mean()))
    bound = byzantine.robust_gd_bound(L=1.0, delta0=delta0, zeta2=zeta2, kappa=constant, steps=200, lr=0.5)
    for attack in (lambda g: -g.mean(), lambda g: 1e6, lambda g: -1e6, lambda g: g.max(), lambda g: g.min()):
        x, total = 2.5, 0.0
        for _ in range(200):
            g = np.sin(x - phases)
            total += g.mean() ** 2 / 200
            x = x - 0.5 * RULES[rule](np.append(g, [attack(g)] * f)[:, None], f)[0]
        assert total <= float(bound)


@given(n=st.integers(-5, 0))
def test_bad_counts_are_named(n):
    for call in (
        lambda: byzantine.kappa(rule="median", n_nodes=n, n_byzantine=0),
        lambda: byzantine.breakdown(rule="median", n_nodes=n),
        lambda: byzantine.kappa_lower_bound(n_nodes=n, n_byzantine=0),
    ):
        with pytest.raises(ValueError, match="n_nodes must be at least 1"):
            call()


@given(name=st.sampled_from(["L", "delta0", "steps", "lr"]), value=st.floats(-5, 0))
def test_bad_arguments_are_named(name, value):
    setting = {"L": 1.0, "delta0": 1.0, "zeta2": 1.0, "kappa": 1.0, "steps": 5, "lr": 0.5}
    with pytest.raises(ValueError, match=f"{name} must be in"):
        byzantine.robust_gd_bound(**setting | {name: value})


def test_other_bad_arguments_are_named():
    with pytest.raises(ValueError, match="rule must be one of"):
        byzantine.kappa(rule="majority", n_nodes=5, n_byzantine=1)
    with pytest.raises(ValueError, match="n_byzantine must be in 0..5"):
        byzantine.kappa(rule="median", n_nodes=5, n_byzantine=6)
    with pytest.raises(ValueError, match="n_byzantine must be in 1..5"):
        byzantine.clipping_radius(distance=1.0, variance=1.0, n_nodes=5, n_byzantine=0)
    with pytest.raises(ValueError, match="distance must be in"):
        byzantine.clipping_step(distance=-1.0, variance=1.0, n_nodes=5, n_byzantine=1)
    with pytest.raises(ValueError, match="lr <= 1/L"):
        byzantine.robust_gd_bound(L=1.0, delta0=1.0, zeta2=1.0, kappa=1.0, steps=5, lr=1.1)
    with pytest.raises(ValueError, match="kappa must be in"):
        byzantine.robust_gd_bound(L=1.0, delta0=1.0, zeta2=1.0, kappa=np.inf, steps=5, lr=0.5)


def test_upper_bounds_have_the_constants_of_their_proofs():
    """No attack comes near them, so the numbers are those of the proofs: (1 + sqrt 2)^2 = 3 + 2 sqrt 2, and 2^2."""
    for n, f in COUNTS:
        honest = n - f
        assert byzantine.kappa(rule="krum", n_nodes=n, n_byzantine=f) == pytest.approx(
            (3 + 8**0.5) * honest / (honest - f), rel=1e-14
        )
        assert byzantine.kappa(rule="geometric_median", n_nodes=n, n_byzantine=f) == pytest.approx(
            (2 + 2 * f / (honest - f)) ** 2, rel=1e-14
        )
        if 2 * f + 2 < n:
            assert byzantine.kappa(rule="krum_paper", n_nodes=n, n_byzantine=f) == pytest.approx(
                (3 + 8**0.5) * honest / (honest - f - 1), rel=1e-14
            )


def test_the_smallest_numbers_of_nodes():
    """One node is trusted; Krum as published needs three, whose best is the one with the nearest other."""
    for rule in ("mean", "median", "trimmed_mean", "geometric_median", "krum", "centered_clipping"):
        assert byzantine.breakdown(rule=rule, n_nodes=1) == byzantine.breakdown(rule=rule, n_nodes=2) == 0
        assert np.isfinite(byzantine.kappa(rule=rule, n_nodes=1, n_byzantine=0))
    assert [byzantine.breakdown(rule="krum_paper", n_nodes=n) for n in range(1, 8)] == [0, 0, 0, 0, 1, 1, 2]
    assert [byzantine.kappa(rule="krum_paper", n_nodes=n, n_byzantine=0) < np.inf for n in (1, 2, 3, 4)] == [
        *(False, False, True, True)
    ]
    assert [byzantine.kappa_lower_bound(n_nodes=4, n_byzantine=f) for f in (0, 1, 2)] == [0, 0.5, np.inf]


@pytest.mark.parametrize(("n", "f"), [(5, 1), (9, 2), (12, 3), (21, 5)])
def test_averages_of_the_nearest_vectors_follow_the_steps_of_their_proof(n, f):
    """With V = 1: the error is a sum over f pairs, divided by n - f; here with the numbers of each step put in."""
    m = n - f
    diameter = np.sqrt(2 * m)  # of the honest vectors
    assert byzantine.kappa(rule="mda", n_nodes=n, n_byzantine=f) == pytest.approx((f * 2 * diameter / m) ** 2)
    honest_point = m - 1  # squared distance of an honest vector from the mean, at most
    assert byzantine.kappa(rule="monna", n_nodes=n, n_byzantine=f) == pytest.approx(4 * f / m * (1 + honest_point))
    middle = (n - 1) / (n - 2 * f + 1) if n % 2 else (n - 2) / (n - 2 * f + 2)  # of the median
    assert byzantine.kappa(rule="meamed", n_nodes=n, n_byzantine=f) == pytest.approx(4 * f / m * (1 + middle))
