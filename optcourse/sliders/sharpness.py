"""What SAM sees and where it ends (lecture 11): the robust loss of two wells, the cycle across a ravine."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import maximum_filter1d

from optcourse.arguments import integer, real
from optcourse.plotting import COLORS, contour, figure, path, theory
from optcourse.problems import Quadratic
from optcourse.theory import sharpness

#: The wells: A is flat (depth 0.9, width 1.5), B deeper; and where they are.
FLAT, DEPTH_B, CENTERS = (0.9, 1.5), 1.0, (-3.0, 3.0)
#: Curvatures of the ravine, its window (larger where the path leaves it), and where every path starts.
CURVATURES, WINDOW, START = (4.0, 0.5), ((-0.8, 0.8), (-1.6, 1.6)), (0.6, 1.4)


def wells_figure(rho: float, width: float) -> Figure:
    r"""A flat well A and a deeper, sharper one B: the loss, the robust loss, and which of them is better.

    Left, :math:`\ell` and :math:`\ell^R(x) = \max_{|\varepsilon|\le\rho}\ell(x+\varepsilon)`. Right, both at the two
    bottoms over rho, with the radius where the preference swaps by ``theory.sharpness.swap_radius``.

    ``rho`` in [0, 1]; ``width`` of B in [0.05, 1]. Raises ``ValueError`` otherwise.
    """
    real("rho", rho, 0, 1)
    real("width", width, 0.05, 1)
    wells = {
        "depths": [FLAT[0], DEPTH_B],
        "centers": np.reshape(CENTERS, (2, 1)),
        "widths": [FLAT[1], width],
    }
    beyond = 1000  # points that are not drawn, a distance of 1 >= rho: the balls of the outermost drawn ones need them
    x = np.linspace(-8, 7, 15_001)
    loss = sharpness.noisy_wells(x=x[:, None], **wells)
    robust = maximum_filter1d(loss, 2 * round(rho / (x[1] - x[0])) + 1)
    x, loss, robust = x[beyond:-beyond], loss[beyond:-beyond], robust[beyond:-beyond]
    fig, (left, right) = figure(ncols=2)
    left.plot(x, loss, color=COLORS["blue"], label="loss $\\ell$")
    left.plot(x, robust, color=COLORS["red"], label="robust loss $\\ell^R$")
    for name, center in zip("AB", CENTERS, strict=True):
        left.annotate(name, (center, float(np.interp(center, x, loss))), (0, -11), textcoords="offset points")
    left.set(xlabel="parameter", ylabel="loss", ylim=(-0.12, 1.3), title=f"ρ = {rho:.2f}")
    left.legend(loc="upper left", ncols=2)
    radii = np.linspace(0, 1, 101)
    bottoms = []
    for name, center, color in zip("AB", CENTERS, ("green", "pink"), strict=True):
        around = sharpness.noisy_wells(x=(center + np.r_[-radii[::-1], radii])[:, None], **wells)
        rising = np.maximum.accumulate(np.maximum(around[100::-1], around[101:]))
        right.plot(radii, rising, color=COLORS[color], label=f"$\\ell^R$ at {name}")
        bottoms.append(float(np.interp(rho, radii, rising)))
    radius = sharpness.swap_radius(flat=FLAT, sharp=(DEPTH_B, width))
    theory(right, [radius, radius], [0, 1], label=f"swap at ρ = {radius:.3f}")
    right.plot([rho, rho], bottoms, "o", color=COLORS["black"], markersize=6)
    right.set(xlim=(0, 1), ylim=(-0.05, 1.4), xlabel="ρ", ylabel="robust loss at the bottom")
    right.set_title(f"A {bottoms[0]:.3f}, B {bottoms[1]:.3f}: {'A' if bottoms[0] < bottoms[1] else 'B'} is better")
    right.legend(loc="upper left", ncols=2)
    return fig


def cycle_figure(rho: float, lr: float, *, steps: int = 60) -> Figure:
    r"""SAM on :math:`2x_1^2 + x_2^2/4`: its path, and how far it stays from the minimum in both directions.

    Dashed, the amplitude u = :math:`\gamma\lambda\rho/(2-\gamma\lambda)` of ``theory.sharpness.sam_cycle`` along the
    steep direction; the flat one dies out. The title has the loss after the last step, and that of the cycle,
    :math:`\lambda u^2/2`, which small rates have not reached by then. ``rho`` in [0.01, 1]; ``lr`` in (0, 0.5), below
    2 / 4; ``steps`` >= 1. Raises ``ValueError`` otherwise.
    """
    real("rho", rho, 0.01, 1)
    real("lr", lr, 0, 0.5, open_low=True, open_high=True)
    integer("steps", steps, 1)
    bowl, xs = Quadratic(CURVATURES), [np.array(START)]
    for _ in range(steps):
        there = xs[-1] + sharpness.worst_perturbation(gradient=bowl.gradient(xs[-1]), rho=rho)
        xs.append(xs[-1] - lr * bowl.gradient(there))
    points = np.array(xs)
    amplitude = float(sharpness.sam_cycle(curvature=CURVATURES[0], rho=rho, lr=lr))
    fig, (left, right) = figure(ncols=2, height=4.0)
    reach = 1.1 * np.abs(points).max(0)
    across, along = np.maximum(reach, [high for _, high in WINDOW]).tolist()
    contour(left, bowl.value, ((-across, across), (-along, along)), levels=20)
    path(left, points, label="SAM", color=COLORS["blue"], linewidth=1, alpha=0.8)
    left.set_title(f"{steps} steps, ρ = {rho:.2f}, γ = {lr:.2f}")
    for i, (name, color) in enumerate((("steep", "blue"), ("flat", "green"))):
        right.plot(np.maximum(np.abs(points[:, i]), 1e-9), color=COLORS[color], label=f"$|x_{i + 1}|$, {name}")
    theory(right, [0, steps], [amplitude] * 2, label=f"γλρ/(2−γλ) = {amplitude:.3g}")
    right.set(yscale="log", xlabel="step", ylabel="distance from the minimum")
    right.set_ylim(1e-6, max(3, 2 * reach.max(), 2 * amplitude))
    cycle = CURVATURES[0] * amplitude**2 / 2
    right.set_title(f"loss after {steps} steps {bowl.value(points[-1]):.2g}, of the cycle {cycle:.2g}")
    right.legend(loc="lower left")
    return fig
