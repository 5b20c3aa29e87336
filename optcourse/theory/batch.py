"""The batch size worth its price: how noise and curvature limit the useful batch of a quadratic model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import positive, real
from optcourse.theory.bound import Number, scalar


class NoisyStep(NamedTuple):
    """The learning rate that decreases the loss most, and by how much it does in expectation."""

    lr: Number
    decrease: Number


def noise_scale(*, gradient: ArrayLike, covariance: ArrayLike, hessian: ArrayLike | None = None) -> float:
    r"""The batch size at which noise and gradient count alike: :math:`B_{noise} = \frac{tr(H\Sigma)}{G^\top HG}`.

    Without ``hessian`` the simple noise scale tr(Sigma)/||G||^2, its value for H a multiple of the identity.
    An identity. Source: McCandlish, Kaplan, Amodei & OpenAI Dota Team 2018, "An empirical model of large-batch
    training", section 2.2.

    ``gradient`` G, shape [d]; ``covariance`` Sigma of one sample's gradient and ``hessian`` H, shape [d, d]. Raises
    ``ValueError`` for other shapes, or unless G^T H G > 0 and tr(H Sigma) >= 0.

    >>> noise_scale(gradient=[2.0, 0.0], covariance=[[3.0, 0.0], [0.0, 5.0]])
    2.0
    """
    hessian = np.eye(np.size(gradient)) if hessian is None else hessian
    _, curvature, noise = _second_order(gradient, hessian, covariance)
    return noise / curvature


def optimal_step(*, gradient: ArrayLike, hessian: ArrayLike, covariance: ArrayLike, batch_size: ArrayLike) -> NoisyStep:
    r"""The step that decreases a quadratic most in expectation, and the decrease.

    Statement: :math:`\gamma = \frac{\gamma_{max}}{1+B_{noise}/B}` with :math:`\gamma_{max} =
    \frac{\|G\|^2}{G^\top HG}`, and the decrease is :math:`\frac{\gamma_{max}\|G\|^2/2}{1+B_{noise}/B}`: both
    grow with B and saturate at :func:`noise_scale`. Proof: E f(x - lr g) = f - lr ||G||^2 + lr^2/2 (G^T H G +
    tr(H Sigma)/B). An identity for quadratics. Source: McCandlish et al. 2018, equations 2.6 and 2.7.

    Arguments and errors as :func:`noise_scale`; broadcasts over batch_size > 0.

    >>> optimal_step(gradient=[2.0], hessian=[[0.5]], covariance=[[4.0]], batch_size=1)
    NoisyStep(lr=1.0, decrease=2.0)
    """
    (B,) = positive(batch_size=batch_size)
    square, curvature, noise = _second_order(gradient, hessian, covariance)
    lr = square / (curvature + noise / B)
    return NoisyStep(scalar(lr), scalar(lr * square / 2))


def steps_and_examples(*, batch_size: ArrayLike, noise_scale: ArrayLike, min_steps: ArrayLike) -> tuple[Number, Number]:
    r"""Steps :math:`S = S_{min}(1+B_{noise}/B)` and examples E = B S to a goal, when every step is optimal.

    They lie on the hyperbola :math:`(S/S_{min}-1)(E/E_{min}-1) = 1`, E_min = B_noise S_min. At the critical batch
    size B = B_noise = E_min/S_min both are twice their minimum. It supposes that B_noise is the same all along. The
    curve of :func:`optcourse.theory.sgd.sgd_iters` is not this one: its product is never below 2. Source: McCandlish
    et al. 2018, equation 2.11.

    Broadcasts. Raises ``ValueError`` unless all are > 0.

    >>> steps_and_examples(batch_size=64, noise_scale=64, min_steps=100)
    (200.0, 12800.0)
    """
    B, noise, S = positive(batch_size=batch_size, noise_scale=noise_scale, min_steps=min_steps)
    return scalar(S * (1 + noise / B)), scalar(S * (B + noise))


def _second_order(gradient: ArrayLike, hessian: ArrayLike, covariance: ArrayLike) -> tuple[float, float, float]:
    """||G||^2, G^T H G and tr(H Sigma)."""
    G = np.asarray(real("gradient", gradient), dtype=float)
    H = np.asarray(real("hessian", hessian), dtype=float)
    Sigma = np.asarray(real("covariance", covariance), dtype=float)
    if G.ndim != 1 or H.shape != (G.size, G.size) or Sigma.shape != H.shape:
        raise ValueError(
            "gradient must have shape [d] and the matrices [d, d], got "
            f"gradient {list(G.shape)}, hessian {list(H.shape)}, covariance {list(Sigma.shape)}"
        )
    curvature, noise = float(G @ H @ G), float(np.sum(H * Sigma.T))
    if curvature <= 0 or noise < 0:
        raise ValueError(f"G^T H G must be positive and tr(H Sigma) >= 0, got {curvature} and {noise}")
    return float(G @ G), curvature, noise
