"""Performance profiles of a field of methods (lecture 20)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from optcourse import ranking
from optcourse.arguments import real
from optcourse.measure import mean
from optcourse.plotting import COLORS, figure

#: How the first three methods and the last one are drawn; the others are grey.
STYLES = [("blue", "-"), ("red", "--"), ("green", "-."), ("black", ":")]


def profile_figure(times: ArrayLike, names: Sequence[str], *, tau_max: float = 4.0) -> Figure:
    """Left the performance profiles, right the scores with Student's t intervals over the seeds.

    ``times`` ``[seeds, problems, methods]`` as in :func:`optcourse.ranking.score`, at least two seeds; every seed of a
    problem is a race of its own. ``tau_max`` in (1, 16]. Raises ``ValueError`` otherwise, and for a wrong number of
    ``names``.
    """
    t = np.asarray(times)
    real("tau_max", tau_max, 1.0, 16.0, open_low=True)
    if t.ndim != 3 or t.shape[2] != len(names):
        raise ValueError(f"names must name the methods of times [seeds, problems, methods], got {len(names)}")
    scores = mean(ranking.score(t, tau_max))
    order = np.argsort(-scores.value, kind="stable")
    fig, (left, right) = figure(ncols=2, height=4.6)
    tau = np.linspace(1.0, tau_max, 301)
    curves = ranking.performance_profile(t.reshape(-1, t.shape[2]), tau)
    shown = dict(zip([*order[:3], order[-1]], STYLES, strict=False))
    for i in order[::-1]:
        color, line = shown.get(i, ("grey", "-"))
        strong = i in shown
        left.plot(
            tau,
            curves[i],
            drawstyle="steps-post",
            color=COLORS[color],
            linestyle=line,
            linewidth=2.0 if strong else 0.6,
            zorder=3 if strong else 1,
            label=names[i] if strong else None,
        )
    left.set(xlabel="τ: times the best of the race", ylabel="share of races", xlim=(1, tau_max), ylim=(0, 1.02))
    left.set_title("Within τ times the best")
    handles, labels = left.get_legend_handles_labels()
    left.legend(handles[::-1], labels[::-1], loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, fontsize=8)
    place = np.arange(len(names))[::-1]
    right.hlines(place, scores.low[order], scores.high[order], color=COLORS["grey"], linewidth=2)
    right.plot(scores.value[order], place, "o", color=COLORS["black"], markersize=5)
    right.set_yticks(place, [names[i] for i in order], fontsize=8)
    right.set(
        xlabel=f"mean height of the profile, τ ≤ {tau_max:.3g}", xlim=(-0.05, 1.05), title="Scores, 95 % intervals"
    )
    return fig
