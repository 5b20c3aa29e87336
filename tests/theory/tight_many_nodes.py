"""Many nodes: instances on which a guarantee is as tight as its docstring states. Rows as in ``tight_one_node``."""

import numpy as np
from scipy.linalg import solve_discrete_lyapunov
from tight_one_node import average_on_quadratic

from optcourse.theory import asynchrony, byzantine, compressed_gossip, gossip, local


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


def uncompressed_gossip(function, n, step_share, slack):
    """CHOCO without compression along the slowest eigenvector of a ring, for 1/(eta rho) rounds."""
    W, x = ring(n), np.cos(2 * np.pi * np.arange(n) / n)
    setting = {"spectral_gap": 1 - gossip.mixing_rate(topology="ring", n_nodes=n), "delta": 1.0, "e0": x @ x}
    setting["beta"] = np.linalg.norm(np.eye(n) - W, 2)
    eta = step_share * compressed_gossip.choco_gossip_bound(**setting, steps=1).stepsize
    setting["steps"] = round(1 / (eta * setting["spectral_gap"]))
    for _ in range(setting["steps"]):
        x = x + eta * (W @ x - x)
    at = {"consensus_lr": eta} if function is compressed_gossip.choco_gossip_bound_at else {}
    return "17.4", function, float(function(**setting, **at)), x @ x, slack


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


def delayed_floor(delay, share, slack):
    """The exact stationary second moment on f = x^2 with lr = share/(L (delay + 1/2)), from the same covariance."""
    step, noise, lr = np.eye(delay + 1, k=-1), np.zeros((delay + 1, delay + 1)), share / (2.0 * (delay + 0.5))
    step[0, 0], noise[0, 0] = 1, lr**2 * 3.0
    step[0, delay] -= lr * 2.0
    bound = asynchrony.delay_noise_bound(eigenvalue=2.0, delay=delay, lr=lr, sigma2=3.0)
    return "18.2", asynchrony.delay_noise_bound, float(bound), solve_discrete_lyapunov(step, noise)[0, 0], slack


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


ROWS = [
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
    *(uncompressed_gossip(compressed_gossip.choco_gossip_bound, n, 1.0, slack) for n, slack in ((3, 4.8), (30, 4.5))),
    uncompressed_gossip(compressed_gossip.choco_gossip_bound_at, 8, 0.5, 4.5),
    delayed_quadratic(1, 1.5),
    delayed_quadratic(100, 3.0),
    delayed_noise(5, 1e-4, 2.1),
    delayed_noise(20, 1 / 80, 2.4),
    delayed_floor(0, 0.9, 1.0),
    delayed_floor(10, 0.01, 1.01),
    *(delayed_floor(delay, 0.5, 1.2) for delay in (1, 10)),
    undelayed(0.0, 7, 1.0),
    undelayed(1.0, 10**6, 2.1),
    robust_tilts(),
]
