"""How iterates move: momentum and its damping (lecture 04), schedules (06), Newton's method (03)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, to_rgba
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from optcourse.arguments import choice, integer, positive, real
from optcourse.landscape.newton import newton
from optcourse.optim import schedules
from optcourse.plotting import COLORS, contour, figure, path, theory
from optcourse.problems import BoundedSaddle, Quadratic
from optcourse.theory import momentum as momentum_theory
from optcourse.theory import quadratic
from optcourse.training import simulate

#: The bowl is drawn on this window, and every path starts here.
WINDOW, START = ((-1.1, 1.1), (-1.1, 1.1)), (-1.0, 0.8)


def momentum_figure(lr: float, momentum: float, kappa: float, *, steps: int = 60) -> Figure:
    r"""Heavy ball on :math:`\frac12(x_1^2/\kappa + x_2^2)`: its path, and its rate among all rates.

    Left, ``steps`` iterates beside those of gradient descent with the same ``lr``. Right, the
    steps that one more digit takes, by ``theory.momentum.hb_radius`` (the worse of both eigenvalues), over the
    plane of step size and momentum: white where the iteration diverges, this setting and the best one marked.

    ``lr`` in (0, 4), in units of 1/L; ``momentum`` in [0, 1); ``kappa`` = L/mu >= 1. Raises ``ValueError`` otherwise.
    """
    real("lr", lr, 0, 4, open_low=True, open_high=True)
    real("momentum", momentum, 0, 1, open_high=True)
    real("kappa", kappa, 1)
    integer("steps", steps, 1)
    bowl = Quadratic([1 / kappa, 1.0])
    fig, (left, right) = figure(ncols=2, height=4.2)
    _draw_paths(left, bowl, lr, momentum, steps)
    _draw_rates(right, bowl, lr, momentum)
    return fig


def _draw_paths(ax: Axes, bowl: Quadratic, lr: float, momentum: float, steps: int) -> None:
    contour(ax, bowl.value, WINDOW, levels=20)
    for name, beta, color in (("gradient descent", 0.0, "red"), ("heavy ball", momentum, "blue")):
        points = simulate.heavy_ball(bowl, START, lr=lr, momentum=beta, steps=steps)
        path(ax, points, label=name, color=COLORS[color], linewidth=1.2, alpha=0.8)
    ax.set_xticks([-1, -0.5, 0, 0.5, 1])
    ax.set_title(f"{steps} steps, γ = {lr:.3g}/L, β = {momentum:.3g}, κ = {bowl.L / bowl.mu:.3g}")
    ax.legend(loc="lower right")


def _draw_rates(ax: Axes, bowl: Quadratic, lr: float, momentum: float) -> None:
    lrs, betas = np.meshgrid(np.linspace(0.02, 3.98, 200), np.linspace(0, 0.995, 200))
    rates = _slowest_factor(bowl, lrs, betas)
    steps_per_digit = -1 / np.log10(np.where((rates > 0) & (rates < 1), rates, np.nan))
    image = ax.pcolormesh(lrs, betas, steps_per_digit, cmap="viridis_r", norm=LogNorm(1, 1000))
    ax.figure.colorbar(image, ax=ax, label="steps per digit", extend="both")
    best = momentum_theory.hb_parameters(mu=bowl.mu, L=bowl.L)
    ax.plot(*best, "*", color=COLORS["red"], markersize=14, label="best for this κ")
    ax.plot(lr, momentum, "o", color="white", markeredgecolor=COLORS["black"], markersize=9, label="this setting")
    ax.set(xlim=(0, 4), ylim=(0, 1), xlabel="step size γL", ylabel="momentum β")
    ax.grid(False)
    here, without = (float(_slowest_factor(bowl, lr, beta)) for beta in (momentum, 0.0))
    ax.set_title(f"factor per step {here:.3f}, gradient descent {without:.3f}")
    ax.legend(loc="lower right")


def _slowest_factor(bowl: Quadratic, lr: np.ndarray | float, momentum: np.ndarray | float) -> np.ndarray:
    """The asymptotic factor per step of heavy ball in the eigendirection that contracts least; broadcasts."""
    lr, momentum = np.asarray(lr)[..., None], np.asarray(momentum)[..., None]
    return np.max(momentum_theory.hb_radius(eigenvalues=bowl.eigenvalues, lr=lr, momentum=momentum), axis=-1)


#: What the three kinds of motion of heavy ball look like, by the roots of z² − (1 + β − γλ)z + β.
MOTIONS = {
    "over-damped": "blue",
    "under-damped": "red",
    "alternating": "pink",
    "diverging": "black",
}


def motion_of(gamma_lambda: ArrayLike, momentum: ArrayLike) -> np.ndarray:
    r"""How heavy ball moves along an eigenvector: an index into ``MOTIONS``; broadcasts.

    Over-damped where both roots of :math:`z^2-(1+\beta-\gamma\lambda)z+\beta` are real and positive, up to the double
    root at :math:`\gamma\lambda=(1-\sqrt\beta)^2` (critical damping); under-damped where they are complex; alternating
    where they are real and negative, from :math:`(1+\sqrt\beta)^2` on; diverging from :math:`2(1+\beta)` on.

    ``gamma_lambda`` > 0, ``momentum`` in [0, 1). Raises ``ValueError`` otherwise.

    >>> [list(MOTIONS)[i] for i in motion_of([0.002, 0.1, 3.799, 4.0], 0.9)]
    ['over-damped', 'under-damped', 'alternating', 'diverging']
    """
    (step,) = positive(gamma_lambda=gamma_lambda)
    root = np.sqrt(real("momentum", momentum, 0, 1, open_high=True))
    borders = (1 - root) ** 2, (1 + root) ** 2, 2 * (1 + root**2)
    return (step > borders[0]).astype(int) + (step >= borders[1]) + (step >= borders[2])


def damping_figure(gamma_lambda: float, momentum: float, *, steps: int = 150) -> Figure:
    r"""One eigendirection of a quadratic as a damped oscillator: its kinds of motion, and three series of iterates.

    Left, the plane of γλ and β: the kinds of ``MOTIONS``, the curve of critical damping, and three settings with the
    given γλ: half the critical momentum, the critical one :math:`(1-\sqrt{\gamma\lambda})^2`, and ``momentum``.
    Right, ``steps`` iterates from 1 for each.

    ``gamma_lambda`` in (0, 1), ``momentum`` in [0, 1). Raises ``ValueError`` otherwise.
    """
    real("gamma_lambda", gamma_lambda, 0, 1, open_low=True, open_high=True)
    real("momentum", momentum, 0, 1, open_high=True)
    critical = (1 - gamma_lambda**0.5) ** 2
    kind = list(MOTIONS)[int(motion_of(gamma_lambda, momentum))]
    settings = (
        ("half the critical β", critical / 2, "blue", "-"),
        ("critical β", critical, "black", "--"),
        (f"your β: {kind}", momentum, "red", "-"),
    )
    fig, (left, right) = figure(ncols=2, height=4.0)
    _draw_motions(left)
    for name, beta, color, style in settings:
        points = simulate.heavy_ball(Quadratic([1.0]), [1.0], lr=gamma_lambda, momentum=beta, steps=steps)
        radius = momentum_theory.hb_radius(eigenvalues=1.0, lr=gamma_lambda, momentum=beta)
        label = f"{name}, β = {beta:.3g}: factor {radius:.3f}"
        right.plot(np.arange(integer("steps", steps, 1) + 1), points[:, 0], style, color=COLORS[color], label=label)
        left.plot(gamma_lambda, beta, "o", color=COLORS[color], markeredgecolor="white", markersize=9)
    right.axhline(0, color=COLORS["grey"], linewidth=1)
    right.set(xlabel="step", ylabel="x along the eigenvector", ylim=(-1.1, 1.9), title=f"γλ = {gamma_lambda:.3g}")
    right.legend(loc="upper right", fontsize=8)
    return fig


def _draw_motions(ax: Axes) -> None:
    """Which motion where: patches with their names, and the curve of critical damping."""
    steps, betas = np.meshgrid(np.geomspace(1e-3, 5, 400), np.linspace(0, 0.999, 400))
    tints = ListedColormap([to_rgba(COLORS[color], 0.18) for color in MOTIONS.values()])
    ax.pcolormesh(steps, betas, motion_of(steps, betas), cmap=tints, vmin=-0.5, vmax=3.5, rasterized=True)
    beta = betas[:, 0]
    theory(ax, (1 - np.sqrt(beta)) ** 2, beta, label="critical")
    places = ((0.0045, 0.3), (0.35, 0.6), (1.52, 0.1), (4.42, 0.5))
    for name, at in zip(MOTIONS, places, strict=True):
        upright = name in ("alternating", "diverging")
        ax.text(*at, name, ha="center", va="center", fontsize=8.5, rotation=90 if upright else 0)
    ax.set(xscale="log", xlim=(1e-3, 5), ylim=(0, 1), xlabel="γλ", ylabel="momentum β", title="How it moves")
    ax.set_xticks([1e-3, 1e-2, 1e-1, 1, 4], ["0.001", "0.01", "0.1", "1", "4"])
    ax.minorticks_off()
    ax.grid(False)
    ax.legend(loc="lower left")


#: Multipliers of the rate over a run of T steps, by the name on the slider; all divide the run by themselves.
SCHEDULES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "constant": lambda k, T: np.ones(len(k)),
    "warm-up": lambda k, T: schedules.warmup(k, steps=max(1, T // 5)),
    "step decay": lambda k, T: schedules.step_decay(k, every=-(-T // 4), factor=0.25),
    "exponential": lambda k, T: schedules.exponential(k, rate=0.01 ** (1 / T)),
    "triangular": lambda k, T: schedules.triangular(k, half_period=-(-T // 8)),
    "cosine": lambda k, T: schedules.cosine_restarts(k, period=T, low=0.001),
    "cosine with restarts": lambda k, T: schedules.cosine_restarts(k, period=-(-T // 4), low=0.001),
}


def schedule_figure(schedule: str, lr: float, sigma2: float, *, steps: int = 400) -> Figure:
    """SGD with a schedule on a noisy bowl with eigenvalues 1/20 and 1: the rate, and the exact mean loss.

    Left, the rate; right, E f - f* by ``theory.quadratic.expected_gap``, beside that of the constant rate ``lr``.

    ``schedule`` is a key of ``SCHEDULES``; ``lr``, its highest rate, in (0, 2), in units of 1/L; ``sigma2`` >= 0 is the
    variance of the gradient noise. Raises ``ValueError`` otherwise.
    """
    choice("schedule", schedule, SCHEDULES)
    real("lr", lr, 0, 2, open_low=True, open_high=True)
    real("sigma2", sigma2, 0)
    k = np.arange(integer("steps", steps, 1))
    bowl = Quadratic([0.05, 1.0], sigma2=sigma2)
    fig, (left, right) = figure(ncols=2)
    final = {}
    for name, color in (("constant", "grey"), (schedule, "blue")):
        rates = lr * SCHEDULES[name](k, steps)
        gap = quadratic.expected_gap(
            eigenvalues=bowl.eigenvalues, x0=[3.0, 3.0], noise_variances=bowl.noise_variances, lr=rates
        )
        left.plot(k, rates, color=COLORS[color], label=name)
        theory(right, np.arange(steps + 1), gap, color=COLORS[color], label=name)
        final[name] = gap[-1]
    left.set(xlabel="step", ylabel="γL", ylim=(0, None), title=f"rate: {schedule}")
    right.set(xlabel="step", ylabel="mean of f − f*", yscale="log", ylim=(1e-4, 10))
    right.set_title(f"after {steps} steps {final[schedule]:.3g}, constant {final['constant']:.3g}")
    right.legend(loc="upper right")
    return fig


def newton_figure(x: float, y: float, *, steps: int = 8) -> Figure:
    r"""Three ways down :math:`f(x, y) = \frac12x^2 + \cos y - 1` from (x, y): minima at y = ±π, saddle at 0.

    Left, paths of gradient descent (rate 1/2), Newton's method, and Newton's method with absolute eigenvalues and
    steps of at most 1. Right, f through the start along y, and the quadratic model there, whose stationary point is
    where Newton's step leads: its top where the curvature is negative.

    ``x`` in [-2, 2] and ``y`` in [-5, 5], the drawn region. Raises ``ValueError`` otherwise.
    """
    real("x", x, -2, 2)
    real("y", y, -5, 5)
    surface, start = BoundedSaddle(), torch.tensor([[float(x), float(y)]], dtype=torch.float64)
    saddle_free = newton(surface.value, start, steps=steps, absolute=True, floor=1e-3, longest=1.0)
    paths = {
        "gradient descent": simulate.gradient_descent(surface, [x, y], lr=0.5, steps=integer("steps", steps, 1)),
        "Newton": newton(surface.value, start, steps=steps)[:, 0].numpy(),
        "Newton with |λ|": saddle_free[:, 0].numpy(),
    }
    fig, (left, right) = figure(ncols=2, height=4.2)
    contour(left, surface.value, surface.region, levels=20)
    for (name, points), color in zip(paths.items(), ("grey", "red", "blue"), strict=True):
        path(left, points, label=name, color=COLORS[color], linewidth=1.2, alpha=0.8)
    left.set(xlim=surface.region[0], ylim=surface.region[1], xlabel="x", ylabel="y", title=f"{steps} steps")
    left.legend(loc="lower right")

    along = np.linspace(-5, 5, 201)
    slope, curvature = surface.gradient([x, y])[1], surface.hessian([x, y])[1, 1]
    model = surface.value([x, y]) + slope * (along - y) + curvature / 2 * (along - y) ** 2
    right.plot(along, surface.value(np.stack([np.full(201, float(x)), along], axis=-1)), label="f")
    theory(right, along, model, label="quadratic model at the start")
    right.plot(y, surface.value([x, y]), "o", color=COLORS["black"], label="start")
    target = paths["Newton"][1, 1]
    right.axvline(target, color=COLORS["red"], linewidth=1, label="Newton's step ends here")
    right.set(xlim=(-5, 5), ylim=(-3, 3), xlabel="y", ylabel="f")
    end = "bottom" if curvature > 0 else "top"
    right.set_title(f"curvature {curvature:.2f}: to the model's {end}, y = {target:.2f}")
    right.legend(loc="upper right", fontsize=8)
    return fig
