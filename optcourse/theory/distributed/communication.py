r"""What communication costs: collectives, speed-up and compression ratios.

A message of b bytes takes ``latency`` + b * ``seconds_per_byte`` (t_s and t_w on the slides). A node sends one message
and receives one at the same time, and no two pairs of nodes share a wire. ``message_bytes`` = m is the size of one
node's vector; arithmetic is free. Times are on the critical path, from the first message to the last. Ranges: bytes and
seconds >= 0, but compute_time > 0; counts are integers >= 1. Everything broadcasts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import choice, nonnegative, positive, real
from optcourse.theory.bound import Number, scalar


def _floor_log2(n: np.ndarray) -> np.ndarray:
    return np.frexp(n)[1] - 1.0  # exact, unlike a rounded logarithm


def _ceil_log2(n: np.ndarray) -> np.ndarray:
    return _floor_log2(n) + (n > 2 ** _floor_log2(n))


def _fold(n: np.ndarray) -> np.ndarray:
    """Two whole messages more unless n is a power of two: surplus nodes hand in their vector, and get the result."""
    return np.where(n > 2 ** _floor_log2(n), 2.0, 0.0)


def _rabenseifner(n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p = 2 ** _floor_log2(n)
    return 2 * _floor_log2(n) + _fold(n), 2 * (p - 1) / p + _fold(n)


#: Pattern -> (messages in a row, vectors of m bytes in a row), as functions of n.
_COSTS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "parameter_server": lambda n: (2 * n, 2 * n),
    "all_gather": lambda n: (_ceil_log2(n), n - 1),
    "recursive_doubling": lambda n: (_floor_log2(n) + _fold(n), _floor_log2(n) + _fold(n)),
    "binomial_tree": lambda n: (2 * _ceil_log2(n), 2 * _ceil_log2(n)),
    "ring": lambda n: (2 * (n - 1), 2 * (n - 1) / n),
    "rabenseifner": _rabenseifner,
    "one_peer": lambda n: (np.minimum(n - 1, 1), np.minimum(n - 1, 1)),
}

#: Names of the patterns that :func:`communication_time` knows; ``gossip`` also needs a degree.
PATTERNS = (*_COSTS, "gossip")


def communication_time(
    *,
    pattern: str,
    n_nodes: ArrayLike,
    message_bytes: ArrayLike,
    latency: ArrayLike,
    seconds_per_byte: ArrayLike,
    degree: ArrayLike | None = None,
) -> Number:
    r"""Seconds for one round: n nodes average their vectors (``gossip``, ``one_peer``: with neighbours only).

    ======================  ============================================================================
    ``parameter_server``    :math:`2n(t_s+t_wm)`: push and pull through the one wire of the server
    ``all_gather``          :math:`\lceil\log_2n\rceil t_s+(n-1)t_wm`: everybody sees every vector
    ``recursive_doubling``  :math:`(t_s+t_wm)\log_2n`, the slide's all-reduce
    ``binomial_tree``       :math:`2(t_s+t_wm)\lceil\log_2n\rceil`: reduce to a root, then broadcast
    ``ring``                :math:`2(n-1)t_s+2\frac{n-1}nt_wm`: reduce-scatter, then all-gather, in n parts
    ``rabenseifner``        :math:`2t_s\log_2n+2\frac{n-1}nt_wm`: the same by halving and doubling
    ``gossip``              :math:`\deg\,(t_s+t_wm)`: one neighbour after the other
    ``one_peer``            :math:`t_s+t_wm`
    ======================  ============================================================================

    Identities. Where n is no power of two, recursive doubling and Rabenseifner run on the largest power p below n;
    a message before and one after serve the others: log2 n becomes log2 p, (n-1)/n becomes (p-1)/p, and 2(t_s +
    t_w m) is added. The all-gather is Bruck's, which is recursive doubling for powers of two. For these, Rabenseifner
    is never slower than the ring; the ring's bandwidth term does not grow with n and its latency does, so that
    "global average: O(n)" is the server's bandwidth or the ring's latency. Source: Thakur, Rabenseifner & Gropp 2005,
    "Optimization of Collective Communication Operations in MPICH"; Patarasuk & Yuan 2009, "Bandwidth Optimal
    All-Reduce Algorithms for Clusters of Workstations".

    Broadcasts; bytes and seconds. Raises ``ValueError`` unless the pattern is one of ``PATTERNS``, n_nodes is an
    integer >= 1, degree an integer in 0..n-1 (for ``gossip``, and for it alone), and the others are >= 0.

    >>> communication_time(pattern="ring", n_nodes=[2, 8], message_bytes=8e6, latency=1e-3, seconds_per_byte=1e-9)
    array([0.01 , 0.028])
    """
    choice("pattern", pattern, PATTERNS)
    m, ts, tw = nonnegative(message_bytes=message_bytes, latency=latency, seconds_per_byte=seconds_per_byte)
    n = _count("n_nodes", n_nodes)
    if (pattern == "gossip") != (degree is not None):
        raise ValueError(f"degree must be given for gossip and for it alone, got degree = {degree} for {pattern!r}")
    if degree is None:
        messages, vectors = _COSTS[pattern](n)
    else:
        messages = vectors = _count("degree", degree, 0)
        if (messages > n - 1).any():
            raise ValueError(f"degree must be at most n_nodes - 1, got degree = {degree} and n_nodes = {n_nodes}")
    return scalar(messages * ts + vectors * tw * m)


def all_reduce_lower_bound(
    *, n_nodes: ArrayLike, message_bytes: ArrayLike, latency: ArrayLike, seconds_per_byte: ArrayLike
) -> Number:
    r"""Seconds that no all-reduce can beat: :math:`\max\{\lceil\log_2n\rceil t_s,\ 2\frac{n-1}nt_wm\}`.

    Proof: after k messages in a row a node knows at most 2^k vectors. Of each number, n - 1 partial sums must be
    sent to form the total and n - 1 totals to spread it; 2(n-1)m bytes over n nodes leave 2(n-1)m/n for one of them.

    Tight: the latency for an empty vector (recursive doubling, n a power of two), the bandwidth without latency
    (ring). Rabenseifner is within a factor of 3 of it at every size, for n a power of two. Source: Patarasuk & Yuan
    2009, section 3.

    >>> all_reduce_lower_bound(n_nodes=8, message_bytes=8e6, latency=3.0, seconds_per_byte=1e-9)
    9.0
    """
    m, ts, tw = nonnegative(message_bytes=message_bytes, latency=latency, seconds_per_byte=seconds_per_byte)
    n = _count("n_nodes", n_nodes)
    return scalar(np.maximum(_ceil_log2(n) * ts, 2 * (n - 1) / n * tw * m))


def ring_crossover_bytes(*, n_nodes: ArrayLike, latency: ArrayLike, seconds_per_byte: ArrayLike) -> Number:
    r"""Bytes above which a ring beats recursive doubling; infinite for two nodes.

    Statement: :math:`m = \frac{t_s(2(n-1)-r)}{t_w(r-2(n-1)/n)}`, where r is the number of messages in a row that
    recursive doubling needs, log2 n for a power of two. An identity.

    Raises ``ValueError`` unless n_nodes >= 2 and seconds_per_byte > 0.

    >>> ring_crossover_bytes(n_nodes=[2, 4, 16], latency=1e-6, seconds_per_byte=1e-9)
    array([           inf,  8000.        , 12235.29411765])
    """
    (ts,), (tw,) = nonnegative(latency=latency), positive(seconds_per_byte=seconds_per_byte)
    n = _count("n_nodes", n_nodes, 2)
    rounds = _floor_log2(n) + _fold(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        return scalar(np.where(n > 2, ts * (2 * (n - 1) - rounds) / (tw * (rounds - 2 * (n - 1) / n)), np.inf))


def throughput_speedup(*, n_nodes: ArrayLike, compute_time: ArrayLike, communication_time: ArrayLike) -> Number:
    r"""Samples per second of n nodes over those of one: :math:`\frac{n\,t_{comp}}{t_{comp}+t_{comm}(n)}`.

    Each node computes ``compute_time`` per step on its own batch; communication does not overlap. It counts samples,
    not progress. With a parameter server it stays below t_comp/(2(t_s + t_w m)) for every n. An identity.

    >>> throughput_speedup(n_nodes=8, compute_time=3.0, communication_time=1.0)
    6.0
    """
    n, (comp,), (comm,) = (
        _count("n_nodes", n_nodes),
        positive(compute_time=compute_time),
        nonnegative(communication_time=communication_time),
    )
    return scalar(n * (comp / (comp + comm)))


#: Way -> vectors that a node sends, as a function of n and the ratio R of a vector to its message.
_TRAFFIC: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "added": lambda n, R: 2 * (n - 1) / (n * R),
    "gathered": lambda n, R: (n - 1) / R,
    "sharded": lambda n, R: (n - 1) / n * (1 / R + 1),
    "sharded_twice": lambda n, R: 2 * (n - 1) / (n * R),
}

#: Names of the ways that :func:`compressed_traffic` knows.
WAYS = tuple(_TRAFFIC)


def compressed_traffic(*, way: str, n_nodes: ArrayLike, ratio: ArrayLike) -> Number:
    r"""Vectors that each of n nodes sends to average messages that are R = ``ratio`` times smaller than a vector.

    =================  ===============================================================================
    ``added``          :math:`2\frac{n-1}{nR}`: messages that can be added on the way, by a ring
    ``gathered``       :math:`\frac{n-1}R`: everybody sees every code
    ``sharded``        :math:`\frac{n-1}n(\frac1R+1)`: codes of a part to its owner, dense sums back
    ``sharded_twice``  :math:`2\frac{n-1}{nR}`: the sums are compressed as well
    =================  ===============================================================================

    Identities; R = 1 and ``added`` is the dense ring. Gathering sends less than a dense ring below n = 2R nodes, and
    less than sharding below n = R + 1; sharding saves at most a factor of two. ``nodes.time.collectives`` sends the
    messages. Source: Tang et al. 2019, "DoubleSqueeze", and 2021, "1-bit Adam" (twice).

    Raises ``ValueError`` for an unknown way, n_nodes that is no integer >= 1, or ratio <= 0.

    >>> compressed_traffic(way="gathered", n_nodes=16, ratio=8), compressed_traffic(way="sharded", n_nodes=16, ratio=8)
    (1.875, 1.0546875)
    """
    choice("way", way, WAYS)
    (R,) = positive(ratio=ratio)
    return scalar(_TRAFFIC[way](_count("n_nodes", n_nodes), R))


def sparse_ratio(*, size: ArrayLike, kept: ArrayLike, value_bits: int = 32, index_bits: int = 32) -> Number:
    r"""Bits of a dense vector over those of its k kept entries: :math:`\frac{db_v}{k(b_v+b_i)}`.

    The top 1 % with 32-bit indices is 50 times smaller, not 100 times; ``index_bits=0`` for positions that both sides
    know (random-k from a shared seed). An identity.

    Raises ``ValueError`` unless kept <= size; ``index_bits`` may be 0.

    >>> sparse_ratio(size=10_000, kept=100)
    50.0
    """
    d, k = _count("size", size), _count("kept", kept)
    if (k > d).any():
        raise ValueError(f"kept must be at most size, got kept = {kept} and size = {size}")
    bv, bi = _count("value_bits", value_bits), _count("index_bits", index_bits, 0)
    return scalar(d * bv / (k * (bv + bi)))


def quantized_ratio(*, size: ArrayLike, bits: ArrayLike, value_bits: int = 32) -> Number:
    r"""Bits of a dense vector over those of b-bit entries and one scale: :math:`\frac{db_v}{db+b_v}`.

    ``bits=1`` for scaled sign, ceil(log2(2 s + 1)) for QSGD with s levels and a fixed-length code. An identity.

    >>> quantized_ratio(size=96, bits=1)
    24.0
    """
    d, b, bv = _count("size", size), _count("bits", bits), _count("value_bits", value_bits)
    return scalar(d * bv / (d * b + bv))


def low_rank_ratio(*, rows: ArrayLike, columns: ArrayLike, rank: ArrayLike = 1) -> Number:
    r"""Numbers in an a x b matrix over those in its two factors of rank r: :math:`\frac{ab}{r(a+b)}`.

    Below 1 for ranks above ab/(a+b): the factors are then the larger ones. An identity.

    Raises ``ValueError`` unless rank <= min(rows, columns).

    >>> low_rank_ratio(rows=512, columns=512)
    256.0
    """
    a, b, r = _count("rows", rows), _count("columns", columns), _count("rank", rank)
    if (r > np.minimum(a, b)).any():
        raise ValueError(f"rank must be at most min(rows, columns), got rank = {rank} for {rows} x {columns}")
    return scalar(a * b / (r * (a + b)))


def _count(name: str, value: ArrayLike, low: int = 1) -> np.ndarray:
    """A whole number >= ``low``, or an array of them, as floats."""
    array = np.asarray(real(name, value, low), dtype=float)
    if (array != np.floor(array)).any():
        raise ValueError(f"{name} must be an integer, got {value!r}")
    return array
