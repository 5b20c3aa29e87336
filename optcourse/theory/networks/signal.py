r"""Mean field of wide random networks: how long a signal is, how alike two signals are, and what gradients do.

A layer is :math:`h^l = W^l\phi(h^{l-1}) + b^l` with weights of variance ``sigma_w2`` / width and biases of variance
``sigma_b2``. As the width grows the entries of h become independent :math:`\mathcal N(0, q^l)`, and every mean over a
layer an integral over one Gaussian (two for two inputs). ``activation`` is ``"tanh"`` or ``"relu"`` (any q).

Sources: Poole, Lahiri, Raghu, Sohl-Dickstein & Ganguli 2016, "Exponential expressivity in deep neural networks through
transient chaos", equations (3), (5) and (8); Schoenholz, Gilmer, Ganguli & Sohl-Dickstein 2017, "Deep information
propagation", equations (3) to (9); Pennington, Schoenholz & Ganguli 2017, "Resurrecting the sigmoid in deep learning
through dynamical isometry", equations (19) to (22).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import root_scalar

from optcourse.arguments import choice, integer, nonnegative, positive, real
from optcourse.theory.bound import Number, scalar
from optcourse.theory.networks.signal_residual import relu_cosine

ACTIVATIONS = ("tanh", "relu")

# A trapezoid: for analytic functions its error vanishes exponentially in 1 / step. Gauss-Hermite quadrature with 201
# nodes resolves tanh(10 z) to two digits only.
_Z = np.linspace(-12, 12, 2401)
_P = np.exp(-(_Z**2) / 2) / np.sqrt(2 * np.pi) * (_Z[1] - _Z[0])
_COARSE = slice(400, 2001, 5)  # [-8, 8] in steps of 0.05, for integrals over two variables
MOST = 1000.0, 100.0  # the largest q for tanh, for integrals over one and two variables: a grid too coarse for more


class Initialization(NamedTuple):
    """Variance of the weights times the width, and variance of the biases."""

    sigma_w2: Number
    sigma_b2: Number


class DepthScales(NamedTuple):
    """Layers in which the distance from the fixed point falls by e: of the length, and of the correlation; and the
    layers in which a squared gradient changes by e. Infinite at criticality."""

    length: Number
    correlation: Number
    gradient: Number


def length_map(*, q: ArrayLike, sigma_w2: ArrayLike, sigma_b2: ArrayLike, activation: str) -> Number:
    r"""Variance of the next layer: :math:`\sigma_w^2\,\mathbb E\,\phi(\sqrt q z)^2 + \sigma_b^2`, z standard normal.

    ReLU: :math:`\sigma_w^2q/2+\sigma_b^2`. Broadcasts. Raises ``ValueError`` for negative arguments.

    >>> length_map(q=3.0, sigma_w2=2.0, sigma_b2=0.0, activation="relu")
    3.0
    """
    q, w, b = nonnegative(q=q, sigma_w2=sigma_w2, sigma_b2=sigma_b2)
    return scalar(w * _squares(q, activation) + b)


def length_slope(*, q: ArrayLike, sigma_w2: ArrayLike, activation: str) -> Number:
    r"""Derivative of the length map: :math:`\sigma_w^2\,\mathbb E[\phi'^2+\phi\phi''](\sqrt q z)`.

    Proof: differentiate under the integral and integrate by parts, :math:`\mathbb E\,z f(z)=\mathbb E f'(z)`. For
    tanh :math:`\phi''=-2\phi\phi'`, so with :math:`t=\tanh(\sqrt qz)` it is
    :math:`\sigma_w^2\,\mathbb E(1-t^2)(1-3t^2)`; for ReLU :math:`\sigma_w^2/2`.

    >>> length_slope(q=5.0, sigma_w2=2.0, activation="relu")
    1.0
    """
    q, w = nonnegative(q=q, sigma_w2=sigma_w2)
    if choice("activation", activation, ACTIVATIONS) == "relu":
        return scalar(w / 2 * np.ones_like(q))
    return scalar(w * _mean(lambda h: (1 - np.tanh(h) ** 2) * (1 - 3 * np.tanh(h) ** 2), q))


def chi(*, q: ArrayLike, sigma_w2: ArrayLike, activation: str) -> Number:
    r"""Mean squared singular value of one layer's Jacobian: :math:`\chi=\sigma_w^2\,\mathbb E\,\phi'(\sqrt qz)^2`.

    Squared gradients are multiplied by chi per layer; it is also the slope of the correlation map at 1. ReLU:
    :math:`\sigma_w^2/2`, whatever q.

    >>> round(chi(q=1e-9, sigma_w2=1.5, activation="tanh"), 6)
    1.5
    """
    q, w = nonnegative(q=q, sigma_w2=sigma_w2)
    return scalar(w * _slopes(q, activation))


def fixed_point(*, sigma_w2: ArrayLike, sigma_b2: ArrayLike, activation: str) -> Number:
    r"""The length :math:`q^*` that the length map keeps, and to which it leads from any q > 0.

    tanh: there is only one, found by bracketing: the map is concave, above :math:`\sigma_w^2(q-2q^2)` because
    :math:`\tanh^2x\ge x^2-\frac23x^4`, and below :math:`\sigma_w^2+\sigma_b^2`; it is 0 where
    :math:`\sigma_w^2\le1,\ \sigma_b=0`. ReLU: :math:`\sigma_b^2/(1-\sigma_w^2/2)`. Raises ``ValueError`` for ReLU with
    sigma_w2 >= 2: there lengths grow for ever, or (2, 0) all are kept.

    >>> fixed_point(sigma_w2=1.0, sigma_b2=0.5, activation="relu")
    1.0
    """
    w, b = nonnegative(sigma_w2=sigma_w2, sigma_b2=sigma_b2)
    if choice("activation", activation, ACTIVATIONS) == "relu":
        real("sigma_w2", w, 0, 2, open_high=True)
        return scalar(b / (1 - w / 2))
    return scalar(np.vectorize(_fixed_point_of_tanh, otypes=[float])(w, b))


def critical(*, q: ArrayLike, activation: str, chi: ArrayLike = 1.0) -> Initialization:
    r"""The initialization that keeps the length q and has the given ``chi``: the critical line, explicit in q.

    :math:`\sigma_w^2=\chi/\mathbb E\,\phi'(\sqrt qz)^2` and
    :math:`\sigma_b^2=q-\sigma_w^2\,\mathbb E\,\phi(\sqrt qz)^2`. For ReLU and chi = 1 it is (2, 0) for every q. Raises
    ``ValueError`` unless q, chi > 0 and where the variance of the biases would be negative (NaN in a sweep).

    >>> critical(q=0.7, activation="relu")
    Initialization(sigma_w2=2.0, sigma_b2=0.0)
    """
    q, slope = positive(q=q, chi=chi)
    w = slope / _slopes(q, activation)
    b = q - w * _squares(q, activation)
    b = np.where((b < 0) & (b > -1e-14 * q), 0.0, b)
    if b.ndim == 0 and b < 0:
        raise ValueError(f"chi must be at most that of a network without biases at this q, got {chi!r}: sigma_b2 < 0")
    return Initialization(scalar(w + 0 * q), scalar(np.where(b < 0, np.nan, b)))


def correlation_map(
    *,
    c: ArrayLike,
    q: float,
    sigma_w2: float,
    sigma_b2: float,
    activation: str,
    centred: bool = False,
) -> Number:
    r"""Correlation of two inputs' pre-activations one layer later, both of length q:
    :math:`\big(\sigma_w^2\,\mathbb E\,\phi(u)\phi(v)+\sigma_b^2\big)/q'`, where q' is the length map of q.

    u and v are Gaussian with variance q and correlation c. For ReLU the integral is q/2 times
    :func:`optcourse.theory.networks.signal_residual.relu_cosine`. The slope at c = 1 is chi if q is fixed.
    ``centred`` takes the means of the activations away first, as weights with rows that sum to zero do.

    ``c`` in [-1, 1], an array at will. Raises ``ValueError`` otherwise, and for q <= 0.

    >>> round(correlation_map(c=0.0, q=1.0, sigma_w2=2.0, sigma_b2=0.0, activation="relu"), 6)  # 1 / pi
    0.31831
    """
    c = np.asarray(real("c", c, -1, 1), dtype=float)
    (q_,), (w, b) = positive(q=q), nonnegative(sigma_w2=sigma_w2, sigma_b2=sigma_b2)
    squared_mean = q_ / (2 * np.pi) if centred and activation == "relu" else 0.0  # tanh is odd
    positive(**{"sigma_w2 + sigma_b2": sigma_w2 + sigma_b2})
    above = w * (_products(c, float(q_), activation) - squared_mean) + b
    return scalar(above / (w * (_squares(q_, activation) - squared_mean) + b))


def depth_scales(*, sigma_w2: float, sigma_b2: float) -> DepthScales:
    r"""How deep a tanh network may be: :math:`\xi_q=-1/\ln\frac{dq'}{dq}`, :math:`\xi_c=-1/\ln\frac{dc'}{dc}`,
    :math:`\xi_\nabla=1/|\ln\chi|`, the slopes at the fixed points.

    The correlation's fixed point is 1 where chi <= 1 (then both last ones agree), and below 1 in the chaotic phase.
    Schoenholz et al. found networks trainable up to about 6 xi_c layers.

    >>> scales = depth_scales(sigma_w2=0.5, sigma_b2=0.0)
    >>> f"{scales.gradient * np.log(2):.9f}", scales.length == scales.correlation == scales.gradient
    ('1.000000000', True)
    """
    setting = {"sigma_w2": sigma_w2, "sigma_b2": sigma_b2, "activation": "tanh"}
    q = float(fixed_point(**setting))
    slope = at_one = float(chi(q=q, sigma_w2=sigma_w2, activation="tanh"))
    if at_one > 1:
        c = _fixed_correlation(lambda c: float(correlation_map(c=c, q=q, **setting)) - c)
        slope = sigma_w2 * float(_pairs(np.asarray(c), q, lambda h: 1 - np.tanh(h) ** 2))
    length = float(length_slope(q=q, sigma_w2=sigma_w2, activation="tanh"))
    return DepthScales(*(_scale(x) for x in (length, slope, at_one)))


def length_spread(*, q: ArrayLike, sigma_w2: ArrayLike, width: int, activation: str) -> Number:
    r"""Standard deviation of one network's length around a fixed point q, to first order in 1/width.

    Statement: one layer adds the variance :math:`v=\sigma_w^4\operatorname{Var}\phi(\sqrt qz)^2/N`, and with the slope
    :math:`J` of the length map it becomes :math:`v/(1-J^2)`. Length here means
    :math:`\frac{\sigma_w^2}N\sum_j\phi(h_j)^2+\sigma_b^2`: given it, the next layer is exactly Gaussian. Proof: the
    deviations obey :math:`\delta'=J\delta+\text{noise}`. Raises ``ValueError`` where J >= 1 (ReLU at (2, 0) is a
    random walk: it has no fixed spread).
    """
    (q_,), (w,) = positive(q=q), nonnegative(sigma_w2=sigma_w2)
    slope = np.asarray(length_slope(q=q_, sigma_w2=w, activation=activation))
    if (slope >= 1).any():
        raise ValueError(f"sigma_w2 must leave the length map a slope below 1 at q, got a slope of {slope.max():g}")
    added = w**2 * (_squares(q_, activation, power=2) - _squares(q_, activation) ** 2) / integer("width", width, 1)
    return scalar(np.sqrt(added / (1 - slope**2)))


def squared_singular_values(
    *, q: ArrayLike, sigma_w2: ArrayLike, depth: ArrayLike, activation: str, orthogonal: bool
) -> tuple[Number, Number]:
    r"""Mean and variance of the squared singular values of the Jacobian of ``depth`` layers, all at length q.

    Statement: with :math:`\mu_k=\mathbb E\,\phi'(\sqrt qz)^{2k}` the mean is :math:`\chi^L` and the variance
    :math:`\chi^{2L}L\,(\mu_2/\mu_1^2-1-s_1)`, where :math:`s_1=-1` for Gaussian and 0 for orthogonal weights. Proof:
    a layer takes the moments (m_1, m_2) of JJ' to :math:`\sigma_w^2\mu_1m_1` and
    :math:`\sigma_w^4(\mu_2m_1^2+\mu_1^2(m_2-m_1^2-s_1m_1^2))`; divide by the square of the first. Exact as the width
    grows. Source: Pennington et al. 2017, equation (22).

    Broadcasts. Raises ``ValueError`` for negative arguments and depth < 0.

    >>> squared_singular_values(q=1.0, sigma_w2=2.0, depth=4, activation="relu", orthogonal=True)
    (1.0, 4.0)
    """
    q, w, depth = nonnegative(q=q, sigma_w2=sigma_w2, depth=depth)
    first, second = _slopes(q, activation), _slopes(q, activation, power=2)
    mean = (w * first) ** depth
    return scalar(mean), scalar(mean**2 * depth * (second / first**2 - (1 if orthogonal else 0)))


def centred_gain(activation: str) -> float:
    r"""What scaled weight standardization multiplies activations by: :math:`1/\sqrt{\operatorname{Var}\phi(z)}`.

    Rows that sum to zero and have length 1 pass on the variance of phi(z) and not its mean. ReLU:
    :math:`\sqrt{2/(1-1/\pi)}`. Source: Brock, De & Smith 2021, "Characterizing signal propagation", section 4.1.

    >>> round(centred_gain("relu"), 5)
    1.71286
    """
    mean = 1 / (2 * np.pi) if choice("activation", activation, ACTIVATIONS) == "relu" else 0.0
    return float(1 / np.sqrt(_squares(np.ones(()), activation) - mean))


# ------------------------------------------------------------------------------------------ integrals


def _mean(f: Callable[[np.ndarray], np.ndarray], q: np.ndarray) -> np.ndarray:
    """E f(sqrt(q) z) for every entry of q."""
    real("q", q, 0, MOST[0])
    return f(np.sqrt(q)[..., None] * _Z) @ _P


def _squares(q: np.ndarray, activation: str, power: int = 1) -> np.ndarray:
    """E phi^(2 power)."""
    if choice("activation", activation, ACTIVATIONS) == "relu":
        return {1: 0.5, 2: 1.5}[power] * q**power
    return _mean(lambda h: np.tanh(h) ** (2 * power), q)


def _slopes(q: np.ndarray, activation: str, power: int = 1) -> np.ndarray:
    """E phi'^(2 power)."""
    if choice("activation", activation, ACTIVATIONS) == "relu":
        return np.full_like(q, 0.5)
    return _mean(lambda h: (1 - np.tanh(h) ** 2) ** (2 * power), q)


def _products(c: np.ndarray, q: float, activation: str) -> np.ndarray:
    """E phi(u) phi(v)."""
    if choice("activation", activation, ACTIVATIONS) == "relu":
        return q / 2 * np.asarray(relu_cosine(cosine=c))
    return _pairs(c, q, np.tanh)


def _pairs(c: np.ndarray, q: float, f: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """E f(u) f(v) for Gaussian u, v of variance q and every correlation in c."""
    real("q", q, 0, MOST[1])
    z, p = _Z[_COARSE], 5 * _P[_COARSE]
    left, root = p * f(np.sqrt(q) * z), np.sqrt(q)

    def one(c: float) -> float:
        return float(left @ (f(root * (c * z[:, None] + np.sqrt(1 - c**2) * z)) @ p))

    return np.vectorize(one, otypes=[float])(c)


def _fixed_point_of_tanh(w: float, b: float) -> float:
    def excess(q: float) -> float:
        return w * float(_squares(np.asarray(q), "tanh")) + b - q

    low = max(b, (1 - 1 / w) / 2 if w > 1 else 0.0)
    return low if excess(low) <= 0 else _root(excess, low, w + b)


def _fixed_correlation(excess: Callable[[float], float]) -> float:
    """The fixed point in [0, 1) of the chaotic phase: 0 without biases, where the map of an odd activation is odd."""
    if excess(0.0) <= 1e-15:
        return 0.0
    nearly = 1 - 1e-6
    return nearly if excess(nearly) >= 0 else _root(excess, 0.0, nearly)


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    return float(root_scalar(f, bracket=(low, high), method="brentq", xtol=1e-15, rtol=1e-14).root)


def _scale(slope: float) -> float:
    rate = abs(np.log(slope)) if slope > 0 else np.inf
    return float("inf") if rate < 1e-12 else float(1 / rate)
