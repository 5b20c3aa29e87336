"""What layers do to a signal: normalization (lecture 08), random weights (09)."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from optcourse.arguments import integer, real
from optcourse.models import norms
from optcourse.plotting import COLORS, figure, theory
from optcourse.theory import signal

#: Samples, channels and positions of the table in :func:`norms_figure`.
TABLE = (8, 8, 4)


def norms_figure(sample: int, channel: int, groups: int, ghost_size: int) -> Figure:
    """Which of the numbers x [8, 8, 4] one normalized number depends on, for the four kinds of normalization.

    Rows are samples, columns channels with four positions each. Coloured is where the gradient of the number at
    ``sample``, ``channel`` and the first position is not zero, by ``models.norms.normalize``.

    ``sample`` and ``channel`` in 0..7; ``groups`` and ``ghost_size`` divide 8. Raises ``ValueError`` otherwise.
    """
    samples, channels, positions = TABLE
    integer("sample", sample, 0, samples - 1)
    integer("channel", channel, 0, channels - 1)
    x = torch.randn(TABLE, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    fig, axes = figure(2, 2, height=2.5, sharex=True, sharey=True)
    for ax, norm in zip(axes.flat, norms.AXES, strict=True):
        y = norms.normalize(x, norm, groups=groups, ghost_size=ghost_size)
        (influence,) = torch.autograd.grad(y[sample, channel, 0], x)
        seen = (influence != 0).double()
        together = int(seen.sum())
        seen[sample, channel, 0] = 2
        ax.imshow(seen.flatten(1).numpy(), cmap=ListedColormap(["white", COLORS["sky"], COLORS["red"]]), aspect="auto")
        ax.set_xticks(np.arange(channels) * positions + positions / 2 - 0.5, range(channels))
        ax.set_yticks(range(samples))
        for edge in range(1, channels):
            ax.axvline(edge * positions - 0.5, color=COLORS["grey"], linewidth=1)
        for edge in range(1, samples):
            ax.axhline(edge - 0.5, color=COLORS["grey"], linewidth=0.3)
        ax.grid(False)
        ax.set_title(f"{norm}: {together} numbers together")
    for ax in axes[-1]:
        ax.set_xlabel(f"channel, {positions} positions each")
    for ax in axes[:, 0]:
        ax.set_ylabel("sample")
    return fig


def signal_figure(sigma_w2: float, sigma_b2: float, *, layers: int = 25) -> Figure:
    """A wide random tanh network: order or chaos, and what becomes of the correlation of two inputs.

    Left, the plane of initializations with lines of equal chi, by ``theory.signal.critical``, and this point; right,
    the correlations of five pairs of inputs through the layers, at the fixed length, by the correlation map.

    ``sigma_w2`` in (0, 6], ``sigma_b2`` in (0, 2], ``layers`` >= 1. Raises ``ValueError`` otherwise.
    """
    real("sigma_w2", sigma_w2, 0, 6, open_low=True)
    real("sigma_b2", sigma_b2, 0, 2, open_low=True)
    integer("layers", layers, 1)
    setting = {"sigma_w2": sigma_w2, "sigma_b2": sigma_b2, "activation": "tanh"}
    q = float(signal.fixed_point(**setting))
    slope = float(signal.chi(q=q, sigma_w2=sigma_w2, activation="tanh"))
    fig, (left, right) = figure(ncols=2, height=4.0)
    lengths = np.geomspace(1e-3, 12, 150)
    for chi, shade in zip((0.5, 0.8, 1.0, 1.25, 1.5), ("sky", "blue", "black", "yellow", "red"), strict=True):
        line = signal.critical(q=lengths, activation="tanh", chi=chi)
        theory(left, line.sigma_w2, line.sigma_b2, color=COLORS[shade], label=f"χ = {chi:g}")
    left.plot(sigma_w2, sigma_b2, "o", color=COLORS["green"], markeredgecolor=COLORS["black"], markersize=10)
    left.set(xlim=(0, 6), ylim=(0, 2), xlabel="$σ_w^2$", ylabel="$σ_b^2$")
    left.set_title(f"q* = {q:.3g}, χ = {slope:.3f}: {'chaos' if slope > 1 else 'order'}")
    left.legend(loc="upper left", fontsize=8)
    pairs = [np.array([-0.9, -0.4, 0.1, 0.6, 0.99])]
    for _ in range(layers):
        pairs.append(np.clip(signal.correlation_map(c=pairs[-1], q=q, **setting), -1, 1))
    for way in np.transpose(pairs):
        theory(right, np.arange(layers + 1), way, color=COLORS["green"], label=f"from {way[0]:g}")
    right.set(xlabel="layer", ylabel="correlation of two inputs", ylim=(-1, 1.05))
    scale = signal.depth_scales(sigma_w2=sigma_w2, sigma_b2=sigma_b2).correlation
    right.set_title(f"ξ = {scale:.3g} layers; 0.99 becomes {pairs[-1][-1]:.3f}")
    return fig
