"""One node: instances on which a guarantee is as tight as its docstring states.

A row is the topic, the guarantee, its bound on the instance, what the instance attains there, and the stated slack.
"""

import numpy as np
from scipy.stats import chi2

from optcourse import problems
from optcourse.theory import adaptive, batch, momentum, newton, quadratic, sampling, sgd, sharpness
from optcourse.theory import gradient_descent as gd


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


def nag_huber(steps):
    problem = problems.Huber(knee=4 * 3.0 / (steps**2 + 5 * steps + 6), L=2.0)
    attained = nesterov(problem, 3.0, lambda k: k / (k + 3), steps)
    return "04.4", momentum.nag_convex, float(momentum.nag_convex(L=2.0, R=3.0, steps=steps)), attained, 1.0


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


def conjugate_gradients(steps, mu=1.0, L=9.0):
    """The k + 1 extremal points of Chebyshev's polynomial as eigenvalues, errors so weighted that no p does better."""
    lam = (L + mu) / 2 + (L - mu) / 2 * np.cos(np.arange(steps + 1) * np.pi / steps)
    apart = np.abs(lam[:, None] - lam) + np.eye(steps + 1)
    solution = 1 / np.sqrt(lam * apart.prod(1) * lam)  # the energy of coordinate j is lam * solution^2
    s, r = np.zeros(steps + 1), lam * solution
    p = r
    for _ in range(steps):
        a = r @ r / (p @ (lam * p))
        s, after = s + a * p, r - a * lam * p
        p, r = after + (after @ after) / (r @ r) * p, after
    energy = [np.sqrt(lam @ error**2) for error in (solution, s - solution)]
    bound = newton.conjugate_gradients(mu=mu, L=L, R=energy[0], steps=steps)
    return "03.3", newton.conjugate_gradients, float(bound), energy[1], 1.0


def adagrad_corner():
    """Losses 2x and sx on [0, 3], s = 2 - sqrt(2): x_1 = 3, x_2 = 3 - 3/sqrt(2), the best fixed point is 0."""
    s = 2 - np.sqrt(2)
    bound = adaptive.adagrad_regret(gradients=[[2.0], [s]], D_inf=3.0)
    return "05.1", adaptive.adagrad_regret, float(bound), 2 * 3 + s * (3 - 3 / np.sqrt(2)), 1.36


def lagging_gradients(steps, L=2.0, G=3.0, lr=0.1):
    """Mini-batch losses of curvature L, the j-th placed so that the j-th small step meets the gradient (G, 0)."""
    x0, g = np.zeros(2), np.array([G, 0.0])
    x, large = x0, x0
    for _ in range(steps):
        large = large - lr * (g + L * (x0 - x))
        x = x - lr * g
    bound = batch.linear_scaling_error(L=L, G=G, lr=lr, steps=steps)
    return "13.2", batch.linear_scaling_error, float(bound), np.linalg.norm(x - large), 1.0


def pac_bayes(function, k, n, slack, w2=400.0, rho=0.5, delta=0.05):
    """The theorem under the flatness bound, for a training loss of zero all over the ball: every prior is tried, and
    the probability to leave the ball is exact."""
    bound = function(training_loss=0.0, worst_loss=0.0, w2=w2, rho=rho, k=k, n=n, delta=delta)
    s = rho / (np.sqrt(k) + np.sqrt(np.log(n)))
    j = np.arange(1, 5 * n + 2 * k)
    log_variance = np.logaddexp(0, 4 * n / k) + (1 - j) / k  # of the prior, in units of s^2
    divergence = ((k + w2 / s**2) * np.exp(-np.maximum(log_variance, -500)) - k + k * log_variance) / 2
    tried = divergence + np.log(n / delta) + np.log(np.pi**2 / 6 * j**2)
    attained = chi2.sf((rho / s) ** 2, k) + np.sqrt(tried.min() / (2 * (n - 1)))
    return "11.2", function, float(bound), attained, slack


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
    *(nag_huber(steps) for steps in (1, 2, 7, 40)),
    nag_quadratic(100, 1.37),
    *(newton_step(share) for share in (0.1, 2 / 3, 0.9)),
    *(conjugate_gradients(steps) for steps in (1, 2, 5)),
    adagrad_corner(),
    *(lagging_gradients(steps) for steps in (2, 3, 50)),
    pac_bayes(sharpness.flatness_bound, k=1000, n=20_000, slack=2.02),
    pac_bayes(sharpness.flatness_bound_sharp, k=1000, n=20_000, slack=1.03),
    pac_bayes(sharpness.flatness_bound, k=6, n=20_000, slack=2.6),
    pac_bayes(sharpness.flatness_bound_sharp, k=6, n=20_000, slack=1.2),
]
