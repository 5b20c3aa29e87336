"""Adam's relatives: another norm (Adamax), a look ahead (NAdam), a careful start (RAdam)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from optcourse.optim.adam import AdamLike
from optcourse.optim.engine.kernels import average, axpy, decay, l2
from optcourse.optim.engine.settings import Options


class Adamax(AdamLike):
    r"""Adam with the largest recent gradient instead of the mean square: its limit from ℓ₂ to ℓ∞.

    .. math::
        m &\leftarrow \beta_1 m + (1 - \beta_1) \, g \\
        u &\leftarrow \max(\beta_2 u, |g| + \varepsilon) \\
        x &\leftarrow x - \frac{\text{lr}}{1 - \beta_1^t} \cdot \frac{m}{u}

    with ``g`` including ``weight_decay * x``. The maximum needs no correction. The paper has no ε
    (a coordinate whose gradient was always zero would give 0/0); ours stands where torch's does.

    Defaults: the paper's ``lr=2e-3`` and betas.

    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization (ICLR 2015), Algorithm 2.
    """

    slots = ("m", "u")

    def __init__(
        self,
        params: Iterable,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}, **options)

    @staticmethod
    def update(x: Tensor, g: Tensor, m: Tensor, u: Tensor, *, lr, beta1, beta2, eps, weight_decay, debias1, **_):
        """``x <- x - lr m̂ / u``."""
        g = l2(x, g, weight_decay)
        m = average(m, g, beta1)
        u = torch.maximum(beta2 * u, g.abs() + eps)
        return axpy(-lr, debias1 * m / u, x), m, u


class NAdam(AdamLike):
    r"""Adam with Nesterov's momentum: the step already uses the momentum that the next one will have.

    .. math::
        \mu_t &= \beta_1 (1 - \tfrac12 \, 0.96^{t \psi}), \qquad \psi = \text{momentum\_decay} \\
        \bar m &= \frac{1 - \mu_t}{1 - \prod_{i \le t} \mu_i} \, g
                + \frac{\mu_{t+1}}{1 - \prod_{i \le t+1} \mu_i} \, m \\
        x &\leftarrow x - \text{lr} \cdot \bar m / (\sqrt{\hat v} + \varepsilon)

    with ``m, v`` and ``decoupled_weight_decay`` as in :class:`Adam`. The running product of the
    ``μ`` is kept in the state, because a scheduler may change ``β₁``. Slides that show NAdam with a
    constant ``β₁`` are the case ``momentum_decay → ∞``.

    Defaults: ``lr=2e-3``, ``momentum_decay=4e-3`` (torch's, from the paper's warming schedule).

    Source: Dozat, Incorporating Nesterov Momentum into Adam (ICLR 2016 workshop), Algorithm 2.
    """

    counters: ClassVar[dict[str, float]] = {"step": 0, "mu_product": 1.0}

    def __init__(
        self,
        params: Iterable,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        **options: Unpack[Options],
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        more = {"momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, {**settings, **more}, **options)

    @staticmethod
    def mu(step: int, beta1: float, momentum_decay: float) -> float:
        """The momentum of one step: it warms from about half of ``beta1`` up to ``beta1``."""
        return beta1 * (1 - 0.5 * 0.96 ** (step * momentum_decay))

    @staticmethod
    def count(group: dict[str, Any], step: int, mu_product: float) -> dict[str, float]:
        """One more step and one more factor."""
        mu = NAdam.mu(step + 1, group["betas"][0], group["momentum_decay"])
        return {"step": step + 1, "mu_product": mu_product * mu}

    @staticmethod
    def scalars(step: int, *, mu_product: float, momentum_decay: float, **group: Any) -> dict[str, Any]:
        """Adam's numbers and the weights of gradient and momentum."""
        mu, mu_next = (NAdam.mu(t, group["betas"][0], momentum_decay) for t in (step, step + 1))
        weights = {"weight_g": (1 - mu) / (1 - mu_product), "weight_m": mu_next / (1 - mu_product * mu_next)}
        return {**AdamLike.scalars(step, **group), **weights}

    @staticmethod
    def update(x: Tensor, g: Tensor, m: Tensor, v: Tensor, *, lr, eps, debias2, weight_g, weight_m, **adam):
        """``x <- x - lr m̄ / (√v̂ + ε)``."""
        x, g = decay(x, g, lr, **adam)
        m, v = AdamLike.moments(g, m, v, **adam)
        m_bar = axpy(weight_g, g, weight_m * m)
        return axpy(-lr, m_bar / ((debias2 * v).sqrt() + eps), x), m, v


class RAdam(AdamLike):
    r"""Rectified Adam: no adaptive step before its variance is known, then a damped one.

    .. math::
        \rho_\infty &= 2 / (1 - \beta_2) - 1, \qquad
        \rho_t = \rho_\infty - 2 t \beta_2^t / (1 - \beta_2^t) \\
        x &\leftarrow x - \text{lr} \cdot \hat m \cdot
        \begin{cases} r_t \sqrt{1 - \beta_2^t} / (\sqrt v + \varepsilon) & \rho_t > 4 \\ 1 & \text{otherwise}
        \end{cases} \\
        r_t &= \sqrt{\frac{(\rho_t - 4)(\rho_t - 2) \rho_\infty}{(\rho_\infty - 4)(\rho_\infty - 2) \rho_t}}

    with ``m, v`` and ``decoupled_weight_decay`` as in :class:`Adam`. The paper rectifies from
    ``ρ_t > 4``, where the variance becomes finite, and so do we; torch waits for ``ρ_t > 5``. At
    ``β₂ = 0.999`` only step 5 differs. The paper has no ε; ours is added to ``√v`` before the correction, as
    in torch. If ``ρ_∞ ≤ 4`` (``β₂ ≤ 0.6``) no step is ever adaptive.

    Defaults: Adam's; the method replaces the warm-up, not the rate.

    Source: Liu et al., On the Variance of the Adaptive Learning Rate and Beyond (ICLR 2020), Algorithm 2.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        **options: Unpack[Options],
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**settings, "decoupled_weight_decay": decoupled_weight_decay}, **options)

    #: Degrees of freedom above which the variance of the adaptive rate is finite.
    threshold: ClassVar[float] = 4.0

    @classmethod
    def scalars(cls, step: int, **group: Any) -> dict[str, Any]:
        """Adam's numbers; either ``plain`` or ``rectified`` is zero."""
        numbers = AdamLike.scalars(step, **group)
        beta2, debias2 = numbers["beta2"], numbers["debias2"]
        limit = 2 / (1 - beta2) - 1
        rho = limit - 2 * step * beta2**step * debias2
        if rho <= cls.threshold:
            return {**numbers, "plain": 1.0, "rectified": 0.0}
        r = math.sqrt((rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho))
        return {**numbers, "plain": 0.0, "rectified": r / math.sqrt(debias2)}

    @staticmethod
    def update(x: Tensor, g: Tensor, m: Tensor, v: Tensor, *, lr, eps, debias1, plain, rectified, **adam):
        """``x <- x - lr m̂ (plain + rectified / (√v + ε))``."""
        x, g = decay(x, g, lr, **adam)
        m, v = AdamLike.moments(g, m, v, **adam)
        return axpy(-lr, debias1 * m * (plain + rectified / (v.sqrt() + eps)), x), m, v
