"""What a larger batch buys: noise scales against enumeration and coverage, steps against a simulation step by step."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optcourse.theory import batch, momentum, quadratic

# ------------------------------------------------------------------------------------- measuring the noise scale


@pytest.mark.topic("13.6")
def test_both_estimators_are_unbiased_by_enumeration():
    """Every set of 2 and of 5 out of 7 samples: means of numerator and denominator, which the ratio is taken of."""
    g = np.random.default_rng(0).normal(0.5, 1.0, (7, 3))
    covariance, mean = np.cov(g.T), g.mean(0)
    trace, square = np.trace(covariance), mean @ mean - np.trace(covariance) / 7  # of the law behind the samples
    norms = {b: [np.square(g[list(i)].mean(0)).sum() for i in combinations(range(7), b)] for b in (2, 5)}
    small, large = (np.mean(norms[b]) for b in (2, 5))
    found = batch.noise_scale_from_norms(small=[small] * 2, large=[large] * 2, batch_sizes=(2, 5))
    assert found.value == pytest.approx(trace / square, rel=1e-12)
    assert batch.noise_scale_from_gradients(gradients=g).value == pytest.approx(trace / square, rel=1e-12)


@pytest.mark.topic("13.6")
def test_single_samples_are_the_batches_of_one_beside_the_full_batch():
    g = np.random.default_rng(1).normal(1.0, 2.0, (40, 6))
    one, full = np.square(g).sum(1), np.square(g.mean(0)).sum()
    by_norms = batch.noise_scale_from_norms(small=one, large=np.full(40, full), batch_sizes=(1, 40))
    assert batch.noise_scale_from_gradients(gradients=g).value == pytest.approx(by_norms.value, rel=1e-12)


@pytest.mark.topic("13.6")
def test_the_jackknife_leaves_each_sample_out():
    g = np.random.default_rng(2).normal(1.0, 1.0, (12, 4))

    def parts(rows):
        trace = np.trace(np.cov(rows.T))
        return trace, np.square(rows.mean(0)).sum() - trace / len(rows)

    pseudo = np.array([12 * np.array(parts(g)) - 11 * np.array(parts(np.delete(g, i, 0))) for i in range(12)])
    expected = parts(g)
    np.testing.assert_allclose(pseudo.mean(0), expected)  # what makes them unbiased: both are U-statistics
    a, b = pseudo.T
    residual = a - expected[0] / expected[1] * b
    stderr = residual.std(ddof=1) / np.sqrt(12) / expected[1]
    assert batch.noise_scale_from_gradients(gradients=g).stderr == pytest.approx(stderr, rel=1e-9)


@pytest.mark.topic("13.6")
@pytest.mark.parametrize("noise_scale", [5.0, 60.0])
def test_intervals_cover_the_truth_as_often_as_they_say(noise_scale):
    """Of 1000 intervals at 90 %, 900 ± 28 (three standard errors) should; 860 allows for samples that are not many.

    More do where G is often lost in the noise (60): an interval that is everything covers.
    """
    rng, d = np.random.default_rng(3), 20
    G = np.full(d, np.sqrt(1 / (d * noise_scale)))  # ‖G‖² = 1/noise_scale, tr Σ = 1
    by_gradients, by_norms = [], []
    for _ in range(1000):
        g = G + rng.normal(0, np.sqrt(1 / d), (128, d))
        by_gradients.append(batch.noise_scale_from_gradients(gradients=g, confidence=0.9))
        parts = g.reshape(4, 8, 4, d)  # four draws of a batch of 32, each beside eight batches of four
        small = np.square(parts.mean(2)).sum(-1).mean(1)
        large = np.square(parts.mean((1, 2))).sum(-1)
        by_norms.append(batch.noise_scale_from_norms(small=small, large=large, batch_sizes=(4, 32), confidence=0.9))
    for found in (by_gradients, by_norms):
        covered = sum(e.low <= noise_scale <= e.high for e in found)
        assert 860 <= covered <= (940 if noise_scale == 5 else 1000), covered
    bounded = [e for e in by_gradients if np.isfinite(e.high)]
    assert len(bounded) > (990 if noise_scale == 5 else 200)


@pytest.mark.topic("13.6")
def test_a_gradient_lost_in_noise_leaves_the_noise_scale_open():
    g = np.random.default_rng(4).standard_normal((20, 50))
    found = batch.noise_scale_from_gradients(gradients=g)
    assert found.high == np.inf and not np.isfinite(found.low)


@pytest.mark.topic("13.6")
@pytest.mark.parametrize("unit", [1e-200, 1.0, 1e200])
def test_the_noise_scale_has_no_unit(unit):
    g = np.random.default_rng(5).normal(1.0, 1.0, (10, 3))
    expected = batch.noise_scale_from_gradients(gradients=g)
    found = batch.noise_scale_from_gradients(gradients=unit * g)
    assert (found.value, found.high) == pytest.approx((expected.value, expected.high), rel=1e-9)


@pytest.mark.topic("13.6")
def test_a_common_gradient_that_is_large_does_not_swallow_the_noise():
    g = np.random.default_rng(6).normal(0, 1.0, (50, 3))
    found = batch.noise_scale_from_gradients(gradients=1e7 + g)
    assert found.value == pytest.approx(np.trace(np.cov(g.T)) / 3e14, rel=1e-6)


@pytest.mark.topic("13.6")
@pytest.mark.parametrize("bad", [[[1.0], [2.0]], [1.0, 2.0, 3.0], np.zeros((5, 2)), np.zeros((5, 0)), []])
def test_gradients_of_a_bad_shape_or_without_any_are_refused(bad):
    with pytest.raises(ValueError, match="gradients must have shape"):
        batch.noise_scale_from_gradients(gradients=bad)


@pytest.mark.topic("13.6")
def test_bad_norms_are_refused():
    good = {"small": [2.0, 3.0], "large": [1.0, 1.0], "batch_sizes": (1, 4)}
    for change, message in (
        ({"small": [2.0]}, "must both have shape"),
        ({"small": [[2.0, 3.0]], "large": [[1.0, 1.0]]}, "must both have shape"),
        ({"small": [2.0], "large": [1.0]}, "at least two"),
        ({"small": [-1.0, 2.0]}, "small must be in"),
        ({"large": [np.nan, 2.0]}, "large must be in"),
        ({"batch_sizes": (4, 4)}, "0 < b < B"),
        ({"batch_sizes": (0, 4)}, "batch_sizes must be in"),
        ({"batch_sizes": (1, 2, 3)}, "0 < b < B"),
        ({"small": [0.0, 0.0], "large": [0.0, 0.0]}, "must not be zero everywhere"),
    ):
        with pytest.raises(ValueError, match=message):
            batch.noise_scale_from_norms(**good | change)


# ---------------------------------------------------------------------------------- steps against batch size


@pytest.mark.topic("13.6")
@settings(max_examples=20, deadline=None)
@given(B=st.floats(0.5, 50), noise=st.floats(0.0, 3.0), lams=st.lists(st.floats(0.05, 3.0), min_size=1, max_size=3))
def test_steps_to_target_beat_every_rate_of_a_grid_that_walks_step_by_step(B, noise, lams):
    lams = np.array(lams)
    setting = {"eigenvalues": lams, "x0": np.ones(len(lams)), "noise_variances": noise * lams}
    target = 0.3 * 0.5 * lams.sum()
    found = batch.steps_to_target(**setting, batch_size=[B], target=target)

    def walk(lr, most):
        m = np.ones(len(lams))
        for k in range(1, most + 1):
            m = (1 - lr * lams) ** 2 * m + lr**2 * noise * lams / B
            if 0.5 * lams @ m <= target:
                return k
        return np.inf

    steps, lr = found.steps[0], found.lr[0]
    if steps < 2000:
        assert walk(lr, 2000) == steps  # it does arrive, and not before
        others = 2 / lams.max() * np.geomspace(0.003, 0.99, 25)
        assert min(walk(other, 2000) for other in others) >= 0.94 * steps - 1  # the grid of rates is 5 % fine


@pytest.mark.topic("13.6")
def test_steps_fall_as_one_over_the_batch_and_then_not_at_all():
    lams = 1 / np.arange(1, 51.0)
    sizes = 4.0 ** np.arange(-2, 9)
    setting = {"eigenvalues": lams, "x0": np.ones(50), "noise_variances": lams}
    steps = batch.steps_to_target(**setting, batch_size=sizes, target=0.05 * 0.5 * lams.sum()).steps
    slopes = np.diff(np.log(steps)) / np.log(4)
    assert -1.02 < slopes[0] < -0.97 and -0.02 < slopes[-1] <= 0 and (np.diff(slopes) > -0.01).all()


@pytest.mark.topic("13.6")
def test_a_start_at_the_target_takes_no_step_and_a_far_target_infinitely_many():
    setting = {"eigenvalues": [1.0], "x0": [1.0], "batch_size": [1.0]}
    at_target = batch.steps_to_target(**setting, noise_variances=[1.0], target=0.5)
    assert at_target.steps == [0] and np.isnan(at_target.lr)  # no rate is better than another
    assert batch.steps_to_target(**setting, noise_variances=[1e9], target=1e-6).steps == [np.inf]


@pytest.mark.topic("13.6")
@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": [[1.0, 64.0]]},
        {"batch_size": []},
        {"batch_size": 4.0},
        {"noise_variances": [1.0]},
        {"noise_variances": 1.0},
        {"x0": [1.0]},
        {"eigenvalues": [], "x0": [], "noise_variances": []},
        {"eigenvalues": [[1.0, 0.5]]},
        {"target": [0.1, 0.2]},
    ],
)
def test_steps_to_target_refuse_shapes_that_do_not_fit(wrong):
    setting = {"eigenvalues": [1.0, 0.5], "x0": [1.0, 1.0], "noise_variances": [1.0, 1.0]}
    with pytest.raises(ValueError, match="must have shape"):
        batch.steps_to_target(**setting | {"batch_size": [1.0, 64.0], "target": 0.1} | wrong)


@pytest.mark.topic("13.6")
@pytest.mark.parametrize(("noise_scale", "told"), [(20.0, True), (2000.0, False)])
def test_how_many_samples_tell_the_gradient_from_noise(noise_scale, told):
    """For d equal variances n must be above 3 B_noise / sqrt(d): with n = 100 and d = 100 the noise scale below 333."""
    rng, bounded = np.random.default_rng(5), 0
    for _ in range(50):
        g = np.sqrt(1 / (100 * noise_scale)) + rng.normal(0, 0.1, (100, 100))
        bounded += np.isfinite(batch.noise_scale_from_gradients(gradients=g).high)
    assert bounded >= 48 if told else bounded <= 10, bounded


@pytest.mark.topic("13.6")
@given(noise=st.floats(1.0, 1e4), least=st.floats(1.0, 1e4), factor=st.floats(1.0, 3.0))
def test_the_fit_finds_the_hyperbola_and_says_how_far_it_is(noise, least, factor):
    B = noise * np.array([0.1, 0.5, 1.0, 3.0, 30.0])
    S, _ = batch.steps_and_examples(batch_size=B, noise_scale=noise, min_steps=least)
    found = batch.fit_steps(batch_size=B, steps=S)
    assert found.noise_scale == pytest.approx(noise, rel=1e-3) and found.min_steps == pytest.approx(least, rel=1e-3)
    assert found.factor == pytest.approx(1, abs=1e-3)
    S[2] *= factor
    assert batch.fit_steps(batch_size=B, steps=S).factor <= factor * (1 + 1e-6)


@pytest.mark.topic("13.6")
def test_fits_at_the_two_ends():
    B = np.array([1.0, 10.0, 100.0])
    assert batch.fit_steps(batch_size=B, steps=1000 / B).noise_scale > 1e3
    assert batch.fit_steps(batch_size=B, steps=[7.0, 7.0, 7.0]).noise_scale < 1e-2
    for bad in ({"batch_size": [1.0]}, {"batch_size": [[1.0], [2.0]]}, {"batch_size": [3.0, 3.0]}):
        with pytest.raises(ValueError, match="batch_size and steps must have shape"):
            batch.fit_steps(**bad, steps=np.ones(np.shape(bad["batch_size"])))
    with pytest.raises(ValueError, match="steps must be in"):
        batch.fit_steps(batch_size=[1.0, 2.0], steps=[0.0, 1.0])


# ------------------------------------------------------------------------------------------ linear scaling


@pytest.mark.topic("13.2")
@given(lr=st.floats(1e-4, 1.0), L=st.floats(0.1, 100.0), beta=st.floats(0.0, 0.99), B0=st.floats(1.0, 64.0))
def test_the_edge_of_linear_scaling_is_that_of_heavy_ball(lr, L, beta, B0):
    edge = batch.linear_scaling_edge(lr=lr, L=L, momentum=beta, batch_size=B0)
    for factor, stable in ((0.999, True), (1.001, False)):
        rate = lr * factor * edge / B0
        assert momentum.hb_is_stable(eigenvalues=[L], lr=rate, momentum=beta) == stable


@pytest.mark.topic("13.2")
def test_the_error_of_one_large_step_is_bounded_along_noisy_paths():
    """Random quadratics and noise: the bound with the largest gradient met, and first order in the rate."""
    rng = np.random.default_rng(7)
    shares = []
    for lr in (1e-3, 1e-2, 1e-1):
        for _ in range(50):
            root = rng.standard_normal((3, 3))
            H, noise, x0 = root @ root.T, rng.standard_normal((8, 3)), rng.standard_normal(3)
            x, met = x0, []
            for xi in noise:
                met.append(H @ x + xi)
                x = x - lr * met[-1]
            large = x0 - lr * (8 * H @ x0 + noise.sum(0))
            G, L = np.linalg.norm(met, axis=1).max(), np.linalg.eigvalsh(H)[-1]
            bound = float(batch.linear_scaling_error(L=L, G=G, lr=lr, steps=8))
            shares.append(np.linalg.norm(x - large) / bound)
    assert max(shares) <= 1 and np.median(shares) > 0.02


@pytest.mark.topic("13.2")
@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"L": -1.0}, {"momentum": 1.0}, {"batch_size": np.inf}])
def test_edge_refuses(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be in"):
        batch.linear_scaling_edge(**{"lr": 0.1, "L": 1.0} | bad)


@pytest.mark.topic("13.2")
def test_variance_of_one_large_step_is_that_of_k_small_ones():
    """Linear scaling keeps the noise of the same samples (to first order), square-root scaling that of one step."""
    k, lr, sigma2 = 16, 1e-4, 3.0
    flat = {"eigenvalues": [1e-6], "x0": [0.0]}  # no curvature: nothing but noise
    small = quadratic.sgd_moments(**flat, noise_variances=[sigma2], lr=lr, steps=[1, k])[:, 0]
    linear = quadratic.sgd_moments(**flat, noise_variances=[sigma2 / k], lr=k * lr, steps=[1])[0, 0]
    root = quadratic.sgd_moments(**flat, noise_variances=[sigma2 / k], lr=np.sqrt(k) * lr, steps=[1])[0, 0]
    assert linear == pytest.approx(small[1], rel=1e-6) and root == pytest.approx(small[0], rel=1e-6)


@pytest.mark.topic("13.6")
def test_small_curvature_and_no_noise_are_taken():
    """The step that reaches the minimum of a flat parabola: 1/curvature, whatever the batch."""
    flat = {"gradient": [2.0], "hessian": [[0.01]], "covariance": [[0.0]]}
    assert batch.optimal_step(**flat, batch_size=3) == pytest.approx((100.0, 200.0))
    assert batch.noise_scale(**flat) == 0.0
    assert batch.noise_scale(**flat | {"covariance": [[0.3]]}) == pytest.approx(0.003 / 0.04)
    for refused in ({"hessian": [[0.0]]}, {"hessian": [[-0.1]]}, {"covariance": [[-0.1]]}):
        with pytest.raises(ValueError, match="must be positive and tr"):
            batch.noise_scale(**flat | refused)


@pytest.mark.topic("13.6")
def test_more_than_ten_million_steps_are_called_infinite():
    """Beside an eigenvalue 1 the smaller one contracts by at most (1 - 2e-7)^2 a step, without noise."""
    valley = {"eigenvalues": [1.0, 1e-7], "x0": [0.0, 1.0], "noise_variances": [0.0, 0.0], "batch_size": [3.0]}
    early, late = (batch.steps_to_target(**valley, target=0.5e-7 * np.exp(-4e-7 * S)).steps[0] for S in (9.5e6, 1.05e7))
    assert 9.5e6 < early < 1e7 and late == np.inf


@pytest.mark.topic("13.6")
def test_three_samples_are_enough():
    g = np.array([[1.0, 2.0], [3.0, 1.0], [2.0, 4.0]])
    trace, square = np.trace(np.cov(g.T)), np.square(g.mean(0)).sum()
    assert batch.noise_scale_from_gradients(gradients=g).value == pytest.approx(trace / (square - trace / 3))


@pytest.mark.topic("13.6")
@pytest.mark.parametrize("goal", [0.3, 0.2, 0.1, 0.05, 0.03])
def test_the_first_step_below_the_target_is_found_exactly(goal):
    """Hundreds of steps and more, between trials that are 5 % apart."""
    valley = {"eigenvalues": np.array([1.0, 1e-3]), "x0": np.array([0.1, 1.0]), "noise_variances": np.array([0.01, 0])}
    found = batch.steps_to_target(**valley, batch_size=[8.0], target=goal * 1e-3)
    steps, lr = found.steps[0], found.lr[0]
    noise = valley.pop("noise_variances") / 8
    before, at = quadratic.sgd_moments(**valley, noise_variances=noise, lr=lr, steps=[steps - 1, steps])
    assert 0.5 * valley["eigenvalues"] @ at <= goal * 1e-3 < 0.5 * valley["eigenvalues"] @ before
    assert 200 < steps < 1e5


@pytest.mark.topic("13.6")
def test_two_batch_sizes_fix_the_hyperbola():
    fit = batch.fit_steps(batch_size=[1.0, 10.0], steps=[1010.0, 110.0])
    assert fit == pytest.approx((10.0, 100.0, 1.0), rel=1e-6)
    with pytest.raises(ValueError, match="batch_size and steps must have shape"):
        batch.fit_steps(batch_size=[10.0, 10.0], steps=[1010.0, 110.0])


@pytest.mark.topic("13.6")
def test_the_best_rate_is_a_stable_one():
    """A rate beyond 2/L would pass the target earlier, before what it has of the steep direction explodes."""
    valley = {"eigenvalues": [1.0, 0.1], "x0": [1e-6, 1.0], "noise_variances": [0.0, 0.0]}
    target = 0.05 * 0.08**2
    found = batch.steps_to_target(**valley, batch_size=[1.0], target=target)
    assert found.lr[0] < 2
    beyond = quadratic.sgd_moments(**valley, lr=2.7, steps=int(found.steps[0]) - 1) @ [0.5, 0.05]
    assert beyond < target
