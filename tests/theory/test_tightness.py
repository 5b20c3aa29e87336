"""Every bound holds on its verification instance and fails there once it is divided by its slack.

One row per guarantee: topic, the bound, what the instance attains, and the slack that the docstring states.
Edit a constant in ``optcourse.theory`` and a row here names the topic whose claim broke.
"""

import inspect

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from optcourse import problems
from optcourse.theory import (
    adaptive,
    asynchrony,
    byzantine,
    compression,
    gossip,
    local,
    momentum,
    newton,
    quadratic,
    sampling,
    sgd,
)
from optcourse.theory import gradient_descent as gd

ROUNDING = 1e-9


def descend(problem, x0, lr, steps):
    """All iterates x_0 ... x_N of gradient descent, shape [N + 1, d]."""
    xs = [np.atleast_1d(np.asarray(x0, dtype=float))]
    for _ in range(steps):
        xs.append(xs[-1] - lr * problem.gradient(xs[-1]))
    return np.stack(xs)


def average_on_quadratic(sigma2, steps, lr, L=2.0, x0=1.5):
    return quadratic.average_squared_gradient(eigenvalues=[L], x0=[x0], noise_variances=[sigma2], lr=lr, steps=steps)


def sgd_theorem(sigma2, steps, slack):
    setting = {"L": 2.0, "delta0": 1.5**2, "sigma2": sigma2, "steps": steps}
    bound = sgd.sgd_bound(**setting)
    return "02.5", sgd.sgd_bound, float(bound), average_on_quadratic(sigma2, steps, bound.stepsize), slack


def sgd_at(function, lr, sigma2, steps, slack):
    bound = function(L=2.0, delta0=1.5**2, sigma2=sigma2, steps=steps, lr=lr)
    return "02.5", function, float(bound), average_on_quadratic(sigma2, steps, lr), slack


def pl_floor(lr, slack):
    L = 2.0
    bound = sgd.sgd_pl(mu=L, L=L, delta0=1.0, sigma2=3.0, lr=lr, steps=10**5)
    return "02.6", sgd.sgd_pl, float(bound), quadratic.loss_floor(eigenvalues=[L], noise_variances=[3.0], lr=lr), slack


def convex_one_step():
    """f = 2|x| from R = 3: the average of one iterate is x_0 itself."""
    return "02.7", sgd.sgd_convex, float(sgd.sgd_convex(R=3.0, G2=4.0, lr=[3.0 / 2.0])), 6.0, 1.0


def strongly_convex_sampling():
    """f = x^2/2 with additive noise: smoothness 1 and lr = 1/2; the exact stationary second moment."""
    bound = sampling.sgd_strongly_convex(mu=1.0, smoothness=1.0, R=1.0, sigma2_opt=5.0, lr=0.5, steps=200)
    exact = quadratic.noise_floor(eigenvalues=1.0, noise_variances=5.0, lr=0.5)
    return "02.2", sampling.sgd_strongly_convex, float(bound), exact, 4.1


def convex_huber(steps):
    problem = problems.Huber(knee=3.0 / (2 * steps + 1), L=2.0)
    last = descend(problem, 3.0, 1 / 2.0, steps)[-1]
    return "02.5", gd.gd_convex, float(gd.gd_convex(L=2.0, R=3.0, lr=0.5, steps=steps)), problem.value(last), 1.0


def strongly_convex_quadratic(lr):
    problem, x0 = problems.Quadratic([0.5, 4.0]), np.array([1.0, 0.0] if lr <= 2 / 4.5 else [0.0, 1.0])
    attained = np.linalg.norm(descend(problem, x0, lr, 7)[-1])
    return (
        "02.1",
        gd.gd_strongly_convex,
        float(gd.gd_strongly_convex(mu=0.5, L=4.0, R=1.0, lr=lr, steps=7)),
        attained,
        1,
    )


def pl_quadratic(lr):
    problem = problems.Quadratic([4.0])
    last = descend(problem, 3.0, lr, 5)[-1]
    return "02.6", gd.gd_pl, float(gd.gd_pl(mu=4.0, L=4.0, delta0=18.0, lr=lr, steps=5)), problem.value(last), 1.0


def best_iterate(steps):
    problem = problems.BestIterateZigzag(L=2.0, steps=steps)
    xs = descend(problem, problem.start, 1 / 2.0, steps)
    attained = np.square(problem.gradient(xs)).sum(-1).min()
    return (
        "02.5",
        gd.gd_best_iterate,
        float(gd.gd_best_iterate(L=2.0, delta0=problem.delta0(xs[0]), steps=steps)),
        attained,
        1,
    )


def last_iterate(steps):
    problem = problems.LastIterateTrap(L=2.0, steps=steps)
    xs = descend(problem, problem.start, 1 / 2.0, steps)
    attained = np.square(problem.gradient(xs[-1])).sum()
    return (
        "02.5",
        gd.gd_last_iterate,
        gd.gd_last_iterate(L=2.0, delta0=problem.delta0(xs[0]), steps=steps),
        attained,
        1.0,
    )


def heavy_ball(steps):
    """Along an eigenvector of L, R = 3."""
    bound = momentum.hb_bound(mu=0.5, L=4.0, R=3.0, steps=steps)
    lr, beta = momentum.hb_parameters(mu=0.5, L=4.0)
    problem, old, x = problems.Quadratic([0.5, 4.0]), np.array([0.0, 3.0]), np.array([0.0, 3.0])
    for _ in range(steps):
        old, x = x, x - lr * problem.gradient(x) + beta * (x - old)
    return "04.4", momentum.hb_bound, float(bound), np.linalg.norm(x), 1.0


def nesterov(problem, x0, coefficient, steps):
    """The gap after N steps of NAG with lr = 1/L; ``coefficient`` maps k to the momentum after step k."""
    old = x = y = np.atleast_1d(x0)
    for k in range(steps):
        x = y - problem.gradient(y) / problem.L
        old, y = x, x + coefficient(k) * (x - old)
    return problem.delta0(x)


def nag_huber(function, steps, slack):
    problem = problems.Huber(knee=4 * 3.0 / (steps**2 + 5 * steps + 6), L=2.0)
    attained = nesterov(problem, 3.0, lambda k: k / (k + 3), steps)
    return "04.4", function, float(function(L=2.0, R=3.0, steps=steps)), attained, slack


def nag_quadratic(root_kappa, slack):
    """Along an eigenvector of mu = 1, N = sqrt(kappa)."""
    kappa = root_kappa**2
    problem = problems.Quadratic([1.0, kappa])
    beta = momentum.nag_coefficient(mu=1.0, L=kappa)
    attained = nesterov(problem, [3.0, 0.0], lambda k: beta, root_kappa)
    bound = momentum.nag_strongly_convex(mu=1.0, L=kappa, delta0=4.5, R=3.0, steps=root_kappa)
    return "04.4", momentum.nag_strongly_convex, float(bound), attained, slack


def newton_step(share):
    problem = problems.NewtonTrap(curvature=3.0, M=0.5)
    x = np.array([share * 3.0 / 0.5])
    after = x - problem.gradient(x) / problem.hessian(x)[0]
    return (
        "03.3",
        newton.newton_bound,
        float(newton.newton_bound(mu=3.0, M=0.5, r=x[0])),
        abs(after[0]),
        1.0,
    )


def adagrad_corner():
    """Losses 2x and sx on [0, 3], s = 2 - sqrt(2): x_1 = 3, x_2 = 3 - 3/sqrt(2), the best fixed point is 0."""
    s = 2 - np.sqrt(2)
    bound = adaptive.adagrad_regret(gradients=[[2.0], [s]], D_inf=3.0)
    return "05.1", adaptive.adagrad_regret, float(bound), 2 * 3 + s * (3 - 3 / np.sqrt(2)), 1.36


def identical_nodes(function, sigma2, steps, slack, **more):
    """n = 4 nodes that share f = x^2 stay one SGD with a quarter of the noise, whatever they average when."""
    setting = {"L": 2.0, "delta0": 1.5**2, "sigma2": sigma2, "zeta2": 0.0, "n_nodes": 4, "steps": steps}
    bound = function(**setting, **more)
    topic = "16.1" if function.__module__.endswith("local") else "17.2"
    return topic, function, float(bound), average_on_quadratic(sigma2 / 4, steps, bound.stepsize), slack


def phases_apart(phases, x, step, rounds):
    """f_i = 1 - cos(x_i - phase_i), without noise: zeta2, and ||grad f||^2 at the mean of the nodes, per round."""
    z = np.exp(-1j * phases) - np.exp(-1j * phases).mean()
    gradients = []
    for t in range(rounds):
        gradients.append(np.mean(np.sin(x.mean() - phases)) ** 2)
        x = step(t, x, np.sin(x - phases))
    return (np.mean(abs(z) ** 2) + abs(np.mean(z**2))) / 2, np.array(gradients)


def local_cosines():
    """Long after the start only the drift is left; ten local steps of the largest size."""
    tau, lr, phases = 10, local.local_sgd_max_step(L=1.0, local_steps=10), np.array([0.0, 0.0, 2.8])
    zeta2, gradients = phases_apart(
        phases, np.zeros(3), lambda t, x, g: x - lr * g if (t + 1) % tau else np.full(3, (x - lr * g).mean()), 3000
    )
    setting = {"L": 1.0, "delta0": 1.0, "sigma2": 0.0, "zeta2": zeta2, "n_nodes": 3, "local_steps": tau}
    bound = local.local_sgd_bound(**setting, steps=10**12, lr=lr)
    return "16.2", local.local_sgd_bound, float(bound), gradients[-tau:].mean(), 60


def local_tilts():
    """f_i = +-x: the nodes walk apart in straight lines."""
    x, distance = np.zeros(2), []
    for _ in range(6):
        distance.append(x.var())
        x = x - 0.1 * np.array([1.0, -1.0])
    bound = local.local_drift_bound(L=0.01, sigma2=0.0, zeta2=1.0, local_steps=6, lr=0.1)
    return "16.2", local.local_drift_bound, float(bound), np.mean(distance), 8


def local_noise():
    """Affine f_i with noise: each step adds lr^2 sigma2 (1 - 1/n) to the squared distance."""
    n, tau, sigma2, lr = 100, 6, 2.0, 0.1
    attained = np.mean([lr**2 * s * sigma2 * (1 - 1 / n) for s in range(tau)])
    bound = local.local_drift_bound(L=0.01, sigma2=sigma2, zeta2=0.0, local_steps=tau, lr=lr)
    return "16.1", local.local_drift_bound, float(bound), attained, 4.1


def local_strongly_convex():
    """One step on f = x^2 from R = 3."""
    setting = {"mu": 2.0, "L": 2.0, "R": 3.0, "sigma2": 0.0, "G2": 36.0, "n_nodes": 1, "local_steps": 1}
    bound = local.local_sgd_strongly_convex(**setting, steps=1, shift=16.0)
    return "16.1", local.local_sgd_strongly_convex, float(bound), 3.0**2, 18


def ring(n):
    eye = np.eye(n)
    return (eye + np.roll(eye, 1, axis=0) + np.roll(eye, -1, axis=0)) / 3


def dsgd_cosines():
    W, phases = ring(5), np.array([0.0, 0.0, 0.0, 3.1, 3.1])
    gap = 1 - gossip.mixing_rate(topology="ring", n_nodes=5)
    lr = gossip.dsgd_max_step(L=1.0, spectral_gap=gap)
    zeta2, gradients = phases_apart(phases, np.zeros(5), lambda t, x, g: W @ (x - lr * g), 3000)
    setting = {"L": 1.0, "delta0": 1.0, "sigma2": 0.0, "zeta2": zeta2, "n_nodes": 5, "spectral_gap": gap}
    bound = gossip.dsgd_bound(**setting, steps=10**12, lr=lr)
    return "17.2", gossip.dsgd_bound, float(bound), gradients[-1], 38


def dsgd_tilts():
    """Gradients along the slowest eigenvector of a ring of nine."""
    W, x = ring(9), np.zeros(9)
    tilts = np.cos(2 * np.pi * np.arange(9) / 9)
    for _ in range(1000):
        x = W @ (x - 0.1 * tilts)
    gap = 1 - gossip.mixing_rate(topology="ring", n_nodes=9)
    bound = gossip.consensus_bound(L=0.01, sigma2=0.0, zeta2=np.mean(tilts**2), spectral_gap=gap, lr=0.1)
    return "17.3", gossip.consensus_bound, float(bound), x.var(), 4


def dsgd_noise():
    """Affine f_i with noise on W = 0.9 J + 0.1 I: the covariance of the nodes, by its recursion."""
    n, sigma2, lr = 50, 2.0, 0.1
    J = np.full((n, n), 1 / n)
    W, apart = 0.9 * J + 0.1 * np.eye(n), np.zeros((n, n))
    for _ in range(100):
        apart = (W - J) @ (apart + lr**2 * sigma2 * np.eye(n)) @ (W - J).T
    bound = gossip.consensus_bound(L=0.01, sigma2=sigma2, zeta2=0.0, spectral_gap=0.9, lr=lr)
    return "17.1", gossip.consensus_bound, float(bound), np.trace(apart) / n, 2.3


def delayed_quadratic(delay, slack):
    """f = x^2 with the largest step, no noise, until nothing is left."""
    lr, steps = asynchrony.async_max_step(L=2.0, delay=delay), 200 * delay
    xs = [1.5] * (delay + 1)
    for _ in range(steps):
        xs.append(xs[-1] - lr * 2.0 * xs[-1 - delay])
    bound = asynchrony.async_bound(L=2.0, delta0=1.5**2, sigma2=0.0, delay=delay, steps=steps, lr=lr)
    return "18.2", asynchrony.async_bound, float(bound), np.square(2.0 * np.array(xs[delay:-1])).mean(), slack


def delayed_noise(delay, lr, slack):
    """The exact stationary gradient on f = x^2, from the covariance of (x_k, ..., x_{k-delay})."""
    step, noise = np.eye(delay + 1, k=-1), np.zeros((delay + 1, delay + 1))
    step[0, 0], noise[0, 0] = 1, lr**2 * 3.0
    step[0, delay] -= lr * 2.0
    attained = 2.0**2 * solve_discrete_lyapunov(step, noise)[0, 0]
    bound = asynchrony.async_bound(L=2.0, delta0=1.0, sigma2=3.0, delay=delay, steps=10**12, lr=lr)
    return "18.2", asynchrony.async_bound, float(bound), attained, slack


def undelayed(sigma2, steps, slack):
    bound = asynchrony.async_tuned(L=2.0, delta0=1.5**2, sigma2=sigma2, delay=0, steps=steps)
    return "18.2", asynchrony.async_tuned, float(bound), average_on_quadratic(sigma2, steps, bound.stepsize), slack


def robust_tilts():
    """Honest f_i = x^2/2 + b_i x with two b_i = -1 and three 0, two attackers far above, trimmed mean, from x = 0."""
    b, x, steps = np.array([-1.0, -1.0, 0.0, 0.0, 0.0]), 0.0, 2000
    squares = []
    for _ in range(steps):
        squares.append((x + b.mean()) ** 2)
        x = x - np.sort(np.append(x + b, [1e6, 1e6]))[2:-2].mean()
    constant = byzantine.kappa(rule="trimmed_mean", n_nodes=7, n_byzantine=2)
    bound = byzantine.robust_gd_bound(L=1.0, delta0=b.mean() ** 2 / 2, zeta2=b.var(), kappa=constant, steps=steps, lr=1)
    return "19.3", byzantine.robust_gd_bound, float(bound), np.mean(squares), 1.001


def all_or_nothing(sigma2, delta, lr, steps, x0=1.0):
    """f = x^2/2, C(p) = p with probability delta, else 0. Exact average of E f'(x)^2, and the largest E g^2.

    The second moments of (x, e) by the law of total expectation, not by the algebra of the proof.
    """
    outcomes = [
        (share, np.array([[1 - lr * sent, -sent], [(1 - sent) * lr, 1 - sent]]), lr * np.array([-sent, 1 - sent]))
        for share, sent in ((delta, 1), (1 - delta, 0))
    ]
    noise = sum(share * sigma2 * np.outer(b, b) for share, _, b in outcomes)
    step = noise.ravel(), sum(share * np.kron(A, A) for share, A, _ in outcomes)
    moments, squares = np.array([x0**2, 0.0, 0.0, 0.0]), np.empty(steps)
    for t in range(steps):
        squares[t] = moments[0]
        moments = step[0] + step[1] @ moments
    return squares.mean(), squares.max() + sigma2


def feedback(function, sigma2, delta, lr, steps, x0, slack, n=1):
    """n > 1 only with delta = 1, where the nodes' noise matters through its mean alone."""
    attained, G2 = all_or_nothing(sigma2 / n, delta, lr, steps, x0)
    setting = {"L": 1.0, "delta0": x0**2 / 2, "G2": G2, "delta": delta, "steps": steps, "lr": lr}
    if function is compression.ef_bound_at:
        setting |= {"sigma2": sigma2, "n_nodes": n}
    return "15.5", function, float(function(**setting)), attained, slack


def feedback_tuned(sigma2, delta, steps, slack, n=1):
    setting = {"L": 1.0, "delta0": 0.5, "sigma2": sigma2, "G2": 1.0 + sigma2, "delta": delta, "n_nodes": n}
    bound = compression.ef_bound(steps=steps, **setting)
    attained, G2 = all_or_nothing(sigma2 / n, delta, bound.stepsize, steps)
    assert G2 <= setting["G2"]
    return "15.5", compression.ef_bound, float(bound), attained, slack


def feedback_memory(delta):
    """C(p) = (1 - sqrt(1 - delta)) p and g = 2 in every step."""
    e = 0.0
    for _ in range(5000):
        p = e + 0.1 * 2.0
        e = p - (1 - np.sqrt(1 - delta)) * p
    return "15.5", compression.ef_memory, float(compression.ef_memory(G2=4.0, delta=delta, lr=0.1)), e**2, 1.0


def unbiased(function, sigma2, zeta2, steps, lr, slack, omega=3.0, n=2):
    """Random-k with E||Q(v)||^2 = (1 + omega)||v||^2 exactly, f_i = ||x||^2/2 + <b_i, x>: the exact recursion."""
    setting = {"L": 1.0, "delta0": 0.5, "sigma2": sigma2, "zeta2": zeta2, "omega": omega, "n_nodes": n, "steps": steps}
    bound = function(**setting) if lr is None else function(lr=lr, **setting)
    lr = bound.stepsize
    r = 1 - 2 * lr + lr**2 * (1 + omega / n)
    floor = lr**2 * ((1 + omega) * sigma2 + omega * zeta2) / n / (1 - r)
    return "15.1", function, float(bound), floor + (1 - floor) * (1 - r**steps) / (steps * (1 - r)), slack


ROWS = [
    *(sgd_theorem(0.0, steps, 1.0) for steps in (1, 7, 1000)),
    *(sgd_theorem(sigma2, 10**6, 2.1) for sigma2 in (0.1, 1.0, 100.0)),
    sgd_at(sgd.sgd_bound_at, lr=0.5, sigma2=0.0, steps=9, slack=1.0),
    sgd_at(sgd.sgd_bound_at, lr=0.01, sigma2=1.0, steps=10**6, slack=2.1),
    sgd_at(sgd.sgd_bound_at, lr=0.5, sigma2=1.0, steps=10**6, slack=1.001),
    *(sgd_at(sgd.sgd_bound_sharp, lr=lr, sigma2=1.0, steps=10**6, slack=1.01) for lr in (0.01, 0.5, 0.95)),
    pl_floor(0.5, 1.0),
    pl_floor(0.01, 2.1),
    convex_one_step(),
    strongly_convex_sampling(),
    *(convex_huber(steps) for steps in (1, 5, 40)),
    *(strongly_convex_quadratic(lr) for lr in (0.1, 2 / 4.5, 0.48)),
    *(pl_quadratic(lr) for lr in (0.1, 0.4)),
    *(best_iterate(steps) for steps in (0, 1, 4, 25)),
    *(last_iterate(steps) for steps in (0, 1, 3, 20)),
    *(heavy_ball(steps) for steps in (0, 1, 8, 60)),
    *(nag_huber(momentum.nag_convex, steps, 1.0) for steps in (1, 2, 7, 40)),
    nag_huber(momentum.nag_convex_classical, 1, 3.0),
    nag_huber(momentum.nag_convex_classical, 40, 1.08),
    nag_quadratic(100, 1.37),
    *(newton_step(share) for share in (0.1, 2 / 3, 0.9)),
    adagrad_corner(),
    *(identical_nodes(local.local_sgd_bound, 0.0, T, 1.0, local_steps=1, lr=0.5) for T in (1, 7)),
    identical_nodes(local.local_sgd_bound, 1.0, 10**6, 2.1, local_steps=2, lr=1e-3),
    identical_nodes(local.local_sgd_tuned, 0.0, 7, 1.0, local_steps=1),
    identical_nodes(local.local_sgd_tuned, 1.0, 10**6, 2.1, local_steps=1),
    local_cosines(),
    local_tilts(),
    local_noise(),
    local_strongly_convex(),
    *(identical_nodes(gossip.dsgd_bound, 0.0, T, 1.0, spectral_gap=1.0, lr=0.5) for T in (1, 7)),
    identical_nodes(gossip.dsgd_bound, 1.0, 10**6, 2.1, spectral_gap=0.5, lr=1e-3),
    identical_nodes(gossip.dsgd_tuned, 0.0, 7, 1.0, spectral_gap=1.0),
    identical_nodes(gossip.dsgd_tuned, 1.0, 10**6, 2.1, spectral_gap=1.0),
    dsgd_cosines(),
    dsgd_tilts(),
    dsgd_noise(),
    delayed_quadratic(1, 1.5),
    delayed_quadratic(100, 3.0),
    delayed_noise(5, 1e-4, 2.1),
    delayed_noise(20, 1 / 80, 2.4),
    undelayed(0.0, 7, 1.0),
    undelayed(1.0, 10**6, 2.1),
    robust_tilts(),
    unbiased(compression.unbiased_bound_at, sigma2=0.0, zeta2=0.0, steps=1000, lr=0.4, slack=1.0),
    unbiased(compression.unbiased_bound_at, sigma2=1.0, zeta2=2.0, steps=10**6, lr=0.01, slack=2.1),
    unbiased(compression.unbiased_bound, sigma2=0.0, zeta2=0.0, steps=1000, lr=None, slack=1.01),
    *(unbiased(compression.unbiased_bound, *noise, steps=10**6, lr=None, slack=2.1) for noise in ((1, 0), (0, 1))),
    *(feedback_memory(delta) for delta in (0.02, 0.5, 0.9)),
    *(
        feedback(function, *setting)
        for function in (compression.ef_single_bound_at, compression.ef_bound_at)
        for setting in ((1.0, 0.9, 0.01, 20_000, 0.1, 2.1), (0.0, 0.1, 0.04, 50, 1.0, 3.0))
    ),
    feedback(compression.ef_bound_at, 4.0, 1.0, 0.01, 20_000, 0.1, 2.1, n=4),
    *(feedback_tuned(*setting) for setting in ((0.0, 1.0, 200, 3.1), (0.0, 0.1, 200, 6.3), (4.0, 1.0, 20_000, 4.1, 4))),
]


@pytest.mark.parametrize(
    ("topic", "function", "bound", "attained", "slack"),
    ROWS,
    ids=[f"{r[0]}-{r[1].__name__}-{i}" for i, r in enumerate(ROWS)],
)
def test_bound_holds_and_is_as_tight_as_stated(topic, function, bound, attained, slack):
    name = function.__name__
    assert attained <= bound * (1 + ROUNDING), f"topic {topic}: {name} is violated: {attained} > {bound}"
    assert attained > bound / slack * (1 - ROUNDING), (
        f"topic {topic}: {name} is looser than stated: {attained} attained, {bound} / {slack} claimed"
    )


def test_every_guarantee_has_a_row():
    """A calculator that returns a Bound cannot be added without an instance that tests its constants."""
    listed = {row[1].__name__ for row in ROWS}
    for module in (sgd, gd, sampling, momentum, newton, adaptive, local, gossip, asynchrony, byzantine, compression):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and inspect.signature(function).return_annotation == "Bound":
                assert name in listed, f"{module.__name__}.{name} has no row in this file"
