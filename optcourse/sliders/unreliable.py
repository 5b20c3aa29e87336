"""Nodes that are late, and nodes that lie: a delayed descent (lecture 18), rules under attack (lecture 19)."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from optcourse.arguments import choice, integer, real
from optcourse.nodes import Streams, aggregators, attacks
from optcourse.plotting import COLORS, figure, theory
from optcourse.theory import asynchrony, byzantine

#: The attacks that can be chosen, with their settings.
LIES = {
    "sign flip × 6": attacks.sign_flip(6.0),
    "inner product 0.1": attacks.inner_product(0.1),
    "inner product 1": attacks.inner_product(1.0),
    "inner product 3": attacks.inner_product(3.0),
    "ALIE": attacks.alie(),
    "mimic": attacks.mimic(0),
    "noise × 10": attacks.noise(10.0),
}
#: Nodes, the seed of what the honest ones send, and their mean.
N, SEED, MEAN = 20, 7, (1.5, 1.0)


def delay_figure(delay: int, lr: float, *, steps: int = 120) -> Figure:
    r"""Gradient descent on :math:`x^2/2` with constant delay :math:`\tau`: the roots that decide, and the run.

    Left, the roots of :math:`z^{\tau+1}-z^\tau+\gamma` in the unit circle, the limit of gamma in the title; right, x
    from :math:`x_k=1` for :math:`k\le0`, with the envelope that the largest root gives it (dashed).

    ``delay`` in 0..30, ``lr`` in (0, 2.2], ``steps`` >= 1. Raises ``ValueError`` otherwise.
    """
    tau = integer("delay", delay, 0, 30)
    gamma = real("lr", lr, 0, 2.2, open_low=True)
    integer("steps", steps, 1)
    x = [1.0] * (tau + 1)
    for _ in range(steps):
        x.append(x[-1] - gamma * x[-1 - tau])
    run = np.clip(x[tau:], -1e6, 1e6)  # what leaves the picture anyway
    roots = np.roots(np.r_[1, -1, np.zeros(tau)] + np.r_[np.zeros(tau + 1), gamma])
    limit = float(asynchrony.delay_max_step(eigenvalue=1.0, delay=tau))
    radius = asynchrony.delay_radius(eigenvalue=1.0, delay=tau, lr=gamma)
    fig, (left, right) = figure(ncols=2, height=4.0)
    turn = np.linspace(0, 2 * np.pi, 200)
    left.plot(np.cos(turn), np.sin(turn), color=COLORS["grey"], label="unit circle")
    left.plot(roots.real, roots.imag, "o", color=COLORS["blue"], label=f"the {tau + 1} roots")
    largest = roots[np.isclose(abs(roots), radius, rtol=1e-6)]
    left.plot(largest.real, largest.imag, "o", color=COLORS["red"], label="largest modulus")
    left.set(xlabel="real part", ylabel="imaginary part", aspect="equal", xlim=(-2, 2), ylim=(-1.3, 2.4))
    left.set_title(f"τ = {tau}: stable for γλ < {limit:.3f}")
    left.legend(loc="upper left", fontsize=9)
    right.plot(run, color=COLORS["blue"], label=f"γλ = {gamma:.3f}, {gamma / limit:.0%} of the limit")
    k = np.arange(steps + 1)
    theory(right, k, np.minimum(radius**k, 1e6), color=COLORS["red"], label="largest root to the power k")
    theory(right, k, -np.minimum(radius**k, 1e6), color=COLORS["red"], label="")
    right.set(xlabel="update k", ylabel="x", ylim=(-3, 4.5))
    right.set_title(f"factor per step {radius:.4f}: {'converges' if radius < 1 else 'does not converge'}")
    right.legend(loc="upper left", fontsize=9)
    return fig


def attack_figure(n_byzantine: int, attack: str, rule: str) -> Figure:
    r"""What 20 nodes send in the plane, f of which lie, and where a rule ends.

    Left, the vectors, the honest mean :math:`\bar x`, the rule's output, and the circle of radius
    :math:`\sqrt{\kappa V}` around :math:`\bar x` that its constant allows. Right, the distance from :math:`\bar x` in
    units of :math:`\sqrt V` for every rule (bars), and what its constant allows (marks; none where kappa is infinite).

    ``n_byzantine`` in 0..9, ``attack`` a key of ``LIES``, ``rule`` a name of ``aggregators.AGGREGATORS`` other than
    "krum_paper", which does not stand nine. Raises ``ValueError`` otherwise.
    """
    f = integer("n_byzantine", n_byzantine, 0, (N - 1) // 2)
    rules = {name: made for name, made in aggregators.AGGREGATORS.items() if name != "krum_paper"}
    choice("attack", attack, LIES)
    choice("rule", rule, rules)
    cloud = np.array(MEAN) + np.random.default_rng(SEED).standard_normal((N, 2))
    X = LIES[attack](torch.as_tensor(cloud), attacks.last_nodes(N, f), Streams("attack", SEED, range(N)))
    honest, lies = X[: N - f], X[N - f :]
    center = honest.mean(0)
    V = float((honest - center).square().sum(1).mean())
    allowed = {name: byzantine.kappa(rule=_bound(name), n_nodes=N, n_byzantine=f) ** 0.5 for name in rules}
    found = {name: made(X, f) for name, made in rules.items()}
    away = {name: float((z - center).norm()) / V**0.5 for name, z in found.items()}
    fig, (left, right) = figure(ncols=2, height=4.4)
    left.plot(*honest.T, "o", color=COLORS["blue"], markersize=4, label="honest")
    left.plot(*lies.T, "X", color=COLORS["red"], markersize=7, label="liars (some may lie outside)")
    left.plot(*center, "*", color=COLORS["black"], markersize=14, label="honest mean")
    left.plot(
        *found[rule], "D", color=COLORS["yellow"], markeredgecolor="black", markersize=9, label=rule.replace("_", " ")
    )
    if np.isfinite(allowed[rule]):
        turn, radius = np.linspace(0, 2 * np.pi, 200), allowed[rule] * V**0.5
        circle = [float(c) + radius * wave(turn) for c, wave in zip(center, (np.cos, np.sin), strict=True)]
        theory(left, *circle, color=COLORS["yellow"], label="allowed by κ")
    left.set(xlim=(-4, 5), ylim=(-3, 6.5), xlabel="first entry", ylabel="second entry", aspect="equal")
    left.set_title(f"{attack}, f = {f} of {N}")
    left.legend(loc="upper left", fontsize=8)
    place = np.arange(len(rules))
    bars = [COLORS["yellow"] if name == rule else COLORS["grey"] for name in rules]
    right.barh(place, list(away.values()), color=bars)
    right.plot(list(allowed.values()), place, "|", color=COLORS["black"], markersize=14, label="$\\sqrt{\\kappa}$")
    right.set_yticks(place, [name.replace("_", " ") for name in rules])
    right.set(xlabel="distance from the honest mean / √V", xlim=(0, 6))
    right.set_title(f"{rule.replace('_', ' ')}: {away[rule]:.2f}, allowed {allowed[rule]:.2f}")
    right.invert_yaxis()
    right.legend(loc="lower right")
    return fig


def _bound(rule: str) -> str:
    """The rule's name in ``theory.byzantine``: multi-Krum has the constant of Krum."""
    return "krum" if rule == "multi_krum" else rule
