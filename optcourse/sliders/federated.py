"""Local steps on different data: how far two nodes drift, and where FedAvg ends (lecture 16)."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch
from matplotlib.figure import Figure

from optcourse.arguments import integer, real
from optcourse.nodes import Network, local_sgd
from optcourse.plotting import COLORS, contour, figure, theory
from optcourse.problems import QuadraticNodes
from optcourse.theory import local

#: The two nodes: curvatures, and where their minimizers lie when the heterogeneity is 1.
NODES = {"a": np.array([[1.0, 0.2], [0.2, 1.0]]), "b": np.array([[1.5, -0.5], [-0.5, 1.5]])}
LR, ROUNDS, START = 0.3, 40, (-1.8, -1.8)


def local_steps_figure(local_steps: int, heterogeneity: float) -> Figure:
    r"""FedAvg with two nodes, f_i(x) = (x - h b_i)^T diag(a_i) (x - h b_i)/2 with h = ``heterogeneity``, without noise.

    Left, the ways of both nodes in the first six rounds, their averages, the minimizer of f and the fixed point of
    ``theory.local.fedavg_fixed_point``. Right, f - min f after each of 40 averages, for ``local_steps`` and for one
    local step, and what is left at the fixed point. The titles give the distance of that point and its f - min f.

    ``local_steps`` in 1..100, ``heterogeneity`` in [0, 2]. Raises ``ValueError`` otherwise.
    """
    tau = integer("local_steps", local_steps, 1, 100)
    h = float(real("heterogeneity", heterogeneity, 0, 2))
    problem = QuadraticNodes(NODES["a"], h * NODES["b"])

    def run(tau: int, rounds: int) -> np.ndarray:
        """The nodes after each step, [steps + 1, 2, 2]."""
        start = torch.tensor([START, START], dtype=torch.float64)
        iterates = local_sgd(Network(2), problem.node_gradient, start, LR, local_steps=tau)
        return np.stack([start, *islice(iterates, rounds * tau)])

    def gap(x: np.ndarray) -> np.ndarray:
        return problem.value(x) - problem.value(problem.minimizer)

    steps = run(tau, ROUNDS)
    averages = steps[::tau, 0]
    pulls = {"curvatures": np.stack([np.diag(a) for a in NODES["a"]]), "centers": h * NODES["b"]}
    end = np.asarray(local.fedavg_fixed_point(**pulls, local_steps=tau, lr=LR))
    away, left_over = np.linalg.norm(end - problem.minimizer), max(float(gap(end)), 0.0)
    fig, (left, right) = figure(ncols=2, height=4.0)
    contour(left, problem.value, ((-2.2, 3.2), (-2.2, 3.2)), levels=15)
    for i, color in enumerate(("blue", "red")):
        for r in range(6):
            way = steps[r * tau : (r + 1) * tau, i]
            way = np.vstack([way, way[-1] - LR * NODES["a"][i] * (way[-1] - h * NODES["b"][i])])  # before the average
            left.plot(*way.T, color=COLORS[color], linewidth=1.2, label=f"node {i}" if r == 0 else None)
            left.plot(*np.stack([way[-1], averages[r + 1]]).T, ":", color=COLORS[color], linewidth=0.8)
        left.plot(*(h * NODES["b"][i]), "x", color=COLORS[color], markersize=9, label=f"minimizer of node {i}")
    left.plot(*averages[:7].T, "o", color=COLORS["black"], markersize=4, label="averages")
    left.plot(*np.asarray(problem.minimizer), "*", color=COLORS["green"], markersize=14, label="minimizer of f")
    left.plot(*end, "D", color=COLORS["yellow"], markersize=7, label="where FedAvg ends")
    left.set(title=f"FedAvg ends {away:.3g} from the minimizer")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, fontsize=8)
    for t, color in ((1, "grey"), (tau, "blue")):
        right.plot(np.maximum(gap(run(t, ROUNDS)[::t, 0]), 1e-16), color=COLORS[color], label=f"τ = {t}")
    if left_over > 1e-15:
        theory(right, [0, ROUNDS], [left_over] * 2, label="at the fixed point")
    right.set(yscale="log", ylim=(1e-8, 20), xlabel="averages", ylabel="f − min f of the average")
    right.set_title(f"left over: {left_over:.2g}")
    right.legend(loc="upper right")
    return fig
