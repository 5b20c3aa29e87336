r"""What a compressor does to a vector: its variance if it is unbiased, else its contraction.

The two classes, omega and delta, are those of ``theory.compression``, where these functions are found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import integer, nonnegative, real
from optcourse.theory.bound import Number, scalar


def qsgd_variance(*, vector: ArrayLike, levels: int) -> Number:
    r"""Variance of QSGD with s levels: :math:`E\|Q(v)-v\|^2 = \frac{\|v\|^2}{s^2}\sum_ip_i(1-p_i)`.

    r_i = s|v_i|/||v|| is rounded up with probability p_i = r_i - floor(r_i), and down otherwise. An identity. Source:
    Alistarh, Grubic, Li, Tomioka & Vojnovic 2017, "QSGD", section 3.1.

    ``vector``, shape [..., d]; the result, [...]. Raises ``ValueError`` unless levels >= 1.

    >>> qsgd_variance(vector=[1.0] * 9, levels=1)  # (sqrt(9) - 1) * 9
    18.0
    """
    v, s = _array("vector", vector), integer("levels", levels, 1)
    norm = np.linalg.norm(v, axis=-1, keepdims=True)
    r = s * np.divide(abs(v), norm, out=np.zeros_like(v), where=norm > 0)
    p = r - np.floor(r)
    return scalar(np.square(norm[..., 0]) / s**2 * (p * (1 - p)).sum(-1))


def qsgd_omega(*, size: ArrayLike, levels: ArrayLike) -> Number:
    r"""Bound on QSGD's relative variance: :math:`\omega = \min\{\frac d{4s^2}, \frac{\sqrt d}s\}` for s >= 2 and
    :math:`\omega = \sqrt d-1` for s = 1.

    Proof, from :func:`qsgd_variance`: p(1-p) <= 1/4; and p(1-p) <= p <= r with sum r_i = s||v||_1/||v|| <= s sqrt(d).
    For s = 1 no r_i exceeds 1, so p(1-p) = r - r^2; since sum r_i^2 = s^2 = 1, the variance is ||v||_1/||v|| - 1. Its
    bound sqrt(d) - 1 is the smallest of the three: d/4 - (sqrt(d) - 1) = (sqrt(d)/2 - 1)^2 >= 0.

    Tight: s = 1 and a constant vector; d/4s^2 when all r_i are half-integers. Slack: 1 there; 4/3 where sqrt(d)/s is
    the smaller one, since sqrt(d) >= 4s and a constant vector has the variance sqrt(d)/s - 1. Alistarh et al. 2017,
    Lemma 3.1, has d/s^2 in place of d/4s^2.

    Broadcasts. Raises ``ValueError`` unless size and levels are >= 1.

    >>> qsgd_omega(size=[16, 400, 9], levels=[2, 2, 1])  # 16/16, 20/2, 3 - 1
    array([ 1., 10.,  2.])
    """
    d, s = (np.asarray(real(k, v, 1), dtype=float) for k, v in (("size", size), ("levels", levels)))
    return scalar(np.where(s == 1, np.sqrt(d) - 1, np.minimum(d / (4 * s**2), np.sqrt(d) / s)))


def delta_sparse(*, size: int, kept: int) -> float:
    r"""Contraction of top-k and random-k on vectors of size d: :math:`\delta = k/d`.

    Random-k: equality in expectation, for every vector. Top-k: equality for equal magnitudes, better otherwise
    (:func:`delta_top_k`). The best rank-r approximation of an a x b matrix is top-r of its singular values: size =
    min(a, b). "delta = compression ratio" holds for these and not for sign or quantization. Source: Stich, Cordonnier
    & Jaggi 2018, "Sparsified SGD with Memory", Lemma A.1.

    Raises ``ValueError`` unless kept is in 1..size.

    >>> delta_sparse(size=8, kept=2)
    0.25
    """
    return integer("kept", kept, 1, integer("size", size, 1)) / size


def delta_top_k(*, vector: ArrayLike, kept: int) -> float:
    r"""What top-k attains on one vector: the k largest squares over all, :math:`1-\|C(v)-v\|^2/\|v\|^2 \ge k/d`.

    An identity. ``vector``, shape [d]. Raises ``ValueError`` for another shape, v = 0 or kept outside 1..d.

    >>> delta_top_k(vector=[3.0, -1.0, 4.0], kept=2) == 25 / 26
    True
    """
    squares = np.sort(np.square(_nonzero("vector", vector, 1)))
    k = integer("kept", kept, 1, squares.size)
    return float(squares[-k:].sum() / squares.sum())


def delta_low_rank(*, matrix: ArrayLike, rank: int) -> float:
    r"""What the best rank-r approximation attains on one matrix: :math:`\sum_{i\le r}s_i^2/\sum_is_i^2`.

    At least r/min(a, b), with equality for equal singular values (:func:`delta_sparse`). An identity (Eckart-Young).
    One power iteration, as in PowerSGD, attains no more. ``matrix``, shape [a, b]. Raises ``ValueError`` for another
    shape, a zero matrix or rank outside 1..min(a, b).

    >>> round(delta_low_rank(matrix=[[3.0, 0.0], [0.0, 1.0]], rank=1), 12)
    0.9
    """
    M = _nonzero("matrix", matrix, 2)
    return delta_top_k(vector=np.linalg.svd(M, compute_uv=False), kept=integer("rank", rank, 1, min(M.shape)))


def delta_sign(*, vector: ArrayLike) -> float:
    r"""What scaled sign, :math:`C(v) = \frac{\|v\|_1}d\mathrm{sgn}(v)` with sgn(0) = 1, attains:
    :math:`\frac{\|v\|_1^2}{d\|v\|^2}`.

    From 1/d (one entry) to 1 (equal magnitudes); about 2/pi for Gaussian vectors. An identity. Source: Karimireddy,
    Rebjock, Stich & Jaggi 2019, "Error Feedback Fixes SignSGD", Lemma 8.

    ``vector``, shape [d]. Raises ``ValueError`` for another shape or v = 0.

    >>> delta_sign(vector=[1.0, -2.0, 2.0, 5.0]) == 100 / 136
    True
    """
    v = _nonzero("vector", vector, 1)
    return float(abs(v).sum() ** 2 / (v.size * (v @ v)))


def delta_unbiased(*, omega: ArrayLike) -> Number:
    r"""Contraction of Q/(1 + omega) for an unbiased Q: :math:`\delta = \frac1{1+\omega}`.

    Tight: equality where E||Q(v)||^2 = (1 + omega)||v||^2. Raises ``ValueError`` unless omega >= 0.

    >>> delta_unbiased(omega=3.0)
    0.25
    """
    (omega,) = nonnegative(omega=omega)
    return scalar(1 / (1 + omega))


def _array(name: str, value: ArrayLike) -> np.ndarray:
    array = np.asarray(real(name, value), dtype=float)
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} must have shape [..., d] with d >= 1, got {list(array.shape)}")
    return array


def _nonzero(name: str, value: ArrayLike, ndim: int) -> np.ndarray:
    array = _array(name, value)
    if array.ndim != ndim or not array.any():
        raise ValueError(f"{name} must have {ndim} axes and a nonzero entry, got shape {list(array.shape)}: {array}")
    return np.ldexp(array, -np.frexp(abs(array).max())[1])  # ratios have no unit, and squares a range
