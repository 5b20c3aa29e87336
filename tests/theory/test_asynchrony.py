"""Delayed gradients against eigenvalues of the delay line, exact covariances and runs."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_lyapunov

from optcourse.theory import asynchrony, quadratic, sgd

pytestmark = pytest.mark.topic("18.2", "18.3")

SETTING = {"L": 2.0, "delta0": 1.0, "sigma2": 0.5, "delay": 5, "steps": 200}


def delay_line(lam, lr, delay):
    """One step of (x_k, x_{k-1}, ..., x_{k-delay}), written from the update."""
    step = np.eye(delay + 1, k=-1)
    step[0, 0] = 1
    step[0, delay] -= lr * lam
    return step


def stationary(lam, lr, delay, sigma2):
    """E x^2 from the covariance of (x_k, ..., x_{k-delay})."""
    noise = np.zeros((delay + 1, delay + 1))
    noise[0, 0] = lr**2 * sigma2
    return solve_discrete_lyapunov(delay_line(lam, lr, delay), noise)[0, 0]


@given(lam=st.floats(0.1, 10), lr=st.floats(0.01, 1), delay=st.integers(0, 12))
def test_radius_is_that_of_the_delay_line(lam, lr, delay):
    expected = abs(np.linalg.eigvals(delay_line(lam, lr, delay))).max()
    assert asynchrony.delay_radius(eigenvalue=lam, lr=lr, delay=delay) == pytest.approx(expected, abs=1e-6)


@given(lam=st.floats(0.1, 10), delay=st.integers(0, 60))
def test_radius_crosses_one_exactly_at_the_threshold(lam, delay):
    limit = asynchrony.delay_max_step(eigenvalue=lam, delay=delay)
    below, above = (abs(np.linalg.eigvals(delay_line(lam, limit * s, delay))).max() for s in (1 - 1e-6, 1 + 1e-6))
    assert below < 1 < above


def test_threshold_has_a_root_on_the_unit_circle():
    for delay in range(40):
        limit = asynchrony.delay_max_step(eigenvalue=1.0, delay=delay)
        z = np.exp(1j * np.pi / (2 * delay + 1))
        assert abs(z ** (delay + 1) - z**delay + limit) < 1e-12


@given(lam=st.floats(0.1, 10), share=st.floats(1e-3, 2), delay=st.integers(0, 25))
def test_no_step_converges_faster_than_the_best_one(lam, share, delay):
    """A double root is known to the square root of rounding only; the others are below it by more than that."""
    best = asynchrony.delay_best_step(eigenvalue=lam, delay=delay)
    at_best, elsewhere = (abs(np.linalg.eigvals(delay_line(lam, lr, delay))).max() for lr in (best, share * best))
    assert at_best == pytest.approx(delay / (delay + 1), abs=1e-6)
    assert elsewhere >= delay / (delay + 1) - 1e-6
    if abs(share - 1) > 0.01:
        assert elsewhere > delay / (delay + 1)


@pytest.mark.parametrize("delay", [0, 1, 4, 11])
def test_runs_shrink_below_and_grow_above_the_threshold(delay):
    limit = asynchrony.delay_max_step(eigenvalue=2.0, delay=delay)
    for share in (0.98, 1.02):
        xs = [1.0] * (delay + 1)
        while len(xs) < 20_000 and abs(xs[-1]) < 1e7:
            xs.append(xs[-1] - share * limit * 2.0 * xs[-1 - delay])
        late = max(abs(x) for x in xs[-100:])
        assert late < 1e-6 if share < 1 else late > 1e6


def test_long_delays_divide_the_step():
    assert asynchrony.delay_max_step(eigenvalue=1.0, delay=10**4) == pytest.approx(np.pi / 2e4, rel=1e-4)


def delayed_runs(delays, lr, sigma, steps, start, runs, rng, gradient):
    """Average squared gradient of each run; ``delays`` has shape [steps]."""
    xs = [np.full(runs, start)]
    for k in range(steps):
        old = xs[max(0, k - delays[k])]
        xs.append(xs[-1] - lr * (gradient(old) + sigma * rng.choice([-1.0, 1.0], runs)))
    return np.square(gradient(np.stack(xs[:-1]))).mean(0)


@pytest.mark.parametrize("sigma2", [0.0, 0.25, 4.0])
@pytest.mark.parametrize("delay", [0, 1, 6, 25])
def test_bound_holds_on_non_convex_runs_with_random_delays(delay, sigma2):
    """f = 1 - cos(x) with +-sigma noise and delays anywhere in 0 ... delay: 400 runs."""
    rng = np.random.default_rng(5)
    lr, steps, start = asynchrony.async_max_step(L=1.0, delay=delay), 300, 2.0
    for delays in (np.full(steps, delay), rng.integers(0, delay + 1, steps)):
        runs = delayed_runs(delays, lr, np.sqrt(sigma2), steps, start, 400, rng, np.sin)
        bound = asynchrony.async_bound(L=1.0, delta0=1 - np.cos(start), sigma2=sigma2, delay=delay, steps=steps, lr=lr)
        assert runs.mean() - 4 * runs.std() / 20 <= float(bound)


@pytest.mark.parametrize("delay", [1, 5, 20])
@pytest.mark.parametrize("share", [1.0, 0.1, 0.01])
def test_noise_terms_bound_the_exact_stationary_gradient(delay, share):
    L, sigma2, lr = 2.0, 3.0, share / (2 * 2.0 * delay)
    exact = L**2 * stationary(L, lr, delay, sigma2)
    bound = asynchrony.async_bound(L=L, delta0=1.0, sigma2=sigma2, delay=delay, steps=10**12, lr=lr)
    assert exact <= float(bound) <= 2.4 * exact


@given(lam=st.floats(0.1, 10), delay=st.integers(0, 20), share=st.floats(1e-3, 0.95), sigma2=st.floats(0.1, 10))
def test_noise_floor_is_the_stationary_covariance(lam, delay, share, sigma2):
    """The linear system loses about 1/(1 - share)^2 and 1/(lr lam) of its digits."""
    lr = share * asynchrony.delay_max_step(eigenvalue=lam, delay=delay)
    floor = asynchrony.delay_noise_floor(eigenvalue=lam, delay=delay, lr=lr, sigma2=sigma2)
    assert floor == pytest.approx(stationary(lam, lr, delay, sigma2), rel=1e-8)


@given(delay=st.integers(0, 40), share=st.floats(1e-3, 0.999))
def test_noise_floor_lies_between_its_bounds(delay, share):
    lr = share / (2.0 * (delay + 0.5))
    setting = {"eigenvalue": 2.0, "delay": delay, "lr": lr, "sigma2": 3.0}
    below = quadratic.noise_floor(eigenvalues=2.0, noise_variances=3.0, lr=lr)
    floor, above = asynchrony.delay_noise_floor(**setting), float(asynchrony.delay_noise_bound(**setting))
    assert below * (1 - 1e-12) <= floor <= above * (1 + 1e-12)
    if delay == 0:
        assert floor == pytest.approx(below, rel=1e-12) and above == pytest.approx(below, rel=1e-12)
    if share <= 0.5:
        assert above <= 1.2 * floor


def test_sweeps_over_steps_and_delays():
    lrs, delays = np.array([0.01, 0.1, 0.3]), np.array([[0], [1], [4]])
    setting = {"eigenvalue": 1.0, "delay": delays, "lr": lrs, "sigma2": 2.0}
    floor, bound = asynchrony.delay_noise_floor(**setting), asynchrony.delay_noise_bound(**setting)
    assert floor.shape == bound.value.shape == (3, 3)
    assert floor[2, 1] == asynchrony.delay_noise_floor(**setting | {"delay": 4, "lr": 0.1})
    assert np.array_equal(bound.valid, lrs * (delays + 0.5) < 1) and np.isnan(bound.value[2, 2])
    best = asynchrony.delay_best_step(eigenvalue=[1.0, 2.0], delay=[[0], [3]])
    np.testing.assert_allclose(best, [[1, 0.5], [27 / 256, 27 / 512]])


@given(delay=st.integers(0, 30), factor=st.floats(1.001, 10))
def test_unstable_and_uncovered_steps_are_refused(delay, factor):
    setting = {"eigenvalue": 2.0, "delay": delay, "sigma2": 1.0}
    limit = asynchrony.delay_max_step(eigenvalue=2.0, delay=delay)
    with pytest.raises(ValueError, match="lr must be below delay_max_step"):
        asynchrony.delay_noise_floor(**setting, lr=limit * factor)
    with pytest.raises(ValueError, match=r"lr < 1/\(eigenvalue \(delay \+ 1/2\)\)"):
        asynchrony.delay_noise_bound(**setting, lr=factor / (2 * delay + 1))


def test_without_delay_it_is_sgd():
    setting = {"L": 2.0, "delta0": 1.0, "sigma2": 0.5, "steps": 200, "lr": 0.5}
    assert float(asynchrony.async_bound(**setting, delay=0)) == float(sgd.sgd_bound_at(**setting))


def test_tuned_form_is_above_the_bound_at_its_own_step_and_near_the_best_step():
    for steps in (20, 10**3, 10**6):
        setting = SETTING | {"steps": steps}
        tuned = asynchrony.async_tuned(**setting)
        limit = asynchrony.async_max_step(L=2.0, delay=5)
        at_step = float(asynchrony.async_bound(**setting, lr=tuned.stepsize))
        best = np.nanmin(asynchrony.async_bound(**setting, lr=limit * np.geomspace(1e-6, 1, 500)).value)
        assert best <= at_step <= float(tuned) * (1 + 1e-12)
        assert float(tuned) <= 3 * best


def test_delay_is_free_in_the_limit():
    """The noise term is that of SGD; the others fall behind it as T^{-1/6} and T^{-1/2}."""
    none, long = (asynchrony.async_tuned(**SETTING | {"delay": tau}).terms for tau in (0, 50))
    assert long["noise"] == none["noise"] == pytest.approx(np.sqrt(8 * 2.0 * 1.0 * 0.5 / 200))
    late = asynchrony.async_tuned(**SETTING | {"delay": 50, "steps": 200 * 10**6}).terms
    assert late["drift"] / late["noise"] == pytest.approx(0.1 * long["drift"] / long["noise"])
    assert late["deterministic"] / late["noise"] == pytest.approx(1e-3 * long["deterministic"] / long["noise"])


@given(delay=st.integers(0, 100), factor=st.floats(1.001, 10))
def test_too_long_steps_are_refused(delay, factor):
    limit = asynchrony.async_max_step(L=2.0, delay=delay)
    asynchrony.async_bound(**SETTING | {"delay": delay}, lr=limit)
    with pytest.raises(ValueError, match=r"lr <= 1/\(2 L delay\)"):
        asynchrony.async_bound(**SETTING | {"delay": delay}, lr=limit * factor)


def long_run(delay, lr, sigma2, draws):
    """Mean E x^2 on x^2/2 over blocks of delay + 1 updates, each block with so many draws of noise, as many or one."""
    step, first = delay_line(1.0, lr, delay), np.eye(delay + 1)[0]
    maps, pushes = [np.eye(delay + 1)], [np.zeros((delay + 1, draws))]
    for update in range(delay + 1):
        maps.append(step @ maps[-1])
        pushes.append(step @ pushes[-1] - lr * np.outer(first, np.eye(draws)[update % draws]))
    covariance = solve_discrete_lyapunov(maps[-1], sigma2 * pushes[-1] @ pushes[-1].T)
    both = zip(maps[1:], pushes[1:], strict=True)
    return np.mean([(A @ covariance @ A.T + sigma2 * B @ B.T)[0, 0] for A, B in both])


@pytest.mark.parametrize(("delay", "factor"), [(2, 1.49), (4, 2.48), (10, 5.46), (30, 15.4)])
def test_noise_must_be_fresh_where_it_is_applied(delay, factor):
    """One draw for delay + 1 updates: each gradient was taken before it, and is unbiased there. The bound fails."""
    lr = 0.01 / (2 * delay)
    bound = asynchrony.async_bound(L=1.0, delta0=1.0, sigma2=1.0, delay=delay, steps=10**15, lr=lr).value
    shared, fresh = (long_run(delay, lr, 1.0, draws) for draws in (1, delay + 1))
    assert fresh == pytest.approx(asynchrony.delay_noise_floor(eigenvalue=1.0, delay=delay, lr=lr, sigma2=1.0))
    assert shared / bound == pytest.approx(factor, rel=5e-3) and fresh < bound


@given(name=st.sampled_from(["L", "delta0", "steps", "lr"]), value=st.floats(-5, 0))
def test_bad_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} must be in"):
        asynchrony.async_bound(**SETTING | {"lr": 0.01} | {name: value})


def test_bad_delays_are_named():
    with pytest.raises(ValueError, match="delay must be in"):
        asynchrony.async_bound(**SETTING | {"delay": -1}, lr=0.01)
    with pytest.raises(ValueError, match="delay must be 0 or at least 1"):
        asynchrony.async_max_step(L=1.0, delay=0.5)
    for function in (asynchrony.delay_max_step, asynchrony.delay_best_step):
        with pytest.raises(ValueError, match="delay must be an integer"):
            function(eigenvalue=1.0, delay=[1, 1.5])
    with pytest.raises(TypeError, match="delay must be an integer"):
        asynchrony.delay_radius(eigenvalue=1.0, delay=1.5, lr=0.1)
    with pytest.raises(ValueError, match="eigenvalue must be in"):
        asynchrony.delay_max_step(eigenvalue=0.0, delay=1)


# Random assignment


def by_balance(seconds):
    """Completions per second from the stationary law of the Markov chain of queue lengths, solved as it is."""
    n = len(seconds)
    states = [state for state in itertools.product(range(n + 1), repeat=n) if sum(state) == n]
    place = {state: k for k, state in enumerate(states)}
    flow, done = np.zeros((len(states), len(states))), np.zeros(len(states))
    for state, k in place.items():
        for i in range(n):
            if state[i]:
                done[k] += 1 / seconds[i]
                for j in range(n):
                    moved = list(state)
                    moved[i] -= 1
                    moved[j] += 1
                    flow[place[tuple(moved)], k] += 1 / (n * seconds[i])
    flow -= np.diag(done)
    flow[0] = 1  # the probabilities add up to one
    return done @ np.linalg.solve(flow, np.eye(len(states))[0])


@pytest.mark.parametrize("seconds", [[2.0], [1.0, 1.0], [1.0, 5.0], [1.0, 0.5, 3.0], [1.0, 1.0, 1.0, 7.0]])
def test_random_assignment_delivers_what_the_markov_chain_says(seconds):
    assert asynchrony.random_assignment_rate(seconds=seconds) == pytest.approx(by_balance(seconds), rel=1e-12)


def test_random_assignment_of_equal_nodes_in_closed_form_and_in_any_unit():
    for n in (1, 2, 8, 200):
        rate = asynchrony.random_assignment_rate(seconds=np.full(n, 1e-5))
        assert rate == pytest.approx(1e5 * n**2 / (2 * n - 1), rel=1e-9)
    slow = [asynchrony.random_assignment_rate(seconds=[1.0] * 7 + [s]) for s in (1.0, 5.0, 1e6)]
    assert slow[0] > slow[1] > slow[2] and slow[2] == pytest.approx(8 / 1e6, rel=1e-5)  # the slowest sets the pace


@pytest.mark.parametrize("bad", [1.0, [], [[1.0]], [1.0, 0.0], [1.0, -1.0], [np.inf]])
def test_random_assignment_wants_positive_times(bad):
    with pytest.raises(ValueError, match="seconds must"):
        asynchrony.random_assignment_rate(seconds=bad)
