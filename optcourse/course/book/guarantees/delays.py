"""Old gradients and attackers: instances on which a guarantee is as tight as its docstring states."""

from functools import partial

import numpy as np
from scipy.linalg import solve_discrete_lyapunov

from optcourse.course.book.guarantees.instance import Instance
from optcourse.course.book.guarantees.noise import average_on_quadratic
from optcourse.theory import asynchrony, byzantine

LR = r"step size $\gamma$"
SHARE = r"step size, in $1/(L(\tau+1/2))$"


def delayed_squares(delay, lr, steps):
    """The average squared gradient on f = x^2 from 1.5, step by step."""
    xs = [1.5] * (delay + 1)
    for _ in range(steps):
        xs.append(xs[-1] - lr * 2.0 * xs[-1 - delay])
    return np.square(2.0 * np.array(xs[delay:-1])).mean()


def delayed_quadratic(delay):
    """f = x^2 with the largest step, no noise, until nothing is left."""
    lr, steps = asynchrony.async_max_step(L=2.0, delay=delay), 200 * delay
    bound = asynchrony.async_bound(L=2.0, delta0=1.5**2, sigma2=0.0, delay=delay, steps=steps, lr=lr)
    return bound, delayed_squares(delay, lr, steps)


def stationary(delay, lr):
    """The exact second moment on f = x^2 with sigma2 = 3, from the covariance of (x_k, ..., x_{k-delay})."""
    step, noise = np.eye(delay + 1, k=-1), np.zeros((delay + 1, delay + 1))
    step[0, 0], noise[0, 0] = 1, lr**2 * 3.0
    step[0, delay] -= lr * 2.0
    return solve_discrete_lyapunov(step, noise)[0, 0]


def delayed_noise(lr, delay):
    """Long after the start."""
    bound = asynchrony.async_bound(L=2.0, delta0=1.0, sigma2=3.0, delay=delay, steps=10**12, lr=lr)
    return bound, 2.0**2 * stationary(delay, lr)


def delayed_floor(share, delay):
    """lr = share/(L (delay + 1/2))."""
    lr = share / (2.0 * (delay + 0.5))
    return asynchrony.delay_noise_bound(eigenvalue=2.0, delay=delay, lr=lr, sigma2=3.0), stationary(delay, lr)


def tuned_delay(delay, steps=20_000):
    """f = x^2 from 1.5 without noise."""
    bound = asynchrony.async_tuned(L=2.0, delta0=1.5**2, sigma2=0.0, delay=delay, steps=steps)
    return bound, delayed_squares(delay, bound.stepsize, steps)


def undelayed(sigma2, steps=10**4):
    """f = x^2 from 1.5."""
    bound = asynchrony.async_tuned(L=2.0, delta0=1.5**2, sigma2=sigma2, delay=0, steps=steps)
    return bound, average_on_quadratic(sigma2, steps, bound.stepsize)


def robust_tilts(steps):
    """Honest f_i = x^2/2 + b_i x with two b_i = -1 and three 0, two attackers far above, trimmed mean, from x = 0."""
    b, x = np.array([-1.0, -1.0, 0.0, 0.0, 0.0]), 0.0
    squares = []
    for _ in range(steps):
        squares.append((x + b.mean()) ** 2)
        x = x - np.sort(np.append(x + b, [1e6, 1e6]))[2:-2].mean()
    constant = byzantine.kappa(rule="trimmed_mean", n_nodes=7, n_byzantine=2)
    bound = byzantine.robust_gd_bound(L=1.0, delta0=b.mean() ** 2 / 2, zeta2=b.var(), kappa=constant, steps=steps, lr=1)
    return bound, np.mean(squares)


INSTANCES = [
    Instance(
        "18.2",
        asynchrony.async_bound,
        "$f=x^2$ from 1.5 without noise, every gradient $\\tau$ steps old, the largest step, $200\\tau$ steps",
        r"delay $\tau$ (steps)",
        (1, 3, 10, 30, 100),
        delayed_quadratic,
        {1: 1.5, 100: 3.0},
    ),
    *(
        Instance(
            "18.2",
            asynchrony.async_bound,
            f"$f=x^2$, every gradient {delay} steps old, $\\sigma^2=3$: the exact stationary value",
            LR,
            lrs,
            partial(delayed_noise, delay=delay),
            claims,
        )
        for delay, lrs, claims in (
            (5, (1e-4, 1e-3, 0.005, 0.02, 0.05), {1e-4: 2.1}),
            (20, (1e-4, 1e-3, 0.005, 1 / 80), {1e-4: 2.1, 1 / 80: 2.4}),
        )
    ),
    *(
        Instance(
            "18.2",
            asynchrony.delay_noise_bound,
            f"$f=x^2$, every gradient {delay} steps old, $\\sigma^2=3$: the exact stationary value",
            SHARE,
            (0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9),
            partial(delayed_floor, delay=delay),
            claims,
            "second moment",
        )
        for delay, claims in (
            (0, 1.0),
            (1, {0.01: 1.01, 0.03: 1.2, 0.1: 1.2, 0.3: 1.2, 0.5: 1.2}),
            (10, {0.01: 1.01, 0.03: 1.2, 0.1: 1.2, 0.3: 1.2, 0.5: 1.2}),
        )
    ),
    Instance(
        "18.2",
        asynchrony.async_tuned,
        "$f=x^2$ from 1.5 without noise, every gradient $\\tau$ steps old, $20\\,000$ steps",
        r"delay $\tau$ (steps)",
        (0, 1, 3, 10, 30, 100),
        tuned_delay,
        {0: 1.0, 100: 3.0},
    ),
    Instance(
        "18.2",
        asynchrony.async_tuned,
        "$f=x^2$ from 1.5 without delay, $10^4$ steps, the exact average",
        r"variance $\sigma^2$ (loss²/length²)",
        (1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0),
        undelayed,
        {0.1: 2.1, 1.0: 2.1, 10.0: 2.1},
    ),
    Instance(
        "19.3",
        byzantine.robust_gd_bound,
        "five honest nodes with $f_i=x^2/2+b_ix$, two attackers far above, trimmed mean, from $x_0=0$",
        "steps $T$",
        (1, 5, 20, 100, 500, 2000),
        robust_tilts,
        {2000: 1.001},
    ),
]
