"""What the rules of ``aggregators`` share: checks, medians, and distances from one Gram matrix."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from optcourse.arguments import integer
from optcourse.nodes.network.checks import described, is_dense
from optcourse.theory import byzantine


def centred_gram(X: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """A center [d], Y = X - center, the Gram matrix of Y/u in float64, and u, a power of two near the rows' lengths.

    The mean would not do as center: one far row would carry it away, and with it the digits of all near distances.
    Nor would the longest row as unit: the squares of all others could vanish beside it.
    """
    center = coordinate_median(X).double()
    Y = X.double() - center
    sizes = Y.abs().amax(1)
    typical = sizes[sizes > 0].median() if sizes.any() else torch.ones(())
    unit = 2.0 ** (int(torch.frexp(typical).exponent) - 1)
    gram = (Y / unit) @ (Y / unit).T
    if not gram.isfinite().all():
        node = int((~gram.diagonal().isfinite()).nonzero()[0])
        raise ValueError(f"X must have rows that float64 can compare: node {node} is too far from the others")
    return center, Y, gram, unit


def lengths(Y: Tensor) -> Tensor:
    """Euclidean norms of the rows, [n]; squares of large or small entries neither overflow nor vanish."""
    largest = Y.abs().amax(1, keepdim=True)
    return largest[:, 0] * torch.linalg.vector_norm(Y / (largest + (largest == 0)), dim=1)


def distances(gram: Tensor) -> Tensor:
    """Squared distances [n, n] from the Gram matrix; those that rounding cannot tell from 0 are 0."""
    squares = gram.diagonal()
    both = squares[:, None] + squares
    apart = both - 2 * gram
    return torch.where(apart > 1e-14 * both, apart, 0).fill_diagonal_(0)


def sorted_columns(X: Tensor) -> Tensor:
    """Every column sorted. numpy's vectorized sort takes a tenth of the time of torch's."""
    if X.device.type == "cpu" and X.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.sort(X.detach().numpy(), axis=0))
    return X.sort(0).values


def coordinate_median(X: Tensor) -> Tensor:
    """The median of every column; the average of the two middle values for even n."""
    ordered, n = sorted_columns(X), len(X)
    return ordered[(n - 1) // 2] / 2 + ordered[n // 2] / 2  # halved first: the sum of two large values overflows


def check_vectors(X: Tensor, name: str = "X") -> Tensor:
    """X when it is a dense tensor [n, d], not empty, and finite."""
    if not isinstance(X, Tensor):
        raise TypeError(f"{name} must be a floating-point tensor [n, d], got {type(X).__name__}")
    if not is_dense(X) or X.ndim != 2 or not X.numel():
        raise ValueError(f"{name} must be a floating-point tensor [n, d] with n, d >= 1, got {described(X)}")
    if not X.isfinite().all():
        node = int((~X.isfinite().all(1)).nonzero()[0])
        raise ValueError(f"{name} must have finite rows, the row of node {node} is not")
    return X


def check_rule(X: Tensor, n_byzantine: int, rule: str) -> int:
    """n_byzantine, when the rule can stand so many among the rows of X."""
    n = len(check_vectors(X))
    most = byzantine.breakdown(rule=rule, n_nodes=n)
    if integer("n_byzantine", n_byzantine, 0) > most:
        raise ValueError(f"n_byzantine must be in 0..{most} for {rule} of {n} vectors, got {n_byzantine}")
    return int(n_byzantine)
