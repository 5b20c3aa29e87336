"""Methods without noise: instances on which a guarantee is as tight as its docstring states.

Functions return (bound, attained); the swept argument comes first.
"""

from functools import partial

import numpy as np

from optcourse import problems
from optcourse.course.book.guarantees.instance import Instance
from optcourse.theory import gradient_descent as gd
from optcourse.theory import momentum, newton


def descend(problem, x0, lr, steps):
    """All iterates x_0 ... x_N of gradient descent, shape [N + 1, d]."""
    xs = [np.atleast_1d(np.asarray(x0, dtype=float))]
    for _ in range(steps):
        xs.append(xs[-1] - lr * problem.gradient(xs[-1]))
    return np.stack(xs)


def convex_huber(steps):
    """R = 3, L = 2, lr = 1/L."""
    problem = problems.Huber(knee=3.0 / (2 * steps + 1), L=2.0)
    last = descend(problem, 3.0, 1 / 2.0, steps)[-1]
    return gd.gd_convex(L=2.0, R=3.0, lr=0.5, steps=steps), problem.value(last)


def convex_huber_at(lr, steps=10):
    """The same with another step, for which another knee is the worst."""
    problem = problems.Huber(knee=3.0 / (2 * steps * lr * 2.0 + 1), L=2.0)
    return gd.gd_convex(L=2.0, R=3.0, lr=lr, steps=steps), problem.value(descend(problem, 3.0, lr, steps)[-1])


def strongly_convex_quadratic(lr):
    """Seven steps along the eigenvector that falls more slowly."""
    problem, x0 = problems.Quadratic([0.5, 4.0]), np.array([1.0, 0.0] if lr <= 2 / 4.5 else [0.0, 1.0])
    attained = np.linalg.norm(descend(problem, x0, lr, 7)[-1])
    return gd.gd_strongly_convex(mu=0.5, L=4.0, R=1.0, lr=lr, steps=7), attained


def pl_quadratic(lr):
    """Five steps on f = 2 x^2 from 3."""
    problem = problems.Quadratic([4.0])
    last = descend(problem, 3.0, lr, 5)[-1]
    return gd.gd_pl(mu=4.0, L=4.0, delta0=18.0, lr=lr, steps=5), problem.value(last)


def squared_gradients(problem, steps):
    """Of all iterates at lr = 1/L, after lengths are scaled so that delta0 = 1 (and losses, so that L stays)."""
    xs = descend(problem, problem.start, 1 / problem.L, steps)
    return np.square(problem.gradient(xs)).sum(-1) / problem.delta0(xs[0])


def best_iterate(steps):
    """L = 2; the function is another one for every number of steps."""
    attained = squared_gradients(problems.BestIterateZigzag(L=2.0, steps=steps), steps).min()
    return gd.gd_best_iterate(L=2.0, delta0=1.0, steps=steps), attained


def last_iterate(steps):
    """L = 2; the function is another one for every number of steps."""
    attained = squared_gradients(problems.LastIterateTrap(L=2.0, steps=steps), steps)[-1]
    return gd.gd_last_iterate(L=2.0, delta0=1.0, steps=steps), attained


def heavy_ball(steps):
    """Along an eigenvector of L, R = 3."""
    bound = momentum.hb_bound(mu=0.5, L=4.0, R=3.0, steps=steps)
    lr, beta = momentum.hb_parameters(mu=0.5, L=4.0)
    problem, old, x = problems.Quadratic([0.5, 4.0]), np.array([0.0, 3.0]), np.array([0.0, 3.0])
    for _ in range(steps):
        old, x = x, x - lr * problem.gradient(x) + beta * (x - old)
    return bound, np.linalg.norm(x)


def nesterov(problem, x0, coefficient, steps):
    """The gap after N steps of NAG with lr = 1/L; ``coefficient`` maps k to the momentum after step k."""
    old = x = y = np.atleast_1d(x0)
    for k in range(steps):
        x = y - problem.gradient(y) / problem.L
        old, y = x, x + coefficient(k) * (x - old)
    return problem.delta0(x)


def nag_huber(steps):
    """R = 3, L = 2, growing momentum."""
    problem = problems.Huber(knee=4 * 3.0 / (steps**2 + 5 * steps + 6), L=2.0)
    return momentum.nag_convex(L=2.0, R=3.0, steps=steps), nesterov(problem, 3.0, lambda k: k / (k + 3), steps)


def nag_quadratic(steps, kappa):
    """Along an eigenvector of mu = 1."""
    problem, beta = problems.Quadratic([1.0, kappa]), momentum.nag_coefficient(mu=1.0, L=kappa)
    bound = momentum.nag_strongly_convex(mu=1.0, L=kappa, delta0=4.5, R=3.0, steps=steps)
    return bound, nesterov(problem, [3.0, 0.0], lambda k: beta, steps)


def newton_step(share):
    """From r = share of mu/M."""
    problem = problems.NewtonTrap(curvature=3.0, M=0.5)
    x = np.array([share * 3.0 / 0.5])
    after = x - problem.gradient(x) / problem.hessian(x)[0]
    return newton.newton_bound(mu=3.0, M=0.5, r=x[0]), abs(after[0])


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
    return newton.conjugate_gradients(mu=mu, L=L, R=energy[0], steps=steps), energy[1]


INSTANCES = [
    Instance(
        "02.5",
        gd.gd_convex,
        "the Huber function with $L=2$ and knee $R/(2N+1)$, $R=3$, $\\gamma=1/L$",
        "steps $N$",
        (1, 2, 5, 10, 20, 40, 100),
        convex_huber,
        1.0,
    ),
    Instance(
        "02.5",
        gd.gd_convex,
        "ten steps on the Huber function with $L=2$ and knee $R/(2N\\gamma L+1)$, $R=3$",
        r"step size $\gamma$",
        (0.001, 0.01, 0.05, 0.1, 0.25, 0.5),
        convex_huber_at,
        1.0,
    ),
    Instance(
        "02.1",
        gd.gd_strongly_convex,
        "seven steps on the quadratic with eigenvalues 0.5 and 4, along the one that falls more slowly",
        r"step size $\gamma$",
        (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 2 / 4.5, 0.48, 0.499),
        strongly_convex_quadratic,
        1.0,
    ),
    Instance(
        "02.6",
        gd.gd_pl,
        "five steps on $f=2x^2$, where $\\mu=L=4$, from $x_0=3$",
        r"step size $\gamma$",
        (0.02, 0.05, 0.1, 0.15, 0.2, 0.23, 0.27, 0.3, 0.35, 0.4, 0.48),
        pl_quadratic,
        1.0,
    ),
    Instance(
        "02.5",
        gd.gd_best_iterate,
        "a zigzag function, made for each number of steps: its slope falls and recovers between any two iterates; "
        "$L=2$, $\\gamma=1/L$, $\\Delta_0=1$",
        "steps $N$",
        (0, 1, 2, 4, 10, 25, 60),
        best_iterate,
        1.0,
        "smallest squared gradient",
    ),
    Instance(
        "02.5",
        gd.gd_last_iterate,
        "a concave parabola that becomes a convex one, made for each number of steps; "
        "$L=2$, $\\gamma=1/L$, $\\Delta_0=1$",
        "steps $N$",
        (0, 1, 2, 3, 5, 10, 20),
        last_iterate,
        1.0,
        "last squared gradient (loss²/length²)",
    ),
    Instance(
        "04.4",
        momentum.hb_bound,
        "the quadratic with eigenvalues 0.5 and 4, along the larger one, from distance 3",
        "steps $k$",
        (0, 1, 2, 4, 8, 15, 30, 60),
        heavy_ball,
        1.0,
    ),
    Instance(
        "04.4",
        momentum.nag_convex,
        "the Huber function with $L=2$ and knee $4R/(N^2+5N+6)$, $R=3$",
        "steps $N$",
        (1, 2, 4, 7, 15, 25, 40),
        nag_huber,
        1.0,
    ),
    Instance(
        "04.4",
        momentum.nag_strongly_convex,
        "the quadratic with eigenvalues $\\mu=1$ and $L=10^4$, along the smaller one: $\\sqrt\\kappa=100$",
        "steps $N$",
        (1, 3, 10, 30, 100, 200, 400),
        partial(nag_quadratic, kappa=100.0**2),
        {100: 1.37},
    ),
    Instance(
        "03.3",
        newton.newton_bound,
        "$f=\\mu x^2/2-M|x|^3/6$ with $\\mu=3$ and $M=1/2$, from a share of the distance $\\mu/M$",
        r"distance before the step, in $\mu/M$",
        (0.01, 0.03, 0.1, 0.3, 2 / 3, 0.9, 0.97),
        newton_step,
        1.0,
        "distance after it",
    ),
    Instance(
        "03.3",
        newton.conjugate_gradients,
        "eigenvalues at the extremal points of Chebyshev's polynomial on $[1,9]$, the worst start for each number of "
        "steps",
        "steps $k$",
        (1, 2, 3, 4, 5, 7),
        conjugate_gradients,
        1.0,
        "error in the energy norm",
    ),
]
