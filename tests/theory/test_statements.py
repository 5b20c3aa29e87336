"""The value and the step size of every guarantee at a generic point, from the formula of its source, written anew.

Instances test that a guarantee holds and how tight it is; where none comes near, only a second reading of the source
tells 16 L/mu from 24 L/mu. Each formula is in the form of the source, not in that of the calculator.
"""

from math import exp, inf, log, sqrt
from types import SimpleNamespace

import numpy as np
import pytest
from generic import at, guarantees, point

GUARANTEES = guarantees()
pytestmark = pytest.mark.topic("02.4", "02.5")


def tuned(r0, b, e, d, T):
    """Koloskova et al. 2020, the tuning lemma: 2 (b r0/T)^(1/2) + 2 e^(1/3) (r0/T)^(2/3) + d r0/T."""
    return 2 * sqrt(b * r0 / T) + 2 * e ** (1 / 3) * (r0 / T) ** (2 / 3) + d * r0 / T


def tuned_step(r0, b, e, d, T):
    """Without noise, or without drift, the others decide."""
    return min(sqrt(r0 / (b * T)) if b else inf, (r0 / (e * T)) ** (1 / 3) if e else inf, 1 / d)


def rate(a):
    """(sqrt(kappa) - 1)/(sqrt(kappa) + 1)."""
    return (sqrt(a.L) - sqrt(a.mu)) / (sqrt(a.L) + sqrt(a.mu))


def chebyshev(k, x):
    """T_k(x) for x >= 1."""
    return np.polynomial.chebyshev.Chebyshev.basis(k)(x)


def memory(a):
    """What error feedback keeps of G^2 lr^2: the fixed point of m = sqrt(1 - delta) (m + 1), squared."""
    keep = sqrt(1 - a.delta)
    return (keep / (1 - keep)) ** 2


def apart(a):
    """[4 zeta^2/(1 - lambda)^2 + 2 sigma^2/(1 - lambda)] lambda^2."""
    gap = a.spectral_gap
    return (1 - gap) ** 2 * (4 * a.zeta2 / gap**2 + 2 * a.sigma2 / gap)


def drift(a):
    tau = a.local_steps
    return 2 * a.sigma2 * (tau - 1) + 4 / 3 * a.zeta2 * (tau - 1) * (2 * tau - 1)


def choco_step(a):
    rho, beta = a.spectral_gap, a.beta
    return rho * a.delta / (16 * rho + rho**2 + 4 * beta**2 + 2 * rho * beta**2 - 8 * rho * a.delta)


def flatness(a):
    """Foret et al. 2021, theorem 2."""
    k, n = a.k, a.n
    root = k * log(1 + a.w2 / a.rho**2 * (1 + sqrt(log(n) / k)) ** 2) + 4 * log(n / a.delta) + 8 * log(6 * n + 3 * k)
    return a.worst_loss + sqrt(root / (n - 1))


def flatness_sharp(a):
    k, n, sigma = a.k, a.n, a.rho / (sqrt(a.k) + sqrt(log(a.n)))
    root = k / 4 * log(1 + a.w2 / (k * sigma**2)) + 1 / 4 + log(n / a.delta) / 2 + log(6 * n + 3 * k)
    return a.worst_loss + (1 - a.worst_loss) / sqrt(n) + sqrt(root / (n - 1))


def stich(a):
    """Stich 2019, Theorem 2.2, with a = shift, T steps, S_T = sum (a + t)^2."""
    T, a_, S = a.steps, a.shift, sum((a.shift + t) ** 2 for t in range(a.steps))
    noise = 4 * T * (T + 2 * a_) / (a.mu * S) * a.sigma2 / a.n_nodes
    return a.mu * a_**3 / (2 * S) * a.R**2 + noise + 256 * T / (a.mu**2 * S) * a.G2 * a.local_steps**2 * a.L


def risk(a):
    if a.t == 0:
        return sum(a.losses) / len(a.losses)
    return log(sum(exp(a.t * l) for l in a.losses) / len(a.losses)) / a.t


def markov(a):
    m = min(a.losses)
    if a.t == 0:
        return m + (risk(a) - m) / (1 - a.q)
    return m + log(1 + (exp(a.t * (risk(a) - m)) - 1) / (1 - a.q)) / a.t


def columns(a):
    return sum(sqrt(sum(row[i] ** 2 for row in a.gradients)) for i in range(2))


def unbiased(a):
    return (1 + a.omega) * a.sigma2 + a.omega * a.zeta2


#: Guarantee -> value, step size (None: it is the argument lr, or there is none).
STATEMENTS = {
    # One node.
    "gd_convex": (lambda a: a.L * a.R**2 / (4 * a.steps * a.lr * a.L + 2), None),
    "gd_strongly_convex": (lambda a: max(1 - a.lr * a.mu, a.lr * a.L - 1) ** a.steps * a.R, None),
    "gd_pl": (lambda a: (1 - 2 * a.mu * a.lr + a.mu * a.L * a.lr**2) ** a.steps * a.delta0, None),
    "gd_best_iterate": (lambda a: 4 * a.L * a.delta0 / (3 * a.steps + 2), lambda a: 1 / a.L),
    "sgd_bound": (
        lambda a: 2 * a.L * a.delta0 / a.steps + sqrt(8 * a.L * a.delta0 * a.sigma2 / (a.batch_size * a.steps)),
        lambda a: 1 / (a.L + sqrt(a.steps * a.L * a.sigma2 / (2 * a.delta0 * a.batch_size))),
    ),
    "sgd_bound_at": (
        lambda a: 2 * a.delta0 / (a.lr * a.steps) + a.L * a.lr * a.sigma2 / a.batch_size,
        None,
    ),
    "sgd_bound_sharp": (
        lambda a: (2 * a.delta0 / (a.lr * a.steps) + a.L * a.lr * a.sigma2 / a.batch_size) / (2 - a.L * a.lr),
        None,
    ),
    "sgd_pl": (
        lambda a: (1 - a.lr * a.mu) ** a.steps * a.delta0 + a.L * a.lr * a.sigma2 / (2 * a.mu),
        None,
    ),
    "sgd_convex": (lambda a: (a.R**2 + a.G2 * sum(l**2 for l in a.lr)) / (2 * sum(a.lr)), None),
    "sgd_strongly_convex": (
        lambda a: (1 - a.lr * a.mu) ** a.steps * a.R**2 + 2 * a.lr * a.sigma2_opt / a.mu,
        None,
    ),
    "hb_bound": (
        lambda a: (1 + (1 + rate(a)) * a.steps) * rate(a) ** a.steps * a.R,
        lambda a: 4 / (sqrt(a.L) + sqrt(a.mu)) ** 2,
    ),
    "nag_convex": (lambda a: 2 * a.L * a.R**2 / ((a.steps + 2) * (a.steps + 3)), lambda a: 1 / a.L),
    "nag_strongly_convex": (
        lambda a: (1 - sqrt(a.mu / a.L)) ** a.steps * (a.delta0 + a.mu * a.R**2 / 2),
        lambda a: 1 / a.L,
    ),
    "newton_bound": (lambda a: a.M * a.r**2 / 2 / (a.mu - a.M * a.r), lambda a: 1),
    "conjugate_gradients": (
        lambda a: a.R / chebyshev(a.steps, (a.L + a.mu) / (a.L - a.mu)) if a.mu < a.L else 0,
        lambda a: 1,
    ),
    "adagrad_regret": (lambda a: sqrt(2) * a.D_inf * columns(a), lambda a: a.D_inf / sqrt(2)),
    "linear_scaling_error": (lambda a: a.lr**2 * a.L * a.G * sum(range(a.steps)), None),
    "flatness_bound": (flatness, None),
    "flatness_bound_sharp": (flatness_sharp, None),
    "away_from_mean": (lambda a: a.t * a.spread**2 / 8, None),
    "away_from_extreme": (lambda a: log(a.n) / a.t, None),
    "smoothness": (lambda a: a.L + a.t * a.G**2, lambda a: 1 / (a.L + a.t * a.G**2)),
    "quantile_bound": (markov, None),
    "superquantile_bound": (lambda a: risk(a) - log(1 - a.q) / a.t, None),
    "tune_step": (
        lambda a: tuned(a.r0, a.b, a.e, a.d, a.steps),
        lambda a: tuned_step(a.r0, a.b, a.e, a.d, a.steps),
    ),
    # Many nodes.
    "unbiased_bound_at": (
        lambda a: 2 * a.delta0 / (a.lr * a.steps) + a.L * a.lr * unbiased(a) / a.n_nodes,
        None,
    ),
    "unbiased_bound": (
        lambda a: (
            2 * a.L * (1 + a.omega / a.n_nodes) * a.delta0 / a.steps
            + sqrt(8 * a.L * a.delta0 * unbiased(a) / (a.n_nodes * a.steps))
        ),
        lambda a: (
            1 / (a.L * (1 + a.omega / a.n_nodes) + sqrt(a.steps * a.L * unbiased(a) / (2 * a.n_nodes * a.delta0)))
        ),
    ),
    "ef_memory": (lambda a: memory(a) * a.lr**2 * a.G2, None),
    "memory_bound_at": (
        lambda a: (
            (2 * a.delta0 / (a.lr * a.steps) + a.L * a.lr * a.sigma2 / a.n_nodes + a.L**2 * a.memory2)
            / (1 - a.L * a.lr)
        ),
        None,
    ),
    "ef_bound_at": (
        lambda a: (
            (2 * a.delta0 / (a.lr * a.steps) + a.L * a.lr * a.sigma2 / a.n_nodes + a.L**2 * memory(a) * a.lr**2 * a.G2)
            / (1 - a.L * a.lr)
        ),
        None,
    ),
    "ef_bound": (
        lambda a: (
            sqrt(32 * a.L * a.delta0 * a.sigma2 / (a.n_nodes * a.steps))
            + 2 * (32 * a.L**2 * a.delta0**2 * a.G2 * memory(a) / a.steps**2) ** (1 / 3)
            + 8 * a.L * a.delta0 / a.steps
        ),
        lambda a: tuned_step(
            4 * a.delta0, 2 * a.L * a.sigma2 / a.n_nodes, 2 * a.L**2 * a.G2 * memory(a), 2 * a.L, a.steps
        ),
    ),
    "local_drift_bound": (lambda a: a.lr**2 * drift(a), None),
    "local_sgd_bound": (
        lambda a: 2 * a.delta0 / (a.lr * a.steps) + a.L * a.lr * a.sigma2 / a.n_nodes + a.L**2 * a.lr**2 * drift(a),
        None,
    ),
    "local_sgd_tuned": (
        lambda a: tuned(*local_tuning(a)),
        lambda a: tuned_step(*local_tuning(a)),
    ),
    "local_sgd_strongly_convex": (stich, lambda a: [4 / (a.mu * (a.shift + t)) for t in range(a.steps)]),
    "consensus_bound": (lambda a: a.lr**2 * apart(a), None),
    "dsgd_bound": (
        lambda a: 2 * a.delta0 / (a.lr * a.steps) + a.L * a.lr * a.sigma2 / a.n_nodes + a.L**2 * a.lr**2 * apart(a),
        None,
    ),
    "dsgd_tuned": (lambda a: tuned(*gossip_tuning(a)), lambda a: tuned_step(*gossip_tuning(a))),
    "choco_gossip_bound_at": (
        lambda a: (1 - a.consensus_lr * a.spectral_gap / 2) ** a.steps * a.e0,
        lambda a: a.consensus_lr,
    ),
    "choco_gossip_bound": (lambda a: (1 - choco_step(a) * a.spectral_gap / 2) ** a.steps * a.e0, choco_step),
    "async_bound": (
        lambda a: 2 * a.delta0 / (a.lr * a.steps) + a.L * a.lr * a.sigma2 + 2 * a.L**2 * a.lr**2 * a.delay * a.sigma2,
        None,
    ),
    "async_tuned": (
        lambda a: (
            sqrt(8 * a.L * a.delta0 * a.sigma2 / a.steps)
            + 2 * (2 * a.L**2 * a.delay * a.sigma2) ** (1 / 3) * (2 * a.delta0 / a.steps) ** (2 / 3)
            + 2 * max(1, 2 * a.delay) * a.L * a.delta0 / a.steps
        ),
        lambda a: tuned_step(
            2 * a.delta0, a.L * a.sigma2, 2 * a.L**2 * a.delay * a.sigma2, a.L * max(1, 2 * a.delay), a.steps
        ),
    ),
    "delay_noise_bound": (
        lambda a: a.lr * a.sigma2 / (2 * a.eigenvalue) / (1 - a.lr * a.eigenvalue * (a.delay + 1 / 2)),
        None,
    ),
    "robust_gd_bound": (lambda a: 2 * a.delta0 / (a.lr * a.steps) + a.kappa * a.zeta2, None),
}


def local_tuning(a):
    d = a.L * max(1, 2 * sqrt(a.local_steps * (a.local_steps - 1)))
    return 2 * a.delta0, a.L * a.sigma2 / a.n_nodes, a.L**2 * drift(a), d, a.steps


def gossip_tuning(a):
    d = a.L * max(1, 2 * (1 - a.spectral_gap) / a.spectral_gap)
    return 2 * a.delta0, a.L * a.sigma2 / a.n_nodes, a.L**2 * apart(a), d, a.steps


@pytest.mark.parametrize("name", GUARANTEES)
def test_value_and_step_size_are_those_of_the_source(name):
    value, step = STATEMENTS[name]
    a = SimpleNamespace(**{key: given for key, (_, given) in point(GUARANTEES[name]).items()})
    found = at(GUARANTEES[name])
    assert found.value == pytest.approx(value(a), rel=1e-11)
    if step is not None:
        np.testing.assert_allclose(found.stepsize, step(a), rtol=1e-12)
    elif "lr" in vars(a):
        np.testing.assert_array_equal(found.stepsize, a.lr)


#: Where the ranges of arguments end: no noise, no delay, one node, one step, no step, no compression, mu = L, ...
ENDS = {
    **dict.fromkeys(
        ("sigma2", "zeta2", "G2", "memory2", "sigma2_opt", "omega", "kappa", "w2", "e0", "r", "b", "e"), (0,)
    ),
    **dict.fromkeys(("delta0", "R", "spread", "G", "L", "t", "q"), (0,)),
    **dict.fromkeys(("n_nodes", "local_steps", "batch_size", "k", "spectral_gap", "delta"), (1,)),
    **{"steps": (0, 1), "delay": (0, 1), "n": (1, 2), "beta": (0, 2), "mu": (2.3,), "smoothness": (0.7,)},
    **{"training_loss": (0, 0.19), "worst_loss": (0.11, 1)},
}
LINEAR = ("gd_strongly_convex", "gd_pl", "hb_bound", "nag_strongly_convex", "conjugate_gradients", "sgd_pl")
LINEAR += ("sgd_strongly_convex", "choco_gossip_bound_at", "choco_gossip_bound", "gd_convex", "gd_best_iterate")
#: The guarantees whose range contains this end, where not all do.
CLOSED = {
    ("L", 0): ("smoothness",),
    ("G", 0): ("smoothness",),
    ("steps", 0): LINEAR,
    ("delta0", 0): ("gd_pl", "sgd_pl", "nag_strongly_convex"),
    ("R", 0): ("nag_strongly_convex", "sgd_strongly_convex", "local_sgd_strongly_convex"),
    ("G2", 0): ("ef_memory", "ef_bound_at", "ef_bound", "local_sgd_strongly_convex"),
    ("t", 0): ("away_from_mean", "smoothness", "quantile_bound"),
    ("n", 1): ("away_from_extreme",),
    ("delta", 1): ("ef_memory", "ef_bound_at", "ef_bound", "choco_gossip_bound_at", "choco_gossip_bound"),
}
AT_ENDS = [(n, key, end) for n, f in GUARANTEES.items() for key in point(f) for end in ENDS.get(key, ())]


@pytest.mark.parametrize(("name", "argument", "end"), AT_ENDS)
def test_statements_hold_at_the_ends_of_ranges(name, argument, end):
    value, step = STATEMENTS[name]
    a = SimpleNamespace(**{key: given for key, (_, given) in point(GUARANTEES[name]).items()} | {argument: end})
    if name not in CLOSED.get((argument, end), [name]):
        with pytest.raises(ValueError, match=f"{argument} must|needs {argument}"):
            at(GUARANTEES[name], **{argument: end})
        return
    found = at(GUARANTEES[name], **{argument: end})
    assert found.value == pytest.approx(value(a), rel=1e-11, abs=1e-300)
    if step is not None:
        np.testing.assert_allclose(found.stepsize, step(a), rtol=1e-12)


@pytest.mark.parametrize("name", [n for n, f in GUARANTEES.items() if n.endswith(("_tuned", "ef_bound", "tune_step"))])
@pytest.mark.parametrize("steps", [1, 10**4, 10**8])
def test_each_candidate_of_a_tuned_step_is_met(name, steps):
    """Few steps take the largest step, more the one against drift, most that against noise."""
    a = SimpleNamespace(**{key: given for key, (_, given) in point(GUARANTEES[name]).items()} | {"steps": steps})
    assert at(GUARANTEES[name], steps=steps).stepsize == pytest.approx(STATEMENTS[name][1](a), rel=1e-12)
