r"""Compressors: each turns the vectors of my nodes, ``p: Tensor[m, d]``, into a :class:`Message` with real payloads.

``compress = top_k(10)`` makes a compressor, ``q = compress(p)`` a message; ``q.dense()`` is what the receiver reads
and ``q.nbytes`` what travels. Row i of the message depends on row i and its node's stream alone, to the last bit, so
that a process that owns one node sends what the simulator sends. Norms, products and QR therefore run row by row:
batched, they may round differently for other numbers of rows.

===============  ======================================  ==========================================================
compressor       bytes per row, for values of v bytes    guarantee, in :mod:`optcourse.theory.distributed.compression`
===============  ======================================  ==========================================================
``identity``     v d                                     exact
``top_k``        (v + 4) k                               ``delta_top_k`` >= k/d
``random_k``     (v + 4) k, or v k if shared             delta = k/d; scaled by d/k: unbiased, omega = d/k - 1
``qsgd``         v buckets + ceil(b d / 8)               unbiased, ``qsgd_variance``; b = ceil(log2(2 levels + 1))
``scaled_sign``  v + ceil(d / 8)                         ``delta_sign``
``low_rank``     v (sum of r (a + b), and the vectors)   delta >= r/min(a, b) on average over the start
===============  ======================================  ==========================================================

These are the ratios of ``theory.communication``, except that packed bits fill their last byte: at most 7 bits per
row. Every compressor raises ``TypeError`` unless p is a float32 or float64 tensor, and ``ValueError`` unless
it is [m, d], d >= 1, and finite, as must be the scales and factors that it computes; the message names the row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from optcourse.arguments import integer
from optcourse.nodes.makers import maker
from optcourse.nodes.messages.factors import Shapes, matrix_views, power_factors, row_by_row, sizes
from optcourse.nodes.messages.payloads import (
    Beside,
    Compressor,
    Factors,
    Message,
    Plain,
    Quantized,
    Signs,
    Sparse,
    as_compressor,
    spread,
)
from optcourse.nodes.streams import Streams, as_streams


@maker
def identity() -> Compressor:
    """Nothing is compressed.

    >>> identity()(torch.ones(2, 3)).nbytes
    24
    """
    return lambda p: Plain((_checked(p),))


@maker
def side_by_side(compress: Compressor, parts: int) -> Compressor:
    """``compress`` for each of the ``parts`` equal pieces of a vector: several seeds in the columns of x.

    Row i of the inner compressor's input number m ``parts`` is piece i mod ``parts`` of node i // ``parts``, so that a
    random one needs streams for ``n * parts`` nodes. Raises ``TypeError`` for what is no compressor; a call,
    ``ValueError`` unless ``parts`` divides d.

    >>> x = torch.tensor([[1.0, 3.0, 20.0, 10.0]])
    >>> side_by_side(top_k(1), 2)(x).dense().tolist(), top_k(2)(x).dense().tolist()
    ([[0.0, 3.0, 20.0, 0.0]], [[0.0, 0.0, 20.0, 10.0]])
    """
    compress, parts = as_compressor("compress", compress), integer("parts", parts, 1)

    def together(p: Tensor) -> Message:
        d = _checked(p).shape[1]
        if d % parts:
            raise ValueError(f"parts must divide the {d} entries of a vector, got {parts}")
        return Beside(compress(p.reshape(len(p) * parts, -1)), parts)

    return together


@maker
def top_k(k: int) -> Compressor:
    """The k entries of largest magnitude; of equal ones those of lower index. Positions travel in ascending order.

    Source: Stich, Cordonnier & Jaggi 2018, "Sparsified SGD with Memory". Raises ``ValueError`` for k < 1; a call, for
    k > d.

    >>> top_k(2)(torch.tensor([[1.0, -3.0, 2.0, 3.0, -3.0]])).dense().tolist()
    [[0.0, -3.0, 0.0, 3.0, 0.0]]
    """
    integer("k", k, 1)

    def compress(p: Tensor) -> Message:
        d = _checked(p).shape[1]
        indices = _largest(p.abs(), integer("k", k, 1, d))
        return Sparse(p.gather(1, indices), indices, d)

    return compress


@maker
def random_k(k: int, streams: Streams, shared: bool = False, unbiased: bool = False) -> Compressor:
    """k entries at positions that are equally likely, drawn anew in every call; times d/k if ``unbiased``.

    ``streams`` are those of the nodes whose rows are compressed. With ``shared`` all nodes choose alike and all
    know the seed, so that only values travel: ``streams`` then has one node, the same one in every process. Source:
    Stich et al. 2018. Raises ``ValueError`` for k < 1 and shared streams of several nodes, ``TypeError`` for what are
    no streams; a call, ``ValueError`` for k > d and unless every row has a stream.

    >>> compress = random_k(2, Streams("compressor", 0, [0]), shared=True)
    >>> compress(torch.ones(3, 10)).nbytes  # two float32 values from each of three nodes
    24
    """
    integer("k", k, 1)
    as_streams("streams", streams)
    if shared and len(streams.nodes) != 1:
        raise ValueError(f"streams must have one node if the positions are shared, got {len(streams.nodes)}")

    def compress(p: Tensor) -> Message:
        d = _checked(p, None if shared else streams).shape[1]
        integer("k", k, 1, d)
        # The k largest of d uniform numbers stand anywhere. In float64, since float32 has only 2^24 of them: ties.
        indices = _largest(streams.uniform(d, dtype=torch.float64), k).to(p.device)
        values = p.gather(1, indices.expand(len(p), k))
        values = values * (d / k) if unbiased else values
        return Sparse(values, indices, d, shared)

    return compress


@maker
def qsgd(levels: int, streams: Streams, bucket: int | None = None) -> Compressor:
    r"""Random rounding to ``levels`` = s multiples of the norm: :math:`Q(v)_i = \|v\|\,\mathrm{sgn}(v_i)\,l_i/s`.

    l_i is :math:`r_i = s|v_i|/\|v\|` rounded up with probability r_i - floor(r_i), and down otherwise: unbiased.
    ``bucket`` entries share one norm, the last bucket may be shorter; ``None``: the whole row. Codes have a fixed
    length of ceil(log2(2 s + 1)) bits. Source: Alistarh, Grubic, Li, Tomioka & Vojnovic 2017, "QSGD", sections 3.1
    and 4 (buckets), whose Elias code is shorter for few levels.

    Raises ``ValueError`` unless levels is in 1..2**23 (float32 counts no further) and bucket >= 1, ``TypeError`` for
    what are no streams; a call, ``ValueError`` unless every row has a stream.

    >>> compress = qsgd(1, Streams("compressor", 0, [0]))
    >>> compress(torch.tensor([[0.0, -2.0, 0.0]])).dense().tolist(), compress(torch.ones(1, 100)).nbytes
    ([[0.0, -2.0, 0.0]], 29)
    """
    s = integer("levels", levels, 1, 2**23)
    as_streams("streams", streams)
    if bucket is not None:
        integer("bucket", bucket, 1)

    def compress(p: Tensor) -> Message:
        d = _checked(p, streams).shape[1]
        size = min(bucket or d, d)
        norms = _norms(p, size)
        scale = spread(norms, size, d)
        r = s * (p.abs() / _nonzero(scale))
        u, low = streams.uniform(d, dtype=p.dtype).to(p.device), r.floor()
        level = low + (u < r - low)
        return Quantized(norms, (p.sign() * level).int() + s, s, size)

    return compress


@maker
def scaled_sign() -> Compressor:
    r"""One bit per entry: :math:`C(v) = \frac{\|v\|_1}d\mathrm{sgn}(v)` with sgn(0) = 1.

    Source: Karimireddy, Rebjock, Stich & Jaggi 2019, "Error Feedback Fixes SignSGD", section 4.

    >>> scaled_sign()(torch.tensor([[3.0, 0.0, -3.0]])).dense().tolist()
    [[2.0, 2.0, -2.0]]
    """

    def compress(p: Tensor) -> Message:
        d = _checked(p).shape[1]
        # Divided first, so that no sum overflows, and added in float64.
        scales = row_by_row(p.new_empty(len(p)), lambda row: (row.abs().double() / d).sum(), p)
        return Signs(scales, p >= 0)

    return compress


@maker
def low_rank(shapes: Shapes, rank: int = 1, iterations: int = 1, *, streams: Streams) -> Compressor:
    """Every matrix among the parameters as a product P Q^T of rank r, per node; biases travel as they are.

    ``shapes`` lists the parameters that the d entries hold (:func:`~optcourse.nodes.messages.factors.matrix_views`).
    Each call starts at normal numbers from ``streams``, since a fixed start would miss the same part every time, and
    does ``iterations`` of ``power_factors`` (same module). Where r > ab/(a + b) the factors are larger than their
    matrix. PowerSGD itself is more than this compressor: there the nodes agree on P before they compute Q.

    The start makes delta >= r/min(a, b) on average, with equality for equal singular values. Proof: for an orthonormal
    basis G of the start's span in the row space and A = M^T M, ||P P^T M||^2 = tr((G^T A G)^{-1} G^T A^2 G) >= tr(G^T A
    G), because A^2 >= A G G^T A; and G is a uniform subspace of dimension r.

    Raises ``ValueError`` unless iterations >= 1 and rank is in 1..min(a, b) for every matrix, ``TypeError`` for what
    are no streams; a call, ``ValueError`` unless the shapes have d entries and every row has a stream.

    >>> compress = low_rank([(3, 4), (3,)], streams=Streams("compressor", 0, [0, 1]))
    >>> compress(torch.ones(2, 15)).nbytes  # two rows of 3 + 4 + 3 float32 values
    80
    """
    shapes = sizes(shapes)
    as_streams("streams", streams)
    sides = [(shape[0], math.prod(shape[1:])) for shape in shapes if len(shape) >= 2]
    r, iterations = integer("rank", rank, 1), integer("iterations", iterations, 1)
    for a, b in sides:
        integer(f"rank (of the {a} x {b} matrix)", r, 1, min(a, b))

    def compress(p: Tensor) -> Message:
        matrices, rest = matrix_views(_checked(p, streams), shapes, name="p")
        start = streams.normal(sum(b for _, b in sides) * r, dtype=p.dtype).to(p.device)
        starts = [Q.unflatten(1, (-1, r)) for Q in start.split([b * r for _, b in sides], dim=1)]
        factors = [power_factors(M, Q, iterations) for M, Q in zip(matrices, starts, strict=True)]
        message = Factors(factors, rest, shapes, r)
        _finite("the factors of p", message.payload[0])
        return message

    return compress


def _checked(p: Tensor, streams: Streams | None = None) -> Tensor:
    if not isinstance(p, Tensor) or p.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"p must be a float32 or float64 tensor, got {getattr(p, 'dtype', type(p).__name__)}")
    if p.ndim != 2 or p.shape[1] < 1:
        raise ValueError(f"p must have shape [m, d] with d >= 1, got {list(p.shape)}")
    if streams is not None and len(streams.nodes) != len(p):
        raise ValueError(f"p must have one row for each of the {len(streams.nodes)} nodes of streams, got {len(p)}")
    return _finite("p", p)


def _finite(name: str, t: Tensor) -> Tensor:
    low, high = t.flatten(1).aminmax(dim=1)  # NaN if there is one; one pass, where isfinite takes several
    bad = ~(low.isfinite() & high.isfinite())
    if bad.any():
        raise ValueError(f"{name} must be finite, got NaN or infinity in row {int(bad.nonzero()[0])} of {len(t)}")
    return t


def _largest(keys: Tensor, k: int) -> Tensor:
    """Positions of the k largest entries of every row, ascending; of equal entries the first. int64 ``[m, k]``."""
    smallest_kept = keys.topk(k, dim=1, sorted=False).values.amin(1, keepdim=True)
    chosen = keys >= smallest_kept
    if (chosen.count_nonzero(1) > k).any():  # ties: of the smallest kept, only the first
        above, equal = keys > smallest_kept, keys == smallest_kept
        chosen = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True)))
    return chosen.nonzero()[:, 1].view(len(keys), k)


def _norms(p: Tensor, bucket: int) -> Tensor:
    """Euclidean norms of the buckets, ``[m, buckets]``, never below the largest magnitude in one, so that r <= s."""
    buckets = pad(p, (0, -p.shape[1] % bucket)).unflatten(1, (-1, bucket))
    largest = buckets.abs().amax(2)
    unit = buckets / _nonzero(largest)[..., None]  # squares of small or large entries stay in range
    norms = row_by_row(torch.empty_like(largest), lambda row: torch.linalg.vector_norm(row, dim=1), unit)
    return _finite("the norms of p", largest * norms)


def _nonzero(scale: Tensor) -> Tensor:
    """What to divide by: lengths, of which those of zeros become 1."""
    return scale + (scale == 0)
