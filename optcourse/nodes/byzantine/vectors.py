"""What the rules of ``aggregators`` share: checks, medians, and distances from one Gram matrix."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from optcourse.arguments import integer
from optcourse.theory import byzantine


def centred_gram(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A center [d], Y = X - center and Y Y^T, in float64.

    The mean would not do as center: one far row would carry it away, and with it the digits of all near distances.
    """
    center = coordinate_median(X).double()
    Y = X.double() - center
    gram = Y @ Y.T
    if not gram.isfinite().all():
        node = int((~gram.diagonal().isfinite()).nonzero()[0])
        raise ValueError(f"X must have rows whose squared length is finite in float64, node {node} has not")
    return center, Y, gram


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
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def check_vectors(X: Tensor) -> Tensor:
    """X when it is [n, d] and finite."""
    if X.ndim != 2 or not len(X) or not X.is_floating_point():
        raise ValueError(f"X must be a floating-point tensor [n, d] with n >= 1, got {X.dtype} of {list(X.shape)}")
    if not X.isfinite().all():
        node = int((~X.isfinite().all(1)).nonzero()[0])
        raise ValueError(f"X must have finite rows, the row of node {node} is not")
    return X


def check_rule(X: Tensor, n_byzantine: int, rule: str) -> int:
    """n_byzantine, when the rule can stand so many among the rows of X."""
    n = len(check_vectors(X))
    most = byzantine.breakdown(rule=rule, n_nodes=n)
    if integer("n_byzantine", n_byzantine, 0) > most:
        raise ValueError(f"n_byzantine must be in 0..{most} for {rule} of {n} vectors, got {n_byzantine}")
    return int(n_byzantine)
