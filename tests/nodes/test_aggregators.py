"""Robust rules against numpy, scipy, loops over the definitions, and the constants of the theory."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group, trim_mean

from optcourse.nodes import aggregators
from optcourse.nodes.aggregators import (
    AGGREGATORS,
    bucketing,
    centered_clipping,
    geometric_median,
    krum,
    mean,
    median,
    multi_krum,
    nearest_neighbour_mixing,
    squared_distances,
    trimmed_mean,
)
from optcourse.nodes.streams import Streams
from optcourse.theory import byzantine

COUNTS = [(n, f) for n in range(3, 14) for f in range(1, (n - 1) // 2 + 1)]
ROBUST = [name for name in AGGREGATORS if name != "mean"]


def bound_name(rule):
    """multi_krum has the constant and the breakdown point of krum."""
    return "krum" if rule == "multi_krum" else rule


def draw(seed, n, d, dtype=torch.float64):
    return torch.as_tensor(np.random.default_rng(seed).standard_normal((n, d)), dtype=dtype)


def krum_scores(X, f, paper=False):
    """The definition, in loops."""
    scores = []
    for i in range(len(X)):
        others = sorted(float(((X[i] - X[j]) ** 2).sum()) for j in range(len(X)) if j != i)
        scores.append(sum(others[: len(X) - f - 2 if paper else len(X) - f - 1]))
    return np.array(scores)


def honest_error(found, honest):
    center = honest.mean(0)
    return float((found - center).square().sum()), float((honest - center).square().sum(1).mean())


# Values


@pytest.mark.parametrize("n", [1, 2, 5, 8, 31])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_median_and_trimmed_mean_are_those_of_numpy_and_scipy(n, dtype):
    X, f = draw(n, n, 7, dtype), (n - 1) // 2
    rtol = 4 * torch.finfo(dtype).eps
    np.testing.assert_allclose(median(X, f), np.median(X.numpy(), axis=0), rtol=rtol, atol=rtol)
    expected = trim_mean(X.double().numpy(), (f + 0.5) / n, axis=0)
    np.testing.assert_allclose(trimmed_mean(X, f), expected, rtol=n * rtol, atol=n * rtol)
    np.testing.assert_allclose(mean(X, f), X.numpy().mean(0), rtol=n * rtol, atol=n * rtol)


def test_median_of_an_even_number_is_between_the_two_middle_values():
    X = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    assert median(X, 1).tolist() == [3.0] and X.median(0).values.tolist() == [2.0]
    assert median(X.bfloat16(), 1).tolist() == [3.0]  # a dtype without numpy's sort


@pytest.mark.parametrize(("n", "f"), [(3, 0), (5, 1), (9, 3), (20, 8)])
def test_krum_takes_the_least_scores_of_the_definition(n, f):
    for seed in range(20):
        X = draw(seed, n, 4)
        for neighbours in ("honest", "paper"):
            if neighbours == "paper" and 2 * f + 2 >= n:
                continue
            order = krum_scores(X.numpy(), f, neighbours == "paper").argsort()
            assert torch.equal(krum(X, f, neighbours), X[order[0]])
            for m in {1, 2, n - f}:
                torch.testing.assert_close(multi_krum(X, f, m, neighbours), X[order[:m].copy()].mean(0))
        torch.testing.assert_close(multi_krum(X, f), multi_krum(X, f, n - f))


def test_krum_tells_squared_distances_from_their_squares_and_from_fewer_neighbours():
    """By hand, f = 1: the five nearest of 6 give 0 1 1 9 25, sum 36, those of 5 sum 37; fourth powers favour 5."""
    points = np.array([0.0, 1.0, 5.0, 6.0, 7.0, 9.0])
    X = torch.tensor(points)[:, None]
    assert np.sort(np.abs(points[:, None] - points) ** 4, axis=1)[:, :5].sum(1).argmin() == 2
    assert krum(X, 1).item() == 6.0
    assert krum(X, 1, "paper").item() == AGGREGATORS["krum_paper"](X, 1).item() == 7.0  # three others: 1 4 4


def test_krum_returns_the_first_of_a_tie():
    assert krum(torch.tensor([[3.0], [-1.0], [1.0]]), 0).item() == 1.0
    assert krum(torch.tensor([[1.0], [0.0], [0.0], [1.0]]), 1).item() == 1.0


@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_survive_a_far_center_and_a_far_row(shift, dtype):
    """Without a robust center the Gram matrix loses them: its rounding error is eps times the largest square."""
    X = draw(0, 9, 5, dtype) + shift
    X[-1] = 1e12
    expected = cdist(X.double(), X.double(), "sqeuclidean")
    np.testing.assert_allclose(squared_distances(X), expected, rtol=1e-12)
    far = X.double() - X.double().mean(0)
    naive = (far * far).sum(1)[:, None] + (far * far).sum(1) - 2 * far @ far.T
    assert np.abs(naive.numpy() - expected)[:8, :8].max() > 1  # that the shift to the mean would not have done


def test_distances_too_small_for_the_gram_matrix_are_zero():
    X = torch.tensor([0.0, 0.0, 0.0, 1.0, 1 + 1e-6, 1 + 1e-6 + 1e-8], dtype=torch.float64)[:, None]
    squares = squared_distances(X)
    assert squares[3, 4] == pytest.approx(1e-12, rel=1e-3, abs=0)  # eps / 1e-12 is left of the digits
    assert squares[4, 5] == 0


# Geometric median


def test_geometric_medians_known_in_closed_form():
    triangle = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]], dtype=torch.float64)
    torch.testing.assert_close(geometric_median(triangle, 1), triangle.mean(0))
    # Of four corners of a convex quadrilateral the crossing of the diagonals, here y = x and x = 2.
    corners = torch.tensor([[0.0, 0.0], [2.0, 7.0], [5.0, 5.0], [2.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(geometric_median(corners, 1, 1e-10), torch.full((2,), 2.0, dtype=torch.float64))
    # A corner of at least 120 degrees is the point itself; so is a row that half of the others share.
    assert geometric_median(torch.tensor([[0.0, 0.1], [-1.0, 0.0], [1.0, 0.0]]), 1).tolist() == pytest.approx([0, 0.1])
    assert geometric_median(torch.tensor([[7.0, 3.0], [1.0, 2.0], [1.0, 2.0], [9.0, 9.0]]), 1).tolist() == [1.0, 2.0]
    assert geometric_median(torch.full((4, 2), 3.0), 1).tolist() == [3.0, 3.0]
    assert geometric_median(torch.tensor([[5.0]]), 0).tolist() == [5.0]


@pytest.mark.parametrize("d", [1, 2, 5, 40])
def test_geometric_median_is_a_minimizer(d):
    """Against scipy's minimizer, and by its gradient: the average unit vector, at most the tolerance long."""
    for seed, n in enumerate([5, 12, 25]):
        X = draw(seed, n, d).numpy() * np.logspace(0, 2, n)[:, None]
        found = geometric_median(torch.tensor(X), (n - 1) // 2).numpy()

        def total(z, X=X):
            return np.linalg.norm(X - z, axis=1).sum()

        best = minimize(total, found + 0.1, method="Powell" if d == 1 else "BFGS").fun
        # The guarantee 1/(1 - 2e-8) of the docstring; scipy itself may stop above.
        assert total(found) <= best * (1 + 2.1e-8)
        lengths = np.linalg.norm(X - found, axis=1)
        if lengths.min() > 0:
            assert np.linalg.norm(((X - found) / lengths[:, None]).mean(0)) <= 1.1e-8
        else:
            other = lengths > 0
            unit = (X - found)[other] / lengths[other, None]
            assert np.linalg.norm(unit.sum(0)) <= (~other).sum() + 1e-9


def test_geometric_median_leaves_the_best_row_when_that_is_no_minimizer():
    """Two rows at 0 are the best rows. Weiszfeld's plain step from there ends exactly at (1, 0), a worse row."""
    X = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    assert squared_distances(X).sqrt().sum(1).argmin() == 0
    found = geometric_median(X, 2)
    offsets = X - found
    assert (offsets / offsets.norm(dim=1, keepdim=True)).mean(0).norm() <= 1.1e-8


# Centered clipping


@pytest.mark.parametrize("radius", [0.5, 1e9, "median"])
@pytest.mark.parametrize("n", [4, 9])
def test_clipping_is_that_of_a_loop(n, radius):
    X = draw(n, n, 3)
    v = np.array([1.0, -1.0, 0.5])
    found = centered_clipping(X, 1, torch.tensor(v), radius=radius, iterations=4)
    for _ in range(4):
        lengths = [np.linalg.norm(x - v) for x in X.numpy()]
        tau = np.median(lengths) if radius == "median" else radius
        v = v + sum((x - v) * min(1, tau / length) for x, length in zip(X.numpy(), lengths, strict=True)) / n
    np.testing.assert_allclose(found, v, rtol=1e-13)
    if radius == 1e9:
        torch.testing.assert_close(found, X.mean(0))


def test_clipping_starts_from_the_median_and_stands_rows_at_its_center():
    X = draw(0, 7, 3)
    torch.testing.assert_close(centered_clipping(X, 2), centered_clipping(X, 2, median(X, 2)))
    same = torch.ones(5, 2)
    assert torch.equal(centered_clipping(same, 1), same[0])
    same[-1] = 1e30  # the median radius is 0: nothing moves
    assert torch.equal(centered_clipping(same, 1), same[0])


# Constants of the theory


@pytest.mark.parametrize(("n", "f"), COUNTS)
def test_extremal_configurations_attain_the_constants(n, f):
    """Attackers far above; f honest at -1 for the trimmed mean, as many as leave both middle values high otherwise."""
    for name, low in (("trimmed_mean", f), ("median", (n - 1) // 2)):
        X = torch.zeros(n, 2, dtype=torch.float64)
        X[:low], X[n - f :] = -1, 1e6
        error, variance = honest_error(AGGREGATORS[name](X, f), X[: n - f])
        constant = byzantine.kappa(rule=name, n_nodes=n, n_byzantine=f)
        assert error / variance == pytest.approx(constant, rel=1e-12)


def attacked(seed):
    """n honest and Byzantine vectors: together or apart, inside the honest cloud, far away, or copies."""
    rng = np.random.default_rng(seed)
    n, f = COUNTS[rng.integers(len(COUNTS))]
    d = rng.integers(1, 4)
    honest = rng.standard_normal((n - f, d)) * rng.choice([0.01, 1.0, 10.0], (n - f, 1))
    shared = rng.standard_normal(d) * rng.choice([0.5, 3.0, 1e3, 1e20])
    attackers = shared + rng.choice([0, 0.3]) * rng.standard_normal((f, d))
    if seed % 3 == 0:
        attackers[:] = honest[rng.integers(n - f)]
    return torch.as_tensor(np.concatenate([honest, attackers])), n, f


# Rounding: the relative error of a coordinate is far below 1e-9, even of coordinates beside others of 1e20.
SLACK = 1 + 1e-9


@pytest.mark.parametrize("rule", [name for name in ROBUST if name != "centered_clipping"])
def test_random_attacks_never_exceed_the_constant(rule):
    tried = 0
    for seed in range(200):
        X, n, f = attacked(seed)
        constant = byzantine.kappa(rule=bound_name(rule), n_nodes=n, n_byzantine=f)
        if np.isinf(constant):
            continue
        tried += 1
        options = [{"m": m} for m in range(1, n - f + 1)] if rule == "multi_krum" else [{}]
        for option in options:
            error, variance = honest_error(AGGREGATORS[rule](X, f, **option), X[: n - f])
            assert error <= constant * variance * SLACK, (seed, n, f, option)
    assert tried >= 100


def test_clipping_with_the_best_radius_never_exceeds_its_constant():
    """Every step at most the theory's length from the honest mean, and in the limit kappa = f/(n-2f)."""
    for seed in range(6):
        X, n, f = attacked(seed)
        honest = X[: n - f]
        _, variance = honest_error(honest[0], honest)
        v = honest[0]
        bound = float((v - honest.mean(0)).norm())
        for _ in range(400):
            setting = {"distance": bound, "variance": variance, "n_nodes": n, "n_byzantine": f}
            v = centered_clipping(X, f, v, radius=byzantine.clipping_radius(**setting), iterations=1)
            bound = byzantine.clipping_step(**setting)
            assert honest_error(v, honest)[0] <= bound**2 * SLACK
        constant = byzantine.kappa(rule="centered_clipping", n_nodes=n, n_byzantine=f)
        # Near the limit a step contracts by 2 delta <= 12/13: after 400, nothing above 1e-13 is left of the start.
        assert bound**2 == pytest.approx(constant * variance, rel=1e-9)


@pytest.mark.parametrize("rule", ["trimmed_mean", "median", "geometric_median", "krum"])
def test_mixing_has_the_constant_of_its_paper(rule):
    mixed = nearest_neighbour_mixing(AGGREGATORS[rule])
    for seed in range(120):
        X, n, f = attacked(seed)
        constant = 8 * f / (n - f) * (1 + byzantine.kappa(rule=rule, n_nodes=n, n_byzantine=f))
        error, variance = honest_error(mixed(X, f), X[: n - f])
        assert error <= constant * variance * SLACK, (seed, n, f)


def test_one_node_moves_the_mean_anywhere_and_no_other_rule():
    X = torch.cat([draw(0, 9, 3), torch.full((1, 3), 1e9, dtype=torch.float64)])
    for name, rule in AGGREGATORS.items():
        error, variance = honest_error(rule(X, 1), X[:9])
        assert (error > 1e15) if name == "mean" else (error < 10 * variance), name


# Equivariance

EQUIVARIANT = {**AGGREGATORS, "geometric_median": partial(geometric_median, tolerance=1e-13)}


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(5, 12),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-100, 100),
)
@settings(deadline=None, max_examples=20, derandomize=True)
def test_rules_commute_with_permutations_translations_and_scalings(seed, n, scale, shift):
    X = draw(seed, n, 3)
    order = np.random.default_rng(seed).permutation(n)
    for name, rule in EQUIVARIANT.items():
        for wrap in (lambda rule: rule, nearest_neighbour_mixing):
            found = wrap(rule)(X, n_byzantine=1)
            moved = wrap(rule)(scale * X[order] + shift, n_byzantine=1)
            # The sum is rounded to 1e-16 of |shift|, which is up to 1e5 of the spread, and amplified by the
            # curvature of the geometric median.
            atol = 1e-12 * (scale + abs(shift)) * (100 if name == "geometric_median" else 1)
            np.testing.assert_allclose(moved, scale * found + shift, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("name", ["mean", "geometric_median", "krum", "krum_paper", "multi_krum"])
def test_rules_of_distances_commute_with_rotations(name):
    for seed in range(10):
        X = draw(seed, 9, 4)
        Q = torch.tensor(ortho_group.rvs(4, random_state=seed))
        torch.testing.assert_close(EQUIVARIANT[name](X @ Q, 2), EQUIVARIANT[name](X, 2) @ Q, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_no_rule_changes_its_input_or_the_dtype(name):
    for dtype in (torch.float32, torch.float64):
        X = draw(1, 8, 3, dtype)
        before = X.clone()
        found = AGGREGATORS[name](X, 1)
        found += 1  # the output is no view of the input
        assert torch.equal(X, before) and found.dtype == dtype and found.shape == (3,)


def test_names_are_those_of_the_theory():
    assert set(AGGREGATORS) == {*byzantine.RULES, "multi_krum"}


# Wrappers


@pytest.mark.parametrize(("n", "size"), [(8, 2), (9, 2), (7, 3), (5, 5), (5, 9), (4, 1)])
def test_bucketing_is_the_rule_on_averages_of_permuted_rows(n, size):
    X, seen = draw(n, n, 3), []

    def rule(buckets, n_byzantine):
        seen.append((buckets, n_byzantine))
        return buckets.mean(0)

    bucketing(rule, size, torch.Generator().manual_seed(5))(X, n_byzantine=3)
    bucketing(rule, size, Streams("bucketing", 5, range(n)))(X, n_byzantine=3)
    generator = torch.Generator().manual_seed(5)
    numbers = Streams("bucketing", 5, range(n)).uniform(dtype=torch.float64)
    for (found, f), order in zip(seen, (torch.randperm(n, generator=generator), numbers.argsort()), strict=True):
        expected = [np.mean([X[i].numpy() for i in order[at : at + size]], axis=0) for at in range(0, n, size)]
        np.testing.assert_allclose(found, expected, rtol=1e-14)
        assert f == min(3, len(expected))


def test_bucketing_draws_anew_in_every_call():
    rule = bucketing(krum, 2, torch.Generator().manual_seed(0))
    X = draw(0, 10, 2)
    assert len({tuple(rule(X, 1).tolist()) for _ in range(10)}) > 1


def test_bucketing_mixes_heterogeneous_nodes():
    """Half of the nodes at +1, half at -1: Krum must err by V = 1, with buckets of four by V/4 at most.

    Without attackers Krum's bucket is the nearest to the mean, so its expected square is at most that of a bucket:
    V/4 (24-4)/(24-1) without replacement.
    """
    X = torch.ones(24, 1, dtype=torch.float64)
    X[12:] = -1
    assert krum(X, 0).abs().item() == 1.0
    mixed = bucketing(krum, 4, torch.Generator().manual_seed(1))
    errors = np.array([mixed(X, 0).item() ** 2 for _ in range(200)])
    assert errors.mean() <= 0.25 * 20 / 23 + 2 * errors.std() / np.sqrt(200)


@pytest.mark.parametrize("f", [0, 1, 3])
def test_mixing_averages_the_nearest(f):
    X, seen = draw(f, 8, 3), []

    def rule(mixed, n_byzantine):
        seen.append(mixed)
        assert n_byzantine == f
        return mixed[0]

    nearest_neighbour_mixing(rule)(X, n_byzantine=f)
    for row, found in zip(X.numpy(), seen[0].numpy(), strict=True):
        nearest = np.linalg.norm(X.numpy() - row, axis=1).argsort()[: 8 - f]
        np.testing.assert_allclose(found, X.numpy()[nearest].mean(0), rtol=1e-12, atol=1e-14)


def test_wrappers_nest_and_pass_options_on():
    X = draw(3, 12, 2)
    rule = nearest_neighbour_mixing(bucketing(AGGREGATORS["krum_paper"], 2, torch.Generator().manual_seed(0)))
    assert rule(X, 1).shape == (2,)
    one = bucketing(multi_krum, 1, torch.Generator().manual_seed(0))
    torch.testing.assert_close(one(X, n_byzantine=2, m=3), multi_krum(X, 2, m=3))


# Errors


@pytest.mark.parametrize("name", ROBUST)
def test_too_many_byzantine_nodes_are_refused(name):
    for n in (5, 6, 11):
        most = byzantine.breakdown(rule=bound_name(name), n_nodes=n)
        AGGREGATORS[name](draw(0, n, 2), most)
        with pytest.raises(
            ValueError, match=rf"n_byzantine must be in 0\.\.{most} for .* of {n} vectors, got {most + 1}"
        ):
            AGGREGATORS[name](draw(0, n, 2), most + 1)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_bad_input_is_refused(name):
    rule, X = AGGREGATORS[name], draw(0, 6, 2)
    for f, error in ((-1, ValueError), (7, ValueError), (1.0, TypeError), (True, TypeError), (None, TypeError)):
        with pytest.raises(error, match="n_byzantine"):
            rule(X, f)
    for bad in (X[0], X[None], X[:0], X.long()):
        with pytest.raises(ValueError, match="X must be a floating-point tensor"):
            rule(bad, 0)
    for value in (torch.nan, torch.inf, -torch.inf):
        bad = X.clone()
        bad[4, 1] = value
        with pytest.raises(ValueError, match="node 4"):
            rule(bad, 1)


def test_rows_beyond_float64_are_named():
    X = draw(0, 5, 2)
    X[3] = 1e200
    for rule in (krum, geometric_median, nearest_neighbour_mixing(mean)):
        with pytest.raises(ValueError, match="node 3"):
            rule(X, 1)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda X: multi_krum(X, 1, 0), "m must be in 1..4"),
        (lambda X: multi_krum(X, 1, 5), "m must be in 1..4"),
        (lambda X: krum(X, 1, "some"), "neighbours"),
        (lambda X: krum(X[:2], 0, "paper"), "neighbours"),
        (lambda X: geometric_median(X, 1, tolerance=0), "tolerance"),
        (lambda X: geometric_median(X, 1, iterations=0), "iterations"),
        (lambda X: centered_clipping(X, 1, radius=0), "radius"),
        (lambda X: centered_clipping(X, 1, radius=-1.0), "radius"),
        (lambda X: centered_clipping(X, 1, radius="mean"), "radius"),
        (lambda X: centered_clipping(X, 1, iterations=0), "iterations"),
        (lambda X: centered_clipping(X, 1, torch.zeros(3)), "center"),
        (lambda X: centered_clipping(X, 1, torch.tensor([0.0, torch.nan])), "center"),
        (lambda X: bucketing(median, 0, torch.Generator()), "size"),
        (lambda X: bucketing(median, 2, Streams("bucketing", 0, [0]))(X, 1), "random"),
        (lambda X: bucketing(median, 2, torch.Generator())(X, 2), "buckets of size 2 of 5"),
        (lambda X: bucketing(mean, 2, torch.Generator())(X, -1), "n_byzantine"),
        (lambda X: nearest_neighbour_mixing(mean)(X, 3), "n_byzantine"),
    ],
)
def test_settings_out_of_range_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call(draw(0, 5, 2))


def test_one_gram_matrix_serves_a_rule(monkeypatch):
    """No rule forms distances a second time, and a rule of coordinates never does."""
    calls, gram = [], aggregators.centred_gram
    monkeypatch.setattr(aggregators, "centred_gram", lambda X: calls.append(1) or gram(X))
    for name, rule in AGGREGATORS.items():
        calls.clear()
        rule(draw(0, 6, 2), 1)
        assert len(calls) == (name in ("krum", "krum_paper", "multi_krum", "geometric_median")), name
