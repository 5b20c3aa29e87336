"""Matrices inside flat vectors, and their low-rank factors, one node at a time.

Here the leading axis counts nodes and is never reduced over: a norm taken over it would let one node's gradient
decide what another one sends. One product or QR per node, on memory of its own, also makes the result of a node
independent of how many nodes are computed together: batched kernels round differently for one matrix and for two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from optcourse.arguments import integer

Shapes = Sequence[Sequence[int]]


def row_by_row(out: Tensor, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """``out`` with ``function`` of each row of ``tensors``: what is computed alone rounds alike for every m."""
    for i, rows in enumerate(zip(*tensors, strict=True)):
        out[i] = function(*rows)
    return out


def sizes(shapes: Shapes) -> list[tuple[int, ...]]:
    """The shapes of parameters as tuples; raises ``ValueError`` for none, or for a side that is not >= 1."""
    checked = [tuple(integer("a side in shapes", side, 1) for side in shape) for shape in shapes]
    if not checked:
        raise ValueError("shapes must list at least one shape, got none")
    return checked


def matrix_views(x: Tensor, shapes: Shapes, name: str = "x") -> tuple[list[Tensor], list[Tensor]]:
    """The flat parameters ``x [m, d]`` as views: matrices ``[m, a, b]``, and the rest ``[m, length]``, both in order.

    ``shapes`` lists the parameters as ``[p.shape for p in model.parameters()]`` does. A parameter with more than two
    axes (a convolution) is the matrix of its first axis by all others, as in PowerSGD; one with fewer (a bias) belongs
    to the rest. Writing into the views writes x. Raises ``ValueError`` unless x, which errors call ``name``, is [m, d]
    and the shapes have d entries together.

    >>> matrices, rest = matrix_views(torch.arange(8.0)[None], [(2, 3), (2,)])
    >>> matrices[0].tolist(), rest[0].tolist()
    ([[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]], [[6.0, 7.0]])
    """
    shapes = sizes(shapes)
    lengths = [math.prod(shape) for shape in shapes]
    if x.ndim != 2 or x.shape[1] != sum(lengths):
        raise ValueError(f"{name} must be [m, d] with d = {sum(lengths)}, the entries of shapes, got {list(x.shape)}")
    parts = list(zip(x.split(lengths, dim=1), shapes, strict=True))
    matrices = [part.unflatten(1, (shape[0], -1)) for part, shape in parts if len(shape) >= 2]
    return matrices, [part for part, shape in parts if len(shape) < 2]


def products(A: Tensor, B: Tensor) -> Tensor:
    """A_i B_i for every node i: ``[m, a, b]`` and ``[m, b, r]`` to ``[m, a, r]``.

    The same bits as for that node alone, which ``A @ B`` does not promise. For one B of all nodes pass
    ``B.expand(m, b, r)``.
    """
    out = A.new_empty(len(A), A.shape[1], B.shape[2])
    # A copy is aligned in memory alike, wherever the row came from.
    return row_by_row(out, lambda a, b: a.clone() @ b.clone(), A, B)


def orthogonalize(P: Tensor) -> Tensor:
    """An orthonormal basis of every node's columns: ``[m, a, r]`` to ``[m, a, r]``, r <= a, by Householder's QR.

    Columns that are dependent, or zero, are replaced by others orthonormal to the rest, so that P_i^T P_i = I always.
    Half precision is factorized in float32. Raises ``ValueError`` unless P is [m, a, r] with r <= a.
    """
    if P.ndim != 3 or P.shape[2] > P.shape[1]:
        raise ValueError(f"P must be [m, a, r] with r <= a, got {list(P.shape)}")
    out = torch.empty_like(P, memory_format=torch.contiguous_format)
    wide = torch.promote_types(P.dtype, torch.float32)  # there is no QR of shorter numbers
    return row_by_row(out, lambda p: torch.linalg.qr(p.to(wide, copy=True))[0], P)


def power_factors(M: Tensor, Q: Tensor, iterations: int = 1) -> tuple[Tensor, Tensor]:
    r"""Factors P ``[m, a, r]``, Q ``[m, b, r]`` of P Q^T, close to M ``[m, a, b]``, by subspace iteration from Q.

    P is an orthonormal basis of M Q, then Q becomes M^T P: :math:`PQ^\top = PP^\top M`, a projection, which is never
    longer than M. More ``iterations`` start from that Q, orthonormal. Source: Vogels, Karimireddy & Jaggi 2019,
    "PowerSGD", algorithm 1, which has one iteration.
    """
    for k in range(iterations):
        # The same span; without it, entries grow like M^(2k) and underflow or overflow.
        P = orthogonalize(products(M, orthogonalize(Q) if k else Q))
        Q = products(M.mT, P)
    return P, Q
