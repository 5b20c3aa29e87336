"""Per-coordinate rates without momentum at heart: AdaGrad, RMSprop and Adadelta."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Unpack

from torch import Tensor

from optcourse.optim.engine.kernels import average, axpy, l2
from optcourse.optim.engine.optimizer import FlatOptimizer
from optcourse.optim.engine.settings import Options


class Adagrad(FlatOptimizer):
    r"""Rates that shrink with the gradients each coordinate has seen.

    .. math::
        v &\leftarrow v + g^2 \\
        x &\leftarrow x - \frac{\text{lr}}{1 + (t - 1) \, \text{lr\_decay}} \cdot \frac{g}{\sqrt v + \varepsilon}

    with ``g`` including ``weight_decay * x``; ``x, g, v`` have the shape of the parameter, and ``v`` starts at
    ``initial_accumulator_value``. ``v`` contains the current gradient; slides that divide by the sum
    *before* adding it start with 0/0.

    Defaults: torch's ``lr=1e-2``, ``eps=1e-10``. For the regret bound √2 D∞ Σ‖g‖₂ take ``lr = D∞/√2``.

    Source: Duchi, Hazan and Singer, Adaptive Subgradient Methods (JMLR 2011), diagonal version.
    """

    slots = ("v",)

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        **options: Unpack[Options],
    ) -> None:
        settings = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, {**settings, "initial_accumulator_value": initial_accumulator_value}, **options)

    def initial_slots(self, group: dict[str, Any]) -> dict[str, float]:
        """The sum of squares may start above zero."""
        return {"v": float(group["initial_accumulator_value"])}

    @staticmethod
    def scalars(step: int, *, lr: float, lr_decay: float, weight_decay: float, eps: float, **_) -> dict[str, Any]:
        """The rate of this step."""
        return {"lr": lr / (1 + (step - 1) * lr_decay), "weight_decay": weight_decay, "eps": eps}

    @staticmethod
    def update(x: Tensor, g: Tensor, v: Tensor, *, lr, weight_decay, eps) -> tuple[Tensor, Tensor]:
        """``x <- x - lr g / (√v + ε)``."""
        g = l2(x, g, weight_decay)
        v = v + g * g
        return axpy(-lr, g / (v.sqrt() + eps), x), v


class RMSprop(FlatOptimizer):
    r"""AdaGrad that forgets: the sum of squares becomes a running average.

    .. math::
        v &\leftarrow \alpha v + (1 - \alpha) \, g^2 \\
        b &\leftarrow \text{momentum} \cdot b + g / (\sqrt v + \varepsilon) \\
        x &\leftarrow x - \text{lr} \cdot b

    with ``g`` including ``weight_decay * x``. ``centered=True`` divides by the standard deviation instead: under the
    root stands the variance ``v − ḡ²``, with ``ḡ`` averaged like ``v`` (Graves 2013). Of nearly constant gradients
    that difference is mostly rounding, and may be negative. So the variance itself is kept, which obeys

    .. math::
        s \leftarrow \alpha s + (1 - \alpha) \, \alpha \, (g - \bar g)^2, \qquad
        \bar g \leftarrow \alpha \bar g + (1 - \alpha) \, g.

    Buffers that the settings do not need are not kept. The average starts at zero and is not corrected: the first step
    is ``1/√(1 − α)`` = 10 times ``lr``.

    Defaults: torch's ``lr=1e-2``, ``alpha=0.99``; the lecture that introduced it uses 0.9.

    Source: Tieleman and Hinton, Neural Networks for Machine Learning, lecture 6e (2012).
    """

    slots = ("v", "s", "mean", "b")
    torch_names: ClassVar = {**FlatOptimizer.torch_names, "momentum_buffer": "b"}

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        **options: Unpack[Options],
    ) -> None:
        settings = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, {**settings, "centered": centered}, **options)

    def initial_slots(self, group: dict[str, Any]) -> dict[str, float]:
        """``v``, or if centered the variance and the mean gradient; and with momentum ``b``."""
        names = ("s", "mean") if group["centered"] else ("v",)
        return dict.fromkeys((*names, "b") if group["momentum"] else names, 0.0)

    def from_torch(self, entries: dict[str, Any]) -> dict[str, Any]:
        """torch keeps the mean square where we keep the variance."""
        ours = super().from_torch(entries)
        if "mean" in ours and "s" not in ours and "v" in ours:
            ours["s"] = (ours.pop("v") - ours["mean"] ** 2).clamp(min=0)
        return ours

    @staticmethod
    def scalars(step: int, *, lr, alpha, eps, weight_decay, momentum, centered, **_) -> dict[str, Any]:
        """The settings themselves; ``heavy`` says whether there is a momentum buffer."""
        numbers = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        return {**numbers, "centered": centered, "heavy": bool(momentum)}

    @staticmethod
    def update(
        x: Tensor, g: Tensor, v: Tensor, *more: Tensor, lr, alpha, eps, weight_decay, momentum, centered, heavy
    ) -> tuple[Tensor, ...]:
        """``v`` is the variance if centered; ``more`` is the mean (if centered), then the buffer (if heavy)."""
        g = l2(x, g, weight_decay)
        mean = more[:centered]
        v = average(v, alpha * (g - mean[0]).square() if centered else g * g, alpha)
        mean = [average(old, g, alpha) for old in mean]
        d = g / (v.sqrt() + eps)
        if not heavy:
            return axpy(-lr, d, x), v, *mean
        b = axpy(momentum, more[-1], d)
        return axpy(-lr, b, x), v, *mean, b


class Adadelta(FlatOptimizer):
    r"""Steps in the units of the parameter: RMS of past steps over RMS of gradients.

    .. math::
        v &\leftarrow \rho v + (1 - \rho) \, g^2 \\
        \Delta &= \frac{\sqrt{u + \varepsilon}}{\sqrt{v + \varepsilon}} \, g \\
        u &\leftarrow \rho u + (1 - \rho) \, \Delta^2 \\
        x &\leftarrow x - \text{lr} \cdot \Delta

    with ``g`` including ``weight_decay * x``; here ε belongs *inside* the roots: it makes the first step
    possible. The paper has no rate (``lr=1``), which is the default.

    Defaults: ``rho=0.9`` and ``eps=1e-6`` as in torch; the paper's experiments use 0.95 and 1e-6.

    Source: Zeiler, ADADELTA: An Adaptive Learning Rate Method (2012), Algorithm 1.
    """

    slots = ("v", "u")

    def __init__(
        self,
        params: Iterable,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay}, **options)

    @staticmethod
    def scalars(step: int, *, lr: float, rho: float, eps: float, weight_decay: float, **_) -> dict[str, Any]:
        """The settings themselves."""
        return {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay}

    @staticmethod
    def update(x: Tensor, g: Tensor, v: Tensor, u: Tensor, *, lr, rho, eps, weight_decay):
        """``x <- x - lr Δ``."""
        g = l2(x, g, weight_decay)
        v = average(v, g * g, rho)
        delta = (u + eps).sqrt() / (v + eps).sqrt() * g
        return axpy(-lr, delta, x), v, average(u, delta * delta, rho)
