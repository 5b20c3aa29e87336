"""Slow and fast weights: what Lookahead does to every curvature of a noisy quadratic (lecture 10)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from optcourse.arguments import integer, real
from optcourse.plotting import COLORS, figure, theory
from optcourse.theory import lookahead

#: The curvatures that are drawn, in units of the largest.
CURVATURES = np.geomspace(0.01, 1, 200)


def lookahead_figure(lr: float, k: int, alpha: float) -> Figure:
    r"""Lookahead beside SGD at the same rate, and at the rate alpha lr, for curvatures a from 0.01 to 1.

    Left, the noise floor of the loss in each direction, a V / 2 with gradients a (x - c) and centres c of variance 1,
    by ``theory.lookahead.noise_floor``; right, the gradients that make the mean shrink e-fold, -k / ln|rho|, by
    ``contraction``, drawn at 0.1 where they are fewer (rho = 0 needs none). Curvatures where a method diverges are left
    out.

    ``lr`` in (0, 3), in units of 1 / largest curvature; ``k`` in 1..50; ``alpha`` in (0, 1]. Raises ``ValueError``
    otherwise.
    """
    real("lr", lr, 0, 3, open_low=True, open_high=True)
    integer("k", k, 1, 50)
    real("alpha", alpha, 0, 1, open_low=True)
    fig, (left, right) = figure(ncols=2, height=4.0)
    methods = (
        (f"SGD, rate {lr:.3g}", "red", ":", (lr, 1, 1.0)),
        (f"SGD, rate {alpha * lr:.3g}", "blue", "-.", (alpha * lr, 1, 1.0)),
        (f"Lookahead, rate {lr:.3g}", "green", "--", (lr, k, alpha)),
    )
    means, slowest = [], []
    for label, color, dashes, (rate, steps, share) in methods:
        setting = {"lr": rate, "k": steps, "alpha": share}
        stable = rate * CURVATURES < lookahead.stability_edge(k=steps, alpha=share)
        floor, pace = np.full((2, len(CURVATURES)), np.nan)
        if stable.any():
            a = CURVATURES[stable]
            floor[stable] = 0.5 * a * lookahead.noise_floor(eigenvalues=a, noise_variances=a**2, **setting)
            with np.errstate(divide="ignore"):  # a factor of zero: no gradient to wait for, and no log axis for it
                factor = np.abs(lookahead.contraction(eigenvalues=a, **setting))
                pace[stable] = np.maximum(-steps / np.log(factor), 0.1)
        theory(left, CURVATURES, floor, label=label, color=COLORS[color], linestyle=dashes)
        theory(right, CURVATURES, pace, label=label, color=COLORS[color], linestyle=dashes)
        means.append(_number(float(np.mean(floor))))
        slowest.append(_number(float(np.max(pace))))
    left.set(xscale="log", yscale="log", xlabel="curvature a", ylabel="noise floor of the loss, aV/2")
    right.set(xscale="log", yscale="log", xlabel="curvature a", ylabel="gradients per e-fold")
    left.set_title(f"mean floor {means[0]}, {means[1]}; Lookahead {means[2]}")
    right.set_title(f"slowest {slowest[0]}, {slowest[1]}; Lookahead {slowest[2]}")
    left.legend(loc="best")
    return fig


def _number(x: float) -> str:
    return f"{x:.3g}" if np.isfinite(x) else "∞"
