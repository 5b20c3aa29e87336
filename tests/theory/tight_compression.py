"""Compressed messages: instances on which a guarantee is as tight as its docstring states.

Rows as in ``tight_one_node``.
"""

import numpy as np

from optcourse.theory import compression


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


def feedback(sigma2, delta, lr, steps, x0, slack, n=1):
    """n > 1 only with delta = 1, where the nodes' noise matters through its mean alone."""
    attained, G2 = all_or_nothing(sigma2 / n, delta, lr, steps, x0)
    setting = {"L": 1.0, "delta0": x0**2 / 2, "sigma2": sigma2, "G2": G2, "delta": delta, "n_nodes": n}
    bound = compression.ef_bound_at(**setting, steps=steps, lr=lr)
    return "15.5", compression.ef_bound_at, float(bound), attained, slack


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


def rounded(L, lr, steps):
    """f = L(x - 1/2)^2/2, x is w rounded to whole numbers: ||w - x||^2 and f'(x)^2 step by step."""
    w, slopes2, memory2 = 0.5 + lr * L / 4, 0.0, 0.0
    delta0 = L * (w - 0.5) ** 2 / 2
    for _ in range(steps):
        x = float(np.round(w))
        slopes2, memory2 = slopes2 + (L * (x - 0.5)) ** 2 / steps, memory2 + (w - x) ** 2 / steps
        w -= lr * L * (x - 0.5)
    bound = compression.memory_bound_at(L=L, delta0=delta0, sigma2=0.0, memory2=memory2, steps=steps, lr=lr)
    return "20.1", compression.memory_bound_at, float(bound), slopes2, 1.01


def remembered(sigma2, lr, steps, x0, slack):
    """x = w, SGD on x^2/2: E x^2 step by step."""
    square, total = x0**2, 0.0
    for _ in range(steps):
        total, square = total + square / steps, (1 - lr) ** 2 * square + lr**2 * sigma2
    setting = {"L": 1.0, "delta0": x0**2 / 2, "sigma2": sigma2, "memory2": 0.0, "steps": steps, "lr": lr}
    return "20.1", compression.memory_bound_at, float(compression.memory_bound_at(**setting)), total, slack


ROWS = [
    rounded(2.0, 0.001, 5000),
    remembered(1.0, 0.01, 20_000, 0.1, 2.1),
    remembered(0.0, 0.05, 20, 1.0, 2.5),
    unbiased(compression.unbiased_bound_at, sigma2=0.0, zeta2=0.0, steps=1000, lr=0.4, slack=1.0),
    unbiased(compression.unbiased_bound_at, sigma2=1.0, zeta2=2.0, steps=10**6, lr=0.01, slack=2.1),
    unbiased(compression.unbiased_bound, sigma2=0.0, zeta2=0.0, steps=1000, lr=None, slack=1.01),
    *(unbiased(compression.unbiased_bound, *noise, steps=10**6, lr=None, slack=2.1) for noise in ((1, 0), (0, 1))),
    *(feedback_memory(delta) for delta in (0.02, 0.5, 0.9)),
    feedback(1.0, 0.9, 0.01, 20_000, 0.1, 2.1),
    feedback(0.0, 0.1, 0.04, 50, 1.0, 3.0),
    feedback(4.0, 1.0, 0.01, 20_000, 0.1, 2.1, n=4),
    *(feedback_tuned(*setting) for setting in ((0.0, 1.0, 200, 3.1), (0.0, 0.1, 200, 6.3), (4.0, 1.0, 20_000, 4.1, 4))),
]
