"""The strip of lecture 05: every optimizer on the same valley and the same digits, drawn on the same axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from optcourse import optim
from optcourse.arguments import integer
from optcourse.plotting import COLORS, band, contour, figure, path
from optcourse.problems import Quadratic
from optcourse.training import copies

#: The valley: curvatures 1/25 and 1, turned by 0.4 radians against the axes. All paths start at ``START``.
_TURN = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])  # columns: along, across
VALLEY = Quadratic([0.04, 1.0], rotation=_TURN)
START, WINDOW = _TURN @ [-1.0, 0.5], ((-1.35, 0.65), (-0.75, 0.65))
#: Every method chooses from the same rates, for the valley and for the network.
RATES = 10.0 ** np.arange(-3.5, 1.1, 0.5)
#: The steps of a track: in the valley, and of the network.
WALK, LEARN = 60, 200


class Track(NamedTuple):
    """One method on the strip, at its best rate of ``RATES`` for each of the two tasks."""

    #: Its path ``[WALK + 1, 2]`` in the valley, and the rate: the lowest mean height of the last ten points.
    path: np.ndarray
    valley_rate: float
    #: Its mini-batch losses ``[nets, LEARN]``, and the rate: the lowest mean loss of the last 20 steps.
    losses: np.ndarray
    rate: float


def track(
    method: Any,
    nets: Sequence[nn.Module],
    samples: tuple[Tensor, Tensor],
    *,
    orders: Sequence[int],
    new_step: Callable[..., Callable[[Tensor, Tensor], Tensor]] = optim.stepper,
    valley_step: Callable[..., Callable[[Tensor, Tensor], Tensor]] | None = None,
    batch_size: int = 32,
    **settings: Any,
) -> Track:
    """Walk through the valley and train the networks with ``method`` at every rate; keep the best of each.

    ``method``, ``settings`` and ``new_step`` as in :func:`optcourse.training.copies.train`, which the networks, their
    ``samples`` (x, y), ``orders`` and ``batch_size`` go to; ``valley_step`` (default ``new_step``) makes the step in
    the valley. A loss that is not finite, or above that of guessing, counts as guessing. Raises as ``copies.train``.
    """
    path_at = []
    lr = torch.from_numpy(RATES)[:, None]
    step, x = (valley_step or new_step)(method, lr=lr, **settings), torch.from_numpy(START).repeat(len(lr), 1)
    for _ in range(WALK + 1):
        path_at.append(x.numpy().copy())
        x = step(x, VALLEY.gradient(x))
    walks = np.stack(path_at, axis=1)  # [rates, steps, 2]
    with np.errstate(over="ignore", invalid="ignore"):
        low = int(np.nan_to_num(VALLEY.value(walks[:, -10:]).mean(1), nan=np.inf).argmin())

    table = np.tile(RATES, (LEARN, 1))
    options = {"orders": orders, "batch_size": batch_size, "new_step": new_step}
    found = copies.train(nets, samples, method, table, **options, **settings).losses
    guess = np.log(integer("classes", int(samples[1].max()) + 1, 2))
    losses = np.minimum(np.nan_to_num(found, nan=guess, posinf=guess), guess)
    best = int(losses[-20:].mean((0, 2)).argmin())
    return Track(walks[low], float(RATES[low]), losses[:, best].T, float(RATES[best]))


def strip_figure(tracks: Mapping[str, Track]) -> Figure:
    """Left, the paths through the valley; right, the networks' losses, averaged over ten steps; always the same axes.

    The first of ``tracks`` is the reference, in grey. Raises ``ValueError`` for none, or more than four.
    """
    colors = ("grey", "blue", "red", "green")
    if not 1 <= len(tracks) <= len(colors):
        raise ValueError(f"tracks must hold 1 to {len(colors)} methods, got {len(tracks)}")
    fig, (left, right) = figure(ncols=2, height=3.0)
    contour(left, VALLEY.value, WINDOW, levels=18)
    for (name, its), color in zip(tracks.items(), colors, strict=False):
        style: dict[str, Any] = {"color": COLORS[color], "label": f"{name}, lr {its.valley_rate:.2g}"}
        path(left, its.path, linewidth=1.2, alpha=0.8, **style)
        means = its.losses.reshape(len(its.losses), -1, 10).mean(2)
        band(right, 10 * np.arange(means.shape[1]) + 5, means, color=COLORS[color], label=f"{name}, lr {its.rate:.2g}")
    left.set(xlim=WINDOW[0], ylim=WINDOW[1], title=f"The valley, {WALK} steps")
    right.set(xlabel="step", ylabel="training loss (nats)", yscale="log", xlim=(0, LEARN), ylim=(0.005, 3))
    right.set_title("The digits")
    for ax in (left, right):
        ax.legend(fontsize=8, loc="upper right")
    return fig
