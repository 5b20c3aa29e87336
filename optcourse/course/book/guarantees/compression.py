"""Compressed messages: instances on which a guarantee is as tight as its docstring states."""

from functools import partial

import numpy as np

from optcourse.course.book.guarantees.instance import Instance
from optcourse.course.book.guarantees.many_nodes import gap_of_ring, ring
from optcourse.course.book.guarantees.noise import LONG
from optcourse.theory import compressed_gossip, compression

MEAN = "$f=x^2/2$, all or nothing"


def all_or_nothing(sigma2, delta, lr, steps, x0=1.0):
    """f = x^2/2, C(p) = p with probability delta, else 0. Exact average of E f'(x)^2, and the largest E g^2.

    The second moments of (x, e) by the law of total expectation, not by the algebra of the proof.
    """
    outcomes = [
        (share, np.array([[1 - lr * sent, -sent], [(1 - sent) * lr, 1 - sent]]), lr * np.array([-sent, 1 - sent]))
        for share, sent in ((delta, 1), (1 - delta, 0))
    ]
    noise = np.sum([share * sigma2 * np.outer(b, b) for share, _, b in outcomes], axis=0)
    step = noise.ravel(), sum(share * np.kron(A, A) for share, A, _ in outcomes)
    moments, squares = np.array([x0**2, 0.0, 0.0, 0.0]), np.empty(steps)
    for t in range(steps):
        squares[t] = moments[0]
        moments = step[0] + step[1] @ moments
    return squares.mean(), squares.max() + sigma2


def feedback(steps, sigma2, delta, lr, x0, n=1):
    """n > 1 only with delta = 1, where the nodes' noise matters through its mean alone."""
    attained, G2 = all_or_nothing(sigma2 / n, delta, lr, steps, x0)
    setting = {"L": 1.0, "delta0": x0**2 / 2, "sigma2": sigma2, "G2": G2, "delta": delta, "n_nodes": n}
    return compression.ef_bound_at(**setting, steps=steps, lr=lr), attained


def feedback_tuned(steps, sigma2, delta, n=1):
    """The step of the theorem, for E g^2 <= 1 + sigma2."""
    setting = {"L": 1.0, "delta0": 0.5, "sigma2": sigma2, "G2": 1.0 + sigma2, "delta": delta, "n_nodes": n}
    bound = compression.ef_bound(steps=steps, **setting)
    attained, G2 = all_or_nothing(sigma2 / n, delta, bound.stepsize, steps)
    if G2 - sigma2 > 1.0:
        raise ValueError(f"the instance must keep E g^2 at most {1 + sigma2}, got {G2}")
    return bound, attained


def feedback_memory(delta):
    """C(p) = (1 - sqrt(1 - delta)) p and g = 2 in every step."""
    e = 0.0
    for _ in range(5000):
        p = e + 0.1 * 2.0
        e = p - (1 - np.sqrt(1 - delta)) * p
    return compression.ef_memory(G2=4.0, delta=delta, lr=0.1), e**2


def unbiased(steps, function, sigma2, zeta2, lr=None, omega=3.0, n=2):
    """Random-k with E||Q(v)||^2 = (1 + omega)||v||^2 exactly, f_i = ||x||^2/2 + <b_i, x>: the exact recursion."""
    setting = {"L": 1.0, "delta0": 0.5, "sigma2": sigma2, "zeta2": zeta2, "omega": omega, "n_nodes": n, "steps": steps}
    bound = function(**setting) if lr is None else function(lr=lr, **setting)
    lr = bound.stepsize
    r = 1 - 2 * lr + lr**2 * (1 + omega / n)
    floor = lr**2 * ((1 + omega) * sigma2 + omega * zeta2) / n / (1 - r)
    return bound, floor + (1 - floor) * (1 - r**steps) / (steps * (1 - r))


def rounded(lr, L=2.0, steps=5000):
    """f = L(x - 1/2)^2/2, x is w rounded to whole numbers: ||w - x||^2 and f'(x)^2 step by step."""
    w, slopes2, memory2 = 0.5 + lr * L / 4, 0.0, 0.0
    delta0 = L * (w - 0.5) ** 2 / 2
    for _ in range(steps):
        x = float(np.round(w))
        slopes2, memory2 = slopes2 + (L * (x - 0.5)) ** 2 / steps, memory2 + (w - x) ** 2 / steps
        w -= lr * L * (x - 0.5)
    return compression.memory_bound_at(L=L, delta0=delta0, sigma2=0.0, memory2=memory2, steps=steps, lr=lr), slopes2


def remembered(steps, sigma2, lr, x0):
    """x = w, SGD on x^2/2: E x^2 step by step."""
    square, total = x0**2, 0.0
    for _ in range(steps):
        total, square = total + square / steps, (1 - lr) ** 2 * square + lr**2 * sigma2
    setting = {"L": 1.0, "delta0": x0**2 / 2, "sigma2": sigma2, "memory2": 0.0, "steps": steps, "lr": lr}
    return compression.memory_bound_at(**setting), total


def uncompressed_gossip(n, function, share=1.0):
    """CHOCO without compression along the slowest eigenvector of a ring, for 1/(eta rho) rounds."""
    W, x = ring(n), np.cos(2 * np.pi * np.arange(n) / n)
    setting = {"spectral_gap": gap_of_ring(n), "delta": 1.0, "e0": x @ x}
    setting["beta"] = np.linalg.norm(np.eye(n) - W, 2)
    eta = share * float(compressed_gossip.choco_gossip_bound(**setting, steps=1).stepsize or 0)
    setting["steps"] = round(1 / (eta * setting["spectral_gap"]))
    x = np.linalg.matrix_power(np.eye(n) + eta * (W - np.eye(n)), setting["steps"]) @ x
    at = {"consensus_lr": eta} if function is compressed_gossip.choco_gossip_bound_at else {}
    return function(**setting, **at), x @ x


INSTANCES = [
    Instance(
        "20.1",
        compression.memory_bound_at,
        "$f=(x-1/2)^2$, where $x$ is $w$ rounded to whole numbers; 5000 steps from near 1/2",
        r"step size $\gamma$",
        (0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
        rounded,
        {0.001: 1.01},
    ),
    Instance(
        "20.1",
        compression.memory_bound_at,
        "$x=w$: SGD on $x^2/2$ with $\\sigma^2=1$ and $\\gamma=0.01$ from 0.1, the exact average",
        "steps $T$",
        (10, 100, 1000, 5000, 20_000),
        partial(remembered, sigma2=1.0, lr=0.01, x0=0.1),
        {20_000: 2.1},
    ),
    Instance(
        "20.1",
        compression.memory_bound_at,
        "the same without noise, $\\gamma=0.05$, from 1",
        "steps $T$",
        (1, 2, 5, 10, 20, 50, 200),
        partial(remembered, sigma2=0.0, lr=0.05, x0=1.0),
        {20: 2.5},
    ),
    Instance(
        "15.1",
        compression.unbiased_bound_at,
        "two nodes with $f_i=\\|x\\|^2/2$, random-$k$ with $\\omega=3$, no noise, the largest step",
        "steps $T$",
        (1, 3, 10, 30, 100, 1000),
        partial(unbiased, function=compression.unbiased_bound_at, sigma2=0.0, zeta2=0.0, lr=0.4),
        {1000: 1.0},
    ),
    Instance(
        "15.1",
        compression.unbiased_bound_at,
        "two nodes with $f_i=\\|x\\|^2/2\\pm b^\\top x$, random-$k$, $\\sigma^2=1$, $\\zeta^2=2$, $\\gamma=0.01$",
        "steps $T$",
        LONG,
        partial(unbiased, function=compression.unbiased_bound_at, sigma2=1.0, zeta2=2.0, lr=0.01),
        {10**6: 2.1},
    ),
    *(
        Instance(
            "15.1",
            compression.unbiased_bound,
            f"two nodes with $f_i=\\|x\\|^2/2\\pm b^\\top x$, random-$k$, $\\sigma^2={sigma2}$, $\\zeta^2={zeta2}$",
            "steps $T$",
            LONG,
            partial(unbiased, function=compression.unbiased_bound, sigma2=float(sigma2), zeta2=float(zeta2)),
            claims,
        )
        for sigma2, zeta2, claims in ((0, 0, {1000: 1.01}), (1, 0, {10**6: 2.1}))
    ),
    Instance(
        "15.1",
        compression.unbiased_bound,
        "two nodes with $f_i=\\|x\\|^2/2\\pm b^\\top x$, random-$k$, no other noise, $\\zeta^2=1$, $T=10^6$",
        r"variance $\omega$ of the compressor",
        (0.01, 0.1, 1.0, 10.0, 100.0),
        lambda omega: unbiased(10**6, compression.unbiased_bound, 0.0, 1.0, omega=omega),
        dict.fromkeys((0.1, 1.0, 10.0), 2.1),
    ),
    Instance(
        "15.5",
        compression.ef_memory,
        "the same gradient in every step, $C(p)=(1-\\sqrt{1-\\delta})p$, after 5000 steps",
        r"contraction $\delta$",
        (0.02, 0.05, 0.1, 0.2, 0.5, 0.9),
        feedback_memory,
        1.0,
        "squared memory",
    ),
    *(
        Instance(
            "15.5",
            compression.ef_bound_at,
            f"{problem}: the exact average",
            "steps $T$",
            steps,
            partial(feedback, **setting),
            claims,
        )
        for problem, steps, setting, claims in (
            (
                f"{MEAN} with $\\delta=0.9$, $\\sigma^2=1$, $\\gamma=0.01$, from 0.1",
                (100, 500, 2000, 20_000),
                {"sigma2": 1.0, "delta": 0.9, "lr": 0.01, "x0": 0.1},
                {20_000: 2.1},
            ),
            (
                f"{MEAN} with $\\delta=0.1$, no noise, $\\gamma=0.04$, from 1",
                (5, 10, 20, 50, 100, 300),
                {"sigma2": 0.0, "delta": 0.1, "lr": 0.04, "x0": 1.0},
                {50: 3.0},
            ),
        )
    ),
    Instance(
        "15.5",
        compression.ef_bound_at,
        "$f=x^2/2$, nothing lost, $\\sigma^2=4$, $\\gamma=0.01$, $10^4$ steps from 0.1: the exact average",
        "nodes $n$",
        (1, 4, 16, 64),
        lambda n: feedback(10**4, sigma2=4.0, delta=1.0, lr=0.01, x0=0.1, n=n),
        {1: 2.1, 4: 2.1},
    ),
    *(
        Instance("15.5", compression.ef_bound, f"{problem}, from 1: the exact average", "steps $T$", steps, at, claims)
        for problem, steps, at, claims in (
            (
                "$f=x^2/2$, nothing lost, no noise",
                (5, 20, 50, 200, 1000),
                partial(feedback_tuned, sigma2=0.0, delta=1.0),
                {200: 3.1},
            ),
            (
                f"{MEAN} with $\\delta=0.1$, no noise",
                (20, 50, 200, 1000, 5000),
                partial(feedback_tuned, sigma2=0.0, delta=0.1),
                {200: 6.3},
            ),
            (
                "$f=x^2/2$ on four nodes, nothing lost, $\\sigma^2=4$",
                (20, 200, 2000, 20_000),
                partial(feedback_tuned, sigma2=4.0, delta=1.0, n=4),
                {20_000: 4.1},
            ),
        )
    ),
    Instance(
        "17.4",
        compressed_gossip.choco_gossip_bound,
        "no compression, along the slowest eigenvector of a ring, for $1/(\\eta\\rho)$ rounds",
        "nodes $n$",
        (3, 5, 8, 12, 20, 30),
        partial(uncompressed_gossip, function=compressed_gossip.choco_gossip_bound),
        {3: 4.8, 30: 4.5},
    ),
    Instance(
        "17.4",
        compressed_gossip.choco_gossip_bound_at,
        "no compression, along the slowest eigenvector of a ring of eight, for $1/(\\eta\\rho)$ rounds",
        r"step $\eta$, in $\eta^\star$",
        (0.05, 0.1, 0.2, 0.5, 1.0),
        lambda share: uncompressed_gossip(8, compressed_gossip.choco_gossip_bound_at, share),
        {0.5: 4.5},
    ),
]
