r"""DSGD and gradient tracking on quadratics without noise, exactly: where they end and how fast.

The notation is that of :mod:`optcourse.theory.distributed.gossip`, where these functions are found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import null_space

from optcourse.arguments import positive, real


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
