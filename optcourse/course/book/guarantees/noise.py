"""One node with noise, chance or rounding of a proof: instances on which a guarantee is as tight as it states."""

from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import chi2

from optcourse.course.book.guarantees.instance import Instance
from optcourse.theory import adaptive, batch, quadratic, sampling, sgd, sharpness
from optcourse.theory.bound import tune_step

#: Numbers of steps, until noise is all that is left.
LONG = (1, 10, 100, 1000, 10**4, 10**5, 10**6)
#: Without noise: few and many.
SHORT = (1, 2, 7, 30, 100, 300, 1000)
NOISY = "$f=x^2$ from 1.5, the exact average"


def average_on_quadratic(sigma2, steps, lr, L=2.0, x0=1.5):
    """The exact mean of E f'(x)^2 on f = L x^2/2."""
    return quadratic.average_squared_gradient(eigenvalues=[L], x0=[x0], noise_variances=[sigma2], lr=lr, steps=steps)


def sgd_theorem(steps, sigma2):
    """f = x^2 from 1.5, the step of the theorem."""
    bound = sgd.sgd_bound(L=2.0, delta0=1.5**2, sigma2=sigma2, steps=steps)
    return bound, average_on_quadratic(sigma2, steps, bound.stepsize)


def sgd_at(steps, function, lr, sigma2):
    """The same at any step."""
    bound = function(L=2.0, delta0=1.5**2, sigma2=sigma2, steps=steps, lr=lr)
    return bound, average_on_quadratic(sigma2, steps, lr)


def curvature(L):
    """30 steps with lr = 1/L: all that is left is the first gradient."""
    bound = sgd.sgd_bound_at(L=L, delta0=L * 1.5**2 / 2, sigma2=0.0, steps=30, lr=1 / L)
    return bound, average_on_quadratic(0.0, 30, 1 / L, L)


def tuned(steps, b, e, d=4.0):
    """The smallest value of the sum itself, by search."""
    bound = tune_step(r0=3.0, b=b, e=e, d=d, steps=steps)
    found: Any = minimize_scalar(
        lambda log: 3.0 / (np.exp(log) * steps) + b * np.exp(log) + e * np.exp(2 * log),
        bounds=(-40.0, -np.log(d)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return bound, found.fun


def pl_floor(lr):
    """mu = L = 2: the floor is all that is left."""
    bound = sgd.sgd_pl(mu=2.0, L=2.0, delta0=1.0, sigma2=3.0, lr=lr, steps=10**5)
    return bound, quadratic.loss_floor(eigenvalues=[2.0], noise_variances=[3.0], lr=lr)


def convex_one_step(lr):
    """f = 2|x| from R = 3: the average of one iterate is x_0 itself."""
    return sgd.sgd_convex(R=3.0, G2=4.0, lr=[lr]), 6.0


def strongly_convex_sampling(lr):
    """f = x^2/2 with additive noise: smoothness 1; the exact second moment after 200 steps."""
    bound = sampling.sgd_strongly_convex(mu=1.0, smoothness=1.0, R=1.0, sigma2_opt=5.0, lr=lr, steps=200)
    return bound, np.squeeze(quadratic.sgd_moments(eigenvalues=1.0, x0=1.0, noise_variances=5.0, lr=lr, steps=200))


def adagrad_corner(slope):
    """Losses 2x and slope * x on [0, 3]: x_1 = 3, x_2 = 3 - 3/sqrt(2), the best fixed point is 0."""
    bound = adaptive.adagrad_regret(gradients=[[2.0], [slope]], D_inf=3.0)
    return bound, 2 * 3 + slope * (3 - 3 / np.sqrt(2))


def lagging_gradients(steps, L=2.0, G=3.0, lr=0.1):
    """Mini-batch losses of curvature L, the j-th placed so that the j-th small step meets the gradient (G, 0)."""
    x0, g = np.zeros(2), np.array([G, 0.0])
    x, large = x0, x0
    for _ in range(steps):
        large = large - lr * (g + L * (x0 - x))
        x = x - lr * g
    return batch.linear_scaling_error(L=L, G=G, lr=lr, steps=steps), np.linalg.norm(x - large)


def pac_bayes(k, function, n=20_000, w2=400.0, rho=0.5, delta=0.05):
    """The theorem under the flatness bound, for a training loss of zero all over the ball: every prior is tried, and
    the probability to leave the ball is exact."""
    bound = function(training_loss=0.0, worst_loss=0.0, w2=w2, rho=rho, k=k, n=n, delta=delta)
    s = rho / (np.sqrt(k) + np.sqrt(np.log(n)))
    j = np.arange(1, 5 * n + 2 * k)
    log_variance = np.logaddexp(0, 4 * n / k) + (1 - j) / k  # of the prior, in units of s^2
    divergence = ((k + w2 / s**2) * np.exp(-np.maximum(log_variance, -500)) - k + k * log_variance) / 2
    tried = divergence + np.log(n / delta) + np.log(np.pi**2 / 6 * j**2)
    return bound, chi2.sf((rho / s) ** 2, k) + np.sqrt(tried.min() / (2 * (n - 1)))


INSTANCES = [
    Instance(
        "02.5", sgd.sgd_bound, f"{NOISY} without noise", "steps $T$", SHORT, partial(sgd_theorem, sigma2=0.0), 1.0
    ),
    Instance(
        "02.5",
        sgd.sgd_bound,
        f"{NOISY}, $\\sigma^2=1$",
        "steps $T$",
        LONG,
        partial(sgd_theorem, sigma2=1.0),
        {10**6: 2.1},
    ),
    Instance(
        "02.5",
        sgd.sgd_bound,
        f"{NOISY} over $T=10^6$ steps",
        r"variance $\sigma^2$ (loss²/length²)",
        (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0),
        lambda sigma2: sgd_theorem(10**6, sigma2),
        {0.1: 2.1, 1.0: 2.1, 10.0: 2.1, 100.0: 2.1},
    ),
    Instance(
        "02.5",
        sgd.sgd_bound_at,
        "$f=Lx^2/2$ from 1.5 without noise, 30 steps, $\\gamma=1/L$",
        "smoothness $L$ (loss/length²)",
        (0.1, 1.0, 10.0, 100.0, 1000.0),
        curvature,
        1.0,
    ),
    Instance(
        "02.5",
        sgd.sgd_bound_at,
        f"{NOISY} over $T=10^6$ steps, $\\sigma^2=1$",
        r"step size $\gamma$",
        (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5),
        lambda lr: sgd_at(10**6, sgd.sgd_bound_at, lr, 1.0),
        {0.01: 2.1, 0.1: 2.1, 0.5: 1.001},
    ),
    Instance(
        "02.5",
        sgd.sgd_bound_sharp,
        f"{NOISY} over $T=10^6$ steps, $\\sigma^2=1$",
        r"step size $\gamma$",
        (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.95),
        lambda lr: sgd_at(10**6, sgd.sgd_bound_sharp, lr, 1.0),
        {0.01: 1.01, 0.1: 1.01, 0.5: 1.01, 0.95: 1.01},
    ),
    Instance(
        "15.5",
        tune_step,
        "the sum at its best step of at most $1/d$, found by search: $r_0=3$, $b=2$, $e=0$, $d=4$",
        "steps $T$",
        (1, 3, 10, 100, 1000, 10**4),
        partial(tuned, b=2.0, e=0.0),
        {10**4: 1.1},
        "sum",
    ),
    Instance(
        "15.5",
        tune_step,
        "the sum at its best step of at most $1/d$, found by search: $r_0=3$, $b=1$, $e=3$, $d=4$",
        "steps $T$",
        (1, 3, 10, 30, 100, 1000, 10**4),
        partial(tuned, b=1.0, e=3.0),
        2.2,
        "sum",
    ),
    Instance(
        "02.6",
        sgd.sgd_pl,
        "$f=x^2$, where $\\mu=L=2$, after $10^5$ steps: the exact floor, $\\sigma^2=3$",
        r"step size $\gamma$",
        (0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
        pl_floor,
        {**dict.fromkeys((0.01, 0.02, 0.05, 0.1, 0.2), 2.1), 0.5: 1.0},
    ),
    Instance(
        "02.7",
        sgd.sgd_convex,
        "$f=2|x|$ from $R=3$, one step",
        r"step size $\gamma$",
        (0.1, 0.3, 0.8, 1.5, 3.0, 8.0, 20.0),
        convex_one_step,
        {1.5: 1.0},
    ),
    Instance(
        "02.2",
        sampling.sgd_strongly_convex,
        "$f=x^2/2$ with additive noise of variance 5, the exact second moment after 200 steps from 1",
        r"step size $\gamma$",
        (0.005, 0.01, 0.03, 0.1, 0.25, 0.5),
        strongly_convex_sampling,
        {0.1: 4.1, 0.25: 4.1, 0.5: 4.1},
    ),
    Instance(
        "05.1",
        adaptive.adagrad_regret,
        "two steps from a corner: losses $2x$, then $sx$, on $[0,3]$",
        "second slope $s$ (loss/length)",
        (0.03, 0.1, 0.3, 2 - np.sqrt(2), 1.2, 2.0, 5.0),
        adagrad_corner,
        {2 - np.sqrt(2): 1.36},
        "regret",
    ),
    Instance(
        "13.2",
        batch.linear_scaling_error,
        "mini-batch losses placed so that every small step meets the same gradient; $L=2$, $G=3$, $\\gamma=0.1$",
        "small steps $k$",
        (2, 3, 5, 10, 20, 50),
        lagging_gradients,
        1.0,
    ),
    Instance(
        "11.2",
        sharpness.flatness_bound,
        "the PAC-Bayes theorem itself with the best of its priors, $n=20\\,000$, no training loss in the ball",
        "parameters $k$",
        (6, 20, 60, 200, 1000, 4000),
        partial(pac_bayes, function=sharpness.flatness_bound),
        {6: 2.6, 1000: 2.02},
        "population loss",
    ),
    Instance(
        "11.2",
        sharpness.flatness_bound_sharp,
        "the PAC-Bayes theorem itself with the best of its priors, $n=20\\,000$, no training loss in the ball",
        "parameters $k$",
        (6, 20, 60, 200, 1000, 4000),
        partial(pac_bayes, function=sharpness.flatness_bound_sharp),
        {6: 1.2, 1000: 1.03},
        "population loss",
    ),
]
