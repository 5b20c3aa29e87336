"""Adam: a running mean of gradients over the root of a running mean of their squares; and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

import torch
from torch import Tensor

from optcourse.optim.engine.kernels import average, axpy, decay
from optcourse.optim.engine.optimizer import FlatOptimizer
from optcourse.optim.engine.settings import Options


class AdamLike(FlatOptimizer):
    """What the family shares: two moments and the corrections of their start at zero."""

    slots = ("m", "v")

    @staticmethod
    def scalars(step: int, *, lr, betas, eps, weight_decay, decoupled_weight_decay=False, **_) -> dict[str, Any]:
        """``debias = 1 / (1 - beta**step)``: an average of ``step`` gradients started at zero lacks this factor."""
        beta1, beta2 = betas
        numbers = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": weight_decay}
        numbers["decoupled"] = decoupled_weight_decay
        return {**numbers, "debias1": 1 / (1 - beta1**step), "debias2": 1 / (1 - beta2**step)}

    @staticmethod
    def moments(g: Tensor, m: Tensor, v: Tensor, *, beta1, beta2, **_) -> tuple[Tensor, Tensor]:
        """Running means of the gradient and of its square."""
        return average(m, g, beta1), average(v, g * g, beta2)


class Adam(AdamLike):
    r"""Adaptive moments.

    .. math::
        g &\leftarrow \nabla f(x) + \text{weight\_decay} \cdot x \\
        m &\leftarrow \beta_1 m + (1 - \beta_1) \, g, \qquad \hat m = m / (1 - \beta_1^t) \\
        v &\leftarrow \beta_2 v + (1 - \beta_2) \, g^2, \qquad \hat v = v / (1 - \beta_2^t) \\
        x &\leftarrow x - \text{lr} \cdot \hat m / (\sqrt{\hat v} + \varepsilon)

    All element-wise; ``x, g, m, v`` have the shape of the parameter. ``ε`` stands outside the root, as
    in the paper; slides that write ``√(v + ε)`` take steps up to ``1/√ε`` instead of ``1/ε`` of a tiny
    gradient. Without the corrections the first step would be ``(1 − β₁)/√(1 − β₂)`` = 3.2 times too long.
    ``amsgrad=True`` divides by the largest ``v`` so far (corrected as in torch; the paper of
    AMSGrad, Reddi et al., ICLR 2018, Algorithm 2, corrects nothing). ``decoupled_weight_decay=True`` is :class:`AdamW`.

    Defaults are the paper's: with them a step is about ``lr`` long in every coordinate.

    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization (ICLR 2015), Algorithm 1.
    """

    slots = ("m", "v", "v_max")

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        decoupled_weight_decay: bool = False,
        **options: Unpack[Options],
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, {**settings, "decoupled_weight_decay": decoupled_weight_decay}, **options)

    def initial_slots(self, group: dict[str, Any]) -> dict[str, float]:
        """AMSGrad also remembers the largest second moment."""
        return dict.fromkeys(self.slots if group["amsgrad"] else ("m", "v"), 0.0)

    @staticmethod
    def direction(g: Tensor, m: Tensor, v: Tensor, *v_max: Tensor, beta1, beta2, eps, debias1, debias2, **_):
        """``m̂ / (√v̂ + ε)`` and the new moments."""
        m, v = AdamLike.moments(g, m, v, beta1=beta1, beta2=beta2)
        largest = [torch.maximum(old, v) for old in v_max]  # empty without AMSGrad
        m_hat, v_hat = debias1 * m, debias2 * (largest[0] if largest else v)
        return m_hat / (v_hat.sqrt() + eps), m, v, *largest

    @staticmethod
    def update(x: Tensor, g: Tensor, *moments: Tensor, lr, **scalars) -> tuple[Tensor, ...]:
        """``x <- x - lr m̂ / (√v̂ + ε)`` with the penalty inside the gradient, or the decay outside."""
        x, g = decay(x, g, lr, **scalars)
        d, *new = Adam.direction(g, *moments, **scalars)
        return axpy(-lr, d, x), *new


class AdamW(Adam):
    r"""Adam with decoupled weight decay.

    .. math::
        x \leftarrow (1 - \text{lr} \cdot \text{weight\_decay}) \, x
            - \text{lr} \cdot \hat m / (\sqrt{\hat v} + \varepsilon)

    with the moments of :class:`Adam`, taken of the gradient alone. The decay is not divided by ``√v̂``.
    As in torch, ``lr`` multiplies the decay; the paper's own λ is ``lr * weight_decay`` (its schedule
    η_t multiplies α and λ alike), so sweeping ``lr`` here also sweeps the paper's λ.

    Defaults: Adam's, and ``weight_decay=0.01`` (torch's; the paper sweeps it).

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (ICLR 2019), Algorithm 2.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, decoupled_weight_decay=True, **options)

    @staticmethod
    def scalars(step: int, **group: Any) -> dict[str, Any]:
        """Adam's; the decay is decoupled, unless the state dict of an Adam was loaded."""
        return Adam.scalars(step, **{"decoupled_weight_decay": True, **group})
