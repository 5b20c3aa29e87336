"""Local steps and gossip: instances on which a guarantee is as tight as its docstring states.

Functions return (bound, attained); the swept argument comes first.
"""

from functools import partial

import numpy as np

from optcourse.course.book.guarantees.instance import Instance
from optcourse.course.book.guarantees.noise import LONG, average_on_quadratic
from optcourse.theory import gossip, local

SHARED = "nodes that share $f=x^2$, from 1.5, the exact average"


def identical_nodes(value, function, swept, **given):
    """Nodes that share f = L x^2/2 stay one SGD with an n-th of the noise, whatever they average when."""
    setting = {"L": 2.0, "delta0": 1.5**2, "sigma2": 0.0, "zeta2": 0.0, "n_nodes": 4, "steps": 100} | given
    setting |= {swept: value} | ({"lr": given["lr"](value)} if callable(given.get("lr")) else {})
    bound, L = function(**setting), setting["L"]
    noise, x0 = setting["sigma2"] / setting["n_nodes"], np.sqrt(2 * setting["delta0"] / L)
    return bound, average_on_quadratic(noise, setting["steps"], bound.stepsize, L, x0)


def largest_local(tau):
    """The largest step with so many local steps, L = 2."""
    return local.local_sgd_max_step(L=2.0, local_steps=tau)


def phases_apart(phases, x, step, rounds):
    """f_i = 1 - cos(x_i - phase_i), without noise: zeta2, and ||grad f||^2 at the mean of the nodes, per round."""
    z = np.exp(-1j * phases) - np.exp(-1j * phases).mean()
    gradients = []
    for t in range(rounds):
        gradients.append(np.mean(np.sin(x.mean() - phases)) ** 2)
        x = step(t, x, np.sin(x - phases))
    return (np.mean(abs(z) ** 2) + abs(np.mean(z**2))) / 2, np.array(gradients)


def local_cosines(tau):
    """Long after the start only the drift is left; local steps of the largest size."""
    lr, phases = local.local_sgd_max_step(L=1.0, local_steps=tau), np.array([0.0, 0.0, 2.8])
    zeta2, gradients = phases_apart(
        phases, np.zeros(3), lambda t, x, g: x - lr * g if (t + 1) % tau else np.full(3, (x - lr * g).mean()), 3000
    )
    setting = {"L": 1.0, "delta0": 1.0, "sigma2": 0.0, "zeta2": zeta2, "n_nodes": 3, "local_steps": tau}
    return local.local_sgd_bound(**setting, steps=10**12, lr=lr), gradients[-tau:].mean()


def local_tilts(tau):
    """f_i = +-x: the nodes walk apart in straight lines."""
    x, distance = np.zeros(2), []
    for _ in range(tau):
        distance.append(x.var())
        x = x - 0.1 * np.array([1.0, -1.0])
    return local.local_drift_bound(L=0.01, sigma2=0.0, zeta2=1.0, local_steps=tau, lr=0.1), np.mean(distance)


def local_noise(tau):
    """Affine f_i with noise: each step adds lr^2 sigma2 (1 - 1/n) to the squared distance."""
    n, sigma2, lr = 100, 2.0, 0.1
    attained = np.mean([lr**2 * s * sigma2 * (1 - 1 / n) for s in range(tau)])
    return local.local_drift_bound(L=0.01, sigma2=sigma2, zeta2=0.0, local_steps=tau, lr=lr), attained


def local_strongly_convex(steps):
    """On f = x^2 from R = 3, where the largest gradient is the first."""
    setting = {"mu": 2.0, "L": 2.0, "R": 3.0, "sigma2": 0.0, "G2": 36.0, "n_nodes": 1, "local_steps": 1}
    bound = local.local_sgd_strongly_convex(**setting, steps=steps, shift=16.0)
    x, total, weights = 3.0, 0.0, 0.0
    for t, lr in enumerate(np.asarray(bound.stepsize)):
        total, weights = total + (16 + t) ** 2 * x, weights + (16 + t) ** 2
        x -= lr * 2.0 * x
    return bound, (total / weights) ** 2


def ring(n):
    """W of a ring with weights 1/3."""
    eye = np.eye(n)
    return (eye + np.roll(eye, 1, axis=0) + np.roll(eye, -1, axis=0)) / 3


def gap_of_ring(n):
    """Its spectral gap."""
    return 1 - gossip.mixing_rate(topology="ring", n_nodes=n)


def dsgd_cosines(share):
    """The step as a share of the largest."""
    W, phases, gap = ring(5), np.array([0.0, 0.0, 0.0, 3.1, 3.1]), gap_of_ring(5)
    lr = share * gossip.dsgd_max_step(L=1.0, spectral_gap=gap)
    zeta2, gradients = phases_apart(phases, np.zeros(5), lambda t, x, g: W @ (x - lr * g), 3000)
    setting = {"L": 1.0, "delta0": 1.0, "sigma2": 0.0, "zeta2": zeta2, "n_nodes": 5, "spectral_gap": gap}
    return gossip.dsgd_bound(**setting, steps=10**12, lr=lr), gradients[-1]


def dsgd_tilts(n):
    """Gradients along the slowest eigenvector of a ring."""
    W, x, tilts = ring(n), np.zeros(n), np.cos(2 * np.pi * np.arange(n) / n)
    for _ in range(1000):
        x = W @ (x - 0.1 * tilts)
    zeta2, gap = np.mean(tilts**2), gap_of_ring(n)
    return gossip.consensus_bound(L=0.01, sigma2=0.0, zeta2=zeta2, spectral_gap=gap, lr=0.1), x.var()


def dsgd_noise(gap):
    """Affine f_i with noise on W = gap J + (1 - gap) I: the covariance of the nodes, by its recursion."""
    n, sigma2, lr = 50, 2.0, 0.1
    J = np.full((n, n), 1 / n)
    W, apart = gap * J + (1 - gap) * np.eye(n), np.zeros((n, n))
    for _ in range(100):
        apart = (W - J) @ (apart + lr**2 * sigma2 * np.eye(n)) @ (W - J).T
    bound = gossip.consensus_bound(L=0.01, sigma2=sigma2, zeta2=0.0, spectral_gap=gap, lr=lr)
    return bound, np.trace(apart) / n


INSTANCES = [
    Instance(
        "16.1",
        local.local_sgd_bound,
        f"{SHARED}; no noise, 100 steps of the largest size",
        r"local steps $\tau$",
        (1, 2, 3, 5, 10, 30),
        partial(identical_nodes, function=local.local_sgd_bound, swept="local_steps", lr=largest_local),
        {1: 1.0},
    ),
    Instance(
        "16.1",
        local.local_sgd_bound,
        "nodes that share $f=x^2$, from 0.001; $\\sigma^2=1$, two local steps, $\\gamma=0.001$, $10^5$ steps",
        "nodes $n$",
        (1, 4, 16, 64, 256, 1024),
        partial(
            identical_nodes,
            function=local.local_sgd_bound,
            swept="n_nodes",
            sigma2=1.0,
            local_steps=2,
            lr=1e-3,
            delta0=1e-6,
            steps=10**5,
        ),
        {1: 2.1, 4: 2.1},
    ),
    Instance(
        "16.2",
        local.local_sgd_bound,
        "three nodes with $f_i=1-\\cos(x-\\varphi_i)$, no noise, the largest step, long after the start",
        r"local steps $\tau$",
        (2, 3, 5, 10, 20, 30),
        local_cosines,
        {10: 60},
    ),
    Instance(
        "16.1",
        local.local_sgd_tuned,
        "nodes that share $f=x^2$; no noise, no local steps, 100 steps",
        r"initial gap $\Delta_0$ (loss)",
        (0.01, 0.1, 1.0, 10.0, 100.0),
        partial(identical_nodes, function=local.local_sgd_tuned, swept="delta0", local_steps=1),
        1.0,
    ),
    Instance(
        "16.1",
        local.local_sgd_tuned,
        f"{SHARED}; $\\sigma^2=1$, no local steps, $10^4$ steps",
        "nodes $n$",
        (1, 4, 16, 64, 256, 1024),
        partial(
            identical_nodes, function=local.local_sgd_tuned, swept="n_nodes", sigma2=1.0, local_steps=1, steps=10**4
        ),
        {1: 2.1, 4: 2.1},
    ),
    Instance(
        "16.2",
        local.local_drift_bound,
        "two nodes with $f_i=\\pm x$, no noise, $\\gamma=0.1$",
        r"local steps $\tau$",
        (2, 3, 6, 12, 24, 48),
        local_tilts,
        8.0,
        "average squared distance",
    ),
    Instance(
        "16.1",
        local.local_drift_bound,
        "100 nodes with affine $f_i$, noise alone, $\\gamma=0.1$",
        r"local steps $\tau$",
        (2, 3, 6, 12, 24, 48),
        local_noise,
        4.1,
        "average squared distance",
    ),
    Instance(
        "16.1",
        local.local_sgd_strongly_convex,
        "one node with $f=x^2$ from $R=3$, no noise, $a=16$",
        "steps $T$",
        (1, 2, 5, 10, 20, 50),
        local_strongly_convex,
        {1: 18.0},
    ),
    Instance(
        "17.2",
        gossip.dsgd_bound,
        f"{SHARED}; no noise, all connected, 1000 steps",
        r"step size $\gamma$",
        (0.02, 0.05, 0.1, 0.2, 0.35, 0.5),
        partial(identical_nodes, function=gossip.dsgd_bound, swept="lr", spectral_gap=1.0, steps=1000),
        {0.5: 1.0},
    ),
    Instance(
        "17.2",
        gossip.dsgd_bound,
        f"{SHARED}; $\\sigma^2=1$, spectral gap 1/2, $\\gamma=0.001$",
        "steps $T$",
        LONG,
        partial(identical_nodes, function=gossip.dsgd_bound, swept="steps", sigma2=1.0, spectral_gap=0.5, lr=1e-3),
        {10**6: 2.1},
    ),
    Instance(
        "17.2",
        gossip.dsgd_bound,
        "a ring of five nodes with $f_i=1-\\cos(x-\\varphi_i)$, no noise, long after the start",
        "step size, in the largest one",
        (0.1, 0.2, 0.5, 0.8, 1.0),
        dsgd_cosines,
        {1.0: 38},
    ),
    Instance(
        "17.2",
        gossip.dsgd_tuned,
        f"{SHARED}; no noise, 1000 steps",
        r"spectral gap $1-\lambda$",
        (0.02, 0.05, 0.1, 0.3, 0.6, 1.0),
        partial(identical_nodes, function=gossip.dsgd_tuned, swept="spectral_gap", steps=1000),
        {1.0: 1.0},
    ),
    Instance(
        "17.2",
        gossip.dsgd_tuned,
        f"{SHARED}; $\\sigma^2=1$, all connected",
        "steps $T$",
        LONG,
        partial(identical_nodes, function=gossip.dsgd_tuned, swept="steps", sigma2=1.0, spectral_gap=1.0),
        {10**6: 2.1},
    ),
    Instance(
        "17.3",
        gossip.consensus_bound,
        "affine $f_i$ along the slowest eigenvector of a ring, no noise, $\\gamma=0.1$",
        "nodes $n$",
        (4, 5, 7, 9, 12, 15),
        dsgd_tilts,
        4.0,
        "average squared distance",
    ),
    Instance(
        "17.1",
        gossip.consensus_bound,
        "50 nodes with affine $f_i$, noise alone, all connected alike",
        r"spectral gap $1-\lambda$",
        (0.1, 0.3, 0.5, 0.7, 0.9),
        dsgd_noise,
        {**dict.fromkeys((0.1, 0.3, 0.5, 0.7), 4.1), 0.9: 2.3},
        "average squared distance",
    ),
]
