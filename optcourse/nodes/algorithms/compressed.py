r"""Compressed messages: unbiased quantization, error feedback, PowerSGD.

``compress`` maps [rows, d] to a ``Message``, see ``optcourse.nodes.messages``; what is no such function, or a maker of
them that was not called (``top_k``), raises ``TypeError``. Lecture 15 derives the algorithms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optcourse.arguments import choice, integer, real
from optcourse.nodes.algorithms.algorithm import Gradient, Iterates, algorithm
from optcourse.nodes.algorithms.participation import Alive, changed, shares
from optcourse.nodes.messages.factors import matrix_views, orthogonalize, products
from optcourse.nodes.messages.payloads import Compressor, as_compressor
from optcourse.nodes.network.network import Network


@algorithm
def compressed_sgd(
    net: Network, grad: Gradient, x: Tensor, lr: float, compress: Compressor, alive: Alive | None = None
) -> Iterates:
    r"""SGD with compressed gradients, :math:`x \leftarrow x-\gamma\frac1n\sum_jC(g_j(x))`, and no memory.

    For *unbiased* compressors (``compressors.qsgd``: then it is QSGD, and may be called :data:`qsgd`;
    ``random_k(unbiased=True)``): bound ``theory.compression.unbiased_bound``. With a biased one it may diverge (lecture
    15.4). Per step one message to all; with ``alive``, as in :func:`local_sgd`, of those who take part, and those who
    do not receive them too. Source: Alistarh, Grubic, Li, Tomioka & Vojnovic 2017, "QSGD", Algorithm 1.
    """
    compress, share = as_compressor("compress", compress), shares(net, alive)
    for k in net.rounds():
        x = x - lr * net.mean(compress(grad(x)), weight=share(k))
        yield x


qsgd = compressed_sgd


@algorithm
def error_feedback(
    net: Network, grad: Gradient, x: Tensor, lr: float, compress: Compressor, alive: Alive | None = None
) -> Iterates:
    r"""EF-SGD: what a message left out is remembered and added to the next one.

    :math:`p_i=\gamma g_i(x)+e_i`, :math:`x \leftarrow x-\mathrm{mean}\,C(p_i)`, :math:`e_i \leftarrow p_i-C(p_i)`, for
    any compressor with contraction delta > 0. Bound: ``theory.compression.ef_bound``; x - mean(e) follows plain SGD.
    Per step one message to all; with ``alive``, as in :func:`local_sgd`, of those who take part: the others receive
    them, and their memory waits (Li & Li 2023, "Analysis of error feedback in federated non-convex optimization with
    biased compression", with one local step). Source: Karimireddy, Rebjock, Stich & Jaggi 2019, Algorithm 2, on n
    nodes.
    """
    compress, share = as_compressor("compress", compress), shares(net, alive)
    e = net.initial("e", torch.zeros_like(x))
    for k in net.rounds():
        p, weight = lr * grad(x) + e, share(k)
        q = compress(p)
        e = changed(net, weight, p - q.dense(), e)
        x = x - net.mean(q, weight)
        yield x


@algorithm
def powersgd(
    net: Network,
    grad: Gradient,
    x: Tensor,
    lr: float,
    shapes: Sequence[tuple[int, ...]],
    rank: int = 1,
    momentum: float = 0.0,
    feedback: str = "mean",
) -> Iterates:
    r"""PowerSGD: the mean of the nodes' gradient *matrices* by one power iteration, whose factors are what travels.

    For every parameter of ``shapes`` that is a matrix: :math:`M_i=G_i+E_i`,
    :math:`P=\mathrm{orth}(\mathrm{mean}\,M_iQ)`, :math:`Q_i=M_i^\top P`, :math:`Q=\mathrm{mean}\,Q_i`,
    :math:`\Delta=PQ^\top`; Q starts the next step. Vectors travel whole. Then :math:`m \leftarrow \beta m+\Delta` and
    :math:`x \leftarrow x-\gamma(\Delta+m)`, or without momentum (beta = 0) :math:`x \leftarrow x-\gamma\Delta`. Both
    halves are linear: a mean (an all-reduce) suffices where top-k must gather. Per step r(a+b) numbers for an a x b
    matrix, in two averages: all P, then all Q and the vectors.

    ``feedback="mean"`` is published: :math:`E_i=M_i-PQ^\top` subtracts the aggregate, and for heterogeneous nodes the
    memories drift apart without bound. ``"own"`` subtracts :math:`PQ_i^\top`, what of M_i lies in the span of P: they
    drift more slowly or not at all. Only the mean of the memories enters the iterates, and it is the same: so are they,
    but for rounding. Source: Vogels, Karimireddy & Jaggi 2019, "PowerSGD", Algorithms 1 and 2, with beta = 0.9; in the
    released code vectors have no memory, as here.

    Raises ``ValueError`` for shapes that do not add up to d, a rank outside 1..min(a, b), a momentum outside [0, 1),
    or another feedback.
    """
    beta = real("momentum", momentum, 0, 1, open_high=True)
    own = choice("feedback", feedback, ("mean", "own")) == "own"
    matrices, _ = matrix_views(x, shapes)
    for a, b in (view.shape[1:] for view in matrices):
        integer("rank", rank, 1, min(a, b))
    e, m = net.initial("e", torch.zeros_like(x)), net.initial("m", torch.zeros_like(x))
    factors = net.initial("factors", [_random_factor(view, rank, i) for i, view in enumerate(matrices)])
    for _ in net.rounds():
        p = grad(x) + e
        M, vectors = matrix_views(p, shapes)
        P = _means(net, [products(*pair) for pair in zip(M, factors, strict=True)])
        P = [orthogonalize(mean).expand(net.rows, -1, -1) for mean in P]
        Q_own = [products(M_i.mT, P_i) for M_i, P_i in zip(M, P, strict=True)]
        means = _means(net, Q_own + vectors)
        factors = [Q.expand_as(Q_i) for Q, Q_i in zip(means, Q_own, strict=False)]
        delta = _written(x, shapes, P, factors, means[len(M) :])
        e = p - _written(x, shapes, P, Q_own if own else factors, vectors)
        m = beta * m + delta
        x = x - lr * (delta + m if beta else delta)
        yield x


def _written(
    x: Tensor, shapes: Sequence[tuple[int, ...]], P: list[Tensor], Q: list[Tensor], rest: list[Tensor]
) -> Tensor:
    """Rows like x with P Q^T in the place of every matrix, and ``rest`` in those of the vectors."""
    t = torch.empty_like(x)
    views, places = matrix_views(t, shapes)
    for view, P_i, Q_i in zip(views, P, Q, strict=True):
        view.copy_(products(P_i, Q_i.mT))
    for place, vector in zip(places, rest, strict=True):
        place.copy_(vector)
    return t


def _means(net: Network, tensors: list[Tensor]) -> list[Tensor]:
    """The mean of each over the nodes, ``[1, ...]``, all in one message."""
    if not tensors:
        return []
    together = net.mean(torch.cat([t.flatten(1) for t in tensors], 1))
    parts = together.split([t[:1].numel() for t in tensors], 1)
    return [part.reshape(1, *t.shape[1:]) for part, t in zip(parts, tensors, strict=True)]


def _random_factor(matrices: Tensor, rank: int, seed: int) -> Tensor:
    """A first Q [rows, b, rank], the same at every node."""
    Q = torch.randn(matrices.shape[2], rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Q.to(matrices).expand(len(matrices), -1, -1)
