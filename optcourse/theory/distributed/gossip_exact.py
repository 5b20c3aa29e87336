r"""DSGD and gradient tracking on quadratics, exactly: where they end, how fast, and what noise adds on the way.

The notation is that of :mod:`optcourse.theory.distributed.gossip`, where these functions are found.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import null_space

from optcourse.arguments import nonnegative, positive, real


class SquaredGradients(NamedTuple):
    """Expected squared gradients, averaged over the steps, each of the shape of ``steps`` and ``lr``."""

    parallel: np.ndarray
    at_mean: np.ndarray
    at_nodes: np.ndarray


def dsgd_fixed_point(*, W: ArrayLike, curvatures: ArrayLike, centers: ArrayLike, lr: float) -> np.ndarray:
    r"""Where the nodes of DSGD end on :math:`f_i(x)=\frac12(x-b_i)^\top A_i(x-b_i)` without noise, exactly.

    Statement: the solution of :math:`(I-W(I-\gamma A))x=\gamma WAb`. An identity. Its mean is off the minimizer of f
    by O(lr) unless W = J or all A_i are equal; that bias is what gradient tracking removes.

    ``curvatures`` of shape [n] or [n, d, d], ``centers`` and the result of shape [n] or [n, d]. Raises ``ValueError``
    unless W is doubly stochastic, the shapes match, lr > 0 and the iteration contracts.

    >>> dsgd_fixed_point(W=[[0.5, 0.5], [0.5, 0.5]], curvatures=[1.0, 3.0], centers=[0.0, 4.0], lr=0.1)
    array([3., 3.])
    """
    W, (gamma,) = _doubly_stochastic(W), positive(lr=lr)
    A = np.asarray(real("curvatures", curvatures), dtype=float)
    b = np.asarray(real("centers", centers), dtype=float)
    if b.ndim not in (1, 2) or len(b) != len(W) or A.shape != (*b.shape, *b.shape[1:]):
        raise ValueError(
            f"curvatures and centers must have shapes [n], [n] or [n, d, d], [n, d] with n = {len(W)}, "
            f"got {list(A.shape)} and {list(b.shape)}"
        )
    n, d = len(b), b[0].size
    A = A.reshape(n, d, d)
    mix = np.kron(W, np.eye(d))
    pull = np.einsum("ij,iab->iajb", np.eye(n), A).reshape(n * d, n * d)
    step = mix @ (np.eye(n * d) - gamma * pull)
    _contracts(step, gamma)
    return np.linalg.solve(np.eye(n * d) - step, gamma * mix @ pull @ b.ravel()).reshape(b.shape)


def gradient_tracking_rate(*, W: ArrayLike, curvatures: ArrayLike, lr: float) -> float:
    r"""Asymptotic factor per step of gradient tracking on quadratics; the limit is exactly the minimizer of f.

    x+ = W (x - lr y), y+ = W y + grad(x+) - grad(x), y_0 = grad(x_0), where the i-th entry of grad is f_i'(x_i) and
    f_i = a_i (x - b_i)^2/2. Statement: the spectral radius of :math:`\begin{pmatrix}W&-\gamma W\\D(W-I)&W-\gamma
    DW\end{pmatrix}`, D = diag(a), on the subspace sum y = sum a x. (Across it the matrix has the eigenvalue 1:
    sum y = sum grad is preserved.) An identity; at least 1 where it diverges. Source: Koloskova, Lin & Stich
    2021, "An improved analysis of gradient tracking", for the algorithm.

    ``W`` [n, n], ``curvatures`` [n]. Raises ``ValueError`` unless W is doubly stochastic, the shapes match, the
    curvatures and lr are > 0.

    >>> round(gradient_tracking_rate(W=[[0.5, 0.5], [0.5, 0.5]], curvatures=[1.0, 1.0], lr=0.25), 9)
    0.75
    """
    W, (a, gamma) = _doubly_stochastic(W), positive(curvatures=curvatures, lr=lr)
    if a.shape != W.shape[:1]:
        raise ValueError(f"curvatures must have shape [{len(W)}], got {list(a.shape)}")
    D, identity = np.diag(a), np.eye(len(W))
    step = np.block([[W, -gamma * W], [D @ (W - identity), W - gamma * D @ W]])
    tracked = null_space(np.concatenate([-a, np.ones_like(a)])[None])
    return float(abs(np.linalg.eigvals(tracked.T @ step @ tracked)).max())


def dsgd_squared_gradients(
    *,
    W: ArrayLike,
    curvatures: ArrayLike,
    centers: ArrayLike,
    sigma2: float,
    start: float,
    steps: ArrayLike,
    lr: ArrayLike,
) -> SquaredGradients:
    r"""What parallel SGD, the mean of DSGD's nodes and the nodes themselves see on quadratics, exactly.

    Node i has :math:`f_i=\frac12a_i(x-b_i)^2`. Each result is the average over t < T of E f'(x)^2, with x the iterate
    of parallel SGD, :math:`\bar x_t`, or (averaged over i) :math:`x_{i,t}`. All nodes start at ``start``; every
    gradient has independent noise of variance ``sigma2``.

    Proof: with D = I - lr A and y = D^(1/2) x, measured from the minimizer, a step is y+ = S y + lr D^(1/2) W (A b +
    noise) with the symmetric S = D^(1/2) W D^(1/2). In its eigenbasis every first and second moment is a geometric
    series. An identity.

    ``W`` [n, n], ``curvatures`` and ``centers`` [n]; ``steps`` and ``lr`` broadcast. Raises ``ValueError`` unless W is
    symmetric and doubly stochastic, the shapes match, curvatures, steps and lr are > 0, sigma2 >= 0, and lr times the
    largest curvature is below 1.

    >>> of = dsgd_squared_gradients(W=[[1.0]], curvatures=[1.0], centers=[0.0], sigma2=1.0, start=1.0, steps=2, lr=0.5)
    >>> float(of.parallel), float(of.at_mean), float(of.at_nodes)  # (1 + (0.25 + 0.25)) / 2
    (0.75, 0.75, 0.75)
    """
    W, (a, T, gamma), (noise,) = (
        _doubly_stochastic(W),
        positive(curvatures=curvatures, steps=steps, lr=lr),
        nonnegative(sigma2=sigma2),
    )
    n, b = len(W), np.asarray(real("centers", centers), dtype=float)
    if a.shape != (n,) or b.shape != (n,):
        raise ValueError(f"curvatures and centers must have shape [{n}], got {list(a.shape)} and {list(b.shape)}")
    if abs(W - W.T).max() > 1e-9:
        raise ValueError("W must be symmetric")
    T, gamma = np.broadcast_arrays(T, gamma)
    if (gamma * a.max() >= 1).any():
        raise ValueError(f"lr must be below 1 / (largest curvature) = {1 / a.max():.4g}, got {gamma.max():.4g}")
    minimizer, T, lr_ = (a * b).sum() / a.sum(), T[..., None, None], gamma[..., None]

    def average(q: np.ndarray) -> np.ndarray:
        """Of q^t over t < T."""
        return (1 - q**T) / (T * (1 - q))

    root = np.sqrt(1 - lr_ * a)
    s, Q = np.linalg.eigh(root[..., :, None] * W * root[..., None, :])
    into = Q.mT * root[..., None, :] @ W  # what a push on the nodes does to the eigenmodes
    end = lr_ * (into @ (a * (b - minimizer))) / (1 - s)
    away = np.einsum("...ik,...i->...k", Q, root) * (start - minimizer) - end
    pairs = average(s[..., :, None] * s[..., None, :])
    falling = average(s[..., None, :])[..., 0, :]
    once = end[..., :, None] * (away * falling)[..., None, :]
    moment = end[..., :, None] * end[..., None, :] + once + once.mT + away[..., :, None] * away[..., None, :] * pairs
    moment += (lr_**2 * noise)[..., None] * (into @ into.mT) * (1 - pairs) / (1 - s[..., :, None] * s[..., None, :])
    back = Q / root[..., None]  # x = back z
    of_mean, slope2 = back.mean(-2), a.mean() ** 2
    r = ((1 - lr_ * a.mean()) ** 2)[..., None]
    alone = average(r) * (start - minimizer) ** 2 + (lr_**2 * noise / n)[..., None] * (1 - average(r)) / (1 - r)
    return SquaredGradients(
        slope2 * alone[..., 0, 0],
        slope2 * np.einsum("...k,...kl,...l->...", of_mean, moment, of_mean),
        slope2 * np.einsum("...ik,...kl,...il->...", back, moment, back) / n,
    )


def _doubly_stochastic(W: ArrayLike) -> np.ndarray:
    W = np.asarray(real("W", W), dtype=float)
    if W.ndim != 2 or W.shape[0] != W.shape[1] or W.size == 0:
        raise ValueError(f"W must have shape [n, n], got {list(W.shape)}")
    off = max(abs(W.sum(axis) - 1).max() for axis in (0, 1))
    if off > 1e-9 or W.min() < -1e-12:
        raise ValueError(f"W must be doubly stochastic, got smallest entry {W.min()} and sums off 1 by {off}")
    return W


def _contracts(step: np.ndarray, lr: np.ndarray) -> None:
    radius = abs(np.linalg.eigvals(step)).max()
    if radius >= 1 - 1e-12:
        raise ValueError(f"lr must make the iteration contract, got lr = {lr} with spectral radius {radius}")
