"""Weight decay and norms against paired trajectories, symbolic algebra and random tangents."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from optcourse.theory import decay

pytestmark = pytest.mark.topic("07.2", "07.4")


def noisy_gradient(x, t):
    """Non-convex, with noise that depends on the step alone."""
    return np.sin(3 * x) + 0.1 * x**3 + np.random.default_rng(t).standard_normal(x.shape)


def momentum_run(
    x, lr, momentum, *, decoupled=0.0, penalty=0.0, buffer=0.0, average=False, gradient=noisy_gradient, steps=300
):
    """All iterates of momentum SGD with decoupled decay, an l2 penalty, or both; ``lr`` may be a function of t."""
    rate = lr if callable(lr) else lambda t: lr
    m, xs = buffer + np.zeros_like(x), [x]
    for t in range(steps):
        g = gradient(x, t) + penalty * x
        m = momentum * m + (1 - momentum if average else 1) * g
        x = (1 - rate(t) * decoupled) * x - rate(t) * m
        xs.append(x)
    return np.stack(xs)


X0 = np.array([2.0, -1.0, 0.3])


@pytest.mark.parametrize(("lr", "beta", "w"), [(0.02, 0.9, 0.5), (0.05, 0.5, 3.0), (0.02, 0.0, 0.5), (0.02, 0.9, 0.0)])
def test_sgdw_and_its_l2_twin_walk_the_same_path(lr, beta, w):
    twin = decay.sgdw_to_l2(lr=lr, momentum=beta, weight_decay=w, x0=X0)
    ours = momentum_run(X0, lr, beta, decoupled=w)
    theirs = momentum_run(X0, twin.lr, twin.momentum, penalty=twin.weight_decay, buffer=twin.buffer)
    np.testing.assert_allclose(theirs, ours, atol=1e-9)


def test_with_equal_hyper_parameters_or_a_schedule_they_differ():
    """What "does not hold for momentum" leaves out: with the *same* hyper-parameters, or when the rate changes."""
    twin = decay.sgdw_to_l2(lr=0.02, momentum=0.9, weight_decay=0.5, x0=X0)
    ours = momentum_run(X0, 0.02, 0.9, decoupled=0.5)
    assert abs(momentum_run(X0, 0.02, 0.9, penalty=0.5) - ours).max() > 0.1

    def halved(t):
        return 0.02 if t < 100 else 0.01

    ours = momentum_run(X0, halved, 0.9, decoupled=0.5)
    theirs = momentum_run(X0, halved, twin.momentum, penalty=twin.weight_decay, buffer=twin.buffer)
    np.testing.assert_allclose(theirs[:101], ours[:101], atol=1e-9)
    assert abs(theirs - ours).max() > 1e-3


def test_the_twin_by_induction_symbolically():
    """m' = m + w x holds after the first step, and one step keeps it."""
    x, m, g, lr, w, beta, old = sp.symbols("x m g lr w beta old")
    current = (1 - lr * w) * old - lr * m
    twin = sp.expand(beta * (1 - lr * w) * (m + w * old) + g + w * (1 - beta) * current)
    assert sp.expand(twin - (beta * m + g + w * current)) == 0
    first = beta * (1 - lr * w) * (w * x / (1 - lr * w)) + g + w * (1 - beta) * x
    assert sp.simplify(first - (g + w * x)) == 0


def test_a_penalty_without_the_half_decays_twice_as_fast():
    """One deck writes lambda ||x||^2: its gradient is 2 lambda x, so its decay is 1 - 2 lr lambda."""
    x, lam = 1.7, 0.3
    slope = (lam * (x + 1e-6) ** 2 - lam * (x - 1e-6) ** 2) / 2e-6
    twin = decay.sgdw_to_l2(lr=0.1, momentum=0.0, weight_decay=2 * lam, x0=x)
    assert twin.weight_decay * x == pytest.approx(slope, rel=1e-6)


A, C = np.array([0.5, 1.0, 4.0]), np.array([3.0, -0.4, -2.0])


def bowl(x, t):
    return A * (x - C)


@pytest.mark.parametrize("average", [False, True], ids=["sum", "average"])
def test_fixed_points_of_momentum_methods(average):
    setting = {"curvature": A, "center": C, "weight_decay": 0.7}
    settings = {"average": average, "gradient": bowl, "steps": 3000}
    np.testing.assert_allclose(
        momentum_run(X0, 0.1, 0.8, penalty=0.7, **settings)[-1], decay.l2_fixed_point(**setting), rtol=1e-9
    )
    np.testing.assert_allclose(
        momentum_run(X0, 0.1, 0.8, decoupled=0.7, **settings)[-1],
        decay.sgdw_fixed_point(momentum=0.0 if average else 0.8, **setting),
        rtol=1e-9,
    )


def adam_run(x, *, decoupled=0.0, penalty=0.0, steps=20_000, lr=0.05):
    """Adam on the bowl with a rate that falls to zero."""
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t in range(1, steps + 1):
        g = bowl(x, t) + penalty * x
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        rate = lr * (1 - t / (steps + 1))
        x = (1 - rate * decoupled) * x - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-12)
    return x


def test_adamw_and_adam_with_a_penalty_end_at_different_points():
    w = 0.7
    np.testing.assert_allclose(adam_run(X0, decoupled=w), decay.adamw_fixed_point(center=C, weight_decay=w), atol=1e-3)
    np.testing.assert_allclose(
        adam_run(X0, penalty=w), decay.l2_fixed_point(curvature=A, center=C, weight_decay=w), atol=1e-3
    )


def on_the_sphere(w, rng, norm):
    """A gradient of a scale-invariant loss at w: orthogonal to w, of length norm/||w||."""
    g = rng.standard_normal(w.size)
    g -= (g @ w) / (w @ w) * w
    return g * norm / (np.linalg.norm(g) * np.linalg.norm(w))


@pytest.mark.parametrize("start", [0.3, 30.0])
def test_equilibrium_is_reached_from_every_start(start):
    rng = np.random.default_rng(0)
    lr, weight_decay = 0.3, 0.1
    w = start * np.ones(5)
    for _ in range(1500):
        old = w
        w = (1 - lr * weight_decay) * w - lr * on_the_sphere(w, rng, 2.0)
    expected = decay.equilibrium_norm(lr=lr, weight_decay=weight_decay, gradient_norm=2.0)
    assert np.linalg.norm(w) == pytest.approx(expected, rel=1e-9)
    cosine = w @ old / np.linalg.norm(w) / np.linalg.norm(old)
    assert np.arccos(cosine) == pytest.approx(decay.equilibrium_rotation(lr=lr, weight_decay=weight_decay), rel=1e-6)


@given(beta=st.floats(0.0, 0.99), lr=st.floats(0.01, 1.0), steps=st.integers(1, 60), seed=st.integers(0, 10**6))
def test_norm_growth_on_random_tangents(beta, lr, steps, seed):
    rng = np.random.default_rng(seed)
    w = w0 = rng.standard_normal(4)
    p, lengths, growth = np.zeros(4), [], []
    for _ in range(steps):
        p = beta * p + on_the_sphere(w, rng, rng.uniform(0, 2))
        w = w - lr * p
        lengths.append(np.linalg.norm(p))
        growth.append(w @ w - w0 @ w0)
    found = decay.norm_growth(step_lengths=lengths, lr=lr, momentum=beta)
    np.testing.assert_allclose(found, growth, rtol=1e-8, atol=1e-9)


def test_norm_growth_is_the_published_double_sum():
    p, lr, beta = np.array([1.0, 3.0, 0.5, 2.0]), 0.3, 0.7
    cross = sum(beta ** (t - k) * p[k] ** 2 for t in range(4) for k in range(t))
    expected = lr**2 * (p**2).sum() + 2 * lr**2 * cross
    assert decay.norm_growth(step_lengths=p, lr=lr, momentum=beta)[-1] == pytest.approx(expected)


def test_growth_factor_is_the_long_run_ratio():
    growth = decay.norm_growth(step_lengths=np.ones(200_000), lr=1.0, momentum=0.9)
    assert growth[-1] / 200_000 == pytest.approx(decay.growth_factor(momentum=0.9), rel=1e-3)
    without = decay.norm_growth(step_lengths=np.ones(10), lr=1.0, momentum=0.0)
    np.testing.assert_allclose(without, np.arange(1, 11))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"lr \* weight_decay must be below 1"):
        decay.sgdw_to_l2(lr=0.5, momentum=0.9, weight_decay=2.0, x0=1.0)
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\)"):
        decay.growth_factor(momentum=1.0)
    with pytest.raises(ValueError, match=r"step_lengths must have shape \[T\]"):
        decay.norm_growth(step_lengths=1.0, lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match="weight_decay must be in"):
        decay.adamw_fixed_point(center=1.0, weight_decay=0.0)
    with pytest.raises(ValueError, match="curvature must be in"):
        decay.l2_fixed_point(curvature=-1.0, center=1.0, weight_decay=0.1)
