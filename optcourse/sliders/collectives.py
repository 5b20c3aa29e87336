"""What an average over nodes costs: which plan for which message (lecture 14), and for compressed ones (lecture 15)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from optcourse.arguments import choice, integer, real
from optcourse.plotting import COLORS, figure, theory
from optcourse.theory import communication

#: The wires of both figures: 50 µs and 10 Gbit/s.
WIRE = {"latency": 5e-5, "seconds_per_byte": 8e-10}

#: Plans that average over all nodes, with their colours.
PLANS = dict(
    zip(
        ("parameter_server", "all_gather", "recursive_doubling", "binomial_tree", "ring", "rabenseifner"),
        ("red", "pink", "yellow", "grey", "blue", "green"),
        strict=True,
    )
)

#: Compressor -> (vectors of float32 over its message, as a function of their length d; whether messages can be added).
COMPRESSORS = {
    "scaled sign": (lambda d: communication.quantized_ratio(size=d, bits=1), False),
    "QSGD, s = 7": (lambda d: communication.quantized_ratio(size=d, bits=4), False),
    "top 1 %": (lambda d: communication.sparse_ratio(size=d, kept=max(1, d // 100)), False),
    "random 1 %, shared positions": (
        lambda d: communication.sparse_ratio(size=d, kept=max(1, d // 100), index_bits=0),
        True,
    ),
}


def collectives_figure(pattern: str, n_nodes: int, message_bytes: float) -> Figure:
    """Seconds of six plans: left against the bytes of a vector, right against the nodes; ``pattern`` is drawn bold.

    The dot is the setting, by ``theory.communication.communication_time`` on wires of 50 µs and 10 Gbit/s, the dashed
    line the bound that no plan beats. The titles name the fastest plan, and how far ``pattern`` is from the bound.

    ``pattern`` is one of ``PLANS``, ``n_nodes`` in 2..1024, ``message_bytes`` in [1, 1e10]. Raises ``ValueError``
    otherwise.
    """
    choice("pattern", pattern, PLANS)
    n = integer("n_nodes", n_nodes, 2, 1024)
    real("message_bytes", message_bytes, 1, 1e10)
    sizes, many = np.geomspace(1, 1e10, 100), np.arange(2, 1025)
    here = {}
    fig, (left, right) = figure(ncols=2)
    for name, color in PLANS.items():
        width = 3.0 if name == pattern else 1.0
        line = {"label": name.replace("_", " "), "color": COLORS[color], "linestyle": "-", "linewidth": width}
        cost = {"pattern": name, **WIRE}
        theory(left, sizes, communication.communication_time(n_nodes=n, message_bytes=sizes, **cost), **line)
        theory(right, many, communication.communication_time(n_nodes=many, message_bytes=message_bytes, **cost), **line)
        here[name] = communication.communication_time(n_nodes=n, message_bytes=message_bytes, **cost)
    bound = communication.all_reduce_lower_bound
    theory(left, sizes, bound(n_nodes=n, message_bytes=sizes, **WIRE), label="lower bound")
    theory(right, many, bound(n_nodes=many, message_bytes=message_bytes, **WIRE), label="lower bound")
    for ax, x in ((left, message_bytes), (right, n)):
        ax.plot(x, here[pattern], "o", color=COLORS["black"], zorder=5)
    best = min(here, key=here.__getitem__)
    left.set(xscale="log", yscale="log", xlabel="bytes of a vector", ylabel="seconds")
    right.set(xscale="log", yscale="log", xlabel="nodes", ylabel="seconds")
    left.set_title(f"{n} nodes: fastest is {best.replace('_', ' ')}, {here[best]:.3g} s")
    times = here[pattern] / bound(n_nodes=n, message_bytes=message_bytes, **WIRE)
    right.set_title(f"{message_bytes:.3g} bytes: {pattern.replace('_', ' ')} is {times:.3g} × the bound")
    left.legend(fontsize=8)
    return fig


def traffic_figure(compressor: str, n_nodes: int, megabytes: float) -> Figure:
    """What a compressor saves: left, vectors that a node sends against the nodes; right, seconds of one average.

    A dense ring beside codes that are gathered, sharded, or sharded and compressed again, by
    ``theory.communication.compressed_traffic``; messages that can be added go through the same ring. Seconds are for
    ``megabytes`` of float32 on wires of 50 µs and 10 Gbit/s. The title says what share of the bytes the best way sends.

    ``compressor`` is one of ``COMPRESSORS``, ``n_nodes`` in 2..256, ``megabytes`` in [0.001, 10000]. Raises
    ``ValueError`` otherwise.
    """
    choice("compressor", compressor, COMPRESSORS)
    n = integer("n_nodes", n_nodes, 2, 256)
    real("megabytes", megabytes, 1e-3, 1e4)
    size, addable = COMPRESSORS[compressor]
    ratio = float(size(int(megabytes * 250_000)))
    ways = {"added": ("added on the way", "green")} if addable else {
        "gathered": ("gathered", "red"),
        "sharded": ("sharded, sums dense", "blue"),
        "sharded_twice": ("sharded, sums compressed again", "green"),
    }  # fmt: skip
    many, latency = np.arange(2, 257), {"gathered": np.ceil(np.log2(n))}
    fig, (left, right) = figure(ncols=2)
    dense = communication.compressed_traffic(way="added", n_nodes=n, ratio=1)
    theory(left, many, communication.compressed_traffic(way="added", n_nodes=many, ratio=1), label="dense, by a ring")
    bars, sent = {"dense": (dense, 2 * (n - 1))}, {}
    for way, (label, color) in ways.items():
        vectors = communication.compressed_traffic(way=way, n_nodes=many, ratio=ratio)
        theory(left, many, vectors, label=label, color=COLORS[color], linestyle="-")
        sent[way] = communication.compressed_traffic(way=way, n_nodes=n, ratio=ratio)
        left.plot(n, sent[way], "o", color=COLORS[color])
        bars[way.replace("_", "\n")] = (sent[way], latency.get(way, 2 * (n - 1)))
    for i, (vectors, messages) in enumerate(bars.values()):
        waits, flows = messages * WIRE["latency"], vectors * megabytes * 1e6 * WIRE["seconds_per_byte"]
        right.bar(i, waits, color=COLORS["yellow"], label="latency" if i == 0 else None)
        right.bar(i, flows, bottom=waits, color=COLORS["blue"], label="bytes" if i == 0 else None)
    right.set_xticks(range(len(bars)), bars)
    left.set(xscale="log", yscale="log", xlabel="nodes n", ylabel="vectors that a node sends")
    left.set_title(f"{compressor}: R = {ratio:.3g}")
    left.legend(fontsize=8)
    right.set(ylabel="seconds of one average")
    best = min(sent, key=sent.__getitem__)
    right.set_title(f"{n} nodes: {best.replace('_', ' ')} sends {100 * sent[best] / dense:.3g} % of the bytes")
    right.legend()
    return fig
