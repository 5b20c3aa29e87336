"""The condition of every guarantee: just inside it there is a bound, just outside an error that names the condition.

The limits are those of the statements, written once more; arguments are those of ``generic``.
"""

from math import sqrt

import pytest
from generic import at, guarantees, point

GUARANTEES = guarantees()
pytestmark = pytest.mark.topic("02.4", "02.5")


def choco(a):
    """Koloskova, Stich & Jaggi 2019, Theorem 2, with rho in place of rho^2 in the numerator."""
    rho, beta, delta = a["spectral_gap"], a["beta"], a["delta"]
    return rho * delta / (16 * rho + rho**2 + 4 * beta**2 + 2 * rho * beta**2 - 8 * rho * delta)


#: Guarantee, the argument that has a limit, the limit, what differs from the generic point.
AT_MOST = [
    ("gd_convex", "lr", lambda a: 1 / a["L"], {}),
    ("gd_strongly_convex", "lr", lambda a: 2 / a["L"], {}),
    ("gd_pl", "lr", lambda a: 2 / a["L"], {}),
    ("sgd_bound_at", "lr", lambda a: 1 / a["L"], {}),
    ("sgd_bound_sharp", "lr", lambda a: 2 / a["L"], {}),
    ("sgd_pl", "lr", lambda a: 1 / a["L"], {}),
    ("sgd_strongly_convex", "lr", lambda a: 1 / (2 * a["smoothness"]), {}),
    ("newton_bound", "r", lambda a: a["mu"] / a["M"], {}),
    ("async_bound", "lr", lambda a: 1 / (2 * a["L"] * a["delay"]), {}),
    ("async_bound", "lr", lambda a: 1 / a["L"], {"delay": 0}),
    ("delay_noise_bound", "lr", lambda a: 1 / (a["eigenvalue"] * (a["delay"] + 0.5)), {}),
    ("robust_gd_bound", "lr", lambda a: 1 / a["L"], {}),
    ("choco_gossip_bound_at", "consensus_lr", choco, {}),
    ("ef_bound_at", "lr", lambda a: 1 / a["L"], {}),
    ("memory_bound_at", "lr", lambda a: 1 / a["L"], {}),
    ("unbiased_bound_at", "lr", lambda a: 1 / (a["L"] * (1 + a["omega"] / a["n_nodes"])), {}),
    ("consensus_bound", "lr", lambda a: a["spectral_gap"] / (2 * (1 - a["spectral_gap"]) * a["L"]), {}),
    ("dsgd_bound", "lr", lambda a: a["spectral_gap"] / (2 * (1 - a["spectral_gap"]) * a["L"]), {}),
    ("dsgd_bound", "lr", lambda a: 1 / a["L"], {"spectral_gap": 0.7}),
    ("local_drift_bound", "lr", lambda a: 1 / (2 * a["L"] * sqrt(a["local_steps"] * (a["local_steps"] - 1))), {}),
    ("local_sgd_bound", "lr", lambda a: 1 / (2 * a["L"] * sqrt(a["local_steps"] * (a["local_steps"] - 1))), {}),
    ("local_sgd_bound", "lr", lambda a: 1 / a["L"], {"local_steps": 1}),
]
AT_LEAST = [
    ("nag_convex", "steps", lambda a: 1, {}),
    ("local_sgd_strongly_convex", "shift", lambda a: 16 * a["L"] / a["mu"], {}),
    ("local_sgd_strongly_convex", "shift", lambda a: a["local_steps"], {"local_steps": 80}),
]
UNCONDITIONAL = {
    *("adagrad_regret", "linear_scaling_error", "async_tuned", "choco_gossip_bound", "ef_bound", "ef_memory"),
    *("unbiased_bound", "dsgd_tuned", "local_sgd_tuned", "gd_best_iterate", "hb_bound", "nag_strongly_convex"),
    *("conjugate_gradients", "sgd_bound", "sgd_convex", "flatness_bound", "flatness_bound_sharp", "tune_step"),
    *("away_from_extreme", "away_from_mean", "quantile_bound", "smoothness", "superquantile_bound"),
}


@pytest.mark.parametrize(
    ("name", "argument", "limit", "changed", "outside"),
    [(*row, 1) for row in AT_MOST] + [(*row, -1) for row in AT_LEAST],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_just_inside_the_condition_holds_and_just_outside_it_fails(name, argument, limit, changed, outside):
    function = GUARANTEES[name]
    edge = limit({key: value for key, (_, value) in point(function).items()} | changed)
    assert at(function, **changed, **{argument: edge * (1 - outside * 1e-9)}).value > 0
    with pytest.raises(ValueError, match="needs"):
        at(function, **changed, **{argument: edge * (1 + outside * 1e-6)})


def test_every_guarantee_has_its_condition_or_none():
    """Far beyond the usual limits an unconditional one still answers."""
    assert {row[0] for row in AT_MOST + AT_LEAST} | UNCONDITIONAL == set(GUARANTEES)
    for name in UNCONDITIONAL:
        arguments = point(GUARANTEES[name])
        for argument in ("lr", "steps"):
            if argument in arguments and name != "sgd_convex":
                assert at(GUARANTEES[name], **{argument: 10**4}).value >= 0


#: The constant of smoothness beside mu; newton_bound has none.
SMOOTH = {name: ({"L", "smoothness"} & set(point(f))) for name, f in GUARANTEES.items() if "mu" in point(f)}


@pytest.mark.parametrize("name", sorted(set(SMOOTH) - {"newton_bound"}))
def test_mu_is_at_most_the_constant_of_smoothness(name):
    (smooth,) = SMOOTH[name]
    largest = point(GUARANTEES[name])[smooth][1]
    assert at(GUARANTEES[name], mu=largest).value >= 0
    with pytest.raises(ValueError, match=f"mu must be at most {smooth}"):
        at(GUARANTEES[name], mu=largest + 1e-4)


def test_a_squared_distance_is_never_negative():
    """mu = 10 above the smoothness 1 gave (1 - 5) R^2."""
    with pytest.raises(ValueError, match="mu must be at most smoothness, got mu = 10"):
        at(GUARANTEES["sgd_strongly_convex"], mu=10.0, smoothness=1.0, R=1.0, sigma2_opt=0.0, lr=0.5, steps=1)
