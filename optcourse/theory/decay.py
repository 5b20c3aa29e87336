r"""Weight decay against the l2 penalty, and the norm of scale-invariant weights.

Decoupled decay multiplies the weights by 1 - lr * weight_decay in each step; the penalty w/2 ||x||^2 adds w x to
the gradient. (With the penalty written w ||x||^2 every w below is 2 w.) Without momentum they are the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import nonnegative, positive, real
from optcourse.theory.bound import Number, scalar


class L2Momentum(NamedTuple):
    """Hyper-parameters of momentum SGD with an l2 penalty, and its buffer before the first step."""

    lr: float
    momentum: float
    weight_decay: float
    buffer: np.ndarray


def sgdw_to_l2(*, lr: float, momentum: float, weight_decay: float, x0: ArrayLike) -> L2Momentum:
    r"""The l2 penalty that makes momentum SGD produce the *same iterates* as SGDW, at a constant rate.

    SGDW: m = momentum m + g, x = (1 - lr w) x - lr m from m = 0. L2: m' = momentum' m' + g + w' x, x = x - lr' m'.
    Statement: :math:`\beta' = \beta(1-\eta w)`, :math:`w' = w(1-\beta)`, the same lr, and the buffer starts at
    :math:`m'_{-1} = wx_0/(1-\eta w)`. An identity for any gradients. Proof: m'_k = m_k + w x_k for every k, by
    induction. With *equal* hyper-parameters the two differ, and the map depends on lr, so that a schedule
    breaks it.

    ``x0`` of any shape. Raises ``ValueError`` unless lr > 0, momentum in [0, 1), 0 <= lr * weight_decay < 1.

    >>> sgdw_to_l2(lr=0.5, momentum=0.5, weight_decay=1.0, x0=[1.0])
    L2Momentum(lr=0.5, momentum=0.25, weight_decay=0.5, buffer=array([2.]))
    """
    (eta,), (w,), beta = positive(lr=lr), nonnegative(weight_decay=weight_decay), _momentum(momentum)
    keep = 1 - _product(eta, w)
    buffer = w * np.asarray(real("x0", x0), dtype=float) / keep
    return L2Momentum(float(eta), float(beta * keep), float(w * (1 - beta)), buffer)


def l2_fixed_point(*, curvature: ArrayLike, center: ArrayLike, weight_decay: ArrayLike) -> Number:
    r"""Minimizer of :math:`\frac12\sum_ia_i(x_i-c_i)^2+\frac w2\|x\|^2`: :math:`a_ic_i/(a_i+w)`.

    Where SGD, momentum SGD and Adam with an l2 penalty end without noise: the penalty counts most where
    the curvature is small. Raises ``ValueError`` unless curvature > 0 and weight_decay >= 0.

    >>> l2_fixed_point(curvature=[1.0, 9.0], center=[2.0, 2.0], weight_decay=1.0)
    array([1. , 1.8])
    """
    (a,), (w,) = positive(curvature=curvature), nonnegative(weight_decay=weight_decay)
    return scalar(a * np.asarray(real("center", center), dtype=float) / (a + w))


def sgdw_fixed_point(
    *, curvature: ArrayLike, center: ArrayLike, weight_decay: ArrayLike, momentum: ArrayLike
) -> Number:
    r"""Where SGDW ends on the same quadratic: that of the smaller penalty :math:`w(1-\beta)`.

    In a fixed point the buffer is g/(1 - momentum) while the decay is not amplified. (With momentum as an
    average it is ``momentum=0``.) Raises ``ValueError`` as :func:`l2_fixed_point` and unless momentum in [0, 1).

    >>> sgdw_fixed_point(curvature=1.0, center=2.0, weight_decay=1.0, momentum=0.75)
    1.6
    """
    beta, (w,) = _momentum(momentum), nonnegative(weight_decay=weight_decay)
    return l2_fixed_point(curvature=curvature, center=center, weight_decay=w * (1 - beta))


def adamw_fixed_point(*, center: ArrayLike, weight_decay: ArrayLike) -> Number:
    r"""Where AdamW ends on any :math:`\sum_if_i(x_i)`, f_i convex with minimizer c_i: :math:`c_i` clipped to
    :math:`\pm1/w`.

    Deterministic limit of small rates: the normalized step is a sign, so x moves until |x| = 1/w or the
    gradient vanishes. AdamW minimizes f subject to ||x||_inf <= 1/w, whatever the curvature. Source: Xie
    & Li 2024, "Implicit bias of AdamW".

    Raises ``ValueError`` unless weight_decay > 0.

    >>> adamw_fixed_point(center=[0.3, -7.0], weight_decay=0.5)
    array([ 0.3, -2. ])
    """
    (w,) = positive(weight_decay=weight_decay)
    return scalar(np.clip(np.asarray(real("center", center), dtype=float), -1 / w, 1 / w))


def equilibrium_norm(*, lr: ArrayLike, weight_decay: ArrayLike, gradient_norm: ArrayLike) -> Number:
    r"""Norm to which decay and gradient drive scale-invariant weights under SGD.

    Statement: :math:`\|w\|^4 = \frac{\eta\tilde g^2}{\lambda(2-\eta\lambda)}`, where ``gradient_norm`` g is the
    gradient's norm on the unit sphere, taken constant. Proof: the gradient is orthogonal to w and has norm
    g/||w||, so ||w+||^2 = (1 - lr lambda)^2 ||w||^2 + lr^2 g^2/||w||^2. An identity for the fixed point, which
    attracts from every start.

    Broadcasts. Raises ``ValueError`` unless all are > 0 and lr * weight_decay < 1.

    >>> equilibrium_norm(lr=0.5, weight_decay=1.0, gradient_norm=3.0**0.5)
    1.0
    """
    lr, w, g = positive(lr=lr, weight_decay=weight_decay, gradient_norm=gradient_norm)
    return scalar((lr * g**2 / (w * (2 - _product(lr, w)))) ** 0.25)


def equilibrium_rotation(*, lr: ArrayLike, weight_decay: ArrayLike) -> Number:
    r"""Angle in radians by which each step then turns the weights: :math:`\arccos(1-\eta\lambda)`.

    About sqrt(2 lr weight_decay), whatever the gradient: lr and weight_decay act only through their product.
    Proof: in equilibrium w+ has the length of w and its component along w is (1 - lr lambda) w. Raises
    ``ValueError`` unless both are > 0 and lr * weight_decay < 1.

    >>> round(equilibrium_rotation(lr=0.1, weight_decay=0.05), 4), round(0.01**0.5, 4)
    (0.1, 0.1)
    """
    lr, w = positive(lr=lr, weight_decay=weight_decay)
    return scalar(np.arccos(1 - _product(lr, w)))


def norm_growth(*, step_lengths: ArrayLike, lr: float, momentum: float) -> np.ndarray:
    r"""Growth ||w_t||^2 - ||w_0||^2 of scale-invariant weights under momentum SGD without decay.

    Statement: with buffers p_k (the step is -lr p_k) it is :math:`\eta^2\sum_{k<t}\|p_k\|^2 +
    2\eta^2\sum_{j<t}\sum_{k<j}\beta^{j-k}\|p_k\|^2`. The double sum is momentum's own: old gradients are no longer
    orthogonal to the weights. An identity for any gradients orthogonal to the current weights. Source: Heo, Chun,
    Oh, Han, Yun, Kim, Uh & Ha 2021, "AdamP", the lemma on norm growth.

    ``step_lengths`` ||p_k||, shape [T]; the result, t = 1 ... T, too. Raises ``ValueError`` for another
    shape or unless lengths >= 0, lr > 0 and momentum in [0, 1).

    >>> norm_growth(step_lengths=[1.0, 1.0, 1.0], lr=1.0, momentum=0.5)
    array([1. , 3. , 5.5])
    """
    (p,), (eta,), beta = nonnegative(step_lengths=step_lengths), positive(lr=lr), _momentum(momentum)
    if p.ndim != 1:
        raise ValueError(f"step_lengths must have shape [T], got {list(p.shape)}")
    growth, old = np.empty_like(p), 0.0
    for k, square in enumerate(p**2):
        growth[k] = square + 2 * old
        old = beta * (old + square)
    return eta**2 * np.cumsum(growth)


def growth_factor(*, momentum: ArrayLike) -> Number:
    r"""How much faster the squared norm grows than the sum of squared steps: :math:`1+2\beta/(1-\beta)`.

    The long-run ratio in :func:`norm_growth` for steps of equal length; projecting the step onto the tangent
    space (SGDP, AdamP) makes it 1. Raises ``ValueError`` unless momentum is in [0, 1).

    >>> round(growth_factor(momentum=0.9), 9)
    19.0
    """
    beta = _momentum(momentum)
    return scalar((1 + beta) / (1 - beta))


def _momentum(value: ArrayLike) -> np.ndarray:
    return np.asarray(real("momentum", value, 0, 1, open_high=True), dtype=float)


def _product(lr: np.ndarray, weight_decay: np.ndarray) -> np.ndarray:
    if (lr * weight_decay >= 1).any():
        raise ValueError(f"lr * weight_decay must be below 1, got lr = {lr} and weight_decay = {weight_decay}")
    return lr * weight_decay
