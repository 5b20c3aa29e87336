"""What a larger batch buys: steps, examples and the best learning rate (lecture 13)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from optcourse.arguments import real
from optcourse.plotting import COLORS, figure, theory
from optcourse.theory import batch

#: Batch sizes that are drawn.
RANGE = (1.0, 2.0**16)


def batch_figure(batch_size: float, noise_scale: float) -> Figure:
    """Left, steps and examples to a goal against the batch size; right, one against the other, the price curve.

    In units of their minima, by ``theory.batch.steps_and_examples``; the setting and the critical batch size, which is
    the noise scale, are marked. The title of the left says which share of the highest useful rate is best.

    ``batch_size`` and ``noise_scale`` in [1, 65536]. Raises ``ValueError`` otherwise.
    """
    real("batch_size", batch_size, *RANGE)
    real("noise_scale", noise_scale, *RANGE)
    sizes = np.geomspace(*RANGE, 200)
    setting = {"noise_scale": noise_scale, "min_steps": 1.0}
    S, E = batch.steps_and_examples(batch_size=sizes, **setting)
    here_S, here_E = batch.steps_and_examples(batch_size=batch_size, **setting)
    fig, (left, right) = figure(ncols=2)
    theory(left, sizes, S, color=COLORS["blue"], label="steps / fewest")
    theory(left, sizes, E / noise_scale, color=COLORS["red"], linestyle="-.", label="examples / fewest")
    left.axvline(noise_scale, color=COLORS["grey"], linestyle=":", label="critical batch size")
    left.plot([batch_size] * 2, [here_S, here_E / noise_scale], "o", color=COLORS["black"], label=f"B = {batch_size:g}")
    left.set(xscale="log", yscale="log", xlabel="batch size B", ylabel="multiple of the minimum")
    left.set_title(f"best rate: {100 / here_S:.3g} % of the full batch's")
    left.legend(loc="best", fontsize=8)
    theory(right, E / noise_scale, S, color=COLORS["blue"], label="(S/S_min − 1)(E/E_min − 1) = 1")
    right.plot(2, 2, "*", color=COLORS["grey"], markersize=13, label="critical batch size")
    right.plot(here_E / noise_scale, here_S, "o", color=COLORS["black"], label=f"B = {batch_size:g}")
    right.set(xscale="log", yscale="log", xlabel="examples / fewest: what it costs", ylabel="steps / fewest: how long")
    far = max(200.0, 2 * here_S, 2 * here_E / noise_scale)  # one number: the curve stays symmetric, the point inside
    right.set(xlim=(0.8, far), ylim=(0.8, far))
    right.set_title(f"{here_S:.3g} times the steps, {here_E / noise_scale:.3g} the examples")
    right.legend(loc="upper right")
    return fig
